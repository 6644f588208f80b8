//! `mynah benchmark answers`: the answer head, trained and scored.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use mynah_data::{Imported, QuestionExample, Questions, SplitName};
use mynah_pipelines::{AnswerScores, AnswerTraining, TrainingSettings, evaluate_answers, train_answers};
use mynah_runtime::{Checkpoint, Model};
use serde::Serialize;

use super::{Precisions, checkpoint, name_of, precision_name};
use crate::commands::import::open;
use crate::failure::{Exit, hinted, usage};
use crate::interrupt::Interrupt;
use crate::output::{Output, count};
use crate::progress::RunProgress;

/// Flags of `benchmark answers`.
#[derive(Debug, Args)]
pub struct AnswersArgs {
    /// The questions to be answered, plain or gzip
    #[arg(long, value_name = "FILE")]
    pub test: PathBuf,
    /// Questions to train on first
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub train: Vec<PathBuf>,
    /// A directory with config.json, tokenizer.json and weights [default: the embedded starter]
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// Train on every N-th question of each file
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub every: u32,
    /// Answer every N-th question of --test
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub test_every: u32,
    /// Passes over the questions [default: training.answer_epochs, 2]
    #[arg(long, value_name = "N")]
    pub epochs: Option<usize>,
    /// Questions in a batch [default: training.answer_batch_size, 16]
    #[arg(long, value_name = "N")]
    pub batch_size: Option<usize>,
    /// Peak learning rate [default: by the model's width]
    #[arg(long, value_name = "RATE")]
    pub learning_rate: Option<f64>,
    /// Share of the questions that are also put to a passage that does not answer them
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub negatives: f64,
    /// Seed of shuffling, dropout and the new head
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// Keep the trained model in this new directory
    #[arg(long, value_name = "DIR")]
    pub save: Option<PathBuf>,
    /// int8 (as served), f32 or both
    #[arg(long, default_value = "int8")]
    pub precision: Precisions,
}

#[derive(Serialize)]
struct Report {
    benchmark: &'static str,
    model: String,
    trained: Option<Trained>,
    test: String,
    results: Vec<Scored>,
}

#[derive(Serialize)]
struct Trained {
    files: Vec<String>,
    every: u32,
    questions: usize,
    validation: usize,
    epochs: usize,
    batch_size: usize,
    learning_rate: f64,
    window_tokens: usize,
    overlap: usize,
    negatives: f64,
    seed: u64,
    tokens_per_second: f64,
    #[serde(flatten)]
    training: AnswerTraining,
}

#[derive(Serialize)]
struct Scored {
    precision: &'static str,
    #[serde(flatten)]
    scores: AnswerScores,
    threshold: f32,
    seconds: f64,
}

/// Trains, scores and prints.
///
/// # Errors
/// When a file or the model is no good, or the run was stopped.
pub fn run(output: Output, args: &AnswersArgs, interrupt: Interrupt) -> anyhow::Result<Exit> {
    if args.train.is_empty() && args.save.is_some() {
        return Err(usage("--save without --train", "name the questions to train on"));
    }
    let mut skipped = 0;
    let test = questions(output, &args.test, &mut skipped)?;
    let test: Vec<QuestionExample> = test.into_iter().step_by(args.test_every as usize).collect();
    if test.is_empty() {
        let hint = "a question has `context` and `question`, in the form of SQuAD";
        return Err(hinted(format!("{} has no questions", args.test.display()), hint));
    }
    let (base, model) = checkpoint(args.model.as_ref())?;
    let progress = RunProgress::new(output, interrupt);
    let scratch = tempfile::tempdir()?;
    let directory = args.save.clone().unwrap_or_else(|| scratch.path().join("trained"));
    let trained = match args.train.is_empty() {
        true => None,
        false => Some(train(output, args, &base, &directory, &progress, &mut skipped)?),
    };
    let scored = if trained.is_some() { Checkpoint::from_directory(&directory)? } else { base };
    let mut results = Vec::new();
    for precision in args.precision.each() {
        let served = Model::load(&scored, *precision)?;
        if !served.has_answers() {
            return Err(hinted(format!("{model} has no answer head"), "name questions to train it on with --train"));
        }
        let started = Instant::now();
        let (scores, _) = evaluate_answers(&served, &test, &progress)?;
        results.push(Scored {
            precision: precision_name(*precision),
            scores,
            threshold: served.calibration().answer_threshold(),
            seconds: started.elapsed().as_secs_f64(),
        });
    }
    progress.finish();
    let report = Report { benchmark: "answers", model, trained, test: name_of(&args.test), results };
    if output.json {
        output.value(&report)?;
    } else {
        for line in lines(&report) {
            output.line(line)?;
        }
    }
    match skipped {
        0 => Ok(Exit::Done),
        _ => {
            output.complain(format_args!("{} skipped", count(skipped, "line")));
            Ok(Exit::Partial)
        }
    }
}

fn train(
    output: Output,
    args: &AnswersArgs,
    base: &Checkpoint,
    directory: &Path,
    progress: &RunProgress,
    skipped: &mut usize,
) -> anyhow::Result<Trained> {
    if directory.exists() {
        return Err(hinted(format!("{} exists", directory.display()), "name a new directory with --save"));
    }
    let mut all = Vec::new();
    for file in &args.train {
        let read = questions(output, file, skipped)?;
        let (train, others): (Vec<_>, Vec<_>) =
            read.into_iter().partition(|question| question.split.is_none_or(|split| split == SplitName::Train));
        all.extend(train.into_iter().step_by(args.every as usize));
        all.extend(others);
    }
    let questions = Questions::build(all);
    let defaults = TrainingSettings::default();
    let settings = TrainingSettings {
        answer_epochs: args.epochs.unwrap_or(defaults.answer_epochs).max(1),
        answer_batch_size: args.batch_size.unwrap_or(defaults.answer_batch_size).max(1),
        learning_rate: args.learning_rate,
        answer_negatives: args.negatives.clamp(0.0, 1.0),
        seed: args.seed,
        ..defaults
    };
    let precision = args.precision.each()[0];
    let training = train_answers(base, &questions, &settings, precision, directory, progress)?;
    Ok(Trained {
        files: args.train.iter().map(|file| name_of(file)).collect(),
        every: args.every,
        questions: questions.train.len(),
        validation: questions.validation.len(),
        epochs: settings.answer_epochs,
        batch_size: settings.answer_batch_size,
        learning_rate: settings.learning_rate_for(base.config().dim, false),
        window_tokens: settings.answer_window_tokens,
        overlap: settings.answer_overlap,
        negatives: settings.answer_negatives,
        seed: settings.seed,
        tokens_per_second: (settings.answer_epochs * training.tokens) as f64 / training.seconds.max(1e-9),
        training,
    })
}

/// The questions of a file; lines that are none are named and counted.
fn questions(output: Output, file: &Path, skipped: &mut usize) -> anyhow::Result<Vec<QuestionExample>> {
    const SHOWN: usize = 3;
    let (reader, name) = open(file)?;
    let mut questions = Vec::new();
    let mut wrong = 0;
    for record in mynah_data::read_examples(reader, &name, None) {
        match record {
            Ok(Imported::Question(question)) => questions.push(question),
            Ok(_) => wrong += 1,
            Err(error) => {
                wrong += 1;
                if wrong <= SHOWN {
                    output.complain(format_args!("{} {error}", output.error_style.bad("skipped:")));
                }
            }
        }
    }
    *skipped += wrong;
    Ok(questions)
}

fn lines(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(trained) = &report.trained {
        lines.push(format!(
            "{}: {} in {} windows, {} epochs in {:.0} s ({:.0} tokens/s)",
            report.model,
            count(trained.questions, "question"),
            trained.training.windows,
            trained.epochs,
            trained.training.seconds,
            trained.tokens_per_second
        ));
    }
    for scored in &report.results {
        let AnswerScores { n, exact_match, f1, served_f1, .. } = scored.scores;
        lines.push(format!(
            "{:<5} {}: exact match {:.2}, F1 {:.2}; at threshold {:.3} F1 {:.2}  ({:.0} s)",
            scored.precision,
            count(n, "question"),
            100.0 * exact_match,
            100.0 * f1,
            scored.threshold,
            100.0 * served_f1,
            scored.seconds
        ));
    }
    lines
}
