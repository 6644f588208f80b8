//! Token and position embeddings with their LayerNorm.
//!
//! Invariant: a table stored in f16 is kept in f16, which loses nothing; one stored in f32 is kept so for
//! [`Precision::F32`] and rounded to f16 for [`Precision::Int8`], whose quantisation loses far more.

use half::f16;
use half::slice::HalfFloatSliceExt;
use rten_simd::SimdOp;

use super::Precision;
use super::passes::{LayerNorm, NormalizeRows};
use crate::checkpoint::Checkpoint;
use crate::error::Result;

enum Table {
    Single(Vec<f32>),
    Half(Vec<f16>),
}

pub(super) struct Embeddings {
    dim: usize,
    words: Table,
    positions: Vec<f32>,
    norm: LayerNorm,
}

impl Embeddings {
    pub(super) fn load(checkpoint: &Checkpoint, precision: Precision) -> Result<Self> {
        let config = checkpoint.config();
        let dim = config.dim;
        let name = "distilbert.embeddings.word_embeddings.weight";
        let words = checkpoint.tensor(name, &[config.vocab_size, dim])?;
        let words = if checkpoint.is_f16(name) || precision == Precision::Int8 {
            let mut halves = vec![f16::ZERO; words.len()];
            halves.convert_from_f32_slice(&words);
            Table::Half(halves)
        } else {
            Table::Single(words)
        };
        let positions = "distilbert.embeddings.position_embeddings.weight";
        Ok(Self {
            dim,
            words,
            positions: checkpoint.tensor(positions, &[config.max_position_embeddings, dim])?,
            norm: LayerNorm::load(checkpoint, "distilbert.embeddings.LayerNorm", dim)?,
        })
    }

    /// The LayerNorm that the first block's inputs come from.
    pub(super) fn norm(&self) -> &LayerNorm {
        &self.norm
    }

    /// # Shapes
    /// `rows`: `[total_tokens, dim]`, overwritten
    pub(super) fn look_up(&self, sequences: &[&[u32]], rows: &mut [f32]) {
        let dim = self.dim;
        let tokens = sequences.iter().flat_map(|sequence| sequence.iter().enumerate());
        for ((position, &token), row) in tokens.zip(rows.chunks_exact_mut(dim)) {
            let word = token as usize * dim..(token as usize + 1) * dim;
            match &self.words {
                Table::Single(words) => row.copy_from_slice(&words[word]),
                Table::Half(words) => words[word].convert_to_f32_slice(row),
            }
            let position = &self.positions[position * dim..(position + 1) * dim];
            row.iter_mut().zip(position).for_each(|(value, position)| *value += position);
        }
        NormalizeRows { rows, norm: &self.norm }.dispatch();
    }
}
