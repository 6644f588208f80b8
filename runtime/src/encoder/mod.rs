//! The DistilBERT encoder: tokens in, one hidden state per token out.
//!
//! Mirrors Hugging Face's `modeling_distilbert.py` in evaluation mode. A batch is *ragged*: the tokens of all sequences
//! lie one after the other without padding, products run over all of them, and attention over each sequence alone, so
//! that a sequence gives the same hidden states in any company.
//!
//! Two arithmetics: [`Precision::F32`] is the reference; [`Precision::Int8`] quantises weights per output channel when
//! loading and activations per row right after they are made, and keeps everything else (attention, LayerNorm, GELU) in
//! f32. The int8 products have code of their own for the instruction sets of x86-64 ([`InstructionSet`]); what has none,
//! and f32, goes through rten-gemm.
//!
//! Invariants: weights are packed once and never change; a row's values never depend on another sequence, nor on the number
//! of threads; work buffers are reused and bounded by [`CHUNK_ROWS`] or the longest sequence, whatever the batch, and in
//! int8 a pass of a size seen before allocates nothing.

mod attention;
mod block;
mod embeddings;
mod helpers;
mod instructions;
mod kernels;
mod lanes;
pub mod measure;
mod passes;
mod product;
mod quantize;
mod team;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use block::{Block, Pass, Scratch};
use embeddings::Embeddings;
pub(crate) use helpers::Helpers;
pub use instructions::InstructionSet;
use instructions::Instructions;
use lanes::Lanes;
use serde::{Deserialize, Serialize};
use team::{Pool, Ranges, Team};

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
    /// Batches, concurrent requests and, in int8, the work of a single one are shared out among them.
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

/// Phases of a block.
const PHASES: usize = 9;

/// Multiplications for which a thread more is worth waiting for at the end of a phase: about a microsecond of them.
const WORTH_A_THREAD: usize = 500_000;

/// A loaded encoder; immutable, Send + Sync.
pub struct Encoder {
    config: Config,
    precision: Precision,
    instructions: Instructions,
    embeddings: Embeddings,
    blocks: Vec<Block>,
    threads: Threads,
    /// What passes keep for the next ones.
    scratch: Mutex<Vec<Scratch>>,
    plans: Mutex<Vec<Plan>>,
}

enum Threads {
    /// The threads of a pass share its phases.
    Team(Pool),
    /// For products of rten-gemm: each thread computes whole chunks.
    Lanes(Lanes),
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Encoder").field("precision", &self.precision).field("config", &self.config).finish()
    }
}

/// How a batch is cut into chunks of whole sequences that are computed together.
///
/// # Shapes
/// `sequences`: `[chunks + 1]`, the first sequence of each; `values`: `[chunks + 1]`, where its hidden states start
#[derive(Default)]
struct Plan {
    sequences: Vec<usize>,
    values: Vec<usize>,
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
        Self::load_for(checkpoint, precision, options, InstructionSet::detect())
    }

    /// Loads the encoder of a checkpoint for a certain instruction set, to compare them. One that this processor does not
    /// run is replaced by [`InstructionSet::Portable`].
    ///
    /// # Errors
    /// As [`Encoder::load_with`].
    pub fn load_for(
        checkpoint: &Checkpoint,
        precision: Precision,
        options: EncoderOptions,
        set: InstructionSet,
    ) -> Result<Self> {
        checkpoint.validate_encoder()?;
        let config = checkpoint.config().clone();
        let instructions = Instructions::new(set).unwrap_or_else(Instructions::portable);
        let embeddings = Embeddings::load(checkpoint, precision, instructions)?;
        let mut blocks: Vec<Block> = Vec::with_capacity(config.n_layers);
        for index in 0..config.n_layers {
            let input_norm = blocks.last().map_or(embeddings.norm(), Block::output_norm);
            blocks.push(Block::load(checkpoint, index, input_norm, (precision, instructions))?);
        }
        let threads = if precision == Precision::Int8 && instructions.set() != InstructionSet::Portable {
            Threads::Team(Pool::start(lanes::threads(options.threads))?)
        } else {
            Threads::Lanes(Lanes::start(lanes::threads(options.threads))?)
        };
        Ok(Self {
            embeddings,
            blocks,
            threads,
            scratch: Mutex::new(Vec::new()),
            plans: Mutex::new(Vec::new()),
            config,
            precision,
            instructions,
        })
    }

    /// Computes the hidden states of token sequences.
    ///
    /// # Errors
    /// [`Error::UnknownToken`] and [`Error::SequenceTooLong`].
    pub fn forward(&self, input_ids: &[&[u32]]) -> Result<Hidden> {
        let mut hidden = Hidden::default();
        self.forward_into(input_ids, &mut hidden)?;
        Ok(hidden)
    }

    /// Computes the hidden states of token sequences into those of an earlier call, whose memory is used again.
    ///
    /// # Errors
    /// As [`Encoder::forward`]; then `hidden` is as it was.
    pub fn forward_into(&self, input_ids: &[&[u32]], hidden: &mut Hidden) -> Result<()> {
        let (vocab_size, maximum) = (self.config.vocab_size, self.config.max_position_embeddings);
        for sequence in input_ids {
            if sequence.len() > maximum {
                return Err(Error::SequenceTooLong { maximum, actual: sequence.len() });
            }
            if let Some(&id) = sequence.iter().find(|&&id| id as usize >= vocab_size) {
                return Err(Error::UnknownToken { id, vocab_size });
            }
        }
        self.run_into(input_ids, hidden);
        Ok(())
    }

    /// The sizes of the encoder.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The arithmetic.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The instruction set it was loaded for.
    pub fn instruction_set(&self) -> InstructionSet {
        self.instructions.set()
    }

    /// The threads, for other work between two passes; none when they share no phases.
    pub(crate) fn helpers(&self) -> Helpers<'_> {
        match &self.threads {
            Threads::Team(pool) => Helpers::of(pool),
            Threads::Lanes(_) => Helpers::none(),
        }
    }

    /// Computes hidden states of sequences that the model's own tokenizer made, which are always valid.
    pub(crate) fn run(&self, input_ids: &[&[u32]]) -> Hidden {
        let mut hidden = Hidden::default();
        self.run_into(input_ids, &mut hidden);
        hidden
    }

    fn run_into(&self, input_ids: &[&[u32]], hidden: &mut Hidden) {
        let dim = self.config.dim;
        hidden.dim = dim;
        hidden.starts.clear();
        hidden.starts.push(0);
        let mut total_rows = 0;
        for sequence in input_ids {
            total_rows += sequence.len();
            hidden.starts.push(total_rows);
        }
        // Every value is overwritten.
        hidden.rows.resize(total_rows * dim, 0.0);
        let mut plan = lock(&self.plans).pop().unwrap_or_default();
        match &self.threads {
            Threads::Team(pool) => {
                plan.cut(&hidden.starts, dim, pool.threads());
                self.run_in_team(pool, input_ids, &plan, &mut hidden.rows);
            }
            Threads::Lanes(lanes) => {
                plan.cut(&hidden.starts, dim, lanes.count());
                self.run_in_lanes(lanes, input_ids, &plan, &mut hidden.rows);
            }
        }
        lock(&self.plans).push(plan);
    }

    fn run_in_team(&self, pool: &Pool, input_ids: &[&[u32]], plan: &Plan, rows: &mut [f32]) {
        if plan.len() == 0 {
            return;
        }
        let Config { dim, hidden_dim, .. } = self.config;
        let total_rows = rows.len() / dim;
        let products_of_a_phase = total_rows * (4 * dim * dim + 2 * dim * hidden_dim) / PHASES;
        let team = pool.team(pool.threads().min(products_of_a_phase / WORTH_A_THREAD).max(1));
        // With a chunk for everybody, nobody waits for the others; a remainder would leave some without work.
        if team.size() > 1 && (plan.len().is_multiple_of(team.size()) || plan.len() >= 4 * team.size()) {
            team.run(plan.len(), Ranges::new(rows, &plan.values), |chunk, rows| {
                self.run_chunk(&Team::alone(), plan.sequences(input_ids, chunk), rows);
            });
        } else {
            for chunk in 0..plan.len() {
                let rows = &mut rows[plan.values[chunk]..plan.values[chunk + 1]];
                self.run_chunk(&team, plan.sequences(input_ids, chunk), rows);
            }
        }
    }

    fn run_in_lanes(&self, lanes: &Lanes, input_ids: &[&[u32]], plan: &Plan, mut rows: &mut [f32]) {
        let mut chunks = Vec::with_capacity(plan.len());
        for chunk in 0..plan.len() {
            let (first, rest) = rows.split_at_mut(plan.values[chunk + 1] - plan.values[chunk]);
            chunks.push(Mutex::new((plan.sequences(input_ids, chunk), first)));
            rows = rest;
        }
        let next = AtomicUsize::new(0);
        lanes.run(chunks.len(), &|| {
            while let Some(chunk) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
                let (sequences, rows) = &mut *lock(chunk);
                self.run_chunk(&Team::alone(), sequences, rows);
            }
        });
    }

    fn run_chunk(&self, team: &Team, sequences: &[&[u32]], rows: &mut [f32]) {
        let mut scratch = lock(&self.scratch).pop().unwrap_or_default();
        scratch.prepare(sequences.iter().map(|sequence| sequence.len()), &self.config, team.size());
        self.embeddings.look_up(self.instructions, sequences, rows);
        let mut pass = Pass { team, instructions: self.instructions, scratch: &mut scratch };
        if let Some(first) = self.blocks.first() {
            first.quantize_input(&mut pass, rows);
        }
        for (index, block) in self.blocks.iter().enumerate() {
            block.forward(&mut pass, rows, self.blocks.get(index + 1));
        }
        lock(&self.scratch).push(scratch);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Plan {
    /// Cuts a batch into chunks of about equal size, at most [`CHUNK_ROWS`] unless one sequence is longer, and into none
    /// when it has no rows.
    ///
    /// # Shapes
    /// `starts`: `[sequences + 1]`, in rows
    fn cut(&mut self, starts: &[usize], dim: usize, threads: usize) {
        // Chunks below this are not worth a walk over all weights of their own.
        const SMALLEST: usize = 64;
        let total_rows = starts.last().copied().unwrap_or(0);
        let chunks = total_rows.div_ceil(threads * CHUNK_ROWS) * threads;
        // Several threads want chunks of the same size, a single one few of them.
        let target = if threads == 1 { CHUNK_ROWS } else { total_rows.div_ceil(chunks.max(1)).max(SMALLEST) };
        self.sequences.clear();
        self.values.clear();
        self.sequences.push(0);
        self.values.push(0);
        let mut first = 0;
        for (sequence, &end) in starts.iter().enumerate().skip(1) {
            // The last sequence that fits, or one alone that does not, ends a chunk.
            let next = starts.get(sequence + 1).copied();
            if end > first && next.is_none_or(|next| next - first > target) {
                self.sequences.push(sequence);
                self.values.push(end * dim);
                first = end;
            }
        }
        if let Some(last) = self.sequences.last_mut().filter(|_| total_rows > 0) {
            *last = starts.len() - 1;
        }
    }

    /// The number of chunks.
    fn len(&self) -> usize {
        self.sequences.len() - 1
    }

    fn sequences<'a>(&self, input_ids: &'a [&'a [u32]], chunk: usize) -> &'a [&'a [u32]] {
        &input_ids[self.sequences[chunk]..self.sequences[chunk + 1]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_hold_whole_sequences_and_all_of_them() {
        let cut = |lengths: &[usize], threads: usize| {
            let mut starts = vec![0];
            lengths.iter().for_each(|length| starts.push(starts[starts.len() - 1] + length));
            let mut plan = Plan::default();
            plan.cut(&starts, 2, threads);
            assert_eq!(plan.values.last(), starts.last().map(|end| end * 2).as_ref());
            let sizes: Vec<usize> = plan.values.windows(2).map(|ends| (ends[1] - ends[0]) / 2).collect();
            (sizes, plan.sequences)
        };
        assert_eq!(cut(&[100, 0, 300, 1, 250, 40], 1), (vec![100, 300, 251, 40], vec![0, 2, 3, 5, 6]));
        assert_eq!(cut(&[32; 32], 2), (vec![256; 4], vec![0, 8, 16, 24, 32]));
        assert_eq!(cut(&[16, 16, 0], 2), (vec![32], vec![0, 3]));
        assert_eq!(cut(&[0, 5, 0], 2), (vec![5], vec![0, 3]));
        assert_eq!(cut(&[], 4), (vec![], vec![0]));
        assert_eq!(cut(&[0, 0], 4), (vec![], vec![0]));
    }
}
