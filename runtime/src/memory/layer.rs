//! A set of remembered sentences with their embeddings, searched as a whole.
//!
//! A search takes the sentences whose sketches are nearest ([`Sketches`]) and compares those exactly ([`Rows`]). Up to some ten
//! thousands of sentences nothing is trained or balanced, so a layer with one more is as quickly made as they are copied.
//!
//! Invariant: there is one embedding of `dim` numbers an entry.

use std::collections::HashMap;

use super::openings::Openings;
use super::prototypes::Prototypes;
use super::sketches::{self, Sketches};
use super::{EmbeddingCache, Entry, Meaning, key};
use crate::encoder::Helpers;
use crate::model::Model;
use crate::rows::{Query, Rows};

/// Texts embedded at once: enough to keep all cores busy between two reports of progress.
const BATCH: usize = 256;

/// Entries that are compared by their numbers, about: fewer of wide embeddings, whose bits say more. Each costs a look into
/// memory that no cache holds.
///
/// With 98,000 sentences of CLINC150, MASSIVE, SNIPS, SGD and SQuAD by all-MiniLM-L6-v2 (384 numbers) and 1,000 others of them,
/// the 64 candidates of [`Sketches`] hold the nearest of all for each of the sentences and 0.975 of the ten nearest; twice as
/// many hold 0.008 more.
const fn shortlist(dim: usize) -> usize {
    const LEAST: usize = 64;
    let count = 24_576 / if dim == 0 { 1 } else { dim };
    if count < LEAST { LEAST } else { count }
}

/// Entries that one task of a search compares.
const TASK: usize = 16;

/// New texts beside an earlier layer up to which the cache on the disk is left alone: reading it takes longer.
const FEW: usize = 64;

/// Remembered sentences that were embedded together.
#[derive(Debug, Default)]
pub struct Layer {
    entries: Vec<Entry>,
    /// # Shapes
    /// `[entries, dim]`
    embeddings: Rows,
    sketches: Sketches,
    exact: HashMap<String, usize>,
    prototypes: Prototypes,
    openings: Openings,
    has_functions: bool,
}

/// A search that has begun.
#[derive(Debug)]
pub(super) struct Search {
    sketches: sketches::Search,
    count: usize,
}

/// Tells how many of the texts that have to be embedded are: done, and in all.
pub(crate) type OnProgress<'a> = &'a (dyn Fn(usize, usize) + Sync);

impl Layer {
    /// Embeds the entries, taking from the cache and from an earlier layer what they have.
    ///
    /// Of two entries with the same words the later one counts, also for the nearest.
    pub fn build(entries: Vec<Entry>, model: &Model, cache: &mut EmbeddingCache, earlier: Option<&Self>) -> Self {
        Self::build_with(entries, model, cache, earlier, &|_, _| {})
    }

    pub(crate) fn build_with(
        entries: Vec<Entry>,
        model: &Model,
        cache: &mut EmbeddingCache,
        earlier: Option<&Self>,
        progress: OnProgress,
    ) -> Self {
        let (entries, keys) = last_of_same_words(entries);
        let texts: Vec<&str> = entries.iter().map(|entry| entry.text.as_str()).collect();
        let embeddings = embed_rows(&texts, Some(&keys), model, cache, earlier, progress);
        Self::new(entries, keys, embeddings, model.encoder().helpers())
    }

    /// A layer of entries that have been embedded already.
    ///
    /// # Shapes
    /// `embeddings`: `[entries, dim]`
    pub fn from_embeddings(entries: Vec<Entry>, embeddings: Vec<f32>) -> Self {
        let dim = embeddings.len().checked_div(entries.len()).unwrap_or(0);
        let keys = entries.iter().map(|entry| key(&entry.text)).collect();
        Self::new(entries, keys, Rows::from_embeddings(&embeddings, dim), Helpers::none())
    }

    fn new(entries: Vec<Entry>, keys: Vec<String>, embeddings: Rows, helpers: Helpers) -> Self {
        let spoken = |entry: &Entry| !matches!(entry.meaning, Meaning::Description(_));
        let exact = keys
            .into_iter()
            .enumerate()
            .filter(|(number, _)| entries.get(*number).is_some_and(spoken))
            .map(|(number, key)| (key, number))
            .collect();
        let (sketches, prototypes) = (Sketches::of(&embeddings, helpers), Prototypes::of(&entries, &embeddings));
        let has_functions = entries.iter().any(|entry| !matches!(entry.meaning, Meaning::Answer(_)));
        let openings = Openings::of(&entries);
        Self { entries, embeddings, sketches, exact, prototypes, openings, has_functions }
    }

    pub(super) fn openings(&self) -> &Openings {
        &self.openings
    }

    pub(super) fn has_functions(&self) -> bool {
        self.has_functions
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

    pub(super) fn function_names(&self) -> impl Iterator<Item = &str> {
        self.prototypes.names()
    }

    /// Whether a function has examples or a description here.
    pub(crate) fn has_function(&self, function: &str) -> bool {
        self.prototypes.has(function)
    }

    pub(super) fn exact(&self, key: &str) -> Option<usize> {
        self.exact.get(key).copied()
    }

    /// The `count` functions whose description and examples are nearest as a whole, nearest first.
    pub(super) fn functions(&self, embedding: &[f32], count: usize) -> Vec<(&str, f32)> {
        self.prototypes.nearest(embedding, count)
    }

    /// The `count` nearest entries with their cosine similarities, nearest first; of equal ones the first.
    ///
    /// Beyond a hundred entries "nearest" is among those whose sketches are, which misses one or two in
    /// a hundred of the very nearest.
    pub fn nearest(&self, embedding: &[f32], count: usize) -> Vec<(usize, f32)> {
        self.found(self.search(embedding, count, false), embedding, Helpers::none())
    }

    /// The same by comparing with every entry: what [`Layer::nearest`] is measured against.
    pub fn nearest_of_all(&self, embedding: &[f32], count: usize) -> Vec<(usize, f32)> {
        let search = Search { sketches: self.sketches.search(embedding, self.len(), false), count };
        self.found(search, embedding, Helpers::none())
    }

    /// Begins a search for the `count` nearest entries.
    pub(super) fn search(&self, embedding: &[f32], count: usize, head_start: bool) -> Search {
        let shortlist = if self.fits(embedding) { shortlist(embedding.len()).max(4 * count) } else { self.len() };
        Search { sketches: self.sketches.search(embedding, shortlist, head_start), count }
    }

    fn fits(&self, embedding: &[f32]) -> bool {
        self.embeddings.dim > 0 && embedding.len() == self.embeddings.dim
    }

    /// The nearest entries that the search finds, nearest first; of equal ones the first.
    pub(super) fn found(&self, search: Search, embedding: &[f32], helpers: Helpers) -> Vec<(usize, f32)> {
        let count = search.count;
        if !self.fits(embedding) || count == 0 {
            return Vec::new();
        }
        let candidates = self.sketches.candidates(search.sketches, helpers);
        let mut parts: Vec<(&[u32], Vec<f32>)> = candidates.chunks(TASK).map(|part| (part, Vec::new())).collect();
        let query = Query::of(embedding);
        helpers.share(&mut parts, |_, (part, similarities)| *similarities = self.embeddings.similarities(part, &query));
        let similarities = parts.into_iter().flat_map(|(_, similarities)| similarities);
        let mut found: Vec<(usize, f32)> = candidates.iter().map(|number| *number as usize).zip(similarities).collect();
        let nearer = |a: &(usize, f32), b: &(usize, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if found.len() > count {
            found.select_nth_unstable_by(count, nearer);
            found.truncate(count);
        }
        found.sort_unstable_by(nearer);
        found
    }
}

/// The entries without those that a later one with the same words replaces, and the keys of the others.
fn last_of_same_words(entries: Vec<Entry>) -> (Vec<Entry>, Vec<String>) {
    let keys: Vec<String> = entries.iter().map(|entry| key(&entry.text)).collect();
    let mut last: HashMap<&str, usize> = HashMap::with_capacity(entries.len());
    for (number, key) in keys.iter().enumerate() {
        last.insert(key, number);
    }
    let is_last: Vec<bool> =
        keys.iter().enumerate().map(|(number, key)| last.get(key.as_str()) == Some(&number)).collect();
    entries.into_iter().zip(keys).zip(is_last).filter_map(|(entry, is_last)| is_last.then_some(entry)).unzip()
}

/// The embeddings of texts, from the cache, an earlier layer or the model, in this order.
pub(crate) fn embed(texts: &[&str], model: &Model, cache: &mut EmbeddingCache, earlier: Option<&Layer>) -> Vec<f32> {
    let rows = embed_rows(texts, None, model, cache, earlier, &|_, _| {});
    (0..rows.len()).flat_map(|index| rows.embedding(index)).collect()
}

/// # Shapes
/// `keys`: `[texts]` where they are known
fn embed_rows(
    texts: &[&str],
    keys: Option<&[String]>,
    model: &Model,
    cache: &mut EmbeddingCache,
    earlier: Option<&Layer>,
    progress: OnProgress,
) -> Rows {
    let dim = model.dim();
    let mut rows = Rows::zeros(texts.len(), dim);
    let mut unknown: Vec<usize> = (0..texts.len()).collect();
    let earlier = earlier.filter(|layer| layer.embeddings.dim == dim);
    if let Some(layer) = earlier {
        unknown.retain(|index| {
            let number = match keys {
                Some(keys) => layer.exact(&keys[*index]),
                None => layer.exact(&key(texts[*index])),
            };
            // The same key may belong to another spelling, whose embedding differs.
            let same = number.filter(|number| layer.entries[*number].text == texts[*index]);
            if let Some(number) = same {
                rows.copy(*index, &layer.embeddings, number);
            }
            same.is_none()
        });
    }
    let cached = earlier.is_none() || unknown.len() > FEW;
    if cached {
        unknown.retain(|index| {
            let number = cache.get(texts[*index]);
            if let Some(number) = number {
                rows.copy(*index, cache.rows(), number);
            }
            number.is_none()
        });
    }
    // Texts of one length together waste the least.
    unknown.sort_by_key(|index| texts[*index].len());
    for (batch, done) in unknown.chunks(BATCH).zip((0..).step_by(BATCH)) {
        progress(done, unknown.len());
        let batch_texts: Vec<&str> = batch.iter().map(|index| head(texts[*index])).collect();
        for (index, embedding) in batch.iter().zip(model.embed(&batch_texts)) {
            rows.set(*index, &embedding);
            if cached {
                cache.insert(texts[*index], &embedding);
            }
        }
    }
    if !unknown.is_empty() {
        progress(unknown.len(), unknown.len());
    }
    rows
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
    use crate::dot::dot;
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
        let (entries, keys) = last_of_same_words(vec![entry("Hi!"), entry("bye"), entry("hi")]);
        assert_eq!(keys, ["bye", "hi"]);
        assert_eq!(entries.iter().map(|entry| entry.origin.as_str()).collect::<Vec<_>>(), ["bye", "hi"]);
    }

    /// Clusters of near sentences, as people's are; more of them than are compared exactly.
    #[test]
    fn the_nearest_of_many_are_found_without_comparing_with_all() {
        const DIM: usize = 64;
        let mut state = 7_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        let centres: Vec<[f32; DIM]> = (0..200).map(|_| std::array::from_fn(|_| next())).collect();
        let rows: Vec<[f32; DIM]> =
            (0..6000).map(|number| std::array::from_fn(|axis| centres[number % 200][axis] + 0.8 * next())).collect();
        let entries = (0..rows.len()).map(|number| entry(&number.to_string())).collect();
        let layer = Layer::from_embeddings(entries, rows.concat());
        let (mut found, mut first) = (0, 0);
        for centre in &centres[..100] {
            let query: [f32; DIM] = std::array::from_fn(|axis| centre[axis] + 0.8 * next());
            let expected = layer.nearest_of_all(&query, 10);
            let nearest = layer.nearest(&query, 10);
            first += usize::from(nearest[0] == expected[0]);
            found += nearest.iter().filter(|one| expected.contains(one)).count();
            assert_eq!(nearest, layer.nearest(&query, 10), "the same every time");
        }
        assert!(first >= 99 && found >= 980, "{first} {found}");
    }

    proptest! {
        #[test]
        fn the_nearest_are_those_of_a_full_sort(rows in prop::collection::vec(prop::array::uniform3(-1.0_f32..1.0), 0..40), query in prop::array::uniform3(-1.0_f32..1.0), count in 0_usize..6) {
            let layer = Layer::from_embeddings(rows.iter().enumerate().map(|(number, _)| entry(&number.to_string())).collect(), rows.concat());
            let mut expected: Vec<f32> = rows.iter().map(|row| dot(row, &query)).collect();
            expected.sort_by(|a, b| b.total_cmp(a));
            expected.truncate(count);
            let found = layer.nearest(&query, count);
            prop_assert_eq!(found.len(), expected.len());
            for ((number, similarity), expected) in found.into_iter().zip(expected) {
                prop_assert!((similarity - expected).abs() < 2e-2);
                prop_assert!((similarity - dot(&rows[number], &query)).abs() < 2e-2);
            }
        }
    }
}
