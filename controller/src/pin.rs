//! An owner's pin: what is in production stays there until the owner says otherwise.
//!
//! `pin.json` in the home says what and why. While it is there the service promotes nothing, rolls nothing back and trains
//! nothing by itself, and commands that would change production refuse. The journal is not involved: a pin decides nothing
//! about a version, it keeps others from deciding.

use std::path::PathBuf;

use anyhow::Context as _;
use jiff::Timestamp;
use mynah_data::Home;
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::failure::hinted;
use crate::fault::FaultPoint;

/// What `pin.json` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The version that was in production; none before the first.
    pub version: Option<String>,
    /// Its manifest.
    pub digest: Option<String>,
    /// Who pinned it.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}

/// The pin of a home. One that cannot be read pins as well: it is there.
pub fn of(home: &Home) -> Option<Pin> {
    durable::read_json::<Pin>(&path(home)).unwrap_or_else(|error| {
        let reason = format!("{error:#}");
        Some(Pin { version: None, digest: None, by: "somebody".to_owned(), at: Timestamp::UNIX_EPOCH, reason })
    })
}

/// Pins.
///
/// # Errors
/// When the file cannot be written.
pub fn set(home: &Home, pin: &Pin, fault: &FaultPoint) -> anyhow::Result<()> {
    durable::replace(&path(home), &serde_json::to_vec_pretty(pin)?, fault)
}

/// Takes the pin away; whether there was one.
///
/// # Errors
/// When the file cannot be removed.
pub fn clear(home: &Home) -> anyhow::Result<bool> {
    let path = path(home);
    match std::fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot remove {}", path.display())),
    }
}

/// Refuses to change what is in production while it is pinned.
///
/// # Errors
/// When it is.
pub fn guard(home: &Home) -> anyhow::Result<()> {
    match of(home) {
        None => Ok(()),
        Some(pin) => Err(hinted(
            format!("{} is pinned by {} ({})", pin.version.as_deref().unwrap_or("production"), pin.by, pin.reason),
            "`mynah unpin` lets production change again",
        )),
    }
}

fn path(home: &Home) -> PathBuf {
    home.root().join("pin.json")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_pin_guards_until_it_is_cleared_and_a_broken_one_too() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::new(directory.path());
        assert!(guard(&home).is_ok());
        let pin = Pin {
            version: Some("v3".to_owned()),
            digest: None,
            by: "me".to_owned(),
            at: Timestamp::UNIX_EPOCH,
            reason: "the demo".to_owned(),
        };
        set(&home, &pin, &(Arc::new(|_| Ok(())) as FaultPoint)).unwrap();
        assert_eq!(of(&home), Some(pin));
        insta::assert_snapshot!(guard(&home).unwrap_err().to_string(), @"v3 is pinned by me (the demo)");
        assert!(clear(&home).unwrap());
        assert!(!clear(&home).unwrap());
        std::fs::write(directory.path().join("pin.json"), "{").unwrap();
        assert!(guard(&home).is_err());
    }
}
