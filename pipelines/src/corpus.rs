//! Everything labelled in a home, split, with the labels that a model of it needs.

use jiff::Timestamp;
use mynah_data::{Dataset, Example, Expectations, Functions, Home, Log, Questions, Slot, Source, SplitName, Vote};
use mynah_registry::Digest;
use mynah_runtime::Labels;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::batch::shuffle;
use crate::error::Error;
use crate::expect;

/// A new correction is seen no more often than this in one epoch.
const MOST_REPEATS: usize = 12;

/// The labelled examples of a home.
#[derive(Clone, Debug, Default)]
pub struct Corpus {
    /// Split into train, validation and held-out.
    pub dataset: Dataset,
    /// What people corrected: the last word on every text.
    pub corrections: Vec<Example>,
    /// Imported questions on passages, split.
    pub questions: Questions,
    /// What every version has to get right, and none is trained on.
    pub expectations: Expectations,
    /// The functions of `functions.json`.
    pub functions: Functions,
    /// What every session says of its utterances, labels that are held back included.
    pub votes: Vec<Vote>,
}

impl Corpus {
    /// Gathers written examples, imported files, and the corrections and approvals of the log; where
    /// two label the same text, the later in this order counts.
    ///
    /// # Errors
    /// A file that cannot be read or is not what it should be.
    pub fn gather(home: &Home) -> Result<Self, Error> {
        Self::gather_without(home, &HashSet::new())
    }

    /// The same as if nobody had labelled the interactions in `held_back`.
    ///
    /// # Errors
    /// As for [`Corpus::gather`].
    pub fn gather_without(home: &Home, held_back: &HashSet<String>) -> Result<Self, Error> {
        let functions = match home.functions_path().exists() {
            true => Functions::load(&home.functions_path())?,
            false => Functions::default(),
        };
        let mut examples = functions.examples();
        for example in mynah_data::imported_examples(home)? {
            examples.push(example?);
        }
        let labelled = mynah_data::labelled_without(&Log::open(home), held_back)?;
        let corrections: Vec<Example> =
            labelled.examples.iter().filter(|example| example.source == Source::Corrected).cloned().collect();
        examples.extend(labelled.examples);
        let expectations = expect::load(home, &examples.iter().map(|example| example.function.as_str()).collect())?;
        expectations.hold_out(&mut examples);
        let questions = mynah_data::imported_questions(home)?.collect::<Result<Vec<_>, _>>()?;
        let (dataset, questions) = (Dataset::build(examples), Questions::build(questions));
        Ok(Self { dataset, corrections, questions, expectations, functions, votes: labelled.votes })
    }

    /// The digest of everything that is learned from; without questions that of the examples.
    pub fn digest(&self) -> Option<Digest> {
        match self.questions.digest.as_str() {
            "" => self.dataset.digest.parse().ok(),
            questions => Some(Digest::of(format!("{}\n{questions}", self.dataset.digest).as_bytes())),
        }
    }

    /// Adds texts that no function is meant for, to train and validation alone.
    pub fn add_background(&mut self, examples: Vec<Example>) {
        for example in examples {
            match example.split {
                Some(SplitName::Validation) => self.dataset.validation.push(example),
                _ => self.dataset.train.push(example),
            }
        }
    }

    /// The labels of the training examples. Those that `known` has keep their place, so that the rows
    /// of the heads keep their weights; new ones follow by name.
    pub fn labels(&self, known: &Labels) -> Labels {
        let mut functions = BTreeSet::new();
        let mut arguments: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for example in &self.dataset.train {
            functions.insert(example.function.clone());
            let names = arguments.entry(example.function.clone()).or_default();
            names.extend(example.slots.iter().map(|slot| slot.name.clone()));
        }
        let mut adjacent = BTreeSet::new();
        for example in &self.dataset.train {
            adjacent.extend(
                example
                    .slots
                    .windows(2)
                    .filter(|pair| stand_side_by_side(&example.text, pair))
                    .map(|pair| pair[0].name.clone()),
            );
        }
        let names: BTreeSet<&String> = arguments.values().flatten().collect();
        let tags = std::iter::once("O".to_string())
            .chain(names.into_iter().flat_map(|name| [format!("B-{name}"), format!("I-{name}")]))
            .collect();
        Labels {
            functions: in_known_order(functions.into_iter().collect(), &known.functions),
            tags: in_known_order(tags, &known.tags),
            arguments: arguments.into_iter().map(|(function, names)| (function, names.into_iter().collect())).collect(),
            adjacent: Some(adjacent.into_iter().collect()),
        }
    }

    /// When the last of the examples was labelled; none when none says.
    pub fn labelled_until(&self) -> Option<Timestamp> {
        let Dataset { train, validation, held_out, .. } = &self.dataset;
        [train, validation, held_out].into_iter().flatten().filter_map(|example| example.at).max()
    }

    /// The training examples of one epoch: all of them, or, with a replay, those of `is_new` together with
    /// class-balanced older ones. Corrections come several times, see [`repeats`], those of a replay with as much weight.
    pub fn epoch(
        &self,
        replay: Option<Replay>,
        is_new: impl Fn(&Example) -> bool,
        correction_repeats: usize,
        seed: u64,
    ) -> Vec<Example> {
        let (new, old): (Vec<&Example>, Vec<&Example>) = self.dataset.train.iter().partition(|example| is_new(example));
        let replayed = match replay {
            Some(Replay { tokens, seed: other }) => balanced(old, tokens, tokens_of, seed ^ other),
            None => old,
        };
        let total = replayed.len() + new.len();
        let corrected = |examples: &[&Example]| examples.iter().filter(|e| e.source == Source::Corrected).count();
        let of_new = repeats(total, corrected(&new), MOST_REPEATS);
        let of_old = repeats(total, corrected(&replayed), correction_repeats);
        let mut epoch = Vec::with_capacity(total);
        for example in replayed {
            // The time of a run must not depend on how much was corrected once.
            let (repeats, weight) = match (example.source, replay) {
                (Source::Corrected, Some(_)) => (1, of_old as f32),
                (Source::Corrected, None) => (of_old, 1.0),
                _ => (1, 1.0),
            };
            let example = Example { weight: example.weight * weight, ..example.clone() };
            epoch.extend(std::iter::repeat_n(example, repeats));
        }
        for example in new {
            let repeats = if example.source == Source::Corrected { of_new } else { 1 };
            epoch.extend(std::iter::repeat_n(example, repeats).cloned());
        }
        epoch
    }
}

/// How many older examples are trained on again.
#[derive(Clone, Copy, Debug)]
pub struct Replay {
    /// Their tokens, about.
    pub tokens: usize,
    /// Changes with the data, so that every run sees others.
    pub seed: u64,
}

/// How often each of `corrected` examples comes in an epoch of `total`: together they are a quarter of it, unless that
/// takes more than `most` times. A session full of corrections has them once.
fn repeats(total: usize, corrected: usize, most: usize) -> usize {
    (total / 4 / corrected.max(1)).clamp(1, most.max(1))
}

/// About how many tokens a text has: a word of English has 1.3 on average, and two more stand around it.
pub(crate) fn tokens_of(example: &Example) -> usize {
    2 + example.text.split_whitespace().count() * 4 / 3
}

/// Whether two arguments of one name have nothing but white space between them.
fn stand_side_by_side(text: &str, pair: &[Slot]) -> bool {
    let [first, second] = pair else { return false };
    let between = second.start.saturating_sub(first.end);
    first.name == second.name && text.chars().skip(first.end).take(between).all(char::is_whitespace)
}

fn in_known_order(mut wanted: Vec<String>, known: &[String]) -> Vec<String> {
    let place = |label: &String| known.iter().position(|known| known == label).unwrap_or(usize::MAX);
    wanted.sort_by_key(place);
    wanted
}

/// Of `examples` what fits into `budget`, taken from every function in turn; `cost` is what one takes of it.
pub(crate) fn balanced(
    examples: Vec<&Example>,
    budget: usize,
    cost: impl Fn(&Example) -> usize,
    seed: u64,
) -> Vec<&Example> {
    let mut by_function: BTreeMap<&str, Vec<&Example>> = BTreeMap::new();
    for example in examples {
        by_function.entry(&example.function).or_default().push(example);
    }
    let mut random = seed;
    let mut piles: Vec<Vec<&Example>> = by_function.into_values().collect();
    piles.iter_mut().for_each(|pile| shuffle(pile, &mut random));
    let (mut taken, mut left) = (Vec::new(), budget);
    while !piles.is_empty() {
        // In a round that does not reach everybody, chance decides whom.
        shuffle(&mut piles, &mut random);
        for pile in &mut piles {
            let Some(next) = pile.pop() else { continue };
            let Some(rest) = left.checked_sub(cost(next)) else { return taken };
            taken.push(next);
            left = rest;
        }
        piles.retain(|pile| !pile.is_empty());
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use mynah_data::SplitName;

    fn example(text: &str, function: &str, source: Source) -> Example {
        Example {
            text: text.into(),
            function: function.into(),
            slots: vec![Slot { name: "t".into(), start: 0, end: 1, value: text[..1].into() }],
            split: Some(SplitName::Train),
            source,
            origin: "test".into(),
            at: None,
            weight: 1.0,
        }
    }

    fn corpus(examples: Vec<Example>) -> Corpus {
        Corpus { dataset: Dataset { train: examples, ..Dataset::default() }, ..Corpus::default() }
    }

    #[test]
    fn known_labels_keep_their_rows() {
        let corpus = corpus(vec![
            example("a", "zebra", Source::Written),
            example("b", "ant", Source::Written),
            example("c", "new", Source::Written),
        ]);
        let known = Labels { functions: vec!["zebra".into(), "gone".into(), "ant".into()], ..Labels::default() };
        let labels = corpus.labels(&known);
        assert_eq!(labels.functions, ["zebra", "ant", "new"]);
        assert_eq!(labels.tags, ["O", "B-t", "I-t"]);
    }

    #[test]
    fn replay_is_balanced_and_bounded_and_corrections_repeat() {
        let mut examples: Vec<Example> =
            (0..90).map(|n| example(&format!("{n} a"), "common", Source::Written)).collect();
        examples.extend((0..5).map(|n| example(&format!("{n} b"), "rare", Source::Written)));
        examples.push(example("fix", "rare", Source::Corrected));
        let corpus = corpus(examples);
        // Every text is two words.
        let replay = Replay { tokens: 20 * 4, seed: 0 };
        let epoch = corpus.epoch(Some(replay), |example| example.source == Source::Corrected, 3, 1);
        let count = |function: &str| epoch.iter().filter(|e| e.function == function).count();
        // A quarter of 21.
        assert_eq!(count("rare"), 5 + 5);
        assert_eq!(count("common"), 15);
        assert_eq!(corpus.epoch(None, |_| false, 1, 1).len(), 96);
    }
}
