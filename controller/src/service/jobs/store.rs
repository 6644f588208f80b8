//! The files of jobs: `jobs/<id>.json`, replaced as a whole, and `jobs/<id>.log`, which the worker writes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use mynah_data::Home;

use super::Job;
use crate::durable;
use crate::fault::FaultPoint;

/// The format of a job's file.
pub(super) const SCHEMA: u32 = 1;

/// Where the jobs of a home are.
pub(super) fn directory(home: &Home) -> PathBuf {
    home.root().join("jobs")
}

/// The log of a job.
pub fn log_path(home: &Home, id: &str) -> PathBuf {
    log_in(&directory(home), id)
}

pub(super) fn log_in(directory: &Path, id: &str) -> PathBuf {
    directory.join(format!("{id}.log"))
}

/// All jobs of a home by their ids, which sort by time. A file that is none is passed over.
///
/// # Errors
/// When the directory cannot be read.
pub fn read_all(home: &Home) -> anyhow::Result<BTreeMap<String, Job>> {
    let directory = directory(home);
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries.with_context(|| format!("cannot read {}", directory.display()))?,
    };
    let mut jobs = BTreeMap::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", directory.display()))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(id) = name.strip_suffix(".json").filter(|id| id.starts_with("j_")) else { continue };
        match durable::read_json::<Job>(&path) {
            Ok(Some(job)) if job.id == id && job.schema <= SCHEMA => {
                jobs.insert(job.id.clone(), job);
            }
            Ok(_) => tracing::warn!("{} is no job that this program knows", path.display()),
            Err(error) => tracing::warn!("{error:#}"),
        }
    }
    Ok(jobs)
}

pub(super) fn save(directory: &Path, job: &Job, fault: &FaultPoint) -> anyhow::Result<()> {
    durable::replace(&path(directory, &job.id), &serde_json::to_vec_pretty(job)?, fault)
}

pub(super) fn save_soon(directory: &Path, job: &Job, fault: &FaultPoint) -> anyhow::Result<()> {
    durable::replace_soon(&path(directory, &job.id), &serde_json::to_vec_pretty(job)?, fault)
}

/// Removes what is left of an old job; what stays is removed another time.
pub(super) fn remove(directory: &Path, id: &str) {
    let _ = fs::remove_file(log_in(directory, id));
    let _ = fs::remove_file(path(directory, id));
}

fn path(directory: &Path, id: &str) -> PathBuf {
    directory.join(format!("{id}.json"))
}
