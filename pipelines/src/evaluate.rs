//! Evaluation on the serving path: batches of texts through the model that would answer them.

use mynah_data::Example;
use mynah_runtime::Model;

use crate::error::Error;
use crate::progress::{Progress, Stage};
use crate::report::{EvaluationReport, Outcome, Tally};

/// Texts that go through the model together.
const BATCH: usize = 64;

/// Scores `model` on `examples`, which may be more than fit in memory.
///
/// # Errors
/// [`Error::Cancelled`].
pub fn evaluate(
    model: &Model,
    version: &str,
    examples: impl Iterator<Item = Example>,
    total: u64,
    progress: &dyn Progress,
) -> Result<EvaluationReport, Error> {
    let (tally, _) = run(model, examples, total, progress, false)?;
    Ok(tally.report(version))
}

/// The same, with how every example came out.
pub(crate) fn evaluate_each(
    model: &Model,
    version: &str,
    examples: &[Example],
    progress: &dyn Progress,
) -> Result<(EvaluationReport, Vec<Outcome>), Error> {
    let total = examples.len() as u64;
    let (tally, outcomes) = run(model, examples.iter().cloned(), total, progress, true)?;
    Ok((tally.report(version), outcomes))
}

fn run(
    model: &Model,
    examples: impl Iterator<Item = Example>,
    total: u64,
    progress: &dyn Progress,
    keep: bool,
) -> Result<(Tally, Vec<Outcome>), Error> {
    progress.stage(Stage::Evaluate, total);
    let mut tally = Tally::default();
    let mut outcomes = Vec::new();
    let mut batch: Vec<Example> = Vec::with_capacity(BATCH);
    let mut done = 0u64;
    let mut examples = examples.peekable();
    while let Some(example) = examples.next() {
        batch.push(example);
        if batch.len() < BATCH && examples.peek().is_some() {
            continue;
        }
        if progress.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let texts: Vec<&str> = batch.iter().map(|example| example.text.as_str()).collect();
        for (example, prediction) in batch.iter().zip(model.predict_batch(&texts)) {
            let outcome = tally.add(example, &prediction, model.calibration());
            if keep {
                outcomes.push(outcome);
            }
        }
        done += batch.len() as u64;
        progress.advance(done, "");
        batch.clear();
    }
    Ok((tally, outcomes))
}
