//! What people's corrections and approvals say: examples and answers, read from the log.
//!
//! A pure fold over the records. A model's guess that nobody looked at is not among them. A [`Log`] that is asked again reads only
//! the sessions that changed.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use crate::decisions::{Decision, LabelDecisions};
use crate::error::{LineError, Result};
use crate::example::{Example, OUT_OF_SCOPE, Slot, Source, SplitName, TaughtAnswer, check_slots};
use crate::log::Log;
use crate::record::{Correction, FeedbackRecord, InteractionRecord, Rating};
use crate::split::fold;

/// The labels of a log, in the order in which the opinions were given.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Labelled {
    /// Corrected utterances, for training; approved calls, in the split of their text.
    pub examples: Vec<Example>,
    /// Taught answers.
    pub answers: Vec<TaughtAnswer>,
    /// The last word of every session on every utterance's function, whoever had the last word of all.
    pub votes: Vec<Vote>,
    /// The lines of the log that cannot be read.
    pub problems: Vec<LineError>,
}

/// What one session says of an utterance.
#[derive(Debug, Clone, PartialEq)]
pub struct Vote {
    /// The label; its origin is the interaction that it was given to.
    pub example: Example,
    /// The session in which it was given.
    pub session: String,
}

/// One label, and the utterance that it belongs to.
enum Label {
    Example(Example),
    Answer(TaughtAnswer),
}

/// Reads all corrections and approvals of the log; the last one on an utterance counts.
///
/// A correction is for training (`split` is `Some(Train)`): it has to be right in the next version, so it cannot be
/// held out. An approval (a rating `up`) makes an example of a reply with one call that needed no turn before it, in
/// the split that its text hashes to. What the owner rejected is no label.
///
/// # Errors
/// When a file or directory cannot be read; lines that cannot be are in [`Labelled::problems`].
pub fn labelled(log: &Log) -> Result<Labelled> {
    labelled_without(log, &HashSet::new())
}

/// As [`labelled()`], as if nobody had said anything of the interactions in `held_back`: an earlier label of the same words
/// counts again. Their votes are still there.
///
/// # Errors
/// As for [`labelled()`].
pub fn labelled_without(log: &Log, held_back: &HashSet<String>) -> Result<Labelled> {
    let mut seen = log.opinions();
    let (mut opinions, mut problems) = seen.read(log)?;
    let decisions = LabelDecisions::of(log)?;
    problems.extend(decisions.problems.iter().cloned());
    opinions.retain(|opinion| decisions.on(&opinion.interaction, opinion.at) != Some(Decision::Reject));
    let turns = seen.turns_of(log, &opinions)?;
    let votes = last_words(&opinions, turns, |opinion, turn| (opinion.session.clone(), fold(&turn.text)));
    let votes = votes.into_iter().filter_map(|(opinion, label)| match label {
        Label::Example(example) => Some(Vote { example, session: opinion.session.clone() }),
        Label::Answer(_) => None,
    });
    let mut labelled = Labelled { problems, votes: votes.collect(), ..Labelled::default() };
    opinions.retain(|opinion| !held_back.contains(&opinion.interaction));
    for (_, label) in last_words(&opinions, turns, |_, turn| fold(&turn.text)) {
        match label {
            Label::Example(example) => labelled.examples.push(example),
            Label::Answer(answer) => labelled.answers.push(answer),
        }
    }
    Ok(labelled)
}

/// The last label of everything that has the same key, in the order in which the opinions were given.
fn last_words<'a, K: Eq + Hash>(
    opinions: &'a [FeedbackRecord],
    turns: &HashMap<String, InteractionRecord>,
    key: impl Fn(&FeedbackRecord, &InteractionRecord) -> K,
) -> Vec<(&'a FeedbackRecord, Label)> {
    let mut labels: HashMap<K, (usize, Option<Label>)> = HashMap::new();
    for (order, opinion) in opinions.iter().enumerate() {
        let Some(turn) = turns.get(&opinion.interaction) else {
            continue;
        };
        let key = key(opinion, turn);
        let corrected = matches!(labels.get(&key), Some((_, Some(label))) if !is_approval(label));
        match (&opinion.correction, opinion.rating) {
            (Some(correction), _) => {
                labels.insert(key, (order, Some(corrected_label(turn, opinion, correction))));
            }
            // A rating does not take a correction back.
            (None, _) if corrected => {}
            (None, Some(Rating::Up)) => {
                if let Some(label) = approved_label(turn, opinion) {
                    labels.insert(key, (order, Some(label)));
                }
            }
            (None, Some(Rating::Down)) => {
                labels.insert(key, (order, None));
            }
            (None, None) => {}
        }
    }
    let mut labels: Vec<(usize, Option<Label>)> = labels.into_values().collect();
    labels.sort_by_key(|(order, _)| *order);
    labels.into_iter().filter_map(|(order, label)| Some((&opinions[order], label?))).collect()
}

fn is_approval(label: &Label) -> bool {
    matches!(label, Label::Example(Example { source: Source::Confirmed, .. }))
}

fn corrected_label(turn: &InteractionRecord, opinion: &FeedbackRecord, correction: &Correction) -> Label {
    match correction {
        Correction::Answer { answer } => Label::Answer(TaughtAnswer {
            question: turn.text.clone(),
            answer: answer.clone(),
            source: Source::Taught,
            origin: turn.id.clone(),
            at: Some(opinion.at),
        }),
        Correction::Function { function, slots } => {
            let slots = match (function, slots) {
                (None, _) => Vec::new(),
                (Some(_), Some(slots)) => slots.clone(),
                // Only the function was wrong, or nothing was: the arguments that were found stay.
                (Some(function), None) => turn
                    .reply
                    .calls
                    .iter()
                    .find(|call| call.function == *function)
                    .map(|call| call.slots.clone())
                    .unwrap_or_default(),
            };
            Label::Example(Example {
                text: turn.text.clone(),
                function: function.clone().unwrap_or_else(|| OUT_OF_SCOPE.to_owned()),
                slots: fitting(&turn.text, slots),
                split: Some(SplitName::Train),
                source: Source::Corrected,
                origin: turn.id.clone(),
                at: Some(opinion.at),
                weight: 1.0,
            })
        }
    }
}

/// An approved call; `None` when the words alone do not say it.
fn approved_label(turn: &InteractionRecord, opinion: &FeedbackRecord) -> Option<Label> {
    let [call] = turn.reply.calls.as_slice() else {
        return None;
    };
    if turn.reply.source == "context" {
        return None;
    }
    Some(Label::Example(Example {
        text: turn.text.clone(),
        function: call.function.clone(),
        slots: fitting(&turn.text, call.slots.clone()),
        split: None,
        source: Source::Confirmed,
        origin: turn.id.clone(),
        at: Some(opinion.at),
        weight: 1.0,
    }))
}

/// Leaves out the arguments that another turn said.
fn fitting(text: &str, slots: Vec<Slot>) -> Vec<Slot> {
    let mut kept: Vec<Slot> = Vec::new();
    for slot in slots {
        let mut more = kept.clone();
        more.push(slot);
        if check_slots(text, &mut more).is_ok() {
            kept = more;
        }
    }
    kept
}
