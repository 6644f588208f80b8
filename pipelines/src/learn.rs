//! One run of the loop: snapshot, data set, fine-tune, calibrate, evaluate, gate, promote or refuse.
//!
//! [`Learning::run`] has the stages in their order; each says what it takes and what it makes.

mod outcome;
mod stages;
mod standing;

use cpu_time::ProcessTime;
use mynah_data::{Example, Home, SplitName};
use mynah_registry::{Author, Digest, Registry, Version};
use mynah_runtime::{Calibration, Checkpoint, Labels, Model};
use serde_json::Value;
use std::time::Instant;

use crate::adaptation::Adapted;
use crate::assess::{Assessment, Judged};
use crate::best::BestSoFar;
use crate::corpus::{Corpus, Replay};
use crate::corrected::Corrected;
use crate::device::Compute;
use crate::error::Error;
use crate::gate::{Evidence, Gate, GateReport, Passed, Rejected};
use crate::lineage::learned_until;
use crate::progress::{Progress, Stage};
use crate::report::EvaluationReport;
use crate::report_files::ReportParts;
use crate::review::HeldBack;
use crate::run::{Run, RunStatus};
use crate::settings::TrainingSettings;

pub use outcome::{
    CANDIDATE_TAG, Counts, LearnOutcome, LearnRequest, LearnScope, Promotion, Resumed, StageTime, Verdict,
};
use standing::Standing;

/// Runs the whole loop once. The caller holds the home's `train` lock.
///
/// Starts from production, else from the base. Nothing becomes visible to anybody before the journal
/// has its entry.
///
/// # Errors
/// See [`Error`]; a candidate that the gate refuses is not one.
pub fn learn(
    home: &Home,
    registry: &Registry,
    request: &LearnRequest,
    progress: &dyn Progress,
) -> Result<LearnOutcome, Error> {
    request.training.check()?;
    // Before anything is written.
    let compute = request.training.device.open()?;
    let mut run = Run::start(&home.runs_dir(), &request.trigger)?;
    let clock = Clock { started: Instant::now(), stages: Vec::new() };
    let result = Learning {
        home,
        registry,
        request,
        compute: &compute,
        progress,
        run: &mut run,
        adapted: None,
        resumed: None,
        clock,
    }
    .run();
    let (status, message) = match &result {
        Ok(outcome) => match outcome.verdict {
            Verdict::Promoted => (RunStatus::Promoted, None),
            Verdict::Accepted => (RunStatus::Accepted, None),
            Verdict::Refused => (RunStatus::Refused, Some(outcome.gate.reason())),
            Verdict::NothingNew => (RunStatus::Cancelled, Some("nothing new to learn".into())),
        },
        Err(Error::Cancelled) => (RunStatus::Cancelled, None),
        Err(error) => (RunStatus::Failed, Some(error.to_string())),
    };
    if let Ok(outcome) = &result {
        outcome.write_report(&run)?;
    }
    let finished = run.finish(status, message);
    let outcome = result?;
    finished?;
    Ok(outcome)
}

struct Clock {
    started: Instant,
    stages: Vec<StageTime>,
}

impl Clock {
    /// Runs one stage and keeps its time.
    fn time<T>(&mut self, stage: Stage, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let (started, processor) = (Instant::now(), ProcessTime::now());
        let result = work();
        self.stages.push(StageTime {
            stage,
            seconds: started.elapsed().as_secs_f64(),
            cpu_seconds: processor.elapsed().as_secs_f64(),
        });
        result
    }
}

struct Learning<'a> {
    home: &'a Home,
    registry: &'a Registry,
    request: &'a LearnRequest,
    compute: &'a Compute,
    progress: &'a dyn Progress,
    run: &'a mut Run,
    adapted: Option<Adapted>,
    resumed: Option<Resumed>,
    clock: Clock,
}

/// What is known at the beginning.
struct Gathered {
    corpus: Corpus,
    held_back: Vec<HeldBack>,
    counts: Counts,
    commit: Option<String>,
    /// Of everything labelled.
    digest: Option<Digest>,
}

/// What is trained on, and how.
struct Lesson {
    /// Functions and tags of the candidate.
    labels: Labels,
    /// Every example of an epoch, with its weight.
    epoch: Vec<Example>,
    replay: Option<Replay>,
    /// What people said, for the encoder to be adapted to.
    said: Vec<String>,
    /// With everything resolved that depends on the scope.
    settings: TrainingSettings,
}

/// A candidate on the disk, as it will serve.
struct Written {
    calibration: Calibration,
    checkpoint: Checkpoint,
    model: Model,
}

/// What candidate and production made of the same examples.
struct Judgement {
    candidate: Judged,
    /// Which corrections the candidate has right.
    corrected: Corrected,
    production: Option<Judged>,
    best: Option<BestSoFar>,
}

impl Learning<'_> {
    /// The stages in their order.
    fn run(mut self) -> Result<LearnOutcome, Error> {
        let commit = self.snapshot()?;
        let standing = Standing::find(self.registry, self.request.scope)?;
        let mut gathered = self.gather(&standing, commit)?;
        let is_learned = standing.is_version && standing.parent.manifest.dataset_digest == gathered.digest;
        if is_learned && !self.request.force {
            return Ok(self.nothing_new(standing.parent, gathered));
        }
        let lesson = self.lesson(&standing, &mut gathered)?;
        let tuned = self.fine_tune(&standing, &gathered.corpus, &lesson)?;
        let candidate = self.write(&standing, &gathered.corpus, &lesson, &tuned)?;
        let judged = self.judge(&standing, &gathered.corpus, &candidate)?;
        let version = self.register(&standing, &gathered, &lesson, &tuned, &candidate, &judged.candidate.report)?;

        self.progress.stage(Stage::Gate, 0);
        let (served, served_answers) = standing.served()?;
        let new_labels = new_labels(&lesson.labels, &served);
        let assessment = Assessment {
            corpus: &gathered.corpus,
            model: &candidate.model,
            candidate: &judged.candidate,
            production: judged.production.as_ref(),
            best: judged.best.as_ref(),
            new_labels: new_labels.len(),
            new_answers: candidate.model.has_answers() && !served_answers,
            since: standing.production.as_ref().map(|production| learned_until(self.registry, &production.version)),
            size_bytes: version.manifest.size_bytes(),
        };
        let evidence = assessment.evidence();
        let decided = self.decide(&evidence, &version, standing.current.as_ref())?;
        let parts = self.clock.time(Stage::Evaluate, || Ok(ReportParts::new(&assessment, &evidence, &version.name)))?;
        let (verdict, gate) = match decided {
            Ok(passed) if self.waits(standing.current.as_ref()) => (Verdict::Accepted, passed.report().clone()),
            Ok(passed) => {
                let (cache, precision) = (self.home.cache_dir(), self.request.precision);
                judged.corrected.save(&cache, &version.manifest_digest, precision)?;
                (Verdict::Promoted, passed.report().clone())
            }
            Err(rejected) => (Verdict::Refused, rejected.report().clone()),
        };
        Ok(LearnOutcome {
            verdict,
            held_out: Some(EvaluationReport { version: version.name.clone(), ..judged.candidate.report }),
            version: version.name,
            digest: version.manifest_digest,
            parent: standing.parent.name,
            production: judged.production.map(|production| production.report),
            gate,
            counts: gathered.counts,
            best_epoch: tuned.best_epoch,
            adapted: self.adapted,
            resumed: self.resumed,
            held_back: gathered.held_back,
            new_labels,
            seconds: self.clock.started.elapsed().as_secs_f64(),
            stages: self.clock.stages,
            commit: gathered.commit,
            analysis: Some(Box::new(parts)),
        })
    }

    fn nothing_new(self, production: Version, gathered: Gathered) -> LearnOutcome {
        LearnOutcome {
            verdict: Verdict::NothingNew,
            version: production.name.clone(),
            digest: production.manifest_digest,
            parent: production.name,
            held_out: None,
            production: None,
            gate: GateReport::default(),
            counts: gathered.counts,
            best_epoch: 0,
            adapted: None,
            resumed: None,
            held_back: gathered.held_back,
            new_labels: Vec::new(),
            seconds: self.clock.started.elapsed().as_secs_f64(),
            stages: self.clock.stages,
            commit: gathered.commit,
            analysis: None,
        }
    }

    /// Whether a candidate that passed is not promoted at once.
    fn waits(&self, production: Option<&Version>) -> bool {
        self.request.promotion == Promotion::Later && production.is_some()
    }

    /// Asks the gate, and writes what it says into the journal.
    fn decide(
        &self,
        evidence: &Evidence,
        version: &Version,
        production: Option<&Version>,
    ) -> Result<Result<Passed, Rejected>, Error> {
        let verdict = Gate::new(&self.request.gate).judge(evidence);
        self.progress.stage(Stage::Promote, 0);
        match &verdict {
            Ok(passed) if self.waits(production) => {
                let who = Author::new(&self.request.actor, passed.report().reason());
                self.registry.tag(version, CANDIDATE_TAG, &who)?;
            }
            Ok(passed) => promote(self.registry, passed, version, production, &self.request.actor)?,
            Err(rejected) => {
                let report = rejected.report();
                let who = Author::new(&self.request.actor, report.reason());
                self.registry.refuse(version, rules(report), &who)?;
            }
        }
        Ok(verdict)
    }
}

/// What a candidate knows that is not `served`.
fn new_labels(labels: &Labels, served: &Labels) -> Vec<String> {
    let functions = labels.functions.iter().filter(|name| !served.functions.contains(name));
    let arguments = labels.tags.iter().filter(|tag| tag.starts_with("B-") && !served.tags.contains(tag));
    functions.chain(arguments).cloned().collect()
}

/// Puts a version that passed the gate into production, unless somebody else did so meanwhile.
fn promote(
    registry: &Registry,
    passed: &Passed,
    version: &Version,
    production: Option<&Version>,
    actor: &str,
) -> Result<(), Error> {
    let who = Author::new(actor, passed.report().reason());
    let expected = production.map(|production| &production.manifest_digest);
    registry.promote(version, expected, rules(passed.report()), &who)?;
    Ok(())
}

fn rules(report: &GateReport) -> Value {
    serde_json::to_value(&report.rules).unwrap_or_default()
}

/// The examples of one split of a home, as training and the gate see them.
///
/// # Errors
/// As for [`learn`]'s data set.
pub fn split_examples(home: &Home, split: SplitName) -> Result<Vec<Example>, Error> {
    Ok(Corpus::gather(home)?.dataset.split(split).to_vec())
}
