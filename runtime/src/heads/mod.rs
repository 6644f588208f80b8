//! What is read off the encoder's hidden states: function, arguments, answer span and embedding.
//!
//! The layers are Hugging Face's (`DistilBertForSequenceClassification`: `pre_classifier`, ReLU, `classifier` on the
//! first token; `DistilBertForQuestionAnswering`: `qa_outputs`) plus `slot_classifier` on the first token of every
//! word. All of them are optional. The function head, which reads all of its weights for every text, has those of the encoder's
//! precision; the others are f32.
//!
//! Invariant: a loaded head has as many rows as [`Labels`] has names for it.

mod answer;
mod linear;
mod tags;

use std::collections::HashMap;

use mynah_data::Slot;

pub use answer::AnswerSpan;
use linear::Linear;
pub use tags::TagDecoder;

use crate::checkpoint::{Checkpoint, LABELS_FILE, Labels};
use crate::encoder::Precision;
use crate::error::{Error, Result};
use crate::tokenizer::{Encoding, PairEncoding, Word};

#[derive(Debug)]
struct FunctionHead {
    pre_classifier: Linear,
    classifier: Linear,
}

#[derive(Debug)]
struct ArgumentsHead {
    every: Tagger,
    /// That of each function of which training saw what it takes.
    of_function: HashMap<String, Tagger>,
}

/// Scores of some tags, and what they spell out.
#[derive(Debug)]
struct Tagger {
    scores: Linear,
    decoder: TagDecoder,
}

/// The heads of a checkpoint, each of which may be absent.
#[derive(Debug)]
pub struct Heads {
    dim: usize,
    labels: Labels,
    function: Option<FunctionHead>,
    arguments: Option<ArgumentsHead>,
    answer: Option<Linear>,
}

impl Heads {
    /// Loads the heads whose tensors the checkpoint has.
    ///
    /// The functions' names come from labels.json, else from `id2label` in config.json.
    ///
    /// # Errors
    /// When a tensor does not fit the labels, or a head has no labels.
    pub fn load(checkpoint: &Checkpoint, precision: Precision) -> Result<Self> {
        let single = Precision::F32;
        let dim = checkpoint.config().dim;
        let has_functions = checkpoint.has("classifier.weight");
        let has_arguments = checkpoint.has("slot_classifier.weight");
        let labels = match checkpoint.labels()? {
            Some(labels) => labels,
            None if has_functions && !has_arguments => {
                let functions = checkpoint.config().id2label().ok_or_else(|| missing_labels(checkpoint))?;
                Labels { functions, ..Labels::default() }
            }
            None if has_arguments => return Err(missing_labels(checkpoint)),
            None => Labels::default(),
        };
        let function = if has_functions || !labels.functions.is_empty() {
            Some(FunctionHead {
                pre_classifier: Linear::load(checkpoint, "pre_classifier", [dim, dim], precision)?,
                classifier: Linear::load(checkpoint, "classifier", [labels.functions.len(), dim], precision)?,
            })
        } else {
            None
        };
        let arguments = if has_arguments || !labels.tags.is_empty() {
            let decoder = match &labels.adjacent {
                Some(adjacent) => TagDecoder::new(&labels.tags).with_adjacent(adjacent),
                None => TagDecoder::new(&labels.tags),
            };
            let scores = Linear::load(checkpoint, "slot_classifier", [labels.tags.len(), dim], single)?;
            let of_function = labels.arguments.iter().map(|(name, own)| {
                let decoder = decoder.of_arguments(own);
                (name.clone(), Tagger { scores: scores.of(decoder.rows()), decoder })
            });
            Some(ArgumentsHead { of_function: of_function.collect(), every: Tagger { scores, decoder } })
        } else {
            None
        };
        let answer = if checkpoint.has("qa_outputs.weight") {
            Some(Linear::load(checkpoint, "qa_outputs", [2, dim], single)?)
        } else {
            None
        };
        Ok(Self { dim, labels, function, arguments, answer })
    }

    /// What the rows of the heads mean.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Whether there is a function head.
    pub fn has_functions(&self) -> bool {
        self.function.is_some()
    }

    /// Whether there is an answer head.
    pub fn has_answers(&self) -> bool {
        self.answer.is_some()
    }

    /// The raw scores of all functions; empty without a function head.
    ///
    /// # Shapes
    /// `first_token`: `[dim]`; the result: `[functions]`
    pub fn function_logits(&self, first_token: &[f32]) -> Vec<f32> {
        let Some(head) = &self.function else { return Vec::new() };
        let mut pooled = head.pre_classifier.forward(first_token);
        pooled.iter_mut().for_each(|value| *value = value.max(0.0));
        head.classifier.forward(&pooled)
    }

    /// The arguments of a text; none without an arguments head. When training saw which arguments `function` takes,
    /// only those are looked for.
    ///
    /// # Shapes
    /// `rows`: `[tokens, dim]`
    pub fn slots(&self, text: &str, encoding: &Encoding, rows: &[f32], function: Option<&str>) -> Vec<Slot> {
        let Some(head) = &self.arguments else { return Vec::new() };
        let Tagger { scores, decoder } =
            function.and_then(|function| head.of_function.get(function)).unwrap_or(&head.every);
        if !decoder.finds_any() {
            return Vec::new();
        }
        let words = encoding.words();
        let of_word = |word: &Word| scores.forward(&rows[word.first_token * self.dim..][..self.dim]);
        let logits: Vec<f32> = words.iter().flat_map(of_word).collect();
        decoder.slots(text, &words, &logits)
    }

    /// The best span of one window, or `None` without an answer head.
    ///
    /// # Shapes
    /// `rows`: `[tokens, dim]`
    pub fn answer(&self, passage: &str, window: &PairEncoding, rows: &[f32]) -> Option<AnswerSpan> {
        let head = self.answer.as_ref()?;
        let logits: Vec<[f32; 2]> = rows
            .chunks_exact(self.dim)
            .map(|row| {
                let logits = head.forward(row);
                [logits[0], logits[1]]
            })
            .collect();
        answer::best_span(passage, window, &logits)
    }
}

fn missing_labels(checkpoint: &Checkpoint) -> Error {
    Error::MissingFile { checkpoint: checkpoint.location().to_owned(), file: LABELS_FILE.to_owned() }
}

/// The mean of the rows, L2-normalised; zeros when there are none.
///
/// # Shapes
/// `rows`: `[tokens, dim]`; the result: `[dim]`
pub fn embedding(rows: &[f32], dim: usize) -> Vec<f32> {
    let mut sum = vec![0.0f32; dim];
    for row in rows.chunks_exact(dim) {
        sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    let norm = sum.iter().map(|value| value * value).sum::<f32>().sqrt();
    if norm > 0.0 {
        sum.iter_mut().for_each(|value| *value /= norm);
    }
    sum
}

/// Probabilities of the logits divided by a temperature; empty for no logits.
pub fn softmax(logits: &[f32], temperature: f32) -> Vec<f32> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials: Vec<f32> = logits.iter().map(|logit| ((logit - max) / temperature).exp()).collect();
    let sum: f32 = exponentials.iter().sum();
    exponentials.into_iter().map(|value| value / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_embedding_is_the_normalised_mean() {
        assert_eq!(embedding(&[3.0, 0.0, 3.0, 8.0], 2), [0.6, 0.8]);
        assert_eq!(embedding(&[], 2), [0.0, 0.0]);
    }

    #[test]
    fn softmax_sums_to_one_and_temperature_flattens() {
        let sharp = softmax(&[2.0, 1.0, -1000.0], 1.0);
        let flat = softmax(&[2.0, 1.0, -1000.0], 4.0);
        assert!((sharp.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert!((sharp[0] - 0.731_058_6).abs() < 1e-6 && flat[0] < sharp[0] && sharp[2] == 0.0);
        assert!(softmax(&[], 1.0).is_empty());
    }
}
