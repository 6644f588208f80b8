//! What a run trains on, and the last check that nothing held out is among it.
//!
//! [`mynah_data::Dataset`] keeps the splits apart. What training makes of its split, copies with other values, could still
//! come to words that are held out, validated on or pinned. *Invariant:* no example that leaves here has such words, numbers and
//! punctuation aside, except a correction of a pinned sentence; and no unlabelled text is let pass that has them, has their
//! wording with other arguments, or would be held out or validated on once somebody labelled it.

use mynah_data::{Example, Slot, Source, SplitName, hashed_split, mask, normalise};
use std::collections::{HashMap, HashSet};

use crate::corpus::{Corpus, Replay};
use crate::settings::TrainingSettings;
use crate::swap::with_swapped_values;

/// The words that must not be trained on.
pub(crate) struct HeldOut {
    judged: HashSet<String>,
    pinned: HashSet<String>,
    wordings: Wordings,
}

impl HeldOut {
    /// Of everything that a candidate is validated on, judged by or asked for.
    pub fn of(corpus: &Corpus) -> Self {
        let dataset = &corpus.dataset;
        let judged = dataset.held_out.iter().chain(&dataset.validation);
        Self {
            judged: judged.clone().map(|example| normalise(&example.text)).collect(),
            wordings: Wordings::of(judged.filter(|example| !example.slots.is_empty())),
            pinned: corpus.expectations.iter().map(|expectation| normalise(&expectation.text)).collect(),
        }
    }

    /// Whether a text must not be trained on.
    pub fn has(&self, example: &Example) -> bool {
        let words = normalise(&example.text);
        self.judged.contains(&words) || (example.source != Source::Corrected && self.pinned.contains(&words))
    }

    /// The same for a text that nobody labelled: whatever its arguments are, those of `guesses` among them.
    pub fn has_unlabelled<'a>(&self, text: &str, guesses: impl IntoIterator<Item = &'a [Slot]>) -> bool {
        let words = normalise(text);
        self.judged.contains(&words)
            || self.pinned.contains(&words)
            || self.wordings.have(&words)
            || hashed_split(text, &[]) != SplitName::Train
            || guesses
                .into_iter()
                .any(|slots| hashed_split(text, slots) != SplitName::Train || self.wordings.have(&mask(text, slots)))
    }
}

/// Masked texts, each a list of words with gaps for arguments, by their first word; those that begin with a gap by "".
struct Wordings(HashMap<String, Vec<Vec<Part>>>);

#[derive(PartialEq)]
enum Part {
    Word(String),
    /// One word or more.
    Gap,
}

impl Wordings {
    fn of<'a>(examples: impl Iterator<Item = &'a Example>) -> Self {
        let mut seen = HashSet::new();
        let mut wordings: HashMap<String, Vec<Vec<Part>>> = HashMap::new();
        for example in examples {
            let masked = mask(&example.text, &example.slots);
            let parts: Vec<Part> = masked
                .split(' ')
                .map(|word| if is_gap(word) { Part::Gap } else { Part::Word(word.to_owned()) })
                .collect();
            // An argument alone says nothing of its wording.
            if parts.contains(&Part::Gap) && parts.iter().any(|part| *part != Part::Gap) && seen.insert(masked.clone())
            {
                wordings.entry(first_word(&masked).to_owned()).or_default().push(parts);
            }
        }
        Self(wordings)
    }

    /// Whether a normalised or masked text is one of them with its gaps filled.
    fn have(&self, text: &str) -> bool {
        let words: Vec<&str> = text.split(' ').collect();
        let mut near = [first_word(text), ""].into_iter().filter_map(|first| self.0.get(first)).flatten();
        // What begins with an argument itself could begin with any word.
        near.any(|parts| fills(parts, &words))
            || (is_gap(words[0]) && self.0.values().flatten().any(|p| fills(p, &words)))
    }
}

fn is_gap(word: &str) -> bool {
    word.starts_with('<') && word.ends_with('>')
}

fn first_word(masked: &str) -> &str {
    masked.split(' ').next().filter(|word| !is_gap(word)).unwrap_or_default()
}

/// Whether `words` are `parts` with one word or more in every gap.
fn fills(parts: &[Part], words: &[&str]) -> bool {
    // How many words the parts so far can have taken.
    let mut taken = vec![false; words.len() + 1];
    taken[0] = true;
    for part in parts {
        let mut next = vec![false; words.len() + 1];
        for end in 1..=words.len() {
            next[end] = match part {
                Part::Word(word) => taken[end - 1] && word == words[end - 1],
                Part::Gap => taken[end - 1] || next[end - 1],
            };
        }
        taken = next;
    }
    taken[words.len()]
}

/// The examples of one epoch: those of [`Corpus::epoch`] and, where there are no more than `swap_limit`, their copies with
/// other values.
pub(crate) fn training_examples(
    corpus: &Corpus,
    replay: Option<Replay>,
    is_new: impl Fn(&Example) -> bool,
    settings: &TrainingSettings,
    swap_limit: usize,
) -> Vec<Example> {
    let epoch = corpus.epoch(replay, is_new, settings.correction_repeats, settings.seed);
    let mut epoch = with_swapped_values(epoch, settings.value_swaps, swap_limit, settings.seed);
    let held_out = HeldOut::of(corpus);
    epoch.retain(|example| !held_out.has(example));
    epoch
}

#[cfg(test)]
mod tests;
