//! What goes wrong over HTTP: one code each, with its status, as RFC 9457 and OpenAI have it.
//!
//! Invariant: every error leaves as a [`Problem`] made here, so that codes and statuses agree everywhere, the OpenAPI
//! document included; below `/v1/` it is put into OpenAI's form.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use mynah_registry::Error as RegistryError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// How long a busy service asks to be left alone: a full queue is answered in less.
const RETRY_AFTER_SECONDS: &str = "1";

/// The stable word for a kind of error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The body or a parameter is not what the endpoint takes.
    BadRequest,
    /// No token, or the wrong one.
    Unauthorized,
    /// The token may read, and this changes something.
    Forbidden,
    /// A host name that is not this machine's.
    ForeignHost,
    /// A web page asked.
    ForeignOrigin,
    /// There is no such path.
    NoEndpoint,
    /// There is no such thing.
    NotFound,
    /// The path exists, but not with this method.
    MethodNotAllowed,
    /// What is asked for does not go with the state of things.
    Conflict,
    /// Something else is in production than `If-Match` says.
    PreconditionFailed,
    /// The body is too large.
    TooLarge,
    /// The body is no JSON by its `Content-Type`.
    UnsupportedMediaType,
    /// The request needs `If-Match`.
    PreconditionRequired,
    /// The client asks too often.
    RateLimited,
    /// The service or the disk failed.
    Internal,
    /// There is nothing to answer from.
    NoModel,
    /// More requests came at once than may wait.
    Overloaded,
    /// The request took too long.
    TimedOut,
    /// The service goes down.
    Stopping,
}

impl Code {
    /// All of them, by status.
    pub const ALL: [Self; 19] = [
        Self::BadRequest,
        Self::Unauthorized,
        Self::Forbidden,
        Self::ForeignHost,
        Self::ForeignOrigin,
        Self::NoEndpoint,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Conflict,
        Self::PreconditionFailed,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::PreconditionRequired,
        Self::RateLimited,
        Self::Internal,
        Self::NoModel,
        Self::Overloaded,
        Self::TimedOut,
        Self::Stopping,
    ];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        self.facts().1
    }

    /// The HTTP status.
    pub fn status(self) -> StatusCode {
        self.facts().0
    }

    /// The kind of error in a few words.
    pub fn title(self) -> &'static str {
        self.facts().2
    }

    /// What to do next, unless the error itself knows better.
    fn hint(self) -> &'static str {
        self.facts().3
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(self) -> bool {
        use Code::{Internal, NoModel, Overloaded, RateLimited, Stopping, TimedOut};
        matches!(self, Internal | NoModel | Overloaded | RateLimited | Stopping | TimedOut)
    }

    /// Status, word, title and hint: one place for all of them.
    fn facts(self) -> (StatusCode, &'static str, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::BadRequest => (
                S::BAD_REQUEST,
                "bad_request",
                "the request is not understood",
                "GET /openapi.json describes every body",
            ),
            Self::Unauthorized => (
                S::UNAUTHORIZED,
                "unauthorized",
                "a token is needed",
                "send `Authorization: Bearer TOKEN` with the token of the file service.token in the home",
            ),
            Self::Forbidden => {
                (S::FORBIDDEN, "forbidden", "the token may only read", "use the token of service.token instead")
            }
            Self::ForeignHost => (
                S::FORBIDDEN,
                "foreign_host",
                "the host name is unknown",
                "ask for 127.0.0.1 or localhost, or add the name to `hosts` in [service]",
            ),
            Self::ForeignOrigin => {
                (S::FORBIDDEN, "foreign_origin", "web pages may not ask", "ask from a program instead of a web page")
            }
            Self::NoEndpoint => {
                (S::NOT_FOUND, "no_endpoint", "there is no such path", "GET /openapi.json lists all paths")
            }
            Self::NotFound => (S::NOT_FOUND, "not_found", "there is no such thing", "use an id that this service gave"),
            Self::MethodNotAllowed => (
                S::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "the path has no such method",
                "use a method of the header `Allow`",
            ),
            Self::Conflict => {
                (S::CONFLICT, "conflict", "this does not go with the state of things", "look at GET /versions first")
            }
            Self::PreconditionFailed => (
                S::PRECONDITION_FAILED,
                "precondition_failed",
                "something else is in production",
                "look at GET /versions again, and send its `ETag` as `If-Match`",
            ),
            Self::TooLarge => (
                S::PAYLOAD_TOO_LARGE,
                "too_large",
                "the body is too large",
                "send less at a time, or raise `max_body_bytes` in [service]",
            ),
            Self::UnsupportedMediaType => (
                S::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "the body is no JSON",
                "send JSON with `Content-Type: application/json`",
            ),
            Self::PreconditionRequired => (
                S::PRECONDITION_REQUIRED,
                "precondition_required",
                "the header `If-Match` is missing",
                "send the `ETag` of GET /versions as `If-Match`, so that nothing is replaced that you have not seen",
            ),
            Self::RateLimited => (
                S::TOO_MANY_REQUESTS,
                "rate_limited",
                "too many requests",
                "wait for the seconds of `Retry-After`, or raise `requests_per_second` in [service]",
            ),
            Self::Internal => (
                S::INTERNAL_SERVER_ERROR,
                "internal",
                "the service failed",
                "see the service's own output; `mynah doctor` looks for the cause",
            ),
            Self::NoModel => (
                S::SERVICE_UNAVAILABLE,
                "no_model",
                "there is nothing to answer from",
                "add functions.json to the home or `mynah import` examples, then `mynah train`",
            ),
            Self::Overloaded => (
                S::SERVICE_UNAVAILABLE,
                "overloaded",
                "too many requests wait",
                "try again after the seconds of `Retry-After`",
            ),
            Self::TimedOut => (
                S::SERVICE_UNAVAILABLE,
                "timed_out",
                "the request took too long",
                "ask for less at a time, or raise `request_seconds` in [service]",
            ),
            Self::Stopping => {
                (S::SERVICE_UNAVAILABLE, "stopping", "the service is stopping", "start the service again")
            }
        }
    }
}

/// The body of every error (RFC 9457, `application/problem+json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// A name for the kind of error; not an address to open.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of error in a few words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What went wrong this time.
    pub detail: String,
    /// A stable word for programs.
    pub code: Code,
    /// What to do next.
    pub hint: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
}

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// An error that its code and a sentence say all about.
    #[error("{detail}")]
    Refused {
        /// The kind.
        code: Code,
        /// What is wrong this time.
        detail: String,
    },
    /// The body or a parameter is not what the endpoint takes.
    #[error("{reason}")]
    BadRequest {
        /// What is wrong.
        reason: String,
    },
    /// There is no such thing.
    #[error("no {what} `{id}`")]
    NotFound {
        /// "session", "interaction", "job", "version" or "model".
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
    /// An error of this kind, in a sentence.
    pub fn refused(code: Code, detail: impl Into<String>) -> Self {
        Self::Refused { code, detail: detail.into() }
    }

    /// A mistake in the request.
    pub fn bad_request(reason: impl Into<String>) -> Self {
        Self::BadRequest { reason: reason.into() }
    }

    /// An error of a library, with its hint.
    pub fn internal(error: &anyhow::Error) -> Self {
        Self::Internal { message: format!("{error:#}"), hint: crate::failure::hint(error) }
    }

    /// What the registry refuses: most of it is about what was asked for.
    pub fn registry(error: RegistryError) -> Self {
        let detail = error.to_string();
        match error {
            RegistryError::UnknownVersion { .. } | RegistryError::NoProduction | RegistryError::NoBase => {
                Self::refused(Code::NotFound, detail)
            }
            RegistryError::AmbiguousDigest { .. } => Self::bad_request(detail),
            RegistryError::Conflict { .. } => Self::refused(Code::PreconditionFailed, detail),
            RegistryError::Quarantined { .. }
            | RegistryError::Deleted { .. }
            | RegistryError::InProduction { .. }
            | RegistryError::NeverPromoted { .. }
            | RegistryError::NothingToRollBackTo => Self::refused(Code::Conflict, detail),
            error => Self::internal(&error.into()),
        }
    }

    /// The kind.
    pub fn code(&self) -> Code {
        match self {
            Self::Refused { code, .. } => *code,
            Self::BadRequest { .. } => Code::BadRequest,
            Self::NotFound { .. } => Code::NotFound,
            Self::NoModel => Code::NoModel,
            Self::Overloaded { .. } => Code::Overloaded,
            Self::Stopping => Code::Stopping,
            Self::Internal { .. } => Code::Internal,
        }
    }

    /// The body.
    pub fn problem(&self) -> Problem {
        let code = self.code();
        let hint = match self {
            Self::Internal { hint: Some(hint), .. } => hint.clone(),
            _ => code.hint().to_owned(),
        };
        Problem {
            kind: format!("urn:mynah:problem:{}", code.as_str()),
            title: code.title().to_owned(),
            status: code.status().as_u16(),
            detail: self.to_string(),
            code,
            hint,
            retryable: code.is_retryable(),
        }
    }
}

impl IntoResponse for ServiceError {
    fn into_response(self) -> Response {
        if let Self::Internal { message, .. } = &self {
            tracing::error!("a request failed: {message}");
        }
        let problem = self.problem();
        let mut response = answer(problem.code, "application/problem+json", serde_json::to_vec(&problem));
        response.extensions_mut().insert(problem);
        response
    }
}

/// The same error as OpenAI's clients expect it.
pub fn in_openai_form(problem: &Problem) -> Response {
    let kind = match problem.code.status().as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    };
    let message = format!("{}; {}", problem.detail, problem.hint);
    let body = json!({"error": {"message": message, "type": kind, "param": null, "code": problem.code}});
    answer(problem.code, "application/json", serde_json::to_vec(&body))
}

fn answer(code: Code, content_type: &'static str, body: serde_json::Result<Vec<u8>>) -> Response {
    // Strings and numbers: there is nothing that JSON could not hold.
    let mut response = Response::new(Body::from(body.unwrap_or_default()));
    *response.status_mut() = code.status();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    match code {
        Code::Overloaded | Code::RateLimited | Code::TimedOut => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
        }
        Code::Unauthorized => {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        _ => {}
    }
    response
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

    #[test]
    fn every_code_has_its_own_word_and_an_error_status() {
        let mut words: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Code::ALL.len());
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert!(code.status().is_client_error() || code.status().is_server_error(), "{code:?}");
        }
    }

    #[test]
    fn a_problem_is_rfc_9457() {
        let problem = ServiceError::NotFound { what: "job", id: "j_1".to_owned() }.problem();
        insta::assert_snapshot!(serde_json::to_string_pretty(&problem).unwrap(), @r#"
        {
          "type": "urn:mynah:problem:not_found",
          "title": "there is no such thing",
          "status": 404,
          "detail": "no job `j_1`",
          "code": "not_found",
          "hint": "use an id that this service gave",
          "retryable": false
        }
        "#);
    }
}
