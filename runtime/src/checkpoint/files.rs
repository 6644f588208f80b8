//! Named files, wherever they are: in a directory, in the registry, or in the program itself.
//!
//! Invariant: the set of names is fixed when the files are opened; only plain file names are accepted, never paths.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mynah_registry::VerifiedCheckpoint;

use crate::error::{Error, Result};

#[derive(Debug, Clone)]
enum Content {
    Path(PathBuf),
    Embedded(&'static [u8]),
}

/// A set of named, readable files; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    location: Arc<str>,
    contents: Arc<BTreeMap<String, Content>>,
}

impl Files {
    pub(crate) fn in_directory(directory: &Path) -> Result<Self> {
        let read = |source| Error::Read { path: directory.to_owned(), source };
        let mut contents = BTreeMap::new();
        for entry in std::fs::read_dir(directory).map_err(read)? {
            let path = entry.map_err(read)?.path();
            if let Some(name) = path.file_name().and_then(|name| name.to_str())
                && path.is_file()
            {
                contents.insert(name.to_owned(), Content::Path(path.clone()));
            }
        }
        Ok(Self::new(&directory.display().to_string(), contents))
    }

    pub(crate) fn of_registry(verified: &VerifiedCheckpoint) -> Self {
        let contents = verified
            .files()
            .keys()
            .filter_map(|name| Some((name.to_owned(), Content::Path(verified.path(name)?))))
            .collect();
        Self::new(verified.name(), contents)
    }

    pub(crate) fn embedded(location: &str, files: &[(&str, &'static [u8])]) -> Self {
        let contents = files.iter().map(|(name, bytes)| ((*name).to_owned(), Content::Embedded(bytes))).collect();
        Self::new(location, contents)
    }

    fn new(location: &str, contents: BTreeMap<String, Content>) -> Self {
        Self { location: location.into(), contents: Arc::new(contents) }
    }

    pub(crate) fn location(&self) -> &str {
        &self.location
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.contents.keys().map(String::as_str)
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.contents.contains_key(name)
    }

    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match self.contents.get(name) {
            None => Ok(None),
            Some(Content::Embedded(bytes)) => Ok(Some(bytes.to_vec())),
            Some(Content::Path(path)) => match std::fs::read(path) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(source) => Err(Error::Read { path: path.clone(), source }),
            },
        }
    }

    pub(crate) fn require(&self, name: &str) -> Result<Vec<u8>> {
        self.read(name)?.ok_or_else(|| self.missing(name))
    }

    pub(crate) fn size_bytes(&self, name: &str) -> Result<u64> {
        match self.content(name)? {
            Content::Embedded(bytes) => Ok(bytes.len() as u64),
            Content::Path(path) => match path.metadata() {
                Ok(metadata) => Ok(metadata.len()),
                Err(source) => Err(Error::Read { path: path.clone(), source }),
            },
        }
    }

    /// Reads a part of a file; the caller has checked the range against [`Files::size_bytes`].
    pub(crate) fn read_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let length = range.end.saturating_sub(range.start);
        match self.content(name)? {
            Content::Embedded(bytes) => {
                let part = bytes.get(range.start as usize..range.end as usize);
                part.map(<[u8]>::to_vec).ok_or_else(|| Error::Safetensors {
                    checkpoint: self.location.to_string(),
                    file: name.to_owned(),
                    reason: format!("it ends before byte {}", range.end),
                })
            }
            Content::Path(path) => {
                let read = || {
                    let mut file = File::open(path)?;
                    file.seek(SeekFrom::Start(range.start))?;
                    let mut bytes = vec![0; length as usize];
                    file.read_exact(&mut bytes)?;
                    Ok(bytes)
                };
                read().map_err(|source| Error::Read { path: path.clone(), source })
            }
        }
    }

    fn content(&self, name: &str) -> Result<&Content> {
        self.contents.get(name).ok_or_else(|| self.missing(name))
    }

    fn missing(&self, name: &str) -> Error {
        Error::MissingFile { checkpoint: self.location.to_string(), file: name.to_owned() }
    }
}
