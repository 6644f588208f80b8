//! A set of remembered sentences with their embeddings, searched as a whole.
//!
//! Invariant: there is one embedding of `dim` numbers an entry.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use super::prototypes::Prototypes;
use super::{EmbeddingCache, Entry, Meaning, key};
use crate::model::Model;

/// Texts embedded at once.
const BATCH: usize = 64;

/// Remembered sentences that were embedded together.
#[derive(Debug, Default)]
pub struct Layer {
    entries: Vec<Entry>,
    /// # Shapes
    /// `[entries, dim]`
    embeddings: Vec<f32>,
    dim: usize,
    exact: HashMap<String, usize>,
    prototypes: Prototypes,
}

impl Layer {
    /// Embeds the entries, taking from the cache and from an earlier layer what they have.
    ///
    /// Of two entries with the same words the later one counts, also for the nearest.
    pub fn build(entries: Vec<Entry>, model: &Model, cache: &mut EmbeddingCache, earlier: Option<&Self>) -> Self {
        let entries = last_of_same_words(entries);
        let texts: Vec<&str> = entries.iter().map(|entry| entry.text.as_str()).collect();
        let embeddings = embed(&texts, model, cache, earlier);
        Self::from_embeddings(entries, embeddings)
    }

    /// A layer of entries that have been embedded already.
    ///
    /// # Shapes
    /// `embeddings`: `[entries, dim]`
    pub fn from_embeddings(entries: Vec<Entry>, embeddings: Vec<f32>) -> Self {
        let dim = embeddings.len().checked_div(entries.len()).unwrap_or(0);
        let spoken = entries.iter().enumerate().filter(|(_, entry)| !matches!(entry.meaning, Meaning::Description(_)));
        let exact = spoken.map(|(number, entry)| (key(&entry.text), number)).collect();
        let prototypes = Prototypes::of(&entries, &embeddings, dim);
        Self { entries, embeddings, dim, exact, prototypes }
    }

    /// How many sentences there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// An entry by its number.
    pub fn entry(&self, number: usize) -> Option<&Entry> {
        self.entries.get(number)
    }

    /// All entries.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn exact(&self, key: &str) -> Option<usize> {
        self.exact.get(key).copied()
    }

    /// The `count` functions whose description and examples are nearest as a whole, nearest first.
    pub(super) fn functions(&self, embedding: &[f32], count: usize) -> Vec<(&str, f32)> {
        self.prototypes.nearest(embedding, count)
    }

    fn embedding(&self, number: usize) -> &[f32] {
        &self.embeddings[number * self.dim..(number + 1) * self.dim]
    }

    /// The `count` nearest entries, nearest first.
    pub(super) fn nearest(&self, embedding: &[f32], count: usize) -> Vec<(usize, f32)> {
        if self.dim == 0 || embedding.len() != self.dim || count == 0 {
            return Vec::new();
        }
        // The worst of the best so far is on top.
        let mut best: BinaryHeap<Found> = BinaryHeap::with_capacity(count + 1);
        for (number, row) in self.embeddings.chunks_exact(self.dim).enumerate() {
            let found = Found { similarity: dot(row, embedding), number };
            if best.len() < count {
                best.push(found);
            } else if best.peek().is_some_and(|worst| found < *worst) {
                best.pop();
                best.push(found);
            }
        }
        best.into_sorted_vec().into_iter().map(|found| (found.number, found.similarity)).collect()
    }
}

/// Ordered from the nearest to the furthest.
struct Found {
    similarity: f32,
    number: usize,
}

impl Ord for Found {
    fn cmp(&self, other: &Self) -> Ordering {
        other.similarity.total_cmp(&self.similarity).then(self.number.cmp(&other.number))
    }
}

impl PartialOrd for Found {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Found {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Found {}

/// The dot product, in lanes that the compiler can put into vector registers.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0_f32; LANES];
    let (a_lanes, b_lanes) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a_lanes.remainder().iter().zip(b_lanes.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_lanes.zip(b_lanes) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}

fn last_of_same_words(entries: Vec<Entry>) -> Vec<Entry> {
    let mut last: HashMap<String, usize> = HashMap::with_capacity(entries.len());
    for (number, entry) in entries.iter().enumerate() {
        last.insert(key(&entry.text), number);
    }
    let kept = entries.into_iter().enumerate().filter(|(number, entry)| last.get(&key(&entry.text)) == Some(number));
    kept.map(|(_, entry)| entry).collect()
}

/// The embeddings of texts, from the cache, an earlier layer or the model, in this order.
pub(crate) fn embed(texts: &[&str], model: &Model, cache: &mut EmbeddingCache, earlier: Option<&Layer>) -> Vec<f32> {
    let dim = model.dim();
    let mut embeddings = vec![0.0; texts.len() * dim];
    let mut unknown: Vec<usize> = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let earlier = earlier.filter(|layer| layer.dim == dim);
        // The same key may belong to another spelling, whose embedding differs.
        let known = earlier.and_then(|layer| {
            layer
                .exact(&key(text))
                .filter(|number| layer.entries[*number].text == *text)
                .map(|number| layer.embedding(number))
        });
        match known.or_else(|| cache.get(text)) {
            Some(known) => embeddings[index * dim..(index + 1) * dim].copy_from_slice(known),
            None => unknown.push(index),
        }
    }
    // Texts of one length together waste the least.
    unknown.sort_by_key(|index| texts[*index].len());
    for batch in unknown.chunks(BATCH) {
        let batch_texts: Vec<&str> = batch.iter().map(|index| head(texts[*index])).collect();
        for (index, embedding) in batch.iter().zip(model.embed(&batch_texts)) {
            embeddings[index * dim..(index + 1) * dim].copy_from_slice(&embedding);
            cache.insert(texts[*index], &embedding);
        }
    }
    embeddings
}

/// As much of a text as the encoder can see; the tokenizer would cut the rest into pieces for nothing.
pub(crate) fn head(text: &str) -> &str {
    const MAX_CHARS: usize = 4096;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mynah_data::Source;
    use proptest::prelude::*;

    fn entry(text: &str) -> Entry {
        Entry {
            text: text.into(),
            meaning: Meaning::Answer(text.into()),
            source: Source::Imported,
            origin: text.into(),
            at: None,
        }
    }

    #[test]
    fn the_later_of_the_same_words_counts() {
        let entries = last_of_same_words(vec![entry("Hi!"), entry("bye"), entry("hi")]);
        assert_eq!(entries.iter().map(|entry| entry.origin.as_str()).collect::<Vec<_>>(), ["bye", "hi"]);
    }

    proptest! {
        #[test]
        fn the_nearest_are_those_of_a_full_sort(rows in prop::collection::vec(prop::array::uniform3(-1.0_f32..1.0), 0..40), query in prop::array::uniform3(-1.0_f32..1.0), count in 0_usize..6) {
            let layer = Layer::from_embeddings(rows.iter().enumerate().map(|(number, _)| entry(&number.to_string())).collect(), rows.concat());
            let mut expected: Vec<(usize, f32)> = rows.iter().map(|row| dot(row, &query)).enumerate().collect();
            expected.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            expected.truncate(count);
            prop_assert_eq!(layer.nearest(&query, count), expected);
        }

        #[test]
        fn the_dot_product_is_the_sum_of_products(pairs in prop::collection::vec((-1.0_f32..1.0, -1.0_f32..1.0), 0..70)) {
            let (a, b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            let expected: f64 = a.iter().zip(&b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
            prop_assert!((f64::from(dot(&a, &b)) - expected).abs() < 1e-4);
        }
    }
}
