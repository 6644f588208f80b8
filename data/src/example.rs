//! What a model learns from: utterances with their function and argument spans, taught answers, questions on a
//! passage, retrieval pairs.
//!
//! Offsets count Unicode scalar values, not bytes. *Invariant:* an [`Example`] that this crate hands out has passed
//! [`check_slots`].

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The function of an utterance that no function answers.
pub const OUT_OF_SCOPE: &str = "oos";

/// An argument's place in an utterance.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Slot {
    /// The argument's name.
    pub name: String,
    /// The first character, counted in Unicode scalar values.
    pub start: usize,
    /// The character after the last.
    pub end: usize,
    /// The characters between them.
    pub value: String,
}

/// Which part of the data an example belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitName {
    /// Weights are fitted to it.
    Train,
    /// Early stopping, calibration and thresholds are chosen on it.
    Validation,
    /// Only the gate and the reports look at it.
    HeldOut,
}

impl SplitName {
    /// The name in files: `train`, `validation` or `held_out`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::HeldOut => "held_out",
        }
    }
}

impl fmt::Display for SplitName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// A split's name that nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown split `{given}`")]
pub struct UnknownSplit {
    /// The name as it was given.
    pub given: String,
}

impl UnknownSplit {
    /// What to do about it.
    pub fn hint(&self) -> String {
        "a split is train, validation (valid, dev) or held_out (test)".to_owned()
    }
}

impl FromStr for SplitName {
    type Err = UnknownSplit;

    fn from_str(given: &str) -> Result<Self, UnknownSplit> {
        match given.trim().to_ascii_lowercase().as_str() {
            "train" | "training" => Ok(Self::Train),
            "validation" | "valid" | "val" | "dev" => Ok(Self::Validation),
            "held_out" | "held-out" | "heldout" | "test" => Ok(Self::HeldOut),
            _ => Err(UnknownSplit { given: given.to_owned() }),
        }
    }
}

/// How an example came to its label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Somebody wrote it into `functions.json`.
    Written,
    /// It was imported from a file.
    Imported,
    /// Somebody taught it in a conversation.
    Taught,
    /// Somebody corrected a reply.
    Corrected,
    /// Somebody approved of a reply.
    Confirmed,
    /// A model guessed it and nobody looked.
    Predicted,
}

/// An utterance with its function and the places of the arguments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// The utterance.
    pub text: String,
    /// The function's name, or [`OUT_OF_SCOPE`].
    pub function: String,
    /// The arguments in the order of their places.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<Slot>,
    /// The split somebody chose; `None` leaves it to the hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<SplitName>,
    /// How it came to its label.
    pub source: Source,
    /// Where it comes from: `file:line`, `functions.json#name:3` or an interaction's id.
    pub origin: String,
    /// When it was labelled, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Its weight in the loss, in [0, 1].
    #[serde(default = "full_weight", skip_serializing_if = "is_full_weight")]
    pub weight: f32,
}

fn full_weight() -> f32 {
    1.0
}

fn is_full_weight(weight: &f32) -> bool {
    *weight == 1.0 || !weight.is_finite()
}

/// A question and the answer somebody gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaughtAnswer {
    /// The question, or the message of a person.
    pub question: String,
    /// The answer to give.
    pub answer: String,
    /// How it came about.
    pub source: Source,
    /// Where it comes from: `file:line` or an interaction's id.
    pub origin: String,
    /// When it was taught, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

/// A span of a passage that answers a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerSpan {
    /// The answer's words.
    pub text: String,
    /// Their first character in the passage, counted in Unicode scalar values.
    pub start: usize,
    /// Whether the answer is known to be meant there, rather than where the same words stand once more.
    #[serde(default = "exact", rename = "start_exact", skip_serializing_if = "is_exact")]
    pub exact: bool,
}

fn exact() -> bool {
    true
}

fn is_exact(exact: &bool) -> bool {
    *exact
}

/// A question on a passage, in the form of SQuAD.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuestionExample {
    /// The data set's own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The title of the article.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The passage.
    pub context: String,
    /// The question.
    pub question: String,
    /// The accepted answers; empty when the passage has none.
    #[serde(default)]
    pub answers: Vec<AnswerSpan>,
    /// The split somebody chose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<SplitName>,
    /// Where it comes from: `file:line`.
    pub origin: String,
}

/// A question and a passage that answers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetrievalPair {
    /// The question.
    pub question: String,
    /// The passage.
    pub positive: String,
    /// The split somebody chose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<SplitName>,
    /// Where it comes from: `file:line`.
    pub origin: String,
}

/// Why an argument's span does not fit its utterance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SlotError {
    /// The argument has no name.
    #[error("the argument at characters {start} to {end} has no name")]
    NoName {
        /// Its first character.
        start: usize,
        /// The character after its last.
        end: usize,
    },
    /// The span is empty or lies outside the utterance.
    #[error("argument `{name}` is at characters {start} to {end} of an utterance of {length} characters")]
    OutOfRange {
        /// The argument's name.
        name: String,
        /// Its first character.
        start: usize,
        /// The character after its last.
        end: usize,
        /// The utterance's length in characters.
        length: usize,
    },
    /// The utterance says something else there.
    #[error("argument `{name}` has the value `{expected}`, but characters {start} to {end} are `{actual}`")]
    OtherValue {
        /// The argument's name.
        name: String,
        /// Its first character.
        start: usize,
        /// The character after its last.
        end: usize,
        /// The value that was given.
        expected: String,
        /// What the utterance says there.
        actual: String,
        /// Whether the offsets would be right if they counted bytes.
        bytes: bool,
    },
    /// Two arguments share a character.
    #[error("arguments `{first}` and `{second}` overlap at character {at}")]
    Overlap {
        /// The argument that starts first.
        first: String,
        /// The argument that starts inside it.
        second: String,
        /// Where the second starts.
        at: usize,
    },
}

impl SlotError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::NoName { .. } => "give the argument a name".to_owned(),
            Self::OtherValue { bytes: true, .. } => {
                "the offsets count bytes: count characters (Unicode scalar values)".to_owned()
            }
            Self::OutOfRange { .. } | Self::OtherValue { .. } => {
                "offsets count characters from 0, not bytes, and `end` is the one after the last".to_owned()
            }
            Self::Overlap { .. } => "keep one of the two arguments".to_owned(),
        }
    }
}

/// Sorts the arguments by place and checks that each says what the utterance says there and that none overlap.
///
/// An empty `value` is filled from the utterance.
///
/// # Errors
/// The first argument that does not fit.
pub fn check_slots(text: &str, slots: &mut [Slot]) -> Result<(), SlotError> {
    if slots.is_empty() {
        return Ok(());
    }
    slots.sort_by_key(|slot| (slot.start, slot.end));
    let boundaries: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    for slot in slots.iter_mut() {
        if slot.name.trim().is_empty() {
            return Err(SlotError::NoName { start: slot.start, end: slot.end });
        }
        if slot.start >= slot.end || slot.end >= boundaries.len() {
            return Err(SlotError::OutOfRange {
                name: slot.name.clone(),
                start: slot.start,
                end: slot.end,
                length: boundaries.len() - 1,
            });
        }
        let actual = &text[boundaries[slot.start]..boundaries[slot.end]];
        if slot.value.is_empty() {
            slot.value = actual.to_owned();
        } else if slot.value != actual {
            return Err(SlotError::OtherValue {
                name: slot.name.clone(),
                start: slot.start,
                end: slot.end,
                expected: slot.value.clone(),
                actual: actual.to_owned(),
                bytes: text.get(slot.start..slot.end) == Some(slot.value.as_str()),
            });
        }
    }
    for pair in slots.windows(2) {
        if pair[1].start < pair[0].end {
            return Err(SlotError::Overlap {
                first: pair[0].name.clone(),
                second: pair[1].name.clone(),
                at: pair[1].start,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(name: &str, start: usize, end: usize, value: &str) -> Slot {
        Slot { name: name.to_owned(), start, end, value: value.to_owned() }
    }

    #[test]
    fn offsets_count_characters() {
        let mut slots = [slot("cafe", 5, 11, "Café ü")];
        assert_eq!(check_slots("é in Café ü", &mut slots), Ok(()));
        let mut bytes = [slot("cafe", 6, 11, "Café")];
        let error = check_slots("é in Café ü", &mut bytes).unwrap_err();
        insta::assert_snapshot!(format!("{error}\nhint: {}", error.hint()), @r"
        argument `cafe` has the value `Café`, but characters 6 to 11 are `afé ü`
        hint: the offsets count bytes: count characters (Unicode scalar values)
        ");
    }

    #[test]
    fn an_absent_value_is_filled_and_the_order_does_not_matter() {
        let mut slots = [slot("b", 4, 7, ""), slot("a", 0, 3, "")];
        assert_eq!(check_slots("one two", &mut slots), Ok(()));
        assert_eq!(slots, [slot("a", 0, 3, "one"), slot("b", 4, 7, "two")]);
    }

    #[test]
    fn wrong_spans_are_named() {
        let wrong = [
            vec![slot("a", 3, 3, "")],
            vec![slot("a", 2, 1, "")],
            vec![slot("a", 0, 4, "")],
            vec![slot("a", usize::MAX, usize::MAX, "")],
            vec![slot(" ", 0, 1, "")],
            vec![slot("a", 0, 2, ""), slot("b", 1, 3, "")],
        ];
        let mut rendered = String::new();
        for mut slots in wrong {
            let error = check_slots("one", &mut slots).unwrap_err();
            rendered.push_str(&format!("{error}\n"));
        }
        insta::assert_snapshot!(rendered, @r"
        argument `a` is at characters 3 to 3 of an utterance of 3 characters
        argument `a` is at characters 2 to 1 of an utterance of 3 characters
        argument `a` is at characters 0 to 4 of an utterance of 3 characters
        argument `a` is at characters 18446744073709551615 to 18446744073709551615 of an utterance of 3 characters
        the argument at characters 0 to 1 has no name
        arguments `a` and `b` overlap at character 1
        ");
    }

    #[test]
    fn a_split_has_many_names() {
        for (given, split) in [
            ("train", SplitName::Train),
            ("Valid", SplitName::Validation),
            ("dev", SplitName::Validation),
            ("test", SplitName::HeldOut),
            ("held-out", SplitName::HeldOut),
        ] {
            assert_eq!(given.parse(), Ok(split));
        }
        assert_eq!(serde_json::to_string(&SplitName::HeldOut).unwrap(), "\"held_out\"");
        assert_eq!("oops".parse::<SplitName>().unwrap_err().to_string(), "unknown split `oops`");
    }
}
