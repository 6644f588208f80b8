//! Greetings, thanks and goodbyes: said for politeness, meant for nothing.

use super::phrases::{Phrases, first_word, words};

/// What a courtesy wants to hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Courtesy {
    /// "hello", "good morning"
    Greeting,
    /// "how are you?"
    WellBeing,
    /// "thank you", "well done"
    Thanks,
    /// "bye", "good night"
    Farewell,
    /// "okay", "I see"
    Acknowledgement,
}

impl Courtesy {
    /// The courtesy that a text consists of, and of nothing else.
    pub fn of(text: &str) -> Option<Self> {
        const MAX_WORDS: usize = 8;
        // Most turns begin with another word, and need not be taken apart.
        first_word(text).filter(|first| TEXTS.any_begins_with(first))?;
        let words = words(text);
        let words: Vec<&str> = words.iter().map(|(_, _, word)| word.as_str()).collect();
        if words.is_empty() || words.len() > MAX_WORDS {
            return None;
        }
        // Courtesies come one after another: "hi, how are you", "okay thanks bye". The last one wants a reply,
        // but "how are you" wants one before any thanks.
        let (mut at, mut found) = (0, None);
        while at < words.len() {
            let (kind, length) = PHRASES
                .iter()
                // Most begin otherwise.
                .filter(|(phrase, _)| phrase.starts_with(words[at]))
                .filter_map(|(phrase, kind)| {
                    let length = phrase.split(' ').count();
                    let here = words.get(at..at + length)?;
                    phrase.split(' ').eq(here.iter().copied()).then_some((*kind, length))
                })
                .max_by_key(|(_, length)| *length)?;
            found = match (found, kind) {
                (Some(Self::WellBeing), Some(Self::Thanks | Self::Greeting) | None) => found,
                (Some(_), Some(Self::Acknowledgement) | None) => found,
                (_, Some(kind)) => Some(kind),
                (None, None) => None,
            };
            at += length;
        }
        found
    }

    /// What is replied.
    pub fn reply(self) -> &'static str {
        match self {
            Self::Greeting => "Hello! What can I do for you?",
            Self::WellBeing => "I'm ready. What can I do for you?",
            Self::Thanks => "You're welcome.",
            Self::Farewell => "Goodbye.",
            Self::Acknowledgement => "All right.",
        }
    }
}

/// The texts of [`PHRASES`].
static TEXTS: Phrases<{ PHRASES.len() }> = {
    let mut texts = [""; PHRASES.len()];
    let mut at = 0;
    while at < texts.len() {
        texts[at] = PHRASES[at].0;
        at += 1;
    }
    Phrases::new(texts)
};

/// The phrases; those without a kind only go along with others.
const PHRASES: [(&str, Option<Courtesy>); 64] = {
    use Courtesy::{Acknowledgement, Farewell, Greeting, Thanks, WellBeing};
    [
        ("hello", Some(Greeting)),
        ("hi", Some(Greeting)),
        ("hey", Some(Greeting)),
        ("howdy", Some(Greeting)),
        ("greetings", Some(Greeting)),
        ("good morning", Some(Greeting)),
        ("good afternoon", Some(Greeting)),
        ("good evening", Some(Greeting)),
        ("good day", Some(Greeting)),
        ("nice to meet you", Some(Greeting)),
        ("pleased to meet you", Some(Greeting)),
        ("how are you", Some(WellBeing)),
        ("how are you doing", Some(WellBeing)),
        ("how are things", Some(WellBeing)),
        ("how is it going", Some(WellBeing)),
        ("how's it going", Some(WellBeing)),
        ("how do you do", Some(WellBeing)),
        ("what's up", Some(WellBeing)),
        ("thanks", Some(Thanks)),
        ("thanks a lot", Some(Thanks)),
        ("thanks so much", Some(Thanks)),
        ("thank you", Some(Thanks)),
        ("thank you so much", Some(Thanks)),
        ("thank you very much", Some(Thanks)),
        ("many thanks", Some(Thanks)),
        ("cheers", Some(Thanks)),
        ("much appreciated", Some(Thanks)),
        ("i appreciate it", Some(Thanks)),
        ("well done", Some(Thanks)),
        ("good job", Some(Thanks)),
        ("that's great", Some(Acknowledgement)),
        ("that's all", Some(Acknowledgement)),
        ("that is all", Some(Acknowledgement)),
        ("that will be all", Some(Acknowledgement)),
        ("bye", Some(Farewell)),
        ("bye bye", Some(Farewell)),
        ("goodbye", Some(Farewell)),
        ("good bye", Some(Farewell)),
        ("good night", Some(Farewell)),
        ("see you", Some(Farewell)),
        ("see you later", Some(Farewell)),
        ("see you soon", Some(Farewell)),
        ("have a nice day", Some(Farewell)),
        ("have a good day", Some(Farewell)),
        ("take care", Some(Farewell)),
        ("okay", Some(Acknowledgement)),
        ("ok", Some(Acknowledgement)),
        ("alright", Some(Acknowledgement)),
        ("all right", Some(Acknowledgement)),
        ("i see", Some(Acknowledgement)),
        ("got it", Some(Acknowledgement)),
        ("great", Some(Acknowledgement)),
        ("nice", Some(Acknowledgement)),
        ("cool", Some(Acknowledgement)),
        ("perfect", Some(Acknowledgement)),
        ("awesome", Some(Acknowledgement)),
        ("wonderful", Some(Acknowledgement)),
        ("excellent", Some(Acknowledgement)),
        ("there", None),
        ("again", None),
        ("today", None),
        ("mynah", None),
        ("everyone", None),
        ("for your help", None),
    ]
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn courtesies_and_nothing_else() {
        let cases = [
            ("Hello!", Some(Courtesy::Greeting)),
            ("hi there", Some(Courtesy::Greeting)),
            ("Hi, how are you today?", Some(Courtesy::WellBeing)),
            ("okay, thanks. Bye!", Some(Courtesy::Farewell)),
            ("great, thank you so much for your help", Some(Courtesy::Thanks)),
            ("thanks, great", Some(Courtesy::Thanks)),
            ("OK", Some(Courtesy::Acknowledgement)),
            ("", None),
            ("again", None),
            ("hello world", None),
            ("thanks, now turn the light off", None),
            ("good night light on", None),
            ("say hello", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Courtesy::of(text), expected, "{text:?}");
        }
    }
}
