//! A cheap look at everything the loaded state was made from: has any of it changed?
//!
//! A few `stat` calls, so that it can be done at every reply. What a program of ours promoted or was told is seen at once; the
//! files of a home are looked at 50 times a second at most for the replies, `knowledge/` is listed again only when one of its
//! directories changed, and a large one is looked at once a second. New labels in the log would cost
//! a listing; instead, every opinion that a [`super::Mynah`] takes adds a byte to `cache/labels.count`, whose length all
//! processes compare. Deleting the cache only makes them look again.

use std::fs::OpenOptions;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use mynah_data::Home;
use mynah_registry::Registry;

use super::{Inner, MynahError, Warning};
use crate::knowledge::Listing;

/// What a file looked like; `None` when there was none.
type Stamp = Option<(Option<SystemTime>, u64)>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fingerprint {
    /// Entries of the registry's journal.
    pub journal: u64,
    /// What people said in conversations.
    pub labels: Stamp,
    /// `functions.json`, the imported examples and answers, the owner's decisions on labels.
    pub files: [Stamp; 4],
    /// The files of the knowledge: their paths, sizes and times of change.
    pub knowledge: u64,
}

/// How old what is known of the files may be for a reply: turns of one conversation are farther apart.
const FILES_EVERY: Duration = Duration::from_millis(20);
/// Files of `knowledge/` up to which they are looked at with the others; beyond, at most every [`KNOWLEDGE_EVERY`].
const CHEAP_FILES: usize = 64;
const KNOWLEDGE_EVERY: Duration = Duration::from_secs(1);

/// What the files looked like when they were last looked at.
#[derive(Debug, Default)]
pub(super) struct FilesLook {
    last: Mutex<Option<Look>>,
}

#[derive(Debug)]
struct Look {
    at: Instant,
    journal: u64,
    files: [Stamp; 4],
    knowledge: KnowledgeLook,
}

#[derive(Debug)]
struct KnowledgeLook {
    at: Instant,
    listing: Listing,
    print: u64,
}

impl FilesLook {
    /// The present fingerprint, of files that were looked at so long ago at most.
    fn fingerprint(&self, home: &Home, registry: &Registry, age: Duration) -> Result<Fingerprint, MynahError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let look = match last.take() {
            Some(look) if look.at.elapsed() < age => {
                let journal = registry.journal_head_after(look.journal);
                Look { journal, ..look }
            }
            earlier => {
                let (at, journal) = (Instant::now(), registry.journal_head()?);
                let paths = [home.functions_path(), home.examples_dir(), home.memory_path(), home.decisions_path()];
                let files = paths.map(|path| stamp(&path));
                let knowledge = KnowledgeLook::after(earlier.map(|look| look.knowledge), &home.knowledge_dir());
                Look { at, journal, files, knowledge }
            }
        };
        let look = last.insert(look);
        let (journal, files, knowledge) = (look.journal, look.files, look.knowledge.print);
        Ok(Fingerprint { journal, labels: stamp(&count_path(home)), files, knowledge })
    }
}

impl KnowledgeLook {
    fn after(last: Option<Self>, directory: &Path) -> Self {
        let is_recent = |look: &Self| look.listing.files.len() > CHEAP_FILES && look.at.elapsed() < KNOWLEDGE_EVERY;
        let known = match last {
            Some(look) if is_recent(&look) => return look,
            last => last.map(|look| look.listing).filter(Listing::holds),
        };
        let listing = known.unwrap_or_else(|| Listing::of(directory));
        // The order in which a directory is listed means nothing.
        let print = listing.files.iter().fold(0_u64, |print, path| {
            let mut hasher = DefaultHasher::new();
            (path, stamp(path)).hash(&mut hasher);
            print.wrapping_add(hasher.finish())
        });
        Self { at: Instant::now(), listing, print }
    }
}

impl Fingerprint {
    /// The present one; `None`, with a warning, when the registry cannot be read.
    pub fn take(inner: &Inner) -> Option<Self> {
        Self::taken(inner, Duration::ZERO)
    }

    /// The same for a reply.
    pub fn take_for_reply(inner: &Inner) -> Option<Self> {
        Self::taken(inner, FILES_EVERY)
    }

    fn taken(inner: &Inner, age: Duration) -> Option<Self> {
        let taken = Self::of(&inner.home, &inner.registry, &inner.files_look, age);
        taken.map_err(|error| inner.warn(Warning::from_error("cannot look for a newer version", &error))).ok()
    }

    pub fn of(home: &Home, registry: &Registry, look: &FilesLook, age: Duration) -> Result<Self, MynahError> {
        look.fingerprint(home, registry, age)
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
