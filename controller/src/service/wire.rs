//! What goes over the wire: the bodies of Mynah's own endpoints.
//!
//! Each has its JSON Schema, from which the OpenAPI document is made. Invariant: a field that no request has is refused.

use mynah_data::{Correction, Rating};
use mynah_pipelines::LearnScope;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use super::problem::{Code, Problem, ServiceError};

/// The body of `POST /chat`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChatRequest {
    /// What is said.
    pub message: String,
    /// The session; a new one when absent.
    #[serde(default)]
    pub session: Option<String>,
    /// Whether the reply carries its reasons in full.
    #[serde(default)]
    pub explain: bool,
}

/// The body of `POST /generate`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GenerateRequest {
    /// What is asked.
    pub input: String,
}

/// The reply to `POST /generate`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Generated {
    /// The words, from memory, knowledge or a function's replies.
    pub text: String,
    /// `call`, `answer`, `ask`, `confirm`, `abstain`, …
    pub kind: String,
    /// The calibrated confidence, in [0, 1].
    pub confidence: f32,
    /// Who decided: `model`, `memory`, `context`, `knowledge`.
    pub source: String,
    /// The model's name.
    pub version: Option<String>,
}

/// The body of `POST /feedback`: a rating, a correction, or both.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("anyOf" = [
    {"required": ["rating"], "properties": {"rating": {"type": "string"}}},
    {"required": ["correction"], "properties": {"correction": {"type": "object"}}}
]))]
pub struct FeedbackRequest {
    /// The turn.
    pub interaction: String,
    /// Good or bad.
    #[serde(default)]
    #[schemars(with = "Option<RatingName>")]
    pub rating: Option<Rating>,
    /// What would have been right.
    #[serde(default)]
    #[schemars(with = "Option<CorrectionBody>")]
    pub correction: Option<Correction>,
}

/// Good or bad.
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "the schema of `mynah_data::Rating`")]
enum RatingName {
    /// The reply was right.
    Up,
    /// The reply was wrong.
    Down,
}

/// What would have been right.
#[derive(Debug, JsonSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "the schema of `mynah_data::Correction`")]
enum CorrectionBody {
    /// Another function, or other arguments of the same.
    Function(FunctionCorrection),
    /// The answer to give.
    Answer(AnswerCorrection),
}

/// Another function, or other arguments of the same.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code, reason = "the schema of `mynah_data::Correction`")]
struct FunctionCorrection {
    /// The right function; `null` when none of them is.
    #[schemars(schema_with = "text_or_null")]
    function: String,
    /// The right arguments, by their place in what was said.
    #[serde(default)]
    slots: Option<Vec<SlotBody>>,
}

/// A field that has to be there, and may be `null`.
fn text_or_null(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": ["string", "null"]})
}

/// The answer to give.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code, reason = "the schema of `mynah_data::Correction`")]
struct AnswerCorrection {
    /// Its words.
    answer: String,
}

/// An argument's place in what was said.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct SlotBody {
    /// The argument's name.
    pub name: String,
    /// The first character, counted in Unicode scalar values.
    pub start: u32,
    /// The character after the last.
    pub end: u32,
    /// The characters between them.
    pub value: String,
}

/// The body of `POST /fine-tune`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FineTuneRequest {
    /// Examples that are imported first, as `mynah import` would; they stay in the home.
    pub training_data: Vec<TrainingExample>,
    /// Keys of the `[training]` table for this run alone.
    pub training: Map<String, Value>,
    /// `everything`, `new` (what is new and a bounded part of what is old) or `anew` (everything, from the base).
    #[schemars(with = "ScopeName")]
    pub scope: LearnScope,
    /// Train even when nothing changed since production was made.
    pub force: bool,
}

/// One labelled sentence.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainingExample {
    /// What is said.
    pub text: String,
    /// The function that is meant; `oos` when none is.
    pub intent: String,
    /// Where its arguments are.
    #[serde(default)]
    pub slots: Vec<SlotBody>,
}

/// What a run looks at.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "the schema of `mynah_pipelines::LearnScope`")]
enum ScopeName {
    /// All examples, from production.
    #[default]
    Everything,
    /// What is new and a bounded part of what is old.
    New,
    /// All examples, from the base.
    Anew,
}

/// The reply to `POST /fine-tune`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Accepted {
    /// The job to look after.
    pub job: String,
}

/// The reply to a request that has no more to say.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Done {
    /// `ok`, `noted` or `ended`.
    pub status: String,
}

impl Done {
    /// This word.
    pub fn new(status: &str) -> Self {
        Self { status: status.to_owned() }
    }
}

/// The reply to `GET /readyz`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Ready {
    /// `ok`.
    pub status: String,
    /// What is in production.
    pub production: Option<String>,
    /// The version that answers: verified, loaded, and asked once.
    pub serving: Option<String>,
}

/// The reply to `GET /status`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ServiceStatus {
    /// The program's version.
    pub mynah: String,
    /// What is in production.
    pub production: Option<String>,
    /// Whether a fine-tune is at work.
    pub training: bool,
    /// Sessions that nobody has ended.
    pub open_sessions: usize,
    /// Labels that the version in production has not learned from.
    pub new_labels: usize,
}

/// The body of `POST /versions/{version}/promote`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PromoteRequest {
    /// Why, for the journal.
    pub reason: Option<String>,
}

/// The body of `POST /versions/rollback`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RollbackRequest {
    /// The version to go back to; the one in production before when absent.
    pub version: Option<String>,
    /// Why, for the journal.
    pub reason: Option<String>,
}

/// What is in production after a decision.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct InProduction {
    /// The version.
    pub production: Option<String>,
}

/// The reply to `GET /versions`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct VersionList {
    /// What is in production.
    pub production: Option<String>,
    /// All versions and bases, oldest first.
    pub versions: Vec<VersionSummary>,
}

/// A version as a list shows it.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct VersionSummary {
    /// Its name.
    pub version: String,
    /// The digest of its manifest.
    pub digest: String,
    /// `production`, `promoted`, `refused`, `quarantined`, `deleted`, `base` or `candidate`.
    pub status: String,
    /// When it was registered (RFC 3339).
    pub registered_at: String,
    /// The size of its files.
    pub size_bytes: u64,
    /// Its other names.
    pub tags: Vec<String>,
    /// Its scores on held-out examples.
    #[schemars(with = "Option<Map<String, Value>>")]
    pub held_out: Option<Value>,
}

/// The reply to `GET /versions/{version}`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct VersionDetail {
    /// What the list shows.
    #[serde(flatten)]
    pub summary: VersionSummary,
    /// The digest of the version it was trained from.
    pub parent: Option<String>,
    /// Its files by name, with digest and size.
    #[schemars(with = "Map<String, Value>")]
    pub files: Value,
    /// What the journal says about it, oldest first.
    pub decisions: Vec<Decision>,
}

/// An entry of the journal.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Decision {
    /// When (RFC 3339).
    pub at: String,
    /// Who.
    pub by: String,
    /// What, in words.
    pub what: String,
    /// Why.
    pub reason: String,
}

/// The reply to `GET /sessions`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct SessionList {
    /// The latest sessions of the log, the latest last.
    pub sessions: Vec<SessionBody>,
}

/// A session of the log.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct SessionBody {
    /// Its id.
    pub session: String,
    /// Who talks.
    pub client: String,
    /// When it started (RFC 3339).
    pub started: String,
    /// When it ended.
    pub ended: Option<String>,
    /// Whether this service holds it, so that it can go on.
    pub open: bool,
    /// How many turns.
    pub interactions: usize,
    /// How many opinions say what would have been right.
    pub corrections: usize,
}

/// The reply to `GET /sessions/{id}`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct SessionDetail {
    /// What the list shows.
    #[serde(flatten)]
    pub summary: SessionBody,
    /// The lines of its file.
    pub records: Vec<Map<String, Value>>,
}

/// The reply to `GET /functions`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct FunctionList {
    /// Those of functions.json, then those that only the model knows.
    pub functions: Vec<FunctionBody>,
}

/// Something that can be done.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct FunctionBody {
    /// The name by which it is called.
    pub name: String,
    /// What it does.
    pub description: String,
    /// The JSON Schema of its arguments.
    #[schemars(with = "Map<String, Value>")]
    pub parameters: Value,
    /// How many sentences of functions.json call it.
    pub examples: usize,
    /// Whether Mynah asks before calling it.
    pub confirm: bool,
    /// Whether the version that answers was trained on it.
    pub trained: bool,
}

/// The reply to `GET /jobs`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct JobList {
    /// The jobs that are remembered, oldest first.
    pub jobs: Vec<JobBody>,
}

/// The reply to `GET /control`: `pin`, `waits`, `watch` and `rollout`, each `null` when there is none.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("type" = "object"))]
pub struct ControlBody(pub Value);

/// A job: its id, its state, and whatever else is known of it.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct JobBody {
    /// Its id.
    pub id: String,
    /// Where it is.
    pub state: String,
    /// Stage, progress, outcome, error.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}
