//! The commands inside a chat, and how a correction's words are found in what was said.

use mynah_data::{Correction, OUT_OF_SCOPE, Slot};

use crate::config::nearest;

/// What can be typed at the prompt, for `/help`.
pub const HELP: &str = "/why                              where the last reply comes from
/correct FUNCTION [name=value …]  what the last message meant; values are words of it, `none` is no function
/teach ANSWER                     the right answer to the last message
/good, /bad                       what you think of the last reply
/functions                        what Mynah can do
/versions                         the model versions
/quit                             end the conversation (so does the end of input)";

const NAMES: [&str; 9] = ["/why", "/correct", "/teach", "/good", "/bad", "/functions", "/versions", "/help", "/quit"];

/// One line of a chat.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// Nothing but white space.
    Nothing,
    /// Something to reply to.
    Message(String),
    /// `/why`.
    Why,
    /// `/correct`, with the function and the arguments as they were typed.
    Correct(String, Vec<(String, String)>),
    /// `/teach`.
    Teach(String),
    /// `/good`.
    Good,
    /// `/bad`.
    Bad,
    /// `/functions`.
    Functions,
    /// `/versions`.
    Versions,
    /// `/help`.
    Help,
    /// `/quit`.
    Quit,
    /// A command that is none, with what to say about it.
    Mistake(String),
}

/// Understands one line.
pub fn parse(line: &str) -> Said {
    let line = line.trim();
    if line.is_empty() {
        return Said::Nothing;
    }
    if !line.starts_with('/') {
        return Said::Message(line.to_owned());
    }
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    match name {
        "/why" => Said::Why,
        "/good" => Said::Good,
        "/bad" => Said::Bad,
        "/functions" => Said::Functions,
        "/versions" => Said::Versions,
        "/help" => Said::Help,
        "/quit" | "/exit" => Said::Quit,
        "/teach" if rest.is_empty() => {
            Said::Mistake("/teach needs the answer: /teach The key is under the mat.".to_owned())
        }
        "/teach" => Said::Teach(rest.to_owned()),
        "/correct" => match words(rest) {
            Ok(words) => correct(words),
            Err(mistake) => Said::Mistake(mistake),
        },
        _ => Said::Mistake(match nearest(name, NAMES.into_iter()) {
            Some(known) => format!("there is no {name}; did you mean {known}?"),
            None => format!("there is no {name}; /help lists what there is"),
        }),
    }
}

fn correct(words: Vec<String>) -> Said {
    let mut words = words.into_iter();
    let Some(function) = words.next() else {
        return Said::Mistake("/correct needs a function: /correct set_alarm time=\"half past six\"".to_owned());
    };
    let mut arguments = Vec::new();
    for word in words {
        match word.split_once('=') {
            Some((name, value)) if !name.is_empty() && !value.is_empty() => {
                arguments.push((name.to_owned(), value.to_owned()))
            }
            _ => {
                return Said::Mistake(format!(
                    "`{word}` is not name=value; put quotes around several words: time=\"half past six\""
                ));
            }
        }
    }
    Said::Correct(function, arguments)
}

/// Splits at white space outside of quotes; quotes are left out.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let (mut quote, mut started) = (None, false);
    for c in text.chars() {
        match quote {
            Some(end) if c == end => quote = None,
            Some(_) => word.push(c),
            // Only after `=` or at the start: an apostrophe inside a word is none.
            None if matches!(c, '"' | '\'') && (word.is_empty() || word.ends_with('=')) => {
                (quote, started) = (Some(c), true)
            }
            None if c.is_whitespace() => {
                if started {
                    words.push(std::mem::take(&mut word));
                    started = false;
                }
            }
            None => {
                word.push(c);
                started = true;
            }
        }
    }
    match quote {
        Some(quote) => Err(format!("a {quote} is not closed")),
        None => {
            if started {
                words.push(word);
            }
            Ok(words)
        }
    }
}

/// Makes a correction of what was said: every argument's words are looked for in the message.
///
/// # Errors
/// What to say when the words are not there.
pub fn correction(message: &str, function: &str, arguments: &[(String, String)]) -> Result<Correction, String> {
    if matches!(function, "none" | OUT_OF_SCOPE) {
        return match arguments {
            [] => Ok(Correction::Function { function: None, slots: None }),
            _ => Err("no function takes no arguments".to_owned()),
        };
    }
    let mut slots: Vec<Slot> = Vec::new();
    for (name, words) in arguments {
        let taken = |start: usize, end: usize| slots.iter().any(|slot| start < slot.end && slot.start < end);
        let (start, end) = find(message, words, taken).ok_or_else(|| {
            format!("`{words}` is not in what you said; the value of {name} has to be words of your message: {message}")
        })?;
        let value = message.chars().skip(start).take(end - start).collect();
        slots.push(Slot { name: name.clone(), start, end, value });
    }
    slots.sort_by_key(|slot| slot.start);
    let slots = if arguments.is_empty() { None } else { Some(slots) };
    Ok(Correction::Function { function: Some(function.to_owned()), slots })
}

/// Finds words in a message whatever their case, as whole words if possible; offsets in characters.
fn find(message: &str, words: &str, taken: impl Fn(usize, usize) -> bool) -> Option<(usize, usize)> {
    let same = |a: char, b: char| a == b || a.to_lowercase().eq(b.to_lowercase());
    let message: Vec<char> = message.chars().collect();
    let words: Vec<char> = words.chars().collect();
    let places: Vec<(usize, usize)> = (0..(message.len() + 1).saturating_sub(words.len()))
        .filter(|start| message[*start..].iter().zip(&words).all(|(a, b)| same(*a, *b)))
        .map(|start| (start, start + words.len()))
        .filter(|(start, end)| !taken(*start, *end))
        .collect();
    let letter = |index: Option<usize>| index.and_then(|index| message.get(index)).is_some_and(|c| c.is_alphanumeric());
    let whole = |(start, end): &&(usize, usize)| !letter(start.checked_sub(1)) && !letter(Some(*end));
    places.iter().find(whole).or(places.first()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(correction: Correction) -> Vec<(String, usize, usize, String)> {
        match correction {
            Correction::Function { slots: Some(slots), .. } => {
                slots.into_iter().map(|slot| (slot.name, slot.start, slot.end, slot.value)).collect()
            }
            _ => Vec::new(),
        }
    }

    #[test]
    fn lines_are_messages_or_commands() {
        assert_eq!(parse("  \t"), Said::Nothing);
        assert_eq!(parse(" wake me "), Said::Message("wake me".into()));
        assert_eq!(parse("/teach  It is here. "), Said::Teach("It is here.".into()));
        let arguments = vec![("time".to_owned(), "half past six".to_owned()), ("date".to_owned(), "monday".to_owned())];
        assert_eq!(
            parse("/correct set_alarm time=\"half past six\" date=monday"),
            Said::Correct("set_alarm".into(), arguments)
        );
        assert_eq!(parse("/qiut"), Said::Mistake("there is no /qiut; did you mean /quit?".into()));
        assert!(matches!(parse("/correct"), Said::Mistake(_)));
        assert!(matches!(parse("/correct f time"), Said::Mistake(_)));
        assert!(matches!(parse("/correct f a=\"b"), Said::Mistake(_)));
        assert_eq!(parse("/correct f who=mum's"), Said::Correct("f".into(), vec![("who".into(), "mum's".into())]));
    }

    #[test]
    fn the_words_of_an_argument_are_found_in_characters() {
        let found =
            correction("Café at Seven, not seven-thirty", "set_alarm", &[("time".into(), "seven".into())]).unwrap();
        assert_eq!(slots(found), [("time".into(), 8, 13, "Seven".into())]);
        let twice =
            correction("seven seven", "f", &[("a".into(), "seven".into()), ("b".into(), "seven".into())]).unwrap();
        assert_eq!(slots(twice), [("a".into(), 0, 5, "seven".into()), ("b".into(), 6, 11, "seven".into())]);
        assert!(correction("wake me", "f", &[("time".into(), "seven".into())]).is_err());
    }

    #[test]
    fn whole_words_come_first() {
        let found = correction("often at ten", "f", &[("time".into(), "ten".into())]).unwrap();
        assert_eq!(slots(found), [("time".into(), 9, 12, "ten".into())]);
    }

    #[test]
    fn none_is_no_function() {
        assert_eq!(correction("hm", "none", &[]).unwrap(), Correction::Function { function: None, slots: None });
        assert!(correction("hm", "none", &[("a".into(), "hm".into())]).is_err());
    }
}
