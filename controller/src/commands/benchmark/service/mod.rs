//! `mynah benchmark service …`: the service as a process of its own, asked over HTTP as an app would ask it.
//!
//! The home is temporary: the quickstart's functions on the starter model, two trained versions.

mod calm;
mod load;
mod soak;
mod swap;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use mynah_data::Home;
use mynah_pipelines::NoProgress;
use mynah_registry::Registry;
use serde_json::{Value, json};

use super::{BenchmarkHome, Times};
use crate::client::ServiceFile;
use crate::commands::Context;
use crate::commands::quickstart::FUNCTIONS;
use crate::failure::{Exit, hinted};
use crate::interrupt::Interrupt;
use crate::learning::{self, Scope, Task};
use crate::output::Output;

/// What is said: calls with and without arguments, a question, nonsense.
const SAID: [&str; 8] = [
    "wake me at half past six tomorrow",
    "set a timer for twelve minutes",
    "what is the weather in oslo",
    "play some music",
    "turn the lights off in the kitchen",
    "where is the fuse box?",
    "remind me to call my mother on friday",
    "gromble the wug until it flibs",
];

/// Conversations that take turns in being asked.
const SESSIONS: usize = 16;

/// The commands below `benchmark service`.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Requests a second over HTTP, and their times, with many clients at once
    #[command(
        after_help = "Starts a service with the embedded starter and the functions of the quickstart in a temporary home, and asks it over\n\
        loopback on connections that are kept.\n\nExample:\n  mynah benchmark service load --clients 1,8,64 --seconds 5 --json"
    )]
    Load(load::LoadArgs),
    /// Promotions and rollbacks under load: failed requests, pauses, versions
    #[command(after_help = "Example:\n  mynah benchmark service swap --seconds 60 --rate 200 --swaps 20 --json")]
    Swap(SwapArgs),
    /// The time of a reply while a fine-tune runs, beside a service that has nothing else to do
    #[command(after_help = "Example:\n  mynah benchmark service calm --seconds 20 --rate 50 --json")]
    Calm(CalmArgs),
    /// Many turns and sessions: does the memory of the service stay what it was?
    #[command(after_help = "Example:\n  mynah benchmark service soak --interactions 50000 --sessions 200 --json")]
    Soak(SoakArgs),
}

/// Flags of `benchmark service swap`.
#[derive(Debug, Args)]
pub struct SwapArgs {
    /// How long
    #[arg(long, default_value_t = 60.0)]
    pub seconds: f64,
    /// Requests a second, whether earlier ones were answered or not
    #[arg(long, default_value_t = 200.0)]
    pub rate: f64,
    /// Promotions and rollbacks in that time
    #[arg(long, default_value_t = 20)]
    pub swaps: usize,
}

/// Flags of `benchmark service calm`.
#[derive(Debug, Args)]
pub struct CalmArgs {
    /// How long each of them
    #[arg(long, default_value_t = 20.0)]
    pub seconds: f64,
    /// Requests a second
    #[arg(long, default_value_t = 50.0)]
    pub rate: f64,
    /// How the fine-tune shares the processor: idle, low, normal
    #[arg(long, value_delimiter = ',', default_value = "idle")]
    pub priority: Vec<String>,
    /// Idle and busy in turns so many times; the medians are compared
    #[arg(long, default_value_t = 1)]
    pub rounds: usize,
}

/// Flags of `benchmark service soak`.
#[derive(Debug, Args)]
pub struct SoakArgs {
    /// Turns in all
    #[arg(long, default_value_t = 50_000)]
    pub interactions: usize,
    /// Sessions, each ended
    #[arg(long, default_value_t = 200)]
    pub sessions: usize,
    /// Turns between two thumbs
    #[arg(long, default_value_t = 50)]
    pub opinion_every: usize,
}

/// Runs one of them.
///
/// # Errors
/// When the service cannot be started, or nobody reads the output.
pub fn run(output: Output, command: &ServiceCommand, interrupt: &Interrupt) -> anyhow::Result<Exit> {
    match command {
        ServiceCommand::Load(args) => load::run(output, args, interrupt),
        ServiceCommand::Swap(args) => swap::run(output, args, interrupt),
        ServiceCommand::Calm(args) => calm::run(output, args, interrupt),
        ServiceCommand::Soak(args) => soak::run(output, args, interrupt),
    }
}

/// A home with something to serve.
struct Served {
    home: BenchmarkHome,
}

impl Served {
    /// Trains `versions` versions; the last one is in production.
    fn new(output: Output, versions: usize, settings: &str) -> anyhow::Result<Self> {
        let home = BenchmarkHome::new(output, None, None)?;
        std::fs::write(home.context.home.functions_path(), FUNCTIONS)?;
        let service = "[service]\nsession_end = false\nalarm_after = 0\nrequests_per_second = 0\n";
        std::fs::write(home.context.home.settings_path(), format!("{service}{settings}"))?;
        let served = Self { home };
        for seed in 0..versions {
            output.note(format_args!("training version {} of {versions}", seed + 1));
            let mut context = served.context().clone();
            context.settings.training.epochs = Some(3);
            context.settings.training.seed = 42 + seed as u64;
            let scope = Scope { forced: true, ..Scope::default() };
            let outcome = learning::outcome(&context, &Task { trigger: "benchmark", scope }, &NoProgress)?;
            let registry = served.registry()?;
            let version = registry.version(outcome["version"].as_str().unwrap_or_default())?;
            let current = registry.production()?.map(|production| production.manifest_digest);
            if current != Some(version.manifest_digest) {
                let author = context.author("benchmark");
                registry.promote(&version, current.as_ref(), json!({"by_hand": true}), &author)?;
            }
        }
        Ok(served)
    }

    fn context(&self) -> &Context {
        &self.home.context
    }

    fn registry(&self) -> anyhow::Result<Registry> {
        self.context().registry()
    }
}

/// A running service, ended when it is dropped.
struct Running {
    child: Child,
    /// Where it is, and its token.
    pub(super) file: ServiceFile,
    http: reqwest::Client,
}

impl Running {
    /// Starts a service of `home`, with other variables beside those of this process.
    ///
    /// # Errors
    /// When it does not say where it is.
    pub(super) fn start(home: &Home, variables: &[(&str, &str)]) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", "--listen", "127.0.0.1:0", "--home"])
            .arg(home.root())
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.as_mut() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let read = std::fs::read(ServiceFile::path(home));
        let file = read.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let file: Option<ServiceFile> = file;
        let Some(file) = file else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(hinted("the service did not start", "`mynah serve` says why"));
        };
        let http = file.http()?;
        Ok(Self { child, file, http })
    }

    fn asker(&self) -> Asker {
        Asker { http: self.http.clone(), url: self.file.url(), token: self.file.token.clone() }
    }

    /// The memory of the service in megabytes, where the system tells.
    fn resident_mb(&self) -> Option<f64> {
        super::start::resident_mb(self.child.id())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks the service; clones share the connections.
#[derive(Clone)]
struct Asker {
    http: reqwest::Client,
    url: String,
    token: String,
}

impl Asker {
    async fn post(&self, path: &str, body: Value) -> Result<Value, String> {
        let request = self.http.post(format!("{}{path}", self.url)).bearer_auth(&self.token).json(&body);
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let body: Value = answer.json().await.map_err(|error| error.to_string())?;
        if status.is_success() { Ok(body) } else { Err(format!("{status} {body}")) }
    }

    async fn get(&self, path: &str) -> Result<Value, String> {
        let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(&self.token);
        let answer = request.send().await.map_err(|error| error.to_string())?;
        answer.json().await.map_err(|error| error.to_string())
    }

    async fn sessions(&self) -> Result<Vec<String>, String> {
        let mut sessions = Vec::new();
        for _ in 0..SESSIONS {
            let reply = self.post("/chat", json!({"message": SAID[0]})).await?;
            sessions.push(reply["session"].as_str().unwrap_or_default().to_owned());
        }
        Ok(sessions)
    }
}

/// What one request came to.
struct Answered {
    /// Since the load began.
    asked_at: Duration,
    took: Duration,
    /// The version that the reply names, or why there was none.
    version: Result<String, String>,
}

/// Asks at a steady rate, whether earlier requests were answered or not: a pause shows in everything that was asked meanwhile.
async fn steady_load(asker: &Asker, rate: f64, length: Duration) -> Result<Vec<Answered>, String> {
    let sessions: Arc<Vec<String>> = Arc::new(asker.sessions().await?);
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate.max(0.1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let started = Instant::now();
    let mut asked = tokio::task::JoinSet::new();
    let mut number = 0;
    while started.elapsed() < length {
        // When it should have been asked, not when the loop came to it.
        let due = ticks.tick().await.into_std();
        let (asker, sessions) = (asker.clone(), sessions.clone());
        let (session, said) = (number % SESSIONS, number / SESSIONS % SAID.len());
        number += 1;
        asked.spawn(async move {
            let body = json!({"message": SAID[said], "session": sessions[session]});
            let answer = asker.post("/chat", body).await;
            let version = answer.and_then(|reply| match reply["version"].as_str() {
                Some(version) => Ok(version.to_owned()),
                None => Err(format!("a reply without a version: {reply}")),
            });
            Answered { asked_at: due.saturating_duration_since(started), took: due.elapsed(), version }
        });
    }
    let mut answered = asked.join_all().await;
    answered.sort_by_key(|answered| answered.asked_at);
    Ok(answered)
}

fn times(answered: &[Answered]) -> Times {
    Times::of(answered.iter().map(|answered| answered.took).collect())
}

fn failed(error: String) -> anyhow::Error {
    hinted(format!("the service refused: {error}"), "`mynah serve` says why")
}
