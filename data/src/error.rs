//! The errors of this crate, each with the path or id it is about and a hint for the person who meets it.

use std::io;
use std::path::{Path, PathBuf};

/// A line of a file that could not be used; the lines around it still can.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {message}")]
pub struct LineError {
    /// The file as the caller named it.
    pub file: String,
    /// The line's number, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl LineError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        self.hint.clone()
    }
}

/// Why an operation on a home failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb: `read`, `append to`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// Another process holds the lock.
    #[error("{} is locked by {}", path.display(), match pid { Some(pid) => format!("process {pid}"), None => "another process".to_owned() })]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The process that wrote itself into it.
        pid: Option<u32>,
    },
    /// A line of the log cannot be read.
    #[error(transparent)]
    Line(#[from] LineError),
    /// `functions.json` cannot be used.
    #[error(transparent)]
    Functions(#[from] crate::functions::FunctionsError),
    /// No session of that id is in the log.
    #[error("no session {id} in {}", path.display())]
    UnknownSession {
        /// The id asked for.
        id: String,
        /// The directory of the sessions.
        path: PathBuf,
    },
    /// No interaction of that id is in the log.
    #[error("no interaction {id} in {}", path.display())]
    UnknownInteraction {
        /// The id asked for.
        id: String,
        /// The directory of the sessions.
        path: PathBuf,
    },
    /// A correction's arguments do not fit its utterance.
    #[error("correction of {interaction}: {source}")]
    Correction {
        /// The interaction that was corrected.
        interaction: String,
        /// What does not fit.
        #[source]
        source: crate::example::SlotError,
    },
    /// A record cannot be written as JSON.
    #[error("cannot write a record to {}: {source}", path.display())]
    Encode {
        /// The file it was meant for.
        path: PathBuf,
        /// The encoder's answer.
        #[source]
        source: serde_json::Error,
    },
    /// The log's git repository refused.
    #[cfg(feature = "git")]
    #[error("cannot {action} in the git repository {}: {}", path.display(), source.message())]
    Git {
        /// What was tried.
        action: &'static str,
        /// The repository.
        path: PathBuf,
        /// libgit2's answer.
        #[source]
        source: git2::Error,
    },
}

/// The result of an operation on a home.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// What the person who meets the error can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Io { source, path, .. } => io_hint(source, path),
            Self::Locked { pid: Some(pid), .. } => {
                format!("wait for process {pid} to end, or stop it, then try again")
            }
            Self::Locked { pid: None, .. } => "wait for the other process to end, then try again".to_owned(),
            Self::Line(error) => error.hint(),
            Self::Functions(error) => error.hint(),
            Self::UnknownSession { .. } => "list the sessions for their ids".to_owned(),
            Self::UnknownInteraction { .. } => "an interaction's id starts with i_ and is part of its reply".to_owned(),
            Self::Correction { source, .. } => source.hint(),
            Self::Encode { .. } => "leave out what JSON cannot hold".to_owned(),
            #[cfg(feature = "git")]
            Self::Git { source, path, .. } => git_hint(source, path),
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

fn io_hint(source: &io::Error, path: &Path) -> String {
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("make {} readable and writable for this user, or choose another home", path.display())
        }
        io::ErrorKind::NotFound => "check the path; a new home has to be created first".to_owned(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room on the disk and try again; what was written before is kept".to_owned()
        }
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only: choose another home".to_owned(),
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            format!("something else is at {}: move it away", path.display())
        }
        _ => "nothing that was acknowledged is lost; try again".to_owned(),
    }
}

#[cfg(feature = "git")]
fn git_hint(source: &git2::Error, path: &Path) -> String {
    match source.code() {
        git2::ErrorCode::Locked => {
            format!("end the git command that runs in {}, or remove its stale *.lock files", path.display())
        }
        _ => format!("check it with `git -C {} fsck`; the log's files themselves are untouched", path.display()),
    }
}
