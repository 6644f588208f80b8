//! `mynah benchmark adaptation`: what unlabelled turns are worth to a version with few labels.
//!
//! A home of its own has a few labels of every function; the rest of the training texts is said in its log, and nobody
//! labels them. Every arm trains from the base on the same home, after so many passes over what was said, and every
//! text of the chosen split is put to the version that comes out, whatever the gate thinks of it.

use std::collections::HashMap;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use mynah_data::{Durability, Example, Home, InteractionRecord, Log, LogOptions, Record, ReplyRecord};
use mynah_pipelines::evaluate;
use mynah_registry::Version;
use mynah_runtime::{Checkpoint, Model};
use serde::Serialize;
use serde_json::Value;

use super::homes::{examples, prepare};
use crate::base::Base;
use crate::commands::Context;
use crate::failure::{Exit, hinted, usage};
use crate::interrupt::Interrupt;
use crate::learning::{self, Scope, Task};
use crate::output::{percent, table};
use crate::progress::RunProgress;

/// Turns of a session.
const PER_SESSION: usize = 500;

/// Flags of `benchmark adaptation`.
#[derive(Debug, Args)]
pub struct AdaptationArgs {
    /// Utterances with intent, slots and split
    #[arg(long, value_name = "FILE")]
    pub examples: PathBuf,
    /// Labels of each function; the other training texts are said without
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub labels_per_function: usize,
    /// Passes over what was said, an arm each
    #[arg(long, default_value = "0,3", value_delimiter = ',', value_name = "N")]
    pub epochs: Vec<usize>,
    /// The split that is asked
    #[arg(long, default_value = "valid", value_name = "SPLIT")]
    pub split: String,
    /// How often labels are drawn and everything is trained
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub draws: u64,
    /// `starter`, a directory, or a hub id
    #[arg(long, default_value = "starter", value_name = "BASE")]
    pub base: String,
}

/// One version.
#[derive(Debug, Serialize)]
struct Arm {
    seed: u64,
    adaptation_epochs: usize,
    labels: usize,
    said: usize,
    /// Texts and tokens that were read, and the loss of every pass.
    adapted: Value,
    /// Share of right decisions.
    accuracy: f64,
    /// Share of texts whose most probable label is theirs, whatever the thresholds say.
    most_probable: f64,
    argument_f1: f64,
    exact_match: f64,
    /// Mean cosine between the version's embedding of an asked text and the base's.
    near_base: f64,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    benchmark: &'static str,
    examples: &'a str,
    base: &'a str,
    split: &'a str,
    labels_per_function: usize,
    asked: usize,
    arms: Vec<Arm>,
}

/// Trains and asks every arm for every draw of labels.
///
/// # Errors
/// When the file or the base is no good, or the run was stopped.
pub fn run(context: &Context, args: &AdaptationArgs, interrupt: Interrupt) -> anyhow::Result<Exit> {
    if args.labels_per_function == 0 || args.draws == 0 {
        return Err(usage("no labels, or no draws", "for example --labels-per-function 5 --draws 3"));
    }
    let progress = RunProgress::new(context.output, interrupt);
    let base = Base::parse(&args.base)?;
    let (mut arms, mut file, mut asked) = (Vec::new(), String::new(), 0);
    for seed in 1..=args.draws {
        let (train, test, name) = examples(&args.examples, &args.split, seed)?;
        let (labelled, said) = draw(train, args.labels_per_function);
        if labelled.is_empty() || test.is_empty() {
            let message = format!("{name} has no examples of `train`, or none of `{}`", args.split);
            return Err(hinted(message, "name a file of utterances with `intent` and `split`"));
        }
        (file, asked) = (name, test.len());
        for &epochs in &args.epochs {
            let directory = tempfile::Builder::new().prefix("mynah-adaptation-").tempdir()?;
            let mut arm = Context { home: Home::new(directory.path()), ..context.clone() };
            arm.settings.training.adaptation_epochs = epochs;
            arm.settings.training.seed = seed;
            prepare(&arm, &base, &labelled, &[])?;
            say(&arm.home, &said)?;
            let arm = measure(&arm, (labelled.len(), said.len()), &test, &progress)?;
            context.output.note(format_args!("draw {seed}, {epochs} passes: {}", percent(arm.accuracy)));
            arms.push(arm);
        }
    }
    progress.finish();
    let report = Report {
        benchmark: "adaptation",
        examples: &file,
        base: &args.base,
        split: &args.split,
        labels_per_function: args.labels_per_function,
        asked,
        arms,
    };
    match context.output.json {
        true => context.output.value(&report)?,
        false => show(context, &report)?,
    }
    Ok(Exit::Done)
}

/// So many examples of every function, in their order, and the others.
fn draw(train: Vec<Example>, per_function: usize) -> (Vec<Example>, Vec<Example>) {
    let mut drawn: HashMap<String, usize> = HashMap::new();
    train.into_iter().partition(|example| {
        let count = drawn.entry(example.function.clone()).or_default();
        *count += 1;
        *count <= per_function
    })
}

/// Turns that nobody labels, each without a call.
fn say(home: &Home, said: &[Example]) -> anyhow::Result<()> {
    let log = Log::open_with(home, LogOptions::default().durability(Durability::Process));
    for turns in said.chunks(PER_SESSION) {
        let mut session = log.start_session("benchmark")?;
        for example in turns {
            session.append(&Record::Interaction(InteractionRecord {
                id: mynah_data::new_interaction_id(),
                session: session.id().to_owned(),
                at: Timestamp::now(),
                text: example.text.clone(),
                reply: ReplyRecord {
                    text: String::new(),
                    kind: "abstain".to_owned(),
                    calls: Vec::new(),
                    confidence: 0.0,
                    source: "model".to_owned(),
                    policy: None,
                },
                version: None,
                version_digest: None,
                latency_ms: 0.0,
            }))?;
        }
        session.end("benchmark")?;
    }
    Ok(())
}

fn measure(
    context: &Context,
    (labels, said): (usize, usize),
    test: &[Example],
    progress: &RunProgress,
) -> anyhow::Result<Arm> {
    let outcome = learning::outcome(context, &Task { trigger: "benchmark", scope: Scope::default() }, progress)?;
    let registry = context.registry()?;
    let precision = context.settings.runtime.precision;
    let load = |version: Version| -> anyhow::Result<Model> {
        Ok(Model::load(&Checkpoint::from_verified(&registry.verify(&version)?)?, precision)?)
    };
    let model = load(registry.version(outcome["version"].as_str().unwrap_or_default())?)?;
    let base = load(registry.base()?.ok_or(mynah_pipelines::Error::NoBase)?)?;
    let scores = evaluate(&model, "", test.iter().cloned(), test.len() as u64, progress)?;
    let (mut right, mut cosine) = (0, 0f64);
    for chunk in test.chunks(64) {
        let texts: Vec<&str> = chunk.iter().map(|example| example.text.as_str()).collect();
        let predicted = model.predict_batch(&texts);
        right += chunk.iter().zip(predicted).filter(|(e, p)| p.function.as_ref() == Some(&e.function)).count();
        for (own, other) in model.embed(&texts).iter().zip(base.embed(&texts)) {
            cosine += own.iter().zip(other).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        }
    }
    let training = &context.settings.training;
    Ok(Arm {
        seed: training.seed,
        adaptation_epochs: training.adaptation_epochs,
        labels,
        said,
        adapted: outcome["adapted"].clone(),
        accuracy: scores.function.accuracy,
        most_probable: right as f64 / test.len() as f64,
        argument_f1: scores.arguments.f1,
        exact_match: scores.exact_match,
        near_base: cosine / test.len() as f64,
        seconds: outcome["seconds"].as_f64().unwrap_or_default(),
    })
}

/// A row for every number of passes: the means over the draws.
fn show(context: &Context, report: &Report<'_>) -> anyhow::Result<()> {
    let head = ["passes", "draws", "accuracy", "most probable", "argument F1", "exact match", "near base", "seconds"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let mut passes: Vec<usize> = report.arms.iter().map(|arm| arm.adaptation_epochs).collect();
    passes.sort_unstable();
    passes.dedup();
    for epochs in passes {
        let arms: Vec<&Arm> = report.arms.iter().filter(|arm| arm.adaptation_epochs == epochs).collect();
        let mean = |of: fn(&Arm) -> f64| arms.iter().map(|arm| of(arm)).sum::<f64>() / arms.len() as f64;
        rows.push(vec![
            epochs.to_string(),
            arms.len().to_string(),
            percent(mean(|arm| arm.accuracy)),
            percent(mean(|arm| arm.most_probable)),
            percent(mean(|arm| arm.argument_f1)),
            percent(mean(|arm| arm.exact_match)),
            format!("{:.3}", mean(|arm| arm.near_base)),
            format!("{:.0}", mean(|arm| arm.seconds)),
        ]);
    }
    let style = context.output.style;
    for line in table(&rows, |row, _, cell| if row == 0 { style.dim(cell) } else { cell }) {
        context.output.line(line)?;
    }
    Ok(())
}
