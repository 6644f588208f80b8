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

/// Writes `bytes`.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    std::fs::write(path, bytes).map_err(|source| Error::Io { action: "write", path: path.to_path_buf(), source })
}

/// Makes `path` and what leads to it.
pub(crate) fn create_directory(path: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(path).map_err(|source| Error::Io { action: "create", path: path.to_path_buf(), source })
}
