//! Conversations in this process, through the runtime.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use mynah_data::{Correction, LogOptions, Rating};
use mynah_registry::RegistryOptions;
use mynah_runtime::{AnswerSource, Builder, Feedback, Mynah, Offered, Session, Why};

use super::{Conversation, Reply, ReplyCall};
use crate::allocator;
use crate::commands::Context;
use crate::failure::hinted;
use crate::output::Output;
use crate::rollout;

/// The model with its memory; clones share both.
#[derive(Clone)]
pub struct Assistant {
    mynah: Mynah,
    output: Output,
}

impl Assistant {
    /// Loads the version in production, or the last one that verifies, which is said loudly.
    ///
    /// # Errors
    /// When the home is not set up or cannot be read.
    pub fn open(context: &Context, memory: bool) -> anyhow::Result<Self> {
        Self::open_with(context, memory, |builder| builder)
    }

    /// The same, opened in another way.
    ///
    /// # Errors
    /// As for [`Assistant::open`].
    pub fn open_with(context: &Context, memory: bool, how: impl FnOnce(Builder) -> Builder) -> anyhow::Result<Self> {
        context.registry()?;
        let mynah = how(Mynah::builder(context.home.root()))
            .settings(context.settings.runtime.clone())
            .memory(memory && context.settings.runtime.memory)
            .on_embedding(embedding_progress(context.output))
            .log_options(LogOptions::with_fault(context.fault.clone()))
            .registry_options(RegistryOptions { fault: context.fault.clone(), ..RegistryOptions::default() })
            .open()?;
        allocator::give_back();
        let assistant = Self { mynah, output: context.output };
        assistant.warn();
        Ok(assistant)
    }

    /// A conversation, whose file begins with its first turn.
    pub fn start(&self, client: &str) -> Local {
        Local { assistant: self.clone(), client: client.to_owned(), session: None, canary: None }
    }

    /// Gives an opinion on a turn of any conversation.
    ///
    /// # Errors
    /// When there is no such turn, or the opinion does not fit it.
    pub fn feedback(
        &self,
        interaction: &str,
        rating: Option<Rating>,
        correction: Option<Correction>,
    ) -> anyhow::Result<()> {
        self.mynah.feedback(interaction, opinion(rating, correction)?)?;
        Ok(())
    }

    /// Whether anything was trained, declared or remembered to answer from.
    pub fn has_something_to_say(&self) -> bool {
        self.mynah.is_trained() || !self.mynah.functions().is_empty() || self.mynah.remembered() > 0
    }

    /// The library itself.
    pub fn mynah(&self) -> &Mynah {
        &self.mynah
    }

    /// Loads what changed: promoted versions, files, labels of other processes.
    pub fn refresh(&self) {
        if self.mynah.refresh() {
            allocator::give_back();
        }
        self.warn();
    }

    /// Says what could not be used and was passed over.
    fn warn(&self) {
        for warning in self.mynah.take_warnings() {
            self.output.complain(format_args!("{} {}", self.output.error_style.bad("warning:"), warning.message));
            if let Some(hint) = warning.hint {
                self.output.complain(format_args!("{} {hint}", self.output.error_style.name("hint:")));
            }
        }
    }
}

/// Tells on standard error how far the embedding of remembered texts is, when it takes long enough to wonder.
fn embedding_progress(output: Output) -> impl Fn(usize, usize) + Send + Sync + 'static {
    const LONG: usize = 2000;
    const EVERY: Duration = Duration::from_secs(5);
    let told: Mutex<Option<Instant>> = Mutex::new(None);
    move |done, total| {
        let Ok(mut told) = told.lock() else { return };
        if total < LONG || done == total {
            *told = None;
        } else if told.is_none_or(|told| told.elapsed() >= EVERY) {
            *told = Some(Instant::now());
            output.note(format_args!("embedding what is remembered: {done} of {total}"));
        }
    }
}

/// Opens the home and a conversation in it.
///
/// # Errors
/// When the home cannot be opened, or nothing was trained yet.
pub fn open(context: &Context, memory: bool, client: &str) -> anyhow::Result<Local> {
    let assistant = Assistant::open(context, memory)?;
    if !assistant.has_something_to_say() {
        return Err(hinted(
            "nothing was learned yet and there is no functions.json",
            "add functions.json to the home or `mynah import` examples, then `mynah train`",
        ));
    }
    Ok(assistant.start(client))
}

/// A conversation in this process.
pub struct Local {
    assistant: Assistant,
    client: String,
    session: Option<Session>,
    /// Who answers a share of the sessions instead.
    canary: Option<(Assistant, f64)>,
}

impl Local {
    /// Lets another assistant of the same home answer, if the session is among its share.
    pub fn with_canary(self, canary: Option<Assistant>, share: f64) -> Self {
        Self { canary: canary.map(|canary| (canary, share)), ..self }
    }

    fn session(&mut self) -> anyhow::Result<&mut Session> {
        let session = match self.session.take() {
            Some(session) => session,
            None => {
                let session = self.assistant.mynah.session_for(&self.client)?;
                match self.canary.take() {
                    Some((canary, share)) if rollout::is_chosen(session.id(), share) => {
                        let id = session.id().to_owned();
                        drop(session);
                        self.assistant = canary;
                        self.assistant.mynah.resume(&id)?
                    }
                    _ => session,
                }
            }
        };
        Ok(self.session.insert(session))
    }

    /// Takes the texts of a conversation that was held elsewhere as what was said before.
    ///
    /// # Errors
    /// When the conversation's file cannot be made.
    pub fn recall(&mut self, texts: &[&str]) -> anyhow::Result<()> {
        self.session()?.recall(texts);
        Ok(())
    }

    /// Says something; functions may be offered in place of the home's.
    ///
    /// # Errors
    /// When the turn could not be logged.
    pub fn respond_with(&mut self, message: &str, explain: bool, offered: Option<&Offered>) -> anyhow::Result<Reply> {
        let session = self.session()?;
        let reply = session.respond_with(message, offered)?;
        let reply = Reply {
            session: session.id().to_owned(),
            why: in_words(&reply.why),
            explanation: explain.then(|| serde_json::to_value(&reply.why)).transpose()?,
            interaction: reply.interaction,
            text: reply.text,
            kind: reply.kind.as_str().to_owned(),
            calls: reply
                .calls
                .iter()
                .map(|call| ReplyCall { function: call.function.clone(), arguments: call.values() })
                .collect(),
            confidence: reply.confidence,
            source: reply.source.as_str().to_owned(),
            version: reply.version,
        };
        self.assistant.warn();
        Ok(reply)
    }
}

impl Conversation for Local {
    fn respond(&mut self, message: &str, explain: bool) -> anyhow::Result<Reply> {
        self.respond_with(message, explain, None)
    }

    fn feedback(
        &mut self,
        interaction: &str,
        rating: Option<Rating>,
        correction: Option<Correction>,
    ) -> anyhow::Result<()> {
        match &mut self.session {
            Some(session) => {
                session.feedback(interaction, opinion(rating, correction)?)?;
                Ok(())
            }
            None => self.assistant.feedback(interaction, rating, correction),
        }
    }

    fn end(&mut self, reason: &str) -> anyhow::Result<()> {
        match self.session.take() {
            Some(mut session) => Ok(session.end(reason)?),
            None => Ok(()),
        }
    }
}

fn opinion(rating: Option<Rating>, correction: Option<Correction>) -> anyhow::Result<Feedback> {
    Ok(match (rating, correction) {
        (None, Some(correction)) => Feedback::correction(correction),
        (Some(rating), Some(correction)) => Feedback::correction(correction).rated(rating),
        (Some(Rating::Up), None) => Feedback::up(),
        (Some(Rating::Down), None) => Feedback::down(),
        (None, None) => {
            return Err(hinted("feedback needs a rating or a correction", "say what would have been right"));
        }
    })
}

/// The reasons for a reply in a few lines.
fn in_words(why: &Why) -> String {
    let mut lines = vec![why.decision.clone()];
    let functions: Vec<String> =
        why.functions.iter().take(3).map(|(name, share)| format!("{name} {share:.2}")).collect();
    if !functions.is_empty() {
        let scope = match why.in_scope {
            (_, 0.0) => String::new(),
            (share, needed) => format!("; any function {share:.2}, acts from {needed:.2}"),
        };
        lines.push(format!("head: {} (acts from {:.2}{scope})", functions.join(", "), why.threshold));
    }
    if let Some((name, similarity)) = why.examples.first() {
        lines.push(format!(
            "examples: those of {name} are nearest ({similarity:.2}, decide from {:.2})",
            why.vote_threshold
        ));
    }
    if let Some(nearest) = why.nearest.first() {
        let label = nearest.function.as_deref().or(nearest.answer.as_deref()).unwrap_or("nothing");
        lines.push(format!(
            "nearest: \"{}\" means {label} (similarity {:.2}, {})",
            nearest.text, nearest.similarity, nearest.origin
        ));
    }
    if let Some(passage) = &why.passage {
        lines.push(format!("passage: {}, line {} (similarity {:.2})", passage.file, passage.line, passage.similarity));
    }
    if let Some(held) = &why.policy {
        let withheld = held.withheld.as_deref().map(|reply| format!("; not said: \"{reply}\"")).unwrap_or_default();
        lines.push(format!("policy: {}{withheld}", held.rule));
    }
    lines.extend(why.answer.as_ref().map(answer_source));
    lines.join("\n")
}

/// Where the words of an answer come from.
fn answer_source(source: &AnswerSource) -> String {
    match source {
        AnswerSource::Remembered { question, origin, .. } => format!("answer: given to \"{question}\" ({origin})"),
        AnswerSource::Passage { file, line, heading, span, score, .. } => {
            let heading = heading.as_ref().map(|heading| format!(", {heading}")).unwrap_or_default();
            let how = match (span, score) {
                (Some(span), Some(score)) => format!("the answer head chose \"{span}\" with {score:.2}"),
                _ => "the nearest sentence".to_owned(),
            };
            format!("answer: {file}, line {line}{heading}; {how}")
        }
        _ => "answer: of an unknown source".to_owned(),
    }
}
