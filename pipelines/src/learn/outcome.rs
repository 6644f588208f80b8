//! What a run is asked for, and what it came to.

use mynah_data::FaultPoint;
use mynah_registry::Digest;
use mynah_runtime::Precision;
use serde::{Deserialize, Serialize};
use std::fmt;

use crate::adaptation::Adapted;
use crate::gate::GateReport;
use crate::progress::Stage;
use crate::report::EvaluationReport;
use crate::report_files::ReportParts;
use crate::review::HeldBack;
use crate::settings::{GateSettings, TrainingSettings};

/// What a run trains on, and from where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LearnScope {
    /// All examples, from production.
    #[default]
    Everything,
    /// What is new since production was made and a replay of older examples, with the lower layers frozen: its cost
    /// depends on what is new. Everything when there is no version yet.
    New,
    /// All examples, from the base, as if there had never been a version.
    Anew,
}

/// What becomes of a candidate that passed the gate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Promotion {
    /// It goes to production.
    #[default]
    AtOnce,
    /// It gets the tag [`CANDIDATE_TAG`] and waits for somebody to promote it, unless nothing is in production yet.
    Later,
}

/// The tag of the last candidate that passed the gate and was not promoted at once.
pub const CANDIDATE_TAG: &str = "candidate";

/// What to learn and how.
#[derive(Clone)]
pub struct LearnRequest {
    /// What started the run: `train`, `session-end`, `schedule`, `api`, `quickstart`.
    pub trigger: String,
    /// Who did.
    pub actor: String,
    /// The `[training]` table.
    pub training: TrainingSettings,
    /// The `[gate]` table.
    pub gate: GateSettings,
    /// The precision that will serve.
    pub precision: Precision,
    /// What is trained on.
    pub scope: LearnScope,
    /// Train even when nothing changed since production was made.
    pub force: bool,
    /// What becomes of a candidate that passes the gate.
    pub promotion: Promotion,
    /// Called before each durable step of the log's snapshot; see [`mynah_data::fault`].
    pub fault: FaultPoint,
}

impl fmt::Debug for LearnRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("LearnRequest")
            .field("trigger", &self.trigger)
            .field("actor", &self.actor)
            .field("training", &self.training)
            .field("gate", &self.gate)
            .field("precision", &self.precision)
            .field("scope", &self.scope)
            .field("force", &self.force)
            .field("promotion", &self.promotion)
            .finish_non_exhaustive()
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The candidate is in production.
    Promoted,
    /// The candidate passed the gate and waits to be promoted.
    Accepted,
    /// The gate kept it out.
    Refused,
    /// Production was made from the same examples.
    NothingNew,
}

/// How many examples a run saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Training examples.
    pub train: usize,
    /// Validation examples.
    pub validation: usize,
    /// Held-out examples.
    pub held_out: usize,
    /// Labelled in conversations since production was made.
    pub new: usize,
    /// Corrected texts.
    pub corrections: usize,
    /// Labels held back for somebody to look at.
    pub held_back: usize,
}

/// Seconds that a stage took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StageTime {
    /// Which.
    pub stage: Stage,
    /// How long.
    pub seconds: f64,
    /// Of all processors together, by this process: what it cost, whatever else the machine did.
    pub cpu_seconds: f64,
}

/// A run that was stopped or killed, and gone on from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Resumed {
    /// Its name.
    pub run: String,
    /// The last epoch that it had behind it.
    pub after_epoch: usize,
}

/// What a run came to.
#[derive(Clone, Debug, Serialize)]
pub struct LearnOutcome {
    /// Promoted, refused, or nothing new.
    pub verdict: Verdict,
    /// The candidate's name; production's when there was nothing new.
    pub version: String,
    /// Its digest.
    pub digest: Digest,
    /// What it was trained from.
    pub parent: String,
    /// Its held-out scores; none when there was nothing new.
    pub held_out: Option<EvaluationReport>,
    /// Production's scores on the same examples.
    pub production: Option<EvaluationReport>,
    /// Every rule with both figures.
    pub gate: GateReport,
    /// How many examples there were.
    pub counts: Counts,
    /// The epoch that was kept, counted from 1.
    pub best_epoch: usize,
    /// What the adaptation to what people said came to; without losses when the run went on after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapted: Option<Adapted>,
    /// The run that this one went on from.
    pub resumed: Option<Resumed>,
    /// Labels that were not learned from, and why.
    pub held_back: Vec<HeldBack>,
    /// Functions and tags that production did not know.
    pub new_labels: Vec<String>,
    /// Seconds of every stage.
    pub stages: Vec<StageTime>,
    /// Seconds in all.
    pub seconds: f64,
    /// The commit of the log that it learned from.
    pub commit: Option<String>,
    /// Everything about the candidate on the held-out examples, with texts of the home: it stays in the run's directory.
    #[serde(skip)]
    pub analysis: Option<Box<ReportParts>>,
}
