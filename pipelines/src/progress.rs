//! How a run tells what it is doing; rendering is the caller's.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A stage of a run, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The log is committed.
    Snapshot,
    /// Examples are gathered and split.
    Dataset,
    /// Texts are tokenized.
    Encode,
    /// The encoder guesses masked words of what was said.
    Adapt,
    /// Weights are trained.
    FineTune,
    /// Temperature and thresholds are fitted on validation.
    Calibrate,
    /// Candidate and production answer the held-out examples.
    Evaluate,
    /// The rules are applied.
    Gate,
    /// The journal gets its entry.
    Promote,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Snapshot => "snapshot",
            Stage::Dataset => "data set",
            Stage::Encode => "tokenize",
            Stage::Adapt => "adapt",
            Stage::FineTune => "fine-tune",
            Stage::Calibrate => "calibrate",
            Stage::Evaluate => "evaluate",
            Stage::Gate => "gate",
            Stage::Promote => "promote",
        })
    }
}

/// Receives the progress of a run and may stop it.
pub trait Progress: Send + Sync {
    /// A stage begins; `total` is its number of units of work (0: unknown).
    fn stage(&self, stage: Stage, total: u64);
    /// `done` units of the current stage are behind; `note` says how it goes.
    fn advance(&self, done: u64, note: &str);
    /// Whether the run should stop at the next step.
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Tells nobody and never stops.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn stage(&self, _stage: Stage, _total: u64) {}
    fn advance(&self, _done: u64, _note: &str) {}
}
