//! What to do next, as a pure function of what is known.
//!
//! No clock, no files, no threads: the service gathers a [`State`], asks [`decide`] and carries the actions out. One job
//! trains at a time; a request that comes meanwhile waits, and requests for the same thing are one.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// Why a fine-tune starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// Somebody asked over HTTP.
    Api,
    /// The clock.
    Schedule,
    /// A conversation ended and people had corrected or taught something.
    SessionEnd,
}

impl Trigger {
    /// The name in reasons and in the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Schedule => "schedule",
            Self::SessionEnd => "session-end",
        }
    }
}

/// What the service knows.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The service is going down.
    pub stopping: bool,
    /// A fine-tune is at work.
    pub training: bool,
    /// The oldest job that waits, by its id.
    pub requested: Option<String>,
    /// A schedule's time has come since the last fine-tune started.
    pub schedule_due: bool,
    /// Labels that the version in production has not learned from.
    pub new_labels: usize,
    /// When the last of them was given.
    pub latest_label: Option<Timestamp>,
    /// When the last label was given that a fine-tune has tried, whatever came of it.
    pub tried_until: Option<Timestamp>,
    /// The last word in any session.
    pub last_activity: Option<Timestamp>,
    /// Sessions that somebody has not ended.
    pub open_sessions: usize,
}

/// The settings that the decision depends on.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Learn after a session's end.
    pub session_end: bool,
    /// How long nobody must have said anything.
    pub quiet: SignedDuration,
    /// How many labels must be new.
    pub min_new_labels: usize,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start a fine-tune; `job` names the request that it answers.
    Train {
        /// Why.
        trigger: Trigger,
        /// The waiting job, when one asked for it.
        job: Option<String>,
    },
    /// Note that a schedule's time passed with nothing new to learn.
    SkipSchedule,
    /// End the sessions that nobody has used for the quiet time.
    EndIdleSessions,
}

/// Decides what to do next, in order of execution.
///
/// 1. A service that is going down starts nothing.
/// 2. Sessions that were left open are ended once the quiet time has passed.
/// 3. While a fine-tune is at work no other starts.
/// 4. A request is answered even when nothing is new: the run itself says so.
/// 5. A schedule needs something new.
/// 6. A session's end needs enough new labels, quiet, and labels that were not tried before.
pub fn decide(state: &State, policy: &Policy, now: Timestamp) -> Vec<Action> {
    if state.stopping {
        return Vec::new();
    }
    let quiet = state.last_activity.is_none_or(|last| now.duration_since(last) >= policy.quiet);
    let mut actions = Vec::new();
    if state.open_sessions > 0 && quiet {
        actions.push(Action::EndIdleSessions);
    }
    if state.training {
        return actions;
    }
    if let Some(job) = &state.requested {
        actions.push(Action::Train { trigger: Trigger::Api, job: Some(job.clone()) });
    } else if state.schedule_due {
        actions.push(match state.new_labels {
            0 => Action::SkipSchedule,
            _ => Action::Train { trigger: Trigger::Schedule, job: None },
        });
    } else if policy.session_end
        && quiet
        && state.new_labels >= policy.min_new_labels.max(1)
        && (state.tried_until.is_none() || state.latest_label > state.tried_until)
    {
        actions.push(Action::Train { trigger: Trigger::SessionEnd, job: None });
    }
    actions
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy { session_end: true, quiet: SignedDuration::from_mins(5), min_new_labels: 2 };

    fn now() -> Timestamp {
        "2026-01-02T03:00:00Z".parse().unwrap()
    }

    fn minutes_ago(minutes: i64) -> Option<Timestamp> {
        Some(now() - SignedDuration::from_mins(minutes))
    }

    /// What the service does, in a word an action.
    fn row(state: State) -> String {
        row_with(state, POLICY)
    }

    fn row_with(state: State, policy: Policy) -> String {
        let words: Vec<String> = decide(&state, &policy, now())
            .into_iter()
            .map(|action| match action {
                Action::Train { trigger, job } => {
                    format!("train({}{})", trigger.as_str(), job.map(|job| format!(", {job}")).unwrap_or_default())
                }
                Action::SkipSchedule => "skip".to_owned(),
                Action::EndIdleSessions => "end-idle".to_owned(),
            })
            .collect();
        words.join(" ")
    }

    #[test]
    fn a_table_of_states() {
        let base = State::default;
        let rows = [
            ("nothing", row(base())),
            ("labels, quiet", row(State { new_labels: 2, last_activity: minutes_ago(5), ..base() })),
            ("labels, after a restart", row(State { new_labels: 2, ..base() })),
            (
                "labels, somebody talks",
                row(State { new_labels: 2, last_activity: minutes_ago(4), open_sessions: 1, ..base() }),
            ),
            (
                "labels, session left open",
                row(State { new_labels: 2, last_activity: minutes_ago(6), open_sessions: 1, ..base() }),
            ),
            ("too few labels", row(State { new_labels: 1, last_activity: minutes_ago(9), ..base() })),
            (
                "tried and refused",
                row(State { new_labels: 2, latest_label: minutes_ago(9), tried_until: minutes_ago(9), ..base() }),
            ),
            (
                "one more label since",
                row(State { new_labels: 3, latest_label: minutes_ago(8), tried_until: minutes_ago(9), ..base() }),
            ),
            (
                "schedule, labels",
                row(State { schedule_due: true, new_labels: 1, last_activity: minutes_ago(0), ..base() }),
            ),
            ("schedule, nothing new", row(State { schedule_due: true, ..base() })),
            ("request", row(State { requested: Some("j1".into()), ..base() })),
            (
                "request before schedule",
                row(State { requested: Some("j1".into()), schedule_due: true, new_labels: 9, ..base() }),
            ),
            ("request while training", row(State { requested: Some("j1".into()), training: true, ..base() })),
            (
                "idle session while training",
                row(State { training: true, open_sessions: 2, last_activity: minutes_ago(6), ..base() }),
            ),
            (
                "stopping",
                row(State {
                    stopping: true,
                    requested: Some("j1".into()),
                    schedule_due: true,
                    new_labels: 9,
                    open_sessions: 1,
                    ..base()
                }),
            ),
        ];
        let table: Vec<String> =
            rows.iter().map(|(state, actions)| format!("{state:<28}{actions}").trim_end().to_owned()).collect();
        insta::assert_snapshot!(table.join("\n"), @r"
        nothing
        labels, quiet               train(session-end)
        labels, after a restart     train(session-end)
        labels, somebody talks
        labels, session left open   end-idle train(session-end)
        too few labels
        tried and refused
        one more label since        train(session-end)
        schedule, labels            train(schedule)
        schedule, nothing new       skip
        request                     train(api, j1)
        request before schedule     train(api, j1)
        request while training
        idle session while training end-idle
        stopping
        ");
    }

    #[test]
    fn the_session_end_trigger_can_be_switched_off() {
        let state = State { new_labels: 5, ..State::default() };
        assert_eq!(row_with(state, Policy { session_end: false, ..POLICY }), "");
    }

    #[test]
    fn no_policy_learns_from_nothing() {
        assert_eq!(row_with(State::default(), Policy { min_new_labels: 0, ..POLICY }), "");
    }
}
