//! Several calls in one turn: "lights off and set an alarm for six".
//!
//! A turn is cut at conjunctions and punctuation only where every part is understood as a call by itself, surely, and the whole
//! is not better as one: what a single argument says ("play rock and roll", "remind me to buy milk and call mum") is never cut.
//! A turn without a conjunction costs nothing, nor does one that something before it decides, or one of which nothing after a
//! conjunction may be a wish by its first words; of the others what follows the conjunctions is predicted first, and mostly
//! settles it.
//!
//! Invariant: the parts are stretches of the turn's text in its order, and the slots of their calls count through that text.

use super::super::context::Context;
use super::Turn;
use super::linked::offset;
use crate::decision::{Decider, Decision};
use crate::functions::{Argument, Draft};
use crate::memory::{head, opening_word};
use crate::mynah::{Mynah, Understanding};
use crate::normalise::is_recognisable;

/// Places at which a turn may be cut; a text with more of them is rather a story than a list of wishes.
const MAX_BREAKS: usize = 3;

/// Words of the shortest part.
const MIN_PART_WORDS: usize = 2;

/// How sure the function head has to be of a part: a guess, not yet measured with a trained head. [`VOTE_MARGIN`] was chosen on
/// the validation texts of SNIPS and MASSIVE, which are one wish each; see BENCHMARKS.md.
const MIN_CONFIDENCE: f32 = 0.8;

/// How much nearer than a whole turn a part has to be to an example of its function, unless it begins as one does.
const VOTE_MARGIN: f32 = 0.06;

/// A stretch of the text between two breaks, and whatever was understood of it.
struct Part<'a> {
    text: &'a str,
    first: usize,
    last: usize,
    understanding: Understanding<'a>,
}

impl Mynah {
    /// The functions that a text asks for when it stands alone, in order: none, one, or several in one sentence.
    pub fn functions_asked(&self, text: &str) -> Vec<String> {
        let (loaded, now) = (self.loaded(), self.now());
        let context = Context::default();
        let turn = Turn {
            loaded: &loaded,
            handlers: &self.inner().handlers,
            policy: &self.inner().policy,
            now: &now,
            text,
            context: &context,
        };
        let whole = turn.understand();
        if let Some(drafts) = turn.several(&whole) {
            return drafts.into_iter().map(|draft| draft.function).collect();
        }
        match whole.decision {
            Decision::Call { function, .. } => vec![function],
            _ => Vec::new(),
        }
    }
}

/// A stretch of the text that may be a wish: its first and last piece.
type Place<'a> = (&'a str, usize, usize);

impl<'t> Turn<'t> {
    /// What is understood of the text as one.
    pub(super) fn understand(&self) -> Understanding<'t> {
        self.loaded.understand(self.text)
    }

    /// The calls of a turn that asks for several, in order; `None` when it is one wish.
    pub(super) fn several(&self, whole: &Understanding) -> Option<Vec<Draft>> {
        // Without any function no part can be a call, and predicting them all costs as much as the whole did.
        if whole.evidence.exact.is_some() || !self.loaded.knows_functions() {
            return None;
        }
        let text = head(self.text);
        let (places, breaks) = places(text, |from, piece| self.may_follow(from, piece, whole))?;
        let (first, later): (Vec<Place<'_>>, Vec<Place<'_>>) =
            places.into_iter().partition(|(_, first, _)| *first == 0);
        let mut parts = self.sure(later);
        let is_followed = |last: usize| parts.iter().any(|part| part.first == last + 1);
        let first = first.into_iter().filter(|(_, _, last)| is_followed(*last)).collect();
        parts.extend(self.sure(first));
        // The most parts first.
        let mut cuts: Vec<u32> = (1..1_u32 << breaks).collect();
        cuts.sort_by_key(|cut| std::cmp::Reverse(cut.count_ones()));
        cuts.into_iter().find_map(|cut| self.drafts(&side_by_side(&parts, breaks, cut)?, whole))
    }

    /// The calls of parts that cover the whole text; `None` when some are better as one.
    fn drafts(&self, parts: &[&Part<'_>], whole: &Understanding) -> Option<Vec<Draft>> {
        if parts.windows(2).any(|two| self.belongs_together(whole, two[0], two[1])) {
            return None;
        }
        let mut drafts: Vec<Draft> = Vec::new();
        for part in parts {
            let mut draft = self.loaded.draft(function(part)?, part.text, &part.understanding, self.now);
            let by = offset(self.text, part.text);
            for argument in draft.arguments.iter_mut().filter(|argument| argument.end > argument.start) {
                (argument.start, argument.end) = (argument.start + by, argument.end + by);
            }
            drafts.push(draft);
        }
        self.share(&mut drafts);
        are_different(&drafts).then_some(drafts)
    }

    /// Whether the text from a piece on may begin with a wish by itself: whatever [`Self::belongs_together`] asks of the words
    /// alone, and for the same wish again that the whole is understood as one.
    fn may_follow(&self, from: &str, piece: &str, whole: &Understanding) -> bool {
        let opens = |word: String| {
            self.loaded.memory.opens_any(&word) || self.loaded.has_function_that(|name| is_verb_of(name, &word))
        };
        !points_back(piece) && (function_of(&whole.decision).is_some() || opening_word(from).is_some_and(opens))
    }

    /// Those of the places that are surely a call by themselves.
    fn sure<'a>(&self, places: Vec<Place<'a>>) -> Vec<Part<'a>>
    where
        't: 'a,
    {
        let texts: Vec<&str> = places.iter().map(|(text, ..)| *text).collect();
        let predictions = self.loaded.model.predict_batch(&texts);
        let parts = places.into_iter().zip(predictions).map(|((text, first, last), prediction)| {
            let understanding = self.loaded.understand_predicted(text, prediction);
            Part { text, first, last, understanding }
        });
        parts.filter(|part| self.is_sure(part)).collect()
    }

    fn is_sure(&self, part: &Part<'_>) -> bool {
        let Decision::Call { function, decider, confidence } = &part.understanding.decision else { return false };
        match decider {
            Decider::Memory(_) => true,
            Decider::Head => *confidence >= MIN_CONFIDENCE.max(self.loaded.thresholds.act),
            Decider::Vote(_) if self.opens(function, part.text) => true,
            Decider::Vote(_) => *confidence >= self.loaded.thresholds.vote + VOTE_MARGIN,
        }
    }

    /// Whether two parts are better as one: an argument of the whole reaches over the break, and what follows the break does
    /// not begin as its function's examples do, or is itself what is to be reminded of, noted or said.
    fn belongs_together(&self, whole: &Understanding, left: &Part<'_>, right: &Part<'_>) -> bool {
        let (Some(before), Some(after)) = (function(left), function(right)) else { return true };
        if points_back(right.text) {
            return true;
        }
        if !self.opens(after, right.text) {
            // "the bedroom lights" after "turn on the kitchen lights": the same wish for another thing.
            let said = self.loaded.draft(after, right.text, &right.understanding, self.now);
            if before != after || said.arguments.is_empty() {
                return true;
            }
        }
        let text = head(self.text);
        let end = offset(text, left.text) + left.text.chars().count();
        let start = offset(text, right.text);
        let own = match &whole.decision {
            Decision::Call { function, .. } => self.loaded.draft(function, text, whole, self.now).arguments,
            _ => Vec::new(),
        };
        let reaches = |from: usize, to: usize| from < end && to > start;
        let over =
            own.iter().find(|argument| reaches(argument.start, argument.end)).map(|argument| argument.start).or_else(
                || whole.prediction.slots.iter().find(|slot| reaches(slot.start, slot.end)).map(|slot| slot.start),
            );
        let says_on =
            says_on(left.text) && !text_between(text, end, start).contains(',') && !self.is_complete(before, left);
        says_on || (over.is_some() && before == after)
    }

    /// Whether a part has said what it wants said and goes on with another argument: "remind me to feed the cat at seven".
    fn is_complete(&self, function: &str, part: &Part<'_>) -> bool {
        let Some(tool) = self.loaded.toolbox.get(function) else { return false };
        let draft = self.loaded.draft(function, part.text, &part.understanding, self.now);
        let is_words =
            |argument: &&Argument| tool.parameter(&argument.name).is_some_and(|one| !is_recognisable(&one.schema));
        let Some(words) = draft.arguments.iter().find(is_words) else { return false };
        draft.arguments.iter().any(|other| other.start >= words.end && !is_words(&other))
    }

    /// Whether words begin as an example of the function does, or with the verb of its name.
    fn opens(&self, function: &str, text: &str) -> bool {
        opening_word(text).is_some_and(|word| is_verb_of(function, &word) || self.loaded.memory.opens(function, &word))
    }

    /// What one part says of a function counts for the next of the same function where that says nothing.
    fn share(&self, drafts: &mut [Draft]) {
        for at in 0..drafts.len() {
            let neighbours = [at.checked_sub(1), Some(at + 1).filter(|next| *next < drafts.len())];
            let lent: Vec<Argument> = neighbours
                .into_iter()
                .flatten()
                .filter(|other| drafts[*other].function == drafts[at].function)
                .flat_map(|other| drafts[other].arguments.clone())
                .collect();
            for argument in lent {
                if drafts[at].missing.contains(&argument.name) {
                    self.loaded.toolbox.set(&mut drafts[at], argument.carried());
                }
            }
        }
    }
}

fn function<'p>(part: &'p Part<'_>) -> Option<&'p str> {
    function_of(&part.understanding.decision)
}

fn function_of(decision: &Decision) -> Option<&str> {
    match decision {
        Decision::Call { function, .. } => Some(function),
        _ => None,
    }
}

/// Whether the name of a function begins with a word: `play_music` with "play".
fn is_verb_of(function: &str, word: &str) -> bool {
    function.split(['_', '-']).next().is_some_and(|verb| verb.eq_ignore_ascii_case(word))
}

/// The parts between the breaks that are cut at, bit by bit; `None` when one of them is no call by itself.
fn side_by_side<'p, 'a>(parts: &'p [Part<'a>], breaks: usize, cut: u32) -> Option<Vec<&'p Part<'a>>> {
    let mut chosen = Vec::new();
    let mut first = 0;
    for last in 0..=breaks {
        if last == breaks || cut & (1 << last) != 0 {
            chosen.push(parts.iter().find(|part| (part.first, part.last) == (first, last))?);
            first = last + 1;
        }
    }
    Some(chosen)
}

/// The characters from `end` up to `start`, and the one before them.
fn text_between(text: &str, end: usize, start: usize) -> String {
    text.chars().skip(end.saturating_sub(1)).take(start + 1 - end).collect()
}

/// Two calls of one function with the same arguments are one wish said twice.
fn are_different(drafts: &[Draft]) -> bool {
    let said =
        |draft: &Draft| draft.arguments.iter().map(|one| (one.name.clone(), one.value.clone())).collect::<Vec<_>>();
    drafts.windows(2).all(|two| two[0].function != two[1].function || said(&two[0]) != said(&two[1]))
}

/// Whether what follows is likely the thing to be remembered, noted or told.
fn says_on(left: &str) -> bool {
    const TELLING: [&str; 18] = [
        "remind", "reminder", "remember", "note", "tell", "text", "message", "say", "saying", "says", "write", "email",
        "memo", "announce", "ask", "teach", "todo", "reply",
    ];
    left.split(|c: char| !c.is_alphanumeric()).any(|word| TELLING.iter().any(|one| word.eq_ignore_ascii_case(one)))
}

/// Whether words are about what was named before them: "… and play it".
fn points_back(text: &str) -> bool {
    const POINTERS: [&str; 7] = ["it", "them", "all", "this", "that", "these", "those"];
    let words = text.split(|c: char| !(c.is_alphanumeric() || c == '\'')).filter(|word| !word.is_empty());
    words.take(3).any(|word| POINTERS.iter().any(|pointer| word.eq_ignore_ascii_case(pointer)))
}

/// The parts that a text may be cut into, and at how many breaks; `None` when it is one. `may_begin` tells of the text from a
/// piece on, and of that piece, whether a part may begin with it.
fn places(text: &str, may_begin: impl Fn(&str, &str) -> bool) -> Option<(Vec<Place<'_>>, usize)> {
    let pieces = pieces(text);
    let end = pieces.len().checked_sub(1).filter(|breaks| *breaks > 0)?;
    let begins: Vec<bool> = pieces
        .iter()
        .enumerate()
        .map(|(at, (start, end))| at == 0 || may_begin(&text[*start..], &text[*start..*end]))
        .collect();
    let mut places = Vec::new();
    for first in (0..=end).filter(|first| begins[*first]) {
        for last in (first..=end).filter(|last| *last == end || begins[*last + 1]) {
            let part = &text[pieces[first].0..pieces[last].1];
            if (first, last) != (0, end) && part.split_whitespace().nth(MIN_PART_WORDS - 1).is_some() {
                places.push((part, first, last));
            }
        }
    }
    // "wake me at seven, please": one of the two parts is too short to be a wish.
    let whole = places.iter().any(|(_, first, _)| *first == 0) && places.iter().any(|(_, _, last)| *last == end);
    whole.then_some((places, end))
}

/// The byte ranges between the places where a text may be cut; one piece when there is none, or too many.
fn pieces(text: &str) -> Vec<(usize, usize)> {
    const JOINING: [&str; 6] = ["and", "then", "also", "plus", "afterwards", "&"];
    let mut pieces: Vec<(usize, usize)> = Vec::new();
    let mut piece: Option<(usize, usize)> = None;
    for (start, end) in words(text) {
        let bare = text[start..end].trim_matches(|c: char| !c.is_alphanumeric() && c != '&');
        let joins = JOINING.iter().any(|word| bare.eq_ignore_ascii_case(word));
        if joins {
            pieces.extend(piece.take());
            continue;
        }
        piece = Some((piece.map_or(start, |(first, _)| first), end));
        let last = text[start..end].chars().next_back();
        // "6. 30" and "St. Mary" are no ends of a wish; a comma, a semicolon or a full stop after a longer word may be.
        let ends = matches!(last, Some(',' | ';' | '!' | '?')) || (last == Some('.') && bare.chars().count() > 2);
        if ends {
            pieces.extend(piece.take());
        }
    }
    pieces.extend(piece);
    if pieces.len() > MAX_BREAKS + 1 || pieces.len() < 2 {
        return vec![(0, text.len())];
    }
    pieces
}

fn words(text: &str) -> impl Iterator<Item = (usize, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + text[at..].find(|c: char| !c.is_whitespace())?;
        let end = text[start..].find(char::is_whitespace).map_or(text.len(), |length| start + length);
        at = end;
        Some((start, end))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_text_is_cut_only_where_every_part_could_be_a_wish() {
        let texts = |text| {
            let begins = |_: &str, piece: &str| !points_back(piece);
            places(text, begins)
                .map(|(places, breaks)| (places.into_iter().map(|(text, ..)| text).collect::<Vec<_>>(), breaks))
        };
        assert_eq!(texts("lights off and play music"), Some((vec!["lights off", "play music"], 1)));
        assert_eq!(texts("lights off"), None);
        assert_eq!(texts("find that song and play it"), None, "no part begins after the break");
        let rest = vec!["find a song and play it,", "wake me"];
        assert_eq!(texts("find a song and play it, wake me"), Some((rest, 2)));
        assert_eq!(texts("wake me at seven, please"), None, "the last part is one word");
        assert_eq!(texts(""), None);
    }

    fn cut(text: &str) -> Vec<&str> {
        pieces(text).into_iter().map(|(start, end)| &text[start..end]).collect()
    }

    #[test]
    fn cut_at_conjunctions_and_punctuation() {
        assert_eq!(cut("lights off and set an alarm for six"), ["lights off", "set an alarm for six"]);
        assert_eq!(cut("turn on the lamp, then play jazz"), ["turn on the lamp,", "play jazz"]);
        assert_eq!(cut("Lights off. Then play jazz & wake me"), ["Lights off.", "play jazz", "wake me"]);
        for one in ["", "play jazz", "wake me at 6.30", "and", "a and b and c and d and e"] {
            assert_eq!(cut(one), [one]);
        }
    }

    #[test]
    fn what_is_to_be_remembered_is_said_on() {
        assert!(says_on("Remind me to buy milk") && !says_on("play some music"));
        assert!(points_back("play it loud") && !points_back("play some jazz"));
    }

    proptest! {
        #[test]
        fn pieces_are_in_order(text in "([a-c]{1,3}|and|then|[,.;&é ]){0,20}") {
            let pieces = pieces(&text);
            prop_assert!(!pieces.is_empty());
            for two in pieces.windows(2) {
                prop_assert!(two[0].1 <= two[1].0);
            }
            for (start, end) in pieces {
                prop_assert!(text.get(start..end).is_some());
            }
        }
    }
}
