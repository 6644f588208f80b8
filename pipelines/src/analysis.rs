//! Everything that a run or an evaluation tells about a version: the report's figures, for machines and for [`crate::page`].
//!
//! Drawn from what the version made of each example on the serving path. It judges nothing; the gate does. *Invariant:* it
//! quotes texts of the home, so it is written inside the home, or where a person asks for it.

mod curves;
mod interval;
mod probe;
mod slices;

use mynah_data::{Example, OUT_OF_SCOPE};
use mynah_runtime::Model;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::evaluate::Answered;
use crate::expect::CheckedExpectation;
use crate::paired::Paired;
use crate::report::EvaluationReport;

pub use curves::{ReliabilityBin, ThresholdPoint};
pub use interval::Share;
pub use probe::{Probe, SwappedText};
pub use slices::Slice;

/// Confusions that are listed, and texts quoted of each.
const CONFUSIONS: (usize, usize) = (25, 4);
/// Fixed and broken texts that are quoted, each.
const CHANGES: usize = 100;

/// Everything about one version on one set of examples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Analysis {
    /// The version.
    pub version: String,
    /// Examples.
    pub n: usize,
    /// Right decisions.
    pub accuracy: Share,
    /// Right decisions with exactly the right arguments.
    pub exact_match: Share,
    /// Right decisions on texts that a function answers.
    pub in_scope_accuracy: Share,
    /// Out-of-scope texts that nothing is called for.
    pub out_of_scope_recall: Share,
    /// Every function that is a label or was decided for, the most frequent first.
    pub functions: Vec<FunctionRow>,
    /// Which functions are taken for which, the most frequent first.
    pub confusions: Vec<Confusion>,
    /// Every argument, by name.
    pub arguments: Vec<ArgumentRow>,
    /// Confidence beside accuracy.
    pub calibration: CalibrationReport,
    /// What other thresholds would have done; empty without both kinds of texts.
    pub trade_off: Vec<ThresholdPoint>,
    /// What changed against production.
    pub changes: Option<Changes>,
    /// The same scores on parts of the examples.
    pub slices: Vec<Slice>,
    /// Whether it matters who is spoken of.
    pub probes: Vec<Probe>,
    /// The pinned sentences.
    #[serde(default)]
    pub expectations: Vec<CheckedExpectation>,
}

/// Scores of one function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FunctionRow {
    /// Its name; `oos`: nothing is called.
    pub name: String,
    /// Right among the decisions for it.
    pub precision: Share,
    /// Right among its examples.
    pub recall: Share,
    /// Harmonic mean of the two; its counts are those of the examples that are labelled or decided so.
    pub f1: Share,
}

/// Scores of one argument, counted exactly: name, start and end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArgumentRow {
    /// Its name.
    pub name: String,
    /// Right among the found ones.
    pub precision: Share,
    /// Right among the labelled ones.
    pub recall: Share,
    /// Harmonic mean of the two.
    pub f1: Share,
}

/// One function taken for another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Confusion {
    /// The label.
    pub expected: String,
    /// What was decided.
    pub decided: String,
    /// How often.
    pub n: usize,
    /// Some of the texts.
    pub texts: Vec<String>,
}

/// How far the confidence can be believed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CalibrationReport {
    /// What logits are divided by.
    pub temperature: f64,
    /// The confidence below which nothing is called.
    pub threshold: f64,
    /// The probability that any function is meant below which nothing is called; 0 where that was not fitted.
    #[serde(default)]
    pub scope_threshold: f64,
    /// Validation examples that temperature and thresholds were fitted on; none where that is not known.
    pub fitted_on: Option<usize>,
    /// Mean distance between confidence and accuracy over 15 bins.
    pub expected_error: f64,
    /// The reliability diagram, in ten bins.
    pub bins: Vec<ReliabilityBin>,
}

/// What changed against another version on the same examples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Changes {
    /// The other version.
    pub against: String,
    /// Exactly right by this version alone.
    pub fixed: usize,
    /// Exactly right by the other alone.
    pub broken: usize,
    /// Right by both.
    pub both_right: usize,
    /// Wrong by both.
    pub both_wrong: usize,
    /// Probability of as many broken if nothing was lost.
    pub p_worse: f64,
    /// Probability of as many fixed if nothing was gained.
    pub p_better: f64,
    /// The texts that were fixed.
    pub fixed_texts: Vec<Change>,
    /// The texts that were broken.
    pub broken_texts: Vec<Change>,
}

/// One text that came out differently; calls are in words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The text.
    pub text: String,
    /// The label.
    pub expected: String,
    /// What the other version makes of it.
    pub before: String,
    /// What this one makes of it.
    pub after: String,
}

/// What the analysis is drawn from.
pub(crate) struct Subject<'a> {
    pub model: &'a Model,
    pub report: &'a EvaluationReport,
    pub examples: &'a [Example],
    pub answered: &'a [Answered],
    /// The version compared with and what it made of the same examples.
    pub production: Option<(&'a str, &'a [Answered])>,
    pub expectations: &'a [CheckedExpectation],
    pub fitted_on: Option<usize>,
}

impl Analysis {
    pub(crate) fn new(subject: &Subject<'_>) -> Self {
        let Subject { model, report, examples, answered, production, .. } = *subject;
        let pairs = || examples.iter().zip(answered);
        let right = |pair: &(&Example, &Answered)| pair.1.outcome.function_right;
        let calibration = model.calibration();
        Self {
            version: report.version.clone(),
            n: examples.len(),
            accuracy: Share::of(pairs(), right),
            exact_match: Share::of(pairs(), |(_, answer)| answer.outcome.exact),
            in_scope_accuracy: Share::of(pairs().filter(|(example, _)| example.function != OUT_OF_SCOPE), right),
            out_of_scope_recall: Share::of(pairs().filter(|(example, _)| example.function == OUT_OF_SCOPE), right),
            functions: functions(examples, answered),
            confusions: confusions(examples, answered),
            arguments: arguments(examples, answered),
            calibration: CalibrationReport {
                temperature: f64::from(calibration.temperature),
                threshold: f64::from(calibration.threshold),
                scope_threshold: f64::from(calibration.scope_threshold),
                fitted_on: subject.fitted_on,
                expected_error: report.expected_calibration_error,
                bins: curves::reliability(examples, answered),
            },
            trade_off: curves::trade_off(examples, answered, calibration),
            changes: production.map(|(version, before)| changes(examples, answered, version, before)),
            slices: slices::slices(examples, answered, production.map(|(_, before)| before)),
            probes: probe::probe(model, examples, answered),
            expectations: subject.expectations.to_vec(),
        }
    }
}

/// Counts of one name: labelled, decided, right.
type Counts = BTreeMap<String, (usize, usize, usize)>;

fn functions(examples: &[Example], answered: &[Answered]) -> Vec<FunctionRow> {
    let mut counts = Counts::new();
    for (example, answer) in examples.iter().zip(answered) {
        counts.entry(example.function.clone()).or_default().0 += 1;
        let decided = counts.entry(decided(answer).to_owned()).or_default();
        decided.1 += 1;
        decided.2 += usize::from(answer.outcome.function_right);
    }
    let row = |(name, (labelled, decided, right)): (String, (usize, usize, usize))| FunctionRow {
        name,
        precision: Share::new(right, decided),
        recall: Share::new(right, labelled),
        f1: Share::f1(right, labelled, decided),
    };
    let mut rows: Vec<FunctionRow> = counts.into_iter().map(row).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.recall.of));
    rows
}

fn decided(answer: &Answered) -> &str {
    answer.function.as_deref().unwrap_or(OUT_OF_SCOPE)
}

fn confusions(examples: &[Example], answered: &[Answered]) -> Vec<Confusion> {
    let mut found: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for (example, answer) in examples.iter().zip(answered).filter(|(_, answer)| !answer.outcome.function_right) {
        found.entry((&example.function, decided(answer))).or_default().push(&example.text);
    }
    let (pairs, quoted) = CONFUSIONS;
    let mut confusions: Vec<Confusion> = found
        .into_iter()
        .map(|((expected, decided), texts)| Confusion {
            expected: expected.to_owned(),
            decided: decided.to_owned(),
            n: texts.len(),
            texts: texts.into_iter().take(quoted).map(str::to_owned).collect(),
        })
        .collect();
    confusions.sort_by_key(|confusion| std::cmp::Reverse(confusion.n));
    confusions.truncate(pairs);
    confusions
}

fn arguments(examples: &[Example], answered: &[Answered]) -> Vec<ArgumentRow> {
    let mut counts = Counts::new();
    for (example, answer) in examples.iter().zip(answered) {
        for slot in &example.slots {
            counts.entry(slot.name.clone()).or_default().0 += 1;
        }
        for slot in &answer.slots {
            let right =
                example.slots.iter().any(|it| (&it.name, it.start, it.end) == (&slot.name, slot.start, slot.end));
            let counts = counts.entry(slot.name.clone()).or_default();
            counts.1 += 1;
            counts.2 += usize::from(right);
        }
    }
    let row = |(name, (labelled, found, right)): (String, (usize, usize, usize))| ArgumentRow {
        name,
        precision: Share::new(right, found),
        recall: Share::new(right, labelled),
        f1: Share::f1(right, labelled, found),
    };
    let mut rows: Vec<ArgumentRow> = counts.into_iter().map(row).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.recall.of));
    rows
}

fn changes(examples: &[Example], answered: &[Answered], version: &str, before: &[Answered]) -> Changes {
    let exact = |answers: &[Answered]| answers.iter().map(|answer| answer.outcome.exact).collect::<Vec<_>>();
    let paired = Paired::count(exact(answered).into_iter(), exact(before).into_iter());
    let texts = |now_right: bool| -> Vec<Change> {
        let all = examples.iter().zip(answered).zip(before);
        let changed =
            all.filter(|((_, after), before)| (after.outcome.exact, before.outcome.exact) == (now_right, !now_right));
        let change = |((example, after), before): ((&Example, &Answered), &Answered)| Change {
            text: example.text.clone(),
            expected: call(&example.function, &example.slots),
            before: call(decided(before), &before.slots),
            after: call(decided(after), &after.slots),
        };
        changed.take(CHANGES).map(change).collect()
    };
    let both_right = answered.iter().zip(before).filter(|(a, b)| a.outcome.exact && b.outcome.exact).count();
    Changes {
        against: version.to_owned(),
        fixed: paired.fixed,
        broken: paired.broken,
        both_right,
        both_wrong: paired.n - both_right - paired.fixed - paired.broken,
        p_worse: paired.p_worse(),
        p_better: paired.p_better(),
        fixed_texts: texts(true),
        broken_texts: texts(false),
    }
}

/// A call in words: `wake(time="seven")`.
fn call(function: &str, slots: &[mynah_data::Slot]) -> String {
    let words: Vec<String> = slots.iter().map(|slot| format!("{}={:?}", slot.name, slot.value)).collect();
    match (function == OUT_OF_SCOPE, words.is_empty()) {
        (true, _) => "nothing".to_owned(),
        (false, true) => function.to_owned(),
        (false, false) => format!("{function}({})", words.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use mynah_data::{Slot, Source};

    use super::*;
    use crate::report::Outcome;

    pub(super) fn example(text: &str, function: &str) -> Example {
        Example {
            text: text.into(),
            function: function.into(),
            slots: Vec::new(),
            split: None,
            source: Source::Written,
            origin: "test".into(),
            at: None,
            weight: 1.0,
        }
    }

    /// An answer with this most probable label, which is decided for unless it is out of scope.
    pub(super) fn answered(label: &str, confidence: f32, right: bool) -> Answered {
        let function = (label != OUT_OF_SCOPE).then(|| label.to_owned());
        Answered {
            outcome: Outcome { function_right: right, exact: right, accepted: function.is_some() },
            label: Some(label.into()),
            confidence,
            in_scope: if function.is_some() { confidence } else { 1.0 - confidence },
            function,
            slots: Vec::new(),
        }
    }

    fn slot(name: &str, start: usize, end: usize) -> Slot {
        Slot { name: name.into(), start, end, value: "x".repeat(end - start) }
    }

    #[test]
    fn functions_and_confusions_by_hand() {
        let examples =
            [example("a", "f"), example("b", "f"), example("c", "f"), example("d", "g"), example("e", OUT_OF_SCOPE)];
        let answers = [
            answered("f", 0.9, true),
            answered("g", 0.9, false),
            answered("g", 0.8, false),
            answered("g", 0.9, true),
            answered("f", 0.9, false),
        ];
        let rows = functions(&examples, &answers);
        assert_eq!(rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["f", "g", OUT_OF_SCOPE]);
        let figures = |row: &FunctionRow| (row.precision.value, row.recall.value, row.f1.value);
        // f: decided for twice, once rightly; one of its three found: F1 2 / 5.
        assert_eq!(figures(&rows[0]), (0.5, 1.0 / 3.0, 0.4));
        assert_eq!((rows[1].precision.right, rows[1].precision.of, rows[1].recall.value), (1, 3, 1.0));
        assert_eq!((rows[2].recall.value, rows[2].precision.of), (0.0, 0));
        let confusions = confusions(&examples, &answers);
        assert_eq!((confusions[0].expected.as_str(), confusions[0].decided.as_str(), confusions[0].n), ("f", "g", 2));
        assert_eq!(confusions[0].texts, ["b", "c"]);
        assert_eq!(confusions[1].decided, "f");
    }

    #[test]
    fn arguments_count_when_name_and_place_are_right() {
        let mut labelled = example("wake me at seven", "wake");
        labelled.slots = vec![slot("time", 11, 16), slot("who", 5, 7)];
        let mut answer = answered("wake", 0.9, true);
        answer.slots = vec![slot("time", 11, 16), slot("time", 0, 4)];
        let rows = arguments(&[labelled], &[answer]);
        let time = rows.iter().find(|row| row.name == "time").expect("it is there");
        assert_eq!((time.precision.value, time.recall.value), (0.5, 1.0));
        assert!((time.f1.value - 2.0 / 3.0).abs() < 1e-12);
        let who = rows.iter().find(|row| row.name == "who").expect("it is there");
        assert_eq!((who.precision.of, who.recall.value), (0, 0.0));
    }

    #[test]
    fn what_changed_is_counted_and_quoted() {
        let mut examples = [example("a", "f"), example("b", "f"), example("c", "f"), example("d", "g")];
        examples[1].slots = vec![slot("t", 0, 1)];
        let after =
            [answered("f", 0.9, true), answered("f", 0.9, true), answered("g", 0.9, false), answered("f", 0.9, false)];
        let before =
            [answered("f", 0.9, true), answered("g", 0.9, false), answered("f", 0.9, true), answered("f", 0.9, false)];
        let changes = changes(&examples, &after, "v1", &before);
        assert_eq!((changes.fixed, changes.broken, changes.both_right, changes.both_wrong), (1, 1, 1, 1));
        // One of two changed: at least one with probability 3/4.
        assert_eq!((changes.p_worse, changes.p_better), (0.75, 0.75));
        let fixed = &changes.fixed_texts[0];
        assert_eq!((fixed.expected.as_str(), fixed.before.as_str(), fixed.after.as_str()), ("f(t=\"x\")", "g", "f"));
        assert_eq!(changes.broken_texts[0].text, "c");
    }
}
