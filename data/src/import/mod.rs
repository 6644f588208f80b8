//! Examples, answers and questions from files in the forms that people have them in.
//!
//! Reading is a stream: a wrong line is one error and reading goes on behind it, and memory does not grow with the
//! file (but for whole JSON documents, which are read as one). Where the bytes come from is the caller's matter.

mod csv;
mod decode;
mod json;
mod schema;
mod store;
mod text;

use std::io::{BufReader, Read};

pub use store::{ImportOptions, ImportSummary, Stored, import, imported_examples, imported_questions, stored};

use crate::error::LineError;
use crate::example::{Example, QuestionExample, RetrievalPair, TaughtAnswer};
use crate::lines::{Line, Lines, MAX_LINE_BYTES};

/// How a file is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// A JSON object a line.
    JsonLines,
    /// An array of objects, or `{"data":[…]}`.
    Json,
    /// Fields with a header, parted by commas, semicolons or tabs.
    Csv,
    /// Pairs of `User: …` and `AI: …`.
    Text,
}

/// What a file gives.
#[derive(Debug, Clone, PartialEq)]
pub enum Imported {
    /// An utterance with its function.
    Example(Example),
    /// A message with its answer.
    Answer(TaughtAnswer),
    /// A question on a passage.
    Question(QuestionExample),
    /// A question with a passage that answers it.
    Pair(RetrievalPair),
}

/// The contents of a file, one by one.
pub struct Examples<'a> {
    records: Box<dyn Iterator<Item = Result<Imported, LineError>> + 'a>,
}

impl Iterator for Examples<'_> {
    type Item = Result<Imported, LineError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.records.next()
    }
}

/// Reads a file, plain or gzip; `name` is what errors and origins call it, and its ending tells the format where the
/// content leaves that open.
pub fn read_examples<'a>(reader: impl Read + 'a, name: &str, format: Option<Format>) -> Examples<'a> {
    let file = File { name: name.to_owned() };
    let (head, reader) = decode::decode(reader);
    let format = match format {
        _ if head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]) => {
            Err(file.error(1, "the file is UTF-16", "save the file as UTF-8"))
        }
        Some(format) => Ok(format),
        None => decode::detect(&head, name).ok_or_else(|| {
            file.error(
                1,
                "neither JSON Lines, JSON, CSV with a known header, nor `User: …` / `AI: …`",
                "write one JSON object a line, such as {\"text\":…,\"intent\":…}",
            )
        }),
    };
    let reader = BufReader::with_capacity(64 * 1024, reader);
    let records: Box<dyn Iterator<Item = _> + 'a> = match format {
        // An empty file is a file without records.
        _ if head.iter().all(u8::is_ascii_whitespace) => {
            Box::new(TextLines::new(reader, file).filter_map(|line| line.err().map(Err)))
        }
        Err(error) => Box::new(std::iter::once(Err(error))),
        Ok(Format::JsonLines) => Box::new(json::lines(TextLines::new(reader, file))),
        Ok(Format::Json) => Box::new(json::document(reader, file)),
        Ok(Format::Csv) => Box::new(csv::rows(TextLines::new(reader, file))),
        Ok(Format::Text) => Box::new(text::pairs(TextLines::new(reader, file))),
    };
    Examples { records }
}

/// The file that is read, as errors and origins call it.
#[derive(Debug, Clone)]
struct File {
    name: String,
}

impl File {
    fn error(&self, line: u64, message: impl Into<String>, hint: impl Into<String>) -> LineError {
        LineError { file: self.name.clone(), line, message: message.into(), hint: hint.into() }
    }

    fn origin(&self, line: u64) -> String {
        format!("{}:{line}", self.name)
    }

    /// The file breaks off.
    fn read_error(&self, line: u64, error: &std::io::Error) -> LineError {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                self.error(line, "the compressed data ends early", "get the file again; the lines before it were read")
            }
            _ => self.error(line, format!("cannot be read: {error}"), "check the file; the lines before it were read"),
        }
    }
}

/// Lines as text: what is not UTF-8 or too long is an error, blank lines are left in.
struct TextLines<R> {
    lines: Option<Lines<BufReader<R>>>,
    file: File,
}

impl<R: Read> TextLines<R> {
    fn new(reader: BufReader<R>, file: File) -> Self {
        Self { lines: Some(Lines::new(reader)), file }
    }
}

impl<R: Read> Iterator for TextLines<R> {
    type Item = Result<(u64, String), LineError>;

    fn next(&mut self) -> Option<Self::Item> {
        let lines = self.lines.as_mut()?;
        let Line { number, bytes, .. } = match lines.read() {
            Ok(Some(line)) => line,
            Ok(None) => {
                self.lines = None;
                return None;
            }
            Err(error) => {
                let error = self.file.read_error(lines.number() + 1, &error);
                self.lines = None;
                return Some(Err(error));
            }
        };
        let Some(bytes) = bytes else {
            return Some(Err(self.file.error(
                number,
                format!("longer than {MAX_LINE_BYTES} bytes"),
                "break the line up",
            )));
        };
        Some(match String::from_utf8(bytes) {
            Ok(text) => Ok((number, text)),
            Err(error) => Err(self.file.error(
                number,
                format!("not UTF-8 at byte {}", error.utf8_error().valid_up_to()),
                "save the file as UTF-8",
            )),
        })
    }
}
