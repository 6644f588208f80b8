//! The directory of one run: its state, settings and report, and the checkpoints while it lasts.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

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
}

/// A run's directory. Heavy parts go when the run is over, whatever its end.
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

    /// Notes the end and removes checkpoints and candidate.
    pub fn finish(mut self, status: RunStatus, message: Option<String>) -> Result<(), Error> {
        self.state.status = status;
        self.state.ended_at = Some(Timestamp::now());
        self.state.message = message;
        remove_heavy(&self.directory)?;
        self.save()
    }

    fn save(&self) -> Result<(), Error> {
        files::write_json(&self.directory.join("state.json"), &self.state)
    }
}

fn remove_heavy(directory: &Path) -> Result<(), Error> {
    for part in ["checkpoint", "candidate"] {
        let path = directory.join(part);
        match std::fs::remove_dir_all(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::Io { action: "remove", path, source });
            }
            _ => {}
        }
    }
    Ok(())
}

fn close_interrupted(runs: &Path) -> Result<(), Error> {
    let io = |source| Error::Io { action: "read", path: runs.to_path_buf(), source };
    for entry in std::fs::read_dir(runs).map_err(io)? {
        let directory = entry.map_err(io)?.path();
        if !directory.is_dir() {
            continue;
        }
        let state = std::fs::read(directory.join("state.json"))
            .ok()
            .and_then(|bytes| serde_json::from_slice::<State>(&bytes).ok());
        match state {
            Some(state) if state.status == RunStatus::Running => {
                Run { directory, state }.finish(RunStatus::Interrupted, None)?;
            }
            Some(_) => {}
            // Killed before its state was whole: there is nothing in it to keep.
            None => remove_heavy(&directory)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
