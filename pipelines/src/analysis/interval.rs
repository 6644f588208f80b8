//! Shares with the interval that so many examples allow.

use serde::{Deserialize, Serialize};

/// The normal quantile of a two-sided 95 % interval.
const Z: f64 = 1.959_963_985;

/// A share of examples with its 95 % interval (Wilson 1927, doi 10.1080/01621459.1927.10502953).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// Examples that count.
    pub right: usize,
    /// All examples.
    pub of: usize,
    /// The share, in [0, 1]; 0 without examples.
    pub value: f64,
    /// Lower end of the interval; 0 without examples.
    pub low: f64,
    /// Upper end of the interval; 1 without examples.
    pub high: f64,
}

impl Share {
    /// The share of `right` in `of`.
    pub fn new(right: usize, of: usize) -> Self {
        if of == 0 {
            return Self { right, of, value: 0.0, low: 0.0, high: 1.0 };
        }
        let (n, share) = (of as f64, right as f64 / of as f64);
        let center = (share + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
        let half = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt() / (1.0 + Z * Z / n);
        // Rounding must not exclude the share itself.
        Self {
            right,
            of,
            value: share,
            low: (center - half).clamp(0.0, share),
            high: (center + half).clamp(share, 1.0),
        }
    }

    /// The share of those that `is_right`.
    pub fn of<T>(items: impl Iterator<Item = T>, is_right: impl Fn(&T) -> bool) -> Self {
        let (right, of) = items.fold((0, 0), |(right, of), item| (right + usize::from(is_right(&item)), of + 1));
        Self::new(right, of)
    }

    /// F1 of `right` among `labelled` and `decided`, with an interval: F1 is 2J / (1 + J) of the share J of the right ones
    /// among all that were labelled or decided, and the interval is that of J.
    pub fn f1(right: usize, labelled: usize, decided: usize) -> Self {
        let union = (labelled + decided).saturating_sub(right);
        let share = Self::new(right, union);
        let f1 = |share: f64| 2.0 * share / (1.0 + share);
        Self { value: f1(share.value), low: f1(share.low), high: f1(share.high), ..share }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_by_hand() {
        // 9 of 10: z² = 3.8415, center (0.9 + 0.19207) / 1.38415 = 0.78899,
        // half 1.96 * sqrt(0.009 + 0.0096036) / 1.38415 = 0.19314.
        let share = Share::new(9, 10);
        assert!((share.low - 0.5958).abs() < 1e-4 && (share.high - 0.9821).abs() < 1e-4, "{share:?}");
        // Nothing of n: the upper end is z² / (n + z²).
        let none = Share::new(0, 20);
        assert_eq!(none.low, 0.0);
        assert!((none.high - 3.841_459 / 23.841_459).abs() < 1e-6, "{none:?}");
        let empty = Share::new(0, 0);
        assert_eq!((empty.low, empty.high), (0.0, 1.0));
    }

    #[test]
    fn f1_is_between_its_ends() {
        // 6 right of 8 labelled and 9 decided: 2 * 6 / 17.
        let f1 = Share::f1(6, 8, 9);
        assert!((f1.value - 12.0 / 17.0).abs() < 1e-12);
        assert!(f1.low < f1.value && f1.value < f1.high);
        assert_eq!(Share::f1(4, 4, 4).value, 1.0);
    }
}
