//! Fine-tuning jobs: what was asked for, how far it is, what came of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use mynah_pipelines::{Progress, Stage, TrainingSettings};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::learning::Scope;

/// Finished jobs that are remembered.
const KEPT: usize = 100;

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Another job trains.
    Waiting,
    /// It trains.
    Running,
    /// It has a verdict.
    Done,
    /// It ended without one.
    Failed,
    /// Somebody stopped it.
    Cancelled,
}

/// A job as the wire shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: String,
    /// Where it is.
    pub state: JobState,
    /// Why it was started: `api`, `schedule`, `session-end`.
    pub trigger: String,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// When it came to an end.
    pub finished_at: Option<Timestamp>,
    /// The stage it is in.
    pub stage: Option<Stage>,
    /// Units of the stage that are done.
    pub done: u64,
    /// Units of the stage; 0 when nobody knows.
    pub total: u64,
    /// How it goes.
    pub note: String,
    /// What came of it: what `mynah train --json` prints.
    pub outcome: Option<Value>,
    /// Why it failed.
    pub error: Option<String>,
    /// What to do about that.
    pub hint: Option<String>,
}

/// What a job is to do.
#[derive(Debug, Clone)]
pub struct JobRequest {
    /// The settings of the run.
    pub training: TrainingSettings,
    /// How much it looks at.
    pub scope: Scope,
}

struct Entry {
    job: Job,
    request: JobRequest,
    cancelled: Arc<AtomicBool>,
}

/// All jobs of a running service; clones share them.
#[derive(Clone, Default)]
pub struct Jobs {
    entries: Arc<Mutex<BTreeMap<String, Entry>>>,
}

impl Jobs {
    /// Adds a job that waits.
    pub fn add(&self, trigger: &str, request: JobRequest) -> String {
        let id = format!("j_{}", uuid::Uuid::now_v7().simple());
        let job = Job {
            id: id.clone(),
            state: JobState::Waiting,
            trigger: trigger.to_owned(),
            requested_at: Timestamp::now(),
            finished_at: None,
            stage: None,
            done: 0,
            total: 0,
            note: String::new(),
            outcome: None,
            error: None,
            hint: None,
        };
        let mut entries = self.lock();
        entries.insert(id.clone(), Entry { job, request, cancelled: Arc::default() });
        while entries.len() > KEPT {
            let Some(oldest) =
                entries.iter().find(|(_, entry)| entry.job.finished_at.is_some()).map(|(id, _)| id.clone())
            else {
                break;
            };
            entries.remove(&oldest);
        }
        id
    }

    /// A job by its id.
    pub fn get(&self, id: &str) -> Option<Job> {
        self.lock().get(id).map(|entry| entry.job.clone())
    }

    /// All jobs, oldest first; ids sort by time.
    pub fn list(&self) -> Vec<Job> {
        self.lock().values().map(|entry| entry.job.clone()).collect()
    }

    /// The job that waits for the longest time; ids sort by time.
    pub fn oldest_waiting(&self) -> Option<String> {
        self.lock().values().find(|entry| entry.job.state == JobState::Waiting).map(|entry| entry.job.id.clone())
    }

    /// Marks a job as running; its settings and the progress it reports to.
    pub fn start(&self, id: &str) -> Option<(JobRequest, JobProgress)> {
        let mut entries = self.lock();
        let entry = entries.get_mut(id).filter(|entry| entry.job.state == JobState::Waiting)?;
        entry.job.state = JobState::Running;
        let progress = JobProgress { jobs: self.clone(), id: id.to_owned(), cancelled: entry.cancelled.clone() };
        Some((entry.request.clone(), progress))
    }

    /// Notes a verdict.
    pub fn finish(&self, id: &str, outcome: Value) {
        self.end(id, JobState::Done, |job| job.outcome = Some(outcome));
    }

    /// Notes that a job came to no verdict.
    pub fn fail(&self, id: &str, error: &anyhow::Error) {
        let state = match crate::failure::exit_status(error) {
            crate::interrupt::INTERRUPTED => JobState::Cancelled,
            _ => JobState::Failed,
        };
        self.end(id, state, |job| {
            job.error = Some(format!("{error:#}"));
            job.hint = crate::failure::hint(error);
        });
    }

    /// Asks a job to stop; false when there is none.
    pub fn cancel(&self, id: &str) -> bool {
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(id) else {
            return false;
        };
        entry.cancelled.store(true, Ordering::Release);
        if entry.job.state == JobState::Waiting {
            entry.job.state = JobState::Cancelled;
            entry.job.finished_at = Some(Timestamp::now());
        }
        true
    }

    /// Asks every job to stop.
    pub fn cancel_all(&self) {
        let ids: Vec<String> = self.lock().keys().cloned().collect();
        ids.iter().for_each(|id| {
            self.cancel(id);
        });
    }

    fn end(&self, id: &str, state: JobState, change: impl FnOnce(&mut Job)) {
        if let Some(entry) = self.lock().get_mut(id) {
            entry.job.state = state;
            entry.job.finished_at = Some(Timestamp::now());
            change(&mut entry.job);
        }
    }

    /// Plain values: a panic elsewhere leaves none of them half changed.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a run's progress into its job.
pub struct JobProgress {
    jobs: Jobs,
    id: String,
    cancelled: Arc<AtomicBool>,
}

impl JobProgress {
    fn change(&self, change: impl FnOnce(&mut Job)) {
        if let Some(entry) = self.jobs.lock().get_mut(&self.id) {
            change(&mut entry.job);
        }
    }
}

impl Progress for JobProgress {
    fn stage(&self, stage: Stage, total: u64) {
        self.change(|job| {
            (job.stage, job.total, job.done) = (Some(stage), total, 0);
            job.note.clear();
        });
    }

    fn advance(&self, done: u64, note: &str) {
        self.change(|job| {
            job.done = done;
            note.clone_into(&mut job.note);
        });
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> JobRequest {
        JobRequest { training: TrainingSettings::default(), scope: Scope::NEW }
    }

    #[test]
    fn a_job_waits_runs_and_ends() {
        let jobs = Jobs::default();
        let first = jobs.add("api", request());
        let second = jobs.add("api", request());
        assert_eq!(jobs.oldest_waiting().as_ref(), Some(&first));
        let (_, progress) = jobs.start(&first).unwrap();
        assert!(jobs.start(&first).is_none());
        progress.stage(Stage::FineTune, 10);
        progress.advance(4, "epoch 1");
        let job = jobs.get(&first).unwrap();
        assert_eq!((job.state, job.done, job.total, job.note.as_str()), (JobState::Running, 4, 10, "epoch 1"));
        assert_eq!(jobs.oldest_waiting().as_ref(), Some(&second));
        jobs.finish(&first, Value::Null);
        assert_eq!(jobs.get(&first).unwrap().state, JobState::Done);
    }

    #[test]
    fn a_waiting_job_is_cancelled_at_once_and_a_running_one_is_asked() {
        let jobs = Jobs::default();
        let (running, waiting) = (jobs.add("api", request()), jobs.add("api", request()));
        let (_, progress) = jobs.start(&running).unwrap();
        jobs.cancel_all();
        assert!(progress.is_cancelled());
        assert_eq!(jobs.get(&waiting).unwrap().state, JobState::Cancelled);
        jobs.fail(&running, &mynah_pipelines::Error::Cancelled.into());
        assert_eq!(jobs.get(&running).unwrap().state, JobState::Cancelled);
        assert!(!jobs.cancel("j_unknown"));
    }

    #[test]
    fn only_so_many_finished_jobs_are_kept() {
        let jobs = Jobs::default();
        for _ in 0..KEPT + 5 {
            let id = jobs.add("api", request());
            jobs.finish(&id, Value::Null);
        }
        assert_eq!(jobs.lock().len(), KEPT);
    }
}
