//! One turn: from its text, the loaded state and the context to a reply and the next context.
//!
//! The order: nothing said; giving up; what was asked for (a confirmation, an argument); the last call again; a correction of
//! it; a follow-up on it; several calls in one turn; and else whatever [`crate::decision`] makes of the text alone.
//!
//! Invariant: nothing is written here, and a text, whatever it is, gets a reply.

mod linked;
mod several;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use jiff::Zoned;
use mynah_data::{Correction, PolicyRecord};

use super::context::{Context, Pending, carried};
use super::courtesy::Courtesy;
use super::phrases::{Link, is_again, is_cancel, is_never_mind, link, yes_or_no};
use super::reply::{AnswerSource, NearExample, PassageSource, ReplyKind, ReplySource, Why};
use crate::decision::{Decider, Decision, Label, Unknown};
use crate::functions::{Call, Draft};
use crate::memory::{Entry, Meaning, head};
use crate::mynah::{FunctionHandler, Loaded, Understanding};
use crate::policy::Policy;

const NOTHING_SAID: &str = "I didn't catch any words. What can I do for you?";
const GIVEN_UP: &str = "All right, never mind.";
const DECLINED: &str = "All right, I won't.";
const UNSURE: &str =
    "I don't know what to do with that. Tell me what you meant or what I should answer, and I will remember it.";
const OUT_OF_SCOPE: &str =
    "I don't know that, and it is nothing I can do. You can teach me the answer, and I will remember it.";

/// How often an argument is asked for before the turn is taken as something else.
const MAX_ATTEMPTS: u8 = 2;

/// How sure changing a call is, and cutting a turn into several; below that of saying one thing outright.
const LINKED_CONFIDENCE: f32 = 0.8;

/// How many turns about something else a follow-up may reach over.
const MAX_TURNS_AGO: u8 = 2;

/// A turn to be answered.
pub(super) struct Turn<'a> {
    pub loaded: &'a Loaded,
    pub handlers: &'a HashMap<String, FunctionHandler>,
    pub policy: &'a Policy,
    pub now: &'a Zoned,
    pub text: &'a str,
    pub context: &'a Context,
}

/// A reply without its log entry.
pub(super) struct Outcome {
    pub text: String,
    pub kind: ReplyKind,
    pub calls: Vec<Call>,
    pub confidence: f32,
    pub source: ReplySource,
    pub why: Why,
    pub context: Context,
    /// What the turn says about the last call's interaction.
    pub correction: Option<Correction>,
}

/// Where a call comes from.
#[derive(Clone, Copy)]
struct Origin {
    confidence: f32,
    source: ReplySource,
}

impl Turn<'_> {
    /// The reply, or what the app's policy leaves of it.
    pub fn reply(&self) -> Outcome {
        if let Some(held) = self.policy.request(self.text) {
            return self.held_back(held, self.context.clone());
        }
        let mut outcome = self.unchecked();
        if outcome.text != self.policy.words_instead()
            && let Some(held) = self.policy.reply(&outcome.text)
        {
            // A call that was made stays one: only its words are held back.
            outcome.text = self.policy.words_instead().to_owned();
            outcome.kind = if outcome.calls.is_empty() { ReplyKind::Blocked } else { outcome.kind };
            outcome.why.policy = Some(held);
        }
        outcome
    }

    fn unchecked(&self) -> Outcome {
        if self.text.trim().is_empty() {
            return self.said(NOTHING_SAID, ReplyKind::Ask, "nothing was said", self.context.clone());
        }
        if self.context.pending != Pending::Nothing && is_cancel(self.text) {
            if let (Pending::Confirmation { .. }, Some(false)) = (&self.context.pending, yes_or_no(self.text)) {
                return self.declined();
            }
            let why = "the pending question was given up";
            return self.said(GIVEN_UP, ReplyKind::Cancel, why, self.context.with(Pending::Nothing));
        }
        if let (Pending::Confirmation { draft }, Some(true)) = (&self.context.pending, yes_or_no(self.text)) {
            return self.confirmed(draft);
        }
        let understanding = self.understand();
        if is_never_mind(self.text) && understanding.evidence.exact.is_none() {
            return self.said(GIVEN_UP, ReplyKind::Cancel, "the person gave up", self.context.with(Pending::Nothing));
        }
        let mut outcome = self
            .courtesy(&understanding)
            .or_else(|| self.in_context(&understanding))
            .or_else(|| self.several_calls(&understanding))
            .unwrap_or_else(|| self.alone(&understanding));
        let said = std::mem::take(&mut outcome.why);
        outcome.why =
            Why { decision: said.decision, policy: said.policy, answer: said.answer, ..self.reasons(&understanding) };
        outcome
    }

    /// The reply to politeness, unless a function or an answer was taught for it.
    fn courtesy(&self, understanding: &Understanding) -> Option<Outcome> {
        let wanted = self.loaded.offer.as_ref().is_some_and(|offer| offer.requires_call());
        let courtesy = Courtesy::of(self.text).filter(|_| self.context.pending == Pending::Nothing && !wanted)?;
        let taught = match &understanding.decision {
            Decision::Answer { .. } => true,
            Decision::Call { function, .. } => understanding.evidence.nearest.iter().any(|one| {
                one.label == Label::Function(function.clone()) && one.similarity >= self.loaded.thresholds.between()
            }),
            Decision::Passage { .. } | Decision::Abstain { .. } => false,
        };
        let why = "this is politeness and asks for nothing";
        (!taught).then(|| self.said(courtesy.reply(), ReplyKind::Courtesy, why, self.kept()))
    }

    fn held_back(&self, held: PolicyRecord, context: Context) -> Outcome {
        let why = format!("the policy holds this back: {}", held.rule);
        let mut outcome = self.said(self.policy.words_instead(), ReplyKind::Blocked, &why, context);
        outcome.why.policy = Some(held);
        outcome
    }

    /// The call that waited for a yes is not made; those that come after it are.
    fn declined(&self) -> Outcome {
        let first = self.said(DECLINED, ReplyKind::Cancel, "the call was not confirmed", self.kept());
        self.go_on(first, &self.context.waiting, Origin { confidence: 1.0, source: ReplySource::Context })
    }

    fn confirmed(&self, draft: &Draft) -> Outcome {
        let origin = Origin { confidence: 1.0, source: ReplySource::Context };
        let first = self.execute(carried(draft.clone()), origin);
        let mut outcome = self.go_on(first, &self.context.waiting, origin);
        outcome.why.decision = format!("{} was confirmed", draft.function);
        outcome
    }

    /// Several calls in one turn; `None` when it is about one thing.
    fn several_calls(&self, understanding: &Understanding) -> Option<Outcome> {
        let drafts = self.several(understanding)?;
        let (first, waiting) = drafts.split_first()?;
        let names: Vec<&str> = drafts.iter().map(|draft| draft.function.as_str()).collect();
        let why = format!("the turn asks for {}", names.join(", then "));
        let origin = Origin { confidence: LINKED_CONFIDENCE, source: ReplySource::Model };
        let mut outcome = self.go_on(self.act(first.clone(), origin), waiting, origin);
        outcome.why.decision = why;
        Some(outcome)
    }

    /// Goes on with the calls that wait until this one is done; a question leaves the rest waiting.
    fn go_on(&self, mut outcome: Outcome, waiting: &[Draft], origin: Origin) -> Outcome {
        let mut waiting = waiting;
        while !matches!(outcome.kind, ReplyKind::Ask | ReplyKind::Confirm) {
            let Some((next, rest)) = waiting.split_first() else { break };
            let done = outcome;
            let mut next = self.act(next.clone(), origin);
            next.why.policy = done.why.policy.or(next.why.policy);
            waiting = rest;
            outcome = Outcome {
                text: format!("{} {}", done.text, next.text),
                kind: if done.kind == ReplyKind::Error && next.kind == ReplyKind::Call { done.kind } else { next.kind },
                calls: done.calls.into_iter().chain(next.calls).collect(),
                confidence: done.confidence.min(next.confidence),
                correction: done.correction,
                ..next
            };
        }
        if matches!(outcome.kind, ReplyKind::Ask | ReplyKind::Confirm) {
            outcome.context.waiting = waiting.to_vec();
        }
        outcome
    }

    /// The reply that the turns before call for; `None` when the turn stands alone.
    fn in_context(&self, understanding: &Understanding) -> Option<Outcome> {
        // What a person labelled in these words stands above any guess at the context.
        let labelled = understanding.evidence.exact.as_ref().is_some_and(|exact| exact.live);
        match &self.context.pending {
            Pending::Argument { draft, name, attempts } => return self.asked(draft, name, *attempts, understanding),
            Pending::Confirmation { draft } if !labelled => {
                if let Some(outcome) = self.answered_confirmation(draft, understanding) {
                    return Some(outcome);
                }
            }
            _ => {}
        }
        let last = self.context.last.as_ref().filter(|_| !labelled)?;
        if is_again(self.text) && understanding.evidence.exact.is_none() {
            return Some(self.repeated(last));
        }
        match link(self.text) {
            // "no" is about what was said just now, and nothing before.
            Some(Link::Correction(rest)) if last.turns_ago == 0 => self.corrected(last, rest),
            Some(Link::FollowUp(rest)) if last.turns_ago <= MAX_TURNS_AGO => {
                self.followed_up(last, rest, understanding)
            }
            None if last.turns_ago == 0 => self.fragment(last, understanding),
            _ => None,
        }
    }

    /// The reply to the text alone.
    fn alone(&self, understanding: &Understanding) -> Outcome {
        match &understanding.decision {
            Decision::Call { function, confidence, decider } => {
                let (source, why) = match decider {
                    Decider::Head => (ReplySource::Model, format!("the model is sure of {function}")),
                    Decider::Memory(_) => (ReplySource::Memory, format!("a remembered sentence means {function}")),
                    Decider::Vote(_) => (ReplySource::Memory, format!("the nearest examples mean {function}")),
                };
                let draft = self.loaded.draft(function, head(self.text), understanding, self.now);
                let mut outcome = self.act(draft, Origin { confidence: *confidence, source });
                outcome.why.decision = why;
                outcome
            }
            Decision::Answer { entry, confidence } => match self.loaded.memory.entry(*entry) {
                Some(Entry { meaning: Meaning::Answer(answer), text, origin, source, .. }) => {
                    let mut outcome =
                        self.said(answer, ReplyKind::Answer, "a remembered question has this answer", self.kept());
                    (outcome.confidence, outcome.source) = (*confidence, ReplySource::Memory);
                    outcome.why.answer = Some(AnswerSource::Remembered {
                        question: text.clone(),
                        origin: origin.clone(),
                        source: *source,
                    });
                    outcome
                }
                _ => self.abstain(UNSURE, *confidence),
            },
            Decision::Passage { confidence } => self.passage_answer(*confidence, understanding),
            Decision::Abstain { reason: Unknown::OutOfScope, confidence } => self.abstain(OUT_OF_SCOPE, *confidence),
            Decision::Abstain { reason: Unknown::Unsure, confidence } => self.abstain(UNSURE, *confidence),
        }
    }

    fn passage_answer(&self, confidence: f32, understanding: &Understanding) -> Outcome {
        let Some(found) = self.loaded.read_passages(head(self.text), &understanding.passages) else {
            let mut outcome = self.abstain(UNSURE, confidence);
            outcome.why.decision = "the nearest passages do not answer".to_owned();
            return outcome;
        };
        let passage = found.passage;
        let place = match &passage.heading {
            Some(heading) => format!("{}, {heading}", passage.file),
            None => passage.file.clone(),
        };
        let text = format!("{} ({place})", found.words);
        let mut outcome = self.said(&text, ReplyKind::Answer, "a passage of the knowledge answers", self.kept());
        (outcome.confidence, outcome.source) = (confidence, ReplySource::Knowledge);
        outcome.why.answer = Some(AnswerSource::Passage {
            file: passage.file.clone(),
            line: passage.line,
            heading: passage.heading.clone(),
            score: found.span.as_ref().map(|span| span.score),
            span: found.span.map(|span| span.text),
        });
        outcome
    }

    /// Asks for what is missing, asks to confirm, or calls.
    fn act(&self, draft: Draft, origin: Origin) -> Outcome {
        if let Some(held) = self.policy.function(&draft.function) {
            return self.held_back(held, self.kept());
        }
        if let Some(name) = draft.missing.first() {
            let question = self.loaded.toolbox.question(&draft.function, name);
            let why = format!("{} needs `{name}`", draft.function);
            let pending = Pending::Argument { name: name.clone(), draft, attempts: 0 };
            let outcome = self.said(&question, ReplyKind::Ask, &why, self.context.with(pending));
            return Outcome { confidence: origin.confidence, source: origin.source, ..outcome };
        }
        let confirm = self.loaded.toolbox.get(&draft.function).is_some_and(|tool| tool.function.confirm);
        if confirm {
            let question = self.loaded.toolbox.confirmation(&draft);
            let why = format!("{} asks before it acts", draft.function);
            let outcome =
                self.said(&question, ReplyKind::Confirm, &why, self.context.with(Pending::Confirmation { draft }));
            return Outcome { confidence: origin.confidence, source: origin.source, ..outcome };
        }
        self.execute(draft, origin)
    }

    /// Makes the call: by its handler, or by handing it to the app.
    fn execute(&self, draft: Draft, origin: Origin) -> Outcome {
        let context = self.context.with(Pending::Nothing);
        let call = match self.loaded.toolbox.finish(draft) {
            Ok(call) => call,
            Err(invalid) => {
                let text = format!("I can't do that: {}.", invalid.reason);
                let outcome = self.said(&text, ReplyKind::Abstain, &invalid.to_string(), context);
                return Outcome { confidence: origin.confidence, source: origin.source, ..outcome };
            }
        };
        let (text, kind) = match self.handlers.get(&call.function) {
            None => (self.loaded.toolbox.reply(&call), ReplyKind::Call),
            // A handler is the app's code: its panic must not take the conversation down.
            Some(handler) => match catch_unwind(AssertUnwindSafe(|| handler(&call))) {
                Ok(Ok(text)) => (text, ReplyKind::Call),
                Ok(Err(error)) => (format!("That did not work: {error}"), ReplyKind::Error),
                Err(_) => ("That did not work: something went wrong inside the function.".to_owned(), ReplyKind::Error),
            },
        };
        let why = format!("{} was called", call.function);
        let outcome = self.said(&text, kind, &why, context);
        Outcome { calls: vec![call], confidence: origin.confidence, source: origin.source, ..outcome }
    }

    fn abstain(&self, text: &str, confidence: f32) -> Outcome {
        let outcome = self.said(text, ReplyKind::Abstain, "nothing is sure enough", self.kept());
        Outcome { confidence, source: ReplySource::Model, ..outcome }
    }

    /// The context with nothing pending.
    fn kept(&self) -> Context {
        self.context.with(Pending::Nothing)
    }

    fn said(&self, text: &str, kind: ReplyKind, why: &str, context: Context) -> Outcome {
        Outcome {
            text: text.to_owned(),
            kind,
            calls: Vec::new(),
            confidence: 1.0,
            source: ReplySource::Context,
            why: Why { decision: why.to_owned(), ..Why::default() },
            context,
            correction: None,
        }
    }

    fn reasons(&self, understanding: &Understanding) -> Why {
        const SHOWN: usize = 3;
        let near = understanding.evidence.exact.iter().chain(&understanding.evidence.nearest);
        let mut nearest: Vec<NearExample> = Vec::new();
        for one in near {
            let Some(entry) = self.loaded.memory.entry(one.entry) else { continue };
            if nearest.len() == SHOWN
                || nearest.iter().any(|known| known.origin == entry.origin && known.text == entry.text)
            {
                continue;
            }
            let (function, answer) = match &entry.meaning {
                Meaning::Function { name, .. } | Meaning::Description(name) => (Some(name.clone()), None),
                Meaning::Answer(answer) => (None, Some(answer.clone())),
            };
            nearest.push(NearExample {
                text: entry.text.clone(),
                function,
                answer,
                similarity: one.similarity,
                source: entry.source,
                origin: entry.origin.clone(),
            });
        }
        let passage = understanding.passages.first().map(|found| PassageSource {
            file: found.passage.file.clone(),
            line: found.passage.line,
            heading: found.passage.heading.clone(),
            text: found.passage.text.clone(),
            similarity: found.similarity,
        });
        Why {
            decision: String::new(),
            functions: understanding.prediction.probabilities.clone(),
            threshold: self.loaded.thresholds.act,
            in_scope: (understanding.prediction.in_scope, self.loaded.thresholds.scope),
            memory_threshold: self.loaded.thresholds.memory,
            vote_threshold: self.loaded.thresholds.vote,
            examples: understanding
                .evidence
                .prototypes
                .iter()
                .map(|one| (one.function.clone(), one.similarity))
                .collect(),
            nearest,
            passage,
            policy: None,
            answer: None,
        }
    }
}
