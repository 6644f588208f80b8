//! The time of a training step, on made-up texts.

use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::train::TrainStep;
use mynah_runtime::{Checkpoint, Labels};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::adamw::AdamW;
use crate::batch::{Batch, EncodedExample};
use crate::device::{TrainingDevice, host};
use crate::error::Error;
use crate::fine_tune::freeze_model;
use crate::mixed::Mixed;
use crate::native::Network;
use crate::settings::TrainingSettings;
use crate::trainee::{Engine, Objective, Trainee};
use crate::weights;

/// Functions that the texts are told apart by.
const FUNCTIONS: usize = 64;
/// Steps before the first that counts.
const WARM_UP: usize = 3;
/// Steps that count, however long they take.
const FEWEST: usize = 5;

/// What is timed.
#[derive(Clone, Copy, Debug)]
pub struct StepShape {
    /// Texts of a batch.
    pub batch: usize,
    /// Tokens of every text.
    pub tokens: usize,
    /// Lower layers that are not trained; with any, the embeddings are not either.
    pub frozen: usize,
    /// Whether what lies below the trained layers was computed before.
    pub cached: bool,
    /// Whether burn differentiates the step instead of Mynah, which it does on graphics cards in any case.
    pub autodiff: bool,
    /// Where it is computed.
    pub device: TrainingDevice,
    /// Threads.
    pub threads: usize,
}

/// Times whole steps (forward, loss, backward, AdamW) on `checkpoint` for about `budget`: the median.
///
/// # Errors
/// A checkpoint that cannot be loaded, a device that is not there, or no threads.
pub fn time_steps(checkpoint: &Checkpoint, shape: StepShape, budget: Duration) -> Result<Duration, Error> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(shape.threads)
        .build()
        .map_err(|source| Error::Training { message: source.to_string() })?;
    pool.install(|| time(checkpoint, shape, budget))
}

fn time(checkpoint: &Checkpoint, shape: StepShape, budget: Duration) -> Result<Duration, Error> {
    let labels =
        Labels { functions: (0..FUNCTIONS).map(|function| format!("f{function}")).collect(), ..Labels::default() };
    let settings = TrainingSettings {
        frozen_layers: shape.frozen,
        freeze_embeddings: shape.frozen > 0,
        ..TrainingSettings::default()
    };
    let compute = shape.device.open()?;
    let objective = Objective {
        encoder_dropout: settings.dropout,
        first_trained_layer: shape.frozen,
        engine: if shape.autodiff { Engine::Autodiff } else { compute.engine },
        ..Objective::default()
    };
    let model = freeze_model(weights::load(checkpoint, &labels, settings.seed, &host().autodiff())?, &settings)?;
    let mut optimizer = ModuleOptimizer::from(AdamW { start_decay: 0.0, ..AdamW::of(&settings) });
    let highest = checkpoint.config().vocab_size as u32 - 1;
    let mut examples: Vec<EncodedExample> = (0..shape.batch)
        .map(|text| {
            let input_ids = (0..shape.tokens)
                .map(|token| (((text * shape.tokens + token) * 7919 % 9000 + 1000) as u32).min(highest))
                .collect();
            EncodedExample::plain(input_ids, (text % FUNCTIONS) as u32)
        })
        .collect();
    if shape.cached {
        let network = Network::read(&model, 0, false);
        for example in &mut examples {
            example.below = Some(Arc::new(network.below_first_trained(&example.input_ids)));
        }
    }
    let mut trainee = Trainee::new(model.fork(&compute.device), objective);
    let batch = Mixed::Texts(Box::new(Batch::new(&examples.iter().collect::<Vec<_>>())));
    let (mut times, mut started) = (Vec::new(), Instant::now());
    for step in 0.. {
        let before = Instant::now();
        let output = TrainStep::step(&trainee, batch.clone());
        // As burn-train's learner does, which keeps a copy of the module while the optimizer works.
        trainee = trainee.clone().optimize(&mut optimizer, ModuleLearningRate::from(5e-5), output.grads);
        // A card computes behind the program's back.
        compute.device.sync().map_err(|source| Error::Training { message: source.to_string() })?;
        match step + 1 {
            WARM_UP => started = Instant::now(),
            warm if warm > WARM_UP => times.push(before.elapsed()),
            _ => {}
        }
        if times.len() >= FEWEST && started.elapsed() >= budget {
            break;
        }
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}
