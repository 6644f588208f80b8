//! Argument values: from the words a person used to the value a JSON Schema asks for.
//!
//! "seven", "half past six" or "next friday" become `07:00`, `06:30` and a date; `living room` becomes the
//! enumeration's `living_room`. The schema decides the reading, never the words: the same "seven" is the number 7
//! where the schema says integer. The words themselves stay with the caller, beside the value.
//!
//! Invariants: a pure function of the words, the schema and `now`; it ends quickly and without a panic on any input,
//! and it never invents a value: what it cannot read is passed on as it is or refused.

mod choice;
mod date;
mod duration;
mod number;
mod time;
mod words;

pub(crate) use date::MONTHS;
use jiff::Zoned;
use serde_json::Value;

/// Longest text, in characters, that is read as a number, a date, a time or a duration; nobody says longer ones.
const MAX_SPAN_CHARS: usize = 120;

/// How many nested schemas (`items`, `anyOf`) are followed.
const MAX_DEPTH: usize = 4;

/// What became of a span of words.
#[derive(Debug, Clone, PartialEq)]
pub enum Normalised {
    /// Read as the schema's type.
    Exact(Value),
    /// Not understood, but the schema takes any string: the words as they are.
    Verbatim(Value),
    /// Not understood, and no string is allowed here.
    Refused,
}

impl Normalised {
    /// The value, if there is one.
    pub fn value(self) -> Option<Value> {
        match self {
            Self::Exact(value) | Self::Verbatim(value) => Some(value),
            Self::Refused => None,
        }
    }
}

/// Reads `raw` as the type that `schema` (the JSON Schema of one argument) asks for.
///
/// `format` of a string may be `date`, `time`, `date-time` or `duration`; other formats are plain strings.
///
/// ```
/// use mynah_runtime::normalise::{Normalised, normalise};
/// use serde_json::json;
///
/// let now = "2026-03-03T10:00:00[UTC]".parse()?;
/// let schema = json!({"type": "string", "format": "time"});
/// assert_eq!(normalise("half past six", &schema, &now), Normalised::Exact(json!("06:30")));
/// # Ok::<(), jiff::Error>(())
/// ```
pub fn normalise(raw: &str, schema: &Value, now: &Zoned) -> Normalised {
    read(raw.trim(), schema, now, MAX_DEPTH)
}

/// Whether a schema asks for something that can be recognised by its form: a number, a date, one of a few words.
pub fn is_recognisable(schema: &Value) -> bool {
    match kind(schema) {
        Kind::Text => false,
        Kind::List => schema.get("items").is_some_and(is_recognisable),
        _ => true,
    }
}

enum Kind {
    Text,
    Choice,
    Integer,
    Number,
    Boolean,
    List,
    Date,
    Time,
    DateTime,
    Duration,
    Alternatives,
    Object,
}

fn kind(schema: &Value) -> Kind {
    if schema.get("enum").is_some_and(Value::is_array) || schema.get("const").is_some() {
        return Kind::Choice;
    }
    if schema.get("anyOf").or_else(|| schema.get("oneOf")).is_some_and(Value::is_array) {
        return Kind::Alternatives;
    }
    let name = match schema.get("type") {
        Some(Value::String(name)) => name.as_str(),
        Some(Value::Array(names)) if names.iter().filter(|name| *name != "null").count() > 1 => {
            return Kind::Alternatives;
        }
        Some(Value::Array(names)) => {
            names.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or("string")
        }
        _ => "string",
    };
    match name {
        "integer" => Kind::Integer,
        "number" => Kind::Number,
        "boolean" => Kind::Boolean,
        "array" => Kind::List,
        "object" => Kind::Object,
        _ => match schema.get("format").and_then(Value::as_str) {
            Some("date") => Kind::Date,
            Some("time") => Kind::Time,
            Some("date-time") => Kind::DateTime,
            Some("duration") => Kind::Duration,
            _ => Kind::Text,
        },
    }
}

fn read(raw: &str, schema: &Value, now: &Zoned, depth: usize) -> Normalised {
    if raw.is_empty() || depth == 0 {
        return Normalised::Refused;
    }
    let short = raw.chars().nth(MAX_SPAN_CHARS).is_none();
    let formatted = |value: Option<String>| match value {
        Some(value) => Normalised::Exact(Value::String(value)),
        None => Normalised::Verbatim(Value::String(raw.to_owned())),
    };
    let required = |value: Option<Value>| value.map_or(Normalised::Refused, Normalised::Exact);
    match kind(schema) {
        Kind::Text => Normalised::Exact(Value::String(raw.to_owned())),
        Kind::Choice => required(choice::choose(raw, schema, short)),
        Kind::Integer => required(short.then(|| number::integer(raw)).flatten()),
        Kind::Number => required(short.then(|| number::number(raw)).flatten()),
        Kind::Boolean => required(short.then(|| choice::boolean(raw)).flatten().map(Value::Bool)),
        Kind::Date => formatted(short.then(|| date::date(raw, now)).flatten().map(|date| date.to_string())),
        Kind::Time => formatted(short.then(|| time::time(raw, now)).flatten().map(time::display)),
        Kind::DateTime => formatted(short.then(|| time::date_time(raw, now)).flatten()),
        Kind::Duration => {
            formatted(short.then(|| duration::duration(raw)).flatten().map(|duration| duration.to_string()))
        }
        Kind::List => list(raw, schema, now, depth),
        Kind::Alternatives => alternatives(raw, schema, now, depth),
        Kind::Object => required(serde_json::from_str::<Value>(raw).ok().filter(Value::is_object)),
    }
}

/// The parts of "a, b and c", each read by the schema of the items; one refused part refuses the list.
fn list(raw: &str, schema: &Value, now: &Zoned, depth: usize) -> Normalised {
    const MAX_PARTS: usize = 64;
    let any = Value::Bool(true);
    let items = schema.get("items").unwrap_or(&any);
    let mut values = Vec::new();
    let mut exact = true;
    for part in words::split_list(raw).take(MAX_PARTS) {
        match read(part, items, now, depth - 1) {
            Normalised::Exact(value) => values.push(value),
            Normalised::Verbatim(value) => {
                exact = false;
                values.push(value);
            }
            Normalised::Refused => return Normalised::Refused,
        }
    }
    match values.is_empty() {
        true => Normalised::Refused,
        false if exact => Normalised::Exact(Value::Array(values)),
        false => Normalised::Verbatim(Value::Array(values)),
    }
}

/// The first alternative that reads the words exactly, plain text tried last; else the first that takes them at all.
fn alternatives(raw: &str, schema: &Value, now: &Zoned, depth: usize) -> Normalised {
    let named: Vec<Value> = match (schema.get("anyOf").or_else(|| schema.get("oneOf")), schema.get("type")) {
        (Some(Value::Array(schemas)), _) => {
            schemas.iter().filter(|one| one.get("type").is_none_or(|name| name != "null")).cloned().collect()
        }
        (_, Some(Value::Array(names))) => {
            names.iter().filter(|name| *name != "null").map(|name| serde_json::json!({"type": name})).collect()
        }
        _ => return Normalised::Refused,
    };
    let (plain, recognisable): (Vec<&Value>, Vec<&Value>) =
        named.iter().partition(|one| matches!(kind(one), Kind::Text));
    let mut fallback = Normalised::Refused;
    for one in recognisable.into_iter().chain(plain) {
        match read(raw, one, now, depth - 1) {
            exact @ Normalised::Exact(_) => return exact,
            verbatim @ Normalised::Verbatim(_) if fallback == Normalised::Refused => fallback = verbatim,
            _ => {}
        }
    }
    fallback
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// A Tuesday.
    fn now() -> Zoned {
        "2026-03-03T10:20:00[UTC]".parse().expect("a valid time")
    }

    fn check(schema: Value, cases: &[(&str, Value)]) {
        for (raw, expected) in cases {
            assert_eq!(normalise(raw, &schema, &now()), Normalised::Exact(expected.clone()), "{raw:?} as {schema}");
        }
    }

    fn refused(schema: Value, cases: &[&str]) {
        for raw in cases {
            assert_eq!(normalise(raw, &schema, &now()), Normalised::Refused, "{raw:?} as {schema}");
        }
    }

    #[test]
    fn numbers() {
        let cases = [
            ("7", json!(7)),
            ("twenty one", json!(21)),
            ("twenty-one", json!(21)),
            ("a hundred and five", json!(105)),
            ("fifty percent", json!(50)),
            ("50%", json!(50)),
            ("to 5 please", json!(5)),
            ("1,200", json!(1200)),
            ("third", json!(3)),
            ("21st", json!(21)),
            ("second", json!(2)),
            ("minus three", json!(-3)),
            ("a dozen", json!(12)),
            ("two dozen", json!(24)),
            ("a couple", json!(2)),
            ("3 million", json!(3_000_000)),
            ("20 degrees", json!(20)),
        ];
        check(json!({"type": "integer"}), &cases);
        check(
            json!({"type": "number"}),
            &[
                ("three point five", json!(3.5)),
                ("2.25", json!(2.25)),
                ("two and a half", json!(2.5)),
                ("$9.99", json!(9.99)),
                ("seven", json!(7)),
                ("-4.5", json!(-4.5)),
                ("half", json!(0.5)),
            ],
        );
        refused(json!({"type": "integer"}), &["", "blue", "two or five", "2.5", "99999999999999999999999999"]);
    }

    #[test]
    fn choices() {
        let rooms = json!({"type": "string", "enum": ["living_room", "kitchen", "bedroom", "guest-bathroom"]});
        check(
            rooms.clone(),
            &[
                ("living room", json!("living_room")),
                ("the Living Room", json!("living_room")),
                ("kitchens", json!("kitchen")),
                ("guest bathroom", json!("guest-bathroom")),
                ("in the kitchen please", json!("kitchen")),
                ("kitchin", json!("kitchen")),
            ],
        );
        refused(rooms, &["garage", "kitchen or bedroom"]);
        check(json!({"enum": [1, 2, 3]}), &[("two", json!(2)), ("3", json!(3))]);
        check(
            json!({"type": "boolean"}),
            &[
                ("on", json!(true)),
                ("Off", json!(false)),
                ("yes please", json!(true)),
                ("no", json!(false)),
                ("turned off", json!(false)),
            ],
        );
        refused(json!({"type": "boolean"}), &["maybe"]);
    }

    #[test]
    fn dates() {
        let cases = [
            ("today", "2026-03-03"),
            ("tomorrow", "2026-03-04"),
            ("the day after tomorrow", "2026-03-05"),
            ("friday", "2026-03-06"),
            ("on friday", "2026-03-06"),
            ("this friday", "2026-03-06"),
            ("next friday", "2026-03-13"),
            ("tuesday", "2026-03-10"),
            ("march 5th", "2026-03-05"),
            ("the fifth of march", "2026-03-05"),
            ("the second of may", "2026-05-02"),
            ("1 march", "2027-03-01"),
            ("december 24 2030", "2030-12-24"),
            ("the 5th", "2026-03-05"),
            ("the 1st", "2026-04-01"),
            ("in three days", "2026-03-06"),
            ("in two weeks", "2026-03-17"),
            ("next week", "2026-03-10"),
            ("next month", "2026-04-03"),
            ("this weekend", "2026-03-07"),
            ("2026-12-01", "2026-12-01"),
            ("12/24/2026", "2026-12-24"),
            ("24/12/26", "2026-12-24"),
            ("on 2/3", "2027-02-03"),
            ("24.12.2026", "2026-12-24"),
            ("24 dec 2026", "2026-12-24"),
            ("yesterday", "2026-03-02"),
            ("three days ago", "2026-02-28"),
            ("later today", "2026-03-03"),
            ("thursday next week", "2026-03-12"),
            ("friday this week", "2026-03-06"),
            ("the 13th of this month", "2026-03-13"),
            ("the second of next month", "2026-04-02"),
        ];
        let schema = json!({"type": "string", "format": "date"});
        for (raw, expected) in cases {
            check(schema.clone(), &[(raw, json!(expected))]);
        }
        assert_eq!(normalise("whenever", &schema, &now()), Normalised::Verbatim(json!("whenever")));
        assert_eq!(normalise("february 31st", &schema, &now()), Normalised::Verbatim(json!("february 31st")));
    }

    #[test]
    fn times() {
        let cases = [
            ("seven", "07:00"),
            ("at seven", "07:00"),
            ("7:30 pm", "19:30"),
            ("7pm", "19:00"),
            ("7 p.m.", "19:00"),
            ("half past six", "06:30"),
            ("quarter to eight", "07:45"),
            ("a quarter past nine in the evening", "21:15"),
            ("twenty to five", "04:40"),
            ("ten past noon", "12:10"),
            ("noon", "12:00"),
            ("midnight", "00:00"),
            ("12 am", "00:00"),
            ("12 pm", "12:00"),
            ("seven thirty", "07:30"),
            ("seven oh five", "07:05"),
            ("seven o'clock", "07:00"),
            ("six in the morning", "06:00"),
            ("eight tonight", "20:00"),
            ("18:05", "18:05"),
            ("18.05", "18:05"),
            ("six forty five a.m.", "06:45"),
            ("in ten minutes", "10:30"),
        ];
        let schema = json!({"type": "string", "format": "time"});
        for (raw, expected) in cases {
            check(schema.clone(), &[(raw, json!(expected))]);
        }
        for raw in ["25:00", "later", "seventy", "thirteen pm"] {
            assert_eq!(normalise(raw, &schema, &now()), Normalised::Verbatim(json!(raw)));
        }
    }

    #[test]
    fn moments_and_durations() {
        check(
            json!({"type": "string", "format": "date-time"}),
            &[
                ("tomorrow at seven", json!("2026-03-04T07:00:00+00:00")),
                ("7 pm on friday", json!("2026-03-06T19:00:00+00:00")),
                ("next friday at noon", json!("2026-03-13T12:00:00+00:00")),
                ("at nine", json!("2026-03-04T09:00:00+00:00")),
                ("at eleven", json!("2026-03-03T11:00:00+00:00")),
                ("in two hours", json!("2026-03-03T12:20:00+00:00")),
                ("tomorrow evening at eight", json!("2026-03-04T20:00:00+00:00")),
            ],
        );
        let cases = [
            ("ten minutes", "PT10M"),
            ("for ten minutes", "PT10M"),
            ("an hour", "PT1H"),
            ("half an hour", "PT30M"),
            ("an hour and a half", "PT1H30M"),
            ("two and a half hours", "PT2H30M"),
            ("one hour and ten minutes", "PT1H10M"),
            ("90 seconds", "PT90S"),
            ("one second", "PT1S"),
            ("1h30", "PT1H30M"),
            ("10m", "PT10M"),
            ("three days", "P3D"),
            ("two weeks", "P2W"),
            ("a quarter of an hour", "PT15M"),
            ("PT5M", "PT5M"),
            ("1.5 hours", "PT1H30M"),
        ];
        let schema = json!({"type": "string", "format": "duration"});
        for (raw, expected) in cases {
            check(schema.clone(), &[(raw, json!(expected))]);
        }
        assert_eq!(normalise("a while", &schema, &now()), Normalised::Verbatim(json!("a while")));
    }

    #[test]
    fn lists_and_alternatives() {
        check(
            json!({"type": "array", "items": {"type": "string"}}),
            &[("milk, eggs and brown bread", json!(["milk", "eggs", "brown bread"])), ("salt", json!(["salt"]))],
        );
        check(json!({"type": "array", "items": {"type": "integer"}}), &[("two and three", json!([2, 3]))]);
        check(json!({"type": ["integer", "null"]}), &[("two", json!(2))]);
        check(json!({"type": ["string", "integer"]}), &[("two", json!(2)), ("blue", json!("blue"))]);
        check(
            json!({"anyOf": [{"type": "boolean"}, {"enum": ["dim"]}]}),
            &[("off", json!(false)), ("dim", json!("dim"))],
        );
        refused(json!({"type": "array", "items": {"type": "integer"}}), &["two and blue"]);
        refused(json!({"type": "object"}), &["a thing"]);
    }

    fn any_schema() -> impl Strategy<Value = Value> {
        prop::sample::select(vec![
            json!({"type": "string"}),
            json!({"type": "integer"}),
            json!({"type": "number"}),
            json!({"type": "boolean"}),
            json!({"enum": ["a", "living_room"]}),
            json!({"type": "array", "items": {"type": "integer"}}),
            json!({"type": "string", "format": "date"}),
            json!({"type": "string", "format": "time"}),
            json!({"type": "string", "format": "date-time"}),
            json!({"type": "string", "format": "duration"}),
        ])
    }

    proptest! {
        #[test]
        fn any_words_are_read_without_a_panic(raw in ".{0,60}", schema in any_schema()) {
            normalise(&raw, &schema, &now());
        }

        /// Words that the grammars know, in any order: more likely to reach their corners than random characters.
        #[test]
        fn known_words_in_any_order_are_read_without_a_panic(
            words in prop::collection::vec(prop::sample::select(vec![
                "next", "last", "in", "half", "past", "quarter", "to", "friday", "march", "31st", "two", "9999", "99999999999", "million", "weeks", "years",
                "ago", "am", "pm", "noon", "-", "and", "a", "second", "of", "point", "%", "12/31/9999", "-9999-01-01", "24:00", "from", "now", "é", "minus",
            ]), 0..8),
            schema in any_schema(),
        ) {
            normalise(&words.join(" "), &schema, &now());
        }
    }
}
