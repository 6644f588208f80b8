//! `mynah benchmark`: the figures of BENCHMARKS.md, each by a command that anyone can run.
//!
//! One module a subcommand, with its flags. They take files and model directories and need no home.

pub mod answers;
pub mod retrieval;

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use mynah_runtime::{Checkpoint, Precision};

use crate::failure::Exit;
use crate::interrupt::Interrupt;
use crate::output::Output;

/// The commands below `benchmark`.
#[derive(Debug, Subcommand)]
pub enum BenchmarkCommand {
    /// Train the answer head on questions in the form of SQuAD and score it: exact match and F1
    #[command(
        after_help = "Trains on the questions of --train whose split is train, the rest of them chooses the epoch and the threshold;\n\
        without --train the model must have an answer head. Scores every question of --test on the serving path.\n\n\
        Examples:\n  mynah benchmark answers --model ./minilm-l6 --train squad_train.jsonl.gz --test squad_dev.jsonl.gz --json\n  \
        mynah benchmark answers --model ./trained --test squad_dev.jsonl.gz --precision both"
    )]
    Answers(answers::AnswersArgs),
    /// Find the sentence that answers a question among many: recall and mean reciprocal rank
    #[command(
        after_help = "Queries are lines of {\"question\",\"positives\":[i]}, candidates of {\"i\",\"text\"}; plain or gzip. Both are embedded\n\
        as memory and knowledge are, and compared by cosine.\n\n\
        Example:\n  mynah benchmark retrieval --queries queries.jsonl.gz --candidates candidates.jsonl.gz --precision both --json"
    )]
    Retrieval(retrieval::RetrievalArgs),
}

/// Which arithmetic is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Precisions {
    /// Quantised to eight bits, as served
    Int8,
    /// The reference
    F32,
    /// One after the other
    Both,
}

impl Precisions {
    fn each(self) -> &'static [Precision] {
        match self {
            Self::Int8 => &[Precision::Int8],
            Self::F32 => &[Precision::F32],
            Self::Both => &[Precision::Int8, Precision::F32],
        }
    }
}

/// Runs one of them.
///
/// # Errors
/// When a file or a model is no good, or nobody reads the output.
pub fn run(output: Output, command: &BenchmarkCommand, interrupt: Interrupt) -> anyhow::Result<Exit> {
    match command {
        BenchmarkCommand::Answers(args) => answers::run(output, args, interrupt),
        BenchmarkCommand::Retrieval(args) => retrieval::run(output, args, &interrupt),
    }
}

/// The checkpoint in a directory, or the embedded starter, with its name.
fn checkpoint(model: Option<&PathBuf>) -> anyhow::Result<(Checkpoint, String)> {
    match model {
        Some(directory) => Ok((Checkpoint::from_directory(directory)?, name_of(directory))),
        None => Ok((Checkpoint::starter()?, "starter".to_owned())),
    }
}

/// A path's last part: where a file lies is nobody's matter but its owner's.
fn name_of(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

fn precision_name(precision: Precision) -> &'static str {
    match precision {
        Precision::Int8 => "int8",
        Precision::F32 => "f32",
    }
}
