//! The examples of a training run, in three splits that share no text.
//!
//! *Invariant:* no text of `train`, folded to lower case and single spaces, occurs in `validation` or `held_out`, and
//! none of `held_out` in `validation`; nor does one that differs in punctuation, in numbers or in the values of its arguments
//! alone, except between the published splits of one file, whose test set stays as others score it. What is held out stays
//! held out when data is added: an example without a
//! chosen split joins its text where that already is.

use std::collections::{HashMap, HashSet};

use sha2::{Digest, Sha256};

use crate::example::{Example, Source, SplitName};
use crate::split::{fold, hashed_split, mask, normalise};

/// Examples by split, in the order in which they came.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dataset {
    /// What weights are fitted to.
    pub train: Vec<Example>,
    /// What thresholds are chosen on.
    pub validation: Vec<Example>,
    /// What the gate judges by.
    pub held_out: Vec<Example>,
    /// How many examples were left out because another split has their text, or because they are unlabelled guesses
    /// in the held-out part.
    pub removed: usize,
    /// How many examples were left out because a later one labels the same text.
    pub duplicates: usize,
    /// SHA-256, in hexadecimal, of everything that training and evaluation see.
    pub digest: String,
}

impl Dataset {
    /// Sorts examples into splits.
    ///
    /// 1. A chosen split wins, else the text joins the split of an earlier example with the same text, else the hash
    ///    decides ([`crate::split_of`]). Guesses ([`Source::Predicted`]) are for training only.
    /// 2. Of two examples with the same text in one split the later counts, but never a guess over a label. Imported
    ///    validation and test sets keep the repetitions that they were published with.
    /// 3. An imported file with a chosen train split but no validation split gives the tenth of its train examples
    ///    that hashes to validation.
    /// 4. Held-out texts that are also in train are removed, and validation texts that are also in train or held out; unless
    ///    one file published both, punctuation, numbers and the values of arguments make no difference.
    pub fn build(examples: impl IntoIterator<Item = Example>) -> Self {
        let mut sorter = Sorter::default();
        for example in examples {
            sorter.add(example);
        }
        sorter.finish()
    }

    /// One split.
    pub fn split(&self, split: SplitName) -> &[Example] {
        match split {
            SplitName::Train => &self.train,
            SplitName::Validation => &self.validation,
            SplitName::HeldOut => &self.held_out,
        }
    }

    /// Whether any split has an example.
    pub fn is_empty(&self) -> bool {
        self.train.is_empty() && self.validation.is_empty() && self.held_out.is_empty()
    }
}

/// What the sorter knows of the examples of one text in one split.
struct Placed {
    indices: Vec<usize>,
}

#[derive(Default)]
struct Sorter {
    splits: [Vec<Example>; 3],
    places: HashMap<(SplitName, String), Placed>,
    /// The split that an example without a chosen one joins: that of its text's first example.
    first_split: HashMap<String, SplitName>,
    files_with_validation: HashSet<String>,
    removed: usize,
    duplicates: usize,
}

impl Sorter {
    fn add(&mut self, mut example: Example) {
        let key = fold(&example.text);
        let normalised = normalise(&example.text);
        let joined = self.first_split.get(&normalised).copied();
        let split = example.split.or(joined).unwrap_or_else(|| hashed_split(&example.text, &example.slots));
        if example.source == Source::Predicted && split != SplitName::Train {
            self.removed += 1;
            return;
        }
        self.first_split.entry(normalised).or_insert(split);
        if example.split == Some(SplitName::Validation)
            && let Some(file) = file_of(&example)
        {
            self.files_with_validation.insert(file.to_owned());
        }
        let kept = &mut self.splits[split as usize];
        let placed = self.places.entry((split, key)).or_insert(Placed { indices: Vec::new() });
        let repeated = placed.indices.last().is_none_or(|last| published_together(&kept[*last], &example, split));
        if repeated {
            placed.indices.push(kept.len());
            kept.push(example);
            return;
        }
        self.duplicates += 1;
        for index in &placed.indices {
            let earlier = &mut kept[*index];
            if example.source == Source::Predicted && earlier.source != Source::Predicted {
                continue;
            }
            // The place in the published split stays with the text.
            example.split = earlier.split.or(example.split);
            *earlier = example.clone();
        }
    }

    fn finish(self) -> Dataset {
        let Self { splits: [train, validation, held_out], files_with_validation, mut removed, duplicates, .. } = self;
        let (train, mut taken): (Vec<Example>, Vec<Example>) = train.into_iter().partition(|example| {
            !(example.split == Some(SplitName::Train)
                && file_of(example).is_some_and(|file| !files_with_validation.contains(file))
                && hashed_split(&example.text, &example.slots) == SplitName::Validation)
        });
        for example in &mut taken {
            example.split = None;
        }
        let mut seen = Seen::default();
        seen.add(&train);
        let mut without_seen = |examples: Vec<Example>, seen: &Seen| {
            let before = examples.len();
            let kept: Vec<Example> = examples.into_iter().filter(|example| !seen.has(example)).collect();
            removed += before - kept.len();
            kept
        };
        let held_out = without_seen(held_out, &seen);
        seen.add(&held_out);
        let validation: Vec<Example> = validation.into_iter().chain(taken).collect();
        let validation = without_seen(validation, &seen);
        let digest = digest_of([&train, &validation, &held_out]);
        Dataset { train, validation, held_out, removed, duplicates, digest }
    }
}

/// Whether two examples of one text are repetitions of one published test set, which is scored as it is.
fn published_together(earlier: &Example, later: &Example, split: SplitName) -> bool {
    split != SplitName::Train
        && earlier.split.is_some()
        && later.split.is_some()
        && file_of(earlier).is_some()
        && file_of(earlier) == file_of(later)
}

/// The file that an example was imported from.
fn file_of(example: &Example) -> Option<&str> {
    match example.source {
        Source::Imported => example.origin.rsplit_once(':').map(|(file, _)| file),
        _ => None,
    }
}

/// What the splits so far hold.
#[derive(Default)]
struct Seen {
    texts: HashSet<String>,
    /// By normalised and by masked text, the files that published it in a split of their choice; `None` for everything else.
    forms: HashMap<String, HashSet<Option<String>>>,
}

impl Seen {
    fn add(&mut self, examples: &[Example]) {
        for example in examples {
            self.texts.insert(fold(&example.text));
            for form in forms(example) {
                self.forms.entry(form).or_default().insert(publisher(example).map(str::to_owned));
            }
        }
    }

    fn has(&self, example: &Example) -> bool {
        let publisher = publisher(example);
        let elsewhere = |known: &HashSet<Option<String>>| {
            publisher.is_none() || known.iter().any(|other| other.as_deref() != publisher)
        };
        self.texts.contains(&fold(&example.text))
            || forms(example).iter().any(|form| self.forms.get(form).is_some_and(elsewhere))
    }
}

/// The text without case, punctuation and numbers, and with its arguments masked.
fn forms(example: &Example) -> [String; 2] {
    [normalise(&example.text), mask(&example.text, &example.slots)]
}

/// The file that chose the example's split.
fn publisher(example: &Example) -> Option<&str> {
    file_of(example).filter(|_| example.split.is_some())
}

/// Each field is preceded by its length, so that no two data sets give the same bytes.
fn digest_of(splits: [&[Example]; 3]) -> String {
    let mut hasher = Sha256::new();
    let mut field = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_be_bytes());
        hasher.update(bytes);
    };
    for examples in splits {
        field(&(examples.len() as u64).to_be_bytes());
        for example in examples {
            field(example.text.as_bytes());
            field(example.function.as_bytes());
            field(&example.weight.to_be_bytes());
            field(&(example.slots.len() as u64).to_be_bytes());
            for slot in &example.slots {
                field(slot.name.as_bytes());
                field(&(slot.start as u64).to_be_bytes());
                field(&(slot.end as u64).to_be_bytes());
            }
        }
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
