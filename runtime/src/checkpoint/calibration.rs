//! `calibration.json`: how sure the model must be before Mynah acts.
//!
//! Invariant: the temperature is positive and finite, thresholds are probabilities or cosines in [0, 1].

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::schema_of;
use crate::error::{Error, Result};

/// The name of the file.
pub const CALIBRATION_FILE: &str = "calibration.json";

const SCHEMA: u64 = 1;

/// Temperature and thresholds fitted on validation data; a checkpoint without the file gets the defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Calibration {
    /// Divides the function logits before the softmax (arXiv:1706.04599).
    pub temperature: f32,
    /// The smallest calibrated confidence to act upon, in [0, 1].
    pub threshold: f32,
    /// The smallest probability that any function is meant to act upon, in [0, 1]; 0 where that was not fitted.
    pub scope_threshold: f32,
    /// The smallest cosine similarity at which a remembered sentence answers, in [0, 1].
    pub memory_threshold: f32,
    /// The smallest score at which a span of a passage counts as its answer, in [0, 1]; absent without a trained answer
    /// head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_threshold: Option<f32>,
    /// Every other field, kept as it was for writing the file again.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Default for Calibration {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            threshold: 0.5,
            scope_threshold: 0.0,
            memory_threshold: 0.9,
            answer_threshold: None,
            other: Map::new(),
        }
    }
}

impl Calibration {
    /// The smallest score at which a span counts as an answer: what was fitted, else "more likely than not".
    pub fn answer_threshold(&self) -> f32 {
        self.answer_threshold.unwrap_or(0.5)
    }

    /// Reads the bytes of a calibration.json; absent fields get the defaults.
    ///
    /// # Errors
    /// When it is not JSON, of an unknown schema, or a value is out of its range.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let json = |source| Error::Json { checkpoint: "the checkpoint".into(), file: CALIBRATION_FILE.into(), source };
        let mut value = serde_json::from_slice(bytes).map_err(json)?;
        schema_of(&value, CALIBRATION_FILE, SCHEMA)?;
        if let Value::Object(fields) = &mut value {
            fields.shift_remove("schema");
        }
        let calibration: Self = serde_json::from_value(value).map_err(json)?;
        calibration.validate()?;
        Ok(calibration)
    }

    /// Writes the file.
    pub fn to_json(&self) -> Vec<u8> {
        let mut value = serde_json::json!({ "schema": SCHEMA });
        if let (Value::Object(to), Ok(Value::Object(from))) = (&mut value, serde_json::to_value(self)) {
            to.extend(from);
        }
        serde_json::to_vec_pretty(&value).unwrap_or_default()
    }

    fn validate(&self) -> Result<()> {
        if !(self.temperature.is_finite() && self.temperature > 0.0) {
            return Err(invalid("temperature", "a positive number", self.temperature));
        }
        let shares = [
            ("threshold", self.threshold),
            ("scope_threshold", self.scope_threshold),
            ("memory_threshold", self.memory_threshold),
            ("answer_threshold", self.answer_threshold()),
        ];
        for (field, value) in shares {
            if !(0.0..=1.0).contains(&value) {
                return Err(invalid(field, "a number from 0 to 1", value));
            }
        }
        Ok(())
    }
}

fn invalid(field: &str, expected: &str, actual: f32) -> Error {
    Error::InvalidValue {
        file: CALIBRATION_FILE,
        field: field.to_owned(),
        expected: expected.to_owned(),
        actual: actual.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_fields_get_defaults_and_unknown_ones_are_kept() {
        let read = Calibration::from_json(br#"{"schema":1,"temperature":2.5,"fitted_on":120}"#).unwrap();
        assert_eq!((read.temperature, read.threshold, read.memory_threshold), (2.5, 0.5, 0.9));
        assert_eq!(read.other["fitted_on"], 120);
        assert_eq!(Calibration::from_json(&read.to_json()).unwrap(), read);
    }

    #[test]
    fn senseless_values_are_refused() {
        for json in [
            r#"{"schema":2}"#,
            r#"{}"#,
            r#"[]"#,
            r#"{"schema":1,"temperature":0}"#,
            r#"{"schema":1,"threshold":1.5}"#,
            r#"{"schema":1,"scope_threshold":2}"#,
            r#"{"schema":1,"memory_threshold":-0.1}"#,
        ] {
            assert!(Calibration::from_json(json.as_bytes()).is_err(), "{json}");
        }
    }
}
