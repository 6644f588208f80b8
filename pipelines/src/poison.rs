//! What bad labels do: sessions some of whose labels are flipped, learned with and without holding doubtful ones back.

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
use crate::settings::{GateSettings, TrainingSettings};

/// Which labels are flipped, and whether anybody looks at them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PoisonArm {
    /// None; doubtful ones are held back, and none should be.
    Clean,
    /// A share of all; nothing is held back, no session's weight is capped.
    Unguarded,
    /// The same share of all; doubtful ones are held back.
    Guarded,
    /// Three of five in one session, none elsewhere; nothing is held back, no session's weight is capped.
    SessionUnguarded,
    /// The same session; doubtful labels are held back.
    SessionGuarded,
}

impl PoisonArm {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 5] =
        [Self::Clean, Self::Unguarded, Self::Guarded, Self::SessionUnguarded, Self::SessionGuarded];

    fn is_guarded(self) -> bool {
        !matches!(self, Self::Unguarded | Self::SessionUnguarded)
    }
}

/// Of every five labels of the session that flips most of them.
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
        let before = self.accuracy(&production)?;
        let (labels, flipped) = self.labels_of(arm);
        let log = Log::open_with(home, LogOptions::default().durability(Durability::Process));
        for session in labels.chunks(self.per_session.max(1)) {
            converse(&log, Some(&production), session)?;
        }
        let outcome = self.learn(arm, home, &registry, progress)?;
        let candidate = registry.version(&outcome.version)?;
        let candidate = Checkpoint::from_verified(&registry.verify(&candidate)?)?;
        let candidate = self.accuracy(&Model::load(&candidate, self.precision)?)?;
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
            before,
            candidate,
            after: if outcome.verdict == Verdict::Promoted { candidate } else { before },
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
            PoisonArm::Clean => chosen.clear(),
            PoisonArm::Unguarded | PoisonArm::Guarded => {
                chosen.truncate((self.flipped * count as f64).round() as usize);
            }
            PoisonArm::SessionUnguarded | PoisonArm::SessionGuarded => {
                chosen = (0..self.per_session.min(count)).filter(|number| number % 5 < FLIPPED_OF_FIVE).collect();
            }
        }
        let mut labels = self.labels.clone();
        let mut flipped = HashSet::new();
        for number in chosen.into_iter().filter(|_| functions.len() > 1) {
            let label = &mut labels[number];
            let others: Vec<&&String> = functions.iter().filter(|function| ***function != label.function).collect();
            let drawn = split_mix(self.seed ^ split_mix(number as u64)) as usize % others.len();
            label.function = others[drawn].to_string();
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
        let request = LearnRequest {
            trigger: "benchmark".into(),
            actor: "benchmark".into(),
            training: if arm.is_guarded() { self.training.clone() } else { unguarded },
            gate: self.gate.clone(),
            precision: self.precision,
            scope: LearnScope::New,
            force: true,
            promotion: Promotion::AtOnce,
            fault: mynah_data::fault::none(),
        };
        learn(home, registry, &request, progress)
    }

    fn accuracy(&self, model: &Model) -> Result<f64, Error> {
        let (report, _) = evaluate_each(model, "", &self.test, &NoProgress)?;
        Ok(report.function.accuracy)
    }
}

fn production(registry: &Registry, precision: Precision) -> Result<Option<Model>, Error> {
    let Some(loaded) = registry.load_production()? else { return Ok(None) };
    Ok(Some(Model::load(&Checkpoint::from_verified(&loaded.checkpoint)?, precision)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mynah_data::{Slot, Source};

    fn poisoning(count: usize) -> Poisoning {
        let label = |number: usize| Example {
            text: format!("text {number}"),
            function: ["a", "b", "c"][number % 3].into(),
            slots: vec![Slot { name: "t".into(), start: 0, end: 4, value: "text".into() }],
            split: None,
            source: Source::Imported,
            origin: "test".into(),
            at: None,
            weight: 1.0,
        };
        Poisoning {
            labels: (0..count).map(label).collect(),
            per_session: 20,
            flipped: 0.05,
            test: Vec::new(),
            training: TrainingSettings::default(),
            gate: GateSettings::default(),
            precision: Precision::Int8,
            seed: 3,
        }
    }

    #[test]
    fn as_many_labels_are_flipped_as_the_arm_says() {
        let poisoning = poisoning(200);
        let differing = |arm| {
            let (labels, flipped) = poisoning.labels_of(arm);
            let differ = labels.iter().zip(&poisoning.labels).map(|(label, right)| label.function != right.function);
            let differ: Vec<bool> = differ.collect();
            assert_eq!(differ.iter().filter(|differs| **differs).count(), flipped.len());
            differ
        };
        assert!(!differing(PoisonArm::Clean).contains(&true));
        assert_eq!(differing(PoisonArm::Guarded).iter().filter(|differs| **differs).count(), 10);
        assert_eq!(differing(PoisonArm::Guarded), differing(PoisonArm::Unguarded));
        let session = differing(PoisonArm::SessionGuarded);
        assert_eq!(session[..20].iter().filter(|differs| **differs).count(), 12);
        assert!(!session[20..].contains(&true));
    }
}
