//! A reply and the reasons for it.

use mynah_data::PolicyRecord;
use serde::Serialize;

use crate::functions::Call;

/// What Mynah says to a turn.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reply {
    /// The words.
    pub text: String,
    /// What kind of reply it is.
    pub kind: ReplyKind,
    /// The calls that were made (or, without a handler, are to be made by the app), in order.
    pub calls: Vec<Call>,
    /// How sure the decision was, in [0, 1].
    pub confidence: f32,
    /// Who decided.
    pub source: ReplySource,
    /// The version that replied; `None` for the embedded starter.
    pub version: Option<String>,
    /// The id of the logged turn, for feedback.
    pub interaction: String,
    /// The reasons.
    pub why: Why,
}

/// What kind of reply it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReplyKind {
    /// A function was called, or is to be called by the app.
    Call,
    /// An answer from memory or from the knowledge.
    Answer,
    /// A question back, for an argument or for any words at all.
    Ask,
    /// A question whether to call a function.
    Confirm,
    /// What was pending was given up.
    Cancel,
    /// "I don't know".
    Abstain,
    /// A greeting for a greeting: what was said is politeness and asks for nothing.
    Courtesy,
    /// The app's policy held something back; the reasons and the log say what.
    Blocked,
    /// A function was called and failed.
    Error,
}

impl ReplyKind {
    /// The word in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Answer => "answer",
            Self::Ask => "ask",
            Self::Confirm => "confirm",
            Self::Cancel => "cancel",
            Self::Abstain => "abstain",
            Self::Courtesy => "courtesy",
            Self::Blocked => "blocked",
            Self::Error => "error",
        }
    }
}

/// Who decided on a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReplySource {
    /// The heads of the model.
    Model,
    /// A remembered sentence, or the nearest examples.
    Memory,
    /// The turns before.
    Context,
    /// A passage of the knowledge.
    Knowledge,
}

impl ReplySource {
    /// The word in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Memory => "memory",
            Self::Context => "context",
            Self::Knowledge => "knowledge",
        }
    }
}

/// The reasons for a reply.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Why {
    /// The decision in one sentence.
    pub decision: String,
    /// The head's most probable functions with their calibrated probabilities, best first.
    pub functions: Vec<(String, f32)>,
    /// The smallest probability to act upon.
    pub threshold: f32,
    /// The head's probability that any function is meant, and the smallest to act upon.
    pub in_scope: (f32, f32),
    /// The smallest similarity at which a remembered sentence decides; above 1 when memory is off.
    pub memory_threshold: f32,
    /// The smallest similarity to the examples of a function, as a whole, at which they choose it.
    pub vote_threshold: f32,
    /// The functions whose examples are nearest as a whole, with the similarity, nearest first.
    pub examples: Vec<(String, f32)>,
    /// The nearest remembered sentences, nearest first.
    pub nearest: Vec<NearExample>,
    /// The nearest passage.
    pub passage: Option<PassageSource>,
    /// What the app's policy held back.
    pub policy: Option<PolicyRecord>,
    /// Where the words of an answer come from; none for every other reply.
    pub answer: Option<AnswerSource>,
}

/// Where the words of an answer come from.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum AnswerSource {
    /// Somebody gave this answer to this question.
    Remembered {
        /// The question it was given to.
        question: String,
        /// `file:line` or an interaction's id, that is, a line of the log.
        origin: String,
        /// How it came about: `imported`, `taught`, …
        source: mynah_data::Source,
    },
    /// They stand in a file of the knowledge.
    Passage {
        /// The file, relative to `knowledge/`.
        file: String,
        /// The passage's first line, from 1.
        line: usize,
        /// The heading it stands under.
        heading: Option<String>,
        /// What the answer head chose; none when the nearest sentence answers.
        span: Option<String>,
        /// How much more the head believes in the span than in "no answer", in [0, 1].
        score: Option<f32>,
    },
}

/// A remembered sentence near a turn.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NearExample {
    /// The sentence.
    pub text: String,
    /// The function it is labelled with.
    pub function: Option<String>,
    /// The answer it is labelled with.
    pub answer: Option<String>,
    /// Its cosine similarity to the turn, in [−1, 1].
    pub similarity: f32,
    /// How it came to its label: `written`, `imported`, `corrected`, …
    pub source: mynah_data::Source,
    /// Where it comes from: `functions.json#name:3`, `file:line` or an interaction's id.
    pub origin: String,
}

/// A passage near a turn.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PassageSource {
    /// The file, relative to `knowledge/`.
    pub file: String,
    /// The passage's first line, from 1.
    pub line: usize,
    /// The heading it stands under.
    pub heading: Option<String>,
    /// The passage.
    pub text: String,
    /// Its cosine similarity to the turn, in [−1, 1].
    pub similarity: f32,
}
