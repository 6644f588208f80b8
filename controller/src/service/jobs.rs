//! Fine-tuning jobs: what was asked for, how far it is, what came of it.
//!
//! A job is a file, `jobs/<id>.json`, beside `jobs/<id>.log`, and changes state only together with it. Invariant: a job that
//! was accepted is on the disk, and one that a killed service leaves `running` is queued again by the next.

mod store;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use mynah_data::Home;
use mynah_pipelines::{Stage, TrainingSettings};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::decide::Trigger;
use crate::fault::FaultPoint;
use crate::learning::Scope;

pub use store::{log_path, read_all};

/// Jobs that are over and are kept.
const KEPT: usize = 100;

/// How often a service may end while the same job runs, before the job is to blame.
const MAX_ATTEMPTS: u32 = 3;

/// How often progress within a stage reaches the file.
const SAVE_EVERY: Duration = Duration::from_millis(500);

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Another job trains, or it is not the time yet.
    Queued,
    /// It trains.
    Running,
    /// It has a verdict other than a refusal.
    Succeeded,
    /// The gate refused its candidate.
    Refused,
    /// It ended without a verdict.
    Failed,
    /// Somebody stopped it.
    Cancelled,
}

impl JobState {
    /// Whether nothing more will happen.
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }

    /// The name, as the wire has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A stage that a job went through.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// Which.
    pub stage: Stage,
    /// When it began.
    pub started_at: Timestamp,
    /// When the next one began, or the job ended.
    pub finished_at: Option<Timestamp>,
}

/// What a run starts from and what it leaves, each by its digest; what is not known yet is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Inputs {
    /// The manifest of what was in production when the job began.
    pub production: Option<String>,
    /// The manifest that training started from.
    pub parent: Option<String>,
    /// The commit of the log.
    pub data_commit: Option<String>,
    /// The labelled examples.
    pub dataset: Option<String>,
    /// The settings of training and gate, as JSON.
    pub settings: Option<String>,
    /// `functions.json`.
    pub functions: Option<String>,
}

/// What a job made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outputs {
    /// The version's name.
    pub version: Option<String>,
    /// Its manifest.
    pub digest: Option<String>,
    /// Every file of it.
    pub files: BTreeMap<String, String>,
}

/// A job, as its file and the wire show it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// The format of the file: 1.
    pub schema: u32,
    /// Its id.
    pub id: String,
    /// Where it is.
    pub state: JobState,
    /// Why it was started.
    pub trigger: Trigger,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// When it was started last.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    /// When it came to an end.
    pub finished_at: Option<Timestamp>,
    /// How often it was started.
    #[serde(default)]
    pub attempts: u32,
    /// The stage it is in.
    pub stage: Option<Stage>,
    /// Units of the stage that are done.
    pub done: u64,
    /// Units of the stage; 0 when nobody knows.
    pub total: u64,
    /// How it goes.
    pub note: String,
    /// The stages so far, of the last start.
    #[serde(default)]
    pub stages: Vec<StageRecord>,
    /// Processor time over all starts, in seconds.
    #[serde(default)]
    pub cpu_seconds: f64,
    /// The process that does the work, while it runs.
    #[serde(default)]
    pub worker: Option<u32>,
    /// What is to be done.
    pub request: JobRequest,
    /// What it works from.
    #[serde(default)]
    pub inputs: Inputs,
    /// What it made.
    #[serde(default)]
    pub outputs: Outputs,
    /// What came of it: what `mynah train --json` prints.
    pub outcome: Option<Value>,
    /// Why it failed.
    pub error: Option<String>,
    /// What to do about that.
    pub hint: Option<String>,
}

/// Several jobs, as the wire shows them.
#[derive(Debug, Serialize)]
pub struct JobList<'a> {
    /// The oldest first.
    pub jobs: &'a [Job],
}

/// What a job is to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRequest {
    /// The settings of the run.
    pub training: TrainingSettings,
    /// How much it looks at.
    pub scope: Scope,
}

/// All jobs of a home in the service; clones share them.
#[derive(Clone)]
pub struct Jobs {
    directory: PathBuf,
    fault: FaultPoint,
    entries: Arc<Mutex<Entries>>,
}

#[derive(Default)]
struct Entries {
    jobs: BTreeMap<String, Job>,
    saved: Option<Instant>,
}

impl Jobs {
    /// Reads the jobs of a home. What was running when the last service ended is queued again. The caller holds the lock
    /// of the service.
    ///
    /// # Errors
    /// When the directory cannot be read or written.
    pub fn open(home: &Home, fault: FaultPoint) -> anyhow::Result<Self> {
        let directory = store::directory(home);
        let jobs = read_all(home)?;
        let jobs = Self { directory, fault, entries: Arc::new(Mutex::new(Entries { jobs, saved: None })) };
        let running: Vec<String> =
            jobs.list().into_iter().filter(|job| job.state == JobState::Running).map(|job| job.id).collect();
        for id in running {
            jobs.requeue(&id, "the service ended while it ran")?;
        }
        Ok(jobs)
    }

    /// Adds a job that waits.
    ///
    /// # Errors
    /// When it cannot be written: then there is none.
    pub fn add(&self, trigger: Trigger, request: JobRequest) -> anyhow::Result<String> {
        let id = format!("j_{}", uuid::Uuid::now_v7().simple());
        let job = Job {
            schema: store::SCHEMA,
            id: id.clone(),
            state: JobState::Queued,
            trigger,
            requested_at: Timestamp::now(),
            started_at: None,
            finished_at: None,
            attempts: 0,
            stage: None,
            done: 0,
            total: 0,
            note: String::new(),
            stages: Vec::new(),
            cpu_seconds: 0.0,
            worker: None,
            request,
            inputs: Inputs::default(),
            outputs: Outputs::default(),
            outcome: None,
            error: None,
            hint: None,
        };
        let mut entries = self.lock();
        store::save(&self.directory, &job, &self.fault)?;
        entries.jobs.insert(id.clone(), job);
        let over: Vec<String> =
            entries.jobs.values().filter(|job| job.state.is_over()).map(|job| job.id.clone()).collect();
        for old in over.iter().take(over.len().saturating_sub(KEPT)) {
            store::remove(&self.directory, old);
            entries.jobs.remove(old);
        }
        Ok(id)
    }

    /// A job by its id.
    pub fn get(&self, id: &str) -> Option<Job> {
        self.lock().jobs.get(id).cloned()
    }

    /// All jobs, the oldest first.
    pub fn list(&self) -> Vec<Job> {
        self.lock().jobs.values().cloned().collect()
    }

    /// The log of a job.
    pub fn log_path(&self, id: &str) -> PathBuf {
        store::log_in(&self.directory, id)
    }

    /// The job that waits for the longest time; ids sort by time. What a person asked for comes before what did not.
    pub fn next_queued(&self) -> Option<(String, Trigger)> {
        let entries = self.lock();
        let mut queued: Vec<&Job> = entries.jobs.values().filter(|job| job.state == JobState::Queued).collect();
        queued.sort_by_key(|job| (job.trigger != Trigger::Api, &job.id));
        queued.first().map(|job| (job.id.clone(), job.trigger))
    }

    /// The job at work.
    pub fn running(&self) -> Option<(String, Trigger)> {
        let entries = self.lock();
        let running = entries.jobs.values().find(|job| job.state == JobState::Running);
        running.map(|job| (job.id.clone(), job.trigger))
    }

    /// Marks a queued job as running and returns what it is to do; `None` when it is not queued any more.
    ///
    /// # Errors
    /// When its file cannot be written.
    pub fn start(&self, id: &str, inputs: Inputs) -> anyhow::Result<Option<JobRequest>> {
        let is_queued = self.get(id).is_some_and(|job| job.state == JobState::Queued);
        if !is_queued {
            return Ok(None);
        }
        let job = self.change(id, |job| {
            job.state = JobState::Running;
            job.started_at = Some(Timestamp::now());
            job.attempts += 1;
            (job.stage, job.done, job.total) = (None, 0, 0);
            job.note.clear();
            job.stages.clear();
            job.inputs = inputs;
        })?;
        Ok(job.map(|job| job.request))
    }

    /// Notes the process that does the work.
    pub fn worker(&self, id: &str, process: u32) {
        self.note(self.change(id, |job| job.worker = Some(process)));
    }

    /// Notes that a stage began.
    pub fn stage(&self, id: &str, stage: Stage, total: u64) {
        let now = Timestamp::now();
        self.note(self.change(id, |job| {
            close_stage(job, now);
            job.stages.push(StageRecord { stage, started_at: now, finished_at: None });
            (job.stage, job.total, job.done) = (Some(stage), total, 0);
            job.note.clear();
        }));
    }

    /// Notes how far the stage is. The file follows now and then.
    pub fn advance(&self, id: &str, done: u64, note: &str) {
        let mut entries = self.lock();
        let due = entries.saved.is_none_or(|at| at.elapsed() >= SAVE_EVERY);
        let Some(job) = entries.jobs.get_mut(id) else { return };
        job.done = done;
        note.clone_into(&mut job.note);
        if due {
            let saved = store::save_soon(&self.directory, job, &self.fault);
            entries.saved = Some(Instant::now());
            drop(entries);
            self.note(saved);
        }
    }

    /// Adds processor time.
    pub fn spent(&self, id: &str, cpu: Duration) {
        if let Some(job) = self.lock().jobs.get_mut(id) {
            job.cpu_seconds += cpu.as_secs_f64();
        }
    }

    /// Notes the end of a job.
    pub fn end(&self, id: &str, state: JobState, change: impl FnOnce(&mut Job)) {
        let now = Timestamp::now();
        self.note(self.change(id, |job| {
            close_stage(job, now);
            job.state = state;
            job.finished_at = Some(now);
            job.worker = None;
            change(job);
        }));
    }

    /// Queues a running job again, unless it was started too often.
    ///
    /// # Errors
    /// When its file cannot be written.
    pub fn requeue(&self, id: &str, why: &str) -> anyhow::Result<()> {
        let attempts = self.get(id).map_or(0, |job| job.attempts);
        if attempts >= MAX_ATTEMPTS && why != PAUSED {
            self.end(id, JobState::Failed, |job| {
                job.error = Some(format!("{why}, for the {attempts}th time"));
                job.hint = Some("`mynah jobs log` shows how far it came; `mynah train --local` runs here".to_owned());
            });
            return Ok(());
        }
        let now = Timestamp::now();
        self.change(id, |job| {
            close_stage(job, now);
            job.state = JobState::Queued;
            job.worker = None;
            job.note = format!("{why}; it goes on from its last checkpoint");
            if why == PAUSED {
                job.attempts = job.attempts.saturating_sub(1);
            }
        })?;
        Ok(())
    }

    /// Cancels a queued job at once. Returns the state that it was found in; whoever runs a running one has to stop it.
    pub fn cancel(&self, id: &str) -> Option<JobState> {
        let state = self.get(id)?.state;
        if state == JobState::Queued {
            self.end(id, JobState::Cancelled, |_| {});
        }
        Some(state)
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut Job)) -> anyhow::Result<Option<Job>> {
        let mut entries = self.lock();
        let Some(job) = entries.jobs.get_mut(id) else { return Ok(None) };
        change(job);
        store::save(&self.directory, job, &self.fault)?;
        Ok(Some(job.clone()))
    }

    /// What the disk refuses while a job runs is told and does not end it: its result counts more than its notes.
    fn note<T>(&self, written: anyhow::Result<T>) {
        if let Err(error) = written {
            tracing::warn!("the notes on a job: {error:#}");
        }
    }

    /// Plain values: a panic elsewhere leaves none of them half changed.
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a job that is to go on later was stopped.
pub const PAUSED: &str = "it was stopped to go on later";

/// Cancels a queued or orphaned job of a home without a service. The caller holds the service's lock.
///
/// # Errors
/// When its file cannot be read or written.
pub fn cancel_here(home: &Home, id: &str, fault: FaultPoint) -> anyhow::Result<Option<JobState>> {
    let jobs = Jobs::open(home, fault)?;
    Ok(jobs.cancel(id))
}

/// The digest of some bytes in a file; `None` when it cannot be read.
pub fn digest_of(path: &Path) -> Option<String> {
    Some(mynah_registry::Digest::of(&std::fs::read(path).ok()?).to_string())
}

fn close_stage(job: &mut Job, now: Timestamp) {
    if let Some(open) = job.stages.last_mut().filter(|stage| stage.finished_at.is_none()) {
        open.finished_at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> JobRequest {
        JobRequest { training: TrainingSettings::default(), scope: Scope::NEW }
    }

    fn jobs(home: &Path) -> Jobs {
        Jobs::open(&Home::new(home), Arc::new(|_| Ok(()))).unwrap()
    }

    #[test]
    fn a_job_waits_runs_and_ends_and_its_file_says_the_same() {
        let home = tempfile::tempdir().unwrap();
        let jobs = jobs(home.path());
        let first = jobs.add(Trigger::SessionEnd, request()).unwrap();
        let second = jobs.add(Trigger::Api, request()).unwrap();
        assert_eq!(jobs.next_queued(), Some((second.clone(), Trigger::Api)), "people come first");
        assert!(jobs.start(&second, Inputs::default()).unwrap().is_some());
        assert!(jobs.start(&second, Inputs::default()).unwrap().is_none());
        jobs.stage(&second, Stage::Dataset, 0);
        jobs.stage(&second, Stage::FineTune, 10);
        jobs.advance(&second, 4, "epoch 1");
        let job = jobs.get(&second).unwrap();
        assert_eq!((job.state, job.done, job.total, job.note.as_str()), (JobState::Running, 4, 10, "epoch 1"));
        assert!(job.stages[0].finished_at.is_some() && job.stages[1].finished_at.is_none());
        assert_eq!(jobs.next_queued(), Some((first, Trigger::SessionEnd)));
        jobs.end(&second, JobState::Succeeded, |job| job.outcome = Some(Value::Null));
        let stored = read_all(&Home::new(home.path())).unwrap();
        assert_eq!(stored[&second].state, JobState::Succeeded);
        assert_eq!(serde_json::to_value(&stored[&second]).unwrap(), serde_json::to_value(jobs.get(&second)).unwrap());
    }

    #[test]
    fn what_a_killed_service_left_running_is_queued_again_until_it_is_to_blame() {
        let home = tempfile::tempdir().unwrap();
        let id = jobs(home.path()).add(Trigger::Api, request()).unwrap();
        for attempt in 1..=MAX_ATTEMPTS {
            let opened = jobs(home.path());
            assert!(opened.start(&id, Inputs::default()).unwrap().is_some(), "attempt {attempt}");
            opened.worker(&id, 7);
        }
        let job = jobs(home.path()).get(&id).unwrap();
        assert_eq!((job.state, job.worker), (JobState::Failed, None));
        insta::assert_snapshot!(job.error.unwrap(), @"the service ended while it ran, for the 3th time");
    }

    #[test]
    fn a_job_that_is_paused_may_be_so_any_number_of_times() {
        let home = tempfile::tempdir().unwrap();
        let jobs = jobs(home.path());
        let id = jobs.add(Trigger::Schedule, request()).unwrap();
        for _ in 0..2 * MAX_ATTEMPTS {
            jobs.start(&id, Inputs::default()).unwrap();
            jobs.requeue(&id, PAUSED).unwrap();
        }
        assert_eq!(jobs.get(&id).unwrap().state, JobState::Queued);
    }

    #[test]
    fn a_waiting_job_is_cancelled_at_once_and_without_a_service_too() {
        let home = tempfile::tempdir().unwrap();
        let open = jobs(home.path());
        let (running, waiting) =
            (open.add(Trigger::Api, request()).unwrap(), open.add(Trigger::Api, request()).unwrap());
        open.start(&running, Inputs::default()).unwrap();
        assert_eq!(open.cancel(&waiting), Some(JobState::Queued));
        assert_eq!(open.get(&waiting).unwrap().state, JobState::Cancelled);
        assert_eq!(open.cancel(&running), Some(JobState::Running));
        assert_eq!(open.cancel("j_unknown"), None);
        drop(open);
        let home = Home::new(home.path());
        assert_eq!(cancel_here(&home, &running, Arc::new(|_| Ok(()))).unwrap(), Some(JobState::Queued));
        assert_eq!(read_all(&home).unwrap()[&running].state, JobState::Cancelled);
    }

    #[test]
    fn only_so_many_finished_jobs_are_kept_and_a_broken_file_is_no_job() {
        let home = tempfile::tempdir().unwrap();
        let open = jobs(home.path());
        let first = open.add(Trigger::Api, request()).unwrap();
        std::fs::write(open.log_path(&first), "log").unwrap();
        open.end(&first, JobState::Failed, |_| {});
        for _ in 0..KEPT {
            let id = open.add(Trigger::Api, request()).unwrap();
            open.end(&id, JobState::Succeeded, |_| {});
        }
        let waiting = open.add(Trigger::Api, request()).unwrap();
        assert!(open.get(&first).is_none() && !open.log_path(&first).exists());
        std::fs::write(store::directory(&Home::new(home.path())).join("j_broken.json"), "{").unwrap();
        let again = jobs(home.path());
        assert_eq!(again.list().len(), KEPT + 1);
        assert!(again.get(&waiting).is_some());
    }

    #[test]
    fn a_job_that_cannot_be_written_was_not_accepted() {
        let home = tempfile::tempdir().unwrap();
        let full: FaultPoint = Arc::new(|_| Err(std::io::ErrorKind::StorageFull.into()));
        let jobs = Jobs::open(&Home::new(home.path()), full).unwrap();
        assert!(jobs.add(Trigger::Api, request()).is_err());
        assert_eq!(jobs.next_queued(), None);
    }
}
