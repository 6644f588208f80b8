//! The command line: verbs, flags and their help.
//!
//! Only syntax lives here; what a command does is in [`crate::commands`].

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use mynah_runtime::Precision;

use crate::commands::backtest::BacktestArgs;
use crate::commands::benchmark::BenchmarkCommand;
use crate::commands::expect::ExpectCommand;
use crate::commands::jobs::JobsCommand;
use crate::commands::labels::LabelsCommand;
use crate::commands::pin::PinArgs;
use crate::commands::simulate::SimulateCommand;
use crate::commands::unit::ServiceCommand;
use crate::failure::EXIT_STATUSES;
use crate::service::logging::LogFormat;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "mynah",
    version,
    about = "A local assistant that learns from every conversation, and never gets worse",
    long_about = "A local assistant that learns from every conversation, and never gets worse.\n\nMynah understands requests with a small DistilBERT model on this machine, logs every turn as JSON, learns from \
        corrections, and promotes a newly trained model only when it is not worse. `mynah quickstart` shows all of it in a minute, \
        without network.",
    after_help = "Examples:\n  mynah quickstart                       see everything once, in a temporary home\n  mynah init --functions functions.json  \
        set up a home of your own\n  mynah train && mynah chat              learn, then talk",
    after_long_help = format!("Examples:\n  mynah quickstart                       see everything once, in a temporary home\n  \
        mynah init --functions functions.json  set up a home of your own\n  mynah train && mynah chat              learn, then talk\n\n\
        The home holds everything: --home, else MYNAH_HOME, else mynah in the XDG data directory (~/.local/share/mynah).\n\
        Settings: built-in defaults < mynah.toml in the home < variables MYNAH_<SECTION>__<KEY> < flags. NO_COLOR is respected.\n\n{EXIT_STATUSES}"),
    disable_help_subcommand = false,
    max_term_width = 100,
)]
pub struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The home directory [default: $MYNAH_HOME, else the XDG data directory]
    #[arg(long, global = true, value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Print data as JSON on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// Print only data and errors
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show everything once: learn, talk, be corrected, learn again, roll back
    #[command(
        after_help = "Works offline on the embedded starter model, in a temporary home unless --home names one.\n\
        Takes about a minute. With a terminal it ends in a chat; --no-chat leaves that out."
    )]
    Quickstart(QuickstartArgs),
    /// Set up a home: a base model and, if you like, functions
    #[command(
        after_help = "Examples:\n  mynah init                                     the embedded starter, offline\n  \
        mynah init --base distilbert-base-uncased      from the Hugging Face hub (268 MB)\n  \
        mynah init --base distilbert-base-uncased@6cdc0aad91f5ae2e6712e91bc7b65d1cf5c05411\n  \
        mynah init --base ./my-distilbert              a directory with config.json, tokenizer.json, model.safetensors\n\n\
        The hub is asked through HF_ENDPOINT with HF_TOKEN, if set; HF_HUB_OFFLINE=1 takes what was downloaded before. A download\n\
        that breaks off is resumed by the next call."
    )]
    Init(InitArgs),
    /// Import examples, questions and answers from files
    #[command(
        after_help = "Formats, recognised by content: JSON Lines and JSON with text/intent/slots/split, SQuAD questions,\n\
        question/answer or user_message/ai_response; CSV with such a header; text pairs `User: …` / `AI: …`.\n\
        Plain or gzip; `-` reads standard input. Lines that cannot be used are named and skipped (exit status 3).\n\n\
        Questions with a passage train the answer head at the next `mynah train`, which answers from knowledge/: {\"context\",\n\
        \"question\",\"answers\":[{\"text\",\"start\"}]}, `start` in characters, or SQuAD's own nested form; \"is_impossible\":true marks\n\
        what the passage does not answer. With --questions anything else in the files is an error.\n\n\
        Examples:\n  mynah import utterances.jsonl.gz answers.csv\n  mynah import --questions squad.json\n  \
        cat more.jsonl | mynah import - --name more"
    )]
    Import(ImportArgs),
    /// Fine-tune a candidate, judge it, and promote it or refuse
    #[command(
        after_help = "Learns from functions.json, imported examples and every correction in the log; starts from the version in\n\
        production. Asks the service when it runs. Ctrl-C stops cleanly: nothing is promoted, and\n\
        the same command goes on after the last finished epoch.\n\n\
        Examples:\n  mynah train\n  mynah train --epochs 3 --seed 7 --json > report.json"
    )]
    Train(TrainArgs),
    /// Score a version on labelled examples
    #[command(after_help = "Examples:\n  mynah evaluate --examples utterances.jsonl.gz --split test --json\n  \
        mynah evaluate --version v3 --examples - --html page.html < held_out.jsonl")]
    Evaluate(EvaluateArgs),
    /// Replay labelled examples as sessions and compare ways of learning from them
    #[command(
        after_help = "Every session is predicted first, corrected by its labels, and learned from at its end, in temporary homes. Four ways\n\
        are compared: mynah (behind the gate), never (the first session only), naive (what is new alone), retrain (everything\n\
        from the base at every session). What is asked after each session is the model alone, without memory.\n\n\
        Examples:\n  mynah backtest --examples clinc150.jsonl.gz --in-scope --order class-incremental --sessions 10\n  \
        mynah backtest --order time --sessions 12 --json       your own log"
    )]
    Backtest(BacktestArgs),
    /// Show the report of a run: verdict, figures, what changed; as text, JSON or a page
    #[command(
        after_help = "Every run of `mynah train` leaves report.json and report.html in its directory below runs/ in the home. The page\n\
        quotes texts of the home, so it stays there unless --html writes it elsewhere.\n\n\
        Examples:\n  mynah report                           the latest run\n  mynah report v3 --html v3.html\n  \
        mynah report --json"
    )]
    Report(ReportArgs),
    /// Read texts, print one understanding a line
    #[command(
        after_help = "Reads plain lines or JSON Lines with a `text` field, plain or gzip, and prints one line for each.\n\n\
        Examples:\n  echo 'wake me at seven' | mynah predict --json\n  mynah predict --json --input texts.txt.gz > out.jsonl"
    )]
    Predict(PredictArgs),
    /// Talk; corrections are used at once and learned at the end
    #[command(
        after_help = "In the chat: /why, /correct FUNCTION [name=value …], /teach ANSWER, /good, /bad, /functions, /versions,\n\
        /help, /quit. The end of the conversation starts the fine-tune when something was corrected or taught."
    )]
    Chat(ChatArgs),
    /// Run the local service: HTTP on loopback, schedules, learning after sessions
    #[command(
        after_help = "Makes the home when there is none. Every endpoint is described at /openapi.json; OpenAI's clients work with\n\
        base_url http://127.0.0.1:7878/v1. Requests need `Authorization: Bearer TOKEN` with the token of service.token in the home\n\
        (service.read.token for what only looks). While it runs, `train`, `chat` and `status` ask it. SIGHUP reads mynah.toml\n\
        again, SIGTERM and Ctrl-C stop it in order. Other addresses than loopback need tls_certificate and tls_key in [service].\n\n\
        Examples:\n  mynah serve\n  curl -H \"Authorization: Bearer $(cat HOME/service.token)\" -H 'Content-Type: application/json' \\\n    \
        -d '{\"message\":\"wake me at seven\"}' http://127.0.0.1:7878/chat"
    )]
    Serve(ServeArgs),
    /// Install the service as a unit of your systemd, remove it, look at it
    #[command(
        subcommand,
        after_help = "The unit is told when the service is ready (Type=notify), is started again after a failure, and may write to the\n\
        home only. `systemctl --user reload mynah` reads mynah.toml again. To run it without being logged in: loginctl enable-linger.\n\n\
        Examples:\n  mynah service install\n  mynah service status --json"
    )]
    Service(ServiceCommand),
    /// Look for what is wrong with the home, and say how to mend it
    #[command(
        after_help = "Checks settings, functions, every file of the registry, the model, the log, the service and its tokens; changes\n\
        nothing. Exit status 1 when there is a problem."
    )]
    Doctor,
    /// List, compare, promote, roll back, verify and export model versions
    #[command(subcommand)]
    Models(ModelsCommand),
    /// Read the log of conversations
    #[command(subcommand)]
    Log(LogCommand),
    /// Labels that people gave: which are held back and why; accept or reject one
    #[command(subcommand)]
    Labels(LabelsCommand),
    /// What is in production, what is new, what runs
    Status,
    /// Keep what is in production: nothing is promoted or rolled back until `unpin`
    #[command(
        after_help = "While production is pinned the service trains nothing by itself, and takes nothing back; `mynah train`\n\
        makes candidates that wait. `mynah models promote` and `rollback` refuse.\n\n\
        Example:\n  mynah pin --reason 'the demo on friday'"
    )]
    Pin(PinArgs),
    /// Let production change again
    Unpin,
    /// Fine-tunes of the service: which wait, run and ran; what they said; stop one
    #[command(subcommand)]
    Jobs(JobsCommand),
    /// A fine-tune in a process of its own, for the service
    #[command(hide = true)]
    Work,
    /// Pin sentences with their call: no version that gets one wrong is promoted
    #[command(subcommand)]
    Expect(ExpectCommand),
    /// Try the rules on made-up candidates whose worth is known
    #[command(subcommand)]
    Simulate(SimulateCommand),
    /// Measure, as BENCHMARKS.md does
    #[command(subcommand)]
    Benchmark(BenchmarkCommand),
    /// Time the encoder on this machine
    #[command(after_help = "Without --model and --random the embedded starter is timed. The JSON lines are those of\n\
        benchmarks/peer_onnxruntime.py, and BENCHMARKS.md compares the two.\n\n\
        Examples:\n  mynah bench --model ./my-distilbert --threads 1,2\n  \
        mynah bench --random 768x6x12x3072 --shapes 1x16,32x32 --json\n  mynah bench --limits")]
    Bench(BenchArgs),
}

/// Flags of `quickstart`.
#[derive(Debug, Args)]
pub struct QuickstartArgs {
    /// End in a chat even when nobody sits at a terminal
    #[arg(long, conflicts_with = "no_chat")]
    pub chat: bool,
    /// Do not end in a chat
    #[arg(long)]
    pub no_chat: bool,
}

/// Flags of `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// `starter` (embedded), a directory, or a hub id with an optional @revision, e.g. distilbert-base-uncased
    #[arg(long, default_value = "starter", value_name = "BASE")]
    pub base: String,
    /// A functions.json to copy into the home
    #[arg(long, value_name = "FILE")]
    pub functions: Option<PathBuf>,
}

/// Flags of `import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The files; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The format, when it cannot be recognised
    #[arg(long)]
    pub format: Option<ImportFormat>,
    /// The files are questions on passages, to train the answer head with; any other line is an error
    #[arg(long)]
    pub questions: bool,
    /// The name to import under; importing the same name again replaces it
    #[arg(long)]
    pub name: Option<String>,
}

/// Formats that `import` can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ImportFormat {
    /// One JSON object a line
    Jsonl,
    /// One JSON array or object
    Json,
    /// Comma-separated with a header
    Csv,
    /// Pairs of `User: …` and `AI: …`
    Pairs,
}

/// Flags of `train`: overrides of the `[training]` table for one run.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Passes over the examples
    #[arg(long, value_name = "N")]
    pub epochs: Option<usize>,
    /// Peak learning rate of the encoder
    #[arg(long, value_name = "RATE")]
    pub learning_rate: Option<f64>,
    /// Examples in a batch
    #[arg(long, value_name = "N")]
    pub batch_size: Option<usize>,
    /// Seed of shuffling, dropout and new heads
    #[arg(long)]
    pub seed: Option<u64>,
    /// Where the steps are computed: cpu, cuda, cuda:1, wgpu and so on, if the program was built with it
    #[arg(long)]
    pub device: Option<String>,
    /// How many of the lowest layers keep their weights
    #[arg(long, value_name = "LAYERS")]
    pub freeze: Option<usize>,
    /// Only what is new, a replay of what is old, and the upper layers, as after a conversation
    #[arg(long, conflicts_with = "from_base")]
    pub new: bool,
    /// Everything, starting from the base instead of the version in production
    #[arg(long)]
    pub from_base: bool,
    /// Train even when nothing changed since the version in production was made
    #[arg(long)]
    pub force: bool,
    /// Do the work in this process even when the service runs
    #[arg(long)]
    pub local: bool,
}

/// Flags of `evaluate`.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// The labelled examples; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub examples: PathBuf,
    /// Which of them: train, valid, test or all
    #[arg(long, default_value = "all", value_name = "SPLIT")]
    pub split: String,
    /// Which version: a name, a tag or the start of a digest
    #[arg(long, default_value = "production")]
    pub version: String,
    /// int8 (as served) or f32
    #[arg(long)]
    pub precision: Option<PrecisionName>,
    /// Write everything about it as one self-contained page, which quotes the examples
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Flags of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// A version (a name, a tag or the start of a digest) or a run's directory below runs/ [default: the latest run]
    #[arg(value_name = "VERSION|RUN")]
    pub of: Option<String>,
    /// Write the report as one self-contained page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Flags of `predict`.
#[derive(Debug, Args)]
pub struct PredictArgs {
    /// The texts; standard input when absent
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Which version: a name, a tag or the start of a digest
    #[arg(long, default_value = "production")]
    pub version: String,
    /// int8 (as served) or f32
    #[arg(long)]
    pub precision: Option<PrecisionName>,
    /// Add `function_logits`, the raw score of every function by name; needs --json
    #[arg(long)]
    pub logits: bool,
    /// Accepted for clarity: the weights alone are what predict asks, memory never helps
    #[arg(long)]
    pub no_memory: bool,
}

/// The precisions of the serving path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PrecisionName {
    /// Quantised to eight bits, as served
    Int8,
    /// The reference
    F32,
}

impl From<PrecisionName> for Precision {
    fn from(name: PrecisionName) -> Self {
        match name {
            PrecisionName::Int8 => Self::Int8,
            PrecisionName::F32 => Self::F32,
        }
    }
}

/// Flags of `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// The directory of a model
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// Random weights of these sizes: DIMxLAYERSxHEADSxHIDDEN
    #[arg(long, value_name = "SIZES", conflicts_with = "model")]
    pub random: Option<String>,
    /// How many threads
    #[arg(long, default_value = "1,2", value_delimiter = ',', value_name = "N,…")]
    pub threads: Vec<usize>,
    /// Batches: sequences x tokens
    #[arg(long, default_value = "1x16,1x32,1x128,32x32", value_delimiter = ',', value_name = "BxT,…")]
    pub shapes: Vec<String>,
    /// How long to run each of them
    #[arg(long, default_value_t = 2.0)]
    pub seconds: f64,
    /// The arithmetic
    #[arg(long, default_value = "int8", value_delimiter = ',')]
    pub precision: Vec<PrecisionName>,
    /// Measure what one core can do at best: products and memory
    #[arg(long, conflicts_with_all = ["model", "random"])]
    pub limits: bool,
}

/// Flags of `chat`.
#[derive(Debug, Args)]
pub struct ChatArgs {
    /// Do not fine-tune at the end
    #[arg(long)]
    pub no_learn: bool,
    /// Only the weights answer: no remembered corrections and answers
    #[arg(long)]
    pub no_memory: bool,
    /// Say with every reply where it comes from
    #[arg(long)]
    pub why: bool,
    /// Talk in this process even when the service runs
    #[arg(long)]
    pub local: bool,
}

/// Flags of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The loopback address; port 0 takes a free one [default: service.listen, 127.0.0.1:7878]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// The form of the log on standard error [default: service.log_format, text]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// The commands below `models`.
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// List all versions
    List,
    /// Show one version: files, lineage, settings, scores
    Show {
        /// A name, a tag or the start of a digest
        #[arg(default_value = "production")]
        version: String,
    },
    /// Put a version into production by hand
    Promote {
        /// A name, a tag or the start of a digest
        version: String,
        /// Why, for the journal
        #[arg(long, default_value = "by hand")]
        reason: String,
    },
    /// Go back to an earlier version; the journal keeps both
    Rollback {
        /// The version to go back to [default: the one in production before]
        version: Option<String>,
        /// Why, for the journal
        #[arg(long, default_value = "by hand")]
        reason: String,
    },
    /// Check every object, manifest and journal entry
    Verify,
    /// The history of decisions, with reasons
    Log,
    /// Write a version as a plain Hugging Face directory
    Export {
        /// A name, a tag or the start of a digest
        version: String,
        /// An empty or new directory
        directory: PathBuf,
    },
    /// Compare the files and scores of two versions
    Diff {
        /// The older one
        from: String,
        /// The newer one
        to: String,
    },
    /// Delete a version that is not in production
    Delete {
        /// A name, a tag or the start of a digest
        version: String,
        /// Why, for the journal
        #[arg(long, default_value = "by hand")]
        reason: String,
    },
    /// Free the space of deleted versions
    Gc,
}

/// The commands below `log`.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// List the sessions, the latest last
    List {
        /// Only the last N
        #[arg(long, value_name = "N")]
        last: Option<usize>,
    },
    /// Show a session turn by turn
    Show {
        /// The session's id or the start of it, the id of one of its turns (`i_…`), or `last` for the latest
        #[arg(default_value = "last")]
        session: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
