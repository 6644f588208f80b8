//! Small files of the controller that are there whole or not at all, also after a kill or a power cut.
//!
//! Invariant: after [`replace`] returned, the file has its new content on the disk; before that, the old.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context as _;

use crate::fault::FaultPoint;

/// Names of the steps, in their order, for [`crate::fault`].
pub const STEPS: [&str; 3] = ["control.write", "control.rename", "control.sync_directory"];

/// Replaces a file as a whole and waits until it is on the disk. Its directory is made for this user only.
///
/// # Errors
/// The path, and what the system said.
pub fn replace(path: &Path, bytes: &[u8], fault: &FaultPoint) -> anyhow::Result<()> {
    written(path, bytes, fault, true).with_context(|| format!("cannot write {}", path.display()))
}

/// The same without waiting for the disk: for what may be lost, but not be torn.
///
/// # Errors
/// The path, and what the system said.
pub fn replace_soon(path: &Path, bytes: &[u8], fault: &FaultPoint) -> anyhow::Result<()> {
    written(path, bytes, fault, false).with_context(|| format!("cannot write {}", path.display()))
}

/// Reads a JSON file; `None` when there is none.
///
/// # Errors
/// When it cannot be read or is not what it should be.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<Option<T>> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.with_context(|| format!("cannot read {}", path.display()))?,
    };
    Ok(Some(serde_json::from_slice(&bytes).with_context(|| format!("cannot use {}", path.display()))?))
}

fn written(path: &Path, bytes: &[u8], fault: &FaultPoint, wait: bool) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    create_private(directory)?;
    fault(STEPS[0])?;
    let mut file = tempfile::Builder::new().prefix(".tmp-").tempfile_in(directory)?;
    file.write_all(bytes)?;
    if wait {
        file.as_file().sync_all()?;
    }
    fault(STEPS[1])?;
    file.persist(path).map_err(|error| error.error)?;
    if wait && cfg!(unix) {
        fault(STEPS[2])?;
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

fn create_private(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_step_that_fails_leaves_the_old_or_the_new_content() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/state.json");
        replace(&path, b"1", &(Arc::new(|_| Ok(())) as FaultPoint)).unwrap();
        for (step, left) in STEPS.into_iter().zip([1, 1, 2]) {
            let fault: FaultPoint = Arc::new(move |name| match name == step {
                true => Err(io::ErrorKind::StorageFull.into()),
                false => Ok(()),
            });
            assert!(replace(&path, b"2", &fault).unwrap_err().to_string().contains("state.json"));
            assert_eq!(read_json::<u32>(&path).unwrap(), Some(left), "{step}");
            replace(&path, b"1", &(Arc::new(|_| Ok(())) as FaultPoint)).unwrap();
        }
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing temporary is left");
        assert_eq!(read_json::<u32>(&directory.path().join("none")).unwrap(), None);
    }
}
