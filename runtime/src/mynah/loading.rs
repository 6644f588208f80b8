//! Making the state that replies are made from: the model with its fallbacks, functions, memory, knowledge.
//!
//! Opening fails only for what the owner has to mend before anything useful can be said; a damaged version is passed over
//! for the one before it. Updating never fails: what cannot be loaded leaves what was there.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use mynah_data::{Functions, Home, Log, new_session_id};
use mynah_registry::{Author, ManifestDraft, Registry, VerifiedCheckpoint, Version};

use super::fingerprint::Fingerprint;
use super::loaded::{Loaded, Served};
use super::{Inner, MynahError, Warning};
use crate::checkpoint::Checkpoint;
use crate::encoder::EncoderOptions;
use crate::functions::Toolbox;
use crate::knowledge::Knowledge;
use crate::memory::{EmbeddingCache, Layer, Memory, OnProgress, fixed_entries, live_entries};
use crate::model::Model;
use crate::settings::RuntimeSettings;
use crate::starter;

/// What the starter is called in the manifest of a base.
const STARTER_SOURCE: &str = "starter";

/// What a model reads before it serves.
const WARM_UP: &str = "is anybody there";

/// Puts the embedded starter into a registry that has no base yet.
pub(super) fn ensure_base(home: &Home, registry: &Registry) -> Result<(), MynahError> {
    if registry.base()?.is_some() {
        return Ok(());
    }
    let directory = home.cache_dir().join(format!("starter-{}", new_session_id()));
    let written = std::fs::create_dir_all(&directory).and_then(|()| starter::write_to(&directory));
    let added = written.map_err(|source| MynahError::Starter { path: directory.clone(), source }).and_then(|()| {
        let draft = ManifestDraft {
            source: Some(STARTER_SOURCE.to_owned()),
            ..ManifestDraft::base(concat!("mynah ", env!("CARGO_PKG_VERSION")))
        };
        let who = Author::new("runtime", "a new home starts with the embedded starter");
        Ok(registry.add_directory(&directory, draft, &who)?)
    });
    // What is left over lies in the cache, which may be deleted.
    let _ = std::fs::remove_dir_all(&directory);
    added.map(|_| ())
}

/// Loads everything.
pub(super) fn open(
    home: &Home,
    registry: &Registry,
    log: &Log,
    settings: &RuntimeSettings,
    embedding: OnProgress,
    chosen: Option<&Version>,
) -> Result<(Loaded, Vec<Warning>), MynahError> {
    let mut warnings = Vec::new();
    let (model, version) = match chosen {
        Some(version) => (load(&registry.verify(version)?, settings)?, Some(Served::from(version))),
        None => model(registry, settings, &mut warnings)?,
    };
    let functions = functions(home)?;
    let toolbox = Arc::new(Toolbox::new(&functions)?);
    let parts = Parts { home, log, settings, embedding };
    let mut cache = parts.cache(&model, version.as_ref());
    let knowledge = parts.knowledge(&model, &mut cache, &mut warnings);
    let memory = parts.memory(&model, &functions, &mut cache, &mut warnings)?;
    save(cache, &mut warnings);
    let loaded =
        Loaded::new(Arc::new(model), version, toolbox, Arc::new(functions), memory, Arc::new(knowledge), settings);
    Ok((loaded, warnings))
}

/// The state with everything loaded again that changed; `None` when it stays as it is.
pub(super) fn update(
    inner: &Inner,
    loaded: &Loaded,
    seen: &Fingerprint,
    current: &Fingerprint,
) -> (Option<Loaded>, Vec<Warning>) {
    let mut warnings = Vec::new();
    let mut next = loaded.clone();
    let mut changed = false;
    let parts = Parts { home: &inner.home, log: &inner.log, settings: &inner.settings, embedding: &*inner.embedding };
    let mut new_model = false;
    if seen.journal != current.journal
        && let Some((model, version)) = newer_model(inner, loaded, &mut warnings)
    {
        // Once, so that the first reply does not pay for pages and threads that nobody has touched yet.
        model.predict(WARM_UP);
        next.set_model(Arc::new(model), version, &inner.settings);
        new_model = true;
    }
    if seen.files[0] != current.files[0] {
        match functions(&inner.home).and_then(|functions| Ok((Toolbox::new(&functions)?, functions))) {
            Ok((toolbox, functions)) => {
                (next.toolbox, next.functions) = (Arc::new(toolbox), Arc::new(functions));
                changed = true;
            }
            Err(error) => warnings.push(Warning::from_error("the functions stay as they were", &error)),
        }
    }
    let mut cache = parts.cache(&next.model, next.version.as_ref());
    if new_model || seen.knowledge != current.knowledge {
        next.knowledge = Arc::new(parts.knowledge(&next.model, &mut cache, &mut warnings));
        changed = true;
    }
    if new_model || seen.files != current.files {
        match parts.memory(&next.model, &next.functions, &mut cache, &mut warnings) {
            Ok(memory) => {
                next.memory = memory;
                changed = true;
            }
            // Embeddings of another model are worth nothing.
            Err(error) => {
                warnings.push(Warning::from_error("the memory could not be read", &error));
                if new_model {
                    next.memory = Memory::default();
                }
            }
        }
    } else if seen.labels != current.labels && inner.settings.memory {
        match parts.live(&next.model, &mut cache, Some(next.memory.live()), &mut warnings) {
            Ok(live) => {
                next.memory = next.memory.with_live(live);
                changed = true;
            }
            Err(error) => warnings.push(Warning::from_error("new labels could not be read", &error)),
        }
    }
    save(cache, &mut warnings);
    ((changed || new_model).then_some(next), warnings)
}

/// What memory and knowledge are read from.
struct Parts<'a> {
    home: &'a Home,
    log: &'a Log,
    settings: &'a RuntimeSettings,
    embedding: OnProgress<'a>,
}

impl Parts<'_> {
    fn cache(&self, model: &Model, version: Option<&Served>) -> EmbeddingCache {
        let name = version.map_or(STARTER_SOURCE, |version| version.digest.as_str());
        EmbeddingCache::open(&self.home.cache_dir(), name, model.precision(), model.dim())
    }

    fn knowledge(&self, model: &Model, cache: &mut EmbeddingCache, warnings: &mut Vec<Warning>) -> Knowledge {
        let (knowledge, problems) = Knowledge::load(&self.home.knowledge_dir(), model, cache);
        warnings.extend(problems.into_iter().map(Warning::new));
        knowledge
    }

    /// Both layers. Without memory a model that has learned nothing still needs examples to choose a function by.
    fn memory(
        &self,
        model: &Model,
        functions: &Functions,
        cache: &mut EmbeddingCache,
        warnings: &mut Vec<Warning>,
    ) -> Result<Memory, MynahError> {
        if !self.settings.memory && model.has_functions() {
            return Ok(Memory::default());
        }
        let (entries, problems) = fixed_entries(self.home, functions, self.settings.memory_max_examples)?;
        warnings.extend(problems.into_iter().map(Warning::new));
        let fixed = Layer::build_with(entries, model, cache, None, self.embedding);
        let live = match self.settings.memory {
            true => self.live(model, cache, None, warnings)?,
            false => Layer::default(),
        };
        Ok(Memory::new(Arc::new(fixed), Arc::new(live)))
    }

    fn live(
        &self,
        model: &Model,
        cache: &mut EmbeddingCache,
        earlier: Option<&Layer>,
        warnings: &mut Vec<Warning>,
    ) -> Result<Layer, MynahError> {
        let (entries, problems) = live_entries(self.log)?;
        warnings.extend(problems.into_iter().map(Warning::new));
        Ok(Layer::build_with(entries, model, cache, earlier, self.embedding))
    }
}

fn save(cache: EmbeddingCache, warnings: &mut Vec<Warning>) {
    warnings.extend(cache.problem().map(|problem| Warning::new(problem.to_owned())));
    if let Err(error) = cache.save() {
        warnings.push(Warning::new(format!("embeddings could not be cached: {error}")));
    }
}

fn functions(home: &Home) -> Result<Functions, MynahError> {
    match Functions::load(&home.functions_path()) {
        Err(mynah_data::Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Ok(Functions::default())
        }
        loaded => Ok(loaded?),
    }
}

/// Production, else the last version before it that works, else the base, else the embedded starter.
fn model(
    registry: &Registry,
    settings: &RuntimeSettings,
    warnings: &mut Vec<Warning>,
) -> Result<(Model, Option<Served>), MynahError> {
    match registry.load_production() {
        Ok(Some(found)) => {
            warnings.extend(found.skipped.into_iter().map(|(version, error)| skipped(&version, error.into())));
            match load(&found.checkpoint, settings) {
                Ok(model) => return Ok((model, Some(Served::from(&found.version)))),
                Err(error) => warnings.push(skipped(&found.version, error)),
            }
        }
        Ok(None) => {}
        // Which version is in production is known, but no promoted one can be used.
        Err(error @ mynah_registry::Error::NothingVerifies { .. }) => {
            warnings.push(Warning::from_error("no promoted version can be served", &error.into()))
        }
        Err(error) => return Err(error.into()),
    }
    if let Some(base) = registry.base()? {
        match registry.verify(&base).map_err(MynahError::from).and_then(|verified| load(&verified, settings)) {
            Ok(model) => return Ok((model, Some(Served::from(&base)))),
            Err(error) => warnings.push(skipped(&base, error)),
        }
    }
    Ok((Model::load_with(&Checkpoint::starter()?, settings.precision, options(settings))?, None))
}

/// The model to serve after the journal grew, if it is another one than before.
fn newer_model(inner: &Inner, loaded: &Loaded, warnings: &mut Vec<Warning>) -> Option<(Model, Option<Served>)> {
    if inner.is_chosen.load(Ordering::Acquire) {
        return None;
    }
    let served = loaded.version.as_ref().map(|version| version.digest.as_str());
    let found = match inner.registry.load_production() {
        Ok(found) => found,
        Err(error) => {
            warnings.push(Warning::from_error("the version stays as it was", &error.into()));
            return None;
        }
    };
    let Some(found) = found else {
        // Nothing is in production: perhaps there is a new base.
        let base = inner
            .registry
            .base()
            .ok()
            .flatten()
            .filter(|base| Some(base.manifest_digest.to_string().as_str()) != served)?;
        let loaded = inner
            .registry
            .verify(&base)
            .map_err(MynahError::from)
            .and_then(|verified| load(&verified, &inner.settings));
        return match loaded {
            Ok(model) => Some((model, Some(Served::from(&base)))),
            Err(error) => {
                warnings.push(skipped(&base, error));
                None
            }
        };
    };
    warnings.extend(found.skipped.into_iter().map(|(version, error)| skipped(&version, error.into())));
    if Some(found.version.manifest_digest.to_string().as_str()) == served {
        return None;
    }
    match load(&found.checkpoint, &inner.settings) {
        Ok(model) => Some((model, Some(Served::from(&found.version)))),
        Err(error) => {
            warnings.push(skipped(&found.version, error));
            None
        }
    }
}

fn load(verified: &VerifiedCheckpoint, settings: &RuntimeSettings) -> Result<Model, MynahError> {
    Ok(Model::load_with(&Checkpoint::from_verified(verified)?, settings.precision, options(settings))?)
}

fn options(settings: &RuntimeSettings) -> EncoderOptions {
    EncoderOptions { threads: settings.threads }
}

fn skipped(version: &Version, error: MynahError) -> Warning {
    Warning::from_error(&format!("{} is not served", version.name), &error)
}
