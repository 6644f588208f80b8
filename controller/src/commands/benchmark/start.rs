//! `mynah benchmark start`: from the start of the process to its first reply, and what the process holds then.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use mynah_runtime::{Checkpoint, Model, Precision, Tokenizer};
use serde::Serialize;

use super::{BenchmarkHome, Times, timed};
use crate::failure::{Exit, Stopped, hinted};
use crate::interrupt::Interrupt;
use crate::output::Output;

/// A function to call, so that there is something to reply.
const FUNCTIONS: &str = r#"[{"name": "lights_on", "description": "Turn on the lights.",
    "examples": ["lights on", "turn on the lights", "switch the lights on"], "replies": ["The lights are on."]}]"#;

/// Flags of `benchmark start`.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// A directory with config.json, tokenizer.json and weights [default: the embedded starter]
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// How often the program is started
    #[arg(long, default_value_t = 15, value_name = "N")]
    pub rounds: usize,
}

#[derive(Serialize)]
struct Report {
    benchmark: &'static str,
    model: String,
    rounds: usize,
    /// Milliseconds from the start of the process to its first reply.
    first_reply: Times,
    /// What the process holds then, in megabytes; where the system tells.
    resident_mb: Option<f64>,
    /// The most it ever held.
    peak_mb: Option<f64>,
    /// In this process, in milliseconds: hashing every file; tokenizer; everything of the model, tokenizer included.
    verify: Times,
    tokenizer: Times,
    load: Times,
}

/// Measures and prints.
///
/// # Errors
/// When the model is no good, or the program cannot be started.
pub fn run(output: Output, args: &StartArgs, interrupt: &Interrupt) -> anyhow::Result<Exit> {
    let home = BenchmarkHome::new(output, args.model.as_deref(), None)?;
    std::fs::write(home.context.home.functions_path(), FUNCTIONS)?;
    let program = std::env::current_exe()?;
    // The first one embeds the examples; later ones find them in the cache, as every start but the first does.
    first_reply(&program, home.context.home.root())?;
    let mut replies = Vec::new();
    let mut memory = None;
    let mut parts: [Vec<Duration>; 3] = Default::default();
    let registry = home.context.registry()?;
    let base = registry.base()?.ok_or_else(|| hinted("there is no base model", "run `mynah init`"))?;
    for _ in 0..args.rounds.max(1) {
        if interrupt.is_asked() {
            return Err(Stopped("stopped").into());
        }
        let started = first_reply(&program, home.context.home.root())?;
        replies.push(started.time);
        memory = started.memory.or(memory);
        let (verified, verify) = timed(|| registry.verify(&base));
        let checkpoint = Checkpoint::from_verified(&verified?)?;
        let (tokenizer, tokenize) = timed(|| Tokenizer::from_checkpoint(&checkpoint));
        tokenizer?;
        let (model, load) = timed(|| Model::load(&checkpoint, Precision::Int8));
        model?;
        parts.iter_mut().zip([verify, tokenize, load]).for_each(|(times, time)| times.push(time));
    }
    let [verify, tokenizer, load] = parts.map(Times::of);
    let report = Report {
        benchmark: "start",
        model: home.model,
        rounds: replies.len(),
        first_reply: Times::of(replies),
        resident_mb: memory.map(|memory| memory.resident_mb),
        peak_mb: memory.map(|memory| memory.peak_mb),
        verify,
        tokenizer,
        load,
    };
    if output.json {
        output.value(&report)?;
        return Ok(Exit::Done);
    }
    output.line(format_args!(
        "first reply after {:.0} ms (p90 {:.0}); verify {:.0}, tokenizer {:.0}, load {:.0}",
        report.first_reply.p50, report.first_reply.p90, report.verify.p50, report.tokenizer.p50, report.load.p50
    ))?;
    if let Some(memory) = memory {
        output.line(format_args!("resident {:.1} MB, at most {:.1} MB", memory.resident_mb, memory.peak_mb))?;
    }
    Ok(Exit::Done)
}

struct Started {
    time: Duration,
    memory: Option<Memory>,
}

#[derive(Clone, Copy)]
struct Memory {
    resident_mb: f64,
    peak_mb: f64,
}

/// Starts a conversation of the program, says one thing, and waits for the reply.
fn first_reply(program: &Path, home: &Path) -> anyhow::Result<Started> {
    let started = Instant::now();
    let mut child = Command::new(program)
        .args(["chat", "--local", "--no-learn", "--json", "--home"])
        .arg(home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let said = child.stdin.as_mut().map_or(Ok(()), |stdin| stdin.write_all(b"lights on\n"));
    let mut line = String::new();
    if let Some(stdout) = child.stdout.as_mut() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    let time = started.elapsed();
    let memory = memory_of(child.id());
    drop(child.stdin.take());
    child.wait()?;
    said?;
    match line.contains("The lights are on.") {
        true => Ok(Started { time, memory }),
        false => Err(hinted(format!("there was no reply: {line}"), "try `mynah chat` in a home with that model")),
    }
}

/// What a process that runs holds, in megabytes; only Linux tells.
pub(super) fn resident_mb(process: u32) -> Option<f64> {
    memory_of(process).map(|memory| memory.resident_mb)
}

/// What the system says of a process that runs; only Linux does.
fn memory_of(process: u32) -> Option<Memory> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let megabytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<f64>().ok().map(|kilobytes| kilobytes * 1024.0 / 1e6)
    };
    Some(Memory { resident_mb: megabytes("VmRSS:")?, peak_mb: megabytes("VmHWM:")? })
}
