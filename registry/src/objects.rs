//! The object store: read-only files named by the SHA-256 of their content, in 256 directories.
//!
//! Everything is streamed, so an object may be larger than memory. It knows nothing of versions; callers say whose
//! object it is, for the errors. Invariant: a name is given only to synced content with that digest; an object that no
//! longer has it is damaged, is reported by every reader, and is replaced by the next put of the same content.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::digest::copy_hashed;
use crate::durable::{ensure_directory, list, sync_directory, temporary_file};
use crate::fault::{self, FaultPoint};
use crate::{Digest, Error, FileEntry, Result};

/// The objects of a registry.
pub(crate) struct ObjectStore {
    directory: PathBuf,
    fault: FaultPoint,
}

/// Whose object it is: what an error calls it.
#[derive(Clone, Copy)]
pub(crate) struct Owner<'a> {
    pub version: Option<&'a str>,
    pub file: &'a str,
}

/// Where new content comes from. It is read twice: once for its name, once to store it.
enum Source<'a> {
    Bytes(&'a [u8]),
    File(&'a Path),
}

impl Source<'_> {
    fn copy_to(&self, to: &mut Target) -> Result<(Digest, u64)> {
        match self {
            Self::Bytes(bytes) => copy(*bytes, Path::new("memory"), to),
            Self::File(path) => copy(File::open(path).map_err(Error::io("read", path))?, path, to),
        }
    }

    fn changed(&self) -> Error {
        let path = match self {
            Self::Bytes(_) => PathBuf::from("memory"),
            Self::File(path) => path.to_path_buf(),
        };
        Error::SourceChanged { path }
    }
}

/// Copies and hashes a stream; the error names the side that failed.
fn copy(from: impl io::Read, path: &Path, to: &mut Target) -> Result<(Digest, u64)> {
    copy_hashed(from, to).map_err(|error| match to.failed {
        true => Error::io("write", to.path)(error),
        false => Error::io("read", path)(error),
    })
}

/// A file in the object store.
pub(crate) struct StoredFile {
    pub path: PathBuf,
    pub size_bytes: u64,
    /// `None`: an unfinished file or one that is no object.
    pub digest: Option<Digest>,
    pub name: OsString,
}

impl ObjectStore {
    /// Opens the store, and creates its directory when it is missing.
    pub fn open(directory: PathBuf, fault: FaultPoint) -> Result<Self> {
        ensure_directory(&directory, &fault)?;
        Ok(Self { directory, fault })
    }

    /// The directory that holds an object of the given digest.
    fn shard(&self, digest: &Digest) -> PathBuf {
        self.directory.join(format!("{:02x}", digest.as_bytes()[0]))
    }

    /// Where an object of the given digest is, or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.shard(digest).join(digest.to_string())
    }

    /// Stores bytes durably.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<FileEntry> {
        self.put(&Source::Bytes(bytes))
    }

    /// Stores a file's content durably.
    pub fn put_file(&self, path: &Path) -> Result<FileEntry> {
        self.put(&Source::File(path))
    }

    fn put(&self, source: &Source) -> Result<FileEntry> {
        let (sha256, size_bytes) = source.copy_to(&mut Target::nowhere(&mut io::sink()))?;
        let entry = FileEntry { sha256, size_bytes };
        if !self.holds(&entry) {
            self.write(source, &entry)?;
        }
        // Also when it was there: whoever stored it may have been stopped before its name was durable.
        sync_directory(&self.shard(&sha256), fault::OBJECT_SYNC_DIRECTORY, &self.fault)?;
        sync_directory(&self.directory, fault::OBJECT_SYNC_DIRECTORY, &self.fault)?;
        Ok(entry)
    }

    /// Whether the object is there and undamaged. One that cannot be read counts as damaged.
    fn holds(&self, entry: &FileEntry) -> bool {
        let path = self.path(&entry.sha256);
        fs::metadata(&path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == entry.size_bytes)
            && File::open(&path).and_then(Digest::of_reader).is_ok_and(|(actual, _)| actual == entry.sha256)
    }

    fn write(&self, source: &Source, entry: &FileEntry) -> Result<()> {
        let (shard, path) = (self.shard(&entry.sha256), self.path(&entry.sha256));
        ensure_directory(&shard, &self.fault)?;
        (self.fault)(fault::OBJECT_WRITE).map_err(Error::io("write", &path))?;
        let mut temporary = temporary_file(&shard)?;
        let (copied, _) = source.copy_to(&mut Target::new(&path, temporary.as_file_mut()))?;
        if copied != entry.sha256 {
            return Err(source.changed());
        }
        (self.fault)(fault::OBJECT_SYNC)
            .and_then(|()| temporary.as_file().sync_all())
            .map_err(Error::io("sync", &path))?;
        (self.fault)(fault::OBJECT_RENAME).map_err(Error::io("write", &path))?;
        let refused = match temporary.persist_noclobber(&path) {
            Ok(_) => return Ok(()),
            Err(refused) => refused,
        };
        // Another writer was first, or the object is damaged: either way this content is what belongs there.
        match refused.error.kind() {
            io::ErrorKind::AlreadyExists => refused.file.persist(&path).map_err(|refused| refused.error),
            _ => Err(refused.error),
        }
        .map_err(Error::io("write", &path))?;
        Ok(())
    }

    /// Opens an object to be read, without checking its content.
    fn open_object(&self, digest: &Digest, owner: Owner) -> Result<(File, PathBuf)> {
        let path = self.path(digest);
        match File::open(&path) {
            Ok(file) => Ok((file, path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::MissingObject {
                version: owner.version.map(str::to_owned),
                file: owner.file.to_owned(),
                path,
                expected: Box::new(*digest),
            }),
            Err(error) => Err(Error::io("read", &path)(error)),
        }
    }

    /// Copies an object's content, and fails when it does not have its digest.
    ///
    /// What was written must not be used when this fails.
    pub fn copy(&self, digest: &Digest, owner: Owner, to: &mut Target) -> Result<u64> {
        let (file, path) = self.open_object(digest, owner)?;
        let (actual, size_bytes) = copy(file, &path, to)?;
        if actual != *digest {
            return Err(Error::Corrupt {
                version: owner.version.map(str::to_owned),
                file: owner.file.to_owned(),
                path,
                expected: Box::new(*digest),
                actual: Box::new(actual),
            });
        }
        Ok(size_bytes)
    }

    /// Hashes an object and fails when it does not have its digest.
    pub fn check(&self, digest: &Digest, owner: Owner) -> Result<u64> {
        self.copy(digest, owner, &mut Target::nowhere(&mut io::sink()))
    }

    /// Reads an object whole, and fails when it does not have its digest.
    pub fn read(&self, digest: &Digest, owner: Owner) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.copy(digest, owner, &mut Target::nowhere(&mut bytes))?;
        Ok(bytes)
    }

    /// Every file in the store, in order of its name.
    pub fn files(&self) -> Result<Vec<StoredFile>> {
        let mut files = Vec::new();
        for shard in list(&self.directory)? {
            if !shard.path().is_dir() {
                continue;
            }
            for file in list(&shard.path())? {
                let path = file.path();
                let metadata = match file.metadata() {
                    Ok(metadata) => metadata,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(Error::io("read", &path)(error)),
                };
                let name = file.file_name();
                let digest = name.to_str().and_then(|name| name.parse().ok());
                // An object in a directory that is not its own is never read, and so is none.
                let digest = digest.filter(|digest| metadata.is_file() && self.path(digest) == path);
                files.push(StoredFile { path, size_bytes: metadata.len(), digest, name });
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }
}

/// What an object is copied to; remembers whether it was the target that failed.
pub(crate) struct Target<'a> {
    path: &'a Path,
    writer: &'a mut dyn Write,
    failed: bool,
}

impl<'a> Target<'a> {
    /// A target, and the path its errors name.
    pub fn new(path: &'a Path, writer: &'a mut dyn Write) -> Self {
        Self { path, writer, failed: false }
    }

    /// A target that is no file and does not fail.
    fn nowhere(writer: &'a mut dyn Write) -> Self {
        Self::new(Path::new("memory"), writer)
    }
}

impl Write for Target<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.writer.write(bytes);
        self.failed = written.is_err();
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}
