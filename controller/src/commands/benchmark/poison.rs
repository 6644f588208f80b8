//! `mynah benchmark poison`: what flipped labels do to a version, with and without holding doubtful ones back.
//!
//! A home of its own learns a part of the file's training examples; others of them are then said in sessions, some with
//! another function than theirs, and learned as after a conversation.

use std::path::PathBuf;

use clap::Args;
use mynah_data::{Example, Home};
use mynah_pipelines::{PoisonArm, PoisonReport, Poisoning};
use serde::Serialize;

use super::homes::{copy, examples, learn_first, prepare};
use crate::base::Base;
use crate::commands::Context;
use crate::failure::{Exit, hinted, usage};
use crate::interrupt::Interrupt;
use crate::output::{percent, table};
use crate::progress::RunProgress;

/// Flags of `benchmark poison`.
#[derive(Debug, Args)]
pub struct PoisonArgs {
    /// Utterances with intent, slots and split
    #[arg(long, value_name = "FILE")]
    pub examples: PathBuf,
    /// Training examples that the first version learns
    #[arg(long, default_value_t = 4000, value_name = "N")]
    pub known: usize,
    /// Other training examples, said in sessions
    #[arg(long, default_value_t = 400, value_name = "N")]
    pub labels: usize,
    /// Labels of a session
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub per_session: usize,
    /// The share of the labels that is flipped
    #[arg(long, default_value_t = 0.05, value_name = "SHARE")]
    pub flipped: f64,
    /// The split that is asked
    #[arg(long, default_value = "valid", value_name = "SPLIT")]
    pub split: String,
    /// Which labels are known, said and flipped
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// What is done with the labels: `clean`, `clean_again` (another seed of the training), `unguarded`, `guarded`,
    /// `session_unguarded`, `session_guarded`, `majority_unguarded`, `majority_consistent` (default: all of them)
    #[arg(long, value_name = "ARM,…", value_delimiter = ',', value_parser = parse_arm)]
    pub arms: Vec<PoisonArm>,
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
    test: usize,
    seed: u64,
    arms: Vec<PoisonReport>,
}

/// Trains the first version, then every arm from a copy of it.
///
/// # Errors
/// When the file or the base is no good, or the run was stopped.
pub fn run(context: &Context, args: &PoisonArgs, interrupt: Interrupt) -> anyhow::Result<Exit> {
    if !(0.0..=1.0).contains(&args.flipped) || args.per_session == 0 {
        return Err(usage(
            "--flipped is a share, and a session has labels",
            "for example --flipped 0.05 --per-session 20",
        ));
    }
    let (mut train, test, name) = examples(&args.examples, &args.split, args.seed)?;
    let labels = train.split_off(args.known.min(train.len()));
    let labels: Vec<Example> = labels.into_iter().take(args.labels).collect();
    if labels.is_empty() || test.is_empty() {
        let message = format!("{name} has too few examples of `train`, or none of `{}`", args.split);
        return Err(hinted(message, "lower --known, or name another --split"));
    }
    let progress = RunProgress::new(context.output, interrupt);
    let directory = tempfile::Builder::new().prefix("mynah-poison-").tempdir()?;
    let first = Context { home: Home::new(directory.path().join("first")), ..context.clone() };
    prepare(&first, &Base::parse(&args.base)?, &train, &test)?;
    learn_first(&first, &progress)?;
    let poisoning = Poisoning {
        labels,
        per_session: args.per_session,
        flipped: args.flipped,
        test,
        training: context.settings.training.clone(),
        gate: context.settings.gate.clone(),
        precision: context.settings.runtime.precision,
        seed: args.seed,
    };
    let mut arms = Vec::new();
    let wanted = |arm: &PoisonArm| args.arms.is_empty() || args.arms.contains(arm);
    for (number, arm) in PoisonArm::ALL.into_iter().filter(wanted).enumerate() {
        let home = Home::new(directory.path().join(number.to_string()));
        copy(first.home.root(), home.root())?;
        let report = poisoning.run(arm, &home, &progress)?;
        context.output.note(format_args!("{arm:?}: {} held back, {:?}", report.held_back, report.verdict));
        arms.push(report);
    }
    progress.finish();
    let (known, test) = (train.len(), poisoning.test.len());
    let (base, split) = (args.base.as_str(), args.split.as_str());
    let report = Report { benchmark: "poison", examples: &name, base, split, known, test, seed: args.seed, arms };
    if context.output.json {
        context.output.value(&report)?;
        return Ok(Exit::Done);
    }
    let head = ["labels", "flipped", "found", "false alarms", "before", "candidate", "in scope", "verdict", "after"];
    let mut rows = vec![std::iter::once("arm").chain(head).map(str::to_owned).collect::<Vec<_>>()];
    for arm in &report.arms {
        rows.push(vec![
            arm_name(arm.arm),
            arm.labels.to_string(),
            arm.flipped.to_string(),
            arm.held_back_flipped.to_string(),
            percent(arm.false_alarms),
            percent(arm.before),
            percent(arm.candidate),
            arm.candidate_in_scope.map(percent).unwrap_or_default(),
            format!("{:?}", arm.verdict).to_lowercase(),
            percent(arm.after),
        ]);
    }
    let style = context.output.style;
    for line in table(&rows, |row, _, cell| if row == 0 { style.dim(cell) } else { cell }) {
        context.output.line(line)?;
    }
    Ok(Exit::Done)
}

fn arm_name(arm: PoisonArm) -> String {
    serde_json::to_value(arm).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

fn parse_arm(text: &str) -> Result<PoisonArm, String> {
    let names = || PoisonArm::ALL.map(arm_name).join(", ");
    PoisonArm::ALL.into_iter().find(|arm| arm_name(*arm) == text).ok_or_else(|| format!("one of {}", names()))
}
