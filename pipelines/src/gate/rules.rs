//! The rules, one function each.

use mynah_runtime::Precision;

use super::evidence::{Answers, Best, Comparison, Corrections, Evidence};
use super::{Gate, Rule};
use crate::paired::{Paired, at_least, shared_level};

/// New examples for each that was known from which on all of `new_function_allowance` may be lost. Ten sessions of 15 new
/// functions, learned from 8 examples each, lose 1.3 to 2 points where an eighth to a quarter is new.
const ALL_OF_IT_FROM: f64 = 1.0 / 3.0;
/// Texts that a broken rule names; the report has all of them.
const NAMED: usize = 3;

impl Gate<'_> {
    pub(super) fn agrees_with_f32(&self, evidence: &Evidence) -> Rule {
        let limit = self.settings.precision_agreement;
        let (agreement, passed, detail) = match &evidence.precision {
            None => (None, false, "the served precision was not compared with f32".to_string()),
            Some(measured) if measured.served == Precision::F32 => (Some(1.0), true, "served in f32".to_string()),
            Some(measured) => {
                let agreement = measured.function_agreement;
                let differ = (measured.n as f64 * (1.0 - agreement)).round() as usize;
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
                // A model that is unsure of many texts is near the limit, and falls on either side by chance.
                let by_chance = || at_least(differ, measured.n, 1.0 - limit) > self.settings.part_significance;
                (Some(agreement), agreement >= limit || by_chance(), detail)
            }
        };
        Rule { name: "precision".into(), passed, candidate: agreement, production: None, limit: Some(limit), detail }
    }

    pub(super) fn first(&self, evidence: &Evidence) -> Rule {
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

    /// Not worse: no loss is shown, and one of the margin is ruled out, or there is next to no loss.
    ///
    /// The first holds in large sets, where even a small loss is beyond doubt; the second in those that are large enough to
    /// rule the margin out; the third in those below `few_examples`, where hardly anything can be ruled out and the net loss
    /// of a single example is all that is let pass.
    fn holds(&self, paired: Paired) -> Verdict {
        let level = self.settings.significance;
        let (worse, loss) = (paired.p_worse(), paired.p_loss(self.settings.margin));
        let few = paired.n < self.settings.few_examples && paired.net_loss() <= 1;
        let kept = paired.n == 0 || (worse > level && (loss <= level || few));
        let margin = 100.0 * self.settings.margin;
        let why = match (worse > level, loss <= level, few) {
            (false, ..) => format!("worse beyond chance, p = {worse:.3}"),
            (true, true, _) => format!("a loss of {margin:.1} points is ruled out, p = {loss:.3}"),
            (true, false, true) if paired.broken <= paired.fixed => "no net loss".to_string(),
            (true, false, true) => "one more broken than fixed is let pass".to_string(),
            (true, false, false) => {
                format!(
                    "{} more broken than fixed, and a loss of {margin:.1} points is not ruled out, p = {loss:.3}",
                    paired.net_loss()
                )
            }
        };
        Verdict { kept, why }
    }

    pub(super) fn not_worse(&self, evidence: &Evidence, production: &Comparison) -> Rule {
        let paired = production.known;
        let Verdict { mut kept, mut why } = self.holds(paired);
        // More functions are harder to tell apart: whoever learned them with the others would lose a little, too.
        let allowance = self.allowance_for_new(production);
        if !kept && allowance > 0.0 {
            kept = paired.difference() >= -allowance;
            why = format!(
                "{:+.1} points on what was known, {:.1} may be lost to what is new",
                100.0 * paired.difference(),
                100.0 * allowance
            );
        }
        let new = match production.new.n {
            0 => String::new(),
            n => format!(", beside {} of {n} with new functions or arguments right", production.new.fixed),
        };
        Rule {
            name: "not worse".into(),
            passed: kept,
            candidate: Some(evidence.exact_match),
            production: Some(production.exact_match),
            limit: Some(-self.settings.margin),
            detail: match paired.n {
                0 => "nothing held out to compare".to_string(),
                n => format!(
                    "exact match {:.1} % against {:.1} %: of {n} examples {} fixed, {} broken ({why}){new}",
                    100.0 * evidence.exact_match,
                    100.0 * production.exact_match,
                    paired.fixed,
                    paired.broken,
                ),
            },
        }
    }

    /// What may be lost on what was known to what is new, in [0, 1]: in proportion to how much is new beside it, and only when all
    /// together is better beyond chance.
    fn allowance_for_new(&self, production: &Comparison) -> f64 {
        let pays = production.new.n > 0 && production.exact.p_better() <= self.settings.better_significance;
        let share = production.new.n as f64 / production.known.n.max(1) as f64;
        if pays { self.settings.new_function_allowance * (share / ALL_OF_IT_FROM).min(1.0) } else { 0.0 }
    }

    /// Not far below the best version so far: what each promotion loses to the one before adds up.
    pub(super) fn no_drift(&self, best: &Best, production: &Comparison) -> Rule {
        let paired = best.exact;
        let allowance = self.settings.drift_allowance.max(self.allowance_for_new(production));
        // One example is no drift, however few there are.
        let most = (allowance * paired.n as f64).max(1.0) as usize;
        let candidate = best.exact_match + paired.difference();
        Rule {
            name: "drift".into(),
            passed: paired.net_loss() <= most,
            candidate: (paired.n > 0).then_some(candidate),
            production: (paired.n > 0).then_some(best.exact_match),
            limit: Some(-allowance),
            detail: match paired.n {
                0 => format!("nothing held out to compare with {}, the best version so far", best.version),
                n => format!(
                    "exact match {:.1} % against {:.1} % of {}, the best version so far: of {n} examples {} fixed, {} broken \
                     ({most} more may be)",
                    100.0 * candidate,
                    100.0 * best.exact_match,
                    best.version,
                    paired.fixed,
                    paired.broken,
                ),
            },
        }
    }

    pub(super) fn no_function_falls(&self, production: &Comparison) -> Rule {
        let judged: Vec<(&String, &Paired)> =
            production.functions.iter().filter(|(_, paired)| paired.n >= self.settings.function_min_examples).collect();
        let level = shared_level(self.settings.part_significance, judged.iter().map(|(_, paired)| *paired));
        let fell =
            |paired: &Paired| paired.difference() < -self.settings.function_allowance && paired.p_worse() <= level;
        let worst = judged.iter().min_by(|a, b| {
            // One that fell beyond chance before one that seems to have fallen further.
            fell(b.1).cmp(&fell(a.1)).then(a.1.difference().total_cmp(&b.1.difference()))
        });
        let (difference, passed, detail) = match worst {
            None => (
                None,
                true,
                format!("no function has {} held-out examples to be judged alone", self.settings.function_min_examples),
            ),
            Some((name, paired)) => {
                let detail = format!(
                    "worst function {name}: {:+.1} points on {} examples (allowance {:.1}; p = {:.3} against {level:.3})",
                    100.0 * paired.difference(),
                    paired.n,
                    100.0 * self.settings.function_allowance,
                    paired.p_worse(),
                );
                (Some(paired.difference()), !fell(paired), detail)
            }
        };
        Rule {
            name: "no function falls".into(),
            passed,
            candidate: difference,
            production: None,
            limit: Some(-self.settings.function_allowance),
            detail,
        }
    }

    pub(super) fn rejects_as_before(&self, evidence: &Evidence, production: &Comparison) -> Rule {
        let paired = production.out_of_scope;
        let worse = paired.difference() < -self.settings.out_of_scope_allowance
            && paired.p_worse() <= self.settings.part_significance;
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

    pub(super) fn corrections(&self, evidence: &Evidence) -> Rule {
        let Corrections { n, candidate_right, production_right, lost, .. } = &evidence.corrections;
        let share = |right: usize| if *n == 0 { 1.0 } else { right as f64 / *n as f64 };
        let limit = self.settings.corrections_right;
        let may_be_lost = (*n as f64 * self.settings.corrections_lost) as usize;
        let mut detail = match n {
            0 => "nothing was corrected".to_string(),
            _ => format!(
                "{candidate_right} of {n} corrections right without memory ({production_right} before; at least {:.0} %)",
                100.0 * limit
            ),
        };
        if !lost.is_empty() {
            detail.push_str(&format!(
                "; right before and wrong now ({may_be_lost} at most): {}",
                named(lost.iter().map(|text| format!("{text:?}")))
            ));
        }
        Rule {
            name: "corrections".into(),
            passed: share(*candidate_right) >= limit && lost.len() <= may_be_lost,
            candidate: Some(share(*candidate_right)),
            production: evidence.production.as_ref().map(|_| share(*production_right)),
            limit: Some(limit),
            detail,
        }
    }

    pub(super) fn expectations(&self, evidence: &Evidence) -> Option<Rule> {
        let expectations = &evidence.expectations;
        let right = expectations.n - expectations.missed.len().min(expectations.n);
        let detail = match expectations.missed.is_empty() {
            true => format!("all {} pinned sentences right", expectations.n),
            false => {
                format!(
                    "{right} of {} pinned sentences right; missed: {}",
                    expectations.n,
                    named(expectations.missed.iter().cloned())
                )
            }
        };
        (expectations.n > 0).then(|| Rule {
            name: "expectations".into(),
            passed: expectations.missed.is_empty(),
            candidate: Some(right as f64 / expectations.n as f64),
            production: None,
            limit: Some(1.0),
            detail,
        })
    }

    pub(super) fn answers(&self, answers: &Answers) -> Rule {
        let paired = answers.right;
        let Verdict { kept, why } = self.holds(paired);
        let detail = match (answers.f1, answers.production_f1) {
            (Some(f1), Some(before)) => format!(
                "answers F1 {:.1} against {:.1}: of {} questions {} fixed, {} broken ({why})",
                100.0 * f1,
                100.0 * before,
                paired.n,
                paired.fixed,
                paired.broken,
            ),
            (Some(f1), None) => format!("answers F1 {:.1}; nothing to compare it with", 100.0 * f1),
            (None, _) => "no questions held out".to_string(),
        };
        Rule {
            name: "answers".into(),
            passed: kept,
            candidate: answers.f1,
            production: answers.production_f1,
            limit: Some(-self.settings.margin),
            detail,
        }
    }

    pub(super) fn fits(&self, evidence: &Evidence) -> Rule {
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

    pub(super) fn better(&self, evidence: &Evidence) -> Rule {
        let gains: Vec<String> = self.gains(evidence).iter().map(ToString::to_string).collect();
        Rule {
            name: "better".into(),
            passed: !gains.is_empty(),
            candidate: evidence.production.as_ref().map(|production| production.exact.difference()),
            production: None,
            limit: None,
            detail: match gains.is_empty() {
                true => "nothing got better beyond chance".to_string(),
                false => format!("better: {}", gains.join(", ")),
            },
        }
    }
}

struct Verdict {
    kept: bool,
    why: String,
}

/// The first few of them, and how many more there are.
fn named(all: impl ExactSizeIterator<Item = String>) -> String {
    let more = all.len().saturating_sub(NAMED);
    let mut names: Vec<String> = all.take(NAMED).collect();
    if more > 0 {
        names.push(format!("and {more} more"));
    }
    names.join(", ")
}
