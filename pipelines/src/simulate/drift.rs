//! How far production drifts down when one candidate after the other is a little worse than what it would replace.

use serde::Serialize;

use super::{Random, Simulation, count, evidence};
use crate::gate::{Best, Comparison, Corrections, Gate};
use crate::paired::Paired;
use crate::settings::GateSettings;

/// Every so many examples one is out of scope.
const OUT_OF_SCOPE_EVERY: usize = 10;

/// Candidates one after the other, each so much worse than the production it meets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct DriftSimulation {
    /// The held-out set and the first production; `candidates` is how often the whole is repeated.
    pub simulation: Simulation,
    /// Candidates in a row.
    pub in_a_row: usize,
    /// What each really loses, in [0, 1] of the exact match; 0: none is worse.
    pub loss: f64,
}

/// What the gate made of them. Means over the repetitions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SimulatedDrift {
    /// How often it was repeated.
    pub repeated: usize,
    /// Promoted, of those in a row.
    pub promoted: f64,
    /// What the last production has really lost, in [0, 1].
    pub lost: f64,
    /// The same in the worst repetition.
    pub lost_at_most: f64,
    /// What production had really lost when the rule `drift` alone refused for the first time, or in the end where it never did.
    pub lost_at_refusal: f64,
    /// Repetitions in which it refused at all, in [0, 1].
    pub refused: f64,
}

/// Lets the gate judge candidates that all have learned a new correction, a reason to promote.
pub fn simulate_drift(settings: &GateSettings, drift: &DriftSimulation) -> SimulatedDrift {
    let Simulation { examples, churn, accuracy, seed, candidates, .. } = drift.simulation;
    let mut random = Random::seeded(seed ^ 0xD21F ^ ((examples as u64) << 20), churn + drift.loss);
    let gate = Gate::new(settings);
    let mut result = SimulatedDrift {
        repeated: candidates,
        promoted: 0.0,
        lost: 0.0,
        lost_at_most: 0.0,
        lost_at_refusal: 0.0,
        refused: 0.0,
    };
    for _ in 0..candidates {
        let mut production: Vec<bool> = (0..examples).map(|_| random.next() < accuracy).collect();
        let mut best = production.clone();
        let (mut promoted, mut at_refusal) = (0, None);
        for _ in 0..drift.in_a_row {
            let really = accuracy - drift.loss * f64::from(promoted);
            let (fixed, broken) = (churn / 2.0 / (1.0 - really).max(churn / 2.0), (churn / 2.0 + drift.loss) / really);
            let candidate: Vec<bool> = production
                .iter()
                .map(|right| if *right { random.next() >= broken } else { random.next() < fixed })
                .collect();
            let candidate_evidence = compared(&drift.simulation, &candidate, &production, &best);
            match gate.judge(&candidate_evidence) {
                Ok(_) => {
                    promoted += 1;
                    if paired(&candidate, &best, |_| true).p_better() <= settings.better_significance {
                        best.clone_from(&candidate);
                    }
                    production = candidate;
                }
                Err(rejected) => {
                    // Alone: what production itself shows to be worse is no drift.
                    let drifts = rejected.report().broken().all(|rule| rule.name == "drift");
                    if drifts && at_refusal.is_none() {
                        at_refusal = Some(promoted);
                    }
                }
            }
        }
        let lost = |promoted: i32| drift.loss * f64::from(promoted);
        result.promoted += f64::from(promoted);
        result.lost += lost(promoted);
        result.lost_at_most = result.lost_at_most.max(lost(promoted));
        result.lost_at_refusal += lost(at_refusal.unwrap_or(promoted));
        result.refused += f64::from(u8::from(at_refusal.is_some()));
    }
    let mean = |sum: f64| sum / candidates.max(1) as f64;
    SimulatedDrift {
        promoted: mean(result.promoted),
        lost: mean(result.lost),
        lost_at_refusal: mean(result.lost_at_refusal),
        refused: mean(result.refused),
        ..result
    }
}

fn paired(candidate: &[bool], other: &[bool], keep: impl Fn(usize) -> bool) -> Paired {
    let mut counts = Paired::default();
    let both = candidate.iter().zip(other).enumerate().filter(|(index, _)| keep(*index));
    both.for_each(|(_, (right, was_right))| count(&mut counts, *was_right, *right));
    counts
}

fn compared(simulation: &Simulation, candidate: &[bool], production: &[bool], best: &[bool]) -> crate::gate::Evidence {
    let share = |right: &[bool]| right.iter().filter(|right| **right).count() as f64 / right.len().max(1) as f64;
    let is_out_of_scope = |index: usize| index.is_multiple_of(OUT_OF_SCOPE_EVERY);
    let functions = simulation.functions.max(1);
    let exact = paired(candidate, production, |_| true);
    let out_of_scope = paired(candidate, production, is_out_of_scope);
    let accepted = (0..candidate.len()).filter(|index| is_out_of_scope(*index) && !candidate[*index]).count();
    let comparison = Comparison {
        exact_match: share(production),
        exact,
        known: exact,
        new: Paired::default(),
        out_of_scope,
        functions: (0..functions)
            .map(|function| {
                let of = |index: usize| !is_out_of_scope(index) && index % functions == function;
                (format!("function {function}"), paired(candidate, production, of))
            })
            .collect(),
    };
    let against = Best { version: "best".into(), exact_match: share(best), exact: paired(candidate, best, |_| true) };
    let corrections = Corrections { n: 1, candidate_right: 1, newly_right: 1, ..Corrections::default() };
    let rate = (out_of_scope.n > 0).then(|| accepted as f64 / out_of_scope.n as f64);
    evidence(candidate.len(), share(candidate), rate, corrections, (comparison, against))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drift(loss: f64, allowance: f64) -> SimulatedDrift {
        let simulation = Simulation {
            examples: 1000,
            candidates: 40,
            accuracy: 0.9,
            churn: 0.02,
            functions: 10,
            corrections: 0,
            new_share: 0.0,
            seed: 1,
        };
        let settings = GateSettings { drift_allowance: allowance, ..GateSettings::default() };
        simulate_drift(&settings, &DriftSimulation { simulation, in_a_row: 30, loss })
    }

    /// The figures that the default is documented by, with room for the noise of forty repetitions.
    #[test]
    fn small_losses_do_not_add_up() {
        let (bounded, unbounded) = (drift(0.005, GateSettings::default().drift_allowance), drift(0.005, 1.0));
        assert!(unbounded.lost > 0.08 && unbounded.refused == 0.0, "{unbounded:?}");
        assert!(bounded.lost < 0.055 && bounded.lost_at_refusal < 0.025 && bounded.refused == 1.0, "{bounded:?}");
        let equal = drift(0.0, GateSettings::default().drift_allowance);
        assert!(equal.promoted > 20.0, "what loses nothing still gets through: {equal:?}");
    }
}
