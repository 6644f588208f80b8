//! The directory of one run: its state and report, and the checkpoints while it lasts.
//!
//! A run that was killed or stopped leaves its checkpoints to the next one with the same inputs; any other clears them
//! away. *Invariant:* of the runs that are over at most one has any.

use jiff::Timestamp;
use mynah_data::Home;
use mynah_registry::Digest;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

use crate::checkpoints::{self, Checkpoints};
use crate::error::Error;
use crate::files;

/// What became of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// It works, or it was killed; the next run tells the two apart by the lock.
    Running,
    /// Its candidate was promoted.
    Promoted,
    /// Its candidate passed the gate and waits to be promoted.
    Accepted,
    /// Its candidate was refused.
    Refused,
    /// It stopped on an error.
    Failed,
    /// A person stopped it.
    Cancelled,
    /// The process ended before the run did.
    Interrupted,
}

#[derive(Serialize, Deserialize)]
struct State {
    schema: u32,
    run: String,
    status: RunStatus,
    trigger: String,
    started_at: Timestamp,
    ended_at: Option<Timestamp>,
    message: Option<String>,
    /// What its weights depend on; not known before the examples were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inputs: Option<Digest>,
    /// The run whose checkpoints it went on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resumed_from: Option<String>,
}

/// A run that can be gone on from, by a run with the same inputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ResumableRun {
    /// Its name.
    pub run: String,
    /// What started it.
    pub trigger: String,
    /// Epochs that are behind it.
    pub epochs: usize,
}

/// The run that was stopped or killed last, where it left something to go on from. The caller makes sure that nobody is
/// training: a run that is under way looks the same.
///
/// # Errors
/// When the directory of runs cannot be read.
pub fn resumable_run(home: &Home) -> Result<Option<ResumableRun>, Error> {
    let left = left_behind(&home.runs_dir())?;
    Ok(left.into_iter().next_back().map(|(directory, state)| ResumableRun {
        run: state.run,
        trigger: state.trigger,
        epochs: Checkpoints::of(&directory).resumable().unwrap_or(0),
    }))
}

/// A run's directory. Candidate and checkpoints go when the run is over; one that was stopped keeps its checkpoints.
pub(crate) struct Run {
    directory: PathBuf,
    state: State,
}

impl Run {
    /// Starts a run, after closing those that were killed. The caller holds the training lock, so
    /// nobody else's run can be under way.
    pub fn start(runs: &Path, trigger: &str) -> Result<Self, Error> {
        files::create_directory(runs)?;
        close_interrupted(runs)?;
        let started_at = Timestamp::now();
        let stamp = started_at.strftime("%Y%m%dT%H%M%S").to_string();
        let name = (0..)
            .map(|n| if n == 0 { stamp.clone() } else { format!("{stamp}-{n}") })
            .find(|name| !runs.join(name).exists())
            .unwrap_or(stamp);
        let directory = runs.join(&name);
        files::create_directory(&directory)?;
        let run = Self {
            directory,
            state: State {
                schema: 1,
                run: name,
                status: RunStatus::Running,
                trigger: trigger.to_string(),
                started_at,
                ended_at: None,
                message: None,
                inputs: None,
                resumed_from: None,
            },
        };
        run.save()?;
        Ok(run)
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The name of the directory.
    pub fn name(&self) -> &str {
        &self.state.run
    }

    /// What started the run.
    pub fn trigger(&self) -> &str {
        &self.state.trigger
    }

    pub fn candidate(&self) -> PathBuf {
        self.directory.join("candidate")
    }

    /// Notes what the weights depend on, and takes the checkpoints of a run over that had the same inputs. Those of other
    /// runs are removed. Returns the name of the run.
    pub fn take_over(&mut self, inputs: Digest) -> Result<Option<String>, Error> {
        let runs = self.directory.parent().unwrap_or(&self.directory);
        let left = left_behind(runs)?.into_iter().filter(|(directory, _)| *directory != self.directory);
        let (same, other): (Vec<_>, Vec<_>) = left.partition(|(_, state)| state.inputs == Some(inputs));
        let chosen = same.into_iter().next_back();
        self.state.inputs = Some(inputs);
        self.state.resumed_from = chosen.as_ref().map(|(_, state)| state.run.clone());
        self.save()?;
        if let Some((directory, _)) = chosen {
            let (from, to) = (directory.join(checkpoints::DIRECTORY), self.directory.join(checkpoints::DIRECTORY));
            std::fs::rename(&from, &to).map_err(|source| Error::Io { action: "move", path: from, source })?;
        }
        for (directory, _) in other {
            remove(&directory, &[checkpoints::DIRECTORY])?;
        }
        Ok(self.state.resumed_from.clone())
    }

    /// Notes the end and removes the candidate, and the checkpoints unless the run was stopped.
    pub fn finish(mut self, status: RunStatus, message: Option<String>) -> Result<(), Error> {
        self.state.status = status;
        self.state.ended_at = Some(Timestamp::now());
        self.state.message = message;
        let stopped = matches!(status, RunStatus::Cancelled | RunStatus::Interrupted);
        let parts = ["candidate", checkpoints::DIRECTORY];
        remove(&self.directory, if stopped { &parts[..1] } else { &parts })?;
        self.save()
    }

    fn save(&self) -> Result<(), Error> {
        files::replace_json(&self.directory.join("state.json"), &self.state)
    }
}

/// The runs, the oldest first, that are over without an end of their own and have checkpoints, with the one that is at work.
fn left_behind(runs: &Path) -> Result<Vec<(PathBuf, State)>, Error> {
    let mut left = Vec::new();
    for directory in directories(runs)? {
        let over =
            |state: &State| matches!(state.status, RunStatus::Running | RunStatus::Cancelled | RunStatus::Interrupted);
        let state = state_of(&directory).filter(over);
        if let (Some(state), true) = (state, Checkpoints::of(&directory).resumable().is_some()) {
            left.push((directory, state));
        }
    }
    left.sort_by(|(_, a), (_, b)| (a.started_at, &a.run).cmp(&(b.started_at, &b.run)));
    Ok(left)
}

fn state_of(directory: &Path) -> Option<State> {
    serde_json::from_slice(&std::fs::read(directory.join("state.json")).ok()?).ok()
}

fn directories(runs: &Path) -> Result<Vec<PathBuf>, Error> {
    let io = |source| Error::Io { action: "read", path: runs.to_path_buf(), source };
    let entries = match std::fs::read_dir(runs) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io)?,
    };
    let mut directories = Vec::new();
    for entry in entries {
        let directory = entry.map_err(io)?.path();
        if directory.is_dir() {
            directories.push(directory);
        }
    }
    Ok(directories)
}

fn remove(directory: &Path, parts: &[&str]) -> Result<(), Error> {
    parts.iter().try_for_each(|part| files::remove_directory(&directory.join(part)))
}

fn close_interrupted(runs: &Path) -> Result<(), Error> {
    for directory in directories(runs)? {
        match state_of(&directory) {
            Some(state) if state.status == RunStatus::Running => {
                Run { directory, state }.finish(RunStatus::Interrupted, None)?;
            }
            Some(_) => {}
            // Killed before its state was whole: there is nothing in it to keep.
            None => remove(&directory, &["candidate", checkpoints::DIRECTORY])?,
        }
    }
    // The last one may be gone on from; of older ones nobody asks any more.
    let mut left = left_behind(runs)?;
    left.pop();
    left.iter().try_for_each(|(directory, _)| remove(directory, &[checkpoints::DIRECTORY]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes it look as if `run` had finished an epoch.
    fn checkpoint(run: &Run) -> PathBuf {
        let directory = run.directory().join(checkpoints::DIRECTORY);
        files::create_directory(&directory).unwrap();
        let history = r#"{"schema":1,"epochs":[{"train":{},"validation":{"score":"1.5"}}]}"#;
        std::fs::write(directory.join("history.json"), history).unwrap();
        for part in ["model", "optim", "scheduler"] {
            std::fs::write(directory.join(format!("{part}-1.bpk")), part).unwrap();
        }
        directory
    }

    #[test]
    fn the_same_inputs_take_the_checkpoints_over_and_others_clear_them_away() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::new(directory.path());
        let (inputs, other) = (Digest::of(b"inputs"), Digest::of(b"other"));
        let mut killed = Run::start(&home.runs_dir(), "train").unwrap();
        assert_eq!(killed.take_over(inputs).unwrap(), None);
        let left = checkpoint(&killed);
        let found = resumable_run(&home).unwrap().unwrap();
        assert_eq!((found.run.as_str(), found.trigger.as_str(), found.epochs), (killed.state.run.as_str(), "train", 1));

        let mut next = Run::start(&home.runs_dir(), "train").unwrap();
        assert!(left.exists());
        assert_eq!(next.take_over(inputs).unwrap().as_ref(), Some(&killed.state.run));
        assert!(!left.exists() && next.directory().join(checkpoints::DIRECTORY).join("model-1.bpk").exists());
        next.finish(RunStatus::Cancelled, None).unwrap();
        assert!(resumable_run(&home).unwrap().is_some());

        let mut different = Run::start(&home.runs_dir(), "train").unwrap();
        assert_eq!(different.take_over(other).unwrap(), None);
        assert_eq!(resumable_run(&home).unwrap(), None);
        let its_own = checkpoint(&different);
        different.finish(RunStatus::Promoted, None).unwrap();
        assert!(!its_own.exists());
    }

    #[test]
    fn only_the_last_run_that_was_killed_keeps_its_checkpoints() {
        let home = tempfile::tempdir().unwrap();
        let first = checkpoint(&Run::start(home.path(), "train").unwrap());
        let second = checkpoint(&Run::start(home.path(), "train").unwrap());
        Run::start(home.path(), "train").unwrap();
        assert!(!first.exists() && second.exists());
    }

    #[test]
    fn a_killed_run_is_closed_by_the_next_one() -> Result<(), Box<dyn std::error::Error>> {
        let home = tempfile::tempdir()?;
        let killed = Run::start(home.path(), "train")?;
        files::create_directory(&killed.candidate())?;
        let next = Run::start(home.path(), "train")?;
        assert_ne!(killed.directory(), next.directory());
        assert!(!killed.candidate().exists());
        let state: State = serde_json::from_slice(&std::fs::read(killed.directory().join("state.json"))?)?;
        assert_eq!(state.status, RunStatus::Interrupted);
        next.finish(RunStatus::Refused, Some("why".into()))?;
        Ok(())
    }
}
