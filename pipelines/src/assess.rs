//! What the gate judges a candidate by, gathered from its answers and production's.

use jiff::Timestamp;
use mynah_data::{Example, OUT_OF_SCOPE};
use mynah_runtime::{Labels, Model};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::answers::{AnswerOutcome, held_out_answers};
use crate::best::BestSoFar;
use crate::corpus::Corpus;
use crate::corrected::Corrected;
use crate::error::Error;
use crate::evaluate::{Answered, evaluate_each};
use crate::expect::{CheckedExpectation, check_expectations};
use crate::gate::{Answers, Comparison, Corrections, Evidence, Expectations};
use crate::paired::Paired;
use crate::progress::Progress;
use crate::report::{EvaluationReport, Outcome};

/// F1 from which on an answer counts as right when two versions are compared.
const RIGHT_ANSWER_F1: f64 = 0.5;
/// Requests that the latency is measured over.
const LATENCY_TEXTS: usize = 40;

/// A model's answers to the held-out examples and the corrections.
pub(crate) struct Judged {
    /// Held-out scores.
    pub report: EvaluationReport,
    /// What it made of every held-out example.
    pub held_out: Vec<Answered>,
    answers: Vec<AnswerOutcome>,
    /// Whether each correction is right.
    corrections: Vec<bool>,
    /// What it makes of the pinned sentences.
    pub expectations: Vec<CheckedExpectation>,
    labels: Labels,
}

impl Judged {
    /// Lets `model` answer, on the serving path and without memory.
    ///
    /// What `corrected` remembers of the corrections is not asked again.
    pub fn of(
        model: &Model,
        version: &str,
        corpus: &Corpus,
        corrected: &mut Corrected,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        let (mut report, held_out) = evaluate_each(model, version, &corpus.dataset.held_out, progress)?;
        let corrections = corrected.ask(model, &corpus.corrections)?;
        let (scores, answers) = held_out_answers(model, &corpus.questions)?.unzip();
        report.answers = scores;
        let expectations = check_expectations(model, &corpus.functions, &corpus.expectations);
        let (answers, labels) = (answers.unwrap_or_default(), model.labels().clone());
        Ok(Self { report, held_out, answers, corrections, expectations, labels })
    }

    /// What it knows.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Whether `example` could be right: its function and its arguments are among the labels.
    pub fn knows(&self, example: &Example) -> bool {
        // Out of scope is nobody's function, and known even to a version that was never taught any.
        if example.function == OUT_OF_SCOPE {
            return true;
        }
        self.labels.function_id(&example.function).is_some()
            && example
                .slots
                .iter()
                .all(|slot| self.labels.tags.iter().any(|tag| tag.strip_prefix("B-") == Some(&slot.name)))
    }
}

/// Everything that the evidence is drawn from.
pub(crate) struct Assessment<'a> {
    /// The examples.
    pub corpus: &'a Corpus,
    /// The candidate as it would serve.
    pub model: &'a Model,
    /// Its answers.
    pub candidate: &'a Judged,
    /// Production's answers; a first version has none to be compared with.
    pub production: Option<&'a Judged>,
    /// The best version so far, production where there is no better one.
    pub best: Option<&'a BestSoFar>,
    /// Functions and arguments that production does not know.
    pub new_labels: usize,
    /// Whether the candidate answers from passages and its parent could not.
    pub new_answers: bool,
    /// When the last label was given that production learned from.
    pub since: Option<Timestamp>,
    /// Size of the candidate's files.
    pub size_bytes: u64,
}

impl Assessment<'_> {
    /// The figures that the rules are held against.
    pub fn evidence(&self) -> Evidence {
        let dataset = &self.corpus.dataset;
        let report = &self.candidate.report;
        let texts = texts_to_measure(self.corpus);
        Evidence {
            held_out: report.n,
            accuracy: report.function.accuracy,
            exact_match: report.exact_match,
            false_accept_rate: report.out_of_scope.false_accept_rate,
            precision: report.precision.clone(),
            latency_ms: latency_ms(self.model, &texts),
            size_mb: self.size_bytes as f64 / 1e6,
            corrections: corrections(
                &self.corpus.corrections,
                &self.candidate.corrections,
                self.production.map(|production| production.corrections.as_slice()),
                self.since,
            ),
            expectations: self.expectations(),
            new_labels: self.new_labels,
            answers: self.answers(),
            production: self.production.map(|production| compare(&dataset.held_out, self.candidate, production)),
            best: self.best.map(|best| best.beside(self.candidate)),
        }
    }
}

/// The held-out texts, or those of training when none are held out: for figures that do not depend on the labels.
pub(crate) fn texts_to_measure(corpus: &Corpus) -> Vec<&str> {
    let dataset = &corpus.dataset;
    let examples = if dataset.held_out.is_empty() { &dataset.train } else { &dataset.held_out };
    examples.iter().map(|example| example.text.as_str()).collect()
}

impl Assessment<'_> {
    fn expectations(&self) -> Expectations {
        let checked = &self.candidate.expectations;
        let missed = checked.iter().filter(|one| !one.right).map(ToString::to_string).collect();
        Expectations { n: checked.len(), missed }
    }

    /// The held-out questions, answered by both when production has an answer head.
    fn answers(&self) -> Option<Answers> {
        let none = self.candidate.report.answers.is_none();
        if none && !self.new_answers {
            return None;
        }
        let before = self.production.filter(|production| production.report.answers.is_some());
        let right = |judged: &'_ Judged| -> Vec<bool> {
            judged.answers.iter().map(|outcome| outcome.served_f1 >= RIGHT_ANSWER_F1).collect()
        };
        Some(Answers {
            is_new: self.new_answers,
            f1: self.candidate.report.answers.map(|scores| scores.served_f1),
            production_f1: before.and_then(|production| production.report.answers).map(|scores| scores.served_f1),
            right: before
                .map(|before| Paired::count(right(self.candidate).into_iter(), right(before).into_iter()))
                .unwrap_or_default(),
        })
    }
}

/// Counts every correction of the log, those included that earlier versions learned.
///
/// `right` and `before` say of each whether the candidate and production have it right, `since` when the last label was given
/// that production learned from.
fn corrections(examples: &[Example], right: &[bool], before: Option<&[bool]>, since: Option<Timestamp>) -> Corrections {
    let before = before.unwrap_or_default().iter().copied().chain(std::iter::repeat(false));
    let mut corrections = Corrections { n: examples.len(), ..Corrections::default() };
    for ((example, right), was_right) in examples.iter().zip(right).zip(before) {
        corrections.candidate_right += usize::from(*right);
        corrections.production_right += usize::from(was_right);
        let is_new = example.at.zip(since).is_none_or(|(at, since)| at > since);
        corrections.newly_right += usize::from(*right && !was_right && is_new);
        if was_right && !right {
            corrections.lost.push(example.text.clone());
        }
    }
    corrections
}

fn latency_ms(model: &Model, texts: &[&str]) -> f64 {
    let mut times: Vec<f64> = texts
        .iter()
        .take(LATENCY_TEXTS)
        .map(|text| {
            let started = Instant::now();
            model.predict(text);
            started.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(0.0)
}

fn compare(examples: &[Example], candidate: &Judged, production: &Judged) -> Comparison {
    let paired = |keep: &dyn Fn(&Example) -> bool, right: &dyn Fn(&Outcome) -> bool| {
        let side = |judged: &Judged| -> Vec<bool> {
            let kept = examples.iter().zip(&judged.held_out).filter(|(example, _)| keep(example));
            kept.map(|(_, answered)| right(&answered.outcome)).collect()
        };
        Paired::count(side(candidate).into_iter(), side(production).into_iter())
    };
    let names: BTreeSet<&String> =
        examples.iter().map(|example| &example.function).filter(|function| *function != OUT_OF_SCOPE).collect();
    let functions: BTreeMap<String, Paired> = names
        .into_iter()
        .map(|name| (name.clone(), paired(&|example| example.function == *name, &|o| o.function_right)))
        .collect();
    let known = |example: &Example| production.knows(example);
    Comparison {
        exact_match: production.report.exact_match,
        exact: paired(&|_| true, &|outcome| outcome.exact),
        known: paired(&known, &|outcome| outcome.exact),
        new: paired(&|example| !known(example), &|outcome| outcome.exact),
        out_of_scope: paired(&|example| example.function == OUT_OF_SCOPE, &|outcome| !outcome.accepted),
        functions,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mynah_data::{Source, SplitName};

    #[test]
    fn corrections_are_counted_whenever_they_were_made() {
        let correction = |text: &str, second: i64| Example {
            text: text.into(),
            function: "f".into(),
            slots: Vec::new(),
            split: Some(SplitName::Train),
            source: Source::Corrected,
            origin: "i_1".into(),
            at: Timestamp::from_second(second).ok(),
            weight: 1.0,
        };
        let examples = [
            correction("old, kept", 1),
            correction("old, lost", 2),
            correction("old, right again", 3),
            correction("new, learned", 11),
            correction("new, not learned", 12),
        ];
        let right = [true, false, true, true, false];
        let since = Timestamp::from_second(10).ok();
        let counted = corrections(&examples, &right, Some(&[true, true, false, false, false]), since);
        let expected = Corrections {
            n: 5,
            candidate_right: 3,
            production_right: 2,
            newly_right: 1,
            lost: vec!["old, lost".into()],
        };
        assert_eq!(counted, expected);
        let first = corrections(&examples, &right, None, None);
        assert_eq!((first.production_right, first.newly_right, first.lost.len()), (0, 3, 0));
    }
}
