//! The journal: one file an entry, chained by digests, created exclusively and never changed.
//!
//! It knows the order of entries and that none was changed, not what they mean. Invariants: an entry gets its final
//! name only when it is complete and synced; of several writers of the same sequence one creates the file and the
//! others learn that they lost; entries are read as a chain or not at all.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use crate::durable::{ensure_directory, list, sync_directory, temporary_file};
use crate::entry::{SCHEMA, Unsealable, seal, unseal};
use crate::fault::{self, FaultPoint};
use crate::{Author, ChainFault, Digest, Entry, Error, Event, Result};

/// The entries of a journal, and the digest the next one carries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chain {
    pub entries: Vec<Entry>,
    pub tail: Option<Digest>,
}

/// The journal of a registry.
pub(crate) struct Journal {
    directory: PathBuf,
    fault: FaultPoint,
    /// What this process has read and checked. Entries never change, so it stays true.
    known: Mutex<Arc<Chain>>,
}

impl Journal {
    /// Opens the journal, and creates its directory when it is missing.
    pub fn open(directory: PathBuf, fault: FaultPoint) -> Result<Self> {
        ensure_directory(&directory, &fault)?;
        Ok(Self { directory, fault, known: Mutex::default() })
    }

    /// Where an entry is, or would be.
    pub fn path(&self, sequence: u64) -> PathBuf {
        self.directory.join(format!("{sequence:012}.json"))
    }

    /// Reads and checks every entry.
    ///
    /// # Errors
    /// [`Error::BrokenChain`] when an entry is missing, was changed or does not follow the one before.
    pub fn read(&self) -> Result<Arc<Chain>> {
        // In this order: what is known now has been in the directory for longer.
        let known = self.known().entries.len() as u64;
        let last = self.last_sequence()?;
        if last < known {
            return Err(self.broken(last + 1, ChainFault::Missing));
        }
        let chain = self.read_from(Chain::default())?;
        // Reading stops at the first entry that is not there, which must be behind the last.
        let read = chain.entries.len() as u64;
        if read < last {
            return Err(self.broken(read + 1, ChainFault::Missing));
        }
        Ok(self.remember(chain))
    }

    /// The entries, of which those this process has checked before are not read again.
    ///
    /// # Errors
    /// As for [`Journal::read`].
    pub fn current(&self) -> Result<Arc<Chain>> {
        let known = self.known();
        let length = known.entries.len() as u64;
        if length == 0 || !self.path(length).exists() {
            return self.read();
        }
        if !self.path(length + 1).exists() {
            return Ok(known);
        }
        let chain = self.read_from(Chain::clone(&known))?;
        Ok(self.remember(chain))
    }

    /// The number of entries, without reading them.
    pub fn head(&self) -> Result<u64> {
        let head = self.known().entries.len() as u64;
        match head == 0 || !self.path(head).exists() {
            true => self.last_sequence(),
            false => Ok(self.head_after(head)),
        }
    }

    /// The same, for whoever saw `head` a moment ago.
    pub fn head_after(&self, mut head: u64) -> u64 {
        while self.path(head + 1).exists() {
            head += 1;
        }
        head
    }

    /// Appends an entry behind the given chain; `None` when another writer was first.
    pub fn append(&self, chain: &Chain, at: Timestamp, who: &Author, event: Event) -> Result<Option<Entry>> {
        let entry = Entry {
            schema: SCHEMA,
            sequence: chain.entries.len() as u64 + 1,
            previous: chain.tail,
            at,
            actor: who.actor.clone(),
            reason: who.reason.clone(),
            event,
        };
        let path = self.path(entry.sequence);
        let bytes = seal(&entry);
        (self.fault)(fault::JOURNAL_WRITE).map_err(Error::io("write", &path))?;
        let mut temporary = temporary_file(&self.directory)?;
        temporary.write_all(&bytes).map_err(Error::io("write", &path))?;
        (self.fault)(fault::JOURNAL_SYNC)
            .and_then(|()| temporary.as_file().sync_all())
            .map_err(Error::io("sync", &path))?;
        (self.fault)(fault::JOURNAL_CREATE).map_err(Error::io("create", &path))?;
        match temporary.persist_noclobber(&path) {
            Ok(_) => {}
            Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => {
                return Ok(None);
            }
            Err(refused) => return Err(Error::io("create", &path)(refused.error)),
        }
        self.sync(entry.sequence)?;
        // What is read back is what every later reader sees.
        match unseal(&bytes) {
            Ok(entry) => Ok(Some(entry)),
            Err(fault) => Err(self.fault_in(entry.sequence, fault)),
        }
    }

    /// Makes the entries up to the given one durable, whoever wrote them.
    pub fn sync(&self, sequence: u64) -> Result<()> {
        sync_directory(&self.directory, fault::JOURNAL_SYNC_DIRECTORY, &self.fault)?;
        // The first entry also needs the directories above: a crash may have come before they were synced.
        let above = self.directory.ancestors().skip(1).take(if sequence <= 1 { 2 } else { 0 });
        for directory in above {
            sync_directory(directory, fault::JOURNAL_SYNC_DIRECTORY, &self.fault)?;
        }
        Ok(())
    }

    /// Reads on from a checked chain to the first sequence that has no file.
    fn read_from(&self, mut chain: Chain) -> Result<Chain> {
        loop {
            let sequence = chain.entries.len() as u64 + 1;
            let path = self.path(sequence);
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(chain),
                Err(error) => return Err(Error::io("read", &path)(error)),
            };
            let entry = unseal(&bytes).map_err(|fault| self.fault_in(sequence, fault))?;
            if entry.sequence != sequence {
                return Err(self.broken(sequence, ChainFault::Misplaced { actual: entry.sequence }));
            }
            if entry.previous != chain.tail {
                let (expected, actual) = (entry.previous.map(Box::new), chain.tail.map(Box::new));
                return Err(self.broken(sequence, ChainFault::Unchained { expected, actual }));
            }
            chain.tail = Some(Digest::of(&bytes));
            chain.entries.push(entry);
        }
    }

    /// The highest sequence in the directory, 0 when there is none.
    fn last_sequence(&self) -> Result<u64> {
        let files = list(&self.directory)?;
        Ok(files.iter().filter_map(|file| sequence_in(Path::new(&file.file_name()))).max().unwrap_or(0))
    }

    fn broken(&self, sequence: u64, fault: ChainFault) -> Error {
        Error::BrokenChain { sequence, path: self.path(sequence), fault }
    }

    fn fault_in(&self, sequence: u64, fault: Unsealable) -> Error {
        match fault {
            Unsealable::Broken(fault) => self.broken(sequence, fault),
            Unsealable::Schema(schema) => Error::UnknownSchema { path: self.path(sequence), schema, supported: SCHEMA },
        }
    }

    fn known(&self) -> Arc<Chain> {
        // The chain is replaced whole, so a panic elsewhere leaves a valid one.
        Arc::clone(&self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn remember(&self, chain: Chain) -> Arc<Chain> {
        let chain = Arc::new(chain);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have read further meanwhile.
        if known.entries.len() <= chain.entries.len() {
            *known = Arc::clone(&chain);
        }
        chain
    }
}

/// The sequence a file's name stands for: 12 digits and `.json`, nothing else.
fn sequence_in(name: &Path) -> Option<u64> {
    let digits = name.to_str()?.strip_suffix(".json")?;
    let is_sequence = digits.len() == 12 && digits.bytes().all(|digit| digit.is_ascii_digit());
    is_sequence.then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_entries() {
        assert_eq!(sequence_in(Path::new("000000000012.json")), Some(12));
        for name in
            ["12.json", "000000000012.json.bak", ".tmp-000000000012.json", "00000000001x.json", "+00000000012.json"]
        {
            assert_eq!(sequence_in(Path::new(name)), None, "{name}");
        }
    }
}
