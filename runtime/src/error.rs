//! What can go wrong between a checkpoint on disk and a model that answers.
//!
//! Every variant names the file, tensor or setting at fault with what was expected and what was found, so that a
//! broken checkpoint can be repaired without a debugger. Bugs are not errors here: once a [`crate::Model`] is loaded,
//! any text gets a prediction.

use std::path::PathBuf;

/// The result of loading a checkpoint or running the encoder.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a checkpoint could not be read, or an input not be encoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the checkpoint exists and could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },

    /// A file every checkpoint must have is absent.
    #[error("{checkpoint} has no `{file}`\nhint: {}", missing_file_hint(file))]
    MissingFile {
        /// Where it was looked for.
        checkpoint: String,
        /// The file's name.
        file: String,
    },

    /// A JSON file could not be understood.
    #[error("`{file}` of {checkpoint} is not what was expected: {source}")]
    Json {
        /// The checkpoint.
        checkpoint: String,
        /// The file's name.
        file: String,
        /// Where and why reading stopped.
        #[source]
        source: serde_json::Error,
    },

    /// A JSON file is of a schema this version does not know.
    #[error(
        "`{file}` has schema {actual}, this version reads schema {expected}\nhint: update Mynah, or train again with this version"
    )]
    UnknownSchema {
        /// The file's name.
        file: String,
        /// The schema that can be read.
        expected: u64,
        /// The schema that was found.
        actual: u64,
    },

    /// The checkpoint is of an architecture that cannot be served.
    #[error("{field} `{actual}` is not supported; expected `{expected}`\nhint: use a DistilBERT checkpoint")]
    Unsupported {
        /// The field of config.json.
        field: &'static str,
        /// Its supported value.
        expected: &'static str,
        /// Its value.
        actual: String,
    },

    /// A value of config.json, labels.json or calibration.json makes no sense.
    #[error("`{field}` in {file} is {actual}; expected {expected}")]
    InvalidValue {
        /// The file's name.
        file: &'static str,
        /// The field.
        field: String,
        /// What it should be.
        expected: String,
        /// What it is.
        actual: String,
    },

    /// A file is not a safetensors file, or only the beginning of one.
    #[error("`{file}` of {checkpoint} is not a whole safetensors file: {reason}\nhint: copy or download it again")]
    Safetensors {
        /// The checkpoint.
        checkpoint: String,
        /// The file's name.
        file: String,
        /// What is wrong with it.
        reason: String,
    },

    /// A tensor is absent.
    #[error("the checkpoint has no tensor `{name}`")]
    MissingTensor {
        /// The tensor's name.
        name: String,
    },

    /// A tensor's shape differs from what config.json or labels.json asks for.
    #[error("tensor `{name}` has shape {actual:?}; expected {expected:?}")]
    TensorShape {
        /// The tensor's name.
        name: String,
        /// The shape that config.json or labels.json asks for.
        expected: Vec<usize>,
        /// The shape that was found.
        actual: Vec<usize>,
    },

    /// A tensor's element type cannot be read.
    #[error("tensor `{name}` is of type {actual}; expected F32, F16 or BF16")]
    TensorType {
        /// The tensor's name.
        name: String,
        /// The type that was found.
        actual: String,
    },

    /// tokenizer.json could not be used.
    #[error("cannot use `tokenizer.json`: {reason}")]
    Tokenizer {
        /// What is wrong with it.
        reason: String,
    },

    /// A token identifier is not in the vocabulary.
    #[error("token {id} is outside the vocabulary of {vocab_size}")]
    UnknownToken {
        /// The token's identifier.
        id: u32,
        /// The number of tokens known.
        vocab_size: usize,
    },

    /// A sequence has more tokens than the model has positions.
    #[error("a sequence of {actual} tokens is longer than the {maximum} positions of the model")]
    SequenceTooLong {
        /// The longest possible sequence.
        maximum: usize,
        /// The sequence's tokens.
        actual: usize,
    },

    /// The worker threads could not be started.
    #[error("cannot start {threads} worker threads: {reason}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// What the operating system said.
        reason: String,
    },
}

fn missing_file_hint(file: &str) -> &'static str {
    match file {
        "labels.json" => {
            "the classifier's labels are needed; train the checkpoint again, or add `id2label` to config.json"
        }
        _ => "a checkpoint directory holds config.json, tokenizer.json and model.safetensors (or its shards and index)",
    }
}
