//! The heads over the hidden states: losses with derivatives while training, right and wrong while validating.

use super::linear::LinearGradient;
use super::loss::{Targets, cosine_distance, cross_entropy, distillation};
use super::matrix::Output;
use super::network::{Dropout, Forward, Gradients, LinearWeights, Network};
use super::pointwise::{Mask, add};
use crate::batch::{Batch, Ragged};
use crate::trainee::Objective;
use crate::windows::WindowBatch;

/// Places of dropout before the heads; layers take the small numbers.
pub(crate) const FUNCTION_PLACE: u64 = 1_000;
pub(crate) const TAG_PLACE: u64 = 1_001;
pub(crate) const ANSWER_PLACE: u64 = 1_002;

/// Loss and logits of texts.
pub(crate) struct Scores {
    /// Mean over the batch.
    pub loss: f64,
    /// `[batch_size, functions]`
    pub functions: Vec<f32>,
    /// `[words, tags]`
    pub tags: Vec<f32>,
}

/// Loss and logits of questions.
pub(crate) struct SpanScores {
    /// Mean over the batch.
    pub loss: f64,
    /// `[rows, 2]`: start and end
    pub logits: Vec<f32>,
}

/// What a pass is for.
pub(crate) enum Signal<'a> {
    /// Loss and logits alone.
    Score,
    /// Derivatives too, with dropout.
    Learn(Option<Dropout>, &'a mut Gradients),
}

impl Signal<'_> {
    pub(super) fn dropout(&self) -> Option<Dropout> {
        match self {
            Self::Score => None,
            Self::Learn(dropout, _) => *dropout,
        }
    }

    fn head_mask(&self, place: u64) -> Option<Mask> {
        self.dropout().and_then(|dropout| dropout.mask(place, dropout.head))
    }
}

/// Rows of `[rows, dim]`, one after the other.
pub(super) fn gather(hidden: &[f32], rows: &[u32], dim: usize) -> Vec<f32> {
    rows.iter().flat_map(|row| &hidden[*row as usize * dim..][..dim]).copied().collect()
}

/// Adds `[rows.len(), dim]` back to the rows they were taken from.
pub(super) fn scatter(gradient: &mut [f32], rows: &[u32], values: &[f32], dim: usize) {
    for (row, values) in rows.iter().zip(values.chunks_exact(dim)) {
        add(&mut gradient[*row as usize * dim..][..dim], values);
    }
}

fn masked(mut values: Vec<f32>, mask: Option<Mask>) -> Vec<f32> {
    if let Some(mask) = mask {
        mask.apply(&mut values);
    }
    values
}

impl Network {
    /// Texts with function and arguments.
    pub fn texts(&self, batch: &Batch, objective: &Objective, mut signal: Signal<'_>) -> Scores {
        let dim = self.dim();
        let forward = self.forward(&batch.ragged, signal.dropout());
        let hidden = forward.hidden();
        let mut gradient = vec![0f32; hidden.len()];

        let first: Vec<u32> = batch.ragged.starts[..batch.functions.len()].iter().map(|row| *row as u32).collect();
        let rows = gather(hidden, &first, dim);
        let mut pooled = self.pre_classifier.view().forward(&rows);
        pooled.iter_mut().for_each(|value| *value = value.max(0.0));
        let mask = signal.head_mask(FUNCTION_PLACE);
        let dropped = masked(pooled.clone(), mask);
        let functions = self.classifier.view().forward(&dropped);
        let classes = self.classifier.view().bias.len();
        let targets =
            Targets { classes: &batch.functions, weights: &batch.weights, smoothing: objective.label_smoothing };
        let mut loss = match signal {
            Signal::Learn(..) if !objective.function_surplus.is_empty() => {
                let mut adjusted = functions.clone();
                adjusted.chunks_exact_mut(classes).for_each(|row| add(row, &objective.function_surplus));
                cross_entropy(&adjusted, classes, &targets)
            }
            _ => cross_entropy(&functions, classes, &targets),
        };
        if objective.distillation_weight > 0.0 && !batch.teacher.is_empty() {
            let teacher = batch.teacher_of_functions();
            let distilled = distillation(&functions, classes, &teacher, objective.distillation_temperature);
            mix(&mut loss, &distilled, objective.distillation_weight);
        }
        let mut total = loss.value;
        if let Signal::Learn(_, into) = &mut signal {
            let mut back = vec![0f32; dropped.len()];
            self.apply_linear(&self.classifier, &dropped, &loss.gradient, &mut back, into);
            let mut back = masked(back, mask);
            back.iter_mut().zip(&pooled).for_each(|(back, pooled)| *back = if *pooled > 0.0 { *back } else { 0.0 });
            let mut below = vec![0f32; rows.len()];
            self.apply_linear(&self.pre_classifier, &rows, &back, &mut below, into);
            scatter(&mut gradient, &first, &below, dim);
        }

        let mut tags = Vec::new();
        if !batch.words.is_empty() {
            let mask = signal.head_mask(TAG_PLACE);
            let rows = masked(gather(hidden, &batch.words, dim), mask);
            tags = self.slot_classifier.view().forward(&rows);
            let classes = self.slot_classifier.view().bias.len();
            let targets = Targets { classes: &batch.tags, weights: &batch.word_weights, smoothing: 0.0 };
            let mut loss = cross_entropy(&tags, classes, &targets);
            if objective.distillation_weight > 0.0 && !batch.teacher.is_empty() {
                let teacher = batch.teacher_of_words();
                let distilled = distillation(&tags, classes, &teacher, objective.distillation_temperature);
                mix(&mut loss, &distilled, objective.distillation_weight);
            }
            let weight = objective.argument_loss_weight;
            total += loss.value * f64::from(weight);
            if let Signal::Learn(_, into) = &mut signal {
                loss.gradient.iter_mut().for_each(|value| *value *= weight);
                let mut back = vec![0f32; rows.len()];
                self.apply_linear(&self.slot_classifier, &rows, &loss.gradient, &mut back, into);
                scatter(&mut gradient, &batch.words, &masked(back, mask), dim);
            }
        }
        total += self.stay(&batch.ragged, hidden, &batch.embeddings, objective.embedding_loss_weight, &mut gradient);
        self.finish(&batch.ragged, &forward, gradient, signal);
        Scores { loss: total, functions, tags }
    }

    /// Questions beside their passages: the mean of the cross entropies of start and end
    /// (`DistilBertForQuestionAnswering`).
    pub fn windows(&self, batch: &WindowBatch, objective: &Objective, mut signal: Signal<'_>) -> SpanScores {
        let forward = self.forward(&batch.ragged, signal.dropout());
        let hidden = forward.hidden();
        let rows = hidden.len() / self.dim();
        let Some(head) = &self.qa_outputs else {
            return SpanScores { loss: 0.0, logits: vec![0f32; 2 * rows] };
        };
        let mask = signal.head_mask(ANSWER_PLACE);
        let dropped = masked(hidden.to_vec(), mask);
        let logits = head.view().forward(&dropped);
        let count = batch.starts.len();
        let mut of_logits = vec![0f32; logits.len()];
        let mut total = 0f64;
        for (side, places) in [&batch.starts, &batch.ends].into_iter().enumerate() {
            for (pair, place) in batch.ragged.starts.windows(2).zip(places) {
                let row: Vec<f32> = (pair[0]..pair[1]).map(|row| logits[2 * row + side]).collect();
                let targets = Targets { classes: &[*place], weights: &[1.0], smoothing: 0.0 };
                let loss = cross_entropy(&row, row.len(), &targets);
                total += 0.5 * loss.value / count as f64;
                for (row, value) in (pair[0]..pair[1]).zip(loss.gradient) {
                    of_logits[2 * row + side] = 0.5 * value / count as f32;
                }
            }
        }
        let mut gradient = vec![0f32; hidden.len()];
        if let Signal::Learn(_, into) = &mut signal {
            self.apply_linear(head, &dropped, &of_logits, &mut gradient, into);
            gradient = masked(gradient, mask);
        }
        total += self.stay(&batch.ragged, hidden, &batch.embeddings, objective.embedding_loss_weight, &mut gradient);
        self.finish(&batch.ragged, &forward, gradient, signal);
        SpanScores { loss: total, logits }
    }

    /// The weighted distance between the mean-pooled embeddings and `targets`; adds its derivative to `gradient`.
    pub(super) fn stay(
        &self,
        batch: &Ragged,
        hidden: &[f32],
        targets: &[f32],
        weight: f32,
        gradient: &mut [f32],
    ) -> f64 {
        if targets.is_empty() {
            return 0.0;
        }
        let dim = self.dim();
        let mut pooled = vec![0f32; targets.len()];
        let sequences = || batch.starts.windows(2).map(|pair| pair[0] * dim..pair[1] * dim);
        for (pooled, range) in pooled.chunks_exact_mut(dim).zip(sequences()) {
            let share = dim as f32 / range.len() as f32;
            hidden[range].chunks_exact(dim).for_each(|row| add(pooled, row));
            pooled.iter_mut().for_each(|value| *value *= share);
        }
        let distance = cosine_distance(&pooled, targets, dim);
        for (of_text, range) in distance.gradient.chunks_exact(dim).zip(sequences()) {
            let share = weight * dim as f32 / range.len() as f32;
            for row in gradient[range].chunks_exact_mut(dim) {
                row.iter_mut().zip(of_text).for_each(|(row, value)| *row += share * value);
            }
        }
        distance.value * f64::from(weight)
    }

    /// Derivatives of one head's weights, and of its input into `below`.
    pub(super) fn apply_linear(
        &self,
        weights: &LinearWeights,
        input: &[f32],
        gradient: &[f32],
        below: &mut [f32],
        into: &mut Gradients,
    ) {
        let linear = weights.view();
        let LinearGradient { weight, bias } = linear.weight_gradient(input, gradient);
        into.linear(weights, LinearGradient { weight, bias });
        linear.input_gradient(gradient, below, Output::Replace);
    }

    pub(super) fn finish(&self, batch: &Ragged, forward: &Forward, gradient: Vec<f32>, signal: Signal<'_>) {
        if let Signal::Learn(_, into) = signal {
            self.backward(batch, forward, gradient, into);
        }
    }
}

fn mix(loss: &mut super::loss::Loss, other: &super::loss::Loss, weight: f32) {
    loss.value += other.value * f64::from(weight);
    loss.gradient.iter_mut().zip(&other.gradient).for_each(|(sum, value)| *sum += weight * value);
}
