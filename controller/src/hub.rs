//! Base models from the Hugging Face hub, through hf-hub.
//!
//! A download is pinned: the revision is resolved to a commit first and every file is taken from that commit. hf-hub keeps
//! the files in its own cache layout below the given directory and leaves a part file when the connection breaks; the next
//! call goes on from there. What arrived is checked against the size and, where the hub tells one, the SHA-256 it announced;
//! a file that fails is removed. Which tensors the model must have is the runtime's matter, not this module's.

mod error;
mod verify;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

pub use error::HubError;

/// Where the hub is asked when `HF_ENDPOINT` is not set.
pub const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// How the hub is reached.
#[derive(Clone, Default)]
pub struct HubEnvironment {
    /// `HF_ENDPOINT`; the public hub when absent.
    pub endpoint: Option<String>,
    /// `HF_HUB_OFFLINE`: only what is in the cache is used.
    pub offline: bool,
    /// `HF_TOKEN` or `HUGGING_FACE_HUB_TOKEN`.
    pub token: Option<String>,
}

impl fmt::Debug for HubEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubEnvironment")
            .field("endpoint", &self.endpoint)
            .field("offline", &self.offline)
            .field("token", &self.token.as_ref().map(|_| "(set)"))
            .finish()
    }
}

/// The name of a model on the hub with an optional revision: `distilbert-base-uncased@main`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubId {
    /// `name` or `owner/name`.
    pub id: String,
    /// A branch, tag or commit; `main` when absent.
    pub revision: Option<String>,
}

impl FromStr for HubId {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let (id, revision) = match text.split_once('@') {
            Some((id, revision)) => (id, Some(revision.to_owned())),
            None => (text, None),
        };
        let name = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        };
        let good_id = id.split('/').count() <= 2 && id.split('/').all(name);
        let good_revision = revision.as_ref().is_none_or(|revision| revision.split('/').all(name));
        if good_id && good_revision {
            Ok(Self { id: id.to_owned(), revision })
        } else {
            Err(HubError::InvalidId { text: text.to_owned() })
        }
    }
}

impl HubId {
    fn at(&self, revision: &str) -> Repo {
        Repo::with_revision(self.id.clone(), RepoType::Model, revision.to_owned())
    }

    fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }
}

/// A downloaded model.
#[derive(Debug)]
pub struct Download {
    /// The commit that every file is from.
    pub commit: String,
    /// The files as names in the checkpoint directory and where the cache has them.
    pub files: Vec<(String, PathBuf)>,
}

impl Download {
    /// Puts the files into a directory of their own, as hard links where the file system allows.
    ///
    /// # Errors
    /// [`HubError::Io`] when a file can be neither linked nor copied.
    pub fn stage(&self, directory: &Path) -> Result<(), HubError> {
        for (name, path) in &self.files {
            let target = directory.join(name);
            let real = std::fs::canonicalize(path).map_err(|source| HubError::io(path, source))?;
            if std::fs::hard_link(&real, &target).is_err() {
                std::fs::copy(&real, &target).map_err(|source| HubError::io(&target, source))?;
            }
        }
        Ok(())
    }
}

/// Downloads a DistilBERT checkpoint, or takes it from the cache.
///
/// `progress` makes the renderer of one file's transfer.
///
/// # Errors
/// Any [`HubError`]; after [`HubError::Transfer`] the next call resumes.
pub fn download<P: Progress>(
    id: &HubId,
    cache: &Path,
    environment: &HubEnvironment,
    progress: impl Fn() -> P,
) -> Result<Download, HubError> {
    let cache = Cache::new(cache.to_owned());
    if environment.offline {
        return from_cache(id, &cache);
    }
    let endpoint = environment.endpoint.as_deref().unwrap_or(DEFAULT_ENDPOINT).trim_end_matches('/').to_owned();
    let api = ApiBuilder::from_cache(cache.clone())
        .with_endpoint(endpoint.clone())
        .with_token(environment.token.clone())
        .with_progress(false)
        .with_user_agent("mynah", env!("CARGO_PKG_VERSION"))
        .build()
        .map_err(|source| HubError::Transfer {
            endpoint: endpoint.clone(),
            id: id.id.clone(),
            what: "anything".into(),
            source: Box::new(source),
        })?;
    let hub = Hub { id, api, cache, endpoint };

    let info = hub.api.repo(id.at(id.revision())).info().map_err(|source| hub.transfer("the list of files", source))?;
    if info.sha.len() < 7 || !info.sha.chars().all(|c| c.is_ascii_hexdigit()) {
        return Err(HubError::Answer { endpoint: hub.endpoint, what: "sha", value: info.sha });
    }
    let repo = hub.api.repo(id.at(&info.sha));
    let has = |file: &str| info.siblings.iter().any(|sibling| sibling.rfilename == file);
    let lacks = |file: &str| HubError::NoFile { id: id.id.clone(), file: file.to_owned() };
    if let Some(file) = ["config.json", "tokenizer.json"].into_iter().find(|file| !has(file)) {
        return Err(lacks(file));
    }
    let weights = [WEIGHTS, INDEX].into_iter().find(|file| has(file)).ok_or_else(|| lacks(WEIGHTS))?;

    let mut names = vec!["config.json".to_owned(), "tokenizer.json".to_owned(), weights.to_owned()];
    let mut files = Vec::new();
    let mut next = 0;
    while let Some(name) = names.get(next).cloned() {
        let path = hub.fetch(&repo, &info.sha, &name, progress())?;
        if name == INDEX {
            names.extend(shards(&path, &id.id)?);
        }
        files.push((name, path));
        next += 1;
    }
    // Without network the revision must lead to the same commit.
    let reference = hub.cache.repo(id.at(id.revision()));
    reference.create_ref(&info.sha).map_err(|source| HubError::io(hub.cache.path(), source))?;
    Ok(Download { commit: info.sha, files })
}

struct Hub<'a> {
    id: &'a HubId,
    api: Api,
    cache: Cache,
    endpoint: String,
}

impl Hub<'_> {
    fn fetch<P: Progress>(&self, repo: &ApiRepo, commit: &str, file: &str, progress: P) -> Result<PathBuf, HubError> {
        let metadata = self.api.metadata(&repo.url(file)).map_err(|source| self.transfer(file, source))?;
        let etag = metadata.etag();
        // hf-hub names files after these two headers.
        let answer =
            |what, value: &str| HubError::Answer { endpoint: self.endpoint.clone(), what, value: value.to_owned() };
        if etag.is_empty() || !etag.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return Err(answer("ETag", etag));
        }
        if metadata.commit_hash() != commit {
            return Err(answer("X-Repo-Commit", metadata.commit_hash()));
        }
        let cached = self.cache.repo(self.id.at(commit));
        let blob = cached.blob_path(etag);
        let pointer = cached.pointer_path(commit).join(file);
        let size = metadata.size() as u64;
        if verify::size_of(&pointer) == Some(size) {
            return Ok(pointer);
        }
        verify::remove(&pointer)?;
        verify::make_resumable(&blob.with_extension("part"), size)?;
        let path = repo.download_with_progress(file, progress).map_err(|source| self.transfer(file, source))?;
        if let Err((expected, actual)) = verify::matches(&path, size, etag)? {
            verify::remove(&pointer)?;
            verify::remove(&blob)?;
            return Err(HubError::Damaged { id: self.id.id.clone(), file: file.to_owned(), expected, actual });
        }
        Ok(path)
    }

    fn transfer(&self, what: &str, source: ApiError) -> HubError {
        match status(&source) {
            Some(status @ (401 | 403 | 404)) => HubError::NotFound {
                endpoint: self.endpoint.clone(),
                id: self.id.id.clone(),
                revision: self.id.revision().to_owned(),
                status,
            },
            _ => HubError::Transfer {
                endpoint: self.endpoint.clone(),
                id: self.id.id.clone(),
                what: what.to_owned(),
                source: Box::new(source),
            },
        }
    }
}

/// The HTTP status in hf-hub's error, which carries ureq's own error type: "http status: 404".
fn status(error: &ApiError) -> Option<u16> {
    let text = error.to_string();
    text.rsplit_once("http status: ").and_then(|(_, status)| status.trim().parse().ok())
}

fn from_cache(id: &HubId, cache: &Cache) -> Result<Download, HubError> {
    let revision = id.revision();
    let repo = cache.repo(id.at(revision));
    let missing = |file: &str| HubError::Offline {
        id: id.id.clone(),
        revision: revision.to_owned(),
        file: file.to_owned(),
        cache: cache.path().clone(),
    };
    let get = |name: &str| repo.get(name).map(|path| (name.to_owned(), path)).ok_or_else(|| missing(name));
    let mut files = vec![get("config.json")?, get("tokenizer.json")?];
    match get(WEIGHTS) {
        Ok(weights) => files.push(weights),
        Err(error) => {
            let Some(index) = repo.get(INDEX) else {
                return Err(error);
            };
            for shard in shards(&index, &id.id)? {
                files.push(get(&shard)?);
            }
            files.push((INDEX.to_owned(), index));
        }
    }
    let commit = files[0]
        .1
        .parent()
        .and_then(Path::file_name)
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    Ok(Download { commit, files })
}

/// The names of the shards that an index refers to, each once.
fn shards(index: &Path, id: &str) -> Result<Vec<String>, HubError> {
    let bytes = std::fs::read(index).map_err(|source| HubError::io(index, source))?;
    let damaged = |actual: String| HubError::Damaged {
        id: id.to_owned(),
        file: INDEX.to_owned(),
        expected: "a weight_map of shards".into(),
        actual,
    };
    let json: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    let map = json.get("weight_map").and_then(|map| map.as_object()).ok_or_else(|| damaged("no weight_map".into()))?;
    let mut names: Vec<String> = map.values().filter_map(|name| name.as_str()).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    match names.iter().find(|name| name.contains(['/', '\\']) || !name.ends_with(".safetensors")) {
        Some(name) => Err(damaged(format!("a shard called `{name}`"))),
        None => Ok(names),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_parsed_with_their_revision() {
        let id: HubId = "owner/model-1.0@refs/pr/5".parse().unwrap();
        assert_eq!(id, HubId { id: "owner/model-1.0".into(), revision: Some("refs/pr/5".into()) });
        assert_eq!("distilbert-base-uncased".parse::<HubId>().unwrap().revision(), "main");
    }

    #[test]
    fn what_could_leave_the_cache_is_no_id() {
        for text in ["", "a/b/c", "../x", "a@", "a@../../x", "a b", "/etc", "a/.."] {
            assert!(text.parse::<HubId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_token_is_not_printed() {
        let environment = HubEnvironment { token: Some("hf_secret".into()), ..HubEnvironment::default() };
        assert!(!format!("{environment:?}").contains("secret"));
    }
}
