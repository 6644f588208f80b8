//! Named points before every durable step, where a test injects an error or ends the process.
//!
//! A point is called right before its step; an error it returns is handled as if the disk had returned it. Invariant:
//! every step the crate takes on the disk has its name in [`STEPS`].

use std::io;
use std::sync::Arc;

/// Called with the name of a step right before the step; an error stands for the disk's.
pub type FaultPoint = Arc<dyn Fn(&'static str) -> io::Result<()> + Send + Sync>;

/// The names of all durable steps.
pub const STEPS: &[&str] = &[
    DIRECTORY_CREATE,
    DIRECTORY_SYNC,
    OBJECT_WRITE,
    OBJECT_SYNC,
    OBJECT_RENAME,
    OBJECT_SYNC_DIRECTORY,
    JOURNAL_WRITE,
    JOURNAL_SYNC,
    JOURNAL_CREATE,
    JOURNAL_SYNC_DIRECTORY,
    GARBAGE_REMOVE,
    GARBAGE_SYNC_DIRECTORY,
    EXPORT_CREATE,
    EXPORT_WRITE,
    EXPORT_SYNC,
    EXPORT_RENAME,
    EXPORT_SYNC_DIRECTORY,
];

pub(crate) const DIRECTORY_CREATE: &str = "directory.create";
pub(crate) const DIRECTORY_SYNC: &str = "directory.sync";
pub(crate) const OBJECT_WRITE: &str = "object.write";
pub(crate) const OBJECT_SYNC: &str = "object.sync";
pub(crate) const OBJECT_RENAME: &str = "object.rename";
pub(crate) const OBJECT_SYNC_DIRECTORY: &str = "object.sync_directory";
pub(crate) const JOURNAL_WRITE: &str = "journal.write";
pub(crate) const JOURNAL_SYNC: &str = "journal.sync";
pub(crate) const JOURNAL_CREATE: &str = "journal.create";
pub(crate) const JOURNAL_SYNC_DIRECTORY: &str = "journal.sync_directory";
pub(crate) const GARBAGE_REMOVE: &str = "garbage.remove";
pub(crate) const GARBAGE_SYNC_DIRECTORY: &str = "garbage.sync_directory";
pub(crate) const EXPORT_CREATE: &str = "export.create";
pub(crate) const EXPORT_WRITE: &str = "export.write";
pub(crate) const EXPORT_SYNC: &str = "export.sync";
pub(crate) const EXPORT_RENAME: &str = "export.rename";
pub(crate) const EXPORT_SYNC_DIRECTORY: &str = "export.sync_directory";

/// The fault point that lets every step through.
pub fn none() -> FaultPoint {
    Arc::new(|_| Ok(()))
}
