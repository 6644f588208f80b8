//! `mynah benchmark few-shot`: how well functions work from a few examples each, before any training.
//!
//! A home in a temporary directory gets a `functions.json` with some of the file's training examples, and every text of
//! the chosen split goes through the same decision as a turn of a conversation.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use mynah_data::{Example, Home, Imported, OUT_OF_SCOPE, SplitName};
use mynah_runtime::Mynah;
use serde::Serialize;
use serde_json::{Value, json};

use super::scores::Scores;
use crate::base::{self, Base};
use crate::commands::Context;
use crate::commands::import::open;
use crate::failure::{Exit, hinted, usage};
use crate::interrupt::Interrupt;
use crate::progress::RunProgress;

/// Flags of `benchmark few-shot`.
#[derive(Debug, Args)]
pub struct FewShotArgs {
    /// Utterances with intent and split
    #[arg(long, value_name = "FILE")]
    pub examples: PathBuf,
    /// Examples given for each function, drawn from the training split
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub per_function: usize,
    /// The split that is asked
    #[arg(long, default_value = "test", value_name = "SPLIT")]
    pub split: String,
    /// How often examples are drawn and everything is measured
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub draws: u64,
    /// `starter`, a directory, or a hub id
    #[arg(long, default_value = "starter", value_name = "BASE")]
    pub base: String,
}

/// The figures of one draw of examples.
#[derive(Debug, Serialize)]
struct Draw {
    seed: u64,
    functions: usize,
    examples_per_function: usize,
    #[serde(flatten)]
    scores: Scores,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    benchmark: &'static str,
    examples: &'a str,
    split: &'a str,
    base: &'a str,
    precision: String,
    draws: Vec<Draw>,
    mean_in_scope_accuracy: f64,
}

/// Measures each draw and reports their mean.
///
/// # Errors
/// When the file or the base is no good.
pub fn run(context: &Context, args: &FewShotArgs, interrupt: &Interrupt) -> anyhow::Result<Exit> {
    let split: SplitName = args.split.parse::<SplitName>().map_err(|error| usage(error.to_string(), error.hint()))?;
    let (reader, name) = open(&args.examples)?;
    let mut train: BTreeMap<String, Vec<Example>> = BTreeMap::new();
    let mut texts = Vec::new();
    for record in mynah_data::read_examples(reader, &name, None) {
        let Ok(Imported::Example(example)) = record else { continue };
        let own = example.split.unwrap_or_else(|| mynah_data::split_of(&example));
        if own == split {
            texts.push(example);
        } else if own == SplitName::Train && example.function != OUT_OF_SCOPE && !example.text.contains(['[', ']']) {
            train.entry(example.function.clone()).or_default().push(example);
        }
    }
    if split == SplitName::Train || train.is_empty() || texts.is_empty() {
        return Err(hinted(
            format!("{name} has no examples of both `train` and `{}`", args.split),
            "name a file of utterances with `intent` and `split`, and a --split other than train",
        ));
    }
    let progress = RunProgress::new(context.output, interrupt.clone());
    let base = Base::parse(&args.base)?;
    let mut draws = Vec::new();
    for seed in 0..args.draws {
        let directory = tempfile::Builder::new().prefix("mynah-few-shot-").tempdir()?;
        let functions: Vec<Value> =
            train.iter().map(|(name, examples)| function(name, examples, args.per_function, seed)).collect();
        let home = Context { home: Home::new(directory.path()), ..context.clone() };
        home.home.create()?;
        base::register(&home, &home.new_registry()?, &base)?;
        std::fs::write(home.home.functions_path(), Value::Array(functions).to_string())?;
        let mynah = Mynah::builder(directory.path()).settings(context.settings.runtime.clone()).open()?;
        let scores = Scores::measure(&mynah, &texts, &progress)?;
        draws.push(Draw { seed, functions: train.len(), examples_per_function: args.per_function, scores });
    }
    progress.finish();
    let mean = draws.iter().map(|draw| draw.scores.in_scope_accuracy).sum::<f64>() / draws.len().max(1) as f64;
    let report = Report {
        benchmark: "few-shot",
        examples: &name,
        split: &args.split,
        base: &args.base,
        precision: format!("{:?}", context.settings.runtime.precision).to_lowercase(),
        draws,
        mean_in_scope_accuracy: mean,
    };
    if context.output.json {
        context.output.value(&report)?;
    } else {
        for draw in &report.draws {
            context.output.line(format_args!(
                "draw {}: {} functions × {} examples: {}",
                draw.seed, draw.functions, draw.examples_per_function, draw.scores
            ))?;
        }
        context.output.line(format_args!("mean in-scope accuracy {mean:.3}"))?;
    }
    Ok(Exit::Done)
}

/// A function with some of its examples, whose description is its name in words.
fn function(name: &str, examples: &[Example], count: usize, seed: u64) -> Value {
    let mut parameters: BTreeMap<&str, Value> = BTreeMap::new();
    for slot in examples.iter().flat_map(|example| &example.slots) {
        parameters.insert(&slot.name, json!({"type": "string"}));
    }
    // A draw without replacement whose order depends on the seed and the words alone.
    let mut drawn: Vec<&Example> = examples.iter().collect();
    drawn.sort_by_cached_key(|example| mynah_registry::Digest::of(format!("{seed}\n{}", example.text).as_bytes()));
    let drawn: Vec<Value> = drawn.into_iter().take(count).map(|example| json!(inline(example))).collect();
    json!({
        "name": name,
        "description": name.replace(['_', '-'], " "),
        "parameters": {"type": "object", "properties": parameters},
        "examples": drawn,
    })
}

/// An example in the notation of `functions.json`: `wake me at [seven](time)`.
fn inline(example: &Example) -> String {
    let mut text = String::new();
    let mut slots = example.slots.iter().peekable();
    for (at, character) in example.text.chars().enumerate() {
        if slots.peek().is_some_and(|slot| slot.start == at) {
            text.push('[');
        }
        text.push(character);
        if let Some(slot) = slots.next_if(|slot| slot.end == at + 1) {
            text.push_str(&format!("]({})", slot.name));
        }
    }
    text
}
