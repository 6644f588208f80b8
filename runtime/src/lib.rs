//! Mynah.

pub mod checkpoint;
pub mod decision;
pub mod encoder;
pub mod error;
mod extract;
pub mod functions;
pub mod heads;
pub mod knowledge;
pub mod memory;
pub mod model;
pub mod mynah;
pub mod normalise;
pub mod session;
pub mod settings;
pub mod starter;
pub mod tokenizer;

pub use checkpoint::{Calibration, Checkpoint, Config, Labels};
pub use encoder::{Encoder, EncoderOptions, Hidden, Precision};
pub use error::{Error, Result};
pub use functions::{Argument, Call};
pub use heads::AnswerSpan;
pub use model::{Model, Prediction};
pub use mynah::{Builder, HandlerError, Mynah, MynahError, Served, Understood, Warning};
pub use session::{Feedback, NearExample, PassageSource, Reply, ReplyKind, ReplySource, Session, Why};
pub use settings::RuntimeSettings;
pub use tokenizer::{Encoding, Tokenizer, Word};
