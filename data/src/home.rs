//! The home directory: where everything of one Mynah lies, and the locks on it.
//!
//! This module only knows paths, makes directories and takes locks. It reads neither the environment nor the
//! settings: which directory is the home is the caller's decision.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The paths of a home directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// The home at a path, which need not exist.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The settings, `mynah.toml`.
    pub fn settings_path(&self) -> PathBuf {
        self.root.join("mynah.toml")
    }

    /// What Mynah can do, `functions.json`.
    pub fn functions_path(&self) -> PathBuf {
        self.root.join("functions.json")
    }

    /// Texts to answer from.
    pub fn knowledge_dir(&self) -> PathBuf {
        self.root.join("knowledge")
    }

    /// The log, a git repository.
    pub fn log_dir(&self) -> PathBuf {
        self.root.join("log")
    }

    /// The sessions, `YYYY/MM/DD/<session>.jsonl` below it.
    pub fn sessions_dir(&self) -> PathBuf {
        sessions_dir(&self.log_dir())
    }

    /// The imported examples, a file an import.
    pub fn examples_dir(&self) -> PathBuf {
        self.log_dir().join("examples")
    }

    /// The imported answers, a line each.
    pub fn memory_path(&self) -> PathBuf {
        self.log_dir().join("memory.jsonl")
    }

    /// What the owner decided about single labels, a line each.
    pub fn decisions_path(&self) -> PathBuf {
        decisions_path(&self.log_dir())
    }

    /// The models.
    pub fn registry_dir(&self) -> PathBuf {
        self.root.join("registry")
    }

    /// The training runs.
    pub fn runs_dir(&self) -> PathBuf {
        self.root.join("runs")
    }

    /// What can be deleted at any time.
    pub fn cache_dir(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// What every version has to get right, `expectations.jsonl`.
    pub fn expectations_path(&self) -> PathBuf {
        self.root.join("expectations.jsonl")
    }

    /// Makes the directories that are missing, readable for this user only.
    ///
    /// # Errors
    /// The directory that cannot be made.
    pub fn create(&self) -> Result<()> {
        for directory in [
            self.root.clone(),
            self.knowledge_dir(),
            self.sessions_dir(),
            self.examples_dir(),
            self.registry_dir(),
            self.runs_dir(),
            self.cache_dir(),
        ] {
            create_private_dir(&directory).map_err(Error::io("create the directory", &directory))?;
        }
        Ok(())
    }

    /// Takes the lock `<name>.lock` for this process, which keeps it until the [`HomeLock`] is dropped or the process
    /// ends, however it ends.
    ///
    /// # Errors
    /// [`Error::Locked`] with the process that holds it.
    pub fn lock(&self, name: &str) -> Result<HomeLock> {
        let path = self.root.join(format!("{name}.lock"));
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(Error::io("open the lock", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let pid = read_pid(&mut file);
                return Err(Error::Locked { path, pid });
            }
            Err(TryLockError::Error(error)) => {
                return Err(Error::io("lock", &path)(error));
            }
        }
        // An old pid may be longer than ours.
        let written = file.set_len(0).and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes()));
        written.map_err(Error::io("write the lock", &path))?;
        Ok(HomeLock { path, _file: file })
    }
}

/// A lock on the home, held as long as this lives.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct HomeLock {
    path: PathBuf,
    _file: File,
}

impl HomeLock {
    /// The lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

pub(crate) fn decisions_path(log_dir: &Path) -> PathBuf {
    log_dir.join("labels.jsonl")
}

pub(crate) fn sessions_dir(log_dir: &Path) -> PathBuf {
    log_dir.join("sessions")
}

/// Makes a directory and its parents for this user only; one that exists keeps its permissions.
pub(crate) fn create_private_dir(directory: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

pub(crate) fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    // A pid is short, and what a person put there may not be.
    Read::by_ref(file).take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_private_and_creating_it_twice_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::new(directory.path().join("a/home"));
        home.create().unwrap();
        home.create().unwrap();
        assert!(home.sessions_dir().is_dir() && home.examples_dir().is_dir());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            for path in [home.root().to_owned(), home.sessions_dir()] {
                assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o700);
            }
        }
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("home"), "").unwrap();
        let error = Home::new(directory.path().join("home")).create().unwrap_err();
        let text = format!("{error}\nhint: {}", error.hint()).replace(&directory.path().display().to_string(), "DIR");
        insta::assert_snapshot!(text, @r"
        cannot create the directory DIR/home: File exists (os error 17)
        hint: something else is at DIR/home: move it away
        ");
    }

    #[test]
    fn one_lock_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::new(directory.path());
        let held = home.lock("home").unwrap();
        let error = home.lock("home").unwrap_err();
        assert!(matches!(&error, Error::Locked { pid, .. } if *pid == Some(std::process::id())), "{error}");
        let _other = home.lock("train").unwrap();
        drop(held);
        let _again = home.lock("home").unwrap();
    }
}
