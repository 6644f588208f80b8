//! Between burn-train and [`Progress`](crate::Progress): no terminal interface, no printing.

use burn::train::logger::{EvaluationProgressLogger, MetricLogger, TrainingProgressLogger};
use burn::train::metric::store::{EpochSummary, MetricsUpdate, Split};
use burn::train::metric::{MetricDefinition, MetricId, NumericEntry};
use burn::train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation, MetricsRendererTraining,
};
use burn::train::{Interrupter, LearnerSummary};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};

use crate::metrics::{Quantity, Score};

/// The scores of one epoch.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EpochScores {
    /// Counted from 1.
    pub epoch: usize,
    /// Means over the training split, by metric.
    pub train: BTreeMap<String, f64>,
    /// Means over the validation split, by metric.
    pub validation: BTreeMap<String, f64>,
}

/// The scores of a run so far, shared between its logger and whoever reads them.
#[derive(Clone, Debug, Default)]
pub struct History(Arc<Mutex<Vec<EpochScores>>>);

impl History {
    /// A copy of all epochs.
    pub fn epochs(&self) -> Vec<EpochScores> {
        self.0.lock().map(|epochs| epochs.clone()).unwrap_or_default()
    }

    /// The mean of a validation metric in the last epoch that has one.
    pub fn last_validation(&self, metric: &str) -> Option<f64> {
        let epochs = self.0.lock().ok()?;
        epochs.iter().rev().find_map(|epoch| epoch.validation.get(metric).copied())
    }

    /// The score of every epoch, which chooses the best; not a number where there is none.
    pub fn scores(&self) -> Vec<f64> {
        let score = |epoch: &EpochScores| epoch.validation.get(Score::NAME).copied().unwrap_or(f64::NAN);
        self.0.lock().map(|epochs| epochs.iter().map(score).collect()).unwrap_or_default()
    }

    /// Starts from the epochs of a run that was stopped.
    pub fn restore(&self, past: Vec<EpochScores>) {
        if let Ok(mut epochs) = self.0.lock() {
            *epochs = past;
        }
    }

    fn record(&self, epoch: usize, split: &Split, metric: &str, value: f64) {
        let Ok(mut epochs) = self.0.lock() else { return };
        let position = epochs.iter().position(|known| known.epoch == epoch);
        let position = position.unwrap_or_else(|| {
            epochs.push(EpochScores { epoch, ..EpochScores::default() });
            epochs.len() - 1
        });
        let scores = match split {
            Split::Train => &mut epochs[position].train,
            _ => &mut epochs[position].validation,
        };
        scores.insert(metric.to_string(), value);
    }
}

/// Fills the history, where checkpointing and early stopping read it.
#[derive(Default)]
pub struct ScoreLogger {
    names: HashMap<MetricId, String>,
    history: History,
}

impl ScoreLogger {
    /// A logger that fills `history`.
    pub fn new(history: History) -> Self {
        Self { history, ..Self::default() }
    }
}

impl MetricLogger for ScoreLogger {
    fn log(&mut self, update: MetricsUpdate, epoch: usize, split: &Split) {
        for numeric in update.entries_numeric {
            let Some(name) = self.names.get(&numeric.entry.metric_id) else { continue };
            if let Some(running) = &numeric.running_entry {
                self.history.record(epoch, split, name, running.current());
            }
        }
    }

    /// Nobody asks burn's store: what is decided by scores is decided by the history, which survives a kill.
    fn read_numeric(&mut self, _name: &str, _epoch: usize, _split: &Split) -> Result<Vec<NumericEntry>, String> {
        Ok(Vec::new())
    }

    fn log_metric_definition(&mut self, definition: MetricDefinition) {
        self.names.insert(definition.metric_id, definition.name.to_string());
    }

    fn log_epoch_summary(&mut self, _summary: EpochSummary) {}
}

/// A step of training, told to the thread that owns the progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// Counted from 1.
    pub epoch: usize,
    /// Training examples seen in all epochs.
    pub seen: usize,
}

/// Turns burn-train's callbacks into [`Tick`]s and looks whether the run should stop.
pub struct TickRenderer {
    ticks: Sender<Tick>,
    is_cancelled: Box<dyn Fn() -> bool + Send + Sync>,
    interrupter: Interrupter,
    epoch: usize,
    per_epoch: usize,
    in_training: bool,
}

impl TickRenderer {
    /// Sends to `ticks` and stops through `interrupter` once `is_cancelled` says so.
    pub fn new(
        ticks: Sender<Tick>,
        is_cancelled: Box<dyn Fn() -> bool + Send + Sync>,
        interrupter: Interrupter,
    ) -> Self {
        Self { ticks, is_cancelled, interrupter, epoch: 1, per_epoch: 0, in_training: true }
    }

    fn look(&self) {
        if (self.is_cancelled)() {
            self.interrupter.stop(Some("stopped on request"));
        }
    }
}

impl MetricsRendererTraining for TickRenderer {
    fn update_train(&mut self, _state: MetricState) {}
    fn update_valid(&mut self, _state: MetricState) {}
    fn on_train_end(&mut self, _summary: Option<LearnerSummary>) -> Result<(), Box<dyn core::error::Error>> {
        Ok(())
    }
}

impl TrainingProgressLogger for TickRenderer {
    fn start(
        &mut self,
        _total_epochs: usize,
        starting_epoch: usize,
        _total_items: Option<usize>,
        _label: Option<&str>,
    ) {
        self.epoch = starting_epoch;
    }

    fn update_epoch(&mut self, epoch: usize) {
        self.epoch = epoch + 1;
    }

    fn start_split(&mut self, split: &str, total_items: usize) {
        self.in_training = split == "train";
        if self.in_training {
            self.per_epoch = total_items;
        }
    }

    fn update_split(&mut self, items_processed: usize) {
        self.look();
        if self.in_training {
            let seen = (self.epoch.saturating_sub(1)) * self.per_epoch + items_processed;
            // Nobody listening is no reason to stop.
            let _ = self.ticks.send(Tick { epoch: self.epoch, seen });
        }
    }

    fn end_split(&mut self) {}
    fn end(&mut self) {}
    fn log_event_training(&mut self, _event: String) {}
}

impl EvaluationProgressLogger for TickRenderer {
    fn start_global_progress(&mut self, _total_tests: usize) {}
    fn start_test(&mut self, _name: &str, _total_items: usize) {}
    fn update_test_progress(&mut self, _items_processed: usize) {}
    fn end_test(&mut self) {}
    fn end_global_progress(&mut self) {}
    fn log_event_evaluation(&mut self, _event: String) {}
}

impl MetricsRendererEvaluation for TickRenderer {
    fn update_test(&mut self, _name: EvaluationName, _state: MetricState) {}
}

impl MetricsRenderer for TickRenderer {
    fn manual_close(&mut self) {}
    fn register_metric(&mut self, _definition: MetricDefinition) {}
}
