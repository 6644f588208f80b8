//! OpenAI's embeddings: the model's own, of texts or of token ids.

use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mynah_runtime::Model;

use super::wire::{Embedding, EmbeddingInput, EmbeddingUsage, Embeddings, EmbeddingsRequest, EncodingFormat, Vector};
use super::{ANY, MAX_TOKENS, check_model};
use crate::service::Service;
use crate::service::endpoints::Body;
use crate::service::problem::ServiceError;
use crate::service::telemetry::Generation;

/// Inputs of one request, as OpenAI has it.
const MAX_INPUTS: usize = 2048;

pub(in crate::service) async fn embeddings(
    State(service): State<Arc<Service>>,
    Body(request): Body<EmbeddingsRequest>,
) -> Result<Json<Embeddings>, ServiceError> {
    let asked = SystemTime::now();
    let embeddings = service.blocking(move |service| embedded(service, request)).await?;
    let tokens = (Some(embeddings.usage.prompt_tokens), None);
    let version = Some(embeddings.model.as_str());
    service
        .interface
        .telemetry
        .generated(asked, &Generation { operation: "embeddings", version, tokens, ..Generation::default() });
    Ok(Json(embeddings))
}

fn embedded(service: &Service, request: EmbeddingsRequest) -> Result<Embeddings, ServiceError> {
    let assistant = service.assistant()?;
    let mynah = assistant.mynah();
    check_model(mynah, &request.model)?;
    let (model, version) = (mynah.model(), mynah.version());
    if let Some(wanted) = request.dimensions.filter(|wanted| *wanted != model.dim()) {
        let reason = format!("dimensions: the model gives {}, not {wanted}", model.dim());
        return Err(ServiceError::bad_request(reason));
    }
    let count = |text: &str| model.tokenizer().encode(text, MAX_TOKENS).input_ids.len();
    let (vectors, tokens) = match request.input {
        EmbeddingInput::Text(text) => of_texts(&model, &[text], count)?,
        EmbeddingInput::Texts(texts) => of_texts(&model, &texts, count)?,
        EmbeddingInput::Ids(ids) => of_ids(&model, &[ids])?,
        EmbeddingInput::ManyIds(ids) => of_ids(&model, &ids)?,
    };
    let format = request.encoding_format.unwrap_or_default();
    let data = vectors.into_iter().enumerate().map(|(index, vector)| Embedding {
        object: "embedding",
        index,
        embedding: match format {
            EncodingFormat::Float => Vector::Float(vector),
            EncodingFormat::Base64 => {
                let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
                Vector::Base64(BASE64.encode(bytes))
            }
        },
    });
    Ok(Embeddings {
        object: "list",
        data: data.collect(),
        model: version.map_or_else(|| ANY.to_owned(), |version| version.name),
        usage: EmbeddingUsage { prompt_tokens: tokens, total_tokens: tokens },
    })
}

type Vectors = Result<(Vec<Vec<f32>>, usize), ServiceError>;

fn of_texts(model: &Model, texts: &[String], count: impl Fn(&str) -> usize) -> Vectors {
    check_inputs(texts.len(), texts.iter().any(String::is_empty))?;
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    Ok((model.embed(&texts), texts.iter().map(|text| count(text)).sum()))
}

fn of_ids(model: &Model, inputs: &[Vec<u32>]) -> Vectors {
    check_inputs(inputs.len(), inputs.iter().any(Vec::is_empty))?;
    let inputs: Vec<&[u32]> = inputs.iter().map(Vec::as_slice).collect();
    let vectors = model.embed_ids(&inputs).map_err(|error| ServiceError::bad_request(format!("input: {error}")))?;
    Ok((vectors, inputs.iter().map(|ids| ids.len()).sum()))
}

fn check_inputs(count: usize, one_is_empty: bool) -> Result<(), ServiceError> {
    match count {
        0 => Err(ServiceError::bad_request("input: there is nothing to embed")),
        _ if one_is_empty => Err(ServiceError::bad_request("input: one of them is empty")),
        1..=MAX_INPUTS => Ok(()),
        _ => Err(ServiceError::bad_request(format!("input: {count} are more than {MAX_INPUTS}"))),
    }
}
