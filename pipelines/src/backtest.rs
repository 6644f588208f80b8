//! The whole loop replayed on labelled examples as sessions: predict, be corrected by the label, learn at the session's
//! end, be judged; beside other ways of learning from the same sessions.
//!
//! Every arm has a home of its own with the same base, and gets the same labels through its log. What is measured is the
//! weights alone, without memory, on texts that no arm is given.

use jiff::Timestamp;
use mynah_data::{
    CallRecord, Correction, Durability, Example, FeedbackRecord, Home, ImportOptions, InteractionRecord, Log,
    LogOptions, OUT_OF_SCOPE, Rating, Record, ReplyRecord, new_feedback_id, new_interaction_id,
};
use mynah_registry::{Author, Registry};
use mynah_runtime::{Checkpoint, Model, Precision};
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};
use std::collections::BTreeSet;

use crate::error::Error;
use crate::evaluate::evaluate_each;
use crate::learn::{LearnOutcome, LearnRequest, LearnScope, Promotion, StageTime, Verdict, learn};
use crate::progress::{NoProgress, Progress, Stage};
use crate::report::decided;
use crate::sessions::{SessionOrder, Sessions};
use crate::settings::{GateSettings, TrainingSettings};

/// A way of learning from sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// As Mynah does after every conversation, behind the gate.
    Mynah,
    /// The first session is learned, nothing after it.
    Never,
    /// All layers are fine-tuned on what is new alone, without a gate.
    Naive,
    /// The base is fine-tuned on everything so far, at every session, without a gate.
    Retrain,
}

impl Arm {
    /// The name in figures and files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mynah => "mynah",
            Self::Never => "never",
            Self::Naive => "naive",
            Self::Retrain => "retrain",
        }
    }

    /// What it does, in words.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Mynah => "after every session, behind the gate",
            Self::Never => "the first session alone",
            Self::Naive => "what is new alone, all layers, no gate",
            Self::Retrain => "everything from the base, no gate",
        }
    }
}

/// What is replayed.
#[derive(Clone, Debug)]
pub struct Backtest {
    /// The labels that the sessions give.
    pub sessions: Sessions,
    /// What calibrates and judges candidates; comes with the session that brings its function.
    pub judges: Vec<Example>,
    /// What is asked after every session.
    pub test: Vec<Example>,
    /// The `[training]` table.
    pub training: TrainingSettings,
    /// The `[gate]` table.
    pub gate: GateSettings,
    /// The precision that serves.
    pub precision: Precision,
}

/// One session of one arm.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionPoint {
    /// Counted from 1.
    pub session: usize,
    /// Labels that it gave.
    pub labels: usize,
    /// Share of its texts that were understood before it was learned from.
    pub predicted: Option<f64>,
    /// Share of right functions on the test texts of the functions seen so far.
    pub accuracy: f64,
    /// Share of those with exactly the right arguments too.
    pub exact_match: f64,
    /// What became of the candidate; none where nothing was learned.
    pub verdict: Option<Verdict>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Seconds of preparing and training.
    pub training_seconds: f64,
    /// Processor seconds of the same.
    pub training_cpu_seconds: f64,
    /// Seconds from the log to the verdict.
    pub seconds: f64,
}

/// What came of one arm.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ArmReport {
    /// Which.
    pub arm: Arm,
    /// Its sessions.
    pub sessions: Vec<SessionPoint>,
    /// Share of right functions after the last session, on all test texts.
    pub final_accuracy: f64,
    /// The same with arguments.
    pub final_exact_match: f64,
    /// Mean over the tasks of how much was lost since they were known best (arXiv 1801.10112).
    pub forgetting: f64,
    /// Mean over the tasks of how much was won since they were learned (arXiv 1706.08840); negative: lost.
    pub backward_transfer: f64,
    /// Candidates that were promoted.
    pub promoted: usize,
    /// Candidates that the gate refused.
    pub refused: usize,
    /// Seconds of preparing and training, all sessions together.
    pub training_seconds: f64,
    /// Processor seconds of the same.
    pub training_cpu_seconds: f64,
}

/// What came of all of them, and on what.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BacktestReport {
    /// The file of labelled examples; none for what is labelled in a home.
    pub examples: Option<String>,
    /// What every arm started from.
    pub base: String,
    /// The order of the examples.
    pub order: SessionOrder,
    /// How many sessions there were.
    pub sessions: usize,
    /// Labels in all of them.
    pub labels: usize,
    /// Texts that were asked after each.
    pub test: usize,
    /// Seed of the order.
    pub seed: u64,
    /// One after the other.
    pub arms: Vec<ArmReport>,
}

/// Right functions on one task (the functions that a session brings in) after each session.
#[derive(Clone, Debug, Default)]
struct Matrix {
    /// By task: the session that brings it in.
    first: Vec<usize>,
    /// By session, by task.
    accuracy: Vec<Vec<f64>>,
}

impl Matrix {
    /// The most that each task ever reached less what it has in the end, without what came last.
    fn forgetting(&self) -> f64 {
        self.mean(|task, first, last| {
            let best = (first..=last).map(|session| self.accuracy[session][task]).fold(0.0, f64::max);
            best - self.accuracy[last][task]
        })
    }

    fn backward_transfer(&self) -> f64 {
        self.mean(|task, first, last| self.accuracy[last][task] - self.accuracy[first][task])
    }

    fn mean(&self, of: impl Fn(usize, usize, usize) -> f64) -> f64 {
        let Some(last) = self.accuracy.len().checked_sub(1) else { return 0.0 };
        let tasks = || self.first.iter().enumerate().filter(|(_, first)| **first < last);
        tasks().map(|(task, first)| of(task, *first, last)).sum::<f64>() / tasks().count().max(1) as f64
    }
}

impl Backtest {
    /// Replays the sessions for `arm` in `home`, which has a base and nothing else.
    ///
    /// # Errors
    /// As for [`learn`]; a session that teaches fewer than two functions is no error, it is only logged.
    pub fn run(&self, arm: Arm, home: &Home, progress: &dyn Progress) -> Result<ArmReport, Error> {
        let registry = Registry::open(&home.registry_dir())?;
        let log = Log::open_with(home, LogOptions::default().durability(Durability::Process));
        let tasks = self.sessions.tasks();
        let mut matrix = Matrix { first: tasks.iter().map(|(first, _)| *first).collect(), accuracy: Vec::new() };
        let mut points: Vec<SessionPoint> = Vec::new();
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        let mut last = None;
        for (session, examples) in self.sessions.iter().enumerate() {
            let model = self.production(&registry)?;
            let predicted = converse(&log, model.as_ref(), examples)?;
            let new: BTreeSet<&str> = examples.iter().map(|example| example.function.as_str()).collect();
            self.import_judges(home, session, |function| new.contains(function) && !seen.contains(function))?;
            seen.extend(examples.iter().map(|example| example.function.as_str()));
            let learns = arm != Arm::Never || model.is_none();
            let outcome = if learns { self.learn(arm, home, &registry, progress)? } else { None };
            let changed = outcome.as_ref().is_some_and(|outcome| outcome.verdict == Verdict::Promoted);
            if changed || last.is_none() {
                last = self.production(&registry)?.map(|model| self.right(&model)).transpose()?;
            }
            if progress.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let nothing = vec![(false, false); self.test.len()];
            let right = last.as_ref().unwrap_or(&nothing);
            matrix.accuracy.push(tasks.iter().map(|(_, functions)| self.share(right, functions, |r| r.0)).collect());
            let judged = outcome.as_ref().filter(|outcome| outcome.verdict != Verdict::NothingNew);
            points.push(SessionPoint {
                session: session + 1,
                labels: examples.len(),
                predicted,
                accuracy: self.share(right, &seen, |r| r.0),
                exact_match: self.share(right, &seen, |r| r.1),
                verdict: judged.map(|outcome| outcome.verdict),
                reason: judged.filter(|outcome| outcome.verdict == Verdict::Refused).map(|o| o.gate.reason()),
                training_seconds: outcome.as_ref().map_or(0.0, |outcome| training(outcome, |time| time.seconds)),
                training_cpu_seconds: outcome
                    .as_ref()
                    .map_or(0.0, |outcome| training(outcome, |time| time.cpu_seconds)),
                seconds: outcome.as_ref().map_or(0.0, |outcome| outcome.seconds),
            });
        }
        let count = |verdict| points.iter().filter(|point| point.verdict == Some(verdict)).count();
        let end = points.last();
        Ok(ArmReport {
            arm,
            final_accuracy: end.map_or(0.0, |point| point.accuracy),
            final_exact_match: end.map_or(0.0, |point| point.exact_match),
            forgetting: matrix.forgetting(),
            backward_transfer: matrix.backward_transfer(),
            promoted: count(Verdict::Promoted),
            refused: count(Verdict::Refused),
            training_seconds: points.iter().map(|point| point.training_seconds).sum(),
            training_cpu_seconds: points.iter().map(|point| point.training_cpu_seconds).sum(),
            sessions: points,
        })
    }

    /// Imports the judges of some functions, half of them for validation, half held out.
    fn import_judges(&self, home: &Home, session: usize, is_meant: impl Fn(&str) -> bool) -> Result<(), Error> {
        let meant = self.judges.iter().filter(|example| is_meant(&example.function));
        let lines: Vec<String> = meant
            .enumerate()
            .map(|(index, example)| {
                let slots: Vec<serde_json::Value> = example
                    .slots
                    .iter()
                    .map(|slot| json!({"name": slot.name, "start": slot.start, "end": slot.end, "value": slot.value}))
                    .collect();
                let split = if index % 2 == 0 { "valid" } else { "test" };
                json!({"text": example.text, "intent": example.function, "slots": slots, "split": split}).to_string()
            })
            .collect();
        if !lines.is_empty() {
            let name = format!("session-{}.jsonl", session + 1);
            mynah_data::import(home, lines.join("\n").as_bytes(), &name, &ImportOptions::default())?;
        }
        Ok(())
    }

    fn production(&self, registry: &Registry) -> Result<Option<Model>, Error> {
        let Some(loaded) = registry.load_production()? else { return Ok(None) };
        Ok(Some(Model::load(&Checkpoint::from_verified(&loaded.checkpoint)?, self.precision)?))
    }

    /// Function and whole call right, for each test text.
    fn right(&self, model: &Model) -> Result<Vec<(bool, bool)>, Error> {
        let (_, outcomes) = evaluate_each(model, "", &self.test, &NoProgress)?;
        Ok(outcomes.iter().map(|answered| (answered.outcome.function_right, answered.outcome.exact)).collect())
    }

    fn share(&self, right: &[(bool, bool)], of: &BTreeSet<&str>, is: impl Fn(&(bool, bool)) -> bool) -> f64 {
        let asked = || self.test.iter().zip(right).filter(|(example, _)| of.contains(example.function.as_str()));
        asked().filter(|(_, right)| is(right)).count() as f64 / asked().count().max(1) as f64
    }

    fn learn(
        &self,
        arm: Arm,
        home: &Home,
        registry: &Registry,
        progress: &dyn Progress,
    ) -> Result<Option<LearnOutcome>, Error> {
        let request = LearnRequest {
            trigger: "backtest".into(),
            actor: "backtest".into(),
            training: match arm {
                Arm::Naive => TrainingSettings {
                    replay_tokens: 0,
                    replay_share: 0.0,
                    distillation_weight: 0.0,
                    session_frozen_layers: Some(0),
                    hold_back: false,
                    ..self.training.clone()
                },
                // The references take every label as it is.
                Arm::Retrain => TrainingSettings { hold_back: false, ..self.training.clone() },
                _ => self.training.clone(),
            },
            gate: self.gate.clone(),
            precision: self.precision,
            scope: if arm == Arm::Retrain { LearnScope::Anew } else { LearnScope::New },
            force: true,
            promotion: Promotion::AtOnce,
            fault: mynah_data::fault::none(),
        };
        let mut outcome = match learn(home, registry, &request, progress) {
            Err(Error::NoExamples | Error::OneFunction { .. }) => return Ok(None),
            outcome => outcome?,
        };
        if outcome.verdict == Verdict::Refused && matches!(arm, Arm::Naive | Arm::Retrain) {
            // The references have no gate.
            let candidate = registry.version(&outcome.version)?;
            let production = registry.production()?.map(|production| production.manifest_digest);
            let who = Author::new("backtest", "a reference without a gate");
            registry.promote(&candidate, production.as_ref(), serde_json::Value::Null, &who)?;
            outcome.verdict = Verdict::Promoted;
        }
        Ok(Some(outcome))
    }
}

/// What preparing and training took.
fn training(outcome: &LearnOutcome, of: impl Fn(&StageTime) -> f64) -> f64 {
    let trains = |stage: Stage| matches!(stage, Stage::Encode | Stage::FineTune);
    outcome.stages.iter().filter(|time| trains(time.stage)).map(of).sum()
}

/// Logs a session: each text with what `model` makes of it, approved where that is right, else corrected. Returns the
/// share that was right.
pub(crate) fn converse(log: &Log, model: Option<&Model>, examples: &[Example]) -> Result<Option<f64>, Error> {
    let mut session = log.start_session("backtest")?;
    let id = session.id().to_owned();
    let mut right = 0;
    for example in examples {
        let wanted = (example.function != OUT_OF_SCOPE).then(|| example.function.clone());
        let prediction = model.map(|model| (model.predict(&example.text), model));
        let call = prediction.as_ref().and_then(|(prediction, model)| {
            let function = decided(prediction, model.calibration())?.to_owned();
            Some(CallRecord { function, arguments: Map::new(), slots: prediction.slots.clone() })
        });
        let is_right = match (&call, &wanted) {
            (Some(call), Some(wanted)) => call.function == *wanted && call.slots == example.slots,
            (None, None) => model.is_some(),
            _ => false,
        };
        right += usize::from(is_right);
        let interaction = new_interaction_id();
        let kind = if call.is_some() { "call" } else { "abstain" };
        session.append(&Record::Interaction(InteractionRecord {
            id: interaction.clone(),
            session: id.clone(),
            at: Timestamp::now(),
            text: example.text.clone(),
            reply: ReplyRecord {
                text: String::new(),
                kind: kind.into(),
                calls: call.into_iter().collect(),
                confidence: prediction.map_or(0.0, |(prediction, _)| prediction.confidence),
                source: "model".into(),
                policy: None,
            },
            version: None,
            version_digest: None,
            latency_ms: 0.0,
        }))?;
        let correction =
            (!is_right).then(|| Correction::Function { function: wanted, slots: Some(example.slots.clone()) });
        session.append(&Record::Feedback(FeedbackRecord {
            id: new_feedback_id(),
            interaction,
            session: id.clone(),
            at: Timestamp::now(),
            rating: Some(if is_right { Rating::Up } else { Rating::Down }),
            correction,
        }))?;
    }
    session.end("backtest")?;
    Ok((model.is_some() && !examples.is_empty()).then(|| right as f64 / examples.len() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgetting_and_backward_transfer_by_hand() {
        let matrix = Matrix {
            first: vec![0, 1, 2],
            accuracy: vec![vec![0.9, 0.0, 0.0], vec![0.95, 0.8, 0.0], vec![0.85, 0.9, 1.0]],
        };
        // Lost since best: 0.1 and 0; the last task cannot be forgotten yet.
        assert!((matrix.forgetting() - 0.05).abs() < 1e-12);
        // Since learned: -0.05 and +0.1.
        assert!((matrix.backward_transfer() - 0.025).abs() < 1e-12);
        assert_eq!(Matrix::default().forgetting(), 0.0);
    }
}
