//! The training step on the CPU, written out: forward and backward over the real tokens of a batch.
//!
//! The same model and the same losses as [`crate::autodiff`], which burn differentiates; tests hold the two, and numeric
//! differences, against each other. A batch is a ragged list of sequences: nothing is
//! padded, layers without trained weights below them get no derivative, and what lies below the first trained layer
//! can be given instead of being computed (`below`).
//!
//! *Invariant:* no number depends on how many threads take part.

mod attention;
mod block;
mod heads;
mod linear;
mod loss;
mod matrix;
mod network;
mod pointwise;
#[cfg(test)]
pub(crate) mod tests;
mod vocabulary;

pub(crate) use heads::{ANSWER_PLACE, FUNCTION_PLACE, Signal, TAG_PLACE};
pub(crate) use matrix::{dot, wide};
pub(crate) use network::{Dropout, EMBEDDING_PLACE, Gradients, LAYER_PLACE, Network};
pub(crate) use pointwise::Mask;
pub(crate) use vocabulary::VocabularyWeights;
