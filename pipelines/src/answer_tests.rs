//! Questions from import to reply, on the embedded starter.

use mynah_data::{Home, ImportOptions};
use mynah_registry::Registry;
use mynah_runtime::{AnswerSource, Checkpoint, Model, Mynah, Precision, ReplyKind};
use serde_json::{Value, json};

use crate::{GateSettings, LearnRequest, LearnScope, NoProgress, Promotion, TrainingSettings, Verdict, learn};

const FUNCTIONS: &str = r#"[
 {"name": "set_alarm", "description": "Set an alarm", "examples": ["wake me at [seven](time)", "alarm at [noon](time)",
   "set an alarm for [six](time)", "get me up at [eight](time)", "please wake me up at [nine](time)", "alarm for [ten](time)"],
  "parameters": {"type": "object", "properties": {"time": {"type": "string"}}}},
 {"name": "play_music", "description": "Play music", "examples": ["play some music", "put on a song", "I want to hear jazz",
   "start the radio", "play my favourite record", "music please"]}
]"#;

/// Passages with a question and its answer each.
const PASSAGES: [(&str, &str, &str); 6] = [
    (
        "The spare key hangs behind the blue door. Guests may use it.",
        "Where does the spare key hang?",
        "behind the blue door",
    ),
    ("The bins are emptied on Thursday. Paper goes into the green one.", "When are the bins emptied?", "Thursday"),
    ("The boiler was built in 1987 and is checked every autumn.", "When was the boiler built?", "1987"),
    ("Café Zoë opens at eight — the owner is called Marta.", "What is the owner of the café called?", "Marta"),
    ("The library lends tools to members. A drill costs two euros a day.", "How much does a drill cost?", "two euros"),
    (
        "The old tram runs from the harbour to the castle on Sundays.",
        "Where does the old tram run from?",
        "the harbour",
    ),
];

fn questions() -> String {
    let mut lines = String::new();
    for (number, (context, question, answer)) in PASSAGES.iter().enumerate() {
        let start = context.find(answer).map(|at| context[..at].chars().count()).unwrap();
        let mut put = |context: &str, answers: Value, split: &str| {
            let record = json!({"context": context, "question": question, "answers": answers, "split": split});
            lines.push_str(&format!("{record}\n"));
        };
        put(context, json!([{"text": answer, "start": start}]), "train");
        let other = PASSAGES[(number + 1) % PASSAGES.len()].0;
        put(other, json!([]), "train");
        // The same words elsewhere, so that there is something to be held out.
        let held_out = format!("Please note. {context}");
        put(&held_out, json!([{"text": answer, "start": start + 13}]), "test");
    }
    let record = json!({"context": "The lake freezes in January.", "question": "When does the lake freeze?",
        "answers": [{"text": "January", "start": 20}], "split": "valid"});
    lines.push_str(&record.to_string());
    lines
}

fn request() -> LearnRequest {
    // One long epoch, so that the last step is the one that counts, at the rate of a first version.
    let training = TrainingSettings {
        epochs: Some(1),
        value_swaps: 0,
        continued_learning_rate_factor: 1.0,
        embedding_loss_weight: 0.1,
        answer_epochs: 100,
        answer_batch_size: 4,
        answer_negatives: 0.0,
        ..TrainingSettings::default()
    };
    // What one epoch makes of a dozen examples is not the matter here.
    let gate = GateSettings {
        margin: 1.0,
        function_allowance: 1.0,
        first_accuracy: 0.0,
        precision_agreement: 0.0,
        ..GateSettings::default()
    };
    LearnRequest {
        trigger: "train".into(),
        actor: "test".into(),
        training,
        gate,
        precision: Precision::Int8,
        scope: LearnScope::Everything,
        force: true,
        promotion: Promotion::AtOnce,
        fault: mynah_data::fault::none(),
    }
}

fn training_json(registry: &Registry, version: &str) -> Value {
    let version = registry.version(version).unwrap();
    let file = &version.manifest.files["training.json"];
    serde_json::from_slice(&registry.read_object(&file.sha256).unwrap()).unwrap()
}

#[test]
fn imported_questions_are_learned_beside_functions_and_answer_from_the_knowledge() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::new(directory.path().join("home"));
    home.create().unwrap();
    std::fs::write(home.functions_path(), FUNCTIONS).unwrap();
    let about = PASSAGES.iter().map(|(context, ..)| format!("{context}\n\n")).collect::<String>();
    std::fs::create_dir_all(home.knowledge_dir()).unwrap();
    std::fs::write(home.knowledge_dir().join("house.md"), format!("# Welcome\n\n{about}")).unwrap();
    drop(Mynah::open(home.root()).unwrap());
    let registry = Registry::open(&home.registry_dir()).unwrap();

    // Without questions: no answer head, and not a word of it.
    let request = request();
    let plain = learn(&home, &registry, &request, &NoProgress).unwrap();
    let training = training_json(&registry, &plain.version);
    assert!(training.get("questions").is_none() && !training.to_string().contains("answer_"), "{training}");
    let checkpoint = |version: &str| {
        Checkpoint::from_verified(&registry.verify(&registry.version(version).unwrap()).unwrap()).unwrap()
    };
    assert!(!checkpoint(&plain.version).has("qa_outputs.weight"));

    let options = ImportOptions { questions_only: true, ..ImportOptions::default() };
    let summary = mynah_data::import(&home, questions().as_bytes(), "house.jsonl", &options).unwrap();
    assert_eq!((summary.questions, summary.skipped_total), (19, 0));
    let outcome = learn(&home, &registry, &request, &NoProgress).unwrap();
    assert_eq!(outcome.verdict, Verdict::Promoted, "{:?}", outcome.gate);
    let report = outcome.held_out.unwrap();
    let answers = report.answers.unwrap();
    assert_eq!((answers.n, answers.answerable), (6, 6));
    assert!(answers.f1 > 0.6, "{answers:?}");
    assert!(outcome.gate.rules.iter().any(|rule| rule.name == "answers" && rule.passed));
    assert_eq!(training_json(&registry, &outcome.version)["questions"]["train"], 12);

    // The head on its own passages, in characters, and silent where there is no answer.
    let model = Model::load(&checkpoint(&outcome.version), Precision::Int8).unwrap();
    for (number, (context, question, answer)) in PASSAGES.iter().enumerate() {
        let span = model.answer(question, context).unwrap_or_else(|| panic!("no answer to {question}"));
        assert_eq!(span.text, *answer, "{question}");
        assert_eq!(context.chars().skip(span.start).take(span.end - span.start).collect::<String>(), *answer);
        assert_eq!(model.answer(question, PASSAGES[(number + 1) % PASSAGES.len()].0), None, "{question}");
    }

    // And in a conversation, with its source.
    let mut session = Mynah::open(home.root()).unwrap().session().unwrap();
    let reply = session.respond("When was the boiler built?").unwrap();
    assert_eq!((reply.kind, reply.text.as_str()), (ReplyKind::Answer, "1987 (house.md, Welcome)"), "{reply:?}");
    match reply.why.answer {
        Some(AnswerSource::Passage { file, line, heading, span, .. }) => {
            assert_eq!((file.as_str(), line), ("house.md", 7));
            assert_eq!((heading.as_deref(), span.as_deref()), (Some("Welcome"), Some("1987")));
        }
        other => panic!("{other:?}"),
    }

    // What is learned is seen again a little, not from the beginning.
    let again = LearnRequest { training: TrainingSettings { answer_replay: 5, ..request.training.clone() }, ..request };
    let outcome = learn(&home, &registry, &again, &NoProgress).unwrap();
    assert_eq!(training_json(&registry, &outcome.version)["questions"]["windows_seen"], 5);

    // Everything is new to the base, but nothing to production, which is what a candidate has to be better than.
    let anew = LearnRequest { scope: LearnScope::Anew, ..again };
    let outcome = learn(&home, &registry, &anew, &NoProgress).unwrap();
    assert_eq!((outcome.parent.as_str(), outcome.new_labels.as_slice()), ("base1", &[][..]));
    assert!(!outcome.gate.rules.iter().any(|rule| rule.detail.contains("answers from passages")), "{:?}", outcome.gate);
}
