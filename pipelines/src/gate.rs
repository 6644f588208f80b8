//! The gate between a candidate and production.
//!
//! Pure: evidence in, verdict out. A refusal is a result, not an error. *Invariant:* [`Passed`] is made
//! here alone, and promotion asks for it. How often the rules err is measured by [`crate::simulate_gate`].

mod evidence;
mod gains;
mod rules;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::settings::GateSettings;

pub use evidence::{Answers, Best, Comparison, Corrections, Evidence, Expectations};
pub use gains::Gain;

/// One rule with the figures it was judged by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Short name.
    pub name: String,
    /// Whether the candidate keeps it.
    pub passed: bool,
    /// The candidate's figure.
    pub candidate: Option<f64>,
    /// Production's figure; in the rule `drift` that of the best version so far.
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
                rules.extend(evidence.best.as_ref().map(|best| self.no_drift(best, production)));
                rules.push(self.no_function_falls(production));
                rules.push(self.rejects_as_before(evidence, production));
            }
        }
        rules.push(self.corrections(evidence));
        rules.extend(self.expectations(evidence));
        rules.extend(evidence.answers.as_ref().map(|answers| self.answers(answers)));
        rules.push(self.fits(evidence));
        rules.push(self.better(evidence));
        let passed = rules.iter().all(|rule| rule.passed);
        let report = GateReport { rules };
        if passed { Ok(Passed(report)) } else { Err(Rejected(report)) }
    }
}
