//! Sentences to remember and to ask for: those of files, and made-up ones to fill up.

use std::collections::HashSet;
use std::path::PathBuf;

use crate::commands::import::open;
use crate::commands::predict::Texts;

const VERBS: [&str; 25] = [
    "remind me about",
    "tell me about",
    "order",
    "find",
    "cancel",
    "book",
    "explain",
    "compare",
    "pay for",
    "call about",
    "look up",
    "send",
    "clean",
    "move",
    "rename",
    "print",
    "share",
    "delete",
    "repair",
    "sell",
    "paint",
    "translate",
    "schedule",
    "photograph",
    "return",
];

const ADJECTIVES: [&str; 20] = [
    "the new",
    "my old",
    "a cheap",
    "the broken",
    "our second",
    "the green",
    "a quiet",
    "the heavy",
    "her favourite",
    "the missing",
    "a wooden",
    "the longest",
    "his late",
    "the frozen",
    "a spare",
    "the local",
    "my grandmother's",
    "the unpaid",
    "a digital",
    "the smallest",
];

const NOUNS: [&str; 25] = [
    "invoice",
    "bicycle",
    "recipe",
    "train ticket",
    "lamp",
    "piano",
    "passport",
    "garden fence",
    "concert",
    "aquarium",
    "library book",
    "coffee machine",
    "winter coat",
    "tax form",
    "birthday cake",
    "camera",
    "mortgage",
    "tent",
    "wedding",
    "radiator",
    "dog collar",
    "printer",
    "vaccination",
    "sailing boat",
    "mirror",
];

const ENDINGS: [&str; 10] = [
    "",
    "tomorrow",
    "before lunch",
    "in Lisbon",
    "for the office",
    "at the airport",
    "with my sister",
    "next spring",
    "without a receipt",
    "on the balcony",
];

/// That many different sentences, those of the files first, and how many came from files.
///
/// The order of the files' sentences is theirs; the made-up ones are spread, so that neighbours differ in every word.
pub(super) fn sentences(files: &[PathBuf], count: usize) -> anyhow::Result<(Vec<String>, usize)> {
    let mut seen = HashSet::new();
    let mut sentences = Vec::with_capacity(count);
    for file in files {
        for input in Texts::new(open(file)?.0) {
            let text = input?.text;
            if sentences.len() < count && !text.trim().is_empty() && seen.insert(text.to_lowercase()) {
                sentences.push(text);
            }
        }
    }
    let given = sentences.len();
    let all = VERBS.len() * ADJECTIVES.len() * NOUNS.len() * ENDINGS.len();
    // Coprime to the number of combinations: every one of them once.
    const STEP: usize = 48_611;
    let made_up = (0..all).map(|index| {
        let mut rest = (index * STEP) % all;
        let mut part = |words: &[&'static str]| {
            let word = words[rest % words.len()];
            rest /= words.len();
            word
        };
        format!("{} {} {} {}", part(&VERBS), part(&ADJECTIVES), part(&NOUNS), part(&ENDINGS)).trim_end().to_owned()
    });
    sentences.extend(made_up.filter(|text| seen.insert(text.clone())).take(count - given));
    Ok((sentences, given))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_sentences_differ_and_are_always_the_same() {
        let (first, given) = sentences(&[], 3000).unwrap();
        assert_eq!((first.len(), given), (3000, 0));
        assert_eq!(first.iter().collect::<HashSet<_>>().len(), 3000);
        assert_eq!(sentences(&[], 3000).unwrap().0, first);
        assert_eq!(sentences(&[], 200_000).unwrap().0.len(), 125_000, "all there are");
    }
}
