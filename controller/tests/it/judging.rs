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
    // Three tables: two lines, four (by how much is new), three (each a little worse, and none).
    assert_eq!(table.lines().count(), 2 + 1 + 4 + 1 + 3, "{table}");
    let drift = &simulated["drift"][0];
    assert!(drift["with_rule"]["lost"].as_f64() < drift["without_rule"]["lost"].as_f64(), "{drift}");
    assert!(promoted("lost_corrections") < promoted("equal_with_correction"), "{cases:?}");
    let wrong = home.run(&["simulate", "gate", "--churn", "4"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", errors(&wrong));
}

/// The rule `drift` of the run that `mynah train` does now.
fn drift(home: &TestHome, seed: &str) -> Value {
    let trained = home.run(&["train", "--force", "--seed", seed, "--json"]);
    assert!(matches!(trained.status.code(), Some(0 | 4)), "{}", errors(&trained));
    let trained: Value = serde_json::from_slice(&trained.stdout).unwrap();
    let rules = trained["gate"]["rules"].as_array().unwrap();
    rules.iter().find(|rule| rule["name"] == "drift").unwrap_or_else(|| panic!("{trained}")).clone()
}

#[test]
fn candidates_are_held_against_the_best_version_so_far() {
    let home = TestHome::trained();
    let remembered = || -> Vec<String> {
        let files = std::fs::read_dir(home.path().join("cache")).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("held-out-")).collect()
    };
    let of = |rule: &Value, version: &str| {
        let detail = rule["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(&format!("% of {version}, the best version so far")), "{detail}");
    };
    let first = drift(&home, "7");
    of(&first, "v1");
    assert!(first["candidate"].is_number() && first["production"].is_number() && first["limit"] == -1.0, "{first}");
    let files = remembered();
    assert_eq!(files.len(), 1);

    // What it has right is remembered; deleted or damaged, it is asked again and says the same.
    let path = home.path().join("cache").join(&files[0]);
    let kept = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(drift(&home, "7"), first);
    assert_eq!(std::fs::read(&path).unwrap(), kept);

    // The gate promotes the next for a new correction; the best is still the first, or the new one where that is better.
    let said = home.run_with(&["chat", "--no-learn", "--json"], b"some tunes right now\n/correct play\n/quit\n");
    assert_eq!(said.status.code(), Some(0), "{}", errors(&said));
    let promoted = home.json(&["train", "--epochs", "20"]);
    assert_eq!(promoted["verdict"], "promoted", "{promoted}");
    let version = promoted["version"].as_str().unwrap();
    let second = drift(&home, "8");
    let is_better = !remembered().contains(&files[0]);
    of(&second, if is_better { version } else { "v1" });
    std::fs::remove_dir_all(home.path().join("cache")).unwrap();
    assert_eq!(drift(&home, "8"), second, "the first of the line is asked, and production where it is better");

    // The owner's word begins anew.
    home.ok(&["models", "promote", "v2"]);
    of(&drift(&home, "9"), "v2");
}

#[test]
fn a_run_leaves_a_report_and_calibration_comes_with_the_version() {
    let home = TestHome::trained();
    home.second_version();
    let report = home.json(&["report"]);
    assert_eq!(report["version"], "v2");
    let rules = report["gate"]["rules"].as_array().unwrap();
    assert!(rules.iter().any(|rule| rule["name"] == "not worse"), "{rules:?}");
    let analysis = &report["analysis"];
    let changes = &analysis["changes"];
    assert_eq!(changes["against"], "v1");
    let counted = ["fixed", "broken", "both_right", "both_wrong"].map(|key| changes[key].as_u64().unwrap());
    assert_eq!(counted.iter().sum::<u64>(), analysis["n"].as_u64().unwrap());
    assert_eq!(report["lineage"]["parent"], "v1");

    // Every version has the temperature and threshold that were fitted for it, on the validation examples of its run.
    for version in ["v1", "v2"] {
        let report = home.json(&["report", version]);
        let calibration = &report["analysis"]["calibration"];
        // Those of the home, and background texts.
        let validation = report["lineage"]["counts"]["validation"].as_u64().unwrap();
        assert!(calibration["fitted_on"].as_u64().unwrap() >= validation.max(1), "{report}");
        let directory = home.path().join(format!("exported-{version}"));
        home.ok(&["models", "export", version, directory.to_str().unwrap()]);
        let file: Value = serde_json::from_slice(&std::fs::read(directory.join("calibration.json")).unwrap()).unwrap();
        for key in ["temperature", "threshold"] {
            let (stored, reported) = (file[key].as_f64().unwrap(), calibration[key].as_f64().unwrap());
            assert!((stored - reported).abs() < 1e-6, "{version} {key}: {stored} beside {reported}");
        }
        assert_ne!(file["temperature"].as_f64(), Some(1.0), "{version}: fitted, not the default");
    }

    let run = report["lineage"]["run"].as_str().unwrap();
    let page = std::fs::read_to_string(home.path().join("runs").join(run).join("report.html")).unwrap();
    assert!(page.contains("What changed against v1") && page.contains("<svg"), "{page}");
    assert!(home.ok(&["report", run]).contains("not worse"));
    let elsewhere = home.path().join("page.html");
    home.ok(&["report", "v1", "--html", elsewhere.to_str().unwrap()]);
    assert!(std::fs::read_to_string(&elsewhere).unwrap().contains("<h1>v1"));
    let missing = home.run(&["report", "base1"]);
    assert!(errors(&missing).contains("no run of this home reports on base1"), "{}", errors(&missing));

    let examples = home.write(
        "scored.jsonl",
        b"{\"text\":\"play wagner\",\"intent\":\"play\",\"slots\":[]}\n{\"text\":\"tell her\",\"intent\":\"oos\",\"slots\":[]}\n",
    );
    let scored = home.path().join("scored.html");
    let flags = ["evaluate", "--examples", examples.to_str().unwrap(), "--html", scored.to_str().unwrap()];
    let plain = home.json(&flags[..3]);
    assert_eq!(home.json(&flags), plain, "a page changes no figure");
    assert!(std::fs::read_to_string(&scored).unwrap().contains("2 examples of scored.jsonl"));
}
