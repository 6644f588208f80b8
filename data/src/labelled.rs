//! What people's corrections and approvals say: examples and answers, read from the log.
//!
//! A pure fold over the records. A model's guess that nobody looked at is not among them.

use std::collections::{HashMap, HashSet};

use crate::error::{Error, LineError, Result};
use crate::example::{Example, OUT_OF_SCOPE, Slot, Source, SplitName, TaughtAnswer, check_slots};
use crate::log::Log;
use crate::record::{Correction, FeedbackRecord, InteractionRecord, Rating, Record};
use crate::split::fold;

/// The labels of a log, in the order in which the opinions were given.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Labelled {
    /// Corrected utterances, for training; approved calls, in the split of their text.
    pub examples: Vec<Example>,
    /// Taught answers.
    pub answers: Vec<TaughtAnswer>,
    /// The lines of the log that cannot be read.
    pub problems: Vec<LineError>,
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
/// the split that its text hashes to.
///
/// # Errors
/// When a file or directory cannot be read; lines that cannot be are in [`Labelled::problems`].
pub fn labelled(log: &Log) -> Result<Labelled> {
    let mut opinions: Vec<FeedbackRecord> = Vec::new();
    let mut problems = Vec::new();
    for record in log.records()? {
        match record {
            Ok(Record::Feedback(opinion)) => opinions.push(opinion),
            Ok(_) => {}
            Err(Error::Line(problem)) => problems.push(problem),
            Err(error) => return Err(error),
        }
    }
    let turns = turns_of(log, &opinions)?;
    let mut labels: HashMap<String, (usize, Option<Label>)> = HashMap::new();
    for (order, opinion) in opinions.iter().enumerate() {
        let Some(turn) = turns.get(&opinion.interaction) else {
            continue;
        };
        let key = fold(&turn.text);
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
    let mut labelled = Labelled { problems, ..Labelled::default() };
    for label in labels.into_iter().filter_map(|(_, label)| label) {
        match label {
            Label::Example(example) => labelled.examples.push(example),
            Label::Answer(answer) => labelled.answers.push(answer),
        }
    }
    Ok(labelled)
}

/// Reads the turns that somebody has an opinion on; the others need no memory.
fn turns_of(log: &Log, opinions: &[FeedbackRecord]) -> Result<HashMap<String, InteractionRecord>> {
    let wanted: HashSet<&str> = opinions.iter().map(|opinion| opinion.interaction.as_str()).collect();
    let mut turns = HashMap::new();
    if wanted.is_empty() {
        return Ok(turns);
    }
    for record in log.records()? {
        match record {
            Ok(Record::Interaction(turn)) if wanted.contains(turn.id.as_str()) => {
                turns.insert(turn.id.clone(), turn);
            }
            Ok(_) | Err(Error::Line(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(turns)
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
