//! One entry of the journal: what it says, and the bytes of its file.
//!
//! Invariant: an entry carries its own digest beside that of the entry before, so that a change to any entry shows, the
//! last one included.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{ChainFault, Digest, Kind};

/// The schema of entries this program writes and reads.
pub(crate) const SCHEMA: u32 = 1;

/// A decision about a version, as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The format of the entry: 1.
    pub schema: u32,
    /// Its place in the journal, from 1.
    pub sequence: u64,
    /// The digest of the file of the entry before; the first has none.
    pub previous: Option<Digest>,
    /// When it was decided, by the clock of the machine that did.
    pub at: Timestamp,
    /// Who decided.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// What was decided.
    pub event: Event,
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Event {
    /// A version or a base was stored and got its name.
    Register {
        /// `v12` or `base1`.
        name: String,
        /// The digest of its manifest.
        manifest: Digest,
        /// Whether it is a base or a version.
        kind: Kind,
    },
    /// A version went to production.
    Promote {
        /// The version.
        name: String,
        /// The digest of its manifest.
        manifest: Digest,
        /// What was in production until then.
        expected_current: Option<Digest>,
        /// The object with the report it was decided on.
        evidence: Option<Digest>,
        /// The verdict of the gate.
        gate: serde_json::Value,
    },
    /// A version was kept out of production.
    Refuse {
        /// The version.
        name: String,
        /// The digest of its manifest.
        manifest: Digest,
        /// The verdict of the gate.
        gate: serde_json::Value,
    },
    /// Production went back to an earlier version.
    Rollback {
        /// The digest of the version that left production.
        from: Digest,
        /// The digest of the version that came back.
        to: Digest,
        /// The version that left production.
        from_name: String,
        /// The version that came back.
        to_name: String,
    },
    /// A version must not be served again.
    Quarantine {
        /// The version.
        name: String,
        /// The digest of its manifest.
        manifest: Digest,
    },
    /// A version's files may be collected.
    Delete {
        /// The version.
        name: String,
        /// The digest of its manifest.
        manifest: Digest,
    },
    /// A version got one more name; a tag used before moves.
    Tag {
        /// The version.
        name: String,
        /// The digest of its manifest.
        manifest: Digest,
        /// The tag.
        tag: String,
    },
}

/// Who decides something, and why: what every entry carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// A person, or a part of the program.
    pub actor: String,
    /// Why, in a sentence.
    pub reason: String,
}

impl Author {
    /// An author with a reason.
    pub fn new(actor: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { actor: actor.into(), reason: reason.into() }
    }
}

/// Why bytes are not an entry.
pub(crate) enum Unsealable {
    Broken(ChainFault),
    Schema(u64),
}

/// What stands between an entry's content and its own digest.
const SEAL: &[u8] = b",\"digest\":\"";
/// How an entry's file ends.
const END: &[u8] = b"\"}\n";

/// The bytes of an entry's file: its JSON, with its own digest as the last member, and a line feed.
pub(crate) fn seal(entry: &Entry) -> Vec<u8> {
    // A struct of strings, numbers and values always becomes JSON.
    let mut bytes = serde_json::to_vec(entry).unwrap_or_default();
    let digest = Digest::of(&bytes).to_string();
    bytes.pop();
    for part in [SEAL, digest.as_bytes(), END] {
        bytes.extend_from_slice(part);
    }
    bytes
}

/// Reads an entry's file and checks it against its own digest, which the next entry cannot do for the last one.
pub(crate) fn unseal(bytes: &[u8]) -> Result<Entry, Unsealable> {
    let unreadable = |reason: String| Unsealable::Broken(ChainFault::Unreadable { reason });
    let (content, expected) =
        split_seal(bytes).ok_or_else(|| unreadable("it does not end with its digest".to_owned()))?;
    let content = [content, b"}"].concat();
    let actual = Digest::of(&content);
    if actual != expected {
        let (expected, actual) = (Box::new(expected), Box::new(actual));
        return Err(Unsealable::Broken(ChainFault::Changed { expected, actual }));
    }
    #[derive(Deserialize)]
    struct Schema {
        schema: u64,
    }
    let wrong = |error: serde_json::Error| unreadable(error.to_string());
    let Schema { schema } = serde_json::from_slice(&content).map_err(wrong)?;
    if schema != u64::from(SCHEMA) {
        return Err(Unsealable::Schema(schema));
    }
    serde_json::from_slice(&content).map_err(wrong)
}

fn split_seal(bytes: &[u8]) -> Option<(&[u8], Digest)> {
    let rest = bytes.strip_suffix(END)?;
    let (rest, digest) = rest.split_at_checked(rest.len().checked_sub(64)?)?;
    let digest = std::str::from_utf8(digest).ok()?.parse().ok()?;
    Some((rest.strip_suffix(SEAL)?, digest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry() -> Entry {
        Entry {
            schema: SCHEMA,
            sequence: 7,
            previous: Some(Digest::of(b"entry 6")),
            at: Timestamp::UNIX_EPOCH,
            actor: "controller".to_owned(),
            reason: "session s_1 ended".to_owned(),
            event: Event::Promote {
                name: "v2".to_owned(),
                manifest: Digest::of(b"v2"),
                expected_current: Some(Digest::of(b"v1")),
                evidence: None,
                gate: serde_json::json!({"passed": true, "accuracy": {"before": 0.9, "after": 0.93}}),
            },
        }
    }

    #[test]
    fn the_bytes_of_an_entry() {
        insta::assert_snapshot!(String::from_utf8(seal(&entry())).unwrap(), @r#"{"schema":1,"sequence":7,"previous":"106c411261819e5a35192eab47324d72ae3caf362762d66613aa74cdc1c2a993","at":"1970-01-01T00:00:00Z","actor":"controller","reason":"session s_1 ended","event":{"type":"promote","name":"v2","manifest":"fb04dcb6970e4c3d1873de51fd5a50d7bb46b3383113602665c350ec40b5f990","expected_current":"3bfc269594ef649228e9a74bab00f042efc91d5acc6fbee31a382e80d42388fe","evidence":null,"gate":{"passed":true,"accuracy":{"before":0.9,"after":0.93}}},"digest":"e3fb9f4925f8c3163ea96a16f27711a4f449fbab80decb96b73106f834fff2e0"}"#);
    }

    #[test]
    fn an_entry_comes_back() {
        let Ok(read) = unseal(&seal(&entry())) else { panic!("not an entry") };
        assert_eq!(read, entry());
    }

    proptest! {
        #[test]
        fn no_flipped_bit_goes_unnoticed(position in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut bytes = seal(&entry());
            let position = position.index(bytes.len());
            bytes[position] ^= 1 << bit;
            prop_assert!(unseal(&bytes).is_err());
        }

        #[test]
        fn no_bytes_make_reading_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(unseal(&bytes).is_err());
        }
    }
}
