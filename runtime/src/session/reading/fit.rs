//! How well words fit an argument, apart from their form.

use serde_json::Value;

use super::lexicon::{Cues, Kind, lower_words};
use crate::functions::Parameter;

/// Things that are counted by how many people there are.
pub(super) const COUNTED: [&str; 16] = [
    "people",
    "person",
    "persons",
    "adults",
    "passengers",
    "riders",
    "travelers",
    "seats",
    "tickets",
    "guests",
    "friends",
    "us",
    "party",
    "group",
    "attendees",
    "kids",
];

/// Whether a sentence names a value of an enumeration: "a psychologist or a psychiatrist?".
pub(super) fn offers_choice(parameter: &Parameter, sentence: &str) -> bool {
    let lower = lower_words(sentence).join(" ");
    let values = parameter.schema.get("enum").and_then(Value::as_array);
    values.into_iter().flatten().filter_map(Value::as_str).any(|value| {
        let name = lower_words(&value.replace('_', " ")).join(" ");
        !name.is_empty() && lower.contains(&name)
    })
}

/// Whether a word is an hour that could be any number.
pub(super) fn is_bare_hour(word: &str) -> bool {
    !word.contains(':') && !word.ends_with("am") && !word.ends_with("pm") && word != "noon" && word != "midnight"
}

/// What the word before says about the kind of thing.
pub(super) fn role(cues: &Cues, before: Option<&str>) -> f32 {
    let Some(before) = before else { return 0.0 };
    match (cues.kind, before) {
        (Kind::Place, "from") => {
            if cues.is_origin {
                0.8
            } else if cues.is_destination {
                -0.8
            } else {
                0.1
            }
        }
        (Kind::Place, "to") => {
            if cues.is_destination {
                0.8
            } else if cues.is_origin {
                -0.8
            } else {
                0.2
            }
        }
        (Kind::Place, "in" | "at" | "near" | "around" | "within" | "for") => {
            if cues.is_origin {
                -0.1
            } else {
                0.6
            }
        }
        (Kind::Person, "by" | "with" | "starring" | "featuring" | "of" | "dr" | "director" | "actor") => 0.6,
        (Kind::Person, "to" | "from") => 0.5,
        (Kind::Person, "in" | "at") => -0.5,
        (
            Kind::Title,
            "called" | "named" | "titled" | "song" | "movie" | "play" | "watch" | "album" | "see" | "track",
        ) => 0.6,
        (Kind::Title, "at" | "to" | "of" | "for") => 0.3,
        (Kind::Title, "in" | "from" | "by") => -0.5,
        _ => 0.0,
    }
}

/// How well a tag of another name fits an argument.
pub(super) fn affinity(tag: &[String], cues: &Cues) -> f32 {
    let shared = cues.overlap(tag).min(1.0);
    let has = |list: &[&str]| tag.iter().any(|word| list.contains(&word.as_str()));
    let origin = has(&["from", "origin"]);
    let destination = has(&["to", "destination"]);
    let fits = match cues.kind {
        Kind::Place => has(&["city", "location", "area", "from", "to", "origin", "destination", "where", "airport"]),
        Kind::Person => has(&[
            "artist",
            "director",
            "directed",
            "actors",
            "starring",
            "cast",
            "recipient",
            "receiver",
            "contact",
            "stylist",
            "doctor",
            "dentist",
        ]),
        Kind::Title => has(&["title", "movie", "song", "album", "event", "restaurant", "hotel", "property", "name"]),
        _ => false,
    };
    let way = match (cues.is_origin, cues.is_destination, origin, destination) {
        (true, _, true, _) | (_, true, _, true) => 0.5,
        (true, _, _, true) | (_, true, true, _) => -0.8,
        _ => 0.0,
    };
    shared * 0.6 + if fits { 0.2 } else { -0.5 } + way
}
