//! Whether people are worse off with a version than with the one before: an exact sequential test on what went wrong.
//!
//! A turn went wrong when it was corrected, disliked, or not understood. The turns of the version before are a sample of how
//! often that happens; under the hypothesis that nothing got worse, the count of the new version's turns follows Pólya's urn
//! with that sample in it (the beta-binomial distribution: what a rate that is known only from so many turns predicts). After
//! every turn, the count from which the version is rolled back is the smallest one for which the chance of *ever* having
//! been rolled back stays within a budget that grows with the turns, α·(t/T)^ρ. (Spending: Lan & DeMets 1983; this family:
//! Kim & DeMets 1987.) The chances are summed exactly, path by path, so α holds at T turns however often it is looked at.
//!
//! An e-process or a mixture SPRT (Robbins 1970; Howard et al. 2021, arXiv 1810.08240) would hold without an end. They were not
//! taken because what has to be caught within 200 turns lies at the limit of what 200 turns can tell: their boundary, open for
//! ever, finds a tenth fewer of the doublings there.
//!
//! People differ: turns of one session go wrong together. The variance between the sessions of the sample, over what
//! independent turns would have, shrinks all counts (the design effect; Rao & Scott 1992).
//!
//! *Invariant:* pure. A version that is exactly as good as the one before is rolled back with probability α at most, over
//! samples and turns together; a small sample makes the test blunt, never hasty.

use serde::{Deserialize, Serialize};

/// How the budget grows: late, because that is where doublings are found.
const SPENDING_POWER: f64 = 3.0;

/// The `[watch]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WatchSettings {
    /// Whether a version that people are worse off with is rolled back without asking.
    pub enabled: bool,
    /// Turns after a promotion that are watched.
    pub turns: usize,
    /// The chance that a version as good as the one before is rolled back, in (0, 0.5].
    pub false_rollbacks: f64,
    /// Turns before the promotion that are compared with, at most.
    pub baseline: usize,
    /// Below so many turns before the promotion nothing is watched.
    pub min_baseline: usize,
}

impl Default for WatchSettings {
    fn default() -> Self {
        Self { enabled: true, turns: 200, false_rollbacks: 0.01, baseline: 2000, min_baseline: 200 }
    }
}

/// What went wrong in one session: of how many turns, how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCount {
    /// Turns.
    pub turns: usize,
    /// Of these went wrong.
    pub wrong: usize,
}

/// The turns that a version is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Turns.
    pub turns: usize,
    /// Of these went wrong.
    pub wrong: usize,
    /// How much more sessions differ than independent turns would, at least 1.
    pub design_effect: f64,
}

impl Baseline {
    /// Sums up sessions.
    pub fn of(sessions: &[SessionCount]) -> Self {
        let (turns, wrong) =
            sessions.iter().fold((0, 0), |(turns, wrong), session| (turns + session.turns, wrong + session.wrong));
        Self { turns, wrong, design_effect: design_effect(sessions, turns, wrong) }
    }

    /// The share that went wrong, in [0, 1].
    pub fn rate(&self) -> f64 {
        self.wrong as f64 / self.turns.max(1) as f64
    }
}

/// The variance of the counts of sessions over that of independent turns (Rao & Scott 1992, for a ratio of two sums), at least 1.
fn design_effect(sessions: &[SessionCount], turns: usize, wrong: usize) -> f64 {
    let (n, rate) = (turns as f64, wrong as f64 / turns.max(1) as f64);
    let clusters = sessions.iter().filter(|session| session.turns > 0).count() as f64;
    if clusters < 2.0 || rate <= 0.0 || rate >= 1.0 {
        return 1.0;
    }
    let squares: f64 =
        sessions.iter().map(|session| (session.wrong as f64 - rate * session.turns as f64).powi(2)).sum();
    let variance = clusters / (clusters - 1.0) * squares / (n * n);
    (variance / (rate * (1.0 - rate) / n)).max(1.0)
}

/// The test of one promotion: after how many wrong turns it is taken back.
#[derive(Clone, Debug, PartialEq)]
pub struct Watch {
    baseline: Baseline,
    /// By effective turns, from 1: the count of effective wrong turns from which the version is rolled back; none where no
    /// count would be too many yet.
    limits: Vec<Option<usize>>,
}

/// What the watch makes of the turns so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Watched {
    /// Turns of the new version that were looked at.
    pub turns: usize,
    /// Of these went wrong.
    pub wrong: usize,
    /// What it is compared with.
    pub baseline: Baseline,
    /// The turn at which it was one too many; none when it never was.
    pub worse_after: Option<usize>,
    /// Whether every turn that is watched has been.
    pub over: bool,
}

impl Watch {
    /// Prepares the test against a sample; `None` when that is too small, or the watch is off.
    pub fn new(settings: &WatchSettings, baseline: Baseline) -> Option<Self> {
        let fit = settings.enabled && settings.turns > 0 && baseline.turns >= settings.min_baseline.max(1);
        fit.then(|| Self { limits: limits(settings, &baseline), baseline })
    }

    /// Judges the turns of the new version, in their order: whether each went wrong.
    pub fn judge(&self, turns: &[bool]) -> Watched {
        let effect = self.baseline.design_effect;
        let mut watched = Watched { turns: 0, wrong: 0, baseline: self.baseline, worse_after: None, over: false };
        for wrong in turns {
            let effective_before = effective(watched.turns, effect);
            if effective_before >= self.limits.len() {
                watched.over = true;
                break;
            }
            watched.turns += 1;
            watched.wrong += usize::from(*wrong);
            let (t, k) = (effective(watched.turns, effect), effective(watched.wrong, effect));
            let limit = t.checked_sub(1).and_then(|index| self.limits.get(index).copied().flatten());
            // Between two effective turns nothing is decided.
            if t > effective_before && limit.is_some_and(|limit| k >= limit) {
                watched.worse_after = Some(watched.turns);
                break;
            }
        }
        watched
    }
}

/// Whole effective turns of so many turns.
fn effective(count: usize, effect: f64) -> usize {
    // A rounding error must not cost a whole turn where the effect is 1.
    (count as f64 / effect + 1e-9) as usize
}

/// The limits by effective turn.
fn limits(settings: &WatchSettings, baseline: &Baseline) -> Vec<Option<usize>> {
    let effect = baseline.design_effect;
    let (right, wrong) = ((baseline.turns - baseline.wrong) as f64 / effect, baseline.wrong as f64 / effect);
    // Jeffreys' prior: half a turn of each kind more than was seen.
    let (a, b) = (wrong + 0.5, right + 0.5);
    let turns = effective(settings.turns, effect).max(1);
    let mut still = vec![1.0];
    let mut spent = 0.0;
    let mut limits = Vec::with_capacity(turns);
    for t in 1..=turns {
        let mut next = vec![0.0; t + 1];
        for (k, chance) in still.iter().enumerate() {
            let goes_wrong = (a + k as f64) / (a + b + (t - 1) as f64);
            next[k + 1] += chance * goes_wrong;
            next[k] += chance * (1.0 - goes_wrong);
        }
        let budget = settings.false_rollbacks * (t as f64 / turns as f64).powf(SPENDING_POWER) - spent;
        let (mut limit, mut tail) = (t + 1, 0.0);
        while limit > 0 && tail + next[limit - 1] <= budget {
            limit -= 1;
            tail += next[limit];
        }
        next[limit..].fill(0.0);
        spent += tail;
        limits.push((limit <= t).then_some(limit));
        still = next;
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(turns: usize, wrong: usize) -> Baseline {
        Baseline { turns, wrong, design_effect: 1.0 }
    }

    fn watch(turns: usize, wrong: usize) -> Watch {
        Watch::new(&WatchSettings::default(), baseline(turns, wrong)).unwrap()
    }

    /// The chance of a rollback within the watched turns when every turn goes wrong with this probability, summed exactly.
    fn chance(watch: &Watch, rate: f64) -> f64 {
        let mut still = vec![1.0];
        let mut rolled_back = 0.0;
        for limit in &watch.limits {
            let mut next = vec![0.0; still.len() + 1];
            for (k, chance) in still.iter().enumerate() {
                next[k + 1] += chance * rate;
                next[k] += chance * (1.0 - rate);
            }
            if let Some(limit) = limit {
                rolled_back += next[*limit..].iter().sum::<f64>();
                next[*limit..].fill(0.0);
            }
            still = next;
        }
        rolled_back
    }

    #[test]
    fn a_well_known_rate_spends_all_and_finds_what_two_hundred_turns_can_tell() {
        for (wrong, least) in [(12_000, 0.975), (15_000, 0.995), (20_000, 0.999)] {
            let watch = watch(100_000, wrong);
            let rate = wrong as f64 / 100_000.0;
            let false_rollbacks = chance(&watch, rate);
            assert!((0.005..=0.0105).contains(&false_rollbacks), "{rate}: {false_rollbacks}");
            assert!(chance(&watch, 2.0 * rate) >= least, "{rate}: {}", chance(&watch, 2.0 * rate));
        }
    }

    #[test]
    fn a_small_sample_is_blunt_and_none_is_not_watched() {
        let known = chance(&watch(2000, 240), 0.12);
        let small = chance(&watch(200, 24), 0.12);
        assert!(small < known && known < 0.0105, "{small} {known}");
        assert!(Watch::new(&WatchSettings::default(), baseline(199, 20)).is_none());
        let off = WatchSettings { enabled: false, ..WatchSettings::default() };
        assert!(Watch::new(&off, baseline(2000, 20)).is_none());
    }

    #[test]
    fn the_turn_that_was_one_too_many_is_named_and_the_end_too() {
        let watch = watch(2000, 200);
        let broken = watch.judge(&[true; 60]);
        assert!(broken.worse_after.is_some_and(|turn| turn < 30), "{broken:?}");
        assert_eq!(broken.worse_after, Some(broken.turns));
        let fine: Vec<bool> = (0..250).map(|turn| turn % 10 == 0).collect();
        let fine = watch.judge(&fine);
        assert_eq!((fine.worse_after, fine.over, fine.turns), (None, true, 200));
        assert!(!watch.judge(&[false; 200]).over, "the last turn may still be disliked");
    }

    #[test]
    fn sessions_that_differ_make_the_test_slower() {
        let even = vec![SessionCount { turns: 10, wrong: 1 }; 200];
        assert_eq!(Baseline::of(&even).design_effect, 1.0);
        let uneven: Vec<SessionCount> =
            (0..200).map(|session| SessionCount { turns: 10, wrong: if session % 5 == 0 { 5 } else { 0 } }).collect();
        let uneven = Baseline::of(&uneven);
        assert!((4.0..5.0).contains(&uneven.design_effect), "{uneven:?}");
        let settings = WatchSettings::default();
        let judge = |baseline| Watch::new(&settings, baseline).unwrap().judge(&[true; 200]).worse_after.unwrap();
        assert!(judge(uneven) > 3 * judge(Baseline::of(&even)));
        assert_eq!(Baseline::of(&[]).design_effect, 1.0);
    }
}
