//! What the journal means: a fold over its entries, without any I/O.
//!
//! Production is a stack: a promotion goes on top, a rollback takes off what is above its target. Invariants: the fold
//! takes any sequence of entries without failing, and the same entries always give the same state.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;

use crate::{Digest, Entry, Event, Kind, Manifest};

/// A registered version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// `v12` or `base1`.
    pub name: String,
    /// The digest of its manifest, which names it for good.
    pub manifest_digest: Digest,
    /// Its manifest; without files when it is `damaged`.
    pub manifest: Manifest,
    /// Whether it is a base or a version.
    pub kind: Kind,
    /// When it was registered.
    pub registered_at: Timestamp,
    /// What became of it.
    pub status: Status,
    /// Whether its digest is quarantined, whatever its status.
    pub quarantined: bool,
    /// Its other names.
    pub tags: Vec<String>,
    /// Whether its manifest cannot be read; [`crate::Registry::verify`] says why.
    pub damaged: bool,
}

/// What became of a version. The first that applies, in this order: deleted, production, quarantined, promoted,
/// refused, base, candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// Its files are gone or may go.
    Deleted,
    /// It is what is served.
    Production,
    /// It must not be served again.
    Quarantined,
    /// It was in production earlier.
    Promoted,
    /// The gate kept it out.
    Refused,
    /// It is a base, and was never in production.
    Base,
    /// Nothing was decided about it yet.
    Candidate,
}

impl Status {
    /// The word for people and files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Production => "production",
            Self::Quarantined => "quarantined",
            Self::Promoted => "promoted",
            Self::Refused => "refused",
            Self::Base => "base",
            Self::Candidate => "candidate",
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the journal says about one registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub name: String,
    pub manifest: Digest,
    pub kind: Kind,
    pub registered_at: Timestamp,
    pub sequence: u64,
    pub deleted: bool,
    refused: bool,
}

/// What the journal says as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// All registrations, oldest first.
    pub records: Vec<Record>,
    /// The version each tag means.
    pub tags: BTreeMap<String, String>,
    /// The objects promotions were decided on, and the entries that name them.
    pub evidence: Vec<(u64, Digest)>,
    /// The entry that put production where it is.
    pub placed: u64,
    /// Indices into the records: production is the last.
    stack: Vec<usize>,
    /// Everything that ever was in production, the latest last.
    served: Vec<usize>,
    quarantined: HashSet<Digest>,
}

impl State {
    /// Folds entries in their order.
    pub fn fold<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut state = Self::default();
        for entry in entries {
            state.apply(entry);
        }
        state
    }

    fn apply(&mut self, entry: &Entry) {
        match &entry.event {
            Event::Register { name, manifest, kind } => self.records.push(Record {
                name: name.clone(),
                manifest: *manifest,
                kind: *kind,
                registered_at: entry.at,
                sequence: entry.sequence,
                deleted: false,
                refused: false,
            }),
            Event::Promote { name, evidence, .. } => {
                self.evidence.extend(evidence.map(|digest| (entry.sequence, digest)));
                if let Some(index) = self.index(name) {
                    self.stack.push(index);
                    self.place(index, entry);
                }
            }
            Event::Rollback { to_name, .. } => {
                if let Some(index) = self.index(to_name) {
                    match self.stack.iter().rposition(|below| *below == index) {
                        Some(position) => self.stack.truncate(position + 1),
                        // It was rolled back from earlier: it replaces what is there now.
                        None => {
                            self.stack.pop();
                            self.stack.push(index);
                        }
                    }
                    self.place(index, entry);
                }
            }
            Event::Refuse { name, .. } => {
                if let Some(index) = self.index(name) {
                    self.records[index].refused = true;
                }
            }
            Event::Quarantine { manifest, .. } => {
                self.quarantined.insert(*manifest);
            }
            Event::Delete { name, .. } => {
                if let Some(index) = self.index(name) {
                    self.records[index].deleted = true;
                    self.tags.retain(|_, tagged| tagged != name);
                }
            }
            Event::Tag { name, tag, .. } => {
                self.tags.insert(tag.clone(), name.clone());
            }
        }
    }

    fn place(&mut self, index: usize, entry: &Entry) {
        self.served.retain(|earlier| *earlier != index);
        self.served.push(index);
        self.placed = entry.sequence;
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.records.iter().position(|record| record.name == name)
    }

    /// The version with this name.
    pub fn record(&self, name: &str) -> Option<&Record> {
        self.index(name).map(|index| &self.records[index])
    }

    /// The version with this manifest that is not deleted.
    pub fn live(&self, manifest: &Digest) -> Option<&Record> {
        self.records.iter().rev().find(|record| record.manifest == *manifest && !record.deleted)
    }

    /// What is in production.
    pub fn production(&self) -> Option<&Record> {
        self.stack.last().map(|index| &self.records[*index])
    }

    /// What is in production and what lies below it, bottom first, without what is not fit to serve.
    pub fn standing(&self) -> Vec<&Record> {
        self.stack.iter().filter(|index| self.is_fit(**index)).map(|index| &self.records[*index]).collect()
    }

    /// What a rollback goes to: the nearest version below production that is fit to serve.
    pub fn before_production(&self) -> Option<&Record> {
        let current = *self.stack.last()?;
        let below = self.stack.iter().rev().find(|index| **index != current && self.is_fit(**index));
        below.map(|index| &self.records[*index])
    }

    /// What can be served when production cannot, best first: what is below it, then what was rolled back from,
    /// the latest first.
    pub fn fallbacks(&self) -> Vec<&Record> {
        let Some(current) = self.stack.last() else {
            return Vec::new();
        };
        let mut seen = HashSet::from([*current]);
        let candidates = self.stack.iter().rev().chain(self.served.iter().rev());
        candidates
            .filter(|index| seen.insert(**index) && self.is_fit(**index))
            .map(|index| &self.records[*index])
            .collect()
    }

    /// The base registered last.
    pub fn base(&self) -> Option<&Record> {
        self.records.iter().rev().find(|record| record.kind == Kind::Base && !record.deleted)
    }

    /// The name the next registration gets. Names are never used twice.
    pub fn next_name(&self, kind: Kind) -> String {
        let names = self.records.iter().map(|record| &record.name);
        let numbers = names.filter_map(|name| name.strip_prefix(kind.prefix())?.parse::<u64>().ok());
        // A journal has no room for more than 12 digits of entries; larger numbers were not given by this program.
        let last = numbers.filter(|number| *number < 1_000_000_000_000).max();
        format!("{}{}", kind.prefix(), last.unwrap_or(0) + 1)
    }

    /// Whether a digest is quarantined.
    pub fn is_quarantined(&self, manifest: &Digest) -> bool {
        self.quarantined.contains(manifest)
    }

    /// Whether a version ever was in production.
    pub fn was_served(&self, name: &str) -> bool {
        self.served.iter().any(|index| self.records[*index].name == name)
    }

    fn is_fit(&self, index: usize) -> bool {
        let record = &self.records[index];
        !record.deleted && !self.is_quarantined(&record.manifest)
    }

    /// What became of a version.
    pub fn status(&self, record: &Record) -> Status {
        let is_production = self.production().is_some_and(|production| production.name == record.name);
        match record {
            _ if record.deleted => Status::Deleted,
            _ if is_production => Status::Production,
            _ if self.is_quarantined(&record.manifest) => Status::Quarantined,
            _ if self.was_served(&record.name) => Status::Promoted,
            _ if record.refused => Status::Refused,
            _ if record.kind == Kind::Base => Status::Base,
            _ => Status::Candidate,
        }
    }
}
