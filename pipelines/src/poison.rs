//! What bad labels do: sessions some of whose labels are flipped, learned with and without holding doubtful ones back.

#[cfg(test)]
mod tests;

use mynah_data::{Durability, Example, Home, Log, LogOptions};
use mynah_registry::Registry;
use mynah_runtime::{Checkpoint, Model, Precision};
use serde::Serialize;
use std::collections::{BTreeSet, HashSet};

use crate::backtest::converse;
use crate::batch::shuffle;
use crate::dropout::split_mix;
use crate::error::Error;
use crate::evaluate::evaluate_each;
use crate::learn::{LearnOutcome, LearnRequest, LearnScope, Promotion, Verdict, learn};
use crate::progress::{NoProgress, Progress};
use crate::report::FunctionScores;
use crate::settings::{GateSettings, TrainingSettings};

/// Which labels are flipped, and whether anybody looks at them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PoisonArm {
    /// None; doubtful ones are held back, and none should be.
    Clean,
    /// None either, trained with another seed: what chance alone moves.
    CleanAgain,
    /// A share of all; nothing is held back, no session's weight is capped.
    Unguarded,
    /// The same share of all; doubtful ones are held back.
    Guarded,
    /// Three of five in one session, none elsewhere; nothing is held back, no session's weight is capped.
    SessionUnguarded,
    /// The same session; doubtful labels are held back.
    SessionGuarded,
    /// Three of five in every session; nothing is held back, so that the gate alone stands between them and production.
    MajorityUnguarded,
    /// The same, and those of one function always get the same other one, which can be learned.
    MajorityConsistent,
}

impl PoisonArm {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 8] = [
        Self::Clean,
        Self::CleanAgain,
        Self::Unguarded,
        Self::Guarded,
        Self::SessionUnguarded,
        Self::SessionGuarded,
        Self::MajorityUnguarded,
        Self::MajorityConsistent,
    ];

    fn is_guarded(self) -> bool {
        matches!(self, Self::Clean | Self::CleanAgain | Self::Guarded | Self::SessionGuarded)
    }
}

/// Of every five labels of a session that flips most of them.
const FLIPPED_OF_FIVE: usize = 3;

/// New labels for a home that has a version in production, and what it is asked after learning them.
#[derive(Clone, Debug)]
pub struct Poisoning {
    /// Labels that production has not seen, rightly labelled.
    pub labels: Vec<Example>,
    /// How many of them a session has.
    pub per_session: usize,
    /// The share that is flipped, in [0, 1].
    pub flipped: f64,
    /// What is asked; none of it is learned.
    pub test: Vec<Example>,
    /// The `[training]` table.
    pub training: TrainingSettings,
    /// The `[gate]` table.
    pub gate: GateSettings,
    /// The precision that serves.
    pub precision: Precision,
    /// Which labels are flipped, and to what.
    pub seed: u64,
}

/// What one arm came to. Ratios are in [0, 1].
#[derive(Clone, Debug, Serialize)]
pub struct PoisonReport {
    /// Which.
    pub arm: PoisonArm,
    /// Labels given.
    pub labels: usize,
    /// Of those, flipped ones.
    pub flipped: usize,
    /// Labels held back.
    pub held_back: usize,
    /// Of those, flipped ones.
    pub held_back_flipped: usize,
    /// The share of the right labels that was held back.
    pub false_alarms: f64,
    /// The gate's verdict on the candidate.
    pub verdict: Verdict,
    /// The rules it failed, in words; empty when it was promoted.
    pub reason: String,
    /// Share of the test texts whose function production had right before.
    pub before: f64,
    /// The same of the candidate.
    pub candidate: f64,
    /// The same of what is in production after the verdict.
    pub after: f64,
    /// `before`, of the texts that a function answers; none without such texts.
    pub before_in_scope: Option<f64>,
    /// `candidate`, of those.
    pub candidate_in_scope: Option<f64>,
    /// Seconds from the log to the verdict.
    pub seconds: f64,
}

impl Poisoning {
    /// Gives `home` the labels of `arm` and lets it learn.
    ///
    /// # Errors
    /// As for [`learn`]; a home without a version in production has nothing to lose and is refused as one without a base.
    pub fn run(&self, arm: PoisonArm, home: &Home, progress: &dyn Progress) -> Result<PoisonReport, Error> {
        let registry = Registry::open(&home.registry_dir())?;
        let production = production(&registry, self.precision)?.ok_or(Error::NoBase)?;
        let before = self.scores(&production)?;
        let (labels, flipped) = self.labels_of(arm);
        let log = Log::open_with(home, LogOptions::default().durability(Durability::Process));
        for session in labels.chunks(self.per_session.max(1)) {
            converse(&log, Some(&production), session)?;
        }
        let outcome = self.learn(arm, home, &registry, progress)?;
        let candidate = registry.version(&outcome.version)?;
        let candidate = Checkpoint::from_verified(&registry.verify(&candidate)?)?;
        let candidate = self.scores(&Model::load(&candidate, self.precision)?)?;
        let held: Vec<bool> = outcome
            .held_back
            .iter()
            .map(|label| flipped.contains(&(label.text.clone(), label.function.clone())))
            .collect();
        let held_back_flipped = held.iter().filter(|flipped| **flipped).count();
        let right = labels.len() - flipped.len();
        Ok(PoisonReport {
            arm,
            labels: labels.len(),
            flipped: flipped.len(),
            held_back: held.len(),
            held_back_flipped,
            false_alarms: (held.len() - held_back_flipped) as f64 / right.max(1) as f64,
            reason: if outcome.verdict == Verdict::Refused { outcome.gate.reason() } else { String::new() },
            before: before.accuracy,
            candidate: candidate.accuracy,
            after: if outcome.verdict == Verdict::Promoted { candidate.accuracy } else { before.accuracy },
            before_in_scope: before.in_scope_accuracy,
            candidate_in_scope: candidate.in_scope_accuracy,
            verdict: outcome.verdict,
            seconds: outcome.seconds,
        })
    }

    /// The labels as the arm has them, and text and function of the flipped ones.
    fn labels_of(&self, arm: PoisonArm) -> (Vec<Example>, HashSet<(String, String)>) {
        let functions: Vec<&String> =
            self.labels.iter().map(|example| &example.function).collect::<BTreeSet<_>>().into_iter().collect();
        let count = self.labels.len();
        let mut chosen: Vec<usize> = (0..count).collect();
        shuffle(&mut chosen, &mut self.seed.clone());
        match arm {
            PoisonArm::Clean | PoisonArm::CleanAgain => chosen.clear(),
            PoisonArm::Unguarded | PoisonArm::Guarded => {
                chosen.truncate((self.flipped * count as f64).round() as usize);
            }
            PoisonArm::SessionUnguarded | PoisonArm::SessionGuarded => {
                chosen = (0..self.per_session.min(count)).filter(|number| number % 5 < FLIPPED_OF_FIVE).collect();
            }
            PoisonArm::MajorityUnguarded | PoisonArm::MajorityConsistent => {
                chosen = (0..count).filter(|number| number % 5 < FLIPPED_OF_FIVE).collect()
            }
        }
        let mut labels = self.labels.clone();
        let mut flipped = HashSet::new();
        for number in chosen.into_iter().filter(|_| functions.len() > 1) {
            let label = &mut labels[number];
            let others: Vec<&&String> = functions.iter().filter(|function| ***function != label.function).collect();
            let drawn = match arm {
                // The one that follows by name, of the last the first.
                PoisonArm::MajorityConsistent => functions.partition_point(|function| **function < label.function),
                _ => split_mix(self.seed ^ split_mix(number as u64)) as usize,
            };
            label.function = others[drawn % others.len()].to_string();
            label.slots.clear();
            flipped.insert((label.text.clone(), label.function.clone()));
        }
        (labels, flipped)
    }

    fn learn(
        &self,
        arm: PoisonArm,
        home: &Home,
        registry: &Registry,
        progress: &dyn Progress,
    ) -> Result<LearnOutcome, Error> {
        let unguarded = TrainingSettings { hold_back: false, session_share: 0.999, ..self.training.clone() };
        let again = TrainingSettings { seed: self.training.seed.wrapping_add(1), ..self.training.clone() };
        let request = LearnRequest {
            trigger: "benchmark".into(),
            actor: "benchmark".into(),
            training: match arm {
                PoisonArm::CleanAgain => again,
                _ if arm.is_guarded() => self.training.clone(),
                _ => unguarded,
            },
            gate: self.gate.clone(),
            precision: self.precision,
            scope: LearnScope::New,
            force: true,
            promotion: Promotion::AtOnce,
            fault: mynah_data::fault::none(),
        };
        learn(home, registry, &request, progress)
    }

    fn scores(&self, model: &Model) -> Result<FunctionScores, Error> {
        let (report, _) = evaluate_each(model, "", &self.test, &NoProgress)?;
        Ok(report.function)
    }
}

fn production(registry: &Registry, precision: Precision) -> Result<Option<Model>, Error> {
    let Some(loaded) = registry.load_production()? else { return Ok(None) };
    Ok(Some(Model::load(&Checkpoint::from_verified(&loaded.checkpoint)?, precision)?))
}
