//! Candidates on trial in the service: the shadow that answers beside production, and the canary's sessions.
//!
//! The rules are in [`rollout`](crate::rollout). Invariant: a reply never waits for the shadow, which has a thread of its own at
//! low priority and leaves out what it cannot keep up with; a rollout that a pin froze, or whose production changed, decides
//! nothing.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use mynah_data::{Example, Log, Record};
use mynah_pipelines::{Baseline, CANDIDATE_TAG, Watch, WatchSettings, Watched};
use mynah_registry::{Registry, Status, Version};
use mynah_runtime::{Mynah, Understood};
use serde_json::json;

use super::recent::Turn;
use super::{Service, lock};
use crate::commands::Context;
use crate::conversation::Assistant;
use crate::priority::{self, Priority};
use crate::rollout::{Compared, Disagreement, Rollout, Stage, Step, next};
use crate::{durable, pin};

/// Requests that wait for the shadow; more are left out.
const WAITING: usize = 256;

/// The trial of a candidate, if there is one.
#[derive(Default)]
pub struct Trial {
    rollout: Arc<Mutex<Option<Rollout>>>,
    shadow: Mutex<Option<SyncSender<String>>>,
    canary: Mutex<Option<Assistant>>,
}

impl Trial {
    /// Lets the shadow answer a live request as well; whether a candidate is on trial at all.
    pub fn overhear(&self, text: &str) -> bool {
        if let Some(shadow) = lock(&self.shadow).as_ref() {
            let _ = shadow.try_send(text.to_owned());
        }
        lock(&self.rollout).is_some()
    }

    /// Who answers the canary's sessions.
    pub fn canary(&self) -> Option<Assistant> {
        lock(&self.canary).clone()
    }

    /// How it stands.
    pub fn rollout(&self) -> Option<Rollout> {
        lock(&self.rollout).clone()
    }

    fn end(&self) {
        *lock(&self.shadow) = None;
        *lock(&self.rollout) = None;
        if let Some(canary) = lock(&self.canary).take() {
            // Its sessions go on with what is in production.
            canary.mynah().follow_production();
        }
    }
}

impl Service {
    /// Begins, goes on with, or ends the trial of a candidate.
    pub(super) fn try_candidate(&self, turns: &[Turn]) -> anyhow::Result<()> {
        let (context, settings) = (&self.context, &self.context.settings.rollout);
        if pin::of(&context.home).is_some() {
            return Ok(());
        }
        let registry = context.registry()?;
        let candidate = registry.version(CANDIDATE_TAG).ok().filter(|version| version.status == Status::Candidate);
        let production = registry.production()?;
        let (Some(candidate), Some(production), true) = (candidate, production, settings.is_on()) else {
            if self.trial.rollout().is_some() {
                self.trial.end();
                let _ = std::fs::remove_file(Rollout::path(&context.home));
            }
            return Ok(());
        };
        let over = production.manifest_digest.to_string();
        let current = self.trial.rollout();
        let Some(current) = current.filter(|it| it.digest == candidate.manifest_digest.to_string() && it.over == over)
        else {
            return self.begin(&registry, &candidate, over);
        };
        let canary = self.canary_so_far(&current, turns);
        let answered = canary.as_ref().map_or(0, |(turns, _)| *turns);
        match next(&current, settings, canary.as_ref().and_then(|(_, watched)| watched.as_ref()), answered) {
            Step::Stay => self.save_rollout(),
            Step::Canary => {
                let version = candidate.name.clone();
                let assistant =
                    Assistant::open_with(context, context.settings.runtime.memory, |builder| builder.version(version))?;
                *lock(&self.trial.canary) = Some(assistant);
                if let Some(rollout) = lock(&self.trial.rollout).as_mut() {
                    (rollout.stage, rollout.since) = (Stage::Canary, Timestamp::now());
                }
                tracing::info!("{} answers {:.0} % of the sessions", candidate.name, 100.0 * settings.canary_share);
                self.save_rollout()
            }
            Step::Promote => {
                let figures = json!({"rollout": current.compared, "canary_turns": answered});
                let reason = format!("passed the gate and its rollout{}", in_words(&current.compared, answered));
                let author = mynah_registry::Author::new("rollout", &reason);
                registry.promote(&candidate, Some(&production.manifest_digest), figures, &author)?;
                tracing::info!("{} is promoted: {reason}", candidate.name);
                self.finish_rollout()
            }
            Step::Refuse { reason } => {
                let figures = json!({"rollout": current.compared, "canary_turns": answered, "reason": reason});
                registry.refuse(&candidate, figures, &mynah_registry::Author::new("rollout", &reason))?;
                tracing::warn!("{} is refused in its rollout: {reason}", candidate.name);
                self.finish_rollout()
            }
        }
    }

    fn begin(&self, registry: &Registry, candidate: &Version, over: String) -> anyhow::Result<()> {
        let (context, settings) = (&self.context, &self.context.settings.rollout);
        self.trial.end();
        let digest = candidate.manifest_digest.to_string();
        // What an earlier service has seen counts, of the same candidate beside the same production.
        let left = durable::read_json::<Rollout>(&Rollout::path(&context.home)).ok().flatten();
        let left = left.filter(|it| it.digest == digest && it.over == over && it.looked_back);
        let is_new = left.is_none();
        let rollout = left.unwrap_or_else(|| Rollout {
            schema: 1,
            version: candidate.name.clone(),
            digest,
            over,
            stage: Stage::Shadow,
            since: Timestamp::now(),
            looked_back: false,
            compared: Compared::default(),
            disagreements: Vec::new(),
        });
        let in_canary = rollout.stage == Stage::Canary;
        *lock(&self.trial.rollout) = Some(rollout);
        if in_canary {
            let version = candidate.name.clone();
            let memory = context.settings.runtime.memory;
            *lock(&self.trial.canary) = Some(Assistant::open_with(context, memory, |it| it.version(version))?);
            return Ok(());
        }
        tracing::info!("{} is tried beside production", candidate.name);
        let (sender, heard) = sync_channel(WAITING);
        let production = registry.production()?.map(|version| version.name).unwrap_or_default();
        let mut shadow = Shadow {
            context: context.clone(),
            candidate: candidate.name.clone(),
            production,
            rollout: self.trial.rollout.clone(),
        };
        let logged = is_new.then_some(settings.logged_requests);
        std::thread::Builder::new().name("shadow".into()).spawn(move || {
            // Also the threads that its two models start.
            priority::lower(Priority::Low);
            if let Err(error) = shadow.run(&heard, logged) {
                tracing::warn!("the candidate cannot be tried: {error:#}");
            }
        })?;
        *lock(&self.trial.shadow) = Some(sender);
        self.save_rollout()
    }

    /// The canary's turns: how many, and what the watch makes of them.
    fn canary_so_far(&self, rollout: &Rollout, turns: &[Turn]) -> Option<(usize, Option<Watched>)> {
        if rollout.stage != Stage::Canary {
            return None;
        }
        let settings = &self.context.settings;
        let of = |digest: &str| -> Vec<&Turn> {
            turns.iter().filter(|turn| turn.version.as_deref() == Some(digest)).collect()
        };
        let answered: Vec<bool> =
            of(&rollout.digest).iter().filter(|turn| turn.at >= rollout.since).map(|turn| turn.went_wrong()).collect();
        let beside = of(&rollout.over);
        let beside = &beside[beside.len().saturating_sub(settings.watch.baseline)..];
        let watch = WatchSettings { turns: settings.rollout.canary_turns, ..settings.watch.clone() };
        let watch = Watch::new(&watch, Baseline::of(&crate::watch::by_session(beside)));
        Some((answered.len(), watch.map(|watch| watch.judge(&answered))))
    }

    fn save_rollout(&self) -> anyhow::Result<()> {
        let Some(rollout) = self.trial.rollout() else { return Ok(()) };
        let path = Rollout::path(&self.context.home);
        durable::replace_soon(&path, &serde_json::to_vec_pretty(&rollout)?, &self.context.fault)
    }

    fn finish_rollout(&self) -> anyhow::Result<()> {
        self.save_rollout()?;
        self.trial.end();
        let path = Rollout::path(&self.context.home);
        // The last one stays to be looked at.
        std::fs::rename(&path, path.with_file_name("rollout.last.json"))?;
        Ok(())
    }
}

fn in_words(compared: &Compared, canary_turns: usize) -> String {
    let Compared { logged, live, differ, confirmed, lost, won } = *compared;
    format!(
        ": differs on {differ} of {logged} logged and {live} live requests, loses {lost} and wins {won} of {confirmed} confirmed, {canary_turns} turns as a canary"
    )
}

/// Both versions by their weights alone: what is remembered they would answer alike.
struct Shadow {
    context: Context,
    candidate: String,
    production: String,
    rollout: Arc<Mutex<Option<Rollout>>>,
}

impl Shadow {
    fn run(&mut self, heard: &Receiver<String>, logged: Option<usize>) -> anyhow::Result<()> {
        let open = |version: &str| -> anyhow::Result<Mynah> {
            let version = version.to_owned();
            Ok(Assistant::open_with(&self.context, false, |builder| builder.version(version))?.mynah().clone())
        };
        let (production, candidate) = (open(&self.production)?, open(&self.candidate)?);
        if let Some(logged) = logged {
            let confirmed = mynah_data::labelled(&self.context.log())?.examples;
            for text in latest_texts(&self.context.log(), logged)? {
                if !self.compare(&production, &candidate, &text, None) {
                    return Ok(());
                }
            }
            for example in &confirmed {
                if !self.compare(&production, &candidate, &example.text, Some(example)) {
                    return Ok(());
                }
            }
            self.note(|rollout| rollout.looked_back = true);
        }
        for text in heard {
            if !self.compare_live(&production, &candidate, &text) {
                break;
            }
        }
        Ok(())
    }

    fn compare_live(&self, production: &Mynah, candidate: &Mynah, text: &str) -> bool {
        let (ours, theirs) = (production.predict(text), candidate.predict(text));
        self.note(|rollout| {
            rollout.compared.live += 1;
            note_difference(rollout, &ours, &theirs, None);
        })
    }

    /// Whether the trial goes on.
    fn compare(&self, production: &Mynah, candidate: &Mynah, text: &str, right: Option<&Example>) -> bool {
        let (ours, theirs) = (production.predict(text), candidate.predict(text));
        self.note(|rollout| match right {
            None => {
                rollout.compared.logged += 1;
                note_difference(rollout, &ours, &theirs, None);
            }
            Some(example) => {
                let is_right = |understood: &Understood| {
                    understood.function.as_deref().unwrap_or(mynah_data::OUT_OF_SCOPE) == example.function
                };
                rollout.compared.confirmed += 1;
                match (is_right(&ours), is_right(&theirs)) {
                    (true, false) => {
                        rollout.compared.lost += 1;
                        rollout.list(disagreement(&ours, &theirs, Some("production")));
                    }
                    (false, true) => rollout.compared.won += 1,
                    _ => {}
                }
            }
        })
    }

    fn note(&self, note: impl FnOnce(&mut Rollout)) -> bool {
        match lock(&self.rollout).as_mut().filter(|rollout| rollout.version == self.candidate) {
            Some(rollout) => {
                note(rollout);
                true
            }
            None => false,
        }
    }
}

fn note_difference(rollout: &mut Rollout, ours: &Understood, theirs: &Understood, right: Option<&str>) {
    if call(ours) != call(theirs) {
        rollout.compared.differ += 1;
        rollout.list(disagreement(ours, theirs, right));
    }
}

fn disagreement(ours: &Understood, theirs: &Understood, right: Option<&str>) -> Disagreement {
    Disagreement {
        text: ours.text.clone(),
        production: call(ours),
        candidate: call(theirs),
        confirmed: right.map(str::to_owned),
    }
}

/// A call in words.
fn call(understood: &Understood) -> String {
    let mut arguments: Vec<String> =
        understood.arguments.iter().map(|argument| format!("{}={}", argument.name, argument.value)).collect();
    arguments.sort();
    match &understood.function {
        None => "nothing".to_owned(),
        Some(function) => format!("{function}({})", arguments.join(", ")),
    }
}

/// The latest requests of the log, the oldest of them first.
fn latest_texts(log: &Log, most: usize) -> anyhow::Result<Vec<String>> {
    let mut texts = Vec::new();
    for session in log.session_ids()?.iter().rev() {
        let mut said: Vec<String> = log
            .records_of(session)?
            .filter_map(|record| match record {
                Ok(Record::Interaction(turn)) => Some(turn.text),
                _ => None,
            })
            .collect();
        said.reverse();
        texts.extend(said);
        if texts.len() >= most {
            break;
        }
    }
    texts.truncate(most);
    texts.reverse();
    Ok(texts)
}
