//! Batches as padded tensors, for the steps that burn differentiates.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use crate::batch::{Batch, Ragged};
use crate::windows::WindowBatch;

/// Sequences padded to the longest.
#[derive(Clone, Debug)]
pub struct PaddedTokens {
    /// `[batch_size, seq_length]`
    pub input_ids: Tensor<2, Int>,
    /// `[batch_size, seq_length]`, true where padded; none when all sequences are equally long.
    pub padding: Option<Tensor<2, Bool>>,
    /// `[batch_size, seq_length]`: 1 / length at a sequence's own tokens, else 0.
    pub pooling: Tensor<2>,
    /// `[batch_size * seq_length, dim]`: what enters the first trained layer, where the batch brings it.
    pub below: Option<Tensor<2>>,
}

impl PaddedTokens {
    /// Pads `ragged` on `device`.
    pub fn new(ragged: &Ragged, device: &Device) -> Self {
        let batch_size = ragged.starts.len() - 1;
        let seq_length = ragged.longest().max(1);
        let mut ids = vec![0i64; batch_size * seq_length];
        let mut pads = vec![true; batch_size * seq_length];
        let mut pooling = vec![0f32; batch_size * seq_length];
        for (row, pair) in ragged.starts.windows(2).enumerate() {
            for (column, id) in ragged.input_ids[pair[0]..pair[1]].iter().enumerate() {
                ids[row * seq_length + column] = i64::from(*id);
                pads[row * seq_length + column] = false;
                pooling[row * seq_length + column] = 1.0 / (pair[1] - pair[0]) as f32;
            }
        }
        let below = ragged.below.as_ref().map(|rows| {
            let dim = rows.len() / ragged.input_ids.len().max(1);
            let mut below = vec![0f32; batch_size * seq_length * dim];
            for (text, pair) in below.chunks_exact_mut((seq_length * dim).max(1)).zip(ragged.starts.windows(2)) {
                text[..(pair[1] - pair[0]) * dim].copy_from_slice(&rows[pair[0] * dim..pair[1] * dim]);
            }
            Tensor::from_data(TensorData::new(below, [batch_size * seq_length, dim]), device)
        });
        let shape = [batch_size, seq_length];
        let padded = pads.contains(&true);
        Self {
            input_ids: Tensor::from_data(TensorData::new(ids, shape), device),
            padding: padded.then(|| Tensor::from_data(TensorData::new(pads, shape), device)),
            pooling: Tensor::from_data(TensorData::new(pooling, shape), device),
            below,
        }
    }
}

/// Texts with their labels.
#[derive(Clone, Debug)]
pub struct PaddedTexts {
    /// The tokens.
    pub tokens: PaddedTokens,
    /// `[batch_size]`
    pub functions: Tensor<1, Int>,
    /// `[batch_size]`
    pub weights: Tensor<1>,
    /// Row of each word's first token among `batch_size * seq_length`, tag, and weight, `[words]` each; none when no
    /// example has known arguments.
    pub words: Option<(Tensor<1, Int>, Tensor<1, Int>, Tensor<1>)>,
    /// `[batch_size, dim]`: unit vectors; none when no embedding was computed.
    pub embeddings: Option<Tensor<2>>,
    /// What production says of the functions and of the words; none when it is not asked.
    pub taught: [Option<Taught>; 2],
}

impl PaddedTexts {
    /// Pads `batch` on `device`.
    pub fn new(batch: &Batch, device: &Device) -> Self {
        let seq_length = batch.ragged.longest().max(1);
        let mut rows = Vec::with_capacity(batch.words.len());
        let mut words = batch.words.iter();
        for (text, (count, start)) in batch.word_counts.iter().zip(&batch.ragged.starts).enumerate() {
            rows.extend(words.by_ref().take(*count).map(|row| text * seq_length + *row as usize - start));
        }
        let rows: Vec<i64> = rows.into_iter().map(|row| row as i64).collect();
        Self {
            tokens: PaddedTokens::new(&batch.ragged, device),
            functions: integers(&batch.functions, device),
            weights: floats(&batch.weights, device),
            words: (!rows.is_empty()).then(|| {
                let count = rows.len();
                let rows = Tensor::from_data(TensorData::new(rows, [count]), device);
                (rows, integers(&batch.tags, device), floats(&batch.word_weights, device))
            }),
            embeddings: unit_vectors(&batch.embeddings, batch.functions.len(), device),
            taught: [batch.teacher_of_functions(), batch.teacher_of_words()].map(|rows| Taught::new(&rows, device)),
        }
    }
}

/// Production's logits.
#[derive(Clone, Debug)]
pub struct Taught {
    /// `[rows, known]`; zeros in a row without.
    pub logits: Tensor<2>,
    /// `[rows]`: 1 / number of rows with a teacher, 0 in the others.
    pub weights: Tensor<1>,
}

impl Taught {
    fn new(rows: &[&[f32]], device: &Device) -> Option<Self> {
        let known = rows.iter().map(|row| row.len()).max().filter(|known| *known > 0)?;
        let taught = rows.iter().filter(|row| !row.is_empty()).count();
        let mut logits = vec![0f32; rows.len() * known];
        for (target, row) in logits.chunks_exact_mut(known).zip(rows) {
            target[..row.len()].copy_from_slice(row);
        }
        let share = |row: &&[f32]| if row.is_empty() { 0.0 } else { 1.0 / taught as f32 };
        let weights: Vec<f32> = rows.iter().map(share).collect();
        Some(Self {
            logits: Tensor::from_data(TensorData::new(logits, [rows.len(), known]), device),
            weights: floats(&weights, device),
        })
    }
}

/// Questions beside their passages.
#[derive(Clone, Debug)]
pub struct PaddedWindows {
    /// The tokens.
    pub tokens: PaddedTokens,
    /// First and last token of the answers, `[batch_size]` each.
    pub places: [Tensor<1, Int>; 2],
    /// `[batch_size, dim]`: unit vectors; none when no embedding was computed.
    pub embeddings: Option<Tensor<2>>,
}

impl PaddedWindows {
    /// Pads `batch` on `device`.
    pub fn new(batch: &WindowBatch, device: &Device) -> Self {
        Self {
            tokens: PaddedTokens::new(&batch.ragged, device),
            places: [&batch.starts, &batch.ends].map(|places| integers(places, device)),
            embeddings: unit_vectors(&batch.embeddings, batch.starts.len(), device),
        }
    }
}

fn integers(values: &[u32], device: &Device) -> Tensor<1, Int> {
    let values: Vec<i64> = values.iter().map(|value| i64::from(*value)).collect();
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}

fn floats(values: &[f32], device: &Device) -> Tensor<1> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
}

fn unit_vectors(values: &[f32], count: usize, device: &Device) -> Option<Tensor<2>> {
    (!values.is_empty()).then(|| {
        let shape = [count, values.len() / count];
        Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::EncodedExample;

    fn tokens(lengths: &[u32]) -> Ragged {
        let sequences: Vec<Vec<u32>> = lengths.iter().map(|length| (0..*length).collect()).collect();
        Ragged::of(sequences.iter().map(Vec::as_slice))
    }

    #[test]
    fn a_batch_is_padded_to_its_longest_text() {
        let padded = PaddedTokens::new(&tokens(&[3, 5]), &Device::flex());
        assert_eq!(padded.input_ids.dims(), [2, 5]);
        let padding = padded.padding.unwrap().into_data().iter::<bool>().collect::<Vec<_>>();
        assert_eq!(padding, [[false, false, false, true, true], [false; 5]].concat());
        assert!(PaddedTokens::new(&tokens(&[4, 4]), &Device::flex()).padding.is_none());
    }

    #[test]
    fn what_lies_below_is_padded_with_zeros() {
        let ragged = Ragged { below: Some((1..=6).map(|n| n as f32).collect()), ..tokens(&[1, 2]) };
        let below = PaddedTokens::new(&ragged, &Device::flex()).below.unwrap();
        assert_eq!(below.dims(), [4, 2]);
        assert_eq!(below.into_data().try_to_vec::<f32>().unwrap(), [1.0, 2.0, 0.0, 0.0, 3.0, 4.0, 5.0, 6.0]);
    }

    #[test]
    fn words_keep_their_places() {
        let example =
            |length: u32| EncodedExample { words: vec![(1, 0)], ..EncodedExample::plain((0..length).collect(), 0) };
        let examples = [example(3), example(5)];
        let padded = PaddedTexts::new(&Batch::new(&examples.iter().collect::<Vec<_>>()), &Device::flex());
        let (rows, _, _) = padded.words.unwrap();
        assert_eq!(rows.into_data().iter::<i64>().collect::<Vec<_>>(), [1, 6]);
    }
}
