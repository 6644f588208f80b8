//! What the service does by itself: gathers what is known, asks [`decide`](super::decide) and carries the decision out.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use mynah_registry::Registry;
use serde_json::{Value, json};

use super::decide::{Action, Hold, Policy, State, Trigger};
use super::jobs::{Inputs, Job, JobRequest, JobState, Outputs, PAUSED, digest_of};
use super::ledger::LedgerFile;
use super::machine::Machine;
use super::recent::{Recent, Turn};
use super::wire::ServiceError;
use super::workers::{Ended, Stop, Worker};
use super::{Service, lock};
use crate::commands::Context;
use crate::learning::{self, Scope};
use crate::pin;
use crate::watch::{self, UnderWatch};
use crate::worker::{Order, Word};

/// The longest wait after failures.
const MAX_BACK_OFF: SignedDuration = SignedDuration::from_hours(24);

/// How often somebody looks for promotions and changed files: a few calls of the system.
const FRESH_EVERY: Duration = Duration::from_millis(50);

/// A look at the whole log may take this share of the time: on a long log feedback is noticed a little later.
const LOOKS_SHARE: u32 = 20;

/// What the decisions rest on beside the settings.
pub struct Control {
    ledger: Mutex<LedgerFile>,
    worker: Mutex<Option<(String, Worker)>>,
    /// A job that was to be stopped before it had a worker. Changed only while `worker` is held.
    stop_soon: Mutex<Option<(String, Stop)>>,
    recent: Mutex<Recent>,
    /// The latest time of a schedule, by the clock.
    last_due: Mutex<Option<Timestamp>>,
    unhappy: Mutex<(usize, Option<Timestamp>)>,
    busy_since: Mutex<Option<Timestamp>>,
    /// What was last said to be waited for, to say it once.
    waits: Mutex<Option<(Trigger, Hold)>>,
    /// The promotion under watch.
    watched: Mutex<Option<UnderWatch>>,
    looked: Mutex<Option<(Instant, Duration)>>,
}

impl Control {
    /// Reads what the last service left.
    pub fn open(context: &Context) -> Self {
        Self {
            ledger: Mutex::new(LedgerFile::open(&context.home, context.fault.clone(), Timestamp::now())),
            worker: Mutex::default(),
            stop_soon: Mutex::default(),
            recent: Mutex::default(),
            last_due: Mutex::default(),
            unhappy: Mutex::default(),
            busy_since: Mutex::default(),
            waits: Mutex::default(),
            watched: Mutex::default(),
            looked: Mutex::default(),
        }
    }

    /// Notes the latest time that a schedule came due, missed ones included.
    pub fn schedule(&self, last_due: Option<Timestamp>) {
        *lock(&self.last_due) = last_due;
    }

    /// Whether the log may be looked at again: a long log is looked at less often.
    pub fn may_look(&self) -> bool {
        lock(&self.looked).is_none_or(|(at, took)| at.elapsed() >= took * LOOKS_SHARE)
    }

    /// What a fine-tune that the service wants is waiting for.
    pub fn waits_for(&self) -> Option<(Trigger, Hold)> {
        *lock(&self.waits)
    }

    /// The promotion under watch, and how it does.
    pub fn under_watch(&self) -> Option<UnderWatch> {
        lock(&self.watched).clone()
    }
}

impl Service {
    /// Loads promoted versions and changed files as they come, so that no reply has to, and does what is given to
    /// [`Service::loading`]. Returns when the service stops.
    pub(super) fn keep_fresh(&self) {
        let Some(to_load) = lock(&self.to_load).take() else { return };
        while !self.stopping.load(Ordering::Acquire) {
            // Not opened yet: then there is nothing to be kept fresh, and the first request does not wait for this lock.
            let assistant = lock(&self.assistant).clone();
            assistant.into_iter().chain(self.trial.canary()).for_each(|assistant| assistant.refresh());
            let next = Instant::now() + FRESH_EVERY;
            while let Ok(load) = to_load.recv_timeout(next.saturating_duration_since(Instant::now())) {
                load(self);
            }
        }
        to_load.try_iter().for_each(|load| load(self));
    }

    /// What the service waits for, watches and tries, as `GET /control` shows it.
    pub(super) fn control_view(&self) -> Value {
        let waits = self
            .control
            .waits_for()
            .map(|(trigger, hold)| json!({"trigger": trigger, "hold": hold, "why": hold.to_string()}));
        json!({
            "pin": pin::of(&self.context.home),
            "waits": waits,
            "watch": self.control.under_watch(),
            "rollout": self.trial.rollout(),
        })
    }

    /// Everything that the decision depends on.
    pub(super) fn state(&self, now: Timestamp) -> State {
        let control = &self.control;
        let ledger = lock(&control.ledger).read().clone();
        let machine = Machine::read();
        State {
            stopping: self.stopping.load(Ordering::Acquire),
            pinned: pin::of(&self.context.home).is_some(),
            running: self.jobs.running(),
            queued: self.jobs.next_queued(),
            due: ledger.unanswered(*lock(&control.last_due)),
            new_labels: self.new_labels.load(Ordering::Acquire),
            latest_label: *lock(&self.latest_label),
            tried_until: *lock(&self.tried_until),
            unhappy_in_a_row: lock(&control.unhappy).0,
            last_activity: *lock(&self.last_activity),
            open_sessions: lock(&self.sessions).len(),
            failures: ledger.failures,
            last_failure: ledger.last_failure,
            cpu_today: ledger.spent(now),
            on_battery: machine.on_battery,
            load: machine.load,
            busy_since: *lock(&control.busy_since),
        }
    }

    pub(super) fn policy(&self) -> Policy {
        let settings = &self.context.settings.service;
        Policy {
            session_end: settings.session_end,
            quiet: SignedDuration::from_mins(i64::from(settings.quiet_minutes)),
            min_new_labels: settings.min_new_labels,
            catch_up: SignedDuration::from_hours(i64::from(settings.catch_up_hours)),
            alarm: settings.alarm_after,
            back_off: SignedDuration::from_mins(i64::from(settings.back_off_minutes)),
            max_back_off: MAX_BACK_OFF,
            daily_cpu: SignedDuration::from_mins(i64::from(settings.daily_cpu_minutes)),
            on_battery: settings.on_battery,
            max_load: settings.max_load,
            patience: SignedDuration::from_hours(i64::from(settings.busy_patience_hours)),
        }
    }

    /// Looks at the log for what people said, here and in other processes.
    pub(super) fn refresh(&self) {
        let started = Instant::now();
        let look = || -> anyhow::Result<()> {
            let log = self.log();
            let labels = learning::new_labels(&log, &self.context.registry()?)?;
            self.new_labels.store(labels.examples, Ordering::Release);
            *lock(&self.latest_label) = labels.latest;
            // A run of another process, or of this one before it was started again, counts as well.
            if labels.tried.is_some() {
                let mut tried = lock(&self.tried_until);
                *tried = (*tried).max(labels.latest);
            }
            let mut recent = lock(&self.control.recent);
            recent.update(&log)?;
            let since = lock(&self.control.ledger).read().opinions_until;
            *lock(&self.control.unhappy) = recent.unhappy_in_a_row(since);
            if let Some(last) = recent.last_at() {
                let mut activity = lock(&self.last_activity);
                *activity = Some(activity.map_or(last, |activity| activity.max(last)));
            }
            let turns = recent.turns();
            drop(recent);
            self.watch(&turns)?;
            self.try_candidate(&turns)
        };
        if let Err(error) = look() {
            tracing::warn!("cannot read the log: {error:#}");
        }
        *lock(&self.control.looked) = Some((Instant::now(), started.elapsed()));
    }

    /// Takes a promotion back that people are worse off with, unless the owner has pinned it.
    fn watch(&self, turns: &[Turn]) -> anyhow::Result<()> {
        let registry = self.context.registry()?;
        let found = watch::look(&registry, &self.context.settings.watch, turns)?;
        if let Some(found) = found.as_ref().filter(|_| pin::of(&self.context.home).is_none())
            && let Some(reason) = watch::act(&registry, found)?
        {
            tracing::warn!("rolled back: {reason}");
        }
        *lock(&self.control.watched) = found;
        Ok(())
    }

    /// Carries one action out; a fine-tune goes on in a process of its own.
    pub(super) fn carry_out(self: &Arc<Self>, action: Action, now: Timestamp) {
        match action {
            Action::Train { trigger, job } => {
                *lock(&self.control.waits) = None;
                *lock(&self.control.busy_since) = None;
                if let Err(error) = self.train(trigger, job) {
                    tracing::warn!("a fine-tune ({}) could not be started: {error:#}", trigger.as_str());
                    self.note_failure(now);
                }
            }
            Action::Pause { job, hold } => {
                tracing::info!("fine-tune {job} is stopped to go on later: {hold}");
                self.stop_worker(&job, Stop::Pause);
            }
            Action::Wait { trigger, hold } => {
                if hold == Hold::Busy {
                    lock(&self.control.busy_since).get_or_insert(now);
                }
                if lock(&self.control.waits).replace((trigger, hold)) != Some((trigger, hold)) {
                    tracing::info!("a fine-tune ({}) waits: {hold}", trigger.as_str());
                }
            }
            Action::SkipSchedule => {
                self.answer_schedule();
                tracing::info!("a schedule came due; nothing is new, or it was too long ago");
            }
            Action::EndIdleSessions => {
                let before = now - self.policy().quiet;
                let idle: Vec<String> = lock(&self.sessions)
                    .iter()
                    .filter(|(_, open)| open.last <= before)
                    .map(|(id, _)| id.clone())
                    .collect();
                for id in idle {
                    tracing::info!("session {id} was left open and is ended");
                    let _ = self.end_session(&id, "idle");
                }
                let context = self.context.clone();
                tokio::task::spawn_blocking(move || context.snapshot());
            }
        }
    }

    /// Stops a job: one that waits at once, one at work within a second.
    ///
    /// # Errors
    /// When there is no such job.
    pub(super) fn cancel_job(&self, id: &str) -> Result<Job, ServiceError> {
        match self.jobs.cancel(id) {
            None => return Err(ServiceError::NotFound { what: "job", id: id.to_owned() }),
            Some(JobState::Running) => self.stop_worker(id, Stop::Cancel),
            Some(_) => {}
        }
        self.wake.notify_one();
        self.jobs.get(id).ok_or_else(|| ServiceError::NotFound { what: "job", id: id.to_owned() })
    }

    /// Lets the job at work go on at the next start of the service.
    pub(super) fn pause_jobs(&self) {
        let running = lock(&self.control.worker).clone();
        if let Some((id, worker)) = running {
            tracing::info!("fine-tune {id} is stopped; it goes on at the next start");
            worker.stop(Stop::Pause);
        }
    }

    fn stop_worker(&self, id: &str, why: Stop) {
        let running = lock(&self.control.worker);
        match running.as_ref().filter(|(job, _)| job == id) {
            Some((_, worker)) => worker.stop(why),
            None => *lock(&self.control.stop_soon) = Some((id.to_owned(), why)),
        }
    }

    fn answer_schedule(&self) {
        let due = *lock(&self.control.last_due);
        lock(&self.control.ledger).change(|ledger| ledger.schedules_until = ledger.schedules_until.max(due));
    }

    fn note_failure(&self, now: Timestamp) {
        lock(&self.control.ledger).change(|ledger| {
            ledger.failures = ledger.failures.saturating_add(1);
            ledger.last_failure = Some(now);
        });
    }

    fn train(self: &Arc<Self>, trigger: Trigger, job: Option<String>) -> anyhow::Result<()> {
        let request = || JobRequest { training: self.context.settings.training.clone(), scope: Scope::NEW };
        let id = match job {
            Some(id) => id,
            None => self.jobs.add(trigger, request())?,
        };
        let Some(request) = self.jobs.start(&id, inputs(&self.context, &request()))? else { return Ok(()) };
        self.training.store(true, Ordering::Release);
        if trigger == Trigger::Schedule {
            self.answer_schedule();
        }
        let last_opinion = lock(&self.control.unhappy).1;
        lock(&self.control.ledger).change(|ledger| ledger.opinions_until = ledger.opinions_until.max(last_opinion));
        lock(&self.control.unhappy).0 = 0;
        let tries = *lock(&self.latest_label);
        let (service, job) = (self.clone(), id.clone());
        let order = Order { job: id.clone(), trigger: trigger.as_str().to_owned(), request };
        let thread = std::thread::Builder::new().name("fine-tune".into());
        let spawned = thread.spawn(move || {
            let _over = Over { service: &service, job: &order.job };
            let ended = service.work(&order);
            service.note_end(&id, ended, tries);
        });
        if let Err(error) = spawned {
            drop(Over { service: self, job: &job });
            return Err(error.into());
        }
        Ok(())
    }

    /// Runs a worker to its end.
    fn work(&self, order: &Order) -> Ended {
        let id = &order.job;
        tracing::info!("fine-tune {id} starts ({})", order.trigger);
        let worker = match Worker::start(&self.context, order, &self.jobs.log_path(id)) {
            Ok(worker) => worker,
            Err(error) => return Ended::Failed { error: format!("{error:#}"), hint: None },
        };
        self.jobs.worker(id, worker.id());
        let asked = {
            let mut running = lock(&self.control.worker);
            *running = Some((id.clone(), worker.clone()));
            lock(&self.control.stop_soon).take()
        };
        if let Some((_, why)) = asked.filter(|(job, _)| job == id) {
            worker.stop(why);
        }
        if self.stopping.load(Ordering::Acquire) {
            worker.stop(Stop::Pause);
        }
        let mut before = Duration::ZERO;
        let ended = worker.listen(|word, cpu| {
            let spent = cpu.saturating_sub(before);
            before = before.max(cpu);
            self.jobs.spent(id, spent);
            lock(&self.control.ledger).spend_soon(spent.as_secs_f64(), Timestamp::now());
            match word {
                Word::Stage { stage, total } => self.jobs.stage(id, *stage, *total),
                Word::Advance { done, note } => self.jobs.advance(id, *done, note),
                Word::Outcome { .. } | Word::Failed { .. } => {}
            }
        });
        lock(&self.control.ledger).settle();
        *lock(&self.control.worker) = None;
        ended
    }

    /// Notes how a job ended, and what follows from that for the next one.
    fn note_end(&self, id: &str, ended: Ended, tries: Option<Timestamp>) {
        let failures = match ended {
            Ended::Outcome(outcome) => {
                let verdict = outcome["verdict"].as_str().unwrap_or_default().to_owned();
                tracing::info!("fine-tune {id}: {} {verdict}", outcome["version"].as_str().unwrap_or_default());
                let state = if verdict == "refused" { JobState::Refused } else { JobState::Succeeded };
                let (learned_from, made) =
                    self.context.registry().map(|registry| artifacts(&registry, &outcome)).unwrap_or_default();
                self.jobs.end(id, state, |job| {
                    job.inputs = Inputs {
                        parent: learned_from.parent,
                        data_commit: learned_from.data_commit,
                        dataset: learned_from.dataset,
                        ..std::mem::take(&mut job.inputs)
                    };
                    job.outputs = made;
                    job.outcome = Some(outcome);
                });
                let mut tried = lock(&self.tried_until);
                *tried = (*tried).max(tries);
                false
            }
            Ended::Failed { error, hint } => {
                tracing::warn!("fine-tune {id} failed: {error}");
                self.jobs.end(id, JobState::Failed, |job| (job.error, job.hint) = (Some(error), hint));
                true
            }
            Ended::Stopped(Stop::Pause) => {
                if let Err(error) = self.jobs.requeue(id, PAUSED) {
                    tracing::warn!("{error:#}");
                }
                return;
            }
            Ended::Stopped(Stop::Cancel) => {
                tracing::info!("fine-tune {id} was cancelled");
                self.jobs.end(id, JobState::Cancelled, |job| {
                    job.error = Some("the job was stopped; nothing was promoted".to_owned());
                });
                // Whoever cancels does not want the same again at once.
                let mut tried = lock(&self.tried_until);
                *tried = (*tried).max(tries);
                return;
            }
        };
        match failures {
            true => self.note_failure(Timestamp::now()),
            false => lock(&self.control.ledger).change(|ledger| (ledger.failures, ledger.last_failure) = (0, None)),
        }
    }
}

/// Says that a fine-tune is over, also when the thread that listened to it panicked. The next one may be at work already.
struct Over<'a> {
    service: &'a Arc<Service>,
    job: &'a str,
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        let Self { service, job } = self;
        if service.jobs.get(job).is_some_and(|job| job.state == JobState::Running) {
            service.jobs.end(job, JobState::Failed, |job| job.error = Some("the service lost sight of it".to_owned()));
        }
        if let Some(job) = service.jobs.get(job) {
            service.interface.telemetry.learned(&job);
        }
        service.dirty.store(true, Ordering::Release);
        service.training.store(service.jobs.running().is_some(), Ordering::Release);
        service.wake.notify_one();
    }
}

/// What is known before a run starts.
fn inputs(context: &Context, request: &JobRequest) -> Inputs {
    let production = context.registry().ok().and_then(|registry| registry.production().ok().flatten());
    let settings = serde_json::to_vec(&(&request.training, &context.settings.gate)).unwrap_or_default();
    Inputs {
        production: production.map(|version| version.manifest_digest.to_string()),
        settings: Some(mynah_registry::Digest::of(&settings).to_string()),
        functions: digest_of(&context.home.functions_path()),
        ..Inputs::default()
    }
}

/// What a run learned from and what it made, as the version's manifest says.
fn artifacts(registry: &Registry, outcome: &Value) -> (Inputs, Outputs) {
    let version = outcome["version"].as_str().and_then(|name| registry.version(name).ok());
    let Some(version) = version.filter(|_| outcome["verdict"] != "nothing_new") else { return Default::default() };
    let manifest = &version.manifest;
    let inputs = Inputs {
        parent: manifest.parent.map(|digest| digest.to_string()),
        data_commit: manifest.data_commit.clone(),
        dataset: manifest.dataset_digest.map(|digest| digest.to_string()),
        ..Inputs::default()
    };
    let files = manifest.files.iter().map(|(name, file)| (name.clone(), file.sha256.to_string())).collect();
    let outputs =
        Outputs { version: Some(version.name.clone()), digest: Some(version.manifest_digest.to_string()), files };
    (inputs, outputs)
}
