//! OpenAI's endpoints: tools of the request, streams, embeddings, and its form of errors.

use base64::Engine as _;
use serde_json::{Value, json};

use crate::home::TestHome;
use crate::service_home::{Answer, Running};

fn tool(name: &str, description: &str, properties: Value) -> Value {
    json!({"type": "function", "function": {"name": name, "description": description,
        "parameters": {"type": "object", "properties": properties, "required": []}}})
}

fn completion(service: &Running, body: Value) -> Answer {
    let mut body = body;
    body["model"] = json!("mynah");
    service.post("/v1/chat/completions", &body)
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

#[test]
fn a_conversation_is_one_session_of_the_log() {
    let home = TestHome::trained();
    let service = Running::start(&home);
    let first = completion(&service, json!({"messages": [user("play abba")]})).body;
    let message = &first["choices"][0]["message"];
    assert_eq!((&first["object"], &message["role"]), (&json!("chat.completion"), &json!("assistant")));
    assert_eq!(first["choices"][0]["finish_reason"], "stop", "without tools there is nothing to call: {first}");
    assert!(message["content"].as_str().is_some_and(|text| !text.is_empty()));
    let usage = &first["usage"];
    assert_eq!(
        usage["total_tokens"].as_u64(),
        Some(usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap())
    );
    let next =
        completion(&service, json!({"messages": [user("play abba"), message, user("will it rain in rome")]})).body;
    assert_eq!(next["mynah"]["session"], first["mynah"]["session"]);
    let other = completion(&service, json!({"messages": [user("play queen"), message, user("will it rain")]})).body;
    assert_ne!(other["mynah"]["session"], first["mynah"]["session"]);
    let session = first["mynah"]["session"].as_str().unwrap();
    let shown = service.get(&format!("/sessions/{session}")).body;
    assert_eq!((&shown["interactions"], &shown["client"]), (&json!(2), &json!("openai")));
    let rated = json!({"interaction": next["mynah"]["interaction"], "rating": "up"});
    assert_eq!(service.post("/feedback", &rated).status, 200);
}

#[test]
fn tools_of_a_request_are_called_and_leave_nothing_behind() {
    let home = TestHome::trained();
    let service = Running::start(&home);
    let before = std::fs::read(home.path().join("functions.json")).unwrap();
    let tools = json!([
        tool("send_email", "Send an email to somebody.", json!({"subject": {"type": "string"}})),
        tool("add_numbers", "Add two numbers.", json!({"a": {"type": "number"}, "b": {"type": "number"}})),
    ]);
    let asked = json!({"messages": [user("send an email to somebody")], "tools": tools});
    let reply = completion(&service, asked.clone()).body;
    let choice = &reply["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls", "{reply}");
    let call = &choice["message"]["tool_calls"][0];
    assert_eq!((&call["type"], &call["function"]["name"]), (&json!("function"), &json!("send_email")));
    let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
    assert!(arguments.is_object());
    assert_eq!((&choice["message"]["content"], &reply["mynah"]["session"]), (&Value::Null, &Value::Null));

    // What the home can do is not offered here, and forced is forced.
    let reply = completion(&service, json!({"messages": [user("play abba")], "tools": tools})).body;
    let name = reply["choices"][0]["message"]["tool_calls"][0]["function"]["name"].clone();
    assert_ne!(name, json!("play"));
    let mut forced = json!({"messages": [user("good morning")], "tools": tools});
    forced["tool_choice"] = json!({"type": "function", "function": {"name": "add_numbers"}});
    let reply = completion(&service, forced.clone()).body;
    assert_eq!(reply["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "add_numbers", "{reply}");
    forced["tool_choice"] = json!("required");
    assert_eq!(completion(&service, forced.clone()).body["choices"][0]["finish_reason"], "tool_calls");
    let mut none = asked.clone();
    none["tool_choice"] = json!("none");
    assert_eq!(completion(&service, none).body["choices"][0]["message"].get("tool_calls"), None);
    forced["tool_choice"] = json!({"type": "function", "function": {"name": "no_such"}});
    assert_eq!(completion(&service, forced).status, 400);

    // What the function gave becomes the reply.
    let gave = json!({"messages": [user("send an email to somebody"), choice["message"],
        {"role": "tool", "tool_call_id": call["id"], "content": "{\"state\": \"sent\"}"}], "tools": tools});
    assert_eq!(completion(&service, gave).body["choices"][0]["message"]["content"], "state: sent");
    assert_eq!(std::fs::read(home.path().join("functions.json")).unwrap(), before);
    assert_eq!(
        service.get("/sessions").body["sessions"].as_array().map(Vec::len),
        Some(1),
        "the one with tool_choice none"
    );
}

#[test]
fn tools_that_the_home_has_are_called_as_it_learned_them() {
    let home = TestHome::trained();
    let service = Running::start(&home);
    let tools = json!([
        tool("play", "play.", json!({"artist": {"type": "string"}})),
        tool("weather", "weather.", json!({"city": {"type": "string"}}))
    ]);
    let reply = completion(&service, json!({"messages": [user("i want to hear abba")], "tools": tools})).body;
    let message = &reply["choices"][0]["message"];
    let call = &message["tool_calls"][0]["function"];
    assert_eq!((&call["name"], &call["arguments"]), (&json!("play"), &json!("{\"artist\":\"abba\"}")), "{reply}");
    let session = reply["mynah"]["session"].clone();
    assert!(session.is_string(), "it is learned from: {reply}");
    let mut messages = vec![user("i want to hear abba"), message.clone()];
    messages.push(json!({"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "playing"}));
    let played = completion(&service, json!({"messages": messages, "tools": tools})).body;
    messages.extend([played["choices"][0]["message"].clone(), user("will it rain in rome")]);
    let next = completion(&service, json!({"messages": messages, "tools": tools})).body;
    assert_eq!(next["mynah"]["session"], session);
    assert_eq!(next["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "weather", "{next}");
    // The lights are not offered.
    let dark = completion(&service, json!({"messages": [user("lights on in the kitchen")], "tools": tools})).body;
    assert_ne!(dark["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "lights");
}

#[test]
fn a_stream_has_the_same_words_and_ends_as_openai_ends_it() {
    let home = TestHome::trained();
    let service = Running::start(&home);
    let options = json!({"messages": [user("play abba")], "stream": true, "stream_options": {"include_usage": true}});
    let stream = completion(&service, options);
    assert_eq!((stream.status, stream.header("content-type")), (200, Some("text/event-stream")));
    let events: Vec<&str> = stream.text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect();
    let (last, chunks) = events.split_last().unwrap();
    assert_eq!(*last, "[DONE]");
    let chunks: Vec<Value> = chunks.iter().map(|chunk| serde_json::from_str(chunk).unwrap()).collect();
    assert!(chunks.iter().all(|chunk| chunk["object"] == "chat.completion.chunk" && chunk["id"] == chunks[0]["id"]));
    let words: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    let plain = completion(&service, json!({"messages": [user("play abba")]})).body;
    assert_eq!(plain["choices"][0]["message"]["content"], words);
    let (usage, before) = chunks.split_last().unwrap();
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"], plain["usage"]);
    assert_eq!(before.last().unwrap()["choices"][0]["finish_reason"], "stop");
}

#[test]
fn embeddings_are_of_length_one_in_either_form() {
    let home = TestHome::trained();
    let service = Running::start(&home);
    let embed = |input: Value, format: &str| {
        service.post("/v1/embeddings", &json!({"model": "mynah", "input": input, "encoding_format": format}))
    };
    let floats = embed(json!(["hello there", "play abba"]), "float").body;
    let vector = |one: &Value| -> Vec<f32> { serde_json::from_value(one["embedding"].clone()).unwrap() };
    let data = floats["data"].as_array().unwrap();
    assert_eq!((data.len(), &data[1]["index"]), (2, &json!(1)));
    for one in data {
        let length: f32 = vector(one).iter().map(|value| value * value).sum();
        assert!((length - 1.0).abs() < 1e-3, "{length}");
    }
    let packed = embed(json!("hello there"), "base64").body;
    let bytes = base64::engine::general_purpose::STANDARD.decode(packed["data"][0]["embedding"].as_str().unwrap());
    let unpacked: Vec<f32> =
        bytes.unwrap().chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
    let difference = vector(&data[0]).iter().zip(&unpacked).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(unpacked.len() == vector(&data[0]).len() && difference < 1e-4, "{difference}");
    assert_eq!(embed(json!([101, 7592, 102]), "float").status, 200);
    for wrong in [json!([]), json!(""), json!([[]]), json!([4_000_000_000_u32])] {
        let refused = embed(wrong.clone(), "float");
        assert_eq!((refused.status, &refused.body["error"]["type"]), (400, &json!("invalid_request_error")), "{wrong}");
    }
}

#[test]
fn errors_have_openais_form() {
    let home = TestHome::trained();
    let service = Running::start(&home);
    let error = |answer: Answer| (answer.status, answer.body["error"].clone());
    let (status, unknown) =
        error(service.post("/v1/chat/completions", &json!({"model": "gpt-4o", "messages": [user("hi")]})));
    assert_eq!(
        (status, &unknown["code"], &unknown["type"]),
        (404, &json!("not_found"), &json!("invalid_request_error"))
    );
    assert!(unknown["message"].as_str().unwrap().contains("gpt-4o"));
    let (status, stranger) = error(service.send("GET", "/v1/models", "", b""));
    assert_eq!((status, &stranger["type"]), (401, &json!("authentication_error")));
    for wrong in [
        json!({"messages": []}),
        json!({"messages": [{"role": "robot", "content": "hi"}]}),
        json!({"messages": [user("hi")], "n": 2}),
        json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}),
        json!({"messages": [user("hi")], "tool_choice": "required"}),
        json!({"messages": [user("hi")], "tools": [tool("no good", "", json!({}))]}),
        json!({"messages": [user("hi")], "tools": [tool("f", "", json!({"a": {"type": "strin"}}))]}),
    ] {
        let (status, error) = error(completion(&service, wrong.clone()));
        assert_eq!((status, &error["code"]), (400, &json!("bad_request")), "{wrong}");
    }
    assert_eq!(service.get("/v1/nothing").body["error"]["code"], "no_endpoint");
}
