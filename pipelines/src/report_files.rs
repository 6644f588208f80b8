//! The report of a run: `report.json` for machines and `report.html` for people, both inside the home.

use serde_json::Value;
use std::path::Path;

use jiff::Timestamp;

use crate::analysis::{Analysis, Subject};
use crate::assess::Assessment;
use crate::document::{Document, DocumentLineage, Speed};
use crate::error::Error;
use crate::gate::Evidence;
use crate::learn::LearnOutcome;
use crate::page::page;
use crate::run::Run;

/// What a run's report has beside the outcome.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportParts {
    /// The figures.
    pub analysis: Analysis,
    /// Time and size.
    pub speed: Speed,
}

impl ReportParts {
    pub(crate) fn new(assessment: &Assessment<'_>, evidence: &Evidence, version: &str) -> Self {
        let candidate = assessment.candidate;
        let production = assessment.production;
        let analysis = Analysis::new(&Subject {
            model: assessment.model,
            report: &candidate.report,
            examples: &assessment.corpus.dataset.held_out,
            answered: &candidate.held_out,
            production: production.map(|before| (before.report.version.as_str(), before.held_out.as_slice())),
            expectations: &candidate.expectations,
            fitted_on: Some(assessment.corpus.dataset.validation.len()),
        });
        Self {
            analysis: Analysis { version: version.to_owned(), ..analysis },
            speed: Speed { latency_ms: evidence.latency_ms, size_mb: evidence.size_mb },
        }
    }
}

impl LearnOutcome {
    /// Writes both files; `report.json` is the outcome with the whole report below `report`.
    pub(crate) fn write_report(&self, run: &Run) -> Result<(), Error> {
        let path = run.directory().join("report.json");
        let failed = |source: serde_json::Error| Error::Serialize { path: path.clone(), message: source.to_string() };
        let mut json = serde_json::to_value(self).map_err(failed)?;
        if let Some(parts) = &self.analysis {
            let document = self.document(parts, run);
            crate::files::write(&run.directory().join("report.html"), page(&document).as_bytes())?;
            json["report"] = serde_json::to_value(document).map_err(failed)?;
        }
        crate::files::write_json(&path, &json)
    }

    fn document(&self, parts: &ReportParts, run: &Run) -> Document {
        // Several parts of a run are the same stage.
        let mut stages: Vec<(String, f64)> = Vec::new();
        for time in &self.stages {
            let name = time.stage.to_string();
            match stages.iter_mut().find(|(known, _)| *known == name) {
                Some((_, seconds)) => *seconds += time.seconds,
                None => stages.push((name, time.seconds)),
            }
        }
        Document {
            version: self.version.clone(),
            examples: "held-out examples".to_owned(),
            verdict: Some(self.verdict),
            gate: self.gate.clone(),
            lineage: Some(DocumentLineage {
                run: run.name().to_owned(),
                trigger: run.trigger().to_owned(),
                at: Timestamp::now(),
                parent: self.parent.clone(),
                commit: self.commit.clone(),
                counts: self.counts,
                new_labels: self.new_labels.clone(),
                best_epoch: self.best_epoch,
                stages,
                seconds: self.seconds,
            }),
            speed: Some(parts.speed),
            precision: self.held_out.as_ref().and_then(|report| report.precision.clone()),
            analysis: parts.analysis.clone(),
        }
    }
}

/// Reads the report of a run's directory; none when the run had nothing to report.
///
/// # Errors
/// When the file cannot be read or is of another program's version.
pub fn read_report(run: &Path) -> Result<Option<Document>, Error> {
    let path = run.join("report.json");
    let bytes = match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(|source| Error::Io { action: "read", path: path.clone(), source })?,
    };
    let broken = |source: serde_json::Error| Error::Report { path: path.clone(), message: source.to_string() };
    let mut json: Value = serde_json::from_slice(&bytes).map_err(broken)?;
    match json.get_mut("report").map(Value::take) {
        None | Some(Value::Null) => Ok(None),
        Some(report) => serde_json::from_value(report).map(Some).map_err(broken),
    }
}
