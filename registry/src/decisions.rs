//! Decisions about versions: promote, refuse, roll back, quarantine, tag, delete; each is one entry in the journal.
//!
//! Invariants: what goes to production was verified by the same call and is neither quarantined nor deleted; what is in
//! production is not deleted; an operation repeated after a failure finds what the first attempt left, and finishes it.

use crate::registry::Decision;
use crate::resolve::{check_tag, unknown};
use crate::state::{Record, State};
use crate::{Author, Digest, Entry, Error, Event, Registry, Result, Version};

impl Registry {
    /// Puts a version into production, provided that what the caller compared it with still is.
    ///
    /// Promoting what is in production, with that as `expected_current`, changes nothing and returns the entry that
    /// put it there.
    ///
    /// # Errors
    /// [`Error::Conflict`] when something else is in production; [`Error::Quarantined`], [`Error::Deleted`]; and what
    /// [`Registry::verify`] finds.
    pub fn promote(
        &self,
        version: &Version,
        expected_current: Option<&Digest>,
        gate: serde_json::Value,
        who: &Author,
    ) -> Result<Entry> {
        let _lock = self.lock_shared()?;
        self.promote_locked(version, expected_current, (gate, None), who)
    }

    /// Puts a version into production and keeps the report it was decided on as an object.
    ///
    /// # Errors
    /// As for [`Registry::promote`].
    pub fn promote_with_evidence(
        &self,
        version: &Version,
        expected_current: Option<&Digest>,
        gate: serde_json::Value,
        evidence: &[u8],
        who: &Author,
    ) -> Result<Entry> {
        // One lock over both: garbage collection must not run before the entry names the object.
        let _lock = self.lock_shared()?;
        let evidence = self.inner.objects.put_bytes(evidence)?.sha256;
        self.promote_locked(version, expected_current, (gate, Some(evidence)), who)
    }

    fn promote_locked(
        &self,
        version: &Version,
        expected_current: Option<&Digest>,
        (gate, evidence): (serde_json::Value, Option<Digest>),
        who: &Author,
    ) -> Result<Entry> {
        self.transact(who, |state| {
            let record = usable(state, version)?;
            let production = state.production();
            let actual = production.map(|production| production.manifest);
            if actual.as_ref() != expected_current {
                let expected = expected_current.copied();
                let wanted = record.manifest;
                return Err(Error::Conflict { expected, actual, wanted });
            }
            if production.is_some_and(|production| production.name == record.name) {
                return Ok(Decision::Done(state.placed));
            }
            // Last, since it takes longest: the files. The entry goes behind the state decided on, or nowhere.
            self.verify(version)?;
            Ok(Decision::Append(Event::Promote {
                name: record.name.clone(),
                manifest: record.manifest,
                expected_current: expected_current.copied(),
                evidence,
                gate: gate.clone(),
            }))
        })
    }

    /// Keeps a version out of production, with the verdict that says why.
    ///
    /// # Errors
    /// [`Error::InProduction`], [`Error::Deleted`].
    pub fn refuse(&self, version: &Version, gate: serde_json::Value, who: &Author) -> Result<Entry> {
        let _lock = self.lock_shared()?;
        self.transact(who, |state| {
            let (name, manifest) = outside_production(state, version, "refuse")?;
            Ok(Decision::Append(Event::Refuse { name, manifest, gate: gate.clone() }))
        })
    }

    /// Puts an earlier version of production back; without a target, the nearest one that is fit to serve.
    ///
    /// Each rollback without a target goes one version further back. A rollback to what is in production changes
    /// nothing and returns the entry that put it there.
    ///
    /// # Errors
    /// [`Error::NoProduction`], [`Error::NothingToRollBackTo`], [`Error::NeverPromoted`], [`Error::Quarantined`],
    /// [`Error::Deleted`]; and what [`Registry::verify`] finds in the target.
    pub fn rollback(&self, to: Option<&Version>, who: &Author) -> Result<Entry> {
        self.rollback_of(None, to, who)
    }

    /// The same for somebody who has seen `expected_current` in production.
    ///
    /// # Errors
    /// As for [`Registry::rollback`]; [`Error::Conflict`] when something else is in production by now.
    pub fn rollback_from(&self, expected_current: &Digest, to: Option<&Version>, who: &Author) -> Result<Entry> {
        self.rollback_of(Some(expected_current), to, who)
    }

    fn rollback_of(&self, expected: Option<&Digest>, to: Option<&Version>, who: &Author) -> Result<Entry> {
        let _lock = self.lock_shared()?;
        self.transact(who, |state| {
            let target = match to {
                Some(version) => usable(state, version)?,
                None if state.production().is_none() => return Err(Error::NoProduction),
                None => state.before_production().ok_or(Error::NothingToRollBackTo)?,
            };
            let actual = state.production().map(|production| production.manifest);
            if expected.is_some() && actual.as_ref() != expected {
                return Err(Error::Conflict { expected: expected.copied(), actual, wanted: target.manifest });
            }
            let current = match state.production() {
                Some(current) if state.was_served(&target.name) => current,
                _ => {
                    return Err(Error::NeverPromoted { name: target.name.clone() });
                }
            };
            if current.name == target.name {
                return Ok(Decision::Done(state.placed));
            }
            self.verify_record(target)?;
            Ok(Decision::Append(rollback_event(current, target)))
        })
    }

    /// Marks a version as never to be served again, whatever name its files get.
    ///
    /// The version in production is rolled back from first, to the best one promoted earlier that can be loaded; when
    /// there is none it stays in production, since something must be served.
    ///
    /// # Errors
    /// [`Error::Deleted`], [`Error::UnknownVersion`].
    pub fn quarantine(&self, version: &Version, who: &Author) -> Result<Entry> {
        let _lock = self.lock_shared()?;
        loop {
            let entry = self.transact(who, |state| {
                let record = known(state, version)?;
                let current = state.production().filter(|production| production.manifest == record.manifest);
                let fallbacks = state.fallbacks().into_iter();
                let mut verified = fallbacks.filter(|record| self.verify_record(record).is_ok());
                Ok(match (current, current.and_then(|_| verified.next())) {
                    (Some(current), Some(target)) => Decision::Append(rollback_event(current, target)),
                    _ => Decision::Append(Event::Quarantine { name: record.name.clone(), manifest: record.manifest }),
                })
            })?;
            if matches!(entry.event, Event::Quarantine { .. }) {
                return Ok(entry);
            }
        }
    }

    /// Gives a version one more name; a tag that was used before moves.
    ///
    /// # Errors
    /// [`Error::InvalidTag`] when the tag means something else; [`Error::Deleted`].
    pub fn tag(&self, version: &Version, tag: &str, who: &Author) -> Result<Entry> {
        check_tag(tag)?;
        let _lock = self.lock_shared()?;
        self.transact(who, |state| {
            let record = known(state, version)?;
            let (name, manifest) = (record.name.clone(), record.manifest);
            Ok(Decision::Append(Event::Tag { name, manifest, tag: tag.to_owned() }))
        })
    }

    /// Gives a version's files up; [`Registry::collect_garbage`] frees what no other version needs.
    ///
    /// # Errors
    /// [`Error::InProduction`], [`Error::Deleted`].
    pub fn delete(&self, version: &Version, who: &Author) -> Result<Entry> {
        let _lock = self.lock_shared()?;
        self.transact(who, |state| {
            let (name, manifest) = outside_production(state, version, "delete")?;
            Ok(Decision::Append(Event::Delete { name, manifest }))
        })
    }
}

fn rollback_event(current: &Record, target: &Record) -> Event {
    Event::Rollback {
        from: current.manifest,
        to: target.manifest,
        from_name: current.name.clone(),
        to_name: target.name.clone(),
    }
}

/// The record of a version the caller holds, which may have been deleted since.
fn known<'a>(state: &'a State, version: &Version) -> Result<&'a Record> {
    let record = state.record(&version.name).filter(|record| record.manifest == version.manifest_digest);
    let record = record.ok_or_else(|| unknown(state, &version.name))?;
    match record.deleted {
        true => Err(Error::Deleted { name: record.name.clone() }),
        false => Ok(record),
    }
}

/// The record of a version that may go to production.
fn usable<'a>(state: &'a State, version: &Version) -> Result<&'a Record> {
    let record = known(state, version)?;
    match state.is_quarantined(&record.manifest) {
        true => Err(Error::Quarantined { name: record.name.clone(), digest: record.manifest }),
        false => Ok(record),
    }
}

/// The name and digest of a version that is not in production.
fn outside_production(state: &State, version: &Version, action: &'static str) -> Result<(String, Digest)> {
    let record = known(state, version)?;
    match state.production() {
        Some(production) if production.name == record.name => {
            Err(Error::InProduction { name: record.name.clone(), action })
        }
        _ => Ok((record.name.clone(), record.manifest)),
    }
}
