//! One run of the loop: snapshot, data set, fine-tune, calibrate, evaluate, gate, promote or refuse.

use cpu_time::ProcessTime;
use mynah_data::{Example, FaultPoint, Home, SplitName};
use mynah_registry::{Author, Digest, ManifestDraft, Registry, Version};
use mynah_runtime::{Calibration, Checkpoint, Model, Precision};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::fmt;
use std::time::Instant;

use crate::adaptation::{self, Adapted};
use crate::answers::fit_threshold;
use crate::assess::{Assessment, Judged, texts_to_measure};
use crate::background;
use crate::best::Seeking;
use crate::calibrate::calibrate;
use crate::candidate::{Candidate, Provenance};
use crate::checkpoints::{CHECKPOINT_EVERY, Checkpoints};
use crate::corpus::{Corpus, Replay, tokens_of};
use crate::corrected::Corrected;
use crate::device::Compute;
use crate::error::Error;
use crate::fine_tune::{FineTuneInput, FineTuned, fine_tune};
use crate::gate::{Evidence, Gate, GateReport, Passed, Rejected};
use crate::held_out::training_examples;
use crate::inputs::{self, Origin};
use crate::lineage::{answer_provenance, held_by, learned_questions, learned_until};
use crate::precision::compare_with_f32;
use crate::prepare::{Beginning, Prepared, anchor};
use crate::progress::{Progress, Stage};
use crate::report::EvaluationReport;
use crate::report_files::ReportParts;
use crate::review::{HeldBack, Review};
use crate::run::{Run, RunStatus};
use crate::session_weight;
use crate::settings::{GateSettings, TrainingSettings};
use crate::swap;
use crate::weights;

/// What made a version, as its manifest says, before the name of the device.
const ENGINE: &str = concat!("mynah ", env!("CARGO_PKG_VERSION"), ", burn 0.22.1");

/// What a run trains on, and from where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LearnScope {
    /// All examples, from production.
    #[default]
    Everything,
    /// What is new since production was made and a replay of older examples, with the lower layers frozen: its cost
    /// depends on what is new. Everything when there is no version yet.
    New,
    /// All examples, from the base, as if there had never been a version.
    Anew,
}

/// What becomes of a candidate that passed the gate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Promotion {
    /// It goes to production.
    #[default]
    AtOnce,
    /// It gets the tag [`CANDIDATE_TAG`] and waits for somebody to promote it, unless nothing is in production yet.
    Later,
}

/// The tag of the last candidate that passed the gate and was not promoted at once.
pub const CANDIDATE_TAG: &str = "candidate";

/// What to learn and how.
#[derive(Clone)]
pub struct LearnRequest {
    /// What started the run: `train`, `session-end`, `schedule`, `api`, `quickstart`.
    pub trigger: String,
    /// Who did.
    pub actor: String,
    /// The `[training]` table.
    pub training: TrainingSettings,
    /// The `[gate]` table.
    pub gate: GateSettings,
    /// The precision that will serve.
    pub precision: Precision,
    /// What is trained on.
    pub scope: LearnScope,
    /// Train even when nothing changed since production was made.
    pub force: bool,
    /// What becomes of a candidate that passes the gate.
    pub promotion: Promotion,
    /// Called before each durable step of the log's snapshot; see [`mynah_data::fault`].
    pub fault: FaultPoint,
}

impl fmt::Debug for LearnRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("LearnRequest")
            .field("trigger", &self.trigger)
            .field("actor", &self.actor)
            .field("training", &self.training)
            .field("gate", &self.gate)
            .field("precision", &self.precision)
            .field("scope", &self.scope)
            .field("force", &self.force)
            .field("promotion", &self.promotion)
            .finish_non_exhaustive()
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The candidate is in production.
    Promoted,
    /// The candidate passed the gate and waits to be promoted.
    Accepted,
    /// The gate kept it out.
    Refused,
    /// Production was made from the same examples.
    NothingNew,
}

/// How many examples a run saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Training examples.
    pub train: usize,
    /// Validation examples.
    pub validation: usize,
    /// Held-out examples.
    pub held_out: usize,
    /// Labelled in conversations since production was made.
    pub new: usize,
    /// Corrected texts.
    pub corrections: usize,
    /// Labels held back for somebody to look at.
    pub held_back: usize,
}

/// Seconds that a stage took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StageTime {
    /// Which.
    pub stage: Stage,
    /// How long.
    pub seconds: f64,
    /// Of all processors together, by this process: what it cost, whatever else the machine did.
    pub cpu_seconds: f64,
}

/// A run that was stopped or killed, and gone on from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Resumed {
    /// Its name.
    pub run: String,
    /// The last epoch that it had behind it.
    pub after_epoch: usize,
}

/// What a run came to.
#[derive(Clone, Debug, Serialize)]
pub struct LearnOutcome {
    /// Promoted, refused, or nothing new.
    pub verdict: Verdict,
    /// The candidate's name; production's when there was nothing new.
    pub version: String,
    /// Its digest.
    pub digest: Digest,
    /// What it was trained from.
    pub parent: String,
    /// Its held-out scores; none when there was nothing new.
    pub held_out: Option<EvaluationReport>,
    /// Production's scores on the same examples.
    pub production: Option<EvaluationReport>,
    /// Every rule with both figures.
    pub gate: GateReport,
    /// How many examples there were.
    pub counts: Counts,
    /// The epoch that was kept, counted from 1.
    pub best_epoch: usize,
    /// What the adaptation to what people said came to; without losses when the run went on after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapted: Option<Adapted>,
    /// The run that this one went on from.
    pub resumed: Option<Resumed>,
    /// Labels that were not learned from, and why.
    pub held_back: Vec<HeldBack>,
    /// Functions and tags that production did not know.
    pub new_labels: Vec<String>,
    /// Seconds of every stage.
    pub stages: Vec<StageTime>,
    /// Seconds in all.
    pub seconds: f64,
    /// The commit of the log that it learned from.
    pub commit: Option<String>,
    /// Everything about the candidate on the held-out examples, with texts of the home: it stays in the run's directory.
    #[serde(skip)]
    pub analysis: Option<Box<ReportParts>>,
}

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
    check(&request.training)?;
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

fn check(settings: &TrainingSettings) -> Result<(), Error> {
    let refuse = |key: &'static str, value: String, expected: &'static str| {
        Err(Error::Setting { table: "training", key, value, expected })
    };
    if settings.batch_size == Some(0) {
        return refuse("batch_size", "0".into(), "at least 1");
    }
    if !(3..=512).contains(&settings.max_tokens) {
        return refuse("max_tokens", settings.max_tokens.to_string(), "between 3 and 512");
    }
    if settings.learning_rate.is_some_and(|rate| !(rate > 0.0 && rate <= 1.0)) {
        let value = settings.learning_rate.unwrap_or_default().to_string();
        return refuse("learning_rate", value, "above 0 and at most 1");
    }
    if settings.answer_batch_size == 0 {
        return refuse("answer_batch_size", "0".into(), "at least 1");
    }
    if !(16..=512).contains(&settings.answer_window_tokens) {
        return refuse("answer_window_tokens", settings.answer_window_tokens.to_string(), "between 16 and 512");
    }
    if !(0.0..=1.0).contains(&settings.answer_negatives) {
        return refuse("answer_negatives", settings.answer_negatives.to_string(), "at least 0 and at most 1");
    }
    if !(settings.session_share > 0.0 && settings.session_share < 1.0) {
        return refuse("session_share", settings.session_share.to_string(), "above 0 and below 1");
    }
    if !(0.0..=2.0).contains(&settings.logit_adjustment) {
        return refuse("logit_adjustment", settings.logit_adjustment.to_string(), "between 0 and 2");
    }
    if !(0.0..=100.0).contains(&settings.replay_share) {
        return refuse("replay_share", settings.replay_share.to_string(), "between 0 and 100");
    }
    if !(settings.adaptation_mask_share > 0.0 && settings.adaptation_mask_share <= 0.5) {
        return refuse("adaptation_mask_share", settings.adaptation_mask_share.to_string(), "above 0 and at most 0.5");
    }
    if settings.adaptation_learning_rate.is_some_and(|rate| !(rate > 0.0 && rate <= 1.0)) {
        let value = settings.adaptation_learning_rate.unwrap_or_default().to_string();
        return refuse("adaptation_learning_rate", value, "above 0 and at most 1");
    }
    for (key, value) in [("dropout", settings.dropout), ("head_dropout", settings.head_dropout)] {
        if !(0.0..1.0).contains(&value) {
            return refuse(key, value.to_string(), "at least 0 and below 1");
        }
    }
    Ok(())
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

impl Learning<'_> {
    fn run(mut self) -> Result<LearnOutcome, Error> {
        let progress = self.progress;
        progress.stage(Stage::Snapshot, 0);
        let home = self.home;
        let commit = self.clock.time(Stage::Snapshot, || {
            mynah_data::snapshot::snapshot_with(home, &self.request.actor, &self.request.fault)?;
            Ok(mynah_data::head(home)?)
        })?;
        progress.stage(Stage::Dataset, 0);
        let mut corpus = self.clock.time(Stage::Dataset, || Corpus::gather(home))?;
        // What a promotion replaces, even if it does not verify and an earlier version stands in for it.
        let current = self.registry.production()?;
        let production = self.registry.load_production()?;
        let (parent, checkpoint, is_version) = match &production {
            Some(loaded) if self.request.scope != LearnScope::Anew => {
                (loaded.version.clone(), Checkpoint::from_verified(&loaded.checkpoint)?, true)
            }
            _ => {
                let base = self.registry.base()?.ok_or(Error::NoBase)?;
                let verified = self.registry.verify(&base)?;
                (base, Checkpoint::from_verified(&verified)?, false)
            }
        };
        let held_back = match self.request.training.hold_back {
            true => self.clock.time(Stage::Dataset, || {
                let (registry, precision) = (self.registry, self.request.precision);
                let (corpus, production) = (&corpus, production.as_ref());
                Review { home, registry, corpus, production, precision, progress }.held_back()
            })?,
            false => Vec::new(),
        };
        let held: HashSet<String> = held_back.iter().map(|label| label.interaction.clone()).collect();
        if !held.is_empty() {
            corpus = Corpus::gather_without(home, &held)?;
        }
        let since = is_version.then(|| learned_until(self.registry, &parent));
        // Held back by production's own run and let pass now.
        let released = if is_version { held_by(self.registry, &parent) } else { HashSet::new() };
        let known = checkpoint.labels()?.unwrap_or_default();
        // Labelled since, let pass since, or of a function that production has not learned.
        let is_new = |example: &Example| {
            example.at.zip(since).is_some_and(|(at, since)| at > since)
                || released.contains(&example.origin)
                || known.function_id(&example.function).is_none()
        };
        let counts = Counts {
            train: corpus.dataset.train.len(),
            validation: corpus.dataset.validation.len(),
            held_out: corpus.dataset.held_out.len(),
            new: match is_version {
                true => corpus.dataset.train.iter().filter(|example| is_new(example)).count(),
                false => 0,
            },
            corrections: corpus.corrections.len(),
            held_back: held_back.len(),
        };
        let dataset_digest = corpus.digest();
        if is_version && parent.manifest.dataset_digest == dataset_digest && !self.request.force {
            return Ok(self.nothing_new(parent, counts, commit, held_back));
        }
        let is_session = is_version && self.request.scope == LearnScope::New;
        let said = match self.request.training.adaptation_epochs > 0 && !is_session {
            true => self.clock.time(Stage::Dataset, || adaptation::texts(home, &corpus))?,
            false => Vec::new(),
        };
        if self.request.training.background {
            let chosen = self.clock.time(Stage::Dataset, || {
                let base = anchor(self.registry, &parent, self.request.precision)?;
                background::examples(&base, &corpus.dataset, self.request.training.seed, progress)
            })?;
            corpus.add_background(chosen);
        }
        let labels = corpus.labels(&known);
        match labels.functions.as_slice() {
            [] => return Err(Error::NoExamples),
            [function] => return Err(Error::OneFunction { function: function.clone() }),
            _ => {}
        }
        let settings = &self.request.training;
        let replay = is_session.then(|| {
            let new: usize = corpus.dataset.train.iter().filter(|example| is_new(example)).map(tokens_of).sum();
            let tokens = settings.replay_tokens.max((settings.replay_share * new as f64) as usize);
            Replay { tokens, seed: replay_seed(&dataset_digest) }
        });
        let limit = if is_session { swap::SESSION_LIMIT } else { swap::LIMIT };
        let mut epoch = training_examples(&corpus, replay, is_new, settings, limit);
        session_weight::cap(&mut epoch, &corpus.votes, settings.session_share, |name| {
            known.function_id(name).is_some()
        });
        let resolved = match is_session {
            true => settings.for_session(checkpoint.config().n_layers, epoch.len()),
            false => settings.clone(),
        };
        let settings = &resolved;
        let beginning = Beginning {
            version: &parent,
            checkpoint: &checkpoint,
            labels: &labels,
            is_version,
            knows_questions: is_version
                && learned_questions(self.registry, &parent).is_some_and(|it| it == corpus.questions.digest),
            replay,
            said: &said,
            settings,
        };
        let tuned = self.fine_tune(&beginning, &corpus, &epoch, is_new)?;

        let directory = self.run.candidate();
        let precision = self.request.precision;
        let candidate = Candidate { model: &tuned.model, labels: &labels, parent: &checkpoint };
        candidate.write(&directory)?;
        progress.stage(Stage::Calibrate, corpus.dataset.validation.len() as u64);
        let calibration = self.clock.time(Stage::Calibrate, || {
            let written = Checkpoint::from_directory(&directory)?;
            let model = Model::load(&written, precision)?;
            let calibration = calibrate(&model, &corpus.dataset.validation);
            let answer_threshold = match fit_threshold(&model, &corpus.questions.validation) {
                None if model.has_answers() => checkpoint.calibration()?.answer_threshold,
                fitted => fitted,
            };
            Ok(Calibration { answer_threshold, ..calibration })
        })?;
        crate::files::write(&directory.join("calibration.json"), &calibration.to_json())?;

        let loaded = Checkpoint::from_directory(&directory)?;
        let model = Model::load(&loaded, precision)?;
        let mut corrected = Corrected::default();
        let mut judged = self.evaluate(&model, "candidate", &corpus, &mut corrected)?;
        judged.report.precision = Some(
            self.clock
                .time(Stage::Evaluate, || compare_with_f32(&model, &loaded, &texts_to_measure(&corpus), progress))?,
        );
        let before = match &production {
            Some(production) => {
                let model = Model::load(&Checkpoint::from_verified(&production.checkpoint)?, precision)?;
                let digest = &production.version.manifest_digest;
                let mut known = Corrected::open(&self.home.cache_dir(), digest, precision);
                Some(self.evaluate(&model, &production.version.name, &corpus, &mut known)?)
            }
            None => None,
        };
        let best = match (&production, &before) {
            (Some(production), Some(before)) => {
                let (registry, cache, level) =
                    (self.registry, self.home.cache_dir(), self.request.gate.better_significance);
                let seeking = Seeking { registry, cache: &cache, precision, level };
                let held_out = &corpus.dataset.held_out;
                Some(self.clock.time(Stage::Evaluate, || seeking.best(&production.version, before, held_out))?)
            }
            _ => None,
        };
        // What is new is new to production, wherever the run started from.
        let (served_labels, served_answers) = match &production {
            Some(production) => {
                let served = Checkpoint::from_verified(&production.checkpoint)?;
                (served.labels()?.unwrap_or_default(), served.has("qa_outputs.weight"))
            }
            None => (known.clone(), checkpoint.has("qa_outputs.weight")),
        };
        let mut training = json!({
            "schema": 1,
            "settings": settings,
            "epochs": settings.epochs_for(epoch.len(), is_version),
            "best_epoch": tuned.best_epoch,
            "learning_rate": settings.learning_rate_for(loaded.config().dim, is_version),
            "scope": self.request.scope,
            "trained_on": epoch.len(),
            "parent": parent.manifest_digest,
            "data_commit": commit,
            "dataset_digest": dataset_digest,
            "counts": counts,
            "learned_until": corpus.labelled_until().max(held_back.iter().filter_map(|label| label.at).max()),
            "held_back": held_back.iter().map(|label| &label.interaction).collect::<Vec<_>>(),
            "served_precision": precision,
            "history": tuned.history,
        });
        answer_provenance(&mut training, &corpus, tuned.questions);
        if let Some(Adapted { texts, tokens, .. }) = &self.adapted {
            // Not its losses: a run that goes on after it does not know them.
            training["adaptation"] = json!({ "texts": texts, "tokens": tokens });
        }
        self.provenance(&training, &judged.report, &calibration, &loaded)?;

        let draft = ManifestDraft {
            parent: Some(parent.manifest_digest),
            base: parent.manifest.base.or(Some(parent.manifest_digest)),
            data_commit: commit.clone(),
            dataset_digest,
            seed: Some(settings.seed),
            ..ManifestDraft::version(self.engine())
        };
        let mut why = format!("learned from {} examples ({} new), {}", counts.train, counts.new, self.request.trigger);
        if !held_back.is_empty() {
            why += &format!(", {} held back", held_back.len());
        }
        if let Some(Resumed { run, after_epoch }) = &self.resumed {
            why += &format!(", gone on from run {run} after epoch {after_epoch}");
        }
        let author = |reason: &str| Author::new(&self.request.actor, reason);
        let version = self.registry.add_directory(&directory, draft, &author(&why))?;
        progress.stage(Stage::Gate, 0);
        let new_labels: Vec<String> = labels
            .functions
            .iter()
            .filter(|name| !served_labels.functions.contains(name))
            .chain(labels.tags.iter().filter(|tag| tag.starts_with("B-") && !served_labels.tags.contains(tag)))
            .cloned()
            .collect();
        let assessment = Assessment {
            corpus: &corpus,
            model: &model,
            candidate: &judged,
            production: before.as_ref(),
            best: best.as_ref(),
            new_labels: new_labels.len(),
            new_answers: model.has_answers() && !served_answers,
            since: production.as_ref().map(|production| learned_until(self.registry, &production.version)),
            size_bytes: version.manifest.size_bytes(),
        };
        let evidence = assessment.evidence();
        let verdict = self.decide(&evidence, &version, current.as_ref())?;
        let parts = self.clock.time(Stage::Evaluate, || Ok(ReportParts::new(&assessment, &evidence, &version.name)))?;
        let (verdict, gate) = match verdict {
            Ok(passed) if self.waits(current.as_ref()) => (Verdict::Accepted, passed.report().clone()),
            Ok(passed) => {
                corrected.save(&self.home.cache_dir(), &version.manifest_digest, precision)?;
                (Verdict::Promoted, passed.report().clone())
            }
            Err(rejected) => (Verdict::Refused, rejected.report().clone()),
        };
        Ok(LearnOutcome {
            verdict,
            held_out: Some(EvaluationReport { version: version.name.clone(), ..judged.report }),
            version: version.name,
            digest: version.manifest_digest,
            parent: parent.name,
            production: before.map(|before| before.report),
            gate,
            counts,
            best_epoch: tuned.best_epoch,
            adapted: self.adapted,
            resumed: self.resumed,
            held_back,
            new_labels,
            seconds: self.clock.started.elapsed().as_secs_f64(),
            stages: self.clock.stages,
            commit,
            analysis: Some(Box::new(parts)),
        })
    }

    fn nothing_new(
        self,
        production: Version,
        counts: Counts,
        commit: Option<String>,
        held_back: Vec<HeldBack>,
    ) -> LearnOutcome {
        LearnOutcome {
            verdict: Verdict::NothingNew,
            version: production.name.clone(),
            digest: production.manifest_digest,
            parent: production.name,
            held_out: None,
            production: None,
            gate: GateReport::default(),
            counts,
            best_epoch: 0,
            adapted: None,
            resumed: None,
            held_back,
            new_labels: Vec::new(),
            seconds: self.clock.started.elapsed().as_secs_f64(),
            stages: self.clock.stages,
            commit,
            analysis: None,
        }
    }

    fn fine_tune(
        &mut self,
        beginning: &Beginning<'_>,
        corpus: &Corpus,
        epoch: &[Example],
        is_new: impl Fn(&Example) -> bool,
    ) -> Result<FineTuned, Error> {
        let (settings, progress) = (beginning.settings, self.progress);
        progress.stage(Stage::Encode, epoch.len() as u64);
        let source = (self.registry, self.request.precision);
        let cache = self.home.cache_dir();
        let prepared =
            self.clock.time(Stage::Encode, || beginning.prepare(corpus, epoch, is_new, source, &cache, progress))?;
        let Prepared { model, train, validation, questions, adaptation, function_surplus } = prepared;
        let dim = beginning.checkpoint.config().dim;
        let directory = self.run.directory().to_path_buf();
        let mut input = FineTuneInput {
            model,
            compute: self.compute,
            epochs: settings.epochs_for(train.len(), beginning.is_version),
            learning_rate: settings.learning_rate_for(dim, beginning.is_version),
            head_learning_rate: settings.head_learning_rate_factor * settings.learning_rate_for(dim, false),
            batch_size: settings.batch_size_for(train.len()),
            train,
            validation,
            questions,
            function_surplus,
            settings,
            directory: &directory,
            checkpoint_every: CHECKPOINT_EVERY,
        };
        let origin = Origin {
            engine: &self.engine(),
            parent: &beginning.version.manifest_digest,
            labels: beginning.labels,
            precision: self.request.precision,
            adaptation: adaptation.as_ref(),
        };
        let inputs = inputs::digest(&input, &origin)?;
        let earlier = self.run.take_over(inputs)?;
        if let Some(adaptation) = adaptation {
            let mut adapted = adaptation.size();
            // A checkpoint of the fine-tune has it behind it.
            if Checkpoints::of(&directory).goes_on_after(input.epochs) == 0 {
                (input.model, adapted) =
                    self.clock.time(Stage::Adapt, || adaptation.apply(input.model, settings, progress))?;
            }
            self.adapted = Some(adapted);
        }
        let tuned = self.clock.time(Stage::FineTune, || fine_tune(input, progress))?;
        self.resumed = match (earlier, tuned.resumed_after) {
            (Some(run), after_epoch @ 1..) => Some(Resumed { run, after_epoch }),
            _ => None,
        };
        Ok(tuned)
    }

    fn evaluate(
        &mut self,
        model: &Model,
        version: &str,
        corpus: &Corpus,
        corrected: &mut Corrected,
    ) -> Result<Judged, Error> {
        let progress = self.progress;
        self.clock.time(Stage::Evaluate, || Judged::of(model, version, corpus, corrected, progress))
    }

    /// What makes the weights: the same numbers come from the same program on the same device.
    fn engine(&self) -> String {
        format!("{ENGINE} {}", self.compute.name)
    }

    /// Whether a candidate that passed is not promoted at once.
    fn waits(&self, production: Option<&Version>) -> bool {
        self.request.promotion == Promotion::Later && production.is_some()
    }

    fn provenance(
        &self,
        training: &Value,
        report: &EvaluationReport,
        calibration: &Calibration,
        checkpoint: &Checkpoint,
    ) -> Result<(), Error> {
        let description = weights::describe(checkpoint.config());
        let provenance = Provenance { training, report, calibration, description };
        provenance.write(&self.run.candidate())
    }

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

/// Another replay for other data, the same for the same.
fn replay_seed(dataset: &Option<Digest>) -> u64 {
    let bytes = dataset.as_ref().map(|digest| digest.as_bytes()[..8].try_into().expect("eight bytes"));
    bytes.map_or(0, u64::from_le_bytes)
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
