//! How often what was read is what was said: all arguments of a turn, each of them, and the function.
//!
//! Two values are the same when the argument's schema reads both words as one value ("half past 6" and "6:30"), or when they
//! have the same letters and digits in any case, without articles. An argument that has no value stays as it is.

use std::collections::BTreeMap;

use serde::Serialize;

/// Shares of a group of turns.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Scores {
    /// Turns.
    pub turns: usize,
    /// Share of the turns whose update is right as a whole, in [0, 1].
    pub joint_goal_accuracy: f64,
    /// Share of the turns whose function is right, in [0, 1].
    pub intent_accuracy: f64,
    /// Harmonic mean of precision and recall over the arguments of all updates, in [0, 1].
    pub slot_f1: f64,
    /// Share of the arguments found that are right, in [0, 1].
    pub slot_precision: f64,
    /// Share of the arguments to be found that were, in [0, 1].
    pub slot_recall: f64,
}

/// What became of one turn.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Whether the function is right.
    pub intent: bool,
    /// Arguments that were to be found, with their source and whether they were.
    pub wanted: Vec<(String, bool)>,
    /// How many arguments were found.
    pub found: usize,
}

impl Outcome {
    fn right(&self) -> usize {
        self.wanted.iter().filter(|(_, found)| *found).count()
    }

    /// Whether the update is right as a whole.
    pub fn is_joint(&self) -> bool {
        self.right() == self.wanted.len() && self.found == self.wanted.len()
    }
}

/// The scores of outcomes.
pub fn scores<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> Scores {
    let (mut turns, mut joint, mut intent, mut right, mut wanted, mut found) = (0, 0, 0, 0, 0, 0);
    for outcome in outcomes {
        turns += 1;
        joint += usize::from(outcome.is_joint());
        intent += usize::from(outcome.intent);
        right += outcome.right();
        wanted += outcome.wanted.len();
        found += outcome.found;
    }
    let share = |part: usize, whole: usize| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    Scores {
        turns,
        joint_goal_accuracy: share(joint, turns),
        intent_accuracy: share(intent, turns),
        slot_f1: share(2 * right, wanted + found),
        slot_precision: share(right, found),
        slot_recall: share(right, wanted),
    }
}

/// Share of the arguments of each source that were found.
pub fn recall_by_source<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> BTreeMap<String, f64> {
    let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (source, found) in outcomes.into_iter().flat_map(|outcome| &outcome.wanted) {
        let (right, all) = counts.entry(source.clone()).or_default();
        *right += usize::from(*found);
        *all += 1;
    }
    counts.into_iter().map(|(source, (right, all))| (source, right as f64 / all as f64)).collect()
}

/// A value in the form in which spellings are equal: letters and digits in lower case, without articles.
pub fn folded(value: &str) -> String {
    let lower = value.to_lowercase();
    let words = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !matches!(*word, "" | "the" | "a" | "an"));
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(wanted: &[(&str, bool)], found: usize, intent: bool) -> Outcome {
        let wanted = wanted.iter().map(|(source, right)| ((*source).to_owned(), *right)).collect();
        Outcome { intent, wanted, found }
    }

    #[test]
    fn an_update_is_right_as_a_whole_or_not() {
        let outcomes = [
            outcome(&[("span", true)], 1, true),
            outcome(&[("span", true), ("text", false)], 1, true),
            outcome(&[], 0, true),
            outcome(&[], 1, false),
        ];
        let scores = scores(&outcomes);
        assert_eq!((scores.turns, scores.joint_goal_accuracy, scores.intent_accuracy), (4, 0.5, 0.75));
        assert_eq!((scores.slot_precision, scores.slot_recall), (2.0 / 3.0, 2.0 / 3.0));
        assert_eq!(recall_by_source(&outcomes), BTreeMap::from([("span".to_owned(), 1.0), ("text".to_owned(), 0.0)]));
        assert_eq!(super::scores(&[]), Scores::default());
    }

    #[test]
    fn spellings_are_equal() {
        assert_eq!(folded("P.F. Chang's"), folded("the p f chang s"));
        assert_ne!(folded("7 pm"), folded("7:30 pm"));
    }
}
