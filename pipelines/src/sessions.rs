//! Labelled examples dealt out to sessions.

use mynah_data::Example;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

use crate::batch::shuffle;

/// In which order examples come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionOrder {
    /// Every session brings functions that were never heard of, and says no more of the others.
    ClassIncremental,
    /// By chance.
    #[default]
    Shuffled,
    /// As they were labelled; what has no time comes first.
    Time,
}

impl SessionOrder {
    /// The name in figures and files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClassIncremental => "class-incremental",
            Self::Shuffled => "shuffled",
            Self::Time => "time",
        }
    }
}

/// The examples of each session.
#[derive(Clone, Debug)]
pub struct Sessions(Vec<Vec<Example>>);

impl Sessions {
    /// Deals `examples` out to `count` sessions; with fewer functions or examples than that, there are fewer.
    pub fn deal(mut examples: Vec<Example>, count: usize, order: SessionOrder, seed: u64) -> Self {
        let mut random = seed;
        shuffle(&mut examples, &mut random);
        let parts = match order {
            SessionOrder::Shuffled => split(examples, count),
            SessionOrder::Time => {
                examples.sort_by_key(|example| example.at);
                split(examples, count)
            }
            SessionOrder::ClassIncremental => {
                let mut by_function: BTreeMap<String, Vec<Example>> = BTreeMap::new();
                for example in examples {
                    by_function.entry(example.function.clone()).or_default().push(example);
                }
                let mut piles: Vec<Vec<Example>> = by_function.into_values().collect();
                shuffle(&mut piles, &mut random);
                let mut sessions: Vec<Vec<Example>> =
                    split(piles, count).into_iter().map(|piles| piles.into_iter().flatten().collect()).collect();
                sessions.iter_mut().for_each(|session| shuffle(session, &mut random));
                sessions
            }
        };
        Self(parts)
    }

    /// The sessions, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[Example]> {
        self.0.iter().map(Vec::as_slice)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tasks: for each session that says something new, its number and the functions that it is the first to use.
    pub fn tasks(&self) -> Vec<(usize, BTreeSet<&str>)> {
        let mut seen = BTreeSet::new();
        let mut tasks = Vec::new();
        for (session, examples) in self.0.iter().enumerate() {
            let functions: BTreeSet<&str> = examples.iter().map(|example| example.function.as_str()).collect();
            let new: BTreeSet<&str> = functions.difference(&seen).copied().collect();
            seen.extend(&new);
            if !new.is_empty() {
                tasks.push((session, new));
            }
        }
        tasks
    }
}

/// `count` parts of nearly the same size, in order; none is empty.
fn split<T>(items: Vec<T>, count: usize) -> Vec<Vec<T>> {
    let total = items.len();
    let count = count.clamp(1, total.max(1));
    let mut items = items.into_iter();
    let part = |index: usize| (index + 1) * total / count - index * total / count;
    (0..count)
        .map(|index| items.by_ref().take(part(index)).collect())
        .filter(|part: &Vec<T>| !part.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mynah_data::Source;

    fn examples() -> Vec<Example> {
        let example = |n: usize| Example {
            text: format!("text {n}"),
            function: format!("f{}", n % 6),
            slots: Vec::new(),
            split: None,
            source: Source::Imported,
            origin: "test".into(),
            at: None,
            weight: 1.0,
        };
        (0..60).map(example).collect()
    }

    #[test]
    fn every_example_comes_once_and_new_functions_come_together() {
        let sessions = Sessions::deal(examples(), 3, SessionOrder::ClassIncremental, 1);
        assert_eq!(sessions.iter().map(<[Example]>::len).collect::<Vec<_>>(), [20, 20, 20]);
        let tasks = sessions.tasks();
        assert_eq!(
            tasks.iter().map(|(session, new)| (*session, new.len())).collect::<Vec<_>>(),
            [(0, 2), (1, 2), (2, 2)]
        );
        let mut texts: Vec<&str> = sessions.iter().flatten().map(|example| example.text.as_str()).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), 60);
    }

    #[test]
    fn chance_is_the_seeds() {
        let deal = |seed| Sessions::deal(examples(), 7, SessionOrder::Shuffled, seed).0;
        assert_eq!(deal(1), deal(1));
        assert_ne!(deal(1), deal(2));
        assert_eq!(Sessions::deal(examples(), 100, SessionOrder::Shuffled, 1).len(), 60);
        assert!(Sessions::deal(Vec::new(), 3, SessionOrder::Time, 1).is_empty());
    }
}
