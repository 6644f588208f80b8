//! What a version is made of: a manifest in canonical JSON, whose digest names the version.
//!
//! Canonical means: keys sorted, no white space, absent instead of null, every string as `serde_json` escapes it.
//! Invariant: [`Manifest::parse`] accepts only bytes that [`Manifest::to_bytes`] gives back unchanged, and file names
//! that stay inside a directory on every system.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// The schema of manifests this program writes and reads.
pub(crate) const SCHEMA: u32 = 1;

/// The files of a version and where they come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The format of the manifest: 1.
    pub schema: u32,
    /// Whether others are trained from it or it is itself a version.
    pub kind: Kind,
    /// The files by name; `/` separates directories.
    pub files: BTreeMap<String, FileEntry>,
    /// The version it was trained from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Digest>,
    /// The base its lineage starts from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Digest>,
    /// The git commit of the log it was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_commit: Option<String>,
    /// The digest of the data set it was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset_digest: Option<Digest>,
    /// The seed of its training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The program that made it, with its version.
    pub engine: String,
    /// Where its files come from: `hub:distilbert-base-uncased@<revision>`, `starter`, `directory:minilm-l6`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// One file of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// The digest of its content, which is the object's name.
    pub sha256: Digest,
    /// Its size.
    pub size_bytes: u64,
}

/// What a registered directory is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A model that versions are trained from: `base1`, `base2` …
    Base,
    /// A model that can go to production: `v1`, `v2` …
    #[default]
    Version,
}

/// A manifest without its files: what the caller of [`crate::Registry::add_directory`] knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManifestDraft {
    /// Whether it is a base or a version.
    pub kind: Kind,
    /// The version it was trained from.
    pub parent: Option<Digest>,
    /// The base its lineage starts from.
    pub base: Option<Digest>,
    /// The git commit of the log it was trained on.
    pub data_commit: Option<String>,
    /// The digest of the data set it was trained on.
    pub dataset_digest: Option<Digest>,
    /// The seed of its training.
    pub seed: Option<u64>,
    /// The program that made it, with its version.
    pub engine: String,
    /// Where its files come from.
    pub source: Option<String>,
}

/// Why bytes are not a manifest this program can use.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum InvalidManifest {
    /// A later program wrote it.
    Schema(u64),
    /// It is not a manifest, or not in canonical form.
    Content(String),
}

impl Kind {
    /// What names of this kind start with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Version => "v",
        }
    }
}

impl ManifestDraft {
    /// A draft of a version made by the given program.
    pub fn version(engine: impl Into<String>) -> Self {
        Self { kind: Kind::Version, engine: engine.into(), ..Self::default() }
    }

    /// A draft of a base brought in by the given program.
    pub fn base(engine: impl Into<String>) -> Self {
        Self { kind: Kind::Base, ..Self::version(engine) }
    }

    /// Completes the draft with its files.
    pub fn with_files(self, files: BTreeMap<String, FileEntry>) -> Manifest {
        Manifest {
            schema: SCHEMA,
            kind: self.kind,
            files,
            parent: self.parent,
            base: self.base,
            data_commit: self.data_commit,
            dataset_digest: self.dataset_digest,
            seed: self.seed,
            engine: self.engine,
            source: self.source,
        }
    }
}

impl Manifest {
    /// The canonical JSON: what is hashed and stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        // A struct of strings, numbers and maps with string keys always becomes JSON.
        let mut value = serde_json::to_value(self).unwrap_or_default();
        value.sort_all_objects();
        value.to_string().into_bytes()
    }

    /// The digest that names the version.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// The size of all its files.
    pub fn size_bytes(&self) -> u64 {
        self.files.values().fold(0, |sum, file| sum.saturating_add(file.size_bytes))
    }

    /// Reads canonical JSON, and nothing else.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, InvalidManifest> {
        #[derive(Deserialize)]
        struct Schema {
            schema: u64,
        }
        let wrong = |error: serde_json::Error| InvalidManifest::Content(error.to_string());
        let Schema { schema } = serde_json::from_slice(bytes).map_err(wrong)?;
        if schema != u64::from(SCHEMA) {
            return Err(InvalidManifest::Schema(schema));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(wrong)?;
        for name in manifest.files.keys() {
            check_file_name(name)
                .map_err(|reason| InvalidManifest::Content(format!("file name {name:?}: {reason}")))?;
        }
        if manifest.to_bytes() != bytes {
            return Err(InvalidManifest::Content("not in canonical form".to_owned()));
        }
        Ok(manifest)
    }

    /// Stands in for a manifest that cannot be read, so that its version can still be listed.
    pub(crate) fn unreadable(kind: Kind) -> Self {
        ManifestDraft { kind, ..ManifestDraft::default() }.with_files(BTreeMap::new())
    }
}

/// Checks that a name stays inside the directory it is exported to, on every system.
pub(crate) fn check_file_name(name: &str) -> Result<(), &'static str> {
    if name.chars().any(|c| c.is_control() || c == '\\' || c == ':') {
        return Err("control characters, backslashes and colons are not allowed in names");
    }
    if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("names are relative, without empty, '.' or '..' parts");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(text: &str) -> FileEntry {
        FileEntry { sha256: Digest::of(text.as_bytes()), size_bytes: text.len() as u64 }
    }

    fn manifests() -> impl Strategy<Value = Manifest> {
        let files = prop::collection::btree_map("[a-zé日\"]{1,8}(/[a-z.]{3,8}x)?", "\\PC{0,20}", 0..6);
        let options = (
            any::<Option<[u8; 3]>>(),
            any::<Option<u64>>(),
            prop::option::of("\\PC{0,12}"),
            "\\PC{0,12}",
            any::<bool>(),
        );
        (files, options).prop_map(|(files, (parent, seed, source, engine, is_base))| {
            let parent = parent.map(|bytes| Digest::of(&bytes));
            let kind = if is_base { Kind::Base } else { Kind::Version };
            ManifestDraft { kind, parent, seed, source, engine, ..ManifestDraft::default() }
                .with_files(files.into_iter().map(|(name, text)| (name, entry(&text))).collect())
        })
    }

    #[test]
    fn canonical_json() {
        let manifest = ManifestDraft {
            parent: Some(Digest::of(b"parent")),
            data_commit: Some("9fceb02".to_owned()),
            seed: Some(7),
            source: Some("starter".to_owned()),
            ..ManifestDraft::version("mynah 0.1.0")
        }
        .with_files(
            [("model.safetensors", "weights"), ("config.json", "{}")].map(|(n, t)| (n.to_owned(), entry(t))).into(),
        );
        insta::assert_snapshot!(String::from_utf8(manifest.to_bytes()).unwrap(), @r#"{"data_commit":"9fceb02","engine":"mynah 0.1.0","files":{"config.json":{"sha256":"44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size_bytes":2},"model.safetensors":{"sha256":"9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c","size_bytes":7}},"kind":"version","parent":"e47125968b3b71049fbc4802d1e40a71ea1359decfabacf70b34588037d4ff0c","schema":1,"seed":7,"source":"starter"}"#);
        insta::assert_snapshot!(manifest.digest(), @"1b4a8f336bd2fd413183ea20ab6b11b3fac6ecacc2fc609ca4f9e6975a400390");
        assert_eq!(manifest.size_bytes(), 9);
    }

    #[test]
    fn what_is_not_canonical_is_refused() {
        let manifest = ManifestDraft::version("mynah").with_files(BTreeMap::from([("a".to_owned(), entry("a"))]));
        let good = String::from_utf8(manifest.to_bytes()).unwrap();
        assert_eq!(Manifest::parse(good.as_bytes()), Ok(manifest));
        let later = good.replace("\"schema\":1", "\"schema\":2");
        assert_eq!(Manifest::parse(later.as_bytes()), Err(InvalidManifest::Schema(2)));
        for bad in [
            String::new(),
            "[]".to_owned(),
            "null".to_owned(),
            format!("{good}\n"),
            format!("{good}{good}"),
            good.replace("{\"engine\"", "{\"colour\":1,\"engine\""),
            good.replace("{\"engine\"", "{\"base\":null,\"engine\""),
            good.replace("\"a\"", "\"../a\""),
            good.replace("\"a\"", "\"/a\""),
            good.replace("\"a\"", "\"C:\""),
            good.replace("\"a\"", "\"\""),
            good.replace("\"a\"", "\"a\\u0000\""),
            good.replace("\"schema\":1", "\"schema\":1e0"),
        ] {
            assert!(matches!(Manifest::parse(bad.as_bytes()), Err(InvalidManifest::Content(_))), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn canonical_json_comes_back(manifest in manifests()) {
            let bytes = manifest.to_bytes();
            prop_assert_eq!(Manifest::parse(&bytes).unwrap(), manifest);
        }

        #[test]
        fn the_digest_does_not_depend_on_the_order_of_insertion(
            manifest in manifests(),
            order in prop::collection::vec(any::<u32>(), 6),
        ) {
            let mut files: Vec<_> = manifest.files.clone().into_iter().zip(order).collect();
            files.sort_by_key(|(_, key)| *key);
            let mut shuffled = manifest.clone();
            shuffled.files = files.into_iter().map(|(file, _)| file).collect();
            prop_assert_eq!(shuffled.digest(), manifest.digest());

            // Nor on the order of the keys in any JSON it is read from.
            let mut value: serde_json::Value = serde_json::from_slice(&manifest.to_bytes()).unwrap();
            if let Some(object) = value.as_object_mut() {
                *object = std::mem::take(object).into_iter().rev().collect();
            }
            prop_assert_eq!(serde_json::from_value::<Manifest>(value).unwrap().digest(), manifest.digest());
        }

        #[test]
        fn no_bytes_make_parsing_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Manifest::parse(&bytes);
        }
    }
}
