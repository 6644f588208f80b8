//! What the layers below the trained ones make of a text, remembered across epochs and runs.
//!
//! One file for the frozen weights of a home, named by their digest: 16 bytes of magic, the width as little-endian `u32`,
//! then one record a text: 32 bytes (SHA-256 of the token ids), the number of tokens as `u32`, 8 bytes of the SHA-256 of
//! what follows, and `[tokens, dim]` numbers as `f32`. It only grows, until it is larger than [`MAX_BYTES`]; then it is
//! begun anew with what the run used. Any of it may be deleted at any time.
//!
//! *Invariant:* what is remembered is, to the bit, what would be computed: a text is computed alone, by the same weights.
//! Only texts of train and validation are asked for.

use mynah_registry::Digest;
use rayon::prelude::*;
use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Error;
use crate::files;
use crate::native::Network;
use crate::progress::Progress;

const MAGIC: &[u8; 16] = b"mynah-activation";
/// Larger files are begun anew: the texts of a few thousand replayed examples.
const MAX_BYTES: u64 = 256 << 20;
const KEY_BYTES: usize = 32;
const CHECK_BYTES: usize = 8;

pub(crate) type Key = [u8; KEY_BYTES];

/// The remembered activations of one set of frozen weights.
pub(crate) struct Activations {
    path: PathBuf,
    dim: usize,
    known: HashMap<Key, Arc<Vec<f32>>>,
    fresh: Vec<Key>,
    used: HashSet<Key>,
    /// Bytes of the file that are whole.
    length: u64,
}

impl Activations {
    /// Opens the file of the frozen weights of `network` in `directory`; what is damaged in it is forgotten.
    pub fn open(directory: &Path, network: &Network) -> Self {
        let dim = network.dim();
        let path = directory.join(format!("activations-{}.bin", network.frozen_digest().short()));
        let mut activations =
            Self { path, dim, known: HashMap::new(), fresh: Vec::new(), used: HashSet::new(), length: 0 };
        activations.read();
        activations
    }

    /// What enters the first trained layer, for each text in turn.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    pub fn of(
        &mut self,
        texts: &[&[u32]],
        network: &Network,
        progress: &dyn Progress,
    ) -> Result<Vec<Arc<Vec<f32>>>, Error> {
        let keys: Vec<Key> = texts.iter().map(|ids| key(ids)).collect();
        let mut missing: Vec<(Key, &[u32])> = Vec::new();
        let mut asked = HashSet::new();
        for (key, ids) in keys.iter().zip(texts) {
            if !self.known.contains_key(key) && asked.insert(*key) {
                missing.push((*key, ids));
            }
        }
        let mut done = (texts.len() - missing.len()) as u64;
        for chunk in missing.chunks(64) {
            if progress.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let computed: Vec<Vec<f32>> = chunk.par_iter().map(|(_, ids)| network.below_first_trained(ids)).collect();
            for ((key, _), rows) in chunk.iter().zip(computed) {
                self.known.insert(*key, Arc::new(rows));
                self.fresh.push(*key);
            }
            done += chunk.len() as u64;
            progress.advance(done, "remembering the frozen layers");
        }
        self.used.extend(&keys);
        Ok(keys.iter().map(|key| self.known[key].clone()).collect())
    }

    /// Writes what is new, and deletes the files of other weights.
    ///
    /// # Errors
    /// A directory or file that cannot be written.
    pub fn save(&self) -> Result<(), Error> {
        let io = |action| move |source, path: &Path| Error::Io { action, path: path.to_path_buf(), source };
        let directory = self.path.parent().expect("the file lies in a directory");
        files::create_directory(directory)?;
        for entry in std::fs::read_dir(directory).map_err(|source| io("read")(source, directory))?.flatten() {
            let name = entry.file_name();
            if name.to_string_lossy().starts_with("activations-") && entry.path() != self.path {
                std::fs::remove_file(entry.path()).map_err(|source| io("remove")(source, &entry.path()))?;
            }
        }
        let size = |key: &Key| (KEY_BYTES + 4 + CHECK_BYTES + 4 * self.known[key].len()) as u64;
        let grown = self.length + self.fresh.iter().map(size).sum::<u64>();
        if self.length == 0 || grown > MAX_BYTES {
            let mut bytes = MAGIC.to_vec();
            bytes.extend((self.dim as u32).to_le_bytes());
            let mut used: Vec<&Key> = self.used.iter().collect();
            used.sort_unstable();
            used.iter().for_each(|key| self.record(key, &mut bytes));
            return files::write(&self.path, &bytes);
        }
        if self.fresh.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        self.fresh.iter().for_each(|key| self.record(key, &mut bytes));
        let append = || -> std::io::Result<()> {
            let mut file = std::fs::OpenOptions::new().write(true).open(&self.path)?;
            // What a killed run left unfinished is cut off.
            file.set_len(self.length)?;
            std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0))?;
            file.write_all(&bytes)
        };
        append().map_err(|source| io("write")(source, &self.path))
    }

    fn record(&self, key: &Key, bytes: &mut Vec<u8>) {
        let rows = &self.known[key];
        let numbers: Vec<u8> = rows.iter().flat_map(|number| number.to_le_bytes()).collect();
        bytes.extend(key);
        bytes.extend(((rows.len() / self.dim) as u32).to_le_bytes());
        bytes.extend(&Digest::of(&numbers).as_bytes()[..CHECK_BYTES]);
        bytes.extend(numbers);
    }

    fn read(&mut self) {
        let Ok(bytes) = std::fs::read(&self.path) else { return };
        let header = MAGIC.len() + 4;
        let matches = bytes.starts_with(MAGIC) && bytes.get(16..header) == Some(&(self.dim as u32).to_le_bytes());
        if !matches {
            return;
        }
        let mut at = header;
        self.length = header as u64;
        let head = KEY_BYTES + 4 + CHECK_BYTES;
        while let Some(record) = bytes.get(at..at + head) {
            let (key, rest) = record.split_at(KEY_BYTES);
            let (tokens, check) = rest.split_at(4);
            let tokens = u32::from_le_bytes(tokens.try_into().expect("four bytes")) as usize;
            let Some(numbers) = bytes.get(at + head..at + head + 4 * tokens * self.dim) else { return };
            if &Digest::of(numbers).as_bytes()[..CHECK_BYTES] != check {
                return;
            }
            let rows = numbers.as_chunks::<4>().0.iter().map(|number| f32::from_le_bytes(*number)).collect();
            self.known.insert(key.try_into().expect("32 bytes"), Arc::new(rows));
            at += head + numbers.len();
            self.length = at as u64;
        }
    }
}

/// What a text is remembered by.
pub(crate) fn key(input_ids: &[u32]) -> Key {
    let bytes: Vec<u8> = input_ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    *Digest::of(&bytes).as_bytes()
}

/// What the file in `directory` remembers.
#[cfg(test)]
pub(crate) fn remembered(directory: &Path) -> HashSet<Key> {
    let files = std::fs::read_dir(directory).expect("a directory").flatten();
    let path = files.map(|entry| entry.path()).find(|path| path.to_string_lossy().contains("activations-"));
    let path = path.expect("activations were remembered");
    let bytes = std::fs::read(&path).expect("read");
    let dim = u32::from_le_bytes(bytes[16..20].try_into().expect("four bytes")) as usize;
    let mut activations =
        Activations { path, dim, known: HashMap::new(), fresh: Vec::new(), used: HashSet::new(), length: 0 };
    activations.read();
    assert_eq!(activations.length, bytes.len() as u64, "the file is whole");
    activations.known.into_keys().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::host;
    use crate::fine_tune::freeze_model;
    use crate::progress::NoProgress;
    use crate::settings::TrainingSettings;
    use crate::weights;
    use mynah_runtime::{Checkpoint, Labels};

    fn network(frozen_layers: usize) -> Network {
        let settings = TrainingSettings { frozen_layers, ..TrainingSettings::default() };
        let labels = Labels { functions: vec!["a".into(), "b".into()], ..Labels::default() };
        let model = weights::load(&Checkpoint::starter().unwrap(), &labels, 1, &host().autodiff()).unwrap();
        Network::read(&freeze_model(model, &settings).unwrap(), 0, false)
    }

    #[test]
    fn what_is_remembered_is_what_would_be_computed_and_damage_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let network = network(1);
        let texts: [&[u32]; 3] = [&[101, 2000, 102], &[101, 3000, 4000, 102], &[101, 2000, 102]];
        let mut first = Activations::open(directory.path(), &network);
        let computed = first.of(&texts[..2], &network, &NoProgress).unwrap();
        first.save().unwrap();
        let mut second = Activations::open(directory.path(), &network);
        assert_eq!(second.known.len(), 2);
        let all = second.of(&[texts[0], texts[1], &[101, 5000, 102]], &network, &NoProgress).unwrap();
        assert!(all[..2] == computed[..]);
        second.save().unwrap();
        // Nothing is remembered in memory that is not in the file.
        assert_eq!(remembered(directory.path()), second.known.into_keys().collect());

        let path = std::fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let mut third = Activations::open(directory.path(), &network);
        assert_eq!(third.known.len(), 2);
        let again = third.of(&[&[101, 5000, 102]], &network, &NoProgress).unwrap();
        assert!(again[0] == all[2]);
        third.save().unwrap();
        assert_eq!(Activations::open(directory.path(), &network).known.len(), 3);
    }

    #[test]
    fn other_frozen_weights_have_another_file() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (network(1), network(2));
        assert_ne!(one.frozen_digest(), two.frozen_digest());
        let mut activations = Activations::open(directory.path(), &one);
        activations.of(&[&[101, 102]], &one, &NoProgress).unwrap();
        activations.save().unwrap();
        let other = Activations::open(directory.path(), &two);
        assert!(other.known.is_empty());
        other.save().unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
