//! The way of a candidate into production: shadow, canary, full. What comes next, as a pure function.
//!
//! Off by default: a candidate that passes the gate is promoted at once, and the watch looks after it. With `[rollout]` set, it
//! first answers beside production without being heard (`shadow`), then a share of the sessions (`canary`). The state is a file,
//! `rollout.json`; a pin freezes it.

use jiff::Timestamp;
use mynah_data::Home;
use mynah_pipelines::Watched;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Disagreements that are kept to be looked at, the latest ones.
const LISTED: usize = 50;

/// The `[rollout]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutSettings {
    /// Live requests that a candidate answers beside production before anybody hears it; 0: none.
    pub shadow_requests: usize,
    /// Logged requests that it answers first, the latest ones.
    pub logged_requests: usize,
    /// The share of the requests on which candidate and production may differ, in [0, 1].
    pub max_disagreement: f64,
    /// The share of the confirmed requests that the candidate may lose, net of what it wins, in [0, 1].
    pub max_confirmed_lost: f64,
    /// The share of the sessions that a candidate answers before it is promoted, in [0, 1]; 0: none.
    pub canary_share: f64,
    /// Turns that it answers there.
    pub canary_turns: usize,
}

impl Default for RolloutSettings {
    fn default() -> Self {
        Self {
            shadow_requests: 0,
            logged_requests: 200,
            max_disagreement: 0.3,
            max_confirmed_lost: 0.02,
            canary_share: 0.0,
            canary_turns: 100,
        }
    }
}

impl RolloutSettings {
    /// Whether a candidate is tried before it is promoted.
    pub fn is_on(&self) -> bool {
        self.shadow_requests > 0 || self.canary_share > 0.0
    }
}

/// Where a candidate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It answers beside production, unheard.
    Shadow,
    /// It answers a share of the sessions.
    Canary,
}

/// Requests that both answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// Logged requests.
    pub logged: usize,
    /// Live requests.
    pub live: usize,
    /// On how many of both they differ.
    pub differ: usize,
    /// Logged requests whose right answer somebody confirmed.
    pub confirmed: usize,
    /// Of these, right with production and wrong with the candidate.
    pub lost: usize,
    /// The other way round.
    pub won: usize,
}

/// A request on which they differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Disagreement {
    /// What was said.
    pub text: String,
    /// What production makes of it: function and arguments in words.
    pub production: String,
    /// What the candidate does.
    pub candidate: String,
    /// Which of them is right, where somebody confirmed what is.
    pub confirmed: Option<String>,
}

/// A rollout under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// The format of the file: 1.
    pub schema: u32,
    /// The candidate.
    pub version: String,
    /// Its manifest.
    pub digest: String,
    /// The manifest of what was in production when it began.
    pub over: String,
    /// Where it is.
    pub stage: Stage,
    /// When that stage began.
    pub since: Timestamp,
    /// Whether the logged requests have been answered.
    pub looked_back: bool,
    /// What both answered.
    pub compared: Compared,
    /// The latest disagreements.
    pub disagreements: Vec<Disagreement>,
}

impl Rollout {
    /// Where the state is.
    pub fn path(home: &Home) -> std::path::PathBuf {
        home.root().join("rollout.json")
    }

    /// Adds a disagreement, and forgets the oldest beyond so many.
    pub fn list(&mut self, disagreement: Disagreement) {
        self.disagreements.push(disagreement);
        let excess = self.disagreements.len().saturating_sub(LISTED);
        self.disagreements.drain(..excess);
    }
}

/// What happens next.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// More has to be seen.
    Stay,
    /// A share of the sessions is answered by the candidate.
    Canary,
    /// It goes to production.
    Promote,
    /// It does not.
    Refuse {
        /// Why, with the figures.
        reason: String,
    },
}

/// Decides what happens next, given what the canary's turns have shown (none before it began) and how many there were.
///
/// 1. A candidate that loses too much of what people confirmed is refused, in the shadow, before anybody hears it.
/// 2. So is one that differs too much, once all requests were seen.
/// 3. A canary that people are worse off with is refused; one that has answered its turns is promoted.
pub fn next(rollout: &Rollout, settings: &RolloutSettings, canary: Option<&Watched>, canary_turns: usize) -> Step {
    let Compared { logged, live, differ, confirmed, lost, won } = rollout.compared;
    match rollout.stage {
        Stage::Shadow => {
            let net = lost.saturating_sub(won);
            if net as f64 > settings.max_confirmed_lost * confirmed as f64 {
                let reason =
                    format!("of {confirmed} confirmed requests it loses {lost} and wins {won}, beside production");
                return Step::Refuse { reason };
            }
            if !rollout.looked_back || live < settings.shadow_requests {
                return Step::Stay;
            }
            let seen = logged + live;
            if differ as f64 > settings.max_disagreement * seen as f64 {
                return Step::Refuse { reason: format!("it differs from production on {differ} of {seen} requests") };
            }
            if settings.canary_share > 0.0 { Step::Canary } else { Step::Promote }
        }
        Stage::Canary => match canary {
            Some(Watched { worse_after: Some(turn), wrong, baseline, .. }) => Step::Refuse {
                reason: format!(
                    "its {wrong} of {turn} turns went wrong, {} of {} with production",
                    baseline.wrong, baseline.turns
                ),
            },
            _ if canary_turns >= settings.canary_turns => Step::Promote,
            _ => Step::Stay,
        },
    }
}

/// Whether a session is among the share that the candidate answers: the same for the same session, whoever asks.
pub fn is_chosen(session: &str, share: f64) -> bool {
    let hash = Sha256::digest(session.as_bytes());
    let number = u64::from_be_bytes([hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7]]);
    (number as f64 / u64::MAX as f64) < share
}

#[cfg(test)]
mod tests {
    use mynah_pipelines::Baseline;

    use super::*;

    fn rollout(stage: Stage, compared: Compared) -> Rollout {
        Rollout {
            schema: 1,
            version: "v2".to_owned(),
            digest: String::new(),
            over: String::new(),
            stage,
            since: Timestamp::UNIX_EPOCH,
            looked_back: true,
            compared,
            disagreements: Vec::new(),
        }
    }

    #[test]
    fn what_comes_next() {
        let both = RolloutSettings { shadow_requests: 50, canary_share: 0.1, ..RolloutSettings::default() };
        let shadow_only = RolloutSettings { canary_share: 0.0, ..both.clone() };
        let shadow = |live, differ, confirmed, lost, won| {
            rollout(Stage::Shadow, Compared { logged: 150, live, differ, confirmed, lost, won })
        };
        let words = |step: Step| match step {
            Step::Stay => "stay".to_owned(),
            Step::Canary => "canary".to_owned(),
            Step::Promote => "promote".to_owned(),
            Step::Refuse { reason } => format!("refuse: {reason}"),
        };
        let rows = [
            ("nothing seen", words(next(&shadow(0, 0, 0, 0, 0), &both, None, 0))),
            ("the log not read yet", {
                let rollout = Rollout { looked_back: false, ..shadow(50, 0, 0, 0, 0) };
                words(next(&rollout, &both, None, 0))
            }),
            ("49 of 50", words(next(&shadow(49, 5, 40, 0, 0), &both, None, 0))),
            ("all seen", words(next(&shadow(50, 5, 40, 0, 0), &both, None, 0))),
            ("all seen, no canary", words(next(&shadow(50, 5, 40, 0, 0), &shadow_only, None, 0))),
            ("differs on 60 of 200", words(next(&shadow(50, 60, 40, 0, 0), &both, None, 0))),
            ("differs on 61 of 200", words(next(&shadow(50, 61, 40, 0, 0), &both, None, 0))),
            ("loses one of 50 confirmed", words(next(&shadow(1, 5, 50, 1, 0), &both, None, 0))),
            ("loses two of 50 confirmed", words(next(&shadow(1, 5, 50, 2, 0), &both, None, 0))),
            ("loses two and wins one", words(next(&shadow(1, 5, 50, 2, 1), &both, None, 0))),
            ("canary, 99 turns", words(next(&rollout(Stage::Canary, Compared::default()), &both, None, 99))),
            ("canary, 100 turns", words(next(&rollout(Stage::Canary, Compared::default()), &both, None, 100))),
            ("canary, worse", {
                let baseline = Baseline { turns: 1000, wrong: 100, design_effect: 1.0 };
                let watched = Watched { turns: 40, wrong: 20, baseline, worse_after: Some(40), over: false };
                words(next(&rollout(Stage::Canary, Compared::default()), &both, Some(&watched), 100))
            }),
        ];
        let table: Vec<String> = rows.iter().map(|(name, step)| format!("{name:<27}{step}")).collect();
        insta::assert_snapshot!(table.join("\n"), @r"
        nothing seen               stay
        the log not read yet       stay
        49 of 50                   stay
        all seen                   canary
        all seen, no canary        promote
        differs on 60 of 200       canary
        differs on 61 of 200       refuse: it differs from production on 61 of 200 requests
        loses one of 50 confirmed  stay
        loses two of 50 confirmed  refuse: of 50 confirmed requests it loses 2 and wins 0, beside production
        loses two and wins one     stay
        canary, 99 turns           stay
        canary, 100 turns          promote
        canary, worse              refuse: its 20 of 40 turns went wrong, 100 of 1000 with production
        ");
        assert!(!RolloutSettings::default().is_on() && both.is_on() && shadow_only.is_on());
    }

    #[test]
    fn a_share_of_the_sessions_is_chosen_and_always_the_same() {
        let sessions: Vec<String> = (0..10_000).map(|number| format!("s_{number}")).collect();
        let chosen = sessions.iter().filter(|session| is_chosen(session, 0.1)).count();
        assert!((900..=1100).contains(&chosen), "{chosen}");
        assert!(sessions.iter().all(|session| !is_chosen(session, 0.1) || is_chosen(session, 0.2)));
        assert!(sessions.iter().all(|session| !is_chosen(session, 0.0) && is_chosen(session, 1.0)));
    }
}
