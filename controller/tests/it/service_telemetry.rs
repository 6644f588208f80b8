//! What a collector of traces gets.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::{Value, json};

use crate::home::{TestHome, errors};
use crate::service_home::{PATIENCE, Running, receiver, until};

/// An attribute as JSON; `null` when the span has none of that name.
fn attribute(span: &Span, name: &str) -> Value {
    let found = span.attributes.iter().find(|attribute| attribute.key == name);
    match found.and_then(|attribute| attribute.value.as_ref()?.value.as_ref()) {
        Some(Any::StringValue(text)) => json!(text),
        Some(Any::IntValue(number)) => json!(number),
        Some(Any::DoubleValue(number)) => json!(number),
        Some(Any::ArrayValue(list)) => list
            .values
            .iter()
            .map(|one| match &one.value {
                Some(Any::StringValue(text)) => json!(text),
                other => panic!("{other:?}"),
            })
            .collect(),
        Some(other) => panic!("{name}: {other:?}"),
        None => Value::Null,
    }
}

#[test]
fn a_collector_gets_requests_what_the_model_made_of_them_and_fine_tunes() {
    const SECRET: &str = "the password is swordfish";
    let home = TestHome::trained();
    let (address, received) = receiver(&[200; 100]);
    home.write("mynah.toml", format!("[service.telemetry]\nendpoint = '{address}/'\n").as_bytes());
    let service = Running::start(&home);
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let caller = format!("{}traceparent: 00-{trace}-b7ad6b7169203331-01\r\n", service.bearer());
    let message = json!({"message": SECRET}).to_string();
    let reply = service.send("POST", "/chat", &caller, message.as_bytes());
    assert_eq!(reply.status, 200, "{}", reply.text);
    let question = json!({"model": "mynah", "messages": [{"role": "user", "content": "play abba"}]});
    assert_eq!(service.post("/v1/chat/completions", &question).status, 200);
    assert_eq!(service.post("/v1/embeddings", &json!({"model": "mynah", "input": SECRET})).status, 200);
    assert_eq!(service.get("/jobs/none").status, 404);
    assert_eq!(service.get("/the%20password%20is%20swordfish").status, 404);
    service.get("/metrics");
    let job = service.post("/fine-tune", &json!({"training": {"epochs": 1}, "force": true})).body["job"].clone();
    let path = format!("/jobs/{}", job.as_str().unwrap());
    until(|| service.get(&path).body["finished_at"].is_string().then_some(()));
    assert_eq!(service.stop(), Some(0));

    let mut spans = Vec::new();
    // All of it was sent before the service ended; the last may still be on its way through this process.
    while let Ok((head, body)) = received.recv_timeout(if spans.is_empty() { PATIENCE } else { Duration::from_secs(1) })
    {
        assert!(
            head.starts_with("post /v1/traces ") && head.contains("content-type: application/x-protobuf"),
            "{head}"
        );
        assert!(!body.windows(9).any(|part| part == b"swordfish"), "no text leaves");
        for resource in ExportTraceServiceRequest::decode(body.as_slice()).unwrap().resource_spans {
            let attributes = &resource.resource.as_ref().unwrap().attributes;
            assert!(attributes.iter().any(|attribute| attribute.key == "service.name"), "{attributes:?}");
            spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    let named = |name: &str| spans.iter().filter(|span| span.name == name).collect::<Vec<_>>();
    let [request] = named("POST /chat")[..] else { panic!("{spans:?}") };
    let hex = |id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!((hex(&request.trace_id).as_str(), hex(&request.parent_span_id).as_str()), (trace, "b7ad6b7169203331"));
    assert_eq!(attribute(request, "http.route"), "/chat");
    assert_eq!(attribute(request, "http.response.status_code"), 200);

    let chats = named("chat mynah");
    assert_eq!(chats.len(), 2);
    let chat = chats.iter().find(|span| span.trace_id == request.trace_id).unwrap();
    assert_eq!(chat.parent_span_id, request.span_id);
    assert!(
        chat.start_time_unix_nano >= request.start_time_unix_nano
            && chat.end_time_unix_nano <= request.end_time_unix_nano
    );
    assert_eq!(attribute(chat, "gen_ai.operation.name"), "chat");
    assert_eq!(attribute(chat, "gen_ai.response.model"), "v1");
    assert_eq!(attribute(chat, "gen_ai.conversation.id"), reply.body["session"]);
    assert_eq!(attribute(chat, "gen_ai.response.id"), reply.body["interaction"]);
    assert_eq!(attribute(chat, "mynah.reply.kind"), reply.body["kind"]);
    let completion = chats.iter().find(|span| span.trace_id != request.trace_id).unwrap();
    assert_eq!(attribute(completion, "gen_ai.response.finish_reasons"), json!(["stop"]));
    assert!(attribute(completion, "gen_ai.usage.input_tokens").as_i64().is_some_and(|tokens| tokens > 2));
    assert_eq!(named("embeddings mynah").len(), 1);

    let [missing] = named("GET /jobs/{job}")
        .into_iter()
        .filter(|span| attribute(span, "error.type") == "not_found")
        .collect::<Vec<_>>()[..]
    else {
        panic!("{spans:?}")
    };
    assert_eq!(attribute(missing, "http.response.status_code"), 404);
    assert!(spans.iter().all(|span| !span.name.contains("/metrics")));

    let [learned] = named("fine_tune")[..] else { panic!("{spans:?}") };
    assert_eq!(attribute(learned, "mynah.job.id"), job);
    let stages: Vec<&Span> = spans.iter().filter(|span| span.parent_span_id == learned.span_id).collect();
    assert!(stages.iter().any(|stage| stage.name == "fine-tune"), "{stages:?}");
}

#[test]
fn a_collector_that_is_none_is_told_before_the_service_starts() {
    let home = TestHome::trained();
    for (settings, words) in [
        ("endpoint = 'collector:4318'", "`collector:4318` is no http:// or https:// address"),
        ("endpoint = 'http://'", "`http://` is no http:// or https:// address"),
        ("endpoint = 'http://127.0.0.1:4318'\nsample = 3", "3 is no share"),
    ] {
        home.write("mynah.toml", format!("[service.telemetry]\n{settings}\n").as_bytes());
        let refused = home.run(&["serve", "--listen", "127.0.0.1:0"]);
        assert_eq!(refused.status.code(), Some(2), "{}", errors(&refused));
        assert!(errors(&refused).contains(words) && errors(&refused).contains("hint:"), "{}", errors(&refused));
    }
}

#[test]
fn the_service_answers_whether_or_not_a_collector_does() {
    let home = TestHome::trained();
    // Nobody listens there any more.
    let (gone, _) = receiver(&[]);
    home.write("mynah.toml", format!("[service.telemetry]\nendpoint = '{gone}'\n").as_bytes());
    let service = Running::start(&home);
    assert_eq!(service.post("/chat", &json!({"message": "play abba"})).status, 200);
    assert_eq!(service.stop(), Some(0));
}
