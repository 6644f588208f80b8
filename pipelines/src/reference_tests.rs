//! The burn modules against the reference implementation, against themselves, and on eight examples.

use burn::tensor::Device;
use mynah_data::{Example, Slot, Source};
use mynah_runtime::{Checkpoint, Labels, Model, Precision, Tokenizer};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::batch::{Batch, EncodedExample};
use crate::candidate::Candidate;
use crate::device::{Compute, host};
use crate::distilbert::{ForwardOptions, JointModel};
use crate::error::Error;
use crate::fine_tune::{FineTuneInput, FineTuned, QuestionInput, fine_tune};
use crate::padded::PaddedTokens;
use crate::progress::{NoProgress, Progress, Stage};
use crate::settings::TrainingSettings;
use crate::weights;

#[derive(Deserialize)]
struct Golden {
    sentences: Vec<Sentence>,
}

#[derive(Deserialize)]
struct Sentence {
    input_ids: Vec<u32>,
    first_token: Vec<f32>,
    last_token: Vec<f32>,
}

fn labels() -> Labels {
    Labels {
        functions: ["alarm", "light", "oos"].map(String::from).to_vec(),
        tags: ["O", "B-time", "I-time", "B-room", "I-room"].map(String::from).to_vec(),
        ..Labels::default()
    }
}

fn encoded(input_ids: &[u32]) -> EncodedExample {
    EncodedExample::plain(input_ids.to_vec(), 0)
}

fn hidden(model: &JointModel, examples: &[&EncodedExample]) -> Vec<f32> {
    let tokens = PaddedTokens::new(&Batch::new(examples).ragged, &Device::flex());
    let rows = model.hidden(&tokens, &ForwardOptions::default());
    weights::values(rows).unwrap()
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn compare(checkpoint: &Checkpoint, golden: &str) {
    let golden: Golden = serde_json::from_str(golden).unwrap();
    let model = weights::load(checkpoint, &labels(), 1, &Device::flex()).unwrap();
    let dim = checkpoint.config().dim;
    let serving = Model::load(checkpoint, Precision::F32).unwrap();
    let all: Vec<EncodedExample> = golden.sentences.iter().map(|sentence| encoded(&sentence.input_ids)).collect();
    let together = hidden(&model, &all.iter().collect::<Vec<_>>());
    let width = together.len() / all.len();
    for (index, (sentence, example)) in golden.sentences.iter().zip(&all).enumerate() {
        let rows = hidden(&model, &[example]);
        assert!(worst(&rows[..dim], &sentence.first_token) < 1e-3);
        assert!(worst(&rows[rows.len() - dim..], &sentence.last_token) < 1e-3);
        // Padding and batching change nothing beyond rounding.
        assert!(worst(&together[index * width..][..rows.len()], &rows) < 1e-4);
        let served = serving.encoder().forward(&[&sentence.input_ids]).unwrap();
        assert!(worst(served.sequence(0), &rows) < 1e-3);
    }
}

#[test]
fn training_and_serving_agree_with_the_reference() {
    compare(&Checkpoint::starter().unwrap(), include_str!("../../runtime/tests/golden/starter.json"));
}

#[test]
fn training_agrees_with_pytorch_on_real_checkpoints() {
    let Some(models) = std::env::var_os("MYNAH_MODELS") else {
        eprintln!("skipped: MYNAH_MODELS names no directory of checkpoints");
        return;
    };
    for entry in std::fs::read_dir(Path::new(&models)).unwrap() {
        let directory = entry.unwrap().path();
        if let Ok(golden) = std::fs::read_to_string(directory.join("golden.json")) {
            compare(&Checkpoint::from_directory(&directory).unwrap(), &golden);
        }
    }
}

#[test]
fn what_is_saved_loads_back_and_has_the_same_bytes() {
    let starter = Checkpoint::starter().unwrap();
    let model = weights::load(&starter, &labels(), 7, &Device::flex()).unwrap();
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let candidate = Candidate { model: &model, labels: &labels(), parent: &starter };
    candidate.write(first.path()).unwrap();
    let loaded = Checkpoint::from_directory(first.path()).unwrap();
    // Grown heads keep the rows they had.
    let mut grown = labels();
    grown.functions.insert(1, "door".into());
    let again = weights::load(&loaded, &grown, 9, &Device::flex()).unwrap();
    let rows = |model: &JointModel| weights::values(model.classifier.weight.val()).unwrap();
    let (before, after) = (rows(&model), rows(&again));
    for dim in 0..starter.config().dim {
        assert_eq!(before[dim * 3], after[dim * 4]);
        assert_eq!(before[dim * 3 + 1..][..2], after[dim * 4 + 2..][..2]);
    }
    let same = weights::load(&loaded, &labels(), 9, &Device::flex()).unwrap();
    Candidate { model: &same, labels: &labels(), parent: &loaded }.write(second.path()).unwrap();
    for entry in std::fs::read_dir(first.path()).unwrap() {
        let name = entry.unwrap().file_name();
        let read = |directory: &Path| std::fs::read(directory.join(&name)).unwrap();
        assert!(read(first.path()) == read(second.path()), "{name:?} differs");
    }
}

/// Eight texts, half of them with a time or a room.
fn eight() -> Vec<Example> {
    let texts = [
        ("wake me at seven", "alarm", Some(("time", 11, 16))),
        ("set an alarm for noon", "alarm", Some(("time", 17, 21))),
        ("alarm please", "alarm", None),
        ("light in the kitchen", "light", Some(("room", 13, 20))),
        ("make the cellar bright", "light", Some(("room", 9, 15))),
        ("switch on the lamp", "light", None),
        ("who won the war", "oos", None),
        ("tell me a joke", "oos", None),
    ];
    let example = |(text, function, slot): (&str, &str, Option<(&str, usize, usize)>)| Example {
        text: text.into(),
        function: function.into(),
        slots: slot
            .into_iter()
            .map(|(name, start, end)| Slot { name: name.into(), start, end, value: text[start..end].into() })
            .collect(),
        split: None,
        source: Source::Written,
        origin: "test".into(),
        at: None,
        weight: 1.0,
    };
    texts.into_iter().map(example).collect()
}

/// What chooses the best epoch.
enum Judges {
    /// The examples themselves.
    Same,
    /// The examples with other labels, so that learning them makes it worse.
    Opposed,
}

/// A fine-tune of the starter on the eight, in `directory`.
fn tune(
    directory: &Path,
    settings: &TrainingSettings,
    judges: Judges,
    progress: &dyn Progress,
) -> Result<FineTuned, Error> {
    let starter = Checkpoint::starter().unwrap();
    let tokenizer = Tokenizer::from_checkpoint(&starter).unwrap();
    let train: Vec<EncodedExample> =
        eight().iter().map(|example| EncodedExample::new(example, &labels(), &tokenizer, 32).unwrap()).collect();
    let mut validation = train.clone();
    if matches!(judges, Judges::Opposed) {
        validation.iter_mut().for_each(|example| example.function = (example.function + 1) % 3);
    }
    let input = FineTuneInput {
        model: weights::load(&starter, &labels(), settings.seed, &host().autodiff()).unwrap(),
        compute: &Compute::cpu(),
        validation,
        train,
        epochs: settings.epochs.unwrap_or(24),
        questions: QuestionInput::default(),
        function_surplus: Vec::new(),
        learning_rate: settings.learning_rate.unwrap_or(4e-4),
        head_learning_rate: 2e-3,
        batch_size: 4,
        settings,
        directory,
        checkpoint_every: Duration::ZERO,
    };
    fine_tune(input, progress)
}

fn overfit(directory: &Path) -> (JointModel, f64) {
    let settings = TrainingSettings { frozen_layers: 2, ..TrainingSettings::default() };
    let tuned = tune(directory, &settings, Judges::Same, &NoProgress).unwrap();
    let best = tuned.history.iter().find(|epoch| epoch.epoch == tuned.best_epoch).unwrap();
    (tuned.model, best.validation["exact match"])
}

/// Stops a run as soon as an epoch has begun.
pub(crate) struct StopIn {
    epoch: usize,
    reached: AtomicBool,
}

impl StopIn {
    pub(crate) fn epoch(epoch: usize) -> Self {
        Self { epoch, reached: AtomicBool::new(false) }
    }
}

impl Progress for StopIn {
    fn stage(&self, _stage: Stage, _total: u64) {}

    fn advance(&self, _done: u64, note: &str) {
        if note.starts_with(&format!("epoch {}/", self.epoch)) {
            self.reached.store(true, Ordering::Relaxed);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }
}

/// The bytes of every file that a version would have of the weights.
fn written(tuned: &FineTuned) -> BTreeMap<String, Vec<u8>> {
    let directory = tempfile::tempdir().unwrap();
    let starter = Checkpoint::starter().unwrap();
    Candidate { model: &tuned.model, labels: &labels(), parent: &starter }.write(directory.path()).unwrap();
    let entries = std::fs::read_dir(directory.path()).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())).collect()
}

#[test]
fn a_run_that_was_stopped_goes_on_to_the_same_weights() {
    // Layer decay and the pull to the start give schedule and optimizer something to remember. The best
    // epoch is not the last one.
    let settings = TrainingSettings {
        epochs: Some(12),
        learning_rate: Some(3e-3),
        frozen_layers: 3,
        layer_decay: 0.9,
        start_decay: 0.01,
        patience: 3,
        ..TrainingSettings::default()
    };
    let whole = tempfile::tempdir().unwrap();
    let undisturbed = tune(whole.path(), &settings, Judges::Opposed, &NoProgress).unwrap();
    assert_eq!(undisturbed.resumed_after, 0);
    let ran = undisturbed.history.len();
    assert!(undisturbed.best_epoch < ran, "{:?}", undisturbed.history);

    let stopped = tempfile::tempdir().unwrap();
    for epoch in [2, ran - 1] {
        assert!(matches!(
            tune(stopped.path(), &settings, Judges::Opposed, &StopIn::epoch(epoch)),
            Err(Error::Cancelled)
        ));
    }
    // A kill in the middle of a write leaves the like of these.
    let checkpoints = stopped.path().join("checkpoint");
    std::fs::write(checkpoints.join(format!("model-{ran}.bpk")), "torn").unwrap();
    std::fs::write(checkpoints.join(format!("optim-{ran}.bpk.123.tmp")), "torn").unwrap();
    let resumed = tune(stopped.path(), &settings, Judges::Opposed, &NoProgress).unwrap();
    assert!((1..ran).contains(&resumed.resumed_after), "{}", resumed.resumed_after);
    assert_eq!((resumed.best_epoch, &resumed.history), (undisturbed.best_epoch, &undisturbed.history));
    assert!(written(&resumed) == written(&undisturbed));

    // Once more after the end: nothing is left to train.
    let again = tune(stopped.path(), &settings, Judges::Opposed, &NoProgress).unwrap();
    assert_eq!(again.resumed_after, ran);
    assert!(written(&again) == written(&undisturbed));
}

#[test]
fn a_checkpoint_that_cannot_be_read_is_passed_over() {
    let settings = TrainingSettings { epochs: Some(4), frozen_layers: 4, ..TrainingSettings::default() };
    let whole = tempfile::tempdir().unwrap();
    let undisturbed = tune(whole.path(), &settings, Judges::Same, &NoProgress).unwrap();
    let directory = tempfile::tempdir().unwrap();
    assert!(matches!(tune(directory.path(), &settings, Judges::Same, &StopIn::epoch(3)), Err(Error::Cancelled)));
    let newest = (1..=3).rev().find(|epoch| directory.path().join(format!("checkpoint/optim-{epoch}.bpk")).exists());
    let newest = newest.unwrap();
    let path = directory.path().join(format!("checkpoint/optim-{newest}.bpk"));
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let resumed = tune(directory.path(), &settings, Judges::Same, &NoProgress).unwrap();
    assert!(resumed.resumed_after < newest);
    assert!(written(&resumed) == written(&undisturbed));
}

#[test]
fn eight_examples_are_learned_by_heart_twice_with_the_same_weights() {
    let starter = Checkpoint::starter().unwrap();
    let mut written = Vec::new();
    for _ in 0..2 {
        let run = tempfile::tempdir().unwrap();
        let (model, exact) = overfit(run.path());
        assert_eq!(exact, 100.0);
        let directory = run.path().join("candidate");
        Candidate { model: &model, labels: &labels(), parent: &starter }.write(&directory).unwrap();
        let served = Model::load(&Checkpoint::from_directory(&directory).unwrap(), Precision::Int8).unwrap();
        for example in eight() {
            let prediction = served.predict(&example.text);
            assert_eq!(prediction.function.as_deref(), Some(example.function.as_str()), "{}", example.text);
            assert_eq!(prediction.slots, example.slots, "{}", example.text);
        }
        let bytes = |name: &str| std::fs::read(directory.join(name)).unwrap();
        // Frozen layers come out as they went in; trained ones the same in both runs.
        written.push((
            bytes("model-layer-1.safetensors"),
            bytes("model-layer-5.safetensors"),
            bytes("model-heads.safetensors"),
        ));
    }
    assert!(written[0] == written[1]);
}
