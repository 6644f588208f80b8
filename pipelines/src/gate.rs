//! The gate between a candidate and production.
//!
//! Pure: evidence in, verdict out. A refusal is a result, not an error. *Invariant:* [`Passed`] is made
//! here alone, and promotion asks for it.

use mynah_runtime::Precision;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::paired::Paired;
use crate::precision::PrecisionReport;
use crate::settings::GateSettings;

/// One rule with the figures it was judged by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Short name.
    pub name: String,
    /// Whether the candidate keeps it.
    pub passed: bool,
    /// The candidate's figure.
    pub candidate: Option<f64>,
    /// Production's figure.
    pub production: Option<f64>,
    /// What the candidate's figure is held against.
    pub limit: Option<f64>,
    /// The rule and the figures in words.
    pub detail: String,
}

/// Every rule, in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GateReport {
    /// The rules.
    pub rules: Vec<Rule>,
}

impl GateReport {
    /// The rules that were broken.
    pub fn broken(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| !rule.passed)
    }

    /// One line on why: the broken rules, or what got better.
    pub fn reason(&self) -> String {
        let broken: Vec<&str> = self.broken().map(|rule| rule.detail.as_str()).collect();
        match broken.is_empty() {
            false => broken.join("; "),
            true => self.rules.last().map_or_else(String::new, |rule| rule.detail.clone()),
        }
    }
}

/// Right answers to the texts that people corrected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Corrections {
    /// Corrected texts.
    pub n: usize,
    /// Right by the candidate, without memory.
    pub candidate_right: usize,
    /// Right by production, without memory.
    pub production_right: usize,
}

/// What production is compared by; a first version has none.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Production's held-out exact match.
    pub exact_match: f64,
    /// Exact matches on the held-out examples.
    pub exact: Paired,
    /// Accepted calls on the out-of-scope examples ("right" means rejected).
    pub out_of_scope: Paired,
    /// Right decisions by function.
    pub functions: BTreeMap<String, Paired>,
}

/// Answers to the held-out questions on passages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answers {
    /// The candidate has an answer head and what it was trained from had none.
    pub is_new: bool,
    /// The candidate's mean F1; none without held-out questions.
    pub f1: Option<f64>,
    /// Production's mean F1; none without an answer head.
    pub production_f1: Option<f64>,
    /// Right answers beside production's.
    pub right: Paired,
}

/// What a candidate is judged by.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// Held-out examples.
    pub held_out: usize,
    /// Held-out share of right decisions.
    pub accuracy: f64,
    /// Held-out exact match.
    pub exact_match: f64,
    /// Held-out share of accepted out-of-scope texts.
    pub false_accept_rate: Option<f64>,
    /// The served precision beside f32.
    pub precision: Option<PrecisionReport>,
    /// Median time of one request, in milliseconds.
    pub latency_ms: f64,
    /// Size of the version, in megabytes.
    pub size_mb: f64,
    /// Corrected texts.
    pub corrections: Corrections,
    /// Functions and argument tags that production does not know.
    pub new_labels: usize,
    /// Answers from passages; none without an answer head.
    pub answers: Option<Answers>,
    /// The comparison with production.
    pub production: Option<Comparison>,
}

/// Evidence that a candidate may be promoted.
#[derive(Clone, Debug)]
pub struct Passed(GateReport);

impl Passed {
    /// The rules, all kept.
    pub fn report(&self) -> &GateReport {
        &self.0
    }
}

/// A candidate that broke a rule.
#[derive(Clone, Debug)]
pub struct Rejected(GateReport);

impl Rejected {
    /// The rules, one or more broken.
    pub fn report(&self) -> &GateReport {
        &self.0
    }
}

/// The rules with their settings.
#[derive(Clone, Debug)]
pub struct Gate<'a> {
    settings: &'a GateSettings,
}

impl<'a> Gate<'a> {
    /// A gate with these settings.
    pub fn new(settings: &'a GateSettings) -> Self {
        Self { settings }
    }

    /// Applies every rule.
    pub fn judge(&self, evidence: &Evidence) -> Result<Passed, Rejected> {
        let mut rules = vec![self.agrees_with_f32(evidence)];
        match &evidence.production {
            None => rules.push(self.first(evidence)),
            Some(production) => {
                rules.push(self.not_worse(evidence, production));
                rules.push(self.no_function_falls(production));
                rules.push(self.rejects_as_before(evidence, production));
            }
        }
        rules.push(self.corrections(evidence));
        rules.extend(evidence.answers.as_ref().map(|answers| self.answers(answers)));
        rules.push(self.fits(evidence));
        rules.push(better(evidence));
        let passed = rules.iter().all(|rule| rule.passed);
        let report = GateReport { rules };
        if passed { Ok(Passed(report)) } else { Err(Rejected(report)) }
    }

    fn agrees_with_f32(&self, evidence: &Evidence) -> Rule {
        let limit = self.settings.precision_agreement;
        let (agreement, passed, detail) = match &evidence.precision {
            None => (None, false, "the served precision was not compared with f32".to_string()),
            Some(measured) if measured.served == Precision::F32 => (Some(1.0), true, "served in f32".to_string()),
            Some(measured) => {
                let agreement = measured.function_agreement;
                let differ = (measured.n as f64 * (1.0 - agreement)).round();
                let detail = format!(
                    "served precision chooses the function of f32 on {:.1} % of {} texts (at least {:.1} %), the same \
                     arguments on {:.1} %, scores differ by {:.3} on average and {:.3} at most",
                    100.0 * agreement,
                    measured.n,
                    100.0 * limit,
                    100.0 * measured.argument_agreement,
                    measured.mean_logit_difference,
                    measured.max_logit_difference
                );
                // One text says nothing about a share of one in a hundred.
                (Some(agreement), agreement >= limit || differ <= 1.0, detail)
            }
        };
        Rule { name: "precision".into(), passed, candidate: agreement, production: None, limit: Some(limit), detail }
    }

    fn first(&self, evidence: &Evidence) -> Rule {
        let limit = self.settings.first_accuracy;
        Rule {
            name: "first".into(),
            passed: evidence.accuracy >= limit || evidence.held_out == 0,
            candidate: Some(evidence.accuracy),
            production: None,
            limit: Some(limit),
            detail: format!(
                "first version: right on {:.1} % of {} held-out examples (at least {:.1} %)",
                100.0 * evidence.accuracy,
                evidence.held_out,
                100.0 * limit
            ),
        }
    }

    fn not_worse(&self, evidence: &Evidence, production: &Comparison) -> Rule {
        let paired = production.exact;
        // Beyond the margin, and more than chance would break among the changed examples.
        let worse = paired.difference() < -self.settings.margin && paired.p_worse() < self.settings.significance;
        Rule {
            name: "not worse".into(),
            passed: !worse,
            candidate: Some(evidence.exact_match),
            production: Some(production.exact_match),
            limit: Some(-self.settings.margin),
            detail: format!(
                "exact match {:.1} % against {:.1} % on the same {} examples: {} fixed, {} broken (p = {:.3}; margin {:.1} points)",
                100.0 * evidence.exact_match,
                100.0 * production.exact_match,
                paired.n,
                paired.fixed,
                paired.broken,
                paired.p_worse(),
                100.0 * self.settings.margin
            ),
        }
    }

    fn no_function_falls(&self, production: &Comparison) -> Rule {
        let judged = production.functions.iter().filter(|(_, paired)| paired.n >= self.settings.function_min_examples);
        let worst = judged.min_by(|a, b| a.1.difference().total_cmp(&b.1.difference()));
        let (difference, fell, detail) = match worst {
            None => (
                None,
                false,
                format!("no function has {} held-out examples to be judged alone", self.settings.function_min_examples),
            ),
            Some((name, paired)) => {
                let difference = paired.difference();
                let fell =
                    difference < -self.settings.function_allowance && paired.p_worse() < self.settings.significance;
                let detail = format!(
                    "worst function {name}: {:+.1} points on {} examples (allowance {:.1})",
                    100.0 * difference,
                    paired.n,
                    100.0 * self.settings.function_allowance
                );
                (Some(difference), fell, detail)
            }
        };
        Rule {
            name: "no function falls".into(),
            passed: !fell,
            candidate: difference,
            production: None,
            limit: Some(-self.settings.function_allowance),
            detail,
        }
    }

    fn rejects_as_before(&self, evidence: &Evidence, production: &Comparison) -> Rule {
        let paired = production.out_of_scope;
        let worse = paired.difference() < -self.settings.out_of_scope_allowance
            && paired.p_worse() < self.settings.significance;
        let before = evidence.false_accept_rate.map(|rate| rate + paired.difference());
        let detail = match (evidence.false_accept_rate, before) {
            (Some(rate), Some(before)) => format!(
                "accepts {:.1} % of {} out-of-scope texts against {:.1} % (allowance {:.1} points)",
                100.0 * rate,
                paired.n,
                100.0 * before,
                100.0 * self.settings.out_of_scope_allowance
            ),
            _ => "no out-of-scope texts held out".into(),
        };
        Rule {
            name: "out of scope".into(),
            passed: !worse,
            candidate: evidence.false_accept_rate,
            production: before,
            limit: Some(self.settings.out_of_scope_allowance),
            detail,
        }
    }

    fn corrections(&self, evidence: &Evidence) -> Rule {
        let Corrections { n, candidate_right, production_right } = evidence.corrections;
        let share = |right: usize| if n == 0 { 1.0 } else { right as f64 / n as f64 };
        let limit = self.settings.corrections_right;
        let passed = share(candidate_right) >= limit && candidate_right >= production_right;
        let detail = match n {
            0 => "nothing was corrected".to_string(),
            _ => format!(
                "{candidate_right} of {n} corrections right without memory ({production_right} before; at least {:.0} %)",
                100.0 * limit
            ),
        };
        Rule {
            name: "corrections".into(),
            passed,
            candidate: Some(share(candidate_right)),
            production: evidence.production.as_ref().map(|_| share(production_right)),
            limit: Some(limit),
            detail,
        }
    }

    fn answers(&self, answers: &Answers) -> Rule {
        let paired = answers.right;
        let worse = paired.difference() < -self.settings.margin && paired.p_worse() < self.settings.significance;
        let detail = match (answers.f1, answers.production_f1) {
            (Some(f1), Some(before)) => format!(
                "answers F1 {:.1} against {:.1} on the same {} questions: {} fixed, {} broken (p = {:.3}; margin {:.1} points)",
                100.0 * f1,
                100.0 * before,
                paired.n,
                paired.fixed,
                paired.broken,
                paired.p_worse(),
                100.0 * self.settings.margin
            ),
            (Some(f1), None) => format!("answers F1 {:.1}; nothing to compare it with", 100.0 * f1),
            (None, _) => "no questions held out".to_string(),
        };
        Rule {
            name: "answers".into(),
            passed: !worse,
            candidate: answers.f1,
            production: answers.production_f1,
            limit: Some(-self.settings.margin),
            detail,
        }
    }

    fn fits(&self, evidence: &Evidence) -> Rule {
        let (latency, size) = (self.settings.max_latency_ms, self.settings.max_size_mb);
        Rule {
            name: "budget".into(),
            passed: evidence.latency_ms <= latency && evidence.size_mb <= size,
            candidate: Some(evidence.latency_ms),
            production: None,
            limit: Some(latency),
            detail: format!(
                "{:.1} ms a request (at most {latency:.0}), {:.0} MB (at most {size:.0})",
                evidence.latency_ms, evidence.size_mb
            ),
        }
    }
}

/// What got better; nothing is promoted on noise.
fn better(evidence: &Evidence) -> Rule {
    let mut gains = Vec::new();
    let corrections = evidence.corrections;
    let mut difference = None;
    match &evidence.production {
        None => gains.push("the first version".to_string()),
        Some(production) => {
            difference = Some(production.exact.difference());
            if evidence.new_labels > 0 {
                let plural = if evidence.new_labels == 1 { "function or argument" } else { "functions or arguments" };
                gains.push(format!("{} new {plural}", evidence.new_labels));
            }
            if let Some(answers) = &evidence.answers {
                if answers.is_new {
                    gains.push("answers from passages".to_string());
                } else if answers.right.p_better() < 0.05 {
                    gains.push(format!("answers {:+.1} points right", 100.0 * answers.right.difference()));
                }
            }
            if corrections.candidate_right > corrections.production_right {
                gains.push(format!(
                    "{} more corrections right",
                    corrections.candidate_right - corrections.production_right
                ));
            }
            if production.exact.p_better() < 0.05 {
                gains.push(format!(
                    "held-out exact match {:+.1} points (p = {:.3})",
                    100.0 * production.exact.difference(),
                    production.exact.p_better()
                ));
            }
            if production.out_of_scope.p_better() < 0.05 {
                gains.push(format!(
                    "out-of-scope texts rejected {:+.1} points",
                    100.0 * production.out_of_scope.difference()
                ));
            }
        }
    }
    let detail = match gains.is_empty() {
        true => "nothing got better beyond chance".to_string(),
        false => format!("better: {}", gains.join(", ")),
    };
    Rule {
        name: "better".into(),
        passed: !gains.is_empty(),
        candidate: difference,
        production: None,
        limit: None,
        detail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(n: usize, function_agreement: f64) -> PrecisionReport {
        PrecisionReport {
            served: Precision::Int8,
            n,
            function_agreement,
            argument_agreement: 0.98,
            max_logit_difference: 0.2,
            mean_logit_difference: 0.05,
        }
    }

    fn evidence() -> Evidence {
        Evidence {
            held_out: 200,
            accuracy: 0.95,
            exact_match: 0.90,
            false_accept_rate: Some(0.2),
            precision: Some(measured(200, 0.995)),
            latency_ms: 2.0,
            size_mb: 32.0,
            corrections: Corrections { n: 3, candidate_right: 3, production_right: 0 },
            new_labels: 0,
            answers: None,
            production: Some(Comparison {
                exact_match: 0.90,
                exact: Paired { n: 200, fixed: 2, broken: 2 },
                out_of_scope: Paired { n: 20, fixed: 0, broken: 0 },
                functions: BTreeMap::from([("a".into(), Paired { n: 20, fixed: 0, broken: 1 })]),
            }),
        }
    }

    fn broken(evidence: &Evidence) -> Vec<String> {
        match Gate::new(&GateSettings::default()).judge(evidence) {
            Ok(_) => Vec::new(),
            Err(rejected) => rejected.report().broken().map(|rule| rule.name.clone()).collect(),
        }
    }

    #[test]
    fn an_equal_candidate_that_fixes_corrections_passes() {
        assert!(broken(&evidence()).is_empty());
    }

    #[test]
    fn every_rule_refuses_alone() {
        let with = |change: &dyn Fn(&mut Evidence)| {
            let mut evidence = evidence();
            change(&mut evidence);
            broken(&evidence)
        };
        let comparison = |evidence: &mut Evidence, change: &dyn Fn(&mut Comparison)| {
            if let Some(production) = &mut evidence.production {
                change(production);
            }
        };
        assert_eq!(with(&|e| e.precision = Some(measured(200, 0.98))), ["precision"]);
        assert_eq!(with(&|e| e.precision = None), ["precision"]);
        assert_eq!(with(&|e| comparison(e, &|p| p.exact = Paired { n: 200, fixed: 2, broken: 9 })), ["not worse"]);
        assert_eq!(
            with(&|e| comparison(e, &|p| {
                p.functions.insert("b".into(), Paired { n: 10, fixed: 0, broken: 4 });
            })),
            ["no function falls"]
        );
        assert_eq!(
            with(&|e| comparison(e, &|p| p.out_of_scope = Paired { n: 20, fixed: 0, broken: 4 })),
            ["out of scope"]
        );
        assert_eq!(with(&|e| e.corrections.candidate_right = 2), ["corrections"]);
        let answers = |fixed, broken| Answers {
            is_new: false,
            f1: Some(0.5),
            production_f1: Some(0.6),
            right: Paired { n: 100, fixed, broken },
        };
        assert_eq!(with(&|e| e.answers = Some(answers(1, 12))), ["answers"]);
        assert!(with(&|e| e.answers = Some(answers(3, 4))).is_empty());
        // New answers, or clearly better ones, are a gain of their own.
        let gain = |answers: Answers| {
            with(&|e| {
                e.corrections = Corrections::default();
                e.answers = Some(answers);
            })
        };
        assert!(gain(answers(12, 1)).is_empty());
        assert!(gain(Answers { is_new: true, ..answers(0, 0) }).is_empty());
        assert_eq!(gain(answers(1, 0)), ["better"]);
        assert_eq!(with(&|e| e.size_mb = 1e6), ["budget"]);
        assert_eq!(with(&|e| e.corrections = Corrections::default()), ["better"]);
    }

    #[test]
    fn noise_on_a_small_set_is_neither_a_loss_nor_a_gain() {
        let mut small = evidence();
        if let Some(production) = &mut small.production {
            production.exact = Paired { n: 40, fixed: 0, broken: 1 };
        }
        assert!(broken(&small).is_empty());
        small.corrections = Corrections::default();
        if let Some(production) = &mut small.production {
            production.exact = Paired { n: 40, fixed: 3, broken: 1 };
        }
        assert_eq!(broken(&small), ["better"]);
    }

    #[test]
    fn f32_agrees_with_itself_and_one_text_in_a_few_is_no_evidence() {
        let mut served = evidence();
        served.precision = Some(measured(20, 0.95));
        assert!(broken(&served).is_empty(), "one of twenty");
        served.precision = Some(measured(20, 0.90));
        assert_eq!(broken(&served), ["precision"]);
        served.precision = Some(PrecisionReport { served: Precision::F32, ..measured(20, 0.90) });
        assert!(broken(&served).is_empty());
    }

    #[test]
    fn a_first_version_needs_a_minimum() {
        let mut first = evidence();
        first.production = None;
        first.corrections = Corrections::default();
        assert!(broken(&first).is_empty());
        first.accuracy = 0.3;
        assert_eq!(broken(&first), ["first"]);
    }
}
