//! Base models: the embedded starter, a directory, or a model of the hub, checked and registered.
//!
//! Nothing reaches the registry that the encoder could not be built from.

use std::path::{Path, PathBuf};

use mynah_registry::{Author, ManifestDraft, Registry, Version};
use mynah_runtime::Checkpoint;

use crate::commands::Context;
use crate::failure::hinted;
use crate::hub::{self, HubId};
use crate::progress::DownloadProgress;

/// What writes versions: the engine in a manifest.
pub const ENGINE: &str = concat!("mynah ", env!("CARGO_PKG_VERSION"));

/// Where a base model comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// The model embedded in the program.
    Starter,
    /// A checkpoint directory.
    Directory(PathBuf),
    /// A model of the hub.
    Hub(HubId),
}

impl Base {
    /// Understands the value of `--base`: what exists as a directory is one.
    ///
    /// # Errors
    /// When the text is neither a directory nor could be a model's name.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let path = Path::new(text);
        if text == "starter" {
            return Ok(Self::Starter);
        }
        if path.is_dir() {
            return Ok(Self::Directory(path.to_owned()));
        }
        if path.exists() {
            return Err(hinted(
                format!("{text} is a file"),
                "name the directory that holds config.json, tokenizer.json and model.safetensors",
            ));
        }
        // Something like ./model or a/b/c can only have been meant as a path.
        if text.starts_with(['.', '/', '~']) || text.matches('/').count() > 1 {
            return Err(hinted(
                format!("there is no directory {text}"),
                "use `starter`, an existing directory, or a hub id such as distilbert-base-uncased",
            ));
        }
        Ok(Self::Hub(text.parse()?))
    }
}

/// Checks a base model and registers it.
///
/// # Errors
/// What is wrong with the model, with the hub, or with the registry.
pub fn register(context: &Context, registry: &Registry, base: &Base) -> anyhow::Result<Version> {
    match base {
        Base::Starter => {
            let stage = stage(context)?;
            mynah_runtime::starter::write_to(stage.path())?;
            add(context, registry, stage.path(), "starter".to_owned())
        }
        Base::Directory(directory) => {
            let stage = stage(context)?;
            copy_checkpoint(directory, stage.path())?;
            let name = std::fs::canonicalize(directory)
                .ok()
                .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
            add(context, registry, stage.path(), format!("directory:{}", name.unwrap_or_else(|| "/".to_owned())))
        }
        Base::Hub(id) => {
            let cache = context.home.cache_dir().join("hub");
            std::fs::create_dir_all(&cache)?;
            let output = context.output;
            let download = hub::download(id, &cache, &context.environment.hub, || DownloadProgress::new(output))?;
            let stage = stage(context)?;
            download.stage(stage.path())?;
            add(context, registry, stage.path(), format!("hub:{}@{}", id.id, download.commit))
        }
    }
}

fn add(context: &Context, registry: &Registry, directory: &Path, source: String) -> anyhow::Result<Version> {
    Checkpoint::from_directory(directory)?.validate_encoder()?;
    let draft = ManifestDraft { source: Some(source.clone()), ..ManifestDraft::base(ENGINE) };
    let who: Author = context.author(format!("init --base {source}"));
    Ok(registry.add_directory(directory, draft, &who)?)
}

/// A directory beside the registry, so that files can be linked instead of copied.
fn stage(context: &Context) -> anyhow::Result<tempfile::TempDir> {
    let cache = context.home.cache_dir();
    std::fs::create_dir_all(&cache)?;
    Ok(tempfile::Builder::new().prefix("base-").tempdir_in(cache)?)
}

/// Takes what belongs to a checkpoint and leaves out what else lies about (optimizer states, other formats).
fn copy_checkpoint(from: &Path, to: &Path) -> anyhow::Result<()> {
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(from)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    names.retain(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let wanted = [
            "config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "vocab.txt",
            "labels.json",
            "calibration.json",
            "model.safetensors.index.json",
        ];
        path.is_file()
            && (wanted.contains(&name) || name.ends_with(".safetensors") || name.eq_ignore_ascii_case("README.md"))
    });
    for path in names {
        let Some(name) = path.file_name() else {
            continue;
        };
        std::fs::copy(&path, to.join(name))
            .map_err(|error| anyhow::Error::new(error).context(format!("cannot read {}", path.display())))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_directory_is_no_hub_id() {
        let directory = tempfile::tempdir().unwrap();
        let text = directory.path().to_str().unwrap();
        assert_eq!(Base::parse(text).unwrap(), Base::Directory(directory.path().to_owned()));
        assert_eq!(Base::parse("starter").unwrap(), Base::Starter);
        assert!(matches!(Base::parse("distilbert-base-uncased@main").unwrap(), Base::Hub(_)));
        for text in ["./nothing", "/no/such/directory", "a b"] {
            assert!(Base::parse(text).is_err(), "{text}");
        }
    }
}
