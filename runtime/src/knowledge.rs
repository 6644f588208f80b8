//! Passages of `knowledge/` to answer questions from: cut, embedded, found by similarity.
//!
//! Markdown and plain text are cut at headings and blank lines; a passage keeps its heading, because "The password is on the
//! router" says little without "Wi-Fi" above it. Sentences are embedded beside whole passages, so that the one that answers
//! is found too.
//!
//! Invariant: an answer is words of a file, and its file and line are known.

mod listing;
mod passages;
mod reading;

use std::path::Path;

pub(crate) use listing::Listing;
pub use passages::{Passage, read_directory};
pub use reading::PassageAnswer;
pub(crate) use reading::{READ_PASSAGES, ReadingThresholds, read};

use crate::memory::EmbeddingCache;
use crate::memory::embed;
use crate::model::Model;

/// Sentences and passages that are embedded at most; about two books.
const MAX_UNITS: usize = 20_000;

/// The passages of a home.
#[derive(Debug, Default)]
pub struct Knowledge {
    passages: Vec<Passage>,
    /// What was embedded: a passage's number, and one of its sentences unless it is the whole passage.
    units: Vec<(usize, Option<usize>)>,
    /// # Shapes
    /// `[units, dim]`
    embeddings: Vec<f32>,
    dim: usize,
}

/// A passage near a question.
#[derive(Debug, Clone, PartialEq)]
pub struct Found<'a> {
    /// The passage.
    pub passage: &'a Passage,
    /// The similarity of the passage or its best sentence, in [−1, 1].
    pub similarity: f32,
    /// The sentence of it that is nearest to the question.
    pub sentence: &'a str,
}

impl Knowledge {
    /// Reads and embeds a directory; files that cannot be read are told in the second part.
    pub fn load(directory: &Path, model: &Model, cache: &mut EmbeddingCache) -> (Self, Vec<String>) {
        let (passages, mut problems) = read_directory(directory);
        let mut units = Vec::new();
        for (number, passage) in passages.iter().enumerate() {
            units.push((number, None));
            if passage.sentences.len() > 1 {
                units.extend((0..passage.sentences.len()).map(|sentence| (number, Some(sentence))));
            }
        }
        if units.len() > MAX_UNITS {
            problems.push(format!(
                "{} has {} sentences; the first {MAX_UNITS} are used",
                directory.display(),
                units.len()
            ));
            units.truncate(MAX_UNITS);
        }
        let texts: Vec<String> =
            units.iter().map(|(number, sentence)| unit_text(&passages[*number], *sentence)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let embeddings = embed(&texts, model, cache, None);
        (Self { passages, units, embeddings, dim: model.dim() }, problems)
    }

    /// How many passages there are.
    pub fn len(&self) -> usize {
        self.passages.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.passages.is_empty()
    }

    /// The passages nearest to an embedding, at most `count`, nearest first.
    pub fn nearest_passages(&self, embedding: &[f32], count: usize) -> Vec<Found<'_>> {
        if self.dim == 0 || embedding.len() != self.dim {
            return Vec::new();
        }
        let mut found: Vec<Scored> = Vec::new();
        let scores = crate::dot::dots(self.embeddings.chunks_exact(self.dim), embedding);
        // The units of a passage stand together, the whole passage first.
        for (score, (number, sentence)) in scores.into_iter().zip(&self.units) {
            if found.last().is_none_or(|last| last.number != *number) {
                found.push(Scored { number: *number, similarity: score, sentence: None });
            }
            let Some(last) = found.last_mut() else { continue };
            last.similarity = last.similarity.max(score);
            if let Some(sentence) = sentence
                && last.sentence.is_none_or(|(highest, _)| score > highest)
            {
                last.sentence = Some((score, *sentence));
            }
        }
        found.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
        found.truncate(count);
        let found = found.into_iter().filter_map(|Scored { number, similarity, sentence }| {
            let passage = &self.passages[number];
            let sentence = sentence.map_or(0, |(_, sentence)| sentence);
            Some(Found { passage, similarity, sentence: passage.sentences.get(sentence)? })
        });
        found.collect()
    }
}

/// A passage's best similarity, and its best sentence with the sentence's own.
struct Scored {
    number: usize,
    similarity: f32,
    sentence: Option<(f32, usize)>,
}

fn unit_text(passage: &Passage, sentence: Option<usize>) -> String {
    let text = match sentence {
        None => passage.text.as_str(),
        Some(sentence) => passage.sentences[sentence].as_str(),
    };
    match &passage.heading {
        Some(heading) => format!("{heading}: {text}"),
        None => text.to_owned(),
    }
}
