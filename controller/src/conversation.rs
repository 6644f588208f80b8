//! A conversation, in this process or in the service: the same words either way.

mod local;

use mynah_data::{Correction, Rating};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::client::Client;

pub use local::{Assistant, Local, open};

/// A reply, as the wire and `--json` have it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reply {
    /// The session, for the next turn.
    pub session: String,
    /// The turn, for feedback.
    pub interaction: String,
    /// The words.
    pub text: String,
    /// `call`, `answer`, `ask`, `confirm`, `abstain`, …
    pub kind: String,
    /// The function calls.
    pub calls: Vec<ReplyCall>,
    /// The calibrated confidence, in [0, 1].
    pub confidence: f32,
    /// Who decided: `model`, `memory`, `context`, `knowledge`, …
    pub source: String,
    /// The model's name.
    pub version: Option<String>,
    /// Where the reply comes from, in words.
    pub why: String,
    /// The reasons in full: heads, scores, thresholds, the nearest examples with where they come from, the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Value>,
}

/// A function call of a reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplyCall {
    /// The function.
    pub function: String,
    /// The normalised arguments.
    pub arguments: Map<String, Value>,
}

/// Somebody to talk to.
pub trait Conversation {
    /// Says something; the reply has its `explanation` only if asked to `explain`.
    ///
    /// # Errors
    /// When the turn could not be logged, or the service went away.
    fn respond(&mut self, message: &str, explain: bool) -> anyhow::Result<Reply>;

    /// Gives an opinion on a turn.
    ///
    /// # Errors
    /// When it does not fit the turn, or could not be logged.
    fn feedback(
        &mut self,
        interaction: &str,
        rating: Option<Rating>,
        correction: Option<Correction>,
    ) -> anyhow::Result<()>;

    /// Ends the conversation.
    ///
    /// # Errors
    /// When the end could not be logged.
    fn end(&mut self, reason: &str) -> anyhow::Result<()>;
}

/// A conversation that the service holds.
pub struct Remote {
    client: Client,
    session: Option<String>,
}

impl Remote {
    /// A conversation that starts with its first turn.
    pub fn new(client: Client) -> Self {
        Self { client, session: None }
    }

    /// The connection, for what comes after the conversation.
    pub fn client(&self) -> &Client {
        &self.client
    }
}

impl Conversation for Remote {
    fn respond(&mut self, message: &str, explain: bool) -> anyhow::Result<Reply> {
        let reply = self.client.chat(self.session.as_deref(), message, explain)?;
        self.session = Some(reply.session.clone());
        Ok(reply)
    }

    fn feedback(
        &mut self,
        interaction: &str,
        rating: Option<Rating>,
        correction: Option<Correction>,
    ) -> anyhow::Result<()> {
        self.client.feedback(interaction, rating, correction)
    }

    fn end(&mut self, _reason: &str) -> anyhow::Result<()> {
        match self.session.take() {
            Some(session) => self.client.end(&session),
            None => Ok(()),
        }
    }
}
