//! No held-out text reaches anything that training reads.

use mynah_data::{
    CallRecord, Correction, Dataset, Home, ImportOptions, InteractionRecord, Log, Record, ReplyRecord, SplitName,
    import,
};
use mynah_registry::{Author, Registry};
use mynah_runtime::{Checkpoint, Model, Mynah, Precision, Tokenizer};

use super::*;
use crate::activations::{self, Key};
use crate::learn::{LearnRequest, LearnScope, Promotion, Verdict, learn};
use crate::progress::NoProgress;
use crate::settings::GateSettings;
use crate::swap;
use crate::{adaptation, background};

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
    std::fs::write(home.expectations_path(), "{\"text\":\"Lights out.\",\"function\":\"lamp\"}\n").expect("written");
    correct(&home, "lower the lamp, now", "lamp");
    directory
}

/// A turn that nobody labels, with the arguments that Mynah took it to have.
fn say(home: &Home, text: &str, slots: &[Slot]) -> String {
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
            calls: match slots {
                [] => Vec::new(),
                slots => vec![CallRecord {
                    function: "alarm".to_owned(),
                    arguments: serde_json::Map::new(),
                    slots: slots.to_vec(),
                }],
            },
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
    turn.id
}

fn correct(home: &Home, text: &str, function: &str) {
    let turn = say(home, text, &[]);
    let correction = Correction::Function { function: Some(function.to_owned()), slots: None };
    Log::open(home).append_feedback(&turn, None, Some(correction)).expect("on the disk");
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
            let trained = training_examples(&corpus, replay, |example| example.at.is_some(), &settings, swap::LIMIT);
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

/// Texts that hash to one of these splits, and one of the other.
fn hashed(splits: &[SplitName], slots: &[Slot]) -> Vec<String> {
    let names = ["anna", "bert", "carl", "dora", "emil", "frida", "gina", "hugo", "ida", "jon", "kim", "lea"];
    let texts = names.iter().flat_map(|a| names.iter().map(move |b| format!("{a} and {b} are here at three")));
    texts.filter(|text| splits.contains(&hashed_split(text, slots))).take(5).collect()
}

#[test]
fn nothing_held_out_reaches_adaptation() {
    let directory = home();
    let home = Home::new(directory.path());
    let before = Corpus::gather(&home).expect("gathered");
    let in_other_dress = |example: &Example| format!("{}!", example.text.to_uppercase());
    let Dataset { held_out, validation, .. } = &before.dataset;
    assert!(held_out.iter().any(|example| example.text == "buzz me at seven") && !validation.is_empty());
    let mut held_out: Vec<String> = held_out.iter().chain(validation).map(in_other_dress).collect();
    // What is pinned, and a held-out wording with other arguments, which nobody marked.
    held_out.extend(["Lights  OUT", "buzz me at half past 8 in the morning"].map(String::from));
    held_out.iter().for_each(|text| drop(say(&home, text, &[])));
    // What would be held out or validated on once it was labelled, as it is or with the arguments of the reply.
    let judged = hashed(&[SplitName::HeldOut, SplitName::Validation], &[]);
    judged.iter().for_each(|text| drop(say(&home, text, &[])));
    let slot = |text: &str| Slot { name: "name".into(), start: 0, end: text.find(' ').unwrap(), value: String::new() };
    let masked: Vec<String> = hashed(&[SplitName::Train], &[])
        .into_iter()
        .chain(["emil wants some tea".to_owned()])
        .filter(|text| {
            hashed_split(text, &[]) == SplitName::Train && hashed_split(text, &[slot(text)]) != SplitName::Train
        })
        .collect();
    masked.iter().for_each(|text| drop(say(&home, text, &[slot(text)])));
    let free = hashed(&[SplitName::Train], &[]);
    free.iter().filter(|text| !masked.contains(text)).for_each(|text| drop(say(&home, text, &[])));
    assert_eq!((judged.len(), free.len()), (5, 5));
    assert!(masked.len() > 1, "{masked:?}");

    let corpus = Corpus::gather(&home).expect("gathered");
    let read = adaptation::texts(&home, &corpus).expect("read");
    let has = |text: &str| read.iter().any(|read| normalise(read) == normalise(text));
    for text in held_out.iter().chain(&judged).chain(&masked) {
        assert!(!has(text), "{text:?} is held out");
    }
    assert!(free.iter().filter(|text| !masked.contains(text)).all(|text| has(text)), "the others are read");
    assert!(has("lower the lamp, now") && has("buzz me at four"), "what is trained on is read");

    // Also as the splits write them.
    let guard = HeldOut::of(&corpus);
    let (validation, held_out) = (&corpus.dataset.validation, &corpus.dataset.held_out);
    assert!(!held_out.is_empty() && !validation.is_empty());
    for example in held_out.iter().chain(validation) {
        assert!(guard.has_unlabelled(&example.text, []) && !has(&example.text), "{:?}", example.text);
    }
}

#[test]
fn a_gap_takes_one_word_or_more() {
    let words = |text: &'static str| text.split(' ').collect::<Vec<_>>();
    let parts = |text: &str| -> Vec<Part> {
        text.split(' ').map(|word| if is_gap(word) { Part::Gap } else { Part::Word(word.into()) }).collect()
    };
    assert!(fills(&parts("wake me at <time>"), &words("wake me at half past nine")));
    assert!(!fills(&parts("wake me at <time>"), &words("wake me at")));
    assert!(fills(&parts("<who> calls <whom>"), &words("my aunt calls calls me")));
    assert!(!fills(&parts("<who> calls <whom> now"), &words("my aunt calls me")));
    let example = Example {
        slots: vec![Slot { name: "song".into(), start: 0, end: 5, value: "hello".into() }],
        text: "hello".into(),
        function: "play".into(),
        split: None,
        source: Source::Written,
        origin: String::new(),
        at: None,
        weight: 1.0,
    };
    let alone = Wordings::of([&example].into_iter());
    assert!(!alone.have("anything"), "an argument alone is no wording");
    let of_two = Example { text: "hello please".into(), ..example };
    let wordings = Wordings::of([&of_two].into_iter());
    assert!(wordings.have("the other one please") && wordings.have("<song> please") && !wordings.have("please"));
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
    let (tokenizer, base) =
        (Tokenizer::from_checkpoint(&starter).expect("one"), Model::load(&starter, Precision::Int8).expect("loaded"));
    let settings =
        TrainingSettings { epochs: Some(1), frozen_layers: 1, value_swaps: 20, ..TrainingSettings::default() };
    let key = |text: &str| activations::key(&tokenizer.encode(text, settings.max_tokens).input_ids);
    let keys = |examples: &[Example]| -> HashSet<Key> { examples.iter().map(|example| key(&example.text)).collect() };
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
    let allowed: HashSet<Key> =
        [&trained, &corpus.dataset.validation, &corpus.corrections].into_iter().flat_map(|part| keys(part)).collect();
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
