//! Stretches of a turn's words that could be a name: by capitals, by the word before, or as the rest of an answer.

use super::lexicon::is_small;
use super::stance::is_leave;
use crate::extract::Text;
use crate::normalise::MONTHS;

/// Why a stretch of words could be a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SpanKind {
    /// It is written with capitals.
    Capital,
    /// It follows a word that values follow ("in", "by", "called").
    Following,
    /// It is what is left of a sentence without its opening.
    Rest,
}

/// A stretch of words, both ends included.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub first: usize,
    pub last: usize,
    pub kind: SpanKind,
}

/// A text with its sentences.
pub(super) struct Words {
    pub text: Text,
    /// The number of each word's sentence.
    sentence: Vec<usize>,
    /// Whether the sentence asks for information.
    asking: Vec<bool>,
    /// Whether the sentence takes leave.
    leaving: Vec<bool>,
    spans: Vec<Span>,
}

impl Words {
    pub fn new(text: &str) -> Self {
        let text = Text::new(text);
        let mut sentence = Vec::with_capacity(text.word_count());
        let mut asking = Vec::new();
        let mut number = 0;
        for word in 0..text.word_count() {
            let gap = text.gap_before(word);
            let after_word = word.checked_sub(1).is_some_and(|before| text.lower(before).len() > 2);
            let ends = gap.iter().any(|c| matches!(c, '!' | '?' | ';'))
                || (gap.contains(&'.') && (gap.len() > 2 || text.is_capital(word) || after_word));
            if word > 0 && ends {
                number += 1;
            }
            sentence.push(number);
        }
        let count = text.word_count();
        for one in 0..=number {
            let first = sentence.iter().position(|of| *of == one).unwrap_or(count);
            let last = sentence.iter().rposition(|of| *of == one).unwrap_or(count);
            asking.push(first < count && asks(&text, first, last));
        }
        let leaving = (0..=number)
            .map(|one| {
                let said: Vec<&str> =
                    (0..count).filter(|word| sentence[*word] == one).map(|word| text.lower(word)).collect();
                is_leave(&said.join(" "))
            })
            .collect();
        let mut words = Self { text, sentence, asking, leaving, spans: Vec::new() };
        words.spans = words.find_spans();
        words
    }

    /// All stretches.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Whether the sentence of a word asks for information.
    pub fn asks(&self, word: usize) -> bool {
        self.asking[self.sentence[word]]
    }

    /// Whether the sentence of a word takes leave.
    pub fn leaves(&self, word: usize) -> bool {
        self.leaving[self.sentence[word]]
    }

    pub fn crosses_sentence(&self, first: usize, last: usize) -> bool {
        self.sentence[first] != self.sentence[last]
    }

    /// The words before and behind a stretch, within its sentence.
    pub fn around(&self, first: usize, last: usize, before: usize, behind: usize) -> Vec<String> {
        let same = |word: &usize| self.sentence[*word] == self.sentence[first];
        let left = (first.saturating_sub(before)..first).filter(same);
        let right = (last + 1..(last + 1 + behind).min(self.text.word_count())).filter(same);
        left.chain(right).map(|word| self.text.lower(word).to_owned()).collect()
    }

    /// The word before a stretch that is no article.
    pub fn before(&self, first: usize) -> Option<&str> {
        let mut at = first;
        while at > 0 {
            at -= 1;
            if self.sentence[at] != self.sentence[first] {
                return None;
            }
            match self.text.lower(at) {
                "the" | "a" | "an" => {}
                word => return Some(word),
            }
        }
        None
    }

    fn find_spans(&self) -> Vec<Span> {
        let mut spans = self.capitals();
        let count = self.text.word_count();
        let covered = |spans: &[Span], word: usize| spans.iter().any(|span| span.first <= word && word <= span.last);
        let mut more = Vec::new();
        for word in 0..count {
            if !LEADING.contains(&self.text.lower(word)) || covered(&spans, word) {
                continue;
            }
            let mut first = word + 1;
            while first < count && matches!(self.text.lower(first), "the" | "a" | "an") {
                first += 1;
            }
            let end = self.end_of_value(first);
            if end > first && !covered(&spans, first) {
                more.push(Span { first, last: end - 1, kind: SpanKind::Following });
            }
        }
        for sentence in 0..self.asking.len() {
            more.extend(self.rest(sentence));
        }
        spans.append(&mut more);
        spans
    }

    /// Where a value that begins here ends: before a small word, a punctuation mark or a break.
    fn end_of_value(&self, first: usize) -> usize {
        const MAX_WORDS: usize = 4;
        let count = self.text.word_count();
        let mut end = first;
        while end < count && end - first < MAX_WORDS {
            let broken =
                end > first && (self.sentence[end] != self.sentence[first] || self.text.gap_before(end).contains(&','));
            if broken || STOPS.contains(&self.text.lower(end)) || is_small(self.text.lower(end)) {
                break;
            }
            end += 1;
        }
        end
    }

    /// Runs of words with capitals, joined by "of", "the", "&" and the like.
    fn capitals(&self) -> Vec<Span> {
        let count = self.text.word_count();
        let mut spans: Vec<Span> = Vec::new();
        let mut word = 0;
        while word < count {
            let is_first = word == 0 || self.sentence[word - 1] != self.sentence[word];
            let begins = self.is_name(word) && (!is_first || self.stands_for_name(word));
            if !begins {
                word += 1;
                continue;
            }
            let first = word;
            let mut last = word;
            let mut next = word + 1;
            while next < count && self.sentence[next] == self.sentence[first] {
                let lower = self.text.lower(next);
                let gap = self.text.gap_before(next);
                let comma = gap.contains(&',') || gap.contains(&';');
                if (self.is_name(next) || (lower.chars().all(|c| c.is_ascii_digit() || c == '#') && !comma))
                    && (!comma || (self.is_name(next) && lower.len() <= 3))
                {
                    last = next;
                } else if comma
                    || !matches!(lower, "of" | "the" | "de" | "la" | "le" | "for" | "on" | "to" | "in" | "vs" | "at")
                    || next - last > 2
                {
                    break;
                } else if matches!(lower, "for" | "on" | "to" | "in" | "at") {
                    // "Fly to Rome" is no name, "Taken in Rome" may be.
                    break;
                }
                next += 1;
            }
            spans.push(Span { first, last, kind: SpanKind::Capital });
            word = last + 1;
        }
        spans
    }

    fn is_name(&self, word: usize) -> bool {
        const NO_NAMES: [&str; 22] = [
            "i",
            "i'm",
            "i'd",
            "i'll",
            "i've",
            "ok",
            "okay",
            "yes",
            "no",
            "monday",
            "tuesday",
            "wednesday",
            "thursday",
            "friday",
            "saturday",
            "sunday",
            "am",
            "pm",
            "please",
            "thanks",
            "thank",
            "can",
        ];
        let lower = self.text.lower(word);
        self.text.is_capital(word) && !NO_NAMES.contains(&lower) && !MONTHS.contains(&lower)
    }

    /// Whether the first word of a sentence, which always has a capital, is part of a name.
    fn stands_for_name(&self, word: usize) -> bool {
        let lower = self.text.lower(word);
        if is_small(lower) || STARTERS.contains(&lower) {
            return false;
        }
        let next = word + 1;
        let in_sentence = next < self.text.word_count() && self.sentence[next] == self.sentence[word];
        !in_sentence || self.is_name(next) || self.text.gap_before(next).contains(&',')
    }

    /// What a sentence says beside its opening ("I would like …", "… please").
    fn rest(&self, sentence: usize) -> Option<Span> {
        const MAX_WORDS: usize = 6;
        let mut first = self.sentence.iter().position(|of| *of == sentence)?;
        let mut last = self.sentence.iter().rposition(|of| *of == sentence)?;
        let opening = |word: &str| is_small(word) || STARTERS.contains(&word) || OPENINGS.contains(&word);
        while first <= last && opening(self.text.lower(first)) {
            first += 1;
        }
        while last >= first
            && last > 0
            && (is_small(self.text.lower(last))
                || matches!(
                    self.text.lower(last),
                    "thanks" | "thank" | "then" | "instead" | "one" | "ones" | "good" | "great" | "fine"
                ))
        {
            last -= 1;
        }
        (first <= last && last - first < MAX_WORDS).then_some(Span { first, last, kind: SpanKind::Rest })
    }
}

/// Whether a sentence asks for information rather than for something to be done.
fn asks(text: &Text, first: usize, last: usize) -> bool {
    const ASKING: [&str; 16] = [
        "what", "what's", "whats", "does", "do", "is", "are", "how", "where", "when", "who", "which", "tell", "did",
        "has", "how's",
    ];
    const REQUESTING: [&str; 10] =
        ["about", "find", "book", "reserve", "search", "anything", "something", "else", "other", "make"];
    let opens = (first..=last.min(first + 3)).any(|word| ASKING.contains(&text.lower(word)));
    let requests = (first..=last).any(|word| REQUESTING.contains(&text.lower(word)));
    let mark = text.gap_before(last + 1).contains(&'?');
    mark && opens && !requests
}

/// Whether a word is no value by itself: small words, openings, talk.
pub(super) fn is_plain(word: &str) -> bool {
    const TALK: [&str; 24] = [
        "else",
        "another",
        "one",
        "ones",
        "correct",
        "right",
        "yup",
        "it",
        "them",
        "that",
        "options",
        "option",
        "other",
        "others",
        "more",
        "different",
        "new",
        "too",
        "all",
        "total",
        "details",
        "thing",
        "choice",
        "time",
    ];
    is_small(word)
        || STARTERS.contains(&word)
        || OPENINGS.contains(&word)
        || STOPS.contains(&word)
        || TALK.contains(&word)
}

/// Words that a value follows.
const LEADING: [&str; 20] = [
    "in",
    "to",
    "from",
    "at",
    "near",
    "around",
    "by",
    "called",
    "named",
    "starring",
    "with",
    "titled",
    "for",
    "watch",
    "play",
    "song",
    "like",
    "featuring",
    "of",
    "some",
];

/// Words that no value goes on with.
const STOPS: [&str; 24] = [
    "and", "or", "please", "but", "then", "instead", "that", "today", "tomorrow", "tonight", "next", "starting",
    "leaving", "going", "because", "since", "as", "near", "around", "called", "named", "thanks", "also", "too",
];

/// Words that a sentence opens with.
const STARTERS: [&str; 64] = [
    "yes",
    "yeah",
    "yep",
    "no",
    "nope",
    "ok",
    "okay",
    "sure",
    "great",
    "good",
    "perfect",
    "fine",
    "alright",
    "well",
    "hmm",
    "hi",
    "hello",
    "hey",
    "find",
    "show",
    "search",
    "look",
    "looking",
    "book",
    "reserve",
    "make",
    "get",
    "give",
    "tell",
    "try",
    "actually",
    "sorry",
    "just",
    "maybe",
    "also",
    "but",
    "then",
    "now",
    "only",
    "let's",
    "lets",
    "i'd",
    "i'm",
    "i'll",
    "i've",
    "we",
    "we'd",
    "we're",
    "it's",
    "that's",
    "what's",
    "change",
    "check",
    "buy",
    "play",
    "transfer",
    "set",
    "add",
    "how's",
    "sounds",
    "nothing",
    "something",
    "anything",
    "thanks",
];

/// Words between the opening and the value.
const OPENINGS: [&str; 40] = [
    "prefer",
    "love",
    "looking",
    "think",
    "go",
    "going",
    "find",
    "see",
    "try",
    "interested",
    "mood",
    "city",
    "kind",
    "type",
    "enjoy",
    "really",
    "rather",
    "maybe",
    "search",
    "want",
    "wish",
    "live",
    "visit",
    "check",
    "was",
    "thinking",
    "should",
    "must",
    "leave",
    "leaving",
    "departing",
    "fly",
    "flying",
    "travel",
    "traveling",
    "call",
    "send",
    "eat",
    "hoping",
    "heading",
];
