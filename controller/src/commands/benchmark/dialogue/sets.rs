//! The files of the benchmark: services with their functions, and turns with the turns before them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// A file is not there or cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line is not what it should be.
    #[error("{}:{line}: {source}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A turn is about a service that nobody described.
    #[error("no service `{name}` in sgd_schema")]
    UnknownService {
        /// The service.
        name: String,
    },
}

/// A service: a group of functions that share their arguments.
#[derive(Debug, Clone, Deserialize)]
pub struct Service {
    /// Its name.
    #[serde(rename = "service")]
    pub name: String,
    functions: Vec<Function>,
    slots: Vec<Argument>,
}

#[derive(Debug, Clone, Deserialize)]
struct Function {
    name: String,
    description: String,
    #[serde(default)]
    required: Vec<String>,
    #[serde(default)]
    optional: Map<String, Value>,
}

#[derive(Debug, Clone, Deserialize)]
struct Argument {
    name: String,
    description: String,
    #[serde(default)]
    categorical: bool,
    #[serde(default)]
    possible_values: Vec<String>,
}

/// Somebody's words.
#[derive(Debug, Clone, Deserialize)]
pub struct Said {
    /// `user` or `system`.
    pub speaker: String,
    /// The words.
    pub text: String,
}

/// What a turn says of an argument.
#[derive(Debug, Clone, Deserialize)]
pub struct Update {
    /// The value.
    pub value: String,
    /// Where it stands: `span`, `text`, `system_turn`, `earlier` or `inferred`.
    pub source: String,
    /// The value before.
    #[serde(default)]
    pub old: Option<String>,
}

/// A turn with those before it.
#[derive(Debug, Clone, Deserialize)]
pub struct DialogueTurn {
    /// The service that it is about.
    pub service: String,
    /// `train`, `valid` or `test`.
    pub split: String,
    /// The turns before, oldest first.
    pub history: Vec<Said>,
    /// The turn.
    pub text: String,
    /// The function before; `NONE` and absent are none.
    #[serde(default)]
    pub prev_intent: Option<String>,
    /// The function after; `NONE` is none.
    pub intent: String,
    /// What it says.
    pub update: BTreeMap<String, Update>,
    /// All arguments after the turn.
    #[serde(default)]
    pub state: Option<BTreeMap<String, String>>,
    /// All arguments before the turn.
    #[serde(default)]
    pub before: Option<BTreeMap<String, String>>,
    /// The kind of correction.
    #[serde(default)]
    pub kind: Option<String>,
}

impl DialogueTurn {
    /// The arguments that were known before the turn.
    pub fn known(&self) -> BTreeMap<String, String> {
        if let Some(before) = &self.before {
            return before.clone();
        }
        let mut known = self.state.clone().unwrap_or_default();
        for (name, update) in &self.update {
            match &update.old {
                Some(old) => known.insert(name.clone(), old.clone()),
                None => known.remove(name),
            };
        }
        known
    }
}

impl Service {
    /// The service as a `functions.json`.
    ///
    /// Enumerations of `True` and `False` become booleans, those of whole numbers integers; an argument named a date or a time
    /// gets that format, as the author of such a file would write it. Nothing but the schema is used: no examples.
    pub fn functions(&self) -> Value {
        let functions = self.functions.iter().map(|function| {
            let names = function.required.iter().chain(function.optional.keys());
            let properties: Map<String, Value> = names
                .filter_map(|name| self.slots.iter().find(|slot| slot.name == *name))
                .map(|slot| (slot.name.clone(), slot.schema()))
                .collect();
            json!({
                "name": function.name, "description": function.description,
                "parameters": {"type": "object", "properties": properties, "required": function.required},
            })
        });
        Value::Array(functions.collect())
    }
}

impl Argument {
    fn schema(&self) -> Value {
        let values: Vec<&str> =
            self.possible_values.iter().map(String::as_str).filter(|value| *value != "dontcare").collect();
        let numbers: Option<Vec<i64>> = values.iter().map(|value| value.parse().ok()).collect();
        let named = |word: &str| self.name.split('_').any(|part| part == word);
        let mut schema = match (self.categorical && !values.is_empty(), numbers) {
            (true, _) if values.iter().all(|value| matches!(*value, "True" | "False")) => json!({"type": "boolean"}),
            (true, Some(numbers)) => json!({"type": "integer", "enum": numbers}),
            (true, None) => json!({"type": "string", "enum": values}),
            (false, _) if named("date") => json!({"type": "string", "format": "date"}),
            (false, _) if named("time") => json!({"type": "string", "format": "time"}),
            (false, _) => json!({"type": "string"}),
        };
        schema["description"] = json!(self.description);
        schema
    }
}

/// The records of a file, plain or gzip: `NAME.jsonl.gz`, else `NAME.jsonl`.
///
/// # Errors
/// When there is none, or a line is not such a record.
pub fn read<T: DeserializeOwned>(directory: &Path, name: &str) -> Result<Vec<T>, SetError> {
    let packed = directory.join(format!("{name}.jsonl.gz"));
    let path = if packed.is_file() { packed } else { directory.join(format!("{name}.jsonl")) };
    let file = File::open(&path).map_err(|source| SetError::Io { path: path.clone(), source })?;
    let reader: Box<dyn Read> = match path.extension().is_some_and(|extension| extension == "gz") {
        true => Box::new(flate2::read::MultiGzDecoder::new(file)),
        false => Box::new(file),
    };
    let mut records = Vec::new();
    for (index, line) in BufReader::new(reader).lines().enumerate() {
        let line = line.map_err(|source| SetError::Io { path: path.clone(), source })?;
        if !line.trim().is_empty() {
            let record = serde_json::from_str(&line);
            records.push(record.map_err(|source| SetError::Line { path: path.clone(), line: index + 1, source })?);
        }
    }
    Ok(records)
}
