//! What is remembered: labelled sentences and answers, found by the same words or by the nearest embedding.
//!
//! Two layers. The *fixed* one holds the examples of `functions.json`, a class-balanced sample of the imported examples
//! and the imported answers; it changes when those files do. The *live* one holds what people said in conversations
//! (corrections, approvals, taught answers); it is read again after every opinion and is small.
//!
//! Invariants: a held-out or validation text of a file is never here, so that memory cannot flatter an evaluation; what
//! people said in conversations always is, at once. An embedding belongs to the model that the memory was built with.

mod cache;
mod layer;
mod openings;
mod prototypes;
mod sketches;
mod sources;

use std::sync::Arc;

use jiff::Timestamp;
use mynah_data::{Slot, Source};

use crate::encoder::Helpers;
use crate::model::Model;

pub use cache::EmbeddingCache;
pub use layer::Layer;
pub(crate) use layer::{OnProgress, embed, head};
pub(crate) use openings::opening_word;
pub(crate) use sources::{fixed_entries, is_out_of_scope, live_entries};

/// A remembered sentence.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The sentence.
    pub text: String,
    /// What it means.
    pub meaning: Meaning,
    /// How it came to its label.
    pub source: Source,
    /// Where it comes from: `functions.json#name:3`, `file:line` or an interaction's id.
    pub origin: String,
    /// When it was labelled, where that is known.
    pub at: Option<Timestamp>,
}

/// What a remembered sentence means.
#[derive(Debug, Clone, PartialEq)]
pub enum Meaning {
    /// A function's name, or `oos`, and where its arguments are in the sentence.
    Function {
        /// The function.
        name: String,
        /// The arguments.
        slots: Vec<Slot>,
    },
    /// An answer to give.
    Answer(String),
    /// The description of a function: near it, but not something anybody says.
    Description(String),
}

impl Entry {
    /// Whether a person said so in a conversation, rather than beforehand in a file.
    pub fn is_live(&self) -> bool {
        matches!(self.source, Source::Corrected | Source::Taught | Source::Confirmed)
    }
}

/// A search of a memory that has begun.
#[derive(Debug)]
pub(crate) struct Search {
    fixed: layer::Search,
    live: layer::Search,
    count: usize,
}

/// Both layers; an entry's number counts through the fixed layer, then the live one.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    fixed: Arc<Layer>,
    live: Arc<Layer>,
}

impl Memory {
    /// A memory of two layers that were built with the same model.
    pub fn new(fixed: Arc<Layer>, live: Arc<Layer>) -> Self {
        Self { fixed, live }
    }

    /// The same fixed layer with another live one.
    pub fn with_live(&self, live: Layer) -> Self {
        Self { fixed: Arc::clone(&self.fixed), live: Arc::new(live) }
    }

    /// The layer of what people said in conversations.
    pub fn live(&self) -> &Layer {
        &self.live
    }

    /// The layer of what files say.
    pub fn fixed(&self) -> &Layer {
        &self.fixed
    }

    /// How many sentences are remembered.
    pub fn len(&self) -> usize {
        self.fixed.len() + self.live.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a function is remembered, by an example or its description.
    pub(crate) fn has_functions(&self) -> bool {
        self.fixed.has_functions() || self.live.has_functions()
    }

    /// The functions that have examples or a description.
    pub(crate) fn function_names(&self) -> impl Iterator<Item = &str> {
        self.fixed.function_names().chain(self.live.function_names())
    }

    /// Whether an example of any function begins with a word; see [`opening_word`].
    pub(crate) fn opens_any(&self, word: &str) -> bool {
        self.fixed.openings().has(word) || self.live.openings().has(word)
    }

    /// Whether an example of a function does.
    pub(crate) fn opens(&self, function: &str, word: &str) -> bool {
        self.fixed.openings().has_of(function, word) || self.live.openings().has_of(function, word)
    }

    /// An entry by its number.
    pub fn entry(&self, number: usize) -> Option<&Entry> {
        match number.checked_sub(self.fixed.len()) {
            None => self.fixed.entry(number),
            Some(number) => self.live.entry(number),
        }
    }

    /// The entry of the same words; what people said in conversations comes first.
    pub fn exact(&self, text: &str) -> Option<usize> {
        let key = key(text);
        let live = self.live.exact(&key).map(|number| self.fixed.len() + number);
        live.or_else(|| self.fixed.exact(&key))
    }

    /// The `count` nearest entries with their cosine similarities, nearest first; see [`Layer::nearest`].
    pub fn nearest(&self, embedding: &[f32], count: usize) -> Vec<(usize, f32)> {
        self.found(self.search(embedding, count, false), embedding, Helpers::none())
    }

    /// The same, shared out among the threads of the model whose embedding it is.
    pub fn nearest_with(&self, model: &Model, embedding: &[f32], count: usize) -> Vec<(usize, f32)> {
        self.found(self.search(embedding, count, false), embedding, model.encoder().helpers())
    }

    /// Begins a search for the `count` nearest entries: what nobody can help with, and with `head_start` some more.
    pub(crate) fn search(&self, embedding: &[f32], count: usize, head_start: bool) -> Search {
        let fixed = self.fixed.search(embedding, count, head_start);
        Search { fixed, live: self.live.search(embedding, count, head_start), count }
    }

    /// The entries that a search finds, as [`Self::nearest`] tells them.
    pub(crate) fn found(&self, search: Search, embedding: &[f32], helpers: Helpers) -> Vec<(usize, f32)> {
        let fixed = self.fixed.found(search.fixed, embedding, helpers);
        self.merged(fixed, self.live.found(search.live, embedding, helpers), search.count)
    }

    /// The same by comparing with every entry.
    pub fn nearest_of_all(&self, embedding: &[f32], count: usize) -> Vec<(usize, f32)> {
        self.merged(self.fixed.nearest_of_all(embedding, count), self.live.nearest_of_all(embedding, count), count)
    }

    fn merged(&self, fixed: Vec<(usize, f32)>, live: Vec<(usize, f32)>, count: usize) -> Vec<(usize, f32)> {
        let mut found = fixed;
        found.extend(live.into_iter().map(|(number, similarity)| (self.fixed.len() + number, similarity)));
        found.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        found.truncate(count);
        found
    }

    /// The `count` functions whose written description and examples are nearest as a whole, with the cosine
    /// similarities, nearest first.
    pub fn functions(&self, embedding: &[f32], count: usize) -> Vec<(&str, f32)> {
        self.fixed.functions(embedding, count)
    }
}

/// The form in which two texts are "the same words": lower case, without punctuation, one space between words.
///
/// A text without any word is compared as it is.
pub fn key(text: &str) -> String {
    let mut key = String::with_capacity(text.len());
    for word in text.split(|c: char| !(c.is_alphanumeric() || c == '\'' || c == '’')) {
        let word = word.trim_matches(['\'', '’']);
        if word.is_empty() {
            continue;
        }
        if !key.is_empty() {
            key.push(' ');
        }
        key.extend(word.chars().flat_map(char::to_lowercase));
    }
    if key.is_empty() { text.trim().to_owned() } else { key }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str, source: Source) -> Entry {
        Entry { text: text.into(), meaning: Meaning::Answer(text.into()), source, origin: String::new(), at: None }
    }

    #[test]
    fn the_same_words_have_the_same_key() {
        assert_eq!(key("  What's  the TIME, please?! "), key("what's the time please"));
        assert_ne!(key("wake me at 7"), key("wake me at 8"));
        assert_eq!(key("?!"), "?!");
        assert_eq!(key(""), "");
    }

    #[test]
    fn a_memory_has_functions_when_either_layer_has() {
        let layer = |meaning| {
            let entry = Entry { meaning, ..entry("a", Source::Written) };
            Arc::new(Layer::from_embeddings(vec![entry], vec![1.0, 0.0]))
        };
        let answer = || layer(Meaning::Answer("b".into()));
        let call = || layer(Meaning::Function { name: "f".into(), slots: Vec::new() });
        assert!(!Memory::new(answer(), answer()).has_functions());
        assert!(Memory::new(call(), answer()).has_functions());
        assert!(Memory::new(answer(), call()).has_functions());
        assert!(Memory::new(layer(Meaning::Description("f".into())), answer()).has_functions());
    }

    #[test]
    fn entries_are_numbered_through_both_layers() {
        let fixed = Layer::from_embeddings(
            vec![entry("a", Source::Written), entry("b", Source::Written)],
            vec![1.0, 0.0, 0.0, 1.0],
        );
        let live = Layer::from_embeddings(vec![entry("a", Source::Corrected)], vec![0.6, 0.8]);
        let memory = Memory::new(Arc::new(fixed), Arc::new(live));
        assert_eq!(memory.exact("A!"), Some(2), "what people said comes first");
        assert_eq!(memory.exact("b"), Some(1));
        assert_eq!(memory.exact("c"), None);
        let nearest = memory.nearest(&[0.0, 1.0], 2);
        assert_eq!(nearest.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2]);
        assert!(nearest.iter().zip([1.0, 0.8]).all(|((_, similarity), expected)| (similarity - expected).abs() < 1e-2));
        assert!(memory.entry(2).is_some_and(Entry::is_live));
        assert_eq!(memory.entry(3), None);
        assert_eq!(memory.nearest(&[], 2), [], "an embedding of another width is near nothing");
    }
}
