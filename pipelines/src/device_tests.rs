//! Whole fine-tunes of a tiny model by burn's differentiation, beside those by the CPU's own steps.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::device::{Compute, host};
use crate::distilbert::JointModel;
use crate::error::Error;
use crate::fine_tune::{FineTuneInput, FineTuned, QuestionInput, fine_tune, freeze_model};
use crate::native::Network;
use crate::native::tests::{embedding, examples, model};
use crate::progress::{NoProgress, Progress};
use crate::reference_tests::StopIn;
use crate::settings::TrainingSettings;
use crate::trainee::Engine;
use crate::weights;
use crate::windows::AnswerWindow;

/// How far two runs may lie apart.
#[derive(Clone, Copy)]
struct Tolerance {
    /// Of the losses of an epoch, in nats.
    loss: f64,
    /// Of the weights, which move by up to some 0.02.
    weight: f32,
}

/// Sums are taken in another order.
const HERE: Tolerance = Tolerance { loss: 1e-5, weight: 5e-5 };
/// Exponentials and roots are less exact as well, and AdamW makes much of a derivative that is little.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
const THERE: Tolerance = Tolerance { loss: 1e-3, weight: 5e-3 };
/// In a process of its own a run that goes on gives the same bytes. In the process of the run that was stopped it has been
/// seen to differ with wgpu, by up to a thousandth of the loss, which is about ten here; the cause was not found.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
const RESUMED: Tolerance = Tolerance { loss: 5e-2, weight: 2e-2 };

/// Everything that is learned at once: functions, arguments, embeddings, production's logits, answers.
fn tune(
    compute: &Compute,
    settings: &TrainingSettings,
    directory: &Path,
    progress: &dyn Progress,
) -> Result<FineTuned, Error> {
    let model = model(&host().autodiff());
    let mut train = examples();
    if settings.frozen_layers > 0 {
        let network = Network::read(&freeze_model(model.clone(), settings).unwrap(), 0, false);
        for example in &mut train {
            example.below = Some(Arc::new(network.below_first_trained(&example.input_ids)));
        }
    }
    let window = |length: usize, start: u32, end: u32, seed: usize| AnswerWindow {
        input_ids: (0..length).map(|n| ((n * 7 + seed) % 50) as u32).collect(),
        start,
        end,
        embedding: embedding(seed),
    };
    let windows = vec![window(11, 4, 6, 1), window(16, 0, 0, 2), window(9, 2, 2, 3)];
    let input = FineTuneInput {
        model,
        compute,
        validation: train.clone(),
        train,
        questions: QuestionInput { train: windows.clone(), validation: windows, passes: 2 },
        function_surplus: vec![0.2, 0.0, -0.1, 0.0, 0.1],
        epochs: 4,
        learning_rate: 1e-3,
        head_learning_rate: 2e-3,
        batch_size: 2,
        settings,
        directory,
        checkpoint_every: Duration::ZERO,
    };
    fine_tune(input, progress)
}

fn settings(frozen_layers: usize) -> TrainingSettings {
    TrainingSettings {
        frozen_layers,
        freeze_embeddings: frozen_layers > 0,
        layer_decay: 0.9,
        start_decay: 0.01,
        answer_batch_size: 2,
        ..TrainingSettings::default()
    }
}

#[derive(Default)]
struct Named {
    path: Vec<String>,
    found: BTreeMap<String, Vec<f32>>,
}

impl ModuleVisitor for Named {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.found.insert(self.path.join("."), weights::values(param.val()).unwrap());
    }
}

fn named(model: &JointModel) -> BTreeMap<String, Vec<f32>> {
    let mut visitor = Named::default();
    model.visit(&mut visitor);
    visitor.found
}

/// The largest differences of a loss and of a weight, with its name.
fn differences(a: &FineTuned, b: &FineTuned) -> (f64, (f32, String)) {
    assert_eq!(a.history.len(), b.history.len());
    let losses = a.history.iter().zip(&b.history).flat_map(|(a, b)| {
        [a.train["loss"] - b.train["loss"], a.validation["loss"] - b.validation["loss"]].map(f64::abs)
    });
    let (ours, theirs) = (named(&a.model), named(&b.model));
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    // The derivatives by these are zero, and AdamW takes the rounding that is left of them for a direction.
    let is_idle = |name: &str| name.ends_with("k_lin.bias") || name == "qa_outputs.bias";
    let weights = ours.iter().filter(|(name, _)| !is_idle(name)).map(|(name, values)| {
        let worst = values.iter().zip(&theirs[name]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        (worst, name.clone())
    });
    let worst = weights.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
    (losses.fold(0.0, f64::max), worst)
}

fn assert_alike(what: &str, tolerance: Tolerance, a: &FineTuned, b: &FineTuned) {
    let (loss, (weight, name)) = differences(a, b);
    if loss >= tolerance.loss {
        let losses = |tuned: &FineTuned| -> Vec<(f64, f64)> {
            tuned.history.iter().map(|epoch| (epoch.train["loss"], epoch.validation["loss"])).collect()
        };
        println!("{what}, after epoch {}: {:?} {:?}", b.resumed_after, losses(a), losses(b));
    }
    println!("{what}: losses within {loss:.1e}, weights within {weight:.1e} ({name})");
    assert!(loss < tolerance.loss && weight < tolerance.weight, "{what}: {loss} {weight} {name}");
    assert_eq!(a.best_epoch, b.best_epoch);
}

fn moved(tuned: &FineTuned) -> f32 {
    let before = named(&model(&host().autodiff()));
    let after = named(&tuned.model);
    let pairs = before.iter().flat_map(|(name, values)| values.iter().zip(&after[name]));
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn stopped_and_resumed(compute: &Compute, frozen: usize) -> FineTuned {
    let directory = tempfile::tempdir().unwrap();
    let stopped = tune(compute, &settings(frozen), directory.path(), &StopIn::epoch(3));
    assert!(matches!(stopped, Err(Error::Cancelled)));
    let resumed = tune(compute, &settings(frozen), directory.path(), &NoProgress).unwrap();
    assert!(resumed.resumed_after > 0);
    resumed
}

#[test]
fn burns_differentiation_trains_what_the_native_step_trains() {
    let burn = Compute { engine: Engine::Autodiff, ..Compute::cpu() };
    for frozen in [0, 2] {
        let run = |compute: &Compute| {
            let directory = tempfile::tempdir().unwrap();
            tune(compute, &settings(frozen), directory.path(), &NoProgress).unwrap()
        };
        let (native, differentiated) = (run(&Compute::cpu()), run(&burn));
        assert!(moved(&native) > 5e-3);
        assert_alike(&format!("{frozen} frozen layers"), HERE, &native, &differentiated);
        assert_alike("after a stop", HERE, &differentiated, &stopped_and_resumed(&burn, frozen));
    }
}

/// What the cards that this program was built for compute, where there are any.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
#[test]
fn a_card_trains_what_the_processor_trains_and_goes_on_after_a_stop() {
    use crate::device::TrainingDevice;

    for device in [TrainingDevice::Cuda(None), TrainingDevice::Wgpu(None)] {
        if device.check_built().is_err() {
            continue;
        }
        let card = match device.open() {
            Ok(card) => card,
            Err(error) => {
                println!("skipped: {error}");
                continue;
            }
        };
        // With CUDA burn's matrix products round to the ten bits of TF32, where the card has it.
        let tolerance = match device {
            TrainingDevice::Cuda(_) => Tolerance { loss: 3e-2, weight: 2e-2 },
            _ => THERE,
        };
        for frozen in [0, 2] {
            let run = |compute: &Compute| {
                let directory = tempfile::tempdir().unwrap();
                tune(compute, &settings(frozen), directory.path(), &NoProgress).unwrap()
            };
            let undisturbed = run(&card);
            let what = format!("{}, {frozen} frozen layers", card.name);
            assert_alike(&what, tolerance, &run(&Compute::cpu()), &undisturbed);

            let resumed = stopped_and_resumed(&card, frozen);
            assert_alike("after a stop", RESUMED, &undisturbed, &resumed);
        }
    }
}
