//! Encoded examples, and batches of similar length made of them.
//!
//! Every epoch shuffles with its own seed, groups texts of similar length, and pads a batch only up
//! to its longest text.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use mynah_data::{Example, Source};
use mynah_runtime::{Labels, Tokenizer};

use crate::dropout::split_mix;

/// An example as the model sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedExample {
    /// Token ids, `[CLS]` and `[SEP]` included.
    pub input_ids: Vec<u32>,
    /// Row of the function head.
    pub function: u32,
    /// Position of the first token of every word, with its row of the argument head; empty when the
    /// arguments of the text are not known.
    pub words: Vec<(u32, u32)>,
    /// Weight in the loss.
    pub weight: f32,
    /// The base's embedding of the text, which training keeps close to; empty when there is none.
    pub embedding: Vec<f32>,
}

impl EncodedExample {
    /// Tokenizes `example` and looks its labels up.
    ///
    /// Returns `None` for a function that `labels` does not know. A span that does not begin or end
    /// where a word does is widened to the words it touches.
    pub fn new(example: &Example, labels: &Labels, tokenizer: &Tokenizer, max_tokens: usize) -> Option<Self> {
        let function = labels.function_id(&example.function)? as u32;
        let encoding = tokenizer.encode(&example.text, max_tokens);
        let mut words = Vec::new();
        if arguments_known(example) {
            let mut previous = None;
            for word in encoding.words() {
                let slot = example.slots.iter().position(|s| s.start < word.end && word.start < s.end);
                let tag = match slot {
                    None => "O".to_string(),
                    Some(index) if previous == Some(index) => format!("I-{}", example.slots[index].name),
                    Some(index) => format!("B-{}", example.slots[index].name),
                };
                previous = slot;
                words.push((word.first_token as u32, labels.tag_id(&tag)? as u32));
            }
        }
        Some(Self { input_ids: encoding.input_ids, function, words, weight: example.weight, embedding: Vec::new() })
    }
}

/// A correction that names only the function says nothing about the arguments.
fn arguments_known(example: &Example) -> bool {
    example.source != Source::Corrected || !example.slots.is_empty()
}

/// Some examples of similar length, padded to the longest.
#[derive(Clone, Debug)]
pub struct Batch {
    /// `[batch_size, seq_length]`
    pub input_ids: Tensor<2, Int>,
    /// `[batch_size, seq_length]`, true where padded; none when all texts are equally long.
    pub padding: Option<Tensor<2, Bool>>,
    /// `[batch_size]`
    pub functions: Tensor<1, Int>,
    /// `[batch_size]`, mean 1
    pub weights: Tensor<1>,
    /// `[words]`: row of the word's first token among `batch_size * seq_length`; none when no
    /// example has known arguments.
    pub words: Option<Tensor<1, Int>>,
    /// `[words]`
    pub tags: Option<Tensor<1, Int>>,
    /// `[words]`: weight of the word's example
    pub word_weights: Option<Tensor<1>>,
    /// Words of every example, in the order of `words`.
    pub word_counts: Vec<usize>,
    /// `[batch_size, seq_length]`: 1 / length at the text's own tokens, else 0.
    pub pooling: Tensor<2>,
    /// `[batch_size, dim]`: unit vectors; none when no embedding was computed.
    pub embeddings: Option<Tensor<2>>,
}

impl Batch {
    /// Pads `examples` into one batch on `device`.
    pub fn new(examples: &[&EncodedExample], device: &Device) -> Self {
        let batch_size = examples.len();
        let seq_length = examples.iter().map(|e| e.input_ids.len()).max().unwrap_or(1).max(1);
        let mut ids = vec![0i64; batch_size * seq_length];
        let mut pads = vec![true; batch_size * seq_length];
        let mut pooling = vec![0f32; batch_size * seq_length];
        let mut embeddings = Vec::new();
        let mut padded = false;
        let (mut words, mut tags, mut word_weights) = (Vec::new(), Vec::new(), Vec::new());
        let mut word_counts = Vec::with_capacity(batch_size);
        for (row, example) in examples.iter().enumerate() {
            padded |= example.input_ids.len() < seq_length;
            for (column, id) in example.input_ids.iter().enumerate() {
                ids[row * seq_length + column] = i64::from(*id);
                pads[row * seq_length + column] = false;
                pooling[row * seq_length + column] = 1.0 / example.input_ids.len() as f32;
            }
            for (position, tag) in &example.words {
                words.push((row * seq_length) as i64 + i64::from(*position));
                tags.push(i64::from(*tag));
                word_weights.push(example.weight);
            }
            word_counts.push(example.words.len());
            embeddings.extend_from_slice(&example.embedding);
        }
        let shape = [batch_size, seq_length];
        let count = words.len();
        let some = |values: Vec<i64>| (count > 0).then(|| Tensor::from_data(TensorData::new(values, [count]), device));
        let total: f32 = examples.iter().map(|e| e.weight).sum();
        let mean = if total > 0.0 { total / batch_size as f32 } else { 1.0 };
        let weights = examples.iter().map(|e| e.weight / mean).collect::<Vec<_>>();
        let functions = examples.iter().map(|e| i64::from(e.function)).collect::<Vec<_>>();
        Self {
            input_ids: Tensor::from_data(TensorData::new(ids, shape), device),
            padding: padded.then(|| Tensor::from_data(TensorData::new(pads, shape), device)),
            functions: Tensor::from_data(TensorData::new(functions, [batch_size]), device),
            weights: Tensor::from_data(TensorData::new(weights, [batch_size]), device),
            words: some(words),
            tags: some(tags),
            word_weights: (count > 0).then(|| {
                let scaled = word_weights.iter().map(|w| w / mean).collect::<Vec<f32>>();
                Tensor::from_data(TensorData::new(scaled, [count]), device)
            }),
            word_counts,
            pooling: Tensor::from_data(TensorData::new(pooling, shape), device),
            embeddings: (!embeddings.is_empty() && embeddings.len() % batch_size == 0).then(|| {
                let dim = embeddings.len() / batch_size;
                Tensor::from_data(TensorData::new(embeddings, [batch_size, dim]), device)
            }),
        }
    }
}

/// Which examples come in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Anew in every epoch, from this seed.
    Shuffled {
        /// Seed of the order.
        seed: u64,
    },
    /// By length, the same in every epoch.
    Fixed,
}

/// The items of every batch of `epoch`, by number, for items of these lengths.
pub(crate) fn plan(lengths: &[usize], batch_size: usize, order: Order, epoch: u64) -> Vec<Vec<usize>> {
    let mut indices: Vec<usize> = (0..lengths.len()).collect();
    let length = |index: &usize| lengths[*index];
    let Order::Shuffled { seed } = order else {
        indices.sort_by_key(|index| (length(index), *index));
        return indices.chunks(batch_size).map(<[usize]>::to_vec).collect();
    };
    let mut random = seed ^ split_mix(epoch);
    shuffle(&mut indices, &mut random);
    // Sorting within stretches of 32 batches keeps padding low and the order random.
    let mut batches: Vec<Vec<usize>> = Vec::with_capacity(lengths.len().div_ceil(batch_size));
    for stretch in indices.chunks_mut(batch_size * 32) {
        stretch.sort_by_key(length);
        batches.extend(stretch.chunks(batch_size).map(<[usize]>::to_vec));
    }
    shuffle(&mut batches, &mut random);
    batches
}

/// Fisher-Yates with SplitMix64.
pub(crate) fn shuffle<T>(items: &mut [T], random: &mut u64) {
    for last in (1..items.len()).rev() {
        *random = random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        items.swap(last, (split_mix(*random) % (last as u64 + 1)) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(lengths: &[usize]) -> Vec<EncodedExample> {
        lengths
            .iter()
            .map(|&length| EncodedExample {
                input_ids: (0..length as u32).collect(),
                function: 0,
                words: vec![(1, 0)],
                weight: 1.0,
                embedding: Vec::new(),
            })
            .collect()
    }

    #[test]
    fn an_epoch_holds_every_example_once_and_epochs_differ() {
        let lengths: Vec<usize> = (0..103).map(|n| 3 + n % 7).collect();
        let flat =
            |epoch| plan(&lengths, 8, Order::Shuffled { seed: 1 }, epoch).into_iter().flatten().collect::<Vec<_>>();
        let mut first = flat(0);
        assert_ne!(first, flat(1));
        assert_eq!(first, flat(0));
        first.sort_unstable();
        assert_eq!(first, (0..103).collect::<Vec<_>>());
    }

    #[test]
    fn a_batch_is_padded_to_its_longest_text() {
        let device = Device::flex();
        let examples = encoded(&[3, 5]);
        let batch = Batch::new(&examples.iter().collect::<Vec<_>>(), &device);
        assert_eq!(batch.input_ids.dims(), [2, 5]);
        let padding = batch.padding.unwrap().into_data().iter::<bool>().collect::<Vec<_>>();
        assert_eq!(padding, [[false, false, false, true, true], [false; 5]].concat());
        let words = batch.words.unwrap().into_data().iter::<i64>().collect::<Vec<_>>();
        assert_eq!(words, [1, 6]);
    }

    #[test]
    fn equal_lengths_need_no_mask() {
        let examples = encoded(&[4, 4]);
        let batch = Batch::new(&examples.iter().collect::<Vec<_>>(), &Device::flex());
        assert!(batch.padding.is_none());
    }
}
