//! Which words the examples of functions begin with.

use std::collections::HashMap;

use super::{Entry, Meaning, is_out_of_scope};

/// The first words of a layer's examples, each with the functions whose examples begin with it.
#[derive(Debug, Default)]
pub(super) struct Openings {
    functions: HashMap<String, Vec<String>>,
}

impl Openings {
    pub fn of(entries: &[Entry]) -> Self {
        let mut functions: HashMap<String, Vec<String>> = HashMap::new();
        for entry in entries {
            let Meaning::Function { name, .. } = &entry.meaning else { continue };
            let Some(word) = opening_word(&entry.text).filter(|_| !is_out_of_scope(name)) else { continue };
            let names = functions.entry(word).or_default();
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        Self { functions }
    }

    /// Whether an example of any function begins with a word, given in lower case.
    pub fn has(&self, word: &str) -> bool {
        self.functions.contains_key(word)
    }

    /// Whether an example of a function does.
    pub fn has_of(&self, function: &str, word: &str) -> bool {
        self.functions.get(word).is_some_and(|names| names.iter().any(|name| name == function))
    }
}

/// The first word of a text that says something about what is wanted, in lower case.
pub(crate) fn opening_word(text: &str) -> Option<String> {
    const SMALL: [&str; 13] =
        ["please", "can", "could", "you", "would", "also", "then", "the", "a", "and", "just", "i", "to"];
    let words = text
        .split(|c: char| !(c.is_alphanumeric() || c == '\''))
        .map(str::to_lowercase)
        .filter(|word| !word.is_empty());
    words.into_iter().find(|word| !SMALL.contains(&word.as_str()))
}

#[cfg(test)]
mod tests {
    use mynah_data::Source;

    use super::*;

    #[test]
    fn examples_of_functions_open_with_what_they_say_first() {
        let entry = |text: &str, meaning| Entry {
            text: text.into(),
            meaning,
            source: Source::Written,
            origin: String::new(),
            at: None,
        };
        let example = |text, name: &str| entry(text, Meaning::Function { name: name.into(), slots: Vec::new() });
        let openings = Openings::of(&[
            example("Could you play some jazz?", "play"),
            example("play it again", "repeat"),
            example("Who painted that", "oos"),
            entry("Turns lights on", Meaning::Description("lights".into())),
            entry("Where am I?", Meaning::Answer("Here.".into())),
            example("please", "play"),
        ]);
        assert!(openings.has("play") && openings.has_of("play", "play") && openings.has_of("repeat", "play"));
        assert!(!openings.has_of("lights", "play"));
        assert!(["could", "who", "turns", "where", "please"].iter().all(|word| !openings.has(word)));
    }
}
