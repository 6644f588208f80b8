//! Whether a turn accepts, declines, closes or asks, from the words it begins with.

use super::lexicon::{is_sequence, lower_words};

/// How a turn takes what was said before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stance {
    /// "yes please", "sounds good".
    Accepting,
    /// "no", "not today".
    Declining,
    /// Neither.
    Open,
}

/// How a turn takes what was said before it.
pub(crate) fn stance(text: &str) -> Stance {
    const ACCEPTING: [&str; 16] = [
        "yes",
        "yeah",
        "yea",
        "yep",
        "yup",
        "sure",
        "ok",
        "okay",
        "alright",
        "great",
        "perfect",
        "fine",
        "good",
        "cool",
        "absolutely",
        "awesome",
    ];
    const DECLINING: [&str; 10] =
        ["no", "nope", "nah", "not", "actually", "don't", "nothing", "sorry", "wait", "rather"];
    const ACCEPTING_PHRASES: [&str; 40] = [
        "sounds good",
        "sounds great",
        "sounds fine",
        "sounds perfect",
        "sounds nice",
        "sounds like",
        "sounds awesome",
        "sounds interesting",
        "sounds lovely",
        "works for me",
        "that works",
        "that will work",
        "that would work",
        "it works",
        "will work",
        "would be great",
        "would be fine",
        "would be perfect",
        "is fine",
        "is good",
        "is perfect",
        "is great",
        "is correct",
        "is right",
        "that's good",
        "that's great",
        "that's fine",
        "that's perfect",
        "that's correct",
        "that's right",
        "that's okay",
        "go ahead",
        "of course",
        "please do",
        "do it",
        "all right",
        "i like",
        "i confirm",
        "i love",
        "looks good",
    ];
    let words = lower_words(text);
    let first = words.iter().find(|word| !matches!(word.as_str(), "oh" | "well" | "hmm" | "um" | "hey" | "please"));
    let Some(first) = first else { return Stance::Open };
    if DECLINING.contains(&first.as_str()) {
        return Stance::Declining;
    }
    let negated = words.iter().take(6).any(|word| matches!(word.as_str(), "not" | "don't" | "doesn't" | "isn't"));
    let accepts = ACCEPTING.contains(&first.as_str())
        || (!negated && ACCEPTING_PHRASES.iter().any(|phrase| is_sequence(&words, phrase, 8)));
    if accepts { Stance::Accepting } else { Stance::Open }
}

/// Whether a turn takes its leave: thanks, goodbye, "that's all".
pub(super) fn is_leave(text: &str) -> bool {
    const PHRASES: [&str; 32] = [
        "thanks",
        "thank",
        "bye",
        "goodbye",
        "that's all",
        "that is all",
        "that was all",
        "that'll be all",
        "thats all",
        "that will be all",
        "all set",
        "i'm good",
        "im good",
        "i am good",
        "nothing else",
        "nothing more",
        "all i need",
        "all for now",
        "that's it",
        "thats it",
        "that is it",
        "see ya",
        "have a nice",
        "have a good",
        "have a great",
        "i'm done",
        "im done",
        "i am done",
        "that'd be all",
        "that would be all",
        "no more",
        "i'm fine",
    ];
    let words = lower_words(text);
    PHRASES.iter().any(|phrase| is_sequence(&words, phrase, usize::MAX))
}

/// Whether a reply asks what else there is to do.
pub(super) fn asks_what_else(said: &str) -> bool {
    const ELSE: [&str; 10] =
        ["else", "further", "more", "assist", "assistance", "other", "additional", "help", "another", "today"];
    let Some(question) = super::lexicon::sentences(said).last() else { return false };
    let words = lower_words(question);
    let has = |list: &[&str]| words.iter().any(|word| list.contains(&word.as_str()));
    has(&ELSE)
        && has(&["anything", "something", "what", "any", "further", "more", "else", "how", "help", "assist"])
        && words.len() <= 14
}

/// Whether a reply offers to do something: "do you want to buy tickets?".
pub(super) fn offers(said: &str) -> Option<&str> {
    const OPENINGS: [&str; 20] = [
        "do you want",
        "would you like",
        "should i",
        "shall i",
        "do you need",
        "want me to",
        "can i",
        "may i",
        "would you want",
        "do you wish",
        "are you interested",
        "do you intend",
        "do you think",
        "do you plan",
        "would you care",
        "any plan",
        "i can",
        "are you going",
        "would you be",
        "could i",
    ];
    let question = super::lexicon::sentences(said).last()?;
    let words = lower_words(question);
    OPENINGS.iter().any(|opening| is_sequence(&words, opening, 5)).then_some(question)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stances() {
        for text in ["Yes, please.", "ok, that's fine", "That sounds great!", "I like that one", "please go ahead"] {
            assert_eq!(stance(text), Stance::Accepting, "{text}");
        }
        for text in ["no", "Nope; I'd like four", "Actually, make it two", "not today"] {
            assert_eq!(stance(text), Stance::Declining, "{text}");
        }
        for text in ["", "in the kitchen", "I do not like that", "what is the address?"] {
            assert_eq!(stance(text), Stance::Open, "{text}");
        }
    }

    #[test]
    fn closing_and_offering() {
        assert!(
            is_leave("No, that's all, thanks.") && !is_leave("all of them") && !is_leave("I would rather have a bike")
        );
        assert!(asks_what_else("Done. Can I help you with anything else?") && !asks_what_else("What time?"));
        assert_eq!(offers("Found it. Shall I buy tickets?"), Some("Shall I buy tickets?"));
        assert_eq!(offers("What time?"), None);
    }
}
