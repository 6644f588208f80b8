//! `mynah train`: one fine-tune, in the service when it runs, else here.

use mynah_pipelines::LearnScope;
use serde_json::{Map, Value};

use super::Context;
use crate::cli::TrainArgs;
use crate::client::Client;
use crate::config::Flag;
use crate::failure::Exit;
use crate::interrupt::Interrupt;
use crate::learning::{self, Scope, Task};
use crate::report::outcome_lines;

/// The flags as settings of the `[training]` table.
pub fn overrides(args: &TrainArgs) -> Vec<Flag> {
    let integer = |key, value: Option<u64>| {
        value.map(|value| (key, toml::Value::Integer(i64::try_from(value).unwrap_or(i64::MAX))))
    };
    [
        integer("epochs", args.epochs.map(|epochs| epochs as u64)),
        args.learning_rate.map(|rate| ("learning_rate", toml::Value::Float(rate))),
        integer("batch_size", args.batch_size.map(|size| size as u64)),
        integer("seed", args.seed),
        args.device.clone().map(|device| ("device", toml::Value::String(device))),
        integer("frozen_layers", args.freeze.map(|layers| layers as u64)),
    ]
    .into_iter()
    .flatten()
    .map(|(key, value)| Flag { section: "training", key, value })
    .collect()
}

/// Learns once and prints scores and verdict.
///
/// # Errors
/// When there is nothing to start from, the run was stopped, or the service refused.
pub fn run(context: &Context, args: &TrainArgs, interrupt: Interrupt) -> anyhow::Result<Exit> {
    let learns = match (args.new, args.from_base) {
        (true, _) => LearnScope::New,
        (_, true) => LearnScope::Anew,
        _ => LearnScope::Everything,
    };
    let scope = Scope { learns, forced: args.force || args.from_base };
    let client = if args.local { None } else { Client::connect(&context.home) };
    let finished = match client {
        Some(client) => {
            let given = overrides(args).into_iter();
            let training: Map<String, Value> =
                given.filter_map(|flag| Some((flag.key.to_owned(), serde_json::to_value(flag.value).ok()?))).collect();
            learning::in_service(context, &client, &training, scope, &interrupt)?
        }
        None => learning::here(context, &Task { trigger: "train", scope }, &interrupt)?,
    };
    if context.output.json {
        context.output.value(&finished.json)?;
    } else {
        for line in outcome_lines(&finished, context.output.style) {
            context.output.line(line)?;
        }
    }
    Ok(finished.exit())
}
