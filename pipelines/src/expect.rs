//! Pinned sentences beside what a model makes of them, on the serving path and without memory.

use jiff::Zoned;
use mynah_data::{Expectation, Expectations, Functions, Home, OUT_OF_SCOPE};
use mynah_runtime::functions::Toolbox;
use mynah_runtime::{Argument, Model};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::error::Error;
use crate::report::decided;

/// What a model makes of a pinned sentence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckedExpectation {
    /// What is expected.
    pub expected: Expectation,
    /// The function that it decides for.
    pub function: Option<String>,
    /// The words of the arguments by name, in the order of the text.
    pub arguments: BTreeMap<String, Vec<String>>,
    /// Whether that is what is expected.
    pub right: bool,
}

impl fmt::Display for CheckedExpectation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |function: &Option<String>| function.clone().unwrap_or_else(|| "nothing".to_owned());
        write!(formatter, "{:?} is {}", self.expected.text, name(&self.function))?;
        if self.expected.function.is_some() && self.function == self.expected.function {
            let words: Vec<String> =
                self.arguments.iter().map(|(name, words)| format!("{name}={:?}", words.join(", "))).collect();
            let words = if words.is_empty() { "no arguments".to_owned() } else { words.join(" ") };
            let expected = Value::Object(self.expected.arguments.clone().unwrap_or_default());
            return write!(
                formatter,
                " with {words}{}",
                if self.right { String::new() } else { format!(" instead of {expected}") }
            );
        }
        match self.right {
            true => Ok(()),
            false => write!(formatter, " instead of {}", name(&self.expected.function)),
        }
    }
}

/// Reads the expectations of a home and checks that their functions are among those that have examples.
pub(crate) fn load(home: &Home, functions: &BTreeSet<&str>) -> Result<Expectations, Error> {
    let expectations = Expectations::load(&home.expectations_path())?;
    let known: Vec<&str> = functions.iter().copied().filter(|name| *name != OUT_OF_SCOPE).collect();
    expectations.check_functions(&known)?;
    Ok(expectations)
}

/// Lets `model` answer every pinned sentence by its weights alone.
///
/// An argument is right when its words are the expected ones, whatever their case, or its value as `functions` reads it is
/// the expected value; all of them have to be there and no other.
pub fn check_expectations(
    model: &Model,
    functions: &Functions,
    expectations: &Expectations,
) -> Vec<CheckedExpectation> {
    // A schema that is none is reported when the functions are served; words alone can be compared without it.
    let toolbox = Toolbox::new(functions).unwrap_or_default();
    let now = Zoned::now();
    let texts: Vec<&str> = expectations.iter().map(|one| one.text.as_str()).collect();
    let predictions = model.predict_batch(&texts);
    let checked = expectations.iter().zip(predictions).map(|(expected, prediction)| {
        let function = decided(&prediction, model.calibration()).map(str::to_owned);
        let found = match &function {
            Some(function) => toolbox.draft(function, &prediction.slots, &now).arguments,
            None => Vec::new(),
        };
        let mut arguments: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for argument in &found {
            arguments.entry(argument.name.clone()).or_default().push(argument.raw.clone());
        }
        let right = function == expected.function && is_expected(expected, &found);
        CheckedExpectation { expected: expected.clone(), function, arguments, right }
    });
    checked.collect()
}

fn is_expected(expected: &Expectation, found: &[Argument]) -> bool {
    let Some(wanted) = &expected.arguments else { return true };
    let by_name = |name: &str| found.iter().filter(|argument| argument.name == name).collect::<Vec<_>>();
    found.iter().all(|argument| wanted.contains_key(&argument.name))
        && wanted.iter().all(|(name, value)| match (by_name(name).as_slice(), value) {
            ([one], value) => means(one, value),
            (several, Value::Array(values)) => {
                several.len() == values.len() && several.iter().zip(values).all(|(one, value)| means(one, value))
            }
            _ => false,
        })
}

/// Whether an argument has the expected words or the expected value.
fn means(argument: &Argument, expected: &Value) -> bool {
    let fold = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    argument.value == *expected || expected.as_str().is_some_and(|words| fold(words) == fold(&argument.raw))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn argument(name: &str, raw: &str, value: Value) -> Argument {
        Argument { name: name.into(), value, raw: raw.into(), start: 0, end: raw.len() }
    }

    fn expectation(arguments: Value) -> Expectation {
        Expectation { text: "t".into(), function: Some("f".into()), arguments: arguments.as_object().cloned() }
    }

    #[test]
    fn words_or_values_are_expected_and_no_other_argument() {
        let found = [argument("time", "Half past six", json!("06:30:00")), argument("count", "three", json!(3))];
        for (expected, right) in [
            (json!({"time": "half  past six", "count": 3}), true),
            (json!({"time": "06:30:00", "count": "three"}), true),
            (json!({"time": "six", "count": 3}), false),
            (json!({"time": "half past six"}), false),
            (json!({"time": "half past six", "count": 3, "day": "monday"}), false),
            (json!({}), false),
            (json!(null), true),
        ] {
            assert_eq!(is_expected(&expectation(expected.clone()), &found), right, "{expected}");
        }
        let several = [argument("item", "milk", json!("milk")), argument("item", "eggs", json!("eggs"))];
        assert!(is_expected(&expectation(json!({"item": ["milk", "eggs"]})), &several));
        assert!(!is_expected(&expectation(json!({"item": ["milk"]})), &several));
        assert!(!is_expected(&expectation(json!({"item": "milk"})), &several));
    }

    #[test]
    fn a_miss_says_what_came_instead() {
        let checked = |function: Option<&str>, arguments: &[(&str, &str)]| CheckedExpectation {
            expected: expectation(json!({"room": "hall"})),
            function: function.map(str::to_owned),
            arguments: arguments.iter().map(|(name, words)| ((*name).into(), vec![(*words).into()])).collect(),
            right: false,
        };
        assert_eq!(checked(None, &[]).to_string(), "\"t\" is nothing instead of f");
        assert_eq!(checked(Some("g"), &[]).to_string(), "\"t\" is g instead of f");
        assert_eq!(
            checked(Some("f"), &[("room", "attic")]).to_string(),
            "\"t\" is f with room=\"attic\" instead of {\"room\":\"hall\"}"
        );
    }
}
