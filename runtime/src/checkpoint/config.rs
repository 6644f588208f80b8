//! `config.json`: the sizes of the encoder, in Hugging Face's DistilBERT words.
//!
//! Invariant: a [`Config`] describes an encoder that this crate can compute; anything else is refused by name.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// The name of the file.
pub const CONFIG_FILE: &str = "config.json";

/// The sizes of a DistilBERT encoder.
///
/// ```
/// let json = br#"{"model_type":"distilbert","activation":"gelu","dim":64,"n_layers":2,"n_heads":4,
///     "hidden_dim":128,"vocab_size":1000,"max_position_embeddings":512}"#;
/// let config = mynah_runtime::Config::from_json(json)?;
/// assert_eq!(config.head_dim(), 16);
/// # Ok::<(), mynah_runtime::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Always `distilbert`.
    pub model_type: String,
    /// Always `gelu`, the exact one.
    #[serde(default = "gelu")]
    pub activation: String,
    /// The width of every hidden state.
    pub dim: usize,
    /// The number of transformer blocks.
    pub n_layers: usize,
    /// The number of attention heads; divides `dim`.
    pub n_heads: usize,
    /// The width inside the feed-forward network.
    pub hidden_dim: usize,
    /// The number of tokens.
    pub vocab_size: usize,
    /// The longest sequence, in tokens.
    pub max_position_embeddings: usize,
    /// Every other field, kept as it was for writing the file again.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

fn gelu() -> String {
    "gelu".to_owned()
}

impl Config {
    /// Reads the bytes of a config.json.
    ///
    /// # Errors
    /// When it is not JSON, is not a DistilBERT with exact GELU, or has sizes that fit no encoder.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let json = |source| Error::Json { checkpoint: "the checkpoint".into(), file: CONFIG_FILE.into(), source };
        let value: Value = serde_json::from_slice(bytes).map_err(json)?;
        expect_text(&value, "model_type", "distilbert")?;
        if value.get("activation").is_some() {
            expect_text(&value, "activation", "gelu")?;
        }
        let config: Self = serde_json::from_value(value).map_err(json)?;
        config.validate()?;
        Ok(config)
    }

    /// Writes the file again, with every field that was read.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    /// The width of one attention head.
    pub fn head_dim(&self) -> usize {
        self.dim / self.n_heads
    }

    /// The labels of `id2label` in the order of the classifier's rows, when config.json has a complete list.
    pub fn id2label(&self) -> Option<Vec<String>> {
        let map = self.other.get("id2label")?.as_object()?;
        (0..map.len()).map(|id| Some(map.get(&id.to_string())?.as_str()?.to_owned())).collect()
    }

    fn validate(&self) -> Result<()> {
        let sizes = [
            ("dim", self.dim),
            ("n_layers", self.n_layers),
            ("n_heads", self.n_heads),
            ("hidden_dim", self.hidden_dim),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        for (field, size) in sizes {
            // Sizes are multiplied when buffers are made; 2^24 keeps every product far below usize::MAX.
            if size == 0 || size > 1 << 24 {
                return Err(invalid(field, "a size from 1 to 16777216", size));
            }
        }
        if !self.dim.is_multiple_of(self.n_heads) {
            return Err(invalid("dim", &format!("a multiple of n_heads ({})", self.n_heads), self.dim));
        }
        if self.max_position_embeddings < 3 {
            let expected = "at least 3 positions: [CLS], one token and [SEP]";
            return Err(invalid("max_position_embeddings", expected, self.max_position_embeddings));
        }
        Ok(())
    }
}

fn expect_text(value: &Value, field: &'static str, expected: &'static str) -> Result<()> {
    match value.get(field) {
        Some(Value::String(actual)) if actual == expected => Ok(()),
        Some(Value::String(actual)) => Err(Error::Unsupported { field, expected, actual: actual.clone() }),
        Some(other) => Err(Error::Unsupported { field, expected, actual: other.to_string() }),
        None => Err(Error::Unsupported { field, expected, actual: "(missing)".to_owned() }),
    }
}

fn invalid(field: &str, expected: &str, actual: usize) -> Error {
    Error::InvalidValue {
        file: CONFIG_FILE,
        field: field.to_owned(),
        expected: expected.to_owned(),
        actual: actual.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: &str) -> Result<Config> {
        let mut json: Value = serde_json::from_str(
            r#"{"model_type":"distilbert","activation":"gelu","dim":8,"n_layers":1,"n_heads":2,"hidden_dim":16,
                "vocab_size":10,"max_position_embeddings":16,"id2label":{"1":"b","0":"a"}}"#,
        )
        .unwrap();
        let change: Value = serde_json::from_str(change).unwrap();
        for (key, value) in change.as_object().unwrap() {
            json[key] = value.clone();
        }
        Config::from_json(json.to_string().as_bytes())
    }

    fn message(change: &str) -> String {
        config(change).unwrap_err().to_string()
    }

    #[test]
    fn reads_sizes_and_labels_and_keeps_the_rest() {
        let read = config("{}").unwrap();
        assert_eq!((read.dim, read.head_dim()), (8, 4));
        assert_eq!(read.id2label().unwrap(), ["a", "b"]);
        assert_eq!(Config::from_json(&read.to_json()).unwrap(), read);
    }

    #[test]
    fn names_what_it_cannot_serve() {
        insta::assert_snapshot!(message(r#"{"model_type":"bert"}"#), @r"
        model_type `bert` is not supported; expected `distilbert`
        hint: use a DistilBERT checkpoint
        ");
        insta::assert_snapshot!(message(r#"{"activation":"relu"}"#), @r"
        activation `relu` is not supported; expected `gelu`
        hint: use a DistilBERT checkpoint
        ");
        insta::assert_snapshot!(message(r#"{"dim":9}"#), @"`dim` in config.json is 9; expected a multiple of n_heads (2)");
        insta::assert_snapshot!(message(r#"{"n_heads":0}"#), @"`n_heads` in config.json is 0; expected a size from 1 to 16777216");
    }
}
