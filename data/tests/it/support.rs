//! Homes, turns and fault points for the tests.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mynah_data::{CallRecord, FaultPoint, Home, InteractionRecord, Record, ReplyRecord, SessionLog, Slot};
use serde_json::json;
use tempfile::TempDir;

/// A new home, gone when the directory is dropped.
pub fn home() -> (TempDir, Home) {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::new(directory.path().join("home"));
    home.create().unwrap();
    (directory, home)
}

/// A fault point that fails as a full disk at the n-th call (from 0), and counts the calls.
pub fn full_at(n: usize) -> (FaultPoint, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let fault: FaultPoint = Arc::new(move |_| match counted.fetch_add(1, Ordering::SeqCst) == n {
        true => Err(io::ErrorKind::StorageFull.into()),
        false => Ok(()),
    });
    (fault, calls)
}

/// A fault point that fails at every call of one step.
pub fn full_in(step: &'static str) -> FaultPoint {
    Arc::new(move |name| match name == step {
        true => Err(io::ErrorKind::StorageFull.into()),
        false => Ok(()),
    })
}

/// A turn without a call.
pub fn turn(session: &str, text: &str) -> InteractionRecord {
    InteractionRecord {
        id: mynah_data::new_interaction_id(),
        session: session.to_owned(),
        at: jiff::Timestamp::now(),
        text: text.to_owned(),
        reply: ReplyRecord {
            text: "I don't know.".to_owned(),
            kind: "abstain".to_owned(),
            calls: Vec::new(),
            confidence: 0.25,
            source: "model".to_owned(),
            policy: None,
        },
        version: Some("v1".to_owned()),
        version_digest: None,
        latency_ms: 2.5,
    }
}

/// A turn with one call.
pub fn call(session: &str, text: &str, function: &str, slots: Vec<Slot>) -> InteractionRecord {
    let mut turn = turn(session, text);
    turn.reply.kind = "call".to_owned();
    turn.reply.calls =
        vec![CallRecord { function: function.to_owned(), arguments: json!({}).as_object().unwrap().clone(), slots }];
    turn
}

/// Writes a turn and returns its id.
pub fn say(session: &mut SessionLog, text: &str) -> String {
    let turn = turn(session.id(), text);
    session.append(&Record::Interaction(turn.clone())).unwrap();
    turn.id
}

pub fn slot(name: &str, start: usize, end: usize, value: &str) -> Slot {
    Slot { name: name.to_owned(), start, end, value: value.to_owned() }
}
