//! The stages of a run, from the log to a registered candidate.

use mynah_data::Example;
use mynah_registry::{Author, Digest, ManifestDraft, Version};
use mynah_runtime::{Calibration, Checkpoint, Model};
use serde_json::json;
use std::collections::HashSet;

use super::standing::Standing;
use super::{Counts, Gathered, Judgement, LearnScope, Learning, Lesson, Resumed, Written};
use crate::adaptation::{self, Adapted};
use crate::answers::fit_threshold;
use crate::assess::{Judged, texts_to_measure};
use crate::background;
use crate::best::Seeking;
use crate::calibrate::calibrate;
use crate::candidate::{Candidate, Provenance};
use crate::checkpoints::{CHECKPOINT_EVERY, Checkpoints};
use crate::corpus::{Corpus, Replay, tokens_of};
use crate::corrected::Corrected;
use crate::error::Error;
use crate::fine_tune::{FineTuneInput, FineTuned, fine_tune};
use crate::held_out::training_examples;
use crate::inputs::{self, Origin};
use crate::lineage::{answer_provenance, learned_questions};
use crate::precision::compare_with_f32;
use crate::prepare::{Beginning, Prepared, anchor};
use crate::progress::Stage;
use crate::report::EvaluationReport;
use crate::review::Review;
use crate::session_weight;
use crate::swap;
use crate::weights;

/// What made a version, as its manifest says, before the name of the device.
const ENGINE: &str = concat!("mynah ", env!("CARGO_PKG_VERSION"), ", burn 0.22.1");

impl Learning<'_> {
    /// Commits the log.
    pub(super) fn snapshot(&mut self) -> Result<Option<String>, Error> {
        self.progress.stage(Stage::Snapshot, 0);
        self.clock.time(Stage::Snapshot, || {
            mynah_data::snapshot::snapshot_with(self.home, &self.request.actor, &self.request.fault)?;
            Ok(mynah_data::head(self.home)?)
        })
    }

    /// Gathers every label of the home that is not held back.
    pub(super) fn gather(&mut self, standing: &Standing, commit: Option<String>) -> Result<Gathered, Error> {
        let (home, progress) = (self.home, self.progress);
        progress.stage(Stage::Dataset, 0);
        let mut corpus = self.clock.time(Stage::Dataset, || Corpus::gather(home))?;
        let held_back = match self.request.training.hold_back {
            true => self.clock.time(Stage::Dataset, || {
                let (registry, precision) = (self.registry, self.request.precision);
                let (corpus, production) = (&corpus, standing.production.as_ref());
                Review { home, registry, corpus, production, precision, progress }.held_back()
            })?,
            false => Vec::new(),
        };
        let held: HashSet<String> = held_back.iter().map(|label| label.interaction.clone()).collect();
        if !held.is_empty() {
            corpus = Corpus::gather_without(home, &held)?;
        }
        let counts = Counts {
            train: corpus.dataset.train.len(),
            validation: corpus.dataset.validation.len(),
            held_out: corpus.dataset.held_out.len(),
            new: match standing.is_version {
                true => corpus.dataset.train.iter().filter(|example| standing.is_new(example)).count(),
                false => 0,
            },
            corrections: corpus.corrections.len(),
            held_back: held_back.len(),
        };
        let digest = corpus.digest();
        Ok(Gathered { corpus, held_back, counts, commit, digest })
    }

    /// Chooses what is trained on, and with which settings; adds background texts to the corpus.
    pub(super) fn lesson(&mut self, standing: &Standing, gathered: &mut Gathered) -> Result<Lesson, Error> {
        let settings = &self.request.training;
        let corpus = &mut gathered.corpus;
        let is_session = standing.is_version && self.request.scope == LearnScope::New;
        let said = match settings.adaptation_epochs > 0 && !is_session {
            true => self.clock.time(Stage::Dataset, || adaptation::texts(self.home, corpus))?,
            false => Vec::new(),
        };
        if settings.background {
            let chosen = self.clock.time(Stage::Dataset, || {
                let base = anchor(self.registry, &standing.parent, self.request.precision)?;
                background::examples(&base, &corpus.dataset, settings.seed, self.progress)
            })?;
            corpus.add_background(chosen);
        }
        let labels = corpus.labels(&standing.known);
        match labels.functions.as_slice() {
            [] => return Err(Error::NoExamples),
            [function] => return Err(Error::OneFunction { function: function.clone() }),
            _ => {}
        }
        let is_new = |example: &Example| standing.is_new(example);
        let replay = is_session.then(|| {
            let new: usize = corpus.dataset.train.iter().filter(|example| is_new(example)).map(tokens_of).sum();
            let tokens = settings.replay_tokens.max((settings.replay_share * new as f64) as usize);
            Replay { tokens, seed: replay_seed(&gathered.digest) }
        });
        let limit = if is_session { swap::SESSION_LIMIT } else { swap::LIMIT };
        let mut epoch = training_examples(corpus, replay, is_new, settings, limit);
        session_weight::cap(&mut epoch, &corpus.votes, settings.session_share, |name| {
            standing.known.function_id(name).is_some()
        });
        let settings = match is_session {
            true => {
                let unknown = standing.unknown_share(&corpus.dataset.train);
                settings.for_session(standing.checkpoint.config().n_layers, epoch.len(), unknown)
            }
            false => settings.clone(),
        };
        Ok(Lesson { labels, epoch, replay, said, settings })
    }

    /// Trains, from where an earlier run with the same inputs was stopped.
    pub(super) fn fine_tune(
        &mut self,
        standing: &Standing,
        corpus: &Corpus,
        lesson: &Lesson,
    ) -> Result<FineTuned, Error> {
        let (settings, progress) = (&lesson.settings, self.progress);
        let beginning = Beginning {
            version: &standing.parent,
            checkpoint: &standing.checkpoint,
            labels: &lesson.labels,
            is_version: standing.is_version,
            knows_questions: standing.is_version
                && learned_questions(self.registry, &standing.parent).is_some_and(|it| it == corpus.questions.digest),
            replay: lesson.replay,
            said: &lesson.said,
            settings,
        };
        progress.stage(Stage::Encode, lesson.epoch.len() as u64);
        let source = (self.registry, self.request.precision);
        let (cache, is_new) = (self.home.cache_dir(), |example: &Example| standing.is_new(example));
        let prepared = self
            .clock
            .time(Stage::Encode, || beginning.prepare(corpus, &lesson.epoch, is_new, source, &cache, progress))?;
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

    /// Writes the candidate's directory, calibrates it, and loads it as it will serve.
    pub(super) fn write(
        &mut self,
        standing: &Standing,
        corpus: &Corpus,
        lesson: &Lesson,
        tuned: &FineTuned,
    ) -> Result<Written, Error> {
        let (directory, precision) = (self.run.candidate(), self.request.precision);
        let parent = &standing.checkpoint;
        Candidate { model: &tuned.model, labels: &lesson.labels, parent }.write(&directory)?;
        self.progress.stage(Stage::Calibrate, corpus.dataset.validation.len() as u64);
        let calibration = self.clock.time(Stage::Calibrate, || {
            let written = Checkpoint::from_directory(&directory)?;
            let model = Model::load(&written, precision)?;
            let calibration = calibrate(&model, &corpus.dataset.validation);
            let answer_threshold = match fit_threshold(&model, &corpus.questions.validation) {
                None if model.has_answers() => parent.calibration()?.answer_threshold,
                fitted => fitted,
            };
            Ok(Calibration { answer_threshold, ..calibration })
        })?;
        crate::files::write(&directory.join("calibration.json"), &calibration.to_json())?;
        let checkpoint = Checkpoint::from_directory(&directory)?;
        let model = Model::load(&checkpoint, precision)?;
        Ok(Written { calibration, checkpoint, model })
    }

    /// Has the candidate and production answer the same held-out examples, and finds the best version so far.
    pub(super) fn judge(
        &mut self,
        standing: &Standing,
        corpus: &Corpus,
        candidate: &Written,
    ) -> Result<Judgement, Error> {
        let (precision, cache, progress) = (self.request.precision, self.home.cache_dir(), self.progress);
        let mut corrected = Corrected::default();
        let mut judged = self.evaluate(&candidate.model, "candidate", corpus, &mut corrected)?;
        judged.report.precision = Some(self.clock.time(Stage::Evaluate, || {
            compare_with_f32(&candidate.model, &candidate.checkpoint, &texts_to_measure(corpus), progress)
        })?);
        let Some(serving) = &standing.production else {
            return Ok(Judgement { candidate: judged, corrected, production: None, best: None });
        };
        let model = Model::load(&Checkpoint::from_verified(&serving.checkpoint)?, precision)?;
        let mut known = Corrected::open(&cache, &serving.version.manifest_digest, precision);
        let production = self.evaluate(&model, &serving.version.name, corpus, &mut known)?;
        let (registry, level) = (self.registry, self.request.gate.better_significance);
        let seeking = Seeking { registry, cache: &cache, precision, level };
        let best = self
            .clock
            .time(Stage::Evaluate, || seeking.best(&serving.version, &production, &corpus.dataset.held_out))?;
        Ok(Judgement { candidate: judged, corrected, production: Some(production), best: Some(best) })
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

    /// Writes where the candidate comes from beside it, and registers the directory as a version.
    pub(super) fn register(
        &self,
        standing: &Standing,
        gathered: &Gathered,
        lesson: &Lesson,
        tuned: &FineTuned,
        candidate: &Written,
        report: &EvaluationReport,
    ) -> Result<Version, Error> {
        let Gathered { corpus, held_back, counts, commit, digest } = gathered;
        let (settings, parent) = (&lesson.settings, &standing.parent);
        let config = candidate.checkpoint.config();
        let mut training = json!({
            "schema": 1,
            "settings": settings,
            "epochs": settings.epochs_for(lesson.epoch.len(), standing.is_version),
            "best_epoch": tuned.best_epoch,
            "learning_rate": settings.learning_rate_for(config.dim, standing.is_version),
            "scope": self.request.scope,
            "trained_on": lesson.epoch.len(),
            "parent": parent.manifest_digest,
            "data_commit": commit,
            "dataset_digest": digest,
            "counts": counts,
            "learned_until": corpus.labelled_until().max(held_back.iter().filter_map(|label| label.at).max()),
            "held_back": held_back.iter().map(|label| &label.interaction).collect::<Vec<_>>(),
            "served_precision": self.request.precision,
            "history": tuned.history,
        });
        answer_provenance(&mut training, corpus, tuned.questions);
        if let Some(Adapted { texts, tokens, .. }) = &self.adapted {
            // Not its losses: a run that goes on after it does not know them.
            training["adaptation"] = json!({ "texts": texts, "tokens": tokens });
        }
        let (calibration, description) = (&candidate.calibration, weights::describe(config));
        let directory = self.run.candidate();
        Provenance { training: &training, report, calibration, description }.write(&directory)?;
        let draft = ManifestDraft {
            parent: Some(parent.manifest_digest),
            base: parent.manifest.base.or(Some(parent.manifest_digest)),
            data_commit: commit.clone(),
            dataset_digest: *digest,
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
        Ok(self.registry.add_directory(&directory, draft, &Author::new(&self.request.actor, why))?)
    }

    /// What makes the weights: the same numbers come from the same program on the same device.
    fn engine(&self) -> String {
        format!("{ENGINE} {}", self.compute.name)
    }
}

/// Another replay for other data, the same for the same.
fn replay_seed(dataset: &Option<Digest>) -> u64 {
    let bytes = dataset.as_ref().map(|digest| digest.as_bytes()[..8].try_into().expect("eight bytes"));
    bytes.map_or(0, u64::from_le_bytes)
}
