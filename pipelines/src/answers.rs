//! Answers from passages: scores on the serving path, the threshold below which a passage says nothing, and training
//! the answer head alone.

use mynah_data::{QuestionExample, Questions};
use mynah_runtime::{AnswerSpan, Calibration, Checkpoint, Model, Precision, Tokenizer};
use serde::{Deserialize, Serialize};
use std::path::Path;

use crate::candidate::Candidate;
use crate::checkpoints::{CHECKPOINT_EVERY, DIRECTORY};
use crate::device::host;
use crate::error::Error;
use crate::files;
use crate::fine_tune::{FineTuneInput, QuestionInput, fine_tune};
use crate::progress::{NoProgress, Progress, Stage};
use crate::settings::TrainingSettings;
use crate::squad::{Nearness, nearness};
use crate::weights;
use crate::windows::{other_passage, windows};

/// Questions that go through the model together.
const BATCH: usize = 32;
/// Windows that choose the best epoch; the encoder's other tasks should weigh no less.
const VALIDATION_WINDOWS: usize = 128;
/// Questions that the threshold is fitted on.
const THRESHOLD_QUESTIONS: usize = 1000;
/// Questions below which a threshold would be fitted to chance.
const MIN_THRESHOLD_QUESTIONS: usize = 8;

/// Scores of a version on questions. Ratios are in [0, 1].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AnswerScores {
    /// Questions.
    pub n: usize,
    /// Questions that their passage answers.
    pub answerable: usize,
    /// Share of the answerable questions whose best span has the words of an accepted answer, as in SQuAD v1.1.
    pub exact_match: f64,
    /// Mean F1 over the words of the best span on the answerable questions, as in SQuAD v1.1.
    pub f1: f64,
    /// Mean F1 on all questions when a span below the version's threshold counts as no answer, as in SQuAD v2.0.
    pub served_f1: f64,
    /// Share of the questions that are answered at the version's threshold.
    pub answered: f64,
}

/// How one question came out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AnswerOutcome {
    /// F1 when a span below the threshold counts as no answer, in [0, 1].
    pub served_f1: f64,
}

/// Scores `model` on `questions`.
///
/// # Errors
/// [`Error::Cancelled`].
pub fn evaluate_answers(
    model: &Model,
    questions: &[QuestionExample],
    progress: &dyn Progress,
) -> Result<(AnswerScores, Vec<AnswerOutcome>), Error> {
    progress.stage(Stage::Evaluate, questions.len() as u64);
    let threshold = model.calibration().answer_threshold();
    let mut scores = AnswerScores { n: questions.len(), ..AnswerScores::default() };
    let mut outcomes = Vec::with_capacity(questions.len());
    for chunk in questions.chunks(BATCH) {
        if progress.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let pairs: Vec<(&str, &str)> =
            chunk.iter().map(|question| (question.question.as_str(), question.context.as_str())).collect();
        for (question, span) in chunk.iter().zip(model.read(&pairs)) {
            let answered = span.as_ref().filter(|span| span.score >= threshold);
            let served_f1 = compare(question, answered).f1;
            scores.served_f1 += served_f1;
            scores.answered += f64::from(u8::from(answered.is_some()));
            outcomes.push(AnswerOutcome { served_f1 });
            if !question.answers.is_empty() {
                let best = compare(question, span.as_ref());
                scores.answerable += 1;
                scores.exact_match += best.exact;
                scores.f1 += best.f1;
            }
        }
        progress.advance(outcomes.len() as u64, "");
    }
    let (n, answerable) = (scores.n.max(1) as f64, scores.answerable.max(1) as f64);
    scores.exact_match /= answerable;
    scores.f1 /= answerable;
    scores.served_f1 /= n;
    scores.answered /= n;
    Ok((scores, outcomes))
}

fn compare(question: &QuestionExample, span: Option<&AnswerSpan>) -> Nearness {
    let accepted = question.answers.iter().map(|answer| answer.text.as_str());
    nearness(span.map_or("", |span| span.text.as_str()), accepted)
}

/// The threshold that gives the best mean F1 when every validation question is asked once of its own passage and once of
/// another, as retrieval finds the wrong one too; none without enough questions or without an answer head.
pub(crate) fn fit_threshold(model: &Model, validation: &[QuestionExample]) -> Option<f32> {
    if !model.has_answers() || validation.len() < MIN_THRESHOLD_QUESTIONS {
        return None;
    }
    let step = validation.len().div_ceil(THRESHOLD_QUESTIONS);
    let mut judged: Vec<(f32, f64, f64)> = Vec::new();
    let chosen: Vec<usize> = (0..validation.len()).step_by(step).collect();
    for chunk in chosen.chunks(BATCH) {
        let own = chunk.iter().map(|index| (*index, validation[*index].context.as_str(), true));
        let other = chunk.iter().filter_map(|index| Some((*index, other_passage(validation, *index)?, false)));
        let asked: Vec<(usize, &str, bool)> = own.chain(other).collect();
        let pairs: Vec<(&str, &str)> =
            asked.iter().map(|(index, passage, _)| (validation[*index].question.as_str(), *passage)).collect();
        for ((index, _, own), span) in asked.iter().zip(model.read(&pairs)) {
            let Some(span) = span else { continue };
            let question = &validation[*index];
            let answerable = *own && !question.answers.is_empty();
            let answered = if answerable { compare(question, Some(&span)).f1 } else { 0.0 };
            judged.push((span.score, answered, f64::from(u8::from(!answerable))));
        }
    }
    Some(best_threshold(judged))
}

/// The score at which the sum of F1 is largest, from `(score, F1 when answered, F1 when not)`.
fn best_threshold(mut judged: Vec<(f32, f64, f64)>) -> f32 {
    judged.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut sum: f64 = judged.iter().map(|(_, answered, _)| answered).sum();
    let (mut best, mut threshold) = (sum, 0.0);
    for (index, (score, answered, silent)) in judged.iter().enumerate() {
        sum += silent - answered;
        let next = judged.get(index + 1).map_or(1.0, |(next, ..)| *next);
        if sum > best && next > *score {
            (best, threshold) = (sum, (score + next) / 2.0);
        }
    }
    threshold
}

/// The questions of a run as the learner takes them.
///
/// `known` says that the parent has learned these questions: then only a few are seen again.
pub(crate) fn question_input(
    questions: &Questions,
    checkpoint: &Checkpoint,
    settings: &TrainingSettings,
    known: bool,
) -> Result<QuestionInput, Error> {
    if questions.train.is_empty() || settings.answer_epochs == 0 {
        return Ok(QuestionInput::default());
    }
    let tokenizer = Tokenizer::from_checkpoint(checkpoint)?;
    let positions = checkpoint.config().max_position_embeddings;
    let (mut train, mut passes) = (windows(&questions.train, &tokenizer, positions, settings), settings.answer_epochs);
    if known {
        (train, passes) = (spread(train, settings.answer_replay), 1);
    }
    let plain = TrainingSettings { answer_negatives: 0.0, ..settings.clone() };
    let asked = spread(questions.validation.clone(), VALIDATION_WINDOWS);
    let mut validation = spread(windows(&asked, &tokenizer, positions, &plain), VALIDATION_WINDOWS);
    if validation.is_empty() {
        validation = spread(train.clone(), VALIDATION_WINDOWS);
    }
    Ok(QuestionInput { train, validation, passes })
}

/// At most `limit` of `items`, evenly spread over them.
fn spread<T>(items: Vec<T>, limit: usize) -> Vec<T> {
    let total = items.len();
    if total <= limit {
        return items;
    }
    let kept = |index: usize| (index + 1) * limit / total > index * limit / total;
    items.into_iter().enumerate().filter(|(index, _)| kept(*index)).map(|(_, item)| item).collect()
}

/// What training the answer head alone made.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AnswerTraining {
    /// Windows that were trained on, once an epoch.
    pub windows: usize,
    /// Their tokens.
    pub tokens: usize,
    /// Seconds that the epochs took.
    pub seconds: f64,
}

/// Trains the encoder and its answer head on questions alone and writes the checkpoint into `directory`, with a
/// threshold fitted on the validation questions. Other heads of `checkpoint` keep their weights.
///
/// # Errors
/// As for [`learn`](crate::learn()); [`Error::NoExamples`] without training questions.
pub fn train_answers(
    checkpoint: &Checkpoint,
    questions: &Questions,
    settings: &TrainingSettings,
    precision: Precision,
    directory: &Path,
    progress: &dyn Progress,
) -> Result<AnswerTraining, Error> {
    let compute = settings.device.open()?;
    progress.stage(Stage::Encode, 0);
    let input = question_input(questions, checkpoint, settings, false)?;
    if input.train.is_empty() {
        return Err(Error::NoExamples);
    }
    let labels = checkpoint.labels()?.unwrap_or_default();
    let device = host().autodiff();
    let mut model = weights::load(checkpoint, &labels, settings.seed, &device)?;
    weights::ensure_answer_head(&mut model, settings.seed, &device);
    let (count, tokens) = (input.train.len(), input.train.iter().map(|window| window.input_ids.len()).sum());
    let dim = checkpoint.config().dim;
    files::create_directory(directory)?;
    // What a killed run has left there may come from other questions.
    let checkpoints = directory.join(DIRECTORY);
    files::remove_directory(&checkpoints)?;
    let started = std::time::Instant::now();
    let tuned = fine_tune(
        FineTuneInput {
            model,
            compute: &compute,
            train: Vec::new(),
            validation: Vec::new(),
            function_surplus: Vec::new(),
            epochs: input.passes,
            questions: input,
            learning_rate: settings.learning_rate_for(dim, false),
            head_learning_rate: settings.head_learning_rate_factor * settings.learning_rate_for(dim, false),
            batch_size: settings.batch_size_for(count),
            settings,
            directory,
            checkpoint_every: CHECKPOINT_EVERY,
        },
        progress,
    )?;
    let seconds = started.elapsed().as_secs_f64();
    Candidate { model: &tuned.model, labels: &labels, parent: checkpoint }.write(directory)?;
    files::remove_directory(&checkpoints)?;
    let written = Checkpoint::from_directory(directory)?;
    progress.stage(Stage::Calibrate, 0);
    let fitted = fit_threshold(&Model::load(&written, precision)?, &questions.validation);
    let calibration = Calibration { answer_threshold: fitted, ..checkpoint.calibration()? };
    files::write(&directory.join("calibration.json"), &calibration.to_json())?;
    Ok(AnswerTraining { windows: count, tokens, seconds })
}

/// At most this many held-out questions are asked at every run.
const HELD_OUT_QUESTIONS: usize = 2000;

/// Scores a version on the held-out questions of a home; none without an answer head or without such questions.
pub(crate) fn held_out_answers(
    model: &Model,
    questions: &Questions,
) -> Result<Option<(AnswerScores, Vec<AnswerOutcome>)>, Error> {
    if !model.has_answers() || questions.held_out.is_empty() {
        return Ok(None);
    }
    let asked = spread(questions.held_out.clone(), HELD_OUT_QUESTIONS);
    evaluate_answers(model, &asked, &NoProgress).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_weighs_wrong_answers_against_silence() {
        // Right at 0.9, half right at 0.7, wrong passages at 0.6 and 0.75.
        let judged = vec![(0.9, 1.0, 0.0), (0.6, 0.0, 1.0), (0.7, 0.5, 0.0), (0.75, 0.0, 1.0)];
        // Above 0.75: 1 + 1 + 1 of 4, above 0.6: 1 + 1 + 0.5.
        assert!((best_threshold(judged) - 0.825).abs() < 1e-6);
        assert_eq!(best_threshold(vec![(0.3, 1.0, 0.0), (0.9, 1.0, 0.0)]), 0.0);
        assert_eq!(best_threshold(Vec::new()), 0.0);
    }

    #[test]
    fn a_spread_is_even() {
        assert_eq!(spread((0..10).collect(), 4), [2, 4, 7, 9]);
        assert_eq!(spread(vec![1, 2], 4), [1, 2]);
        assert_eq!(spread(vec![1, 2], 0), [0; 0]);
    }
}
