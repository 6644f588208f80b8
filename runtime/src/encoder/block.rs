//! One transformer block: attention and feed-forward network, each followed by a residual connection and LayerNorm.
//!
//! A block is nine phases of its team: four products, the heads of the attention, and four walks over the rows in between
//! that bring them into the form the next product wants. Between blocks the rows are in f32, and quantised as well where
//! the products are in int8.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Precision;
use super::attention::{Attention, AttentionScratch};
use super::instructions::Instructions;
use super::kernels::STRIPE;
use super::passes::{Activation, GatherRows, LayerNorm, QuantizeRows, Quantized, ResidualNorm};
use super::product::{Accumulators, Input, Operand, Product, Source};
use super::team::{Even, MAX_TASKS, Ranges, Team};
use crate::checkpoint::Checkpoint;
use crate::error::Result;

pub(super) struct Block {
    dim: usize,
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
    /// What the next product reads.
    operand: Operand,
    /// The output of a product, striped.
    product: Vec<f32>,
    /// What the heads leave, sequence after sequence: `[heads, tokens, head_dim]`
    context: Vec<f32>,
    /// The first row and the number of tokens of the sequence that each row belongs to.
    places: Vec<[usize; 2]>,
    /// The sequences by first row and number of tokens, without empty ones.
    sequences: Vec<[usize; 2]>,
    /// Where each task of the attention writes to.
    bounds: Vec<usize>,
    attention: Mutex<Vec<AttentionScratch>>,
    attention_threads: usize,
}

/// How a forward pass is computed, and what it keeps in hand.
pub(super) struct Pass<'a> {
    pub(super) team: &'a Team<'a>,
    pub(super) instructions: Instructions,
    pub(super) scratch: &'a mut Scratch,
}

impl Scratch {
    /// Prepares for a ragged batch of sequences of these lengths.
    pub(super) fn prepare(
        &mut self,
        lengths: impl Iterator<Item = usize>,
        config: &crate::checkpoint::Config,
        threads: usize,
    ) {
        let (head_dim, n_heads) = (config.head_dim(), config.n_heads);
        self.places.clear();
        self.sequences.clear();
        self.bounds.clear();
        self.bounds.push(0);
        let (mut first, mut longest) = (0, 0);
        for tokens in lengths.filter(|&tokens| tokens > 0) {
            self.sequences.push([first, tokens]);
            self.places.extend((0..tokens).map(|_| [first, tokens]));
            first += tokens;
            longest = longest.max(tokens);
        }
        for &[first, tokens] in &self.sequences {
            self.bounds.extend((1..=n_heads).map(|head| (first * n_heads + head * tokens) * head_dim));
        }
        // Buffers of all threads, so that one that comes later finds its own.
        let attention = self.attention.get_mut().unwrap_or_else(PoisonError::into_inner);
        attention.resize_with(threads.max(self.attention_threads), AttentionScratch::default);
        self.attention_threads = attention.len();
        attention.iter_mut().for_each(|scratch| scratch.reserve(longest, head_dim));
    }
}

impl Block {
    /// Loads a block whose inputs come from the LayerNorm of this name.
    pub(super) fn load(
        checkpoint: &Checkpoint,
        index: usize,
        input_norm: &LayerNorm,
        how: (Precision, Instructions),
    ) -> Result<Self> {
        let config = checkpoint.config();
        let (dim, hidden_dim) = (config.dim, config.hidden_dim);
        let layer = format!("distilbert.transformer.layer.{index}");
        let product = |parts: &[&str], shape: [usize; 2], source: Source| {
            let names: Vec<String> = parts.iter().map(|part| format!("{layer}.{part}")).collect();
            Product::load(checkpoint, &names, shape, source, how)
        };
        let norm = |part: &str| LayerNorm::load(checkpoint, &format!("{layer}.{part}"), dim);
        let attention_norm = norm("sa_layer_norm")?;
        let projections = ["attention.q_lin", "attention.k_lin", "attention.v_lin"];
        Ok(Self {
            dim,
            n_heads: config.n_heads,
            precision: how.0,
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

    /// Quantises the rows that the first block is given.
    pub(super) fn quantize_input(&self, pass: &mut Pass, rows: &mut [f32]) {
        if self.precision == Precision::F32 {
            return;
        }
        let (dim, instructions) = (self.dim, pass.instructions);
        let count = rows.len() / dim;
        let operand = &mut pass.scratch.operand;
        operand.resize(count, &self.query_key_value);
        let stride = operand.stride;
        let share = pass.team.share_of(count);
        let parts = (
            Even::new(rows, share * dim),
            Even::new(&mut operand.values, share * stride),
            Even::new(&mut operand.rows, share),
        );
        pass.team.run(count.div_ceil(share), parts, |_, (part, values, quantized_rows)| {
            let outlier_columns = self.query_key_value.outlier_columns();
            let quantized = Quantized { outlier_columns, values, stride, rows: quantized_rows };
            instructions.run(QuantizeRows { rows: part, width: dim, quantized });
        });
    }

    /// Computes the block's output, quantised for the block that comes `next`.
    ///
    /// # Shapes
    /// `rows`: `[total_tokens, dim]`, replaced by the block's output
    pub(super) fn forward(&self, pass: &mut Pass, rows: &mut [f32], next: Option<&Self>) {
        let count = rows.len() / self.dim;
        self.multiply(&self.query_key_value, pass, rows, Activation::None);
        self.attend(pass, count);
        self.gather_context(pass, count);
        self.multiply(&self.attention_output, pass, &[], Activation::None);
        self.normalize(pass, rows, &self.attention_norm, Some(&self.expand));
        self.multiply(&self.expand, pass, rows, Activation::Gelu);
        self.gather_hidden(pass, count);
        self.multiply(&self.contract, pass, &[], Activation::None);
        self.normalize(pass, rows, &self.output_norm, next.map(|block| &block.query_key_value));
    }

    /// # Shapes
    /// `single`: `[rows, inputs]`, or empty when the rows are those of the operand
    fn multiply(&self, product: &Product, pass: &mut Pass, single: &[f32], activation: Activation) {
        let Scratch { operand, accumulators, product: output, places, .. } = &mut *pass.scratch;
        let count = places.len();
        let single = if single.is_empty() { &operand.single } else { single };
        let input = Input { count, single, values: &operand.values, rows: &operand.rows };
        output.resize(product.striped_len(count), 0.0);
        product.run((pass.team, pass.instructions), input, activation, accumulators, output);
    }

    fn attend(&self, pass: &mut Pass, count: usize) {
        let (dim, n_heads, instructions) = (self.dim, self.n_heads, pass.instructions);
        let Scratch { product, context, sequences, bounds, attention, .. } = &mut *pass.scratch;
        context.resize(count * dim, 0.0);
        let attention = &*attention;
        let all = sequences.len() * n_heads;
        // A phase may have fewer tasks than a batch of many short sequences has heads.
        for first in (0..all).step_by(MAX_TASKS) {
            let bounds = &bounds[first..=(first + MAX_TASKS).min(all)];
            pass.team.run(bounds.len() - 1, Ranges::new(context, bounds), |task, context| {
                let index = first + task;
                let mut scratch = lock(attention).pop().unwrap_or_default();
                instructions.run(Attention {
                    head: index % n_heads,
                    head_dim: dim / n_heads,
                    dim,
                    total_rows: count,
                    first: sequences[index / n_heads][0],
                    query_key_value: product,
                    context,
                    scratch: &mut scratch,
                });
                lock(attention).push(scratch);
            });
        }
    }

    /// Brings what the heads left into rows.
    fn gather_context(&self, pass: &mut Pass, count: usize) {
        let (dim, head_dim) = (self.dim, self.dim / self.n_heads);
        let Scratch { operand, context, places, .. } = &mut *pass.scratch;
        let (context, places) = (&*context, &*places);
        let segment = |row: usize, head: usize| {
            let [first, tokens] = places[row];
            &context[first * dim + (head * tokens + row - first) * head_dim..][..head_dim]
        };
        self.gather((pass.team, pass.instructions), operand, &self.attention_output, (count, head_dim), segment);
    }

    /// Brings the stripes of the hidden layer into rows.
    fn gather_hidden(&self, pass: &mut Pass, count: usize) {
        let Scratch { operand, product, .. } = &mut *pass.scratch;
        let product = &*product;
        let segment = |row: usize, stripe: usize| &product[(stripe * count + row) * STRIPE..][..STRIPE];
        self.gather((pass.team, pass.instructions), operand, &self.contract, (count, STRIPE), segment);
    }

    fn gather<'s>(
        &self,
        (team, instructions): (&Team, Instructions),
        operand: &mut Operand,
        next: &Product,
        (count, segment_width): (usize, usize),
        segment: impl Fn(usize, usize) -> &'s [f32] + Sync,
    ) {
        let int8 = self.precision == Precision::Int8;
        let width = next.inputs();
        let share = team.share_of(count);
        let tasks = count.div_ceil(share);
        operand.resize(count, next);
        // In int8 a task needs a single row at a time.
        let single_rows = if int8 { 1 } else { share };
        operand.single.resize(tasks * single_rows * width, 0.0);
        let stride = operand.stride;
        let parts = (
            Even::new(&mut operand.single, single_rows * width),
            Even::new(&mut operand.values, share * stride),
            Even::new(&mut operand.rows, share),
        );
        team.run(tasks, parts, |task, (rows, values, quantized_rows)| {
            let outlier_columns = next.outlier_columns();
            let range = task * share..((task + 1) * share).min(count);
            let quantized = int8.then_some(Quantized { outlier_columns, values, stride, rows: quantized_rows });
            instructions.run(GatherRows { segment: &segment, segment_width, range, width, rows, quantized });
        });
    }

    /// Adds the product to the rows and normalises them, quantised for the product that reads them next.
    fn normalize(&self, pass: &mut Pass, rows: &mut [f32], norm: &LayerNorm, next: Option<&Product>) {
        let (dim, instructions) = (self.dim, pass.instructions);
        let total_rows = rows.len() / dim;
        let Scratch { operand, product, .. } = &mut *pass.scratch;
        let next = next.filter(|_| self.precision == Precision::Int8);
        if let Some(next) = next {
            operand.resize(total_rows, next);
        }
        let stride = operand.stride;
        let share = pass.team.share_of(total_rows);
        let product = &*product;
        let parts = (
            Even::new(rows, share * dim),
            Even::new(&mut operand.values, share * stride),
            Even::new(&mut operand.rows, share),
        );
        pass.team.run(total_rows.div_ceil(share), parts, |task, (rows, values, quantized_rows)| {
            let quantized = next.map(|next| {
                let outlier_columns = next.outlier_columns();
                Quantized { outlier_columns, values, stride, rows: quantized_rows }
            });
            instructions.run(ResidualNorm { product, total_rows, first: task * share, rows, norm, quantized });
        });
    }
}

fn lock(attention: &Mutex<Vec<AttentionScratch>>) -> MutexGuard<'_, Vec<AttentionScratch>> {
    attention.lock().unwrap_or_else(PoisonError::into_inner)
}
