//! What a turn needs to know of the turns before it: what was asked, and the last call.

use crate::functions::{Argument, Call, Draft};

/// The state of a conversation between two turns.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Context {
    pub pending: Pending,
    pub last: Option<LastCall>,
    /// Calls of the same turn that come after what is pending.
    pub waiting: Vec<Draft>,
}

/// What the next turn is expected to say.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum Pending {
    #[default]
    Nothing,
    /// The value of an argument.
    Argument {
        draft: Draft,
        name: String,
        /// How often it was asked for without getting it.
        attempts: u8,
    },
    /// Yes or no.
    Confirmation { draft: Draft },
}

/// The last call, to be changed by a follow-up or a correction.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LastCall {
    pub call: Call,
    pub interaction: String,
    pub text: String,
    /// Whether the turn asked for nothing else, so that its words stand for this call.
    pub alone: bool,
    /// How many turns were about something else since.
    pub turns_ago: u8,
}

impl Context {
    /// The context after a turn was logged.
    pub fn after(mut self, interaction: &str, text: &str, calls: &[Call]) -> Self {
        match calls.last() {
            Some(call) => {
                self.last = Some(LastCall {
                    call: call.clone(),
                    interaction: interaction.to_owned(),
                    text: text.to_owned(),
                    alone: calls.len() == 1,
                    turns_ago: 0,
                });
            }
            None => {
                if let Some(last) = &mut self.last {
                    last.turns_ago = last.turns_ago.saturating_add(1);
                }
            }
        }
        self
    }

    pub fn with(&self, pending: Pending) -> Self {
        Self { pending, last: self.last.clone(), waiting: Vec::new() }
    }
}

/// A draft whose arguments were said by earlier turns.
pub(super) fn carried(draft: Draft) -> Draft {
    Draft { arguments: draft.arguments.into_iter().map(Argument::carried).collect(), ..draft }
}
