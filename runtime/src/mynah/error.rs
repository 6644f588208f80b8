//! What can go wrong in a conversation, and what went wrong without stopping it.

use std::path::PathBuf;

use crate::functions::InvalidSchema;
use crate::settings::SettingsError;

/// Why a home could not be opened, a reply not be given, or an opinion not be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MynahError {
    /// The model.
    #[error(transparent)]
    Model(#[from] crate::error::Error),
    /// The log, `functions.json` or another file of the home.
    #[error(transparent)]
    Data(#[from] mynah_data::Error),
    /// The registry.
    #[error(transparent)]
    Registry(#[from] mynah_registry::Error),
    /// `mynah.toml`.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The parameters of a function.
    #[error(transparent)]
    Schema(#[from] InvalidSchema),
    /// The starter model could not be put into a new home.
    #[error("cannot write the starter model to {}: {source}", path.display())]
    Starter {
        /// Where it was written to.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// A correction names a function that nobody knows.
    #[error("there is no function `{name}`")]
    UnknownFunction {
        /// The name.
        name: String,
        /// The nearest name there is.
        nearest: Option<String>,
    },
    /// A correction names words that were not said.
    #[error("`{words}` (argument `{argument}`) was not said in `{text}`")]
    WordsNotSaid {
        /// The argument.
        argument: String,
        /// The words it was given.
        words: String,
        /// What was said.
        text: String,
    },
    /// More turns came at once than are let wait.
    #[error("overloaded: {places} turns are at work or waiting")]
    Overloaded {
        /// How many may be at work or wait at a time.
        places: usize,
    },
    /// A session was used after its end.
    #[error("session {id} has ended")]
    SessionEnded {
        /// The session.
        id: String,
    },
}

impl MynahError {
    /// What a person can do about it.
    pub fn hint(&self) -> String {
        match self {
            // Its hint, where it has one, is part of the message.
            Self::Model(_) => "verify the models, or roll back to an earlier version".to_owned(),
            Self::Data(error) => error.hint(),
            Self::Registry(error) => error.hint().unwrap_or_else(|| "verify the models".to_owned()),
            Self::Settings(error) => error.hint(),
            Self::Schema(error) => format!("correct `parameters` of `{}` in functions.json", error.function),
            Self::Starter { .. } => "make room on the disk, or choose a home that can be written".to_owned(),
            Self::UnknownFunction { nearest: Some(nearest), .. } => format!("did you mean `{nearest}`?"),
            Self::UnknownFunction { nearest: None, .. } => "add it to functions.json first".to_owned(),
            Self::WordsNotSaid { .. } => "give the argument in the very words of the sentence".to_owned(),
            Self::Overloaded { .. } => {
                "try again in a moment; `max_waiting` in [runtime] says how many turns may wait".to_owned()
            }
            Self::SessionEnded { .. } => "start another session".to_owned(),
        }
    }
}

/// Something that could not be used and was passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// What it was.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Warning {
    pub(crate) fn new(message: String) -> Self {
        Self { message, hint: None }
    }

    pub(crate) fn from_error(what: &str, error: &MynahError) -> Self {
        Self { message: format!("{what}: {error}"), hint: Some(error.hint()) }
    }
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.hint {
            Some(hint) => write!(f, "{}\nhint: {hint}", self.message),
            None => f.write_str(&self.message),
        }
    }
}
