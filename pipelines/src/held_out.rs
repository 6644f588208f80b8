//! What a run trains on, and the last check that nothing held out is among it.
//!
//! [`mynah_data::Dataset`] keeps the splits apart. What training makes of its split, copies with other values, could still
//! come to words that are held out, validated on or pinned. *Invariant:* no example that leaves here has such words, numbers and
//! punctuation aside, except a correction of a pinned sentence.

use mynah_data::{Example, Source, normalise};
use std::collections::HashSet;

use crate::corpus::{Corpus, Replay};
use crate::settings::TrainingSettings;
use crate::swap::with_swapped_values;

/// The words that must not be trained on.
pub(crate) struct HeldOut {
    judged: HashSet<String>,
    pinned: HashSet<String>,
}

impl HeldOut {
    /// Of everything that a candidate is validated on, judged by or asked for.
    pub fn of(corpus: &Corpus) -> Self {
        let dataset = &corpus.dataset;
        let judged = dataset.held_out.iter().chain(&dataset.validation);
        Self {
            judged: judged.map(|example| normalise(&example.text)).collect(),
            pinned: corpus.expectations.iter().map(|expectation| normalise(&expectation.text)).collect(),
        }
    }

    /// Whether a text must not be trained on.
    pub fn has(&self, example: &Example) -> bool {
        let words = normalise(&example.text);
        self.judged.contains(&words) || (example.source != Source::Corrected && self.pinned.contains(&words))
    }
}

/// The examples of one epoch: those of [`Corpus::epoch`] and, where there are no more than `swap_limit`, their copies with
/// other values.
pub(crate) fn training_examples(
    corpus: &Corpus,
    replay: Option<Replay>,
    is_new: impl Fn(&Example) -> bool,
    settings: &TrainingSettings,
    swap_limit: usize,
) -> Vec<Example> {
    let epoch = corpus.epoch(replay, is_new, settings.correction_repeats, settings.seed);
    let mut epoch = with_swapped_values(epoch, settings.value_swaps, swap_limit, settings.seed);
    let held_out = HeldOut::of(corpus);
    epoch.retain(|example| !held_out.has(example));
    epoch
}

#[cfg(test)]
mod tests {
    use mynah_data::{
        Correction, Home, ImportOptions, InteractionRecord, Log, Record, ReplyRecord, SplitName, import, mask,
    };
    use mynah_registry::{Author, Registry};
    use mynah_runtime::{Checkpoint, Model, Mynah, Precision, Tokenizer};

    use super::*;
    use crate::activations::{self, Key};
    use crate::background;
    use crate::learn::{LearnRequest, LearnScope, Promotion, Verdict, learn};
    use crate::progress::NoProgress;
    use crate::settings::GateSettings;
    use crate::swap;

    const FUNCTIONS: &str = r#"[
        {"type": "function", "function": {"name": "alarm", "parameters": {"type": "object",
            "properties": {"time": {"type": "string"}}}},
         "examples": ["wake me at [six](time)", "alarm for [nine](time) please", "set an alarm", "alarm at [noon](time)",
            "get me up at [five](time)", "i have to rise at [eight](time)", "ring at [ten](time)"]},
        {"type": "function", "function": {"name": "lamp"},
         "examples": ["lamp on", "light please", "make it bright", "lamp off", "it is dark", "darker", "lights out"]}]"#;
    /// A published set with splits of its own: its test split has the wordings of its train split, and other values.
    const PUBLISHED: &str = r#"{"text":"wake up call at seven","intent":"alarm","slots":[{"name":"time","start":16,"end":21,"value":"seven"}],"split":"train"}
{"text":"buzz me at four","intent":"alarm","slots":[{"name":"time","start":11,"end":15,"value":"four"}],"split":"train"}
{"text":"buzz me at seven","intent":"alarm","slots":[{"name":"time","start":11,"end":16,"value":"seven"}],"split":"test"}
{"text":"lower the lamp","intent":"lamp","slots":[],"split":"test"}
{"text":"raise the lamp","intent":"lamp","slots":[],"split":"valid"}
{"text":"Lamp, ON!","intent":"lamp","slots":[],"split":"test"}"#;
    /// The same texts under another name, in capitals and without punctuation, for training.
    const AGAIN: &str = r#"{"text":"LOWER the lamp!","intent":"lamp","slots":[]}
{"text":"Buzz me at SEVEN","intent":"alarm","slots":[{"name":"time","start":11,"end":16,"value":"SEVEN"}]}
{"text":"raise  the LAMP","intent":"lamp","slots":[]}"#;

    fn home() -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        let home = Home::new(directory.path());
        home.create().expect("made");
        std::fs::write(home.functions_path(), FUNCTIONS).expect("written");
        for (name, content) in [("published.jsonl", PUBLISHED), ("again.jsonl", AGAIN)] {
            import(&home, content.as_bytes(), name, &ImportOptions::default()).expect("imported");
        }
        std::fs::write(home.expectations_path(), "{\"text\":\"Lights out.\",\"function\":\"lamp\"}\n")
            .expect("written");
        correct(&home, "lower the lamp, now", "lamp");
        directory
    }

    fn correct(home: &Home, text: &str, function: &str) {
        let log = Log::open(home);
        let mut session = log.start_session("test").expect("started");
        let turn = InteractionRecord {
            id: mynah_data::new_interaction_id(),
            session: session.id().to_owned(),
            at: jiff::Timestamp::now(),
            text: text.to_owned(),
            reply: ReplyRecord {
                text: String::new(),
                kind: "abstain".to_owned(),
                calls: Vec::new(),
                confidence: 0.1,
                source: "model".to_owned(),
                policy: None,
            },
            version: None,
            version_digest: None,
            latency_ms: 1.0,
        };
        session.append(&Record::Interaction(turn.clone())).expect("on the disk");
        session.end("quit").expect("ended");
        let correction = Correction::Function { function: Some(function.to_owned()), slots: None };
        log.append_feedback(&turn.id, None, Some(correction)).expect("on the disk");
    }

    /// The texts and the texts with masked arguments.
    fn forms(example: &Example) -> [String; 2] {
        [normalise(&example.text), mask(&example.text, &example.slots)]
    }

    #[test]
    fn nothing_held_out_reaches_what_is_trained_on() {
        let directory = home();
        let mut corpus = Corpus::gather(&Home::new(directory.path())).expect("gathered");
        let base = Model::load(&Checkpoint::starter().expect("embedded"), Precision::Int8).expect("loaded");
        let background = background::examples(&base, &corpus.dataset, 7, &NoProgress).expect("chosen");
        assert!(!background.is_empty());
        corpus.add_background(background);
        let held_out = &corpus.dataset.held_out;
        let has = |text: &str| held_out.iter().any(|example| example.text == text);
        assert!(has("buzz me at seven") && has("lights out"), "{held_out:?}");
        let judged: HashSet<String> = held_out.iter().map(|example| normalise(&example.text)).collect();
        // Published splits may share a wording; everything else may not.
        let masked: HashSet<String> = held_out
            .iter()
            .filter(|example| example.origin.starts_with("functions.json"))
            .map(|example| mask(&example.text, &example.slots))
            .collect();

        let unguarded = {
            let settings = TrainingSettings { value_swaps: 20, ..TrainingSettings::default() };
            with_swapped_values(corpus.epoch(None, |_| false, 6, settings.seed), 20, swap::LIMIT, settings.seed)
        };
        assert!(
            unguarded.iter().any(|example| normalise(&example.text) == "buzz me at seven"),
            "a copy with another value comes to a held-out text, so that the check below means something"
        );
        for replay in [None, Some(Replay { tokens: 40, seed: 3 })] {
            for seed in 0..5 {
                let settings = TrainingSettings { value_swaps: 20, seed, ..TrainingSettings::default() };
                let trained =
                    training_examples(&corpus, replay, |example| example.at.is_some(), &settings, swap::LIMIT);
                assert!(trained.len() > 5);
                for example in &trained {
                    let [text, wording] = forms(example);
                    assert!(!judged.contains(&text), "{:?} is held out", example.text);
                    assert!(!masked.contains(&wording), "{:?} has a held-out wording", example.text);
                    assert_ne!(text, "lights out", "it is pinned");
                }
                assert!(trained.iter().any(|example| example.text == "lower the lamp, now"), "corrections are learned");
            }
        }
        let validation = corpus.dataset.validation.iter().flat_map(forms);
        assert!(validation.clone().all(|form| !judged.contains(&form)));
        assert!(corpus.dataset.validation.iter().all(|example| example.split != Some(SplitName::HeldOut)));
    }

    /// One short run, whatever the gate would say of it.
    fn run(home: &Home, scope: LearnScope, training: &TrainingSettings) {
        let gate = GateSettings {
            margin: 1.0,
            drift_allowance: 1.0,
            function_allowance: 1.0,
            out_of_scope_allowance: 1.0,
            corrections_right: 0.0,
            first_accuracy: 0.0,
            precision_agreement: 0.0,
            max_latency_ms: 60_000.0,
            ..GateSettings::default()
        };
        let request = LearnRequest {
            trigger: "test".into(),
            actor: "test".into(),
            training: training.clone(),
            gate,
            precision: Precision::Int8,
            scope,
            force: true,
            promotion: Promotion::AtOnce,
            fault: mynah_data::fault::none(),
        };
        let registry = Registry::open(&home.registry_dir()).expect("opened");
        let outcome = learn(home, &registry, &request, &NoProgress).expect("learned");
        if outcome.verdict == Verdict::Refused && registry.production().expect("read").is_none() {
            // One epoch does not learn what is pinned.
            let version = registry.version(&outcome.version).expect("registered");
            registry.promote(&version, None, serde_json::Value::Null, &Author::new("test", "")).expect("promoted");
        }
    }

    /// What the frozen layers made of texts, on the disk after a run over everything and after one over what is new. In memory
    /// there is no more, see the tests of `activations`.
    #[test]
    fn nothing_held_out_reaches_the_activation_cache() {
        let directory = home();
        let home = Home::new(directory.path());
        drop(Mynah::open(home.root()).expect("opened"));
        let starter = Checkpoint::starter().expect("embedded");
        let (tokenizer, base) = (
            Tokenizer::from_checkpoint(&starter).expect("one"),
            Model::load(&starter, Precision::Int8).expect("loaded"),
        );
        let settings =
            TrainingSettings { epochs: Some(1), frozen_layers: 1, value_swaps: 20, ..TrainingSettings::default() };
        let key = |text: &str| activations::key(&tokenizer.encode(text, settings.max_tokens).input_ids);
        let keys =
            |examples: &[Example]| -> HashSet<Key> { examples.iter().map(|example| key(&example.text)).collect() };
        let gathered = || {
            let mut corpus = Corpus::gather(&home).expect("gathered");
            let background = background::examples(&base, &corpus.dataset, settings.seed, &NoProgress);
            corpus.add_background(background.expect("chosen"));
            corpus
        };
        // As it is, normalised, with its arguments masked, and with other punctuation.
        let held_out = |corpus: &Corpus| -> HashSet<Key> {
            let forms = |example: &Example| {
                let [words, wording] = forms(example);
                [example.text.clone(), format!("{words}!"), format!("{words}."), words, wording]
            };
            corpus.dataset.held_out.iter().flat_map(forms).map(|text| key(&text)).collect()
        };

        run(&home, LearnScope::Everything, &settings);
        let corpus = gathered();
        let remembered = activations::remembered(&home.cache_dir());
        assert!(held_out(&corpus).is_disjoint(&remembered));
        // Nothing but what is learned and validated on, which the test above compares with what is held out.
        let trained = training_examples(&corpus, None, |_| true, &settings, swap::LIMIT);
        let allowed: HashSet<Key> = [&trained, &corpus.dataset.validation, &corpus.corrections]
            .into_iter()
            .flat_map(|part| keys(part))
            .collect();
        assert!(remembered == allowed, "{} remembered, {} allowed", remembered.len(), allowed.len());

        // People may correct the very words that were held out; then these are no longer.
        let words = "buzz me at seven";
        let is_held_out = |corpus: &Corpus| corpus.dataset.held_out.iter().any(|example| example.text == words);
        assert!(is_held_out(&corpus) && !remembered.contains(&key(words)));
        correct(&home, words, "lamp");
        correct(&home, "buzz me at half past ten, please", "alarm");
        let unswapped = TrainingSettings { value_swaps: 0, hold_back: false, ..settings.clone() };
        run(&home, LearnScope::New, &unswapped);
        let corpus = gathered();
        let remembered = activations::remembered(&home.cache_dir());
        assert!(!is_held_out(&corpus) && remembered.contains(&key(words)));
        assert!(held_out(&corpus).is_disjoint(&remembered));
        let parts = [&corpus.dataset.train, &corpus.dataset.validation, &corpus.corrections];
        let allowed: HashSet<Key> = parts.into_iter().flat_map(|part| keys(part)).collect();
        assert!(remembered.is_subset(&allowed));
    }
}
