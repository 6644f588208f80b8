//! What an app links: understand a request, call functions, answer, remember corrections.
//!
//! A [`Mynah`] opens a home directory, a [`Session`] is one conversation, [`Session::respond`] turns a string into a
//! [`Reply`]: text, calls with validated arguments, and why. Every turn is in the log before its reply is returned, on
//! the disk unless the settings say otherwise. The forward pass runs over prepacked int8 (or f32) weights; there is no training in here.
//!
//! The library prints nothing, reads no environment, keeps no global state and does not panic on any input.
//!
//! ```
//! use mynah_runtime::{Feedback, Mynah, ReplyKind};
//!
//! let home = tempfile::tempdir()?;
//! std::fs::write(
//!     home.path().join("functions.json"),
//!     r#"[{"type": "function",
//!          "function": {"name": "lights_on", "description": "Turn on the lights."},
//!          "examples": ["lights on", "turn on the lights", "switch the lights on", "make it bright in here"],
//!          "replies": ["The lights are on."]}]"#,
//! )?;
//! let mynah = Mynah::open(home.path())?;
//! let mut session = mynah.session()?;
//! let reply = session.respond("it is too dark to read")?;
//! session.feedback(&reply.interaction, Feedback::correct_function("lights_on"))?;
//! let reply = session.respond("It is too dark to read!")?;
//! assert_eq!(reply.kind, ReplyKind::Call);
//! assert_eq!(reply.text, "The lights are on.");
//! session.end("done")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod checkpoint;
pub mod decision;
mod dot;
pub mod encoder;
pub mod error;
mod extract;
pub mod functions;
mod grouping;
pub mod heads;
pub mod knowledge;
pub mod memory;
pub mod model;
pub mod mynah;
pub mod normalise;
mod pages;
mod policy;
mod rows;
pub mod session;
pub mod settings;
pub mod starter;
pub mod tokenizer;

pub use checkpoint::{Calibration, Checkpoint, Config, Labels};
pub use encoder::{Encoder, EncoderOptions, Hidden, InstructionSet, Precision};
pub use error::{Error, Result};
pub use functions::{Argument, Call};
pub use heads::AnswerSpan;
pub use model::{Model, Prediction};
pub use mynah::{Builder, Choice, HandlerError, Mynah, MynahError, Offered, Reload, Served, Understood, Warning};
pub use mynah_data::Durability;
pub use policy::{Checked, PolicySettings};
pub use session::{
    AnswerSource, Feedback, NearExample, PassageSource, Reading, Reply, ReplyKind, ReplySource, Session, TurnsBefore,
    Why,
};
pub use settings::RuntimeSettings;
pub use tokenizer::{Encoding, PairEncoding, Tokenizer, Windows, Word};
