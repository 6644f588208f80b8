//! The progress of a run, drawn as one bar on a terminal and told in a few lines elsewhere.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mynah_pipelines::{Progress, Stage};

use crate::interrupt::Interrupt;
use crate::output::Output;

/// How often a run without a terminal says how far it is.
const LINE_EVERY: Duration = Duration::from_secs(20);

/// Renders a run's progress on standard error and stops it at Ctrl-C.
pub struct RunProgress {
    bar: Option<ProgressBar>,
    output: Output,
    interrupt: Interrupt,
    lines: Mutex<Lines>,
    total: AtomicU64,
}

struct Lines {
    stage: Option<Stage>,
    last: Instant,
}

impl RunProgress {
    /// A renderer that draws where a terminal can show it.
    pub fn new(output: Output, interrupt: Interrupt) -> Self {
        let bar = output.draws.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(style(0));
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        Self {
            bar,
            output,
            interrupt,
            lines: Mutex::new(Lines { stage: None, last: Instant::now() }),
            total: AtomicU64::new(0),
        }
    }

    /// Shows a stage that another process is in.
    pub fn show(&self, stage: &Stage, done: u64, total: u64, note: &str) {
        let changed = self.lines.lock().is_ok_and(|lines| lines.stage != Some(*stage));
        if changed || self.total.load(Ordering::Relaxed) != total {
            self.stage(*stage, total);
        }
        self.advance(done, note);
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for RunProgress {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Progress for RunProgress {
    fn stage(&self, stage: Stage, total: u64) {
        self.total.store(total, Ordering::Relaxed);
        match &self.bar {
            Some(bar) => {
                bar.set_style(style(total));
                bar.reset();
                bar.set_length(total);
                bar.set_prefix(stage.to_string());
                bar.set_message(String::new());
                if let Ok(mut lines) = self.lines.lock() {
                    lines.stage = Some(stage);
                }
            }
            None => {
                let Ok(mut lines) = self.lines.lock() else {
                    return;
                };
                // Only the stages that take long are worth a line.
                if matches!(stage, Stage::FineTune | Stage::Evaluate) && lines.stage != Some(stage) {
                    self.output.note(format_args!("{stage} …"));
                }
                *lines = Lines { stage: Some(stage), last: Instant::now() };
            }
        }
    }

    fn advance(&self, done: u64, note: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(done);
                bar.set_message(note.to_owned());
            }
            None => {
                let Ok(mut lines) = self.lines.lock() else {
                    return;
                };
                if lines.last.elapsed() < LINE_EVERY {
                    return;
                }
                lines.last = Instant::now();
                let stage = lines.stage.map(|stage| stage.to_string()).unwrap_or_default();
                match self.total.load(Ordering::Relaxed) {
                    0 => self.output.note(format_args!("{stage}  {note}")),
                    total => self.output.note(format_args!("{stage}  {}%  {note}", (done * 100) / total)),
                }
            }
        }
    }

    fn is_cancelled(&self) -> bool {
        self.interrupt.is_asked()
    }
}

fn style(total: u64) -> ProgressStyle {
    let template = match total {
        0 => "{prefix:<10} {spinner} {msg}",
        _ => "{prefix:<10} [{bar:24}] {percent:>3}%  {msg}  {eta} left",
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

/// The progress of one file's download.
pub struct DownloadProgress {
    bar: Option<ProgressBar>,
    output: Output,
    announced: bool,
}

impl DownloadProgress {
    /// A renderer for the next file.
    pub fn new(output: Output) -> Self {
        Self { bar: None, output, announced: false }
    }
}

impl hf_hub::api::Progress for DownloadProgress {
    fn init(&mut self, size: usize, filename: &str) {
        if self.output.draws {
            let template = "{msg:<22} [{bar:24}] {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::with_draw_target(Some(size as u64), ProgressDrawTarget::stderr());
            self.bar = Some(bar.with_style(style.progress_chars("=> ")).with_message(filename.to_owned()));
        } else if !self.announced {
            self.output.note(format_args!("downloading {filename} ({})", crate::output::size(size as u64)));
        }
        self.announced = true;
    }

    fn update(&mut self, size: usize) {
        if let Some(bar) = &self.bar {
            bar.inc(size as u64);
        }
    }

    fn finish(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
