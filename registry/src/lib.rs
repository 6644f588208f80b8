//! Content-addressed store of model versions with a hash-chained journal.
//!
//! Every file of a model is an object named by its SHA-256; a manifest lists the files and its own digest names the
//! version; the journal records every decision about versions, and what is in production is a fold over it. The crate
//! knows nothing of machine learning or HTTP: a version is a directory of files.
//!
//! What holds, whatever happens to the process or the disk:
//! - the journal only grows, and every entry carries the digest of the one before;
//! - an object never changes; a new put of the same content replaces a damaged one;
//! - what was acknowledged has been synced, and what was not leaves the state before or the state after;
//! - a [`VerifiedCheckpoint`] exists only for files whose digests were just checked.
//!
//! The files are specified byte by byte in `FORMAT.md`.
//!
//! ```
//! use mynah_registry::{Author, ManifestDraft, Registry, Status};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let home = tempfile::tempdir()?;
//! # let (run, dir) = (home.path().join("run"), home.path().join("registry"));
//! std::fs::create_dir(&run)?;
//! std::fs::write(run.join("config.json"), r#"{"model_type":"distilbert"}"#)?;
//!
//! let registry = Registry::open(&dir)?;
//! let who = Author::new("ada", "first model");
//! let v1 = registry.add_directory(&run, ManifestDraft::version("mynah 0.1.0"), &who)?;
//! assert_eq!(v1.name, "v1");
//! assert_eq!(v1.status, Status::Candidate);
//!
//! // Compare and swap: nothing is in production yet.
//! registry.promote(&v1, None, serde_json::json!({"passed": true}), &who)?;
//!
//! let loaded = registry.load_production()?.ok_or("nothing in production")?;
//! assert_eq!(loaded.version.name, "v1");
//! assert_eq!(loaded.checkpoint.read("config.json")?, br#"{"model_type":"distilbert"}"#);
//! assert!(loaded.skipped.is_empty());
//! # Ok(())
//! # }
//! ```

mod add;
mod decisions;
mod digest;
mod durable;
mod entry;
mod error;
mod export;
pub mod fault;
mod garbage;
mod journal;
mod manifest;
mod objects;
mod query;
mod registry;
mod resolve;
mod state;
mod verify;

pub use digest::{Digest, InvalidDigest};
pub use entry::{Author, Entry, Event};
pub use error::{ChainFault, Error, Result};
pub use garbage::Freed;
pub use manifest::{FileEntry, Kind, Manifest, ManifestDraft};
pub use registry::{Registry, RegistryOptions};
pub use state::{Status, Version};
pub use verify::{Loaded, Problem, Verification, VerifiedCheckpoint};
