//! Token and position embeddings with their LayerNorm.
//!
//! The table of words is the largest tensor. For [`Precision::Int8`] its rows are in eight bits, each with a scale of its
//! own, after the mean of each column was taken off: some columns are far from zero in all words, and would make the steps
//! of a row coarse. The means are part of the positions, one of which is added to every word. For [`Precision::F32`] a
//! table stored in f16 is kept so, which loses nothing.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::Precision;
use super::instructions::Instructions;
use super::passes::{LayerNorm, NormalizeRows};
use super::quantize::quantize_weights;
use crate::checkpoint::Checkpoint;
use crate::error::Result;

const WORDS: &str = "distilbert.embeddings.word_embeddings.weight";
const POSITIONS: &str = "distilbert.embeddings.position_embeddings.weight";

/// Words that are read at once when loading, so that the table is never in memory in f32 as a whole.
const WORDS_AT_ONCE: usize = 1024;

enum Table {
    Single(Vec<f32>),
    Half(Vec<f16>),
    Int8 { values: Vec<i8>, scales: Vec<f32> },
}

pub(super) struct Embeddings {
    dim: usize,
    words: Table,
    positions: Vec<f32>,
    norm: LayerNorm,
}

impl Embeddings {
    pub(super) fn load(checkpoint: &Checkpoint, precision: Precision, instructions: Instructions) -> Result<Self> {
        let config = checkpoint.config();
        let dim = config.dim;
        let mut positions = checkpoint.tensor(POSITIONS, &[config.max_position_embeddings, dim])?;
        let words = if precision == Precision::Int8 {
            let (table, means) = load_int8(checkpoint, instructions)?;
            for position in positions.chunks_exact_mut(dim) {
                position.iter_mut().zip(&means).for_each(|(value, mean)| *value += mean);
            }
            table
        } else {
            let words = checkpoint.tensor(WORDS, &[config.vocab_size, dim])?;
            if checkpoint.is_f16(WORDS) {
                let mut halves = vec![f16::ZERO; words.len()];
                halves.convert_from_f32_slice(&words);
                Table::Half(halves)
            } else {
                Table::Single(words)
            }
        };
        Ok(Self { dim, words, positions, norm: LayerNorm::load(checkpoint, "distilbert.embeddings.LayerNorm", dim)? })
    }

    /// The LayerNorm that the first block's inputs come from.
    pub(super) fn norm(&self) -> &LayerNorm {
        &self.norm
    }

    /// # Shapes
    /// `rows`: `[total_tokens, dim]`, overwritten
    pub(super) fn look_up(&self, instructions: Instructions, sequences: &[&[u32]], rows: &mut [f32]) {
        let dim = self.dim;
        let tokens = sequences.iter().flat_map(|sequence| sequence.iter().enumerate());
        for ((position, &token), row) in tokens.zip(rows.chunks_exact_mut(dim)) {
            let token = token as usize;
            let word = token * dim..(token + 1) * dim;
            match &self.words {
                Table::Single(words) => row.copy_from_slice(&words[word]),
                Table::Half(words) => words[word].convert_to_f32_slice(row),
                Table::Int8 { values, scales } => {
                    let scale = scales[token];
                    row.iter_mut().zip(&values[word]).for_each(|(value, word)| *value = f32::from(*word) * scale);
                }
            }
            let position = &self.positions[position * dim..(position + 1) * dim];
            row.iter_mut().zip(position).for_each(|(value, position)| *value += position);
        }
        instructions.run(NormalizeRows { rows, norm: &self.norm });
    }
}

/// Reads the table of words in eight bits, and the means of its columns.
fn load_int8(checkpoint: &Checkpoint, instructions: Instructions) -> Result<(Table, Vec<f32>)> {
    let (dim, vocab_size) = (checkpoint.config().dim, checkpoint.config().vocab_size);
    let part = |first: usize| {
        let words = first..(first + WORDS_AT_ONCE).min(vocab_size);
        checkpoint.tensor_rows(WORDS, &[vocab_size, dim], words)
    };
    // The means of a part are as good as those of all words, and save reading them twice.
    let sample = part(vocab_size.saturating_sub(WORDS_AT_ONCE) / 2)?;
    let mut means = vec![0.0; dim];
    for word in sample.chunks_exact(dim) {
        means.iter_mut().zip(word).for_each(|(mean, value)| *mean += value);
    }
    let count = (sample.len() / dim).max(1) as f32;
    means.iter_mut().for_each(|mean| *mean /= count);
    if means.iter().any(|mean| !mean.is_finite()) {
        means.fill(0.0);
    }
    let (mut values, mut scales) = (vec![0; vocab_size * dim], vec![0.0; vocab_size]);
    for first in (0..vocab_size).step_by(WORDS_AT_ONCE) {
        let mut words = part(first)?;
        for (index, word) in words.chunks_exact_mut(dim).enumerate() {
            word.iter_mut().zip(&means).for_each(|(value, mean)| *value -= mean);
            let quantized = &mut values[(first + index) * dim..][..dim];
            (scales[first + index], _) = quantize_weights(instructions, word, 127.0, quantized);
        }
    }
    Ok((Table::Int8 { values, scales }, means))
}
