//! Lines of a file of any size, one at a time, in bounded memory.
//!
//! Knows nothing of what the lines mean. A last line without a newline is reported as such: in the log it is what a
//! killed writer left, in an imported file it is a line like any other.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::error::{Error, LineError, Result};
use crate::record::from_line;

/// The longest line that is read; a longer one is skipped and reported.
pub(crate) const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;

/// A line without its line ending.
#[derive(Debug)]
pub(crate) struct Line {
    /// From 1.
    pub number: u64,
    /// The bytes, or `None` when there are more than [`MAX_LINE_BYTES`].
    pub bytes: Option<Vec<u8>>,
    /// Whether a newline follows.
    pub complete: bool,
}

/// Reads lines that end in `\n` or `\r\n`.
pub(crate) struct Lines<R> {
    reader: R,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, number: 0 }
    }

    /// The number of the line that was read last.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Reads the next line; `None` at the end.
    pub(crate) fn read(&mut self) -> io::Result<Option<Line>> {
        let mut bytes = Vec::new();
        let limit = MAX_LINE_BYTES as u64 + 2;
        let length = Read::by_ref(&mut self.reader).take(limit).read_until(b'\n', &mut bytes);
        // What was read of a line before the file broke off counts as no line.
        if length? == 0 {
            return Ok(None);
        }
        self.number += 1;
        let mut complete = bytes.pop_if(|last| *last == b'\n').is_some();
        if complete {
            bytes.pop_if(|last| *last == b'\r');
        }
        let too_long = bytes.len() > MAX_LINE_BYTES;
        if too_long && !complete {
            complete = self.skip_line()?;
        }
        Ok(Some(Line { number: self.number, bytes: (!too_long).then_some(bytes), complete }))
    }

    /// Reads to the next newline without keeping anything.
    fn skip_line(&mut self) -> io::Result<bool> {
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                return Ok(false);
            }
            let newline = buffer.iter().position(|byte| *byte == b'\n');
            let length = newline.map_or(buffer.len(), |at| at + 1);
            self.reader.consume(length);
            if newline.is_some() {
                return Ok(true);
            }
        }
    }
}

/// Reads the records of one of our own files; a torn last line is left out, a broken one in the middle is an error
/// and reading goes on behind it.
pub(crate) struct RecordLines<T> {
    lines: Option<Lines<BufReader<File>>>,
    path: PathBuf,
    record: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> RecordLines<T> {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io("read", path))?;
        Ok(Self { lines: Some(Lines::new(BufReader::new(file))), path: path.to_owned(), record: PhantomData })
    }

    /// The records of a file that need not exist.
    pub(crate) fn open_if_present(path: &Path) -> Result<Self> {
        match Self::open(path) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(Self { lines: None, path: path.to_owned(), record: PhantomData })
            }
            result => result,
        }
    }

    fn error(&self, line: u64, message: String, hint: String) -> Error {
        Error::Line(LineError { file: self.path.display().to_string(), line, message, hint })
    }
}

impl<T: DeserializeOwned> Iterator for RecordLines<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let line = match self.lines.as_mut()?.read() {
                Ok(Some(line)) if line.complete => line,
                Ok(_) => {
                    self.lines = None;
                    return None;
                }
                Err(error) => {
                    self.lines = None;
                    return Some(Err(Error::io("read", &self.path)(error)));
                }
            };
            let Some(bytes) = line.bytes else {
                return Some(Err(self.error(
                    line.number,
                    format!("longer than {MAX_LINE_BYTES} bytes"),
                    "remove the line; every other line is kept".to_owned(),
                )));
            };
            if bytes.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let text = match std::str::from_utf8(&bytes) {
                Ok(text) => text,
                Err(error) => {
                    return Some(Err(self.error(
                        line.number,
                        format!("not UTF-8 at byte {}", error.valid_up_to()),
                        "correct or remove the line; every other line is kept".to_owned(),
                    )));
                }
            };
            return Some(from_line(text).map_err(|error| self.error(line.number, error.to_string(), error.hint())));
        }
    }
}
