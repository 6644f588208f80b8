//! Durable steps on the disk: directories, and files that appear whole or not at all.
//!
//! A file is written under a temporary name in its final directory, synced, and only then given its name. Invariant: a
//! name that does not start with [`TEMPORARY_PREFIX`] is a complete file. Directories are synced on Unix, where that is
//! what makes a name durable.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::fault::{self, FaultPoint};
use crate::{Error, Result};

/// How the names of unfinished files start; readers skip them and garbage collection removes them.
pub(crate) const TEMPORARY_PREFIX: &str = ".tmp-";

/// Creates a directory when it is missing, and makes its name durable.
pub(crate) fn ensure_directory(directory: &Path, fault: &FaultPoint) -> Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let create = Error::io("create the directory", directory);
    if let Err(error) = fault(fault::DIRECTORY_CREATE).and_then(|()| fs::create_dir_all(directory)) {
        // A file in the way is reported by some systems as "exists": what matters is that it is no directory.
        return Err(create(match error.kind() {
            io::ErrorKind::AlreadyExists => io::ErrorKind::NotADirectory.into(),
            _ => error,
        }));
    }
    match directory.parent() {
        Some(parent) => sync_directory(parent, fault::DIRECTORY_SYNC, fault),
        None => Ok(()),
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(directory: &Path, step: &'static str, fault: &FaultPoint) -> Result<()> {
    // The parent of a relative path of one component is the empty path: the current directory.
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    fault(step)
        .and_then(|()| if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) })
        .map_err(Error::io("sync the directory", directory))
}

/// An unfinished, read-only file in the directory where it will get its name.
pub(crate) fn temporary_file(directory: &Path) -> Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY_PREFIX);
    #[cfg(unix)]
    let builder = {
        use std::os::unix::fs::PermissionsExt;
        // Readable by whom the umask lets, written by nobody: objects and entries never change.
        builder.permissions(fs::Permissions::from_mode(0o444))
    };
    builder.tempfile_in(directory).map_err(Error::io("create a file in", directory))
}

/// Whether a file's name is that of an unfinished file.
pub(crate) fn is_temporary(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().starts_with(TEMPORARY_PREFIX.as_bytes())
}

/// The entries of a directory, none when it does not exist.
pub(crate) fn list(directory: &Path) -> Result<Vec<fs::DirEntry>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("list", directory)(error)),
    };
    entries.collect::<io::Result<_>>().map_err(Error::io("list", directory))
}
