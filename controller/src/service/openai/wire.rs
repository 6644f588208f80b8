//! The bodies of OpenAI's endpoints, as its clients send and expect them.
//!
//! Fields that do not change what Mynah says (`temperature`, `seed`, …) are taken and not looked at.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The body of `POST /v1/chat/completions`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct ChatCompletionRequest {
    /// `mynah`, or the name of the version in production.
    pub model: String,
    /// The conversation so far.
    #[schemars(length(min = 1))]
    pub messages: Vec<Message>,
    /// Functions that may be called, for this request only.
    #[serde(default)]
    pub tools: Option<Vec<Tool>>,
    /// `none`, `auto`, `required` or one function.
    #[serde(default)]
    pub tool_choice: Option<ToolChoice>,
    /// Whether to send chunks as server-sent events.
    #[serde(default)]
    pub stream: Option<bool>,
    /// What the chunks hold.
    #[serde(default)]
    pub stream_options: Option<StreamOptions>,
    /// How many choices; there is only one.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1))]
    pub n: Option<u32>,
}

/// One message of a conversation.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(tag = "role", rename_all = "lowercase")]
pub enum Message {
    /// Instructions, which are taken and not looked at.
    System(Said),
    /// Instructions, which are taken and not looked at.
    Developer(Said),
    /// What a person said.
    User(Said),
    /// What was replied.
    Assistant(Replied),
    /// What a function gave.
    Tool(Gave),
}

/// What somebody said.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Said {
    /// The words.
    pub content: MessageContent,
}

/// What was replied.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Replied {
    /// The words.
    #[serde(default)]
    pub content: Option<MessageContent>,
    /// The calls.
    #[serde(default)]
    pub tool_calls: Option<Vec<ToolCall>>,
}

/// What a function gave.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Gave {
    /// The words or JSON.
    pub content: MessageContent,
    /// The call.
    pub tool_call_id: String,
}

/// Words, alone or in parts.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum MessageContent {
    /// Alone.
    Text(String),
    /// In parts.
    Parts(Vec<TextPart>),
}

/// A part of a message; there is only text.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct TextPart {
    /// `text`.
    #[serde(rename = "type")]
    pub kind: TextKind,
    /// The words.
    pub text: String,
}

/// The only kind of part that can be read.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TextKind {
    /// Words.
    Text,
}

impl MessageContent {
    /// The words.
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Parts(parts) => parts.iter().map(|part| part.text.as_str()).collect::<Vec<_>>().join("\n"),
        }
    }
}

/// A function that may be called.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Tool {
    /// `function`.
    #[serde(rename = "type")]
    pub kind: FunctionKind,
    /// The function.
    pub function: FunctionDefinition,
}

/// The only kind of tool there is.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FunctionKind {
    /// A function.
    Function,
}

/// A function and its arguments.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct FunctionDefinition {
    /// Its name.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[a-zA-Z0-9_-]+$"))]
    pub name: String,
    /// What it does.
    #[serde(default)]
    pub description: Option<String>,
    /// The JSON Schema of its arguments.
    #[serde(default)]
    pub parameters: Option<Map<String, Value>>,
}

/// Which of the functions to call.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ToolChoice {
    /// By a word.
    Word(ChoiceWord),
    /// This one.
    Named(NamedTool),
}

/// Whether to call a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChoiceWord {
    /// None.
    None,
    /// When one is asked for.
    Auto,
    /// In any case.
    Required,
}

/// One function.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct NamedTool {
    /// `function`.
    #[serde(rename = "type")]
    pub kind: FunctionKind,
    /// Its name.
    pub function: FunctionName,
}

/// The name of a function.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct FunctionName {
    /// The name.
    pub name: String,
}

/// What the chunks of a stream hold.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
pub struct StreamOptions {
    /// Whether the last chunk tells the usage.
    #[serde(default)]
    pub include_usage: Option<bool>,
}

/// The reply to `POST /v1/chat/completions`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ChatCompletion {
    /// `chatcmpl-` and an id.
    pub id: String,
    /// `chat.completion`.
    pub object: &'static str,
    /// Seconds since 1970.
    pub created: i64,
    /// The version that replied.
    pub model: String,
    /// The one choice.
    pub choices: Vec<Choice>,
    /// How many tokens.
    pub usage: Usage,
    /// What OpenAI has no place for.
    pub mynah: Beyond,
}

/// A choice.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Choice {
    /// 0.
    pub index: u32,
    /// The message.
    pub message: AssistantMessage,
    /// Always `null`.
    pub logprobs: Option<Value>,
    /// `stop` or `tool_calls`.
    pub finish_reason: &'static str,
}

/// The message of a choice.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct AssistantMessage {
    /// `assistant`.
    pub role: &'static str,
    /// The words; `null` beside calls.
    pub content: Option<String>,
    /// Always `null`.
    pub refusal: Option<String>,
    /// The calls that the client is to make.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub tool_calls: Vec<ToolCall>,
}

/// A call that the client is to make.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ToolCall {
    /// Its id.
    pub id: String,
    /// `function`.
    #[serde(rename = "type")]
    pub kind: FunctionKind,
    /// The function.
    pub function: CalledFunction,
}

/// The function of a call.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct CalledFunction {
    /// Its name.
    pub name: String,
    /// Its arguments as JSON.
    pub arguments: String,
}

/// How many tokens.
#[derive(Debug, Clone, Copy, Default, Serialize, JsonSchema)]
pub struct Usage {
    /// Of what was said.
    pub prompt_tokens: usize,
    /// Of the reply.
    pub completion_tokens: usize,
    /// Of both.
    pub total_tokens: usize,
}

/// What OpenAI has no place for.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Beyond {
    /// The turn, for feedback; `null` when it was not logged.
    pub interaction: Option<String>,
    /// The session of the log; `null` when it was not logged.
    pub session: Option<String>,
    /// `call`, `answer`, `ask`, `confirm`, `abstain`, …
    pub kind: String,
    /// The calibrated confidence, in [0, 1].
    pub confidence: f32,
    /// Who decided: `model`, `memory`, `context`, `knowledge`.
    pub source: String,
    /// The model's name.
    pub version: Option<String>,
}

/// The body of `POST /v1/embeddings`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct EmbeddingsRequest {
    /// `mynah`, or the name of the version in production.
    pub model: String,
    /// What is embedded.
    pub input: EmbeddingInput,
    /// `float` or `base64` (little-endian 32-bit floats).
    #[serde(default)]
    pub encoding_format: Option<EncodingFormat>,
    /// The width; only the model's own is given.
    #[serde(default)]
    pub dimensions: Option<usize>,
}

/// What is embedded: texts, or token ids of the model's own tokenizer.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum EmbeddingInput {
    /// A text.
    Text(String),
    /// Texts.
    Texts(Vec<String>),
    /// A tokenized text.
    Ids(Vec<u32>),
    /// Tokenized texts.
    ManyIds(Vec<Vec<u32>>),
}

/// How an embedding is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EncodingFormat {
    /// As numbers.
    #[default]
    Float,
    /// As base64 of little-endian 32-bit floats.
    Base64,
}

/// The reply to `POST /v1/embeddings`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Embeddings {
    /// `list`.
    pub object: &'static str,
    /// One an input, in their order.
    pub data: Vec<Embedding>,
    /// The version that embedded.
    pub model: String,
    /// How many tokens.
    pub usage: EmbeddingUsage,
}

/// An embedding.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Embedding {
    /// `embedding`.
    pub object: &'static str,
    /// The number of its input.
    pub index: usize,
    /// The numbers, of length 1, or base64.
    pub embedding: Vector,
}

/// The numbers of an embedding.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Vector {
    /// As numbers.
    Float(Vec<f32>),
    /// As base64.
    Base64(String),
}

/// How many tokens were embedded.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
pub struct EmbeddingUsage {
    /// Of the inputs.
    pub prompt_tokens: usize,
    /// The same.
    pub total_tokens: usize,
}

/// The reply to `GET /v1/models`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ModelList {
    /// `list`.
    pub object: &'static str,
    /// What `model` may be.
    pub data: Vec<ModelBody>,
}

/// What `model` may be.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ModelBody {
    /// The name.
    pub id: String,
    /// `model`.
    pub object: &'static str,
    /// Seconds since 1970.
    pub created: i64,
    /// `mynah`.
    pub owned_by: &'static str,
}

/// OpenAI's form of an error.
#[derive(Debug, JsonSchema)]
#[allow(dead_code, reason = "the schema of `problem::in_openai_form`")]
pub struct OpenAiError {
    /// The error.
    error: OpenAiErrorDetail,
}

/// What went wrong.
#[derive(Debug, JsonSchema)]
#[allow(dead_code, reason = "the schema of `problem::in_openai_form`")]
struct OpenAiErrorDetail {
    /// What went wrong and what to do.
    message: String,
    /// `invalid_request_error`, `authentication_error`, …
    #[schemars(rename = "type")]
    kind: String,
    /// Always `null`.
    param: (),
    /// A stable word for programs.
    code: super::super::problem::Code,
}
