//! OpenAI's endpoints over Mynah: chat completions with tools, embeddings, models.
//!
//! A conversation whose functions are the home's is a session of the log like any other, and learned from. Functions that
//! a request brings are the client's: they are there for this request only, nothing is written, and the reply calls them
//! by their description. Invariant: a reply names the one version that made it.

mod conversations;
mod embeddings;
mod stream;
mod wire;

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use mynah_data::{Function, Functions};
use mynah_runtime::{Mynah, Offered};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::endpoints::{Body, Name};
use super::problem::ServiceError;
use super::telemetry::Generation;
use super::{Open, Service, lock, unanswered};
use crate::conversation::Reply;

pub use conversations::Conversations;
pub(super) use embeddings::embeddings;
use stream::events;
use wire::{
    AssistantMessage, Beyond, CalledFunction, Choice, ChoiceWord, FunctionKind, Message, ToolCall, ToolChoice, Usage,
};
pub use wire::{
    ChatCompletion, ChatCompletionRequest, Embeddings, EmbeddingsRequest, MessageContent, ModelBody, ModelList,
    OpenAiError,
};

/// The name of the model that is always there: whatever is in production.
const ANY: &str = "mynah";

/// Earlier turns that are read again when a conversation is not known.
const RECALLED: usize = 8;

/// Tokens of a text that are counted or embedded.
const MAX_TOKENS: usize = 8192;

/// Sets of functions that are kept ready.
const OFFERS: usize = 16;

/// What chat completions remember between requests.
#[derive(Default)]
pub struct Memory {
    conversations: Conversations,
    /// Functions of recent requests, ready to be called.
    offers: Mutex<Vec<([u8; 32], Arc<Offered>)>>,
}

pub(super) async fn models(State(service): State<Arc<Service>>) -> Result<Json<ModelList>, ServiceError> {
    let data = service.blocking(names).await?;
    Ok(Json(ModelList { object: "list", data }))
}

pub(super) async fn model(
    State(service): State<Arc<Service>>,
    Name(id): Name,
) -> Result<Json<ModelBody>, ServiceError> {
    let names = service.blocking(names).await?;
    let found = names.into_iter().find(|model| model.id == id);
    found.map(Json).ok_or(ServiceError::NotFound { what: "model", id })
}

pub(super) async fn chat_completions(
    State(service): State<Arc<Service>>,
    Body(request): Body<ChatCompletionRequest>,
) -> Result<Response, ServiceError> {
    let streams = request.stream.unwrap_or_default();
    let with_usage = request.stream_options.and_then(|options| options.include_usage).unwrap_or_default();
    let asked = SystemTime::now();
    let completion = service.blocking(move |service| completed(service, &request)).await?;
    service.interface.metrics.reply(&completion.mynah.kind, &completion.mynah.source);
    service.interface.telemetry.generated(asked, &generation(&completion));
    Ok(match streams {
        false => Json(completion).into_response(),
        true => {
            let headers = [
                (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            ];
            (headers, events(&completion, with_usage)).into_response()
        }
    })
}

fn generation(completion: &ChatCompletion) -> Generation<'_> {
    let Beyond { session, kind, source, confidence, version, .. } = &completion.mynah;
    Generation {
        operation: "chat",
        version: version.as_deref(),
        conversation: session.as_deref(),
        response: Some(&completion.id),
        finish_reason: completion.choices.first().map(|choice| choice.finish_reason),
        tokens: (Some(completion.usage.prompt_tokens), Some(completion.usage.completion_tokens)),
        reply: Some((kind, source, *confidence)),
    }
}

/// What `model` may be.
fn names(service: &Service) -> Result<Vec<ModelBody>, ServiceError> {
    let registry = service.context.registry().map_err(|error| ServiceError::internal(&error))?;
    let production = registry.production().map_err(ServiceError::registry)?;
    let since = production.as_ref().map_or(0, |version| version.registered_at.as_second());
    let body = |id: String| ModelBody { id, object: "model", created: since, owned_by: ANY };
    Ok(std::iter::once(ANY.to_owned()).chain(production.map(|version| version.name)).map(body).collect())
}

/// Checks that a request names the model that answers.
fn check_model(mynah: &Mynah, name: &str) -> Result<(), ServiceError> {
    let serving = mynah.version().map(|version| version.name);
    match name == ANY || serving.as_deref() == Some(name) {
        true => Ok(()),
        false => Err(ServiceError::NotFound { what: "model", id: name.to_owned() }),
    }
}

/// The conversation's next message.
fn completed(service: &Service, request: &ChatCompletionRequest) -> Result<ChatCompletion, ServiceError> {
    if request.n.is_some_and(|n| n != 1) {
        return Err(ServiceError::bad_request("n: there is one choice"));
    }
    let assistant = service.assistant()?;
    let mynah = assistant.mynah();
    check_model(mynah, &request.model)?;
    let results = results(&request.messages);
    let said: Vec<String> = request
        .messages
        .iter()
        .filter_map(|message| match message {
            Message::User(said) => Some(said.content.text()),
            _ => None,
        })
        .collect();
    let Some((text, before)) = said.split_last() else {
        return Err(ServiceError::bad_request("messages: nobody said anything"));
    };
    let model = mynah.model();
    let count = |text: &str| model.tokenizer().encode(text, MAX_TOKENS).input_ids.len();
    let prompt_tokens = request.messages.iter().map(|message| count(&words(message))).sum();
    if !results.is_empty() {
        // The calls were made: what they gave is the reply, and the session goes on after it.
        let reply = Unlogged { text: results.join("\n"), kind: "answer", confidence: 1.0, source: "context" };
        let message = reply.into_message(mynah);
        let called = request.messages.len() - results.len();
        let known = &service.interface.openai.conversations;
        if let Some(session) = known.session(&conversations::key(&request.messages[..called])) {
            note(service, &request.messages, &message, &session);
        }
        return Ok(completion(message, prompt_tokens, count));
    }
    let offered = offered(service, mynah, request)?;
    let before: Vec<&str> = before.iter().skip(before.len().saturating_sub(RECALLED)).map(String::as_str).collect();
    let message = match &offered {
        Some(offered) if !offered.is_known() => {
            let reply = mynah.reply_unlogged(&before, text, Some(offered));
            let reply = reply.map_err(|error| unanswered(error.into()))?;
            NextMessage::of_tools(&reply)
        }
        offered => logged(service, request, &before, text, offered.as_deref())?,
    };
    Ok(completion(message, prompt_tokens, count))
}

/// A message that Mynah adds to a conversation.
struct NextMessage {
    content: Option<String>,
    calls: Vec<ToolCall>,
    beyond: Beyond,
}

/// A reply that no model made.
struct Unlogged {
    text: String,
    kind: &'static str,
    confidence: f32,
    source: &'static str,
}

impl Unlogged {
    fn into_message(self, mynah: &Mynah) -> NextMessage {
        let Self { text, kind, confidence, source } = self;
        let beyond = Beyond {
            interaction: None,
            session: None,
            kind: kind.to_owned(),
            confidence,
            source: source.to_owned(),
            version: mynah.version().map(|version| version.name),
        };
        NextMessage { content: Some(text), calls: Vec::new(), beyond }
    }
}

impl NextMessage {
    /// The reply to a request that brought its own functions.
    fn of_tools(reply: &mynah_runtime::Reply) -> Self {
        let calls: Vec<ToolCall> =
            reply.calls.iter().map(|call| tool_call(&call.function, &Value::Object(call.values()))).collect();
        Self {
            content: calls.is_empty().then(|| reply.text.clone()),
            calls,
            beyond: Beyond {
                interaction: None,
                session: None,
                kind: reply.kind.as_str().to_owned(),
                confidence: reply.confidence,
                source: reply.source.as_str().to_owned(),
                version: reply.version.clone(),
            },
        }
    }

    /// The reply of a session; without tools in the request the client can make no calls, and gets the words.
    fn of_session(reply: Reply, with_tools: bool) -> Self {
        let calls: Vec<ToolCall> = match with_tools {
            true => reply
                .calls
                .iter()
                .map(|call| tool_call(&call.function, &Value::Object(call.arguments.clone())))
                .collect(),
            false => Vec::new(),
        };
        Self {
            content: calls.is_empty().then_some(reply.text),
            calls,
            beyond: Beyond {
                interaction: Some(reply.interaction),
                session: Some(reply.session),
                kind: reply.kind,
                confidence: reply.confidence,
                source: reply.source,
                version: reply.version,
            },
        }
    }
}

/// A turn of a session of the log.
fn logged(
    service: &Service,
    request: &ChatCompletionRequest,
    before: &[&str],
    text: &str,
    offered: Option<&Offered>,
) -> Result<NextMessage, ServiceError> {
    let assistant = service.assistant()?;
    if !assistant.has_something_to_say() {
        return Err(ServiceError::NoModel);
    }
    // Up to the last reply: what came before the words that are answered now.
    let last = request.messages.iter().rposition(|message| matches!(message, Message::User(_))).unwrap_or_default();
    let known = service.interface.openai.conversations.session(&conversations::key(&request.messages[..last]));
    let known = known.and_then(|session| lock(&service.sessions).get(&session).map(|open| open.conversation.clone()));
    let is_new = known.is_none();
    let share = service.context.settings.rollout.canary_share;
    let start = || assistant.start("openai").with_canary(service.trial.canary(), share);
    let conversation = known.unwrap_or_else(|| Arc::new(Mutex::new(start())));
    let reply = {
        let mut conversation = lock(&conversation);
        if is_new && !before.is_empty() {
            conversation.recall(before).map_err(unanswered)?;
        }
        conversation.respond_with(text, false, offered).map_err(unanswered)?
    };
    // What a request brings itself is nothing that a candidate could be compared on.
    if offered.is_none() && service.trial.overhear(text) {
        service.wake.notify_one();
    }
    let now = Timestamp::now();
    lock(&service.sessions).insert(reply.session.clone(), Open { conversation, last: now });
    lock(&service.turns).insert(reply.interaction.clone(), reply.session.clone());
    *lock(&service.last_activity) = Some(now);
    let session = reply.session.clone();
    let message = NextMessage::of_session(reply, offered.is_some());
    note(service, &request.messages[..=last], &message, &session);
    Ok(message)
}

/// Notes how far a session's conversation is, so that a request with all of it goes on there.
fn note(service: &Service, messages: &[Message], reply: &NextMessage, session: &str) {
    let mut so_far: Vec<Message> = messages.to_vec();
    so_far.push(Message::Assistant(wire::Replied {
        content: reply.content.clone().map(MessageContent::Text),
        tool_calls: Some(reply.calls.clone()),
    }));
    service.interface.openai.conversations.note(conversations::key(&so_far), session);
}

/// The functions of a request, ready to be called; none when it brings none.
fn offered(
    service: &Service,
    mynah: &Mynah,
    request: &ChatCompletionRequest,
) -> Result<Option<Arc<Offered>>, ServiceError> {
    let Some(tools) = request.tools.as_deref().filter(|tools| !tools.is_empty()) else {
        return match &request.tool_choice {
            None | Some(ToolChoice::Word(ChoiceWord::None | ChoiceWord::Auto)) => Ok(None),
            Some(_) => Err(ServiceError::bad_request("tool_choice: there are no tools to choose from")),
        };
    };
    let (only, choice) = match &request.tool_choice {
        Some(ToolChoice::Named(named)) => (Some(named.function.name.as_str()), mynah_runtime::Choice::Required),
        Some(ToolChoice::Word(ChoiceWord::Required)) => (None, mynah_runtime::Choice::Required),
        // Nothing is offered, so that nothing is called.
        Some(ToolChoice::Word(ChoiceWord::None)) => (Some(""), mynah_runtime::Choice::Free),
        None | Some(ToolChoice::Word(ChoiceWord::Auto)) => (None, mynah_runtime::Choice::Free),
    };
    let mut functions = Functions::default();
    for tool in tools {
        let function = &tool.function;
        let well_named = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if function.name.is_empty() || function.name.len() > 64 || !function.name.chars().all(well_named) {
            let reason = "tools: a name has 1 to 64 letters, digits, `_` and `-`";
            return Err(ServiceError::bad_request(reason));
        }
        if only.is_some_and(|only| only != function.name) {
            continue;
        }
        functions.functions.push(Function {
            name: function.name.clone(),
            description: function.description.clone().unwrap_or_default(),
            parameters: function
                .parameters
                .clone()
                .map_or_else(|| json!({"type": "object", "properties": {}}), Value::Object),
            examples: Vec::new(),
            replies: Vec::new(),
            confirm: false,
        });
    }
    if let (Some(ToolChoice::Named(_)), Some(only), true) = (&request.tool_choice, only, functions.functions.is_empty())
    {
        return Err(ServiceError::bad_request(format!("tool_choice: `{only}` is none of the tools")));
    }
    let mut hasher = Sha256::new();
    for function in &functions.functions {
        hasher.update(json!([function.name, function.description, function.parameters]).to_string());
    }
    hasher.update([u8::from(choice == mynah_runtime::Choice::Required)]);
    let digest: [u8; 32] = hasher.finalize().into();
    let kept =
        lock(&service.interface.openai.offers).iter().find(|(key, _)| *key == digest).map(|(_, one)| one.clone());
    if let Some(kept) = kept.filter(|kept| mynah.is_current(kept)) {
        return Ok(Some(kept));
    }
    let made = mynah.offer(&functions, choice);
    let made = Arc::new(made.map_err(|error| ServiceError::bad_request(format!("tools: {error}")))?);
    let mut offers = lock(&service.interface.openai.offers);
    offers.retain(|(key, _)| *key != digest);
    if offers.len() >= OFFERS {
        offers.remove(0);
    }
    offers.push((digest, made.clone()));
    Ok(Some(made))
}

/// What the functions gave that were called last, in words; nothing unless the conversation ends with it.
fn results(messages: &[Message]) -> Vec<String> {
    let gave = messages.iter().rev().map_while(|message| match message {
        Message::Tool(gave) => Some(in_words(&gave.content.text())),
        _ => None,
    });
    let mut results: Vec<String> = gave.collect();
    results.reverse();
    results
}

/// JSON as one would say it; anything else as it is.
fn in_words(text: &str) -> String {
    fn value(value: &Value) -> String {
        match value {
            Value::Object(fields) => {
                let fields: Vec<String> = fields
                    .iter()
                    .map(|(name, field)| format!("{}: {}", name.replace('_', " "), value_of(field)))
                    .collect();
                fields.join(", ")
            }
            other => value_of(other),
        }
    }
    fn value_of(one: &Value) -> String {
        match one {
            Value::String(text) => text.clone(),
            Value::Array(values) => values.iter().map(value_of).collect::<Vec<_>>().join(", "),
            Value::Object(_) => format!("({})", value(one)),
            other => other.to_string(),
        }
    }
    match serde_json::from_str::<Value>(text) {
        Ok(parsed @ (Value::Object(_) | Value::Array(_) | Value::String(_))) => value(&parsed),
        _ => text.to_owned(),
    }
}

fn words(message: &Message) -> String {
    match message {
        Message::System(said) | Message::Developer(said) | Message::User(said) => said.content.text(),
        Message::Assistant(replied) => replied.content.as_ref().map(MessageContent::text).unwrap_or_default(),
        Message::Tool(gave) => gave.content.text(),
    }
}

fn tool_call(function: &str, arguments: &Value) -> ToolCall {
    ToolCall {
        id: format!("call_{}", uuid::Uuid::now_v7().simple()),
        kind: FunctionKind::Function,
        function: CalledFunction { name: function.to_owned(), arguments: arguments.to_string() },
    }
}

fn completion(message: NextMessage, prompt_tokens: usize, count: impl Fn(&str) -> usize) -> ChatCompletion {
    let NextMessage { content, calls, beyond } = message;
    let completion_tokens = content.as_deref().map_or(0, &count)
        + calls.iter().map(|call| count(&call.function.name) + count(&call.function.arguments)).sum::<usize>();
    let id = beyond.interaction.clone().unwrap_or_else(|| uuid::Uuid::now_v7().simple().to_string());
    ChatCompletion {
        id: format!("chatcmpl-{id}"),
        object: "chat.completion",
        created: Timestamp::now().as_second(),
        model: beyond.version.clone().unwrap_or_else(|| ANY.to_owned()),
        choices: vec![Choice {
            index: 0,
            finish_reason: if calls.is_empty() { "stop" } else { "tool_calls" },
            message: AssistantMessage { role: "assistant", content, refusal: None, tool_calls: calls },
            logprobs: None,
        }],
        usage: Usage { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens },
        mynah: beyond,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_function_gave_is_said_in_words() {
        assert_eq!(in_words("It is 3 °C."), "It is 3 °C.");
        assert_eq!(
            in_words(r#"{"max_temperature": 3, "sky": "clear", "wind": {"speed": 2}}"#),
            "max temperature: 3, sky: clear, wind: (speed: 2)"
        );
        assert_eq!(in_words(r#"["a", "b"]"#), "a, b");
        assert_eq!(in_words("42"), "42");
    }

    #[test]
    fn only_the_results_at_the_end_count() {
        let messages: Vec<Message> = serde_json::from_value(json!([
            {"role": "user", "content": "weather?"},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "rain"},
            {"role": "tool", "tool_call_id": "c2", "content": "snow"},
        ]))
        .unwrap();
        assert_eq!(results(&messages), ["rain", "snow"]);
        assert!(results(&messages[..2]).is_empty());
    }
}
