//! Which corrections a version has right, remembered with its digest.
//!
//! Every correction is checked at every gate, for the candidate and for production. What production makes of an old one was
//! found out when it was a candidate, so only the candidate's side grows with the log. *Invariant:* what is remembered is what
//! the same weights, calibration and precision answered to the same label; a file that is damaged counts as none.

use mynah_data::Example;
use mynah_registry::Digest;
use mynah_runtime::{Model, Precision};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::evaluate::evaluate_each;
use crate::files;
use crate::progress::NoProgress;

const PREFIX: &str = "corrections-";

/// What one version makes of corrections, by the digest of the label.
#[derive(Debug, Default)]
pub(crate) struct Corrected(BTreeMap<Digest, bool>);

#[derive(Serialize, Deserialize)]
struct Saved {
    schema: u32,
    /// Of `right`, as it is written.
    digest: Digest,
    right: BTreeMap<Digest, bool>,
}

impl Corrected {
    /// What is remembered of a version; nothing when there is no file, or it cannot be read.
    pub fn open(cache: &Path, version: &Digest, precision: Precision) -> Self {
        let read = || -> Option<Self> {
            let bytes = std::fs::read(path(cache, version, precision)).ok()?;
            let saved: Saved = serde_json::from_slice(&bytes).ok()?;
            (saved.schema == 1 && saved.digest == check(&saved.right)?).then_some(Self(saved.right))
        };
        read().unwrap_or_default()
    }

    /// Whether `model` has each of `corrections` right; only those that are not remembered are asked.
    ///
    /// # Errors
    /// As for [`crate::evaluate()`].
    pub fn ask(&mut self, model: &Model, corrections: &[Example]) -> Result<Vec<bool>, Error> {
        let keys: Vec<Digest> = corrections.iter().map(key).collect();
        let unknown = || keys.iter().zip(corrections).filter(|(key, _)| !self.0.contains_key(key));
        let asked: Vec<(Digest, Example)> = unknown().map(|(key, example)| (*key, example.clone())).collect();
        let (asked, examples): (Vec<Digest>, Vec<Example>) = asked.into_iter().unzip();
        let (_, outcomes) = evaluate_each(model, "", &examples, &NoProgress)?;
        for ((key, example), answered) in asked.into_iter().zip(&examples).zip(outcomes) {
            let outcome = answered.outcome;
            // A correction that names only the function says nothing about the arguments.
            self.0.insert(key, if example.slots.is_empty() { outcome.function_right } else { outcome.exact });
        }
        Ok(keys.iter().map(|key| self.0[key]).collect())
    }

    /// Remembers it for `version`, and nothing of versions before it.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, cache: &Path, version: &Digest, precision: Precision) -> Result<(), Error> {
        files::create_directory(cache)?;
        let own = path(cache, version, precision);
        let io = |action| move |source, path: &Path| Error::Io { action, path: path.to_path_buf(), source };
        for entry in std::fs::read_dir(cache).map_err(|source| io("read")(source, cache))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(PREFIX) && entry.path() != own {
                std::fs::remove_file(entry.path()).map_err(|source| io("remove")(source, &entry.path()))?;
            }
        }
        let digest = check(&self.0).expect("digests and truths are JSON");
        files::replace_json(&own, &Saved { schema: 1, digest, right: self.0.clone() })
    }
}

fn path(cache: &Path, version: &Digest, precision: Precision) -> PathBuf {
    let precision = if precision == Precision::F32 { "f32" } else { "int8" };
    cache.join(format!("{PREFIX}{}-{precision}.json", &version.to_string()[..16]))
}

fn check(right: &BTreeMap<Digest, bool>) -> Option<Digest> {
    Some(Digest::of(&serde_json::to_vec(right).ok()?))
}

/// A label: the text, the function and the arguments.
fn key(example: &Example) -> Digest {
    let label = serde_json::json!([example.text, example.function, example.slots]);
    Digest::of(label.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mynah_data::{Slot, Source};
    use mynah_runtime::Checkpoint;

    fn example(text: &str, function: &str) -> Example {
        Example {
            text: text.into(),
            function: function.into(),
            slots: Vec::new(),
            split: None,
            source: Source::Corrected,
            origin: "test".into(),
            at: None,
            weight: 1.0,
        }
    }

    #[test]
    fn what_is_remembered_is_not_asked_again_and_another_label_is() {
        let directory = tempfile::tempdir().unwrap();
        let model = Model::load(&Checkpoint::starter().unwrap(), Precision::Int8).unwrap();
        let (version, other) = (Digest::of(b"a version"), Digest::of(b"another"));
        let examples = [example("lamp on", "lamp"), example("wake me", "alarm")];
        let mut fresh = Corrected::open(directory.path(), &version, Precision::Int8);
        // The starter has no functions, so it has nothing right.
        assert_eq!(fresh.ask(&model, &examples).unwrap(), [false, false]);
        // As if the first one had been right.
        fresh.0.insert(key(&examples[0]), true);
        fresh.save(directory.path(), &version, Precision::Int8).unwrap();

        let mut again = Corrected::open(directory.path(), &version, Precision::Int8);
        assert_eq!(again.ask(&model, &examples).unwrap(), [true, false]);
        let slot = Slot { name: "state".into(), start: 5, end: 7, value: "on".into() };
        let relabelled = [example("lamp on", "alarm"), Example { slots: vec![slot], ..example("lamp on", "lamp") }];
        assert_eq!(again.ask(&model, &relabelled).unwrap(), [false, false]);
        for (version, precision) in [(&other, Precision::Int8), (&version, Precision::F32)] {
            assert!(Corrected::open(directory.path(), version, precision).0.is_empty());
        }

        // Damaged, it is as if there were none; a newer version's takes its place.
        let path = path(directory.path(), &version, Precision::Int8);
        let text = std::fs::read_to_string(&path).unwrap().replace("true", "false");
        std::fs::write(&path, text).unwrap();
        assert!(Corrected::open(directory.path(), &version, Precision::Int8).0.is_empty());
        again.save(directory.path(), &other, Precision::Int8).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
