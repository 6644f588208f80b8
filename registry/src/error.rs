//! What can go wrong, in one enum, with what to do about it.
//!
//! Invariant: a message names the file, version or entry it is about and what was expected of it; [`Error::hint`]
//! says what a person can do next, and never repeats the message.

use std::io;
use std::path::{Path, PathBuf};

use crate::Digest;

/// The result of a registry operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation on the registry failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused a step.
    #[error("cannot {action} {}: {}", path.display(), plain(source))]
    Io {
        /// What was tried, as a verb phrase before the path: "write", "sync the directory".
        action: &'static str,
        /// The file or directory it was tried on.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// An object does not have the content its name promises.
    #[error("{} is corrupt in {}: expected sha256 {expected}, found {actual}", part(version, file), path.display())]
    Corrupt {
        /// The version the object belongs to, when it belongs to one.
        version: Option<String>,
        /// The file's name in the version, or what else the object is ("manifest").
        file: String,
        /// The object's path.
        path: PathBuf,
        /// The digest the manifest or the journal promises.
        expected: Box<Digest>,
        /// The digest of what is there.
        actual: Box<Digest>,
    },
    /// An object is not there.
    #[error("{} is missing: {} with sha256 {expected} does not exist", part(version, file), path.display())]
    MissingObject {
        /// The version the object belongs to, when it belongs to one.
        version: Option<String>,
        /// The file's name in the version, or what else the object is.
        file: String,
        /// Where the object should be.
        path: PathBuf,
        /// The digest the manifest or the journal promises.
        expected: Box<Digest>,
    },
    /// The journal is not the chain that was written.
    #[error("the journal is broken at entry {sequence} ({}): {fault}", path.display())]
    BrokenChain {
        /// The first entry that is wrong.
        sequence: u64,
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        fault: ChainFault,
    },
    /// Production changed since the caller looked.
    #[error("production changed: expected {}, found {}", short(expected), short(actual))]
    Conflict {
        /// What the caller expected to be in production.
        expected: Option<Digest>,
        /// What is in production.
        actual: Option<Digest>,
        /// What the caller wanted to be in production.
        wanted: Digest,
    },
    /// No version has this name, tag or digest.
    #[error("no version is called {wanted:?}")]
    UnknownVersion {
        /// What was asked for.
        wanted: String,
        /// The known name that is nearest to it.
        nearest: Option<String>,
    },
    /// Several versions have a digest that starts like this.
    #[error("{prefix} is the start of {} digests: {}", names.len(), names.join(", "))]
    AmbiguousDigest {
        /// What was asked for.
        prefix: String,
        /// The versions it could mean.
        names: Vec<String>,
    },
    /// Nothing was promoted yet.
    #[error("nothing is in production")]
    NoProduction,
    /// No base was registered yet.
    #[error("no base is registered")]
    NoBase,
    /// The version is quarantined and must not be served.
    #[error("{name} ({}) is quarantined", digest.short())]
    Quarantined {
        /// The version.
        name: String,
        /// Its digest.
        digest: Digest,
    },
    /// The version was deleted.
    #[error("{name} was deleted")]
    Deleted {
        /// The version.
        name: String,
    },
    /// The operation is not for the version in production.
    #[error("cannot {action} {name}: it is in production")]
    InProduction {
        /// The version.
        name: String,
        /// What was tried.
        action: &'static str,
    },
    /// A rollback goes only to a version that was in production before.
    #[error("cannot roll back to {name}: it was never in production")]
    NeverPromoted {
        /// The version.
        name: String,
    },
    /// No earlier version is left to roll back to.
    #[error("there is nothing to roll back to: no earlier version of production is fit to serve")]
    NothingToRollBackTo,
    /// Neither production nor any version promoted before it can be loaded.
    #[error("no promoted version can be loaded: {production} and {} before it fail verification", tried - 1)]
    NothingVerifies {
        /// The version in production.
        production: String,
        /// How many versions were tried.
        tried: usize,
        /// What is wrong with the one in production.
        source: Box<Error>,
    },
    /// The version has no file of this name.
    #[error("{version} has no file {file:?}")]
    UnknownFile {
        /// The version.
        version: String,
        /// The name.
        file: String,
    },
    /// A file was written by a later program.
    #[error("{} has schema {schema}; this program reads schema {supported}", path.display())]
    UnknownSchema {
        /// The file.
        path: PathBuf,
        /// The schema in the file.
        schema: u64,
        /// The schema this program reads.
        supported: u32,
    },
    /// An object has the right digest and is not a manifest.
    #[error("{} is not a manifest: {reason}", path.display())]
    InvalidManifest {
        /// The object's path.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file's name cannot go into a manifest.
    #[error("cannot register {}: {reason}", path.display())]
    InvalidFileName {
        /// The file.
        path: PathBuf,
        /// What is wrong with its name.
        reason: &'static str,
    },
    /// A file changed while it was stored.
    #[error("{} changed while it was being stored", path.display())]
    SourceChanged {
        /// The file.
        path: PathBuf,
    },
    /// The directory holds no file to register.
    #[error("{} holds no files to register", directory.display())]
    NothingToAdd {
        /// The directory.
        directory: PathBuf,
    },
    /// An export goes only into a new or empty directory.
    #[error("{} is not empty", directory.display())]
    NotEmpty {
        /// The directory.
        directory: PathBuf,
    },
    /// A text that cannot be a tag.
    #[error("{tag:?} cannot be a tag: {reason}")]
    InvalidTag {
        /// The text.
        tag: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// What is wrong with a journal entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainFault {
    /// The entry is gone while later ones, or what this process had read, say that it existed.
    #[error("the entry is missing")]
    Missing,
    /// The file is not an entry.
    #[error("not a journal entry: {reason}")]
    Unreadable {
        /// What is wrong with it.
        reason: String,
    },
    /// The entry was changed after it was written.
    #[error("the entry was changed: it says its sha256 is {expected}, and it is {actual}")]
    Changed {
        /// The digest the entry carries.
        expected: Box<Digest>,
        /// The digest of its content.
        actual: Box<Digest>,
    },
    /// The entry does not follow the one before it.
    #[error(
        "the entry does not follow the one before: it says sha256 {}, and that is {}",
        named(expected),
        named(actual)
    )]
    Unchained {
        /// The digest the entry names.
        expected: Option<Box<Digest>>,
        /// The digest of the entry before.
        actual: Option<Box<Digest>>,
    },
    /// The file's name and the entry disagree about its place.
    #[error("the file holds entry {actual}")]
    Misplaced {
        /// The sequence in the file.
        actual: u64,
    },
}

impl Error {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Io { source, path, .. } => return io_hint(source, path),
            Self::Corrupt { version, .. } | Self::MissingObject { version, .. } => {
                let copy = match version {
                    Some(version) => format!("the files of {version}"),
                    None => "the same files".to_owned(),
                };
                format!("register {copy} again to restore the object, or restore it from a backup")
            }
            Self::BrokenChain { fault, .. } => match fault {
                ChainFault::Missing => {
                    "restore the file from a backup of the journal; entries are never removed".to_owned()
                }
                _ => "restore the file from a backup of the journal; entries are never edited".to_owned(),
            },
            Self::Conflict { actual, wanted, .. } if actual.as_ref() == Some(wanted) => {
                "the version is in production already: nothing is left to do".to_owned()
            }
            Self::Conflict { .. } => "compare with what is in production now, and promote again".to_owned(),
            Self::UnknownVersion { nearest: Some(nearest), .. } => format!("did you mean {nearest}?"),
            Self::UnknownVersion { nearest: None, .. } => {
                "list the versions; a name like v12, a tag, production, base or 6 digits of a digest will do".to_owned()
            }
            Self::AmbiguousDigest { .. } => "give more digits, or the version's name".to_owned(),
            Self::NoProduction => "promote a version first".to_owned(),
            Self::NoBase => "register a base model first".to_owned(),
            Self::Quarantined { .. } => "choose another version; a quarantined one is never promoted".to_owned(),
            Self::Deleted { .. } => "register its files again; they get a new name".to_owned(),
            Self::InProduction { .. } => "roll back or promote another version first".to_owned(),
            Self::NeverPromoted { name } => format!("promote {name} instead"),
            Self::NothingToRollBackTo => "promote another version instead".to_owned(),
            Self::NothingVerifies { source, .. } => return source.hint(),
            Self::UnknownFile { version, .. } => format!("is {version} a model of the right kind?"),
            Self::UnknownSchema { .. } => "use the program that wrote it, or a later one".to_owned(),
            Self::InvalidManifest { .. } => "delete the version and register its files again".to_owned(),
            Self::InvalidFileName { .. } => "rename the file".to_owned(),
            Self::SourceChanged { .. } => "wait until nothing writes to it, and register it again".to_owned(),
            Self::NothingToAdd { .. } => "hidden files and *.tmp are left out; is it the right directory?".to_owned(),
            Self::NotEmpty { .. } => "choose a new directory".to_owned(),
            Self::InvalidTag { .. } => {
                "choose another one, of letters, digits, '-', '_' and '.', as in release-1".to_owned()
            }
        })
    }

    /// Wraps what the operating system said about a path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

fn io_hint(source: &io::Error, path: &Path) -> Option<String> {
    Some(match source.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("check who owns {} and may write there", path.display())
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space and repeat; what was stored before is intact".to_owned()
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            format!("{} is a file, or is inside one; choose a directory", path.display())
        }
        io::ErrorKind::ReadOnlyFilesystem => "choose a directory that can be written".to_owned(),
        io::ErrorKind::NotFound => "check the path".to_owned(),
        _ => return None,
    })
}

/// The common causes in plain words, the others as the operating system puts them.
fn plain(source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::StorageFull => "the disk is full".to_owned(),
        io::ErrorKind::QuotaExceeded => "the disk quota is used up".to_owned(),
        io::ErrorKind::NotADirectory => "not a directory".to_owned(),
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only".to_owned(),
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        _ => source.to_string(),
    }
}

fn part(version: &Option<String>, file: &str) -> String {
    match version {
        Some(version) => format!("{file} of {version}"),
        None => file.to_owned(),
    }
}

fn short(digest: &Option<Digest>) -> String {
    named(&digest.map(|digest| digest.short()))
}

fn named(digest: &Option<impl std::fmt::Display>) -> String {
    digest.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string)
}
