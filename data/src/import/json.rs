//! JSON Lines, and whole JSON documents.
//!
//! A document is cut into its records by counting brackets, so that each has its line and a broken one does not take
//! the others with it.

use std::collections::VecDeque;
use std::io::{BufReader, Read};

use serde_json::Value;

use super::schema::{self, CONTAINERS};
use super::{File, Imported, TextLines};
use crate::error::LineError;
use crate::record::json_message;

/// The largest document; JSON Lines have no limit.
const MAX_DOCUMENT_BYTES: u64 = 1024 * 1024 * 1024;

type Item = Result<Imported, LineError>;

/// A record a line.
pub(super) fn lines<R: Read>(lines: TextLines<R>) -> impl Iterator<Item = Item> {
    let file = lines.file.clone();
    lines.flat_map(move |line| match line {
        Err(error) => vec![Err(error)],
        Ok((_, text)) if text.trim().is_empty() => Vec::new(),
        Ok((number, text)) => match serde_json::from_str(&text) {
            Ok(value) => schema::read(&value, &file, number),
            Err(error) => vec![Err(json_error(&file, number, &error))],
        },
    })
}

/// The records of a document.
pub(super) fn document<R: Read>(reader: BufReader<R>, file: File) -> impl Iterator<Item = Item> {
    let mut bytes = Vec::new();
    let failed = reader.take(MAX_DOCUMENT_BYTES + 1).read_to_end(&mut bytes).err();
    let mut pending = VecDeque::new();
    if bytes.len() as u64 > MAX_DOCUMENT_BYTES {
        pending.push_back(Err(file.error(
            1,
            format!("the document is larger than {MAX_DOCUMENT_BYTES} bytes"),
            "save it as JSON Lines, one object a line",
        )));
        bytes.clear();
    }
    Document { file, bytes, at: 0, line: 1, counted: 0, resume: None, pending, failed }
}

fn json_error(file: &File, line: u64, error: &serde_json::Error) -> LineError {
    // Within a document, serde counts the lines of the record.
    let line = line + (error.line() as u64).saturating_sub(1);
    file.error(line, format!("not JSON: {}", json_message(error)), "correct the line and import the file again")
}

struct Document {
    file: File,
    bytes: Vec<u8>,
    at: usize,
    /// The line of the byte `counted`.
    line: u64,
    counted: usize,
    /// Where to go on behind the array whose elements are being read.
    resume: Option<usize>,
    pending: VecDeque<Item>,
    failed: Option<std::io::Error>,
}

impl Iterator for Document {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        loop {
            if let Some(item) = self.pending.pop_front() {
                return Some(item);
            }
            self.skip(|byte| byte.is_ascii_whitespace() || byte == b',');
            match self.bytes.get(self.at) {
                None => {
                    let error = self.failed.take()?;
                    let line = self.line_at(self.at);
                    return Some(Err(self.file.read_error(line, &error)));
                }
                Some(b']') if self.resume.is_some() => {
                    self.at = self.resume.take().unwrap_or(self.bytes.len());
                }
                Some(b'[') if self.resume.is_none() => {
                    self.resume = Some(value_end(&self.bytes, self.at).unwrap_or(self.bytes.len()));
                    self.at += 1;
                }
                Some(b'{') if self.resume.is_none() => match self.container(self.at) {
                    Some(array) => {
                        let end = value_end(&self.bytes, self.at);
                        self.resume = Some(end.unwrap_or(self.bytes.len()));
                        self.at = array + 1;
                    }
                    None => self.record(),
                },
                Some(_) => self.record(),
            }
        }
    }
}

impl Document {
    /// Reads the value at the current place.
    fn record(&mut self) {
        let start = self.at;
        let line = self.line_at(start);
        let Some(end) = value_end(&self.bytes, start) else {
            self.at = self.bytes.len();
            // A file that broke off says so itself.
            if self.failed.is_none() {
                self.pending.push_back(Err(self.file.error(
                    line,
                    "the record that starts here is never closed",
                    "close its brackets and quotes",
                )));
            }
            return;
        };
        // A stray closing bracket is no value: step over it.
        self.at = end.max(start + 1);
        match serde_json::from_slice::<Value>(&self.bytes[start..self.at]) {
            Ok(value) => self.pending.extend(schema::read(&value, &self.file, line)),
            Err(error) => self.pending.push_back(Err(json_error(&self.file, line, &error))),
        }
    }

    /// The array of records inside of the object at a place.
    fn container(&self, object: usize) -> Option<usize> {
        let bytes = &self.bytes;
        let space = |byte: &u8| byte.is_ascii_whitespace() || *byte == b',' || *byte == b':';
        let next = |from: usize| {
            let skipped = bytes.get(from..)?.iter().position(|byte| !space(byte))?;
            Some(from + skipped)
        };
        let mut at = next(object + 1)?;
        while bytes[at] == b'"' {
            let key_end = value_end(bytes, at)?;
            let value = next(key_end)?;
            let key = &bytes[at + 1..key_end - 1];
            if bytes[value] == b'[' && CONTAINERS.iter().any(|name| name.as_bytes() == key) {
                return Some(value);
            }
            at = next(value_end(bytes, value)?)?;
        }
        None
    }

    fn skip(&mut self, skipped: impl Fn(u8) -> bool) {
        while self.bytes.get(self.at).is_some_and(|byte| skipped(*byte)) {
            self.at += 1;
        }
    }

    fn line_at(&mut self, at: usize) -> u64 {
        if at > self.counted {
            let newlines = self.bytes[self.counted..at].iter().filter(|byte| **byte == b'\n');
            self.line += newlines.count() as u64;
            self.counted = at;
        }
        self.line
    }
}

/// The place behind the value that starts at a place; `None` when it is never closed.
fn value_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut depth = 0usize;
    let mut at = start;
    loop {
        match *bytes.get(at)? {
            b'"' => {
                at = string_end(bytes, at)?;
                if depth == 0 {
                    return Some(at);
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return Some(at),
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            b',' | b' ' | b'\t' | b'\r' | b'\n' if depth == 0 => return Some(at),
            _ if depth == 0 && at + 1 == bytes.len() => return Some(at + 1),
            _ => {}
        }
        at += 1;
    }
}

fn string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        match *bytes.get(at)? {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
}
