//! Paired comparison of two versions on the same examples.

/// How many of the same examples only one of two versions got right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paired {
    /// Examples that both answered.
    pub n: usize,
    /// Right by the candidate alone.
    pub fixed: usize,
    /// Right by production alone.
    pub broken: usize,
}

impl Paired {
    /// Counts from two lists in the same order.
    pub fn count(candidate: impl Iterator<Item = bool>, production: impl Iterator<Item = bool>) -> Self {
        candidate.zip(production).fold(Self::default(), |counts, pair| Self {
            n: counts.n + 1,
            fixed: counts.fixed + usize::from(pair == (true, false)),
            broken: counts.broken + usize::from(pair == (false, true)),
        })
    }

    /// Accuracy of the candidate less that of production, in [-1, 1].
    pub fn difference(&self) -> f64 {
        (self.fixed as f64 - self.broken as f64) / self.n.max(1) as f64
    }

    /// How many more were broken than fixed.
    pub fn net_loss(&self) -> usize {
        self.broken.saturating_sub(self.fixed)
    }

    /// Probability of counts that speak at least as clearly against a loss of `margin`, in (0, 1), if the candidate
    /// really lost that much: exact for small sets, see the module `margin`. Small: such a loss is ruled out.
    pub fn p_loss(&self, margin: f64) -> f64 {
        crate::margin::p_loss(self, margin)
    }

    /// Probability of at least as many broken among the changed examples if both versions were
    /// equally good: the exact one-sided McNemar test.
    pub fn p_worse(&self) -> f64 {
        at_least(self.broken, self.fixed + self.broken, 0.5)
    }

    /// The same for at least as many fixed.
    pub fn p_better(&self) -> f64 {
        at_least(self.fixed, self.fixed + self.broken, 0.5)
    }
}

/// The level at which each of several comparisons is held so that, were nothing different, all of them together would err
/// with probability `level` at most: that divided by the comparisons that could reach it at all (Tarone 1990, doi
/// 10.2307/2531456). A comparison with c changed examples cannot have a p value below 2^-c.
pub(crate) fn shared_level<'a>(level: f64, comparisons: impl Iterator<Item = &'a Paired>) -> f64 {
    let smallest: Vec<f64> =
        comparisons.map(|paired| 0.5f64.powi((paired.fixed + paired.broken).min(1000) as i32)).collect();
    (1..=smallest.len().max(1))
        .map(|parts| (parts, level / parts as f64))
        .find(|(parts, share)| smallest.iter().filter(|p| **p <= *share).count() <= *parts)
        .map_or(level, |(_, share)| share)
}

/// P(X >= k) for X ~ Binomial(n, p), p below 1, summed in logarithms.
pub(crate) fn at_least(k: usize, n: usize, p: f64) -> f64 {
    if k == 0 {
        return 1.0;
    }
    let mut log_choose = 0.0;
    let mut total = 0.0;
    for successes in 0..=n {
        if successes > 0 {
            log_choose += ((n - successes + 1) as f64).ln() - (successes as f64).ln();
        }
        if successes >= k {
            let log_of_these = successes as f64 * p.ln() + (n - successes) as f64 * (1.0 - p).ln();
            total += (log_choose + log_of_these).exp();
        }
    }
    total.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_tail_by_hand() {
        // P(X >= 3 | n = 4) = (4 + 1) / 16.
        assert!((at_least(3, 4, 0.5) - 5.0 / 16.0).abs() < 1e-12);
        assert_eq!(at_least(0, 0, 0.5), 1.0);
        assert!((at_least(5000, 10_000, 0.5) - 0.504).abs() < 1e-3);
        // 1 - 0.9^2, and what never happens.
        assert!((at_least(1, 2, 0.1) - 0.19).abs() < 1e-12);
        assert_eq!(at_least(1, 2, 0.0), 0.0);
    }

    #[test]
    fn comparisons_that_can_show_nothing_cost_nothing() {
        let changed = |counts: &[usize]| -> Vec<Paired> {
            counts.iter().map(|broken| Paired { n: 30, fixed: 0, broken: *broken }).collect()
        };
        // 2^-4 = 0.0625 could be below 0.1; of two such neither could be below 0.05, so one part is enough.
        assert_eq!(shared_level(0.1, changed(&[4]).iter()), 0.1);
        assert_eq!(shared_level(0.1, changed(&[4, 4]).iter()), 0.05);
        // A hundred functions with one changed example each stand in nobody's way.
        assert_eq!(shared_level(0.1, changed(&[&[5][..], &[1; 100]].concat()).iter()), 0.1);
        assert_eq!(shared_level(0.1, changed(&[9, 9, 9]).iter()), 0.1 / 3.0);
        assert_eq!(shared_level(0.1, [].iter()), 0.1);
    }

    #[test]
    fn only_changed_examples_count() {
        let candidate = [true, true, false, false, true];
        let production = [true, false, true, false, false];
        let paired = Paired::count(candidate.into_iter(), production.into_iter());
        assert_eq!(paired, Paired { n: 5, fixed: 2, broken: 1 });
        assert!((paired.difference() - 0.2).abs() < 1e-12);
        assert!((paired.p_better() - 0.5).abs() < 1e-12);
        assert!((paired.p_worse() - 0.875).abs() < 1e-12);
    }
}
