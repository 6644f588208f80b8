//! Arguments without a trained arguments head: read off the nearest example, or recognised by their form.
//!
//! "wake me at [seven](time)" says that what follows "wake me at" is the time; a schema that asks for a date says
//! that "next friday" may be meant. This is how a function works before any training.
//!
//! Invariant: every slot found is a stretch of whole words of the text, and its value those very characters.

use jiff::Zoned;
use mynah_data::Slot;
use serde_json::Value;

use crate::functions::Parameter;
use crate::normalise::{Normalised, is_recognisable};

/// Words of a text that are looked at; what follows is too far from any example to be aligned with it.
const MAX_WORDS: usize = 60;

/// Words of the longest argument that is recognised by its form ("half past six in the evening").
const MAX_FORM_WORDS: usize = 7;

/// Words of the longest argument that is read off an example.
const MAX_ALIGNED_WORDS: usize = 12;

/// A word with its place in characters.
#[derive(Debug, Clone)]
struct Word {
    start: usize,
    end: usize,
    lower: String,
}

/// A text cut into words once, to be searched for several arguments.
#[derive(Debug)]
pub(crate) struct Text {
    characters: Vec<char>,
    words: Vec<Word>,
}

impl Text {
    pub(crate) fn new(text: &str) -> Self {
        // More words than are looked at are not even cut.
        const MAX_CHARS: usize = 4096;
        let characters: Vec<char> = text.chars().take(MAX_CHARS).collect();
        let words = words(&characters);
        Self { characters, words }
    }

    /// The words from `first` to `last`, both included, as an argument.
    pub(crate) fn slot(&self, name: &str, first: usize, last: usize) -> Slot {
        let (start, end) = (self.words[first].start, self.words[last].end);
        Slot { name: name.to_owned(), start, end, value: self.characters[start..end].iter().collect() }
    }

    /// How many words there are, as far as they are looked at.
    pub(crate) fn word_count(&self) -> usize {
        self.words.len()
    }

    /// A word in lower case.
    pub(crate) fn lower(&self, word: usize) -> &str {
        &self.words[word].lower
    }

    /// Whether a word begins with a capital letter.
    pub(crate) fn is_capital(&self, word: usize) -> bool {
        self.characters[self.words[word].start].is_uppercase()
    }

    /// The characters between a word and the one before it; for the first word and behind the last those at the edge.
    pub(crate) fn gap_before(&self, word: usize) -> &[char] {
        let start = word.checked_sub(1).map_or(0, |before| self.words[before].end);
        &self.characters[start..self.words.get(word).map_or(self.characters.len(), |word| word.start)]
    }

    /// The words that an argument covers, both included.
    pub(crate) fn covered(&self, slot: &Slot) -> Option<(usize, usize)> {
        let first = self.words.iter().position(|word| word.end > slot.start)?;
        let last = self.words.iter().rposition(|word| word.start < slot.end)?;
        (first <= last).then_some((first, last))
    }

    /// The arguments that the text has where the example has them: the words between those that both share.
    pub(crate) fn align(&self, example: &str, slots: &[Slot]) -> Vec<Slot> {
        let example = Self::new(example);
        let covering = |word: &Word| slots.iter().position(|slot| word.start < slot.end && word.end > slot.start);
        let literals: Vec<&Word> = example.words.iter().filter(|word| covering(word).is_none()).collect();
        let aligned = common_words(&literals, &self.words);
        let mut found: Vec<Slot> = Vec::new();
        for slot in slots {
            let before = literals.iter().take_while(|literal| literal.end <= slot.start).count();
            // Two arguments side by side: nothing tells where one ends.
            let alone = slots
                .iter()
                .filter(|other| literals.iter().take_while(|literal| literal.end <= other.start).count() == before)
                .count()
                == 1;
            let first = match before.checked_sub(1) {
                None => Some(0),
                Some(index) => aligned[index].map(|at| at + 1),
            };
            let end = match aligned.get(before) {
                None => Some(self.words.len()),
                Some(at) => *at,
            };
            if let (true, Some(first), Some(end)) = (alone, first, end)
                && first < end
                && end - first <= MAX_ALIGNED_WORDS
            {
                found.push(self.slot(&slot.name, first, end - 1));
            }
        }
        found
    }

    /// The argument recognised by its form alone, outside the places that are taken: the longest stretch of words that
    /// its type reads, without words that add nothing to the value.
    pub(crate) fn recognise(&self, parameter: &Parameter, taken: &[Slot], now: &Zoned) -> Option<Slot> {
        if !is_recognisable(&parameter.schema) {
            return None;
        }
        let free = |first: usize, last: usize| {
            let (start, end) = (self.words[first].start, self.words[last].end);
            !taken.iter().any(|slot| start < slot.end && end > slot.start)
        };
        let read = |first: usize, last: usize| self.read(parameter, first, last, now);
        for length in (1..=MAX_FORM_WORDS.min(self.words.len())).rev() {
            for first in 0..=self.words.len() - length {
                let last = first + length - 1;
                if !free(first, last) {
                    continue;
                }
                if read(first, last).is_none() {
                    continue;
                }
                let (first, last) = self.tightened(parameter, first, last, now);
                if self.is_by_the_way(first, last) {
                    continue;
                }
                return Some(self.slot(&parameter.name, first, last));
            }
        }
        None
    }

    /// An argument without the words at its edges that add nothing to its value; one that has no form stays as it is.
    pub(crate) fn tighten(&self, slot: Slot, parameter: &Parameter, now: &Zoned) -> Slot {
        let first = self.words.iter().position(|word| word.start >= slot.start);
        let last = self.words.iter().rposition(|word| word.end <= slot.end);
        match (first, last) {
            (Some(first), Some(last)) if first <= last && is_recognisable(&parameter.schema) => {
                let (first, last) = self.tightened(parameter, first, last, now);
                self.slot(&slot.name, first, last)
            }
            _ => slot,
        }
    }

    /// What a stretch of words is when it is read exactly as a parameter.
    pub(crate) fn read(&self, parameter: &Parameter, first: usize, last: usize, now: &Zoned) -> Option<Value> {
        match parameter.read(&self.slot("", first, last).value, now) {
            Some(Normalised::Exact(value)) => Some(value),
            _ => None,
        }
    }

    /// The fewest words within a stretch that have the same value.
    pub(crate) fn tightened(&self, parameter: &Parameter, first: usize, last: usize, now: &Zoned) -> (usize, usize) {
        let (mut first, mut last) = (first, last);
        let Some(value) = self.read(parameter, first, last, now) else { return (first, last) };
        while first < last && self.read(parameter, first + 1, last, now).as_ref() == Some(&value) {
            first += 1;
        }
        while first < last && self.read(parameter, first, last - 1, now).as_ref() == Some(&value) {
            last -= 1;
        }
        (first, last)
    }

    /// Whether a word that could be a value is more likely said by the way: "no, the kitchen", "this one", "in the sun".
    pub(crate) fn is_by_the_way(&self, first: usize, last: usize) -> bool {
        const TALK: [&str; 12] =
            ["yes", "yeah", "yep", "yup", "no", "nope", "nah", "not", "sure", "ok", "okay", "second"];
        const AMBIGUOUS: [&str; 8] = ["one", "sun", "sat", "wed", "mon", "may", "half", "quarter"];
        const POINTERS: [&str; 8] = ["at", "to", "by", "for", "on", "until", "from", "next"];
        let word = self.words[first].lower.as_str();
        let pointed_at =
            first.checked_sub(1).is_some_and(|before| POINTERS.contains(&self.words[before].lower.as_str()));
        first == last && (TALK.contains(&word) || (AMBIGUOUS.contains(&word) && !pointed_at && self.words.len() > 1))
    }

    /// The longest run of capitalised words that does not begin the text, outside the places that are taken: the name of
    /// somebody or something, which is what a free argument mostly is.
    pub(crate) fn proper_name(&self, name: &str, taken: &[Slot]) -> Option<Slot> {
        let is_name = |word: usize| {
            let Word { start, end, lower, .. } = &self.words[word];
            let is_i = lower == "i" || lower.starts_with("i'") || lower.starts_with("i’");
            self.is_capital(word) && !is_i && !taken.iter().any(|slot| *start < slot.end && *end > slot.start)
        };
        let mut longest: Option<(usize, usize)> = None;
        let mut first = 1;
        while first < self.words.len() {
            let length = (first..self.words.len()).take_while(|word| is_name(*word)).count();
            if length > longest.map_or(0, |(from, to)| to - from + 1) {
                longest = Some((first, first + length - 1));
            }
            first += length.max(1);
        }
        longest.map(|(first, last)| self.slot(name, first, last))
    }

    /// The whole text without its surrounding punctuation, as one argument.
    pub(crate) fn whole(&self, name: &str) -> Option<Slot> {
        (!self.words.is_empty()).then(|| self.slot(name, 0, self.words.len() - 1))
    }
}

fn words(characters: &[char]) -> Vec<Word> {
    let mut words = Vec::new();
    let mut at = 0;
    while at < characters.len() && words.len() < MAX_WORDS {
        if characters[at].is_whitespace() {
            at += 1;
            continue;
        }
        let end =
            characters[at..].iter().position(|c| c.is_whitespace()).map_or(characters.len(), |length| at + length);
        let matters = |c: &char| c.is_alphanumeric() || matches!(c, '%' | '$' | '€' | '£');
        let first = characters[at..end].iter().position(matters);
        let last = characters[at..end].iter().rposition(matters);
        if let (Some(first), Some(last)) = (first, last) {
            let (start, end) = (at + first, at + last + 1);
            words.push(Word { start, end, lower: characters[start..end].iter().collect::<String>().to_lowercase() });
        }
        at = end;
    }
    words
}

/// The place in `words` of each of the `literals`, for a longest common subsequence of both.
fn common_words(literals: &[&Word], words: &[Word]) -> Vec<Option<usize>> {
    let (rows, columns) = (literals.len(), words.len());
    let same = |row: usize, column: usize| literals[row].lower == words[column].lower;
    let mut lengths = vec![vec![0_u16; columns + 1]; rows + 1];
    for row in (0..rows).rev() {
        for column in (0..columns).rev() {
            lengths[row][column] = match same(row, column) {
                true => lengths[row + 1][column + 1] + 1,
                false => lengths[row + 1][column].max(lengths[row][column + 1]),
            };
        }
    }
    let mut places = vec![None; rows];
    let (mut row, mut column) = (0, 0);
    while row < rows && column < columns {
        if same(row, column) {
            places[row] = Some(column);
            (row, column) = (row + 1, column + 1);
        } else if lengths[row + 1][column] >= lengths[row][column + 1] {
            row += 1;
        } else {
            column += 1;
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::tests::toolbox;
    use proptest::prelude::*;

    fn now() -> Zoned {
        "2026-03-03T10:20:00[UTC]".parse().expect("a valid time")
    }

    fn slot(text: &str, name: &str, value: &str) -> Slot {
        let start = text.find(value).expect("the value is in the text");
        Slot { name: name.to_owned(), start, end: start + value.len(), value: value.to_owned() }
    }

    #[test]
    fn what_stands_where_the_example_has_its_argument() {
        let example = "remind me to feed the cat at seven";
        let slots = [slot(example, "what", "feed the cat"), slot(example, "when", "seven")];
        let found = Text::new("Please remind me to buy brown bread at half past six!").align(example, &slots);
        let found: Vec<(&str, &str)> = found.iter().map(|slot| (slot.name.as_str(), slot.value.as_str())).collect();
        assert_eq!(found, [("what", "buy brown bread"), ("when", "half past six")]);
        assert!(Text::new("remind me").align(example, &slots).is_empty());
    }

    #[test]
    fn a_name_is_the_longest_run_of_capitals() {
        let name = |text: &str| Text::new(text).proper_name("who", &[]).map(|slot| slot.value);
        assert_eq!(name("What is it like in New York, and in Rome?").as_deref(), Some("New York"));
        assert_eq!(name("Where do I find Anna").as_deref(), Some("Anna"));
        assert_eq!(name("Where do I go"), None);
        assert_eq!(name("Paris"), None, "the first word always has a capital");
        let taken = slot("call Anna or Tom Sawyer", "other", "Tom Sawyer");
        let left = Text::new("call Anna or Tom Sawyer").proper_name("who", &[taken]);
        assert_eq!(left.map(|slot| slot.value).as_deref(), Some("Anna"));
    }

    #[test]
    fn what_looks_like_the_argument() {
        let toolbox = toolbox();
        let find = |function: &str, name: &str, text: &str| {
            let parameter = toolbox.get(function).and_then(|tool| tool.parameter(name)).expect("a parameter");
            Text::new(text).recognise(parameter, &[], &now()).map(|slot| slot.value)
        };
        assert_eq!(find("set_alarm", "time", "get me up at half past six tomorrow").as_deref(), Some("half past six"));
        assert_eq!(find("set_light", "room", "lights on in the living room, please").as_deref(), Some("living room"));
        assert_eq!(find("set_light", "brightness", "make it 50 percent").as_deref(), Some("50"));
        assert_eq!(find("set_light", "brightness", "make it bright"), None);
        assert_eq!(find("set_alarm", "label", "call it gym"), None, "free text has no form");
        assert_eq!(find("set_light", "on", "no, the kitchen please"), None, "said by the way");
        assert_eq!(find("set_alarm", "time", "not this one"), None);
        assert_eq!(find("set_alarm", "time", "wake me at one").as_deref(), Some("one"));
    }

    proptest! {
        #[test]
        fn slots_are_the_characters_between_their_offsets(text in ".{0,80}", example in "[a-d ]{0,30}", cut in (0_usize..10, 1_usize..10)) {
            let length = example.chars().count();
            let (start, end) = (cut.0.min(length), (cut.0 + cut.1).min(length));
            let slots = [Slot { name: "x".into(), start, end, value: String::new() }];
            let characters: Vec<char> = text.chars().collect();
            for slot in Text::new(&text).align(&example, &slots).into_iter().chain(Text::new(&text).whole("x")) {
                prop_assert!(slot.start < slot.end);
                prop_assert_eq!(characters[slot.start..slot.end].iter().collect::<String>(), slot.value);
            }
        }
    }
}
