//! `mynah benchmark`: measurements on public data sets, each a module that says what it compares.
//!
//! Every measurement goes through the code that serves; there is no second implementation here.

mod dialogue;

use clap::Subcommand;

use super::Context;
use crate::failure::Exit;

/// The commands below `benchmark`.
#[derive(Debug, Subcommand)]
pub enum BenchmarkCommand {
    /// Turns that need the turns before them: what they say, and how much of it the context gives
    #[command(
        after_help = "Reads sgd_schema, sgd_followups and sgd_corrections (.jsonl.gz or .jsonl) in --data; of snips_cased and\n\
        massive_en_us, where they are, the validation texts that are wrongly cut into several calls.\n\n\
        Example:\n  mynah benchmark dialogue --data ./data --json"
    )]
    Dialogue(dialogue::DialogueArgs),
}

/// Measures.
///
/// # Errors
/// What the measurement lacks.
pub fn run(context: &Context, command: &BenchmarkCommand) -> anyhow::Result<Exit> {
    match command {
        BenchmarkCommand::Dialogue(args) => dialogue::run(context, args),
    }
}
