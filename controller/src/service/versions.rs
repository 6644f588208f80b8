//! Versions over HTTP: list, show, promote, roll back.
//!
//! Invariant: what is in production is replaced only by somebody who has seen it: a promotion names it in `If-Match`, and
//! the registry compares it once more under its own lock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use mynah_registry::{Digest, Event, Kind, Registry, Version};
use serde_json::{Value, json};

use super::Service;
use super::endpoints::{Name, OptionalBody};
use super::problem::{Code, ServiceError};
use super::wire::{
    Decision, InProduction, PromoteRequest, RollbackRequest, VersionDetail, VersionList, VersionSummary,
};
use crate::commands::models;

type Of = State<Arc<Service>>;
type Tagged<T> = Result<([(HeaderName, HeaderValue); 1], Json<T>), ServiceError>;

/// The reason in the journal when nobody gives one.
const BY_REQUEST: &str = "by request";

pub(super) async fn list(State(service): Of) -> Tagged<VersionList> {
    let list = |service: &Service| {
        let registry = registry(service)?;
        let production = registry.production().map_err(ServiceError::registry)?.map(|version| version.name);
        let versions = registry.versions().map_err(ServiceError::registry)?;
        let versions = versions.iter().map(|version| summary(&registry, version)).collect();
        Ok((production.clone(), VersionList { production, versions }))
    };
    service.blocking(list).await.map(tagged)
}

pub(super) async fn show(State(service): Of, Name(name): Name) -> Tagged<VersionDetail> {
    let show = move |service: &Service| {
        let registry = registry(service)?;
        let version = registry.version(&name).map_err(ServiceError::registry)?;
        let versions = registry.versions().map_err(ServiceError::registry)?;
        let name_of = |digest: &Digest| {
            let found = versions.iter().find(|version| version.manifest_digest == *digest);
            found.map_or_else(|| digest.short(), |version| version.name.clone())
        };
        let entries = registry.log().map_err(ServiceError::registry)?;
        let decisions = entries
            .into_iter()
            .filter(|entry| models::concerns(&entry.event, &version.name))
            .map(|entry| Decision {
                at: entry.at.to_string(),
                by: entry.actor,
                what: models::describe(&entry.event, name_of),
                reason: entry.reason,
            })
            .collect();
        let production = registry.production().map_err(ServiceError::registry)?.map(|version| version.name);
        let detail = VersionDetail {
            summary: summary(&registry, &version),
            parent: version.manifest.parent.map(|digest| digest.to_string()),
            files: serde_json::to_value(&version.manifest.files).unwrap_or_default(),
            decisions,
        };
        Ok((production, detail))
    };
    service.blocking(show).await.map(tagged)
}

pub(super) async fn promote(
    State(service): Of,
    Name(name): Name,
    headers: HeaderMap,
    OptionalBody(request): OptionalBody<PromoteRequest>,
) -> Tagged<InProduction> {
    let promote = move |service: &Service| {
        let registry = registry(service)?;
        let version = registry.version(&name).map_err(ServiceError::registry)?;
        let current = registry.production().map_err(ServiceError::registry)?;
        check(&headers, current.as_ref(), true)?;
        not_pinned(service)?;
        if version.kind == Kind::Base {
            let detail = format!("{} is a base model and has nothing to answer with", version.name);
            return Err(ServiceError::refused(Code::Conflict, detail));
        }
        let expected = current.as_ref().map(|version| version.manifest_digest);
        let author = service.context.author(request.reason.as_deref().unwrap_or(BY_REQUEST));
        // The gate did not speak: the journal says that a person did.
        registry
            .promote(&version, expected.as_ref(), json!({"by_hand": true}), &author)
            .map_err(ServiceError::registry)?;
        serve_it(service, Some(&version.name));
        Ok((Some(version.name.clone()), InProduction { production: Some(version.name) }))
    };
    service.blocking(promote).await.map(tagged)
}

pub(super) async fn rollback(
    State(service): Of,
    headers: HeaderMap,
    OptionalBody(request): OptionalBody<RollbackRequest>,
) -> Tagged<InProduction> {
    let roll_back = move |service: &Service| {
        let registry = registry(service)?;
        let current = registry.production().map_err(ServiceError::registry)?;
        check(&headers, current.as_ref(), false)?;
        not_pinned(service)?;
        let to = request.version.as_deref().map(|name| registry.version(name)).transpose();
        let to = to.map_err(ServiceError::registry)?;
        let author = service.context.author(request.reason.as_deref().unwrap_or(BY_REQUEST));
        let entry = match current.filter(|_| headers.contains_key(header::IF_MATCH)) {
            Some(seen) => registry.rollback_from(&seen.manifest_digest, to.as_ref(), &author),
            None => registry.rollback(to.as_ref(), &author),
        };
        let entry = entry.map_err(ServiceError::registry)?;
        let production = match entry.event {
            Event::Rollback { to_name, .. } => Some(to_name),
            _ => registry.production().map_err(ServiceError::registry)?.map(|version| version.name),
        };
        serve_it(service, production.as_deref());
        Ok((production.clone(), InProduction { production }))
    };
    service.blocking(roll_back).await.map(tagged)
}

/// A pin is the owner's word: it has to be taken away first.
fn not_pinned(service: &Service) -> Result<(), ServiceError> {
    crate::pin::guard(&service.context.home).map_err(|error| ServiceError::refused(Code::Conflict, error.to_string()))
}

fn registry(service: &Service) -> Result<Registry, ServiceError> {
    service.context.registry().map_err(|error| ServiceError::internal(&error))
}

fn summary(registry: &Registry, version: &Version) -> VersionSummary {
    VersionSummary {
        version: version.name.clone(),
        digest: version.manifest_digest.to_string(),
        status: version.status.as_str().to_owned(),
        registered_at: version.registered_at.to_string(),
        size_bytes: version.manifest.size_bytes(),
        tags: version.tags.clone(),
        held_out: models::scores(registry, version).map(models::brief).filter(Value::is_object),
    }
}

/// How long a request waits for the version that it put into production, and how often it looks.
const LOADING: (Duration, Duration) = (Duration::from_secs(5), Duration::from_millis(20));

/// Loads what is in production now, so that nobody's turn has to. What cannot be loaded is told by the next reply.
fn serve_it(service: &Service, production: Option<&str>) {
    let Ok(assistant) = service.assistant() else { return };
    let (started, (longest, every)) = (Instant::now(), LOADING);
    loop {
        assistant.mynah().refresh();
        let serving = assistant.mynah().version().map(|version| version.name);
        // Somebody else may be loading it at the moment.
        if serving.as_deref() == production || started.elapsed() >= longest {
            return;
        }
        std::thread::sleep(every);
    }
}

/// What is in production, as an `ETag`.
fn etag(production: Option<&str>) -> String {
    format!("\"{}\"", production.unwrap_or("none"))
}

fn tagged<T>((production, body): (Option<String>, T)) -> ([(HeaderName, HeaderValue); 1], Json<T>) {
    let tag = HeaderValue::from_str(&etag(production.as_deref()));
    // A version's name is letters and digits.
    ([(header::ETAG, tag.unwrap_or(HeaderValue::from_static("\"\"")))], Json(body))
}

/// Compares what is in production with what the asker has seen.
fn check(headers: &HeaderMap, current: Option<&Version>, required: bool) -> Result<(), ServiceError> {
    let given = match headers.get(header::IF_MATCH) {
        Some(given) => given.to_str().unwrap_or_default(),
        None if required => {
            return Err(ServiceError::refused(Code::PreconditionRequired, "promoting needs `If-Match`"));
        }
        None => return Ok(()),
    };
    let tag = etag(current.map(|version| version.name.as_str()));
    match given.split(',').any(|one| one.trim() == tag) || given.trim() == "*" {
        true => Ok(()),
        false => Err(ServiceError::refused(Code::PreconditionFailed, format!("{tag} is in production"))),
    }
}
