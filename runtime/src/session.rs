//! A conversation: every turn is answered in the context of those before it, and logged before its reply is given.
//!
//! Invariants: a reply that was returned is in the log: on the disk, or with `durability = "process"` with the operating
//! system and on the disk soon after; a turn whose log line could not be written has no reply and leaves the context as it
//! was. (A function's handler has run by then, because its words are the reply.)

mod context;
mod courtesy;
mod feedback;
mod phrases;
mod reading;
mod reply;
mod turn;

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use jiff::{Timestamp, Zoned};
use mynah_data::{
    CallRecord, FeedbackRecord, InteractionRecord, Record, ReplyRecord, SessionLog, new_feedback_id, new_interaction_id,
};

pub use feedback::Feedback;
pub use reading::{Reading, TurnsBefore};
pub use reply::{AnswerSource, NearExample, PassageSource, Reply, ReplyKind, ReplySource, Why};

use crate::mynah::{Loaded, Mynah, MynahError, Offered};
use context::Context;
use turn::{Outcome, Turn};

/// Turns whose texts are kept for feedback; those before are looked up in the log.
const MAX_TURNS: usize = 256;

/// A conversation with one person or program.
///
/// Dropped without [`Session::end`] it stays unfinished in the log, like one whose process was killed.
#[derive(Debug)]
pub struct Session {
    mynah: Mynah,
    log: Log,
    context: Context,
    turns: VecDeque<(String, String)>,
    ended: bool,
}

/// The session's file, which has no `Debug` of its own.
struct Log(SessionLog);

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.id())
    }
}

impl Session {
    pub(crate) fn new(mynah: Mynah, log: SessionLog) -> Self {
        Self { mynah, log: Log(log), context: Context::default(), turns: VecDeque::new(), ended: false }
    }

    /// The session's id.
    pub fn id(&self) -> &str {
        self.log.0.id()
    }

    /// The session's log file.
    pub fn path(&self) -> &Path {
        self.log.0.path()
    }

    /// Replies to a text.
    ///
    /// # Errors
    /// When the turn cannot be logged, an earlier one could not be synced (with `durability = "process"`), too many turns
    /// wait already, or the session has ended. Whatever the text is, there is a reply.
    pub fn respond(&mut self, text: &str) -> Result<Reply, MynahError> {
        self.respond_with(text, None)
    }

    /// Replies to a text with other functions than the home's.
    ///
    /// # Errors
    /// As for [`Session::respond`].
    pub fn respond_with(&mut self, text: &str, offered: Option<&Offered>) -> Result<Reply, MynahError> {
        self.check_open()?;
        let mynah = self.mynah.clone();
        let _place = mynah.enter()?;
        let started = Instant::now();
        self.mynah.refresh_for_reply();
        let loaded = offered.map_or_else(|| self.mynah.loaded(), |offered| Arc::clone(offered.loaded()));
        let now = self.mynah.now();
        let inner = self.mynah.inner();
        let turn = Turn {
            loaded: &loaded,
            handlers: &inner.handlers,
            policy: &inner.policy,
            now: &now,
            text,
            context: &self.context,
        };
        let outcome = turn.reply();

        let id = new_interaction_id();
        let correction = match (&outcome.correction, &self.context.last) {
            // A turn that was recalled has no line to be corrected.
            (Some(correction), Some(last)) if !last.interaction.is_empty() => Some(FeedbackRecord {
                id: new_feedback_id(),
                interaction: last.interaction.clone(),
                session: self.id().to_owned(),
                at: Timestamp::now(),
                rating: None,
                correction: Some(correction.clone()),
            }),
            _ => None,
        };
        let version = loaded.version.clone();
        let record = InteractionRecord {
            id: id.clone(),
            session: self.id().to_owned(),
            at: Timestamp::now(),
            text: text.to_owned(),
            reply: reply_record(&outcome),
            version: version.as_ref().map(|version| version.name.clone()),
            version_digest: version.as_ref().map(|version| version.digest.clone()),
            latency_ms: started.elapsed().as_secs_f32() * 1000.0,
        };
        self.log.0.append(&Record::Interaction(record))?;
        // The turn is acknowledged from here on; a correction that does not fit on the disk any more is told, not lost silently.
        let corrected = correction.map(|correction| self.log.0.append(&Record::Feedback(correction)));
        let Outcome { text: reply, kind, calls, confidence, source, why, context, .. } = outcome;
        self.context = context.after(&id, text, &calls);
        self.remember(&id, text);
        if let Some(corrected) = corrected {
            corrected?;
            self.mynah.labels_changed();
        }
        Ok(Reply {
            text: reply,
            kind,
            calls,
            confidence,
            source,
            version: version.map(|version| version.name),
            interaction: id,
            why,
        })
    }

    /// Takes the texts of a conversation that was held elsewhere as what was said before; they are not logged.
    pub fn recall(&mut self, texts: &[&str]) {
        let (loaded, now) = (self.mynah.loaded(), self.mynah.now());
        self.context = after_texts(&self.mynah, &loaded, &now, std::mem::take(&mut self.context), texts);
    }

    /// Takes an opinion on a reply, of this session or another; the next reply to the same words uses a correction.
    ///
    /// # Errors
    /// When there is no such interaction or function, when the words of an argument were not said, or when the disk refuses.
    pub fn feedback(&mut self, interaction: &str, feedback: Feedback) -> Result<FeedbackRecord, MynahError> {
        let turn = self.turns.iter().find(|(id, _)| id == interaction);
        let Some((_, text)) = turn.filter(|_| !self.ended) else { return self.mynah.feedback(interaction, feedback) };
        let (rating, correction) = feedback.resolve(text, &self.mynah.loaded())?;
        let record = FeedbackRecord {
            id: new_feedback_id(),
            interaction: interaction.to_owned(),
            session: self.id().to_owned(),
            at: Timestamp::now(),
            rating,
            correction,
        };
        self.log.0.append(&Record::Feedback(record.clone()))?;
        self.mynah.labels_changed();
        Ok(record)
    }

    /// Ends the conversation, all of which is on the disk then; learning may begin.
    ///
    /// # Errors
    /// When it has ended already, or the end cannot be logged.
    pub fn end(&mut self, reason: &str) -> Result<(), MynahError> {
        self.check_open()?;
        self.log.0.end(reason)?;
        self.ended = true;
        Ok(())
    }

    /// Whether [`Session::end`] succeeded.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    fn check_open(&self) -> Result<(), MynahError> {
        match self.ended {
            true => Err(MynahError::SessionEnded { id: self.id().to_owned() }),
            false => Ok(()),
        }
    }

    fn remember(&mut self, id: &str, text: &str) {
        if self.turns.len() == MAX_TURNS {
            self.turns.pop_front();
        }
        self.turns.push_back((id.to_owned(), text.to_owned()));
    }
}

impl Mynah {
    /// Replies to the last of the texts of a conversation without logging it: no handler runs and nothing can be said about
    /// the reply later, so that its `interaction` is empty.
    ///
    /// # Errors
    /// [`MynahError::Overloaded`] when too many turns wait already.
    pub fn reply_unlogged(&self, before: &[&str], text: &str, offered: Option<&Offered>) -> Result<Reply, MynahError> {
        let _place = self.enter()?;
        self.refresh_for_reply();
        let loaded = offered.map_or_else(|| self.loaded(), |offered| Arc::clone(offered.loaded()));
        let now = self.now();
        let context = after_texts(self, &loaded, &now, Context::default(), before);
        let handlers = HashMap::new();
        let policy = &self.inner().policy;
        let outcome = Turn { loaded: &loaded, handlers: &handlers, policy, now: &now, text, context: &context }.reply();
        let Outcome { text, kind, calls, confidence, source, why, .. } = outcome;
        let version = loaded.version.as_ref().map(|version| version.name.clone());
        Ok(Reply { text, kind, calls, confidence, source, version, interaction: String::new(), why })
    }
}

/// The context after texts that nobody logs; no handler runs.
fn after_texts(mynah: &Mynah, loaded: &Loaded, now: &Zoned, mut context: Context, texts: &[&str]) -> Context {
    let handlers = HashMap::new();
    let policy = &mynah.inner().policy;
    for text in texts {
        let outcome = Turn { loaded, handlers: &handlers, policy, now, text, context: &context }.reply();
        context = outcome.context.after("", text, &outcome.calls);
    }
    context
}

fn reply_record(outcome: &Outcome) -> ReplyRecord {
    let call = |call: &crate::functions::Call| CallRecord {
        function: call.function.clone(),
        arguments: call.values(),
        slots: call.slots(),
    };
    ReplyRecord {
        text: outcome.text.clone(),
        kind: outcome.kind.as_str().to_owned(),
        calls: outcome.calls.iter().map(call).collect(),
        confidence: outcome.confidence,
        source: outcome.source.as_str().to_owned(),
        policy: outcome.why.policy.clone(),
    }
}
