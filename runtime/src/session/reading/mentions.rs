//! Which words of a turn are which argument.
//!
//! Every stretch of words that could be a value is weighed against every argument that it could be: by its form, by the words
//! around it, by the question that the turn answers, by the tags of the argument head. The best pairs win.

use std::cell::OnceCell;

use jiff::Zoned;
use serde_json::Value;

use super::fit::{COUNTED, affinity, is_bare_hour, offers_choice, role};
use super::lexicon::{Cues, Kind, lower_words, same_stem, sentences};
use super::spans::{Span, SpanKind, Words};
use super::{TurnsBefore, parameters, spans, topic};
use crate::extract::Text;
use crate::functions::{Argument, Parameter};
use crate::mynah::{Loaded, Understanding};
use crate::normalise::{Normalised, is_recognisable};

/// Weights of what speaks for a pair of words and argument. These were set by hand, from statistics of the training dialogues of
/// `sgd_followups` and `sgd_corrections` and from what went wrong on their validation dialogues; see BENCHMARKS.md.
mod weight {
    /// A form that hardly anything else has.
    pub const FORM: f32 = 1.0;
    /// The question that the turn answers asks for the argument.
    pub const ASKED: f32 = 1.2;
    /// The argument head tagged the words.
    pub const TAGGED: f32 = 0.9;
    /// The words are in a question for information.
    pub const ASKING: f32 = 0.9;
    /// The least that is enough.
    pub const ENOUGH: f32 = 1.0;
}

/// Finds arguments in what is said.
pub(super) struct Finder<'a> {
    pub loaded: &'a Loaded,
    pub now: &'a Zoned,
    pub before: &'a TurnsBefore,
    parameters: Vec<(&'a Parameter, Cues)>,
    others: OnceCell<Vec<(&'a Parameter, Cues)>>,
    /// What the functions are about, in the words of their names and descriptions.
    matter: Vec<String>,
    /// Whether what a reply offered is looked for: names count only with capitals then.
    offering: bool,
    /// The argument that was asked for, where that is known.
    asked_for: Option<String>,
}

/// A stretch of words as an argument.
struct Mention {
    parameter: usize,
    first: usize,
    last: usize,
    value: Value,
    score: f32,
}

impl<'a> Finder<'a> {
    pub fn new(loaded: &'a Loaded, function: Option<&str>, before: &'a TurnsBefore, now: &'a Zoned) -> Self {
        let parameters = parameters(loaded, function).into_iter().map(|one| (one, Cues::new(one))).collect();
        let matter = loaded.toolbox.tools().flat_map(topic::own_words).collect();
        Self { loaded, now, before, parameters, others: OnceCell::new(), matter, offering: false, asked_for: None }
    }

    /// The same with an argument that was asked for.
    pub fn asked_for(self, name: &str) -> Self {
        Self { asked_for: Some(name.to_owned()), ..self }
    }

    /// The arguments that a turn says; those that are known with the same value are left out.
    pub fn find(&self, text: &str, said: &str, understanding: &Understanding) -> Vec<Argument> {
        let asked = self.asked(said);
        let words = Words::new(text);
        let mut mentions = Vec::new();
        for (index, (_, cues)) in self.parameters.iter().enumerate() {
            match cues.kind {
                Kind::Boolean => mentions.extend(self.yes_or_no(index, &words, asked[index])),
                Kind::Place | Kind::Person | Kind::Title | Kind::Text => {
                    self.free(index, &words, asked[index], &mut mentions)
                }
                _ => self.typed(index, &words, asked[index], &mut mentions),
            }
        }
        self.tagged(&words, understanding, &asked, &mut mentions);
        let mut arguments = self.chosen(&words.text, mentions);
        arguments.retain(|argument| !self.is_known(argument));
        arguments
    }

    /// How much the last reply asks for each of the parameters, in [0, 1].
    fn asked(&self, said: &str) -> Vec<f32> {
        let is_asked = |(parameter, _): &(&Parameter, Cues)| self.asked_for.as_deref() == Some(parameter.name.as_str());
        let mut asked: Vec<f32> = self.parameters.iter().map(|one| f32::from(u8::from(is_asked(one)))).collect();
        for sentence in sentences(said) {
            let words = lower_words(sentence);
            let asks = sentence.ends_with('?')
                || words.iter().take(3).any(|word| {
                    matches!(
                        word.as_str(),
                        "specify" | "tell" | "provide" | "what" | "which" | "when" | "where" | "how"
                    )
                });
            if !asks || words.is_empty() {
                continue;
            }
            let has = |list: &[&str]| words.iter().any(|word| list.contains(&word.as_str()));
            let scores: Vec<f32> = self
                .parameters
                .iter()
                .map(|(parameter, cues)| {
                    let form = match cues.kind {
                        Kind::Date => has(&["when", "date", "day", "dates", "days"]),
                        Kind::Time => has(&["time", "when", "hour", "oclock"]),
                        Kind::Number => has(&["many", "number"]),
                        Kind::Place => has(&["where", "city", "town", "area", "location", "place", "which city"]),
                        Kind::Person => has(&["who", "whom"]),
                        Kind::Duration => has(&["long"]),
                        Kind::Choice => offers_choice(parameter, sentence),
                        _ => false,
                    };
                    let missing = parameter.required && !self.has(&parameter.name);
                    cues.overlap(&words).min(2.0) + f32::from(u8::from(form)) + if missing { 0.25 } else { 0.0 }
                })
                .collect();
            let best = scores.iter().copied().fold(0.0, f32::max);
            for (asked, score) in asked.iter_mut().zip(scores) {
                if score >= 0.75 && score >= best - 0.5 {
                    *asked = asked.max((score / best).min(1.0));
                }
            }
        }
        asked
    }

    /// Numbers, dates, times and enumerations: whatever has the form.
    fn typed(&self, index: usize, words: &Words, asked: f32, mentions: &mut Vec<Mention>) {
        const MAX_WORDS: usize = 7;
        let (parameter, cues) = &self.parameters[index];
        let text = &words.text;
        let count = text.word_count();
        let mut taken: Vec<(usize, usize)> = Vec::new();
        for length in (1..=MAX_WORDS.min(count)).rev() {
            for first in 0..=count - length {
                let last = first + length - 1;
                if taken.iter().any(|&(start, end)| first <= end && last >= start)
                    || words.crosses_sentence(first, last)
                {
                    continue;
                }
                if text.read(parameter, first, last, self.now).is_none() {
                    continue;
                }
                let (first, last) = text.tightened(parameter, first, last, self.now);
                let Some(value) = text.read(parameter, first, last, self.now) else { continue };
                taken.push((first, last));
                if text.is_by_the_way(first, last) || words.leaves(first) {
                    continue;
                }
                if matches!(text.lower(first), "now" | "later") && asked < 0.5 {
                    continue;
                }
                let score = self.typed_score(cues, words, first, last, asked, count);
                mentions.push(Mention {
                    parameter: index,
                    first,
                    last,
                    value,
                    score: score + self.standing(parameter) + 0.02 * (last - first) as f32,
                });
            }
        }
    }

    fn typed_score(&self, cues: &Cues, words: &Words, first: usize, last: usize, asked: f32, count: usize) -> f32 {
        let around = words.around(first, last, 4, 3);
        let overlap = cues.overlap(&around).min(1.5);
        let mut score = weight::ASKED * asked + overlap;
        if words.asks(first) {
            score -= weight::ASKING;
        }
        match cues.kind {
            Kind::Number => {
                let counts_people =
                    |list: &[String]| list.iter().any(|word| COUNTED.iter().any(|one| same_stem(one, word)));
                if counts_people(&cues.words) && counts_people(&words.around(first, last, 0, 3)) {
                    score += 1.0;
                }
                let alone = self.parameters.iter().filter(|(_, other)| other.kind == Kind::Number).count() == 1;
                if alone && count <= last - first + 1 + 6 {
                    score += 0.7;
                }
            }
            Kind::Date | Kind::Time => {
                score += weight::FORM;
                let before = words.before(first);
                let of = |list: &[&str]| cues.words.iter().any(|word| list.contains(&word.as_str()));
                let starts = of(&["start", "pickup", "departure", "leaving", "outbound", "check_in", "checkin", "in"]);
                let ends = of(&["end", "return", "dropoff", "inbound", "checkout", "out", "returning"]);
                score += match before {
                    Some("from" | "starting" | "on") if starts => 0.3,
                    Some("to" | "until" | "till" | "through") if ends => 0.6,
                    Some("to" | "until" | "till" | "through") if starts => -0.3,
                    _ if ends => -0.1,
                    _ => 0.0,
                };
                let bare = last == first
                    && words.text.lower(first).chars().all(char::is_alphanumeric)
                    && is_bare_hour(words.text.lower(first));
                if cues.kind == Kind::Time && bare && asked < 0.5 && !matches!(before, Some("at" | "by" | "around")) {
                    score -= 1.0;
                }
            }
            _ => score += weight::FORM,
        }
        score
    }

    /// "with a garden", "no garden": an argument that is on or off is said by its name.
    fn yes_or_no(&self, index: usize, words: &Words, asked: f32) -> Option<Mention> {
        let (parameter, cues) = &self.parameters[index];
        let text = &words.text;
        let mut best: Option<Mention> = None;
        for at in 0..text.word_count() {
            let word = [text.lower(at).to_owned()];
            let overlap = cues.overlap(&word);
            if overlap < 0.5 || words.asks(at) {
                continue;
            }
            let near = words.around(at, at, 3, 2);
            let together = cues.overlap(&words.around(at, at, 2, 2)).min(1.0);
            let negated = near.iter().any(|word| {
                matches!(word.as_str(), "no" | "not" | "don't" | "without" | "doesn't" | "isn't" | "nor" | "dont")
            });
            let score = overlap + together + weight::ASKED * asked - 0.4;
            if best.as_ref().is_none_or(|best| score > best.score) {
                best = Some(Mention { parameter: index, first: at, last: at, value: Value::Bool(!negated), score });
            }
        }
        if best.is_none() && asked > 0.6 && text.word_count() > 0 {
            let value = match text.lower(0) {
                "yes" | "yeah" | "yep" | "sure" | "yup" | "ok" | "okay" | "true" | "on" => Some(true),
                "no" | "nope" | "nah" | "false" | "off" => Some(false),
                _ => None,
            };
            let read = || match parameter.read(&text.slot("", 0, text.word_count() - 1).value, self.now) {
                Some(Normalised::Exact(value)) => value.as_bool(),
                _ => None,
            };
            best = value.or_else(read).map(|value| Mention {
                parameter: index,
                first: 0,
                last: 0,
                value: Value::Bool(value),
                score: 1.2,
            });
        }
        best
    }

    /// Names and other words: what begins with a capital, follows a telling word, or is the whole answer.
    fn free(&self, index: usize, words: &Words, asked: f32, mentions: &mut Vec<Mention>) {
        let (parameter, cues) = &self.parameters[index];
        for span in words.spans() {
            let Span { first, last, kind } = *span;
            let around = words.around(first, last, 3, 2);
            let mut score = match kind {
                SpanKind::Capital => 0.5,
                SpanKind::Following => 0.15,
                SpanKind::Rest => 0.1,
            };
            score += weight::ASKED * asked
                + cues.overlap(&around).min(1.0)
                + role(cues, words.before(first))
                + self.standing(parameter);
            if words.asks(first) {
                score -= weight::ASKING;
            }
            if words.leaves(first) || self.is_talk(words, first, last) {
                continue;
            }
            if (kind == SpanKind::Rest && asked < 0.5) || (self.offering && kind != SpanKind::Capital) {
                continue;
            }
            if kind == SpanKind::Capital && matches!(cues.kind, Kind::Text) && asked < 0.5 {
                score -= 0.4;
            }
            mentions.extend(self.mention(index, words, first, last, score));
        }
    }

    /// What the argument head tagged, also under another name that fits.
    fn tagged(&self, words: &Words, understanding: &Understanding, asked: &[f32], mentions: &mut Vec<Mention>) {
        for slot in &understanding.prediction.slots {
            let Some((first, last)) = words.text.covered(slot) else { continue };
            let tag = lower_words(&slot.name.replace('_', " "));
            for (index, (parameter, cues)) in self.parameters.iter().enumerate() {
                if is_recognisable(&parameter.schema) && parameter.name != slot.name {
                    continue;
                }
                let affinity = match parameter.name == slot.name {
                    true => 1.2,
                    false => affinity(&tag, cues),
                };
                let formless =
                    is_recognisable(&parameter.schema) && words.text.read(parameter, first, last, self.now).is_none();
                if formless || words.leaves(first) {
                    continue;
                }
                let score = weight::TAGGED
                    + affinity
                    + 0.6 * asked[index]
                    + 0.5 * role(cues, words.before(first))
                    + self.standing(parameter);
                mentions.extend(self.mention(index, words, first, last, score));
            }
        }
    }

    fn mention(&self, index: usize, words: &Words, first: usize, last: usize, score: f32) -> Option<Mention> {
        let (parameter, _) = &self.parameters[index];
        let raw = words.text.slot("", first, last).value;
        let value = parameter.read(&raw, self.now)?.value()?;
        Some(Mention { parameter: index, first, last, value, score })
    }

    /// Whether words name the matter at hand ("an apartment", "another one") and nothing in particular.
    fn is_talk(&self, words: &Words, first: usize, last: usize) -> bool {
        (first..=last).all(|word| {
            let lower = words.text.lower(word);
            spans::is_plain(lower) || self.matter.iter().any(|own| same_stem(own, lower))
        })
    }

    /// What is missing is rather said than what is known.
    fn standing(&self, parameter: &Parameter) -> f32 {
        match (self.has(&parameter.name), parameter.required) {
            (true, _) => 0.0,
            (false, true) => 0.3,
            (false, false) => 0.1,
        }
    }

    fn has(&self, name: &str) -> bool {
        self.before.arguments.iter().any(|known| known.name == name)
    }

    fn is_known(&self, argument: &Argument) -> bool {
        self.before.arguments.iter().any(|known| known.name == argument.name && known.value == argument.value)
    }

    /// The best pairs that do not overlap.
    fn chosen(&self, text: &Text, mut mentions: Vec<Mention>) -> Vec<Argument> {
        mentions.retain(|mention| mention.score >= weight::ENOUGH);
        mentions.sort_by(|a, b| {
            b.score.total_cmp(&a.score).then(a.first.cmp(&b.first)).then(a.parameter.cmp(&b.parameter))
        });
        let mut chosen: Vec<&Mention> = Vec::new();
        for mention in &mentions {
            let clashes = |other: &&Mention| {
                other.parameter == mention.parameter || (mention.first <= other.last && mention.last >= other.first)
            };
            if !chosen.iter().any(clashes) {
                chosen.push(mention);
            }
        }
        chosen.sort_by_key(|mention| mention.first);
        chosen
            .into_iter()
            .map(|mention| {
                let slot = text.slot(&self.parameters[mention.parameter].0.name, mention.first, mention.last);
                Argument {
                    name: slot.name,
                    value: mention.value.clone(),
                    raw: slot.value,
                    start: slot.start,
                    end: slot.end,
                }
            })
            .collect()
    }

    /// The parameters of the other functions, which an offer may be about.
    pub fn others(&self) -> &[(&'a Parameter, Cues)] {
        self.others.get_or_init(|| {
            let mut others: Vec<(&Parameter, Cues)> = Vec::new();
            for parameter in self.loaded.toolbox.tools().flat_map(|tool| &tool.parameters) {
                let known = self.parameters.iter().chain(&others).any(|(known, _)| known.name == parameter.name);
                let needed = parameter.required || !self.is_needed(&parameter.name);
                if !known && needed {
                    others.push((parameter, Cues::new(parameter)));
                }
            }
            others
        })
    }

    /// The stretches of a text that are written as names and are no known value.
    pub fn names(&self, text: &str) -> Vec<Argument> {
        let words = Words::new(text);
        let spans = words
            .spans()
            .iter()
            .filter(|span| span.kind == SpanKind::Capital && !self.is_talk(&words, span.first, span.last));
        let slots = spans.map(|span| words.text.slot("", span.first, span.last));
        let known = |raw: &str| {
            self.before.arguments.iter().any(|known| {
                known.raw.to_lowercase().contains(&raw.to_lowercase())
                    || raw.to_lowercase().contains(&known.raw.to_lowercase())
            })
        };
        slots
            .filter(|slot| !known(&slot.value))
            .map(|slot| Argument {
                value: Value::String(slot.value.clone()),
                name: slot.name,
                raw: slot.value,
                start: slot.start,
                end: slot.end,
            })
            .collect()
    }

    /// The argument that names the thing itself and that some function needs, while nobody has said it.
    pub fn missing_name(&self) -> Option<&'a Parameter> {
        let mut missing = self.parameters.iter().filter(|(parameter, cues)| {
            parameter.required && matches!(cues.kind, Kind::Title | Kind::Person) && !self.has(&parameter.name)
        });
        match (missing.next(), missing.next()) {
            (Some((parameter, _)), None) => Some(parameter),
            _ => None,
        }
    }

    /// Whether some function needs an argument.
    pub fn is_needed(&self, name: &str) -> bool {
        self.loaded.toolbox.tools().any(|tool| tool.parameter(name).is_some_and(|parameter| parameter.required))
    }

    /// Whether an argument is a date or a time.
    pub fn is_moment(&self, name: &str) -> bool {
        self.kind(name).is_some_and(|kind| matches!(kind, Kind::Date | Kind::Time))
    }

    /// Whether an argument names the thing itself.
    pub fn is_name(&self, name: &str) -> bool {
        self.kind(name).is_some_and(|kind| matches!(kind, Kind::Title | Kind::Person | Kind::Place | Kind::Choice))
    }

    fn kind(&self, name: &str) -> Option<Kind> {
        self.parameters.iter().find(|(parameter, _)| parameter.name == name).map(|(_, cues)| cues.kind)
    }

    /// The same finder for the parameters that have no value yet, of all functions: what an offer may be about.
    pub fn for_offers(&self) -> Self {
        let own = self.parameters.iter().cloned();
        let parameters = own.chain(self.others().iter().cloned()).collect();
        Self {
            parameters,
            others: OnceCell::new(),
            matter: self.matter.clone(),
            offering: true,
            asked_for: None,
            ..*self
        }
    }
}
