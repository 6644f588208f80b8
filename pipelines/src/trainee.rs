//! The joint model as burn-train's learner sees it: loss, training step, validation step.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Int, Tensor, activation};
use burn::train::{InferenceStep, TrainOutput, TrainStep};
use std::sync::Arc;

use crate::batch::Batch;
use crate::distilbert::{ForwardOptions, JointModel};
use crate::metrics::JointOutput;
use crate::mixed::Mixed;
use crate::windows::WindowBatch;

/// What the loss depends on besides the model.
#[derive(Clone, Debug, Default)]
pub struct Objective {
    /// Label smoothing of the function head, in [0, 1].
    pub label_smoothing: f32,
    /// Weight of the argument loss.
    pub argument_loss_weight: f32,
    /// Weight of the distance between a text's embedding and the base's.
    pub embedding_loss_weight: f32,
    /// Dropout while training.
    pub options: ForwardOptions,
}

/// A model together with its objective.
#[derive(Module, Debug)]
pub struct Trainee {
    /// The weights.
    pub model: JointModel,
    #[module(skip)]
    objective: Arc<Objective>,
}

/// Loss and logits of a batch.
struct Forward {
    /// `[1]`
    loss: Tensor<1>,
    /// `[batch_size, functions]`
    functions: Tensor<2>,
    /// `[words, tags]`
    tags: Option<Tensor<2>>,
}

impl Trainee {
    /// Puts `model` in front of `objective`.
    pub fn new(model: JointModel, objective: Objective) -> Self {
        Self { model, objective: Arc::new(objective) }
    }

    fn forward(&self, batch: &Batch, options: &ForwardOptions) -> Forward {
        let [batch_size, seq_length] = batch.input_ids.dims();
        let hidden = self.model.hidden(batch.input_ids.clone(), batch.padding.clone(), options);
        let device = hidden.device();
        let first = Tensor::<1, Int>::arange_step(0..(batch_size * seq_length) as i64, seq_length, &device);
        let functions = self.model.function_logits(hidden.clone().select(0, first), options);
        let mut loss = cross_entropy(
            functions.clone(),
            batch.functions.clone(),
            batch.weights.clone(),
            self.objective.label_smoothing,
        );
        if let Some(embeddings) = &batch.embeddings {
            let pooled = pool(hidden.clone(), batch.pooling.clone());
            loss = loss + cosine_distance(pooled, embeddings.clone()) * self.objective.embedding_loss_weight;
        }
        let mut tags = None;
        if let (Some(words), Some(targets), Some(weights)) = (&batch.words, &batch.tags, &batch.word_weights) {
            let logits = self.model.tag_logits(hidden.select(0, words.clone()), options);
            let tag_loss = cross_entropy(logits.clone(), targets.clone(), weights.clone(), 0.0);
            loss = loss + tag_loss * self.objective.argument_loss_weight;
            tags = Some(logits);
        }
        Forward { loss, functions, tags }
    }
}

/// Loss and logits of a batch of questions.
struct Spans {
    /// `[1]`
    loss: Tensor<1>,
    /// `[batch_size, seq_length]`, start and end
    logits: [Tensor<2>; 2],
}

impl Trainee {
    /// The mean of the cross entropies of start and end (`DistilBertForQuestionAnswering`).
    fn spans(&self, batch: &WindowBatch, options: &ForwardOptions) -> Spans {
        let [batch_size, seq_length] = batch.input_ids.dims();
        let hidden = self.model.hidden(batch.input_ids.clone(), batch.padding.clone(), options);
        let distance = batch
            .embeddings
            .as_ref()
            .map(|embeddings| cosine_distance(pool(hidden.clone(), batch.pooling.clone()), embeddings.clone()));
        let logits = self.model.answer_logits(hidden, options).reshape([batch_size, seq_length, 2]);
        let logits = [0, 1].map(|side| {
            let side = logits.clone().narrow(2, side, 1).reshape([batch_size, seq_length]);
            match &batch.padding {
                Some(padding) => side.mask_fill(padding.clone(), -1e9),
                None => side,
            }
        });
        let weights = Tensor::<1>::ones([batch_size], &logits[0].device());
        let loss = |logits: &Tensor<2>, targets: &Tensor<1, Int>| {
            cross_entropy(logits.clone(), targets.clone(), weights.clone(), 0.0)
        };
        let mut loss = (loss(&logits[0], &batch.starts) + loss(&logits[1], &batch.ends)) * 0.5;
        if let Some(distance) = distance {
            loss = loss + distance * self.objective.embedding_loss_weight;
        }
        Spans { loss, logits }
    }
}

/// Mean weighted cross entropy with label smoothing (arXiv 1512.00567).
///
/// # Shapes
/// - logits: `[rows, classes]`
/// - targets, weights: `[rows]`
/// - output: `[1]`
pub(crate) fn cross_entropy(
    logits: Tensor<2>,
    targets: Tensor<1, Int>,
    weights: Tensor<1>,
    smoothing: f32,
) -> Tensor<1> {
    let [rows, _classes] = logits.dims();
    let log_probabilities = activation::log_softmax(logits, 1);
    let picked = log_probabilities.clone().gather(1, targets.reshape([rows, 1])).reshape([rows]);
    let per_row = match smoothing > 0.0 {
        true => {
            let uniform = log_probabilities.mean_dim(1).reshape([rows]);
            picked * (1.0 - smoothing) + uniform * smoothing
        }
        false => picked,
    };
    -(per_row * weights).mean()
}

/// Mean over the tokens of every text.
///
/// # Shapes
/// - hidden: `[batch_size * seq_length, dim]`
/// - pooling: `[batch_size, seq_length]`
/// - output: `[batch_size, dim]`
fn pool(hidden: Tensor<2>, pooling: Tensor<2>) -> Tensor<2> {
    let [batch_size, seq_length] = pooling.dims();
    let [_, dim] = hidden.dims();
    let tokens = hidden.reshape([batch_size, seq_length, dim]);
    (tokens * pooling.reshape([batch_size, seq_length, 1])).sum_dim(1).reshape([batch_size, dim])
}

/// Mean of `1 - cos` between the rows and the unit vectors of `targets`.
///
/// # Shapes
/// - rows, targets: `[batch_size, dim]`
/// - output: `[1]`
fn cosine_distance(rows: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    let norm = (rows.clone() * rows.clone()).sum_dim(1).sqrt() + 1e-9;
    let cosine = (rows * targets).sum_dim(1) / norm;
    -cosine.mean() + 1.0
}

fn scalar(loss: Tensor<1>) -> f64 {
    loss.into_data().iter::<f64>().next().unwrap_or(f64::NAN)
}

impl TrainStep for Trainee {
    type Input = Mixed;
    type Output = JointOutput;

    fn step(&self, batch: Mixed) -> TrainOutput<JointOutput> {
        let options = &self.objective.options;
        let (loss, output) = match &batch {
            Mixed::Texts(batch) => {
                let output = JointOutput { examples: batch.word_counts.len(), ..JointOutput::default() };
                (self.forward(batch, options).loss, output)
            }
            Mixed::Windows(batch) => {
                let output = JointOutput { questions: batch.input_ids.dims()[0], ..JointOutput::default() };
                (self.spans(batch, options).loss, output)
            }
        };
        let output = JointOutput { loss: scalar(loss.clone().inner()), ..output };
        let gradients = GradientsParams::from_grads(loss.backward(), self);
        TrainOutput { grads: gradients, item: output }
    }
}

impl InferenceStep for Trainee {
    type Input = Mixed;
    type Output = JointOutput;

    fn step(&self, batch: Mixed) -> JointOutput {
        match batch {
            Mixed::Texts(batch) => self.score_texts(&batch),
            Mixed::Windows(batch) => self.score_windows(&batch),
        }
    }
}

impl Trainee {
    fn score_texts(&self, batch: &Batch) -> JointOutput {
        let forward = self.forward(batch, &ForwardOptions::default());
        let [batch_size, _] = batch.input_ids.dims();
        let right = matches(forward.functions, batch.functions.clone());
        let tags_right = match (forward.tags, batch.tags.clone()) {
            (Some(logits), Some(targets)) => matches(logits, targets),
            _ => Vec::new(),
        };
        let mut words = tags_right.iter();
        let mut exact = 0;
        for (function_right, count) in right.iter().zip(&batch.word_counts) {
            let arguments_right = words.by_ref().take(*count).fold(true, |all, right| all & right);
            exact += usize::from(*function_right && arguments_right);
        }
        JointOutput {
            loss: scalar(forward.loss),
            examples: batch_size,
            functions_right: right.iter().filter(|right| **right).count(),
            exact,
            ..JointOutput::default()
        }
    }

    fn score_windows(&self, batch: &WindowBatch) -> JointOutput {
        let Spans { loss, logits: [starts, ends] } = self.spans(batch, &ForwardOptions::default());
        let starts = matches(starts, batch.starts.clone());
        let right = starts.iter().zip(matches(ends, batch.ends.clone())).filter(|(start, end)| **start && *end);
        JointOutput {
            loss: scalar(loss),
            questions: starts.len(),
            spans_right: right.count(),
            ..JointOutput::default()
        }
    }
}

/// Whether the largest logit of each row is the target's.
fn matches(logits: Tensor<2>, targets: Tensor<1, Int>) -> Vec<bool> {
    let [rows, _classes] = logits.dims();
    let predicted = logits.argmax(1).reshape([rows]);
    predicted.equal(targets).into_data().iter::<bool>().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn embeddings_are_compared_by_angle_over_the_real_tokens() {
        let device = Device::flex();
        // Two texts of two tokens; the second token of the second text is padding.
        let hidden = Tensor::<2>::from_data([[2.0, 0.0], [0.0, 2.0], [0.0, 3.0], [9.0, 9.0]], &device);
        let pooling = Tensor::<2>::from_data([[0.5, 0.5], [1.0, 0.0]], &device);
        let pooled = pool(hidden, pooling);
        assert_eq!(pooled.clone().into_data().iter::<f32>().collect::<Vec<_>>(), [1.0, 1.0, 0.0, 3.0]);
        let targets = Tensor::<2>::from_data([[1.0, 0.0], [0.0, 1.0]], &device);
        // Cosines 1/sqrt(2) and 1.
        let expected = 1.0 - (0.5f64.sqrt() + 1.0) / 2.0;
        assert!((scalar(cosine_distance(pooled, targets)) - expected).abs() < 1e-6);
    }

    #[test]
    fn cross_entropy_by_hand() {
        let device = Device::flex();
        let logits = Tensor::<2>::from_data([[0.0, 0.0], [2.0, 0.0]], &device);
        let targets = Tensor::<1, Int>::from_data([0, 1], &device);
        let weights = Tensor::<1>::from_data([1.0, 1.0], &device);
        // ln 2 and ln(1 + e^2), halved.
        let expected = (2f64.ln() + (1.0 + 2f64.exp()).ln()) / 2.0;
        let loss = scalar(cross_entropy(logits.clone(), targets.clone(), weights.clone(), 0.0));
        assert!((loss - expected).abs() < 1e-6, "{loss} {expected}");
        // Smoothing moves half of 0.2 to the other class: mean log p of both.
        let smooth = scalar(cross_entropy(logits, targets, weights, 0.2));
        let uniform = (2f64.ln() + ((1.0 + 2f64.exp()).ln() + (1.0 + (-2f64).exp()).ln()) / 2.0) / 2.0;
        assert!((smooth - (0.8 * expected + 0.2 * uniform)).abs() < 1e-6, "{smooth}");
    }
}
