//! Words of a span: lower case, without punctuation, numbers in digits; and the ways to compare and split them.

use text2num::{lang::English, text2digits};

/// Longest number in words, in words: "nine hundred and ninety nine thousand nine hundred and ninety nine".
const MAX_NUMBER_WORDS: usize = 9;

/// Lower-case words without surrounding punctuation, with numbers in digits ("twenty one" is `21`, "fifth" is `5th`).
///
/// "second" stays a word, because it is a unit as often as an ordinal.
pub(super) fn words(raw: &str) -> Vec<String> {
    digits(&plain_words(raw))
}

fn plain_words(raw: &str) -> Vec<String> {
    let lower = raw
        .to_lowercase()
        .replace("a.m.", "am")
        .replace("p.m.", "pm")
        .replace("a.m", "am")
        .replace("p.m", "pm")
        .replace('’', "'");
    let mut words = Vec::new();
    for piece in lower.split(|c: char| c.is_whitespace() || c == ',' && !lower_is_grouped(&lower)) {
        let piece =
            piece.trim_matches(|c: char| !c.is_alphanumeric() && !matches!(c, '-' | '%' | '$' | '€' | '£' | '+'));
        let hyphenated = piece.contains('-') && piece.chars().all(|c| c.is_alphabetic() || c == '-');
        match hyphenated {
            true => words.extend(piece.split('-').filter(|word| !word.is_empty()).map(str::to_owned)),
            false => split_units(piece, &mut words),
        }
    }
    words
}

/// Whether a comma may be a thousands separator ("1,200") rather than punctuation.
fn lower_is_grouped(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.windows(3).any(|three| three[0].is_ascii_digit() && three[1] == b',' && three[2].is_ascii_digit())
}

/// `7pm` into `7`, `pm`; `1h30` into `1`, `h`, `30`; `1,200` into `1200`; `5th` and `7:30` stay whole.
fn split_units(piece: &str, words: &mut Vec<String>) {
    const UNITS: [&str; 12] = ["am", "pm", "h", "hr", "hrs", "m", "min", "mins", "s", "sec", "secs", "d"];
    if piece.is_empty() {
        return;
    }
    let numeric = |c: char| c.is_ascii_digit() || matches!(c, ':' | '.');
    let mut parts: Vec<String> = Vec::new();
    for c in piece.chars().filter(|c| *c != ',') {
        match parts.last_mut() {
            Some(last) if last.ends_with(numeric) == numeric(c) => last.push(c),
            _ => parts.push(c.to_string()),
        }
    }
    let splits =
        parts.len() > 1 && parts.iter().all(|part| part.chars().all(numeric) || UNITS.contains(&part.as_str()));
    match splits {
        true => words.extend(parts),
        false => words.push(piece.chars().filter(|c| *c != ',').collect()),
    }
}

fn digits(words: &[String]) -> Vec<String> {
    let english = English::new();
    let mut found = Vec::with_capacity(words.len());
    let mut at = 0;
    while at < words.len() {
        let longest = words.len().min(at + MAX_NUMBER_WORDS);
        let number = (at + 1..=longest).rev().find_map(|end| Some((end, number_in_words(&words[at..end], &english)?)));
        match number {
            Some((end, number)) => {
                found.push(number);
                at = end;
            }
            None => {
                found.push(words[at].clone());
                at += 1;
            }
        }
    }
    found
}

fn number_in_words(words: &[String], english: &English) -> Option<String> {
    let wordy = |word: &String| {
        word.chars().all(|c| c.is_ascii_alphabetic())
            && !matches!(word.as_str(), "second" | "seconds" | "o" | "oh" | "point" | "minus")
    };
    if !words.iter().all(wordy) || words.first().is_some_and(|word| is_multiplier(word)) && words.len() == 1 {
        return None;
    }
    let bordered_by_and =
        words.first().is_some_and(|word| word == "and") || words.last().is_some_and(|word| word == "and");
    if bordered_by_and {
        return None;
    }
    text2digits(&words.join(" "), english).ok()
}

/// "3 million" and "a hundred": the number before decides.
fn is_multiplier(word: &str) -> bool {
    matches!(word, "hundred" | "thousand" | "million" | "billion")
}

/// The number a word starts with and whether it is an ordinal: `5th` is (5, true).
pub(super) fn ordinal(word: &str) -> Option<(i64, bool)> {
    let end = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
    let (number, rest) = word.split_at(end);
    let is_ordinal = match rest {
        "" => false,
        "st" | "nd" | "rd" | "th" => true,
        _ => return None,
    };
    Some((number.parse().ok()?, is_ordinal))
}

/// A form in which spellings of the same name are equal: lower case, `_` and `-` as spaces, no articles, no plurals.
pub(super) fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    let lower = text.to_lowercase();
    for word in lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !matches!(*word, "" | "the" | "a" | "an")) {
        if !folded.is_empty() {
            folded.push(' ');
        }
        folded.push_str(singular(word));
    }
    folded
}

fn singular(word: &str) -> &str {
    match word.strip_suffix('s') {
        Some(stem) if word.len() > 3 && !stem.ends_with(['s', 'u', 'i']) => stem,
        _ => word,
    }
}

/// The parts of an enumeration in a sentence: split at commas, semicolons, "and", "&" and "plus".
pub(super) fn split_list(raw: &str) -> impl Iterator<Item = &str> {
    raw.split([',', ';', '&', '\n']).flat_map(split_at_and).map(str::trim).filter(|part| !part.is_empty())
}

fn split_at_and(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        // ASCII only, so the lowered text has the same byte offsets.
        let lower = text.to_ascii_lowercase();
        let lower = lower.as_str();
        let trimmed = lower.trim_start();
        let leading = lower.len() - trimmed.len();
        if let Some(after) = trimmed.strip_prefix("and ") {
            rest = Some(&text[text.len() - after.len()..]);
            return Some(&text[..leading]);
        }
        match lower.find(" and ").or_else(|| lower.find(" plus ")) {
            Some(at) => {
                let skip = if lower[at..].starts_with(" and ") { " and ".len() } else { " plus ".len() };
                rest = Some(&text[at + skip..]);
                Some(&text[..at])
            }
            None => Some(text),
        }
    })
}
