//! `mynah benchmark corrections`: what corrections are worth beyond their own words, and what they cost elsewhere.
//!
//! A home of its own learns a part of the file's training examples. Of the others, those that it gets wrong are corrected,
//! a session at a time, each from a copy of that home, and texts of the same function that mean nearly the same are asked.

use std::path::PathBuf;

use clap::Args;
use mynah_data::Home;
use mynah_pipelines::{BeforeAfter, Wordings, WordingsReport};
use serde::Serialize;

use super::homes::{copy, examples, learn_first, prepare};
use crate::base::Base;
use crate::commands::Context;
use crate::failure::{Exit, hinted, usage};
use crate::interrupt::Interrupt;
use crate::output::{percent, table};
use crate::progress::RunProgress;

/// Flags of `benchmark corrections`.
#[derive(Debug, Args)]
pub struct CorrectionsArgs {
    /// Utterances with intent, slots and split
    #[arg(long, value_name = "FILE")]
    pub examples: PathBuf,
    /// Training examples that the first version learns
    #[arg(long, default_value_t = 4000, value_name = "N")]
    pub known: usize,
    /// Corrections of a session
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub corrections: usize,
    /// Sessions, each from the first version, with other texts
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub rounds: usize,
    /// The split that is asked to see what is lost elsewhere
    #[arg(long, default_value = "valid", value_name = "SPLIT")]
    pub split: String,
    /// Which examples are known, and which are corrected
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// `starter`, a directory, or a hub id
    #[arg(long, default_value = "starter", value_name = "BASE")]
    pub base: String,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    benchmark: &'static str,
    examples: &'a str,
    base: &'a str,
    split: &'a str,
    known: usize,
    seed: u64,
    rounds: Vec<WordingsReport>,
    /// All rounds together.
    corrected: BeforeAfter,
    wordings: BeforeAfter,
    wrong_wordings: BeforeAfter,
    elsewhere: BeforeAfter,
    promoted: usize,
}

/// Trains the first version, then corrects it in every round from a copy of it.
///
/// # Errors
/// When the file or the base is no good, or the run was stopped.
pub fn run(context: &Context, args: &CorrectionsArgs, interrupt: Interrupt) -> anyhow::Result<Exit> {
    if args.corrections == 0 || args.rounds == 0 {
        return Err(usage("no corrections, or no rounds", "for example --corrections 20 --rounds 5"));
    }
    let (mut train, test, name) = examples(&args.examples, &args.split, args.seed)?;
    let pool = train.split_off(args.known.min(train.len()));
    if pool.len() < args.rounds || test.is_empty() {
        let message = format!("{name} has too few examples of `train`, or none of `{}`", args.split);
        return Err(hinted(message, "lower --known, or name another --split"));
    }
    let progress = RunProgress::new(context.output, interrupt);
    let directory = tempfile::Builder::new().prefix("mynah-corrections-").tempdir()?;
    let first = Context { home: Home::new(directory.path().join("first")), ..context.clone() };
    prepare(&first, &Base::parse(&args.base)?, &train, &test)?;
    learn_first(&first, &progress)?;
    let mut rounds = Vec::new();
    for (number, pool) in pool.chunks(pool.len().div_ceil(args.rounds)).enumerate() {
        let home = Home::new(directory.path().join(number.to_string()));
        copy(first.home.root(), home.root())?;
        let wordings = Wordings {
            pool: pool.to_vec(),
            corrections: args.corrections,
            test: test.clone(),
            training: context.settings.training.clone(),
            gate: context.settings.gate.clone(),
            precision: context.settings.runtime.precision,
        };
        if let Some(report) = wordings.run(&home, &progress)? {
            context.output.note(format_args!("session {}: {:?}", number + 1, report.verdict));
            rounds.push(report);
        }
    }
    progress.finish();
    let sum =
        |of: fn(&WordingsReport) -> BeforeAfter| rounds.iter().map(of).fold(BeforeAfter::default(), BeforeAfter::and);
    let report = Report {
        benchmark: "corrections",
        examples: &name,
        base: &args.base,
        split: &args.split,
        known: train.len(),
        seed: args.seed,
        corrected: sum(|round| round.corrected),
        wordings: sum(|round| round.wordings),
        wrong_wordings: sum(|round| round.wrong_wordings),
        elsewhere: sum(|round| round.elsewhere),
        promoted: rounds.iter().filter(|round| round.verdict == mynah_pipelines::Verdict::Promoted).count(),
        rounds,
    };
    if context.output.json {
        context.output.value(&report)?;
        return Ok(Exit::Done);
    }
    let mut rows = vec![["", "texts", "right before", "after", "points"].map(str::to_owned).to_vec()];
    for (what, figures) in [
        ("the corrected words", report.corrected),
        ("other wordings of them", report.wordings),
        ("those that were wrong", report.wrong_wordings),
        ("everything else", report.elsewhere),
    ] {
        let share = |n: usize| percent(n as f64 / figures.n.max(1) as f64);
        rows.push(vec![
            what.to_owned(),
            figures.n.to_string(),
            share(figures.before),
            share(figures.after),
            format!("{:+.1}", 100.0 * figures.difference()),
        ]);
    }
    let style = context.output.style;
    for line in table(&rows, |row, _, cell| if row == 0 { style.dim(cell) } else { cell }) {
        context.output.line(line)?;
    }
    context.output.line(format_args!(
        "{} of {} candidates promoted; weights alone, without memory",
        report.promoted,
        report.rounds.len()
    ))?;
    Ok(Exit::Done)
}
