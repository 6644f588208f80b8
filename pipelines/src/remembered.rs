//! Which labels a version has right, remembered with its digest, so that they are not asked again.
//!
//! *Invariant:* what is remembered is what the same weights, calibration and precision answered to the same label; a file
//! that is damaged counts as none, and of each kind there is one version's.

use mynah_data::Example;
use mynah_registry::Digest;
use mynah_runtime::Precision;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::files;

/// What is remembered of a version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Production's corrections.
    #[default]
    Corrections,
    /// The held-out examples of the best version.
    HeldOut,
}

impl Kind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Corrections => "corrections-",
            Self::HeldOut => "held-out-",
        }
    }
}

/// What one version makes of labels, by their digest.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    kind: Kind,
    right: BTreeMap<Digest, bool>,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    schema: u32,
    /// Of `right`, as it is written.
    digest: Digest,
    right: BTreeMap<Digest, bool>,
}

impl Remembered {
    /// Nothing yet.
    pub fn new(kind: Kind) -> Self {
        Self { kind, right: BTreeMap::new() }
    }

    /// What is remembered of a version; nothing when there is no file, or it cannot be read.
    pub fn open(kind: Kind, cache: &Path, version: &Digest, precision: Precision) -> Self {
        let read = || -> Option<BTreeMap<Digest, bool>> {
            let bytes = std::fs::read(path(kind, cache, version, precision)).ok()?;
            let saved: Saved = serde_json::from_slice(&bytes).ok()?;
            (saved.schema == 1 && saved.digest == check(&saved.right)?).then_some(saved.right)
        };
        Self { kind, right: read().unwrap_or_default() }
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.right.is_empty()
    }

    /// Whether the label with this key is right, if that is remembered.
    pub fn get(&self, key: &Digest) -> Option<bool> {
        self.right.get(key).copied()
    }

    /// Remembers it.
    pub fn insert(&mut self, key: Digest, right: bool) {
        self.right.insert(key, right);
    }

    /// Forgets what is not among `keys`.
    pub fn keep(&mut self, keys: &[Digest]) {
        let keys: HashSet<&Digest> = keys.iter().collect();
        self.right.retain(|key, _| keys.contains(key));
    }

    /// Writes it as that of `version`, and removes what is remembered of other versions.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, cache: &Path, version: &Digest, precision: Precision) -> Result<(), Error> {
        files::create_directory(cache)?;
        let own = path(self.kind, cache, version, precision);
        let io = |action| move |source, path: &Path| Error::Io { action, path: path.to_path_buf(), source };
        for entry in std::fs::read_dir(cache).map_err(|source| io("read")(source, cache))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(self.kind.prefix()) && entry.path() != own {
                std::fs::remove_file(entry.path()).map_err(|source| io("remove")(source, &entry.path()))?;
            }
        }
        let digest = check(&self.right).expect("digests and truths are JSON");
        files::replace_json(&own, &Saved { schema: 1, digest, right: self.right.clone() })
    }
}

fn path(kind: Kind, cache: &Path, version: &Digest, precision: Precision) -> PathBuf {
    let precision = if precision == Precision::F32 { "f32" } else { "int8" };
    cache.join(format!("{}{}-{precision}.json", kind.prefix(), &version.to_string()[..16]))
}

fn check(right: &BTreeMap<Digest, bool>) -> Option<Digest> {
    Some(Digest::of(&serde_json::to_vec(right).ok()?))
}

/// A label: the text, the function and the arguments.
pub(crate) fn key(example: &Example) -> Digest {
    let label = serde_json::json!([example.text, example.function, example.slots]);
    Digest::of(label.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_kind_one_version_is_remembered_and_damage_counts_as_none() {
        let directory = tempfile::tempdir().unwrap();
        let (one, other) = (Digest::of(b"a version"), Digest::of(b"another"));
        let keys = [Digest::of(b"a"), Digest::of(b"b")];
        let open = |kind, version| Remembered::open(kind, directory.path(), version, Precision::Int8);
        for kind in [Kind::Corrections, Kind::HeldOut] {
            let mut remembered = Remembered::new(kind);
            keys.iter().for_each(|key| remembered.insert(*key, true));
            remembered.keep(&keys[..1]);
            remembered.save(directory.path(), &one, Precision::Int8).unwrap();
            assert_eq!((open(kind, &one).get(&keys[0]), open(kind, &one).get(&keys[1])), (Some(true), None));
            assert!(open(kind, &other).is_empty());
            assert!(Remembered::open(kind, directory.path(), &one, Precision::F32).is_empty());
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
        open(Kind::HeldOut, &one).save(directory.path(), &other, Precision::Int8).unwrap();
        assert!(open(Kind::HeldOut, &one).is_empty());
        assert!(!open(Kind::Corrections, &one).is_empty(), "the other kind stays");

        let path = path(Kind::Corrections, directory.path(), &one, Precision::Int8);
        let text = std::fs::read_to_string(&path).unwrap().replace("true", "false");
        std::fs::write(&path, text).unwrap();
        assert!(open(Kind::Corrections, &one).is_empty());
    }
}
