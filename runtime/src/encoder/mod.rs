//! The DistilBERT encoder: tokens in, one hidden state per token out.
//!
//! Mirrors Hugging Face's `modeling_distilbert.py` in evaluation mode. A batch is *ragged*: the tokens of all sequences
//! lie one after the other without padding, products run over all of them, and attention over each sequence alone, so
//! that a sequence gives the same hidden states in any company.
//!
//! Two arithmetics: [`Precision::F32`] is the reference; [`Precision::Int8`] quantises weights per output channel when
//! loading and activations per row right before each product, and keeps everything else (embeddings, attention,
//! LayerNorm, GELU) in f32.
//!
//! Invariants: weights are packed once and never change; a row's values never depend on another sequence; work buffers
//! are reused and bounded by [`CHUNK_ROWS`] or the longest sequence, whatever the batch.

mod attention;
mod block;
mod embeddings;
mod lanes;
mod passes;
mod product;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use block::{Block, Scratch};
use embeddings::Embeddings;
use lanes::Lanes;
use product::Kernels;
use serde::{Deserialize, Serialize};

use crate::checkpoint::{Checkpoint, Config};
use crate::error::{Error, Result};

/// The arithmetic of the encoder's products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision: the reference.
    F32,
    /// Eight-bit integers: three times as fast and a quarter of the memory; what serves.
    #[default]
    Int8,
}

/// How to run an encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EncoderOptions {
    /// How many threads may compute at once; `None` for one per core, at most 16.
    ///
    /// One request runs on one thread, which is fastest for requests of usual size; batches and concurrent requests use
    /// them all.
    pub threads: Option<usize>,
}

/// The hidden states of a ragged batch.
///
/// # Shapes
/// `rows`: `[total_tokens, dim]`; `starts`: `[sequences + 1]`, in rows
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Hidden {
    /// All hidden states, sequence after sequence.
    pub rows: Vec<f32>,
    /// The first row of each sequence, and the number of rows.
    pub starts: Vec<usize>,
    /// The width of a hidden state.
    pub dim: usize,
}

impl Hidden {
    /// The number of sequences.
    pub fn len(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Whether there are no sequences.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The hidden states of one sequence.
    ///
    /// # Shapes
    /// `[tokens, dim]`
    ///
    /// # Panics
    /// When there is no sequence of this index.
    pub fn sequence(&self, index: usize) -> &[f32] {
        &self.rows[self.starts[index] * self.dim..self.starts[index + 1] * self.dim]
    }
}

/// Rows that go through all blocks together: enough to keep the products busy, few enough for their buffers to stay in
/// the second-level cache.
pub const CHUNK_ROWS: usize = 256;

/// A loaded encoder; immutable, Send + Sync.
pub struct Encoder {
    config: Config,
    precision: Precision,
    embeddings: Embeddings,
    blocks: Vec<Block>,
    lanes: Lanes,
    scratch: Mutex<Vec<Scratch>>,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Encoder").field("precision", &self.precision).field("config", &self.config).finish()
    }
}

/// Sequences that are computed together, with the rows of the result they fill.
struct Chunk<'a> {
    sequences: &'a [&'a [u32]],
    rows: &'a mut [f32],
}

impl Encoder {
    /// Loads the encoder of a checkpoint with default [`EncoderOptions`].
    ///
    /// # Errors
    /// The first tensor that is missing or misshapen.
    pub fn load(checkpoint: &Checkpoint, precision: Precision) -> Result<Self> {
        Self::load_with(checkpoint, precision, EncoderOptions::default())
    }

    /// Loads the encoder of a checkpoint.
    ///
    /// # Errors
    /// The first tensor that is missing or misshapen, or when no thread can be started.
    pub fn load_with(checkpoint: &Checkpoint, precision: Precision, options: EncoderOptions) -> Result<Self> {
        checkpoint.validate_encoder()?;
        let config = checkpoint.config().clone();
        let kernels = Kernels::detect();
        let embeddings = Embeddings::load(checkpoint, precision)?;
        let mut blocks: Vec<Block> = Vec::with_capacity(config.n_layers);
        for index in 0..config.n_layers {
            let input_norm = blocks.last().map_or(embeddings.norm(), Block::output_norm);
            blocks.push(Block::load(checkpoint, index, input_norm, precision, &kernels)?);
        }
        Ok(Self {
            embeddings,
            blocks,
            lanes: Lanes::start(options.threads)?,
            scratch: Mutex::new(Vec::new()),
            config,
            precision,
        })
    }

    /// Computes the hidden states of token sequences.
    ///
    /// # Errors
    /// [`Error::UnknownToken`] and [`Error::SequenceTooLong`].
    pub fn forward(&self, input_ids: &[&[u32]]) -> Result<Hidden> {
        let (vocab_size, maximum) = (self.config.vocab_size, self.config.max_position_embeddings);
        for sequence in input_ids {
            if sequence.len() > maximum {
                return Err(Error::SequenceTooLong { maximum, actual: sequence.len() });
            }
            if let Some(&id) = sequence.iter().find(|&&id| id as usize >= vocab_size) {
                return Err(Error::UnknownToken { id, vocab_size });
            }
        }
        Ok(self.run(input_ids))
    }

    /// The sizes of the encoder.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The arithmetic.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Computes hidden states of sequences that the model's own tokenizer made, which are always valid.
    pub(crate) fn run(&self, input_ids: &[&[u32]]) -> Hidden {
        let dim = self.config.dim;
        let mut starts = vec![0];
        let mut total_rows = 0;
        for sequence in input_ids {
            total_rows += sequence.len();
            starts.push(total_rows);
        }
        let mut rows = vec![0.0; total_rows * dim];
        let chunks = split(input_ids, &mut rows, dim, self.lanes.count());
        let next = AtomicUsize::new(0);
        let chunks: Vec<Mutex<Chunk>> = chunks.into_iter().map(Mutex::new).collect();
        self.lanes.run(chunks.len(), &|| {
            let mut scratch = self.lock_scratch().pop().unwrap_or_default();
            while let Some(chunk) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.run_chunk(&mut chunk.lock().unwrap_or_else(PoisonError::into_inner), &mut scratch);
            }
            self.lock_scratch().push(scratch);
        });
        drop(chunks);
        Hidden { rows, starts, dim }
    }

    fn run_chunk(&self, chunk: &mut Chunk, scratch: &mut Scratch) {
        self.embeddings.look_up(chunk.sequences, chunk.rows);
        // Not kept in `self`: they are no more than the processor's features, but not `Send`.
        let kernels = Kernels::detect();
        for block in &self.blocks {
            block.forward(&kernels, chunk.sequences, chunk.rows, scratch);
        }
    }

    fn lock_scratch(&self) -> std::sync::MutexGuard<'_, Vec<Scratch>> {
        self.scratch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Splits a batch into chunks of whole sequences, of about equal size and at most [`CHUNK_ROWS`] unless one sequence is
/// longer.
fn split<'a>(mut sequences: &'a [&'a [u32]], mut rows: &'a mut [f32], dim: usize, lanes: usize) -> Vec<Chunk<'a>> {
    // Below this, a thread more costs more than it brings.
    const SMALLEST: usize = 64;
    let total_rows = rows.len() / dim;
    let target = total_rows.div_ceil(lanes.max(1)).clamp(SMALLEST, CHUNK_ROWS);
    let mut chunks = Vec::new();
    while let Some(first) = sequences.first() {
        let (mut count, mut chunk_rows) = (1, first.len());
        while let Some(sequence) = sequences.get(count)
            && chunk_rows + sequence.len() <= target
        {
            count += 1;
            chunk_rows += sequence.len();
        }
        let (taken, rest) = sequences.split_at(count);
        let (taken_rows, rest_rows) = rows.split_at_mut(chunk_rows * dim);
        chunks.push(Chunk { sequences: taken, rows: taken_rows });
        (sequences, rows) = (rest, rest_rows);
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_hold_whole_sequences_and_all_of_them() {
        let sequences: Vec<Vec<u32>> = [100, 0, 300, 1, 250, 40].iter().map(|&length| vec![0; length]).collect();
        let sequences: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
        let mut rows = vec![0.0; 691 * 2];
        let chunks = split(&sequences, &mut rows, 2, 1);
        let sizes: Vec<usize> = chunks.iter().map(|chunk| chunk.rows.len() / 2).collect();
        assert_eq!(sizes, [100, 300, 251, 40]);
        assert_eq!(chunks.iter().map(|chunk| chunk.sequences.len()).sum::<usize>(), 6);
        assert!(split(&[], &mut [], 2, 4).is_empty());
    }
}
