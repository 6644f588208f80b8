//! A turn read together with the turns before it: which function it is about, and which arguments it adds or changes.
//!
//! What a turn says depends on what was going on: the question that it answers names the argument, the last call lends its
//! function, an acceptance takes over what was offered, "make it eight" changes what is there. All of this works from the
//! functions' descriptions, types and enumerations; what the argument head was trained on is used where its tags fit.
//!
//! Nothing is decided here about acting: [`crate::session`] asks, confirms and calls.
//!
//! Invariant: a value is read off the words of this turn or of the reply before it, never made up, and its schema accepts it.

mod fit;
mod lexicon;
mod mentions;
mod offers;
mod spans;
mod stance;
mod topic;

use jiff::Zoned;

pub(crate) use stance::{Stance, stance};

use crate::functions::{Argument, Draft, Parameter};
use crate::memory::head;
use crate::mynah::{Loaded, Mynah, Understanding};
use mentions::Finder;

/// What was going on when a turn was said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TurnsBefore {
    /// What the person said in earlier turns, oldest first.
    pub heard: Vec<String>,
    /// What was said to the person, oldest first; the last one is what the turn answers.
    pub said: Vec<String>,
    /// The function that the conversation is about.
    pub function: Option<String>,
    /// The arguments that are known.
    pub arguments: Vec<Argument>,
}

/// What a turn says in its context.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    /// The function that the turn is about; `None` when it closes the conversation or is about none.
    pub function: Option<String>,
    /// The arguments that it adds or changes. Those that the reply before offered have no place in this turn's text.
    pub changes: Vec<Argument>,
}

impl Mynah {
    /// Reads a text together with the turns before it, as a [`crate::Session`] does with its own.
    ///
    /// Without turns before, the text stands alone.
    pub fn read(&self, before: &TurnsBefore, text: &str) -> Reading {
        let loaded = self.loaded();
        let text = head(text);
        let said = before.said.last().map(|said| head(said)).unwrap_or_default();
        let mut texts = vec![text];
        texts.extend((!said.is_empty()).then_some(said));
        let mut predictions = loaded.model.predict_batch(&texts).into_iter();
        let understanding = loaded.understand_predicted(text, predictions.next().unwrap_or_default());
        let reply = predictions.next().map(|prediction| loaded.understand_predicted(said, prediction));
        read(&loaded, before, text, &understanding, reply.as_ref(), &self.now())
    }
}

/// Reads a text together with the turns before it; `reply` is what was understood of the last reply's words.
fn read(
    loaded: &Loaded,
    before: &TurnsBefore,
    text: &str,
    understanding: &Understanding,
    reply: Option<&Understanding>,
    now: &Zoned,
) -> Reading {
    let said = before.said.last().map(|said| head(said)).unwrap_or_default();
    let stance = stance(text);
    let topic = topic::topic(loaded, before, text, stance, understanding, reply);
    let function = topic.function.as_deref();
    let finder = Finder::new(loaded, function, before, now);
    let mut changes = finder.find(text, said, understanding);
    if topic.closes && changes.is_empty() {
        return Reading::default();
    }
    if stance == Stance::Accepting || topic.takes_up || (stance == Stance::Open && stance::is_leave(text)) {
        offers::accept(&finder, &before.said, text, &mut changes);
    }
    Reading { function: topic.function, changes }
}

/// What a turn says of a call whose argument `asked` was asked for.
pub(crate) fn answers(
    loaded: &Loaded,
    draft: &Draft,
    asked: &str,
    text: &str,
    understanding: &Understanding,
    now: &Zoned,
) -> Vec<Argument> {
    let before = TurnsBefore {
        function: Some(draft.function.clone()),
        arguments: draft.arguments.clone(),
        ..TurnsBefore::default()
    };
    let finder = Finder::new(loaded, Some(&draft.function), &before, now).asked_for(asked);
    finder.find(text, "", understanding)
}

/// The parameters that a turn may be about: those of the function, else those of all.
fn parameters<'a>(loaded: &'a Loaded, function: Option<&str>) -> Vec<&'a Parameter> {
    match function.and_then(|name| loaded.toolbox.get(name)) {
        Some(tool) => tool.parameters.iter().collect(),
        None => Vec::new(),
    }
}
