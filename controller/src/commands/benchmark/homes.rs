//! Homes of their own for benchmarks that learn: a first version that knows a part of a file's training examples.

use std::collections::HashSet;
use std::path::Path;

use mynah_data::{Example, ImportOptions, Imported, SplitName};
use mynah_registry::Digest;
use serde_json::json;

use crate::base::{self, Base};
use crate::commands::Context;
use crate::commands::import::open;
use crate::failure::usage;
use crate::learning::{self, Scope, Task};
use crate::progress::RunProgress;

/// The training examples in an order that the seed chooses, what is asked, and the file's name; no text is in both.
pub(super) fn examples(path: &Path, split: &str, seed: u64) -> anyhow::Result<(Vec<Example>, Vec<Example>, String)> {
    let asked = split.parse::<SplitName>().map_err(|error| usage(error.to_string(), error.hint()))?;
    let (reader, name) = open(path)?;
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for record in mynah_data::read_examples(reader, &name, None) {
        let Ok(Imported::Example(example)) = record else { continue };
        match example.split.unwrap_or_else(|| mynah_data::split_of(&example)) {
            SplitName::Train => train.push(example),
            split if split == asked => test.push(example),
            _ => {}
        }
    }
    let asked: HashSet<String> = test.iter().map(|example| mynah_data::normalise(&example.text)).collect();
    let mut said = HashSet::new();
    // A text that comes twice would be known already when it is said.
    train.retain(|example| {
        let text = mynah_data::normalise(&example.text);
        !asked.contains(&text) && said.insert(text)
    });
    train.sort_by_cached_key(|example| Digest::of(format!("{}\n{}", seed, example.text).as_bytes()));
    Ok((train, test, name))
}

/// A home with a base, the known examples, and those that are asked as its held-out ones.
pub(super) fn prepare(context: &Context, base: &Base, known: &[Example], test: &[Example]) -> anyhow::Result<()> {
    context.home.create()?;
    base::register(context, &context.new_registry()?, base)?;
    let line = |example: &Example, split: Option<&str>| {
        let (text, intent, slots) = (&example.text, &example.function, &example.slots);
        format!("{}\n", json!({"text": text, "intent": intent, "slots": slots, "split": split}))
    };
    // Without a validation split of its own, the home takes one from what is to be trained on.
    let lines: String = known
        .iter()
        .map(|example| line(example, Some("train")))
        .chain(test.iter().map(|example| line(example, Some("test"))))
        .collect();
    let options = ImportOptions { fault: context.fault.clone(), ..ImportOptions::default() };
    mynah_data::import(&context.home, Box::new(std::io::Cursor::new(lines.into_bytes())), "known.jsonl", &options)?;
    Ok(())
}

/// Puts a first version into production, whatever the gate thinks of it: it is what the arms start from.
pub(super) fn learn_first(context: &Context, progress: &RunProgress) -> anyhow::Result<()> {
    let outcome = learning::outcome(context, &Task { trigger: "benchmark", scope: Scope::default() }, progress)?;
    let registry = context.registry()?;
    if registry.production()?.is_none() {
        let version = registry.version(outcome["version"].as_str().unwrap_or_default())?;
        registry.promote(&version, None, serde_json::Value::Null, &context.author("where a benchmark starts"))?;
    }
    Ok(())
}

/// Copies a directory with all that is in it.
pub(super) fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
