//! A registry in a temporary directory, directories of files to register, and damage.

use std::fs;
use std::path::{Path, PathBuf};

use mynah_registry::{Author, Digest, ManifestDraft, Registry, RegistryOptions, Version};
use tempfile::TempDir;

/// A temporary directory, in memory where the system has one: these tests sync thousands of times.
pub fn temporary() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub struct Home {
    pub root: TempDir,
    pub registry: Registry,
}

impl Home {
    pub fn new() -> Self {
        Self::with(RegistryOptions::default())
    }

    pub fn with(options: RegistryOptions) -> Self {
        let root = temporary();
        let registry = Registry::open_with(&root.path().join("registry"), options).unwrap();
        Self { root, registry }
    }

    pub fn dir(&self) -> PathBuf {
        self.registry.dir().to_owned()
    }

    /// Another handle on the same registry, as another process has it.
    pub fn reopen(&self) -> Registry {
        Registry::open(&self.dir()).unwrap()
    }

    /// A directory to register; equal texts give equal files.
    pub fn model(&self, text: &str) -> PathBuf {
        model(self.root.path(), text)
    }

    pub fn add(&self, text: &str) -> Version {
        self.registry.add_directory(&self.model(text), draft(), &ada()).unwrap()
    }

    pub fn promote(&self, version: &Version) {
        let current = self.registry.production().unwrap();
        let current = current.as_ref().map(|current| &current.manifest_digest);
        self.registry.promote(version, current, gate(), &ada()).unwrap();
    }

    pub fn in_production(&self) -> Option<String> {
        name_in_production(&self.reopen())
    }

    pub fn object(&self, digest: &Digest) -> PathBuf {
        object(&self.dir(), digest)
    }
}

pub fn name_in_production(registry: &Registry) -> Option<String> {
    registry.production().unwrap().map(|version| version.name)
}

/// Two files that every model shares and one of its own.
pub fn model(root: &Path, text: &str) -> PathBuf {
    let directory = root.join(format!("model-{text}"));
    fs::create_dir_all(directory.join("1_Pooling")).unwrap();
    fs::write(directory.join("config.json"), r#"{"model_type":"distilbert"}"#).unwrap();
    fs::write(directory.join("1_Pooling/config.json"), "{}").unwrap();
    fs::write(directory.join("model.safetensors"), format!("weights of {text}")).unwrap();
    directory
}

pub fn object(registry: &Path, digest: &Digest) -> PathBuf {
    let name = digest.to_string();
    registry.join("objects").join(&name[..2]).join(name)
}

pub fn draft() -> ManifestDraft {
    ManifestDraft::version("mynah 0.1.0")
}

pub fn ada() -> Author {
    Author::new("ada", "testing")
}

pub fn gate() -> serde_json::Value {
    serde_json::json!({"passed": true})
}

/// Writes a file the registry made read-only.
pub fn overwrite(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

pub fn flip_bit(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    overwrite(path, &bytes);
}
