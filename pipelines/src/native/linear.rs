//! A linear layer over rows.

use super::matrix::{Output, Threads, View, multiply};
use super::pointwise::column_sums;

/// A linear layer's weights.
#[derive(Clone, Copy)]
pub(super) struct Linear<'a> {
    /// `[input, output]`
    pub weight: &'a [f32],
    /// `[output]`
    pub bias: &'a [f32],
}

/// Derivatives with respect to a linear layer's weights.
pub(super) struct LinearGradient {
    /// `[input, output]`
    pub weight: Vec<f32>,
    /// `[output]`
    pub bias: Vec<f32>,
}

impl Linear<'_> {
    fn input(&self) -> usize {
        self.weight.len() / self.bias.len()
    }

    /// `[rows, input]` to `[rows, output]`.
    pub fn forward(&self, input: &[f32]) -> Vec<f32> {
        let (dim, columns) = (self.input(), self.bias.len());
        let rows = input.len() / dim;
        let mut output = Vec::with_capacity(rows * columns);
        (0..rows).for_each(|_| output.extend_from_slice(self.bias));
        let (a, b) = (View::new(input, rows, dim), View::new(self.weight, dim, columns));
        multiply((&mut output, columns), a, b, (Output::Add, 1.0), Threads::All);
        output
    }

    /// Derivatives of the weights, from the input and the derivative of the output.
    pub fn weight_gradient(&self, input: &[f32], gradient: &[f32]) -> LinearGradient {
        let (dim, columns) = (self.input(), self.bias.len());
        let rows = input.len() / dim;
        let mut weight = vec![0f32; self.weight.len()];
        let (a, b) = (View::new(input, rows, dim).transposed(), View::new(gradient, rows, columns));
        multiply((&mut weight, columns), a, b, (Output::Replace, 1.0), Threads::All);
        LinearGradient { weight, bias: column_sums(gradient, columns) }
    }

    /// The derivative of the input, `[rows, input]`, added to `sum` or in its place.
    pub fn input_gradient(&self, gradient: &[f32], sum: &mut [f32], mode: Output) {
        let (dim, columns) = (self.input(), self.bias.len());
        let rows = gradient.len() / columns;
        let (a, b) = (View::new(gradient, rows, columns), View::new(self.weight, dim, columns).transposed());
        multiply((sum, dim), a, b, (mode, 1.0), Threads::All);
    }
}
