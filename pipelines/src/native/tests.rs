//! The CPU's own step against burn's differentiation, against numeric differences, and against itself.

use burn::module::{Module, ModuleVisitor, Param, ParamGroup};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use mynah_runtime::{Checkpoint, Config};
use std::collections::BTreeMap;
use std::sync::Arc;

mod masked;

use super::{Dropout, Gradients, Network, Signal};
use crate::autodiff;
use crate::batch::{Batch, EncodedExample, Teacher};
use crate::distilbert::{ForwardOptions, JointModel};
use crate::dropout::split_mix;
use crate::trainee::Objective;
use crate::weights;
use crate::windows::{AnswerWindow, WindowBatch};

const FUNCTIONS: usize = 5;
const TAGS: usize = 4;

fn config() -> Config {
    let starter = Checkpoint::starter().unwrap();
    Config {
        dim: 24,
        n_layers: 3,
        n_heads: 3,
        hidden_dim: 40,
        vocab_size: 50,
        max_position_embeddings: 16,
        ..starter.config().clone()
    }
}

/// Weights that do not depend on burn's process-wide generator.
struct Drawn(u64);

impl burn::module::ModuleMapper for Drawn {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, mapper) = param.consume();
        let (device, shape) = (tensor.device(), tensor.shape());
        let centre = if D == 1 { 0.5 } else { 0.0 };
        let values: Vec<f32> = (0..shape.num_elements())
            .map(|_| {
                self.0 += 1;
                centre + (split_mix(self.0) >> 40) as f32 / (1 << 24) as f32 - 0.5
            })
            .collect();
        let data = burn::tensor::TensorData::new(values, shape);
        Param::from_mapped_value(id, Tensor::from_data(data, &device).require_grad(), mapper)
    }
}

pub(crate) fn model(device: &Device) -> JointModel {
    let mut model = JointModel::new(&config(), FUNCTIONS, TAGS, device);
    weights::ensure_answer_head(&mut model, 3, device);
    model.map(&mut Drawn(0))
}

pub(crate) fn embedding(seed: usize) -> Vec<f32> {
    let raw: Vec<f32> = (0..24).map(|n| ((n * 7 + seed * 13) % 11) as f32 - 5.0).collect();
    let norm = raw.iter().map(|value| value * value).sum::<f32>().sqrt();
    raw.into_iter().map(|value| value / norm).collect()
}

pub(crate) fn examples() -> Vec<EncodedExample> {
    let example = |length: usize, seed: usize| EncodedExample {
        input_ids: (0..length).map(|n| ((n * 3 + seed * 5) % 50) as u32).collect(),
        function: (seed % FUNCTIONS) as u32,
        words: (1..length - 1).step_by(2).map(|n| (n as u32, ((n + seed) % TAGS) as u32)).collect(),
        weight: 1.0 + seed as f32 / 2.0,
        embedding: embedding(seed),
        below: None,
        // One text without a teacher, and one function and tag that the teacher does not know.
        teacher: (seed != 1).then(|| {
            let words = (1..length - 1).step_by(2).count();
            let tag_count = TAGS - 1;
            Arc::new(Teacher {
                functions: (0..FUNCTIONS - 1).map(|n| ((n + seed) % 3) as f32).collect(),
                tags: (0..words * tag_count).map(|n| ((n * 2 + seed) % 5) as f32 / 2.0).collect(),
                tag_count,
            })
        }),
    };
    vec![example(5, 0), example(9, 1), example(5, 2), example(12, 3)]
}

fn objective() -> Objective {
    Objective {
        label_smoothing: 0.1,
        argument_loss_weight: 2.0,
        embedding_loss_weight: 0.7,
        distillation_weight: 0.5,
        distillation_temperature: 2.0,
        function_surplus: (0..FUNCTIONS).map(|n| 0.8 - n as f32 / 2.0).collect(),
        ..Objective::default()
    }
}

struct Named<'a> {
    gradients: &'a mut GradientsParams,
    path: Vec<String>,
    found: BTreeMap<String, Vec<f32>>,
}

impl ModuleVisitor for Named<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            self.found.insert(self.path.join("."), weights::values(gradient).unwrap());
        }
    }
}

fn named<M: Module>(model: &M, mut gradients: GradientsParams) -> BTreeMap<String, Vec<f32>> {
    let mut visitor = Named { gradients: &mut gradients, path: Vec::new(), found: BTreeMap::new() };
    model.visit(&mut visitor);
    visitor.found
}

fn assert_close(ours: &BTreeMap<String, Vec<f32>>, theirs: &BTreeMap<String, Vec<f32>>) {
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    for (name, ours) in ours {
        let theirs = &theirs[name];
        let norm = theirs.iter().map(|value| value * value).sum::<f32>().sqrt();
        let difference = ours.iter().zip(theirs).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
        // The derivative by a key's bias is zero: what is left of it is rounding.
        assert!(difference <= 2e-5 * norm + 2e-6, "{name}: {difference} of {norm}");
    }
}

fn frozen(model: JointModel, layers: usize) -> JointModel {
    let names: Vec<String> = (0..layers).map(|layer| format!(r"transformer\.layer\.{layer}")).collect();
    let pattern = format!(r"^distilbert\.(embeddings|{})\.", names.join("|"));
    if layers == 0 { model } else { model.freeze_group(ParamGroup::from_regex(&pattern).unwrap()) }
}

#[test]
fn gradients_are_those_that_burn_finds() {
    let device = Device::flex().autodiff();
    let examples = examples();
    let batch = Batch::new(&examples.iter().collect::<Vec<_>>());
    let window = |length: usize, start: u32, end: u32, seed: usize| AnswerWindow {
        input_ids: (0..length).map(|n| ((n * 7 + seed) % 50) as u32).collect(),
        start,
        end,
        embedding: embedding(seed),
    };
    let windows = [window(11, 4, 6, 1), window(16, 0, 0, 2)];
    let windows = WindowBatch::new(&windows.iter().collect::<Vec<_>>());
    for layers in [0, 1, 3] {
        let model = frozen(model(&device), layers);
        let objective = objective();
        let options = ForwardOptions::default();
        let network = Network::read(&model, 0, false);

        let mut ours = Gradients::new(&device.clone().inner());
        let scores = network.texts(&batch, &objective, Signal::Learn(None, &mut ours));
        let theirs = autodiff::texts(&model, &objective, &batch, &options, &objective.function_surplus, &device);
        assert!((scores.loss - autodiff::value(theirs.loss.clone().inner())).abs() < 1e-5);
        let theirs = GradientsParams::from_grads(theirs.loss.backward(), &model);
        assert_close(&named(&model, ours.into_params()), &named(&model, theirs));

        let mut ours = Gradients::new(&device.clone().inner());
        let scores = network.windows(&windows, &objective, Signal::Learn(None, &mut ours));
        let theirs = autodiff::windows(&model, &objective, &windows, &options, &device);
        assert!((scores.loss - autodiff::value(theirs.loss.clone().inner())).abs() < 1e-5);
        let theirs = GradientsParams::from_grads(theirs.loss.backward(), &model);
        assert_close(&named(&model, ours.into_params()), &named(&model, theirs));
    }
}

/// Moves one number of one parameter.
struct Nudge<'a> {
    path: Vec<String>,
    name: &'a str,
    index: usize,
    by: f32,
}

impl burn::module::ModuleMapper for Nudge<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.path.join(".") != self.name {
            return param;
        }
        let (id, tensor, mapper) = param.consume();
        let (device, shape) = (tensor.device(), tensor.shape());
        let mut values = weights::values(tensor).unwrap();
        values[self.index] += self.by;
        let data = burn::tensor::TensorData::new(values, shape);
        Param::from_mapped_value(id, Tensor::from_data(data, &device).require_grad(), mapper)
    }
}

#[test]
fn gradients_are_those_of_numeric_differences_with_dropout() {
    let device = Device::flex().autodiff();
    let model = model(&device);
    let examples = examples();
    let batch = Batch::new(&examples.iter().collect::<Vec<_>>());
    let objective = objective();
    let dropout = Some(Dropout { stream: 77, encoder: 0.2, head: 0.3 });
    let mut gradients = Gradients::new(&device.clone().inner());
    let learn = |model: &JointModel, into: &mut Gradients| {
        Network::read(model, 0, false).texts(&batch, &objective, Signal::Learn(dropout, into)).loss
    };
    learn(&model, &mut gradients);
    let gradients = named(&model, gradients.into_params());
    let loss = |name: &str, index: usize, by: f32| {
        let mut nudge = Nudge { path: Vec::new(), name, index, by };
        let moved = model.clone().map(&mut nudge);
        learn(&moved, &mut Gradients::new(&device.clone().inner()))
    };
    let step = 1e-2f32;
    for (name, gradient) in &gradients {
        if name.contains("qa_outputs") {
            continue;
        }
        // The number with the largest derivative says most.
        let index = (0..gradient.len()).max_by(|a, b| gradient[*a].abs().total_cmp(&gradient[*b].abs())).unwrap();
        let numeric = (loss(name, index, step) - loss(name, index, -step)) / f64::from(2.0 * step);
        let analytic = f64::from(gradient[index]);
        let tolerance = 0.03 * analytic.abs() + 2e-4;
        assert!((numeric - analytic).abs() < tolerance, "{name}[{index}]: {numeric} {analytic}");
    }
}

#[test]
fn what_lies_below_can_be_given() {
    let device = Device::flex().autodiff();
    let model = frozen(model(&device), 2);
    let objective = objective();
    let whole = Network::read(&model, 0, false);
    let mut examples = examples();
    let dropout = Some(Dropout { stream: 5, encoder: 0.1, head: 0.1 });
    let mut gradients = Gradients::new(&device.clone().inner());
    let batch = Batch::new(&examples.iter().collect::<Vec<_>>());
    let loss = whole.texts(&batch, &objective, Signal::Learn(dropout, &mut gradients)).loss;
    let expected = named(&model, gradients.into_params());
    for example in &mut examples {
        example.below = Some(Arc::new(whole.below_first_trained(&example.input_ids)));
    }
    let batch = Batch::new(&examples.iter().collect::<Vec<_>>());
    let upper = Network::read(&model, 2, true);
    let mut gradients = Gradients::new(&device.inner());
    let again = upper.texts(&batch, &objective, Signal::Learn(dropout, &mut gradients)).loss;
    assert!((loss - again).abs() < 1e-5, "{loss} {again}");
    assert_close(&named(&model, gradients.into_params()), &expected);
}

#[test]
fn threads_change_no_bit() {
    let device = Device::flex().autodiff();
    let model = model(&device);
    let examples: Vec<EncodedExample> = (0..20).flat_map(|_| examples()).collect();
    let batch = Batch::new(&examples.iter().collect::<Vec<_>>());
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut gradients = Gradients::new(&device.clone().inner());
            let dropout = Some(Dropout { stream: 5, encoder: 0.1, head: 0.1 });
            let network = Network::read(&model, 0, false);
            network.texts(&batch, &objective(), Signal::Learn(dropout, &mut gradients));
            named(&model, gradients.into_params())
        })
    };
    assert!(run(1) == run(2) && run(1) == run(3));
}
