//! Export: a version as a plain directory that other programs can read.
//!
//! The directory is filled under a temporary name beside its final one. Invariant: the final name is a complete,
//! verified copy or does not exist.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::durable::{TEMPORARY_PREFIX, sync_directory};
use crate::objects::{Owner, Target};
use crate::{Digest, Error, Registry, Result, Status, Version, fault};

impl Registry {
    /// Copies the files of a version into a new or empty directory, under their own names.
    ///
    /// # Errors
    /// [`Error::NotEmpty`], [`Error::Deleted`]; [`Error::Corrupt`] and [`Error::MissingObject`] as for
    /// [`Registry::verify`]: then nothing is left behind.
    pub fn export(&self, version: &Version, to: &Path) -> Result<()> {
        if version.status == Status::Deleted {
            return Err(Error::Deleted { name: version.name.clone() });
        }
        let files = self.manifest(&version.name, &version.manifest_digest)?.files;
        let fault = &self.inner.fault;
        let (to, parent) = destination(to)?;
        fault(fault::EXPORT_CREATE).map_err(Error::io("create the directory", &to))?;
        fs::create_dir_all(&parent).map_err(Error::io("create the directory", &parent))?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(TEMPORARY_PREFIX);
        #[cfg(unix)]
        let builder = {
            use std::os::unix::fs::PermissionsExt;
            // The usual directory, as the umask allows; temporary directories are private otherwise.
            builder.permissions(fs::Permissions::from_mode(0o777))
        };
        let temporary = builder.tempdir_in(&parent).map_err(Error::io("create a directory in", &parent))?;
        for (file, entry) in &files {
            self.export_file(&entry.sha256, Owner { version: Some(&version.name), file }, temporary.path())?;
        }
        sync_directory(temporary.path(), fault::EXPORT_SYNC_DIRECTORY, fault)?;
        // A rename replaces an empty directory on Unix only.
        let make_way = || match to.is_dir() && !cfg!(unix) {
            true => fs::remove_dir(&to),
            false => Ok(()),
        };
        fault(fault::EXPORT_RENAME)
            .and_then(|()| make_way())
            .and_then(|()| fs::rename(temporary.path(), &to))
            .map_err(Error::io("create the directory", &to))?;
        // It has its final name now: nothing is left to clean up.
        let _ = temporary.keep();
        sync_directory(&parent, fault::EXPORT_SYNC_DIRECTORY, fault)
    }

    fn export_file(&self, digest: &Digest, owner: Owner, directory: &Path) -> Result<()> {
        let fault = &self.inner.fault;
        let path = directory.join(owner.file);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(Error::io("create the directory", parent))?;
        }
        let file = fault(fault::EXPORT_WRITE).and_then(|()| File::create_new(&path));
        let mut file = file.map_err(Error::io("write", &path))?;
        self.inner.objects.copy(digest, owner, &mut Target::new(&path, &mut file))?;
        fault(fault::EXPORT_SYNC).and_then(|()| file.sync_all()).map_err(Error::io("sync", &path))
    }
}

/// The directory to create and the one it is in, with the links and dots of the existing part resolved.
fn destination(to: &Path) -> Result<(PathBuf, PathBuf)> {
    let resolved = match fs::read_dir(to).map(Iterator::count) {
        Ok(1..) => {
            return Err(Error::NotEmpty { directory: to.to_owned() });
        }
        Ok(_) => to.canonicalize(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => std::path::absolute(to),
        Err(error) => Err(error),
    };
    let resolved = resolved.map_err(Error::io("create the directory", to))?;
    match resolved.parent() {
        Some(parent) => Ok((resolved.clone(), parent.to_owned())),
        None => Err(Error::NotEmpty { directory: resolved }),
    }
}
