//! `mynah jobs`: fine-tunes of the service, with it or without it.
//!
//! The files say how things are, whether the service runs or not; only stopping a job has to be asked of a service that runs.

use clap::Subcommand;
use mynah_data::Error as DataError;
use serde_json::json;

use super::Context;
use crate::client::Client;
use crate::failure::{Exit, hinted};
use crate::output::{count, table};
use crate::service::jobs::{self, Job, JobList, JobState, log_path, read_all};

/// The commands below `jobs`.
#[derive(Debug, Subcommand)]
pub enum JobsCommand {
    /// List the jobs, the latest last
    List {
        /// Only the last N
        #[arg(long, value_name = "N")]
        last: Option<usize>,
    },
    /// Show a job: stages, inputs and outputs by digest, what came of it
    Show {
        /// The id or the start of it, or `last`
        #[arg(default_value = "last")]
        job: String,
    },
    /// Stop a job; nothing is promoted, and `mynah train` or the next job can go on from its checkpoint
    Cancel {
        /// The id or the start of it, or `last`
        job: String,
    },
    /// Print what a job wrote
    Log {
        /// The id or the start of it, or `last`
        #[arg(default_value = "last")]
        job: String,
    },
}

/// Carries out one of the commands below `jobs`.
///
/// # Errors
/// When there is no such job, or its file cannot be read or written.
pub fn run(context: &Context, command: &JobsCommand) -> anyhow::Result<Exit> {
    match command {
        JobsCommand::List { last } => list(context, *last),
        JobsCommand::Show { job } => show(context, &found(context, job)?),
        JobsCommand::Cancel { job } => cancel(context, &found(context, job)?),
        JobsCommand::Log { job } => log(context, &found(context, job)?),
    }
}

fn found(context: &Context, name: &str) -> anyhow::Result<Job> {
    let mut jobs = read_all(&context.home)?;
    let unknown = |what: &str| hinted(format!("{what} `{name}`"), "`mynah jobs list` lists them");
    if name == "last" {
        return jobs
            .pop_last()
            .map(|(_, job)| job)
            .ok_or_else(|| hinted("there are no jobs", "`mynah serve` makes them"));
    }
    let ids: Vec<String> = jobs.keys().filter(|id| id.starts_with(name)).cloned().collect();
    match ids.as_slice() {
        [] => Err(unknown("no job")),
        [id] => jobs.remove(id).ok_or_else(|| unknown("no job")),
        _ => Err(unknown("several jobs begin with")),
    }
}

fn list(context: &Context, last: Option<usize>) -> anyhow::Result<Exit> {
    let jobs: Vec<Job> = read_all(&context.home)?.into_values().collect();
    let jobs = &jobs[jobs.len().saturating_sub(last.unwrap_or(usize::MAX))..];
    if context.output.json {
        context.output.value(&JobList { jobs })?;
        return Ok(Exit::Done);
    }
    let style = context.output.style;
    let mut rows = vec![["job", "state", "why", "requested", "stage", "version"].map(str::to_owned).to_vec()];
    rows.extend(jobs.iter().map(|job| {
        vec![
            job.id.clone(),
            job.state.as_str().to_owned(),
            job.trigger.as_str().to_owned(),
            job.requested_at.strftime("%Y-%m-%d %H:%M").to_string(),
            progress(job).unwrap_or_default(),
            job.outputs.version.clone().unwrap_or_default(),
        ]
    }));
    for line in table(&rows, |row, column, cell| match (row, column) {
        (0, _) => style.dim(cell),
        (_, 1) if cell == JobState::Failed.as_str() || cell == JobState::Refused.as_str() => style.bad(cell),
        _ => cell,
    }) {
        context.output.line(line)?;
    }
    Ok(Exit::Done)
}

/// How far a job is, while it is not over.
fn progress(job: &Job) -> Option<String> {
    let stage = job.stage.filter(|_| job.state == JobState::Running)?;
    Some(match job.total {
        0 => stage.to_string(),
        total => format!("{stage} {} of {total}", job.done),
    })
}

fn show(context: &Context, job: &Job) -> anyhow::Result<Exit> {
    let output = context.output;
    if output.json {
        output.value(job)?;
        return Ok(Exit::Done);
    }
    let fact =
        |name: &str, text: String| output.line(format_args!("{}{text}", output.style.dim(format_args!("{name:<12}"))));
    fact("job", format!("{} ({})", job.id, job.trigger.as_str()))?;
    fact("state", format!("{} {}", job.state.as_str(), progress(job).unwrap_or_default()).trim_end().to_owned())?;
    fact("requested", format!("{:.0}", job.requested_at))?;
    if let Some(started) = job.started_at {
        let ended = job.finished_at.map(|at| format!(", ended {at:.0}")).unwrap_or_default();
        let starts =
            if job.attempts > 1 { format!(" ({})", count(job.attempts as usize, "start")) } else { String::new() };
        fact("started", format!("{started:.0}{ended}{starts}"))?;
    }
    if !job.note.is_empty() {
        fact("note", job.note.clone())?;
    }
    for stage in &job.stages {
        let took = stage.finished_at.map(|at| format!("{:.1} s", at.duration_since(stage.started_at).as_secs_f64()));
        fact("", format!("{:<12}{}", stage.stage.to_string(), took.unwrap_or_else(|| "…".to_owned())))?;
    }
    if job.cpu_seconds > 0.0 {
        fact("processor", format!("{:.1} s", job.cpu_seconds))?;
    }
    let digests = serde_json::to_value(&job.inputs)?;
    for (name, digest) in digests.as_object().into_iter().flatten() {
        if let Some(digest) = digest.as_str() {
            fact("from", format!("{:<12}{digest}", name.replace('_', " ")))?;
        }
    }
    if let (Some(version), Some(digest)) = (&job.outputs.version, &job.outputs.digest) {
        fact("made", format!("{version:<12}{digest}"))?;
    }
    let outcome = job.outcome.as_ref();
    if let Some(verdict) = outcome.and_then(|outcome| outcome["verdict"].as_str()) {
        fact("verdict", verdict.replace('_', " "))?;
    }
    if let Some(error) = &job.error {
        fact("error", error.clone())?;
    }
    if let Some(hint) = &job.hint {
        fact("hint", hint.clone())?;
    }
    Ok(Exit::Done)
}

fn cancel(context: &Context, job: &Job) -> anyhow::Result<Exit> {
    if job.state.is_over() {
        return Err(hinted(format!("{} has {} already", job.id, job.state.as_str()), "there is nothing to stop"));
    }
    if let Some(client) = Client::connect(&context.home) {
        client.cancel(&job.id)?;
    } else {
        let _lock = context.home.lock("serve").map_err(|error| match error {
            DataError::Locked { .. } => {
                hinted("the service runs and does not answer", "try again, or stop the service first")
            }
            error => error.into(),
        })?;
        jobs::cancel_here(&context.home, &job.id, context.fault.clone())?;
    }
    match context.output.json {
        true => context.output.value(&json!({"job": job.id, "status": "cancelling"}))?,
        false => context.output.line(format_args!("{} is stopped", job.id))?,
    }
    Ok(Exit::Done)
}

fn log(context: &Context, job: &Job) -> anyhow::Result<Exit> {
    let bytes = std::fs::read(log_path(&context.home, &job.id)).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    if context.output.json {
        let lines: Vec<&str> = text.lines().collect();
        context.output.value(&json!({"job": job.id, "lines": lines}))?;
        return Ok(Exit::Done);
    }
    for line in text.lines() {
        context.output.line(line)?;
    }
    Ok(Exit::Done)
}
