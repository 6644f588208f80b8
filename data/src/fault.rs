//! Fault points: the steps at which a disk can fail or a process can be killed, by name.
//!
//! Every durable step of this crate calls its fault point right before it touches the disk. The default does
//! nothing; a test returns an error (a full disk) or aborts the process, and then reopens what survived.
//!
//! *Invariant:* a step that is not in [`STEPS`] is not durable.

use std::io;
use std::sync::Arc;

/// Called with a step's name right before the step; an error is handled as if the disk had returned it.
pub type FaultPoint = Arc<dyn Fn(&'static str) -> io::Result<()> + Send + Sync>;

/// The names of all durable steps, in the order in which they first happen in a home's life.
pub const STEPS: &[&str] = &[
    "log.create",
    "log.append",
    "log.sync",
    "log.truncate",
    "log.sync_directory",
    "import.write",
    "import.sync",
    "import.rename",
    "import.sync_directory",
    "memory.create",
    "memory.append",
    "memory.sync",
    "memory.truncate",
    "memory.sync_directory",
    "snapshot.init",
    "snapshot.blob",
    "snapshot.tree",
    "snapshot.commit",
    "snapshot.reference",
    "snapshot.index",
];

/// The fault point that never fails.
pub fn none() -> FaultPoint {
    Arc::new(|_| Ok(()))
}
