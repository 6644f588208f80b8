//! Dropout whose masks come from a seed and a counter.
//!
//! burn draws from a random number generator that the whole process shares, so two runs beside each
//! other would disturb each other's masks. Here the n-th mask of a run depends on its seed and n alone.

use burn::tensor::{Tensor, TensorData};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::native::Mask;

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
        let nth = self.drawn.fetch_add(1, Ordering::Relaxed);
        let Some(mask) = Mask::new(self.seed ^ split_mix(nth), probability) else { return input };
        let [rows, dim] = input.dims();
        let mut factors = vec![1f32; rows * dim];
        mask.apply(&mut factors);
        let factors = Tensor::<2>::from_data(TensorData::new(factors, [rows, dim]), &input.device());
        input * factors
    }
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
