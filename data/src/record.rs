//! The log's records: what was said, what was replied, what people thought of it.
//!
//! One JSON object a line, `{"schema":1,"type":"interaction",…}`. A field that this version does not know is left
//! out on reading; a schema that it does not know is an error.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::example::Slot;

/// The version of the record format that this program writes.
pub const SCHEMA: u32 = 1;

/// One turn: what a person said and what Mynah replied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InteractionRecord {
    /// `i_` and a UUIDv7.
    pub id: String,
    /// The session it belongs to.
    pub session: String,
    /// When the reply was given.
    pub at: Timestamp,
    /// What was said.
    pub text: String,
    /// What was replied.
    pub reply: ReplyRecord,
    /// The model's name, such as `v12`; `None` without a model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The digest of the model's manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_digest: Option<String>,
    /// How long the reply took, in milliseconds.
    #[serde(default, serialize_with = "finite")]
    pub latency_ms: f32,
}

/// What Mynah replied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplyRecord {
    /// The words.
    pub text: String,
    /// `call`, `answer`, `ask`, `confirm`, `abstain`, …
    pub kind: String,
    /// The function calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<CallRecord>,
    /// The calibrated confidence, in [0, 1].
    #[serde(default, serialize_with = "finite")]
    pub confidence: f32,
    /// Who decided: `model`, `memory`, `context`, `knowledge`, …
    pub source: String,
    /// What the app's policy held back, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyRecord>,
}

/// What an app's policy held back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRecord {
    /// What was looked at.
    pub stage: PolicyStage,
    /// The rule in words, such as "word `…`".
    pub rule: String,
    /// The reply that was not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withheld: Option<String>,
}

/// What a policy looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyStage {
    /// What was said.
    Request,
    /// The function that was understood.
    Function,
    /// What would have been replied.
    Reply,
}

/// A function call of a reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallRecord {
    /// The function's name.
    pub function: String,
    /// The normalised arguments.
    #[serde(default)]
    pub arguments: Map<String, Value>,
    /// Where the utterance says them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<Slot>,
}

/// What a person thought of a reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeedbackRecord {
    /// `f_` and a UUIDv7.
    pub id: String,
    /// The interaction that it is about.
    pub interaction: String,
    /// The session of that interaction.
    pub session: String,
    /// When it was given.
    pub at: Timestamp,
    /// Good or bad.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rating: Option<Rating>,
    /// What would have been right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correction: Option<Correction>,
}

/// Good or bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rating {
    /// The reply was right.
    Up,
    /// The reply was wrong.
    Down,
}

/// What would have been right: `{"function":…,"slots":[…]}` or `{"answer":…}`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Correction {
    /// Another function, or other arguments of the same.
    Function {
        /// The right function; `None` when none of them is.
        function: Option<String>,
        /// The right arguments; `None` leaves them open.
        #[serde(skip_serializing_if = "Option::is_none")]
        slots: Option<Vec<Slot>>,
    },
    /// The answer to give.
    Answer {
        /// Its words.
        answer: String,
    },
}

impl<'de> Deserialize<'de> for Correction {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// `Some(None)` is an explicit `null`.
        fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
            Option::deserialize(deserializer).map(Some)
        }
        #[derive(Deserialize)]
        struct Fields {
            #[serde(default, deserialize_with = "present")]
            function: Option<Option<String>>,
            slots: Option<Vec<Slot>>,
            answer: Option<String>,
        }
        match Fields::deserialize(deserializer)? {
            Fields { answer: Some(answer), function: None, .. } => Ok(Self::Answer { answer }),
            Fields { function: Some(function), slots, answer: None } => Ok(Self::Function { function, slots }),
            _ => Err(serde::de::Error::custom("a correction has either a `function` or an `answer`")),
        }
    }
}

/// The first record of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// `s_` and a UUIDv7.
    pub session: String,
    /// When it started.
    pub started: Timestamp,
    /// Who talks: `chat`, `http`, the name of an app.
    pub client: String,
}

/// The last record of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndRecord {
    /// The session that ends.
    pub session: String,
    /// When it ended.
    pub at: Timestamp,
    /// Why: `quit`, `idle`, `interrupted`, …
    pub reason: String,
}

/// A line of a session's file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Record {
    /// A session starts.
    Session(SessionRecord),
    /// A turn.
    Interaction(InteractionRecord),
    /// An opinion on a turn, perhaps of another session.
    Feedback(FeedbackRecord),
    /// A session ends.
    End(EndRecord),
}

impl Record {
    /// When it happened.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Session(record) => record.started,
            Self::Interaction(record) => record.at,
            Self::Feedback(record) => record.at,
            Self::End(record) => record.at,
        }
    }

    /// The record as one line of JSON, with its newline.
    ///
    /// # Errors
    /// When a map of the arguments has a key that JSON cannot hold.
    pub fn to_line(&self) -> Result<String, serde_json::Error> {
        to_line(self)
    }

    /// Reads one line.
    ///
    /// # Errors
    /// What is wrong with the line, and a hint.
    pub fn from_line(line: &str) -> Result<Self, RecordError> {
        from_line(line)
    }
}

/// Why a line is not a record.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The line is no JSON object.
    #[error("not a record: no JSON object")]
    NoObject,
    /// The line is not the JSON of a record.
    #[error("not a record: {}", json_message(.0))]
    Json(#[from] serde_json::Error),
    /// A newer program wrote the line.
    #[error("schema {actual} is newer than {expected}, which is what this program reads")]
    Schema {
        /// The schema that this program reads.
        expected: u32,
        /// The schema of the line.
        actual: u64,
    },
}

impl RecordError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::NoObject | Self::Json(_) => "correct or remove the line; every other line is kept".to_owned(),
            Self::Schema { .. } => "read the log with the newer program that wrote it".to_owned(),
        }
    }
}

/// A line is its schema's number and the record's own fields.
pub(crate) fn to_line<T: Serialize>(record: &T) -> Result<String, serde_json::Error> {
    #[derive(Serialize)]
    struct Line<'a, T> {
        schema: u32,
        #[serde(flatten)]
        record: &'a T,
    }
    let mut line = serde_json::to_string(&Line { schema: SCHEMA, record })?;
    line.push('\n');
    Ok(line)
}

pub(crate) fn from_line<T: serde::de::DeserializeOwned>(line: &str) -> Result<T, RecordError> {
    #[derive(Deserialize)]
    struct Header {
        schema: u64,
    }
    // A struct can also be read from an array, which is no record.
    if !line.trim_start().starts_with('{') {
        return Err(RecordError::NoObject);
    }
    let Header { schema } = serde_json::from_str(line)?;
    if schema != u64::from(SCHEMA) {
        return Err(RecordError::Schema { expected: SCHEMA, actual: schema });
    }
    Ok(serde_json::from_str(line)?)
}

/// What is wrong with JSON, by column: a record has one line, and its number is the file's.
pub(crate) fn json_message(error: &serde_json::Error) -> String {
    let message = error.to_string();
    match message.rfind(" at line ") {
        Some(end) => format!("{} at column {}", &message[..end], error.column()),
        None => message,
    }
}

/// JSON has no NaN: written as `null`, the line could not be read again.
fn finite<S: Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f32(if value.is_finite() { *value } else { 0.0 })
}

/// A new session id, which sorts by time.
pub fn new_session_id() -> String {
    format!("s_{}", Uuid::now_v7().simple())
}

/// A new interaction id, which sorts by time.
pub fn new_interaction_id() -> String {
    format!("i_{}", Uuid::now_v7().simple())
}

/// A new feedback id, which sorts by time.
pub fn new_feedback_id() -> String {
    format!("f_{}", Uuid::now_v7().simple())
}

/// The time inside an id, to the millisecond.
pub(crate) fn id_time(id: &str) -> Option<Timestamp> {
    let uuid = Uuid::try_parse(id.get(2..)?).ok()?;
    let (seconds, nanoseconds) = uuid.get_timestamp()?.to_unix();
    Timestamp::new(seconds.try_into().ok()?, nanoseconds.try_into().ok()?).ok()
}
