//! Numbers in digits or in words, cardinal or ordinal, with signs, percent and currency signs, halves and dozens.

use serde_json::Value;

use super::words::{ordinal, words};

/// Integers beyond this are not exact in a JSON number.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// The one whole number that the words name.
pub(super) fn integer(raw: &str) -> Option<Value> {
    let value = value(raw)?;
    (value.fract() == 0.0 && value.abs() <= MAX_EXACT).then_some(Value::from(value as i64))
}

/// The one number that the words name.
pub(super) fn number(raw: &str) -> Option<Value> {
    let value = value(raw)?;
    match value.fract() == 0.0 && value.abs() <= MAX_EXACT {
        true => Some(Value::from(value as i64)),
        false => serde_json::Number::from_f64(value).map(Value::Number),
    }
}

/// The number, when the words name exactly one and hardly anything else ("about 20 degrees").
pub(super) fn value(raw: &str) -> Option<f64> {
    const MAX_OTHER_WORDS: usize = 4;
    let words = words(raw);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut found = None;
    let mut others = 0;
    let mut at = 0;
    while at < words.len() {
        match leading(&words[at..]) {
            Some((value, used)) if found.is_none() => {
                found = Some(value);
                at += used;
            }
            Some(_) => return None,
            None => {
                others += 1;
                at += 1;
            }
        }
    }
    found.filter(|value: &f64| value.is_finite() && others <= MAX_OTHER_WORDS)
}

/// The number that the words start with, and how many words it takes.
pub(super) fn leading(words: &[&str]) -> Option<(f64, usize)> {
    match words {
        ["minus" | "negative" | "-", rest @ ..] => leading(rest).map(|(value, used)| (-value, used + 1)),
        ["a" | "an", "half", ..] => Some((0.5, 2)),
        ["a" | "an", "quarter", ..] => Some((0.25, 2)),
        ["a" | "an", "dozen", ..] => Some((12.0, 2)),
        ["a", "couple", ..] => Some((2.0, 2)),
        ["half", ..] => Some((0.5, 1)),
        ["quarter", ..] => Some((0.25, 1)),
        ["dozen", ..] => Some((12.0, 1)),
        ["couple", ..] => Some((2.0, 1)),
        ["second"] => Some((2.0, 1)),
        ["a" | "an" | "one", "hundred" | "thousand" | "million" | "billion", ..] => {
            leading(&words[1..]).map(|(value, used)| (value, used + 1))
        }
        ["hundred" | "thousand" | "million" | "billion", ..] => Some(fraction(1.0, words)),
        [first, rest @ ..] => {
            let value = plain(first)?;
            let (value, used) = fraction(value, rest);
            Some((value, used + 1))
        }
        [] => None,
    }
}

/// What may follow a number and change it: decimals in words, a half, a multiplier.
fn fraction(value: f64, rest: &[&str]) -> (f64, usize) {
    match rest {
        ["point", digits @ ..] => {
            let decimals: String =
                digits.iter().map_while(|word| word.bytes().all(|b| b.is_ascii_digit()).then_some(*word)).collect();
            let used = digits.iter().take_while(|word| word.bytes().all(|b| b.is_ascii_digit())).count();
            match format!("0.{decimals}").parse::<f64>() {
                Ok(decimals) if used > 0 => (value + decimals, used + 1),
                _ => (value, 0),
            }
        }
        ["and", "a", "half", ..] => (value + 0.5, 3),
        ["and", "a", "quarter", ..] => (value + 0.25, 3),
        ["dozen", ..] => (value * 12.0, 1),
        ["hundred", ..] => (value * 1e2, 1),
        ["thousand", ..] => (value * 1e3, 1),
        ["million", ..] => (value * 1e6, 1),
        ["billion", ..] => (value * 1e9, 1),
        _ => (value, 0),
    }
}

/// A number written in digits: `7`, `5th`, `-2.5`, `50%`, `$9.99`.
fn plain(word: &str) -> Option<f64> {
    if let Some((value, _)) = ordinal(word) {
        return Some(value as f64);
    }
    let (sign, word) = match word.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, word),
    };
    let word = word.trim_start_matches(['$', '€', '£', '+']).trim_end_matches(['%', '€', '$', '£']);
    let numeric =
        word.starts_with(|c: char| c.is_ascii_digit()) && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    numeric.then(|| word.parse::<f64>().ok()).flatten().map(|value| sign * value)
}
