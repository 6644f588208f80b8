//! What the service does to production by itself, and what it leaves alone.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use mynah_data::{Home, InteractionRecord, Log, Record, ReplyRecord, new_interaction_id};
use mynah_registry::{Author, ManifestDraft, Registry};
use serde_json::{Value, json};

use crate::home::{TestHome, errors};
use crate::service_home::Running;

const LOOK_EVERY: Duration = Duration::from_millis(20);

fn registry(home: &TestHome) -> Registry {
    Registry::open(&home.path().join("registry")).unwrap()
}

/// Promotes as the gate does, which the watch may take back.
fn promote_by_gate(home: &TestHome, name: &str) {
    let registry = registry(home);
    let version = registry.version(name).unwrap();
    let current = registry.production().unwrap().map(|version| version.manifest_digest);
    registry.promote(&version, current.as_ref(), json!([]), &Author::new("test", "passed")).unwrap();
}

/// Writes sessions of ten turns that a version answered, of which every `wrong_every`-th was not understood.
fn talk(home: &TestHome, version: &str, turns: usize, wrong_every: usize) {
    let digest = registry(home).version(version).unwrap().manifest_digest.to_string();
    let log = Log::open(&Home::new(home.path()));
    let mut session = log.start_session("test").unwrap();
    for turn in 0..turns {
        if turn > 0 && turn % 10 == 0 {
            session.end("quit").unwrap();
            session = log.start_session("test").unwrap();
        }
        let kind = if turn % wrong_every == 0 { "abstain" } else { "call" };
        let reply = ReplyRecord {
            text: String::new(),
            kind: kind.to_owned(),
            calls: Vec::new(),
            confidence: 0.9,
            source: "model".to_owned(),
            policy: None,
        };
        let record = InteractionRecord {
            id: new_interaction_id(),
            session: session.id().to_owned(),
            at: Timestamp::now(),
            text: format!("turn {turn}"),
            reply,
            version: Some(version.to_owned()),
            version_digest: Some(digest.clone()),
            latency_ms: 1.0,
        };
        session.append(&Record::Interaction(record)).unwrap();
    }
    session.end("quit").unwrap();
}

fn production(home: &TestHome) -> Value {
    home.json(&["models", "list"])["production"].clone()
}

/// A home whose second version was promoted over the first and is not understood by anybody.
fn worse_off() -> TestHome {
    let home = TestHome::trained();
    home.second_version();
    home.ok(&["models", "rollback"]);
    talk(&home, "v1", 300, 10);
    promote_by_gate(&home, "v2");
    talk(&home, "v2", 60, 2);
    home
}

#[test]
fn a_version_that_people_are_worse_off_with_is_taken_back_for_good() {
    let home = worse_off();
    let service = Running::start(&home);
    while production(&home) != "v1" {
        std::thread::sleep(LOOK_EVERY);
    }
    let (_, reply) = service.ask("POST", "/chat", &json!({"message": "play abba"}));
    assert!(matches!(reply["version"].as_str(), Some("v1" | "v2")), "{reply}");
    service.stop();
    let journal = home.ok(&["models", "log"]);
    assert!(journal.contains("people are worse off with v2") && journal.contains("30 of 300 before it"), "{journal}");
    assert!(journal.contains("quarantined v2"), "{journal}");
    let again = home.run(&["models", "promote", "v2"]);
    assert!(errors(&again).contains("quarantined"), "{}", errors(&again));
}

#[test]
fn what_an_owner_pinned_or_promoted_stays() {
    let home = worse_off();
    home.ok(&["pin", "--reason", "the demo"]);
    assert!(errors(&home.run(&["models", "rollback"])).contains("v2 is pinned by tester (the demo)"));
    assert_eq!(home.run(&["models", "promote", "v1"]).status.code(), Some(1));
    let service = Running::start(&home);
    // A finished job says that the service has looked at the log; it may not promote.
    let (_, answer) = service.ask("POST", "/fine-tune", &json!({"training": {"epochs": 1}, "force": true}));
    let path = format!("/jobs/{}", answer["job"].as_str().unwrap());
    let job = loop {
        let (_, job) = service.ask("GET", &path, &Value::Null);
        if !matches!(job["state"].as_str(), Some("queued" | "running")) {
            break job;
        }
        std::thread::sleep(LOOK_EVERY);
    };
    assert!(matches!(job["outcome"]["verdict"].as_str(), Some("accepted" | "refused")), "{job}");
    assert_eq!(production(&home), "v2");
    let status = home.json(&["status"]);
    assert_eq!(status["pin"]["reason"], "the demo");
    assert_eq!(
        (&status["control"]["watch"]["version"], &status["control"]["watch"]["before"]),
        (&json!("v2"), &json!("v1"))
    );
    service.stop();
    home.ok(&["unpin"]);
    // By hand: what a person put there is not the watch's business.
    home.ok(&["models", "promote", "v1"]);
    home.ok(&["models", "promote", "v2"]);
    talk(&home, "v2", 60, 2);
    let service = Running::start(&home);
    let (_, reply) = service.ask("POST", "/chat", &json!({"message": "play abba"}));
    assert_eq!(
        service.ask("POST", "/feedback", &json!({"interaction": reply["interaction"], "rating": "down"})).0,
        200
    );
    service.stop();
    assert_eq!(production(&home), "v2");
}

#[test]
fn promotions_under_load_cost_no_request_and_every_reply_names_one_version() {
    let home = TestHome::trained();
    home.second_version();
    let service = Running::start(&home);
    let over = AtomicBool::new(false);
    let ask = || {
        let mut versions = BTreeSet::new();
        let mut session = Value::Null;
        while !over.load(Ordering::Acquire) {
            let (status, reply) = service.ask("POST", "/chat", &json!({"message": "play abba", "session": session}));
            assert_eq!(status, 200, "{reply}");
            session = reply["session"].clone();
            versions.insert(reply["version"].as_str().unwrap().to_owned());
        }
        versions
    };
    let is_served = |version: &str| service.ask("POST", "/chat", &json!({"message": "hi"})).1["version"] == version;
    let seen = std::thread::scope(|scope| {
        let askers = [scope.spawn(ask), scope.spawn(ask)];
        for number in 0..6 {
            let version = if number % 2 == 0 { "v1" } else { "v2" };
            match number % 2 {
                0 => home.ok(&["models", "rollback"]),
                _ => home.ok(&["models", "promote", "v2"]),
            };
            while !is_served(version) {
                std::thread::sleep(LOOK_EVERY);
            }
        }
        over.store(true, Ordering::Release);
        askers.map(|asker| asker.join().unwrap())
    });
    for versions in seen {
        assert_eq!(versions, BTreeSet::from(["v1".to_owned(), "v2".to_owned()]));
    }
}

/// Registers a copy of the first version as a candidate that passed the gate.
fn add_candidate(home: &TestHome) {
    let directory = home.path().join("copy");
    home.ok(&["models", "export", "v1", directory.to_str().unwrap()]);
    std::fs::write(directory.join("README.md"), "a copy").unwrap();
    let registry = registry(home);
    let author = Author::new("test", "passed");
    let version = registry.add_directory(&directory, ManifestDraft::version("test"), &author).unwrap();
    registry.tag(&version, "candidate", &author).unwrap();
}

#[test]
fn a_candidate_is_tried_in_the_shadow_then_on_some_sessions_then_promoted() {
    let home = TestHome::trained();
    let settings = std::fs::read_to_string(home.path().join("mynah.toml")).unwrap();
    let rollout = "[rollout]\nshadow_requests = 5\nlogged_requests = 20\ncanary_share = 0.5\ncanary_turns = 5\n";
    home.write("mynah.toml", format!("{settings}{rollout}").as_bytes());
    let chat =
        home.run_with(&["chat", "--no-learn"], b"play abba\nwill it rain in rome\n/correct weather city=rome\n/quit\n");
    assert_eq!(chat.status.code(), Some(0), "{}", errors(&chat));
    add_candidate(&home);
    let service = Running::start(&home);
    let mut versions = BTreeSet::new();
    while production(&home) != "v2" {
        // Every request begins a session, and a session stays with who answered it first.
        let (status, reply) = service.ask("POST", "/chat", &json!({"message": "play abba"}));
        assert_eq!(status, 200, "{reply}");
        let again = json!({"message": "play queen", "session": reply["session"]});
        let (_, next) = service.ask("POST", "/chat", &again);
        if production(&home) == "v1" {
            assert_eq!(reply["version"], next["version"]);
            versions.insert(reply["version"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(versions, BTreeSet::from(["v1".to_owned(), "v2".to_owned()]));
    service.stop();
    let journal = home.ok(&["models", "log"]);
    assert!(journal.contains("passed the gate and its rollout") && journal.contains("of 1 confirmed"), "{journal}");
    assert!(!home.path().join("rollout.json").exists());
    let last: Value = serde_json::from_slice(&std::fs::read(home.path().join("rollout.last.json")).unwrap()).unwrap();
    assert_eq!(
        (&last["version"], &last["stage"], &last["compared"]["confirmed"]),
        (&json!("v2"), &json!("canary"), &json!(1))
    );
}
