//! Labels that are held back: what contradicts another session, or production and the nearest examples.

use crate::home::{TestHome, errors, text};

#[test]
fn contradicting_labels_wait_for_the_owner() {
    let home = TestHome::trained();
    let say = |correction: &str| {
        let lines = format!("some tunes right now\n/correct {correction}\n/quit\n");
        let said = home.run_with(&["chat", "--no-learn", "--json"], lines.as_bytes());
        assert_eq!(said.status.code(), Some(0), "{}", errors(&said));
    };
    say("play");
    assert_eq!(home.json(&["labels", "list", "--held"])["held_back"], 0);
    say("weather");
    let held = home.json(&["labels", "list", "--held"]);
    let labels = held["labels"].as_array().unwrap();
    let of: Vec<_> = labels.iter().map(|label| (label["function"].as_str(), label["doubt"].as_str())).collect();
    assert_eq!(of, [(Some("play"), Some("contradicted")), (Some("weather"), Some("contradicted"))]);
    let [play, weather] = [0, 1].map(|number| labels[number]["interaction"].as_str().unwrap().to_owned());
    let shown = home.ok(&["labels", "list", "--held"]);
    assert!(shown.contains("another session calls the same words weather"), "{shown}");
    assert!(shown.contains(&format!("mynah log show {play}")), "{shown}");

    // Neither is learned, and memory has the last word all the same.
    let trained = home.run(&["train", "--epochs", "1", "--json"]);
    let trained: serde_json::Value = serde_json::from_slice(&trained.stdout).unwrap();
    assert_eq!(trained["verdict"], "nothing_new");
    assert_eq!(trained["held_back"].as_array().unwrap().len(), 2);
    let remembered = home.run_with(&["chat", "--no-learn", "--json"], b"some tunes right now\n/quit\n");
    assert!(text(&remembered).contains("\"weather\""), "{}", text(&remembered));

    home.ok(&["labels", "accept", &play]);
    home.ok(&["labels", "reject", &weather]);
    assert_eq!(home.json(&["labels", "list", "--held"])["held_back"], 0);
    let left = home.json(&["labels", "list"]);
    assert_eq!(left["labels"].as_array().unwrap().len(), 1);
    assert_eq!(left["labels"][0]["state"], "accepted");
    let learned = home.run(&["train", "--epochs", "1", "--json"]);
    let learned: serde_json::Value = serde_json::from_slice(&learned.stdout).unwrap();
    assert_eq!((&learned["counts"]["corrections"], &learned["counts"]["held_back"]), (&1.into(), &0.into()));
    let unknown = home.run(&["labels", "accept", "i_none"]);
    assert!(errors(&unknown).contains("no label has the id `i_none`"), "{}", errors(&unknown));
}

#[test]
fn a_session_that_flips_its_labels_is_held_back_and_new_functions_are_not() {
    let home = TestHome::new();
    home.ok(&["train", "--epochs", "20"]);
    let mut functions = crate::home::functions();
    functions.as_array_mut().unwrap().push(serde_json::json!({"name": "chess", "description": "chess."}));
    home.write("functions.json", functions.to_string().as_bytes());
    let flipped = ["play some abba", "play bach again", "i want to hear some abba", "play another song of bach"];
    let mut lines: String = flipped.iter().map(|text| format!("{text}\n/correct weather\n")).collect();
    lines.push_str("play chess with me\n/correct chess\n/quit\n");
    let said = home.run_with(&["chat", "--no-learn", "--json"], lines.as_bytes());
    assert_eq!(said.status.code(), Some(0), "{}", errors(&said));
    let held = home.json(&["labels", "list", "--held"]);
    let labels = held["labels"].as_array().unwrap();
    assert_eq!(labels.len(), flipped.len(), "{held}");
    let first = &labels[0];
    assert_eq!((&first["function"], &first["doubt"]), (&"weather".into(), &"outvoted".into()));
    assert_eq!(first["neighbours"][0]["function"], "play", "{first}");

    // With the setting off nobody looks.
    home.write("mynah.toml", b"[training]\nhold_back = false\n");
    assert_eq!(home.json(&["labels", "list", "--held"])["held_back"], 0);
}
