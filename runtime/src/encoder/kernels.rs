//! The int8 matrix product: packed weights and the innermost loops over them.
//!
//! Weights are packed into *stripes* of [`STRIPE`] outputs. A stripe is a sequence of steps, one for every four inputs;
//! a step holds four weights for each output, side by side, as the dot-product instructions want them. A *tile* is what
//! one walk over a stripe computes: up to [`MAX_ROWS`] rows by [`STRIPE`] outputs, all of whose sums are in registers.
//! The weights of a stripe are read once from memory, and from the cache for every further block of rows.
//!
//! Unsigned activations times signed weights are summed in i32 without saturation, on every instruction set: the tiles
//! are equal to the last bit.
//!
//! Invariant: everything `unsafe` is behind [`Panels::multiply`], which checks every length.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use super::instructions::{InstructionSet, Instructions};

/// Outputs of a stripe: two vectors of AVX-512.
pub(super) const STRIPE: usize = 32;

/// Rows of a tile. With two vectors a row, 24 of the 32 registers of AVX-512 hold sums; 26 already made the compiler
/// spill some.
pub(super) const MAX_ROWS: usize = 12;

/// Inputs of one step.
const STEP: usize = 4;

/// How far ahead of their use weights are fetched, in lines of 64 bytes. Measured with 16 rows and weights that are not in
/// any cache: 600 GOP/s without, 870 at 128, 990 at 256, less from 512 on.
const AHEAD: usize = 256;

/// A line of the cache: the weights of one step for 16 outputs.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([i8; 64]);

/// Sums of products, before scales and bias.
///
/// # Shapes
/// `[rows, STRIPE]`
#[repr(C, align(64))]
pub(super) struct Tile(pub(super) [[i32; STRIPE]; MAX_ROWS]);

impl Tile {
    pub(super) fn new() -> Self {
        Self([[0; STRIPE]; MAX_ROWS])
    }
}

/// Packed weights.
pub(super) struct Panels {
    steps: usize,
    /// `[stripes, steps, 2]`
    lines: Vec<Line>,
}

impl Panels {
    /// Weights of zero.
    pub(super) fn zeros(outputs: usize, inputs: usize) -> Self {
        let (steps, stripes) = (inputs.div_ceil(STEP), outputs.div_ceil(STRIPE));
        Self { steps, lines: vec![Line([0; 64]); stripes * steps * 2] }
    }

    /// Sets the weights of one output.
    ///
    /// # Shapes
    /// `weights`: `[inputs]`
    pub(super) fn set_output(&mut self, output: usize, weights: &[i8]) {
        let first = output / STRIPE * self.steps * 2 + output % STRIPE / 16;
        let at = output % 16 * STEP;
        let lines = self.lines[first..].iter_mut().step_by(2);
        for (line, weights) in lines.zip(weights.chunks(STEP)) {
            line.0[at..at + weights.len()].copy_from_slice(weights);
        }
    }

    /// Bytes from one row of activations to the next.
    pub(super) fn stride(&self) -> usize {
        self.steps * STEP
    }

    /// Computes a tile of at most [`MAX_ROWS`] rows.
    ///
    /// # Shapes
    /// `rows`: `[count, self.stride()]`
    ///
    /// # Panics
    /// When there is no such stripe, or a wrong number of rows.
    pub(super) fn multiply(&self, instructions: Instructions, stripe: usize, rows: &[u8], tile: &mut Tile) -> usize {
        let stride = self.stride();
        let lines = &self.lines[stripe * self.steps * 2..][..self.steps * 2];
        let count = rows.len() / stride.max(1);
        assert!(count <= MAX_ROWS && count * stride == rows.len(), "whole rows, and no more than a tile has");
        match instructions.set() {
            // SAFETY: the processor runs the set, by the invariant of `Instructions`; there are `count` rows of `stride`
            // bytes, `count` is at most `MAX_ROWS`, and the stripe has two lines for every four of these bytes.
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512Vnni => unsafe { avx512::multiply(rows, stride, lines, count, tile) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            InstructionSet::AvxVnni => unsafe { avx2::multiply_vnni(rows, stride, lines, count, tile) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => unsafe { avx2::multiply(rows, stride, lines, count, tile) },
            _ => multiply(rows, stride, lines, tile),
        }
        count
    }
}

/// The definition, for what has no code of its own.
fn multiply(rows: &[u8], stride: usize, lines: &[Line], tile: &mut Tile) {
    for (row, sums) in rows.chunks_exact(stride.max(1)).zip(&mut tile.0) {
        *sums = [0; STRIPE];
        for (values, lines) in row.chunks_exact(STEP).zip(lines.chunks_exact(2)) {
            let weights = lines.iter().flat_map(|line| line.0.chunks_exact(STEP));
            for (sum, weights) in sums.iter_mut().zip(weights) {
                *sum += values.iter().zip(weights).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum::<i32>();
            }
        }
    }
}

/// Cuts rows into blocks of at most [`MAX_ROWS`] and nearly the same size.
pub(super) fn row_blocks(rows: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let blocks = rows.div_ceil(MAX_ROWS);
    (0..blocks).map(move |block| rows * block / blocks..rows * (block + 1) / blocks)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sums(values: &[u8], weights: &[Vec<i8>], output: usize) -> i32 {
        weights.get(output).map_or(0, |weights| {
            values.iter().zip(weights).map(|(&value, &weight)| i32::from(value) * i32::from(weight)).sum()
        })
    }

    #[test]
    fn blocks_cover_all_rows_evenly() {
        assert_eq!(row_blocks(16).collect::<Vec<_>>(), [0..8, 8..16]);
        assert!(row_blocks(12).eq(std::iter::once(0..12)));
        assert_eq!(row_blocks(0).count(), 0);
        assert!(row_blocks(128).all(|block| (11..=12).contains(&block.len())));
    }

    proptest! {
        #[test]
        fn tiles_are_exact_on_every_instruction_set(
            count in 1usize..=MAX_ROWS,
            (inputs, outputs) in (1usize..90, 1usize..70),
            seed in any::<u64>(),
            extreme in any::<bool>(),
        ) {
            let mut state = seed;
            let mut byte = || {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                if extreme { if state >> 63 == 0 { 255 } else { 128 } } else { (state >> 56) as u8 }
            };
            let weights: Vec<Vec<i8>> =
                (0..outputs).map(|_| (0..inputs).map(|_| (byte() as i8).max(-127)).collect()).collect();
            let mut panels = Panels::zeros(outputs, inputs);
            weights.iter().enumerate().for_each(|(output, weights)| panels.set_output(output, weights));
            let rows: Vec<u8> = (0..count * panels.stride()).map(|_| byte()).collect();
            for set in InstructionSet::ALL {
                let Some(instructions) = Instructions::new(set) else { continue };
                for stripe in 0..outputs.div_ceil(STRIPE) {
                    let mut tile = Tile::new();
                    panels.multiply(instructions, stripe, &rows, &mut tile);
                    for (row, sums_of_row) in rows.chunks_exact(panels.stride()).zip(&tile.0) {
                        for (column, &sum) in sums_of_row.iter().enumerate() {
                            prop_assert_eq!(sum, sums(row, &weights, stripe * STRIPE + column), "{:?}", set);
                        }
                    }
                }
            }
        }
    }
}
