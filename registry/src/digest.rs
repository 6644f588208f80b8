//! SHA-256 digests: the names of objects, manifests and journal entries.
//!
//! Streams are hashed in pieces, so a file larger than memory can be named. Invariant: the text form is always 64
//! lower-case hexadecimal digits, and nothing else parses.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// How much of a stream is hashed or copied at a time: large enough that system calls do not matter.
const PIECE_BYTES: usize = 256 * 1024;

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// A text that is not 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a SHA-256 digest: expected 64 lower-case hexadecimal digits")]
pub struct InvalidDigest {
    /// The text as it was given.
    pub text: String,
}

impl Digest {
    /// Hashes a slice.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Hashes a stream to its end and counts its bytes.
    ///
    /// # Errors
    /// Whatever the reader returns, interruptions excepted.
    pub fn of_reader(reader: impl Read) -> io::Result<(Self, u64)> {
        copy_hashed(reader, &mut io::sink())
    }

    /// The first 12 digits: enough for people.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(12);
        text
    }

    /// The digest as bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Copies a stream to its end and returns the digest and the number of the bytes copied.
pub(crate) fn copy_hashed(mut from: impl Read, to: &mut impl io::Write) -> io::Result<(Digest, u64)> {
    let mut hasher = Sha256::new();
    let mut piece = vec![0; PIECE_BYTES];
    let mut size_bytes = 0;
    loop {
        let read = match from.read(&mut piece) {
            Ok(0) => return Ok((Digest(hasher.finalize().into()), size_bytes)),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&piece[..read]);
        to.write_all(&piece[..read])?;
        size_bytes += read as u64;
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        parse(text.as_bytes()).ok_or_else(|| InvalidDigest { text: text.chars().take(80).collect() })
    }
}

fn parse(text: &[u8]) -> Option<Digest> {
    if text.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(Digest(bytes))
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns what it has in pieces of the given lengths, and is interrupted before each.
    struct Ragged<'a> {
        rest: &'a [u8],
        lengths: std::iter::Cycle<std::vec::IntoIter<usize>>,
        interrupt: bool,
    }

    impl Read for Ragged<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.interrupt = !self.interrupt;
            if self.interrupt {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let length = self.lengths.next().unwrap_or(1).min(buffer.len());
            let length = length.min(self.rest.len());
            buffer[..length].copy_from_slice(&self.rest[..length]);
            self.rest = &self.rest[length..];
            Ok(length)
        }
    }

    #[test]
    fn the_published_test_vector() {
        // FIPS 180-2, appendix B.1.
        let digest = Digest::of(b"abc");
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse(), Ok(digest));
        assert_eq!(digest.short(), "ba7816bf8f01");
    }

    #[test]
    fn only_64_lower_case_digits_parse() {
        let text = Digest::of(b"").to_string();
        for wrong in ["", "abc", &text[1..], &text.to_uppercase(), &format!("{text}0"), &"é".repeat(32)] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn the_hash_of_a_stream_is_the_hash_of_the_slice(
            bytes in prop::collection::vec(any::<u8>(), 0..5000),
            lengths in prop::collection::vec(1usize..700, 1..10),
        ) {
            let stream = Ragged { rest: &bytes, lengths: lengths.into_iter().cycle(), interrupt: false };
            let mut copy = Vec::new();
            let (digest, size_bytes) = copy_hashed(stream, &mut copy).unwrap();
            prop_assert_eq!(digest, Digest::of(&bytes));
            prop_assert_eq!(size_bytes, bytes.len() as u64);
            prop_assert_eq!(copy, bytes);
        }

        #[test]
        fn text_and_json_come_back(bytes in any::<[u8; 32]>()) {
            let digest = Digest(bytes);
            prop_assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
            let json = serde_json::to_string(&digest).unwrap();
            prop_assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
        }

        #[test]
        fn no_text_makes_parsing_panic(text in "\\PC{0,80}") {
            let _ = text.parse::<Digest>();
        }
    }
}
