//! The same scores on parts of the examples: short and long texts, where they come from, how they were labelled.

use mynah_data::{Example, OUT_OF_SCOPE, Source};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::interval::Share;
use crate::evaluate::Answered;

/// Parts of one kind that are shown; the smallest beyond are left out.
const MOST: usize = 12;
/// How a text begins that goes on from the one before.
const FOLLOW_UPS: [&str; 9] =
    ["and ", "what about ", "how about ", "also ", "no ", "no, ", "instead ", "but ", "make it "];

/// Scores on one part of the examples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// What the parts differ in: `length`, `scope`, `wording`, `source` or `origin`.
    pub kind: String,
    /// The part.
    pub name: String,
    /// Right decisions.
    pub accuracy: Share,
    /// Right decisions with exactly the right arguments.
    pub exact: Share,
    /// The same of production, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub production_exact: Option<Share>,
}

/// Scores by length, scope, wording, source of the label, and file or conversation.
pub(super) fn slices(examples: &[Example], answered: &[Answered], production: Option<&[Answered]>) -> Vec<Slice> {
    type Part = fn(&Example) -> String;
    let kinds: [(&str, Part); 5] =
        [("length", length), ("scope", scope), ("wording", wording), ("source", source), ("origin", origin)];
    let mut slices = Vec::new();
    for (kind, part) in kinds {
        let mut parts: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, example) in examples.iter().enumerate() {
            parts.entry(part(example)).or_default().push(index);
        }
        let mut parts: Vec<(String, Vec<usize>)> = parts.into_iter().collect();
        parts.sort_by_key(|(_, indices)| std::cmp::Reverse(indices.len()));
        parts.truncate(MOST);
        parts.sort();
        for (name, indices) in parts {
            let of = |answers: &[Answered], right: fn(&Answered) -> bool| {
                Share::of(indices.iter().filter_map(|index| answers.get(*index)), |answer| right(answer))
            };
            slices.push(Slice {
                kind: kind.to_owned(),
                name,
                accuracy: of(answered, |answer| answer.outcome.function_right),
                exact: of(answered, |answer| answer.outcome.exact),
                production_exact: production.map(|answers| of(answers, |answer| answer.outcome.exact)),
            });
        }
    }
    slices
}

fn length(example: &Example) -> String {
    match example.text.split_whitespace().count() {
        0..=3 => "1 to 3 words",
        4..=6 => "4 to 6 words",
        7..=10 => "7 to 10 words",
        _ => "more than 10 words",
    }
    .to_owned()
}

fn scope(example: &Example) -> String {
    match (example.function == OUT_OF_SCOPE, example.slots.len()) {
        (true, _) => "out of scope",
        (false, 0) => "no argument",
        (false, 1) => "one argument",
        (false, _) => "several arguments",
    }
    .to_owned()
}

fn wording(example: &Example) -> String {
    let text = example.text.trim_start().to_lowercase();
    match FOLLOW_UPS.iter().any(|start| text.starts_with(start)) {
        true => "begins like a follow-up",
        false => "stands alone",
    }
    .to_owned()
}

fn source(example: &Example) -> String {
    match example.source {
        Source::Written => "written",
        Source::Imported => "imported",
        Source::Taught => "taught",
        Source::Corrected => "corrected",
        Source::Confirmed => "approved",
        Source::Predicted => "guessed",
    }
    .to_owned()
}

/// The file, without the line; what was said in a conversation has the turn's id.
fn origin(example: &Example) -> String {
    match example.origin.split_once(['#', ':']) {
        Some((file, _)) => file.to_owned(),
        None if example.origin.starts_with("i_") => "conversations".to_owned(),
        None => example.origin.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{answered, example};
    use super::*;

    #[test]
    fn parts_are_scored_alone() {
        let mut examples = vec![example("one two three four", "f"), example("and tomorrow", "f")];
        examples[0].origin = "functions.json#f:3".into();
        examples[1].origin = "i_0190".into();
        let answers = [answered("f", 0.9, true), answered("g", 0.9, false)];
        let production = [answered("g", 0.9, false), answered("g", 0.9, false)];
        let slices = slices(&examples, &answers, Some(&production));
        let find = |name: &str| slices.iter().find(|slice| slice.name == name).expect("the part is there");
        assert_eq!(find("4 to 6 words").accuracy, Share::new(1, 1));
        assert_eq!(find("1 to 3 words").accuracy, Share::new(0, 1));
        assert_eq!(find("begins like a follow-up").exact, Share::new(0, 1));
        assert_eq!(find("functions.json").production_exact, Some(Share::new(0, 1)));
        assert_eq!(find("conversations").exact.of, 1);
        assert_eq!(find("no argument").exact, Share::new(1, 2));
    }
}
