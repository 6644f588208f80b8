//! Embeddings on disk, so that a start does not compute what the last one did.
//!
//! One file a model and precision, read at once and replaced as a whole: 16 bytes of magic; the width and the number of
//! records as little-endian `u32`s; a checksum of what follows as `u64`; the keys (16 bytes of each text's SHA-256), the scales
//! (`f32`) and the numbers (`i8`, see [`Rows`]) of all records. Any of the files may be deleted at any time; those of models that
//! served long ago are deleted when another is written.
//!
//! Invariants: nothing here can fail a reply: what cannot be read or written is computed again, with a warning; a file is read
//! only when a text is asked for.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mynah_registry::Digest;

use crate::encoder::Precision;
use crate::rows::Rows;

const MAGIC: &[u8; 16] = b"mynah-embeddings";
/// A file of the first format has its width where this is; those of the second have numbers of 16 bits.
const FORMAT: u32 = 0x0003_0000;
const HEADER_BYTES: usize = MAGIC.len() + 4 + 4 + 4 + 8;
const KEY_BYTES: usize = 16;

/// Records kept that were not asked for this time; beyond, they are dropped on saving.
const MAX_UNUSED: usize = 100_000;
/// Files kept: one for the present model, and some to roll back to.
const MAX_FILES: usize = 4;

type Key = [u8; KEY_BYTES];

/// The embeddings of one model by text.
#[derive(Debug)]
pub struct EmbeddingCache {
    path: Option<PathBuf>,
    records: Option<Records>,
    dim: usize,
    changed: bool,
    problem: Option<String>,
}

#[derive(Debug)]
struct Records {
    numbers: HashMap<Key, u32>,
    keys: Vec<Key>,
    rows: Rows,
    asked: Vec<bool>,
}

impl EmbeddingCache {
    /// The cache of a model, named by its digest and precision.
    pub fn open(directory: &Path, model: &str, precision: Precision, dim: usize) -> Self {
        let precision = match precision {
            Precision::F32 => "f32",
            Precision::Int8 => "int8",
        };
        let short: String = model.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
        let path = directory.join(format!("embeddings-{short}-{precision}.bin"));
        Self { path: Some(path), records: None, dim, changed: false, problem: None }
    }

    /// A cache that is never written.
    pub fn in_memory(dim: usize) -> Self {
        Self { path: None, records: None, dim, changed: false, problem: None }
    }

    /// The row of a text in [`EmbeddingCache::rows`].
    pub(super) fn get(&mut self, text: &str) -> Option<usize> {
        let records = self.load();
        let number = *records.numbers.get(&key(text))? as usize;
        records.asked[number] = true;
        Some(number)
    }

    pub(super) fn rows(&mut self) -> &Rows {
        &self.load().rows
    }

    pub(super) fn insert(&mut self, text: &str, embedding: &[f32]) {
        if embedding.len() == self.dim && self.path.is_some() {
            let records = self.load();
            let key = key(text);
            if let (None, Ok(number)) = (records.numbers.get(&key), u32::try_from(records.keys.len())) {
                records.numbers.insert(key, number);
                records.keys.push(key);
                records.rows.push(embedding);
                records.asked.push(true);
                self.changed = true;
            }
        }
    }

    /// What was wrong with the file.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Writes the file when something is new in it.
    ///
    /// # Errors
    /// What the operating system said; the next start computes the embeddings again then.
    pub fn save(self) -> io::Result<()> {
        let (Some(path), Some(records), true) = (self.path, self.records, self.changed) else { return Ok(()) };
        // A name of its own: two processes may save at once, and the later one wins.
        let temporary = path.with_extension(format!("{}.tmp", mynah_data::new_feedback_id()));
        let written = std::fs::write(&temporary, records.to_bytes()).and_then(|()| std::fs::rename(&temporary, &path));
        if written.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        written?;
        if let Some(directory) = path.parent() {
            remove_old(directory);
        }
        Ok(())
    }

    fn load(&mut self) -> &mut Records {
        let dim = self.dim;
        let (path, problem) = (self.path.as_deref(), &mut self.problem);
        self.records.get_or_insert_with(|| {
            let read = match path.map(std::fs::read) {
                Some(Ok(bytes)) => parse(&bytes, dim),
                Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error.to_string()),
                _ => Ok(Records::empty(dim)),
            };
            read.unwrap_or_else(|reason| {
                *problem = path.map(|path| format!("{} is computed again: {reason}", path.display()));
                Records::empty(dim)
            })
        })
    }
}

impl Records {
    fn empty(dim: usize) -> Self {
        Self { numbers: HashMap::new(), keys: Vec::new(), rows: Rows::new(dim), asked: Vec::new() }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let unused = self.asked.iter().filter(|asked| !**asked).count();
        let kept: Vec<usize> =
            (0..self.keys.len()).filter(|number| unused <= MAX_UNUSED || self.asked[*number]).collect();
        let dim = self.rows.dim;
        let mut bytes = Vec::with_capacity(HEADER_BYTES + kept.len() * (KEY_BYTES + 4 + dim));
        bytes.extend_from_slice(MAGIC);
        for number in [FORMAT, u32::try_from(dim).unwrap_or(0), u32::try_from(kept.len()).unwrap_or(0)] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&[0; 8]);
        for number in &kept {
            bytes.extend_from_slice(&self.keys[*number]);
        }
        for number in &kept {
            bytes.extend_from_slice(&self.rows.scales[*number].to_le_bytes());
        }
        for number in &kept {
            bytes.extend(self.rows.row(*number).iter().map(|number| number.cast_unsigned()));
        }
        let sum = checksum(&bytes[HEADER_BYTES..]).to_le_bytes();
        bytes[HEADER_BYTES - 8..HEADER_BYTES].copy_from_slice(&sum);
        bytes
    }
}

fn key(text: &str) -> Key {
    let mut key = [0; KEY_BYTES];
    key.copy_from_slice(&Digest::of(text.as_bytes()).as_bytes()[..KEY_BYTES]);
    key
}

/// The records of a file; a sentence when it is damaged. A file of another width or format is another model's: no records.
fn parse(bytes: &[u8], dim: usize) -> Result<Records, String> {
    let torn = || "it is torn".to_owned();
    let Some((header, body)) = bytes.split_at_checked(HEADER_BYTES).filter(|_| bytes.starts_with(MAGIC)) else {
        return Err("it is no cache of embeddings".to_owned());
    };
    let number = |at: usize| header[at..].first_chunk().map_or(0, |four| u32::from_le_bytes(*four));
    let (format, width, count) = (number(16), number(20) as usize, number(24) as usize);
    if format != FORMAT || width != dim || dim == 0 {
        return Ok(Records::empty(dim));
    }
    let (keys, rest) = body.split_at_checked(count.saturating_mul(KEY_BYTES)).ok_or_else(torn)?;
    let (scales, numbers) = rest.split_at_checked(count.saturating_mul(4)).ok_or_else(torn)?;
    if numbers.len() != count.saturating_mul(dim) {
        return Err(torn());
    }
    if header[HEADER_BYTES - 8..] != checksum(body).to_le_bytes() {
        return Err("its checksum is wrong".to_owned());
    }
    let keys: Vec<Key> = keys.as_chunks().0.to_vec();
    let rows = Rows {
        dim,
        scales: scales.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect(),
        numbers: numbers.iter().map(|number| number.cast_signed()).collect(),
    };
    let numbers = keys.iter().copied().zip(0..).collect();
    Ok(Records { numbers, asked: vec![false; keys.len()], keys, rows })
}

/// Tells a flipped bit or a torn page; whoever may write here may write anything anyway.
fn checksum(bytes: &[u8]) -> u64 {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut sums = [1_u64, 2, 3, 4];
    let (blocks, rest) = bytes.as_chunks::<32>();
    for block in blocks {
        for (sum, eight) in sums.iter_mut().zip(block.as_chunks::<8>().0) {
            *sum = (*sum ^ u64::from_le_bytes(*eight)).wrapping_mul(MULTIPLIER).rotate_left(29);
        }
    }
    let sum =
        sums.into_iter().fold(bytes.len() as u64, |sum, lane| (sum ^ lane).wrapping_mul(MULTIPLIER).rotate_left(31));
    rest.iter().fold(sum, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(MULTIPLIER).rotate_left(29))
}

/// Deletes the files that were written longest ago.
fn remove_old(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    let mut files: Vec<(SystemTime, PathBuf)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name();
            let name = name.to_str()?;
            let ours = name.starts_with("embeddings-") && name.ends_with(".bin");
            Some((entry.metadata().ok()?.modified().ok()?, entry.path())).filter(|_| ours)
        })
        .collect();
    files.sort_unstable_by(|a, b| b.cmp(a));
    for (_, path) in files.into_iter().skip(MAX_FILES) {
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &Path) -> EmbeddingCache {
        EmbeddingCache::open(directory, "abc", Precision::Int8, 2)
    }

    fn get(cache: &mut EmbeddingCache, text: &str) -> Option<Vec<f32>> {
        let number = cache.get(text)?;
        Some(cache.rows().embedding(number).map(|number| (number * 100.0).round() / 100.0).collect())
    }

    fn file(directory: &Path) -> PathBuf {
        std::fs::read_dir(directory).expect("listed").next().expect("one file").expect("readable").path()
    }

    #[test]
    fn what_was_saved_is_there_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut cache = open(directory.path());
        assert_eq!(cache.get("a"), None);
        cache.insert("a", &[0.5, -0.5]);
        cache.insert("b", &[1.0, 0.25]);
        cache.insert("wrong width", &[1.0]);
        cache.save().expect("saved");
        let mut again = open(directory.path());
        assert_eq!(get(&mut again, "a"), Some(vec![0.5, -0.5]));
        assert_eq!(get(&mut again, "b"), Some(vec![1.0, 0.25]));
        assert_eq!((again.get("c"), again.problem()), (None, None));
    }

    #[test]
    fn a_damaged_file_is_empty_and_told() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut cache = open(directory.path());
        cache.insert("a", &[0.5, -0.5]);
        cache.save().expect("saved");
        let file = file(directory.path());
        let bytes = std::fs::read(&file).expect("read");
        let mut flipped = bytes.clone();
        *flipped.last_mut().expect("some bytes") ^= 4;
        for (damaged, reason) in [
            (bytes[..bytes.len() - 3].to_vec(), "torn"),
            (flipped, "checksum"),
            (b"something else entirely".to_vec(), "no cache"),
        ] {
            std::fs::write(&file, damaged).expect("written");
            let mut cache = open(directory.path());
            assert_eq!(cache.get("a"), None);
            assert!(cache.problem().is_some_and(|problem| problem.contains(reason)), "{:?}", cache.problem());
        }
    }

    #[test]
    fn another_width_is_another_model_and_a_file_of_the_first_format_is_passed_over() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut cache = open(directory.path());
        cache.insert("a", &[0.5, 0.5]);
        cache.save().expect("saved");
        let mut wider = EmbeddingCache::open(directory.path(), "abc", Precision::Int8, 3);
        assert_eq!((wider.get("a"), wider.problem()), (None, None));
        let first_format = [&MAGIC[..], &2_u32.to_le_bytes(), &[7; 24]].concat();
        std::fs::write(file(directory.path()), first_format).expect("written");
        let mut old = open(directory.path());
        assert_eq!((old.get("a"), old.problem()), (None, None));
    }

    #[test]
    fn the_files_of_long_ago_are_deleted() {
        let directory = tempfile::tempdir().expect("a directory");
        for model in 0..MAX_FILES + 3 {
            let mut cache = EmbeddingCache::open(directory.path(), &format!("model{model}"), Precision::F32, 2);
            cache.insert("a", &[0.5, 0.5]);
            cache.save().expect("saved");
        }
        assert_eq!(std::fs::read_dir(directory.path()).expect("listed").count(), MAX_FILES);
    }
}
