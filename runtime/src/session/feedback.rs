//! An opinion on a reply, from what a person says to what the log keeps.

use mynah_data::{Correction, Rating, Slot};

use crate::memory::is_out_of_scope;
use crate::mynah::{Loaded, MynahError};

/// An opinion on a reply.
///
/// ```
/// use mynah_runtime::Feedback;
///
/// let feedback = Feedback::correct_function("set_alarm").with_argument("time", "seven");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Feedback {
    rating: Option<Rating>,
    correction: Option<Correction>,
    /// Arguments by their words, which are looked for in what was said.
    arguments: Vec<(String, String)>,
}

impl Feedback {
    /// The reply was right.
    pub fn up() -> Self {
        Self { rating: Some(Rating::Up), correction: None, arguments: Vec::new() }
    }

    /// The reply was wrong.
    pub fn down() -> Self {
        Self { rating: Some(Rating::Down), ..Self::up() }
    }

    /// This function was meant; its arguments are those that were found, unless they are given too.
    pub fn correct_function(function: impl Into<String>) -> Self {
        Self::correction(Correction::Function { function: Some(function.into()), slots: None })
    }

    /// No function was meant.
    pub fn no_function() -> Self {
        Self::correction(Correction::Function { function: None, slots: None })
    }

    /// This is the answer to give.
    pub fn correct_answer(answer: impl Into<String>) -> Self {
        Self::correction(Correction::Answer { answer: answer.into() })
    }

    /// A correction as the log keeps it.
    pub fn correction(correction: Correction) -> Self {
        Self { rating: None, correction: Some(correction), arguments: Vec::new() }
    }

    /// Adds a rating to a correction.
    pub fn rated(mut self, rating: Rating) -> Self {
        self.rating = Some(rating);
        self
    }

    /// The right arguments by their places in what was said.
    pub fn with_slots(mut self, slots: Vec<Slot>) -> Self {
        if let Some(Correction::Function { slots: open, .. }) = &mut self.correction {
            *open = Some(slots);
        }
        self
    }

    /// A right argument by the words of what was said.
    pub fn with_argument(mut self, argument: impl Into<String>, words: impl Into<String>) -> Self {
        self.arguments.push((argument.into(), words.into()));
        self
    }

    /// What the log keeps of it.
    pub(crate) fn resolve(
        self,
        text: &str,
        loaded: &Loaded,
    ) -> Result<(Option<Rating>, Option<Correction>), MynahError> {
        let Self { rating, mut correction, arguments } = self;
        if let Some(Correction::Function { function, slots }) = &mut correction {
            if function.as_deref().is_some_and(is_out_of_scope) {
                *function = None;
            }
            if let Some(name) = function {
                known(name, loaded)?;
            }
            for (argument, words) in arguments {
                let slot = find(text, &argument, &words).ok_or_else(|| MynahError::WordsNotSaid {
                    argument,
                    words,
                    text: text.chars().take(200).collect(),
                })?;
                slots.get_or_insert_default().push(slot);
            }
            if let Some(slots) = slots {
                mynah_data::check_slots(text, slots)
                    .map_err(|source| mynah_data::Error::Correction { interaction: "the turn".to_owned(), source })?;
            }
        }
        Ok((rating, correction))
    }
}

fn known(name: &str, loaded: &Loaded) -> Result<(), MynahError> {
    const MIN_SIMILARITY: f64 = 0.6;
    let names = loaded.function_names();
    // A home that describes no functions learns them by name alone.
    if names.is_empty() || names.iter().any(|known| known == name) {
        return Ok(());
    }
    let scored = names.into_iter().map(|known| (strsim::jaro_winkler(name, &known), known));
    let nearest = scored.filter(|(similarity, _)| *similarity >= MIN_SIMILARITY).max_by(|a, b| a.0.total_cmp(&b.0));
    Err(MynahError::UnknownFunction { name: name.to_owned(), nearest: nearest.map(|(_, known)| known) })
}

/// Where the words are in the text; the same case first, and only whole words.
pub(super) fn find(text: &str, argument: &str, words: &str) -> Option<Slot> {
    let text: Vec<char> = text.chars().collect();
    let words: Vec<char> = words.trim().chars().collect();
    if words.is_empty() || words.len() > text.len() {
        return None;
    }
    let is_whole = |start: usize| {
        let before = start.checked_sub(1).is_none_or(|at| !text[at].is_alphanumeric());
        let after = text.get(start + words.len()).is_none_or(|next| !next.is_alphanumeric());
        before && after
    };
    let equal = |start: usize, same: fn(&char, &char) -> bool| {
        text[start..start + words.len()].iter().zip(&words).all(|(a, b)| same(a, b))
    };
    let starts = || (0..=text.len() - words.len()).filter(|start| is_whole(*start));
    let start = starts()
        .find(|start| equal(*start, |a, b| a == b))
        .or_else(|| starts().find(|start| equal(*start, |a, b| a.to_lowercase().eq(b.to_lowercase()))))?;
    let end = start + words.len();
    Some(Slot { name: argument.to_owned(), start, end, value: text[start..end].iter().collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_whole_and_in_any_case() {
        let slot = |text: &str, words: &str| find(text, "x", words).map(|slot| (slot.start, slot.end, slot.value));
        assert_eq!(slot("Füße, Seven at seven", "seven"), Some((15, 20, "seven".into())));
        assert_eq!(slot("wake me at Seven", "seven"), Some((11, 16, "Seven".into())));
        assert_eq!(slot("seventeen", "seven"), None);
        assert_eq!(slot("seven", ""), None);
        assert_eq!(slot("", "seven"), None);
    }
}
