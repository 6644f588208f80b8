//! Words: sentences, stems, and what the name and the description of an argument suggest.

use serde_json::Value;

use crate::functions::Parameter;

/// Lower-case words without punctuation; an apostrophe stays.
pub(super) fn lower_words(text: &str) -> Vec<String> {
    text.split(|c: char| !(c.is_alphanumeric() || matches!(c, '\'' | '’')))
        .map(|word| word.trim_matches(['\'', '’']).to_lowercase().replace('’', "'"))
        .filter(|word| !word.is_empty())
        .collect()
}

/// Whether the words of `phrase` stand together, beginning among the first `within` words.
pub(super) fn is_sequence(words: &[String], phrase: &str, within: usize) -> bool {
    let phrase: Vec<&str> = phrase.split(' ').collect();
    words.windows(phrase.len()).take(within).any(|window| window.iter().zip(&phrase).all(|(word, other)| word == other))
}

/// The sentences of a text, each with its end mark.
pub(super) fn sentences(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            rest = rest.trim_start();
            if rest.is_empty() {
                return None;
            }
            let mut marks = rest.char_indices().filter(|(_, c)| matches!(c, '.' | '!' | '?' | ';'));
            // "6.30", "St. Mary" and "Dr. Who" go on; a mark ends a sentence when a capital or nothing follows.
            let end = marks.find_map(|(at, mark)| {
                let after = &rest[at + mark.len_utf8()..];
                let ends = after.trim_start_matches(['.', '!', '?', ')', '"']);
                let boundary = ends.is_empty()
                    || (ends.starts_with(char::is_whitespace)
                        && rest[..at]
                            .rsplit(' ')
                            .next()
                            .is_some_and(|word| word.len() > 2 || mark != '.' || word.starts_with(char::is_lowercase)))
                    || (mark != '.' && ends.starts_with(char::is_uppercase));
                boundary.then_some(rest.len() - ends.len())
            });
            let (sentence, after) = rest.split_at(end.unwrap_or(rest.len()));
            rest = after;
            if !sentence.trim().is_empty() {
                return Some(sentence.trim());
            }
        }
    })
}

/// Whether two lower-case words are forms of one: equal, or equal for the first letters that matter.
pub(super) fn same_stem(a: &str, b: &str) -> bool {
    const STEM: usize = 4;
    // "bedrooms" are counted as beds.
    fn bare(word: &str) -> &str {
        let stem = word.strip_suffix("rooms").or_else(|| word.strip_suffix("room"));
        stem.filter(|stem| stem.len() >= STEM - 1).unwrap_or(word)
    }
    let (a, b) = (bare(a), bare(b));
    if a == b {
        return true;
    }
    let common = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
    let (short, long) = (a.chars().count().min(b.chars().count()), a.chars().count().max(b.chars().count()));
    (common >= STEM && long - common <= 4 && short - common <= 3)
        || (short == common && short >= 3 && long - short == 1 && (a.ends_with('s') || b.ends_with('s')))
}

/// Words that say nothing about an argument.
pub(super) fn is_small(word: &str) -> bool {
    const SMALL: [&str; 66] = [
        "a", "an", "the", "of", "for", "in", "on", "at", "to", "by", "is", "are", "be", "or", "and", "with", "from",
        "whether", "if", "user", "user's", "which", "who", "that", "this", "it", "its", "their", "has", "have", "was",
        "where", "when", "what", "how", "given", "as", "per", "i", "me", "my", "you", "your", "please", "would",
        "like", "want", "need", "can", "could", "do", "does", "not", "so", "there", "will", "any", "some", "about",
        "name", "s", "used", "using", "being", "let", "know",
    ];
    SMALL.contains(&word)
}

/// What kind of thing an argument is, as far as its words tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Date,
    Time,
    Duration,
    Number,
    Boolean,
    Choice,
    Place,
    Person,
    Title,
    Text,
}

/// An argument's words.
#[derive(Debug, Clone)]
pub(super) struct Cues {
    pub kind: Kind,
    /// The content words of name and description.
    pub words: Vec<String>,
    /// Those of the name alone.
    pub name: Vec<String>,
    /// Where something starts, or where it goes to.
    pub is_origin: bool,
    pub is_destination: bool,
}

impl Cues {
    pub fn new(parameter: &Parameter) -> Self {
        let name: Vec<String> = lower_words(&parameter.name.replace('_', " "));
        let description = lower_words(parameter.description().unwrap_or_default());
        let all: Vec<&String> = name.iter().chain(&description).collect();
        let says = |words: &[&str]| all.iter().any(|word| words.contains(&word.as_str()));
        let kind = kind(parameter, &name, &says);
        let is_origin = says(&["from", "origin", "leaving", "source", "departing"])
            && !says(&["to", "destination", "going"])
            || name.iter().any(|word| word == "from" || word == "origin");
        let is_destination = !is_origin && says(&["destination", "going", "arriving", "arrival"])
            || name.iter().any(|word| word == "to" || word == "destination");
        let mut words: Vec<String> = Vec::new();
        for word in all {
            if !is_small(word) && !words.contains(word) {
                words.push(word.clone());
            }
        }
        let name = name.into_iter().filter(|word| !is_small(word)).collect();
        Self {
            kind,
            words,
            name,
            is_origin: is_origin && kind == Kind::Place,
            is_destination: is_destination && kind == Kind::Place,
        }
    }

    /// How many of the words speak of this argument; the name counts more than the description.
    pub fn overlap(&self, words: &[String]) -> f32 {
        let said = |cue: &String| words.iter().any(|word| same_stem(word, cue));
        let mut score = 0.0;
        for cue in self.words.iter().filter(|cue| said(cue)) {
            score += if self.name.contains(cue) { 1.0 } else { 0.5 };
        }
        score
    }
}

fn kind(parameter: &Parameter, name: &[String], says: &impl Fn(&[&str]) -> bool) -> Kind {
    let schema = &parameter.schema;
    if let Some(Value::Array(values)) = schema.get("enum") {
        let numeric = !values.is_empty()
            && values
                .iter()
                .all(|value| value.is_number() || value.as_str().is_some_and(|text| text.parse::<f64>().is_ok()));
        return if numeric { Kind::Number } else { Kind::Choice };
    }
    let of = |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or_default();
    match (of("type"), of("format")) {
        ("boolean", _) => Kind::Boolean,
        ("integer" | "number", _) => Kind::Number,
        (_, "date" | "date-time") => Kind::Date,
        (_, "time") => Kind::Time,
        (_, "duration") => Kind::Duration,
        _ => {
            let named = |words: &[&str]| name.iter().any(|word| words.contains(&word.as_str()));
            const PLACES: [&str; 16] = [
                "city",
                "location",
                "place",
                "area",
                "address",
                "destination",
                "origin",
                "airport",
                "where",
                "town",
                "station",
                "country",
                "region",
                "venue",
                "street",
                "room",
            ];
            const PEOPLE: [&str; 18] = [
                "artist",
                "director",
                "directed",
                "actor",
                "actors",
                "starring",
                "cast",
                "contact",
                "recipient",
                "receiver",
                "stylist",
                "doctor",
                "dentist",
                "therapist",
                "person",
                "author",
                "singer",
                "performer",
            ];
            const TITLES: [&str; 16] = [
                "title",
                "movie",
                "song",
                "track",
                "album",
                "event",
                "restaurant",
                "hotel",
                "property",
                "name",
                "show",
                "book",
                "label",
                "attraction",
                "theater",
                "playlist",
            ];
            match () {
                () if named(&PEOPLE) => Kind::Person,
                () if named(&PLACES) => Kind::Place,
                () if named(&TITLES) && !named(&["genre", "category", "type"]) => Kind::Title,
                () if says(&PLACES) && !named(&["genre", "category", "type", "amount", "cuisine"]) => Kind::Place,
                () => Kind::Text,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_end_where_they_end() {
        let parts: Vec<&str> = sentences("Sure! It is 6.30 at St. Mary. What day?Why").collect();
        assert_eq!(parts, ["Sure!", "It is 6.30 at St. Mary.", "What day?", "Why"]);
        assert_eq!(sentences(" ").count(), 0);
    }

    #[test]
    fn forms_of_a_word() {
        for (a, b) in [("room", "rooms"), ("leaving", "leave"), ("bed", "beds"), ("locate", "location")] {
            assert!(same_stem(a, b), "{a} {b}");
        }
        for (a, b) in [("to", "tom"), ("date", "data"), ("play", "plate"), ("bath", "bed")] {
            assert!(!same_stem(a, b), "{a} {b}");
        }
    }
}
