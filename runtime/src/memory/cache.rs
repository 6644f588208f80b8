//! Embeddings on disk, so that a start does not compute what the last one did.
//!
//! One file a model: 20 bytes of header (16 of magic, the width as a little-endian `u32`), then records of 16 bytes
//! (the beginning of the text's SHA-256) and `dim` little-endian `f32`s. The file may be deleted at any time, and one that is
//! damaged or torn counts as far as its records are whole.
//!
//! Invariant: nothing here can fail a reply; what cannot be written is computed again.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use mynah_registry::Digest;

use crate::encoder::Precision;

const MAGIC: &[u8; 16] = b"mynah-embeddings";
const HEADER_BYTES: usize = MAGIC.len() + 4;
const KEY_BYTES: usize = 16;

/// Records kept that were not asked for this time; beyond, they are dropped on saving.
const MAX_UNUSED: usize = 100_000;

type Key = [u8; KEY_BYTES];

/// The embeddings of one model by text.
#[derive(Debug)]
pub struct EmbeddingCache {
    path: Option<PathBuf>,
    dim: usize,
    records: HashMap<Key, Vec<f32>>,
    asked: HashMap<Key, ()>,
    changed: bool,
}

impl EmbeddingCache {
    /// Reads the cache of a model, named by its digest and precision; one that cannot be read is empty.
    pub fn open(directory: &Path, model: &str, precision: Precision, dim: usize) -> Self {
        let precision = match precision {
            Precision::F32 => "f32",
            Precision::Int8 => "int8",
        };
        let short: String = model.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
        let path = directory.join(format!("embeddings-{short}-{precision}.bin"));
        let records = std::fs::read(&path).map(|bytes| parse(&bytes, dim)).unwrap_or_default();
        Self { path: Some(path), dim, records, asked: HashMap::new(), changed: false }
    }

    /// A cache that is never written.
    pub fn in_memory(dim: usize) -> Self {
        Self { path: None, dim, records: HashMap::new(), asked: HashMap::new(), changed: false }
    }

    pub(super) fn get(&mut self, text: &str) -> Option<&[f32]> {
        let key = key(text);
        let found = self.records.get(&key)?;
        self.asked.insert(key, ());
        Some(found)
    }

    pub(super) fn insert(&mut self, text: &str, embedding: &[f32]) {
        if embedding.len() == self.dim && self.path.is_some() {
            let key = key(text);
            self.asked.insert(key, ());
            self.records.insert(key, embedding.to_vec());
            self.changed = true;
        }
    }

    /// Writes the file when something is new in it.
    ///
    /// # Errors
    /// What the operating system said; the next start computes the embeddings again then.
    pub fn save(self) -> io::Result<()> {
        let Some(path) = self.path.filter(|_| self.changed) else { return Ok(()) };
        let keep_all = self.records.len() - self.asked.len().min(self.records.len()) <= MAX_UNUSED;
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.records.len() * (KEY_BYTES + 4 * self.dim));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&u32::try_from(self.dim).unwrap_or(0).to_le_bytes());
        for (key, embedding) in self.records.iter().filter(|(key, _)| keep_all || self.asked.contains_key(*key)) {
            bytes.extend_from_slice(key);
            bytes.extend(embedding.iter().flat_map(|number| number.to_le_bytes()));
        }
        // A name of its own: two processes may save at once, and the later one wins.
        let temporary = path.with_extension(format!("{}.tmp", mynah_data::new_feedback_id()));
        let written = std::fs::write(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, &path));
        if written.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        written
    }
}

fn key(text: &str) -> Key {
    let mut key = [0; KEY_BYTES];
    key.copy_from_slice(&Digest::of(text.as_bytes()).as_bytes()[..KEY_BYTES]);
    key
}

fn parse(bytes: &[u8], dim: usize) -> HashMap<Key, Vec<f32>> {
    let header_fits = bytes.len() >= HEADER_BYTES
        && bytes.starts_with(MAGIC)
        && bytes[MAGIC.len()..HEADER_BYTES] == u32::try_from(dim).unwrap_or(0).to_le_bytes();
    if !header_fits || dim == 0 {
        return HashMap::new();
    }
    let records = bytes[HEADER_BYTES..].chunks_exact(KEY_BYTES + 4 * dim).map(|record| {
        let (key, numbers) = record.split_at(KEY_BYTES);
        let mut name = [0; KEY_BYTES];
        name.copy_from_slice(key);
        let number = |four: &[u8]| f32::from_le_bytes([four[0], four[1], four[2], four[3]]);
        (name, numbers.chunks_exact(4).map(number).collect::<Vec<f32>>())
    });
    // A flipped bit may make a number that poisons every comparison.
    records.filter(|(_, embedding)| embedding.iter().all(|number| number.is_finite() && number.abs() <= 1.01)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &Path) -> EmbeddingCache {
        EmbeddingCache::open(directory, "abc", Precision::Int8, 2)
    }

    #[test]
    fn what_was_saved_is_there_again_even_torn() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut cache = open(directory.path());
        assert_eq!(cache.get("a"), None);
        cache.insert("a", &[0.5, -0.5]);
        cache.insert("b", &[1.0, 0.0]);
        cache.insert("wrong width", &[1.0]);
        cache.save().expect("saved");
        assert_eq!(open(directory.path()).get("a"), Some(&[0.5, -0.5][..]));

        let file =
            std::fs::read_dir(directory.path()).expect("listed").next().expect("one file").expect("readable").path();
        let bytes = std::fs::read(&file).expect("read");
        std::fs::write(&file, &bytes[..bytes.len() - 3]).expect("torn");
        assert_eq!(open(directory.path()).records.len(), 1);
        std::fs::write(&file, b"something else entirely").expect("damaged");
        assert!(open(directory.path()).records.is_empty());
    }

    #[test]
    fn another_width_is_another_model() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut cache = open(directory.path());
        cache.insert("a", &[0.5, 0.5]);
        cache.save().expect("saved");
        assert!(EmbeddingCache::open(directory.path(), "abc", Precision::Int8, 3).records.is_empty());
    }
}
