//! Reasons to promote a candidate: something that nobody had before, or a held-out score that is better beyond chance.

use std::fmt;

use super::Gate;
use super::evidence::{Comparison, Evidence};
use crate::paired::Paired;

/// One reason to promote a candidate.
#[derive(Clone, Debug, PartialEq)]
pub enum Gain {
    /// There is nothing in production yet.
    First,
    /// Functions and arguments that production does not know.
    NewLabels(usize),
    /// An answer head where there was none.
    NewAnswers,
    /// Corrections that production has not learned from and gets wrong.
    Corrections(usize),
    /// A better held-out exact match, with its p value.
    HeldOut(Paired, f64),
    /// More questions answered right, with the p value.
    Answers(Paired, f64),
}

impl Gain {
    /// Whether it is a held-out score, which chance could have made; the others are there or not.
    pub fn is_tested(&self) -> bool {
        matches!(self, Self::HeldOut(..) | Self::Answers(..))
    }
}

impl fmt::Display for Gain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let points = |paired: &Paired| 100.0 * paired.difference();
        match self {
            Self::First => write!(formatter, "the first version"),
            Self::NewLabels(1) => write!(formatter, "1 new function or argument"),
            Self::NewLabels(n) => write!(formatter, "{n} new functions or arguments"),
            Self::NewAnswers => write!(formatter, "answers from passages"),
            Self::Corrections(1) => write!(formatter, "1 new correction learned"),
            Self::Corrections(n) => write!(formatter, "{n} new corrections learned"),
            Self::HeldOut(paired, p) => {
                write!(formatter, "held-out exact match {:+.1} points (p = {p:.3})", points(paired))
            }
            Self::Answers(paired, p) => write!(formatter, "answers {:+.1} points right (p = {p:.3})", points(paired)),
        }
    }
}

impl Gate<'_> {
    /// What got better.
    ///
    /// Chance alone must not promote: of candidates that are as good as production, `better_significance` at most have a
    /// tested gain, however many scores are compared (each gets its part of that level; the out-of-scope texts are among the
    /// examples of the exact match). What production has learned from
    /// already counts for nothing but through the held-out scores: a correction that comes right again is noise.
    pub fn gains(&self, evidence: &Evidence) -> Vec<Gain> {
        let Some(production) = &evidence.production else { return vec![Gain::First] };
        let mut gains = Vec::new();
        // New functions that have held-out examples must get one of them right to count.
        if evidence.new_labels > 0 && (production.new.n == 0 || production.new.fixed > 0) {
            gains.push(Gain::NewLabels(evidence.new_labels));
        }
        if evidence.answers.is_some_and(|answers| answers.is_new) {
            gains.push(Gain::NewAnswers);
        }
        if evidence.corrections.newly_right > 0 {
            gains.push(Gain::Corrections(evidence.corrections.newly_right));
        }
        gains.extend(self.tested_gains(evidence, production));
        gains
    }

    fn tested_gains(&self, evidence: &Evidence, production: &Comparison) -> Vec<Gain> {
        type Named = fn(Paired, f64) -> Gain;
        let answers = evidence.answers.filter(|answers| !answers.is_new).map(|answers| answers.right);
        let compared: [(Option<Paired>, Named); 2] =
            [(Some(production.exact), Gain::HeldOut), (answers, Gain::Answers)];
        let compared: Vec<(Paired, Named)> =
            compared.into_iter().filter_map(|(paired, gain)| Some((paired.filter(|it| it.n > 0)?, gain))).collect();
        let level = self.settings.better_significance / compared.len().max(1) as f64;
        let tested = compared.into_iter().map(|(paired, gain)| (paired, paired.p_better(), gain));
        tested.filter(|(_, p, _)| *p <= level).map(|(paired, p, gain)| gain(paired, p)).collect()
    }
}
