//! A loaded checkpoint: text in, [`Prediction`] out.
//!
//! It says what the network computed and nothing more: whether to act, ask or abstain is decided elsewhere.
//!
//! Invariants: a [`Model`] is immutable, `Send` and `Sync`; predicting takes `&self`, never fails and never panics
//! whatever the text is, because everything that could be wrong with the checkpoint was found when it was loaded. A
//! batch gives what its texts give alone.

use mynah_data::{OUT_OF_SCOPE, Slot};

use crate::checkpoint::{Calibration, Checkpoint, Config, Labels};
use crate::encoder::{Encoder, EncoderOptions, Helpers, Hidden, Precision};
use crate::error::Result;
use crate::grouping::Grouping;
use crate::heads::{AnswerSpan, Heads, embedding, softmax};
use crate::tokenizer::{Encoding, PairEncoding, Tokenizer, UTTERANCE_TOKENS, Windows};

/// Functions listed in [`Prediction::probabilities`]; enough to explain a decision and to offer alternatives.
pub const TOP_FUNCTIONS: usize = 5;

/// Tokens that go through the encoder at once; bounds the memory of a large batch.
const MAX_BATCH_TOKENS: usize = 4096;

/// What the model makes of a text.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Prediction {
    /// The most probable function (`oos` is one of them), or `None` when the checkpoint has no function head.
    pub function: Option<String>,
    /// The [`TOP_FUNCTIONS`] most probable functions with their calibrated probabilities, best first.
    pub probabilities: Vec<(String, f32)>,
    /// The calibrated probability of `function`, in [0, 1]; 0 without a function head.
    pub confidence: f32,
    /// The calibrated probability that any function is meant, in [0, 1]; 1 where the head has no label for what is not.
    pub in_scope: f32,
    /// The arguments found, in the order of the text, without overlaps.
    pub slots: Vec<Slot>,
    /// The mean of the hidden states, L2-normalised: the dot product of two is their cosine similarity.
    pub embedding: Vec<f32>,
    /// The raw scores of all functions in the order of [`Labels::functions`]; empty without a function head.
    pub function_logits: Vec<f32>,
}

/// An encoder with its tokenizer and whatever heads the checkpoint has.
#[derive(Debug)]
pub struct Model {
    tokenizer: Tokenizer,
    encoder: Encoder,
    heads: Heads,
    calibration: Calibration,
    grouping: Grouping,
}

impl Model {
    /// Loads a checkpoint with default [`EncoderOptions`].
    ///
    /// # Errors
    /// Whatever is wrong with any file or tensor of the checkpoint.
    pub fn load(checkpoint: &Checkpoint, precision: Precision) -> Result<Self> {
        Self::load_with(checkpoint, precision, EncoderOptions::default())
    }

    /// Loads a checkpoint.
    ///
    /// # Errors
    /// Whatever is wrong with any file or tensor of the checkpoint.
    pub fn load_with(checkpoint: &Checkpoint, precision: Precision, options: EncoderOptions) -> Result<Self> {
        Ok(Self {
            tokenizer: Tokenizer::from_checkpoint(checkpoint)?,
            heads: Heads::load(checkpoint, precision)?,
            calibration: checkpoint.calibration()?,
            encoder: Encoder::load_with(checkpoint, precision, options)?,
            grouping: match multiplications(checkpoint.config()) {
                // Nobody waits here; the encoder's threads are shared out where they are.
                ..WORTH_GROUPING => Grouping::new(usize::MAX),
                _ => Grouping::new(options.threads.unwrap_or_else(cores)),
            },
        })
    }

    /// Predicts one text; its first [`UTTERANCE_TOKENS`] tokens are looked at.
    ///
    /// Calls from several threads that wait for a free core are computed together; the results are the same.
    pub fn predict(&self, text: &str) -> Prediction {
        let (encoding, rows, embedding) = self.encoded(text);
        Prediction { embedding, ..self.read_heads(text, &encoding, &rows) }
    }

    /// The same, and what `work` makes of the text's embedding: beside the heads, by another thread, if one is free. `work` must
    /// not ask for helpers.
    pub(crate) fn predict_beside<T: Send>(&self, text: &str, work: impl FnOnce(&[f32]) -> T + Send) -> (Prediction, T) {
        let (encoding, rows, embedding) = self.encoded(text);
        let read = || self.read_heads(text, &encoding, &rows);
        let helpers = if self.has_functions() { self.encoder.helpers() } else { Helpers::none() };
        let (prediction, made) = helpers.join(read, || work(&embedding));
        (Prediction { embedding, ..prediction }, made)
    }

    /// The tokens of a text, their hidden states and its embedding.
    ///
    /// # Shapes
    /// the hidden states: `[tokens, dim]`
    fn encoded(&self, text: &str) -> (Encoding, Vec<f32>, Vec<f32>) {
        let encoding = self.encode(text);
        let rows = self.grouping.run(&encoding.input_ids, |sequences| self.hidden_rows(sequences));
        let embedding = embedding(&rows, self.dim());
        (encoding, rows, embedding)
    }

    /// # Shapes
    /// `[tokens, dim]` for every sequence
    fn hidden_rows(&self, sequences: &[&[u32]]) -> Vec<Vec<f32>> {
        let hidden = self.encoder.run(sequences);
        match hidden.len() {
            1 => vec![hidden.rows],
            count => (0..count).map(|index| hidden.sequence(index).to_vec()).collect(),
        }
    }

    /// Predicts several texts at once, each as [`Model::predict`] would.
    pub fn predict_batch(&self, texts: &[&str]) -> Vec<Prediction> {
        self.map_hidden(texts, |text, encoding, rows| {
            let embedding = embedding(rows, self.dim());
            Prediction { embedding, ..self.read_heads(text, encoding, rows) }
        })
    }

    /// The embeddings of several texts, each the mean of its hidden states, L2-normalised.
    ///
    /// # Shapes
    /// `[texts, dim]`
    pub fn embed(&self, texts: &[&str]) -> Vec<Vec<f32>> {
        let dim = self.dim();
        self.map_hidden(texts, |_, _, rows| embedding(rows, dim))
    }

    /// The embeddings of several tokenized texts, as [`Model::embed`] gives them.
    ///
    /// # Shapes
    /// `[texts, dim]`
    pub fn embed_ids(&self, input_ids: &[&[u32]]) -> Result<Vec<Vec<f32>>> {
        let dim = self.dim();
        let hidden = self.encoder.forward(input_ids)?;
        Ok((0..input_ids.len()).map(|index| embedding(hidden.sequence(index), dim)).collect())
    }

    /// The raw scores of all functions; empty rows without a function head.
    ///
    /// # Shapes
    /// `[texts, functions]`
    pub fn function_logits(&self, texts: &[&str]) -> Vec<Vec<f32>> {
        let dim = self.dim();
        self.map_hidden(texts, |_, _, rows| self.heads.function_logits(&rows[..dim]))
    }

    /// Finds the answer to a question in a passage, or `None` when the checkpoint has no answer head, the passage is
    /// empty, or the head's score is below the version's [`Calibration::answer_threshold`].
    pub fn answer(&self, question: &str, passage: &str) -> Option<AnswerSpan> {
        let read = self.read(&[(question, passage)]).pop().flatten();
        read.filter(|span| span.score >= self.calibration.answer_threshold())
    }

    /// The best span of every passage for its question, however doubtful; `None` without an answer head or for an empty
    /// passage. A pair gets the same span in any company.
    ///
    /// The windows of [`Windows::served`] are read.
    pub fn read(&self, pairs: &[(&str, &str)]) -> Vec<Option<AnswerSpan>> {
        let mut spans: Vec<Option<AnswerSpan>> = vec![None; pairs.len()];
        if !self.heads.has_answers() {
            return spans;
        }
        let served = Windows::served(self.config().max_position_embeddings);
        let windows: Vec<(usize, PairEncoding)> = pairs
            .iter()
            .enumerate()
            .flat_map(|(pair, (question, passage))| {
                self.tokenizer.encode_pair(question, passage, served).into_iter().map(move |window| (pair, window))
            })
            .collect();
        let mut rest = windows.as_slice();
        while !rest.is_empty() {
            let mut tokens = 0;
            let fits = |(_, window): &&(usize, PairEncoding)| {
                tokens += window.input_ids.len();
                tokens <= MAX_BATCH_TOKENS
            };
            let (batch, later) = rest.split_at(rest.iter().take_while(fits).count().max(1));
            rest = later;
            let input_ids: Vec<&[u32]> = batch.iter().map(|(_, window)| window.input_ids.as_slice()).collect();
            let hidden = self.encoder.run(&input_ids);
            for (index, (pair, window)) in batch.iter().enumerate() {
                let Some(found) = self.heads.answer(pairs[*pair].1, window, hidden.sequence(index)) else { continue };
                let best = &mut spans[*pair];
                if best.as_ref().is_none_or(|best| found.margin > best.margin) {
                    *best = Some(found);
                }
            }
        }
        spans
    }

    /// Whether the checkpoint has a function head.
    pub fn has_functions(&self) -> bool {
        self.heads.has_functions()
    }

    /// Whether the checkpoint has an answer head.
    pub fn has_answers(&self) -> bool {
        self.heads.has_answers()
    }

    /// What the rows of the heads mean; empty for a base model.
    pub fn labels(&self) -> &Labels {
        self.heads.labels()
    }

    /// Temperature and thresholds.
    pub fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    /// The sizes of the encoder.
    pub fn config(&self) -> &Config {
        self.encoder.config()
    }

    /// The width of an embedding.
    pub fn dim(&self) -> usize {
        self.config().dim
    }

    /// The arithmetic of the encoder.
    pub fn precision(&self) -> Precision {
        self.encoder.precision()
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The encoder.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    fn encode(&self, text: &str) -> Encoding {
        self.tokenizer.encode(text, UTTERANCE_TOKENS.min(self.config().max_position_embeddings))
    }

    /// Encodes the texts in batches of bounded size, and maps each with its hidden states.
    fn map_hidden<T>(&self, texts: &[&str], map: impl Fn(&str, &Encoding, &[f32]) -> T) -> Vec<T> {
        let encodings: Vec<Encoding> = texts.iter().map(|text| self.encode(text)).collect();
        let mut mapped = Vec::with_capacity(texts.len());
        while mapped.len() < texts.len() {
            let first = mapped.len();
            let mut tokens = 0;
            let fits = |encoding: &&Encoding| {
                tokens += encoding.input_ids.len();
                tokens <= MAX_BATCH_TOKENS
            };
            let count = encodings[first..].iter().take_while(fits).count().max(1);
            let batch = &encodings[first..first + count];
            let input_ids: Vec<&[u32]> = batch.iter().map(|encoding| encoding.input_ids.as_slice()).collect();
            let hidden: Hidden = self.encoder.run(&input_ids);
            for (index, encoding) in batch.iter().enumerate() {
                mapped.push(map(texts[first + index], encoding, hidden.sequence(index)));
            }
        }
        mapped
    }

    /// What the heads say; the embedding is still to be added.
    ///
    /// # Shapes
    /// `rows`: `[tokens, dim]`
    fn read_heads(&self, text: &str, encoding: &Encoding, rows: &[f32]) -> Prediction {
        let dim = self.dim();
        let function_logits = self.heads.function_logits(&rows[..dim]);
        let probabilities = softmax(&function_logits, self.calibration.temperature);
        let functions = &self.labels().functions;
        let out_of_scope = functions.iter().position(|function| function == OUT_OF_SCOPE);
        let in_scope = out_of_scope.map_or(1.0, |index| 1.0 - probabilities[index]);
        let mut best: Vec<usize> = (0..probabilities.len()).collect();
        let more_probable = |a: &usize, b: &usize| probabilities[*b].total_cmp(&probabilities[*a]).then(a.cmp(b));
        if best.len() > TOP_FUNCTIONS {
            best.select_nth_unstable_by(TOP_FUNCTIONS, more_probable);
            best.truncate(TOP_FUNCTIONS);
        }
        best.sort_unstable_by(more_probable);
        let probabilities: Vec<(String, f32)> =
            best.into_iter().map(|index| (functions[index].clone(), probabilities[index])).collect();
        Prediction {
            function: probabilities.first().map(|(function, _)| function.clone()),
            confidence: probabilities.first().map_or(0.0, |&(_, probability)| probability),
            in_scope,
            slots: self.heads.slots(text, encoding, rows, probabilities.first().map(|(function, _)| function.as_str())),
            embedding: Vec::new(),
            probabilities,
            function_logits,
        }
    }
}

/// Weights of the matrix products from which on requests that wait are computed together. Those of a smaller model stay in
/// the cache between two requests, and handing a request over costs more than reading them once for several saves:
/// measured with 8 and 64 callers on two cores, 4.7 million lose 26 and 4 %, 11 million are even, 42 million gain a quarter and more than a half (BENCHMARKS.md).
const WORTH_GROUPING: usize = 8_000_000;

/// The multiplications that one token takes, which is also the number of weights they take part in.
fn multiplications(config: &Config) -> usize {
    let Config { dim, hidden_dim, n_layers, .. } = *config;
    n_layers * (4 * dim * dim + 2 * dim * hidden_dim)
}

/// As many as the encoder has threads when nothing else is asked for.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(16)
}
