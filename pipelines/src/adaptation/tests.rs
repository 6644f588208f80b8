//! The stage on the embedded starter: what it changes, what it leaves, and that it can be repeated.

use mynah_data::{
    CallRecord, Decision, Home, InteractionRecord, LabelDecision, Log, PolicyRecord, PolicyStage, Record, ReplyRecord,
    Slot,
};
use mynah_registry::Registry;
use mynah_runtime::{Checkpoint, Labels, Precision, Tokenizer};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::device::Compute;
use crate::learn::{LearnOutcome, LearnRequest, LearnScope, Promotion, learn};
use crate::progress::NoProgress;
use crate::settings::GateSettings;
use crate::weights;

const SAID: [&str; 8] = [
    "wake me at seven tomorrow",
    "switch the lamp in the kitchen on",
    "what is the weather like in oslo",
    "play the new record of the band",
    "remind me to call my sister tonight",
    "how long is the way to the station",
    "make the living room a little warmer",
    "put milk and bread on the shopping list",
];

fn settings() -> TrainingSettings {
    TrainingSettings {
        adaptation_epochs: 4,
        adaptation_learning_rate: Some(1e-3),
        embedding_loss_weight: 0.0,
        ..TrainingSettings::default()
    }
}

fn model() -> JointModel {
    let labels = Labels { functions: vec!["a".into(), "b".into()], ..Labels::default() };
    weights::load(&Checkpoint::starter().unwrap(), &labels, 1, &Compute::cpu().device).unwrap()
}

fn adapt(settings: &TrainingSettings, progress: &dyn Progress) -> Result<(JointModel, Adapted), Error> {
    let starter = Checkpoint::starter().unwrap();
    let tokenizer = Tokenizer::from_checkpoint(&starter).unwrap();
    let said: Vec<String> = SAID.iter().map(ToString::to_string).collect();
    let adaptation = Adaptation::encode(&said, &tokenizer, starter.config().vocab_size, settings)?;
    adaptation.expect("there are texts").apply(model(), settings, progress)
}

/// The bytes of every file that a version would have of the weights.
fn written(model: &JointModel) -> BTreeMap<String, Vec<u8>> {
    let directory = tempfile::tempdir().unwrap();
    let labels = Labels { functions: vec!["a".into(), "b".into()], ..Labels::default() };
    weights::save(model, &labels, directory.path()).unwrap();
    let entries = std::fs::read_dir(directory.path()).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())).collect()
}

#[test]
fn upper_layers_learn_to_guess_and_nothing_else_changes() {
    let settings = TrainingSettings { adaptation_epochs: 40, adaptation_learning_rate: Some(2e-3), ..settings() };
    let (adapted, report) = adapt(&settings, &NoProgress).unwrap();
    assert_eq!((report.texts, report.losses.len()), (8, 40));
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (first, last) = (mean(&report.losses[..5]), mean(&report.losses[35..]));
    assert!(last < 0.8 * first, "{first} {last}");
    let (before, after) = (written(&model()), written(&adapted));
    let changed: Vec<&str> =
        before.iter().filter(|(name, bytes)| after[*name] != **bytes).map(|(name, _)| name.as_str()).collect();
    assert_eq!(changed, ["model-layer-3.safetensors", "model-layer-4.safetensors", "model-layer-5.safetensors"]);
    assert!(adapted.distilbert.transformer.layer[5].ffn.lin1.weight.is_require_grad(), "the fine-tune goes on with it");
}

#[test]
fn the_same_seed_gives_the_same_weights_with_any_number_of_threads() {
    let run = |threads: usize, seed: u64| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| written(&adapt(&TrainingSettings { seed, ..settings() }, &NoProgress).unwrap().0))
    };
    let one = run(1, 7);
    assert!(one == run(2, 7));
    assert!(one != run(2, 8));
}

#[test]
fn texts_beyond_the_budget_are_left_out() {
    let tokens = adapt(&settings(), &NoProgress).unwrap().1.tokens;
    let (_, less) = adapt(&TrainingSettings { adaptation_tokens: tokens / 2, ..settings() }, &NoProgress).unwrap();
    assert!((tokens / 4..=tokens / 2).contains(&less.tokens), "{less:?} of {tokens}");
}

/// A home with a few labelled examples and the turns that nobody labelled.
fn home() -> (tempfile::TempDir, Home) {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::new(directory.path());
    home.create().unwrap();
    let functions = r#"[
        {"name": "alarm", "examples": ["wake me at six", "set an alarm", "ring at ten please", "get me up early", "alarm at noon"]},
        {"name": "lamp", "examples": ["lamp on", "make it bright", "lights out", "it is dark here", "turn the lamp off"]}]"#;
    std::fs::write(home.functions_path(), functions).unwrap();
    drop(mynah_runtime::Mynah::open(home.root()).unwrap());
    for text in SAID {
        say(&home, text, None, &[]);
    }
    (directory, home)
}

fn say(home: &Home, text: &str, policy: Option<PolicyRecord>, slots: &[Slot]) -> String {
    let mut session = Log::open(home).start_session("test").unwrap();
    let call = CallRecord { function: "alarm".into(), arguments: serde_json::Map::new(), slots: slots.to_vec() };
    let turn = InteractionRecord {
        id: mynah_data::new_interaction_id(),
        session: session.id().to_owned(),
        at: jiff::Timestamp::now(),
        text: text.to_owned(),
        reply: ReplyRecord {
            text: String::new(),
            kind: "call".into(),
            calls: if slots.is_empty() { Vec::new() } else { vec![call] },
            confidence: 0.1,
            source: "model".into(),
            policy,
        },
        version: None,
        version_digest: None,
        latency_ms: 1.0,
    };
    session.append(&Record::Interaction(turn.clone())).unwrap();
    session.end("quit").unwrap();
    turn.id
}

fn read(home: &Home) -> Vec<String> {
    texts(home, &crate::corpus::Corpus::gather(home).unwrap()).unwrap()
}

#[test]
fn what_was_removed_and_what_nobody_says_is_not_read() {
    let (_directory, home) = home();
    let before = read(&home);
    assert!(before.iter().any(|text| SAID.contains(&text.as_str())), "what nobody labelled is read");
    // Words of the train split, so that nothing else keeps them out.
    let (policed, rejected) = ("tell me about the secret garden", "sing me the forbidden song");
    let policy = PolicyRecord { stage: PolicyStage::Request, rule: "word".into(), withheld: None };
    let has = |text: &str| read(&home).iter().any(|read| mynah_data::normalise(read) == text);
    say(&home, policed, None, &[]);
    let turn = say(&home, rejected, None, &[]);
    assert!(has(policed) && has(rejected));
    // The same words in another turn, which the policy knows by then.
    say(&home, &policed.to_uppercase(), Some(policy), &[]);
    let decision =
        LabelDecision { interaction: turn, decision: Decision::Reject, at: jiff::Timestamp::now(), by: "me".into() };
    mynah_data::append_decision(&home, &decision, mynah_data::fault::none()).unwrap();
    say(&home, "dGhpcyBpcyBub3QgYSByZXF1ZXN0IGF0IGFsbA==", None, &[]);
    say(&home, &format!("{}!!", before[0].to_uppercase()), None, &[]);
    assert_eq!(read(&home), before);
}

fn request(adaptation_epochs: usize) -> LearnRequest {
    LearnRequest {
        trigger: "train".into(),
        actor: "test".into(),
        training: TrainingSettings {
            epochs: Some(6),
            frozen_layers: 3,
            adaptation_epochs,
            ..TrainingSettings::default()
        },
        gate: GateSettings::default(),
        precision: Precision::Int8,
        scope: LearnScope::Anew,
        force: true,
        promotion: Promotion::AtOnce,
        fault: mynah_data::fault::none(),
    }
}

/// Stops a run in this stage, as soon as a note begins so.
struct StopIn(Stage, &'static str, AtomicBool, AtomicBool);

impl Progress for StopIn {
    fn stage(&self, stage: Stage, _total: u64) {
        self.2.store(stage == self.0, Ordering::Relaxed);
    }

    fn advance(&self, _done: u64, note: &str) {
        if self.2.load(Ordering::Relaxed) && note.starts_with(self.1) {
            self.3.store(true, Ordering::Relaxed);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.3.load(Ordering::Relaxed)
    }
}

fn stop_in(stage: Stage, note: &'static str) -> StopIn {
    StopIn(stage, note, AtomicBool::new(false), AtomicBool::new(false))
}

#[test]
fn a_run_says_what_it_read_and_one_that_was_stopped_comes_to_the_same_weights() {
    let (_directory, home) = home();
    let registry = Registry::open(&home.registry_dir()).unwrap();
    let files = |outcome: &LearnOutcome| {
        let files = registry.version(&outcome.version).unwrap().manifest.files;
        let weights = files.into_iter().filter(|(name, _)| name.starts_with("model-") || name == "training.json");
        weights.map(|(name, file)| (name, file.sha256)).collect::<BTreeMap<_, _>>()
    };
    let run = |epochs, progress: &dyn Progress| learn(&home, &registry, &request(epochs), progress);
    let without = run(0, &NoProgress).unwrap();
    assert!(without.adapted.is_none());

    let whole = run(2, &NoProgress).unwrap();
    let adapted = whole.adapted.as_ref().unwrap();
    assert!(adapted.texts > 5 && adapted.losses.len() == 2, "{adapted:?}");
    assert!(whole.stages.iter().any(|time| time.stage == Stage::Adapt));
    let training = &registry.version(&whole.version).unwrap().manifest.files["training.json"].sha256;
    let training: serde_json::Value = serde_json::from_slice(&registry.read_object(training).unwrap()).unwrap();
    assert_eq!(training["adaptation"], serde_json::json!({"texts": adapted.texts, "tokens": adapted.tokens}));
    assert_ne!(files(&without)["model-layer-4.safetensors"], files(&whole)["model-layer-4.safetensors"]);
    assert_eq!(files(&without)["model-layer-1.safetensors"], files(&whole)["model-layer-1.safetensors"]);

    // In the stage itself: the next run does it again. After it: the next run does without.
    assert!(matches!(run(2, &stop_in(Stage::Adapt, "epoch 1/2")), Err(Error::Cancelled)));
    assert!(matches!(run(2, &stop_in(Stage::FineTune, "epoch 3/6")), Err(Error::Cancelled)));
    let resumed = run(2, &NoProgress).unwrap();
    assert!(resumed.resumed.is_some());
    assert_eq!(resumed.adapted.as_ref().map(|adapted| adapted.losses.len()), Some(0));
    assert!(!resumed.stages.iter().any(|time| time.stage == Stage::Adapt));
    assert_eq!(files(&resumed), files(&whole));
}
