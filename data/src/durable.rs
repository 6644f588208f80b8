//! Writes that survive a killed process and a cut cable.
//!
//! Two shapes: a file that only grows by whole lines ([`LineFile`]), and a file that is replaced as a whole
//! ([`replace_file`]). *Invariant:* when a call returns `Ok`, its bytes and the names that lead to them are on the
//! disk, unless the file was opened to be synced behind the writer ([`crate::behind`]); when it returns an error, the file
//! ends with the last whole line that was acknowledged before.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::behind::{Behind, SyncThread};
use crate::error::{Error, Result};
use crate::fault::FaultPoint;
use crate::home::create_private_dir;

/// The names of a [`LineFile`]'s durable steps.
#[derive(Debug)]
pub(crate) struct Steps {
    pub create: &'static str,
    pub append: &'static str,
    pub sync: &'static str,
    pub truncate: &'static str,
    pub sync_directory: &'static str,
}

pub(crate) const LOG_STEPS: Steps = Steps {
    create: "log.create",
    append: "log.append",
    sync: "log.sync",
    truncate: "log.truncate",
    sync_directory: "log.sync_directory",
};

pub(crate) const MEMORY_STEPS: Steps = Steps {
    create: "memory.create",
    append: "memory.append",
    sync: "memory.sync",
    truncate: "memory.truncate",
    sync_directory: "memory.sync_directory",
};

/// A file of lines that several processes append to.
pub(crate) struct LineFile {
    file: File,
    path: PathBuf,
    fault: FaultPoint,
    steps: &'static Steps,
    /// The length after the last append: a file that still has it ends with a whole line.
    whole: Option<u64>,
    /// Who syncs what was appended; `None`: the append itself does, before it returns.
    behind: Option<(Arc<Behind>, SyncThread)>,
}

impl LineFile {
    /// Makes a new file, its directories and the names that lead to it. With a `thread` that is what makes them durable.
    pub(crate) fn create(
        path: &Path,
        steps: &'static Steps,
        fault: FaultPoint,
        thread: Option<SyncThread>,
    ) -> Result<LineFile> {
        let parent = path.parent().unwrap_or(Path::new("."));
        fault(steps.create).map_err(Error::io("create", path))?;
        let made = missing_directories(parent);
        create_private_dir(parent).map_err(Error::io("create the directory", parent))?;
        let file = options().create_new(true).open(path).map_err(Error::io("create", path))?;
        let directories: Vec<PathBuf> = std::iter::once(parent.to_owned()).chain(made).collect();
        let named = match &thread {
            Some(_) => Ok(()),
            None => fault(steps.sync_directory)
                .and_then(|()| directories.iter().try_for_each(|directory| sync_directory(directory))),
        };
        let lines = named.and_then(|()| Self::of(file, path, steps, fault, thread.map(|thread| (thread, directories))));
        lines.map_err(|error| {
            // Nothing was acknowledged yet: an empty file would look like a session that was cut off.
            let _ = std::fs::remove_file(path);
            Error::io("make durable", parent)(error)
        })
    }

    fn of(
        file: File,
        path: &Path,
        steps: &'static Steps,
        fault: FaultPoint,
        thread: Option<(SyncThread, Vec<PathBuf>)>,
    ) -> io::Result<LineFile> {
        let behind = match thread {
            Some((thread, directories)) => {
                Some((Behind::new(file.try_clone()?, fault.clone(), steps, directories), thread))
            }
            None => None,
        };
        Ok(LineFile { file, path: path.to_owned(), fault, steps, whole: None, behind })
    }

    /// Opens a file that exists, and cuts off what a killed writer left of a line.
    pub(crate) fn open(
        path: &Path,
        steps: &'static Steps,
        fault: FaultPoint,
        thread: Option<SyncThread>,
    ) -> Result<LineFile> {
        let file = options().open(path).map_err(Error::io("open", path))?;
        let thread = thread.map(|thread| (thread, Vec::new()));
        let mut lines = Self::of(file, path, steps, fault, thread).map_err(Error::io("open", path))?;
        lines.locked(|lines| lines.drop_torn_line().map(|_| ()))?;
        Ok(lines)
    }

    /// Opens a file or makes it.
    pub(crate) fn open_or_create(path: &Path, steps: &'static Steps, fault: FaultPoint) -> Result<LineFile> {
        match Self::open(path, steps, fault.clone(), None) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                match Self::create(path, steps, fault.clone(), None) {
                    // Another process was quicker.
                    Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                        Self::open(path, steps, fault, None)
                    }
                    result => result,
                }
            }
            result => result,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends whole lines with one write, and returns when they are on the disk, or with the system when the file is synced
    /// behind the writer; a failure of that is returned here, and nothing is appended then.
    ///
    /// When that fails, the file is cut back to where it was.
    pub(crate) fn append(&mut self, lines: &[u8]) -> Result<()> {
        if let Some(error) = self.behind.as_ref().and_then(|(behind, _)| behind.failure()) {
            return Err(Error::io("make durable", &self.path)(error));
        }
        self.all_or_nothing(|file| {
            file.write(lines)?;
            Ok(lines.len() as u64)
        })
    }

    /// Appends all whole lines of a reader in writes of up to `chunk_bytes`, all or nothing.
    pub(crate) fn append_from(&mut self, reader: &mut dyn Read, chunk_bytes: usize) -> Result<()> {
        self.all_or_nothing(|file| {
            let mut chunk = vec![0; chunk_bytes];
            let mut written = 0;
            loop {
                let length = read_full(reader, &mut chunk)?;
                if length == 0 {
                    return Ok(written);
                }
                file.write(&chunk[..length])?;
                written += length as u64;
            }
        })
    }

    /// Waits until everything that was appended is on the disk.
    pub(crate) fn settle(&self) -> Result<()> {
        let settled = self.behind.as_ref().map_or(Ok(()), |(behind, _)| behind.settle());
        settled.map_err(Error::io("make durable", &self.path))
    }

    /// Appends what `write` writes, whose length it returns.
    fn all_or_nothing(&mut self, write: impl FnOnce(&mut Self) -> io::Result<u64>) -> Result<()> {
        self.locked(|file| {
            let end = file.drop_torn_line()?;
            let written = write(file).and_then(|length| file.sync().map(|()| length));
            match written {
                Ok(length) => file.whole = Some(end + length),
                // A failure here leaves what a kill would leave: the next writer cuts a torn line off.
                Err(_) => {
                    let _ = file.truncate(end);
                }
            }
            written.map(|_| ())
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        (self.fault)(self.steps.append)?;
        self.file.write_all(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        match &self.behind {
            Some((behind, thread)) => {
                behind.sync_soon(thread);
                Ok(())
            }
            None => {
                (self.fault)(self.steps.sync)?;
                self.file.sync_data()
            }
        }
    }

    /// Runs a step while no other process appends to the file.
    fn locked(&mut self, step: impl FnOnce(&mut Self) -> io::Result<()>) -> Result<()> {
        let result = self.file.lock().and_then(|()| {
            let result = step(self);
            let unlocked = self.file.unlock();
            result.and(unlocked)
        });
        result.map_err(Error::io("append to", &self.path))
    }

    /// Returns the length up to the last newline, and cuts off what follows.
    fn drop_torn_line(&mut self) -> io::Result<u64> {
        let length = self.file.metadata()?.len();
        if self.whole == Some(length) {
            return Ok(length);
        }
        let end = whole_lines(&mut self.file, length)?;
        if end < length {
            self.truncate(end)?;
        }
        Ok(end)
    }

    fn truncate(&mut self, end: u64) -> io::Result<()> {
        self.whole = None;
        (self.fault)(self.steps.truncate)?;
        self.file.set_len(end)?;
        self.file.sync_data()
    }
}

/// The length of a file up to and with its last newline.
pub(crate) fn whole_lines(file: &mut File, length: u64) -> io::Result<u64> {
    const BLOCK: u64 = 64 * 1024;
    let mut end = length;
    // Nearly always the last byte is the newline.
    let mut size = 1;
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(size);
        block.resize((end - start) as usize, 0);
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut block)?;
        if let Some(at) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
        size = BLOCK;
    }
    Ok(0)
}

/// Reads until the buffer is full or the reader ends.
fn read_full(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match reader.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// Gives a finished temporary file its name, so that the name always has either the old or the new content.
pub(crate) fn replace_file(temporary: tempfile::NamedTempFile, path: &Path, fault: &FaultPoint) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    fault("import.sync").and_then(|()| temporary.as_file().sync_all()).map_err(Error::io("write", path))?;
    fault("import.rename")
        .and_then(|()| temporary.persist(path).map_err(|error| error.error))
        .map_err(Error::io("replace", path))?;
    fault("import.sync_directory").and_then(|()| sync_directory(parent)).map_err(Error::io("make durable", parent))
}

/// Makes a directory's names durable.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    // Other systems do not open directories, and make names durable themselves.
    if cfg!(unix) {
        let directory = match directory.as_os_str().is_empty() {
            true => Path::new("."),
            false => directory,
        };
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// The parents of the directories that have to be made, which will hold new names.
fn missing_directories(directory: &Path) -> Vec<PathBuf> {
    directory
        .ancestors()
        .take_while(|ancestor| !ancestor.as_os_str().is_empty() && !ancestor.exists())
        .filter_map(|missing| missing.parent().map(Path::to_owned))
        .collect()
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true);
    options
}

impl Drop for LineFile {
    fn drop(&mut self) {
        // Nobody is left to be told of a failure; waiting alone is what keeps the promise.
        let _ = self.settle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_newline_is_found_across_blocks() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lines");
        for (whole, torn) in [(0, 0), (0, 7), (3, 0), (3, 1), (70_000, 200_000)] {
            let mut bytes = vec![b'x'; whole];
            if let Some(last) = bytes.last_mut() {
                *last = b'\n';
            }
            bytes.extend(vec![b'y'; torn]);
            std::fs::write(&path, &bytes).unwrap();
            let mut file = File::open(&path).unwrap();
            assert_eq!(whole_lines(&mut file, bytes.len() as u64).unwrap(), whole as u64);
        }
    }
}
