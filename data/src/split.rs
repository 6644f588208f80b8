//! Which split an utterance belongs to, from its words alone.
//!
//! The words are normalised and the arguments masked first, so that duplicates and near-duplicates stay together.
//! *Invariant:* the split of an utterance never depends on what else is in the data, on its function, or on when it
//! was said.

use sha2::{Digest, Sha256};

use crate::example::{Example, Slot, SplitName};

/// The part of all utterances that is held out.
const HELD_OUT: f64 = 0.15;
/// The part of all utterances that thresholds are chosen on.
const VALIDATION: f64 = 0.10;

/// Folds an utterance to the words that count: lower case, numbers as `0`, no punctuation, one space between words.
///
/// An utterance without any word is only lower-cased.
pub fn normalise(text: &str) -> String {
    let mut words = String::with_capacity(text.len());
    let mut gap = false;
    let mut number = false;
    for character in folded(text) {
        if character.is_numeric() {
            if !number {
                push_word(&mut words, &mut gap, '0');
            }
            number = true;
        } else if character.is_alphanumeric() {
            push_word(&mut words, &mut gap, character);
            number = false;
        } else if !is_inside_words(character) {
            gap = true;
            number = false;
        }
    }
    match words.is_empty() {
        true => fold(text),
        false => words,
    }
}

/// Replaces the arguments of an utterance by their names and normalises the rest.
///
/// Arguments that do not fit the utterance are taken as words.
pub fn mask(text: &str, slots: &[Slot]) -> String {
    let mut sorted: Vec<&Slot> = slots.iter().collect();
    sorted.sort_by_key(|slot| (slot.start, slot.end));
    let mut masked = String::new();
    let mut between = String::new();
    let mut characters = text.chars();
    let mut at = 0;
    for slot in sorted {
        if slot.start < at || slot.start >= slot.end {
            continue;
        }
        between.extend(characters.by_ref().take(slot.start - at));
        let length = slot.end - slot.start;
        let value: String = characters.by_ref().take(length).collect();
        at = slot.end;
        if value.is_empty() {
            break;
        }
        push_normalised(&mut masked, &between);
        between.clear();
        push_part(&mut masked, &format!("<{}>", slot.name));
    }
    between.extend(characters);
    push_normalised(&mut masked, &between);
    masked
}

/// The split that an example belongs to: the one that somebody chose, else the one that its words hash to.
pub fn split_of(example: &Example) -> SplitName {
    example.split.unwrap_or_else(|| hashed_split(&example.text, &example.slots))
}

/// The split that words hash to, whatever somebody chose.
pub fn hashed_split(text: &str, slots: &[Slot]) -> SplitName {
    split_at(place(&mask(text, slots)))
}

/// The split that a key, such as the name of an article, hashes to.
pub(crate) fn hashed_key(key: &str) -> SplitName {
    split_at(place(key))
}

fn split_at(place: f64) -> SplitName {
    if place < HELD_OUT {
        SplitName::HeldOut
    } else if place < HELD_OUT + VALIDATION {
        SplitName::Validation
    } else {
        SplitName::Train
    }
}

/// The first 53 bits of the SHA-256 of the words as a number in [0, 1).
fn place(words: &str) -> f64 {
    let digest = Sha256::digest(words.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    (u64::from_be_bytes(first) >> 11) as f64 / (1u64 << 53) as f64
}

/// An utterance in lower case with one space between words: what "the same text" means.
pub(crate) fn fold(text: &str) -> String {
    let mut words = String::with_capacity(text.len());
    let mut gap = false;
    for character in folded(text) {
        match character.is_whitespace() {
            true => gap = true,
            false => push_word(&mut words, &mut gap, character),
        }
    }
    words
}

/// Lower case, with the letters that have two lower-case forms made one.
fn folded(text: &str) -> impl Iterator<Item = char> {
    text.chars()
        .flat_map(char::to_lowercase)
        .flat_map(|character| match character {
            'ς' => ['σ', '\0'],
            'ß' => ['s', 's'],
            other => [other, '\0'],
        })
        .filter(|character| *character != '\0')
}

/// Apostrophes and combining marks do not part words.
fn is_inside_words(character: char) -> bool {
    matches!(character, '\'' | '’' | '\u{300}'..='\u{36f}')
}

fn push_word(words: &mut String, gap: &mut bool, character: char) {
    if *gap && !words.is_empty() {
        words.push(' ');
    }
    *gap = false;
    words.push(character);
}

/// Appends the words of a text, if it has any.
fn push_normalised(masked: &mut String, text: &str) {
    if text.chars().any(char::is_alphanumeric) || masked.is_empty() {
        push_part(masked, &normalise(text));
    }
}

fn push_part(masked: &mut String, part: &str) {
    if !masked.is_empty() && !part.is_empty() {
        masked.push(' ');
    }
    masked.push_str(part);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(name: &str, start: usize, end: usize) -> Slot {
        Slot { name: name.to_owned(), start, end, value: String::new() }
    }

    #[test]
    fn near_duplicates_are_one() {
        for same in ["Wake me at 7, please!", "wake me at 10 please", "  wake   me at 7 please "] {
            assert_eq!(normalise(same), "wake me at 0 please");
        }
        assert_eq!(normalise("What's up?"), "whats up");
        assert_eq!(normalise("ΟΔΟΣ"), normalise("οδος"));
        assert_eq!(normalise("?!  ?"), "?! ?");
        assert_eq!(normalise(""), "");
    }

    #[test]
    fn arguments_are_masked_by_name() {
        let slots = [slot("time", 11, 16)];
        assert_eq!(mask("wake me at seven, ok", &slots), "wake me at <time> ok");
        assert_eq!(mask("wake me at 10 pm", &[slot("time", 11, 16)]), "wake me at <time>");
        // Spans outside the text, empty or overlapping ones change nothing.
        assert_eq!(mask("a b", &[slot("x", 9, 12)]), "a b");
        assert_eq!(mask("a b", &[slot("x", 1, 1)]), "a b");
        assert_eq!(mask("a b c", &[slot("x", 0, 3), slot("y", 2, 5)]), "<x> c");
    }

    #[test]
    fn a_chosen_split_wins() {
        let mut example = Example {
            text: "hello".to_owned(),
            function: "greet".to_owned(),
            slots: Vec::new(),
            split: None,
            source: crate::Source::Written,
            origin: String::new(),
            at: None,
            weight: 1.0,
        };
        let hashed = split_of(&example);
        example.text = "HELLO!".to_owned();
        assert_eq!(split_of(&example), hashed);
        for split in [SplitName::Train, SplitName::Validation, SplitName::HeldOut] {
            example.split = Some(split);
            assert_eq!(split_of(&example), split);
        }
    }

    #[test]
    fn the_shares_are_as_documented() {
        let mut counts = [0; 3];
        for index in 0..20_000u32 {
            // Letters, because numbers are masked.
            let text: String = format!("{index:x}")
                .chars()
                .map(|digit| char::from(b'a' + digit.to_digit(16).unwrap_or(0) as u8))
                .collect();
            counts[hashed_split(&text, &[]) as usize] += 1;
        }
        let share = |split: SplitName| f64::from(counts[split as usize]) / 20_000.0;
        assert!((share(SplitName::HeldOut) - HELD_OUT).abs() < 0.01);
        assert!((share(SplitName::Validation) - VALIDATION).abs() < 0.01);
    }
}
