//! A completion as server-sent events, in the chunks that OpenAI's clients put together again.

use serde_json::{Value, json};

use super::wire::{ChatCompletion, Usage};

/// A completion as chunks: who speaks, the words or the calls, how it ended, the usage when it is asked for, `[DONE]`.
pub fn events(completion: &ChatCompletion, with_usage: bool) -> String {
    let chunk = |choices: Value, usage: Option<Usage>| {
        let mut chunk = json!({
            "id": completion.id, "object": "chat.completion.chunk", "created": completion.created,
            "model": completion.model, "choices": choices,
        });
        if with_usage {
            chunk["usage"] = json!(usage);
        }
        format!("data: {chunk}\n\n")
    };
    let delta = |delta: Value, finish_reason: Option<&str>| {
        chunk(json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason}]), None)
    };
    let mut text = String::new();
    for choice in &completion.choices {
        text.push_str(&delta(json!({"role": "assistant", "content": ""}), None));
        for word in choice.message.content.iter().flat_map(|content| content.split_inclusive(' ')) {
            text.push_str(&delta(json!({"content": word}), None));
        }
        for (index, call) in choice.message.tool_calls.iter().enumerate() {
            let call = json!({"index": index, "id": call.id, "type": "function", "function": call.function});
            text.push_str(&delta(json!({"tool_calls": [call]}), None));
        }
        text.push_str(&delta(json!({}), Some(choice.finish_reason)));
    }
    if with_usage {
        text.push_str(&chunk(json!([]), Some(completion.usage)));
    }
    text.push_str("data: [DONE]\n\n");
    text
}
