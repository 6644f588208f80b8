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
    pace: Pace,
}

/// How fast a stage goes: from its first sign of progress on, which in a run that was taken up again is not its beginning.
#[derive(Clone, Copy, Default)]
struct Pace {
    first: Option<(Instant, u64)>,
}

impl Pace {
    /// The time that is left at this pace; none while there is no telling.
    fn left(&mut self, now: Instant, done: u64, total: u64) -> Option<Duration> {
        let (since, from) = *self.first.get_or_insert((now, done));
        let (gone, more) = (done.checked_sub(from).filter(|gone| *gone > 0)?, total.checked_sub(done)?);
        Some(now.duration_since(since).mul_f64(more as f64 / gone as f64))
    }
}

/// Minutes and seconds as a person reads them: `40s left`, `2m 10s left`, `1h 05m left`.
fn in_words(left: Duration) -> String {
    match left.as_secs() {
        seconds @ 0..60 => format!("{seconds}s left"),
        seconds @ 60..3600 => format!("{}m {:02}s left", seconds / 60, seconds % 60),
        seconds => format!("{}h {:02}m left", seconds / 3600, seconds % 3600 / 60),
    }
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
            lines: Mutex::new(Lines { stage: None, last: Instant::now(), pace: Pace::default() }),
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
                    lines.pace = Pace::default();
                }
            }
            None => {
                let Ok(mut lines) = self.lines.lock() else {
                    return;
                };
                // Only the stages that take long are worth a line.
                if matches!(stage, Stage::Adapt | Stage::FineTune | Stage::Evaluate) && lines.stage != Some(stage) {
                    self.output.note(format_args!("{stage} …"));
                }
                *lines = Lines { stage: Some(stage), last: Instant::now(), pace: Pace::default() };
            }
        }
    }

    fn advance(&self, done: u64, note: &str) {
        let Ok(mut lines) = self.lines.lock() else {
            return;
        };
        let total = self.total.load(Ordering::Relaxed);
        let left = lines.pace.left(Instant::now(), done, total).map(in_words);
        let message = [note, left.as_deref().unwrap_or_default()].into_iter().filter(|part| !part.is_empty());
        let message = message.collect::<Vec<_>>().join("  ");
        match &self.bar {
            Some(bar) => {
                bar.set_position(done);
                bar.set_message(message);
            }
            None => {
                if lines.last.elapsed() < LINE_EVERY {
                    return;
                }
                lines.last = Instant::now();
                let stage = lines.stage.map(|stage| stage.to_string()).unwrap_or_default();
                match total {
                    0 => self.output.note(format_args!("{stage}  {message}")),
                    total => self.output.note(format_args!("{stage}  {}%  {message}", (done * 100) / total)),
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
        _ => "{prefix:<10} [{bar:24}] {percent:>3}%  {msg}",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_that_of_what_was_done_here() {
        let start = Instant::now();
        let mut pace = Pace::default();
        // Taken up at 600 of 1,000: what went before tells nothing of the pace.
        assert_eq!(pace.left(start, 600, 1000), None);
        assert_eq!(pace.left(start + Duration::from_secs(5), 600, 1000), None);
        assert_eq!(pace.left(start + Duration::from_secs(10), 700, 1000), Some(Duration::from_secs(30)));
        assert_eq!(pace.left(start + Duration::from_secs(40), 1000, 1000), Some(Duration::ZERO));
        assert_eq!(pace.left(start + Duration::from_secs(40), 1010, 1000), None);
    }

    #[test]
    fn time_left_in_words() {
        let words = |seconds| in_words(Duration::from_secs(seconds));
        assert_eq!(
            [words(0), words(59), words(130), words(3900)],
            ["0s left", "59s left", "2m 10s left", "1h 05m left"]
        );
    }
}
