//! Dropout whose masks come from a seed and a place, on any device.
//!
//! burn draws from a random number generator that the whole process shares, so two runs beside each
//! other would disturb each other's masks. Here a mask depends on the step, the place in the model and the place of a number
//! among the real tokens alone, and is the one that [`crate::native`] draws. It travels to the device as bits.

use burn::tensor::{Int, Tensor, TensorData};
use rayon::prelude::*;
use std::sync::Arc;

use crate::native::{Dropout, Mask};

/// The masks of one training step on padded sequences.
#[derive(Clone, Debug)]
pub struct DropoutSource {
    dropout: Dropout,
    /// For each row of the padded batch its row among the real tokens; none where padded.
    tokens: Arc<[Option<usize>]>,
}

impl DropoutSource {
    /// The masks of `dropout` for sequences that begin at `starts`, padded to `seq_length`.
    pub(crate) fn new(dropout: Dropout, starts: &[usize], seq_length: usize) -> Self {
        let row = |pair: &[usize], column: usize| (column < pair[1] - pair[0]).then_some(pair[0] + column);
        let sequences = starts.windows(2);
        let tokens = sequences.flat_map(|pair| (0..seq_length).map(move |column| row(pair, column))).collect();
        Self { dropout, tokens }
    }

    /// Dropout inside the encoder.
    ///
    /// # Shapes
    /// - input, output: `[batch_size * seq_length, dim]`
    pub fn encoder(&self, input: Tensor<2>, place: u64) -> Tensor<2> {
        drop(input, self.dropout.mask(place, self.dropout.encoder), &self.tokens)
    }

    /// Dropout before a head that reads every token.
    ///
    /// # Shapes
    /// - input, output: `[batch_size * seq_length, dim]`
    pub fn head_of_tokens(&self, input: Tensor<2>, place: u64) -> Tensor<2> {
        drop(input, self.dropout.mask(place, self.dropout.head), &self.tokens)
    }

    /// Dropout before a head that reads rows without padding.
    ///
    /// # Shapes
    /// - input, output: `[rows, dim]`
    pub fn head(&self, input: Tensor<2>, place: u64) -> Tensor<2> {
        let rows: Vec<Option<usize>> = (0..input.dims()[0]).map(Some).collect();
        drop(input, self.dropout.mask(place, self.dropout.head), &rows)
    }
}

/// Zeroes what `mask` does not keep of the rows that are some row of the mask, and the other rows.
fn drop(input: Tensor<2>, mask: Option<Mask>, rows: &[Option<usize>]) -> Tensor<2> {
    const BITS: usize = 32;
    let Some(mask) = mask else { return input };
    let [count, dim] = input.dims();
    debug_assert_eq!(count, rows.len());
    let words = dim.div_ceil(BITS);
    let row = |row: &Option<usize>| row.map_or_else(|| vec![0; words], |row| mask.kept(row * dim, dim));
    let bits: Vec<i32> = rows.par_iter().flat_map_iter(row).map(u32::cast_signed).collect();
    let device = input.device();
    let shape = [count * words, BITS];
    let bits = Tensor::<2, Int>::from_data(TensorData::new(bits, [count * words, 1]), &device).expand(shape);
    let places = Tensor::<1, Int>::arange(0..BITS as i64, &device).reshape([1, BITS]).expand(shape);
    // The sign that a shift brings along lies above the one bit that is looked at.
    let kept = bits.bitwise_right_shift(places).bitwise_and_scalar(1);
    let factors = kept.reshape([count, words * BITS]).narrow(1, 0, dim).float() * mask.factor();
    input * factors
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
    use crate::device::host;

    #[test]
    fn the_masks_are_those_of_the_native_step() {
        let dropout = Dropout { stream: 9, encoder: 0.4, head: 0.2 };
        // Two and three tokens; 40 numbers a row are no whole words.
        let (dim, starts) = (40, [0, 2, 5]);
        let source = DropoutSource::new(dropout, &starts, 3);
        let dropped = source.encoder(Tensor::ones([6, dim], &host()), 7);
        let dropped = dropped.into_data().try_to_vec::<f32>().unwrap();
        let mut expected = vec![1f32; 5 * dim];
        dropout.mask(7, 0.4).unwrap().apply(&mut expected);
        assert_eq!(dropped[..2 * dim], expected[..2 * dim]);
        assert!(dropped[2 * dim..3 * dim].iter().all(|factor| *factor == 0.0));
        assert_eq!(dropped[3 * dim..], expected[2 * dim..]);
        let head = source.head(Tensor::ones([5, dim], &host()), 1).into_data().try_to_vec::<f32>().unwrap();
        let mut expected = vec![1f32; 5 * dim];
        dropout.mask(1, 0.2).unwrap().apply(&mut expected);
        assert_eq!(head, expected);
    }
}
