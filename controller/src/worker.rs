//! A fine-tune in a process of its own: what the service starts, and what the two say to each other.
//!
//! A process has its own priority and gives all its memory back, and what ends it (a panic, a full memory, a signal) does not
//! end the service. The service writes one [`Order`] to its standard input and keeps that open: when it closes, by intent or
//! because the service died, the worker stops. The worker writes [`Message`]s to its standard output, one JSON object a
//! line, and words for people to standard error, which is the job's log.
//!
//! Invariant: a worker that is told to stop is gone within [`GRACE`], and one that is at its verdict by then within
//! [`VERDICT_WITHIN`]: that verdict stands and is told.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use mynah_pipelines::{Progress, Stage};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::commands::Context;
use crate::failure::{self, Exit, hinted};
use crate::interrupt::{INTERRUPTED, Interrupt};
use crate::learning::{self, Task};
use crate::priority;
use crate::service::jobs::JobRequest;

/// How long a worker that was told to stop may take before it is ended: cancelling has to work within a second.
pub const GRACE: Duration = Duration::from_millis(700);

/// How long a verdict may take to be written down after a stop was asked for.
pub const VERDICT_WITHIN: Duration = Duration::from_secs(20);

/// How often the service hears of progress within a stage.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// How often the log does.
const LOG_EVERY: Duration = Duration::from_secs(5);

/// What a worker is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// The job.
    pub job: String,
    /// What started it, for the journal.
    pub trigger: String,
    /// The run.
    pub request: JobRequest,
}

/// What a worker says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Message {
    /// Processor time so far, in seconds.
    pub cpu_seconds: f64,
    /// The rest.
    #[serde(flatten)]
    pub word: Word,
}

/// What happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Word {
    /// A stage began.
    Stage {
        /// Which.
        stage: Stage,
        /// Its units of work; 0 when nobody knows.
        total: u64,
    },
    /// It went on.
    Advance {
        /// Units that are done.
        done: u64,
        /// How it goes.
        note: String,
    },
    /// There is a verdict.
    Outcome {
        /// What `mynah train --json` prints.
        outcome: Value,
    },
    /// There is none.
    Failed {
        /// Why.
        error: String,
        /// What to do about it.
        hint: Option<String>,
        /// Somebody stopped it.
        cancelled: bool,
    },
}

/// Carries out the order on standard input.
///
/// # Errors
/// When there is none: the command is for the service alone. What goes wrong with the run is told to the service.
pub fn run(context: &Context) -> anyhow::Result<Exit> {
    priority::lower(context.settings.service.training_priority);
    let mut stdin = BufReader::new(io::stdin());
    let mut line = String::new();
    let read = stdin.read_line(&mut line)?;
    let order: Order = serde_json::from_str(&line).map_err(|error| {
        let what = if read == 0 { "there is no order".to_owned() } else { format!("the order is none: {error}") };
        hinted(what, "`mynah train` is the command for people; this one is started by `mynah serve`")
    })?;
    let interrupt = Interrupt::listen();
    let teller = Teller::new(interrupt.clone());
    stop_with_the_service(stdin, interrupt, teller.deciding.clone());
    teller.log(&format!("{} starts ({}), process {}", order.job, order.trigger, std::process::id()));
    let mut context = context.clone();
    context.settings.training = order.request.training;
    let task = Task { trigger: &order.trigger, scope: order.request.scope };
    match learning::outcome(&context, &task, &teller) {
        Ok(outcome) => {
            let word = |key: &str| outcome[key].as_str().unwrap_or_default().to_owned();
            teller.log(&format!("{} {}", word("version"), word("verdict")));
            teller.tell(Word::Outcome { outcome });
        }
        Err(error) => {
            teller.log(&failure::render(&error, crate::output::Style::Plain));
            let cancelled = failure::exit_status(&error) == INTERRUPTED;
            teller.tell(Word::Failed { error: format!("{error:#}"), hint: failure::hint(&error), cancelled });
        }
    }
    Ok(Exit::Done)
}

/// Asks the run to stop when nobody holds the other end of standard input any more, and ends the process when it does not.
fn stop_with_the_service(mut stdin: impl Read + Send + 'static, interrupt: Interrupt, deciding: Arc<AtomicBool>) {
    let watch = move || {
        let mut rest = [0; 256];
        while matches!(stdin.read(&mut rest), Ok(1..)) {}
        interrupt.ask();
        std::thread::sleep(GRACE);
        if deciding.load(Ordering::Acquire) {
            std::thread::sleep(VERDICT_WITHIN);
        }
        // Everything it writes survives a kill, so what takes longer is left to the next start.
        std::process::exit(i32::from(INTERRUPTED));
    };
    let _ = std::thread::Builder::new().name("service".into()).spawn(watch);
}

/// Whether a run that is in this stage has its verdict, or is about to.
pub fn decides(stage: Stage) -> bool {
    matches!(stage, Stage::Gate | Stage::Promote)
}

/// Tells the service and the log.
struct Teller {
    interrupt: Interrupt,
    last: Mutex<Last>,
    silent: AtomicBool,
    /// The gate is judging, or its verdict is being written down.
    deciding: Arc<AtomicBool>,
}

struct Last {
    told: Instant,
    logged: Instant,
    stage: Option<(Stage, u64)>,
}

impl Teller {
    fn new(interrupt: Interrupt) -> Self {
        let last = Last { told: Instant::now(), logged: Instant::now(), stage: None };
        Self { interrupt, last: Mutex::new(last), silent: AtomicBool::new(false), deciding: Arc::default() }
    }

    fn tell(&self, word: Word) {
        let message = Message { cpu_seconds: priority::cpu_time().as_secs_f64(), word };
        let mut stdout = io::stdout().lock();
        let line = serde_json::to_string(&message).unwrap_or_default();
        if writeln!(stdout, "{line}").and_then(|()| stdout.flush()).is_err() {
            // The service is gone; standard input says so as well.
            self.silent.store(true, Ordering::Relaxed);
        }
    }

    fn log(&self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{:.0} {text}", Timestamp::now());
    }
}

impl Progress for Teller {
    fn stage(&self, stage: Stage, total: u64) {
        self.deciding.store(decides(stage), Ordering::Release);
        if let Ok(mut last) = self.last.lock() {
            last.stage = Some((stage, total));
            last.logged = Instant::now();
        }
        let of = if total > 0 { format!(" ({total})") } else { String::new() };
        self.log(&format!("{stage}{of}"));
        self.tell(Word::Stage { stage, total });
    }

    fn advance(&self, done: u64, note: &str) {
        let Ok(mut last) = self.last.lock() else { return };
        let now = Instant::now();
        let (stage, total) = last.stage.map_or((String::new(), 0), |(stage, total)| (stage.to_string(), total));
        let is_last = done == total;
        if now.duration_since(last.logged) >= LOG_EVERY {
            last.logged = now;
            self.log(format!("{stage} {done} of {total} {note}").trim_end());
        }
        if is_last || now.duration_since(last.told) >= TELL_EVERY {
            last.told = now;
            drop(last);
            self.tell(Word::Advance { done, note: note.to_owned() });
        }
    }

    fn is_cancelled(&self) -> bool {
        self.interrupt.is_asked() || self.silent.load(Ordering::Relaxed)
    }
}
