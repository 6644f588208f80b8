//! `mynah benchmark`: the figures of `BENCHMARKS.md`, for anybody to measure again.

mod few_shot;
mod scores;
mod understanding;

use super::Context;
use crate::cli::BenchmarkCommand;
use crate::failure::Exit;
use crate::interrupt::Interrupt;

/// Runs one benchmark.
///
/// # Errors
/// When its data or model is no good, or nobody reads the output.
pub fn run(context: &Context, command: &BenchmarkCommand, interrupt: Interrupt) -> anyhow::Result<Exit> {
    match command {
        BenchmarkCommand::FewShot(args) => few_shot::run(context, args, &interrupt),
        BenchmarkCommand::Understanding(args) => understanding::run(context, args, &interrupt),
    }
}
