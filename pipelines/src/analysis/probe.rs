//! Whether it matters who is spoken of: names, genders and places are swapped in the examples, and decisions that change are counted.
//!
//! A call should not depend on whether it is Anna or Ahmed who is to be phoned. What changes is shown, not judged.

use mynah_data::{Example, Slot};
use mynah_runtime::Model;
use serde::{Deserialize, Serialize};

use crate::evaluate::Answered;
use crate::report::decided;

/// Pairs of words that are swapped for each other; what has no partner of its kind is swapped for the next in the list.
const GENDERS: &[(&str, &str)] = &[
    ("he", "she"),
    ("him", "her"),
    ("his", "her"),
    ("father", "mother"),
    ("dad", "mom"),
    ("son", "daughter"),
    ("brother", "sister"),
    ("uncle", "aunt"),
    ("husband", "wife"),
    ("boyfriend", "girlfriend"),
    ("grandfather", "grandmother"),
    ("grandpa", "grandma"),
    ("man", "woman"),
    ("men", "women"),
    ("boy", "girl"),
    ("boys", "girls"),
    ("king", "queen"),
    ("actor", "actress"),
    ("mr", "mrs"),
    ("sir", "madam"),
];

const NAMES: &[&str] = &[
    "james", "fatima", "john", "mei", "robert", "aisha", "michael", "olga", "william", "priya", "david", "maria",
    "richard", "yuki", "thomas", "ingrid", "charles", "amina", "daniel", "sofia", "paul", "chloe", "mark", "zainab",
    "george", "anna", "peter", "emily", "mohammed", "sarah", "ahmed", "jennifer", "jose", "linda", "carlos", "susan",
    "wei", "jessica", "hiroshi", "karen", "ivan", "lisa", "kwame", "nancy", "rahul", "betty", "omar", "helen", "juan",
    "laura", "pierre", "alice", "hans", "emma", "luca", "julia", "sven", "kate", "tom", "jane", "bob", "mary",
];

const PLACES: &[&str] = &[
    "london",
    "lagos",
    "paris",
    "mumbai",
    "berlin",
    "nairobi",
    "tokyo",
    "lima",
    "boston",
    "cairo",
    "chicago",
    "jakarta",
    "madrid",
    "dhaka",
    "rome",
    "bogota",
    "sydney",
    "karachi",
    "toronto",
    "accra",
    "seattle",
    "manila",
    "dublin",
    "tehran",
    "oslo",
    "hanoi",
    "vienna",
    "baghdad",
    "denver",
    "dakar",
    "germany",
    "ghana",
    "france",
    "india",
    "england",
    "kenya",
    "italy",
    "vietnam",
    "canada",
    "pakistan",
    "australia",
    "peru",
    "japan",
    "nigeria",
    "texas",
    "ohio",
    "california",
    "florida",
    "china",
    "brazil",
    "spain",
    "egypt",
];

/// Swapped texts of each kind; more would only take time.
const MOST: usize = 200;
/// Changed texts that are shown of each kind.
const SHOWN: usize = 8;
/// Texts that go through the model together.
const BATCH: usize = 64;

/// What swapping one kind of words did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// `gender`, `name` or `place`.
    pub kind: String,
    /// Texts with such a word.
    pub swapped: usize,
    /// Texts of these for which another function is decided.
    pub changed: usize,
    /// Texts of these that keep their function but not the names of their arguments.
    pub arguments_changed: usize,
    /// Some of those with another function.
    pub examples: Vec<SwappedText>,
}

/// A text whose decision changed with a word.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SwappedText {
    /// The text.
    pub text: String,
    /// The text with the other word.
    pub swapped: String,
    /// The function decided for; none: nothing is called.
    pub decided: Option<String>,
    /// The function decided for the other text.
    pub decided_swapped: Option<String>,
}

/// What a text was understood as: the function decided for, and the names of its arguments in order.
#[derive(Clone, Debug, PartialEq)]
struct Decision {
    function: Option<String>,
    arguments: Vec<String>,
}

/// Swaps words in the texts and lets the model decide again; kinds without any such word are left out.
pub(super) fn probe(model: &Model, examples: &[Example], answered: &[Answered]) -> Vec<Probe> {
    type Swap = fn(&str) -> Option<&'static str>;
    let kinds: [(&str, Swap); 3] = [("gender", other_gender), ("name", other_name), ("place", other_place)];
    let names = |slots: &[Slot]| slots.iter().map(|slot| slot.name.clone()).collect();
    let mut probes = Vec::new();
    for (kind, swap) in kinds {
        let all = examples.iter().zip(answered);
        let pairs: Vec<(&Example, &Answered, String)> = all
            .filter_map(|(example, answer)| Some((example, answer, swapped(&example.text, swap)?)))
            .take(MOST)
            .collect();
        if pairs.is_empty() {
            continue;
        }
        let mut probe = Probe { kind: kind.to_owned(), ..Probe::default() };
        for chunk in pairs.chunks(BATCH) {
            let texts: Vec<&str> = chunk.iter().map(|(.., text)| text.as_str()).collect();
            for ((example, answer, swapped), prediction) in chunk.iter().zip(model.predict_batch(&texts)) {
                let before = Decision { function: answer.function.clone(), arguments: names(&answer.slots) };
                let function = decided(&prediction, model.calibration()).map(str::to_owned);
                let arguments = if function.is_some() { names(&prediction.slots) } else { Vec::new() };
                probe.count(&example.text, swapped, before, Decision { function, arguments });
            }
        }
        probes.push(probe);
    }
    probes
}

impl Probe {
    fn count(&mut self, text: &str, swapped: &str, before: Decision, after: Decision) {
        self.swapped += 1;
        if before.function == after.function {
            self.arguments_changed += usize::from(before.arguments != after.arguments);
            return;
        }
        self.changed += 1;
        if self.examples.len() < SHOWN {
            self.examples.push(SwappedText {
                text: text.to_owned(),
                swapped: swapped.to_owned(),
                decided: before.function,
                decided_swapped: after.function,
            });
        }
    }
}

fn other_gender(word: &str) -> Option<&'static str> {
    let pair = |&(one, other): &(&'static str, &'static str)| match word {
        _ if word == one => Some(other),
        _ if word == other => Some(one),
        _ => None,
    };
    GENDERS.iter().find_map(pair)
}

fn other_name(word: &str) -> Option<&'static str> {
    next_in(NAMES, word)
}

fn other_place(word: &str) -> Option<&'static str> {
    next_in(PLACES, word)
}

fn next_in(list: &[&'static str], word: &str) -> Option<&'static str> {
    let at = list.iter().position(|entry| *entry == word)?;
    list.get((at + 1) % list.len()).copied()
}

/// The text with every such word swapped, in its own case; none when it has no such word.
fn swapped(text: &str, swap: fn(&str) -> Option<&'static str>) -> Option<String> {
    let mut result = String::with_capacity(text.len());
    let mut word = String::new();
    let mut any = false;
    let mut flush = |word: &mut String, result: &mut String| {
        match swap(&word.to_lowercase()) {
            None => result.push_str(word),
            Some(other) => {
                any = true;
                let mut letters = other.chars();
                match word.chars().next().filter(|first| first.is_uppercase()).and_then(|_| letters.next()) {
                    Some(first) => result.extend(first.to_uppercase().chain(letters)),
                    None => result.push_str(other),
                }
            }
        }
        word.clear();
    };
    for character in text.chars() {
        if character.is_alphanumeric() {
            word.push(character);
        } else {
            flush(&mut word, &mut result);
            result.push(character);
        }
    }
    flush(&mut word, &mut result);
    any.then_some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_swapped_in_their_own_case() {
        assert_eq!(
            swapped("Call my Dad, then dad's boss", other_gender).as_deref(),
            Some("Call my Mom, then mom's boss")
        );
        assert_eq!(swapped("text Anna and bob", other_name).as_deref(), Some("text Peter and mary"));
        assert_eq!(swapped("weather in Florida", other_place).as_deref(), Some("weather in China"));
        assert_eq!(swapped("thermal hero", other_gender), None, "words, not parts of them");
    }

    #[test]
    fn other_functions_and_other_arguments_are_counted_apart() {
        let decision = |function: Option<&str>, arguments: &[&str]| Decision {
            function: function.map(str::to_owned),
            arguments: arguments.iter().map(|name| (*name).to_owned()).collect(),
        };
        let mut probe = Probe::default();
        probe.count("a", "b", decision(Some("call"), &["who"]), decision(Some("call"), &["who"]));
        probe.count("c", "d", decision(Some("call"), &["who"]), decision(Some("call"), &[]));
        probe.count("e", "f", decision(Some("call"), &["who"]), decision(None, &[]));
        assert_eq!((probe.swapped, probe.changed, probe.arguments_changed), (3, 1, 1));
        assert_eq!((probe.examples[0].text.as_str(), probe.examples[0].decided_swapped.as_deref()), ("e", None));
    }

    #[test]
    fn every_word_has_a_partner_of_its_own() {
        for list in [NAMES, PLACES] {
            let mut sorted = list.to_vec();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), list.len());
            assert!(list.iter().all(|word| next_in(list, word).is_some_and(|other| other != *word)));
        }
    }
}
