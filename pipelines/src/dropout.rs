//! Dropout whose masks come from a seed and a counter.
//!
//! burn draws from a random number generator that the whole process shares, so two runs beside each
//! other would disturb each other's masks. Here the n-th mask of a run depends on its seed and n alone.

use burn::tensor::{Tensor, TensorData};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A stream of dropout masks.
#[derive(Clone, Debug)]
pub struct DropoutSource {
    seed: u64,
    drawn: Arc<AtomicU64>,
}

impl DropoutSource {
    /// A stream that starts with its first mask.
    pub fn new(seed: u64) -> Self {
        Self { seed, drawn: Arc::default() }
    }

    /// Zeroes each number with `probability` and scales the rest by `1 / (1 - probability)`.
    ///
    /// # Shapes
    /// - input: `[rows, dim]`
    /// - output: `[rows, dim]`
    pub fn apply(&self, input: Tensor<2>, probability: f64) -> Tensor<2> {
        if probability <= 0.0 {
            return input;
        }
        let [rows, dim] = input.dims();
        let nth = self.drawn.fetch_add(1, Ordering::Relaxed);
        let mask = mask(rows * dim, self.seed ^ split_mix(nth), probability);
        let mask = Tensor::<2>::from_data(TensorData::new(mask, [rows, dim]), &input.device());
        input * mask
    }
}

/// `count` factors: 0 with `probability`, else `1 / (1 - probability)`. Four draws of 16 bits a word.
fn mask(count: usize, seed: u64, probability: f64) -> Vec<f32> {
    let threshold = (probability * 65_536.0) as u64;
    let keep = (1.0 / (1.0 - probability)) as f32;
    let mut state = seed;
    let mut factors = Vec::with_capacity(count + 3);
    while factors.len() < count {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let bits = split_mix(state);
        for lane in 0..4 {
            let draw = (bits >> (16 * lane)) & 0xFFFF;
            factors.push(if draw < threshold { 0.0 } else { keep });
        }
    }
    factors.truncate(count);
    factors
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
pub(crate) fn split_mix(mut value: u64) -> u64 {
    value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_keep_the_expected_share_and_mean() {
        let mask = mask(100_000, 7, 0.1);
        let zeros = mask.iter().filter(|&&factor| factor == 0.0).count();
        assert!((9_500..10_500).contains(&zeros), "{zeros}");
        let mean = mask.iter().sum::<f32>() / mask.len() as f32;
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
    }

    #[test]
    fn the_nth_mask_depends_on_seed_and_position_alone() {
        let device = burn::tensor::Device::flex();
        let ones = || Tensor::<2>::ones([8, 16], &device);
        let draw = |source: &DropoutSource| source.apply(ones(), 0.5).into_data();
        let (a, b) = (DropoutSource::new(3), DropoutSource::new(3));
        let first = draw(&a);
        assert_eq!(first, draw(&b));
        assert_ne!(first, draw(&a));
    }
}
