//! `labels.jsonl` in the log: what the owner decided about single labels, a line each.
//!
//! A label is named by the interaction that it is about. A decision holds for what was said of that interaction until then;
//! a later correction of it is a label of its own. The file only grows, and the last decision counts.

use std::collections::HashMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::durable::{LineFile, MEMORY_STEPS};
use crate::error::{Error, LineError, Result};
use crate::fault::FaultPoint;
use crate::home::Home;
use crate::lines::RecordLines;
use crate::log::Log;
use crate::record::to_line;

/// What the owner thinks of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It is right, whatever speaks against it.
    Accept,
    /// It is wrong: neither memory nor training has it.
    Reject,
}

/// A line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelDecision {
    /// The interaction that was labelled.
    pub interaction: String,
    /// What was decided.
    pub decision: Decision,
    /// When.
    pub at: Timestamp,
    /// Who decided.
    pub by: String,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line {
    Decision(LabelDecision),
}

/// The last decision on every interaction.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LabelDecisions {
    by_interaction: HashMap<String, LabelDecision>,
    /// The lines that cannot be read.
    pub problems: Vec<LineError>,
}

impl LabelDecisions {
    /// Those of a log.
    ///
    /// # Errors
    /// When the file cannot be read; lines that cannot be are in [`LabelDecisions::problems`].
    pub fn of(log: &Log) -> Result<Self> {
        let mut decisions = Self::default();
        for line in RecordLines::<Line>::open_if_present(&log.decisions_path())? {
            match line {
                Ok(Line::Decision(decision)) => {
                    decisions.by_interaction.insert(decision.interaction.clone(), decision);
                }
                Err(Error::Line(problem)) => decisions.problems.push(problem),
                Err(error) => return Err(error),
            }
        }
        Ok(decisions)
    }

    /// What was decided about a label of `interaction` that was given at `at`.
    pub fn on(&self, interaction: &str, at: Timestamp) -> Option<Decision> {
        self.by_interaction.get(interaction).filter(|decision| decision.at >= at).map(|decision| decision.decision)
    }
}

/// Writes a decision, and returns when it is on the disk.
///
/// # Errors
/// When the disk refuses; nothing of the line is left then.
pub fn append_decision(home: &Home, decision: &LabelDecision, fault: FaultPoint) -> Result<()> {
    let path: PathBuf = home.decisions_path();
    // A small file of lines beside the memory, with its steps.
    let mut file = LineFile::open_or_create(&path, &MEMORY_STEPS, fault)?;
    let line = to_line(&Line::Decision(decision.clone())).map_err(|source| Error::Encode { path, source })?;
    file.append(line.as_bytes())
}
