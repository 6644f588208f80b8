//! Garbage collection: frees the objects that no version needs, and files that were never finished.
//!
//! It runs alone: writers hold a shared lock from their first object to their entry. Invariant: when it cannot read
//! everything that says what is needed, it removes nothing. Manifests stay, those of deleted versions too: they are
//! small, and lineage is made of them.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::durable::{is_temporary, list, sync_directory};
use crate::state::State;
use crate::{Digest, Error, Registry, Result, fault};

/// What garbage collection removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// The number of objects.
    pub objects: u64,
    /// The number of unfinished files.
    pub unfinished: u64,
    /// The size of both.
    pub size_bytes: u64,
}

impl Registry {
    /// Removes the objects no version needs, and unfinished files left by processes that were stopped.
    ///
    /// Waits until no process is writing.
    ///
    /// # Errors
    /// [`Error::BrokenChain`], [`Error::Corrupt`] or [`Error::MissingObject`] when the journal or a manifest cannot
    /// be read; then nothing was removed. [`Error::Io`] when something could not be removed.
    pub fn collect_garbage(&self) -> Result<Freed> {
        let _lock = self.lock_exclusive()?;
        let state = State::fold(&self.inner.journal.read()?.entries);
        let needed = self.needed(&state)?;
        let mut freed = Freed::default();
        let mut touched: HashSet<PathBuf> = HashSet::new();
        for file in self.inner.objects.files()? {
            let unfinished = is_temporary(&file.name);
            let unneeded = file.digest.is_some_and(|digest| !needed.contains(&digest));
            if unfinished || unneeded {
                self.remove(&file.path, &mut touched)?;
                freed.objects += u64::from(unneeded);
                freed.unfinished += u64::from(unfinished);
                freed.size_bytes += file.size_bytes;
            }
        }
        for file in list(&self.inner.directory.join("journal"))? {
            if is_temporary(&file.file_name()) {
                freed.size_bytes += file.metadata().map_or(0, |metadata| metadata.len());
                freed.unfinished += 1;
                self.remove(&file.path(), &mut touched)?;
            }
        }
        for directory in touched {
            sync_directory(&directory, fault::GARBAGE_SYNC_DIRECTORY, &self.inner.fault)?;
        }
        Ok(freed)
    }

    fn needed(&self, state: &State) -> Result<HashSet<Digest>> {
        let mut needed: HashSet<Digest> = state.evidence.iter().map(|(_, digest)| *digest).collect();
        for record in &state.records {
            needed.insert(record.manifest);
            if !record.deleted {
                let manifest = self.manifest(&record.name, &record.manifest)?;
                needed.extend(manifest.files.values().map(|file| file.sha256));
            }
        }
        Ok(needed)
    }

    fn remove(&self, path: &Path, touched: &mut HashSet<PathBuf>) -> Result<()> {
        let removed = (self.inner.fault)(fault::GARBAGE_REMOVE).and_then(|()| fs::remove_file(path));
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("remove", path)(error));
            }
            _ => {}
        }
        touched.extend(path.parent().map(Path::to_owned));
        Ok(())
    }
}
