//! The OpenAPI 3.1 document, made from the table of endpoints.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::access::Scope;
use super::endpoints::{Content, Endpoint, IfMatch, Limit, all};
use super::openai::OpenAiError;
use super::problem::{Code, Problem};
use mynah_pipelines::TrainingSettings;

/// What can go wrong with every request, whatever it asks for.
const ALWAYS: [Code; 6] =
    [Code::ForeignHost, Code::ForeignOrigin, Code::RateLimited, Code::Internal, Code::Overloaded, Code::TimedOut];

/// The document.
pub fn document() -> Value {
    // References of 2020-12, which is what OpenAPI 3.1 takes, to where OpenAPI keeps its schemas.
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut generator = settings.into_generator();
    let problem = generator.subschema_for::<Problem>().to_value();
    let openai_error = generator.subschema_for::<OpenAiError>().to_value();
    let mut paths: Map<String, Value> = Map::new();
    for endpoint in all() {
        let failure = match endpoint.path.starts_with("/v1/") {
            true => ("application/json", &openai_error),
            false => ("application/problem+json", &problem),
        };
        let operation = operation(&endpoint, failure, |schema_of| schema_of(&mut generator).to_value());
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        path[endpoint.method] = operation;
    }
    let mut schemas = generator.take_definitions(true);
    if let Some(training) =
        schemas.get_mut("FineTuneRequest").and_then(|schema| schema.pointer_mut("/properties/training"))
    {
        *training = training_schema();
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Mynah",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "A local assistant that learns from every conversation, and never gets worse. Errors are problem details \
                (RFC 9457) with a stable `code`; below /v1/ they have OpenAI's form.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {
                "type": "http", "scheme": "bearer",
                "description": "The token of the file service.token in the home, or of service.read.token for what only looks.",
            }},
        },
    })
}

fn operation(
    endpoint: &Endpoint,
    (failure_type, failure): (&str, &Value),
    mut schema: impl FnMut(super::endpoints::SchemaOf) -> Value,
) -> Value {
    let (status, words, content) = endpoint.gives;
    let content = match content {
        Content::Json(of) => json!({"application/json": {"schema": schema(of)}}),
        Content::JsonOrEvents(of) => json!({
            "application/json": {"schema": schema(of)},
            "text/event-stream": {"schema": {"type": "string"}},
        }),
        Content::Text(media) => json!({media: {"schema": {"type": "string"}}}),
        Content::Document => json!({"application/json": {"schema": {"type": "object"}}}),
    };
    let mut success = json!({"description": words, "content": content});
    if endpoint.has_etag {
        success["headers"] = json!({"ETag": {
            "description": "What is in production, for `If-Match`.", "schema": {"type": "string"},
        }});
    }
    let mut responses = Map::from_iter([(status.to_string(), success)]);
    for (status, codes) in failures(endpoint) {
        let names: Vec<String> = codes.iter().map(|code| format!("`{}`: {}", code.as_str(), code.title())).collect();
        let description = names.join("; ");
        responses.insert(
            status.to_string(),
            json!({"description": description, "content": {failure_type: {"schema": failure}}}),
        );
    }
    let mut operation = json!({
        "operationId": operation_id(endpoint),
        "summary": endpoint.summary,
        "tags": [endpoint.tag],
        "parameters": parameters(endpoint),
        "responses": responses,
    });
    if let Some(takes) = endpoint.takes {
        operation["requestBody"] =
            json!({"required": !endpoint.body_optional, "content": {"application/json": {"schema": schema(takes)}}});
    }
    operation["security"] = match endpoint.needs {
        Scope::Anybody => json!([]),
        needs => {
            operation["x-scope"] = json!(needs.as_str());
            json!([{"token": []}])
        }
    };
    operation
}

/// The errors of an endpoint, by status.
fn failures(endpoint: &Endpoint) -> Vec<(u16, Vec<Code>)> {
    let guarded: &[Code] = match endpoint.needs {
        Scope::Anybody => &[],
        Scope::Read => &[Code::Unauthorized],
        Scope::Admin => &[Code::Unauthorized, Code::Forbidden, Code::Stopping],
    };
    let of_it = |code: &Code| ALWAYS.contains(code) || guarded.contains(code) || endpoint.problems.contains(code);
    let mut by_status: Vec<(u16, Vec<Code>)> = Vec::new();
    for code in Code::ALL.into_iter().filter(of_it) {
        let status = code.status().as_u16();
        match by_status.iter_mut().find(|(known, _)| *known == status) {
            Some((_, codes)) => codes.push(code),
            None => by_status.push((status, vec![code])),
        }
    }
    by_status
}

fn parameters(endpoint: &Endpoint) -> Vec<Value> {
    let names = endpoint.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<Value> = names
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "minLength": 1}}))
        .collect();
    if endpoint.has_limit {
        parameters.push(json!({
            "name": "limit", "in": "query", "required": false, "description": "How many at most.",
            "schema": {"type": "integer", "minimum": 1, "maximum": Limit::MOST, "default": Limit::USUAL},
        }));
    }
    if let Some(if_match) = endpoint.if_match {
        parameters.push(json!({
            "name": "If-Match", "in": "header", "required": if_match == IfMatch::Required,
            "description": "The `ETag` of GET /versions, so that nothing is replaced that you have not seen.",
            "schema": {"type": "string"},
        }));
    }
    parameters
}

/// `post_versions_version_promote`.
fn operation_id(endpoint: &Endpoint) -> String {
    let words = endpoint.path.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    std::iter::once(endpoint.method).chain(words).collect::<Vec<_>>().join("_")
}

/// The keys of `[training]` with the types of their defaults.
fn training_schema() -> Value {
    let defaults = serde_json::to_value(TrainingSettings::default()).unwrap_or_default();
    let properties: Map<String, Value> = defaults
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| {
            let kind = match value {
                Value::Bool(_) => json!({"type": "boolean"}),
                Value::String(_) => json!({"type": "string"}),
                Value::Number(number) if number.is_u64() => json!({"type": "integer", "minimum": 0}),
                // What is unset by default is a number as well.
                _ => json!({"type": "number"}),
            };
            (key.clone(), kind)
        })
        .collect();
    json!({
        "type": "object", "properties": properties, "additionalProperties": false,
        "description": "Keys of the `[training]` table for this run alone.",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_is_described_with_its_errors() {
        let document = document();
        let endpoints = all();
        assert!(endpoints.len() >= 20, "{}", endpoints.len());
        for endpoint in endpoints {
            let operation = &document["paths"][endpoint.path][endpoint.method];
            assert!(operation["summary"].is_string(), "{} {}", endpoint.method, endpoint.path);
            let responses = operation["responses"].as_object().unwrap();
            for status in [endpoint.gives.0, 403, 429, 500, 503] {
                assert!(responses.contains_key(&status.to_string()), "{} {status}", endpoint.path);
            }
            assert_eq!(responses.contains_key("401"), endpoint.needs != Scope::Anybody, "{}", endpoint.path);
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_ids_are_unique() {
        let document = document();
        let mut ids: Vec<String> = all().iter().map(operation_id).collect();
        ids.sort();
        let count = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), count);
        let text = document.to_string();
        let references = text.split("\"$ref\":\"#").skip(1).map(|rest| rest.split('"').next().unwrap());
        for reference in references {
            assert!(document.pointer(reference).is_some(), "{reference}");
        }
    }
}
