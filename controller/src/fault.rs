//! Fault injection for crash tests of the whole program.
//!
//! The registry and the data crate call a fault point right before each durable step. This module turns the variable
//! `MYNAH_FAULT` into such a point: `abort:STEP:N` kills the process before the N-th step of that name, `enospc:STEP:N`
//! makes that step fail as a full disk does; the step `*` counts every step. Without the variable no fault point exists.
//! It is a means of testing recovery, and the program never sets it by itself.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A hook that is called with a step's name right before a durable step; the same type as in the registry and data crates.
pub type FaultPoint = Arc<dyn Fn(&'static str) -> io::Result<()> + Send + Sync>;

/// Why the value of `MYNAH_FAULT` was not understood.
#[derive(Debug, thiserror::Error)]
#[error("MYNAH_FAULT is `{value}`; expected abort:STEP:N or enospc:STEP:N, where STEP may be * and N counts from 1")]
pub struct FaultSyntax {
    value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Abort,
    DiskFull,
}

/// Parses the value of `MYNAH_FAULT`.
///
/// # Errors
/// [`FaultSyntax`] when it is neither `abort:STEP:N` nor `enospc:STEP:N`.
pub fn parse(value: &str) -> Result<FaultPoint, FaultSyntax> {
    let broken = || FaultSyntax { value: value.to_owned() };
    let mut parts = value.splitn(3, ':');
    let effect = match parts.next() {
        Some("abort") => Effect::Abort,
        Some("enospc") => Effect::DiskFull,
        _ => return Err(broken()),
    };
    let step = parts.next().filter(|step| !step.is_empty()).ok_or_else(broken)?.to_owned();
    let at: u64 = parts.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0).ok_or_else(broken)?;
    let seen = AtomicU64::new(0);
    Ok(Arc::new(move |name| {
        if step != "*" && step != name {
            return Ok(());
        }
        if seen.fetch_add(1, Ordering::SeqCst) + 1 != at {
            return Ok(());
        }
        match effect {
            Effect::Abort => std::process::abort(),
            Effect::DiskFull => Err(io::Error::from(io::ErrorKind::StorageFull)),
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_named_step_fails_once_at_its_count() {
        let fault = parse("enospc:rename:2").unwrap();
        assert!(fault("rename").is_ok());
        assert!(fault("write").is_ok());
        assert_eq!(fault("rename").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(fault("rename").is_ok());
    }

    #[test]
    fn a_star_counts_every_step() {
        let fault = parse("enospc:*:2").unwrap();
        assert!(fault("write").is_ok());
        assert!(fault("rename").is_err());
    }

    #[test]
    fn nonsense_is_refused() {
        for value in ["", "abort", "abort:x", "abort:x:0", "abort:x:y", "burn:x:1", "abort::1"] {
            assert!(parse(value).is_err(), "{value}");
        }
    }
}
