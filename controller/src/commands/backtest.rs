//! `mynah backtest`: what learning after every session would have come to, on a data set or on one's own log.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use mynah_data::{Example, Home, Imported, OUT_OF_SCOPE, SplitName};
use mynah_pipelines::{Arm, Backtest, BacktestReport, SessionOrder, Sessions, Verdict, backtest_page, split_examples};

use super::Context;
use super::import::open;
use crate::base::{self, Base};
use crate::failure::{Exit, hinted, usage};
use crate::interrupt::Interrupt;
use crate::output::{Output, table};
use crate::progress::RunProgress;

/// Flags of `backtest`.
#[derive(Debug, Args)]
pub struct BacktestArgs {
    /// The labelled examples; without it what is labelled in the home
    #[arg(long, value_name = "FILE")]
    pub examples: Option<PathBuf>,
    /// How many sessions they are dealt out to
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub sessions: usize,
    /// In which order they come
    #[arg(long, default_value = "time")]
    pub order: OrderName,
    /// At most so many examples a function, for a shorter run
    #[arg(long, value_name = "N")]
    pub per_function: Option<usize>,
    /// The split that is asked after every session, where the file names splits
    #[arg(long, default_value = "test", value_name = "SPLIT")]
    pub split: String,
    /// Leave out-of-scope texts out
    #[arg(long)]
    pub in_scope: bool,
    /// What is compared
    #[arg(long, value_delimiter = ',', default_value = "mynah,never,naive,retrain")]
    pub arms: Vec<ArmName>,
    /// `starter`, a directory, or a hub id
    #[arg(long, default_value = "starter", value_name = "BASE")]
    pub base: String,
    /// Seed of the order
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Draw the learning curves into this page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// An order as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OrderName {
    /// Every session brings other functions
    ClassIncremental,
    /// By chance
    Shuffled,
    /// As they were labelled
    Time,
}

/// An arm as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ArmName {
    /// As after every conversation, behind the gate
    Mynah,
    /// The first session only
    Never,
    /// What is new alone, all layers, no gate
    Naive,
    /// Everything so far from the base, at every session, no gate
    Retrain,
}

impl ArmName {
    fn arm(self) -> Arm {
        match self {
            Self::Mynah => Arm::Mynah,
            Self::Never => Arm::Never,
            Self::Naive => Arm::Naive,
            Self::Retrain => Arm::Retrain,
        }
    }
}

/// Replays the sessions for every arm and compares them.
///
/// # Errors
/// When the examples or the base are no good, or the run was stopped.
pub fn run(context: &Context, args: &BacktestArgs, interrupt: Interrupt) -> anyhow::Result<Exit> {
    if args.sessions == 0 {
        return Err(usage("0 sessions", "at least 1"));
    }
    if let Some(path) = &args.html {
        // Not to be found out after hours of training.
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        file.map_err(|error| unwritable(path, &error))?;
    }
    let Material { train, judges, test } = examples(context, args)?;
    let order = match args.order {
        OrderName::ClassIncremental => SessionOrder::ClassIncremental,
        OrderName::Shuffled => SessionOrder::Shuffled,
        OrderName::Time => SessionOrder::Time,
    };
    let sessions = Sessions::deal(train, args.sessions, order, args.seed);
    let labels = sessions.iter().map(<[Example]>::len).sum();
    let backtest = Backtest {
        sessions,
        judges,
        test,
        training: context.settings.training.clone(),
        gate: context.settings.gate.clone(),
        precision: context.settings.runtime.precision,
    };
    let base = Base::parse(&args.base)?;
    let progress = RunProgress::new(context.output, interrupt);
    let mut arms = Vec::new();
    for name in &args.arms {
        let directory = tempfile::Builder::new().prefix("mynah-backtest-").tempdir()?;
        let home = Context { home: Home::new(directory.path()), ..context.clone() };
        home.home.create()?;
        base::register(&home, &home.new_registry()?, &base)?;
        context.output.note(format_args!("{name:?}: {} sessions", backtest.sessions.len()));
        let report = backtest.run(name.arm(), &home.home, &progress)?;
        context.output.note(format_args!("{name:?}: accuracy {:.3}", report.final_accuracy));
        arms.push(report);
    }
    progress.finish();
    let name = args.examples.as_ref().and_then(|path| path.file_name()).map(|name| name.to_string_lossy());
    let report = BacktestReport {
        examples: name.map(|name| name.into_owned()),
        base: args.base.clone(),
        order,
        sessions: backtest.sessions.len(),
        labels,
        test: backtest.test.len(),
        seed: args.seed,
        arms,
    };
    if let Some(path) = &args.html {
        std::fs::write(path, backtest_page(&report)).map_err(|error| unwritable(path, &error))?;
        context.output.note(format_args!("the learning curves are in {}", path.display()));
    }
    if context.output.json {
        context.output.value(&report)?;
    } else {
        print(context.output, &report)?;
    }
    Ok(Exit::Done)
}

fn unwritable(path: &Path, error: &std::io::Error) -> anyhow::Error {
    hinted(format!("cannot write {}: {error}", path.display()), "give --html a file in a directory that exists")
}

/// What the sessions give, what judges candidates, and what is asked after them; no text is in two.
#[derive(Default)]
struct Material {
    train: Vec<Example>,
    judges: Vec<Example>,
    test: Vec<Example>,
}

fn examples(context: &Context, args: &BacktestArgs) -> anyhow::Result<Material> {
    let Material { mut train, mut judges, mut test } = Material::default();
    match &args.examples {
        Some(path) => {
            let asked = args.split.parse::<SplitName>().map_err(|error| usage(error.to_string(), error.hint()))?;
            let (reader, name) = open(path)?;
            for record in mynah_data::read_examples(reader, &name, None) {
                let Ok(Imported::Example(example)) = record else { continue };
                let split = example.split.unwrap_or_else(|| mynah_data::split_of(&example));
                match split {
                    SplitName::Train => train.push(example),
                    split if split == asked => test.push(example),
                    SplitName::Validation => judges.push(example),
                    _ => {}
                }
            }
        }
        None => {
            train = split_examples(&context.home, SplitName::Train)?;
            judges = split_examples(&context.home, SplitName::Validation)?;
            test = split_examples(&context.home, SplitName::HeldOut)?;
        }
    }
    let told: std::collections::HashSet<String> = train.iter().map(|e| mynah_data::normalise(&e.text)).collect();
    for asked in [&mut judges, &mut test] {
        asked.retain(|example| {
            let is_left_out = args.in_scope && example.function == OUT_OF_SCOPE;
            !is_left_out && !told.contains(&mynah_data::normalise(&example.text))
        });
    }
    let mut counts = std::collections::HashMap::new();
    train.retain(|example| {
        let count = counts.entry(example.function.clone()).or_insert(0usize);
        *count += 1;
        args.per_function.is_none_or(|most| *count <= most) && !(args.in_scope && example.function == OUT_OF_SCOPE)
    });
    if train.is_empty() || test.is_empty() {
        return Err(hinted(
            "there is nothing to learn from, or nothing to be asked",
            "name a file of labelled texts with --examples, or correct and approve some replies first",
        ));
    }
    Ok(Material { train, judges, test })
}

fn print(output: Output, report: &BacktestReport) -> anyhow::Result<()> {
    let percent = |share: f64| format!("{:.1}", 100.0 * share);
    output.line(format_args!(
        "{} sessions of {} labels in all; {} texts asked after each",
        report.sessions, report.labels, report.test
    ))?;
    let mut rows = vec![std::iter::once("accuracy after".to_owned()).collect::<Vec<_>>()];
    rows[0].extend((1..=report.sessions).map(|session| session.to_string()));
    for arm in &report.arms {
        let mut row = vec![arm.arm.as_str().to_owned()];
        row.extend(arm.sessions.iter().map(|point| {
            let mark = if point.verdict == Some(Verdict::Refused) { "*" } else { "" };
            format!("{}{mark}", percent(point.accuracy))
        }));
        rows.push(row);
    }
    let bold = |row: usize, _: usize, cell: String| if row == 0 { output.style.bold(cell) } else { cell };
    for line in table(&rows, bold) {
        output.line(line)?;
    }
    output.line("* refused by the gate")?;
    let names = ["", "final", "exact match", "forgetting", "backward", "promoted", "refused", "processor"];
    let mut rows = vec![names.map(String::from).to_vec()];
    for arm in &report.arms {
        rows.push(vec![
            arm.arm.as_str().to_owned(),
            percent(arm.final_accuracy),
            percent(arm.final_exact_match),
            percent(arm.forgetting),
            percent(arm.backward_transfer),
            arm.promoted.to_string(),
            arm.refused.to_string(),
            format!("{:.0} s", arm.training_cpu_seconds),
        ]);
    }
    output.line("")?;
    for line in table(&rows, bold) {
        output.line(line)?;
    }
    Ok(())
}
