//! `mynah benchmark understanding`: how often a home's whole decision is right, memory included.

use std::path::PathBuf;

use clap::Args;
use mynah_data::{Imported, SplitName};
use mynah_runtime::Mynah;

use super::scores::Scores;
use crate::commands::Context;
use crate::commands::import::open;
use crate::failure::{Exit, hinted, usage};
use crate::interrupt::Interrupt;
use crate::progress::RunProgress;

/// Flags of `benchmark understanding`.
#[derive(Debug, Args)]
pub struct UnderstandingArgs {
    /// Utterances with intent
    #[arg(long, value_name = "FILE")]
    pub examples: PathBuf,
    /// The split that is asked
    #[arg(long, default_value = "test", value_name = "SPLIT")]
    pub split: String,
}

/// Scores the texts of one split.
///
/// # Errors
/// When the home or the file is no good, or no example is left.
pub fn run(context: &Context, args: &UnderstandingArgs, interrupt: &Interrupt) -> anyhow::Result<Exit> {
    let split: SplitName = args.split.parse::<SplitName>().map_err(|error| usage(error.to_string(), error.hint()))?;
    context.registry()?;
    let (reader, name) = open(&args.examples)?;
    let examples = mynah_data::read_examples(reader, &name, None).filter_map(|record| match record {
        Ok(Imported::Example(example)) => Some(example),
        _ => None,
    });
    let texts: Vec<_> =
        examples.filter(|one| one.split.unwrap_or_else(|| mynah_data::split_of(one)) == split).collect();
    if texts.is_empty() {
        return Err(hinted(
            format!("{name} has no examples of split `{}`", args.split),
            "name another --split, or a file of utterances with their intent",
        ));
    }
    let mynah = Mynah::builder(context.home.root()).settings(context.settings.runtime.clone()).open()?;
    let progress = RunProgress::new(context.output, interrupt.clone());
    let scores = Scores::measure(&mynah, &texts, &progress)?;
    progress.finish();
    match context.output.json {
        true => context.output.value(&scores)?,
        false => context.output.line(&scores)?,
    }
    Ok(Exit::Done)
}
