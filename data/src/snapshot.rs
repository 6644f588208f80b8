//! The log as a git repository: a commit for what was added since the last one.
//!
//! Trees are built object by object and the branch is moved last, in one step of git's own, so a snapshot that is
//! killed leaves the commit before it. No index is needed; one is written afterwards for people's `git status`, and
//! nothing depends on it. Nobody's git configuration is needed either.
//!
//! *Invariant:* a commit holds whole lines only, whatever is being written meanwhile.
//!
//! A killed process can leave git's `*.lock` files. The caller holds a lock of the home ([`Home::lock`]): lock files
//! in the repository that are older than that are nobody's, and are removed. Without a lock of the home nothing is.

mod message;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use git2::{ConfigLevel, ErrorCode, Oid, Repository, RepositoryInitOptions, Signature, Time};
use jiff::Timestamp;

use crate::durable::sync_directory;
use crate::error::{Error, Result};
use crate::fault::{self, FaultPoint};
use crate::home::{Home, create_private_dir, read_pid};

const BRANCH: &str = "refs/heads/main";
const NAME: &str = "Mynah";
const EMAIL: &str = "mynah@localhost";

/// A commit of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its id, in hexadecimal.
    pub id: String,
    /// What it says: how many records and sessions, then a line for each session and file.
    pub message: String,
}

/// Commits what has changed in the log since the last snapshot; `None` when nothing has.
///
/// The repository is made when it is missing. `author` is who the commit says it is by, `Mynah` when it is empty.
/// A file that has the size it had in the last snapshot and was last written before it is taken as unchanged.
///
/// # Errors
/// When a file cannot be read, or git refuses; the last snapshot stays as it was.
pub fn snapshot(home: &Home, author: &str) -> Result<Option<Commit>> {
    snapshot_with(home, author, &fault::none())
}

/// [`snapshot`] with fault points.
///
/// # Errors
/// When a file cannot be read, or git refuses; the last snapshot stays as it was.
pub fn snapshot_with(home: &Home, author: &str, fault: &FaultPoint) -> Result<Option<Commit>> {
    let log_dir = home.log_dir();
    let git = Git { directory: &log_dir, fault };
    let repository = git.open_or_init()?;
    if let Some(locked) = locked_since(home) {
        remove_stale_locks(repository.path(), locked);
    }
    let parent = git.head(&repository)?;
    let old_tree = match &parent {
        Some(commit) => Some(commit.tree().map_err(git.error("read the last commit"))?),
        None => None,
    };
    let since = parent.as_ref().map(|commit| commit.time().seconds());
    let (tree, changes) = tree::build(&git, &repository, old_tree.as_ref(), since)?;
    if old_tree.as_ref().map(git2::Tree::id) == Some(tree) || changes.is_empty() {
        return Ok(None);
    }
    let message = message::of(&changes);
    let id = git.commit(&repository, parent.as_ref(), tree, author, &message)?;
    git.write_index(&repository, tree);
    Ok(Some(Commit { id: id.to_string(), message }))
}

/// The id of the last snapshot; `None` before the first.
///
/// # Errors
/// When git refuses.
pub fn head(home: &Home) -> Result<Option<String>> {
    let log_dir = home.log_dir();
    let git = Git { directory: &log_dir, fault: &fault::none() };
    match git.open() {
        Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
        Err(error) => Err(git.error("open the log")(error)),
        Ok(repository) => Ok(git.head(&repository)?.map(|commit| commit.id().to_string())),
    }
}

/// The repository's directory, for errors, and the fault points.
struct Git<'a> {
    directory: &'a Path,
    fault: &'a FaultPoint,
}

impl Git<'_> {
    fn error(&self, action: &'static str) -> impl FnOnce(git2::Error) -> Error + use<> {
        let path = self.directory.to_owned();
        move |source| Error::Git { action, path, source }
    }

    fn step(&self, name: &'static str) -> Result<()> {
        (self.fault)(name).map_err(Error::io("write a snapshot into", self.directory))
    }

    fn open(&self) -> Result<Repository, git2::Error> {
        let repository = match Repository::open(self.directory) {
            Err(error) if error.code() == ErrorCode::Owner => open_of_another_owner(self.directory)?,
            result => result?,
        };
        write_through(&repository)?;
        Ok(repository)
    }

    fn open_or_init(&self) -> Result<Repository> {
        match self.open() {
            Err(error) if error.code() == ErrorCode::NotFound => {
                self.init()?;
                self.open().map_err(self.error("open the log"))
            }
            result => result.map_err(self.error("open the log")),
        }
    }

    /// Makes the repository elsewhere and moves it into place, so that it is whole or absent.
    fn init(&self) -> Result<()> {
        create_private_dir(self.directory).map_err(Error::io("create the directory", self.directory))?;
        let temporary = tempfile::Builder::new()
            .prefix(".snapshot-")
            .suffix(".tmp")
            .tempdir_in(self.directory)
            .map_err(Error::io("write into", self.directory))?;
        let mut options = RepositoryInitOptions::new();
        options.external_template(false).no_reinit(true).initial_head("main");
        Repository::init_opts(temporary.path(), &options).map_err(self.error("make a repository"))?;
        self.step("snapshot.init")?;
        let target = self.directory.join(".git");
        fs::rename(temporary.path().join(".git"), &target)
            .and_then(|()| sync_directory(self.directory))
            .map_err(Error::io("create", &target))
    }

    fn head<'r>(&self, repository: &'r Repository) -> Result<Option<git2::Commit<'r>>> {
        match repository.head().and_then(|head| head.peel_to_commit()) {
            Ok(commit) => Ok(Some(commit)),
            Err(error) if matches!(error.code(), ErrorCode::UnbornBranch | ErrorCode::NotFound) => Ok(None),
            Err(error) => Err(self.error("read the last commit")(error)),
        }
    }

    /// Writes the commit and moves the branch to it, unless somebody else moved it meanwhile.
    fn commit(
        &self,
        repository: &Repository,
        parent: Option<&git2::Commit<'_>>,
        tree: Oid,
        author: &str,
        message: &str,
    ) -> Result<Oid> {
        self.step("snapshot.commit")?;
        let now = Time::new(Timestamp::now().as_second(), 0);
        let signed = || {
            let committer = Signature::new(NAME, EMAIL, &now)?;
            let author = Signature::new(&author_name(author), EMAIL, &now)?;
            let tree = repository.find_tree(tree)?;
            let parents: Vec<_> = parent.into_iter().collect();
            repository.commit(None, &author, &committer, message, &tree, &parents)
        };
        let id = signed().map_err(self.error("commit"))?;
        self.step("snapshot.reference")?;
        let branch = repository
            .find_reference("HEAD")
            .ok()
            .and_then(|head| head.symbolic_target().ok().flatten().map(str::to_owned))
            .unwrap_or_else(|| BRANCH.to_owned());
        let moved = match parent {
            Some(parent) => repository.reference_matching(&branch, id, true, parent.id(), "snapshot"),
            None => repository.reference(&branch, id, false, "snapshot"),
        };
        moved.map_err(self.error("move the branch"))?;
        Ok(id)
    }

    /// Makes `git status` say the truth. The commit is done: a failure here changes nothing.
    fn write_index(&self, repository: &Repository, tree: Oid) {
        let written = self.step("snapshot.index").is_ok()
            && repository
                .index()
                .and_then(|mut index| {
                    index.read_tree(&repository.find_tree(tree)?)?;
                    index.write()
                })
                .is_ok();
        // The next snapshot writes it again.
        let _ = written;
    }
}

/// Makes libgit2 wait for the disk before it names an object or moves a branch.
///
/// It takes that from a setting only, which git itself has replaced and warns of at each command: so the setting
/// stands in a file of our own beside git's.
fn write_through(repository: &Repository) -> Result<(), git2::Error> {
    let settings = repository.path().join("mynah-config");
    let written = settings.exists() || fs::write(&settings, "[core]\n\tfsyncObjectFiles = true\n").is_ok();
    // A repository that cannot be written to can still be read.
    if written {
        repository.config()?.add_file(&settings, ConfigLevel::App, false)?;
    }
    Ok(())
}

/// Opens a repository that belongs to another user, as that of a shared home does.
///
/// libgit2 refuses it lest the repository's configuration runs programs. None is run from here: there are no hooks,
/// filters or file system monitors in building trees.
fn open_of_another_owner(directory: &Path) -> Result<Repository, git2::Error> {
    static SWITCH: Mutex<()> = Mutex::new(());
    let _one_at_a_time = SWITCH.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: the option is one integer inside of libgit2, which is initialised by then because it has just refused
    // to open the directory; the mutex keeps our own threads from switching it back too early.
    unsafe { git2::opts::set_verify_owner_validation(false)? };
    let repository = Repository::open(directory);
    // SAFETY: as above.
    unsafe { git2::opts::set_verify_owner_validation(true)? };
    repository
}

/// A name that git takes.
fn author_name(author: &str) -> String {
    let name: String =
        author.chars().filter(|character| !character.is_control() && !matches!(character, '<' | '>')).collect();
    match name.trim() {
        "" => NAME.to_owned(),
        name => name.to_owned(),
    }
}

/// Since when this process holds its first lock of the home.
fn locked_since(home: &Home) -> Option<SystemTime> {
    fs::read_dir(home.root())
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "lock"))
        .filter_map(|path| fs::File::open(path).ok())
        .filter_map(|mut file| {
            let ours = read_pid(&mut file) == Some(std::process::id());
            let since = file.metadata().ok()?.modified().ok()?;
            ours.then_some(since)
        })
        .min()
}

/// Removes the lock files that were left before this process locked the home.
fn remove_stale_locks(git_dir: &Path, locked: SystemTime) {
    let heads = git_dir.join("refs/heads");
    let locks = ["HEAD", "index", "config", "packed-refs"]
        .map(|name| git_dir.join(format!("{name}.lock")))
        .into_iter()
        .chain(lock_files(&heads));
    for lock in locks {
        let stale = fs::metadata(&lock).and_then(|metadata| metadata.modified()).is_ok_and(|written| written <= locked);
        if stale {
            // When that fails, git says that it is locked, with a hint.
            let _ = fs::remove_file(&lock);
        }
    }
}

fn lock_files(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "lock"))
        .collect()
}
