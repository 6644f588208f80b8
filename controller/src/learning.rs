//! Fine-tunes: in this process under the home's lock, or in the service.

use std::time::Duration;

use jiff::Timestamp;
use mynah_data::{Example, HomeLock, Log};
use mynah_pipelines::{EvaluationReport, GateReport, LearnRequest, LearnScope, Progress, Promotion};
use mynah_registry::{Kind, Registry, Status};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::client::Client;
use crate::commands::Context;
use crate::failure::{Exit, Stopped, hinted};
use crate::interrupt::Interrupt;
use crate::pin;
use crate::progress::RunProgress;
use crate::service::jobs::JobState;

/// The name of the lock that a fine-tune holds, here and in the service.
pub const TRAIN_LOCK: &str = "train";

/// How often the service is asked how far it is.
const POLL_EVERY: Duration = Duration::from_millis(300);

/// How much a fine-tune looks at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// What it trains on, and from where.
    pub learns: LearnScope,
    /// Even when nothing changed since production was made.
    pub forced: bool,
}

impl Scope {
    /// What is new, and a bounded part of what is old.
    pub const NEW: Self = Self { learns: LearnScope::New, forced: false };
}

/// A fine-tune to be run.
#[derive(Debug, Clone)]
pub struct Task<'a> {
    /// What started it, for the journal.
    pub trigger: &'a str,
    /// How much it looks at.
    pub scope: Scope,
}

/// What came of a fine-tune, wherever it ran.
#[derive(Debug, Clone, Deserialize)]
pub struct Finished {
    /// Promoted, refused or nothing new.
    pub verdict: Verdict,
    /// The candidate; production's name when nothing was new.
    pub version: String,
    /// The candidate's held-out scores.
    pub held_out: Option<EvaluationReport>,
    /// Production's on the same examples.
    pub production: Option<EvaluationReport>,
    /// Every rule with both figures.
    pub gate: GateReport,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// How many labels were not learned from, until somebody looks at them.
    #[serde(skip)]
    pub held_back: usize,
    /// The whole outcome, for `--json`.
    #[serde(skip)]
    pub json: Value,
}

/// How a fine-tune ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The candidate is in production.
    Promoted,
    /// The candidate passed the gate and waits to be promoted.
    Accepted,
    /// The gate kept it out.
    Refused,
    /// There was nothing to learn.
    NothingNew,
}

impl Finished {
    fn from_json(json: Value) -> anyhow::Result<Self> {
        let mut finished: Self = serde_json::from_value(json.clone())?;
        finished.held_back = json["held_back"].as_array().map_or(0, Vec::len);
        finished.json = json;
        Ok(finished)
    }

    /// The exit status that the verdict stands for.
    pub fn exit(&self) -> Exit {
        match self.verdict {
            Verdict::Promoted | Verdict::Accepted => Exit::Done,
            Verdict::Refused => Exit::Refused,
            Verdict::NothingNew => Exit::NothingNew,
        }
    }
}

/// How often, and after how long a pause, the lock is asked for: a commit of the log holds it for a moment.
const LOCK_TRIES: (usize, Duration) = (40, Duration::from_millis(50));

fn lock_for_training(context: &Context) -> Result<HomeLock, mynah_data::Error> {
    let (tries, pause) = LOCK_TRIES;
    for _ in 1..tries {
        match context.home.lock(TRAIN_LOCK) {
            Err(mynah_data::Error::Locked { .. }) => std::thread::sleep(pause),
            result => return result,
        }
    }
    context.home.lock(TRAIN_LOCK)
}

/// Learns here and judges what came of it; the outcome as the wire and `--json` have it.
///
/// # Errors
/// When another process trains, when there is nothing to start from, or when the run was stopped.
pub fn outcome(context: &Context, task: &Task<'_>, progress: &dyn Progress) -> anyhow::Result<Value> {
    let registry = context.registry()?;
    let _lock = lock_for_training(context)?;
    let settings = &context.settings;
    let request = LearnRequest {
        trigger: task.trigger.to_owned(),
        actor: context.actor(),
        training: settings.training.clone(),
        gate: settings.gate.clone(),
        precision: settings.runtime.precision,
        scope: task.scope.learns,
        force: task.scope.forced,
        promotion: promotion(context),
        fault: context.fault.clone(),
    };
    let outcome = mynah_pipelines::learn(&context.home, &registry, &request, progress)?;
    Ok(serde_json::to_value(outcome)?)
}

/// What becomes of a candidate that passes: a pin keeps it out, a rollout tries it first.
fn promotion(context: &Context) -> Promotion {
    match context.settings.rollout.is_on() || pin::of(&context.home).is_some() {
        true => Promotion::Later,
        false => Promotion::AtOnce,
    }
}

/// Learns here, with a bar.
///
/// # Errors
/// As for [`outcome`].
pub fn here(context: &Context, task: &Task<'_>, interrupt: &Interrupt) -> anyhow::Result<Finished> {
    let progress = RunProgress::new(context.output, interrupt.clone());
    Finished::from_json(outcome(context, task, &progress)?)
}

/// Learns in the service and follows the job to its end.
///
/// # Errors
/// When the service refuses, the job fails, or the user stopped it.
pub fn in_service(
    context: &Context,
    client: &Client,
    training: &Map<String, Value>,
    scope: Scope,
    interrupt: &Interrupt,
) -> anyhow::Result<Finished> {
    let id = client.fine_tune(training, scope)?;
    context.output.note(format_args!("the service at {} trains (job {id})", client.address()));
    let progress = RunProgress::new(context.output, interrupt.clone());
    loop {
        let job = client.job(&id)?;
        if let Some(stage) = &job.stage {
            progress.show(stage, job.done, job.total, &job.note);
        }
        match job.state {
            JobState::Queued | JobState::Running => {}
            JobState::Succeeded | JobState::Refused => {
                return Finished::from_json(job.outcome.unwrap_or_default());
            }
            JobState::Failed | JobState::Cancelled => {
                let message = job.error.unwrap_or_else(|| "the job was stopped; nothing was promoted".to_owned());
                return Err(hinted(message, job.hint.unwrap_or_else(|| "see the service's own output".to_owned())));
            }
        }
        if interrupt.is_asked() {
            client.cancel(&id)?;
            return Err(Stopped("the run was stopped; nothing was promoted").into());
        }
        std::thread::sleep(POLL_EVERY);
    }
}

/// Labels of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewLabels {
    /// Corrected or confirmed calls that the version in production has not learned from.
    pub examples: usize,
    /// Taught answers since that version; memory has them, weights do not need them.
    pub answers: usize,
    /// When the last of the examples was given.
    pub latest: Option<Timestamp>,
    /// The version that learned from all of them and is not in production.
    pub tried: Option<Tried>,
}

/// A version that knows the new labels and is not in production.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// Its name.
    pub version: String,
    /// Whether the gate refused it; else somebody took it out of production, or nothing was decided.
    pub refused: bool,
}

/// Counts what people said since the last label that the version in production learned from; everything when there is none.
///
/// # Errors
/// When log or registry cannot be read.
pub fn new_labels(log: &Log, registry: &Registry) -> anyhow::Result<NewLabels> {
    let production = registry.production()?;
    let since = production.as_ref().map(|version| mynah_pipelines::learned_until(registry, version));
    let registered = production.as_ref().map(|version| version.registered_at);
    let is_new = |at: Option<Timestamp>| at.zip(since).is_none_or(|(at, since)| at > since);
    let labelled = mynah_data::labelled(log)?;
    let examples: Vec<&Example> = labelled.examples.iter().filter(|example| is_new(example.at)).collect();
    let latest = examples.iter().filter_map(|example| example.at).max();
    let versions = registry.versions()?;
    let last = versions
        .iter()
        .filter(|version| {
            version.kind == Kind::Version && !matches!(version.status, Status::Deleted | Status::Production)
        })
        .max_by_key(|version| version.registered_at)
        .filter(|version| latest.is_some_and(|latest| latest <= mynah_pipelines::learned_until(registry, version)));
    Ok(NewLabels {
        examples: examples.len(),
        answers: labelled
            .answers
            .iter()
            .filter(|answer| answer.at.zip(registered).is_none_or(|(at, registered)| at > registered))
            .count(),
        latest,
        tried: last.map(|version| Tried { version: version.name.clone(), refused: version.status == Status::Refused }),
    })
}
