//! The HTTP interface: what every request goes through, and Mynah's own endpoints.
//!
//! A request is checked (host, origin, rate, place, token) before anything reads its body, has a time limit, and is
//! counted. Invariant: whatever goes wrong leaves as a [`Problem`], below `/v1/` in OpenAI's form.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use axum::{Json, Router};
use mynah_data::{Format, ImportOptions, SessionSummary};
use opentelemetry::context::FutureExt;
use serde_json::{Map, Value};

use super::access::{self, Scope};
use super::endpoints::{self, Body, Limit, Name, OptionalBody};
use super::jobs::{Job, JobList};
use super::metrics::Snapshot;
use super::problem::{Code, Problem, ServiceError, in_openai_form};
use super::telemetry::{self, Generation};
use super::wire::{
    Accepted, ChatRequest, ControlBody, Done, FeedbackRequest, FineTuneRequest, FunctionBody, FunctionList,
    GenerateRequest, Generated, Ready, ServiceStatus, SessionBody, SessionDetail, SessionList, TrainingExample,
};
use super::{Service, lock, openapi};
use crate::conversation::Reply;

type Of = State<Arc<Service>>;
type Answer<T> = Result<Json<T>, ServiceError>;

/// Who is at the other end.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// All endpoints.
pub fn router(service: Arc<Service>) -> Router {
    let guard = |needs: Scope, route: MethodRouter<Arc<Service>>| {
        route.route_layer(middleware::from_fn_with_state(needs, authorized))
    };
    let settings = &service.context.settings.service;
    let body_limit = DefaultBodyLimit::max(settings.max_body_bytes);
    endpoints::router(guard)
        .fallback(async || ServiceError::refused(Code::NoEndpoint, "there is no such path"))
        .method_not_allowed_fallback(async || {
            ServiceError::refused(Code::MethodNotAllowed, "the path does not take this method")
        })
        .layer(body_limit)
        .layer(middleware::from_fn_with_state(service.clone(), attended))
        .with_state(service)
}

/// What an endpoint's own requests go through: its token.
async fn authorized(State(needs): State<Scope>, request: Request, next: Next) -> Response {
    let given = request.extensions().get().copied().unwrap_or(Scope::Anybody);
    match access::authorize(given, needs) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// What every request goes through, outermost.
async fn attended(State(service): Of, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().as_str().to_owned();
    let path = request.uri().path().to_owned();
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let matched = matched.as_ref().map(MatchedPath::as_str);
    let route = matched.unwrap_or("other");
    let peer = request.extensions().get::<Peer>().map(|Peer(address)| address.ip());
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let scope = service.interface.tokens.scope(header);
    request.extensions_mut().insert(scope);
    let interface = &service.interface;
    let known_method = matches!(method.as_str(), "GET" | "POST" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" | "PATCH");
    let method = if known_method { method.as_str() } else { "_OTHER" };
    let span = interface.telemetry.request(method, matched, request.headers());
    let checked = access::check_origin(request.headers(), &interface.hosts)
        .and_then(|()| interface.rate.check((peer, scope)))
        // Whether the process lives can be asked however busy it is.
        .and_then(|()| if route == "/livez" { Ok(None) } else { interface.places.enter().map(Some) });
    let limit = Duration::from_secs(service.context.settings.service.request_seconds.max(1));
    let response = match checked {
        Err(error) => error.into_response(),
        Ok(_place) => {
            let answer = next.run(request).with_context(span.clone().unwrap_or_default());
            tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
                ServiceError::refused(Code::TimedOut, format!("the request took longer than {} s", limit.as_secs()))
                    .into_response()
            })
        }
    };
    let status = response.status();
    interface.metrics.request(method, route, status.as_u16(), started.elapsed());
    // The route, not the path: ids and texts stay out of the log, and so do headers.
    tracing::debug!(method, route, status = status.as_u16(), ms = started.elapsed().as_millis(), "request");
    let problem = response.extensions().get::<Problem>();
    if let Some(problem) = problem {
        interface.metrics.refused(problem.code.as_str());
    }
    if let Some(span) = span {
        telemetry::answered(&span, status, problem.map(|problem| problem.code.as_str()));
    }
    match problem {
        Some(problem) if path.starts_with("/v1/") => in_openai_form(problem),
        _ => response,
    }
}

pub(super) async fn live() -> Json<Done> {
    Json(Done::new("ok"))
}

pub(super) async fn ready(State(service): Of) -> Answer<Ready> {
    let look = |service: &Service| {
        let production = service.ready()?;
        let serving = service.assistant()?.mynah().version().map(|version| version.name);
        Ok(Ready { status: "ok".to_owned(), production, serving })
    };
    service.blocking(look).await.map(Json)
}

pub(super) async fn document(State(service): Of) -> Json<Value> {
    Json(service.interface.document.get_or_init(openapi::document).clone())
}

pub(super) async fn metrics(State(service): Of) -> Result<Response, ServiceError> {
    let text = |service: &Service| {
        let registry = service.context.registry().map_err(|error| ServiceError::internal(&error))?;
        let mut jobs: Vec<(String, i64)> = Vec::new();
        for job in service.jobs.list() {
            let state = serde_json::to_value(job.state).ok().and_then(|state| Some(state.as_str()?.to_owned()));
            let state = state.unwrap_or_default();
            match jobs.iter_mut().find(|(known, _)| *known == state) {
                Some((_, number)) => *number += 1,
                None => jobs.push((state, 1)),
            }
        }
        let status = service.status()?;
        let snapshot = Snapshot {
            production: status.production,
            jobs,
            open_sessions: status.open_sessions,
            new_labels: status.new_labels,
            journal_entries: registry.journal_head().map_err(ServiceError::registry)?,
            active: service.interface.places.taken(),
        };
        let failed = |error: prometheus::Error| ServiceError::Internal { message: error.to_string(), hint: None };
        service.interface.metrics.text(&snapshot).map_err(failed)
    };
    let text = service.blocking(text).await?;
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, content_type)], text).into_response())
}

pub(super) async fn status(State(service): Of) -> Answer<ServiceStatus> {
    service.blocking(Service::status).await.map(Json)
}

pub(super) async fn chat(State(service): Of, Body(request): Body<ChatRequest>) -> Answer<Reply> {
    let asked = SystemTime::now();
    let reply = service.blocking(move |service| service.chat(request)).await?;
    service.interface.metrics.reply(&reply.kind, &reply.source);
    service.interface.telemetry.generated(
        asked,
        &Generation {
            operation: "chat",
            version: reply.version.as_deref(),
            conversation: Some(&reply.session),
            response: Some(&reply.interaction),
            finish_reason: Some(if reply.calls.is_empty() { "stop" } else { "tool_calls" }),
            reply: Some((&reply.kind, &reply.source, reply.confidence)),
            ..Generation::default()
        },
    );
    Ok(Json(reply))
}

pub(super) async fn generate(State(service): Of, Body(request): Body<GenerateRequest>) -> Answer<Generated> {
    let answer = move |service: &Service| {
        let reply = service.assistant()?.mynah().reply_unlogged(&[], &request.input, None);
        let reply = reply.map_err(|error| super::unanswered(error.into()))?;
        Ok(Generated {
            text: reply.text,
            kind: reply.kind.as_str().to_owned(),
            confidence: reply.confidence,
            source: reply.source.as_str().to_owned(),
            version: reply.version,
        })
    };
    let asked = SystemTime::now();
    let reply = service.blocking(answer).await?;
    service.interface.metrics.reply(&reply.kind, &reply.source);
    service.interface.telemetry.generated(
        asked,
        &Generation {
            operation: "text_completion",
            version: reply.version.as_deref(),
            finish_reason: Some("stop"),
            reply: Some((&reply.kind, &reply.source, reply.confidence)),
            ..Generation::default()
        },
    );
    Ok(Json(reply))
}

pub(super) async fn feedback(State(service): Of, Body(request): Body<FeedbackRequest>) -> Answer<Done> {
    let opinion = match (&request.correction, request.rating) {
        (Some(_), _) => "correction",
        (None, Some(mynah_data::Rating::Up)) => "up",
        (None, _) => "down",
    };
    service.loading(move |service| service.feedback(request)).await?;
    service.interface.metrics.feedback(opinion);
    Ok(Json(Done::new("noted")))
}

pub(super) async fn sessions(State(service): Of, Limit(limit): Limit) -> Answer<SessionList> {
    let list = move |service: &Service| {
        let log = service.context.log();
        let ids = log.session_ids().map_err(in_the_log)?;
        let latest = ids.iter().skip(ids.len().saturating_sub(limit));
        // A file that another process removes meanwhile is no session any more.
        let sessions = latest.filter_map(|id| log.session(id).ok()).map(|session| shown(service, session)).collect();
        Ok(SessionList { sessions })
    };
    service.blocking(list).await.map(Json)
}

pub(super) async fn session(State(service): Of, Name(id): Name) -> Answer<SessionDetail> {
    let show = move |service: &Service| {
        let log = service.context.log();
        if !log.session_ids().map_err(in_the_log)?.contains(&id) {
            return Err(ServiceError::NotFound { what: "session", id });
        }
        let summary = shown(service, log.session(&id).map_err(in_the_log)?);
        let records = log.records_of(&id).map_err(in_the_log)?;
        let object = |record| match serde_json::to_value(record) {
            Ok(Value::Object(fields)) => Some(fields),
            _ => None,
        };
        Ok(SessionDetail { summary, records: records.filter_map(|record| object(record.ok()?)).collect() })
    };
    service.blocking(show).await.map(Json)
}

pub(super) async fn end(State(service): Of, Name(id): Name) -> Answer<Done> {
    let ended = move |service: &Service| {
        service.end_session(&id, "quit")?;
        service.context.snapshot();
        Ok(Done::new("ended"))
    };
    service.blocking(ended).await.map(Json)
}

pub(super) async fn functions(State(service): Of) -> Answer<FunctionList> {
    let list = |service: &Service| {
        let mynah = service.assistant()?.mynah().clone();
        let path = service.context.home.functions_path();
        let written = match path.is_file() {
            true => mynah_data::Functions::load(&path).map_err(in_the_log)?,
            false => mynah_data::Functions::default(),
        };
        let model = mynah.model();
        let body = |name: String| {
            let trained = model.labels().function_id(&name).is_some();
            match written.get(&name) {
                Some(function) => FunctionBody {
                    description: function.description.clone(),
                    parameters: function.parameters.clone(),
                    examples: function.examples.len(),
                    confirm: function.confirm,
                    name,
                    trained,
                },
                None => FunctionBody {
                    description: String::new(),
                    parameters: Value::Object(Map::new()),
                    examples: 0,
                    confirm: false,
                    name,
                    trained,
                },
            }
        };
        Ok(FunctionList { functions: mynah.functions().into_iter().map(body).collect() })
    };
    service.blocking(list).await.map(Json)
}

pub(super) async fn fine_tune(
    State(service): Of,
    OptionalBody(request): OptionalBody<FineTuneRequest>,
) -> Result<(StatusCode, Json<Accepted>), ServiceError> {
    let ask = move |service: &Service| {
        import(service, &request.training_data)?;
        Ok(Accepted { job: service.request_fine_tune(request)? })
    };
    Ok((StatusCode::ACCEPTED, Json(service.blocking(ask).await?)))
}

/// Jobs are written as they are: read into values first, numbers would come out with other digits than in their files.
pub(super) async fn jobs(State(service): Of) -> Response {
    Json(JobList { jobs: &service.jobs.list() }).into_response()
}

pub(super) async fn job(State(service): Of, Name(id): Name) -> Answer<Job> {
    service.jobs.get(&id).map(Json).ok_or(ServiceError::NotFound { what: "job", id })
}

pub(super) async fn cancel(State(service): Of, Name(id): Name) -> Answer<Job> {
    service.blocking(move |service| service.cancel_job(&id)).await.map(Json)
}

pub(super) async fn job_log(State(service): Of, Name(id): Name) -> Result<Response, ServiceError> {
    let read = move |service: &Service| match service.jobs.get(&id) {
        // A job that has not said anything yet has no file.
        Some(job) => Ok(std::fs::read(service.jobs.log_path(&job.id)).unwrap_or_default()),
        None => Err(ServiceError::NotFound { what: "job", id }),
    };
    let text = String::from_utf8_lossy(&service.blocking(read).await?).into_owned();
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"))], text).into_response())
}

pub(super) async fn control(State(service): Of) -> Answer<ControlBody> {
    service.blocking(|service| Ok(ControlBody(service.control_view()))).await.map(Json)
}

/// Puts examples of a request into the home, all of them or none.
fn import(service: &Service, examples: &[TrainingExample]) -> Result<(), ServiceError> {
    if examples.is_empty() {
        return Ok(());
    }
    let lines: Result<Vec<String>, _> = examples.iter().map(serde_json::to_string).collect();
    let lines = lines.map_err(|error| ServiceError::internal(&error.into()))?.join("\n");
    let wrong = mynah_data::read_examples(lines.as_bytes(), "training_data", Some(Format::JsonLines));
    if let Some(error) = wrong.filter_map(Result::err).next() {
        return Err(ServiceError::bad_request(format!("training_data, example {}: {}", error.line, error.message)));
    }
    // The same examples again replace themselves.
    let name = format!("request-{}", mynah_registry::Digest::of(lines.as_bytes()).short());
    let options =
        ImportOptions { format: Some(Format::JsonLines), questions_only: false, fault: service.context.fault.clone() };
    mynah_data::import(&service.context.home, lines.as_bytes(), &name, &options).map_err(in_the_log)?;
    Ok(())
}

fn shown(service: &Service, session: SessionSummary) -> SessionBody {
    SessionBody {
        open: lock(&service.sessions).contains_key(&session.id),
        session: session.id,
        client: session.client,
        started: session.started.to_string(),
        ended: session.ended.map(|ended| ended.to_string()),
        interactions: session.interactions,
        corrections: session.corrections,
    }
}

fn in_the_log(error: mynah_data::Error) -> ServiceError {
    ServiceError::internal(&error.into())
}
