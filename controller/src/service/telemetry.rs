//! Traces for an OpenTelemetry collector, when the settings name one: a span for every request, one for what the model made
//! of it, and one for every fine-tune with its stages.
//!
//! Names and attributes are those of OpenTelemetry's semantic conventions for HTTP and for generative AI; what these have no
//! name for begins with `mynah.`. Spans are sent in batches by a thread of their own, so no request waits for a collector.
//! Invariant: no text leaves, neither what was said nor what was replied; so there is no `url.path`, which may be anything, and no
//! message of an error.

use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, StatusCode, Uri};
use jiff::Timestamp;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{SpanBuilder, SpanKind, Status, TraceContextExt, TracerProvider};
use opentelemetry::{Array, Context as TraceContext, KeyValue, StringValue, Value};
use opentelemetry_http::{Bytes, HeaderExtractor, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use serde::{Deserialize, Serialize};

use super::jobs::{Job, JobState};
use crate::failure::usage;

/// How long a collector may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Asked by machines every few seconds, and nothing that anybody looks for in a trace.
const UNTRACED: [&str; 3] = ["/livez", "/readyz", "/metrics"];

const HINT: &str = "set `endpoint` in [service.telemetry] to e.g. \"http://127.0.0.1:4318\", and `sample` to 0 to 1";

/// The model as requests name it, and who provides it.
const MYNAH: &str = "mynah";

/// The `[service.telemetry]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetrySettings {
    /// An OpenTelemetry collector that takes OTLP over HTTP, such as `http://127.0.0.1:4318`; none by default.
    pub endpoint: Option<String>,
    /// The share of the requests that is traced, in [0, 1]; those whose caller traces them are as the caller wants.
    pub sample: f64,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self { endpoint: None, sample: 1.0 }
    }
}

impl TelemetrySettings {
    /// Checks what can be known before anything is sent.
    ///
    /// # Errors
    /// When the endpoint is no address, or the share none.
    pub fn check(&self) -> anyhow::Result<()> {
        if !(0.0..=1.0).contains(&self.sample) {
            return Err(usage(format!("telemetry: {} is no share", self.sample), HINT));
        }
        let is_address = |endpoint: &&String| {
            let uri = endpoint.parse::<Uri>().ok();
            let scheme = uri.as_ref().and_then(Uri::scheme_str);
            matches!(scheme, Some("http" | "https")) && uri.as_ref().is_some_and(|uri| uri.host().is_some())
        };
        match self.endpoint.as_ref().filter(|endpoint| !is_address(endpoint)) {
            Some(endpoint) => Err(usage(format!("telemetry: `{endpoint}` is no http:// or https:// address"), HINT)),
            None => Ok(()),
        }
    }
}

/// Where spans go; nowhere when the settings name no collector.
pub struct Telemetry {
    on: Option<On>,
}

struct On {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    scheme: &'static str,
}

/// What the model made of a request.
#[derive(Debug, Default)]
pub struct Generation<'a> {
    /// `chat`, `text_completion` or `embeddings`.
    pub operation: &'static str,
    /// The version that answered.
    pub version: Option<&'a str>,
    /// The session.
    pub conversation: Option<&'a str>,
    /// The reply's id.
    pub response: Option<&'a str>,
    /// `stop` or `tool_calls`.
    pub finish_reason: Option<&'a str>,
    /// Tokens of the request and of the reply, where they were counted.
    pub tokens: (Option<usize>, Option<usize>),
    /// Kind, source and confidence of a reply.
    pub reply: Option<(&'a str, &'a str, f32)>,
}

impl Telemetry {
    /// Prepares what the settings ask for; nothing is sent yet.
    ///
    /// # Errors
    /// As for [`TelemetrySettings::check`].
    pub fn new(settings: &TelemetrySettings, tls: bool) -> anyhow::Result<Self> {
        settings.check()?;
        let Some(endpoint) = &settings.endpoint else { return Ok(Self { on: None }) };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Sender(ureq::Agent::new_with_config(
                ureq::Agent::config_builder().timeout_global(Some(ANSWER_WITHIN)).http_status_as_error(false).build(),
            )))
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_timeout(ANSWER_WITHIN)
            .build()
            .map_err(|error| usage(format!("telemetry: {endpoint}: {error}"), HINT))?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(Resource::builder().with_service_name(MYNAH).with_attribute(version).build())
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.sample))))
            .build();
        let scheme = if tls { "https" } else { "http" };
        Ok(Self { on: Some(On { tracer: provider.tracer(MYNAH), provider, scheme }) })
    }

    /// Begins the span of a request, as part of its caller's trace where it names one.
    pub fn request(&self, method: &str, route: Option<&str>, headers: &HeaderMap) -> Option<TraceContext> {
        let on = self.on.as_ref().filter(|_| route.is_none_or(|route| !UNTRACED.contains(&route)))?;
        let caller =
            TraceContextPropagator::new().extract_with_context(&TraceContext::new(), &HeaderExtractor(headers));
        let attributes = [
            Some(KeyValue::new("http.request.method", method.to_owned())),
            route.map(|route| KeyValue::new("http.route", route.to_owned())),
            Some(KeyValue::new("url.scheme", on.scheme)),
        ];
        let name = route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}"));
        let span = SpanBuilder::from_name(name)
            .with_kind(SpanKind::Server)
            .with_attributes(attributes.into_iter().flatten())
            .start_with_context(&on.tracer, &caller);
        Some(caller.with_span(span))
    }

    /// Tells what the model made of the request that is being answered, from when it was asked until now.
    pub fn generated(&self, asked: SystemTime, of: &Generation<'_>) {
        let Some(on) = &self.on else { return };
        let text = |key: &'static str, value: Option<&str>| value.map(|value| KeyValue::new(key, value.to_owned()));
        let number = |key: &'static str, value: Option<usize>| Some(KeyValue::new(key, i64::try_from(value?).ok()?));
        let list = |value: &str| Value::Array(Array::String(vec![StringValue::from(value.to_owned())]));
        let (kind, source, confidence) = match of.reply {
            Some((kind, source, confidence)) => (Some(kind), Some(source), Some(f64::from(confidence))),
            None => (None, None, None),
        };
        let attributes = [
            text("gen_ai.operation.name", Some(of.operation)),
            text("gen_ai.provider.name", Some(MYNAH)),
            text("gen_ai.request.model", Some(MYNAH)),
            text("gen_ai.response.model", of.version),
            text("gen_ai.conversation.id", of.conversation),
            text("gen_ai.response.id", of.response),
            of.finish_reason.map(|reason| KeyValue::new("gen_ai.response.finish_reasons", list(reason))),
            of.reply.map(|_| KeyValue::new("gen_ai.output.type", "text")),
            number("gen_ai.usage.input_tokens", of.tokens.0),
            number("gen_ai.usage.output_tokens", of.tokens.1),
            text("mynah.reply.kind", kind),
            text("mynah.reply.source", source),
            confidence.map(|confidence| KeyValue::new("mynah.reply.confidence", confidence)),
        ];
        // The model works in this process: no call goes out.
        let span = SpanBuilder::from_name(format!("{} {MYNAH}", of.operation))
            .with_kind(SpanKind::Internal)
            .with_start_time(asked)
            .with_attributes(attributes.into_iter().flatten());
        drop(span.start_with_context(&on.tracer, &TraceContext::current()));
    }

    /// Tells of a fine-tune that came to its end, with its stages.
    pub fn learned(&self, job: &Job) {
        let (Some(on), Some(started), Some(finished)) = (&self.on, job.started_at, job.finished_at) else { return };
        let version = job.outputs.version.as_ref().map(|version| KeyValue::new("mynah.version", version.clone()));
        let attributes = [
            KeyValue::new("mynah.job.id", job.id.clone()),
            KeyValue::new("mynah.job.state", job.state.as_str()),
            KeyValue::new("mynah.job.cpu_seconds", job.cpu_seconds),
        ];
        let span = SpanBuilder::from_name("fine_tune")
            .with_start_time(SystemTime::from(started))
            .with_attributes(attributes.into_iter().chain(version))
            .start_with_context(&on.tracer, &TraceContext::new());
        let whole = TraceContext::new().with_span(span);
        if job.state == JobState::Failed {
            whole.span().set_status(Status::error(""));
        }
        let end = |at: Timestamp| SystemTime::from(at);
        for stage in &job.stages {
            let part = SpanBuilder::from_name(stage.stage.to_string())
                .with_start_time(SystemTime::from(stage.started_at))
                .start_with_context(&on.tracer, &whole);
            TraceContext::new().with_span(part).span().end_with_timestamp(end(stage.finished_at.unwrap_or(finished)));
        }
        whole.span().end_with_timestamp(end(finished));
    }

    /// Sends what waits and ends; may take as long as the collector.
    pub fn stop(&self) {
        if let Some(on) = &self.on
            && let Err(error) = on.provider.shutdown()
        {
            tracing::debug!("telemetry: {error}");
        }
    }
}

/// Ends the span of a request. A server's span has failed when the server has.
pub fn answered(span: &TraceContext, status: StatusCode, problem: Option<&str>) {
    let span = span.span();
    span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
    if let Some(problem) = problem {
        span.set_attribute(KeyValue::new("error.type", problem.to_owned()));
    }
    if status.is_server_error() {
        span.set_status(Status::error(""));
    }
    span.end();
}

/// Sends over HTTP from the thread that collects spans.
#[derive(Debug)]
struct Sender(ureq::Agent);

#[async_trait::async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.0.run(request.map(|body| body.to_vec()))?;
        let (parts, mut body) = answer.into_parts();
        Ok(Response::from_parts(parts, Bytes::from(body.read_to_vec()?)))
    }
}
