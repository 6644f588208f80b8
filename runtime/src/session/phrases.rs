//! The few phrases that are about the conversation rather than the world: yes, no, never mind, "no, the kitchen",
//! "what about tomorrow".
//!
//! Every function takes the turn's text and returns a part of that very text, so that offsets can be kept.

/// The words of a text that may be one of these phrases; a longer text is not.
const MAX_WORDS: usize = 24;

/// The words of a text with their place in bytes, in lower case; none when there are too many.
pub(super) fn words(text: &str) -> Vec<(usize, usize, String)> {
    let words: Vec<_> = each_word(text).take(MAX_WORDS + 1).collect();
    if words.len() > MAX_WORDS { Vec::new() } else { words }
}

/// The first of them, in the same form.
pub(super) fn first_word(text: &str) -> Option<String> {
    each_word(text).next().map(|(_, _, word)| word)
}

fn each_word(text: &str) -> impl Iterator<Item = (usize, usize, String)> {
    let mut start = None;
    text.char_indices().chain([(text.len(), ' ')]).filter_map(move |(at, character)| {
        let inside = character.is_alphanumeric() || matches!(character, '\'' | '’');
        match (inside, start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                start = None;
                return Some((from, at, text[from..at].to_lowercase().replace('’', "'")));
            }
            _ => {}
        }
        None
    })
}

/// Phrases, in lower case and one space between words.
pub(super) struct Phrases<const N: usize> {
    all: [&'static str; N],
    /// For each letter that a phrase begins with, the lengths of the first words, a bit each: most turns begin with another
    /// word, and this says so without a look at the phrases.
    first: [u32; LETTERS],
}

const LETTERS: usize = 32;

impl<const N: usize> Phrases<N> {
    pub const fn new(all: [&'static str; N]) -> Self {
        let mut first = [0; LETTERS];
        let mut at = 0;
        while at < N {
            let phrase = all[at].as_bytes();
            let mut length = 0;
            while length < phrase.len() && phrase[length] != b' ' {
                length += 1;
            }
            first[phrase[0] as usize % LETTERS] |= 1 << (length % 32);
            at += 1;
        }
        Self { all, first }
    }

    /// Whether a word, in lower case, is the first of any phrase.
    pub fn any_begins_with(&self, word: &str) -> bool {
        let lengths = word.bytes().next().map_or(0, |letter| self.first[usize::from(letter) % LETTERS]);
        lengths & 1 << (word.len() % 32) != 0 && self.all.iter().any(|phrase| begins_with(phrase, word))
    }

    /// Whether a text is one of the phrases, politeness aside.
    fn has(&self, text: &str) -> bool {
        let polite = |word: &str| matches!(word, "please" | "thanks" | "thank" | "you" | "oh" | "ok" | "okay" | "just");
        // Most texts begin with another word, and need not be taken apart.
        let Some(first) = first_word(text) else { return false };
        let bare = || each_word(text).map(|(_, _, word)| word).find(|word| !polite(word));
        let begins =
            self.any_begins_with(&first) || (polite(&first) && bare().is_some_and(|word| self.any_begins_with(&word)));
        if !begins {
            return false;
        }
        let words = words(text);
        let said: Vec<&str> = words.iter().map(|(_, _, word)| word.as_str()).collect();
        let bare: Vec<&str> = said.iter().copied().filter(|word| !polite(word)).collect();
        let matches = |words: &[&str]| {
            !words.is_empty() && self.all.iter().any(|phrase| phrase.split(' ').eq(words.iter().copied()))
        };
        matches(&said) || matches(&bare)
    }
}

/// Whether a word is the first of a phrase.
fn begins_with(phrase: &str, word: &str) -> bool {
    phrase.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

/// "never mind" and the like.
pub(super) fn is_never_mind(text: &str) -> bool {
    static PHRASES: Phrases<8> = Phrases::new([
        "never mind",
        "nevermind",
        "forget it",
        "forget that",
        "forget about it",
        "never mind that",
        "leave it",
        "don't bother",
    ]);
    PHRASES.has(text)
}

/// What gives up a pending question: also words that mean something else when nothing is pending.
pub(super) fn is_cancel(text: &str) -> bool {
    static PHRASES: Phrases<12> = Phrases::new([
        "cancel",
        "cancel that",
        "cancel it",
        "stop",
        "stop it",
        "stop that",
        "abort",
        "no",
        "nope",
        "nothing",
        "not now",
        "no never mind",
    ]);
    is_never_mind(text) || PHRASES.has(text)
}

/// "do that again" and the like.
pub(super) fn is_again(text: &str) -> bool {
    static PHRASES: Phrases<14> = Phrases::new([
        "again",
        "do that again",
        "do it again",
        "do this again",
        "once again",
        "once more",
        "one more time",
        "same again",
        "the same again",
        "do the same again",
        "repeat that",
        "repeat it",
        "and again",
        "do that once more",
    ]);
    PHRASES.has(text)
}

/// Whether a text holds back although it begins with a yes: "ok wait", "sure, but later".
pub(super) fn hesitates(text: &str) -> bool {
    const HOLDING: [&str; 16] = [
        "not", "don't", "dont", "wait", "hold", "later", "but", "no", "never", "stop", "cancel", "instead", "except",
        "first", "what", "why",
    ];
    let words = words(text);
    words.is_empty()
        || words.iter().any(|(_, _, word)| HOLDING.contains(&word.as_str()))
        || text.trim_end().ends_with('?')
}

/// Yes or no to a question that asks for one; `None` for anything else.
pub(super) fn yes_or_no(text: &str) -> Option<bool> {
    static YES: Phrases<19> = Phrases::new([
        "yes",
        "yeah",
        "yep",
        "yup",
        "sure",
        "ok",
        "okay",
        "do it",
        "go ahead",
        "of course",
        "correct",
        "right",
        "that's right",
        "please do",
        "yes do it",
        "yes sure",
        "absolutely",
        "sounds good",
        "yes that's right",
    ]);
    static NO: Phrases<12> = Phrases::new([
        "no",
        "nope",
        "nah",
        "don't",
        "do not",
        "no don't",
        "no thanks",
        "no thank you",
        "better not",
        "rather not",
        "wrong",
        "no way",
    ]);
    match () {
        () if YES.has(text) => Some(true),
        () if NO.has(text) => Some(false),
        () => None,
    }
}

/// Something added to what was said before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link<'a> {
    /// "no, the kitchen": the last call was wrong; the rest says what is right.
    Correction(&'a str),
    /// "and tomorrow?": the last call again, with the rest changed.
    FollowUp(&'a str),
}

/// How a text is linked to the turn before by its first words.
pub(super) fn link(text: &str) -> Option<Link<'_>> {
    static CORRECTIONS: Phrases<18> = Phrases::new([
        "no i meant",
        "no i mean",
        "no i said",
        "no make it",
        "no make that",
        "i meant",
        "i mean",
        "i said",
        "sorry i meant",
        "sorry",
        "not that",
        "no",
        "nope",
        "actually",
        "wait",
        "rather",
        "make it",
        "make that",
    ]);
    static FOLLOW_UPS: Phrases<14> = Phrases::new([
        "and what about",
        "what about",
        "how about",
        "and how about",
        "and also",
        "and then",
        "and",
        "also",
        "then",
        "but",
        "yes but",
        "ok but",
        "okay but",
        "yes and",
    ]);
    let first = first_word(text)?;
    if !CORRECTIONS.any_begins_with(&first) && !FOLLOW_UPS.any_begins_with(&first) {
        return None;
    }
    let words = words(text);
    let rest = |phrase: &str| {
        let mut count = 0;
        for (index, word) in phrase.split(' ').enumerate() {
            if words.get(index).is_none_or(|(_, _, said)| said != word) {
                return None;
            }
            count = index + 1;
        }
        let (start, ..) = words.get(count)?;
        let (_, end, _) = words.last()?;
        Some(&text[*start..*end])
    };
    let longest = |phrases: &[&str]| {
        phrases
            .iter()
            .filter_map(|phrase| Some((phrase.len(), rest(phrase)?)))
            .max_by_key(|(length, _)| *length)
            .map(|(_, rest)| rest)
    };
    longest(&CORRECTIONS.all).map(Link::Correction).or_else(|| longest(&FOLLOW_UPS.all).map(Link::FollowUp))
}

/// A value without the small words before it: "in the kitchen" is about the kitchen.
pub(super) fn without_small_words(text: &str) -> &str {
    const SMALL: [&str; 16] =
        ["in", "on", "at", "for", "to", "the", "a", "an", "with", "from", "of", "by", "it's", "is", "it", "instead"];
    let words = words(text);
    let is_small = |word: &String| SMALL.contains(&word.as_str());
    let first = words.iter().position(|(_, _, word)| !is_small(word));
    let last = words.iter().rposition(|(_, _, word)| !is_small(word));
    match (first, last) {
        (Some(first), Some(last)) => &text[words[first].0..words[last].1],
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_words_of_phrases_are_known() {
        static PHRASES: Phrases<3> = Phrases::new(["never mind", "nope", "i'm done"]);
        assert!(["never", "nope", "i'm"].iter().all(|word| PHRASES.any_begins_with(word)));
        assert!(
            ["", "neve", "never mind", "nopes", "mind", "n", "é"].iter().all(|word| !PHRASES.any_begins_with(word))
        );
    }

    #[test]
    fn cancelling() {
        for text in ["never mind", "Oh, never mind!", "Forget it, thanks.", "nevermind"] {
            assert!(is_never_mind(text), "{text}");
        }
        assert!(is_cancel("stop") && !is_never_mind("stop"));
        for text in ["", "mind", "never mind the gap", "stop the music"] {
            assert!(!is_cancel(text), "{text}");
        }
    }

    #[test]
    fn the_same_again() {
        assert!(is_again("Do that again, please!") && is_again("once more"));
        assert!(!is_again("again and again") && !is_again("play it again sam"));
        assert!(hesitates("ok wait") && hesitates("sure, but not now") && !hesitates("yes please go ahead"));
    }

    #[test]
    fn yes_and_no() {
        assert_eq!(yes_or_no("Yes, please!"), Some(true));
        assert_eq!(yes_or_no("OK"), Some(true));
        assert_eq!(yes_or_no("no thanks"), Some(false));
        assert_eq!(yes_or_no("yes but at eight"), None);
        assert_eq!(yes_or_no(""), None);
    }

    #[test]
    fn links_to_the_turn_before() {
        let cases = [
            ("no, the kitchen!", Some(Link::Correction("the kitchen"))),
            ("No, I meant eight", Some(Link::Correction("eight"))),
            ("I said the bedroom.", Some(Link::Correction("the bedroom"))),
            ("and tomorrow?", Some(Link::FollowUp("tomorrow"))),
            ("And what about next friday", Some(Link::FollowUp("next friday"))),
            ("no", None),
            ("", None),
            ("nothing else", None),
            ("android", None),
        ];
        for (text, expected) in cases {
            assert_eq!(link(text), expected, "{text:?}");
        }
        assert_eq!(without_small_words("in the kitchen instead"), "kitchen");
        assert_eq!(without_small_words("the"), "the");
    }

    proptest! {
        #[test]
        fn the_rest_is_part_of_the_text(text in "(no|and|i meant|what about)?[ ,]?.{0,30}") {
            is_cancel(&text);
            yes_or_no(&text);
            if let Some(Link::Correction(rest) | Link::FollowUp(rest)) = link(&text) {
                prop_assert!(text.contains(rest) && !rest.is_empty());
            }
            prop_assert!(text.contains(without_small_words(&text)));
        }
    }
}
