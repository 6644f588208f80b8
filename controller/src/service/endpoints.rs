//! The table of endpoints: what the router serves and what the OpenAPI document describes, from one list.
//!
//! Invariant: there is no route that is not in the table, so none that is not described, and none whose token was
//! forgotten.

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::handler::Handler;
use axum::http::request::Parts;
use axum::routing::{MethodRouter, delete, get, post};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Service;
use super::access::Scope;
use super::problem::{Code, ServiceError};
use super::wire;
use super::{openai, routes, versions};
use crate::conversation::Reply;

/// Makes the schema of a body.
pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What a reply holds.
#[derive(Clone, Copy)]
pub enum Content {
    /// JSON of this schema.
    Json(SchemaOf),
    /// JSON of this schema, or server-sent events.
    JsonOrEvents(SchemaOf),
    /// Text of this type.
    Text(&'static str),
    /// JSON that is described elsewhere.
    Document,
}

/// One path with one method.
pub struct Endpoint {
    /// `get` or `post`.
    pub method: &'static str,
    /// With `{names}`.
    pub path: &'static str,
    /// What it does.
    pub summary: &'static str,
    /// The token it asks for.
    pub needs: Scope,
    /// The group it belongs to.
    pub tag: &'static str,
    /// The body it takes.
    pub takes: Option<SchemaOf>,
    /// Whether the body may be left out.
    pub body_optional: bool,
    /// Its status when all is well, in words, and what it gives.
    pub gives: (u16, &'static str, Content),
    /// Whether it gives an `ETag`.
    pub has_etag: bool,
    /// Whether it takes `If-Match`, and whether it insists.
    pub if_match: Option<IfMatch>,
    /// Whether it takes `?limit=`.
    pub has_limit: bool,
    /// The errors of its own; those of every endpoint come on top.
    pub problems: Vec<Code>,
    /// What serves it.
    pub route: MethodRouter<Arc<Service>>,
}

/// Whether `If-Match` has to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfMatch {
    /// It is looked at when it is there.
    Optional,
    /// Without it nothing is done.
    Required,
}

fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

impl Endpoint {
    fn get<T: 'static>(
        path: &'static str,
        needs: Scope,
        summary: &'static str,
        handler: impl Handler<T, Arc<Service>>,
    ) -> Self {
        Self::new("get", path, needs, summary, get(handler))
    }

    fn post<T: 'static>(
        path: &'static str,
        needs: Scope,
        summary: &'static str,
        handler: impl Handler<T, Arc<Service>>,
    ) -> Self {
        Self::new("post", path, needs, summary, post(handler))
    }

    fn delete<T: 'static>(
        path: &'static str,
        needs: Scope,
        summary: &'static str,
        handler: impl Handler<T, Arc<Service>>,
    ) -> Self {
        Self::new("delete", path, needs, summary, delete(handler))
    }

    fn new(
        method: &'static str,
        path: &'static str,
        needs: Scope,
        summary: &'static str,
        route: MethodRouter<Arc<Service>>,
    ) -> Self {
        let problems = if path.contains('{') { vec![Code::BadRequest, Code::NotFound] } else { Vec::new() };
        Self {
            method,
            path,
            summary,
            needs,
            tag: "mynah",
            takes: None,
            body_optional: false,
            gives: (200, "Done.", Content::Json(schema_of::<wire::Done>)),
            has_etag: false,
            if_match: None,
            has_limit: false,
            problems,
            route,
        }
    }

    fn tag(mut self, tag: &'static str) -> Self {
        self.tag = tag;
        self
    }

    fn takes<T: JsonSchema>(mut self) -> Self {
        self.takes = Some(schema_of::<T>);
        self.problems(&[Code::BadRequest, Code::TooLarge, Code::UnsupportedMediaType])
    }

    fn may_take<T: JsonSchema>(mut self) -> Self {
        self.body_optional = true;
        self.takes::<T>()
    }

    fn gives<T: JsonSchema>(self, status: u16, words: &'static str) -> Self {
        self.content(status, words, Content::Json(schema_of::<T>))
    }

    fn content(mut self, status: u16, words: &'static str, content: Content) -> Self {
        self.gives = (status, words, content);
        self
    }

    fn problems(mut self, codes: &[Code]) -> Self {
        for code in codes {
            if !self.problems.contains(code) {
                self.problems.push(*code);
            }
        }
        self
    }

    fn etag(mut self) -> Self {
        self.has_etag = true;
        self
    }

    fn if_match(mut self, if_match: IfMatch) -> Self {
        self.if_match = Some(if_match);
        let codes: &[Code] = match if_match {
            IfMatch::Optional => &[Code::PreconditionFailed],
            IfMatch::Required => &[Code::PreconditionFailed, Code::PreconditionRequired],
        };
        self.problems(codes)
    }

    fn limit(mut self) -> Self {
        self.has_limit = true;
        self.problems(&[Code::BadRequest])
    }
}

/// Every endpoint there is.
pub fn all() -> Vec<Endpoint> {
    [operation(), conversations(), learning(), decisions(), openai_endpoints()].into_iter().flatten().collect()
}

fn operation() -> Vec<Endpoint> {
    use Scope::{Anybody, Read};
    let of = "operation";
    vec![
        Endpoint::get("/livez", Anybody, "Whether the process lives.", routes::live)
            .tag(of)
            .gives::<wire::Done>(200, "It does."),
        Endpoint::get("/readyz", Anybody, "Whether a verified model is loaded and has answered once.", routes::ready)
            .tag(of)
            .gives::<wire::Ready>(200, "It is ready.")
            .problems(&[Code::NoModel]),
        Endpoint::get("/openapi.json", Anybody, "This document.", routes::document).tag(of).content(
            200,
            "OpenAPI 3.1.",
            Content::Document,
        ),
        Endpoint::get("/metrics", Read, "What Prometheus reads.", routes::metrics).tag(of).content(
            200,
            "Prometheus's text format.",
            Content::Text("text/plain; version=0.0.4; charset=utf-8"),
        ),
        Endpoint::get("/status", Read, "What the service is doing.", routes::status)
            .tag(of)
            .gives::<wire::ServiceStatus>(200, "What it is doing."),
        Endpoint::get("/control", Read, "What the service waits for, watches and tries, and the pin.", routes::control)
            .tag(of)
            .gives::<wire::ControlBody>(200, "How it stands."),
    ]
}

fn conversations() -> Vec<Endpoint> {
    use Scope::{Admin, Read};
    let of = "conversations";
    vec![
        Endpoint::post("/chat", Admin, "Say something in a session.", routes::chat)
            .tag(of)
            .takes::<wire::ChatRequest>()
            .gives::<Reply>(200, "The reply, which is in the log.")
            .problems(&[Code::NotFound, Code::NoModel]),
        Endpoint::post(
            "/generate",
            Read,
            "Answer a text from memory and knowledge; nothing is logged.",
            routes::generate,
        )
        .tag(of)
        .takes::<wire::GenerateRequest>()
        .gives::<wire::Generated>(200, "The answer."),
        Endpoint::post("/feedback", Admin, "Rate or correct a reply.", routes::feedback)
            .tag(of)
            .takes::<wire::FeedbackRequest>()
            .gives::<wire::Done>(200, "It is in the log and used from the next turn on.")
            .problems(&[Code::NotFound]),
        Endpoint::get("/sessions", Read, "The latest sessions of the log.", routes::sessions)
            .tag(of)
            .gives::<wire::SessionList>(200, "The sessions, the latest last.")
            .limit(),
        Endpoint::get("/sessions/{session}", Read, "A session turn by turn.", routes::session)
            .tag(of)
            .gives::<wire::SessionDetail>(200, "The session."),
        Endpoint::post("/sessions/{session}/end", Admin, "End a session.", routes::end)
            .tag(of)
            .gives::<wire::Done>(200, "It has ended; learning may begin."),
        Endpoint::get("/functions", Read, "What can be called.", routes::functions)
            .tag(of)
            .gives::<wire::FunctionList>(200, "The functions."),
    ]
}

fn learning() -> Vec<Endpoint> {
    use Scope::{Admin, Read};
    let of = "learning";
    vec![
        Endpoint::post("/fine-tune", Admin, "Ask for a fine-tune.", routes::fine_tune)
            .tag(of)
            .may_take::<wire::FineTuneRequest>()
            .gives::<wire::Accepted>(202, "The job."),
        Endpoint::get("/jobs", Read, "All jobs.", routes::jobs)
            .tag(of)
            .gives::<wire::JobList>(200, "The jobs, oldest first."),
        Endpoint::get("/jobs/{job}", Read, "A job.", routes::job).tag(of).gives::<wire::JobBody>(200, "The job."),
        Endpoint::get("/jobs/{job}/log", Read, "What a job has said.", routes::job_log).tag(of).content(
            200,
            "The lines of its log.",
            Content::Text("text/plain; charset=utf-8"),
        ),
        Endpoint::delete("/jobs/{job}", Admin, "Stop a job.", routes::cancel)
            .tag(of)
            .gives::<wire::JobBody>(200, "The job, which stops."),
        Endpoint::post("/jobs/{job}/cancel", Admin, "Stop a job.", routes::cancel)
            .tag(of)
            .gives::<wire::JobBody>(200, "The job, which stops."),
    ]
}

fn decisions() -> Vec<Endpoint> {
    use Scope::{Admin, Read};
    let of = "versions";
    vec![
        Endpoint::get("/versions", Read, "All versions.", versions::list)
            .tag(of)
            .gives::<wire::VersionList>(200, "The versions, oldest first.")
            .etag(),
        Endpoint::get("/versions/{version}", Read, "A version with its files and decisions.", versions::show)
            .tag(of)
            .gives::<wire::VersionDetail>(200, "The version.")
            .etag(),
        Endpoint::post("/versions/{version}/promote", Admin, "Put a version into production.", versions::promote)
            .tag(of)
            .may_take::<wire::PromoteRequest>()
            .gives::<wire::InProduction>(200, "It is in production.")
            .etag()
            .if_match(IfMatch::Required)
            .problems(&[Code::Conflict]),
        Endpoint::post("/versions/rollback", Admin, "Go back to an earlier version.", versions::rollback)
            .tag(of)
            .may_take::<wire::RollbackRequest>()
            .gives::<wire::InProduction>(200, "It is in production again.")
            .etag()
            .if_match(IfMatch::Optional)
            .problems(&[Code::Conflict, Code::NotFound]),
    ]
}

fn openai_endpoints() -> Vec<Endpoint> {
    use Scope::{Admin, Read};
    let of = "openai";
    vec![
        Endpoint::post("/v1/chat/completions", Admin, "OpenAI's chat completions.", openai::chat_completions)
            .tag(of)
            .takes::<openai::ChatCompletionRequest>()
            .content(
                200,
                "The completion, or its chunks as server-sent events with `stream`.",
                Content::JsonOrEvents(schema_of::<openai::ChatCompletion>),
            )
            .problems(&[Code::NotFound, Code::NoModel]),
        Endpoint::post("/v1/embeddings", Read, "OpenAI's embeddings.", openai::embeddings)
            .tag(of)
            .takes::<openai::EmbeddingsRequest>()
            .gives::<openai::Embeddings>(200, "The embeddings.")
            .problems(&[Code::NotFound]),
        Endpoint::get("/v1/models", Read, "OpenAI's list of models.", openai::models)
            .tag(of)
            .gives::<openai::ModelList>(200, "What `model` may be."),
        Endpoint::get("/v1/models/{model}", Read, "One of OpenAI's list of models.", openai::model)
            .tag(of)
            .gives::<openai::ModelBody>(200, "The model."),
    ]
}

/// A router of the table, with its tokens asked for.
pub fn router(guard: impl Fn(Scope, MethodRouter<Arc<Service>>) -> MethodRouter<Arc<Service>>) -> Router<Arc<Service>> {
    all()
        .into_iter()
        .fold(Router::new(), |router, endpoint| router.route(endpoint.path, guard(endpoint.needs, endpoint.route)))
}

/// A JSON body; what cannot be read is a [`ServiceError`].
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ServiceError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ServiceError> {
        match axum::Json::<Value>::from_request(request, state).await {
            // A struct would be read from an array, too.
            Ok(axum::Json(body)) if !body.is_object() => Err(ServiceError::bad_request("the body is no JSON object")),
            Ok(axum::Json(body)) => {
                serde_json::from_value(body).map(Self).map_err(|error| ServiceError::bad_request(error.to_string()))
            }
            Err(rejection) => {
                let code = match rejection.status().as_u16() {
                    413 => Code::TooLarge,
                    415 => Code::UnsupportedMediaType,
                    _ => Code::BadRequest,
                };
                Err(ServiceError::refused(code, rejection.body_text()))
            }
        }
    }
}

/// A JSON body that may be left out.
pub struct OptionalBody<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for OptionalBody<T> {
    type Rejection = ServiceError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ServiceError> {
        use axum::http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
        let headers = request.headers();
        let empty =
            headers.get(CONTENT_LENGTH).is_none_or(|length| length == "0") && !headers.contains_key(TRANSFER_ENCODING);
        match empty {
            true => Ok(Self(T::default())),
            false => Body::from_request(request, state).await.map(|Body(body)| Self(body)),
        }
    }
}

/// The name in a path.
pub struct Name(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = ServiceError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ServiceError> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(name)) => Ok(Self(name)),
            Err(rejection) => Err(ServiceError::bad_request(rejection.body_text())),
        }
    }
}

/// `?limit=`, from 1 to [`Limit::MOST`].
pub struct Limit(pub usize);

impl Limit {
    /// Without `?limit=`.
    pub const USUAL: usize = 100;
    /// The most that is given at a time.
    pub const MOST: usize = 1000;
}

impl<S: Send + Sync> FromRequestParts<S> for Limit {
    type Rejection = ServiceError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ServiceError> {
        let query = parts.uri.query().unwrap_or_default();
        let given = query.split('&').find_map(|pair| pair.strip_prefix("limit="));
        let Some(given) = given else { return Ok(Self(Self::USUAL)) };
        match given.parse() {
            Ok(limit @ 1..=Self::MOST) => Ok(Self(limit)),
            _ => Err(ServiceError::bad_request(format!("`limit` is a number from 1 to {}", Self::MOST))),
        }
    }
}
