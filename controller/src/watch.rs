//! The watch over a promotion: live turns against those before it, and back when people are worse off.
//!
//! The test itself is [`mynah_pipelines::Watch`]. This module says which turns are compared, and carries the rollback out with
//! its figures in the journal. Invariant: only a promotion that the gate made is taken back; what an owner put into
//! production, or pinned, stays.

use std::collections::BTreeMap;

use jiff::Timestamp;
use mynah_pipelines::{Baseline, SessionCount, Watch, WatchSettings, Watched};
use mynah_registry::{Author, Entry, Event, Registry, Version};
use serde::Serialize;
use serde_json::Value;

use crate::service::recent::Turn;

/// Who the journal says it was.
const ACTOR: &str = "watch";

/// A promotion under watch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UnderWatch {
    /// The version.
    pub version: String,
    /// When it was promoted.
    pub since: Timestamp,
    /// What it replaced.
    pub before: String,
    /// What the test says; none while there are too few turns to compare with.
    pub watched: Option<Watched>,
}

/// The version in production with the promotion that put it there, if that may be taken back: the gate made it, it replaced
/// something, and nothing was decided about production since.
fn promotion(entries: &[Entry], production: &Version) -> Option<(Timestamp, String)> {
    let last =
        entries.iter().rev().find(|entry| matches!(entry.event, Event::Promote { .. } | Event::Rollback { .. }))?;
    match &last.event {
        Event::Promote { manifest, expected_current: Some(before), gate, .. }
            if *manifest == production.manifest_digest && gate.get("by_hand") != Some(&Value::Bool(true)) =>
        {
            Some((last.at, before.to_string()))
        }
        _ => None,
    }
}

/// Compares the turns of the version in production with those before it; `None` when nothing is to be watched.
///
/// # Errors
/// When the registry cannot be read.
pub fn look(registry: &Registry, settings: &WatchSettings, turns: &[Turn]) -> anyhow::Result<Option<UnderWatch>> {
    let Some(production) = registry.production()?.filter(|_| settings.enabled) else { return Ok(None) };
    let Some((since, before)) = promotion(&registry.log()?, &production) else { return Ok(None) };
    let digest = production.manifest_digest.to_string();
    let earlier: Vec<&Turn> = turns.iter().filter(|turn| turn.at < since).collect();
    let of_before = |turn: &&&Turn| turn.version.as_deref() == Some(before.as_str());
    // A version that hardly anybody talked to tells little: then all that was said before has to.
    let enough = earlier.iter().filter(of_before).count() >= settings.min_baseline;
    let compared: Vec<&Turn> = match enough {
        true => earlier.iter().filter(of_before).copied().collect(),
        false => earlier,
    };
    let compared = &compared[compared.len().saturating_sub(settings.baseline)..];
    let after: Vec<bool> = turns
        .iter()
        .filter(|turn| turn.at >= since && turn.version.as_deref() == Some(digest.as_str()))
        .map(Turn::went_wrong)
        .collect();
    let watch = Watch::new(settings, Baseline::of(&by_session(compared)));
    let watched = watch.map(|watch| watch.judge(&after));
    let before = registry.version(&before).map_or(before, |version| version.name);
    Ok(Some(UnderWatch { version: production.name, since, before, watched }))
}

/// What went wrong, by session.
pub fn by_session(turns: &[&Turn]) -> Vec<SessionCount> {
    let mut sessions: BTreeMap<&str, SessionCount> = BTreeMap::new();
    for turn in turns {
        let count = sessions.entry(&turn.session).or_default();
        count.turns += 1;
        count.wrong += usize::from(turn.went_wrong());
    }
    sessions.into_values().collect()
}

/// Takes a promotion back that people are worse off with; what was done, in words, when something was.
///
/// # Errors
/// When the registry refuses.
pub fn act(registry: &Registry, found: &UnderWatch) -> anyhow::Result<Option<String>> {
    let Some(watched) = found.watched.filter(|watched| watched.worse_after.is_some()) else { return Ok(None) };
    let version = registry.version(&found.version)?;
    // Somebody decided something meanwhile: then it is another promotion that would have to be watched.
    if registry.production()?.is_none_or(|production| production.manifest_digest != version.manifest_digest) {
        return Ok(None);
    }
    let reason = in_words(found, &watched);
    registry.quarantine(&version, &Author::new(ACTOR, &reason))?;
    Ok(Some(reason))
}

fn in_words(found: &UnderWatch, watched: &Watched) -> String {
    let Baseline { turns, wrong, design_effect } = watched.baseline;
    let share = |wrong: usize, turns: usize| 100.0 * wrong as f64 / turns.max(1) as f64;
    format!(
        "people are worse off with {}: {} of {} turns went wrong ({:.1} %), {wrong} of {turns} before it ({:.1} %; {}; design effect {design_effect:.2})",
        found.version,
        watched.wrong,
        watched.turns,
        share(watched.wrong, watched.turns),
        share(wrong, turns),
        found.before,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_gets_the_figures() {
        let baseline = Baseline { turns: 1500, wrong: 150, design_effect: 1.0 };
        let watched = Watched { turns: 60, wrong: 21, baseline, worse_after: Some(60), over: false };
        let found = UnderWatch {
            version: "v4".to_owned(),
            since: Timestamp::UNIX_EPOCH,
            before: "v3".to_owned(),
            watched: Some(watched),
        };
        insta::assert_snapshot!(in_words(&found, &watched), @"people are worse off with v4: 21 of 60 turns went wrong (35.0 %), 150 of 1500 before it (10.0 %; v3; design effect 1.00)");
    }
}
