//! From what people type to a version: names, numbers, tags, aliases and starts of digests.
//!
//! Invariant: what is typed never means two things; a tag can be neither a name nor a digest ([`check_tag`]).

use crate::state::{Record, State};
use crate::{Error, Result};

/// How many digits of a digest name a version.
const SHORTEST_PREFIX: usize = 6;
/// The name of what is in production.
const PRODUCTION: &str = "production";
/// The name of the base registered last.
const BASE: &str = "base";

/// Finds the version a text means.
pub(crate) fn resolve<'a>(state: &'a State, wanted: &str) -> Result<&'a Record> {
    let name = wanted.trim().to_ascii_lowercase();
    match name.as_str() {
        PRODUCTION => return state.production().ok_or(Error::NoProduction),
        BASE => return state.base().ok_or(Error::NoBase),
        _ => {}
    }
    let by_number = || name.parse::<u64>().ok().and_then(|number| state.record(&format!("v{number}")));
    let by_tag = || state.tags.get(wanted.trim()).and_then(|name| state.record(name));
    if let Some(record) = state.record(&name).or_else(by_number).or_else(by_tag) {
        return Ok(record);
    }
    if is_digest_prefix(&name) {
        return by_digest(state, &name)?.ok_or_else(|| unknown(state, wanted));
    }
    Err(unknown(state, wanted))
}

fn by_digest<'a>(state: &'a State, prefix: &str) -> Result<Option<&'a Record>> {
    let mut found: Vec<&Record> = Vec::new();
    for record in state.records.iter().rev().filter(|record| record.manifest.to_string().starts_with(prefix)) {
        // Of several registrations of one digest, the one that is not deleted is meant, else the last.
        match found.iter_mut().find(|earlier| earlier.manifest == record.manifest) {
            Some(earlier) if earlier.deleted && !record.deleted => *earlier = record,
            Some(_) => {}
            None => found.push(record),
        }
    }
    match found.as_slice() {
        [] => Ok(None),
        [record] => Ok(Some(record)),
        several => Err(Error::AmbiguousDigest {
            prefix: prefix.to_owned(),
            names: several.iter().rev().map(|record| record.name.clone()).collect(),
        }),
    }
}

/// The error for a version nobody knows.
pub(crate) fn unknown(state: &State, wanted: &str) -> Error {
    Error::UnknownVersion { wanted: wanted.to_owned(), nearest: nearest(state, wanted) }
}

/// The known name with the fewest differences; of equally near ones the newest.
fn nearest(state: &State, wanted: &str) -> Option<String> {
    let wanted: Vec<char> = wanted.trim().to_lowercase().chars().take(80).collect();
    let names = state.records.iter().rev().filter(|record| !record.deleted).map(|record| record.name.as_str());
    let aliases = [(PRODUCTION, state.production()), (BASE, state.base())];
    let aliases = aliases.into_iter().filter_map(|(alias, record)| record.map(|_| alias));
    let known = names.chain(state.tags.keys().map(String::as_str)).chain(aliases);
    let (distance, name) =
        known.map(|name| (edit_distance(&wanted, name), name)).min_by_key(|(distance, _)| *distance)?;
    // With no letter in common a name is no suggestion.
    (distance < wanted.len().max(name.chars().count())).then(|| name.to_owned())
}

/// Levenshtein's distance: insertions, deletions and replacements of characters.
fn edit_distance(a: &[char], b: &str) -> usize {
    let mut row: Vec<usize> = (0..=a.len()).collect();
    for (above, b) in b.chars().flat_map(char::to_lowercase).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], above + 1);
        for (i, a) in a.iter().enumerate() {
            let replaced = diagonal + usize::from(*a != b);
            diagonal = row[i + 1];
            row[i + 1] = replaced.min(diagonal + 1).min(row[i] + 1);
        }
    }
    row[a.len()]
}

fn is_digest_prefix(text: &str) -> bool {
    (SHORTEST_PREFIX..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Checks that a text can be a tag and means nothing else.
pub(crate) fn check_tag(tag: &str) -> Result<()> {
    let is_numbered = |prefix: &str| {
        let rest = tag.to_ascii_lowercase();
        rest.strip_prefix(prefix).is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let reason = if tag.is_empty() {
        "it is empty"
    } else if tag.len() > 64 {
        "it is longer than 64 characters"
    } else if !tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        "it has other characters than letters, digits, '-', '_' and '.'"
    } else if tag.eq_ignore_ascii_case(PRODUCTION) || ["", "v", BASE].into_iter().any(is_numbered) {
        "it is, or could become, the name of a version"
    } else if is_digest_prefix(tag) {
        "it could be the start of a digest"
    } else {
        return Ok(());
    };
    Err(Error::InvalidTag { tag: tag.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        let distance = |a: &str, b| edit_distance(&a.chars().collect::<Vec<_>>(), b);
        assert_eq!(distance("", "v1"), 2);
        assert_eq!(distance("v1", ""), 2);
        assert_eq!(distance("v12", "v21"), 2);
        assert_eq!(distance("producton", "production"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn a_tag_means_nothing_else() {
        for tag in ["stable", "release-1", "before_summer", "1.0", "V1.0", "face", "deadbeef-x", "basement"] {
            assert!(check_tag(tag).is_ok(), "{tag}");
        }
        for tag in
            ["", "v", "v12", "V12", "12", "base", "base3", "Production", "deadbeef", "a b", "é", "a/b", &"x".repeat(65)]
        {
            assert!(check_tag(tag).is_err(), "{tag}");
        }
    }
}
