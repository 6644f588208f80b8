//! Which session of the log a list of messages goes on with.
//!
//! OpenAI's clients send the whole conversation with every request and name no session. A conversation is recognised by the
//! digest of everything in it up to and with the last reply. Invariant: a conversation that is not recognised, because its
//! history was changed or the service was started again, begins a session of its own.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::wire::Message;

/// Conversations that are recognised; the oldest is forgotten first.
const KEPT: usize = 1024;

/// A conversation up to one of its replies.
pub type Key = [u8; 32];

/// The sessions of recent conversations.
#[derive(Default)]
pub struct Conversations {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The session, and the count when it was noted.
    sessions: HashMap<Key, (String, u64)>,
    count: u64,
}

impl Conversations {
    /// The session that goes on, if it is known.
    pub fn session(&self, before: &Key) -> Option<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.sessions.get(before).map(|(session, _)| session.clone())
    }

    /// Notes how far a session's conversation is.
    pub fn note(&self, key: Key, session: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Known { sessions, count } = &mut *known;
        *count += 1;
        if sessions.len() >= KEPT
            && let Some(oldest) = sessions.iter().min_by_key(|(_, (_, at))| *at).map(|(key, _)| *key)
        {
            sessions.remove(&oldest);
        }
        sessions.insert(key, (session.to_owned(), *count));
    }
}

/// What was said and replied, as far as it is the conversation's own: instructions are not.
pub fn key(messages: &[Message]) -> Key {
    let mut hasher = Sha256::new();
    let mut add = |role: &str, text: &str| {
        hasher.update(role);
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    };
    for message in messages {
        match message {
            Message::System(_) | Message::Developer(_) => {}
            Message::User(said) => add("user", &said.content.text()),
            Message::Tool(gave) => add("tool", &gave.content.text()),
            Message::Assistant(replied) => {
                add("assistant", &replied.content.as_ref().map(super::MessageContent::text).unwrap_or_default());
                for call in replied.tool_calls.iter().flatten() {
                    add("call", &call.id);
                }
            }
        }
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn messages(value: serde_json::Value) -> Vec<Message> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_conversation_is_its_words_without_the_instructions() {
        let said = json!({"role": "user", "content": "hello"});
        let plain = key(&messages(json!([said])));
        assert_eq!(plain, key(&messages(json!([{"role": "system", "content": "be kind"}, said]))));
        assert_eq!(plain, key(&messages(json!([{"role": "user", "content": [{"type": "text", "text": "hello"}]}]))));
        assert_ne!(plain, key(&messages(json!([{"role": "assistant", "content": "hello"}]))));
        assert_ne!(plain, key(&messages(json!([said, {"role": "assistant", "content": null}]))));
    }

    #[test]
    fn only_so_many_are_kept() {
        let known = Conversations::default();
        for number in 0..=KEPT as u64 {
            known.note(Sha256::digest(number.to_le_bytes()).into(), &number.to_string());
        }
        assert_eq!(known.session(&Sha256::digest(0_u64.to_le_bytes()).into()), None);
        assert_eq!(known.session(&Sha256::digest(1_u64.to_le_bytes()).into()).as_deref(), Some("1"));
    }
}
