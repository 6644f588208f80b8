//! What Mynah says about a call: the question for a missing argument, the request to confirm, the reply.

use serde_json::Value;

use super::{Argument, Call, Draft, Parameter, Toolbox};

/// How many values of an enumeration are offered with a question; more is no help to a listener.
const MAX_OFFERED: usize = 6;

impl Toolbox {
    /// The question for a missing argument, in the words of its description.
    pub fn question(&self, function: &str, argument: &str) -> String {
        match self.get(function).and_then(|tool| tool.parameter(argument)) {
            Some(parameter) => question(parameter),
            None => format!("Which {}?", spaced(argument)),
        }
    }

    /// The question whether to do what was understood.
    pub fn confirmation(&self, draft: &Draft) -> String {
        let description = self.get(&draft.function).map(|tool| tool.function.description.trim().trim_end_matches('.'));
        let what = match description {
            Some(text) if !text.is_empty() => lower_first(text),
            _ => spaced(&draft.function),
        };
        let arguments: Vec<String> = draft.arguments.iter().map(confirmed).collect();
        match arguments.is_empty() {
            true => format!("Shall I {what}? Please say yes or no."),
            false => format!("Shall I {what} ({})? Please say yes or no.", arguments.join(", ")),
        }
    }

    /// The reply to a call that no handler answered: the template that names most of its arguments, else its notation.
    pub fn reply(&self, call: &Call) -> String {
        let templates = self.get(&call.function).map(|tool| tool.function.replies.as_slice()).unwrap_or_default();
        let filled = templates.iter().filter_map(|template| fill(template, call));
        // Of equally good ones the first.
        match filled.reduce(|best, one| if one.1 > best.1 { one } else { best }) {
            Some((text, _)) => text,
            None => notation(call),
        }
    }
}

/// A value speaks for itself, unless it is a yes or no to anything but "on".
fn confirmed(argument: &Argument) -> String {
    match argument.value {
        Value::Bool(flag) if argument.name != "on" => {
            format!("{}: {}", spaced(&argument.name), if flag { "yes" } else { "no" })
        }
        _ => display(&argument.value),
    }
}

fn question(parameter: &Parameter) -> String {
    let asked = match parameter.description() {
        Some(text) if text.ends_with('?') => text.to_owned(),
        Some(text) => {
            let text = lower_first(text.trim_end_matches('.'));
            if ["how ", "when ", "where ", "which ", "what ", "who "].iter().any(|word| text.starts_with(word)) {
                return format!("Please tell me {text}.");
            }
            let bare = ["the ", "a ", "an "].iter().find_map(|article| text.strip_prefix(article)).unwrap_or(&text);
            format!("What is the {bare}?")
        }
        None if parameter.schema.get("type").is_some_and(|name| name == "boolean") => match parameter.name.as_str() {
            "on" => "On or off?".to_owned(),
            name => format!("{}, yes or no?", upper_first(&spaced(name))),
        },
        None => format!("Which {}?", spaced(&parameter.name)),
    };
    match parameter.schema.get("enum") {
        Some(Value::Array(values)) if !values.is_empty() && values.len() <= MAX_OFFERED => {
            let names: Vec<String> = values.iter().map(display).collect();
            format!("{asked} ({})", listed(&names, "or"))
        }
        _ => asked,
    }
}

/// The template with its arguments, and how many it names; `None` when it names one that the call lacks.
fn fill(template: &str, call: &Call) -> Option<(String, usize)> {
    let mut text = String::with_capacity(template.len());
    let mut named = 0;
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}')?;
        text.push_str(before);
        text.push_str(&display(call.value(name.trim())?));
        named += 1;
        rest = after;
    }
    text.push_str(rest);
    Some((text, named))
}

/// `set_alarm(time=07:00)`.
fn notation(call: &Call) -> String {
    let arguments = call.arguments.iter().map(|Argument { name, value, .. }| format!("{name}={}", display(value)));
    format!("{}({})", call.function, arguments.collect::<Vec<_>>().join(", "))
}

/// A value as one would say it: no quotes, names of enumerations with spaces.
pub(crate) fn display(value: &Value) -> String {
    match value {
        Value::String(text) if text.contains('_') && !text.contains(' ') => spaced(text),
        Value::String(text) if text.starts_with('P') => spoken_duration(text).unwrap_or_else(|| text.clone()),
        Value::String(text) => text.clone(),
        Value::Bool(true) => "on".to_owned(),
        Value::Bool(false) => "off".to_owned(),
        Value::Array(values) => listed(&values.iter().map(display).collect::<Vec<_>>(), "and"),
        other => other.to_string(),
    }
}

/// "12 minutes" for `PT12M`; `None` for what is not an ISO 8601 duration.
fn spoken_duration(text: &str) -> Option<String> {
    let span: jiff::Span =
        text.parse().ok().filter(|_| text[1..].starts_with(|c: char| c == 'T' || c.is_ascii_digit()))?;
    let printer = jiff::fmt::friendly::SpanPrinter::new()
        .designator(jiff::fmt::friendly::Designator::Verbose)
        .spacing(jiff::fmt::friendly::Spacing::BetweenUnitsAndDesignators);
    Some(printer.span_to_string(&span))
}

fn listed(names: &[String], conjunction: &str) -> String {
    match names {
        [before @ .., last] if !before.is_empty() => format!("{} {conjunction} {last}", before.join(", ")),
        _ => names.concat(),
    }
}

fn spaced(name: &str) -> String {
    name.replace(['_', '-'], " ")
}

fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        // An abbreviation ("URL of …") keeps its capitals.
        Some(first) if !characters.as_str().starts_with(char::is_uppercase) => {
            first.to_lowercase().chain(characters).collect()
        }
        _ => text.to_owned(),
    }
}

fn upper_first(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

#[cfg(test)]
mod tests {
    use super::super::tests::toolbox;
    use super::*;
    use serde_json::json;

    fn call(function: &str, arguments: &[(&str, Value)]) -> Call {
        let argument = |(name, value): &(&str, Value)| Argument {
            name: (*name).into(),
            value: value.clone(),
            raw: String::new(),
            start: 0,
            end: 0,
        };
        Call { function: function.into(), arguments: arguments.iter().map(argument).collect() }
    }

    #[test]
    fn questions_use_the_description() {
        let toolbox = toolbox();
        assert_eq!(toolbox.question("set_alarm", "time"), "What is the time of the alarm?");
        assert_eq!(display(&Value::from("PT1H12M")), "1 hour 12 minutes");
        assert_eq!(display(&Value::from("Paul")), "Paul");
        assert_eq!(toolbox.question("set_alarm", "label"), "Which label?");
        assert_eq!(toolbox.question("set_light", "room"), "Which room? (living room or kitchen)");
        assert_eq!(toolbox.question("unknown", "some_thing"), "Which some thing?");
    }

    #[test]
    fn the_reply_names_as_many_arguments_as_it_can() {
        let toolbox = toolbox();
        assert_eq!(toolbox.reply(&call("set_alarm", &[("time", json!("07:00"))])), "Alarm set for 07:00.");
        assert_eq!(
            toolbox.reply(&call("set_alarm", &[("time", json!("07:00")), ("label", json!("gym"))])),
            "Alarm gym set for 07:00."
        );
        assert_eq!(
            toolbox.reply(&call("set_light", &[("room", json!("living_room")), ("on", json!(true))])),
            "set_light(room=living room, on=on)"
        );
    }

    #[test]
    fn a_confirmation_says_what_would_be_done() {
        let draft = Draft {
            function: "set_light".into(),
            arguments: call("", &[("room", json!("kitchen")), ("on", json!(false))]).arguments,
            missing: vec![],
        };
        assert_eq!(toolbox().confirmation(&draft), "Shall I switch a light (kitchen, off)? Please say yes or no.");
    }
}
