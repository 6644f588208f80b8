//! How far confidence can be believed, and what each threshold would have cost.

use mynah_data::{Example, OUT_OF_SCOPE};
use mynah_runtime::Calibration;
use serde::{Deserialize, Serialize};

use crate::evaluate::Answered;

/// Bins of the reliability diagram.
const BINS: usize = 10;
/// Thresholds that are tried, evenly over [0, 1].
const THRESHOLDS: usize = 100;

/// One bin of the reliability diagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Where it starts.
    pub low: f64,
    /// Where it ends.
    pub high: f64,
    /// Examples in it.
    pub n: usize,
    /// Their mean confidence.
    pub confidence: f64,
    /// The share of them whose most probable label is right.
    pub accuracy: f64,
}

/// What a threshold would have done to the examples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ThresholdPoint {
    /// The threshold.
    pub threshold: f64,
    /// The share of right decisions on texts that a function answers.
    pub in_scope_accuracy: f64,
    /// The share of out-of-scope texts that nothing is called for.
    pub out_of_scope_recall: f64,
}

/// Confidence beside accuracy, in ten bins; empty ones are left out.
pub(super) fn reliability(examples: &[Example], answered: &[Answered]) -> Vec<ReliabilityBin> {
    let mut bins = [(0usize, 0usize, 0.0f64); BINS];
    for (example, answer) in examples.iter().zip(answered) {
        let confidence = f64::from(answer.confidence).clamp(0.0, 1.0);
        let bin = &mut bins[((confidence * BINS as f64) as usize).min(BINS - 1)];
        bin.0 += 1;
        bin.1 += usize::from(answer.label.as_deref() == Some(example.function.as_str()));
        bin.2 += confidence;
    }
    let edge = |bin: usize| bin as f64 / BINS as f64;
    bins.iter()
        .enumerate()
        .filter(|(_, (n, ..))| *n > 0)
        .map(|(index, &(n, right, confidence))| ReliabilityBin {
            low: edge(index),
            high: edge(index + 1),
            n,
            confidence: confidence / n as f64,
            accuracy: right as f64 / n as f64,
        })
        .collect()
}

/// What every threshold would have done; empty without both kinds of texts. It is the one on the probability that any
/// function is meant where that was fitted, and else the one on the confidence.
pub(super) fn trade_off(examples: &[Example], answered: &[Answered], calibration: &Calibration) -> Vec<ThresholdPoint> {
    let pairs = || examples.iter().zip(answered);
    let out_of_scope = pairs().filter(|(example, _)| example.function == OUT_OF_SCOPE).count();
    let in_scope = examples.len() - out_of_scope;
    if out_of_scope == 0 || in_scope == 0 {
        return Vec::new();
    }
    let points = (0..=THRESHOLDS).map(|step| {
        let threshold = step as f64 / THRESHOLDS as f64;
        let calls = |answer: &Answered| {
            let enough = match calibration.scope_threshold > 0.0 {
                true => answer.confidence >= calibration.threshold && f64::from(answer.in_scope) >= threshold,
                false => f64::from(answer.confidence) >= threshold,
            };
            enough && answer.label.as_deref().is_some_and(|label| label != OUT_OF_SCOPE)
        };
        let right = pairs().filter(|(example, answer)| {
            example.function != OUT_OF_SCOPE && calls(answer) && answer.label.as_deref() == Some(&example.function)
        });
        let declined = pairs().filter(|(example, answer)| example.function == OUT_OF_SCOPE && !calls(answer));
        ThresholdPoint {
            threshold,
            in_scope_accuracy: right.count() as f64 / in_scope as f64,
            out_of_scope_recall: declined.count() as f64 / out_of_scope as f64,
        }
    });
    points.collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{answered, example};
    use super::*;

    #[test]
    fn bins_and_thresholds_by_hand() {
        let examples = [example("a", "f"), example("b", "f"), example("c", OUT_OF_SCOPE), example("d", OUT_OF_SCOPE)];
        let answers = [
            answered("f", 0.95, true),
            answered("g", 0.93, false),
            answered("f", 0.42, false),
            answered(OUT_OF_SCOPE, 0.91, true),
        ];
        let bins = reliability(&examples, &answers);
        assert_eq!(bins.iter().map(|bin| bin.n).collect::<Vec<_>>(), [1, 3]);
        assert!((bins[1].accuracy - 2.0 / 3.0).abs() < 1e-12);
        assert!((bins[1].confidence - (0.95 + 0.93 + 0.91) / 3.0).abs() < 1e-6);
        let points = trade_off(&examples, &answers, &Calibration::default());
        let at = |threshold: usize| (points[threshold].in_scope_accuracy, points[threshold].out_of_scope_recall);
        assert_eq!(at(0), (0.5, 0.5));
        assert_eq!(at(50), (0.5, 1.0));
        assert_eq!(at(96), (0.0, 1.0));
        let weighed = Calibration { threshold: 0.4, scope_threshold: 0.5, ..Calibration::default() };
        assert_eq!(trade_off(&examples, &answers, &weighed)[50], points[50], "the confidence is the scope's here");
        assert!(trade_off(&examples[..2], &answers[..2], &Calibration::default()).is_empty());
    }
}
