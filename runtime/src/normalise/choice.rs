//! One of a few: enumerations and booleans.

use serde_json::Value;

use super::{number, words::fold};

/// How alike (Damerau-Levenshtein, in [0, 1]) a misspelt word must be to the one it is taken for.
const MIN_SIMILARITY: f64 = 0.82;

/// The value of `enum` (or `const`) that the words name: by its folded name, else by containing exactly one of the
/// names, else by the one name that is spelt almost so.
pub(super) fn choose(raw: &str, schema: &Value, short: bool) -> Option<Value> {
    let single;
    let values = match (schema.get("enum"), schema.get("const")) {
        (Some(Value::Array(values)), _) => values.as_slice(),
        (_, Some(value)) => {
            single = [value.clone()];
            single.as_slice()
        }
        _ => return None,
    };
    let folded = fold(raw);
    let names: Vec<(String, &Value)> = values.iter().filter_map(|value| Some((fold(&name(value)?), value))).collect();
    if let Some((_, value)) = names.iter().find(|(name, _)| *name == folded) {
        return Some((*value).clone());
    }
    if !short {
        return None;
    }
    if let Some(number) = number::value(raw)
        && let Some(value) = values.iter().find(|value| value.as_f64() == Some(number))
    {
        return Some(value.clone());
    }
    let padded = format!(" {folded} ");
    let contained: Vec<_> =
        names.iter().filter(|(name, _)| !name.is_empty() && padded.contains(&format!(" {name} "))).collect();
    match contained.as_slice() {
        [(_, value)] => return Some((*value).clone()),
        [] => {}
        // "living room lights" names both `living_room` and `living_room_lights`: the longest, if it covers the others.
        several => return longest_covering(several),
    }
    let similar = |name: &str| strsim::normalized_damerau_levenshtein(name, &folded);
    let mut best: Vec<(f64, &Value)> = names
        .iter()
        .map(|(name, value)| (similar(name), *value))
        .filter(|(score, _)| *score >= MIN_SIMILARITY)
        .collect();
    best.sort_by(|a, b| b.0.total_cmp(&a.0));
    match best.as_slice() {
        [(first, value), (second, _), ..] if first > second => Some((*value).clone()),
        [(_, value)] => Some((*value).clone()),
        _ => None,
    }
}

fn longest_covering(several: &[&(String, &Value)]) -> Option<Value> {
    let (longest, value) = several.iter().max_by_key(|(name, _)| name.len())?;
    several.iter().all(|(name, _)| longest.contains(name.as_str())).then(|| (*value).clone())
}

fn name(value: &Value) -> Option<String> {
    match value {
        Value::String(name) => Some(name.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// Yes or no, on or off, in the words people use.
pub(super) fn boolean(raw: &str) -> Option<bool> {
    const YES: [&str; 13] =
        ["yes", "yeah", "yep", "yup", "true", "on", "sure", "ok", "okay", "enable", "enabled", "activate", "activated"];
    const NO: [&str; 10] =
        ["no", "nope", "nah", "false", "off", "disable", "disabled", "deactivate", "deactivated", "not"];
    const MAX_WORDS: usize = 4;
    let folded = raw.to_lowercase();
    let words: Vec<&str> = folded.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    if words.len() > MAX_WORDS {
        return None;
    }
    let yes = words.iter().any(|word| YES.contains(word));
    let no = words.iter().any(|word| NO.contains(word));
    (yes != no).then_some(yes)
}
