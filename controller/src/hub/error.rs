//! What can go wrong between a model's name and its files.

use std::path::{Path, PathBuf};

use hf_hub::api::sync::ApiError;

/// Why a model could not be had from the hub.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The text cannot be a model's name.
    #[error("`{text}` is neither a directory nor the name of a model on the hub")]
    InvalidId {
        /// What was given.
        text: String,
    },
    /// The hub has no such model, or hides it.
    #[error("{endpoint} has no model `{id}` at revision `{revision}` (HTTP {status})")]
    NotFound {
        /// The hub's address.
        endpoint: String,
        /// The model.
        id: String,
        /// The revision.
        revision: String,
        /// 401, 403 or 404.
        status: u16,
    },
    /// The model lacks a file that a checkpoint needs.
    #[error("model `{id}` has no {file}")]
    NoFile {
        /// The model.
        id: String,
        /// The file.
        file: String,
    },
    /// `HF_HUB_OFFLINE` is set and the cache lacks a file.
    #[error("HF_HUB_OFFLINE is set and {file} of `{id}@{revision}` is not in {}", cache.display())]
    Offline {
        /// The model.
        id: String,
        /// The revision.
        revision: String,
        /// The file.
        file: String,
        /// The cache.
        cache: PathBuf,
    },
    /// The hub could not be reached, or broke off.
    #[error("downloading {what} of `{id}` from {endpoint} failed")]
    Transfer {
        /// The hub's address.
        endpoint: String,
        /// The model.
        id: String,
        /// The file, or "the list of files".
        what: String,
        /// What hf-hub said.
        #[source]
        source: Box<ApiError>,
    },
    /// What arrived is not what the hub announced.
    #[error("{file} of `{id}` is damaged: expected {expected}, got {actual}")]
    Damaged {
        /// The model.
        id: String,
        /// The file.
        file: String,
        /// Size or digest that the hub announced.
        expected: String,
        /// Size or digest of what arrived.
        actual: String,
    },
    /// The hub's answer cannot be used.
    #[error("{endpoint} answered what no hub answers: {what} is `{value}`")]
    Answer {
        /// The hub's address.
        endpoint: String,
        /// The header or field.
        what: &'static str,
        /// Its value.
        value: String,
    },
    /// A file of the cache could not be read or written.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl HubError {
    pub(super) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::InvalidId { .. } => {
                "use `starter`, a directory, or an id such as distilbert-base-uncased[@revision]".into()
            }
            Self::NotFound { status: 401 | 403, .. } => {
                "check the spelling; a private or gated model needs HF_TOKEN".into()
            }
            Self::NotFound { .. } => "check the spelling and the revision, e.g. distilbert-base-uncased".into(),
            Self::NoFile { .. } => "choose a DistilBERT model with tokenizer.json and safetensors weights".into(),
            Self::Offline { .. } => "unset HF_HUB_OFFLINE to download it, or use --base starter".into(),
            Self::Transfer { .. } => {
                "run the same command again: the download goes on where it stopped; offline, use --base starter".into()
            }
            Self::Damaged { .. } => "the damaged file was removed; run the same command again".into(),
            Self::Answer { .. } => "check HF_ENDPOINT".into(),
            Self::Io { .. } => "check the free space and the permissions of the cache directory".into(),
        }
    }
}
