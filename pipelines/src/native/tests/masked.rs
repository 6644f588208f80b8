//! Guessing masked words: the same three checks.

use burn::module::{Module, ParamGroup};
use burn::optim::GradientsParams;

use super::*;
use crate::adaptation::{MaskedBatch, MaskedModel, VocabularyHead};
use crate::batch::Ragged;
use crate::native::VocabularyWeights;

const WEIGHT: f32 = 0.7;

fn batch() -> MaskedBatch {
    let texts = examples();
    MaskedBatch {
        ragged: Ragged::of(texts.iter().map(|text| text.input_ids.as_slice())),
        places: vec![1, 3, 7, 8, 12, 15, 20, 29],
        targets: vec![0, 49, 7, 7, 31, 12, 3, 22],
        embeddings: texts.into_iter().flat_map(|text| text.embedding).collect(),
    }
}

/// With embeddings and the lowest `layers` frozen.
fn masked_model(layers: usize, device: &Device) -> MaskedModel {
    let model = match layers {
        0 => model(device).freeze_group(ParamGroup::from_regex(r"^distilbert\.embeddings\.").unwrap()),
        layers => frozen(model(device), layers),
    };
    MaskedModel { model, head: VocabularyHead::new(24, &[-1.0; 50], device).map(&mut Drawn(99)) }
}

fn learn(model: &MaskedModel, dropout: Option<Dropout>, into: &mut Gradients) -> f64 {
    let network = Network::read(&model.model, 0, false);
    network.masked(&VocabularyWeights::read(&model.head), &batch(), WEIGHT, Signal::Learn(dropout, into)).total
}

#[test]
fn gradients_are_those_that_burn_finds() {
    let device = Device::flex().autodiff();
    for layers in [0, 1, 3] {
        let model = masked_model(layers, &device);
        let mut ours = Gradients::new(&device.clone().inner());
        let loss = learn(&model, None, &mut ours);
        let theirs = autodiff::masked(&model.model, &model.head, &batch(), WEIGHT, &device);
        assert!((loss - autodiff::value(theirs.clone().inner())).abs() < 1e-5);
        let theirs = GradientsParams::from_grads(theirs.backward(), &model);
        let ours = named(&model, ours.into_params());
        assert!(ours.contains_key("head.bias") && ours.contains_key("head.transform.weight"));
        assert_eq!(ours.contains_key("model.distilbert.transformer.layer.2.ffn.lin1.weight"), layers < 3);
        assert_close(&ours, &named(&model, theirs));
    }
}

#[test]
fn gradients_are_those_of_numeric_differences_with_dropout() {
    let device = Device::flex().autodiff();
    let model = masked_model(1, &device);
    let dropout = Some(Dropout { stream: 3, encoder: 0.2, head: 0.0 });
    let mut gradients = Gradients::new(&device.clone().inner());
    learn(&model, dropout, &mut gradients);
    let step = 1e-2f32;
    for (name, gradient) in &named(&model, gradients.into_params()) {
        let index = (0..gradient.len()).max_by(|a, b| gradient[*a].abs().total_cmp(&gradient[*b].abs())).unwrap();
        let loss = |by: f32| {
            let moved = model.clone().map(&mut Nudge { path: Vec::new(), name, index, by });
            learn(&moved, dropout, &mut Gradients::new(&device.clone().inner()))
        };
        let (numeric, analytic) = ((loss(step) - loss(-step)) / f64::from(2.0 * step), f64::from(gradient[index]));
        assert!((numeric - analytic).abs() < 0.03 * analytic.abs() + 2e-4, "{name}[{index}]: {numeric} {analytic}");
    }
}

#[test]
fn threads_change_no_bit() {
    let device = Device::flex().autodiff();
    let model = masked_model(0, &device);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut gradients = Gradients::new(&device.clone().inner());
            learn(&model, Some(Dropout { stream: 5, encoder: 0.1, head: 0.0 }), &mut gradients);
            named(&model, gradients.into_params())
        })
    };
    assert!(run(1) == run(2) && run(1) == run(3));
}
