//! Where memory comes from: the files of the home and the opinions in the log.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use mynah_data::{
    Example, Functions, Home, Log, OUT_OF_SCOPE, Result, Source, SplitName, TaughtAnswer, imported_examples, labelled,
    normalise, split_of, taught_answers,
};

use super::{Entry, Meaning};

impl From<Example> for Entry {
    fn from(example: Example) -> Self {
        Self {
            text: example.text,
            meaning: Meaning::Function { name: example.function, slots: example.slots },
            source: example.source,
            origin: example.origin,
            at: example.at,
        }
    }
}

impl From<TaughtAnswer> for Entry {
    fn from(answer: TaughtAnswer) -> Self {
        Self {
            text: answer.question,
            meaning: Meaning::Answer(answer.answer),
            source: answer.source,
            origin: answer.origin,
            at: answer.at,
        }
    }
}

/// What files say: written examples and descriptions, a sample of the imported examples, imported answers.
///
/// Lines that cannot be read are skipped and told in the second part.
pub(crate) fn fixed_entries(
    home: &Home,
    functions: &Functions,
    max_imported: usize,
) -> Result<(Vec<Entry>, Vec<String>)> {
    let mut problems = Vec::new();
    let mut entries: Vec<Entry> = Vec::new();
    for function in &functions.functions {
        if !function.description.trim().is_empty() {
            entries.push(Entry {
                text: function.description.trim().to_owned(),
                meaning: Meaning::Description(function.name.clone()),
                source: Source::Written,
                origin: format!("functions.json#{}", function.name),
                at: None,
            });
        }
    }
    let (sampled, held_out) = sample(home, max_imported, &mut problems)?;
    entries.extend(sampled);
    for answer in taught_answers(home)? {
        match answer {
            Ok(answer) => entries.push(answer.into()),
            Err(error) => problems.push(error.to_string()),
        }
    }
    // Last, because the last label of a text counts, and this file is what the owner edits.
    let written = functions.examples().into_iter().filter(is_for_training);
    entries.extend(written.filter(|example| !held_out.contains(&words(example))).map(Entry::from));
    Ok((entries, problems))
}

/// What people said in conversations.
pub(crate) fn live_entries(log: &Log) -> Result<(Vec<Entry>, Vec<String>)> {
    let labelled = labelled(log)?;
    let problems = labelled.problems.iter().map(ToString::to_string).collect();
    // An approval may be held out, and is not remembered then; a correction always is.
    let examples = labelled.examples.into_iter().filter(is_for_training);
    let entries = examples.map(Entry::from).chain(labelled.answers.into_iter().map(Entry::from));
    Ok((entries.collect(), problems))
}

fn is_for_training(example: &Example) -> bool {
    split_of(example) == SplitName::Train
}

/// A number that stands for the words of an example, whatever their case and punctuation.
fn words(example: &Example) -> u64 {
    let mut hasher = DefaultHasher::new();
    normalise(&example.text).hash(&mut hasher);
    hasher.finish()
}

/// A sample of the imported examples: the same number of every function, spread evenly over its lines; and the words of those
/// that a file holds out, which are in no sample even when another line has them for training.
///
/// Reads the files several times rather than keeping them.
fn sample(home: &Home, max_imported: usize, problems: &mut Vec<String>) -> Result<(Vec<Entry>, HashSet<u64>)> {
    let mut held_out = HashSet::new();
    for example in imported_examples(home)?.filter_map(|example| example.ok()) {
        if !is_for_training(&example) {
            held_out.insert(words(&example));
        }
    }
    if max_imported == 0 {
        return Ok((Vec::new(), held_out));
    }
    let is_kept = |example: &Example| is_for_training(example) && !held_out.contains(&words(example));
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for example in imported_examples(home)? {
        match example {
            Ok(example) if is_kept(&example) => match counts.get_mut(&example.function) {
                Some(count) => *count += 1,
                None => {
                    counts.insert(example.function, 1);
                }
            },
            Ok(_) => {}
            Err(error) => problems.push(error.to_string()),
        }
    }
    let quota = quota(counts.values().copied(), max_imported);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut kept = Vec::new();
    for example in imported_examples(home)?.filter_map(|example| example.ok()).filter(is_kept) {
        let number = seen.entry(example.function.clone()).or_default();
        let count = counts.get(&example.function).copied().unwrap_or(0);
        let is_sampled = is_spread(*number, count, quota);
        *number += 1;
        if is_sampled {
            kept.push(example.into());
        }
    }
    Ok((kept, held_out))
}

/// The largest number an equal share may have, so that all shares together stay within `total`; at least one each.
fn quota(counts: impl Iterator<Item = usize>, total: usize) -> usize {
    let mut counts: Vec<usize> = counts.collect();
    counts.sort_unstable();
    let mut left = total;
    for (index, count) in counts.iter().enumerate() {
        let share = left / (counts.len() - index);
        if *count > share {
            return share.max(1);
        }
        left -= count;
    }
    counts.last().copied().unwrap_or(0)
}

/// Whether line `number` of `count` is one of `quota` evenly spread ones.
fn is_spread(number: usize, count: usize, quota: usize) -> bool {
    count <= quota || (number * quota) / count != ((number + 1) * quota) / count
}

/// Whether a function's name means that no function is meant.
pub(crate) fn is_out_of_scope(name: &str) -> bool {
    name == OUT_OF_SCOPE
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_classes_leave_their_share_to_the_others() {
        assert_eq!(quota([10, 10, 2].into_iter(), 12), 5);
        assert_eq!(quota([3, 3].into_iter(), 12), 3);
        assert_eq!(quota([5, 5, 5].into_iter(), 1), 1);
        assert_eq!(quota([].into_iter(), 5), 0);
    }

    #[test]
    fn what_a_file_holds_out_is_not_remembered_under_another_name() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::new(directory.path());
        home.create().unwrap();
        let line = |text: &str, split: &str| format!("{{\"text\":{text:?},\"intent\":\"lamp\"{split}}}\n");
        let files = [
            ("a.jsonl", line("Lower the lamp", ",\"split\":\"test\"") + &line("raise it", ",\"split\":\"train\"")),
            ("b.jsonl", line("LOWER the lamp!", ",\"split\":\"train\"") + &line("dim it", ",\"split\":\"valid\"")),
        ];
        for (name, content) in files {
            mynah_data::import(&home, content.as_bytes(), name, &mynah_data::ImportOptions::default()).unwrap();
        }
        let functions = r#"[{"name": "lamp", "examples": ["lower the LAMP", "dim it.", "raise it"]}]"#;
        let functions = Functions::parse(functions, "functions.json").unwrap();
        for most in [0, 100] {
            let (entries, problems) = fixed_entries(&home, &functions, most).unwrap();
            assert_eq!(problems, Vec::<String>::new());
            let mut texts: Vec<String> = entries.iter().map(|entry| normalise(&entry.text)).collect();
            texts.dedup();
            assert!(texts.iter().all(|text| text == "raise it"), "{texts:?}");
            assert_eq!(texts.is_empty(), most == 0 && split_of(&functions.examples()[2]) != SplitName::Train);
        }
    }

    proptest! {
        #[test]
        fn the_spread_keeps_exactly_the_quota(count in 0_usize..300, quota in 1_usize..50) {
            let kept = (0..count).filter(|number| is_spread(*number, count, quota)).count();
            prop_assert_eq!(kept, count.min(quota));
        }
    }
}
