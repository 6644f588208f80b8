//! The tensors of a checkpoint: one safetensors file, or shards named by an index.
//!
//! Invariant: a [`TensorIndex`] exists only for files whose header is valid and whose size is what the header says, so
//! reading a tensor later can only fail as reading any file can.

use std::collections::BTreeMap;
use std::ops::Range;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde::Deserialize;

use super::files::Files;
use crate::error::{Error, Result};

/// The name of the file when all tensors are in one.
pub const SINGLE_FILE: &str = "model.safetensors";
/// The name of the file that says which shard holds which tensor.
pub const INDEX_FILE: &str = "model.safetensors.index.json";

/// safetensors' own limit; also keeps a garbage length from becoming an allocation.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Stands for a file where there is none; no file has a name with a slash.
const RANDOM: &str = "random/";

#[derive(Debug, Clone)]
struct Entry {
    file: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Range<u64>,
}

/// Where each tensor lies.
#[derive(Debug, Clone)]
pub(super) struct TensorIndex {
    entries: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

impl TensorIndex {
    pub(super) fn read(files: &Files) -> Result<Self> {
        let mut entries = BTreeMap::new();
        if !files.contains(INDEX_FILE) {
            read_header(files, SINGLE_FILE, &mut entries)?;
            return Ok(Self { entries });
        }
        let index: ShardIndex = serde_json::from_slice(&files.require(INDEX_FILE)?).map_err(|source| Error::Json {
            checkpoint: files.location().to_owned(),
            file: INDEX_FILE.to_owned(),
            source,
        })?;
        let mut shards: Vec<&String> = index.weight_map.values().collect();
        shards.sort_unstable();
        shards.dedup();
        for shard in shards {
            read_header(files, shard, &mut entries)?;
        }
        // A name that a shard should hold and does not is a torn checkpoint, whether or not anybody asks for it.
        for (name, shard) in &index.weight_map {
            if entries.get(name).is_none_or(|entry| entry.file != *shard) {
                return Err(Error::MissingTensor { name: format!("{name} (in {shard}, by {INDEX_FILE})") });
            }
        }
        Ok(Self { entries })
    }

    /// Tensors of these names and shapes whose values are made when they are read.
    pub(super) fn random(tensors: Vec<(String, Vec<usize>)>) -> Self {
        let entry = |(name, shape): (String, Vec<usize>)| {
            let bytes = 0..4 * shape.iter().product::<usize>() as u64;
            (name, Entry { file: RANDOM.to_owned(), dtype: Dtype::F32, shape, bytes })
        };
        Self { entries: tensors.into_iter().map(entry).collect() }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|entry| entry.shape.as_slice())
    }

    pub(super) fn is_f16(&self, name: &str) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.dtype == Dtype::F16)
    }

    pub(super) fn check(&self, name: &str, shape: &[usize]) -> Result<()> {
        self.entry(name, shape).map(|_| ())
    }

    pub(super) fn load(&self, files: &Files, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let rows = 0..shape.first().copied().unwrap_or(1);
        self.load_rows(files, name, shape, rows)
    }

    /// Reads some of the rows of a tensor; the caller keeps the range within its shape.
    pub(super) fn load_rows(&self, files: &Files, name: &str, shape: &[usize], rows: Range<usize>) -> Result<Vec<f32>> {
        let entry = self.entry(name, shape)?;
        let row_bytes = (entry.bytes.end - entry.bytes.start) / shape.first().map_or(1, |&rows| rows.max(1) as u64);
        let at = |row: usize| entry.bytes.start + row as u64 * row_bytes;
        if entry.file == RANDOM {
            return Ok(random_values(name, at(rows.start) / 4..at(rows.end) / 4));
        }
        let bytes = files.read_range(&entry.file, at(rows.start)..at(rows.end))?;
        Ok(match entry.dtype {
            Dtype::F16 => {
                let halves: Vec<f16> = bytes.as_chunks().0.iter().map(|&pair| f16::from_le_bytes(pair)).collect();
                halves.to_f32_vec()
            }
            Dtype::BF16 => bytes.as_chunks().0.iter().map(|&pair| bf16::from_le_bytes(pair).to_f32()).collect(),
            // `entry` lets only these three types pass.
            _ => bytes.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four)).collect(),
        })
    }

    fn entry(&self, name: &str, shape: &[usize]) -> Result<&Entry> {
        let entry = self.entries.get(name).ok_or_else(|| Error::MissingTensor { name: name.to_owned() })?;
        if entry.shape != shape {
            let (expected, actual) = (shape.to_vec(), entry.shape.clone());
            return Err(Error::TensorShape { name: name.to_owned(), expected, actual });
        }
        match entry.dtype {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => Ok(entry),
            other => Err(Error::TensorType { name: name.to_owned(), actual: format!("{other:?}") }),
        }
    }
}

/// Values of about the size that trained weights have, from the tensor's name and their place: SplitMix64, uniform
/// between ±0.035, hence with a standard deviation of 0.02. A LayerNorm's weight is one, so that hidden states keep their
/// size.
fn random_values(name: &str, places: Range<u64>) -> Vec<f32> {
    if name.contains("norm.weight") || name.contains("Norm.weight") {
        return vec![1.0; (places.end - places.start) as usize];
    }
    let seed = name.bytes().fold(0u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let value = |place: u64| {
        let mut state = seed.wrapping_add(place.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((state >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * 0.07
    };
    places.map(value).collect()
}

/// Reads the header of one file; the format is 8 bytes of length, that many bytes of JSON, then the data.
fn read_header(files: &Files, file: &str, entries: &mut BTreeMap<String, Entry>) -> Result<()> {
    let broken =
        |reason: String| Error::Safetensors { checkpoint: files.location().to_owned(), file: file.to_owned(), reason };
    let size_bytes = files.size_bytes(file)?;
    if size_bytes < 8 {
        return Err(broken(format!("it has {size_bytes} bytes")));
    }
    let mut length = [0; 8];
    length.copy_from_slice(&files.read_range(file, 0..8)?);
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER_BYTES || length > size_bytes - 8 {
        return Err(broken(format!("its header claims {length} bytes of {size_bytes}")));
    }
    let header = files.read_range(file, 8..8 + length)?;
    let metadata: Metadata = serde_json::from_slice(&header).map_err(|error| broken(error.to_string()))?;
    let (expected, actual) = (metadata.data_len() as u64, size_bytes - 8 - length);
    if expected != actual {
        return Err(broken(format!("its header describes {expected} bytes of tensors, {actual} follow")));
    }
    for (name, info) in metadata.tensors() {
        let (start, end) = info.data_offsets;
        let bytes = 8 + length + start as u64..8 + length + end as u64;
        let entry = Entry { file: file.to_owned(), dtype: info.dtype, shape: info.shape.clone(), bytes };
        entries.insert(name, entry);
    }
    Ok(())
}
