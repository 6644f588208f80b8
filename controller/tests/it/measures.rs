//! `mynah benchmark` and `import --questions` on files of a few lines.

use serde_json::Value;

use crate::home::{TestHome, errors, program, text};

const QUERIES: &str = "{\"question\":\"When do the bins go out?\",\"positives\":[7]}\n\
    {\"question\":\"Who feeds the cat?\",\"positives\":[3]}\n";
const CANDIDATES: &str = "{\"i\":3,\"text\":\"The cat is fed by our neighbour.\"}\n\
    {\"i\":7,\"text\":\"The bins are put out on Thursday.\"}\n\
    {\"i\":9,\"text\":\"Trains leave from the north station.\"}\n";

#[test]
fn retrieval_ranks_the_sentence_that_answers_first() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let (queries, candidates) = (file("queries.jsonl", QUERIES), file("candidates.jsonl", CANDIDATES));
    let run = |queries: &std::path::Path| {
        let files = ["--queries".as_ref(), queries.as_os_str(), "--candidates".as_ref(), candidates.as_os_str()];
        program().args(["benchmark", "retrieval", "--json"]).args(files).output().unwrap()
    };
    let output = run(&queries);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["queries"], &report["candidates"]), (&2.into(), &3.into()));
    let results = report["results"].as_array().unwrap();
    assert_eq!(results.iter().map(|one| &one["precision"]).collect::<Vec<_>>(), ["int8", "f32"]);
    assert!(results.iter().all(|one| one["recall@1"] == 1.0 && one["mrr"] == 1.0), "{report}");
    let strange = file("strange.jsonl", "{\"question\":\"who?\",\"positives\":[99]}\n");
    let output = run(&strange);
    assert_ne!(output.status.code(), Some(0));
    assert!(errors(&output).contains("hint: a query's `positives`"), "{}", errors(&output));
}

#[test]
fn a_model_without_an_answer_head_is_not_scored() {
    let directory = tempfile::tempdir().unwrap();
    let test = directory.path().join("test.jsonl");
    let question = "{\"context\":\"The door is red.\",\"question\":\"Which colour?\",\"answers\":[{\"text\":\"red\",\"start\":12}]}";
    std::fs::write(&test, question).unwrap();
    let output = program().args(["benchmark", "answers", "--test"]).arg(&test).output().unwrap();
    assert_ne!(output.status.code(), Some(0));
    assert!(errors(&output).contains("starter has no answer head"), "{}", errors(&output));
}

#[test]
fn adaptation_is_measured_beside_the_same_run_without_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("utterances.jsonl");
    let things = ["one", "two", "three", "four", "five", "six", "seven", "eight"];
    let line = |text: String, intent: &str, split: &str| {
        format!("{}\n", serde_json::json!({"text": text, "intent": intent, "slots": [], "split": split}))
    };
    let train = things.iter().flat_map(|thing| {
        [
            line(format!("wake me at {thing}"), "alarm", "train"),
            line(format!("play song number {thing}"), "music", "train"),
        ]
    });
    let asked = [line("get me up early".into(), "alarm", "valid"), line("some music".into(), "music", "valid")];
    std::fs::write(&file, train.chain(asked).collect::<String>()).unwrap();
    let mut command = program();
    command.args(["benchmark", "adaptation", "--labels-per-function", "3", "--epochs", "0,1", "--json", "--examples"]);
    let output = command.arg(&file).env("MYNAH_TRAINING__EPOCHS", "1").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let arms = report["arms"].as_array().unwrap();
    assert_eq!((arms.len(), &report["asked"]), (2, &2.into()));
    assert!(arms.iter().all(|arm| arm["labels"] == 6 && arm["near_base"].as_f64().unwrap() > 0.5), "{report}");
    assert!(arms[0]["adapted"].is_null());
    // Numbers make no difference to which texts are the same, but number words do.
    assert!(arms[1]["adapted"]["texts"].as_u64().unwrap() >= 6, "{report}");
    assert_eq!(arms[1]["adapted"]["losses"].as_array().map(Vec::len), Some(1));
}

#[test]
fn import_takes_nothing_but_questions_when_told_so() {
    let home = TestHome::empty();
    let lines = "{\"context\":\"The door is red.\",\"question\":\"Which colour?\",\"answers\":[{\"text\":\"red\",\"start\":12}]}\n\
        {\"text\":\"wake me\",\"intent\":\"alarm\"}\n";
    let file = home.write("mixed.jsonl", lines.as_bytes());
    let output = home.run(&["import", "--questions", "--json", &file.to_string_lossy()]);
    assert_eq!(output.status.code(), Some(3), "{}", errors(&output));
    let summary: Value = serde_json::from_str(&text(&output)).unwrap();
    assert_eq!((&summary["imported"], &summary["files"][0]["questions"]), (&1.into(), &1.into()));
    assert!(
        errors(&output).contains("mixed.jsonl:2: an utterance, not a question on a passage"),
        "{}",
        errors(&output)
    );
}
