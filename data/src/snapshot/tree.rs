//! The log's directory as git trees, and what is different from the last ones.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use git2::{FileMode, ObjectType, Oid, Repository, Tree};

use super::Git;
use crate::error::{Error, Result};

/// A file that is new, different or gone.
pub(super) struct Change {
    /// Its path in the log, with `/`.
    pub path: String,
    /// How many lines it had in the last snapshot; `None` when it is new.
    pub lines_before: Option<usize>,
    /// What it holds now; `None` when it is gone.
    pub content: Option<Vec<u8>>,
}

/// Writes the trees of the log and tells what has changed since the last ones, whose commit was made at `since`
/// (seconds).
pub(super) fn build(
    git: &Git<'_>,
    repository: &Repository,
    old: Option<&Tree<'_>>,
    since: Option<i64>,
) -> Result<(Oid, Vec<Change>)> {
    let mut builder = Builder { git, repository, since, changes: Vec::new() };
    let tree = match builder.directory(git.directory, "", old)? {
        Some(tree) => tree,
        None => builder.write(None, &[])?,
    };
    Ok((tree, builder.changes))
}

struct Entry {
    name: String,
    id: Oid,
    mode: FileMode,
}

struct Builder<'a> {
    git: &'a Git<'a>,
    repository: &'a Repository,
    since: Option<i64>,
    changes: Vec<Change>,
}

impl Builder<'_> {
    /// The tree of a directory; `None` when nothing is in it.
    fn directory(&mut self, directory: &Path, prefix: &str, old: Option<&Tree<'_>>) -> Result<Option<Oid>> {
        let mut entries = Vec::new();
        // The directories in it report for themselves what is gone.
        let mut present = HashSet::new();
        for name in names(directory)? {
            let path = directory.join(&name);
            let relative = format!("{prefix}{name}");
            let Ok(metadata) = fs::symlink_metadata(&path) else {
                // Gone since the directory was read.
                continue;
            };
            let entry = if metadata.is_dir() {
                present.insert(name.clone());
                let repository = self.repository;
                let old = old.and_then(|tree| old_tree(repository, tree, &name));
                self.directory(&path, &format!("{relative}/"), old.as_ref())?.map(|id| (id, FileMode::Tree))
            } else if metadata.is_file() {
                let old = old.and_then(|tree| old_id(tree, &name, ObjectType::Blob));
                self.file(&path, relative, &metadata, old)?.map(|id| (id, FileMode::Blob))
            } else {
                None
            };
            if let Some((id, mode)) = entry {
                present.insert(name.clone());
                entries.push(Entry { name, id, mode });
            }
        }
        self.report_gone(prefix, old, &present);
        match entries.is_empty() {
            true => Ok(None),
            false => self.write(old, &entries).map(Some),
        }
    }

    fn file(
        &mut self,
        path: &Path,
        relative: String,
        metadata: &fs::Metadata,
        old: Option<Oid>,
    ) -> Result<Option<Oid>> {
        if let Some(old) = old
            && self.is_unchanged(metadata, old)
        {
            return Ok(Some(old));
        }
        let mut content = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            content => content.map_err(Error::io("read", path))?,
        };
        if relative.ends_with(".jsonl") {
            let whole = content.iter().rposition(|byte| *byte == b'\n');
            content.truncate(whole.map_or(0, |at| at + 1));
        }
        self.git.step("snapshot.blob")?;
        let id = self.repository.blob(&content).map_err(self.git.error("store a file"))?;
        if old != Some(id) {
            let lines_before = old.map(|old| self.lines_of(old));
            self.changes.push(Change { path: relative, lines_before, content: Some(content) });
        }
        Ok(Some(id))
    }

    /// Whether a file is what it was, from its size and time: most of the log never changes again.
    fn is_unchanged(&self, metadata: &fs::Metadata, old: Oid) -> bool {
        let written = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let since = self.since.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
        // A commit's time has no fractions, and its files were read before it: leave a margin.
        let earlier = written.zip(since).is_some_and(|(written, since)| written + Duration::from_secs(5) < since);
        let size = || {
            let header = self.repository.odb().and_then(|odb| odb.read_header(old));
            header.ok().map(|(size, _)| size as u64)
        };
        earlier && size() == Some(metadata.len())
    }

    fn write(&self, old: Option<&Tree<'_>>, entries: &[Entry]) -> Result<Oid> {
        self.git.step("snapshot.tree")?;
        let write = || {
            let mut builder = self.repository.treebuilder(None)?;
            for entry in entries {
                builder.insert(&entry.name, entry.id, entry.mode.into())?;
            }
            builder.write()
        };
        let same = old.filter(|tree| {
            tree.len() == entries.len()
                && entries.iter().all(|entry| tree.get_name(&entry.name).is_some_and(|old| old.id() == entry.id))
        });
        match same {
            Some(tree) => Ok(tree.id()),
            None => write().map_err(self.git.error("store a directory")),
        }
    }

    /// Reports the files of the last snapshot that are gone.
    fn report_gone(&mut self, prefix: &str, old: Option<&Tree<'_>>, present: &HashSet<String>) {
        for entry in old.into_iter().flat_map(|tree| tree.iter()) {
            let Ok(name) = entry.name() else { continue };
            if present.contains(name) {
                continue;
            }
            let path = format!("{prefix}{name}");
            if entry.kind() == Some(ObjectType::Tree) {
                let tree = self.repository.find_tree(entry.id()).ok();
                self.report_gone(&format!("{path}/"), tree.as_ref(), &HashSet::new());
            } else {
                self.changes.push(Change { path, lines_before: Some(self.lines_of(entry.id())), content: None });
            }
        }
    }

    fn lines_of(&self, blob: Oid) -> usize {
        self.repository.find_blob(blob).map_or(0, |blob| count_lines(blob.content()))
    }
}

pub(super) fn count_lines(content: &[u8]) -> usize {
    content.iter().filter(|byte| **byte == b'\n').count()
}

fn old_tree<'r>(repository: &'r Repository, tree: &Tree<'_>, name: &str) -> Option<Tree<'r>> {
    let id = old_id(tree, name, ObjectType::Tree)?;
    repository.find_tree(id).ok()
}

fn old_id(tree: &Tree<'_>, name: &str, kind: ObjectType) -> Option<Oid> {
    tree.get_name(name).filter(|entry| entry.kind() == Some(kind)).map(|entry| entry.id())
}

/// The names in a directory in their order, without hidden and temporary ones.
fn names(directory: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(Error::io("read", directory))? {
        let entry = entry.map_err(Error::io("read", directory))?;
        // Mynah writes no other names than UTF-8.
        if let Ok(name) = entry.file_name().into_string()
            && !name.starts_with('.')
            && !name.ends_with(".tmp")
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}
