//! Evaluation on the serving path: batches of texts through the model that would answer them.

use mynah_data::{Example, Slot};
use mynah_runtime::{Calibration, Model, Prediction};

use crate::analysis::{Analysis, Subject};
use crate::error::Error;
use crate::progress::{Progress, Stage};
use crate::report::{EvaluationReport, Outcome, Tally, decided};

/// Texts that go through the model together.
const BATCH: usize = 64;

/// What a model made of one example, and how that came out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answered {
    /// What was right.
    pub outcome: Outcome,
    /// The most probable label.
    pub label: Option<String>,
    /// Its probability, in [0, 1].
    pub confidence: f32,
    /// The probability that any function is meant, in [0, 1].
    pub in_scope: f32,
    /// The function decided for.
    pub function: Option<String>,
    /// The arguments found; none without a function.
    pub slots: Vec<Slot>,
}

impl Answered {
    fn new(outcome: Outcome, prediction: Prediction, calibration: &Calibration) -> Self {
        let function = decided(&prediction, calibration).map(str::to_owned);
        let slots = if function.is_some() { prediction.slots } else { Vec::new() };
        let Prediction { function: label, confidence, in_scope, .. } = prediction;
        Self { outcome, label, confidence, in_scope, function, slots }
    }
}

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

/// The same, with everything that a report tells; the examples have to fit in memory.
///
/// # Errors
/// [`Error::Cancelled`].
pub fn evaluate_and_analyse(
    model: &Model,
    version: &str,
    examples: &[Example],
    progress: &dyn Progress,
) -> Result<(EvaluationReport, Analysis), Error> {
    let (report, answered) = evaluate_each(model, version, examples, progress)?;
    let subject = Subject {
        model,
        report: &report,
        examples,
        answered: &answered,
        production: None,
        expectations: &[],
        fitted_on: None,
    };
    let analysis = Analysis::new(&subject);
    Ok((report, analysis))
}

/// The same, with what became of every example.
pub(crate) fn evaluate_each(
    model: &Model,
    version: &str,
    examples: &[Example],
    progress: &dyn Progress,
) -> Result<(EvaluationReport, Vec<Answered>), Error> {
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
) -> Result<(Tally, Vec<Answered>), Error> {
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
                outcomes.push(Answered::new(outcome, prediction, model.calibration()));
            }
        }
        done += batch.len() as u64;
        progress.advance(done, "");
        batch.clear();
    }
    Ok((tally, outcomes))
}
