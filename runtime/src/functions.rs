//! Functions ready to be called: arguments normalised and checked against the JSON Schema, questions for what is
//! missing, replies from templates.
//!
//! Which function is meant, and where its arguments are in the text, is decided elsewhere; nothing is executed here.
//!
//! Invariant: a [`Draft`] holds only arguments that their schema accepts, and [`Toolbox::finish`] gives a [`Call`]
//! only when the whole object of arguments is valid.

mod wording;

use std::collections::BTreeMap;

use jiff::Zoned;
use jsonschema::Validator;
use mynah_data::{Function, Functions, Slot};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::normalise::{Normalised, normalise};

/// An argument of a call: the value for the program, and the words it was read from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Argument {
    /// Its name in the schema.
    pub name: String,
    /// The normalised value.
    pub value: Value,
    /// The words.
    pub raw: String,
    /// Their first character in the text.
    pub start: usize,
    /// The character after their last; equal to `start` when another turn said them.
    pub end: usize,
}

/// A function with its arguments, valid against the function's schema.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// The function's name.
    pub function: String,
    /// The arguments, in the order in which they became known.
    pub arguments: Vec<Argument>,
}

impl Call {
    /// The value of an argument.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.arguments.iter().find(|argument| argument.name == name).map(|argument| &argument.value)
    }

    /// The value of an argument that is a string.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.value(name).and_then(Value::as_str)
    }

    /// All arguments as a JSON object; values of the same name become an array.
    pub fn values(&self) -> Map<String, Value> {
        values(&self.arguments)
    }

    /// Where this turn's text says the arguments.
    pub fn slots(&self) -> Vec<Slot> {
        let mut slots: Vec<Slot> = self.arguments.iter().filter_map(Argument::slot).collect();
        slots.sort_by_key(|slot| slot.start);
        slots
    }
}

impl Argument {
    /// The place in this turn's text, unless another turn said it.
    pub fn slot(&self) -> Option<Slot> {
        let here = self.end > self.start;
        here.then(|| Slot { name: self.name.clone(), start: self.start, end: self.end, value: self.raw.clone() })
    }

    /// The argument as one that an earlier turn said.
    pub fn carried(mut self) -> Self {
        (self.start, self.end) = (0, 0);
        self
    }
}

/// A call that may still lack arguments.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// The function's name.
    pub function: String,
    /// What is known and valid.
    pub arguments: Vec<Argument>,
    /// The names of the required arguments that are not.
    pub missing: Vec<String>,
}

/// Why arguments do not make a call although none is missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the arguments of `{function}` do not fit its schema: {reason}")]
pub struct InvalidArguments {
    /// The function.
    pub function: String,
    /// What its schema says.
    pub reason: String,
}

/// A schema of `functions.json` that is not valid JSON Schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the parameters of function `{function}` are not a valid JSON Schema: {reason}")]
pub struct InvalidSchema {
    /// The function.
    pub function: String,
    /// What is wrong.
    pub reason: String,
}

/// A named argument of a function.
#[derive(Debug)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its JSON Schema.
    pub schema: Value,
    /// Whether the function cannot do without.
    pub required: bool,
    /// Checks one value; `None` when the part cannot be checked without the whole (a `$ref` elsewhere).
    validator: Option<Validator>,
}

impl Parameter {
    /// What the schema says the argument is.
    pub fn description(&self) -> Option<&str> {
        self.schema.get("description").and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
    }

    /// Reads words as this argument; `None` when the schema accepts nothing that they could mean.
    pub fn read(&self, raw: &str, now: &Zoned) -> Option<Normalised> {
        let accepted = |value: &Value| self.validator.as_ref().is_none_or(|validator| validator.is_valid(value));
        match normalise(raw, &self.schema, now) {
            Normalised::Exact(value) if accepted(&value) => Some(Normalised::Exact(value)),
            Normalised::Verbatim(value) if accepted(&value) => Some(Normalised::Verbatim(value)),
            _ => None,
        }
    }
}

/// A function with its compiled schema.
#[derive(Debug)]
pub struct Tool {
    /// What `functions.json` says.
    pub function: Function,
    /// Its arguments in the order of the schema.
    pub parameters: Vec<Parameter>,
    validator: Validator,
}

impl Tool {
    fn new(function: Function) -> Result<Self, InvalidSchema> {
        let compile = |schema: &Value| {
            jsonschema::validator_for(schema)
                .map_err(|error| InvalidSchema { function: function.name.clone(), reason: error.to_string() })
        };
        let validator = compile(&function.parameters)?;
        let required = function.required();
        let properties = function.parameters.get("properties").and_then(Value::as_object);
        let parameters = properties.into_iter().flatten().map(|(name, schema)| Parameter {
            name: name.clone(),
            schema: resolved(schema, &function.parameters).clone(),
            required: required.contains(&name.as_str()),
            validator: with_definitions(schema, &function.parameters).and_then(|schema| compile(&schema).ok()),
        });
        let parameters = parameters.collect();
        Ok(Self { parameters, validator, function })
    }

    /// An argument by its name.
    pub fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|parameter| parameter.name == name)
    }
}

/// Follows references within the schema, so that the argument's type is seen.
fn resolved<'a>(schema: &'a Value, whole: &'a Value) -> &'a Value {
    const MAX_HOPS: usize = 8;
    let mut schema = schema;
    for _ in 0..MAX_HOPS {
        let pointer = schema.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'));
        match pointer.and_then(|pointer| whole.pointer(pointer)) {
            Some(target) => schema = target,
            None => break,
        }
    }
    schema
}

/// A part of a schema with the definitions that its `$ref`s may name.
fn with_definitions(schema: &Value, whole: &Value) -> Option<Value> {
    let mut part = schema.as_object()?.clone();
    for key in ["$defs", "definitions"] {
        if let Some(definitions) = whole.get(key) {
            part.insert(key.to_owned(), definitions.clone());
        }
    }
    Some(Value::Object(part))
}

/// All functions of a home, ready to be called.
#[derive(Debug, Default)]
pub struct Toolbox {
    tools: BTreeMap<String, Tool>,
}

impl Toolbox {
    /// Compiles the schemas.
    ///
    /// # Errors
    /// The first function whose parameters are not a JSON Schema.
    pub fn new(functions: &Functions) -> Result<Self, InvalidSchema> {
        let compiled =
            functions.functions.iter().map(|function| Ok((function.name.clone(), Tool::new(function.clone())?)));
        Ok(Self { tools: compiled.collect::<Result<_, _>>()? })
    }

    /// A function by its name; a model may know functions that `functions.json` does not have.
    pub fn get(&self, name: &str) -> Option<&Tool> {
        self.tools.get(name)
    }

    /// All functions by name.
    pub fn tools(&self) -> impl Iterator<Item = &Tool> {
        self.tools.values()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tools.is_empty()
    }

    /// Reads the arguments found in a text, and tells which are missing.
    ///
    /// Arguments that the schema does not have are left out, and so are words it does not accept. A function that
    /// `functions.json` does not have takes every argument as it was said.
    pub fn draft(&self, function: &str, slots: &[Slot], now: &Zoned) -> Draft {
        let mut draft = Draft { function: function.to_owned(), arguments: Vec::new(), missing: Vec::new() };
        match self.get(function) {
            None => draft.arguments = slots.iter().map(verbatim).collect(),
            Some(tool) => {
                for parameter in &tool.parameters {
                    let said: Vec<&Slot> = slots.iter().filter(|slot| slot.name == parameter.name).collect();
                    draft.arguments.extend(argument(parameter, &said, now));
                }
                draft.arguments.sort_by_key(|argument| argument.start);
            }
        }
        self.update_missing(&mut draft);
        draft
    }

    /// Puts an argument into a draft in place of the one of the same name.
    pub fn set(&self, draft: &mut Draft, argument: Argument) {
        match draft.arguments.iter_mut().find(|known| known.name == argument.name) {
            Some(known) => *known = argument,
            None => draft.arguments.push(argument),
        }
        self.update_missing(draft);
    }

    /// The call, once nothing is missing.
    ///
    /// # Errors
    /// What the function's schema objects to, seen over all arguments together.
    pub fn finish(&self, draft: Draft) -> Result<Call, InvalidArguments> {
        if let Some(tool) = self.get(&draft.function)
            && let Err(error) = tool.validator.validate(&Value::Object(values(&draft.arguments)))
        {
            return Err(InvalidArguments { function: draft.function, reason: error.to_string() });
        }
        Ok(Call { function: draft.function, arguments: draft.arguments })
    }

    fn update_missing(&self, draft: &mut Draft) {
        let Some(tool) = self.get(&draft.function) else { return };
        let known = |parameter: &&Parameter| draft.arguments.iter().any(|argument| argument.name == parameter.name);
        let lacking = tool.parameters.iter().filter(|parameter| parameter.required && !known(parameter));
        draft.missing = lacking.map(|parameter| parameter.name.clone()).collect();
    }
}

fn values(arguments: &[Argument]) -> Map<String, Value> {
    let mut values: Map<String, Value> = Map::new();
    for argument in arguments {
        match values.get_mut(&argument.name) {
            None => {
                values.insert(argument.name.clone(), argument.value.clone());
            }
            Some(Value::Array(several)) => several.push(argument.value.clone()),
            Some(one) => *one = Value::Array(vec![one.take(), argument.value.clone()]),
        }
    }
    values
}

fn verbatim(slot: &Slot) -> Argument {
    Argument {
        name: slot.name.clone(),
        value: Value::String(slot.value.clone()),
        raw: slot.value.clone(),
        start: slot.start,
        end: slot.end,
    }
}

/// One argument from everything that was said for it: a list takes all of it, anything else the first that is read
/// exactly, else the first that is accepted.
fn argument(parameter: &Parameter, said: &[&Slot], now: &Zoned) -> Option<Argument> {
    let made = |slot: &Slot, value: Value| Argument { value, ..verbatim(slot) };
    let read: Vec<(&Slot, Normalised)> =
        said.iter().filter_map(|slot| Some((*slot, parameter.read(&slot.value, now)?))).collect();
    if parameter.schema.get("type").is_some_and(|name| name == "array") && read.len() > 1 {
        let (first, last) = (read.first()?.0, read.last()?.0);
        let values = read.iter().flat_map(|(_, value)| match value.clone().value() {
            Some(Value::Array(values)) => values,
            other => other.into_iter().collect(),
        });
        let raw = read.iter().map(|(slot, _)| slot.value.as_str()).collect::<Vec<_>>().join(", ");
        let value = Value::Array(values.collect());
        let accepted = parameter.validator.as_ref().is_none_or(|validator| validator.is_valid(&value));
        return accepted.then(|| Argument {
            name: parameter.name.clone(),
            value,
            raw,
            start: first.start,
            end: last.end,
        });
    }
    let exact = read.iter().find(|(_, value)| matches!(value, Normalised::Exact(_)));
    let (slot, value) = exact.or_else(|| read.first())?;
    Some(made(slot, value.clone().value()?))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    pub(crate) fn toolbox() -> Toolbox {
        let functions = json!([
            {"name": "set_alarm", "description": "Set an alarm",
             "parameters": {"type": "object", "required": ["time"], "properties": {
                "time": {"type": "string", "format": "time", "description": "The time of the alarm"},
                "label": {"type": "string"}}},
             "examples": ["wake me at [seven](time)"], "replies": ["Alarm set for {time}.", "Alarm {label} set for {time}."]},
            {"name": "set_light", "description": "Switch a light", "confirm": true,
             "parameters": {"type": "object", "required": ["room", "on"], "properties": {
                "room": {"type": "string", "enum": ["living_room", "kitchen"], "description": "Which room?"},
                "on": {"type": "boolean"}, "brightness": {"type": "integer", "minimum": 0, "maximum": 100}}}},
            {"name": "add_items", "parameters": {"type": "object", "properties": {
                "items": {"type": "array", "items": {"type": "string"}}, "count": {"$ref": "#/$defs/count"}},
                "$defs": {"count": {"type": "integer", "maximum": 9}}}}
        ]);
        let functions = Functions::parse(&functions.to_string(), "functions.json").expect("valid functions");
        Toolbox::new(&functions).expect("valid schemas")
    }

    fn now() -> Zoned {
        "2026-03-03T10:20:00[UTC]".parse().expect("a valid time")
    }

    fn slots(text: &str, values: &[(&str, &str)]) -> Vec<Slot> {
        let slot = |(name, value): &(&str, &str)| {
            let start = text.find(value).expect("the value is in the text");
            Slot { name: (*name).to_owned(), start, end: start + value.len(), value: (*value).to_owned() }
        };
        values.iter().map(slot).collect()
    }

    #[test]
    fn arguments_are_normalised_and_the_words_kept() {
        let text = "wake me at half past six";
        let draft = toolbox().draft("set_alarm", &slots(text, &[("time", "half past six")]), &now());
        assert_eq!(draft.missing, Vec::<String>::new());
        let call = toolbox().finish(draft).expect("valid");
        assert_eq!(
            call.arguments,
            [Argument { name: "time".into(), value: json!("06:30"), raw: "half past six".into(), start: 11, end: 24 }]
        );
        assert_eq!(call.slots()[0].value, "half past six");
    }

    #[test]
    fn what_the_schema_refuses_is_missing() {
        let text = "garage on at 500 percent";
        let said = slots(text, &[("room", "garage"), ("on", "on"), ("brightness", "500 percent")]);
        let draft = toolbox().draft("set_light", &said, &now());
        assert_eq!(draft.missing, ["room"]);
        assert_eq!(values(&draft.arguments), *json!({"on": true}).as_object().expect("an object"));
        assert!(toolbox().finish(draft).is_err());
    }

    #[test]
    fn lists_collect_and_references_resolve() {
        let text = "put milk and eggs, two";
        let said = slots(text, &[("items", "milk"), ("items", "eggs"), ("count", "two")]);
        let call = toolbox().finish(toolbox().draft("add_items", &said, &now())).expect("valid");
        assert_eq!(Value::Object(call.values()), json!({"items": ["milk", "eggs"], "count": 2}));
    }

    #[test]
    fn a_function_that_nobody_described_takes_what_was_said() {
        let said = slots("play jazz by evans", &[("genre", "jazz"), ("artist", "evans")]);
        let call = toolbox().finish(toolbox().draft("play", &said, &now())).expect("valid");
        assert_eq!(Value::Object(call.values()), json!({"genre": "jazz", "artist": "evans"}));
    }

    #[test]
    fn a_broken_schema_names_its_function() {
        let functions = Functions::parse(
            r#"[{"name":"f","parameters":{"type":"object","properties":{"a":{"type":"strin"}}}}]"#,
            "f.json",
        );
        if let Ok(functions) = functions {
            let error = Toolbox::new(&functions).expect_err("refused");
            assert_eq!(error.function, "f");
        }
    }
}
