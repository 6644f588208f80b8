//! A small fully connected layer, for the heads.

use crate::checkpoint::Checkpoint;
use crate::dot::dots;
use crate::encoder::Precision;
use crate::error::Result;
use crate::rows::{Query, Rows};

/// `y = W x + b`, with one scale an output where the weights are 8-bit integers.
///
/// # Shapes
/// `weight`: `[outputs, inputs]`, `bias`: `[outputs]`
#[derive(Debug)]
pub(super) struct Linear {
    weight: Weight,
    bias: Vec<f32>,
}

#[derive(Debug)]
enum Weight {
    Single(Vec<f32>),
    Int8(Rows),
}

impl Linear {
    pub(super) fn load(
        checkpoint: &Checkpoint,
        name: &str,
        [outputs, inputs]: [usize; 2],
        precision: Precision,
    ) -> Result<Self> {
        let weight = checkpoint.tensor(&format!("{name}.weight"), &[outputs, inputs])?;
        let bias = checkpoint.tensor(&format!("{name}.bias"), &[outputs])?;
        Ok(Self::new(weight, bias, inputs, precision))
    }

    fn new(weight: Vec<f32>, bias: Vec<f32>, inputs: usize, precision: Precision) -> Self {
        let weight = match precision {
            Precision::F32 => Weight::Single(weight),
            Precision::Int8 => Weight::Int8(Rows::from_embeddings(&weight, inputs)),
        };
        Self { weight, bias }
    }

    /// # Shapes
    /// `input`: `[inputs]`; the result: `[outputs]`
    pub(super) fn forward(&self, input: &[f32]) -> Vec<f32> {
        let mut outputs = match &self.weight {
            Weight::Single(weight) => dots(weight.chunks_exact(input.len()), input),
            Weight::Int8(weight) => {
                let every: Vec<u32> = (0..self.bias.len() as u32).collect();
                weight.similarities(&every, &Query::of(input))
            }
        };
        outputs.iter_mut().zip(&self.bias).for_each(|(output, bias)| *output += bias);
        outputs
    }

    /// A layer of some of the outputs, whose weights lie together.
    pub(super) fn of(&self, which: &[u32]) -> Self {
        let rows = which.iter().map(|output| *output as usize);
        let weight = match &self.weight {
            Weight::Single(weight) => {
                let width = weight.len().checked_div(self.bias.len()).unwrap_or(0);
                Weight::Single(rows.flat_map(|row| &weight[row * width..(row + 1) * width]).copied().collect())
            }
            Weight::Int8(weight) => {
                let mut some = Rows::zeros(which.len(), weight.dim);
                rows.enumerate().for_each(|(index, row)| some.copy(index, weight, row));
                Weight::Int8(some)
            }
        };
        Self { weight, bias: which.iter().map(|output| self.bias[*output as usize]).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiplies_rows_and_adds_the_bias() {
        let inputs: Vec<f32> = (0..11).map(|i| i as f32).collect();
        let layer = |precision| Linear::new([vec![1.0; 11], inputs.clone()].concat(), vec![0.5, -1.0], 11, precision);
        let exact = layer(Precision::F32);
        assert_eq!(exact.forward(&inputs), [55.5, 384.0]);
        let int8 = layer(Precision::Int8);
        for (output, expected) in int8.forward(&inputs).into_iter().zip([55.5, 384.0]) {
            // Half a step of each weight, times the inputs.
            assert!((output - expected).abs() < 0.5 * 10.0 / 127.0 * 55.0, "{output}");
        }
        for layer in [exact, int8] {
            let all = layer.forward(&inputs);
            assert_eq!(layer.of(&[1, 0]).forward(&inputs), [all[1], all[0]]);
            assert!(layer.of(&[]).forward(&inputs).is_empty());
        }
    }
}
