//! Tests of the runtime through its public interface.

mod changes;
mod checkpoints;
mod conversation;
mod dialogues;
mod golden;
mod model;
mod offered;
mod trained;
