//! How often the gate errs: the real [`Gate::judge`] on candidates whose worth is known because they are made up.
//!
//! A candidate and production answer the same held-out examples; how they come out is drawn example by example from
//! the four cells right/right, right/wrong, wrong/right, wrong/wrong. Of equally good candidates half of the changed
//! examples are fixed and half broken; one that lost two points has two points more broken. Out-of-scope examples and
//! functions have their share of this, and corrections that both learned waver too, a tenth as much. Candidates with new
//! functions have most of the examples of these right, which production cannot. Production is the best version so far; how
//! candidates drift away from it, one after the other, is in [`drift`].
//! *Invariant:* pure, and the same seed gives the same figures.

mod drift;

use mynah_runtime::Precision;
use serde::Serialize;
use std::collections::BTreeMap;

use crate::dropout::split_mix;
use crate::gate::{Best, Comparison, Corrections, Evidence, Expectations, Gain, Gate};
use crate::paired::Paired;
use crate::precision::PrecisionReport;
use crate::settings::GateSettings;

pub use drift::{DriftSimulation, SimulatedDrift, simulate_drift};

/// Share of the held-out examples that are out of scope.
const OUT_OF_SCOPE_SHARE: f64 = 0.1;
/// Share of the corrections that production has right: it was trained on them.
const CORRECTIONS_RIGHT: f64 = 0.97;
/// Corrections are trained on again in every run, so fewer of them change.
const CORRECTIONS_CHURN: f64 = 0.1;
/// Share of the old corrections that are lost in the case of that name.
const LOST_CORRECTIONS: f64 = 0.05;
/// Share of the examples of new functions that a candidate has right.
const NEW_RIGHT: f64 = 0.85;
/// How much a single function loses in the case of that name.
const FUNCTION_LOSS: f64 = 0.4;

/// What is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Simulation {
    /// Held-out examples.
    pub examples: usize,
    /// Candidates of every case.
    pub candidates: usize,
    /// Production's share of right answers.
    pub accuracy: f64,
    /// Share of the examples that an equally good candidate answers differently in being right.
    pub churn: f64,
    /// Functions, with equally many examples each.
    pub functions: usize,
    /// Old corrections, which production learned from.
    pub corrections: usize,
    /// Held-out examples of new functions where a candidate brings them, for each of the others.
    pub new_share: f64,
    /// Seed of the draws.
    pub seed: u64,
}

/// A kind of candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SimulatedCase {
    /// As good as production, and nothing else new.
    Equal,
    /// As good as production, and it has learned a new correction.
    EqualWithCorrection,
    /// Two points worse, with a new correction.
    LostTwoPoints,
    /// Five points worse, with a new correction.
    LostFivePoints,
    /// One function forty points worse, the others equal, with a new correction.
    LostFunction,
    /// Two points better, and nothing else new.
    GainedTwoPoints,
    /// Five points better, and nothing else new.
    GainedFivePoints,
    /// One old correction in twenty lost, all else equal, with a new one.
    LostCorrections,
    /// New functions, and as good as production on what that knows.
    NewKept,
    /// New functions, and two points worse on what production knows.
    NewLostTwoPoints,
    /// New functions, and five points worse.
    NewLostFivePoints,
    /// New functions, and eight points worse.
    NewLostEightPoints,
}

impl SimulatedCase {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Equal,
        Self::EqualWithCorrection,
        Self::LostTwoPoints,
        Self::LostFivePoints,
        Self::LostFunction,
        Self::GainedTwoPoints,
        Self::GainedFivePoints,
        Self::LostCorrections,
        Self::NewKept,
        Self::NewLostTwoPoints,
        Self::NewLostFivePoints,
        Self::NewLostEightPoints,
    ];

    /// Whether it brings functions that production does not know.
    pub fn brings_functions(self) -> bool {
        matches!(self, Self::NewKept | Self::NewLostTwoPoints | Self::NewLostFivePoints | Self::NewLostEightPoints)
    }

    fn change(self) -> f64 {
        match self {
            Self::Equal | Self::EqualWithCorrection | Self::LostFunction | Self::LostCorrections | Self::NewKept => 0.0,
            Self::LostTwoPoints | Self::NewLostTwoPoints => -0.02,
            Self::LostFivePoints | Self::NewLostFivePoints => -0.05,
            Self::NewLostEightPoints => -0.08,
            Self::GainedTwoPoints => 0.02,
            Self::GainedFivePoints => 0.05,
        }
    }

    fn has_new_correction(self) -> bool {
        !matches!(self, Self::Equal | Self::GainedTwoPoints | Self::GainedFivePoints) && !self.brings_functions()
    }
}

/// What the gate made of the candidates of one kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SimulatedGate {
    /// The kind.
    pub case: SimulatedCase,
    /// How many there were.
    pub candidates: usize,
    /// How many were promoted.
    pub promoted: usize,
    /// Promoted because a held-out score was better beyond chance.
    pub because_better: usize,
    /// Promoted without anything new and without any score that was better beyond chance.
    pub for_noise: usize,
    /// How often each rule was broken.
    pub broken: BTreeMap<String, usize>,
}

/// Judges the candidates of one kind.
pub fn simulate_gate(settings: &GateSettings, simulation: &Simulation, case: SimulatedCase) -> SimulatedGate {
    let gate = Gate::new(settings);
    let case_seed = split_mix(simulation.seed ^ ((case as u64 + 1) << 32) ^ simulation.examples as u64);
    let mut random = Random::seeded(case_seed, simulation.churn);
    let mut result = SimulatedGate {
        case,
        candidates: simulation.candidates,
        promoted: 0,
        because_better: 0,
        for_noise: 0,
        broken: BTreeMap::new(),
    };
    for _ in 0..simulation.candidates {
        let evidence = draw(simulation, case, &mut random);
        match gate.judge(&evidence) {
            Ok(_) => {
                let gains = gate.gains(&evidence);
                result.promoted += 1;
                result.because_better += usize::from(gains.iter().any(Gain::is_tested));
                let nothing_new = !case.has_new_correction() && !case.brings_functions();
                result.for_noise += usize::from(nothing_new && !gains.iter().any(Gain::is_tested));
            }
            Err(rejected) => {
                for rule in rejected.report().broken() {
                    *result.broken.entry(rule.name.clone()).or_default() += 1;
                }
            }
        }
    }
    result
}

struct Random(u64);

impl Random {
    fn seeded(seed: u64, parameter: f64) -> Self {
        Self(seed ^ parameter.to_bits())
    }

    /// A number in [0, 1).
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        (split_mix(self.0) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// One example's outcome: was right, is right.
fn outcome(random: &mut Random, right: f64, fixed: f64, broken: f64) -> (bool, bool) {
    let place = random.next();
    let (was_right, right) = (place < right, right.clamp(0.0, 1.0));
    match was_right {
        true => (true, place >= broken.min(right)),
        false => (false, place < right + fixed.min(1.0 - right)),
    }
}

fn draw(simulation: &Simulation, case: SimulatedCase, random: &mut Random) -> Evidence {
    let Simulation { examples, accuracy, churn, functions, corrections, .. } = *simulation;
    let change = case.change();
    let (fixed, broken) = (churn / 2.0 + change.max(0.0), churn / 2.0 + (-change).max(0.0));
    let mut exact = Paired::default();
    let mut out_of_scope = Paired::default();
    let mut by_function: Vec<Paired> = vec![Paired::default(); functions.max(1)];
    let (mut was, mut is, mut accepted) = (0, 0, 0);
    for index in 0..examples {
        let is_out_of_scope = random.next() < OUT_OF_SCOPE_SHARE;
        let function = index % by_function.len();
        let falls = case == SimulatedCase::LostFunction && function == 0 && !is_out_of_scope;
        let lost = if falls { FUNCTION_LOSS } else { 0.0 };
        let (was_right, right) = outcome(random, accuracy, fixed, broken + lost);
        was += usize::from(was_right);
        is += usize::from(right);
        count(&mut exact, was_right, right);
        if is_out_of_scope {
            count(&mut out_of_scope, was_right, right);
            accepted += usize::from(!right);
        } else {
            count(&mut by_function[function], was_right, right);
        }
    }
    let known = exact;
    let mut new = Paired::default();
    let brought = if case.brings_functions() { (simulation.new_share * examples as f64).round() as usize } else { 0 };
    for _ in 0..brought {
        let right = random.next() < NEW_RIGHT;
        is += usize::from(right);
        count(&mut new, false, right);
        count(&mut exact, false, right);
    }
    let share = |right: usize, of: usize| right as f64 / of.max(1) as f64;
    let corrections = draw_corrections(corrections, churn, case, random);
    let functions = by_function.into_iter().enumerate().map(|(n, paired)| (format!("function {n}"), paired));
    let comparison = Comparison {
        exact_match: share(was, exact.n),
        exact,
        known,
        new,
        out_of_scope,
        functions: functions.chain((new.n > 0).then(|| ("new".to_owned(), new))).collect(),
    };
    let best = Best { version: "best".into(), exact_match: share(was, known.n), exact: known };
    let rate = (out_of_scope.n > 0).then(|| share(accepted, out_of_scope.n));
    let evidence = evidence(exact.n, share(is, exact.n), rate, corrections, (comparison, best));
    Evidence { new_labels: usize::from(case.brings_functions()), ..evidence }
}

/// Evidence that keeps every rule but those of the scores and the corrections.
fn evidence(
    held_out: usize,
    right: f64,
    false_accept_rate: Option<f64>,
    corrections: Corrections,
    (production, best): (Comparison, Best),
) -> Evidence {
    Evidence {
        held_out,
        accuracy: right,
        exact_match: right,
        false_accept_rate,
        precision: Some(PrecisionReport {
            served: Precision::F32,
            n: held_out,
            function_agreement: 1.0,
            argument_agreement: 1.0,
            max_logit_difference: 0.0,
            mean_logit_difference: 0.0,
        }),
        latency_ms: 1.0,
        size_mb: 1.0,
        corrections,
        expectations: Expectations::default(),
        new_labels: 0,
        answers: None,
        production: Some(production),
        best: Some(best),
    }
}

fn draw_corrections(old: usize, churn: f64, case: SimulatedCase, random: &mut Random) -> Corrections {
    let mut corrections = Corrections { n: old, ..Corrections::default() };
    let changed = churn * CORRECTIONS_CHURN / 2.0;
    let lost = if case == SimulatedCase::LostCorrections { LOST_CORRECTIONS } else { 0.0 };
    for number in 0..old {
        let (was_right, right) = outcome(random, CORRECTIONS_RIGHT, changed, changed + lost);
        corrections.production_right += usize::from(was_right);
        corrections.candidate_right += usize::from(right);
        if was_right && !right {
            corrections.lost.push(format!("correction {number}"));
        }
    }
    if case.has_new_correction() {
        corrections.n += 1;
        corrections.candidate_right += 1;
        corrections.newly_right = 1;
    }
    corrections
}

fn count(paired: &mut Paired, was_right: bool, right: bool) {
    paired.n += 1;
    paired.fixed += usize::from(!was_right && right);
    paired.broken += usize::from(was_right && !right);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn simulation(examples: usize) -> Simulation {
        Simulation {
            examples,
            candidates: 400,
            accuracy: 0.9,
            churn: 0.06,
            functions: 10,
            corrections: 20,
            new_share: 0.1,
            seed: 1,
        }
    }

    #[test]
    fn outcomes_have_the_shares_that_were_asked_for() {
        let mut random = Random(7);
        let mut paired = Paired::default();
        let mut right_before = 0;
        for _ in 0..200_000 {
            let (was_right, right) = outcome(&mut random, 0.9, 0.03, 0.05);
            count(&mut paired, was_right, right);
            right_before += usize::from(was_right);
        }
        let share = |count: usize| count as f64 / 200_000.0;
        assert!((share(right_before) - 0.9).abs() < 0.003);
        assert!((share(paired.fixed) - 0.03).abs() < 0.002);
        assert!((share(paired.broken) - 0.05).abs() < 0.002);
    }

    /// The bars that the defaults of `[gate]` are documented to keep, with three standard deviations of 400 draws.
    #[test]
    fn the_gate_keeps_its_word_at_a_thousand_examples() {
        let settings = GateSettings::default();
        let judged = |case| simulate_gate(&settings, &simulation(1000), case);
        let equal = judged(SimulatedCase::Equal);
        assert!(equal.promoted <= 33, "{equal:?}");
        assert_eq!(equal.for_noise, 0, "{equal:?}");
        let lost = judged(SimulatedCase::LostTwoPoints);
        assert!(lost.promoted <= 33, "{lost:?}");
        let kept = judged(SimulatedCase::EqualWithCorrection);
        assert!(kept.promoted >= 200, "{kept:?}");
        assert_eq!(judged(SimulatedCase::GainedFivePoints).for_noise, 0);
        assert_eq!(lost, judged(SimulatedCase::LostTwoPoints), "the seed decides");
    }

    /// New functions pay for what is lost in proportion to how much is new, and for nothing else.
    #[test]
    fn new_functions_are_no_free_pass() {
        let judged = |new_share, case| {
            let simulated =
                simulate_gate(&GateSettings::default(), &Simulation { new_share, ..simulation(1000) }, case);
            simulated.promoted as f64 / simulated.candidates as f64
        };
        assert!(judged(0.03, SimulatedCase::NewKept) > 0.5);
        assert!(judged(0.03, SimulatedCase::NewLostTwoPoints) <= 0.08, "three standard deviations above 5 %");
        assert!(judged(0.1, SimulatedCase::NewLostTwoPoints) < 0.4);
        assert!(judged(1.0, SimulatedCase::NewKept) > 0.8);
        assert!(judged(1.0, SimulatedCase::NewLostTwoPoints) > 0.5, "as many again: they cost something");
        assert!(judged(1.0, SimulatedCase::NewLostEightPoints) <= 0.05);
    }

    #[test]
    fn corrections_that_are_lost_refuse() {
        let many = Simulation { corrections: 200, ..simulation(1000) };
        let lost = simulate_gate(&GateSettings::default(), &many, SimulatedCase::LostCorrections);
        assert!(lost.promoted <= 20, "{lost:?}");
    }

    #[test]
    fn nothing_is_promoted_for_noise_in_small_sets_either() {
        for examples in [0, 20, 100] {
            let equal = simulate_gate(&GateSettings::default(), &simulation(examples), SimulatedCase::Equal);
            assert_eq!(equal.for_noise, 0, "{equal:?}");
            assert!(equal.promoted <= 33, "{equal:?}");
        }
    }
}
