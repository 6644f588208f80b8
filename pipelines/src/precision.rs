//! What serving in int8 costs: the served precision beside f32, on the same texts.
//!
//! Measured for every candidate, so that an encoder whose weights do not quantise well is seen before it serves. *Invariant:*
//! f32 served is f32, and nothing is computed to say so.

use mynah_data::Slot;
use mynah_runtime::{Checkpoint, Model, Precision, Prediction};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::progress::Progress;

/// Texts that are compared at most: enough to tell 0.99 from 0.97, and a few seconds of f32.
const MAX_TEXTS: usize = 500;
/// Texts that go through a model together.
const BATCH: usize = 64;

/// How far the served precision is from f32. Shares are in [0, 1].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrecisionReport {
    /// The precision that serves.
    pub served: Precision,
    /// Texts that were compared.
    pub n: usize,
    /// Share of them with the same most probable function.
    pub function_agreement: f64,
    /// Share of them with the same arguments.
    pub argument_agreement: f64,
    /// The largest difference of a function's raw score.
    pub max_logit_difference: f64,
    /// The mean difference of the functions' raw scores.
    pub mean_logit_difference: f64,
}

/// Compares `model` with the f32 of its own `checkpoint` on the first texts.
///
/// # Errors
/// A checkpoint that cannot be loaded in f32, or [`Error::Cancelled`].
pub fn compare_with_f32(
    model: &Model,
    checkpoint: &Checkpoint,
    texts: &[&str],
    progress: &dyn Progress,
) -> Result<PrecisionReport, Error> {
    let texts = &texts[..texts.len().min(MAX_TEXTS)];
    let mut tally = Tally::default();
    if model.precision() == Precision::F32 {
        tally.same(texts.len());
    } else if !texts.is_empty() {
        let reference = Model::load(checkpoint, Precision::F32)?;
        for batch in texts.chunks(BATCH) {
            if progress.is_cancelled() {
                return Err(Error::Cancelled);
            }
            for (served, exact) in model.predict_batch(batch).iter().zip(reference.predict_batch(batch)) {
                tally.add(served, &exact);
            }
        }
    }
    Ok(tally.report(model.precision()))
}

#[derive(Default)]
struct Tally {
    n: usize,
    functions: usize,
    arguments: usize,
    logits: usize,
    difference: f64,
    largest: f64,
}

impl Tally {
    fn same(&mut self, n: usize) {
        (self.n, self.functions, self.arguments) = (n, n, n);
    }

    fn add(&mut self, served: &Prediction, exact: &Prediction) {
        self.n += 1;
        self.functions += usize::from(served.function == exact.function);
        self.arguments += usize::from(places(&served.slots).eq(places(&exact.slots)));
        for (served, exact) in served.function_logits.iter().zip(&exact.function_logits) {
            let difference = f64::from((served - exact).abs());
            self.logits += 1;
            self.difference += difference;
            self.largest = self.largest.max(difference);
        }
    }

    fn report(&self, served: Precision) -> PrecisionReport {
        let share = |part: usize| if self.n == 0 { 1.0 } else { part as f64 / self.n as f64 };
        PrecisionReport {
            served,
            n: self.n,
            function_agreement: share(self.functions),
            argument_agreement: share(self.arguments),
            max_logit_difference: self.largest,
            mean_logit_difference: self.difference / self.logits.max(1) as f64,
        }
    }
}

fn places(slots: &[Slot]) -> impl Iterator<Item = (&str, usize, usize)> {
    slots.iter().map(|slot| (slot.name.as_str(), slot.start, slot.end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::NoProgress;

    fn prediction(function: &str, logits: &[f32], slot_end: usize) -> Prediction {
        Prediction {
            function: Some(function.into()),
            function_logits: logits.to_vec(),
            slots: vec![Slot { name: "t".into(), start: 0, end: slot_end, value: String::new() }],
            ..Prediction::default()
        }
    }

    #[test]
    fn figures_by_hand() {
        let mut tally = Tally::default();
        tally.add(&prediction("a", &[1.0, 0.0], 4), &prediction("a", &[1.25, 0.0], 4));
        tally.add(&prediction("a", &[0.5, 0.5], 4), &prediction("b", &[0.5, 1.0], 3));
        let report = tally.report(Precision::Int8);
        assert_eq!((report.n, report.function_agreement, report.argument_agreement), (2, 0.5, 0.5));
        assert_eq!((report.max_logit_difference, report.mean_logit_difference), (0.5, 0.1875));
        assert_eq!(Tally::default().report(Precision::Int8).function_agreement, 1.0);
    }

    #[test]
    fn f32_agrees_with_itself_and_int8_is_measured() {
        let checkpoint = Checkpoint::starter().unwrap();
        let texts = ["wake me at seven", "what a nice day"];
        for (precision, has_heads) in [(Precision::F32, false), (Precision::Int8, false)] {
            let model = Model::load(&checkpoint, precision).unwrap();
            let report = compare_with_f32(&model, &checkpoint, &texts, &NoProgress).unwrap();
            assert_eq!((report.served, report.n, model.has_functions()), (precision, 2, has_heads));
            // Without heads there is nothing to disagree on.
            assert_eq!((report.function_agreement, report.argument_agreement), (1.0, 1.0));
        }
    }
}
