//! The best version so far, which candidates must not drift away from.
//!
//! Every promotion may lose a little to production without anybody being able to see it, and many in a row much. So a candidate
//! is held against the best of production's line, too: its oldest version, unless a later one was better beyond chance. The
//! line goes down from production as far as functions and arguments are the same, and no further than to what a person
//! promoted: the owner's word begins it anew. What was rolled back or quarantined is not on it.
//!
//! *Invariant:* the end of a session evaluates no third model: what the best has right is remembered, and it is loaded only
//! when more than [`ASKED_FROM`] of the held-out examples are new to it, or the cache was deleted.

use mynah_data::Example;
use mynah_registry::{Digest, Registry, Version};
use mynah_runtime::{Checkpoint, Labels, Model, Precision};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

use crate::assess::Judged;
use crate::error::Error;
use crate::evaluate::evaluate_each;
use crate::gate::Best;
use crate::paired::Paired;
use crate::progress::NoProgress;
use crate::remembered::{Kind, Remembered, key};

/// Share of the held-out examples that may be unknown before the best is asked for them.
const ASKED_FROM: f64 = 0.1;

/// Where the best is sought and what it takes to be better.
pub(crate) struct Seeking<'a> {
    /// Where versions are.
    pub registry: &'a Registry,
    /// Where it is remembered what the best has right.
    pub cache: &'a Path,
    /// The precision that serves.
    pub precision: Precision,
    /// Level at which a later version counts as better.
    pub level: f64,
}

/// The best version and what it has right.
pub(crate) struct BestSoFar {
    /// Its name.
    version: String,
    /// Of each held-out example; none where production cannot know it or it was not asked.
    right: Vec<Option<bool>>,
}

impl BestSoFar {
    /// What a candidate is compared by.
    pub fn beside(&self, candidate: &Judged) -> Best {
        let both = candidate.held_out.iter().zip(&self.right);
        let (now, then): (Vec<bool>, Vec<bool>) =
            both.filter_map(|(answered, right)| Some((answered.outcome.exact, (*right)?))).unzip();
        let share = then.iter().filter(|right| **right).count() as f64 / then.len().max(1) as f64;
        let exact = Paired::count(now.into_iter(), then.into_iter());
        Best { version: self.version.clone(), exact_match: share, exact }
    }
}

impl Seeking<'_> {
    /// The best version of the line of `production`, which answered the held-out `examples` as `judged` says; remembers what it
    /// has right.
    ///
    /// # Errors
    /// A journal that cannot be read, a cache that cannot be written, [`Error::Cancelled`]. A version that cannot be loaded is
    /// passed over.
    pub fn best(&self, production: &Version, judged: &Judged, examples: &[Example]) -> Result<BestSoFar, Error> {
        let known: Vec<usize> = (0..examples.len()).filter(|index| judged.knows(&examples[*index])).collect();
        let keys: Vec<Digest> = known.iter().map(|index| key(&examples[*index])).collect();
        let line = self.line(production, judged.labels())?;
        let opened =
            |version: &Version| Remembered::open(Kind::HeldOut, self.cache, &version.manifest_digest, self.precision);
        let from = line.iter().position(|version| !opened(version).is_empty()).unwrap_or(0);
        let mut found = None;
        for version in line[from..].iter().filter(|version| version.manifest_digest != production.manifest_digest) {
            let mut remembered = opened(version);
            let asked: Vec<usize> = (0..keys.len()).filter(|place| remembered.get(&keys[*place]).is_none()).collect();
            if asked.len() as f64 > ASKED_FROM * keys.len() as f64 {
                let texts: Vec<Example> = asked.iter().map(|place| examples[known[*place]].clone()).collect();
                let Some(right) = self.ask(version, &texts)? else { continue };
                asked.iter().zip(right).for_each(|(place, right)| remembered.insert(keys[*place], right));
            }
            found = Some((version, remembered));
            break;
        }
        let now = |place: usize| judged.held_out[known[place]].outcome.exact;
        let is_better = |remembered: &Remembered| {
            let both = keys.iter().enumerate().filter_map(|(place, key)| Some((now(place), remembered.get(key)?)));
            let (now, then): (Vec<bool>, Vec<bool>) = both.unzip();
            let paired = Paired::count(now.into_iter(), then.into_iter());
            paired.n > 0 && paired.p_better() <= self.level
        };
        let (version, mut remembered) = match found.filter(|(_, remembered)| !is_better(remembered)) {
            Some(best) => best,
            None => {
                let mut own = Remembered::new(Kind::HeldOut);
                keys.iter().enumerate().for_each(|(place, key)| own.insert(*key, now(place)));
                (production, own)
            }
        };
        remembered.keep(&keys);
        remembered.save(self.cache, &version.manifest_digest, self.precision)?;
        let mut right = vec![None; examples.len()];
        known.iter().zip(&keys).for_each(|(index, key)| right[*index] = remembered.get(key));
        Ok(BestSoFar { version: version.name.clone(), right })
    }

    /// What production came from, oldest first, itself last.
    fn line(&self, production: &Version, labels: &Labels) -> Result<Vec<Version>, Error> {
        let mut line = Vec::new();
        let standing = self.registry.standing()?;
        let below = standing.into_iter().rev().skip_while(|(version, _)| version.name != production.name);
        for (version, verdict) in below {
            if !self.labels(&version).is_some_and(|own| says_the_same(&own, labels)) {
                break;
            }
            line.push(version);
            if by_hand(&verdict) {
                break;
            }
        }
        if line.is_empty() {
            line.push(production.clone());
        }
        line.reverse();
        Ok(line)
    }

    fn labels(&self, version: &Version) -> Option<Labels> {
        let file = version.manifest.files.get("labels.json")?;
        Labels::from_json(&self.registry.read_object(&file.sha256).ok()?).ok()
    }

    /// Whether `version` has each of `examples` exactly right; none when it cannot be loaded.
    fn ask(&self, version: &Version, examples: &[Example]) -> Result<Option<Vec<bool>>, Error> {
        let Ok(verified) = self.registry.verify(version) else { return Ok(None) };
        let loaded = Checkpoint::from_verified(&verified).and_then(|it| Model::load(&it, self.precision));
        let Ok(model) = loaded else { return Ok(None) };
        let (_, answered) = evaluate_each(&model, &version.name, examples, &NoProgress)?;
        Ok(Some(answered.iter().map(|answered| answered.outcome.exact).collect()))
    }
}

/// Whether a person promoted it, or a reference that asks no gate.
fn by_hand(verdict: &Value) -> bool {
    verdict.is_null() || verdict["by_hand"] == true
}

fn says_the_same(one: &Labels, other: &Labels) -> bool {
    let sorted =
        |labels: &Labels| -> BTreeSet<String> { labels.functions.iter().chain(&labels.tags).cloned().collect() };
    sorted(one) == sorted(other)
}
