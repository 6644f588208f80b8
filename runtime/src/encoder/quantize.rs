//! Quantisation of weights, when loading.
//!
//! Invariant: the same weights give the same bytes on every instruction set.

use rten_simd::ops::{BitOps, FloatOps, NumOps};
use rten_simd::{Isa, Simd, SimdOp};

use super::instructions::Instructions;
use super::passes::load;

/// Quantises one output channel symmetrically to `-limit..=limit`; gives its scale and the sum of the quantised weights.
pub(super) fn quantize_weights(
    instructions: Instructions,
    channel: &[f32],
    limit: f32,
    quantized: &mut [i8],
) -> (f32, i32) {
    let largest = instructions.run(LargestMagnitude(channel));
    let scale = if largest > 0.0 && largest.is_finite() { largest / limit } else { 1.0 };
    (scale, instructions.run(RoundToI8 { channel, inverse_scale: 1.0 / scale, limit, quantized }))
}

struct LargestMagnitude<'a>(&'a [f32]);

impl SimdOp for LargestMagnitude<'_> {
    type Output = f32;

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) -> f32 {
        let ops = isa.f32();
        let mut largest = ops.zero();
        for at in (0..self.0.len()).step_by(ops.len()) {
            largest = ops.max(largest, ops.abs(load(ops, self.0, at)));
        }
        largest.to_array().into_iter().fold(0.0, f32::max)
    }
}

struct RoundToI8<'a> {
    channel: &'a [f32],
    inverse_scale: f32,
    limit: f32,
    quantized: &'a mut [i8],
}

impl SimdOp for RoundToI8<'_> {
    type Output = i32;

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) -> i32 {
        let ops = isa.f32();
        let (scale, lowest, highest) = (ops.splat(self.inverse_scale), ops.splat(-self.limit), ops.splat(self.limit));
        let mut sum = 0;
        for (part, quantized) in self.quantized.chunks_mut(ops.len()).enumerate() {
            let value = ops.mul(load(ops, self.channel, part * ops.len()), scale);
            let rounded = ops.to_int_round(ops.min(ops.max(value, lowest), highest)).to_array();
            for (quantized, value) in quantized.iter_mut().zip(rounded) {
                *quantized = value as i8;
                sum += value;
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::instructions::InstructionSet;

    #[test]
    fn weights_are_quantised_per_channel() {
        for set in InstructionSet::ALL {
            let Some(instructions) = Instructions::new(set) else { continue };
            let quantize = |weights: &[f32]| {
                let mut quantized = vec![0; weights.len()];
                let (scale, sum) = quantize_weights(instructions, weights, 127.0, &mut quantized);
                (quantized, scale, sum)
            };
            assert_eq!(quantize(&[1.0, -0.51, 0.0]), (vec![127, -65, 0], 1.0 / 127.0, 62));
            assert_eq!(quantize(&[0.0, 0.0]), (vec![0, 0], 1.0, 0));
            let long: Vec<f32> = (0..37).map(|i| (i - 18) as f32).collect();
            assert_eq!(
                quantize(&long),
                (long.iter().map(|v| (v * 127.0 / 18.0).round() as i8).collect(), 18.0 / 127.0, 0)
            );
        }
    }
}
