//! What a file is, from its first bytes: gzip or plain, and which format.

use std::io::{self, Cursor, Read};

use flate2::read::MultiGzDecoder;
use serde_json::{Map, Value};

use super::{Format, csv, text};

/// How much is looked at.
const HEAD_BYTES: usize = 64 * 1024;

/// Unpacks gzip, drops a byte order mark, and returns the first bytes beside a reader of all.
pub(super) fn decode<'a>(mut reader: impl Read + 'a) -> (Vec<u8>, Box<dyn Read + 'a>) {
    let (magic, rest) = peek(&mut reader, 2);
    let reader = Cursor::new(magic.clone()).chain(rest).chain(reader);
    let mut reader: Box<dyn Read + 'a> = match magic.as_slice() {
        [0x1f, 0x8b] => Box::new(MultiGzDecoder::new(reader)),
        _ => Box::new(reader),
    };
    let (mut head, rest) = peek(&mut reader, HEAD_BYTES);
    if head.starts_with("\u{feff}".as_bytes()) {
        head.drain(..3);
    }
    let reader = Cursor::new(head.clone()).chain(rest).chain(reader);
    (head, Box::new(reader))
}

/// Reads the first bytes, and an error that comes right behind them.
fn peek(reader: &mut impl Read, length: usize) -> (Vec<u8>, Failure) {
    let mut head = Vec::new();
    let error = reader.take(length as u64).read_to_end(&mut head).err();
    (head, Failure(error))
}

/// A reader that fails once.
struct Failure(Option<io::Error>);

impl Read for Failure {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

/// The format of a file; `None` when it has none that is known.
pub(super) fn detect(head: &[u8], name: &str) -> Option<Format> {
    let name = name.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let ends = |ending: &str| name.ends_with(ending);
    let first = head.iter().find(|byte| !byte.is_ascii_whitespace());
    match first {
        Some(b'[') => return Some(Format::Json),
        Some(b'{') if ends(".jsonl") || ends(".ndjson") => return Some(Format::JsonLines),
        Some(b'{') => return Some(object_format(head)),
        _ => {}
    }
    if ends(".jsonl") || ends(".ndjson") {
        Some(Format::JsonLines)
    } else if ends(".json") {
        Some(Format::Json)
    } else if ends(".csv") || ends(".tsv") {
        Some(Format::Csv)
    } else if text::is_start(head) {
        Some(Format::Text)
    } else if csv::is_header(head) {
        Some(Format::Csv)
    } else if ends(".txt") {
        Some(Format::Text)
    } else {
        None
    }
}

/// One object a line, or one that goes over several.
fn object_format(head: &[u8]) -> Format {
    let mut lines = head.split(|byte| *byte == b'\n');
    let first = lines.by_ref().find(|line| !line.iter().all(u8::is_ascii_whitespace)).unwrap_or_default();
    // A first line that is broken, among whole ones, does not make a document of the file.
    let whole = |line: &[u8]| serde_json::from_slice::<Map<String, Value>>(line).is_ok();
    match whole(first) || lines.take(2).any(whole) {
        true => Format::JsonLines,
        false => Format::Json,
    }
}
