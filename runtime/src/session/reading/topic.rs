//! Which function a turn is about, given the one that the conversation is about.

use super::TurnsBefore;
use super::lexicon::{is_small, lower_words, same_stem};
use super::stance::{Stance, asks_what_else, is_leave, offers};
use crate::decision::{Decider, Decision};
use crate::functions::Tool;
use crate::memory::Meaning;
use crate::mynah::{Loaded, Understanding};

/// What a turn is about.
pub(super) struct Topic {
    pub function: Option<String>,
    /// The turn takes its leave, unless it says arguments.
    pub closes: bool,
    /// The turn goes on to a function that was offered, or that it names.
    pub takes_up: bool,
}

/// How much better another function has to fit than the present one.
const MARGIN: f32 = 0.35;

pub(super) fn topic(
    loaded: &Loaded,
    before: &TurnsBefore,
    text: &str,
    stance: Stance,
    understanding: &Understanding,
    reply: Option<&Understanding>,
) -> Topic {
    let said = before.said.last().map(String::as_str).unwrap_or_default();
    let running = before.function.clone().or_else(|| guess(loaded, before));
    let offer = offers(said).filter(|_| !asks_what_else(said));
    let declines = stance == Stance::Declining;
    let leaves = is_leave(text);
    let closes = (asks_what_else(said) && (declines || leaves)) || (offer.is_some() && declines);
    let words = lower_words(text);
    let mut takes_up = false;
    let mut function = running.clone();
    // What is asked about the thing at hand is no other matter.
    if let Some(best) = best(loaded, &words, understanding, running.as_deref()) {
        takes_up = running.is_some();
        function = Some(best);
    } else if let (Some(offer), Stance::Accepting) = (offer, stance)
        && let Some(best) = best(loaded, &lower_words(offer), reply.unwrap_or(understanding), running.as_deref())
    {
        takes_up = true;
        function = Some(best);
    }
    let closes = closes && !takes_up;
    Topic { function, closes, takes_up }
}

/// Another function that fits clearly better than the present one.
fn best(loaded: &Loaded, words: &[String], understanding: &Understanding, running: Option<&str>) -> Option<String> {
    if let Decision::Call { function, decider: Decider::Head | Decider::Memory(_), .. } = &understanding.decision
        && loaded.toolbox.get(function).is_some()
        && understanding.evidence.exact.is_some()
    {
        return (Some(function.as_str()) != running).then(|| function.clone());
    }
    let mut scores: Vec<(f32, &Tool)> =
        loaded.toolbox.tools().map(|tool| (fit(loaded, tool, words, understanding), tool)).collect();
    scores.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (score, tool) = scores.first()?;
    let present = running
        .and_then(|name| scores.iter().find(|(_, tool)| tool.function.name == name))
        .map_or(0.0, |(score, _)| *score);
    let is_other = Some(tool.function.name.as_str()) != running;
    (is_other && *score > present + MARGIN).then(|| tool.function.name.clone())
}

/// How well words fit a function: words that only this one has, and the similarity to its description.
fn fit(loaded: &Loaded, tool: &Tool, words: &[String], understanding: &Understanding) -> f32 {
    let own = own_words(tool);
    let shared = |word: &String| {
        loaded
            .toolbox
            .tools()
            .filter(|other| other.function.name != tool.function.name)
            .any(|other| own_words(other).contains(word))
    };
    let verb = own.first().is_some_and(|verb| !shared(verb) && words.iter().any(|said| is_same(said, verb)));
    let named = own.iter().filter(|word| !shared(word) && words.iter().any(|said| is_same(said, word))).count();
    let near = understanding.evidence.nearest.iter().find(|one| {
        loaded
            .memory
            .entry(one.entry)
            .is_some_and(|entry| matches!(&entry.meaning, Meaning::Description(name) if *name == tool.function.name))
    });
    let head = understanding.prediction.probabilities.iter().find(|(name, _)| *name == tool.function.name);
    0.35 * (named as f32).min(2.0)
        + if verb { 0.25 } else { 0.0 }
        + near.map_or(0.0, |one| one.similarity)
        + head.map_or(0.0, |(_, probability)| *probability * 0.5)
}

/// The content words of a function's name and description.
pub(super) fn own_words(tool: &Tool) -> Vec<String> {
    let mut spaced = String::new();
    for c in tool.function.name.chars() {
        if c.is_uppercase() {
            spaced.push(' ');
        }
        spaced.push(if c == '_' || c == '-' { ' ' } else { c });
    }
    let mut words: Vec<String> = Vec::new();
    for word in lower_words(&spaced).into_iter().chain(lower_words(&tool.function.description)) {
        if !is_small(&word) && !words.contains(&word) {
            words.push(word);
        }
    }
    words
}

/// Forms of a word, and words that people use for each other.
fn is_same(said: &str, word: &str) -> bool {
    const SYNONYMS: [&[&str]; 9] = [
        &["book", "reserve", "reservation", "booking"],
        &["buy", "purchase", "get", "tickets", "ticket"],
        &["find", "search", "look", "looking"],
        &["play", "watch", "listen", "hear", "stream", "start"],
        &["schedule", "visit", "appointment", "tour"],
        &["rent", "rental"],
        &["transfer", "send", "pay"],
        &["round", "roundtrip", "return"],
        &["add", "create", "set", "make", "new"],
    ];
    same_stem(said, word) || SYNONYMS.iter().any(|group| group.contains(&said) && group.contains(&word))
}

/// The function of a conversation that nobody named: the one that the arguments and the words before fit best.
fn guess(loaded: &Loaded, before: &TurnsBefore) -> Option<String> {
    let said: Vec<String> =
        before.said.iter().chain(&before.heard).rev().take(4).flat_map(|text| lower_words(text)).collect();
    let scored = loaded.toolbox.tools().map(|tool| {
        let known = before.arguments.iter().filter(|argument| tool.parameter(&argument.name).is_some()).count() as f32;
        let named = own_words(tool).iter().filter(|word| said.iter().any(|said| is_same(said, word))).count() as f32;
        (known + 0.5 * named, tool)
    });
    scored
        .filter(|(score, _)| *score > 0.0)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, tool)| tool.function.name.clone())
}
