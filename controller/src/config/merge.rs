//! Layers of settings: a checked file, environment variables and flags, laid over each other.
//!
//! What a key may be called comes from the defaults themselves: the serialised default settings are the list of known keys,
//! so a new setting needs no second list. Unknown keys are refused with file, line and the nearest known name.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use toml::de::{DeTable, DeValue};

/// Why the settings were refused. Every one of these is a mistake that the user can mend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A key or a section that no setting has.
    #[error("{origin}: unknown {what} `{key}`{place}{}", did_you_mean(key, known))]
    Unknown {
        /// File and line, or the variable.
        origin: String,
        /// "key" or "section".
        what: &'static str,
        /// The name as written.
        key: String,
        /// " in \[section\]", or nothing at the top.
        place: String,
        /// Every name that would do.
        known: Vec<String>,
    },
    /// A value of the wrong type, or text that is no TOML.
    #[error("{origin}: {message}")]
    Invalid {
        /// File and line, or the variable or flag.
        origin: String,
        /// What the parser said.
        message: String,
    },
    /// The file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The settings file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// No home was given and none can be derived.
    #[error("no home directory: neither --home, MYNAH_HOME, XDG_DATA_HOME nor HOME is set")]
    NoHome,
}

impl ConfigError {
    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::Unknown { what, known, .. } => format!("known {what}s: {}", known.join(", ")),
            Self::Invalid { .. } => {
                "the README's section Settings lists all keys with their defaults; remove the line to use the default"
                    .to_owned()
            }
            Self::Read { .. } => "check the file's permissions and that it is UTF-8 text".to_owned(),
            Self::NoHome => "pass --home DIR".to_owned(),
        }
    }
}

fn did_you_mean(key: &str, known: &[String]) -> String {
    nearest(key, known.iter().map(String::as_str)).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// One setting given on the command line.
#[derive(Debug, Clone)]
pub struct Flag {
    /// The section, such as `training`.
    pub section: &'static str,
    /// The key in that section.
    pub key: &'static str,
    /// The value.
    pub value: toml::Value,
}

/// Parses a settings file and checks every key against the known ones.
///
/// # Errors
/// [`ConfigError::Invalid`] for text that is no TOML, [`ConfigError::Unknown`] for a key that `known` lacks.
pub fn checked_table(path: &Path, text: &str, known: &Json) -> Result<toml::Table, ConfigError> {
    let document = DeTable::parse(text).map_err(|error| invalid(path, text, &error))?;
    check(path, text, document.get_ref(), known, "")?;
    text.parse::<toml::Table>().map_err(|error| invalid(path, text, &error))
}

/// Renders a TOML error as `FILE, line N: message`.
pub fn invalid(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let line = error.span().map_or(1, |span| line_of(text, span.start));
    ConfigError::Invalid { origin: origin(path, line), message: error.message().to_owned() }
}

/// Lays the variables `MYNAH_<SECTION>__<KEY>` over a table.
///
/// # Errors
/// [`ConfigError::Unknown`] for a variable that names no setting.
pub fn overlay_environment(
    table: &mut toml::Table,
    variables: &[(String, String)],
    known: &Json,
) -> Result<(), ConfigError> {
    for (name, value) in variables {
        let Some((section, key)) = name.strip_prefix("MYNAH_").and_then(|rest| rest.split_once("__")) else {
            continue;
        };
        let (section, key) = (section.to_ascii_lowercase(), key.to_ascii_lowercase());
        let Some(keys) = known.get(&section).and_then(Json::as_object) else {
            return Err(unknown(format!("variable {name}"), "section", &section, "", known));
        };
        if !keys.contains_key(&key) {
            return Err(unknown(format!("variable {name}"), "key", &key, &section, &known[&section]));
        }
        set(table, &section, &key, value_of(value));
    }
    Ok(())
}

/// Lays flags over a table.
pub fn overlay_flags(table: &mut toml::Table, flags: &[Flag]) {
    for flag in flags {
        set(table, flag.section, flag.key, flag.value.clone());
    }
}

fn set(table: &mut toml::Table, section: &str, key: &str, value: toml::Value) {
    let entry = table.entry(section.to_owned()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
    if let toml::Value::Table(section) = entry {
        section.insert(key.to_owned(), value);
    }
}

/// A variable's text as a TOML value; what is no TOML is a string.
fn value_of(text: &str) -> toml::Value {
    format!("value = {text}")
        .parse::<toml::Table>()
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

fn check(path: &Path, text: &str, table: &DeTable<'_>, known: &Json, section: &str) -> Result<(), ConfigError> {
    for (key, value) in table.iter() {
        let name = key.get_ref().as_ref();
        let what = if section.is_empty() { "section" } else { "key" };
        let Some(expected) = known.get(name) else {
            let line = line_of(text, key.span().start);
            return Err(unknown(origin(path, line), what, name, section, known));
        };
        if let (DeValue::Table(inner), Json::Object(_)) = (value.get_ref(), expected) {
            let inner_section = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
            check(path, text, inner, expected, &inner_section)?;
        }
    }
    Ok(())
}

fn unknown(origin: String, what: &'static str, key: &str, section: &str, known: &Json) -> ConfigError {
    let known: Vec<String> = known.as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default();
    ConfigError::Unknown {
        origin,
        what,
        key: key.to_owned(),
        place: if section.is_empty() { String::new() } else { format!(" in [{section}]") },
        known,
    }
}

/// The name most like `key`, when one is like it at all.
pub fn nearest<'a>(key: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let key = key.to_lowercase();
    names
        .map(|name| (strsim::normalized_damerau_levenshtein(&key, &name.to_lowercase()), name))
        .filter(|(likeness, _)| *likeness >= 0.5)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name.to_owned())
}

fn origin(path: &Path, line: usize) -> String {
    format!("{}, line {line}", path.display())
}

fn line_of(text: &str, byte: usize) -> usize {
    text.as_bytes().iter().take(byte).filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn known() -> Json {
        json!({"runtime": {"threshold": 0.5, "precision": "int8"}, "service": {"listen": "x", "schedules": []}})
    }

    fn refused(text: &str) -> String {
        let error = checked_table(Path::new("mynah.toml"), text, &known()).unwrap_err();
        format!("{error}\nhint: {}", error.hint())
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
        insta::assert_snapshot!(refused("# mine\n\n[runtime]\nprecision = 'f32'\ntreshold = 0.4\n"), @r"
        mynah.toml, line 5: unknown key `treshold` in [runtime]; did you mean `threshold`?
        hint: known keys: threshold, precision
        ");
    }

    #[test]
    fn an_unknown_section_is_named() {
        insta::assert_snapshot!(refused("[runtimes]\n"), @r"
        mynah.toml, line 1: unknown section `runtimes`; did you mean `runtime`?
        hint: known sections: runtime, service
        ");
    }

    #[test]
    fn broken_toml_is_reported_with_its_line() {
        assert!(refused("[runtime]\nthreshold = = 3\n").starts_with("mynah.toml, line 2: "));
    }

    #[test]
    fn later_layers_win() {
        let mut table =
            checked_table(Path::new("f"), "[runtime]\nthreshold = 0.1\nprecision = 'f32'\n", &known()).unwrap();
        overlay_environment(&mut table, &[("MYNAH_RUNTIME__THRESHOLD".into(), "0.2".into())], &known()).unwrap();
        assert_eq!(table["runtime"]["threshold"].as_float(), Some(0.2));
        overlay_flags(&mut table, &[Flag { section: "runtime", key: "threshold", value: toml::Value::Float(0.3) }]);
        assert_eq!(table["runtime"]["threshold"].as_float(), Some(0.3));
        assert_eq!(table["runtime"]["precision"].as_str(), Some("f32"));
    }

    #[test]
    fn a_variable_that_names_no_setting_is_refused() {
        let variables = [("MYNAH_SERVICE__LISTN".to_owned(), "x".to_owned())];
        let error = overlay_environment(&mut toml::Table::new(), &variables, &known()).unwrap_err();
        insta::assert_snapshot!(error, @"variable MYNAH_SERVICE__LISTN: unknown key `listn` in [service]; did you mean `listen`?");
    }

    #[test]
    fn a_bare_word_in_a_variable_is_a_string() {
        assert_eq!(value_of("int8"), toml::Value::String("int8".into()));
        assert_eq!(value_of("3"), toml::Value::Integer(3));
        assert_eq!(value_of("127.0.0.1:80"), toml::Value::String("127.0.0.1:80".into()));
        assert_eq!(value_of("1\nother = 2"), toml::Value::String("1\nother = 2".into()));
    }
}
