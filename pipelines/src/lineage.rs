//! What a version says in `training.json` about what it learned from, and what a new one will say.

use jiff::Timestamp;
use mynah_registry::{Registry, Version};
use serde_json::{Value, json};
use std::collections::HashSet;

use crate::corpus::Corpus;

/// When the last label was given that `version` learned from. Labels after it are new, even those that were given while the
/// version was being trained.
///
/// A version that does not say is taken to know what was there when it was registered.
pub fn learned_until(registry: &Registry, version: &Version) -> Timestamp {
    let read = || match training_of(registry, version)?.get("learned_until")? {
        Value::Null => Some(Timestamp::MIN),
        at => serde_json::from_value(at.clone()).ok(),
    };
    read().unwrap_or(version.registered_at)
}

/// The digest of the questions that `version`, or a version before it, learned its answer head from.
pub(crate) fn learned_questions(registry: &Registry, version: &Version) -> Option<String> {
    Some(training_of(registry, version)?.get("questions")?.get("digest")?.as_str()?.to_owned())
}

/// The interactions whose labels were held back when `version` was made, or before and not let pass since.
pub(crate) fn held_by(registry: &Registry, version: &Version) -> HashSet<String> {
    let read = || serde_json::from_value(training_of(registry, version)?.get("held_back")?.clone()).ok();
    read().unwrap_or_default()
}

/// What a version says about how it was made.
fn training_of(registry: &Registry, version: &Version) -> Option<Value> {
    let file = version.manifest.files.get("training.json")?;
    serde_json::from_slice(&registry.read_object(&file.sha256).ok()?).ok()
}

/// Adds what was learned from questions. A run without any says nothing of them, so that it writes what it always did.
pub(crate) fn answer_provenance(training: &mut Value, corpus: &Corpus, learned: usize) {
    let Some(fields) = training.as_object_mut() else { return };
    let questions = &corpus.questions;
    if questions.is_empty() {
        if let Some(settings) = fields.get_mut("settings").and_then(Value::as_object_mut) {
            settings.retain(|key, _| !key.starts_with("answer_"));
        }
        return;
    }
    let counts = json!({
        // With answer_epochs = 0 they are there, but nothing was learned from them.
        "digest": (learned > 0).then_some(&questions.digest),
        "train": questions.train.len(),
        "validation": questions.validation.len(),
        "held_out": questions.held_out.len(),
        "windows_seen": learned,
    });
    fields.insert("questions".into(), counts);
}
