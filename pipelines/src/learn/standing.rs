//! What a run finds: what serves, where training starts, and what is new to that.

use jiff::Timestamp;
use mynah_data::Example;
use mynah_registry::{Loaded, Registry, Version};
use mynah_runtime::{Checkpoint, Labels};
use std::collections::HashSet;

use super::LearnScope;
use crate::error::Error;
use crate::lineage::{held_by, learned_until};

/// What stands before a run.
pub(super) struct Standing {
    /// What a promotion replaces, even if it does not verify and an earlier version stands in for it.
    pub current: Option<Version>,
    /// What serves.
    pub production: Option<Loaded>,
    /// What training goes on from: production, else the base.
    pub parent: Version,
    /// Its files.
    pub checkpoint: Checkpoint,
    /// Whether it is a version, which has learned something.
    pub is_version: bool,
    /// Functions and tags that it knows.
    pub known: Labels,
    /// When its newest label was given.
    since: Option<Timestamp>,
    /// Held back by its own run.
    released: HashSet<String>,
}

impl Standing {
    /// What stands in `registry`, for a run of this `scope`.
    ///
    /// # Errors
    /// [`Error::NoBase`]; a registry or checkpoint that cannot be read.
    pub fn find(registry: &Registry, scope: LearnScope) -> Result<Self, Error> {
        let current = registry.production()?;
        let production = registry.load_production()?;
        let (parent, checkpoint, is_version) = match &production {
            Some(loaded) if scope != LearnScope::Anew => {
                (loaded.version.clone(), Checkpoint::from_verified(&loaded.checkpoint)?, true)
            }
            _ => {
                let base = registry.base()?.ok_or(Error::NoBase)?;
                let verified = registry.verify(&base)?;
                (base, Checkpoint::from_verified(&verified)?, false)
            }
        };
        let since = is_version.then(|| learned_until(registry, &parent));
        let released = if is_version { held_by(registry, &parent) } else { HashSet::new() };
        let known = checkpoint.labels()?.unwrap_or_default();
        Ok(Self { current, production, parent, checkpoint, is_version, known, since, released })
    }

    /// Labelled since, held back then and let pass now, or of a function that the parent has not learned.
    pub fn is_new(&self, example: &Example) -> bool {
        example.at.zip(self.since).is_some_and(|(at, since)| at > since)
            || self.released.contains(&example.origin)
            || self.is_unknown(example)
    }

    fn is_unknown(&self, example: &Example) -> bool {
        self.known.function_id(&example.function).is_none()
    }

    /// The share of what is new that is of functions which the parent has not learned; 0 of nothing.
    pub fn unknown_share(&self, examples: &[Example]) -> f64 {
        let new = examples.iter().filter(|example| self.is_new(example));
        let (new, unknown) =
            new.fold((0, 0), |(new, unknown), example| (new + 1, unknown + usize::from(self.is_unknown(example))));
        unknown as f64 / new.max(1) as f64
    }

    /// Functions and tags that production knows, wherever the run started from, and whether it finds answers in passages.
    ///
    /// # Errors
    /// A checkpoint that cannot be read.
    pub fn served(&self) -> Result<(Labels, bool), Error> {
        let answers = |checkpoint: &Checkpoint| checkpoint.has("qa_outputs.weight");
        match &self.production {
            Some(production) => {
                let served = Checkpoint::from_verified(&production.checkpoint)?;
                Ok((served.labels()?.unwrap_or_default(), answers(&served)))
            }
            None => Ok((self.known.clone(), answers(&self.checkpoint))),
        }
    }
}
