//! The crate from the outside: files, faults and the real data sets.

mod crash;
mod import;
mod labels;
mod log;
mod opinions;
#[cfg(feature = "git")]
mod snapshot;
mod splits;
mod support;
