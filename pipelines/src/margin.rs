//! Whether a loss as large as a margin can be ruled out, for two versions that answered the same examples.
//!
//! The null hypothesis is that the candidate loses at least the margin. Up to [`EXACT_UP_TO`] examples its p value is
//! exact: the probability, under the least favourable share of changed examples, of a table that speaks at least as
//! clearly against the loss (unconditional test with the score statistic of Tango 1998, doi
//! 10.1002/(SICI)1097-0258(19980430)17:8<891::AID-SIM780>3.0.CO;2-B; the nuisance share is sought in its confidence
//! interval as by Berger and Boos 1994, doi 10.1080/01621459.1994.10476836). Above, the statistic is normal enough.
//!
//! *Invariant:* a pure function of the counts; nothing is drawn at random.

use crate::paired::Paired;

/// Examples up to which the p value is exact.
const EXACT_UP_TO: usize = 400;
/// Probability that the nuisance share lies outside the interval in which it is sought; added to the p value.
const OUTSIDE: f64 = 1e-3;
/// Places at which the nuisance share is tried.
const PLACES: usize = 25;
/// Terms smaller than this, in logarithms, are nothing beside the p values that decide.
const NEGLIGIBLE: f64 = -36.0;

/// The probability of counts that speak at least as clearly against a loss of `margin`, in (0, 1), if there were one.
///
/// 1 without examples.
pub(crate) fn p_loss(paired: &Paired, margin: f64) -> f64 {
    let Paired { n, fixed, broken } = *paired;
    if n == 0 {
        return 1.0;
    }
    let observed = statistic(n, fixed, broken, margin);
    if n > EXACT_UP_TO {
        return normal_below(observed);
    }
    let table = LogFactorials::up_to(n);
    let (low, high) = share_interval(fixed, n, OUTSIDE, &table);
    let most = ((1.0 - margin) / 2.0).max(0.0);
    let (low, high) = (low.min(most), high.min(most));
    let regions: Vec<Option<usize>> = (0..=n).map(|broken| first_in_region(n, broken, margin, observed)).collect();
    let worst = (0..PLACES)
        .map(|place| low + (high - low) * place as f64 / (PLACES - 1) as f64)
        .map(|share| region_probability(n, &regions, share, share + margin, &table))
        .fold(0.0, f64::max);
    (worst + OUTSIDE).min(1.0)
}

/// Tango's score statistic for a loss of exactly `margin`: the lower, the clearer that less was lost.
fn statistic(n: usize, fixed: usize, broken: usize, margin: f64) -> f64 {
    let (n, fixed, broken) = (n as f64, fixed as f64, broken as f64);
    // The share of fixed examples that is most likely where exactly the margin is lost.
    let a = 2.0 * n;
    let b = (2.0 * n - broken + fixed) * margin - broken - fixed;
    let c = -fixed * margin * (1.0 - margin);
    let share = (((b * b - 4.0 * a * c).max(0.0)).sqrt() - b) / (2.0 * a);
    let variance = n * (2.0 * share + margin * (1.0 - margin));
    (broken - fixed - n * margin) / variance.max(f64::MIN_POSITIVE).sqrt()
}

/// The fewest fixed examples that, beside `broken` ones, speak at least as clearly as `observed`.
fn first_in_region(n: usize, broken: usize, margin: f64, observed: f64) -> Option<usize> {
    // The statistic falls with the number of fixed examples.
    let inside = |fixed: usize| statistic(n, fixed, broken, margin) <= observed + 1e-9;
    let most = n - broken;
    if !inside(most) {
        return None;
    }
    let (mut low, mut high) = (0, most);
    while low < high {
        let middle = usize::midpoint(low, high);
        if inside(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Some(low)
}

/// The probability of the region under a trinomial with these shares of fixed and broken examples.
fn region_probability(n: usize, regions: &[Option<usize>], fixed: f64, broken: f64, table: &LogFactorials) -> f64 {
    let mut total = 0.0;
    for (count, first) in regions.iter().enumerate() {
        let Some(first) = first else { continue };
        let of_broken = table.binomial(n, count, broken);
        if of_broken < NEGLIGIBLE {
            continue;
        }
        // Given the broken ones, the fixed ones are binomial among the rest.
        let rest = n - count;
        let share = (fixed / (1.0 - broken)).clamp(0.0, 1.0);
        total += of_broken.exp() * tail(rest, *first, share, table);
    }
    total
}

/// P(X >= first) for X ~ Binomial(n, share).
fn tail(n: usize, first: usize, share: f64, table: &LogFactorials) -> f64 {
    let mean = n as f64 * share;
    let sum = |range: std::ops::RangeInclusive<usize>| -> f64 {
        range.map(|count| table.binomial(n, count, share)).filter(|log| *log >= NEGLIGIBLE).map(f64::exp).sum()
    };
    match first {
        0 => 1.0,
        // Whichever side has fewer terms that count.
        _ if first as f64 <= mean => (1.0 - sum(0..=first - 1)).max(0.0),
        _ => {
            let last = (mean + 12.0 * (mean + 4.0).sqrt() + 12.0).ceil() as usize;
            sum(first..=n.min(last.max(first)))
        }
    }
}

/// Clopper and Pearson's interval for a share that showed in `count` of `n`, wrong with probability `alpha`.
fn share_interval(count: usize, n: usize, alpha: f64, table: &LogFactorials) -> (f64, f64) {
    let bisect = |is_low: &dyn Fn(f64) -> bool| {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..40 {
            let middle = (low + high) / 2.0;
            if is_low(middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
        (low + high) / 2.0
    };
    let low = match count {
        0 => 0.0,
        _ => bisect(&|share| tail(n, count, share, table) < alpha / 2.0),
    };
    let high = match count == n {
        true => 1.0,
        false => bisect(&|share| 1.0 - tail(n, count + 1, share, table) > alpha / 2.0),
    };
    (low, high)
}

/// ln(k!) for k up to a number of examples.
struct LogFactorials(Vec<f64>);

impl LogFactorials {
    fn up_to(n: usize) -> Self {
        let mut sum = 0.0;
        let logs = (0..=n).map(|k| {
            sum += if k == 0 { 0.0 } else { (k as f64).ln() };
            sum
        });
        Self(logs.collect())
    }

    /// ln P(X = k) for X ~ Binomial(n, share).
    fn binomial(&self, n: usize, k: usize, share: f64) -> f64 {
        let power = |count: usize, base: f64| if count == 0 { 0.0 } else { count as f64 * base.ln() };
        self.0[n] - self.0[k] - self.0[n - k] + power(k, share) + power(n - k, 1.0 - share)
    }
}

/// P(Z <= z) for a standard normal Z, by Simpson's rule over the tail.
fn normal_below(z: f64) -> f64 {
    const STEPS: usize = 400;
    let from = z.abs();
    if from > 12.0 {
        return if z < 0.0 { 0.0 } else { 1.0 };
    }
    let width = (12.5 - from) / STEPS as f64;
    let density = |x: f64| (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let sum: f64 = (0..=STEPS)
        .map(|step| {
            let weight = if step == 0 || step == STEPS {
                1.0
            } else if step % 2 == 1 {
                4.0
            } else {
                2.0
            };
            weight * density(from + step as f64 * width)
        })
        .sum();
    let beyond = sum * width / 3.0;
    if z < 0.0 { beyond } else { 1.0 - beyond }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paired(n: usize, fixed: usize, broken: usize) -> Paired {
        Paired { n, fixed, broken }
    }

    #[test]
    fn the_statistic_by_hand() {
        // n = 100, nothing changed, margin 0.02: share 0, so (0 - 2) / sqrt(100 * 0.02 * 0.98).
        assert!((statistic(100, 0, 0, 0.02) + 2.0 / 1.96f64.sqrt()).abs() < 1e-12);
        // Two of a hundred lost is exactly the margin.
        assert!(statistic(100, 0, 2, 0.02).abs() < 1e-12);
        assert!((normal_below(-1.959_963_985) - 0.025).abs() < 1e-9);
        assert!((normal_below(1.644_853_627) - 0.95).abs() < 1e-9);
    }

    #[test]
    fn nothing_changed_is_the_probability_that_a_loss_would_have_shown() {
        // Nothing fixed, nothing broken. If nothing can be fixed, a loss of 0.1 stays unseen with 0.9^n; tables with
        // more fixed than that speak no less clearly, and the share that is sought adds a little.
        let p = p_loss(&paired(30, 0, 0), 0.1);
        assert!(p >= 0.9f64.powi(30) && p < 0.15, "{p}");
        let large = p_loss(&paired(300, 0, 0), 0.02);
        assert!(large >= 0.98f64.powi(300) && large < 0.02, "{large}");
    }

    #[test]
    fn more_broken_is_never_better() {
        for n in [20, 80, 300, 1000] {
            let mut before = 0.0;
            for broken in 0..12 {
                let p = p_loss(&paired(n, 3, broken), 0.02);
                assert!(p >= before - 1e-6, "n {n}, broken {broken}: {p} after {before}");
                before = p;
            }
        }
        assert_eq!(p_loss(&paired(0, 0, 0), 0.02), 1.0);
    }

    #[test]
    fn a_loss_of_the_margin_is_seldom_ruled_out_whatever_the_share_of_changed_examples() {
        // The size of the test, computed from the trinomial itself.
        for (n, margin, level) in [(40, 0.05, 0.05), (60, 0.02, 0.05)] {
            let table = LogFactorials::up_to(n);
            let passes: Vec<Option<usize>> = (0..=n)
                .map(|broken| {
                    (0..=(n - broken).min(30)).find(|fixed| p_loss(&paired(n, *fixed, broken), margin) <= level)
                })
                .map(|first| first.filter(|first| *first <= 30))
                .collect();
            for share in [0.0, 0.01, 0.03, 0.08, 0.15] {
                let size = region_probability(n, &passes, share, share + margin, &table);
                assert!(size <= level, "n {n}, share {share}: {size}");
            }
        }
    }

    #[test]
    fn the_exact_and_the_large_sample_value_agree_where_they_meet() {
        for (fixed, broken) in [(4, 2), (8, 8), (12, 16)] {
            let exact = p_loss(&paired(EXACT_UP_TO, fixed, broken), 0.02);
            let large = normal_below(statistic(EXACT_UP_TO, fixed, broken, 0.02));
            assert!((exact - large).abs() < 0.02, "{fixed} fixed, {broken} broken: {exact} beside {large}");
        }
    }
}
