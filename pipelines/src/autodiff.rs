//! The losses as tensors that burn differentiates: what graphics cards train by, and the reference that the CPU's own step
//! ([`crate::native`]) is held against and timed beside. It runs on any device of burn's.

use burn::tensor::{Device, Int, Tensor, activation};

use crate::batch::Batch;
use crate::distilbert::{ForwardOptions, JointModel};
use crate::padded::{PaddedTexts, PaddedTokens, PaddedWindows, Taught};
use crate::trainee::Objective;
use crate::windows::WindowBatch;

/// Loss and logits of a batch of texts.
pub(crate) struct Texts {
    /// `[1]`
    pub loss: Tensor<1>,
    /// `[batch_size, functions]`
    pub functions: Tensor<2>,
    /// `[words, tags]`
    pub tags: Option<Tensor<2>>,
}

/// Loss and logits of a batch of questions.
pub(crate) struct Spans {
    /// `[1]`
    pub loss: Tensor<1>,
    /// `[batch_size, seq_length]`, start and end
    pub logits: [Tensor<2>; 2],
}

/// Texts with function and arguments; `surplus` is added to the function logits before their loss.
pub(crate) fn texts(
    model: &JointModel,
    objective: &Objective,
    batch: &Batch,
    options: &ForwardOptions,
    surplus: &[f32],
    device: &Device,
) -> Texts {
    let PaddedTexts { tokens, functions: targets, weights, words, embeddings, taught } =
        PaddedTexts::new(batch, device);
    let [batch_size, seq_length] = tokens.input_ids.dims();
    let hidden = model.hidden(&tokens, options);
    let first = Tensor::<1, Int>::arange_step(0..(batch_size * seq_length) as i64, seq_length, device);
    let functions = model.function_logits(hidden.clone().select(0, first), options);
    let smoothing = objective.label_smoothing;
    let adjusted = match surplus {
        [] => functions.clone(),
        surplus => functions.clone() + Tensor::<1>::from_floats(surplus, device).unsqueeze(),
    };
    let mut loss = cross_entropy(adjusted, targets, weights, smoothing);
    let [of_functions, of_words] = taught;
    loss = distilled(loss, &functions, of_functions, objective);
    if let Some(embeddings) = embeddings {
        let pooled = pool(hidden.clone(), tokens.pooling);
        loss = loss + cosine_distance(pooled, embeddings) * objective.embedding_loss_weight;
    }
    let mut tags = None;
    if let Some((rows, targets, weights)) = words {
        let logits = model.tag_logits(hidden.select(0, rows), options);
        let tag_loss = distilled(cross_entropy(logits.clone(), targets, weights, 0.0), &logits, of_words, objective);
        loss = loss + tag_loss * objective.argument_loss_weight;
        tags = Some(logits);
    }
    Texts { loss, functions, tags }
}

/// The mean of the cross entropies of start and end (`DistilBertForQuestionAnswering`).
pub(crate) fn windows(
    model: &JointModel,
    objective: &Objective,
    batch: &WindowBatch,
    options: &ForwardOptions,
    device: &Device,
) -> Spans {
    let PaddedWindows { tokens, places, embeddings } = PaddedWindows::new(batch, device);
    let [batch_size, seq_length] = tokens.input_ids.dims();
    let hidden = model.hidden(&tokens, options);
    let PaddedTokens { padding, pooling, .. } = tokens;
    let distance = embeddings.map(|embeddings| cosine_distance(pool(hidden.clone(), pooling), embeddings));
    let logits = model.answer_logits(hidden, options).reshape([batch_size, seq_length, 2]);
    let logits = [0, 1].map(|side| {
        let side = logits.clone().narrow(2, side, 1).reshape([batch_size, seq_length]);
        match &padding {
            Some(padding) => side.mask_fill(padding.clone(), -1e9),
            None => side,
        }
    });
    let weights = Tensor::<1>::ones([batch_size], device);
    let [starts, ends] = places;
    let loss = |logits: &Tensor<2>, targets| cross_entropy(logits.clone(), targets, weights.clone(), 0.0);
    let mut loss = (loss(&logits[0], starts) + loss(&logits[1], ends)) * 0.5;
    if let Some(distance) = distance {
        loss = loss + distance * objective.embedding_loss_weight;
    }
    Spans { loss, logits }
}

/// Texts with masked tokens (`DistilBertForMaskedLM`); every text has an embedding to keep to.
#[cfg(test)]
pub(crate) fn masked(
    model: &JointModel,
    head: &crate::adaptation::VocabularyHead,
    batch: &crate::adaptation::MaskedBatch,
    embedding_loss_weight: f32,
    device: &Device,
) -> Tensor<1> {
    use burn::tensor::TensorData;
    let (starts, seq_length) = (&batch.ragged.starts, batch.ragged.longest());
    let rows = batch.places.iter().map(|place| {
        let text = starts.partition_point(|start| *start <= *place as usize) - 1;
        (text * seq_length + *place as usize - starts[text]) as i64
    });
    let integers = |values: Vec<i64>| {
        let count = values.len();
        Tensor::<1, Int>::from_data(TensorData::new(values, [count]), device)
    };
    let tokens = PaddedTokens::new(&batch.ragged, device);
    let hidden = model.hidden(&tokens, &ForwardOptions::default());
    let rows = hidden.clone().select(0, integers(rows.collect()));
    let guesses = head.norm.forward(activation::gelu(head.transform.forward(rows)));
    let words = model.distilbert.embeddings.word_embeddings.weight.val();
    let logits = guesses.matmul(words.transpose()) + head.bias.val().unsqueeze();
    let targets = integers(batch.targets.iter().map(|target| i64::from(*target)).collect());
    let loss = cross_entropy(logits, targets, Tensor::<1>::ones([batch.targets.len()], device), 0.0);
    let [texts, dim] = [starts.len() - 1, batch.embeddings.len() / (starts.len() - 1)];
    let embeddings = Tensor::from_data(TensorData::new(batch.embeddings.clone(), [texts, dim]), device);
    loss + cosine_distance(pool(hidden, tokens.pooling), embeddings) * embedding_loss_weight
}

/// `loss` with the distance to the teacher where there is one; see [`crate::native`] for the formula.
fn distilled(loss: Tensor<1>, logits: &Tensor<2>, taught: Option<Taught>, objective: &Objective) -> Tensor<1> {
    let Some(Taught { logits: teacher, weights }) = taught.filter(|_| objective.distillation_weight > 0.0) else {
        return loss;
    };
    let temperature = objective.distillation_temperature;
    let [rows, known] = teacher.dims();
    let student = activation::log_softmax(logits.clone().narrow(1, 0, known) / temperature, 1);
    let teacher = activation::log_softmax(teacher / temperature, 1);
    let divergence = (teacher.clone().exp() * (teacher - student)).sum_dim(1).reshape([rows]);
    loss + (divergence * weights).sum() * (temperature * temperature * objective.distillation_weight)
}

/// Mean weighted cross entropy with label smoothing (arXiv 1512.00567).
///
/// # Shapes
/// - logits: `[rows, classes]`
/// - targets, weights: `[rows]`
/// - output: `[1]`
fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>, weights: Tensor<1>, smoothing: f32) -> Tensor<1> {
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

/// Whether the largest logit of each row is the target's.
pub(crate) fn matches(logits: Tensor<2>, targets: &[u32]) -> Vec<bool> {
    let [rows, _classes] = logits.dims();
    let predicted = logits.argmax(1).reshape([rows]);
    predicted.into_data().iter::<i64>().zip(targets).map(|(row, target)| row == i64::from(*target)).collect()
}

/// The number in a loss.
pub(crate) fn value(loss: Tensor<1>) -> f64 {
    loss.into_data().iter::<f64>().next().unwrap_or(f64::NAN)
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
        assert!((value(cosine_distance(pooled, targets)) - expected).abs() < 1e-6);
    }

    #[test]
    fn cross_entropy_by_hand() {
        let device = Device::flex();
        let logits = Tensor::<2>::from_data([[0.0, 0.0], [2.0, 0.0]], &device);
        let targets = Tensor::<1, Int>::from_data([0, 1], &device);
        let weights = Tensor::<1>::from_data([1.0, 1.0], &device);
        // ln 2 and ln(1 + e^2), halved.
        let expected = (2f64.ln() + (1.0 + 2f64.exp()).ln()) / 2.0;
        let loss = value(cross_entropy(logits.clone(), targets.clone(), weights.clone(), 0.0));
        assert!((loss - expected).abs() < 1e-6, "{loss} {expected}");
        // Smoothing moves half of 0.2 to the other class: mean log p of both.
        let smooth = value(cross_entropy(logits, targets, weights, 0.2));
        let uniform = (2f64.ln() + ((1.0 + 2f64.exp()).ln() + (1.0 + (-2f64).exp()).ln()) / 2.0) / 2.0;
        assert!((smooth - (0.8 * expected + 0.2 * uniform)).abs() < 1e-6, "{smooth}");
    }
}
