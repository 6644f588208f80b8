//! Mynah's own endpoints: every reply is what the OpenAPI document says, and versions change hands knowingly.

use serde_json::{Value, json};

use crate::home::TestHome;
use crate::service_home::{Answer, Running};

/// Fails unless an answer is one that the document has for its path.
fn assert_documented(document: &Value, method: &str, template: &str, answer: &Answer) {
    let pointer = format!("/paths/{}/{method}/responses/{}", template.replace('/', "~1"), answer.status);
    let response = document.pointer(&pointer);
    let response = response.unwrap_or_else(|| panic!("{method} {template} gives {}: {}", answer.status, answer.text));
    let media = answer.header("content-type").unwrap_or_default();
    let schema = &response["content"][media]["schema"];
    assert!(schema.is_object(), "{method} {template} {}: {media}", answer.status);
    let mut schema = schema.clone();
    schema["components"] = document["components"].clone();
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    if let Err(error) = validator.validate(&answer.body) {
        panic!("{method} {template} {}: {error}\n{}", answer.status, answer.text);
    }
}

#[test]
fn every_reply_is_as_the_document_says() {
    let home = TestHome::trained();
    let service = Running::start(&home);
    let document = service.send("GET", "/openapi.json", "", b"");
    assert_eq!((document.status, &document.body["openapi"]), (200, &json!("3.1.0")));
    let document = document.body;
    let reply = service.post("/chat", &json!({"message": "play abba", "explain": true}));
    assert_documented(&document, "post", "/chat", &reply);
    let (session, turn) = (reply.body["session"].as_str().unwrap(), &reply.body["interaction"]);
    let plain = json!({"message": "will it rain", "session": session});
    assert_documented(&document, "post", "/chat", &service.post("/chat", &plain));
    let job = service.post("/fine-tune", &json!({"training": {"epochs": 1}, "scope": "new"}));
    assert_eq!(job.status, 202);
    let id = job.body["job"].as_str().unwrap();
    let posts = [
        ("/fine-tune", "/fine-tune", json!({"training": {"epochs": "x"}})),
        ("/fine-tune", "/fine-tune", json!({"training": {"device": "gpu"}})),
        ("/generate", "/generate", json!({"input": "play abba"})),
        ("/feedback", "/feedback", json!({"interaction": turn, "rating": "up"})),
        ("/feedback", "/feedback", json!({"interaction": "i_no", "rating": "up"})),
        ("/v1/embeddings", "/v1/embeddings", json!({"model": "mynah", "input": "hello"})),
        ("/v1/embeddings", "/v1/embeddings", json!({"model": "other", "input": "hello"})),
        (
            "/v1/chat/completions",
            "/v1/chat/completions",
            json!({"model": "v1", "messages": [{"role": "user", "content": "hello"}]}),
        ),
        ("/jobs/{job}/cancel", &format!("/jobs/{id}/cancel"), json!({})),
        ("/sessions/{session}/end", &format!("/sessions/{session}/end"), json!({})),
        ("/versions/rollback", "/versions/rollback", json!({})),
        ("/versions/{version}/promote", "/versions/v1/promote", json!({})),
    ];
    assert_documented(&document, "post", "/fine-tune", &job);
    for (template, path, body) in posts {
        assert_documented(&document, "post", template, &service.post(path, &body));
    }
    let gets = [
        ("/livez", "/livez"),
        ("/readyz", "/readyz"),
        ("/status", "/status"),
        ("/sessions", "/sessions?limit=2"),
        ("/sessions/{session}", &format!("/sessions/{session}")),
        ("/functions", "/functions"),
        ("/jobs", "/jobs"),
        ("/jobs/{job}", &format!("/jobs/{id}")),
        ("/jobs/{job}", "/jobs/none"),
        ("/versions", "/versions"),
        ("/versions/{version}", "/versions/v1"),
        ("/versions/{version}", "/versions/production"),
        ("/v1/models", "/v1/models"),
        ("/v1/models/{model}", "/v1/models/v1"),
        ("/v1/models/{model}", "/v1/models/v9"),
    ];
    for (template, path) in gets {
        assert_documented(&document, "get", template, &service.get(path));
    }
    let strange = service.send("GET", "/versions", "", b"");
    assert_documented(&document, "get", "/versions", &strange);
}

#[test]
fn a_promotion_names_what_it_replaces() {
    let home = TestHome::trained();
    home.second_version();
    let service = Running::start(&home);
    // While one request loads a version, the others are answered by the one that is there.
    assert_eq!(service.get("/readyz").body["serving"], "v2");
    let versions = service.get("/versions");
    assert_eq!((&versions.body["production"], versions.header("etag")), (&json!("v2"), Some("\"v2\"")));
    let promote = |version: &str, tag: &str| {
        let tag = if tag.is_empty() { String::new() } else { format!("If-Match: {tag}\r\n") };
        service.send("POST", &format!("/versions/{version}/promote"), &(service.bearer() + &tag), b"{}")
    };
    assert_eq!(promote("v1", "").problem(), (428, "precondition_required"));
    assert_eq!(promote("v1", "\"v1\"").problem(), (412, "precondition_failed"));
    let promoted = promote("v1", "\"v2\"");
    assert_eq!((promoted.status, promoted.header("etag")), (200, Some("\"v1\"")), "{}", promoted.text);
    assert_eq!(service.post("/chat", &json!({"message": "play abba"})).body["version"], "v1");
    assert_eq!(promote("base1", "\"v1\"").problem(), (409, "conflict"));

    let back = service.post("/versions/rollback", &json!({"reason": "worse at music"}));
    assert_eq!((back.status, &back.body["production"]), (200, &json!("v2")), "{}", back.text);
    let stale = service.send("POST", "/versions/rollback", &(service.bearer() + "If-Match: \"v1\"\r\n"), b"");
    assert_eq!(stale.problem(), (412, "precondition_failed"));
    let shown = service.get("/versions/v2").body;
    let last = shown["decisions"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["reason"], &last["by"]), (&json!("worse at music"), &json!("tester")));
    assert_eq!(service.post("/chat", &json!({"message": "play abba"})).body["version"], "v2");
}

#[test]
fn training_data_of_a_request_is_imported_whole_or_not_at_all() {
    let home = TestHome::trained();
    let service = Running::start(&home);
    let before = home.json(&["status"])["new"]["examples"].clone();
    let half = json!({"training_data": [{"text": "spin some abba", "intent": "play"}, {"text": "x", "intent": ""}]});
    assert_eq!(service.post("/fine-tune", &half).problem(), (400, "bad_request"));
    let slot = json!({"name": "artist", "start": 10, "end": 14, "value": "abba"});
    let whole = json!({"training_data": [{"text": "spin some abba", "intent": "play", "slots": [slot]}]});
    let job = service.post("/fine-tune", &whole);
    assert_eq!(job.status, 202, "{}", job.text);
    let id = job.body["job"].as_str().unwrap();
    let cancelled = service.post(&format!("/jobs/{id}/cancel"), &json!({}));
    assert_eq!(cancelled.status, 200);
    let files: Vec<_> = std::fs::read_dir(home.path().join("log/examples")).unwrap().flatten().collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let text = std::fs::read_to_string(files[0].path()).unwrap();
    assert!(text.contains("spin some abba"), "{before} {text}");
}
