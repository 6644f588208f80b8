//! One transformer layer forward, with what its derivative needs, and backward
//! (`TransformerBlock` of Hugging Face's `modeling_distilbert.py`).

use super::attention::{Attended, Heads, Projected, Starts};
use super::linear::{Linear, LinearGradient};
use super::matrix::Output;
use super::pointwise::{Mask, Normalised, add_rows, gelu, gelu_backward, layer_norm, layer_norm_backward};

/// Scale and shift of a normalisation.
#[derive(Clone, Copy)]
pub(super) struct Norm<'a> {
    /// `[dim]`
    pub gamma: &'a [f32],
    /// `[dim]`
    pub beta: &'a [f32],
}

/// A layer's weights.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    /// Query, key and value projections.
    pub projections: [Linear<'a>; 3],
    /// Output projection of attention.
    pub out: Linear<'a>,
    /// After attention and its residual.
    pub attention_norm: Norm<'a>,
    /// `dim -> hidden_dim`
    pub up: Linear<'a>,
    /// `hidden_dim -> dim`
    pub down: Linear<'a>,
    /// After the feed-forward block and its residual.
    pub output_norm: Norm<'a>,
    /// Attention heads.
    pub heads: Heads,
}

/// What the forward pass leaves for the backward pass.
pub(super) struct Trace {
    input: Vec<f32>,
    projected: Projected,
    attended: Attended,
    attention: Normalised,
    expanded: Vec<f32>,
    activated: Vec<f32>,
    output: Normalised,
    mask: Option<Mask>,
}

/// Derivatives with respect to a layer's weights, in the order of [`Block`].
pub(super) struct BlockGradient {
    /// Query, key and value projections, output projection, up, down.
    pub linears: [LinearGradient; 6],
    /// Gamma and beta after attention and after the feed-forward block.
    pub norms: [(Vec<f32>, Vec<f32>); 2],
}

impl Block<'_> {
    /// `[rows, dim]` to `[rows, dim]`, which is the trace's last field.
    pub fn forward(&self, input: Vec<f32>, starts: &Starts, mask: Option<Mask>) -> Trace {
        let [query, key, value] = self.projections.map(|projection| projection.forward(&input));
        let projected = Projected { query, key, value };
        let attended = self.heads.forward(&projected, starts);
        let mut sum = self.out.forward(&attended.context);
        add_rows(&mut sum, &input);
        let attention = layer_norm(sum, self.attention_norm.gamma, self.attention_norm.beta);
        let expanded = self.up.forward(&attention.output);
        let activated = gelu(&expanded);
        let mut sum = self.down.forward(&activated);
        if let Some(mask) = mask {
            mask.apply(&mut sum);
        }
        add_rows(&mut sum, &attention.output);
        let output = layer_norm(sum, self.output_norm.gamma, self.output_norm.beta);
        Trace { input, projected, attended, attention, expanded, activated, output, mask }
    }

    /// From the derivative of the output to those of the weights; `gradient` becomes that of the input when `below`
    /// asks for it, and is of no use otherwise.
    pub fn backward(&self, trace: &Trace, gradient: &mut [f32], starts: &Starts, below: bool) -> BlockGradient {
        let output_norm = layer_norm_backward(gradient, &trace.output, self.output_norm.gamma);
        // The residual around the feed-forward block keeps its share.
        let mut branch = gradient.to_vec();
        if let Some(mask) = trace.mask {
            mask.apply(&mut branch);
        }
        let down = self.down.weight_gradient(&trace.activated, &branch);
        let mut expanded = vec![0f32; trace.expanded.len()];
        self.down.input_gradient(&branch, &mut expanded, Output::Replace);
        gelu_backward(&mut expanded, &trace.expanded);
        let up = self.up.weight_gradient(&trace.attention.output, &expanded);
        self.up.input_gradient(&expanded, gradient, Output::Add);
        let attention_norm = layer_norm_backward(gradient, &trace.attention, self.attention_norm.gamma);
        let out = self.out.weight_gradient(&trace.attended.context, gradient);
        let mut context = branch;
        self.out.input_gradient(gradient, &mut context, Output::Replace);
        let Projected { query, key, value } = self.heads.backward(&trace.projected, &trace.attended, &context, starts);
        let gradients = [query, key, value];
        let [query, key, value] = [0, 1, 2].map(|n| self.projections[n].weight_gradient(&trace.input, &gradients[n]));
        if below {
            for (projection, of) in self.projections.iter().zip(&gradients) {
                projection.input_gradient(of, gradient, Output::Add);
            }
        }
        BlockGradient { linears: [query, key, value, out, up, down], norms: [attention_norm, output_norm] }
    }
}

impl Trace {
    /// `[rows, dim]`
    pub fn output(&self) -> &[f32] {
        &self.output.output
    }

    /// The output alone.
    pub fn into_output(self) -> Vec<f32> {
        self.output.output
    }
}
