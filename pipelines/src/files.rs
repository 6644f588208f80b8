//! Small files of a run directory.

use serde::Serialize;
use std::path::Path;

use crate::error::Error;

/// Writes `value` as indented JSON with a final newline.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|source| Error::Serialize { path: path.to_path_buf(), message: source.to_string() })?;
    bytes.push(b'\n');
    write(path, &bytes)
}

/// As [`write_json`], in place of what is there: a reader finds the old or the new, even after a kill.
pub(crate) fn replace_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let partial = path.with_extension("partial");
    write_json(&partial, value)?;
    std::fs::rename(&partial, path).map_err(|source| Error::Io { action: "write", path: path.to_path_buf(), source })
}

/// Writes `bytes`.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    std::fs::write(path, bytes).map_err(|source| Error::Io { action: "write", path: path.to_path_buf(), source })
}

/// Makes `path` and what leads to it.
pub(crate) fn create_directory(path: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(path).map_err(|source| Error::Io { action: "create", path: path.to_path_buf(), source })
}

/// Removes `path` and what is below it, if it is there.
pub(crate) fn remove_directory(path: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Io { action: "remove", path: path.to_path_buf(), source })
        }
        _ => Ok(()),
    }
}
