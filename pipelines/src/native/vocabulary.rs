//! The head that guesses masked words (`DistilBertForMaskedLM` of Hugging Face's `modeling_distilbert.py`): a transform, and
//! the word embeddings as its projection, which are not trained here.
//!
//! Only masked rows are projected: they are one in seven, and a vocabulary is wider than everything else in the model.

use super::heads::{Signal, gather, scatter};
use super::loss::cross_entropy_of_many;
use super::matrix::{Output, Threads, View, multiply};
use super::network::{LinearWeights, Network, NormWeights, Weight};
use super::pointwise::{column_sums, gelu, gelu_backward, layer_norm, layer_norm_backward};
use crate::adaptation::{MaskedBatch, VocabularyHead};

/// The weights of a head at one step.
pub(crate) struct VocabularyWeights {
    transform: LinearWeights,
    norm: NormWeights,
    bias: Weight,
}

impl VocabularyWeights {
    /// Reads the weights of `head`.
    pub fn read(head: &VocabularyHead) -> Self {
        Self {
            transform: LinearWeights::of(&head.transform),
            norm: NormWeights::of(&head.norm),
            bias: Weight::of(&head.bias),
        }
    }
}

/// Losses of masked texts.
pub(crate) struct MaskedLoss {
    /// What is minimised.
    pub total: f64,
    /// Mean cross entropy of the masked tokens, in nats.
    pub words: f64,
}

impl Network {
    /// Texts with masked tokens, and the weighted distance of their embeddings to those of the whole texts.
    pub fn masked(
        &self,
        head: &VocabularyWeights,
        batch: &MaskedBatch,
        embedding_loss_weight: f32,
        mut signal: Signal<'_>,
    ) -> MaskedLoss {
        let dim = self.dim();
        let forward = self.forward(&batch.ragged, signal.dropout());
        let hidden = forward.hidden();
        let mut gradient = vec![0f32; hidden.len()];

        let rows = gather(hidden, &batch.places, dim);
        let expanded = head.transform.view().forward(&rows);
        let norm = head.norm.view();
        let guesses = layer_norm(gelu(&expanded), norm.gamma, norm.beta);
        let (words, bias) = (self.word_embeddings(), head.bias.values());
        let (count, vocabulary) = (batch.places.len(), bias.len());
        let projection = View::new(words, vocabulary, dim);
        let mut logits = Vec::with_capacity(count * vocabulary);
        (0..count).for_each(|_| logits.extend_from_slice(bias));
        let guessed = View::new(&guesses.output, count, dim);
        multiply((&mut logits, vocabulary), guessed, projection.transposed(), (Output::Add, 1.0), Threads::All);
        let loss = cross_entropy_of_many(logits, vocabulary, &batch.targets);

        if let Signal::Learn(_, into) = &mut signal {
            into.put(&head.bias, column_sums(&loss.gradient, vocabulary), [vocabulary]);
            let mut back = vec![0f32; rows.len()];
            let of_logits = View::new(&loss.gradient, count, vocabulary);
            multiply((&mut back, dim), of_logits, projection, (Output::Replace, 1.0), Threads::All);
            into.norm(&head.norm, layer_norm_backward(&mut back, &guesses, norm.gamma));
            gelu_backward(&mut back, &expanded);
            let mut below = vec![0f32; rows.len()];
            self.apply_linear(&head.transform, &rows, &back, &mut below, into);
            scatter(&mut gradient, &batch.places, &below, dim);
        }
        let away = self.stay(&batch.ragged, hidden, &batch.embeddings, embedding_loss_weight, &mut gradient);
        self.finish(&batch.ragged, &forward, gradient, signal);
        MaskedLoss { total: loss.value + away, words: loss.value }
    }
}
