//! The HTTP interface: each endpoint takes and gives JSON.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::Service;
use super::access;
use super::jobs::{Job, JobList};
use super::wire::{ChatRequest, FeedbackRequest, FineTuneRequest, ServiceError, ServiceStatus};
use crate::conversation::Reply;

type Body<T> = Result<Json<T>, JsonRejection>;

/// All endpoints.
pub fn router(service: Arc<Service>) -> Router {
    let guarded = Router::new()
        .route("/chat", post(chat))
        .route("/feedback", post(feedback))
        .route("/fine-tune", post(fine_tune))
        .route("/control", get(control))
        .route("/jobs", get(jobs))
        .route("/jobs/{id}", get(job).delete(cancel))
        .route("/jobs/{id}/log", get(job_log))
        .route("/jobs/{id}/cancel", post(cancel))
        .route("/sessions/{id}/end", post(end))
        .route("/status", get(status))
        .route_layer(middleware::from_fn_with_state(service.clone(), authorize));
    Router::new()
        .route("/livez", get(async || Json(json!({"status": "ok"}))))
        .route("/readyz", get(ready))
        .merge(guarded)
        .fallback(async || ServiceError::NoEndpoint)
        .method_not_allowed_fallback(async || ServiceError::NoEndpoint)
        .layer(middleware::from_fn(loopback_only))
        .with_state(service)
}

async fn authorize(State(service): State<Arc<Service>>, headers: HeaderMap, request: Request, next: Next) -> Response {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    match access::is_authorized(given, &service.token) {
        true => next.run(request).await,
        false => ServiceError::Unauthorized.into_response(),
    }
}

async fn loopback_only(headers: HeaderMap, request: Request, next: Next) -> Response {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match access::is_loopback(host) {
        true => next.run(request).await,
        false => ServiceError::ForeignHost { host: host.to_owned() }.into_response(),
    }
}

async fn ready(State(service): State<Arc<Service>>) -> Response {
    match service.blocking(Service::ready).await {
        Ok(production) => Json(json!({"status": "ok", "production": production})).into_response(),
        Err(error) => error.into_response(),
    }
}

async fn chat(State(service): State<Arc<Service>>, body: Body<ChatRequest>) -> Result<Json<Reply>, ServiceError> {
    let request = given(body)?;
    service.blocking(move |service| service.chat(request)).await.map(Json)
}

async fn feedback(
    State(service): State<Arc<Service>>,
    body: Body<FeedbackRequest>,
) -> Result<Json<Value>, ServiceError> {
    let request = given(body)?;
    service.blocking(move |service| service.feedback(request)).await?;
    Ok(Json(json!({"status": "noted"})))
}

async fn end(State(service): State<Arc<Service>>, Path(id): Path<String>) -> Result<Json<Value>, ServiceError> {
    let ended = move |service: &Service| {
        service.end_session(&id, "quit")?;
        service.context.snapshot();
        Ok(())
    };
    service.blocking(ended).await?;
    Ok(Json(json!({"status": "ended"})))
}

async fn fine_tune(State(service): State<Arc<Service>>, body: Body<FineTuneRequest>) -> Result<Response, ServiceError> {
    let job = service.request_fine_tune(given(body)?)?;
    Ok((StatusCode::ACCEPTED, Json(json!({"job": job}))).into_response())
}

async fn job(State(service): State<Arc<Service>>, Path(id): Path<String>) -> Result<Json<Job>, ServiceError> {
    service.jobs.get(&id).map(Json).ok_or(ServiceError::NotFound { what: "job", id })
}

async fn control(State(service): State<Arc<Service>>) -> Result<Json<Value>, ServiceError> {
    service.blocking(|service| Ok(service.control_view())).await.map(Json)
}

async fn jobs(State(service): State<Arc<Service>>) -> Response {
    Json(JobList { jobs: &service.jobs.list() }).into_response()
}

async fn job_log(State(service): State<Arc<Service>>, Path(id): Path<String>) -> Result<String, ServiceError> {
    let known = service.jobs.get(&id).ok_or_else(|| ServiceError::NotFound { what: "job", id: id.clone() })?;
    let read = move |service: &Service| Ok(std::fs::read(service.jobs.log_path(&known.id)).unwrap_or_default());
    service.blocking(read).await.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

async fn cancel(State(service): State<Arc<Service>>, Path(id): Path<String>) -> Result<Json<Job>, ServiceError> {
    service.blocking(move |service| service.cancel_job(&id)).await.map(Json)
}

async fn status(State(service): State<Arc<Service>>) -> Result<Json<ServiceStatus>, ServiceError> {
    service.blocking(Service::status).await.map(Json)
}

fn given<T>(body: Body<T>) -> Result<T, ServiceError> {
    match body {
        Ok(Json(value)) => Ok(value),
        Err(rejection) => Err(ServiceError::BadRequest { reason: rejection.body_text() }),
    }
}
