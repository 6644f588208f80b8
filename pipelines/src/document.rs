//! The report of a run or of an evaluation: verdict, figures and where the version comes from, to be kept as JSON and shown as a page.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::analysis::Analysis;
use crate::gate::GateReport;
use crate::learn::{Counts, Verdict};
use crate::precision::PrecisionReport;

/// Everything that a report tells.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// The version.
    pub version: String,
    /// What it was scored on, in words: `held-out examples`, or a file and its split.
    pub examples: String,
    /// Whether it was promoted; none for an evaluation.
    pub verdict: Option<Verdict>,
    /// Every rule with both figures; none for an evaluation.
    pub gate: GateReport,
    /// How it was made; none for an evaluation.
    pub lineage: Option<DocumentLineage>,
    /// Time and size; none for an evaluation.
    pub speed: Option<Speed>,
    /// The served precision beside f32.
    pub precision: Option<PrecisionReport>,
    /// The figures.
    pub analysis: Analysis,
}

/// What the version was made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DocumentLineage {
    /// The run's directory below `runs/`.
    pub run: String,
    /// What started it.
    pub trigger: String,
    /// When it ended.
    pub at: Timestamp,
    /// What it was trained from.
    pub parent: String,
    /// The commit of the log that it learned from.
    pub commit: Option<String>,
    /// How many examples it saw.
    pub counts: Counts,
    /// Functions and arguments that production does not know.
    pub new_labels: Vec<String>,
    /// The epoch that was kept.
    pub best_epoch: usize,
    /// Seconds of every stage.
    pub stages: Vec<(String, f64)>,
    /// Seconds in all.
    pub seconds: f64,
}

/// What serving the version costs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// Median time of one request, in milliseconds.
    pub latency_ms: f64,
    /// Size of its files, in megabytes.
    pub size_mb: f64,
}

impl Document {
    /// The title of the page.
    pub fn title(&self) -> String {
        let verdict = match self.verdict {
            Some(Verdict::Promoted) => ": promoted",
            Some(Verdict::Accepted) => ": passed",
            Some(Verdict::Refused) => ": refused",
            _ => "",
        };
        format!("{}{verdict}", self.version)
    }
}
