//! Fine-tuning with burn-train: its learner, metrics, checkpoints and early stopping.
//!
//! The same seed, examples and machine give the same weights: orders and dropout masks come from the
//! run's own seed, and the best epoch is chosen by validation alone. That holds for a run that was killed or stopped and
//! taken up again, too: see [`crate::checkpoints`].

use burn::module::{Module, ParamGroup};
use burn::optim::ModuleOptimizer;
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::train::{Interrupter, Learner, SupervisedTraining};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use crate::adamw::AdamW;
use crate::batch::{EncodedExample, Order};
use crate::checkpoints::{Checkpoints, Keep, Patience, best_epoch, is_exhausted};
use crate::device::{Compute, host};
use crate::distilbert::JointModel;
use crate::error::Error;
use crate::metrics::{ExactMatch, FunctionAccuracy, Loss, Mean, Score, SpanMatch};
use crate::mixed::{MixedLoader, WindowRun};
use crate::progress::{Progress, Stage};
use crate::renderer::{EpochScores, History, ScoreLogger, Tick, TickRenderer};
use crate::schedule::WarmupLinear;
use crate::settings::TrainingSettings;
use crate::trainee::{Objective, Trainee};
use crate::windows::AnswerWindow;

/// What a fine-tune starts from.
pub struct FineTuneInput<'a> {
    /// Weights with gradients, heads grown to the labels of the examples.
    pub model: JointModel,
    /// Where the steps are computed.
    pub compute: &'a Compute,
    /// Examples whose loss is minimised.
    pub train: Vec<EncodedExample>,
    /// Examples that choose the best epoch.
    pub validation: Vec<EncodedExample>,
    /// Questions to be learned beside the examples; none by default.
    pub questions: QuestionInput,
    /// What is added to the function logits before their loss, see [`crate::prior`]; empty for nothing.
    pub function_surplus: Vec<f32>,
    /// Passes over `train`.
    pub epochs: usize,
    /// Peak learning rate of the encoder.
    pub learning_rate: f64,
    /// Peak learning rate of the heads.
    pub head_learning_rate: f64,
    /// Examples in a batch.
    pub batch_size: usize,
    /// Everything else.
    pub settings: &'a TrainingSettings,
    /// Where the checkpoints of the run lie. Those of a run with the same inputs are gone on from.
    pub directory: &'a Path,
    /// After how long an epoch is kept that is not the best one.
    pub checkpoint_every: Duration,
}

/// Questions beside their passages.
#[derive(Default)]
pub struct QuestionInput {
    /// Windows whose loss is minimised.
    pub train: Vec<AnswerWindow>,
    /// Windows that choose the best epoch together with the examples.
    pub validation: Vec<AnswerWindow>,
    /// Passes over `train` in the whole run.
    pub passes: usize,
}

/// What a fine-tune made.
pub struct FineTuned {
    /// The weights of the best epoch, on the CPU.
    pub model: JointModel,
    /// Which epoch that was, counted from 1.
    pub best_epoch: usize,
    /// Scores of every epoch that was run.
    pub history: Vec<EpochScores>,
    /// Windows of questions that all epochs were to see.
    pub questions: usize,
    /// Epochs that an earlier run had behind it; 0 when this one began at the beginning.
    pub resumed_after: usize,
}

/// Trains until the epochs are over, validation stops getting better, or `progress` is cancelled.
///
/// # Errors
/// [`Error::Cancelled`], [`Error::Diverged`], and what burn reports.
pub fn fine_tune(input: FineTuneInput<'_>, progress: &dyn Progress) -> Result<FineTuned, Error> {
    let epochs = input.epochs;
    let total = (epochs * input.train.len() + input.questions.passes * input.questions.train.len()) as u64;
    progress.stage(Stage::FineTune, total);
    let (ticks, received) = channel();
    let cancelled = Arc::new(AtomicBool::new(false));
    let history = History::default();
    let run = Run { is_cancelled: cancelled.clone(), ticks, history: history.clone() };
    std::thread::scope(|scope| {
        let training = scope.spawn(move || run.launch(input));
        report(&received, &history, epochs, progress, &cancelled);
        match training.join() {
            Ok(result) => result,
            Err(panic) => Err(Error::Training { message: panic_message(panic.as_ref()) }),
        }
    })
}

/// Passes ticks on until the training thread hangs up.
fn report(
    received: &Receiver<Tick>,
    history: &History,
    epochs: usize,
    progress: &dyn Progress,
    cancelled: &AtomicBool,
) {
    loop {
        cancelled.store(progress.is_cancelled(), Ordering::Relaxed);
        match received.recv_timeout(Duration::from_millis(100)) {
            Ok(tick) => {
                let score = history.last_validation("exact match").or_else(|| history.last_validation("span match"));
                let note = match score {
                    Some(exact) => format!("epoch {}/{epochs}, validation {exact:.1} %", tick.epoch),
                    None => format!("epoch {}/{epochs}", tick.epoch),
                };
                progress.advance(tick.seen as u64, &note);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

struct Run {
    ticks: std::sync::mpsc::Sender<Tick>,
    is_cancelled: Arc<AtomicBool>,
    history: History,
}

impl Run {
    fn launch(self, input: FineTuneInput<'_>) -> Result<FineTuned, Error> {
        let settings = input.settings;
        let order = Order::Shuffled { seed: settings.seed };
        let (has_texts, has_questions) = (!input.validation.is_empty(), !input.questions.validation.is_empty());
        let windows = |windows, passes| WindowRun {
            windows,
            passes,
            epochs: input.epochs,
            batch_size: settings.answer_batch_size,
        };
        let checkpoints = Checkpoints::of(input.directory);
        let past = checkpoints.past();
        let resumed_after = checkpoints.goes_on_after(input.epochs);
        self.history.restore(past[..resumed_after].to_vec());
        checkpoints.forget_after(resumed_after)?;
        let questions = windows(input.questions.train, input.questions.passes);
        let (question_steps, questions_seen) = (questions.batches(), questions.windows.len() * questions.passes);
        let train = MixedLoader::new(input.train, questions, input.batch_size, order).after(resumed_after);
        let steps = train.text_batches() * input.epochs + question_steps;
        let validation = MixedLoader::new(
            input.validation,
            windows(input.questions.validation, 1),
            input.batch_size * 4,
            Order::Fixed,
        );
        let learning_rate = input.learning_rate;
        let peaks = (learning_rate, input.head_learning_rate);
        let scheduler = schedule(settings, peaks, steps, input.model.distilbert.transformer.layer.len())?;
        let optimizer = ModuleOptimizer::from(AdamW::of(settings));
        let objective = Objective {
            label_smoothing: settings.label_smoothing,
            argument_loss_weight: settings.argument_loss_weight,
            embedding_loss_weight: settings.embedding_loss_weight,
            distillation_weight: settings.distillation_weight,
            distillation_temperature: settings.distillation_temperature,
            function_surplus: input.function_surplus,
            seed: settings.seed,
            encoder_dropout: settings.dropout,
            head_dropout: settings.head_dropout,
            first_trained_layer: settings.frozen_layers.min(input.model.distilbert.transformer.layer.len()),
            engine: input.compute.engine,
        };
        let model = input.model.fork(&input.compute.device);
        let trainee = Trainee::new(freeze_model(model, settings)?, objective);
        let template = trainee.clone();
        let tuned = |history: &History| {
            let epochs = history.epochs();
            let best_epoch = best_epoch(&history.scores()).ok_or(Error::Diverged)?;
            let model = template.load_record(checkpoints.model(best_epoch)?).model.valid().to_device(&host());
            if !crate::weights::is_finite(&model)? {
                return Err(Error::Diverged);
            }
            Ok(FineTuned { model, best_epoch, history: epochs, questions: questions_seen, resumed_after })
        };
        if resumed_after == input.epochs || is_exhausted(&self.history.scores(), settings.patience) {
            return tuned(&self.history);
        }
        let interrupter = Interrupter::new();
        let is_cancelled = {
            let flag = self.is_cancelled.clone();
            Box::new(move || flag.load(Ordering::Relaxed))
        };
        let renderer = TickRenderer::new(self.ticks, is_cancelled, interrupter.clone());
        let mut training = SupervisedTraining::new(input.directory, Arc::new(train), Arc::new(validation))
            .metric_train_numeric(Mean::<Loss>::new())
            .metric_valid_numeric(Mean::<Loss>::new());
        if has_texts {
            training = training
                .metric_valid_numeric(Mean::<FunctionAccuracy>::new())
                .metric_valid_numeric(Mean::<ExactMatch>::new());
        }
        if has_questions {
            training = training.metric_valid_numeric(Mean::<SpanMatch>::new());
        }
        if resumed_after > 0 {
            training = training.checkpoint(resumed_after);
        }
        let kept = best_epoch(&self.history.scores()).into_iter().filter(|best| *best < resumed_after);
        let keep = Keep::new(
            Checkpoints::of(input.directory),
            self.history.clone(),
            interrupter.clone(),
            input.checkpoint_every,
            kept.chain((resumed_after > 0).then_some(resumed_after)).collect(),
        );
        let (writes, (weights, moments, rates)) = (keep.writes(), keep.checkpointers());
        let training = training
            .metric_valid_numeric(Mean::<Score>::new())
            .with_metric_logger(ScoreLogger::new(self.history.clone()))
            .with_application_logger(None)
            .with_interrupter(interrupter)
            .renderer(Box::new(renderer))
            .with_custom_checkpointers(weights, moments, rates)
            .with_checkpointing_strategy(keep)
            .early_stopping(Patience { history: self.history.clone(), patience: settings.patience })
            .num_epochs(input.epochs);
        let result = training.launch(Learner::new(trainee, optimizer, scheduler));
        // What a stopped run has under way on a card is over before another one begins there.
        let settled = input.compute.device.sync();
        if let Some(error) = result.error {
            return Err(Error::Training { message: error.to_string() });
        }
        if result.interrupted.is_some() || self.is_cancelled.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        settled.map_err(|source| Error::Training { message: source.to_string() })?;
        // burn saves in the background: hang up and wait before the best epoch is read.
        drop(result.renderer);
        if let Some(message) = writes.failure() {
            return Err(Error::Training { message });
        }
        tuned(&self.history)
    }
}

/// Takes the gradients from what `settings` leaves as it is.
pub(crate) fn freeze_model(model: JointModel, settings: &TrainingSettings) -> Result<JointModel, Error> {
    let mut frozen = Vec::new();
    if settings.freeze_embeddings || settings.frozen_layers > 0 {
        frozen.push("embeddings".to_string());
    }
    frozen.extend((0..settings.frozen_layers).map(|layer| format!(r"transformer\.layer\.{layer}")));
    if frozen.is_empty() {
        return Ok(model);
    }
    let group = group(&format!(r"^distilbert\.({})\.", frozen.join("|")))?;
    Ok(model.freeze_group(group))
}

/// One schedule for the encoder, others for the heads and, with layer decay, for every layer.
fn schedule(
    settings: &TrainingSettings,
    (peak, head_peak): (f64, f64),
    steps: usize,
    layers: usize,
) -> Result<ModuleLrScheduler, Error> {
    let rate = |factor: f64| WarmupLinear::new(peak * factor, settings.warmup_ratio, steps);
    let mut scheduler = ModuleLrScheduler::new(rate(1.0));
    if settings.layer_decay != 1.0 {
        for layer in 0..layers {
            let factor = settings.layer_decay.powi((layers - 1 - layer) as i32);
            let group = group(&format!(r"^model\.distilbert\.transformer\.layer\.{layer}\."))?;
            scheduler = scheduler.with_group(group, rate(factor));
        }
        let group = group(r"^model\.distilbert\.embeddings\.")?;
        scheduler = scheduler.with_group(group, rate(settings.layer_decay.powi(layers as i32)));
    }
    if head_peak != peak {
        let group = group(r"^model\.(pre_classifier|classifier|slot_classifier|qa_outputs)\.")?;
        scheduler = scheduler.with_group(group, rate(head_peak / peak));
    }
    Ok(scheduler)
}

fn group(pattern: &str) -> Result<ParamGroup, Error> {
    ParamGroup::from_regex(pattern).map_err(|source| Error::Training { message: format!("{source:?}") })
}

pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|message| message.to_string()))
        .unwrap_or_else(|| "an unexpected failure".into())
}
