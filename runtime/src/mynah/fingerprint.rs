//! A cheap look at everything the loaded state was made from: has any of it changed?
//!
//! A few `stat` calls and no directory listing, so that it can be done at every reply. New labels in the log would cost
//! a listing; instead, every opinion that a [`super::Mynah`] takes adds a byte to `cache/labels.count`, whose length all
//! processes compare. Deleting the cache only makes them look again.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mynah_data::Home;
use mynah_registry::Registry;

use super::{Inner, MynahError, Warning};

/// What a file looked like; `None` when there was none.
type Stamp = Option<(Option<SystemTime>, u64)>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fingerprint {
    /// Entries of the registry's journal.
    pub journal: u64,
    /// What people said in conversations.
    pub labels: Stamp,
    /// `functions.json`, the imported examples and answers.
    pub files: [Stamp; 3],
    /// The directory of the knowledge; a file added or removed changes it.
    pub knowledge: Stamp,
}

impl Fingerprint {
    /// The present one; `None`, with a warning, when the registry cannot be read.
    pub fn take(inner: &Inner) -> Option<Self> {
        let taken = Self::of(&inner.home, &inner.registry);
        taken.map_err(|error| inner.warn(Warning::from_error("cannot look for a newer version", &error))).ok()
    }

    pub fn of(home: &Home, registry: &Registry) -> Result<Self, MynahError> {
        Ok(Self {
            journal: registry.journal_head()?,
            labels: stamp(&count_path(home)),
            files: [stamp(&home.functions_path()), stamp(&home.examples_dir()), stamp(&home.memory_path())],
            knowledge: stamp(&home.knowledge_dir()),
        })
    }
}

/// Tells all processes that there are new labels.
pub(super) fn count_up(home: &Home) -> io::Result<()> {
    let path = count_path(home);
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    let opened = options.open(&path).or_else(|error| match (error.kind(), path.parent()) {
        // The cache may be deleted at any time.
        (io::ErrorKind::NotFound, Some(parent)) => {
            std::fs::create_dir_all(parent)?;
            options.open(&path)
        }
        _ => Err(error),
    });
    opened?.write_all(b".")
}

fn count_path(home: &Home) -> PathBuf {
    home.cache_dir().join("labels.count")
}

fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok(), metadata.len()))
}
