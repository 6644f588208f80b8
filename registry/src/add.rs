//! Registration: a directory becomes objects, a manifest and an entry in the journal.
//!
//! Invariant: the entry comes last, so that a version that has a name has all its files.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::manifest::check_file_name;
use crate::registry::Decision;
use crate::{Author, Error, Event, FileEntry, ManifestDraft, Registry, Result, Version};

impl Registry {
    /// Stores every regular file of a directory and registers them as a version.
    ///
    /// Hidden files and directories and `*.tmp` are left out; links to files are followed, links to directories are
    /// not. The same files with the same draft are the same version: it is returned, not registered again.
    ///
    /// # Errors
    /// [`Error::NothingToAdd`], [`Error::InvalidFileName`], [`Error::SourceChanged`], [`Error::Io`].
    pub fn add_directory(&self, dir: &Path, draft: ManifestDraft, who: &Author) -> Result<Version> {
        let mut names = BTreeMap::new();
        collect_files(dir, "", &mut names)?;
        if names.is_empty() {
            return Err(Error::NothingToAdd { directory: dir.to_owned() });
        }
        let _lock = self.lock_shared()?;
        let mut files: BTreeMap<String, FileEntry> = BTreeMap::new();
        for (name, path) in names {
            files.insert(name, self.inner.objects.put_file(&path)?);
        }
        let kind = draft.kind;
        let manifest = self.inner.objects.put_bytes(&draft.with_files(files).to_bytes())?.sha256;
        let entry = self.transact(who, |state| {
            Ok(match state.live(&manifest) {
                Some(record) => Decision::Done(record.sequence),
                None => Decision::Append(Event::Register { name: state.next_name(kind), manifest, kind }),
            })
        })?;
        match entry.event {
            Event::Register { name, .. } => self.version(&name),
            _ => self.version(&manifest.to_string()),
        }
    }
}

/// Finds the files of a directory and the directories in it, by their names in the manifest.
fn collect_files(dir: &Path, prefix: &str, names: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let entries = fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    for entry in entries.map_err(Error::io("list", dir))? {
        let (path, name) = (entry.path(), entry.file_name());
        let bytes = name.as_encoded_bytes();
        if bytes.starts_with(b".") || bytes.ends_with(b".tmp") {
            continue;
        }
        let invalid = |reason| Error::InvalidFileName { path: path.clone(), reason };
        let name = name.to_str().ok_or_else(|| invalid("its name is not Unicode"))?;
        let name = format!("{prefix}{name}");
        if entry.file_type().map_err(Error::io("read", &path))?.is_dir() {
            collect_files(&path, &format!("{name}/"), names)?;
        } else if fs::metadata(&path).map_err(Error::io("read", &path))?.is_file() {
            check_file_name(&name).map_err(invalid)?;
            names.insert(name, path);
        }
    }
    Ok(())
}
