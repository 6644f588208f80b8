//! Questions about versions: what is there, what is in production, and what was.
//!
//! Nothing here writes. Invariant: every answer is a fold over the journal; there is no other place that says what is
//! in production.

use jiff::Timestamp;

use crate::resolve::resolve;
use crate::state::State;
use crate::{Entry, Event, Registry, Result, Version};

impl Registry {
    /// Finds a version by its name (`v12` or `12`), a tag, `production`, `base`, or 6 or more digits of its digest.
    ///
    /// # Errors
    /// [`crate::Error::UnknownVersion`] with the nearest name, [`crate::Error::AmbiguousDigest`],
    /// [`crate::Error::NoProduction`], [`crate::Error::NoBase`].
    pub fn version(&self, name_or_digest_prefix: &str) -> Result<Version> {
        let state = self.state()?;
        Ok(self.view(&state, resolve(&state, name_or_digest_prefix)?))
    }

    /// All versions and bases, oldest first, the deleted ones too.
    ///
    /// # Errors
    /// [`crate::Error::BrokenChain`], [`crate::Error::Io`].
    pub fn versions(&self) -> Result<Vec<Version>> {
        let state = self.state()?;
        Ok(state.records.iter().map(|record| self.view(&state, record)).collect())
    }

    /// The version in production.
    ///
    /// # Errors
    /// [`crate::Error::BrokenChain`], [`crate::Error::Io`].
    pub fn production(&self) -> Result<Option<Version>> {
        let state = self.state()?;
        Ok(state.production().map(|record| self.view(&state, record)))
    }

    /// What is in production and what a rollback could go down to, bottom first, each with the verdict of its latest
    /// promotion; without what is deleted or quarantined.
    ///
    /// # Errors
    /// [`crate::Error::BrokenChain`], [`crate::Error::Io`].
    pub fn standing(&self) -> Result<Vec<(Version, serde_json::Value)>> {
        let chain = self.inner.journal.current()?;
        let state = State::fold(&chain.entries);
        let verdict = |version: &str| {
            chain.entries.iter().rev().find_map(|entry| match &entry.event {
                Event::Promote { name, gate, .. } if name == version => Some(gate.clone()),
                _ => None,
            })
        };
        let standing = state.standing().into_iter();
        Ok(standing.map(|record| (self.view(&state, record), verdict(&record.name).unwrap_or_default())).collect())
    }

    /// The version that was in production at a time; its status and tags are those of then.
    ///
    /// # Errors
    /// [`crate::Error::BrokenChain`], [`crate::Error::Io`].
    pub fn production_at(&self, at: Timestamp) -> Result<Option<Version>> {
        let chain = self.inner.journal.current()?;
        let state = State::fold(chain.entries.iter().filter(|entry| entry.at <= at));
        Ok(state.production().map(|record| self.view(&state, record)))
    }

    /// The base registered last.
    ///
    /// # Errors
    /// [`crate::Error::BrokenChain`], [`crate::Error::Io`].
    pub fn base(&self) -> Result<Option<Version>> {
        let state = self.state()?;
        Ok(state.base().map(|record| self.view(&state, record)))
    }

    /// Every entry of the journal, read and checked now.
    ///
    /// # Errors
    /// [`crate::Error::BrokenChain`] when an entry is missing, was changed or does not follow the one before.
    pub fn log(&self) -> Result<Vec<Entry>> {
        Ok(self.inner.journal.read()?.entries.clone())
    }

    /// The number of entries. Cheap enough to ask often: a change means that production may have changed.
    ///
    /// # Errors
    /// [`crate::Error::Io`].
    pub fn journal_head(&self) -> Result<u64> {
        self.inner.journal.head()
    }

    /// The same with one look at the disk, where nothing was appended to the `head` that was seen a moment ago. A journal that
    /// somebody replaced in the meantime is not noticed.
    pub fn journal_head_after(&self, head: u64) -> u64 {
        self.inner.journal.head_after(head)
    }
}
