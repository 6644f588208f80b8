//! `functions.json`: what Mynah can do, in the format of OpenAI's `tools` with examples and replies added.
//!
//! Also accepted are `{"functions":[…],"out_of_scope":[…]}` and flat entries `{"name":…}`. The file is written by
//! hand, so every error names its function and example, and an unknown key is refused with the nearest known one.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::example::{Example, OUT_OF_SCOPE, Source};
use crate::inline::parse_inline;

/// Something that Mynah can do.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    /// The name by which it is called.
    pub name: String,
    /// What it does, for people.
    pub description: String,
    /// The JSON Schema of its arguments, an object.
    pub parameters: Value,
    /// Utterances that call it.
    pub examples: Vec<Example>,
    /// What to say after the call; `{argument}` stands for its value.
    pub replies: Vec<String>,
    /// Whether to ask before calling.
    pub confirm: bool,
}

impl Function {
    /// The names of its arguments, in the order of the schema.
    pub fn arguments(&self) -> Vec<&str> {
        self.parameters
            .get("properties")
            .and_then(Value::as_object)
            .map(|properties| properties.keys().map(String::as_str).collect())
            .unwrap_or_default()
    }

    /// The names of the arguments that it cannot do without.
    pub fn required(&self) -> Vec<&str> {
        self.parameters
            .get("required")
            .and_then(Value::as_array)
            .map(|required| required.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default()
    }
}

/// All functions of a home.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Functions {
    /// In the order of the file.
    pub functions: Vec<Function>,
    /// Utterances that none of them is for.
    pub out_of_scope: Vec<Example>,
}

/// Why `functions.json` cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}{}: {message}", place(function, *example))]
pub struct FunctionsError {
    /// The file as the caller named it.
    pub file: String,
    /// The function, by name or as `#3` when it has none.
    pub function: Option<String>,
    /// The example's number, from 1.
    pub example: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl FunctionsError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        self.hint.clone()
    }
}

fn place(function: &Option<String>, example: Option<usize>) -> String {
    let function = function.as_ref().map(|name| format!(", function `{name}`")).unwrap_or_default();
    let example = example.map(|number| format!(", example {number}")).unwrap_or_default();
    function + &example
}

impl Functions {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read or used.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(Error::io("read", path))?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            Reader::new(&name).error(format!("not UTF-8 at byte {at}"), "save the file as UTF-8".to_owned())
        })?;
        Ok(Self::parse(&text, &name)?)
    }

    /// Reads a text; `name` is what errors and origins call it.
    ///
    /// # Errors
    /// The first thing that cannot be used.
    pub fn parse(text: &str, name: &str) -> Result<Self, FunctionsError> {
        let mut reader = Reader::new(name);
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let file: Value = serde_json::from_str(text).map_err(|error| {
            reader.error(format!("not JSON: {error}"), "correct the line and column that are named".to_owned())
        })?;
        reader.file(&file)
    }

    /// A function by its name.
    pub fn get(&self, name: &str) -> Option<&Function> {
        self.functions.iter().find(|function| function.name == name)
    }

    /// The examples of all functions, then the out-of-scope ones.
    pub fn examples(&self) -> Vec<Example> {
        self.functions.iter().flat_map(|function| &function.examples).chain(&self.out_of_scope).cloned().collect()
    }
}

/// Reads the file and knows which part of it is being read.
struct Reader<'a> {
    file: &'a str,
    function: Option<String>,
    example: Option<usize>,
}

impl<'a> Reader<'a> {
    fn new(file: &'a str) -> Self {
        Self { file, function: None, example: None }
    }

    fn error(&self, message: String, hint: String) -> FunctionsError {
        FunctionsError {
            file: self.file.to_owned(),
            function: self.function.clone(),
            example: self.example,
            message,
            hint,
        }
    }

    fn file(&mut self, file: &Value) -> Result<Functions, FunctionsError> {
        let (entries, out_of_scope) = match file {
            Value::Array(entries) => (entries.as_slice(), None),
            Value::Object(object) if object.contains_key("functions") => {
                self.known_keys(object, &["functions", "out_of_scope"])?;
                let entries = object.get("functions").and_then(Value::as_array);
                let entries = entries
                    .ok_or_else(|| self.error("`functions` is no array".to_owned(), "write [ … ]".to_owned()))?;
                (entries.as_slice(), object.get("out_of_scope"))
            }
            _ => {
                return Err(self.error(
                    "neither an array of functions nor an object with `functions`".to_owned(),
                    "write [{\"type\":\"function\",\"function\":{\"name\":…}}]".to_owned(),
                ));
            }
        };
        let mut functions = Functions::default();
        let mut names = HashSet::new();
        for (index, entry) in entries.iter().enumerate() {
            self.function = Some(format!("#{}", index + 1));
            let function = self.entry(entry)?;
            if !names.insert(function.name.clone()) {
                return Err(self.error(
                    "there are two functions of this name".to_owned(),
                    "rename one, or put the examples of both together".to_owned(),
                ));
            }
            if function.name == OUT_OF_SCOPE {
                functions.out_of_scope.extend(function.examples);
            } else {
                functions.functions.push(function);
            }
        }
        self.function = Some(OUT_OF_SCOPE.to_owned());
        let more = self.examples(out_of_scope, OUT_OF_SCOPE, &[])?;
        functions.out_of_scope.extend(more);
        Ok(functions)
    }

    fn entry(&mut self, entry: &Value) -> Result<Function, FunctionsError> {
        const OURS: [&str; 3] = ["examples", "replies", "confirm"];
        const OPENAI: [&str; 4] = ["name", "description", "parameters", "strict"];
        let entry = self.object(entry, "a function")?;
        let inner = match entry.get("function") {
            Some(function) => {
                self.known_keys(entry, &[&["type", "function"], &OURS[..]].concat())?;
                self.object(function, "`function`")?
            }
            None => entry,
        };
        let name = self.name(inner)?;
        self.function = Some(name.clone());
        self.known_keys(inner, &[&["type"], &OPENAI[..], &OURS[..]].concat())?;
        // Ours stand beside `function`, or inside it.
        let ours = |key: &str| entry.get(key).or_else(|| inner.get(key));
        let parameters = self.parameters(inner.get("parameters"))?;
        let mut function = Function {
            description: self.text(inner.get("description"), "description")?,
            parameters,
            replies: self.texts(ours("replies"), "replies")?,
            confirm: match ours("confirm") {
                None | Some(Value::Null) => false,
                Some(Value::Bool(confirm)) => *confirm,
                Some(_) => return Err(self.expected("confirm", "true or false")),
            },
            examples: Vec::new(),
            name,
        };
        let examples = self.examples(ours("examples"), &function.name, &function.arguments())?;
        function.examples = examples;
        Ok(function)
    }

    fn name(&self, function: &Map<String, Value>) -> Result<String, FunctionsError> {
        // OpenAI's own limits, and a dot.
        let name = match function.get("name") {
            Some(Value::String(name)) => name,
            _ => return Err(self.expected("name", "a text")),
        };
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(allowed) {
            return Err(self.error(
                format!("the name `{name}` cannot be called"),
                "a name has 1 to 64 letters, digits, `_`, `-` or `.`".to_owned(),
            ));
        }
        Ok(name.clone())
    }

    fn parameters(&self, parameters: Option<&Value>) -> Result<Value, FunctionsError> {
        let parameters = match parameters {
            None | Some(Value::Null) => return Ok(json!({"type": "object", "properties": {}})),
            Some(parameters) => parameters,
        };
        let object = self.object(parameters, "`parameters`")?;
        if object.get("type").is_some_and(|kind| kind != "object") {
            return Err(self.expected("parameters.type", "\"object\""));
        }
        if object.get("properties").is_some_and(|it| !it.is_object()) {
            return Err(self.expected("parameters.properties", "an object of arguments"));
        }
        if let Some(required) = object.get("required") {
            let properties = object.get("properties").and_then(Value::as_object);
            for name in self.texts(Some(required), "parameters.required")? {
                if !properties.is_some_and(|properties| properties.contains_key(&name)) {
                    return Err(self.error(
                        format!("the required argument `{name}` is not in parameters.properties"),
                        "add it there, or take it out of `required`".to_owned(),
                    ));
                }
            }
        }
        Ok(parameters.clone())
    }

    fn examples(
        &mut self,
        examples: Option<&Value>,
        function: &str,
        arguments: &[&str],
    ) -> Result<Vec<Example>, FunctionsError> {
        let mut read = Vec::new();
        for (index, marked) in self.texts(examples, "examples")?.into_iter().enumerate() {
            let number = index + 1;
            self.example = Some(number);
            let (text, slots) =
                parse_inline(marked.trim()).map_err(|error| self.error(error.to_string(), error.hint()))?;
            if text.trim().is_empty() {
                return Err(self.error(
                    "the example has no words".to_owned(),
                    "write what a person would say, or remove it".to_owned(),
                ));
            }
            for slot in &slots {
                if !arguments.contains(&slot.name.as_str()) {
                    return Err(self.error(
                        format!("unknown argument `{}`", slot.name),
                        nearest_hint(&slot.name, arguments)
                            .unwrap_or_else(|| "add it to parameters.properties".to_owned()),
                    ));
                }
            }
            read.push(Example {
                text,
                function: function.to_owned(),
                slots,
                split: None,
                source: Source::Written,
                origin: format!("{}#{function}:{number}", self.file),
                at: None,
                weight: 1.0,
            });
        }
        self.example = None;
        Ok(read)
    }

    fn object<'v>(&self, value: &'v Value, what: &str) -> Result<&'v Map<String, Value>, FunctionsError> {
        value
            .as_object()
            .ok_or_else(|| self.error(format!("{what} is no object"), "write { … } with its keys".to_owned()))
    }

    fn text(&self, value: Option<&Value>, key: &str) -> Result<String, FunctionsError> {
        match value {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(self.expected(key, "a text")),
        }
    }

    fn texts(&self, value: Option<&Value>, key: &str) -> Result<Vec<String>, FunctionsError> {
        let expected = || self.expected(key, "an array of texts");
        match value {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(texts)) => {
                texts.iter().map(|text| text.as_str().map(str::to_owned).ok_or_else(expected)).collect()
            }
            Some(_) => Err(expected()),
        }
    }

    fn expected(&self, key: &str, what: &str) -> FunctionsError {
        self.error(format!("`{key}` has to be {what}"), format!("correct `{key}`"))
    }

    fn known_keys(&self, object: &Map<String, Value>, known: &[&str]) -> Result<(), FunctionsError> {
        match object.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some(unknown) => Err(self.error(
                format!("unknown key `{unknown}`"),
                nearest_hint(unknown, known).unwrap_or_else(|| format!("the known keys are {}", known.join(", "))),
            )),
        }
    }
}

/// Names the known word that the unknown one is most like.
pub(crate) fn nearest_hint(unknown: &str, known: &[&str]) -> Option<String> {
    known
        .iter()
        .map(|word| (strsim::damerau_levenshtein(unknown, word), word))
        .min()
        .filter(|(distance, word)| *distance <= word.len().max(3) / 2 + 1)
        .map(|(_, word)| format!("did you mean `{word}`?"))
}
