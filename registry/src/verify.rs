//! Verification: hashing what is on the disk against what the journal and the manifests promise.
//!
//! Invariant: only this module makes a [`VerifiedCheckpoint`], and only after every file had its digest. Nothing is
//! repaired here, and nothing damaged is passed over in silence.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use crate::objects::Owner;
use crate::state::{Record, State};
use crate::{Digest, Error, FileEntry, Registry, Result, Version};

/// The files of a version whose digests were just checked.
#[derive(Clone, Debug)]
pub struct VerifiedCheckpoint {
    registry: Registry,
    name: String,
    digest: Digest,
    files: BTreeMap<String, FileEntry>,
}

impl VerifiedCheckpoint {
    /// The version's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version's digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The files by name.
    pub fn files(&self) -> &BTreeMap<String, FileEntry> {
        &self.files
    }

    /// The object that holds a file, to be mapped into memory; `None` when the version has no such file.
    pub fn path(&self, file: &str) -> Option<PathBuf> {
        let entry = self.files.get(file)?;
        Some(self.registry.inner.objects.path(&entry.sha256))
    }

    /// Reads a file, and checks once more that it is what was verified.
    ///
    /// # Errors
    /// [`Error::UnknownFile`], [`Error::MissingObject`], [`Error::Corrupt`].
    pub fn read(&self, file: &str) -> Result<Vec<u8>> {
        let owner = Owner { version: Some(&self.name), file };
        match self.files.get(file) {
            Some(entry) => self.registry.inner.objects.read(&entry.sha256, owner),
            None => Err(Error::UnknownFile { version: self.name.clone(), file: file.to_owned() }),
        }
    }
}

/// What [`Registry::load_production`] found fit to serve.
#[derive(Debug)]
pub struct Loaded {
    /// Its verified files.
    pub checkpoint: VerifiedCheckpoint,
    /// The version.
    pub version: Version,
    /// The versions that should have been loaded instead, and what is wrong with them. Never pass over it in silence.
    pub skipped: Vec<(Version, Error)>,
}

/// The outcome of [`Registry::verify_all`].
#[derive(Debug)]
pub struct Verification {
    /// The number of objects.
    pub objects: u64,
    /// The size of all objects.
    pub size_bytes: u64,
    /// The number of versions and bases that are not deleted.
    pub versions: u64,
    /// The number of journal entries.
    pub entries: u64,
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug)]
pub struct Problem {
    /// What is wrong.
    pub error: Error,
    /// The versions that cannot be loaded because of it.
    pub versions: Vec<String>,
}

impl Registry {
    /// Hashes every file of a version.
    ///
    /// # Errors
    /// [`Error::Corrupt`] and [`Error::MissingObject`] name the first file that is wrong; [`Error::InvalidManifest`].
    pub fn verify(&self, version: &Version) -> Result<VerifiedCheckpoint> {
        self.verify_named(&version.name, &version.manifest_digest)
    }

    pub(crate) fn verify_record(&self, record: &Record) -> Result<VerifiedCheckpoint> {
        self.verify_named(&record.name, &record.manifest)
    }

    fn verify_named(&self, name: &str, digest: &Digest) -> Result<VerifiedCheckpoint> {
        let files = self.manifest(name, digest)?.files;
        for (file, entry) in &files {
            self.inner.objects.check(&entry.sha256, Owner { version: Some(name), file })?;
        }
        Ok(VerifiedCheckpoint { registry: self.clone(), name: name.to_owned(), digest: *digest, files })
    }

    /// Loads what is in production or, when that fails verification, the best version promoted before it that does
    /// not; `None` when nothing was ever promoted.
    ///
    /// # Errors
    /// [`Error::NothingVerifies`] when no promoted version can be loaded; [`Error::BrokenChain`].
    pub fn load_production(&self) -> Result<Option<Loaded>> {
        let state = self.state()?;
        let Some(production) = state.production() else {
            return Ok(None);
        };
        let mut skipped = Vec::new();
        for record in [production].into_iter().chain(state.fallbacks()) {
            let version = self.view(&state, record);
            match self.verify(&version) {
                Ok(checkpoint) => {
                    return Ok(Some(Loaded { checkpoint, version, skipped }));
                }
                Err(error) => skipped.push((version, error)),
            }
        }
        let tried = skipped.len();
        let source = skipped.into_iter().next().map_or(Error::NoProduction, |(_, error)| error);
        Err(Error::NothingVerifies { production: production.name.clone(), tried, source: Box::new(source) })
    }

    /// Checks the journal's chain, hashes every object, and checks that no version lacks one.
    ///
    /// # Errors
    /// [`Error::Io`] when the registry cannot be read at all; everything else is a problem in the result.
    pub fn verify_all(&self) -> Result<Verification> {
        let mut verification =
            Verification { objects: 0, size_bytes: 0, versions: 0, entries: 0, problems: Vec::new() };
        let state = match self.inner.journal.read() {
            Ok(chain) => {
                verification.entries = chain.entries.len() as u64;
                State::fold(&chain.entries)
            }
            Err(error @ Error::Io { .. }) => return Err(error),
            Err(error) => {
                verification.entries = self.journal_head()?;
                verification.problems.push(Problem { error, versions: Vec::new() });
                State::default()
            }
        };
        let live: Vec<&Record> = state.records.iter().filter(|record| !record.deleted).collect();
        verification.versions = live.len() as u64;
        let uses = self.uses(&state, &live, &mut verification.problems);
        self.verify_objects(uses, &mut verification)?;
        Ok(verification)
    }

    /// Who needs each object; manifests that cannot be read become problems.
    fn uses(&self, state: &State, live: &[&Record], problems: &mut Vec<Problem>) -> HashMap<Digest, Vec<Use>> {
        let mut uses: HashMap<Digest, Vec<Use>> = HashMap::new();
        for record in live {
            let mut add = |digest, file: &str| {
                let used = Use { version: Some(record.name.clone()), file: file.to_owned() };
                uses.entry(digest).or_default().push(used);
            };
            add(record.manifest, "manifest");
            match self.manifest(&record.name, &record.manifest) {
                Ok(manifest) => manifest.files.iter().for_each(|(file, entry)| add(entry.sha256, file)),
                // Found again, with everybody it concerns, when the object itself is checked.
                Err(Error::Corrupt { .. } | Error::MissingObject { .. }) => {}
                Err(error) => problems.push(Problem { error, versions: vec![record.name.clone()] }),
            }
        }
        for (sequence, digest) in &state.evidence {
            let file = format!("evidence of entry {sequence}");
            uses.entry(*digest).or_default().push(Use { version: None, file });
        }
        uses
    }

    fn verify_objects(&self, mut uses: HashMap<Digest, Vec<Use>>, verification: &mut Verification) -> Result<()> {
        let stored = self.inner.objects.files()?.into_iter();
        let stored = stored.filter_map(|file| Some((file.digest?, file.size_bytes)));
        let mut to_check: Vec<(Digest, Vec<Use>)> = Vec::new();
        for (digest, size_bytes) in stored {
            verification.objects += 1;
            verification.size_bytes += size_bytes;
            to_check.push((digest, uses.remove(&digest).unwrap_or_default()));
        }
        // What is left is needed and not there.
        let mut missing: Vec<_> = uses.into_iter().collect();
        missing.sort_by_key(|(digest, _)| *digest);
        to_check.extend(missing);
        for (digest, uses) in to_check {
            let first = uses.first();
            let version = first.and_then(|used| used.version.as_deref());
            let file = first.map_or("unused object", |used| used.file.as_str());
            if let Err(error) = self.inner.objects.check(&digest, Owner { version, file }) {
                let mut versions: Vec<String> = uses.into_iter().filter_map(|used| used.version).collect();
                versions.dedup();
                verification.problems.push(Problem { error, versions });
            }
        }
        Ok(())
    }
}

/// What an object is to a version, or to the journal.
struct Use {
    version: Option<String>,
    file: String,
}
