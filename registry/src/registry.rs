//! The handle on a registry: its parts, and how every operation reads and appends.
//!
//! An operation reads the journal, decides on the folded state, and appends behind exactly the entries it decided on;
//! when another writer was first it reads again and decides again. Invariant: a decision never rests on a state that
//! has passed.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use crate::durable::ensure_directory;
use crate::fault::{self, FaultPoint};
use crate::journal::{Chain, Journal};
use crate::manifest::{InvalidManifest, SCHEMA};
use crate::objects::{ObjectStore, Owner};
use crate::state::{Record, State};
use crate::{Author, Digest, Entry, Error, Event, Manifest, Result, Version};

/// The file whose lock keeps garbage collection and writers apart.
const LOCK_FILE: &str = "lock";

/// A registry in a directory. Cheap to clone; usable from several threads and processes at once.
#[derive(Clone)]
pub struct Registry {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub directory: PathBuf,
    pub objects: ObjectStore,
    pub journal: Journal,
    pub fault: FaultPoint,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

/// What a registry is opened with; tests replace the parts.
#[derive(Clone)]
pub struct RegistryOptions {
    /// Called before every durable step.
    pub fault: FaultPoint,
    /// Gives the time of new entries.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self { fault: fault::none(), clock: Arc::new(Timestamp::now) }
    }
}

impl fmt::Debug for RegistryOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryOptions").finish_non_exhaustive()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("directory", &self.inner.directory).finish_non_exhaustive()
    }
}

/// What an operation decides on a state.
pub(crate) enum Decision {
    /// Append this, provided nobody else appends first.
    Append(Event),
    /// The journal already says it, in the entry with this sequence.
    Done(u64),
}

impl Registry {
    /// Opens the registry in a directory, and creates it when it is missing.
    ///
    /// # Errors
    /// [`Error::Io`] when the directory cannot be created.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::open_with(dir, RegistryOptions::default())
    }

    /// Opens the registry in a directory with options.
    ///
    /// # Errors
    /// [`Error::Io`] when the directory cannot be created.
    pub fn open_with(dir: &Path, options: RegistryOptions) -> Result<Self> {
        let RegistryOptions { fault, clock } = options;
        ensure_directory(dir, &fault)?;
        let objects = ObjectStore::open(dir.join("objects"), Arc::clone(&fault))?;
        let journal = Journal::open(dir.join("journal"), Arc::clone(&fault))?;
        let inner = Inner { directory: dir.to_owned(), objects, journal, fault, clock };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The directory of the registry.
    pub fn dir(&self) -> &Path {
        &self.inner.directory
    }

    /// Reads an object, such as the evidence of a promotion.
    ///
    /// # Errors
    /// [`Error::MissingObject`], [`Error::Corrupt`].
    pub fn read_object(&self, digest: &Digest) -> Result<Vec<u8>> {
        self.inner.objects.read(digest, Owner { version: None, file: "object" })
    }

    /// Appends what the decision says, behind the very entries it was decided on.
    pub(crate) fn transact(&self, who: &Author, mut decide: impl FnMut(&State) -> Result<Decision>) -> Result<Entry> {
        let journal = &self.inner.journal;
        // The first look checks the whole chain: nothing is appended to a broken one.
        let mut chain: Arc<Chain> = journal.read()?;
        loop {
            match decide(&State::fold(&chain.entries))? {
                Decision::Append(event) => {
                    if let Some(entry) = journal.append(&chain, (self.inner.clock)(), who, event)? {
                        return Ok(entry);
                    }
                }
                Decision::Done(sequence) => {
                    // Whoever wrote it may have been stopped before it was durable.
                    journal.sync(sequence)?;
                    let entry = chain.entries.iter().find(|entry| entry.sequence == sequence);
                    return entry.cloned().ok_or(Error::NoProduction);
                }
            }
            chain = journal.current()?;
        }
    }

    /// The folded journal.
    pub(crate) fn state(&self) -> Result<State> {
        Ok(State::fold(&self.inner.journal.current()?.entries))
    }

    /// The manifest of a version, checked against its digest.
    pub(crate) fn manifest(&self, name: &str, digest: &Digest) -> Result<Manifest> {
        let objects = &self.inner.objects;
        let bytes = objects.read(digest, Owner { version: Some(name), file: "manifest" })?;
        Manifest::parse(&bytes).map_err(|error| match error {
            InvalidManifest::Schema(schema) => {
                Error::UnknownSchema { path: objects.path(digest), schema, supported: SCHEMA }
            }
            InvalidManifest::Content(reason) => Error::InvalidManifest { path: objects.path(digest), reason },
        })
    }

    /// What callers see of a record. A manifest that cannot be read does not hide the version.
    pub(crate) fn view(&self, state: &State, record: &Record) -> Version {
        let manifest = self.manifest(&record.name, &record.manifest).ok();
        let tags = state.tags.iter().filter(|(_, name)| **name == record.name);
        Version {
            name: record.name.clone(),
            manifest_digest: record.manifest,
            damaged: manifest.is_none(),
            manifest: manifest.unwrap_or_else(|| Manifest::unreadable(record.kind)),
            kind: record.kind,
            registered_at: record.registered_at,
            status: state.status(record),
            quarantined: state.is_quarantined(&record.manifest),
            tags: tags.map(|(tag, _)| tag.clone()).collect(),
        }
    }

    /// Keeps garbage collection away until what was stored is named by an entry.
    pub(crate) fn lock_shared(&self) -> Result<File> {
        let (file, path) = self.lock_file()?;
        match file.lock_shared() {
            // Without locks there is no garbage collection either.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(file),
            locked => locked.map(|()| file).map_err(Error::io("lock", &path)),
        }
    }

    /// Waits for all writers to finish and keeps new ones waiting.
    pub(crate) fn lock_exclusive(&self) -> Result<File> {
        let (file, path) = self.lock_file()?;
        file.lock().map_err(Error::io("lock", &path))?;
        Ok(file)
    }

    fn lock_file(&self) -> Result<(File, PathBuf)> {
        let path = self.inner.directory.join(LOCK_FILE);
        let options = File::options().create(true).append(true).open(&path);
        Ok((options.map_err(Error::io("open", &path))?, path))
    }
}
