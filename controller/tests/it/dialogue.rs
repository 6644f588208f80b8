//! The measurements on a few dialogues of our own, in the form of the public data sets.

use std::path::Path;

use serde_json::Value;

use crate::home::{errors, program, text};

fn fixtures(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name).to_string_lossy().into_owned()
}

#[test]
fn dialogues_are_read_better_with_the_turns_before() {
    let home = tempfile::tempdir().unwrap();
    let arguments = ["benchmark", "dialogue", "--json", "--data", &fixtures("dialogue"), "--home"];
    let output = program().args(arguments).arg(home.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    let report: Value = serde_json::from_str(text(&output).trim()).unwrap();
    assert_eq!((&report["model"], &report["split"]), (&Value::from("starter"), &Value::from("test")));
    let score = |set: &str, method: &str, part: &str, name: &str| {
        report["sets"][set][method][part][name]
            .as_f64()
            .unwrap_or_else(|| panic!("{set} {method} {part} {name}: {report}"))
    };
    for set in ["sgd_followups", "sgd_corrections"] {
        let (alone, context) =
            (score(set, "alone", "all", "joint_goal_accuracy"), score(set, "in_context", "all", "joint_goal_accuracy"));
        assert!(context >= 0.8 && context > alone, "{set}: {alone} alone, {context} in context");
        assert_eq!(score(set, "in_context", "all", "intent_accuracy"), 1.0, "{set}");
    }
    assert_eq!(score("sgd_followups", "in_context", "seen_services", "turns"), 1.0);
    assert_eq!(score("sgd_followups", "in_context", "unseen_services", "turns"), 4.0);
    assert_eq!(report["sets"]["sgd_corrections"]["in_context"]["by_kind"]["repair"]["turns"], 1);
    assert_eq!(report["single_wishes"], Value::Array(Vec::new()), "those files are not there");
}

#[test]
fn what_is_not_there_is_said() {
    let home = tempfile::tempdir().unwrap();
    let run = |data: &str, more: &[&str]| {
        let arguments = ["benchmark", "dialogue", "--data", data, "--home"];
        program().args(arguments).arg(home.path()).args(more).output().unwrap()
    };
    let missing = run(&home.path().to_string_lossy(), &[]);
    assert!(errors(&missing).contains("cannot read") && errors(&missing).contains("hint:"), "{}", errors(&missing));
    let split = run(&fixtures("dialogue"), &["--split", "dev"]);
    assert!(errors(&split).contains("no turns of split `dev`"), "{}", errors(&split));
    let table = run(&fixtures("dialogue"), &["--quiet"]);
    assert!(text(&table).lines().count() == 7 && text(&table).contains("in_context"), "{}", text(&table));
}
