//! One transformer block: attention and feed-forward network, each followed by a residual connection and LayerNorm.
//!
//! Invariant: between blocks the rows are in f32; a product's inputs are quantised right before it.

use rten_simd::SimdOp;

use super::Precision;
use super::attention::Attention;
use super::passes::{AddBias, GeluRows, LayerNorm, QuantizeRows, Quantized, ResidualNorm};
use super::product::{Accumulators, Input, Kernels, Product, QuantizedRows, Source};
use crate::checkpoint::Checkpoint;
use crate::error::Result;

pub(super) struct Block {
    dim: usize,
    hidden_dim: usize,
    n_heads: usize,
    precision: Precision,
    query_key_value: Product,
    attention_output: Product,
    attention_norm: LayerNorm,
    expand: Product,
    contract: Product,
    output_norm: LayerNorm,
}

/// Work buffers, kept from one request to the next.
#[derive(Default)]
pub(super) struct Scratch {
    accumulators: Accumulators,
    quantized: QuantizedRows,
    quantized_hidden: QuantizedRows,
    /// `[rows, 3 * dim]`
    query_key_value: Vec<f32>,
    /// `[rows, dim]`
    context: Vec<f32>,
    /// `[rows, hidden_dim]`, or one row when it is quantised at once
    hidden: Vec<f32>,
    transposed_keys: Vec<f32>,
    scores: Vec<f32>,
}

impl Block {
    /// Loads a block whose inputs come from the LayerNorm of this name.
    pub(super) fn load(
        checkpoint: &Checkpoint,
        index: usize,
        input_norm: &LayerNorm,
        precision: Precision,
        kernels: &Kernels,
    ) -> Result<Self> {
        let config = checkpoint.config();
        let (dim, hidden_dim) = (config.dim, config.hidden_dim);
        let layer = format!("distilbert.transformer.layer.{index}");
        let product = |parts: &[&str], shape: [usize; 2], source: Source| {
            let names: Vec<String> = parts.iter().map(|part| format!("{layer}.{part}")).collect();
            Product::load(checkpoint, &names, shape, source, (precision, kernels))
        };
        let norm = |part: &str| LayerNorm::load(checkpoint, &format!("{layer}.{part}"), dim);
        let attention_norm = norm("sa_layer_norm")?;
        let projections = ["attention.q_lin", "attention.k_lin", "attention.v_lin"];
        Ok(Self {
            dim,
            hidden_dim,
            n_heads: config.n_heads,
            precision,
            query_key_value: product(&projections, [dim, dim], Source::Norm(input_norm))?,
            attention_output: product(&["attention.out_lin"], [dim, dim], Source::Attention)?,
            expand: product(&["ffn.lin1"], [hidden_dim, dim], Source::Norm(&attention_norm))?,
            contract: product(&["ffn.lin2"], [dim, hidden_dim], Source::Activation)?,
            attention_norm,
            output_norm: norm("output_layer_norm")?,
        })
    }

    /// The LayerNorm that the next block's inputs come from.
    pub(super) fn output_norm(&self) -> &LayerNorm {
        &self.output_norm
    }

    /// # Shapes
    /// `rows`: `[total_tokens, dim]`, replaced by the block's output
    pub(super) fn forward(&self, kernels: &Kernels, sequences: &[&[u32]], rows: &mut [f32], scratch: &mut Scratch) {
        let (dim, hidden_dim, count) = (self.dim, self.hidden_dim, rows.len() / self.dim);
        let int8 = self.precision == Precision::Int8;
        let Scratch {
            accumulators,
            quantized,
            query_key_value,
            context,
            hidden,
            transposed_keys,
            scores,
            quantized_hidden,
        } = scratch;

        let input = self.input(&self.query_key_value, rows, dim, quantized);
        let product = self.query_key_value.multiply(kernels, count, input, accumulators);
        query_key_value.resize(count * 3 * dim, 0.0);
        AddBias { product, width: 3 * dim, rows: query_key_value }.dispatch();

        context.resize(count * dim, 0.0);
        let mut first = 0;
        for sequence in sequences {
            let last = first + sequence.len();
            Attention {
                n_heads: self.n_heads,
                dim,
                query_key_value: &query_key_value[first * 3 * dim..last * 3 * dim],
                context: &mut context[first * dim..last * dim],
                transposed_keys,
                scores,
            }
            .dispatch();
            first = last;
        }

        let input = self.input(&self.attention_output, context, dim, quantized);
        let product = self.attention_output.multiply(kernels, count, input, accumulators);
        ResidualNorm { product, rows, norm: &self.attention_norm }.dispatch();

        let input = self.input(&self.expand, rows, dim, quantized);
        let product = self.expand.multiply(kernels, count, input, accumulators);
        hidden.resize(if int8 { hidden_dim } else { count * hidden_dim }, 0.0);
        let target = int8.then(|| {
            let outlier_columns = self.contract.outlier_columns();
            quantized_hidden.resize(count, hidden_dim, outlier_columns.len());
            Quantized { outlier_columns, rows: &mut *quantized_hidden }
        });
        GeluRows { product, width: hidden_dim, rows: count, values: hidden, quantized: target }.dispatch();

        let input = if int8 { Input::Int8(quantized_hidden) } else { Input::Single(hidden) };
        let product = self.contract.multiply(kernels, count, input, accumulators);
        ResidualNorm { product, rows, norm: &self.output_norm }.dispatch();
    }

    /// Brings the input of a product into its precision.
    fn input<'a>(
        &self,
        product: &Product,
        rows: &'a mut [f32],
        width: usize,
        quantized: &'a mut QuantizedRows,
    ) -> Input<'a> {
        if self.precision == Precision::F32 {
            return Input::Single(rows);
        }
        let outlier_columns = product.outlier_columns();
        quantized.resize(rows.len() / width, width, outlier_columns.len());
        QuantizeRows { rows, width, quantized: Quantized { outlier_columns, rows: quantized } }.dispatch();
        Input::Int8(quantized)
    }
}
