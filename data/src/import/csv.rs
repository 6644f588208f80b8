//! Fields with a header.
//!
//! RFC 4180 with any of four delimiters. Rows are put together from lines first and cut into fields then: a quote that
//! is never closed costs its own row, where a parser of whole files would let it swallow the rest.

use std::collections::VecDeque;
use std::io::Read;

use serde_json::{Map, Value};

use super::schema::{self, ANSWERS, FUNCTION, TEXT};
use super::{File, Imported, TextLines};
use crate::error::LineError;
use crate::record::json_message;

/// What parts fields, in the order in which they are tried on the header.
const DELIMITERS: &[u8] = b",;\t|";
/// The most lines and bytes that one quoted field goes over.
const MAX_ROW_LINES: usize = 1_000;
const MAX_ROW_BYTES: usize = 16 * 1024 * 1024;

type Item = Result<Imported, LineError>;

/// A record a row.
pub(super) fn rows<R: Read>(lines: TextLines<R>) -> impl Iterator<Item = Item> {
    let file = lines.file.clone();
    Rows { lines, again: VecDeque::new(), header: None, pending: VecDeque::new(), file, done: false }
}

/// Whether a file's first line is a header that is known.
pub(super) fn is_header(head: &[u8]) -> bool {
    let line = head
        .split(|byte| *byte == b'\n')
        .map(|line| String::from_utf8_lossy(line).trim().to_owned())
        .find(|line| !line.is_empty());
    line.is_some_and(|line| Header::read(&line).is_some())
}

struct Header {
    delimiter: u8,
    names: Vec<String>,
}

impl Header {
    /// The header, with the delimiter that makes it a known one.
    fn read(line: &str) -> Option<Self> {
        DELIMITERS.iter().find_map(|delimiter| {
            let names: Vec<String> = fields(line, *delimiter)
                .iter()
                .map(|name| name.trim().to_lowercase().replace([' ', '-'], "_"))
                .collect();
            let has = |name: &str| names.iter().any(|known| known == name);
            let known = (TEXT.into_iter().any(has) && FUNCTION.into_iter().any(has))
                || ANSWERS.iter().any(|[question, answer]| has(question) && has(answer));
            known.then_some(Self { delimiter: *delimiter, names })
        })
    }
}

struct Rows<R> {
    lines: TextLines<R>,
    /// Lines that an unclosed quote had taken.
    again: VecDeque<(u64, String)>,
    header: Option<Header>,
    pending: VecDeque<Item>,
    file: File,
    done: bool,
}

impl<R: Read> Iterator for Rows<R> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        loop {
            if let Some(item) = self.pending.pop_front() {
                return Some(item);
            }
            if self.done {
                return None;
            }
            let (number, row) = match self.row()? {
                Ok(row) => row,
                Err(error) => return Some(Err(error)),
            };
            if row.trim().is_empty() {
                continue;
            }
            match &self.header {
                Some(header) => {
                    let read = read_row(header, &row, &self.file, number);
                    self.pending.extend(read);
                }
                None => match Header::read(&row) {
                    Some(header) => self.header = Some(header),
                    // Without a header nothing behind it can be understood.
                    None => {
                        self.done = true;
                        return Some(Err(self.file.error(
                            number,
                            format!("the header `{}` is not known", shortened(&row)),
                            "name the columns text,intent or question,answer or \
                             user_message,ai_response",
                        )));
                    }
                },
            }
        }
    }
}

impl<R: Read> Rows<R> {
    fn line(&mut self) -> Option<Result<(u64, String), LineError>> {
        match self.again.pop_front() {
            Some(line) => Some(Ok(line)),
            None => self.lines.next(),
        }
    }

    /// The next row, from as many lines as its quotes go over.
    fn row(&mut self) -> Option<Result<(u64, String), LineError>> {
        let (number, mut row) = match self.line()? {
            Ok(line) => line,
            Err(error) => return Some(Err(error)),
        };
        let delimiter = self.header.as_ref().map(|header| header.delimiter);
        let mut open = ends_in_quotes(&row, false, delimiter);
        let mut taken = VecDeque::new();
        while open && taken.len() < MAX_ROW_LINES && row.len() < MAX_ROW_BYTES {
            match self.line() {
                Some(Ok((next, line))) => {
                    open = ends_in_quotes(&line, true, delimiter);
                    row.push('\n');
                    row.push_str(&line);
                    taken.push_back((next, line));
                }
                Some(Err(error)) => {
                    self.pending.push_back(Err(error));
                    break;
                }
                None => break,
            }
        }
        if !open {
            return Some(Ok((number, row)));
        }
        taken.append(&mut self.again);
        self.again = taken;
        Some(Err(self.file.error(
            number,
            "a quote is never closed",
            "close it, or write \"\" for a quote inside of quotes",
        )))
    }
}

/// Whether a row goes on behind a line, because a field that starts with a quote is not closed in it.
///
/// A quote inside of a field without quotes is a character like any other, and fields between tabs have none.
fn ends_in_quotes(line: &str, mut quoted: bool, delimiter: Option<u8>) -> bool {
    if delimiter == Some(b'\t') {
        return false;
    }
    let parts = |byte: u8| match delimiter {
        Some(delimiter) => byte == delimiter,
        None => DELIMITERS.contains(&byte),
    };
    let mut bytes = line.bytes().peekable();
    let mut field_start = true;
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' if quoted => quoted = bytes.next_if_eq(&b'"').is_some(),
            b'"' if field_start => quoted = true,
            _ => {}
        }
        field_start = !quoted && parts(byte);
    }
    quoted
}

fn read_row(header: &Header, row: &str, file: &File, number: u64) -> Vec<Item> {
    let wrong = |message: String, hint: &str| vec![Err(file.error(number, message, hint))];
    let values = fields(row, header.delimiter);
    if values.len() != header.names.len() {
        return wrong(
            format!("the header has {} fields and this row {}", header.names.len(), values.len()),
            "put quotes around texts that contain the delimiter",
        );
    }
    let mut record = Map::new();
    for (name, value) in header.names.iter().zip(values) {
        let value = match name.as_str() {
            "slots" if value.trim().is_empty() => continue,
            "slots" => match serde_json::from_str(&value) {
                Ok(slots) => slots,
                Err(error) => {
                    return wrong(
                        format!("`slots` is not JSON: {}", json_message(&error)),
                        "write [{\"name\":…,\"start\":…,\"end\":…}]",
                    );
                }
            },
            _ => Value::String(value),
        };
        record.insert(name.clone(), value);
    }
    schema::read(&Value::Object(record), file, number)
}

/// The fields of one row.
fn fields(row: &str, delimiter: u8) -> Vec<String> {
    let delimiter = char::from(delimiter);
    let mut fields = vec![String::new()];
    let mut field_start = true;
    let mut quoted = false;
    let mut characters = row.chars().peekable();
    while let Some(character) = characters.next() {
        let starts = std::mem::take(&mut field_start);
        let field = fields.len() - 1;
        match character {
            '"' if quoted && characters.next_if_eq(&'"').is_some() => fields[field].push('"'),
            '"' if quoted => quoted = false,
            '"' if starts && delimiter != '\t' => quoted = true,
            other if other == delimiter && !quoted => {
                fields.push(String::new());
                field_start = true;
            }
            other => fields[field].push(other),
        }
    }
    fields
}

fn shortened(row: &str) -> String {
    row.chars().take(60).collect()
}
