//! What corrections are worth beyond their own words: other wordings of the same request, before and after learning, and
//! what is lost elsewhere. Weights alone: the memory would have the corrected words themselves at once.

use mynah_data::{Durability, Example, Home, Log, LogOptions};
use mynah_registry::Registry;
use mynah_runtime::{Checkpoint, Model, Precision};
use serde::Serialize;
use std::collections::HashSet;

use crate::backtest::converse;
use crate::error::Error;
use crate::evaluate::evaluate_each;
use crate::learn::{LearnRequest, LearnScope, Promotion, Verdict, learn};
use crate::progress::{NoProgress, Progress};
use crate::settings::{GateSettings, TrainingSettings};

/// Other wordings of a correction that are asked, at most.
const WORDINGS: usize = 3;
/// The cosine of two embeddings from which on two texts of one function count as wordings of one request.
const SIMILAR: f32 = 0.6;

/// Corrections for a home that has a version in production.
#[derive(Clone, Debug)]
pub struct Wordings {
    /// Labelled texts that production has not seen: those that it has wrong are corrected, the others are asked.
    pub pool: Vec<Example>,
    /// How many are corrected.
    pub corrections: usize,
    /// What is asked to see what is lost elsewhere; none of it is learned.
    pub test: Vec<Example>,
    /// The `[training]` table.
    pub training: TrainingSettings,
    /// The `[gate]` table.
    pub gate: GateSettings,
    /// The precision that serves.
    pub precision: Precision,
}

/// Right answers of some texts, before and after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BeforeAfter {
    /// How many texts.
    pub n: usize,
    /// Of those with the right function before.
    pub before: usize,
    /// And of the candidate.
    pub after: usize,
}

impl BeforeAfter {
    /// What changed, as a share of all: positive is better.
    pub fn difference(&self) -> f64 {
        (self.after as f64 - self.before as f64) / self.n.max(1) as f64
    }

    /// Both taken together.
    pub fn and(self, other: Self) -> Self {
        Self { n: self.n + other.n, before: self.before + other.before, after: self.after + other.after }
    }
}

/// What one session of corrections came to.
#[derive(Clone, Debug, Serialize)]
pub struct WordingsReport {
    /// The corrected words themselves.
    pub corrected: BeforeAfter,
    /// Other wordings of them, none of which was ever said: right functions.
    pub wordings: BeforeAfter,
    /// Of those, the ones that production had wrong.
    pub wrong_wordings: BeforeAfter,
    /// The right functions of everything else.
    pub elsewhere: BeforeAfter,
    /// The gate's verdict on the candidate.
    pub verdict: Verdict,
    /// The rules it failed, in words; empty when it was promoted.
    pub reason: String,
    /// Seconds from the log to the verdict.
    pub seconds: f64,
}

impl Wordings {
    /// Corrects what production has wrong in one session, in the order of the pool, lets `home` learn it and asks again.
    /// None when production has nothing wrong.
    ///
    /// # Errors
    /// As for [`learn`]; a home without a version in production is refused as one without a base.
    pub fn run(&self, home: &Home, progress: &dyn Progress) -> Result<Option<WordingsReport>, Error> {
        let registry = Registry::open(&home.registry_dir())?;
        let loaded = registry.load_production()?.ok_or(Error::NoBase)?;
        let production = Model::load(&Checkpoint::from_verified(&loaded.checkpoint)?, self.precision)?;
        let right = right_functions(&production, &self.pool)?;
        let wrong = (0..self.pool.len()).filter(|text| !right[*text]);
        let corrected: Vec<usize> = wrong.take(self.corrections).collect();
        if corrected.is_empty() {
            return Ok(None);
        }
        let others = self.others(&production, &corrected, progress)?;
        let said = self.examples(&corrected);
        let log = Log::open_with(home, LogOptions::default().durability(Durability::Process));
        converse(&log, Some(&production), &said)?;
        let request = LearnRequest {
            trigger: "benchmark".into(),
            actor: "benchmark".into(),
            training: self.training.clone(),
            gate: self.gate.clone(),
            precision: self.precision,
            scope: LearnScope::New,
            promotion: Promotion::AtOnce,
            force: true,
            fault: mynah_data::fault::none(),
        };
        let outcome = learn(home, &registry, &request, progress)?;
        let version = registry.version(&outcome.version)?;
        let candidate = Checkpoint::from_verified(&registry.verify(&version)?)?;
        let candidate = Model::load(&candidate, self.precision)?;
        let compare = |examples: &[Example]| -> Result<BeforeAfter, Error> {
            let count =
                |model: &Model| Ok::<_, Error>(right_functions(model, examples)?.iter().filter(|it| **it).count());
            Ok(BeforeAfter { n: examples.len(), before: count(&production)?, after: count(&candidate)? })
        };
        let wrong_others: Vec<usize> = others.iter().copied().filter(|text| !right[*text]).collect();
        Ok(Some(WordingsReport {
            corrected: compare(&said)?,
            wordings: compare(&self.examples(&others))?,
            wrong_wordings: compare(&self.examples(&wrong_others))?,
            elsewhere: compare(&self.test)?,
            reason: if outcome.verdict == Verdict::Refused { outcome.gate.reason() } else { String::new() },
            verdict: outcome.verdict,
            seconds: outcome.seconds,
        }))
    }

    fn examples(&self, numbers: &[usize]) -> Vec<Example> {
        numbers.iter().map(|number| self.pool[*number].clone()).collect()
    }

    /// The nearest texts of the same function for each of `corrected`, in the order of the pool.
    fn others(&self, model: &Model, corrected: &[usize], progress: &dyn Progress) -> Result<Vec<usize>, Error> {
        let mut embeddings = Vec::with_capacity(self.pool.len());
        for chunk in self.pool.chunks(64) {
            if progress.is_cancelled() {
                return Err(Error::Cancelled);
            }
            embeddings.extend(model.embed(&chunk.iter().map(|example| example.text.as_str()).collect::<Vec<_>>()));
        }
        let dot = |a: usize, b: usize| embeddings[a].iter().zip(&embeddings[b]).map(|(a, b)| a * b).sum::<f32>();
        let is_corrected: HashSet<usize> = corrected.iter().copied().collect();
        let mut chosen = HashSet::new();
        for &correction in corrected {
            let same = |other: &usize| self.pool[*other].function == self.pool[correction].function;
            let mut near: Vec<(f32, usize)> = (0..self.pool.len())
                .filter(|other| !is_corrected.contains(other) && same(other))
                .map(|other| (dot(correction, other), other))
                .filter(|(similarity, _)| *similarity >= SIMILAR)
                .collect();
            near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            chosen.extend(near.into_iter().take(WORDINGS).map(|(_, other)| other));
        }
        let mut chosen: Vec<usize> = chosen.into_iter().collect();
        chosen.sort_unstable();
        Ok(chosen)
    }
}

fn right_functions(model: &Model, examples: &[Example]) -> Result<Vec<bool>, Error> {
    let (_, outcomes) = evaluate_each(model, "", examples, &NoProgress)?;
    Ok(outcomes.iter().map(|answered| answered.outcome.function_right).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_differences() {
        let one = BeforeAfter { n: 4, before: 1, after: 3 };
        let both = one.and(BeforeAfter { n: 4, before: 3, after: 2 });
        assert_eq!(both, BeforeAfter { n: 8, before: 4, after: 5 });
        assert!((one.difference() - 0.5).abs() < 1e-12 && (both.difference() - 0.125).abs() < 1e-12);
        assert_eq!(BeforeAfter::default().difference(), 0.0);
    }
}
