//! Utterances with inline arguments: `wake me at [seven](time)`.
//!
//! `\[`, `\]` and `\\` stand for the characters themselves. A bracket that starts no argument is an error rather than
//! text, because it nearly always is a typing mistake.

use crate::example::Slot;

/// Why an utterance with inline arguments cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InlineError {
    /// A `[` without its `]`.
    #[error("the `[` at character {at} is never closed")]
    Unclosed {
        /// The bracket's place, in characters from 1.
        at: usize,
    },
    /// A `[…]` that no `(name)` follows.
    #[error("no `(name)` follows `[{surface}]`")]
    NoName {
        /// What stands between the brackets.
        surface: String,
    },
    /// Nothing between the brackets.
    #[error("the argument `{name}` has no words")]
    Empty {
        /// The argument's name.
        name: String,
    },
    /// A `[` inside of `[…]`.
    #[error("the `[` at character {at} is inside of another argument")]
    Nested {
        /// The bracket's place, in characters from 1.
        at: usize,
    },
}

impl InlineError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        "write an argument as [its words](its_name), and a plain bracket as \\[".to_owned()
    }
}

/// Reads an utterance with inline arguments.
///
/// # Errors
/// The first bracket that is no argument.
pub fn parse_inline(marked: &str) -> Result<(String, Vec<Slot>), InlineError> {
    let mut text = String::with_capacity(marked.len());
    let mut slots = Vec::new();
    let mut length = 0;
    let mut characters = marked.chars().enumerate().peekable();
    while let Some((at, character)) = characters.next() {
        if character != '[' {
            text.push(unescaped(character, &mut characters));
            length += 1;
            continue;
        }
        let mut surface = String::new();
        loop {
            match characters.next() {
                None => return Err(InlineError::Unclosed { at: at + 1 }),
                Some((_, ']')) => break,
                Some((nested, '[')) => return Err(InlineError::Nested { at: nested + 1 }),
                Some((_, inner)) => surface.push(unescaped(inner, &mut characters)),
            }
        }
        let Some(name) = read_name(&mut characters) else {
            return Err(InlineError::NoName { surface });
        };
        if surface.trim().is_empty() {
            return Err(InlineError::Empty { name });
        }
        let start = length;
        length += surface.chars().count();
        text.push_str(&surface);
        slots.push(Slot { name, start, end: length, value: surface });
    }
    Ok((text, slots))
}

/// Writes an utterance with inline arguments, so that [`parse_inline`] reads the same again.
///
/// Arguments that do not fit the utterance are left out.
pub fn render_inline(text: &str, slots: &[Slot]) -> String {
    let mut sorted: Vec<&Slot> = slots.iter().collect();
    sorted.sort_by_key(|slot| (slot.start, slot.end));
    let length = text.chars().count();
    let mut marked = String::with_capacity(text.len() + 16 * slots.len());
    let mut characters = text.chars();
    let mut at = 0;
    for slot in sorted {
        if slot.start < at || slot.start >= slot.end || slot.end > length {
            continue;
        }
        push_escaped(&mut marked, characters.by_ref().take(slot.start - at));
        marked.push('[');
        push_escaped(&mut marked, characters.by_ref().take(slot.end - slot.start));
        marked.push_str("](");
        marked.push_str(&slot.name);
        marked.push(')');
        at = slot.end;
    }
    push_escaped(&mut marked, characters);
    marked
}

type Characters<'a> = std::iter::Peekable<std::iter::Enumerate<std::str::Chars<'a>>>;

fn unescaped(character: char, rest: &mut Characters<'_>) -> char {
    let escaped = |(_, next): &(usize, char)| matches!(next, '[' | ']' | '\\');
    match character {
        '\\' => rest.next_if(escaped).map_or('\\', |(_, next)| next),
        other => other,
    }
}

fn read_name(rest: &mut Characters<'_>) -> Option<String> {
    rest.next_if(|(_, next)| *next == '(')?;
    let mut name = String::new();
    loop {
        match rest.next()? {
            (_, ')') => break,
            (_, character) => name.push(character),
        }
    }
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

fn push_escaped(marked: &mut String, characters: impl Iterator<Item = char>) {
    for character in characters {
        if matches!(character, '[' | ']' | '\\') {
            marked.push('\\');
        }
        marked.push(character);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_with_their_places() {
        let (text, slots) = parse_inline(r"Réveille-moi à [sept heures](time) \[ok\] \x").unwrap();
        assert_eq!(text, r"Réveille-moi à sept heures [ok] \x");
        assert_eq!(slots, [Slot { name: "time".to_owned(), start: 15, end: 26, value: "sept heures".to_owned() }]);
        assert_eq!(parse_inline("a ] b").unwrap().0, "a ] b");
    }

    #[test]
    fn brackets_that_are_no_argument_are_named() {
        let mut rendered = String::new();
        for wrong in ["at [seven", "at [seven] am", "at [ ](time)", "[a [b](c)", "at [x]()"] {
            let error = parse_inline(wrong).unwrap_err();
            rendered.push_str(&format!("{wrong}: {error}\n"));
        }
        insta::assert_snapshot!(rendered, @r"
        at [seven: the `[` at character 4 is never closed
        at [seven] am: no `(name)` follows `[seven]`
        at [ ](time): the argument `time` has no words
        [a [b](c): the `[` at character 4 is inside of another argument
        at [x](): no `(name)` follows `[x]`
        ");
    }
}
