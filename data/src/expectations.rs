//! `expectations.jsonl`: sentences that somebody pinned with the call that every version has to make of them.
//!
//! A line is `{"text": "lights off", "function": "lights_off", "arguments": {"room": "hall"}}`; a `function` of `null` means
//! that nothing may be called, and without `arguments` only the function counts. They are tests and nothing else: examples
//! with their words are held out, except corrections, since who corrects a reply wants it learned. *Invariant:* a file that
//! is not understood line by line is an error and never half a file.

use std::collections::HashMap;
use std::io::{BufReader, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::durable::replace_file;
use crate::error::{Error, LineError, Result};
use crate::example::{Example, Source, SplitName};
use crate::fault::FaultPoint;
use crate::functions::nearest_hint;
use crate::lines::Lines;
use crate::split::{fold, normalise};

const KEYS: [&str; 3] = ["text", "function", "arguments"];

/// A sentence and the call that is expected of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Expectation {
    /// The sentence.
    pub text: String,
    /// The function to be called; none: nothing may be called.
    pub function: Option<String>,
    /// All of its arguments, by their words or by their value; none: they do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Map<String, Value>>,
}

/// The expectations of a home, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Expectations {
    /// Each with its line, from 1.
    list: Vec<(u64, Expectation)>,
    file: String,
}

impl Expectations {
    /// Reads a file, which need not exist.
    ///
    /// # Errors
    /// When it cannot be read, or for the first line that is no expectation.
    pub fn load(path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let mut expectations = Self { list: Vec::new(), file: name };
        let file = match std::fs::File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(expectations),
            file => file.map_err(Error::io("read", path))?,
        };
        let mut lines = Lines::new(BufReader::new(file));
        while let Some(line) = lines.read().map_err(Error::io("read", path))? {
            let refuse = |message: String, hint: String| LineError {
                file: expectations.file.clone(),
                line: line.number,
                message,
                hint,
            };
            let bytes =
                line.bytes.ok_or_else(|| refuse("the line is too long".into(), "shorten the sentence".into()))?;
            let text =
                String::from_utf8(bytes).map_err(|_| refuse("not UTF-8".into(), "save the file as UTF-8".into()))?;
            let text = text.trim_start_matches('\u{feff}').trim();
            if text.is_empty() {
                continue;
            }
            let read = parse(text).and_then(|one| expectations.check(&one).map(|()| one));
            let expectation = read.map_err(|(message, hint)| refuse(message, hint))?;
            expectations.list.push((line.number, expectation));
        }
        Ok(expectations)
    }

    /// The expectations.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Expectation> {
        self.list.iter().map(|(_, expectation)| expectation)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Checks that every function is one of `known`.
    ///
    /// # Errors
    /// The first line with another one.
    pub fn check_functions(&self, known: &[&str]) -> Result<()> {
        for (line, expectation) in &self.list {
            let Some(function) = expectation.function.as_deref().filter(|name| !known.contains(name)) else { continue };
            return Err(Error::Line(LineError {
                file: self.file.clone(),
                line: *line,
                message: format!("no function `{function}` has an example"),
                hint: nearest_hint(function, known)
                    .unwrap_or_else(|| "add the function to functions.json, or remove the line".to_owned()),
            }));
        }
        Ok(())
    }

    /// Adds an expectation at the end.
    ///
    /// # Errors
    /// A message and a hint when it expects nothing sensible, or its sentence is pinned already.
    pub fn add(&mut self, expectation: Expectation) -> Result<(), (String, String)> {
        self.check(&expectation)?;
        let line = self.list.last().map_or(1, |(line, _)| line + 1);
        self.list.push((line, expectation));
        Ok(())
    }

    /// Removes the expectation of a sentence, whatever its case; `None` when there is none.
    pub fn remove(&mut self, text: &str) -> Option<Expectation> {
        let at = self.list.iter().position(|(_, one)| fold(&one.text) == fold(text))?;
        Some(self.list.remove(at).1)
    }

    /// Writes the file anew; it has either the old or the new content at any time.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn save(&self, path: &Path, fault: &FaultPoint) -> Result<()> {
        let parent = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(parent).map_err(Error::io("write", path))?;
        for expectation in self.iter() {
            let line =
                serde_json::to_string(expectation).map_err(|source| Error::Encode { path: path.to_owned(), source })?;
            writeln!(file, "{line}").map_err(Error::io("write", path))?;
        }
        replace_file(file, path, fault)
    }

    /// Holds out what has the words of an expectation, numbers and punctuation aside, so that it is never trained on;
    /// corrections stay where they are.
    pub fn hold_out(&self, examples: &mut [Example]) {
        let pinned: HashMap<String, ()> = self.iter().map(|one| (normalise(&one.text), ())).collect();
        if pinned.is_empty() {
            return;
        }
        for example in examples.iter_mut().filter(|example| example.source != Source::Corrected) {
            if pinned.contains_key(&normalise(&example.text)) {
                example.split = Some(SplitName::HeldOut);
            }
        }
    }

    fn check(&self, expectation: &Expectation) -> Result<(), (String, String)> {
        if expectation.text.trim().is_empty() {
            return Err(("the text has no words".into(), "write what a person would say".into()));
        }
        if expectation.function.is_none() && expectation.arguments.as_ref().is_some_and(|it| !it.is_empty()) {
            return Err((
                "arguments of no function are expected".into(),
                "name the function, or leave the arguments out".into(),
            ));
        }
        let key = fold(&expectation.text);
        match self.list.iter().find(|(_, one)| fold(&one.text) == key) {
            None => Ok(()),
            Some((line, _)) => Err((
                format!("{:?} is pinned already, in line {line}", expectation.text),
                "remove one of the two".into(),
            )),
        }
    }
}

/// Reads a line; on failure what is wrong and what to do.
fn parse(line: &str) -> Result<Expectation, (String, String)> {
    let form = "write {\"text\": …, \"function\": …} with a name or null";
    let value: Value = serde_json::from_str(line).map_err(|error| (format!("not JSON: {error}"), form.to_owned()))?;
    let object = value.as_object().ok_or_else(|| ("no object".to_owned(), form.to_owned()))?;
    if let Some(unknown) = object.keys().find(|key| !KEYS.contains(&key.as_str())) {
        let hint = nearest_hint(unknown, &KEYS).unwrap_or_else(|| format!("the known keys are {}", KEYS.join(", ")));
        return Err((format!("unknown key `{unknown}`"), hint));
    }
    // A function that was forgotten must not read as "nothing may be called".
    if !object.contains_key("function") {
        return Err(("`function` is missing".into(), form.to_owned()));
    }
    serde_json::from_value(value.clone()).map_err(|error| (error.to_string(), form.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(content: &str) -> Result<Expectations> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("expectations.jsonl");
        std::fs::write(&path, content).unwrap();
        Expectations::load(&path)
    }

    #[test]
    fn lines_are_read_written_and_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("expectations.jsonl");
        assert!(Expectations::load(&path).unwrap().is_empty());
        let content = "{\"text\":\"lights off\",\"function\":\"lights_off\",\"arguments\":{\"room\":\"hall\"}}\n\
            {\"text\":\"who are you\",\"function\":null}\n";
        std::fs::write(&path, content).unwrap();
        let mut expectations = Expectations::load(&path).unwrap();
        expectations.save(&path, &crate::fault::none()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        assert_eq!(expectations.remove("LIGHTS  off").unwrap().function.as_deref(), Some("lights_off"));
        assert_eq!(expectations.remove("lights off"), None);
        assert_eq!(expectations.len(), 1);
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let first = "{\"text\":\"lights off\",\"function\":\"lights_off\"}\n\n";
        let mistakes = [
            "{\"text\":\"a\",\"function\":\"f\",\"argument\":{}}",
            "{\"text\":\"a\"}",
            "{\"text\":\" \",\"function\":null}",
            "{\"text\":\"a\",\"function\":null,\"arguments\":{\"room\":\"hall\"}}",
            "{\"text\":\"Lights OFF\",\"function\":null}",
            "{\"text\":\"a\",\"function\":7}",
            "lights on",
        ];
        let messages: Vec<String> = mistakes
            .iter()
            .map(|mistake| {
                let error = load(&format!("{first}{mistake}")).unwrap_err();
                format!("{error}\n  hint: {}", error.hint())
            })
            .collect();
        insta::assert_snapshot!(messages.join("\n"), @r#"
        expectations.jsonl:3: unknown key `argument`
          hint: did you mean `arguments`?
        expectations.jsonl:3: `function` is missing
          hint: write {"text": …, "function": …} with a name or null
        expectations.jsonl:3: the text has no words
          hint: write what a person would say
        expectations.jsonl:3: arguments of no function are expected
          hint: name the function, or leave the arguments out
        expectations.jsonl:3: "Lights OFF" is pinned already, in line 1
          hint: remove one of the two
        expectations.jsonl:3: invalid type: integer `7`, expected a string
          hint: write {"text": …, "function": …} with a name or null
        expectations.jsonl:3: not JSON: expected value at line 1 column 1
          hint: write {"text": …, "function": …} with a name or null
        "#);
    }

    #[test]
    fn unknown_functions_are_named() {
        let expectations = load("{\"text\":\"a\",\"function\":\"lihgts_off\"}\n").unwrap();
        let error = expectations.check_functions(&["lights_on", "lights_off"]).unwrap_err();
        assert_eq!(error.to_string(), "expectations.jsonl:1: no function `lihgts_off` has an example");
        assert_eq!(error.hint(), "did you mean `lights_off`?");
        assert!(expectations.check_functions(&["lihgts_off"]).is_ok());
    }

    #[test]
    fn what_is_pinned_is_a_test_unless_it_was_corrected() {
        let example = |text: &str, source: Source| Example {
            text: text.to_owned(),
            function: "f".to_owned(),
            slots: Vec::new(),
            split: Some(SplitName::Train),
            source,
            origin: String::new(),
            at: None,
            weight: 1.0,
        };
        let mut examples = vec![
            example("Wake me at 7!", Source::Imported),
            example("wake me", Source::Written),
            example("wake me at 9", Source::Corrected),
        ];
        load("{\"text\":\"wake me at 8\",\"function\":\"f\"}").unwrap().hold_out(&mut examples);
        let splits: Vec<Option<SplitName>> = examples.iter().map(|example| example.split).collect();
        assert_eq!(splits, [Some(SplitName::HeldOut), Some(SplitName::Train), Some(SplitName::Train)]);
    }
}
