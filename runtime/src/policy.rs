//! What is not talked about: word lists, patterns and function labels of the settings, applied to what is said, to what
//! would be called and to what would be replied.
//!
//! Invariant: nothing is dropped silently. Whatever is held back is named, with the rule, in the reply's reasons and in
//! the log, and a reply that was held back is kept there.

use mynah_data::{PolicyRecord, PolicyStage};
use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::memory::key;
use crate::settings::SettingsError;

/// The `[runtime.policy]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicySettings {
    /// Words and phrases, compared whole, in any case and whatever punctuation is between.
    pub words: Vec<String>,
    /// Regular expressions (the syntax of the `regex` crate; `(?i)` for any case).
    pub patterns: Vec<String>,
    /// Functions that are never called: an app's own label for what it does not want to hear, taught by examples.
    pub functions: Vec<String>,
    /// What words and patterns are looked for in.
    pub check: Checked,
    /// What is replied instead.
    pub reply: String,
}

/// What words and patterns are looked for in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checked {
    /// Requests and replies.
    Both,
    /// What people say.
    Requests,
    /// What would be replied.
    Replies,
}

impl Default for PolicySettings {
    fn default() -> Self {
        Self {
            words: Vec::new(),
            patterns: Vec::new(),
            functions: Vec::new(),
            check: Checked::Both,
            reply: "I'd rather not talk about that.".to_owned(),
        }
    }
}

/// The rules, ready to be applied.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policy {
    /// Each in the form of [`key`], between two spaces.
    words: Vec<String>,
    patterns: Vec<Regex>,
    settings: PolicySettings,
}

impl Policy {
    /// Compiles the patterns.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`] with the first pattern that is none.
    pub fn new(settings: &PolicySettings) -> Result<Self, SettingsError> {
        /// Bytes of a compiled pattern; a larger one is a mistake.
        const MAX_PATTERN_SIZE: usize = 1 << 20;
        let compile = |pattern: &String| {
            regex::RegexBuilder::new(pattern).size_limit(MAX_PATTERN_SIZE).build().map_err(|_| {
                SettingsError::OutOfRange {
                    section: "runtime.policy",
                    key: "patterns",
                    actual: format!("`{pattern}`"),
                    expected: "a regular expression",
                }
            })
        };
        Ok(Self {
            words: settings.words.iter().filter(|word| !word.trim().is_empty()).map(|word| padded(word)).collect(),
            patterns: settings.patterns.iter().map(compile).collect::<Result<_, _>>()?,
            settings: settings.clone(),
        })
    }

    /// What is said instead.
    pub fn words_instead(&self) -> &str {
        &self.settings.reply
    }

    /// The rule that something said is held back by.
    pub fn request(&self, text: &str) -> Option<PolicyRecord> {
        let looked_at = matches!(self.settings.check, Checked::Both | Checked::Requests);
        let rule = looked_at.then(|| self.rule(text)).flatten()?;
        Some(PolicyRecord { stage: PolicyStage::Request, rule, withheld: None })
    }

    /// The rule that a call is held back by.
    pub fn function(&self, name: &str) -> Option<PolicyRecord> {
        self.settings.functions.iter().any(|own| own == name).then(|| PolicyRecord {
            stage: PolicyStage::Function,
            rule: format!("function `{name}`"),
            withheld: None,
        })
    }

    /// The rule that a reply is held back by.
    pub fn reply(&self, text: &str) -> Option<PolicyRecord> {
        let looked_at = matches!(self.settings.check, Checked::Both | Checked::Replies);
        let rule = looked_at.then(|| self.rule(text)).flatten()?;
        Some(PolicyRecord { stage: PolicyStage::Reply, rule, withheld: Some(text.to_owned()) })
    }

    fn rule(&self, text: &str) -> Option<String> {
        if !self.words.is_empty() {
            let said = padded(text);
            if let Some(word) = self.words.iter().find(|word| said.contains(word.as_str())) {
                return Some(format!("word `{}`", word.trim()));
            }
        }
        let pattern = self.patterns.iter().find(|pattern| pattern.is_match(text))?;
        Some(format!("pattern `{}`", pattern.as_str()))
    }
}

fn padded(text: &str) -> String {
    format!(" {} ", key(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(settings: PolicySettings) -> Policy {
        Policy::new(&settings).expect("valid")
    }

    #[test]
    fn words_are_whole_and_in_any_case() {
        let policy = policy(PolicySettings { words: vec!["Nuclear launch".into(), "  ".into()], ..Default::default() });
        assert_eq!(policy.request("start the NUCLEAR, launch!").expect("held back").rule, "word `nuclear launch`");
        for text in ["a nuclear launcher", "launch nuclear", "", "?!"] {
            assert_eq!(policy.request(text), None, "{text}");
        }
        let held = policy.reply("The nuclear launch is at six.").expect("held back");
        assert_eq!((held.stage, held.withheld.as_deref()), (PolicyStage::Reply, Some("The nuclear launch is at six.")));
    }

    #[test]
    fn patterns_and_functions() {
        let settings = PolicySettings {
            patterns: vec![r"\b\d{16}\b".into()],
            functions: vec!["abuse".into()],
            check: Checked::Requests,
            ..Default::default()
        };
        let policy = policy(settings);
        assert_eq!(policy.request("my card is 1234567812345678").expect("held back").rule, r"pattern `\b\d{16}\b`");
        assert_eq!(policy.reply("1234567812345678"), None, "only requests are looked at");
        assert_eq!(policy.function("abuse").expect("held back").stage, PolicyStage::Function);
        assert_eq!(policy.function("play"), None);
    }

    #[test]
    fn a_pattern_that_is_none_is_named() {
        let error = Policy::new(&PolicySettings { patterns: vec!["(".into()], ..Default::default() });
        assert_eq!(
            error.expect_err("refused").to_string(),
            "`patterns` in [runtime.policy] is `(`; expected a regular expression"
        );
    }
}
