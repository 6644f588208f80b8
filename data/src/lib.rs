//! What was said, what people thought of it, and what a model can learn from it.
//!
//! The crate owns a home's `log/`: session files that only grow, imported examples, remembered answers, and the git
//! history of all of them. From these it makes labelled examples and splits that share no text. It knows no model,
//! prints nothing and reads no environment; every durable write goes through a [`fault`] point.
//!
//! ```
//! use mynah_data::{Correction, Dataset, Home, InteractionRecord, Log, Record, ReplyRecord};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! let home = Home::new(directory.path().join("home"));
//! home.create()?;
//! let log = Log::open(&home);
//!
//! let mut session = log.start_session("example")?;
//! let turn = InteractionRecord {
//!     id: mynah_data::new_interaction_id(),
//!     session: session.id().to_owned(),
//!     at: jiff::Timestamp::now(),
//!     text: "lights off please".to_owned(),
//!     reply: ReplyRecord {
//!         text: "I don't know.".to_owned(),
//!         kind: "abstain".to_owned(),
//!         calls: Vec::new(),
//!         confidence: 0.2,
//!         source: "model".to_owned(),
//!         policy: None,
//!     },
//!     version: None,
//!     version_digest: None,
//!     latency_ms: 3.0,
//! };
//! // On the disk when it returns.
//! session.append(&Record::Interaction(turn.clone()))?;
//! session.end("quit")?;
//!
//! let lights = Correction::Function { function: Some("lights_off".to_owned()), slots: None };
//! log.append_feedback(&turn.id, None, Some(lights))?;
//!
//! let labelled = mynah_data::labelled(&log)?;
//! let dataset = Dataset::build(labelled.examples);
//! assert_eq!(dataset.train[0].function, "lights_off");
//! # Ok(())
//! # }
//! ```

mod behind;
pub mod dataset;
pub mod decisions;
mod durable;
pub mod error;
pub mod example;
pub mod expectations;
pub mod fault;
pub mod functions;
pub mod home;
pub mod import;
pub mod inline;
pub mod labelled;
mod lines;
pub mod log;
pub mod memory;
mod opinions;
pub mod questions;
pub mod record;
pub mod session_log;
#[cfg(feature = "git")]
pub mod snapshot;
pub mod split;

pub use behind::Durability;
pub use dataset::Dataset;
pub use decisions::{Decision, LabelDecision, LabelDecisions, append_decision};
pub use error::{Error, LineError, Result};
pub use example::{
    AnswerSpan, Example, OUT_OF_SCOPE, QuestionExample, RetrievalPair, Slot, SlotError, Source, SplitName,
    TaughtAnswer, UnknownSplit, check_slots,
};
pub use expectations::{Expectation, Expectations};
pub use fault::FaultPoint;
pub use functions::{Function, Functions, FunctionsError};
pub use home::{Home, HomeLock};
pub use import::{
    Examples, Format, ImportOptions, ImportSummary, Imported, Stored, import, imported_examples, imported_questions,
    read_examples, stored,
};
pub use labelled::{Labelled, Vote, labelled, labelled_without};
pub use log::{Log, LogOptions, SessionSummary};
pub use memory::{Memory, taught_answers};
pub use questions::Questions;
pub use record::{
    CallRecord, Correction, EndRecord, FeedbackRecord, InteractionRecord, PolicyRecord, PolicyStage, Rating, Record,
    ReplyRecord, SessionRecord, new_feedback_id, new_interaction_id, new_session_id,
};
pub use session_log::SessionLog;
#[cfg(feature = "git")]
pub use snapshot::{Commit, head, snapshot};
pub use split::{hashed_split, mask, normalise, split_of};
