//! Labels that are held back for a person to look at, before anything is trained on them.
//!
//! Three things speak against a label: the text is nothing that anybody says; another session says otherwise of the same
//! words; or the version in production is sure of another function, as sure as it is where it is right, and the nearest
//! labelled examples agree with it and not with the label (confident learning, Northcutt et al., arXiv 1911.00068, with
//! neighbours as the second witness). A session too many of whose labels are doubtful is held back as a whole.
//!
//! *Invariants:* a label of a function that production does not know is never doubted for what production says. The same
//! label from a second session, or the owner's word, lets any label pass. Nothing here changes the log.

mod garbage;
mod witness;

use jiff::Timestamp;
use mynah_data::{Decision, Home, LabelDecisions, Log, OUT_OF_SCOPE, Vote, normalise};
use mynah_registry::{Loaded, Registry};
use mynah_runtime::{Checkpoint, Model, Precision};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::corpus::Corpus;
use crate::error::Error;
use crate::lineage::{held_by, learned_until};
use crate::progress::Progress;
pub(crate) use garbage::garbage;
use witness::{Witness, not_in_question};

/// Doubtful labels of a session from which on it can be held back as a whole.
const FEWEST: usize = 3;
/// The share of a session's labels, of those that can be judged, from which on all of them are held back: of a session that
/// means well few are doubtful, of one that flips its labels most are found.
const SESSION: f64 = 0.3;

/// Why a label is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// Nobody says such a text.
    Garbage,
    /// Other sessions give the same words another function.
    Contradicted,
    /// Production and the nearest examples agree on another function.
    Outvoted,
    /// Much of its session is doubtful.
    Session,
}

/// A labelled example near a doubtful one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Neighbour {
    /// Its text.
    pub text: String,
    /// Its function.
    pub function: String,
    /// The cosine similarity of the two embeddings.
    pub similarity: f32,
    /// Where it comes from.
    pub origin: String,
}

/// A label that is held back.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeldBack {
    /// The interaction that was labelled: the name to accept or reject the label by, and its line in the log.
    pub interaction: String,
    /// The session in which the label was given.
    pub session: String,
    /// When.
    pub at: Option<Timestamp>,
    /// What was said.
    pub text: String,
    /// The function it was given.
    pub function: String,
    /// Why it is held back.
    pub doubt: Doubt,
    /// The same in words.
    pub detail: String,
    /// The nearest examples, where they were asked.
    pub neighbours: Vec<Neighbour>,
}

/// The labels of a home that the next run would hold back, were [`crate::TrainingSettings::hold_back`] set.
///
/// # Errors
/// When the log, the examples or the registry cannot be read.
pub fn labels_held_back(
    home: &Home,
    registry: &Registry,
    precision: Precision,
    progress: &dyn Progress,
) -> Result<Vec<HeldBack>, Error> {
    let corpus = Corpus::gather(home)?;
    let production = registry.load_production()?;
    Review { home, registry, corpus: &corpus, production: production.as_ref(), precision, progress }.held_back()
}

/// The labels of a home, and who looks at them.
pub(crate) struct Review<'a> {
    /// Where the owner's decisions lie.
    pub home: &'a Home,
    /// What production says about itself.
    pub registry: &'a Registry,
    /// Everything labelled, doubtful labels included.
    pub corpus: &'a Corpus,
    /// The version in production.
    pub production: Option<&'a Loaded>,
    /// The precision that serves.
    pub precision: Precision,
    /// Told that the person wants to stop.
    pub progress: &'a dyn Progress,
}

impl Review<'_> {
    /// The labels that no version has learned yet and that are held back.
    ///
    /// # Errors
    /// When the decisions or production cannot be read, and [`Error::Cancelled`].
    pub fn held_back(&self) -> Result<Vec<HeldBack>, Error> {
        let decisions = LabelDecisions::of(&Log::open(self.home))?;
        let votes = &self.corpus.votes;
        let since = self.production.map(|production| learned_until(self.registry, &production.version));
        let held = self.production.map(|production| held_by(self.registry, &production.version)).unwrap_or_default();
        let is_new = |vote: &Vote| {
            since.is_none_or(|since| vote.example.at.is_some_and(|at| at > since))
                || held.contains(&vote.example.origin)
        };
        if !votes.iter().any(is_new) {
            return Ok(Vec::new());
        }
        let Some(production) = self.production else { return held_back(votes, &decisions, is_new, None) };
        let model = Model::load(&Checkpoint::from_verified(&production.checkpoint)?, self.precision)?;
        let new: HashSet<&str> =
            votes.iter().filter(|vote| is_new(vote)).map(|vote| vote.example.origin.as_str()).collect();
        let (cache, version) = (self.home.cache_dir(), production.version.manifest_digest.to_string());
        let witness = Witness {
            model: &model,
            cache: &cache,
            version: &version,
            known: not_in_question(&self.corpus.dataset.train, &new),
            validation: not_in_question(&self.corpus.dataset.validation, &new),
            progress: self.progress,
        };
        held_back(votes, &decisions, is_new, Some(&witness))
    }
}

/// What production and the neighbours say against a label.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outvoted {
    /// The same in words.
    pub detail: String,
    /// The nearest examples.
    pub neighbours: Vec<Neighbour>,
}

/// Somebody who can say whether a label is likely.
pub(crate) trait Judge {
    /// Whether it can say anything about a function.
    fn knows(&self, function: &str) -> bool;
    /// What speaks against each of these labels.
    ///
    /// # Errors
    /// [`Error::Cancelled`] and an unreadable cache.
    fn doubts(&self, votes: &[&Vote]) -> Result<Vec<Option<Outvoted>>, Error>;
}

/// The labels of `votes` that are held back, in the order in which they were given.
///
/// `is_new` says which labels no version has learned yet; only those are looked at. Without a judge only the texts and the
/// other sessions speak.
///
/// # Errors
/// As for [`Judge::doubts`].
pub(crate) fn held_back(
    votes: &[Vote],
    decisions: &LabelDecisions,
    is_new: impl Fn(&Vote) -> bool,
    judge: Option<&dyn Judge>,
) -> Result<Vec<HeldBack>, Error> {
    let sides = Sides::of(votes);
    let accepted = |vote: &Vote| {
        vote.example.at.and_then(|at| decisions.on(&vote.example.origin, at)) == Some(Decision::Accept)
            || sides.is_confirmed(vote)
    };
    let candidates: Vec<&Vote> = votes.iter().filter(|vote| is_new(vote)).collect();
    let judged: Vec<&Vote> = match judge {
        Some(judge) => candidates.iter().copied().filter(|vote| judge.knows(&vote.example.function)).collect(),
        None => Vec::new(),
    };
    let outvoted = match judge {
        Some(judge) if !judged.is_empty() => judge.doubts(&judged)?,
        _ => vec![None; judged.len()],
    };
    let mut outvoted: BTreeMap<&str, Outvoted> =
        judged.iter().zip(outvoted).filter_map(|(vote, doubt)| Some((vote.example.origin.as_str(), doubt?))).collect();
    let mut found: BTreeMap<&str, HeldBack> = BTreeMap::new();
    for vote in &candidates {
        let origin = vote.example.origin.as_str();
        let doubt = if let Some(detail) = garbage_of(vote) {
            Some((Doubt::Garbage, detail, Vec::new()))
        } else if let Some(other) = sides.against(vote) {
            Some((Doubt::Contradicted, format!("another session calls the same words {other}"), Vec::new()))
        } else {
            outvoted.remove(origin).map(|Outvoted { detail, neighbours }| (Doubt::Outvoted, detail, neighbours))
        };
        if let Some((doubt, detail, neighbours)) = doubt {
            found.insert(origin, HeldBack { doubt, detail, neighbours, ..HeldBack::of(vote) });
        }
    }
    for (session, (doubtful, of)) in doubtful_sessions(&candidates, &judged, &found) {
        for vote in judged.iter().filter(|vote| vote.session == session) {
            let origin = vote.example.origin.as_str();
            let detail = format!("{doubtful} of the {of} labels of its session are doubtful");
            found.entry(origin).or_insert_with(|| HeldBack { doubt: Doubt::Session, detail, ..HeldBack::of(vote) });
        }
    }
    let held = candidates.iter().filter(|vote| !accepted(vote));
    Ok(held.filter_map(|vote| found.get(vote.example.origin.as_str()).cloned()).collect())
}

/// The sessions that are held back as a whole: how many of their labels are doubtful, of how many.
fn doubtful_sessions(
    candidates: &[&Vote],
    judged: &[&Vote],
    found: &BTreeMap<&str, HeldBack>,
) -> BTreeMap<String, (usize, usize)> {
    let mut sessions: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let judged: HashSet<&str> = judged.iter().map(|vote| vote.example.origin.as_str()).collect();
    for vote in candidates {
        let origin = vote.example.origin.as_str();
        // A new function cannot be judged, but what somebody else says of the same words can.
        if judged.contains(origin) || found.contains_key(origin) {
            let (doubtful, of) = sessions.entry(vote.session.clone()).or_default();
            *doubtful += usize::from(found.contains_key(origin));
            *of += 1;
        }
    }
    sessions.retain(|_, (doubtful, of)| *doubtful >= FEWEST && *doubtful as f64 > SESSION * *of as f64);
    sessions
}

/// What is no request may well be labelled as none.
fn garbage_of(vote: &Vote) -> Option<String> {
    if vote.example.function == OUT_OF_SCOPE { None } else { garbage(&vote.example.text) }
}

impl HeldBack {
    fn of(vote: &Vote) -> Self {
        let example = &vote.example;
        Self {
            interaction: example.origin.clone(),
            session: vote.session.clone(),
            at: example.at,
            text: example.text.clone(),
            function: example.function.clone(),
            doubt: Doubt::Session,
            detail: String::new(),
            neighbours: Vec::new(),
        }
    }
}

/// Which sessions give the same words which function: the last label of a session counts.
struct Sides<'a>(BTreeMap<String, BTreeMap<&'a str, &'a str>>);

impl<'a> Sides<'a> {
    fn of(votes: &'a [Vote]) -> Self {
        let mut sides: BTreeMap<String, BTreeMap<&str, &str>> = BTreeMap::new();
        for vote in votes {
            let by_session = sides.entry(normalise(&vote.example.text)).or_default();
            by_session.insert(&vote.session, &vote.example.function);
        }
        Self(sides)
    }

    /// How many sessions give these words each function.
    fn counts(&self, vote: &Vote) -> BTreeMap<&'a str, usize> {
        let mut counts = BTreeMap::new();
        for function in self.0.get(&normalise(&vote.example.text)).into_iter().flat_map(BTreeMap::values) {
            *counts.entry(*function).or_default() += 1;
        }
        counts
    }

    /// Whether two sessions or more say the same, and more than say anything else.
    fn is_confirmed(&self, vote: &Vote) -> bool {
        let counts = self.counts(vote);
        let own = counts.get(vote.example.function.as_str()).copied().unwrap_or(0);
        own >= 2 && counts.iter().all(|(function, count)| *function == vote.example.function || *count < own)
    }

    /// What others call the same words, when they do and at least as many do.
    fn against(&self, vote: &Vote) -> Option<String> {
        let counts = self.counts(vote);
        if self.is_confirmed(vote) {
            return None;
        }
        let others: BTreeSet<&str> = counts.into_keys().filter(|function| *function != vote.example.function).collect();
        (!others.is_empty()).then(|| others.into_iter().collect::<Vec<_>>().join(" or "))
    }
}

#[cfg(test)]
mod tests;
