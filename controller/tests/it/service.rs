//! The service over HTTP, and the command line that asks it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use crate::home::{TestHome, errors, text};

pub struct Running {
    pub child: Child,
    pub address: String,
    token: String,
}

impl Running {
    pub fn start(home: &TestHome) -> Self {
        let mut child = home
            .command(&["serve", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let file: Value = serde_json::from_slice(&std::fs::read(home.path().join("service.json")).unwrap()).unwrap();
        Self {
            child,
            address: file["address"].as_str().unwrap().to_owned(),
            token: file["token"].as_str().unwrap().to_owned(),
        }
    }

    pub fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let authorization = format!("Authorization: Bearer {}\r\n", self.token);
        self.ask_with(method, path, body.to_string().as_bytes(), "127.0.0.1", &authorization)
    }

    fn ask_with(&self, method: &str, path: &str, body: &[u8], host: &str, headers: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    /// Asks it to stop, as Ctrl-C does.
    pub fn stop(mut self) -> Option<i32> {
        let killed = std::process::Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_talks_learns_and_stops_in_order() {
    let home = TestHome::trained();
    let service = Running::start(&home);
    assert_eq!(service.ask_with("GET", "/livez", b"", "localhost", "").0, 200);
    assert_eq!(service.ask_with("GET", "/readyz", b"", "localhost", "").1["production"], "v1");

    let (status, reply) = service.ask("POST", "/chat", &json!({"message": "brrr it is chilly in zurich"}));
    assert_eq!(status, 200, "{reply}");
    let correction = json!({"interaction": reply["interaction"], "correction": {"function": "weather", "slots": [{"name": "city", "start": 21, "end": 27, "value": "zurich"}]}});
    assert_eq!(service.ask("POST", "/feedback", &correction).0, 200);
    let (_, next) =
        service.ask("POST", "/chat", &json!({"message": "brrr it is chilly in zurich", "session": reply["session"]}));
    assert_eq!((&next["calls"][0]["function"], &next["session"]), (&"weather".into(), &reply["session"]));
    let session = reply["session"].as_str().unwrap();
    assert_eq!(service.ask("POST", &format!("/sessions/{session}/end"), &json!({})).0, 200);

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
fn it_refuses_strangers_and_nonsense_with_stable_codes() {
    let home = TestHome::trained();
    let service = Running::start(&home);
    let code = |(status, body): (u16, Value)| (status, body["error"]["code"].as_str().unwrap_or_default().to_owned());
    let token = format!("Authorization: Bearer {}\r\n", service.token);
    assert_eq!(code(service.ask_with("GET", "/status", b"", "127.0.0.1", "")), (401, "unauthorized".into()));
    assert_eq!(
        code(service.ask_with("GET", "/status", b"", "127.0.0.1", "Authorization: Bearer x\r\n")),
        (401, "unauthorized".into())
    );
    assert_eq!(code(service.ask_with("GET", "/livez", b"", "evil.example", "")), (403, "foreign_host".into()));
    assert_eq!(code(service.ask_with("POST", "/chat", b"{broken", "127.0.0.1", &token)), (400, "bad_request".into()));
    assert_eq!(code(service.ask("POST", "/chat", &json!({"massage": "hi"}))), (400, "bad_request".into()));
    assert_eq!(
        code(service.ask("POST", "/chat", &json!({"message": "hi", "session": "s_no"}))),
        (404, "not_found".into())
    );
    assert_eq!(
        code(service.ask("POST", "/feedback", &json!({"interaction": "i_no", "rating": "up"}))),
        (404, "not_found".into())
    );
    assert_eq!(code(service.ask("POST", "/feedback", &json!({"interaction": "i_no"}))), (400, "bad_request".into()));
    assert_eq!(
        code(service.ask("POST", "/fine-tune", &json!({"training": {"epoch": 1}}))),
        (400, "bad_request".into())
    );
    assert_eq!(code(service.ask("GET", "/jobs/j_no", &json!({}))), (404, "not_found".into()));
    assert_eq!(code(service.ask("GET", "/nothing", &json!({}))), (404, "no_endpoint".into()));
    assert_eq!(service.ask("POST", "/chat", &json!({"message": ""})).0, 200);
    assert_eq!(service.ask("POST", "/chat", &json!({"message": "word ".repeat(200_000)})).0, 200);
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
