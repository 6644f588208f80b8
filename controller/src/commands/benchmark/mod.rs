//! `mynah benchmark`: the figures of BENCHMARKS.md, each by a command that anyone can run.
//!
//! One module a subcommand, with its flags. They take files and model directories; only `understanding` looks at the home.

pub mod adaptation;
pub mod answers;
pub mod corrections;
pub mod dialogue;
pub mod few_shot;
mod homes;
pub mod poison;
pub mod respond;
pub mod retrieval;
mod scores;
mod sentences;
pub mod service;
pub mod start;
pub mod training;
pub mod understanding;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Subcommand, ValueEnum};
use mynah_runtime::{Checkpoint, Precision};
use serde::Serialize;

use super::Context;
use crate::base::{self, Base};
use crate::environment::Environment;
use crate::failure::Exit;
use crate::interrupt::Interrupt;
use crate::output::Output;

/// The commands below `benchmark`.
#[derive(Debug, Subcommand)]
pub enum BenchmarkCommand {
    /// How well functions work from a few examples each, without any training
    #[command(
        after_help = "Needs no home. The runtime's settings apply, for example MYNAH_RUNTIME__PRECISION=f32.\n\n\
        Example:\n  mynah benchmark few-shot --examples clinc150.jsonl.gz --base ./minilm-l6 --split valid --json"
    )]
    FewShot(few_shot::FewShotArgs),
    /// How often the home's whole decision (memory, model, thresholds) is right on labelled texts
    #[command(after_help = "`mynah evaluate` scores the model alone.\n\n\
        Example:\n  mynah benchmark understanding --examples clinc150.jsonl.gz --split test --json")]
    Understanding(understanding::UnderstandingArgs),
    /// Turns that need the turns before them: what they say, and how much of it the context gives
    #[command(
        after_help = "Reads sgd_schema, sgd_followups and sgd_corrections (.jsonl.gz or .jsonl) in --data; of snips_cased and\n\
        massive_en_us, where they are, the validation texts that are wrongly cut into several calls.\n\n\
        Example:\n  mynah benchmark dialogue --data ./data --json"
    )]
    Dialogue(dialogue::DialogueArgs),
    /// What corrections are worth in other wordings, and what they cost elsewhere
    #[command(
        after_help = "Trains a first version on --known examples, corrects --corrections of those that it gets wrong in a session, learns\n\
        them as after a conversation, and asks what means nearly the same; --rounds times, each from the first version. Needs no home.\n\n\
        Example:\n  mynah benchmark corrections --examples clinc150.jsonl.gz --split valid --json"
    )]
    Corrections(corrections::CorrectionsArgs),
    /// What flipped labels do to a version, with and without holding doubtful ones back
    #[command(
        after_help = "Trains a first version on --known examples, then says --labels others in sessions, some with another function than\n\
        theirs, and learns them as after a conversation. Needs no home.\n\n\
        Example:\n  mynah benchmark poison --examples clinc150.jsonl.gz --split valid --json"
    )]
    Poison(poison::PoisonArgs),
    /// What unlabelled turns are worth to a version with few labels: masked-language adaptation
    #[command(
        after_help = "Labels --labels-per-function training examples and says the others in the log of a home of its own, then trains once for\n\
        every number of passes in --epochs. Needs no home; the [training] settings apply, for example\n\
        MYNAH_TRAINING__ADAPTATION_LEARNING_RATE=1e-4.\n\n\
        Example:\n  mynah benchmark adaptation --examples clinc150.jsonl.gz --labels-per-function 5 --draws 3 --json"
    )]
    Adaptation(adaptation::AdaptationArgs),
    /// A whole turn beside the encoder alone: time, recall of the memory's search, many callers at once
    #[command(
        after_help = "Fills a home's memory with --memory answers, asks for sentences that are not among them, and times every turn from\n\
        the string to the reply that is in the log, interleaved with the encoder alone on the same tokens. The sentences are those\n\
        of --texts (one a line, or JSON Lines with `text`, plain or gzip), filled up with made-up ones.\n\n\
        Examples:\n  mynah benchmark respond --json\n  \
        mynah benchmark respond --model ./minilm-l6 --texts utterances.jsonl.gz --keep ./benchmark-home"
    )]
    Respond(respond::RespondArgs),
    /// From the start of the process to the first reply, every hash verified; resident memory
    #[command(after_help = "Examples:\n  mynah benchmark start --json\n  mynah benchmark start --model ./base-size")]
    Start(start::StartArgs),
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
    /// One training step: forward, loss, backward and AdamW
    #[command(after_help = "The lines are those of the peer in PyTorch, so that the two can be interleaved.\n\n\
        Examples:\n  mynah benchmark training --json\n  mynah benchmark training --random 768x6x12x3072 --threads 1")]
    Training(training::TrainingArgs),
    /// The service: requests a second, promotions under load, a fine-tune beside it, its memory
    #[command(subcommand)]
    Service(service::ServiceCommand),
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
pub fn run(context: &Context, command: &BenchmarkCommand, interrupt: Interrupt) -> anyhow::Result<Exit> {
    let output = context.output;
    match command {
        BenchmarkCommand::Dialogue(args) => dialogue::run(context, args),
        BenchmarkCommand::FewShot(args) => few_shot::run(context, args, &interrupt),
        BenchmarkCommand::Understanding(args) => understanding::run(context, args, &interrupt),
        BenchmarkCommand::Corrections(args) => corrections::run(context, args, interrupt),
        BenchmarkCommand::Poison(args) => poison::run(context, args, interrupt),
        BenchmarkCommand::Adaptation(args) => adaptation::run(context, args, interrupt),
        BenchmarkCommand::Answers(args) => answers::run(output, args, interrupt),
        BenchmarkCommand::Retrieval(args) => retrieval::run(output, args, &interrupt),
        BenchmarkCommand::Respond(args) => respond::run(output, args, &interrupt),
        BenchmarkCommand::Start(args) => start::run(output, args, &interrupt),
        BenchmarkCommand::Training(args) => training::run(output, args),
        BenchmarkCommand::Service(command) => service::run(output, command, &interrupt),
    }
}

/// Times of one thing, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
struct Times {
    p50: f64,
    p90: f64,
    p99: f64,
}

impl Times {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |share: f64| {
            let index = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
            times.get(index).map_or(0.0, |time| (time.as_secs_f64() * 1e6).round() / 1e3)
        };
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99) }
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let started = Instant::now();
    let result = work();
    (result, started.elapsed())
}

/// A home of the benchmark's own with a base model in it: in a directory that is kept, or in a temporary one.
struct BenchmarkHome {
    context: Context,
    model: String,
    _temporary: Option<tempfile::TempDir>,
}

impl BenchmarkHome {
    fn new(output: Output, model: Option<&Path>, keep: Option<&Path>) -> anyhow::Result<Self> {
        let temporary = match keep {
            Some(_) => None,
            None => Some(tempfile::Builder::new().prefix("mynah-benchmark-").tempdir()?),
        };
        let directory = keep.map(Path::to_owned).or(temporary.as_ref().map(|home| home.path().to_owned()));
        let context = Context::new(directory.as_deref(), &[], output, &Environment::default())?;
        context.home.create()?;
        let base = model.map_or(Base::Starter, |directory| Base::Directory(directory.to_owned()));
        let registry = context.new_registry()?;
        if registry.base()?.is_none() {
            base::register(&context, &registry, &base)?;
        }
        let name = registry.base()?.and_then(|base| base.manifest.source).unwrap_or_default();
        Ok(Self { context, model: name, _temporary: temporary })
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
