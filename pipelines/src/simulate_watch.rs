//! How often the watch errs: the real [`Watch`] on promotions whose worth is known because they are made up.
//!
//! A promotion has turns before it and turns after it, in sessions. A turn goes wrong with the rate of its session, and the
//! rates of sessions scatter around the rate of the version (a beta distribution): people differ, and so do their days. The
//! sample is drawn as well: what the watch compares with is never the true rate. *Invariant:* pure, and the same seed gives
//! the same figures.

use serde::Serialize;

use crate::dropout::split_mix;
use crate::watch::{Baseline, SessionCount, Watch, WatchSettings};

/// What is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct WatchSimulation {
    /// The share of turns that go wrong with the version before.
    pub rate: f64,
    /// How many times as many go wrong with the new one.
    pub factor: f64,
    /// How alike the turns of a session are: the correlation within it, in [0, 1).
    pub spread: f64,
    /// Turns of a session.
    pub session_turns: usize,
    /// Turns before the promotion.
    pub baseline: usize,
    /// Promotions.
    pub promotions: usize,
    /// Seed of the draws.
    pub seed: u64,
}

/// What the watch made of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SimulatedWatch {
    /// What was simulated.
    pub simulation: WatchSimulation,
    /// How many promotions were rolled back within the watched turns.
    pub rolled_back: usize,
    /// Their share.
    pub share: f64,
    /// The turn at which half of those had been.
    pub median_turns: Option<usize>,
}

/// Watches promotions of one kind.
pub fn simulate_watch(settings: &WatchSettings, simulation: &WatchSimulation) -> SimulatedWatch {
    let seed = split_mix(simulation.seed ^ simulation.rate.to_bits()) ^ split_mix(simulation.factor.to_bits());
    let mut random = Random(split_mix(seed ^ simulation.spread.to_bits() ^ simulation.baseline as u64));
    let mut found: Vec<usize> = Vec::new();
    for _ in 0..simulation.promotions {
        let before = sessions(simulation, simulation.rate, simulation.baseline, &mut random);
        let counts: Vec<SessionCount> = before
            .iter()
            .map(|turns| SessionCount { turns: turns.len(), wrong: turns.iter().filter(|wrong| **wrong).count() })
            .collect();
        let after = sessions(simulation, simulation.rate * simulation.factor, settings.turns, &mut random).concat();
        let watch = Watch::new(settings, Baseline::of(&counts));
        found.extend(watch.and_then(|watch| watch.judge(&after).worse_after));
    }
    found.sort_unstable();
    SimulatedWatch {
        simulation: *simulation,
        rolled_back: found.len(),
        share: found.len() as f64 / simulation.promotions.max(1) as f64,
        median_turns: found.get(found.len() / 2).copied(),
    }
}

/// Sessions of so many turns in all: whether each turn went wrong.
fn sessions(simulation: &WatchSimulation, rate: f64, turns: usize, random: &mut Random) -> Vec<Vec<bool>> {
    let length = simulation.session_turns.max(1);
    let mut left = turns;
    let mut sessions = Vec::new();
    while left > 0 {
        let rate = random.rate(rate.clamp(0.0, 1.0), simulation.spread);
        sessions.push((0..length.min(left)).map(|_| random.next() < rate).collect());
        left -= length.min(left);
    }
    sessions
}

struct Random(u64);

impl Random {
    /// A number in [0, 1).
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        (split_mix(self.0) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A session's rate: beta with this mean, and with the correlation that it gives the session's turns.
    fn rate(&mut self, mean: f64, correlation: f64) -> f64 {
        if correlation <= 0.0 || mean <= 0.0 || mean >= 1.0 {
            return mean;
        }
        // The correlation of beta-binomial trials is 1 / (a + b + 1).
        let size = 1.0 / correlation - 1.0;
        let (a, b) = (self.gamma(mean * size), self.gamma((1.0 - mean) * size));
        if a + b > 0.0 { a / (a + b) } else { mean }
    }

    /// Gamma with this shape and scale 1 (Marsaglia & Tsang 2000, A Simple Method for Generating Gamma Variables).
    fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let boosted = self.gamma(shape + 1.0);
            return boosted * (1.0 - self.next()).powf(1.0 / shape);
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            // Box and Muller's normal.
            let radius = (-2.0 * (1.0 - self.next()).ln()).sqrt();
            let x = radius * (std::f64::consts::TAU * self.next()).cos();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && (1.0 - self.next()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn simulated(rate: f64, factor: f64, spread: f64) -> SimulatedWatch {
        let simulation =
            WatchSimulation { rate, factor, spread, session_turns: 5, baseline: 2000, promotions: 1000, seed: 1 };
        simulate_watch(&WatchSettings::default(), &simulation)
    }

    #[test]
    fn draws_have_the_mean_and_the_correlation_that_were_asked_for() {
        let mut random = Random(3);
        let rates: Vec<f64> = (0..100_000).map(|_| random.rate(0.12, 0.1)).collect();
        let mean = rates.iter().sum::<f64>() / rates.len() as f64;
        let variance = rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / rates.len() as f64;
        assert!((mean - 0.12).abs() < 0.002, "{mean}");
        assert!((variance / (0.12 * 0.88) - 0.1).abs() < 0.005, "{variance}");
    }

    /// The bars that the defaults of `[watch]` are documented to keep, with three standard deviations of 1000 draws.
    #[test]
    fn the_watch_keeps_its_word() {
        for spread in [0.0, 0.05] {
            let healthy = simulated(0.12, 1.0, spread);
            assert!(healthy.share <= 0.0195, "{healthy:?}");
            let worse = simulated(0.15, 2.0, spread);
            assert!(worse.share >= 0.95, "{worse:?}");
        }
        assert_eq!(simulated(0.12, 2.0, 0.0), simulated(0.12, 2.0, 0.0), "the seed decides");
    }
}
