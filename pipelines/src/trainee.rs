//! The joint model as burn-train's learner sees it: training step, validation step.
//!
//! Both are written out in [`crate::native`]; with [`Engine::Autodiff`] burn differentiates [`crate::autodiff`] instead.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Device;
use burn::train::{InferenceStep, TrainOutput, TrainStep};
use std::sync::Arc;

use crate::autodiff;
use crate::batch::Batch;
use crate::distilbert::{ForwardOptions, JointModel};
use crate::dropout::{DropoutSource, split_mix};
use crate::metrics::JointOutput;
use crate::mixed::Mixed;
use crate::native::{Dropout, Gradients, Network, Signal};
use crate::windows::WindowBatch;

/// What the loss depends on besides the model.
#[derive(Clone, Debug, Default)]
pub struct Objective {
    /// Label smoothing of the function head, in [0, 1].
    pub label_smoothing: f32,
    /// Weight of the argument loss.
    pub argument_loss_weight: f32,
    /// Weight of the distance between a text's embedding and the base's.
    pub embedding_loss_weight: f32,
    /// Weight of the distance to production's logits, where a text has them.
    pub distillation_weight: f32,
    /// What both logits are divided by before they are compared.
    pub distillation_temperature: f32,
    /// What is added to the function logits before their loss while training, see [`crate::prior`]; empty for nothing.
    pub function_surplus: Vec<f32>,
    /// Seed of the dropout masks.
    pub seed: u64,
    /// Dropout in the encoder while training.
    pub encoder_dropout: f64,
    /// Dropout before the heads while training.
    pub head_dropout: f64,
    /// The lowest layer whose weights are trained.
    pub first_trained_layer: usize,
    /// Who computes the steps.
    pub engine: Engine,
}

impl Objective {
    /// The dropout of the step on `batch`.
    fn dropout(&self, batch: &Mixed) -> Dropout {
        Dropout {
            stream: split_mix(self.seed ^ split_mix(batch.ragged().number)),
            encoder: self.encoder_dropout,
            head: self.head_dropout,
        }
    }
}

/// Who computes a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// The CPU, by [`crate::native`].
    #[default]
    Native,
    /// The device of the weights, differentiated by burn.
    Autodiff,
}

/// A model together with its objective.
#[derive(Module, Debug)]
pub struct Trainee {
    /// The weights.
    pub model: JointModel,
    #[module(skip)]
    objective: Arc<Objective>,
}

impl Trainee {
    /// Puts `model` in front of `objective`.
    pub fn new(model: JointModel, objective: Objective) -> Self {
        Self { model, objective: Arc::new(objective) }
    }

    fn device(&self) -> Device {
        self.model.pre_classifier.weight.device()
    }

    /// The weights that a batch needs.
    fn network(&self, batch: &Mixed) -> Network {
        let below_is_given = batch.ragged().below.is_some();
        let first = if below_is_given { self.objective.first_trained_layer } else { 0 };
        Network::read(&self.model, first, below_is_given)
    }

    /// Loss and gradients by [`crate::native`].
    fn native_step(&self, batch: &Mixed) -> TrainOutput<JointOutput> {
        let network = self.network(batch);
        let objective = &*self.objective;
        let mut gradients = Gradients::new(&self.device().inner());
        let signal = Signal::Learn(Some(objective.dropout(batch)), &mut gradients);
        let loss = match batch {
            Mixed::Texts(batch) => network.texts(batch, objective, signal).loss,
            Mixed::Windows(batch) => network.windows(batch, objective, signal).loss,
        };
        TrainOutput { grads: gradients.into_params(), item: JointOutput { loss, ..batch.counted() } }
    }

    fn autodiff_step(&self, batch: &Mixed) -> TrainOutput<JointOutput> {
        let objective = &*self.objective;
        let device = self.device();
        let ragged = batch.ragged();
        let masks = DropoutSource::new(objective.dropout(batch), &ragged.starts, ragged.longest().max(1));
        let options = ForwardOptions { dropout: Some(masks), ..self.options() };
        let loss = match batch {
            Mixed::Texts(batch) => {
                autodiff::texts(&self.model, objective, batch, &options, &objective.function_surplus, &device).loss
            }
            Mixed::Windows(batch) => autodiff::windows(&self.model, objective, batch, &options, &device).loss,
        };
        let number = loss.clone().inner();
        let grads = GradientsParams::from_grads(loss.backward(), self);
        // Reading the loss waits for the device, so everything is under way before.
        TrainOutput { grads, item: JointOutput { loss: autodiff::value(number), ..batch.counted() } }
    }

    /// Of a step that burn computes, without dropout.
    fn options(&self) -> ForwardOptions {
        ForwardOptions { dropout: None, first_trained_layer: self.objective.first_trained_layer }
    }

    fn score_texts(&self, batch: &Batch, network: Option<&Network>) -> JointOutput {
        let objective = &*self.objective;
        let (loss, functions, tags) = match network {
            Some(network) => {
                let scores = network.texts(batch, objective, Signal::Score);
                let tags = right(&scores.tags, &batch.tags);
                (scores.loss, right(&scores.functions, &batch.functions), tags)
            }
            None => {
                let options = self.options();
                let scores = autodiff::texts(&self.model, objective, batch, &options, &[], &self.device());
                let tags = scores.tags.map(|tags| autodiff::matches(tags, &batch.tags)).unwrap_or_default();
                (autodiff::value(scores.loss), autodiff::matches(scores.functions, &batch.functions), tags)
            }
        };
        let mut words = tags.iter();
        let mut exact = 0;
        for (function_right, count) in functions.iter().zip(&batch.word_counts) {
            let arguments_right = words.by_ref().take(*count).fold(true, |all, right| all & right);
            exact += usize::from(*function_right && arguments_right);
        }
        JointOutput {
            loss,
            examples: functions.len(),
            functions_right: functions.iter().filter(|right| **right).count(),
            exact,
            ..JointOutput::default()
        }
    }

    fn score_windows(&self, batch: &WindowBatch, network: Option<&Network>) -> JointOutput {
        let objective = &*self.objective;
        let (loss, starts, ends) = match network {
            Some(network) => {
                let scores = network.windows(batch, objective, Signal::Score);
                let side = |side: usize, places: &[u32]| -> Vec<bool> {
                    let sequences = batch.ragged.starts.windows(2).zip(places);
                    let row = |pair: &[usize]| -> Vec<f32> {
                        (pair[0]..pair[1]).map(|row| scores.logits[2 * row + side]).collect()
                    };
                    sequences.map(|(pair, place)| largest(&row(pair)) == *place as usize).collect()
                };
                (scores.loss, side(0, &batch.starts), side(1, &batch.ends))
            }
            None => {
                let options = self.options();
                let scores = autodiff::windows(&self.model, objective, batch, &options, &self.device());
                let [starts, ends] = scores.logits;
                let places = (autodiff::matches(starts, &batch.starts), autodiff::matches(ends, &batch.ends));
                (autodiff::value(scores.loss), places.0, places.1)
            }
        };
        let both = starts.iter().zip(&ends).filter(|(start, end)| **start && **end).count();
        JointOutput { loss, questions: starts.len(), spans_right: both, ..JointOutput::default() }
    }
}

impl TrainStep for Trainee {
    type Input = Mixed;
    type Output = JointOutput;

    fn step(&self, batch: Mixed) -> TrainOutput<JointOutput> {
        match self.objective.engine {
            Engine::Native => self.native_step(&batch),
            Engine::Autodiff => self.autodiff_step(&batch),
        }
    }
}

impl InferenceStep for Trainee {
    type Input = Mixed;
    type Output = JointOutput;

    fn step(&self, batch: Mixed) -> JointOutput {
        let network = (self.objective.engine == Engine::Native).then(|| self.network(&batch));
        match &batch {
            Mixed::Texts(batch) => self.score_texts(batch, network.as_ref()),
            Mixed::Windows(batch) => self.score_windows(batch, network.as_ref()),
        }
    }
}

/// Whether the largest logit of each row is the target's.
fn right(logits: &[f32], targets: &[u32]) -> Vec<bool> {
    let classes = logits.len() / targets.len().max(1);
    let rows = logits.chunks_exact(classes.max(1)).zip(targets);
    rows.map(|(row, target)| largest(row) == *target as usize).collect()
}

/// The first of the largest numbers.
pub(crate) fn largest(row: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in row.iter().enumerate() {
        if *value > row[best] {
            best = index;
        }
    }
    best
}
