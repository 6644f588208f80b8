//! The service over HTTP, and the command line that asks it.

use serde_json::{Value, json};

use crate::home::{TestHome, errors, text};
use crate::service_home::Running;

#[test]
fn it_talks_learns_and_stops_in_order() {
    let home = TestHome::trained();
    let service = Running::start(&home);
    assert_eq!(service.send("GET", "/livez", "", b"").status, 200);
    assert_eq!(service.send("GET", "/readyz", "", b"").body["serving"], "v1");

    let reply = service.post("/chat", &json!({"message": "brrr it is chilly in zurich"})).body;
    let correction = json!({"interaction": reply["interaction"], "correction": {"function": "weather", "slots": [{"name": "city", "start": 21, "end": 27, "value": "zurich"}]}});
    assert_eq!(service.post("/feedback", &correction).status, 200);
    let again = json!({"message": "brrr it is chilly in zurich", "session": reply["session"]});
    let next = service.post("/chat", &again).body;
    assert_eq!((&next["calls"][0]["function"], &next["session"]), (&"weather".into(), &reply["session"]));
    let session = reply["session"].as_str().unwrap();
    assert_eq!(service.post(&format!("/sessions/{session}/end"), &json!({})).status, 200);

    // The command line asks it: the service has the lock and the model.
    let status = home.json(&["status"]);
    assert_eq!(status["service"]["address"], service.address.as_str());
    let trained = home.run(&["train", "--json", "--epochs", "1"]);
    assert!(matches!(trained.status.code(), Some(0 | 4)), "{}", errors(&trained));
    assert!(errors(&trained).contains("the service at"), "{}", errors(&trained));
    let trained: Value = serde_json::from_str(&text(&trained)).unwrap();
    assert_eq!(trained["version"], "v2");
    let chat = home.run_with(&["chat", "--json", "--no-learn"], b"play abba\n/good\n");
    assert_eq!(chat.status.code(), Some(0), "{}", errors(&chat));
    assert!(errors(&chat).contains("talking to the service"), "{}", errors(&chat));

    let second = home.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(errors(&second).contains("a service of this home runs already"), "{}", errors(&second));

    assert_eq!(service.stop(), Some(0));
    assert!(!home.path().join("service.json").exists());
    assert_eq!(home.json(&["status"])["service"], Value::Null);
}

#[test]
fn a_stale_service_file_is_ignored() {
    let home = TestHome::trained();
    home.write("service.json", b"{\"address\":\"127.0.0.1:1\",\"token\":\"t\",\"pid\":1}");
    assert_eq!(home.json(&["status"])["service"], Value::Null);
    home.write("service.json", b"{broken");
    assert_eq!(home.json(&["status"])["service"], Value::Null);
}

#[test]
fn a_service_that_others_could_reach_is_refused() {
    let home = TestHome::trained();
    let output = home.run(&["serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(errors(&output).contains("can be reached from other machines"), "{}", errors(&output));
    home.write("mynah.toml", b"[[service.schedules]]\ncron = 'at three'\n");
    let output = home.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(2), "{}", errors(&output));
}
