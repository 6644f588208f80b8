//! Scores of a model on labelled examples, gathered one example at a time.
//!
//! A prediction is what the model decides by itself: the most probable function, or none when that is
//! out of scope or less certain than the version's threshold. Memory takes no part.

use mynah_data::{Example, OUT_OF_SCOPE, Slot};
use mynah_runtime::{Calibration, Prediction};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::answers::AnswerScores;
use crate::precision::PrecisionReport;

/// Scores of one version on one set of examples. Ratios are in [0, 1].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationReport {
    /// The version that answered.
    pub version: String,
    /// Examples.
    pub n: usize,
    /// How well functions are recognised.
    pub function: FunctionScores,
    /// How well texts that no function answers are recognised.
    pub out_of_scope: OutOfScopeScores,
    /// Argument spans, counted exactly (name, start and end), as conlleval does.
    pub arguments: SpanScores,
    /// Share of examples with the right function and exactly the right arguments.
    pub exact_match: f64,
    /// Mean distance between confidence and accuracy over 15 bins (arXiv 1706.04599).
    pub expected_calibration_error: f64,
    /// The served precision beside f32, where that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<PrecisionReport>,
    /// The same for every function.
    pub per_function: BTreeMap<String, FunctionReport>,
    /// How well questions are answered from their passages; absent without an answer head or held-out questions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<AnswerScores>,
}

/// How well functions are recognised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FunctionScores {
    /// Share of right decisions; for an out-of-scope text the right one is none.
    pub accuracy: f64,
    /// Mean F1 over the functions that occur as label or decision.
    pub macro_f1: f64,
    /// Accuracy over the texts that a function answers; none without such texts.
    pub in_scope_accuracy: Option<f64>,
}

/// How well texts that no function answers are recognised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutOfScopeScores {
    /// Share of out-of-scope texts for which nothing was called; none without such texts.
    pub recall: Option<f64>,
    /// Share of out-of-scope texts for which something was called.
    pub false_accept_rate: Option<f64>,
}

/// Micro-averaged span scores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SpanScores {
    /// Right spans among the found ones.
    pub precision: f64,
    /// Right spans among the labelled ones.
    pub recall: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
}

/// Scores of one function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FunctionReport {
    /// Examples with this label.
    pub n: usize,
    /// Right among the decisions for it.
    pub precision: f64,
    /// Right among its examples.
    pub recall: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
}

/// How one example came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The function, or its absence, is right.
    pub function_right: bool,
    /// And so is every argument.
    pub exact: bool,
    /// A function was decided for.
    pub accepted: bool,
}

/// The function that a prediction comes to, if any.
pub fn decided<'a>(prediction: &'a Prediction, calibration: &Calibration) -> Option<&'a str> {
    let sure = prediction.confidence >= calibration.threshold && prediction.in_scope >= calibration.scope_threshold;
    prediction.function.as_deref().filter(|function| *function != OUT_OF_SCOPE && sure)
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    labelled: usize,
    decided: usize,
    right: usize,
}

impl Counts {
    fn scores(&self) -> SpanScores {
        let ratio = |part: usize, whole: usize| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        let f1 = ratio(2 * self.right, self.labelled + self.decided);
        SpanScores { precision: ratio(self.right, self.decided), recall: ratio(self.right, self.labelled), f1 }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Bin {
    examples: usize,
    right: usize,
    confidence: f64,
}

const BINS: usize = 15;

/// Gathers the scores of a set without keeping the set.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    n: usize,
    right: usize,
    in_scope: usize,
    in_scope_right: usize,
    rejected: usize,
    exact: usize,
    spans: Counts,
    functions: BTreeMap<String, Counts>,
    bins: [Bin; BINS],
}

impl Tally {
    /// Counts one example.
    pub fn add(&mut self, example: &Example, prediction: &Prediction, calibration: &Calibration) -> Outcome {
        let expected = (example.function != OUT_OF_SCOPE).then_some(example.function.as_str());
        let decision = decided(prediction, calibration);
        let slots: &[Slot] = if decision.is_some() { &prediction.slots } else { &[] };
        let function_right = decision == expected;
        let spans_right = slots.iter().filter(|slot| has(&example.slots, slot)).count();
        let exact = function_right && spans_right == slots.len() && spans_right == example.slots.len();

        self.n += 1;
        self.right += usize::from(function_right);
        self.exact += usize::from(exact);
        match expected {
            Some(_) => {
                self.in_scope += 1;
                self.in_scope_right += usize::from(function_right);
            }
            None => self.rejected += usize::from(decision.is_none()),
        }
        self.spans.labelled += example.slots.len();
        self.spans.decided += slots.len();
        self.spans.right += spans_right;
        self.functions.entry(example.function.clone()).or_default().labelled += 1;
        let decided_label = decision.unwrap_or(OUT_OF_SCOPE).to_string();
        let counts = self.functions.entry(decided_label).or_default();
        counts.decided += 1;
        counts.right += usize::from(function_right);
        // Calibration is a matter of the most probable label, whatever the threshold makes of it.
        let label_right = prediction.function.as_deref() == Some(example.function.as_str());
        let confidence = f64::from(prediction.confidence).clamp(0.0, 1.0);
        let bin = &mut self.bins[((confidence * BINS as f64) as usize).min(BINS - 1)];
        bin.examples += 1;
        bin.right += usize::from(label_right);
        bin.confidence += confidence;
        Outcome { function_right, exact, accepted: decision.is_some() }
    }

    /// The scores so far.
    pub fn report(&self, version: &str) -> EvaluationReport {
        let ratio = |part: usize, whole: usize| (whole > 0).then(|| part as f64 / whole as f64);
        let oos = self.n - self.in_scope;
        let recall = ratio(self.rejected, oos);
        let per_function: BTreeMap<String, FunctionReport> = self
            .functions
            .iter()
            .map(|(name, counts)| {
                let SpanScores { precision, recall, f1 } = counts.scores();
                (name.clone(), FunctionReport { n: counts.labelled, precision, recall, f1 })
            })
            .collect();
        let in_scope: Vec<f64> =
            per_function.iter().filter(|(name, _)| *name != OUT_OF_SCOPE).map(|(_, report)| report.f1).collect();
        let error: f64 = self.bins.iter().map(|bin| (bin.confidence - bin.right as f64).abs()).sum();
        EvaluationReport {
            version: version.to_string(),
            n: self.n,
            function: FunctionScores {
                accuracy: ratio(self.right, self.n).unwrap_or(0.0),
                macro_f1: in_scope.iter().sum::<f64>() / in_scope.len().max(1) as f64,
                in_scope_accuracy: ratio(self.in_scope_right, self.in_scope),
            },
            out_of_scope: OutOfScopeScores { recall, false_accept_rate: recall.map(|recall| 1.0 - recall) },
            arguments: self.spans.scores(),
            exact_match: ratio(self.exact, self.n).unwrap_or(0.0),
            expected_calibration_error: error / self.n.max(1) as f64,
            precision: None,
            per_function,
            answers: None,
        }
    }
}

fn has(slots: &[Slot], wanted: &Slot) -> bool {
    slots.iter().any(|slot| slot.name == wanted.name && slot.start == wanted.start && slot.end == wanted.end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mynah_data::Source;

    fn slot(name: &str, start: usize, end: usize) -> Slot {
        Slot { name: name.into(), start, end, value: "x".repeat(end - start) }
    }

    fn example(function: &str, slots: Vec<Slot>) -> Example {
        Example {
            text: "some text".into(),
            function: function.into(),
            slots,
            split: None,
            source: Source::Written,
            origin: "test".into(),
            at: None,
            weight: 1.0,
        }
    }

    fn prediction(function: &str, confidence: f32, slots: Vec<Slot>) -> Prediction {
        Prediction {
            in_scope: 1.0,
            function: Some(function.into()),
            probabilities: vec![(function.into(), confidence)],
            confidence,
            slots,
            embedding: Vec::new(),
            function_logits: Vec::new(),
        }
    }

    #[test]
    fn scores_by_hand() {
        let calibration = Calibration { threshold: 0.5, ..Calibration::default() };
        let mut tally = Tally::default();
        let mut add = |e: Example, p: Prediction| tally.add(&e, &p, &calibration);
        // Right with its argument; right function, argument one character short; wrong function;
        // out of scope seen by its label; by its low confidence; and missed.
        assert!(add(example("a", vec![slot("t", 0, 4)]), prediction("a", 0.9, vec![slot("t", 0, 4)])).exact);
        assert!(!add(example("a", vec![slot("t", 0, 4)]), prediction("a", 0.9, vec![slot("t", 0, 3)])).exact);
        assert!(!add(example("b", vec![]), prediction("a", 0.6, vec![])).function_right);
        assert!(add(example("oos", vec![]), prediction("oos", 0.9, vec![slot("t", 0, 4)])).exact);
        assert!(add(example("oos", vec![]), prediction("a", 0.4, vec![])).function_right);
        assert!(add(example("oos", vec![]), prediction("b", 0.7, vec![])).accepted);
        let report = tally.report("v1");
        assert_eq!(report.n, 6);
        assert_eq!(report.function.accuracy, 4.0 / 6.0);
        assert_eq!(report.function.in_scope_accuracy, Some(2.0 / 3.0));
        assert_eq!(report.out_of_scope.recall, Some(2.0 / 3.0));
        assert_eq!(report.arguments, SpanScores { precision: 0.5, recall: 0.5, f1: 0.5 });
        assert_eq!(report.exact_match, 0.5);
        // a: 2 of 3 decisions right, all 2 found: F1 0.8; b: nothing right: 0.
        assert!((report.function.macro_f1 - 0.4).abs() < 1e-12);
        // Bins at 0.9 (3 of 3 labels right), 0.6 to 0.7 (none of 1 and 1), 0.4 (none of 1).
        let expected = (0.3 + 0.6 + 0.4 + 0.7) / 6.0;
        assert!((report.expected_calibration_error - expected).abs() < 1e-6, "{report:?}");
    }

    #[test]
    fn an_empty_set_has_no_scores_for_what_it_lacks() {
        let report = Tally::default().report("v1");
        assert_eq!(report.out_of_scope.recall, None);
        assert_eq!(report.function.in_scope_accuracy, None);
        assert_eq!(report.exact_match, 0.0);
    }
}
