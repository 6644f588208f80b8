//! `labels.json`: what the rows of the function head and of the arguments head mean.
//!
//! Invariant: names are unique, and every tag is `O`, `B-<name>` or `I-<name>`, with `O` among them when there are any.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::schema_of;
use crate::error::{Error, Result};

/// The name of the file.
pub const LABELS_FILE: &str = "labels.json";

const SCHEMA: u64 = 1;

/// The labels of a checkpoint's heads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// The functions, in the order of the rows of `classifier`; may contain `oos`.
    #[serde(default)]
    pub functions: Vec<String>,
    /// The tags (`O`, `B-city`, `I-city`, ...), in the order of the rows of `slot_classifier`.
    #[serde(default)]
    pub tags: Vec<String>,
    /// The argument names seen with each function during training.
    #[serde(default)]
    pub arguments: BTreeMap<String, Vec<String>>,
    /// The arguments of which two stood side by side during training. Of any other, a span that begins right after
    /// another of its name belongs to that. Absent: nothing is known about it.
    #[serde(default)]
    pub adjacent: Option<Vec<String>>,
}

/// A tag of the arguments head, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag<'a> {
    /// The word belongs to no argument.
    Outside,
    /// The first word of an argument.
    Begin(&'a str),
    /// A further word of an argument.
    Inside(&'a str),
}

impl<'a> Tag<'a> {
    /// Takes `O`, `B-name` or `I-name` apart.
    pub fn parse(tag: &'a str) -> Option<Self> {
        match tag.split_once('-') {
            None if tag == "O" => Some(Self::Outside),
            Some(("B", name)) if !name.is_empty() => Some(Self::Begin(name)),
            Some(("I", name)) if !name.is_empty() => Some(Self::Inside(name)),
            _ => None,
        }
    }
}

impl Labels {
    /// Reads the bytes of a labels.json.
    ///
    /// # Errors
    /// When it is not JSON, of an unknown schema, repeats a name, or has a tag that is not a BIO tag.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let json = |source| Error::Json { checkpoint: "the checkpoint".into(), file: LABELS_FILE.into(), source };
        let value = serde_json::from_slice(bytes).map_err(json)?;
        schema_of(&value, LABELS_FILE, SCHEMA)?;
        let labels: Self = serde_json::from_value(value).map_err(json)?;
        labels.validate()?;
        Ok(labels)
    }

    /// Writes the file.
    pub fn to_json(&self) -> Vec<u8> {
        let mut value = serde_json::json!({
            "schema": SCHEMA, "functions": self.functions, "tags": self.tags, "arguments": self.arguments,
        });
        if let Some(adjacent) = &self.adjacent {
            value["adjacent"] = serde_json::json!(adjacent);
        }
        serde_json::to_vec_pretty(&value).unwrap_or_default()
    }

    /// The row of a function in the classifier.
    pub fn function_id(&self, function: &str) -> Option<usize> {
        self.functions.iter().position(|name| name == function)
    }

    /// The row of a tag in the arguments head.
    pub fn tag_id(&self, tag: &str) -> Option<usize> {
        self.tags.iter().position(|name| name == tag)
    }

    fn validate(&self) -> Result<()> {
        for (field, names) in [("functions", &self.functions), ("tags", &self.tags)] {
            let mut seen = BTreeSet::new();
            if let Some(repeated) = names.iter().find(|name| !seen.insert(name.as_str())) {
                return Err(invalid(field, "each name once", &format!("`{repeated}` repeated")));
            }
        }
        if let Some(tag) = self.tags.iter().find(|tag| Tag::parse(tag).is_none()) {
            return Err(invalid("tags", "`O`, `B-<argument>` or `I-<argument>`", &format!("`{tag}`")));
        }
        if !self.tags.is_empty() && self.tag_id("O").is_none() {
            return Err(invalid("tags", "`O` among the tags", "without it"));
        }
        Ok(())
    }
}

fn invalid(field: &str, expected: &str, actual: &str) -> Error {
    Error::InvalidValue {
        file: LABELS_FILE,
        field: field.to_owned(),
        expected: expected.to_owned(),
        actual: actual.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let labels = Labels {
            functions: vec!["lights".into(), "oos".into()],
            tags: vec!["O".into(), "B-room".into(), "I-room".into()],
            arguments: BTreeMap::from([("lights".into(), vec!["room".into()])]),
            adjacent: Some(vec!["room".into()]),
        };
        assert_eq!(Labels::from_json(&labels.to_json()).unwrap(), labels);
        assert_eq!(labels.function_id("oos"), Some(1));
        assert_eq!(Tag::parse("B-room-name"), Some(Tag::Begin("room-name")));
    }

    #[test]
    fn broken_labels_are_explained() {
        let message = |json: &str| Labels::from_json(json.as_bytes()).unwrap_err().to_string();
        insta::assert_snapshot!(message(r#"{"schema":7}"#), @r"
        `labels.json` has schema 7, this version reads schema 1
        hint: update Mynah, or train again with this version
        ");
        insta::assert_snapshot!(message(r#"{"schema":1,"functions":["a","a"]}"#), @"`functions` in labels.json is `a` repeated; expected each name once");
        insta::assert_snapshot!(message(r#"{"schema":1,"tags":["O","X-a"]}"#), @"`tags` in labels.json is `X-a`; expected `O`, `B-<argument>` or `I-<argument>`");
        insta::assert_snapshot!(message(r#"{"schema":1,"tags":["B-a"]}"#), @"`tags` in labels.json is without it; expected `O` among the tags");
    }
}
