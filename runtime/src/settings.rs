//! The `[runtime]` table of `mynah.toml`: plain data with defaults.
//!
//! An app that links the runtime alone gets the table read from its home; a program with more tables (the
//! controller) merges its own and passes [`RuntimeSettings`] in. Nothing here reads the environment.
//!
//! Invariant: a key that no setting has is an error that names the line and the nearest key there is.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use toml::de::{DeTable, ValueDeserializer};

use mynah_data::Durability;

use crate::encoder::Precision;
use crate::policy::{Policy, PolicySettings};

/// The name of the runtime's table.
pub const SECTION: &str = "runtime";

/// How replies are made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuntimeSettings {
    /// The arithmetic of the encoder: `int8` is faster, `f32` the reference.
    pub precision: Precision,
    /// Threads of the encoder; all cores when absent.
    pub threads: Option<usize>,
    /// The smallest calibrated confidence to act upon, in [0, 1]; the model's own when absent.
    pub threshold: Option<f32>,
    /// The smallest probability that any function is meant to act upon, in [0, 1]; the model's own when absent.
    pub scope_threshold: Option<f32>,
    /// Whether corrections, taught answers and examples are looked up before the model decides.
    pub memory: bool,
    /// The smallest cosine similarity at which a remembered sentence decides, in [0, 1]; the model's own when absent.
    pub memory_threshold: Option<f32>,
    /// How many imported examples are kept for comparison at most, evenly over the functions.
    pub memory_max_examples: usize,
    /// The smallest cosine similarity to a function's examples, as a whole, at which they choose it, in [0, 1].
    pub vote_threshold: f32,
    /// The smallest cosine similarity at which a passage of `knowledge/` answers, in [0, 1].
    pub knowledge_threshold: f32,
    /// When a turn counts as logged, so that its reply may be given: `disk` waits for the disk, `process` hands the line to the
    /// operating system, where it survives the end of the process, and syncs it within a twentieth of a second.
    pub durability: Durability,
    /// Turns that may wait for a free core; one more is refused as overloaded.
    pub max_waiting: usize,
    /// What is not talked about.
    pub policy: PolicySettings,
}

impl Default for RuntimeSettings {
    fn default() -> Self {
        Self {
            precision: Precision::default(),
            threads: None,
            threshold: None,
            scope_threshold: None,
            memory: true,
            memory_threshold: None,
            memory_max_examples: 2000,
            // Chosen on the validation split of CLINC150 with 3 and 10 examples a function: with 3, the starter and
            // all-MiniLM-L6-v2 understand 0.80 and 0.78 of the requests and decline 0.88 and 0.92 of what is out of scope.
            vote_threshold: 0.45,
            knowledge_threshold: 0.5,
            durability: Durability::default(),
            // A core answers a thousand turns a second: nobody waits longer than about a quarter of one.
            max_waiting: 256,
            policy: PolicySettings::default(),
        }
    }
}

/// Why settings could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file exists and could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML, or a value has the wrong type.
    #[error("{}:{line}: {message}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// A key that no setting has.
    #[error("{}:{line}: unknown key `{key}` in [{section}]", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The table.
        section: String,
        /// The key.
        key: String,
        /// What to do about it.
        hint: String,
    },
    /// A number outside its range.
    #[error("`{key}` in [{section}] is {actual}; expected {expected}")]
    OutOfRange {
        /// The table.
        section: &'static str,
        /// The key.
        key: &'static str,
        /// Its value.
        actual: String,
        /// What it should be.
        expected: &'static str,
    },
}

impl SettingsError {
    /// What a person can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Read { .. } => "make the file readable, or remove it to use the defaults".to_owned(),
            Self::Invalid { .. } => "correct the line; settings are written in TOML".to_owned(),
            Self::UnknownKey { hint, .. } => hint.clone(),
            Self::OutOfRange { expected, .. } => format!("choose {expected}"),
        }
    }
}

impl RuntimeSettings {
    /// Reads the `[runtime]` table of a settings file; a file that does not exist means the defaults.
    ///
    /// # Errors
    /// [`SettingsError`] for anything that the owner has to mend in this table; other tables are not looked at.
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(SettingsError::Read { path: path.to_owned(), source }),
        };
        let settings: Self = read_table(&text, path, SECTION)?;
        settings.validate()?;
        Ok(settings)
    }

    /// Checks the ranges of the numbers.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`] with the first key at fault.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let ratios = [
            ("threshold", self.threshold),
            ("scope_threshold", self.scope_threshold),
            ("memory_threshold", self.memory_threshold),
            ("vote_threshold", Some(self.vote_threshold)),
            ("knowledge_threshold", Some(self.knowledge_threshold)),
        ];
        let outside =
            |key, actual: String, expected| SettingsError::OutOfRange { section: SECTION, key, actual, expected };
        for (key, value) in ratios {
            if let Some(value) = value.filter(|value| !(0.0..=1.0).contains(value)) {
                return Err(outside(key, value.to_string(), "a number from 0 to 1"));
            }
        }
        Policy::new(&self.policy)?;
        if self.threads == Some(0) {
            return Err(outside("threads", "0".to_owned(), "1 or more, or leave it out for all cores"));
        }
        Ok(())
    }
}

/// Reads one table of a TOML text into a struct whose defaults, serialised, name all its keys.
///
/// # Errors
/// [`SettingsError`] with the line; an absent table means the defaults.
pub fn read_table<T: DeserializeOwned + Serialize + Default>(
    text: &str,
    path: &Path,
    section: &str,
) -> Result<T, SettingsError> {
    let invalid = |error: toml::de::Error| SettingsError::Invalid {
        path: path.to_owned(),
        line: line_of(text, error.span().map_or(0, |span| span.start)),
        message: error.message().to_owned(),
    };
    let mut document = DeTable::parse(text).map_err(invalid)?.into_inner();
    let Some(key) = document.keys().find(|key| key.get_ref().as_ref() == section).cloned() else {
        return Ok(T::default());
    };
    let Some(value) = document.remove(&key) else { return Ok(T::default()) };
    if let toml::de::DeValue::Table(table) = value.get_ref() {
        let defaults = serde_json::to_value(T::default()).unwrap_or_default();
        let known: Vec<&str> =
            defaults.as_object().map(|fields| fields.keys().map(String::as_str).collect()).unwrap_or_default();
        if let Some(unknown) = table.keys().find(|key| !known.contains(&key.get_ref().as_ref())) {
            return Err(SettingsError::UnknownKey {
                path: path.to_owned(),
                line: line_of(text, unknown.span().start),
                section: section.to_owned(),
                key: unknown.get_ref().to_string(),
                hint: unknown_key_hint(unknown.get_ref(), &known),
            });
        }
    }
    T::deserialize(ValueDeserializer::from(value)).map_err(invalid)
}

/// What to say about a key that is not known: the nearest one, else all of them.
pub fn unknown_key_hint(key: &str, known: &[&str]) -> String {
    const MIN_SIMILARITY: f64 = 0.5;
    let nearest = known
        .iter()
        .map(|name| (strsim::jaro_winkler(key, name), *name))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(similarity, _)| *similarity >= MIN_SIMILARITY);
    match nearest {
        Some((_, name)) => format!("did you mean `{name}`?"),
        None => format!("the keys are {}", known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<RuntimeSettings, SettingsError> {
        read_table(text, Path::new("mynah.toml"), SECTION)
    }

    fn message(text: &str) -> String {
        let error = read(text).expect_err("refused");
        format!("{error}\nhint: {}", error.hint())
    }

    #[test]
    fn what_is_absent_has_its_default() {
        assert_eq!(read("").expect("valid"), RuntimeSettings::default());
        assert_eq!(read("[service]\nport = 1\n").expect("valid"), RuntimeSettings::default());
        let read = read("[runtime]\nprecision = 'f32'\nthreshold = 0.7\n").expect("valid");
        assert_eq!((read.precision, read.threshold, read.memory), (Precision::F32, Some(0.7), true));
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        insta::assert_snapshot!(message("[runtime]\n\nthreshhold = 0.5\n"), @r"
        mynah.toml:3: unknown key `threshhold` in [runtime]
        hint: did you mean `threshold`?
        ");
        insta::assert_snapshot!(message("[runtime]\nmemory = 'yes'\n"), @r#"
        mynah.toml:2: invalid type: string "yes", expected a boolean
        hint: correct the line; settings are written in TOML
        "#);
        insta::assert_snapshot!(message("[runtime\n"), @r"
        mynah.toml:1: unclosed table, expected `]`
        hint: correct the line; settings are written in TOML
        ");
    }

    #[test]
    fn ranges_are_checked() {
        let settings = RuntimeSettings { vote_threshold: 1.5, ..RuntimeSettings::default() };
        assert!(settings.validate().is_err());
        assert!(RuntimeSettings::default().validate().is_ok());
    }

    /// What was written by serialising the settings reads back.
    #[test]
    fn settings_survive_being_written() {
        let settings = RuntimeSettings {
            threads: Some(2),
            memory: false,
            precision: Precision::F32,
            durability: Durability::Process,
            ..RuntimeSettings::default()
        };
        let text = format!("[runtime]\n{}", toml::to_string(&settings).expect("settings are TOML"));
        assert_eq!(read(&text).expect("valid"), settings);
    }
}
