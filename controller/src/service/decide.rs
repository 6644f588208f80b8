//! What to do next, as a pure function of what is known.
//!
//! No clock, no files, no threads: the service gathers a [`State`], asks [`decide`] and carries the actions out. One job
//! trains at a time. What a person asked for is done at once; what the service wants by itself waits for its turn, and a
//! [`Hold`] says for what.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// Why a fine-tune starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// Somebody asked over HTTP.
    Api,
    /// The clock.
    Schedule,
    /// A conversation ended and people had corrected or taught something.
    SessionEnd,
    /// People were unhappy several times in a row.
    Feedback,
}

impl Trigger {
    /// The name in reasons and in the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Schedule => "schedule",
            Self::SessionEnd => "session-end",
            Self::Feedback => "feedback",
        }
    }
}

/// What the service knows.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The service is going down.
    pub stopping: bool,
    /// The owner has pinned what is in production.
    pub pinned: bool,
    /// The job at work, and why it was started.
    pub running: Option<(String, Trigger)>,
    /// The job that waits and is next, and why it was asked for.
    pub queued: Option<(String, Trigger)>,
    /// The latest time of a schedule that has passed and was not answered.
    pub due: Option<Timestamp>,
    /// Labels that the version in production has not learned from.
    pub new_labels: usize,
    /// When the last of them was given.
    pub latest_label: Option<Timestamp>,
    /// When the last label was given that a fine-tune has tried and came to a verdict.
    pub tried_until: Option<Timestamp>,
    /// Thumbs down and corrections in a row since the last fine-tune, without a thumb up between them.
    pub unhappy_in_a_row: usize,
    /// The last word in any session.
    pub last_activity: Option<Timestamp>,
    /// Sessions that somebody has not ended.
    pub open_sessions: usize,
    /// Fine-tunes in a row that failed.
    pub failures: u32,
    /// When the last of them did.
    pub last_failure: Option<Timestamp>,
    /// Processor time that fine-tunes took today.
    pub cpu_today: SignedDuration,
    /// The machine runs on its battery; false where nobody knows.
    pub on_battery: bool,
    /// Runnable processes for each core over the last minute, this program's own fine-tune aside; 0 where nobody knows.
    pub load: f64,
    /// Since when a fine-tune has been wanted and held up by load alone.
    pub busy_since: Option<Timestamp>,
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
    /// How late a missed schedule is still answered.
    pub catch_up: SignedDuration,
    /// How many bad opinions in a row start a fine-tune; 0: none do.
    pub alarm: usize,
    /// How long to wait after a failure; each further one doubles it.
    pub back_off: SignedDuration,
    /// The longest such wait.
    pub max_back_off: SignedDuration,
    /// Processor time a day; zero: any.
    pub daily_cpu: SignedDuration,
    /// Learn on battery too.
    pub on_battery: bool,
    /// The load from which the machine is busy; 0: it never is.
    pub max_load: f64,
    /// After so long a busy machine has to bear it.
    pub patience: SignedDuration,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start a fine-tune; `job` names the one that waits, when one does.
    Train {
        /// Why.
        trigger: Trigger,
        /// The waiting job.
        job: Option<String>,
    },
    /// Stop the job at work; it goes on from its checkpoint when it may.
    Pause {
        /// The job.
        job: String,
        /// Why.
        hold: Hold,
    },
    /// A fine-tune is wanted and has to wait.
    Wait {
        /// What wants it.
        trigger: Trigger,
        /// What for.
        hold: Hold,
    },
    /// Note that a schedule's time passed with nothing new to learn, or too long ago.
    SkipSchedule,
    /// End the sessions that nobody has used for the quiet time.
    EndIdleSessions,
}

/// What a fine-tune waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "for")]
pub enum Hold {
    /// The owner has to unpin production.
    Pin,
    /// The last one failed.
    BackOff {
        /// Until then.
        until: Timestamp,
    },
    /// The day's processor time is used up.
    Budget,
    /// The machine runs on its battery.
    Battery,
    /// The machine has other things to do.
    Busy,
}

impl std::fmt::Display for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pin => f.write_str("production is pinned"),
            Self::BackOff { until } => write!(f, "the last one failed; next try after {until:.0}"),
            Self::Budget => f.write_str("today's processor time is used up"),
            Self::Battery => f.write_str("the machine runs on its battery"),
            Self::Busy => f.write_str("the machine is busy"),
        }
    }
}

/// Decides what to do next, in order of execution.
///
/// 1. A service that is going down starts nothing.
/// 2. Sessions that were left open are ended once the quiet time has passed.
/// 3. While a fine-tune is at work no other starts; one that nobody asked for is paused when the day's time is used up.
/// 4. What a person asked for starts, whatever the rest says: the run itself says when nothing is new.
/// 5. Everything else waits while production is pinned, after a failure (twice as long after each), without processor time
///    left for today, on battery, and on a busy machine, on that for so long only.
/// 6. Of the rest, first what waits already, as after a kill; then a schedule, once however many of its times were missed,
///    unless the last is too long ago or nothing is new; then people who were unhappy several times in a row; then a
///    session's end with enough new labels and quiet. The last two need a label that was not tried before.
pub fn decide(state: &State, policy: &Policy, now: Timestamp) -> Vec<Action> {
    if state.stopping {
        return Vec::new();
    }
    let quiet = state.last_activity.is_none_or(|last| now.duration_since(last) >= policy.quiet);
    let mut actions = Vec::new();
    if state.open_sessions > 0 && quiet {
        actions.push(Action::EndIdleSessions);
    }
    let spent = policy.daily_cpu > SignedDuration::ZERO && state.cpu_today >= policy.daily_cpu;
    if let Some((job, trigger)) = &state.running {
        if spent && *trigger != Trigger::Api {
            actions.push(Action::Pause { job: job.clone(), hold: Hold::Budget });
        }
        return actions;
    }
    if let Some((job, Trigger::Api)) = &state.queued {
        actions.push(Action::Train { trigger: Trigger::Api, job: Some(job.clone()) });
        return actions;
    }
    let due = state.due.map(|due| now.duration_since(due) <= policy.catch_up && state.new_labels > 0);
    if due == Some(false) {
        actions.push(Action::SkipSchedule);
    }
    let untried = state.new_labels > 0 && (state.tried_until.is_none() || state.latest_label > state.tried_until);
    let wanted = match &state.queued {
        Some((job, trigger)) => Some((*trigger, Some(job.clone()))),
        None if due == Some(true) => Some((Trigger::Schedule, None)),
        None if policy.alarm > 0 && state.unhappy_in_a_row >= policy.alarm && untried => {
            Some((Trigger::Feedback, None))
        }
        None if policy.session_end && quiet && untried && state.new_labels >= policy.min_new_labels => {
            Some((Trigger::SessionEnd, None))
        }
        None => None,
    };
    if let Some((trigger, job)) = wanted {
        actions.push(match hold(state, policy, now, spent) {
            Some(hold) => Action::Wait { trigger, hold },
            None => Action::Train { trigger, job },
        });
    }
    actions
}

/// What keeps the service from starting something by itself.
fn hold(state: &State, policy: &Policy, now: Timestamp, spent: bool) -> Option<Hold> {
    if state.pinned {
        return Some(Hold::Pin);
    }
    if let (1.., Some(last)) = (state.failures, state.last_failure) {
        let doubled = 1i32.checked_shl(state.failures - 1).filter(|factor| *factor > 0);
        let wait = doubled.and_then(|factor| policy.back_off.checked_mul(factor)).unwrap_or(policy.max_back_off);
        let until = last.saturating_add(wait.min(policy.max_back_off)).unwrap_or(Timestamp::MAX);
        // A clock that was set back does not hold things up for years.
        if now < until && now >= last {
            return Some(Hold::BackOff { until });
        }
    }
    if spent {
        return Some(Hold::Budget);
    }
    if state.on_battery && !policy.on_battery {
        return Some(Hold::Battery);
    }
    let bearing = state.busy_since.is_some_and(|since| now.duration_since(since) >= policy.patience);
    (policy.max_load > 0.0 && state.load > policy.max_load && !bearing).then_some(Hold::Busy)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy {
        session_end: true,
        quiet: SignedDuration::from_mins(5),
        min_new_labels: 2,
        catch_up: SignedDuration::from_hours(24),
        alarm: 5,
        back_off: SignedDuration::from_mins(10),
        max_back_off: SignedDuration::from_hours(24),
        daily_cpu: SignedDuration::from_mins(60),
        on_battery: false,
        max_load: 0.8,
        patience: SignedDuration::from_hours(6),
    };

    fn now() -> Timestamp {
        "2026-01-02T03:00:00Z".parse().unwrap()
    }

    fn minutes_ago(minutes: i64) -> Option<Timestamp> {
        Some(now() - SignedDuration::from_mins(minutes))
    }

    /// Two new labels, and quiet.
    fn base() -> State {
        State {
            new_labels: 2,
            latest_label: minutes_ago(10),
            tried_until: None,
            last_activity: minutes_ago(6),
            ..State::default()
        }
    }

    fn row_with(state: State, policy: Policy) -> String {
        let words = |action: &Action| match action {
            Action::Train { trigger, job: None } => format!("train({})", trigger.as_str()),
            Action::Train { trigger, job: Some(job) } => format!("train({}, {job})", trigger.as_str()),
            Action::Pause { job, hold } => format!("pause({job}, {hold})"),
            Action::Wait { trigger, hold } => format!("wait({}: {hold})", trigger.as_str()),
            Action::SkipSchedule => "skip".to_owned(),
            Action::EndIdleSessions => "end-idle".to_owned(),
        };
        decide(&state, &policy, now()).iter().map(words).collect::<Vec<_>>().join(" ")
    }

    fn table(rows: Vec<(&str, State)>) -> String {
        let rows = rows.into_iter().map(|(name, state)| format!("{name:<32}{}", row_with(state, POLICY)));
        rows.map(|row| row.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
    }

    fn queued(trigger: Trigger) -> Option<(String, Trigger)> {
        Some(("j1".to_owned(), trigger))
    }

    #[test]
    fn what_is_wanted() {
        let rows = vec![
            ("nothing", State::default()),
            ("labels, quiet", base()),
            ("labels, after a restart", State { last_activity: None, ..base() }),
            ("labels, somebody talks", State { last_activity: minutes_ago(1), ..base() }),
            ("labels, session left open", State { open_sessions: 1, ..base() }),
            ("too few labels", State { new_labels: 1, ..base() }),
            ("tried and refused", State { tried_until: minutes_ago(10), ..base() }),
            ("one more label since", State { tried_until: minutes_ago(11), ..base() }),
            ("schedule, labels", State { due: minutes_ago(0), last_activity: minutes_ago(1), ..base() }),
            ("schedule, nothing new", State { due: minutes_ago(0), new_labels: 0, ..base() }),
            ("schedule missed, caught up", State { due: minutes_ago(23 * 60), ..base() }),
            ("schedule missed for days", State { due: minutes_ago(25 * 60), ..base() }),
            ("unhappy, somebody talks", State { unhappy_in_a_row: 5, last_activity: minutes_ago(0), ..base() }),
            ("unhappy, one label", State { unhappy_in_a_row: 5, new_labels: 1, ..base() }),
            ("unhappy, nothing to learn", State { unhappy_in_a_row: 9, new_labels: 0, ..base() }),
            ("unhappy, tried already", State { unhappy_in_a_row: 9, tried_until: minutes_ago(10), ..base() }),
            ("request", State { queued: queued(Trigger::Api), new_labels: 0, ..base() }),
            ("request before schedule", State { queued: queued(Trigger::Api), due: minutes_ago(1), ..base() }),
            ("left by a kill", State { queued: queued(Trigger::SessionEnd), due: minutes_ago(1), ..base() }),
        ];
        insta::assert_snapshot!(table(rows), @r"
        nothing
        labels, quiet                   train(session-end)
        labels, after a restart         train(session-end)
        labels, somebody talks
        labels, session left open       end-idle train(session-end)
        too few labels
        tried and refused
        one more label since            train(session-end)
        schedule, labels                train(schedule)
        schedule, nothing new           skip
        schedule missed, caught up      train(schedule)
        schedule missed for days        skip train(session-end)
        unhappy, somebody talks         train(feedback)
        unhappy, one label              train(feedback)
        unhappy, nothing to learn
        unhappy, tried already
        request                         train(api, j1)
        request before schedule         train(api, j1)
        left by a kill                  train(session-end, j1)
        ");
    }

    #[test]
    fn what_waits() {
        let failed = |failures, minutes| State { failures, last_failure: minutes_ago(minutes), ..base() };
        let rows = vec![
            ("pinned", State { pinned: true, ..base() }),
            ("pinned, request", State { pinned: true, queued: queued(Trigger::Api), ..base() }),
            ("one failure, 9 minutes ago", failed(1, 9)),
            ("one failure, 10 minutes ago", failed(1, 10)),
            ("three failures, 39 minutes ago", failed(3, 39)),
            ("three failures, 40 minutes ago", failed(3, 40)),
            ("many failures", failed(500, 23 * 60)),
            ("many failures, a day ago", failed(500, 24 * 60)),
            ("a failure in the future", failed(1, -60)),
            ("a failure, request", State { queued: queued(Trigger::Api), ..failed(9, 1) }),
            ("no time left", State { cpu_today: SignedDuration::from_mins(60), ..base() }),
            (
                "no time left, request",
                State { cpu_today: SignedDuration::from_mins(99), queued: queued(Trigger::Api), ..base() },
            ),
            ("battery", State { on_battery: true, ..base() }),
            ("busy", State { load: 0.9, ..base() }),
            ("busy for hours", State { load: 0.9, busy_since: minutes_ago(359), ..base() }),
            ("busy for too long", State { load: 0.9, busy_since: minutes_ago(360), ..base() }),
            ("busy, request", State { load: 9.0, queued: queued(Trigger::Api), ..base() }),
            ("busy, schedule with nothing", State { load: 9.0, due: minutes_ago(1), new_labels: 0, ..base() }),
            ("busy, left by a kill", State { load: 9.0, queued: queued(Trigger::Schedule), ..base() }),
        ];
        insta::assert_snapshot!(table(rows), @r"
        pinned                          wait(session-end: production is pinned)
        pinned, request                 train(api, j1)
        one failure, 9 minutes ago      wait(session-end: the last one failed; next try after 2026-01-02T03:01:00Z)
        one failure, 10 minutes ago     train(session-end)
        three failures, 39 minutes ago  wait(session-end: the last one failed; next try after 2026-01-02T03:01:00Z)
        three failures, 40 minutes ago  train(session-end)
        many failures                   wait(session-end: the last one failed; next try after 2026-01-02T04:00:00Z)
        many failures, a day ago        train(session-end)
        a failure in the future         train(session-end)
        a failure, request              train(api, j1)
        no time left                    wait(session-end: today's processor time is used up)
        no time left, request           train(api, j1)
        battery                         wait(session-end: the machine runs on its battery)
        busy                            wait(session-end: the machine is busy)
        busy for hours                  wait(session-end: the machine is busy)
        busy for too long               train(session-end)
        busy, request                   train(api, j1)
        busy, schedule with nothing     skip
        busy, left by a kill            wait(schedule: the machine is busy)
        ");
    }

    #[test]
    fn never_two_at_once() {
        let running = |trigger| State { running: Some(("j0".to_owned(), trigger)), ..base() };
        let rows = vec![
            ("labels", running(Trigger::Schedule)),
            ("request", State { queued: queued(Trigger::Api), ..running(Trigger::Api) }),
            ("idle session", State { open_sessions: 2, ..running(Trigger::Api) }),
            ("no time left", State { cpu_today: SignedDuration::from_mins(60), ..running(Trigger::SessionEnd) }),
            ("no time left, asked for", State { cpu_today: SignedDuration::from_mins(60), ..running(Trigger::Api) }),
            (
                "stopping",
                State { stopping: true, due: minutes_ago(0), queued: queued(Trigger::Api), open_sessions: 1, ..base() },
            ),
        ];
        insta::assert_snapshot!(table(rows), @r"
        labels
        request
        idle session                    end-idle
        no time left                    pause(j0, today's processor time is used up)
        no time left, asked for
        stopping
        ");
    }

    #[test]
    fn each_rule_can_be_switched_off() {
        assert_eq!(row_with(base(), Policy { session_end: false, ..POLICY }), "");
        let state = State { unhappy_in_a_row: 9, new_labels: 1, ..base() };
        assert_eq!(row_with(state, Policy { alarm: 0, ..POLICY }), "");
        let state = State { load: 64.0, on_battery: true, cpu_today: SignedDuration::from_hours(23), ..base() };
        let any = Policy { max_load: 0.0, on_battery: true, daily_cpu: SignedDuration::ZERO, ..POLICY };
        assert_eq!(row_with(state, any), "train(session-end)");
    }

    #[test]
    fn no_policy_learns_from_nothing() {
        assert_eq!(row_with(State::default(), Policy { min_new_labels: 0, ..POLICY }), "");
    }

    proptest::proptest! {
        /// Whatever is known, at most one fine-tune starts, none beside another, and none by itself while pinned.
        #[test]
        fn one_at_a_time(
            running: bool, asked: bool, left: bool, pinned: bool, due in -100i64..3000, labels in 0usize..4,
            unhappy in 0usize..8, failures in 0u32..40, cpu in 0i64..100, load in 0.0f64..2.0,
        ) {
            let state = State {
                running: running.then(|| ("j0".to_owned(), Trigger::Schedule)),
                queued: asked.then_some(Trigger::Api).or(left.then_some(Trigger::SessionEnd)).and_then(queued),
                pinned,
                due: minutes_ago(due),
                new_labels: labels,
                unhappy_in_a_row: unhappy,
                failures,
                last_failure: minutes_ago(i64::from(failures) * 7),
                cpu_today: SignedDuration::from_mins(cpu),
                load,
                ..base()
            };
            let actions = decide(&state, &POLICY, now());
            let started: Vec<_> = actions.iter().filter_map(|action| match action {
                Action::Train { trigger, .. } => Some(*trigger),
                _ => None,
            }).collect();
            proptest::prop_assert!(started.len() <= usize::from(!running));
            proptest::prop_assert!(!pinned || started.iter().all(|trigger| *trigger == Trigger::Api));
            proptest::prop_assert!(!asked || running || started == [Trigger::Api]);
        }
    }
}
