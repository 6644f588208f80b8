//! A small fully connected layer in f32, for the heads.

use crate::checkpoint::Checkpoint;
use crate::error::Result;

/// `y = W x + b`.
///
/// # Shapes
/// `weight`: `[outputs, inputs]`, `bias`: `[outputs]`
#[derive(Debug)]
pub(super) struct Linear {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Linear {
    pub(super) fn load(checkpoint: &Checkpoint, name: &str, outputs: usize, inputs: usize) -> Result<Self> {
        Ok(Self {
            weight: checkpoint.tensor(&format!("{name}.weight"), &[outputs, inputs])?,
            bias: checkpoint.tensor(&format!("{name}.bias"), &[outputs])?,
        })
    }

    /// # Shapes
    /// `input`: `[inputs]`; the result: `[outputs]`
    pub(super) fn forward(&self, input: &[f32]) -> Vec<f32> {
        let rows = self.weight.chunks_exact(input.len().max(1));
        rows.zip(&self.bias).map(|(row, bias)| bias + dot(row, input)).collect()
    }
}

/// Eight running sums let the compiler use vector registers; a single one would fix the order of additions.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (a_chunks, a_rest) = a.as_chunks::<8>();
    let (b_chunks, b_rest) = b.as_chunks::<8>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiplies_rows_and_adds_the_bias() {
        let inputs: Vec<f32> = (0..11).map(|i| i as f32).collect();
        let layer = Linear { weight: [vec![1.0; 11], inputs.clone()].concat(), bias: vec![0.5, -1.0] };
        assert_eq!(layer.forward(&inputs), [55.5, 384.0]);
    }
}
