//! The questions of a training run, in three splits that share no passage.
//!
//! Questions on one article go together, because its paragraphs repeat each other: the key of a question is its title.
//! Some sets put all passages under one title; there, and without a title, the passage itself is the key.
//!
//! *Invariant:* no passage of `train`, folded to lower case and single spaces, occurs in `validation` or `held_out`, and
//! none of `held_out` in `validation`.

use std::collections::{HashMap, HashSet};

use sha2::{Digest, Sha256};

use crate::example::{QuestionExample, SplitName};
use crate::split::{fold, hashed_key};

/// Passages under one title from which on the title says nothing about the article. The longest articles of SQuAD have
/// 149 paragraphs.
const MAX_ARTICLE_PASSAGES: usize = 300;

/// Questions by split, in the order in which they came.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Questions {
    /// What weights are fitted to.
    pub train: Vec<QuestionExample>,
    /// What the epoch and the threshold are chosen on.
    pub validation: Vec<QuestionExample>,
    /// What scores are reported on.
    pub held_out: Vec<QuestionExample>,
    /// How many questions were left out because another split has their passage.
    pub removed: usize,
    /// How many questions were left out because they were asked before on the same passage.
    pub duplicates: usize,
    /// SHA-256, in hexadecimal, of everything that training and evaluation see; empty without questions.
    pub digest: String,
}

impl Questions {
    /// Sorts questions into splits: by the split that was chosen, else by the hash of the article.
    ///
    /// Where a split was chosen for training questions and none for validation, the tenth of their articles that hashes
    /// to validation is taken. Held-out questions on a passage of train are removed, and validation questions on a
    /// passage of either.
    pub fn build(questions: impl IntoIterator<Item = QuestionExample>) -> Self {
        let mut asked = HashSet::new();
        let mut duplicates = 0;
        let mut kept = Vec::new();
        for question in questions {
            match asked.insert((fold(&question.context), fold(&question.question))) {
                true => kept.push(question),
                false => duplicates += 1,
            }
        }
        let articles = Articles::of(&kept);
        let has_validation = kept.iter().any(|question| question.split == Some(SplitName::Validation));
        let mut splits: [Vec<QuestionExample>; 3] = Default::default();
        for question in kept {
            let hashed = || hashed_key(articles.key(&question));
            let split = match question.split {
                None => hashed(),
                Some(SplitName::Train) if !has_validation && hashed() == SplitName::Validation => SplitName::Validation,
                Some(split) => split,
            };
            splits[split as usize].push(question);
        }
        let [train, validation, held_out] = splits;
        let mut removed = 0;
        let mut seen: HashSet<String> = train.iter().map(|question| fold(&question.context)).collect();
        let mut without_seen = |questions: Vec<QuestionExample>, seen: &HashSet<String>| {
            let before = questions.len();
            let kept: Vec<_> =
                questions.into_iter().filter(|question| !seen.contains(&fold(&question.context))).collect();
            removed += before - kept.len();
            kept
        };
        let held_out = without_seen(held_out, &seen);
        seen.extend(held_out.iter().map(|question| fold(&question.context)));
        let validation = without_seen(validation, &seen);
        let digest = digest_of([&train, &validation, &held_out]);
        Self { train, validation, held_out, removed, duplicates, digest }
    }

    /// Whether no split has a question.
    pub fn is_empty(&self) -> bool {
        self.train.is_empty() && self.validation.is_empty() && self.held_out.is_empty()
    }
}

/// How many passages stand under every title.
struct Articles(HashMap<String, usize>);

impl Articles {
    fn of(questions: &[QuestionExample]) -> Self {
        let mut passages: HashMap<&str, HashSet<&str>> = HashMap::new();
        for question in questions {
            if let Some(title) = &question.title {
                passages.entry(title).or_default().insert(&question.context);
            }
        }
        Self(passages.into_iter().map(|(title, passages)| (title.to_owned(), passages.len())).collect())
    }

    fn key<'a>(&self, question: &'a QuestionExample) -> &'a str {
        match &question.title {
            Some(title) if self.0.get(title).is_some_and(|passages| *passages <= MAX_ARTICLE_PASSAGES) => title,
            _ => &question.context,
        }
    }
}

/// Each field is preceded by its length, so that no two sets give the same bytes.
fn digest_of(splits: [&[QuestionExample]; 3]) -> String {
    if splits.iter().all(|split| split.is_empty()) {
        return String::new();
    }
    let mut hasher = Sha256::new();
    let mut field = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_be_bytes());
        hasher.update(bytes);
    };
    for questions in splits {
        field(&(questions.len() as u64).to_be_bytes());
        for question in questions {
            field(question.context.as_bytes());
            field(question.question.as_bytes());
            field(&(question.answers.len() as u64).to_be_bytes());
            for answer in &question.answers {
                field(answer.text.as_bytes());
                field(&(answer.start as u64).to_be_bytes());
                field(&[u8::from(answer.exact)]);
            }
        }
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn question(title: Option<&str>, context: &str, asked: &str, split: Option<SplitName>) -> QuestionExample {
        QuestionExample {
            id: None,
            title: title.map(str::to_owned),
            context: context.to_owned(),
            question: asked.to_owned(),
            answers: Vec::new(),
            split,
            origin: "test:1".to_owned(),
        }
    }

    #[test]
    fn an_article_stays_together_unless_its_title_says_nothing() {
        let of = |passages: usize| {
            Questions::build((0..passages).map(|n| question(Some("Rivers"), &format!("passage {n}"), "what?", None)))
        };
        let parts = |set: &Questions| {
            [&set.train, &set.validation, &set.held_out].iter().filter(|split| !split.is_empty()).count()
        };
        assert_eq!(parts(&of(MAX_ARTICLE_PASSAGES)), 1);
        assert_eq!(parts(&of(MAX_ARTICLE_PASSAGES + 1)), 3);
    }

    #[test]
    fn a_chosen_split_wins_and_validation_is_taken_from_train_when_there_is_none() {
        let train = |n: usize| question(None, &format!("passage {n}"), "what?", Some(SplitName::Train));
        let alone = Questions::build((0..200).map(train));
        assert!(alone.validation.len() > 5 && alone.held_out.is_empty());
        let valid = question(None, "another", "what?", Some(SplitName::Validation));
        let with = Questions::build((0..200).map(train).chain([valid]));
        assert_eq!((with.train.len(), with.validation.len()), (200, 1));
    }

    #[test]
    fn a_passage_of_train_is_removed_elsewhere_and_a_question_counts_once() {
        let set = Questions::build([
            question(None, "The  passage.", "who?", Some(SplitName::Train)),
            question(None, "the passage.", "WHO?", Some(SplitName::Train)),
            question(None, "the passage.", "where?", Some(SplitName::HeldOut)),
            question(None, "another", "where?", Some(SplitName::HeldOut)),
            question(None, "another", "when?", Some(SplitName::Validation)),
        ]);
        assert_eq!((set.train.len(), set.validation.len(), set.held_out.len()), (1, 0, 1));
        assert_eq!((set.removed, set.duplicates), (2, 1));
        assert!(!set.digest.is_empty() && Questions::build([]).digest.is_empty());
    }

    proptest! {
        #[test]
        fn splits_share_no_passage(keys in prop::collection::vec((0usize..6, 0usize..20, 0usize..4), 0..60)) {
            let splits = [None, Some(SplitName::Train), Some(SplitName::Validation), Some(SplitName::HeldOut)];
            let set = Questions::build(keys.iter().enumerate().map(|(n, (title, context, split))| {
                question(Some(&format!("t{title}")), &format!("Passage {context}"), &format!("q{n}?"), splits[*split])
            }));
            let passages = |split: &[QuestionExample]| -> HashSet<String> {
                split.iter().map(|question| fold(&question.context)).collect()
            };
            let [train, validation, held_out] = [&set.train, &set.validation, &set.held_out].map(|split| passages(split));
            prop_assert!(train.is_disjoint(&validation) && train.is_disjoint(&held_out) && validation.is_disjoint(&held_out));
            let kept = set.train.len() + set.validation.len() + set.held_out.len();
            prop_assert_eq!(kept + set.removed + set.duplicates, keys.len());
        }
    }
}
