//! The stages of learning: fine-tune, evaluate, judge, promote.
//!
//! Training is burn; evaluation runs on the path that serves. [`learn`] is the whole run: it reads a
//! home's log and examples, fine-tunes from production, and either promotes the candidate or refuses
//! it with reasons.
//!
//! ```no_run
//! use mynah_data::Home;
//! use mynah_pipelines::{GateSettings, LearnRequest, LearnScope, NoProgress, Promotion, TrainingSettings, learn};
//! use mynah_registry::Registry;
//! use mynah_runtime::Precision;
//!
//! let home = Home::new("assistant");
//! let registry = Registry::open(&home.registry_dir())?;
//! let request = LearnRequest {
//!     trigger: "train".into(),
//!     actor: "me".into(),
//!     training: TrainingSettings::default(),
//!     gate: GateSettings::default(),
//!     precision: Precision::Int8,
//!     scope: LearnScope::Everything,
//!     force: false,
//!     promotion: Promotion::AtOnce,
//!     fault: mynah_data::fault::none(),
//! };
//! let outcome = learn(&home, &registry, &request, &NoProgress)?;
//! for rule in &outcome.gate.rules {
//!     assert!(!rule.detail.is_empty());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod activations;
mod adamw;
mod adaptation;
mod analysis;
#[cfg(test)]
mod answer_tests;
mod answers;
mod assess;
mod autodiff;
mod background;
mod backtest;

mod batch;
mod best;
mod calibrate;
mod candidate;
mod checkpoints;
mod corpus;
mod corrected;
mod device;
#[cfg(test)]
mod device_tests;
mod distilbert;
mod document;
mod dropout;
mod error;
mod evaluate;
mod expect;
mod files;
mod fine_tune;
mod gate;
mod held_out;
mod inputs;
mod learn;
mod lineage;
mod margin;
mod metrics;
mod mixed;
mod native;
mod padded;
mod page;
mod paired;
mod poison;
mod precision;
mod prepare;
mod prior;
mod progress;
#[cfg(test)]
mod reference_tests;
mod remembered;
mod renderer;
mod report;
mod report_files;
mod review;
mod run;
mod schedule;
mod session_weight;
mod sessions;
mod settings;
mod simulate;
mod simulate_watch;
mod squad;
mod steps;
mod swap;
mod trainee;
mod watch;
mod weights;
mod windows;
mod wordings;

pub use adaptation::Adapted;
pub use analysis::{
    Analysis, ArgumentRow, CalibrationReport, Change, Changes, Confusion, FunctionRow, Probe, ReliabilityBin, Share,
    Slice, SwappedText, ThresholdPoint,
};
pub use answers::{AnswerOutcome, AnswerScores, AnswerTraining, evaluate_answers, train_answers};
pub use backtest::{Arm, ArmReport, Backtest, BacktestReport, SessionPoint};
pub use device::{TrainingDevice, UnknownDevice};
pub use document::{Document, DocumentLineage, Speed};
pub use error::Error;
pub use evaluate::{evaluate, evaluate_and_analyse};
pub use expect::{CheckedExpectation, check_expectations};
pub use gate::{
    Answers, Best, Comparison, Corrections, Evidence, Expectations, Gain, Gate, GateReport, Passed, Rejected, Rule,
};
pub use learn::{
    CANDIDATE_TAG, Counts, LearnOutcome, LearnRequest, LearnScope, Promotion, Resumed, StageTime, Verdict, learn,
    split_examples,
};
pub use lineage::learned_until;
pub use page::{backtest_page, page};
pub use paired::Paired;
pub use poison::{PoisonArm, PoisonReport, Poisoning};
pub use precision::{PrecisionReport, compare_with_f32};
pub use progress::{NoProgress, Progress, Stage};
pub use report::{
    EvaluationReport, FunctionReport, FunctionScores, OutOfScopeScores, Outcome, SpanScores, Tally, decided,
};
pub use report_files::{ReportParts, read_report};
pub use review::{Doubt, HeldBack, Neighbour, labels_held_back};
pub use run::{ResumableRun, resumable_run};
pub use sessions::{SessionOrder, Sessions};
pub use settings::{GateSettings, TrainingSettings};
pub use simulate::{
    DriftSimulation, SimulatedCase, SimulatedDrift, SimulatedGate, Simulation, simulate_drift, simulate_gate,
};
pub use simulate_watch::{SimulatedWatch, WatchSimulation, simulate_watch};
pub use squad::{Nearness, nearness};
pub use steps::{StepShape, time_steps};
pub use watch::{Baseline, SessionCount, Watch, WatchSettings, Watched};
pub use wordings::{BeforeAfter, Wordings, WordingsReport};
