//! Checks of downloaded files against what the hub announced.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::HubError;

/// The size of the file behind a path, links followed.
pub fn size_of(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|metadata| metadata.len())
}

/// Prepares a part file for a range request.
///
/// A part file that is already whole would make the hub answer 416; without its last byte it is resumed like any other. One
/// that is longer than the file is from something else.
pub fn make_resumable(part: &Path, size: u64) -> Result<(), HubError> {
    match size_of(part) {
        Some(length) if length > size => remove(part),
        Some(length) if length == size && size > 0 => OpenOptions::new()
            .write(true)
            .open(part)
            .and_then(|file| file.set_len(size - 1))
            .map_err(|source| HubError::io(part, source)),
        _ => Ok(()),
    }
}

/// Removes a file or link that may not exist.
pub fn remove(path: &Path) -> Result<(), HubError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(HubError::io(path, error)),
        _ => Ok(()),
    }
}

/// Compares a file with its announced size and, for an entity tag that is a SHA-256, its digest.
///
/// The inner error is what was expected and what was found.
pub fn matches(path: &Path, size: u64, etag: &str) -> Result<Result<(), (String, String)>, HubError> {
    let actual = size_of(path).unwrap_or(0);
    if actual != size {
        return Ok(Err((format!("{size} bytes"), format!("{actual} bytes"))));
    }
    // Large files carry their SHA-256; small ones the identifier of a git blob, for which the size must do.
    if etag.len() != 64 {
        return Ok(Ok(()));
    }
    let digest = sha256(path)?;
    Ok(if digest.eq_ignore_ascii_case(etag) {
        Ok(())
    } else {
        Err((format!("sha256 {etag}"), format!("sha256 {digest}")))
    })
}

fn sha256(path: &Path) -> Result<String, HubError> {
    let mut file = File::open(path).map_err(|source| HubError::io(path, source))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).map_err(|source| HubError::io(path, source))?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
