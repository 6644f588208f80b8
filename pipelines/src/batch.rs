//! Encoded examples, and batches of similar length made of them.
//!
//! Every epoch shuffles with its own seed and groups texts of similar length. A batch is a ragged list of sequences on
//! the host; [`crate::padded`] makes tensors of it.

use std::sync::Arc;

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
    /// `[tokens, dim]`: what enters the first trained layer, where that does not change in the run.
    pub below: Option<Arc<Vec<f32>>>,
    /// What production says of the text, where training keeps close to it.
    pub teacher: Option<Arc<Teacher>>,
}

/// Production's logits for one text; rows of functions and tags that it does not know are absent.
#[derive(Clone, Debug, PartialEq)]
pub struct Teacher {
    /// `[functions]`
    pub functions: Vec<f32>,
    /// `[words, tags]`
    pub tags: Vec<f32>,
    /// Tags of a word.
    pub tag_count: usize,
}

impl EncodedExample {
    /// A text with its function and nothing else.
    pub fn plain(input_ids: Vec<u32>, function: u32) -> Self {
        Self { input_ids, function, words: Vec::new(), weight: 1.0, embedding: Vec::new(), below: None, teacher: None }
    }

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
        Some(Self {
            input_ids: encoding.input_ids,
            function,
            words,
            weight: example.weight,
            embedding: Vec::new(),
            below: None,
            teacher: None,
        })
    }
}

/// A correction that names only the function says nothing about the arguments.
fn arguments_known(example: &Example) -> bool {
    example.source != Source::Corrected || !example.slots.is_empty()
}

/// Sequences one after the other, without padding.
#[derive(Clone, Debug, Default)]
pub struct Ragged {
    /// Token ids of all sequences.
    pub input_ids: Vec<u32>,
    /// Where each sequence begins in `input_ids`, and the end of the last one.
    pub starts: Vec<usize>,
    /// `[rows, dim]`: what enters the first trained layer, when every sequence has it.
    pub below: Option<Vec<f32>>,
    /// Which batch of the run this is.
    pub number: u64,
}

impl Ragged {
    /// These sequences.
    pub fn of<'a>(sequences: impl IntoIterator<Item = &'a [u32]>) -> Self {
        let mut ragged = Self { starts: vec![0], ..Self::default() };
        for sequence in sequences {
            ragged.input_ids.extend_from_slice(sequence);
            ragged.starts.push(ragged.input_ids.len());
        }
        ragged
    }

    /// Tokens of the longest sequence.
    pub fn longest(&self) -> usize {
        self.starts.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
    }
}

/// Some examples of similar length.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The tokens.
    pub ragged: Ragged,
    /// `[batch_size]`
    pub functions: Vec<u32>,
    /// `[batch_size]`, mean 1
    pub weights: Vec<f32>,
    /// `[words]`: the row of each word's first token.
    pub words: Vec<u32>,
    /// `[words]`
    pub tags: Vec<u32>,
    /// `[words]`: weight of the word's example
    pub word_weights: Vec<f32>,
    /// Words of every example, in the order of `words`.
    pub word_counts: Vec<usize>,
    /// `[batch_size, dim]`: unit vectors; empty when none were computed.
    pub embeddings: Vec<f32>,
    /// `[batch_size]`: production's logits; empty when no example has them.
    pub teacher: Vec<Option<Arc<Teacher>>>,
}

impl Batch {
    /// Puts `examples` beside each other.
    pub fn new(examples: &[&EncodedExample]) -> Self {
        let batch_size = examples.len();
        let mut ragged = Ragged::of(examples.iter().map(|example| example.input_ids.as_slice()));
        let below: Option<Vec<&Arc<Vec<f32>>>> = examples.iter().map(|example| example.below.as_ref()).collect();
        ragged.below = below.map(|parts| parts.into_iter().flat_map(|part| part.iter().copied()).collect());
        let total: f32 = examples.iter().map(|example| example.weight).sum();
        let mean = if total > 0.0 { total / batch_size as f32 } else { 1.0 };
        let (mut words, mut tags, mut word_weights) = (Vec::new(), Vec::new(), Vec::new());
        let mut embeddings = Vec::new();
        for (example, start) in examples.iter().zip(&ragged.starts) {
            for (position, tag) in &example.words {
                words.push(*start as u32 + position);
                tags.push(*tag);
                word_weights.push(example.weight / mean);
            }
            embeddings.extend_from_slice(&example.embedding);
        }
        let complete = batch_size > 0 && embeddings.len() == batch_size * examples[0].embedding.len();
        let taught = examples.iter().any(|example| example.teacher.is_some());
        Self {
            ragged,
            functions: examples.iter().map(|example| example.function).collect(),
            weights: examples.iter().map(|example| example.weight / mean).collect(),
            words,
            tags,
            word_weights,
            word_counts: examples.iter().map(|example| example.words.len()).collect(),
            embeddings: if complete { embeddings } else { Vec::new() },
            teacher: if taught { examples.iter().map(|e| e.teacher.clone()).collect() } else { Vec::new() },
        }
    }

    /// Production's logits of every text's function; empty for a text without.
    pub fn teacher_of_functions(&self) -> Vec<&[f32]> {
        self.teacher.iter().map(|teacher| teacher.as_ref().map_or(&[][..], |teacher| &teacher.functions)).collect()
    }

    /// Production's logits of every word; empty for a word of a text without.
    pub fn teacher_of_words(&self) -> Vec<&[f32]> {
        let mut rows = Vec::with_capacity(self.words.len());
        for (teacher, count) in self.teacher.iter().zip(&self.word_counts) {
            rows.extend((0..*count).map(|word| match teacher {
                Some(teacher) => teacher.tags.get(word * teacher.tag_count..(word + 1) * teacher.tag_count),
                None => None,
            }));
        }
        rows.into_iter().map(Option::unwrap_or_default).collect()
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
                words: vec![(1, 0)],
                ..EncodedExample::plain((0..length as u32).collect(), 0)
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
    fn a_batch_is_a_ragged_list() {
        let examples = encoded(&[3, 5]);
        let batch = Batch::new(&examples.iter().collect::<Vec<_>>());
        assert_eq!(batch.ragged.starts, [0, 3, 8]);
        assert_eq!(batch.ragged.longest(), 5);
        assert_eq!(batch.words, [1, 4]);
        assert_eq!(batch.weights, [1.0, 1.0]);
        assert!(batch.ragged.below.is_none() && batch.embeddings.is_empty() && batch.teacher.is_empty());
    }

    #[test]
    fn words_of_a_text_without_teacher_have_none() {
        let mut examples = encoded(&[3, 4]);
        examples[1].teacher = Some(Arc::new(Teacher { functions: vec![1.0, 2.0], tags: vec![3.0, 4.0], tag_count: 2 }));
        let batch = Batch::new(&examples.iter().collect::<Vec<_>>());
        assert_eq!(batch.teacher_of_functions(), [&[][..], &[1.0, 2.0]]);
        assert_eq!(batch.teacher_of_words(), [&[][..], &[3.0, 4.0]]);
    }
}
