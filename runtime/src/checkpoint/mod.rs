//! A checkpoint: the set of files that training writes and serving reads, in Hugging Face's own layout.
//!
//! `config.json`, `tokenizer.json` and the tensors (`model.safetensors`, or shards with `model.safetensors.index.json`)
//! are needed; `labels.json` and `calibration.json` belong to fine-tuned ones. The files may lie in a directory, be
//! objects of the registry, or be embedded in the program; nothing above this module can tell the difference.
//!
//! Invariants: a [`Checkpoint`] has a valid [`Config`] and whole safetensors headers; tensors are read one by one, so
//! that a file is never held in memory as a whole. Nothing is ever written here.

mod calibration;
mod config;
mod files;
mod labels;
mod tensors;

use std::path::Path;

use mynah_registry::VerifiedCheckpoint;
use serde_json::Value;

pub use calibration::{CALIBRATION_FILE, Calibration};
pub use config::{CONFIG_FILE, Config};
pub(crate) use files::Files;
pub use labels::{LABELS_FILE, Labels, Tag};
use tensors::TensorIndex;
pub use tensors::{INDEX_FILE, SINGLE_FILE};

use crate::error::{Error, Result};

/// The name of the tokenizer's file.
pub const TOKENIZER_FILE: &str = "tokenizer.json";

/// A readable set of files: one encoder, its tokenizer, and possibly heads with labels and calibration.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    files: Files,
    config: Config,
    tensors: TensorIndex,
}

impl Checkpoint {
    /// Opens a directory.
    ///
    /// # Errors
    /// When config.json or the tensors are absent, unreadable, or not what they should be.
    pub fn from_directory(directory: &Path) -> Result<Self> {
        Self::from_files(Files::in_directory(directory)?)
    }

    /// Opens a checkpoint whose every file the registry has just verified.
    ///
    /// # Errors
    /// As [`Checkpoint::from_directory`].
    pub fn from_verified(verified: &VerifiedCheckpoint) -> Result<Self> {
        Self::from_files(Files::of_registry(verified))
    }

    /// Opens the starter model that is embedded in the program.
    ///
    /// # Errors
    /// Never with an unmodified build; the signature is that of the other constructors.
    pub fn starter() -> Result<Self> {
        Self::from_files(Files::embedded("the starter", &crate::starter::FILES))
    }

    /// Makes an encoder of these sizes out of pseudo-random weights, the same every time: for measuring speed where no
    /// model is at hand. It has no files, hence no tokenizer.
    ///
    /// # Errors
    /// Never; the signature is that of the other constructors.
    pub fn random(config: Config) -> Result<Self> {
        let tensors = TensorIndex::random(encoder_tensors(&config));
        Ok(Self { files: Files::embedded("random weights", &[]), config, tensors })
    }

    fn from_files(files: Files) -> Result<Self> {
        let config = Config::from_json(&files.require(CONFIG_FILE)?)?;
        let tensors = TensorIndex::read(&files)?;
        Ok(Self { files, config, tensors })
    }

    /// The whole content of a file, or `None` when the checkpoint does not have it.
    ///
    /// # Errors
    /// When the file exists and cannot be read.
    pub fn file(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.files.read(name)
    }

    /// The names of all files, sorted.
    pub fn file_names(&self) -> impl Iterator<Item = &str> {
        self.files.names()
    }

    /// Where the checkpoint is, in words for a message.
    pub fn location(&self) -> &str {
        self.files.location()
    }

    /// The sizes of the encoder.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The labels of the heads, or `None` for a base model.
    ///
    /// # Errors
    /// When labels.json exists and is not valid.
    pub fn labels(&self) -> Result<Option<Labels>> {
        self.file(LABELS_FILE)?.map(|bytes| Labels::from_json(&bytes)).transpose()
    }

    /// Temperature and thresholds; the defaults when calibration.json is absent.
    ///
    /// # Errors
    /// When calibration.json exists and is not valid.
    pub fn calibration(&self) -> Result<Calibration> {
        let read = self.file(CALIBRATION_FILE)?.map(|bytes| Calibration::from_json(&bytes)).transpose()?;
        Ok(read.unwrap_or_default())
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.shape(name).is_some()
    }

    /// The names of all tensors, sorted.
    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.tensors.names()
    }

    /// The shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.shape(name)
    }

    /// Reads a tensor in row-major order, converted from f16 or bf16 where needed.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::TensorShape`], [`Error::TensorType`], or a file that cannot be read.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        self.tensors.load(&self.files, name, shape)
    }

    /// Reads some rows of a tensor, as [`Checkpoint::tensor`] reads all.
    ///
    /// # Errors
    /// As [`Checkpoint::tensor`].
    ///
    /// # Panics
    /// When the tensor of this shape has no such rows.
    pub fn tensor_rows(&self, name: &str, shape: &[usize], rows: std::ops::Range<usize>) -> Result<Vec<f32>> {
        assert!(rows.end <= shape.first().copied().unwrap_or(1), "rows of a tensor of shape {shape:?}");
        self.tensors.load_rows(&self.files, name, shape, rows)
    }

    /// Checks presence, type and shape of every tensor of the encoder without reading its values.
    ///
    /// # Errors
    /// The first tensor at fault, by name.
    pub fn validate_encoder(&self) -> Result<()> {
        for (name, shape) in encoder_tensors(&self.config) {
            self.tensors.check(&name, &shape)?;
        }
        Ok(())
    }

    /// Whether the tensor is stored in half precision, so that keeping it so loses nothing.
    pub(crate) fn is_f16(&self, name: &str) -> bool {
        self.tensors.is_f16(name)
    }
}

/// The name and shape of every tensor of the encoder, in the order of the computation.
pub fn encoder_tensors(config: &Config) -> Vec<(String, Vec<usize>)> {
    let (dim, hidden) = (config.dim, config.hidden_dim);
    let embeddings = "distilbert.embeddings";
    let mut tensors = vec![
        (format!("{embeddings}.word_embeddings.weight"), vec![config.vocab_size, dim]),
        (format!("{embeddings}.position_embeddings.weight"), vec![config.max_position_embeddings, dim]),
        (format!("{embeddings}.LayerNorm.weight"), vec![dim]),
        (format!("{embeddings}.LayerNorm.bias"), vec![dim]),
    ];
    for index in 0..config.n_layers {
        let layer = format!("distilbert.transformer.layer.{index}");
        let mut pair = |part: &str, weight: Vec<usize>| {
            tensors.push((format!("{layer}.{part}.bias"), vec![weight[0]]));
            tensors.push((format!("{layer}.{part}.weight"), weight));
        };
        for projection in ["q_lin", "k_lin", "v_lin", "out_lin"] {
            pair(&format!("attention.{projection}"), vec![dim, dim]);
        }
        pair("sa_layer_norm", vec![dim]);
        pair("ffn.lin1", vec![hidden, dim]);
        pair("ffn.lin2", vec![dim, hidden]);
        pair("output_layer_norm", vec![dim]);
    }
    tensors
}

fn schema_of(value: &Value, file: &str, expected: u64) -> Result<()> {
    // A file without the field is refused like one of schema 0, which never existed.
    let actual = value.get("schema").and_then(Value::as_u64).unwrap_or(0);
    if actual == expected { Ok(()) } else { Err(Error::UnknownSchema { file: file.to_owned(), expected, actual }) }
}
