//! Pinned sentences, the simulation of the gate, and what a run reports.

use serde_json::Value;

use crate::home::{TestHome, errors, text};

#[test]
fn a_pinned_sentence_that_is_missed_keeps_a_candidate_out() {
    let home = TestHome::trained();
    // Both say the same of the same version, so whichever it is: what production says is right, and its opposite is wrong.
    let said = home.run_with(&["predict", "--json"], b"please play some abba\n");
    let said: Value = serde_json::from_str(text(&said).trim()).unwrap();
    let function = said["function"].as_str();
    let right = function.map_or(vec!["--nothing"], |name| vec!["--function", name, "--any-arguments"]);
    let added = home.json(&[&["expect", "add", "please play some abba"], right.as_slice()].concat());
    assert_eq!((&added["expectations"], &added["right_now"]), (&1.into(), &true.into()), "{added}");
    assert_eq!(home.json(&["expect", "check"])["missed"], 0);
    let twice = home.run(&["expect", "add", "Please play some ABBA", "--nothing"]);
    assert!(errors(&twice).contains("is pinned already, in line 1"), "{}", errors(&twice));
    let unknown = home.run(&["expect", "add", "lamp on", "--function", "lihgts"]);
    assert!(errors(&unknown).contains("hint: did you mean `lights`?"), "{}", errors(&unknown));

    // Nothing that is learned calls anything else for this than a function of the home, and not this one with this argument.
    let pinned = home.ok(&["expect", "add", "the [quick](artist) brown fox", "--function", "play"]);
    assert_eq!(pinned, "2 sentences pinned\n");
    let checked = home.run(&["expect", "check"]);
    assert_eq!(checked.status.code(), Some(4), "{}", text(&checked));
    assert!(text(&checked).contains("missed: \"the quick brown fox\" is"), "{}", text(&checked));
    let trained = home.run(&["train", "--force"]);
    assert_eq!(trained.status.code(), Some(4), "{}", errors(&trained));
    assert!(text(&trained).contains("FAIL  expectations"), "{}", text(&trained));
    assert!(text(&trained).contains("\"the quick brown fox\" is"), "{}", text(&trained));

    let listed = home.json(&["expect", "list"]);
    assert_eq!(listed[1]["arguments"]["artist"], "quick");
    assert_eq!(home.json(&["expect", "remove", "The quick brown fox"])["expectations"], 1);
    home.write(
        "expectations.jsonl",
        b"{\"text\":\"lamp on\",\"function\":\"lights\"}\n{\"text\":\"x\",\"functoin\":null}\n",
    );
    let broken = home.run(&["train", "--force"]);
    assert!(errors(&broken).contains("expectations.jsonl:2: unknown key `functoin`"), "{}", errors(&broken));
    assert!(errors(&broken).contains("hint: did you mean `function`?"), "{}", errors(&broken));
}

#[test]
fn the_simulation_says_how_often_the_gate_errs() {
    let home = TestHome::empty();
    let simulated =
        home.json(&["simulate", "gate", "--examples", "1000", "--churn", "0.04", "--candidates", "200", "--seed", "3"]);
    assert_eq!(simulated["gate"]["margin"], 0.02);
    let cases = simulated["rows"][0]["cases"].as_array().unwrap();
    let promoted = |name: &str| {
        let case = cases.iter().find(|case| case["case"] == name).unwrap();
        assert_eq!(case["candidates"], 200);
        case["promoted"].as_u64().unwrap()
    };
    assert!(promoted("equal") <= 20 && promoted("lost_two_points") <= 20, "{cases:?}");
    assert!(promoted("equal_with_correction") >= 100, "{cases:?}");
    let table = home.ok(&["simulate", "gate", "--examples", "100", "--churn", "0.04", "--candidates", "50"]);
    assert_eq!(table.lines().count(), 2, "{table}");
    let wrong = home.run(&["simulate", "gate", "--churn", "4"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", errors(&wrong));
}
