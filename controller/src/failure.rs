//! How the program ends: exit statuses, and errors as people see them.
//!
//! A result that scripts must tell apart (some lines skipped, the gate refused) is an [`Exit`], not an error. An error is
//! printed as `error:` with its causes and `hint:` with what to do next, where one is known.

use std::io;

use mynah_runtime::MynahError;
use mynah_runtime::settings::SettingsError;

use crate::config::ConfigError;
use crate::fault::FaultSyntax;
use crate::interrupt::INTERRUPTED;
use crate::output::Style;

/// The outcomes of a command that did what it could.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything was done.
    Done,
    /// Some lines of the input were skipped.
    Partial,
    /// The gate refused the candidate.
    Refused,
    /// There was nothing new to learn.
    NothingNew,
}

/// The text about exit statuses in `mynah --help`.
pub const EXIT_STATUSES: &str = "Exit statuses:
  0    done
  1    an error; see the lines `error:` and `hint:`
  2    the command line or the settings are wrong
  3    partial: some lines of the input were skipped and reported
  4    train: the gate refused the candidate, production stays; expect check: a pinned sentence is missed
  5    train: there was nothing new to learn
  130  interrupted";

impl Exit {
    /// The exit status.
    pub fn status(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Partial => 3,
            Self::Refused => 4,
            Self::NothingNew => 5,
        }
    }
}

/// A mistake on the command line that clap cannot see.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct UsageError {
    /// What is wrong.
    pub message: String,
    /// What to do next.
    pub hint: String,
}

/// An error of the program itself with what to do next.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Hinted {
    /// What is wrong.
    pub message: String,
    /// What to do next.
    pub hint: String,
}

/// Makes an error with a hint.
pub fn hinted(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    Hinted { message: message.into(), hint: hint.into() }.into()
}

/// Makes an error about the command line.
pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    UsageError { message: message.into(), hint: hint.into() }.into()
}

/// The user stopped the program.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Stopped(pub &'static str);

/// The exit status for an error.
pub fn exit_status(error: &anyhow::Error) -> u8 {
    let has = |test: fn(&(dyn std::error::Error + 'static)) -> bool| error.chain().any(test);
    if has(|cause| cause.is::<Stopped>()) || cancelled(error) {
        INTERRUPTED
    } else if has(is_misuse) {
        2
    } else {
        1
    }
}

/// Whether the command line or the settings are to blame.
fn is_misuse(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.is::<ConfigError>()
        || cause.is::<UsageError>()
        || cause.is::<FaultSyntax>()
        || cause.is::<SettingsError>()
        || matches!(
            cause.downcast_ref(),
            Some(mynah_pipelines::Error::Setting { .. } | mynah_pipelines::Error::DeviceNotBuilt { .. })
        )
}

/// The error of the data crate, however deep it is wrapped: transparent errors hide it from the chain of causes.
pub fn data_error(error: &anyhow::Error) -> Option<&mynah_data::Error> {
    error.chain().find_map(|cause| match (cause.downcast_ref(), cause.downcast_ref()) {
        (Some(MynahError::Data(error)), _) | (_, Some(mynah_pipelines::Error::Data(error))) => Some(error),
        _ => cause.downcast_ref(),
    })
}

/// Whether the reader of standard output went away, which ends a command without complaint.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe))
}

/// Renders an error as `error:`, causes and `hint:`.
pub fn render(error: &anyhow::Error, style: Style) -> String {
    let mut hint = hint(error);
    let mut text = String::new();
    for (depth, cause) in error.chain().enumerate() {
        let message = cause.to_string();
        // Some messages bring their hint along.
        let message = match message.split_once("\nhint: ") {
            Some((message, its_hint)) => {
                hint.get_or_insert_with(|| its_hint.to_owned());
                message.to_owned()
            }
            None => message,
        };
        if depth == 0 {
            text.push_str(&format!("{} {message}", style.bad("error:")));
        } else if !text.contains(&message) {
            // Many messages already contain their cause.
            text.push_str(&format!("\n  because: {message}"));
        }
    }
    if let Some(hint) = hint {
        text.push_str(&format!("\n{} {hint}", style.name("hint:")));
    }
    text
}

/// What to do about an error, where that is known.
pub fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(hint_of)
}

fn cancelled(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(mynah_pipelines::Error::Cancelled)))
}

fn hint_of(cause: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(error) = cause.downcast_ref::<Hinted>() {
        return Some(error.hint.clone());
    }
    if let Some(error) = cause.downcast_ref::<UsageError>() {
        return Some(error.hint.clone());
    }
    if let Some(error) = cause.downcast_ref::<ConfigError>() {
        return Some(error.hint());
    }
    if let Some(error) = cause.downcast_ref::<crate::hub::HubError>() {
        return Some(error.hint());
    }
    if let Some(error) = cause.downcast_ref::<mynah_registry::Error>() {
        return error.hint();
    }
    if let Some(error) = cause.downcast_ref::<MynahError>() {
        return Some(error.hint());
    }
    if let Some(error) = cause.downcast_ref::<SettingsError>() {
        return Some(error.hint());
    }
    if let Some(error) = cause.downcast_ref::<mynah_data::Error>() {
        return Some(error.hint());
    }
    if let Some(error) = cause.downcast_ref::<mynah_pipelines::Error>() {
        return error.hint();
    }
    None
}
