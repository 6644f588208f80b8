//! What goes over the wire: requests, replies and errors of the local HTTP interface.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use mynah_data::{Correction, Rating};
use mynah_pipelines::LearnScope;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How long an overloaded service asks to be left alone: a full queue is answered in less.
const RETRY_AFTER_SECONDS: &str = "1";

/// The body of `POST /chat`.
#[derive(Debug, Deserialize)]
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

/// The body of `POST /feedback`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedbackRequest {
    /// The turn.
    pub interaction: String,
    /// Good or bad.
    #[serde(default)]
    pub rating: Option<Rating>,
    /// What would have been right.
    #[serde(default)]
    pub correction: Option<Correction>,
}

/// The body of `POST /fine-tune`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FineTuneRequest {
    /// Keys of the `[training]` table for this run alone.
    pub training: Map<String, Value>,
    /// `everything`, `new` (what is new and a bounded part of what is old) or `anew` (everything, from the base).
    pub scope: LearnScope,
    /// Train even when nothing changed since production was made.
    pub force: bool,
}

/// The reply to `GET /status`.
#[derive(Debug, Clone, Serialize, Deserialize)]
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

/// The body of every error.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// A stable word for programs.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// What to do next.
    pub hint: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
}

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// No token, or the wrong one.
    #[error("the request has no valid token")]
    Unauthorized,
    /// A host name that is not this machine's: a web page may be behind it.
    #[error("host `{host}` is not a loopback address")]
    ForeignHost {
        /// The header's value.
        host: String,
    },
    /// The body is not what the endpoint takes.
    #[error("{reason}")]
    BadRequest {
        /// What is wrong.
        reason: String,
    },
    /// There is no such path or method.
    #[error("there is no such endpoint")]
    NoEndpoint,
    /// There is no such thing.
    #[error("no {what} `{id}`")]
    NotFound {
        /// "session", "interaction" or "job".
        what: &'static str,
        /// The id.
        id: String,
    },
    /// There is nothing to answer from.
    #[error("nothing was learned yet and there is no functions.json")]
    NoModel,
    /// More turns came at once than may wait.
    #[error("{message}")]
    Overloaded {
        /// How many there are.
        message: String,
    },
    /// The service goes down.
    #[error("the service is stopping")]
    Stopping,
    /// The disk or the registry refused.
    #[error("{message}")]
    Internal {
        /// What happened.
        message: String,
        /// What to do next.
        hint: Option<String>,
    },
}

impl ServiceError {
    /// Status, stable code, hint and whether to try again: one place for all of them.
    fn facts(&self) -> (StatusCode, &'static str, &str, bool) {
        match self {
            Self::Unauthorized => (
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "send `Authorization: Bearer TOKEN` with the token of service.json",
                false,
            ),
            Self::ForeignHost { .. } => {
                (StatusCode::FORBIDDEN, "foreign_host", "ask for 127.0.0.1 or localhost", false)
            }
            Self::BadRequest { .. } => {
                (StatusCode::BAD_REQUEST, "bad_request", "send a JSON object as `mynah serve --help` describes", false)
            }
            Self::NoEndpoint => {
                (StatusCode::NOT_FOUND, "no_endpoint", "`mynah serve --help` lists the endpoints", false)
            }
            Self::NotFound { .. } => (StatusCode::NOT_FOUND, "not_found", "use an id that this service gave", false),
            Self::NoModel => (
                StatusCode::SERVICE_UNAVAILABLE,
                "no_model",
                "add functions.json to the home or `mynah import` examples, then `mynah train`",
                true,
            ),
            Self::Overloaded { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, "overloaded", "try again after the seconds of `Retry-After`", true)
            }
            Self::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping", "start the service again", true),
            Self::Internal { hint, .. } => {
                let hint = hint.as_deref().unwrap_or("see the service's own output");
                (StatusCode::INTERNAL_SERVER_ERROR, "internal", hint, true)
            }
        }
    }

    /// An error of a library, with its hint.
    pub fn internal(error: &anyhow::Error) -> Self {
        Self::Internal { message: format!("{error:#}"), hint: crate::failure::hint(error) }
    }
}

impl IntoResponse for ServiceError {
    fn into_response(self) -> Response {
        let (status, code, hint, retryable) = self.facts();
        let error = ErrorDetail { code: code.to_owned(), message: self.to_string(), hint: hint.to_owned(), retryable };
        let mut response = (status, Json(ErrorBody { error })).into_response();
        if matches!(self, Self::Overloaded { .. }) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overloaded_service_says_when_to_come_back() {
        let response = ServiceError::Overloaded { message: "full".to_owned() }.into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers().get(header::RETRY_AFTER), Some(&HeaderValue::from_static("1")));
        let response = ServiceError::Stopping.into_response();
        assert_eq!(response.headers().get(header::RETRY_AFTER), None);
    }
}
