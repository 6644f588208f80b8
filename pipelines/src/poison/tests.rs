//! Which labels are flipped, and that the gate alone refuses a flipped majority.

use super::*;
use mynah_data::{ImportOptions, Slot, Source, fault};
use mynah_runtime::Mynah;
use serde_json::json;
use std::path::Path;

fn poisoning(count: usize) -> Poisoning {
    let label = |number: usize| Example {
        text: format!("text {number}"),
        function: ["a", "b", "c"][number % 3].into(),
        slots: vec![Slot { name: "t".into(), start: 0, end: 4, value: "text".into() }],
        split: None,
        source: Source::Imported,
        origin: "test".into(),
        at: None,
        weight: 1.0,
    };
    Poisoning {
        labels: (0..count).map(label).collect(),
        per_session: 20,
        flipped: 0.05,
        test: Vec::new(),
        training: TrainingSettings::default(),
        gate: GateSettings::default(),
        precision: Precision::Int8,
        seed: 3,
    }
}

#[test]
fn as_many_labels_are_flipped_as_the_arm_says() {
    let poisoning = poisoning(200);
    let differing = |arm| {
        let (labels, flipped) = poisoning.labels_of(arm);
        let differ = labels.iter().zip(&poisoning.labels).map(|(label, right)| label.function != right.function);
        let differ: Vec<bool> = differ.collect();
        assert_eq!(differ.iter().filter(|differs| **differs).count(), flipped.len());
        differ
    };
    assert!(!differing(PoisonArm::Clean).contains(&true) && !differing(PoisonArm::CleanAgain).contains(&true));
    assert_eq!(differing(PoisonArm::Guarded).iter().filter(|differs| **differs).count(), 10);
    assert_eq!(differing(PoisonArm::Guarded), differing(PoisonArm::Unguarded));
    let session = differing(PoisonArm::SessionGuarded);
    assert_eq!(session[..20].iter().filter(|differs| **differs).count(), 12);
    assert!(!session[20..].contains(&true));
    for arm in [PoisonArm::MajorityUnguarded, PoisonArm::MajorityConsistent] {
        let majority = differing(arm);
        assert!(majority.chunks(20).all(|session| session.iter().filter(|differs| **differs).count() == 12));
    }
    let (consistent, _) = poisoning.labels_of(PoisonArm::MajorityConsistent);
    let became: BTreeSet<(&str, &str)> = consistent
        .iter()
        .zip(&poisoning.labels)
        .filter(|(label, right)| label.function != right.function)
        .map(|(label, right)| (right.function.as_str(), label.function.as_str()))
        .collect();
    assert_eq!(became, BTreeSet::from([("a", "b"), ("b", "c"), ("c", "a")]));
}

/// What a function is asked for with, and other ways to ask for it that only conversations have.
const FUNCTIONS: [(&str, [&str; 5], [&str; 4]); 4] = [
    (
        "alarm",
        [
            "wake me at VALUE",
            "set an alarm for VALUE",
            "alarm at VALUE",
            "get me up at VALUE",
            "ring the bell at VALUE",
        ],
        ["rise and shine at VALUE", "no more sleep after VALUE", "out of bed by VALUE", "end my nap at VALUE"],
    ),
    (
        "music",
        ["play VALUE", "put on some VALUE", "i want to hear VALUE", "start the VALUE record", "music by VALUE"],
        ["let VALUE fill the house", "tunes of VALUE for me", "spin a disc of VALUE", "let us dance to VALUE"],
    ),
    (
        "weather",
        [
            "will it rain in VALUE",
            "weather in VALUE",
            "is it cold in VALUE",
            "does it snow in VALUE",
            "forecast for VALUE",
        ],
        [
            "do i need a coat in VALUE",
            "umbrella or not in VALUE",
            "sunny skies over VALUE",
            "how many degrees has VALUE",
        ],
    ),
    (
        "lights",
        [
            "lights on in the VALUE",
            "turn on the lamp in the VALUE",
            "light the VALUE",
            "it is dark in the VALUE",
            "make the VALUE bright",
        ],
        ["i see nothing in the VALUE", "let the VALUE shine", "no gloom in the VALUE", "glow in the VALUE please"],
    ),
];
const VALUES: [[&str; 7]; 4] = [
    ["six", "seven", "eight", "nine", "ten", "noon", "five"],
    ["abba", "queen", "bach", "mozart", "elvis", "sting", "wagner"],
    ["rome", "oslo", "paris", "lima", "york", "berlin", "cairo"],
    ["kitchen", "hall", "attic", "cellar", "bedroom", "garage", "office"],
];

fn said(function: usize, wording: &str, value: usize) -> Example {
    let (text, words) = (wording.replace("VALUE", VALUES[function][value]), VALUES[function][value]);
    let start = text.find(words).expect("it was put there");
    let slot = Slot { name: "what".into(), start, end: start + words.len(), value: words.into() };
    Example {
        text,
        function: FUNCTIONS[function].0.into(),
        slots: vec![slot],
        split: None,
        source: Source::Imported,
        origin: "test".into(),
        at: None,
        weight: 1.0,
    }
}

/// Five values of every wording are trained on, one chooses the epoch, one is held out.
fn examples(split: &str, values: std::ops::Range<usize>) -> Vec<(Example, String)> {
    let all = (0..FUNCTIONS.len()).flat_map(|function| {
        let wordings = FUNCTIONS[function].1.iter();
        let values = values.clone();
        wordings.flat_map(move |wording| values.clone().map(move |value| said(function, wording, value)))
    });
    let line = |example: Example| {
        let record = json!({"text": example.text, "intent": example.function, "slots": example.slots, "split": split});
        (example, format!("{record}\n"))
    };
    all.map(line).collect()
}

/// Of every five labels three are near to what is known, which are those that get flipped, and two new wordings.
fn labels() -> Vec<Example> {
    let label = |number: usize| {
        let function = number % FUNCTIONS.len();
        let (_, known, other) = &FUNCTIONS[function];
        match number % 5 {
            0..3 => said(function, &format!("could you {} now", known[number % 5]), number / 5 % 7),
            place => said(function, other[(place - 3) * 2 + number / 20 % 2], number / 4 % 7),
        }
    };
    (0..60).map(label).collect()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

/// Nothing is held back here: what keeps the labels out of production is the gate alone. The same labels, right, go through.
#[test]
fn the_gate_refuses_what_a_flipped_majority_taught() {
    let directory = tempfile::tempdir().unwrap();
    let first = Home::new(directory.path().join("first"));
    first.create().unwrap();
    drop(Mynah::open(first.root()).unwrap());
    let splits = [examples("train", 0..5), examples("valid", 5..6), examples("test", 6..7)];
    let lines: String = splits.iter().flatten().map(|(_, line)| line.as_str()).collect();
    mynah_data::import(&first, lines.as_bytes(), "known.jsonl", &ImportOptions::default()).unwrap();
    let registry = Registry::open(&first.registry_dir()).unwrap();
    let gate = GateSettings { precision_agreement: 0.0, max_latency_ms: 60_000.0, ..GateSettings::default() };
    let request = LearnRequest {
        trigger: "train".into(),
        actor: "test".into(),
        training: TrainingSettings { epochs: Some(12), ..TrainingSettings::default() },
        gate: gate.clone(),
        precision: Precision::Int8,
        scope: LearnScope::Everything,
        force: false,
        promotion: Promotion::AtOnce,
        fault: fault::none(),
    };
    assert_eq!(learn(&first, &registry, &request, &NoProgress).unwrap().verdict, Verdict::Promoted);

    let poisoning = Poisoning {
        labels: labels(),
        test: splits[2].iter().map(|(example, _)| example.clone()).collect(),
        gate,
        ..poisoning(0)
    };
    let report = |name: &str, arm, training: &TrainingSettings| {
        let home = Home::new(directory.path().join(name));
        copy(first.root(), home.root());
        Poisoning { training: training.clone(), ..poisoning.clone() }.run(arm, &home, &NoProgress).unwrap()
    };
    let defaults = TrainingSettings::default();
    let clean = report("clean", PoisonArm::Clean, &defaults);
    assert_eq!((clean.flipped, clean.verdict), (0, Verdict::Promoted), "{clean:?}");
    // What contradicts all that is known is not learned well enough to be let pass.
    let drawn = report("drawn", PoisonArm::MajorityUnguarded, &defaults);
    assert_eq!((drawn.flipped, drawn.held_back, drawn.verdict), (36, 0, Verdict::Refused), "{drawn:?}");
    // Learned without anything against it, it is, and what was known goes wrong.
    let defenceless = TrainingSettings {
        replay_tokens: 0,
        replay_share: 0.0,
        distillation_weight: 0.0,
        ..TrainingSettings::default()
    };
    let consistent = report("consistent", PoisonArm::MajorityConsistent, &defenceless);
    assert_eq!((consistent.flipped, consistent.verdict), (36, Verdict::Refused), "{consistent:?}");
    assert!(consistent.reason.contains("exact match") && consistent.candidate < consistent.before, "{consistent:?}");
    assert_eq!(consistent.after, consistent.before, "production stays");
}
