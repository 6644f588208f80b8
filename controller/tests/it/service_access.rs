//! Who may ask the service, how much, and how errors look.

use serde_json::json;

use crate::home::{TestHome, errors};
use crate::service_home::Running;

#[test]
fn it_refuses_strangers_and_nonsense_with_stable_codes() {
    let home = TestHome::trained();
    let service = Running::start(&home);
    let bare = |headers: &str| service.send("GET", "/status", headers, b"");
    assert_eq!(bare("").problem(), (401, "unauthorized"));
    assert_eq!(bare("Authorization: Bearer x\r\n").problem(), (401, "unauthorized"));
    assert_eq!(bare("").header("www-authenticate"), Some("Bearer"));
    assert_eq!(bare("").header("content-type"), Some("application/problem+json"));
    let bearer = service.bearer();
    let host = |host: &str| service.send_raw("GET", "/livez", &format!("Host: {host}\r\n{bearer}"), b"");
    assert_eq!(host("evil.example").problem(), (403, "foreign_host"));
    assert_eq!(host("localhost").status, 200);
    let page = |origin: &str| service.send("GET", "/status", &format!("Origin: {origin}\r\n{bearer}"), b"");
    assert_eq!(page("http://evil.example").problem(), (403, "foreign_origin"));
    let own = page(&format!("http://{}", service.address));
    assert_eq!((own.status, own.header("access-control-allow-origin")), (200, None));
    let broken = service.send("POST", "/chat", &bearer, b"{broken");
    assert_eq!(broken.problem(), (400, "bad_request"));
    let untyped = format!("Host: {}\r\n{bearer}", service.address);
    assert_eq!(service.send_raw("POST", "/chat", &untyped, b"{}").problem(), (415, "unsupported_media_type"));
    for (path, body, expected) in [
        ("/chat", json!({"massage": "hi"}), (400, "bad_request")),
        ("/chat", json!({"message": "hi", "session": "s_no"}), (404, "not_found")),
        ("/feedback", json!({"interaction": "i_no", "rating": "up"}), (404, "not_found")),
        ("/feedback", json!({"interaction": "i_no"}), (400, "bad_request")),
        ("/fine-tune", json!({"training": {"epoch": 1}}), (400, "bad_request")),
        ("/fine-tune", json!({"training_data": [{"text": "", "intent": "play"}]}), (400, "bad_request")),
        ("/sessions/s_no/end", json!({}), (404, "not_found")),
        ("/jobs/j_no/cancel", json!({}), (404, "not_found")),
    ] {
        let answer = service.post(path, &body);
        assert_eq!(answer.problem(), expected, "{path} {body}: {}", answer.text);
        assert!(answer.body["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{path}");
    }
    for (path, expected) in [
        ("/jobs/j_no", (404, "not_found")),
        ("/versions/v99", (404, "not_found")),
        ("/sessions/s_no", (404, "not_found")),
        ("/sessions?limit=many", (400, "bad_request")),
        ("/jobs/%ff", (400, "bad_request")),
        ("/nothing", (404, "no_endpoint")),
        ("/chat", (405, "method_not_allowed")),
    ] {
        assert_eq!(service.get(path).problem(), expected, "{path}");
    }
    assert_eq!(service.get("/chat").header("allow"), Some("POST"));
    assert_eq!(service.post("/chat", &json!({"message": ""})).status, 200);
    assert_eq!(service.post("/chat", &json!({"message": "word ".repeat(200_000)})).status, 200);
    let huge = service.post("/chat", &json!({"message": "word ".repeat(1_000_000)}));
    assert_eq!(huge.problem(), (413, "too_large"));
}

#[test]
fn a_token_that_may_read_changes_nothing() {
    let home = TestHome::trained();
    let service = Running::start(&home);
    let reads = format!("Authorization: Bearer {}\r\n", service.read_token);
    for path in ["/status", "/versions", "/jobs", "/sessions", "/functions", "/metrics", "/v1/models"] {
        assert_eq!(service.send("GET", path, &reads, b"").status, 200, "{path}");
    }
    let asked = service.send("POST", "/generate", &reads, b"{\"input\": \"play abba\"}");
    assert_eq!(asked.status, 200, "{}", asked.text);
    for path in ["/chat", "/feedback", "/fine-tune", "/versions/rollback", "/versions/v1/promote", "/jobs/j/cancel"] {
        assert_eq!(service.send("POST", path, &reads, b"{}").problem(), (403, "forbidden"), "{path}");
    }
    let completion = service.send("POST", "/v1/chat/completions", &reads, b"{}");
    assert_eq!(completion.body["error"]["code"], "forbidden", "{}", completion.text);
}

#[test]
fn who_asks_too_often_is_told_when_to_come_back() {
    let home = TestHome::trained();
    home.write("mynah.toml", b"[service]\nrequests_per_second = 5\n");
    let service = Running::start(&home);
    let answers: Vec<_> = (0..30).map(|_| service.get("/jobs")).collect();
    let refused = answers.iter().find(|answer| answer.status == 429).expect("one too many");
    assert_eq!(refused.problem(), (429, "rate_limited"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(answers.iter().filter(|answer| answer.status == 200).count() >= 5);
    assert_eq!(service.send("GET", "/livez", "", b"").status, 200, "another client");
}

#[test]
fn tokens_stay_and_are_in_no_log() {
    let home = TestHome::trained();
    home.write("mynah.toml", b"[service]\nlog_format = 'json'\n");
    let service = Running::start(&home);
    service.post("/chat", &json!({"message": "play abba"}));
    service.send("GET", "/status", "Authorization: Bearer wrong-token\r\n", b"");
    let (token, read_token) = (service.token.clone(), service.read_token.clone());
    assert_eq!(service.stop(), Some(0));
    let log = std::fs::read_to_string(home.path().join("service.log")).unwrap();
    for secret in [token.as_str(), read_token.as_str(), "wrong-token", "abba"] {
        assert!(!log.contains(secret), "{log}");
    }
    let again = Running::start(&home);
    assert_eq!((&again.token, &again.read_token), (&token, &read_token));
}

#[test]
fn a_service_that_others_could_reach_is_refused_without_tls() {
    let home = TestHome::trained();
    let output = home.run(&["serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(errors(&output).contains("can be reached from other machines"), "{}", errors(&output));
    home.write("mynah.toml", b"[service]\ntls_certificate = 'no.pem'\ntls_key = 'no.pem'\n");
    let output = home.run(&["serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains("PEM files"), "{}", errors(&output));
    home.write("mynah.toml", b"[[service.schedules]]\ncron = 'at three'\n");
    let output = home.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(2), "{}", errors(&output));
}

#[test]
fn with_a_certificate_it_speaks_tls() {
    use ureq::tls::{Certificate, RootCerts, TlsConfig};
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls");
    let home = TestHome::trained();
    let settings =
        format!("[service]\ntls_certificate = '{fixtures}/certificate.pem'\ntls_key = '{fixtures}/key.pem'\n");
    home.write("mynah.toml", settings.as_bytes());
    let service = Running::start(&home);
    let certificate = std::fs::read(format!("{fixtures}/certificate.pem")).unwrap();
    let roots = RootCerts::from(vec![Certificate::from_pem(&certificate).unwrap()]);
    let config = ureq::Agent::config_builder().proxy(None).tls_config(TlsConfig::builder().root_certs(roots).build());
    let agent: ureq::Agent = config.build().into();
    let port = service.address.rsplit(':').next().unwrap();
    let request = agent.get(format!("https://localhost:{port}/status"));
    let mut answer = request.header("authorization", format!("Bearer {}", service.token)).call().unwrap();
    let body = answer.body_mut().read_to_string().unwrap();
    assert!(body.contains("\"production\":\"v1\""), "{body}");
    assert_ne!(service.get("/livez").status, 200, "nothing is answered in the clear");

    let status = home.json(&["status"]);
    assert_eq!(status["service"]["url"], format!("https://{}", service.address), "commands ask it too: {status}");
    let talk = home.run_with(&["chat"], b"play abba\n");
    assert_eq!(talk.status.code(), Some(0), "{}", errors(&talk));
    // Another certificate at the address is another service, and learns no token.
    let file = home.path().join("service.json");
    let named = std::fs::read_to_string(&file).unwrap();
    let mut other: serde_json::Value = serde_json::from_str(&named).unwrap();
    other["certificate"] = "00".repeat(32).into();
    std::fs::write(&file, other.to_string()).unwrap();
    assert!(home.json(&["status"])["service"].is_null());
    std::fs::write(&file, named).unwrap();
    assert_eq!(service.stop(), Some(0));
}

/// A request of which only half of the body comes.
fn half_asked(service: &Running) -> std::net::TcpStream {
    use std::io::Write;
    let mut stream = std::net::TcpStream::connect(&service.address).unwrap();
    let head = format!(
        "POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n{}\r\n{{",
        service.bearer()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

#[test]
fn a_request_that_never_ends_is_given_up() {
    use std::io::Read;
    let home = TestHome::trained();
    home.write("mynah.toml", b"[service]\nrequest_seconds = 1\n");
    let service = Running::start(&home);
    let mut stream = half_asked(&service);
    let mut buffer = [0; 4096];
    let count = stream.read(&mut buffer).unwrap();
    let answer = String::from_utf8_lossy(&buffer[..count]).to_lowercase();
    assert!(answer.starts_with("http/1.1 503") && answer.contains("retry-after: 1"), "{answer}");
    assert!(answer.contains("\"code\":\"timed_out\""), "{answer}");
}

#[test]
fn one_request_too_many_is_refused_rather_than_kept_waiting() {
    let home = TestHome::trained();
    home.write("mynah.toml", b"[service]\nmax_requests = 1\n");
    let service = Running::start(&home);
    // The one that is to hold the place may itself come too late for it.
    let (held, refused) =
        (0..).map(|_| (half_asked(&service), service.get("/status"))).find(|(_, answer)| answer.status != 200).unwrap();
    assert_eq!((refused.problem(), refused.header("retry-after")), ((503, "overloaded"), Some("1")));
    assert_eq!(service.send("GET", "/livez", "", b"").status, 200, "whether it lives can always be asked");
    drop(held);
    let again = (0..).map(|_| service.get("/status")).find(|answer| answer.status == 200);
    assert!(again.is_some(), "the place is free again");
}
