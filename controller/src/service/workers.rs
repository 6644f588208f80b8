//! The process that trains, as the service sees it: started, listened to, stopped.
//!
//! Invariant: whatever a worker does, its job gets an end, and a worker that was told to stop is gone within
//! [`GRACE`](crate::worker::GRACE), unless it is writing its verdict down, which takes a moment.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use mynah_pipelines::Stage;

use super::lock;
use crate::commands::Context;
use crate::worker::{GRACE, Message, Order, VERDICT_WITHIN, Word, decides};

/// How often a worker that was told to stop is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Why a worker was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Somebody does not want the job any more.
    Cancel,
    /// It is to go on later.
    Pause,
}

/// How a worker ended.
#[derive(Debug)]
pub enum Ended {
    /// With a verdict: what `mynah train --json` prints.
    Outcome(serde_json::Value),
    /// Without one.
    Failed {
        /// Why.
        error: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// Somebody stopped it.
    Stopped(Stop),
}

/// A running worker; clones mean the same.
#[derive(Clone)]
pub struct Worker {
    shared: Arc<Shared>,
}

struct Shared {
    child: Mutex<Child>,
    /// Open as long as the worker may work.
    order: Mutex<Option<ChildStdin>>,
    stop: Mutex<Option<Stop>>,
    stage: Mutex<Option<Stage>>,
}

impl Worker {
    /// Starts one; what it writes to standard error goes to `log`.
    ///
    /// # Errors
    /// When the program cannot be started or the log cannot be written.
    pub fn start(context: &Context, order: &Order, log: &Path) -> anyhow::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(log);
        let file = file.with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(program()?);
        command.args(["work", "--home"]).arg(context.home.root());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file);
        // Ctrl-C at a terminal is for the service, which stops its worker in order.
        #[cfg(unix)]
        {
            use std::os::unix::process::CommandExt;
            command.process_group(0).arg0("mynah");
        }
        let mut child = command.spawn().context("cannot start the process that trains")?;
        let stdin = child.stdin.take();
        let worker = Self {
            shared: Arc::new(Shared {
                child: Mutex::new(child),
                order: Mutex::new(stdin),
                stop: Mutex::default(),
                stage: Mutex::default(),
            }),
        };
        let line = format!("{}\n", serde_json::to_string(order)?);
        let written = lock(&worker.shared.order).as_mut().map_or(Ok(()), |stdin| stdin.write_all(line.as_bytes()));
        // One that is gone already is told by its exit status, with its log.
        let _ = written;
        Ok(worker)
    }

    /// The process.
    pub fn id(&self) -> u32 {
        lock(&self.shared.child).id()
    }

    /// Tells it to stop, and sees to it that it does. A later reason replaces an earlier one.
    pub fn stop(&self, why: Stop) {
        let first = lock(&self.shared.stop).replace(why).is_none();
        drop(lock(&self.shared.order).take());
        if !first {
            return;
        }
        let worker = self.clone();
        std::thread::spawn(move || {
            let asked = Instant::now();
            while !worker.has_ended() {
                let deciding = lock(&worker.shared.stage).is_some_and(decides);
                let patience = if deciding { VERDICT_WITHIN } else { GRACE };
                if asked.elapsed() >= patience {
                    let _ = lock(&worker.shared.child).kill();
                    return;
                }
                std::thread::sleep(LOOK_EVERY);
            }
        });
    }

    fn has_ended(&self) -> bool {
        !matches!(lock(&self.shared.child).try_wait(), Ok(None))
    }

    /// Listens until the worker has ended. `on_word` gets every word but the last, with the processor time so far.
    pub fn listen(&self, mut on_word: impl FnMut(&Word, Duration)) -> Ended {
        let stdout = lock(&self.shared.child).stdout.take();
        let mut last = None;
        for line in stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines()).map_while(Result::ok) {
            // Not ours: some library that prints.
            let Ok(message) = serde_json::from_str::<Message>(&line) else { continue };
            if let Word::Stage { stage, .. } = &message.word {
                *lock(&self.shared.stage) = Some(*stage);
            }
            on_word(&message.word, Duration::try_from_secs_f64(message.cpu_seconds).unwrap_or_default());
            if matches!(message.word, Word::Outcome { .. } | Word::Failed { .. }) {
                last = Some(message.word);
            }
        }
        let status = self.wait();
        let stop = *lock(&self.shared.stop);
        match (last, stop) {
            // A verdict that was reached stands, even when the wish to stop came before it was told.
            (Some(Word::Outcome { outcome }), _) => Ended::Outcome(outcome),
            (_, Some(stop)) => Ended::Stopped(stop),
            (Some(Word::Failed { cancelled: true, .. }), None) => Ended::Stopped(Stop::Cancel),
            (Some(Word::Failed { error, hint, .. }), None) => Ended::Failed { error, hint },
            _ => Ended::Failed {
                error: format!("the process that trained ended without a result ({})", in_words(status)),
                hint: Some("`mynah jobs log` shows its last words; the same request starts it again".to_owned()),
            },
        }
    }

    fn wait(&self) -> Option<ExitStatus> {
        loop {
            // Not `wait`: the lock has to be free for whoever wants to end it.
            match lock(&self.shared.child).try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) => {}
                Err(_) => return None,
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// This very program, also after its file was replaced by a newer one.
fn program() -> anyhow::Result<std::path::PathBuf> {
    let running = std::path::PathBuf::from("/proc/self/exe");
    match cfg!(target_os = "linux") && running.exists() {
        true => Ok(running),
        false => Ok(std::env::current_exe()?),
    }
}

fn in_words(status: Option<ExitStatus>) -> String {
    match status {
        None => "nobody knows how".to_owned(),
        Some(status) => status.to_string(),
    }
}
