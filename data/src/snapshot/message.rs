//! What a commit of the log says, so that `git log` reads as the history of the conversations.

use super::tree::{Change, count_lines};
use crate::error::{Error, LineError, Result};
use crate::log::summarise;
use crate::record::Record;

/// The longest quotation of what was said.
const MAX_QUOTED: usize = 40;

/// A subject with the numbers, then a line for each session and file.
pub(super) fn of(changes: &[Change]) -> String {
    let mut totals = Totals::default();
    let mut lines = Vec::new();
    for change in changes {
        lines.push(totals.line(change));
    }
    let mut message = totals.subject();
    message.push_str("\n\n");
    for line in lines {
        message.push_str(&line);
        message.push('\n');
    }
    message
}

#[derive(Default)]
struct Totals {
    sessions: usize,
    records: usize,
    imports: usize,
    imported: usize,
    answers: usize,
    removed: usize,
    others: usize,
}

impl Totals {
    fn line(&mut self, change: &Change) -> String {
        let path = &change.path;
        let Some(content) = &change.content else {
            self.removed += 1;
            let lines = change.lines_before.unwrap_or_default();
            return format!("{path}: removed, {}", count(lines, "line"));
        };
        let lines = count_lines(content);
        let added = lines.saturating_sub(change.lines_before.unwrap_or_default());
        if let Some(id) = session_of(path) {
            self.sessions += 1;
            self.records += added;
            session_line(id, content)
        } else if path.starts_with("examples/") {
            self.imports += 1;
            self.imported += lines;
            format!("{path}: {}", count(lines, "record"))
        } else if path == "memory.jsonl" {
            self.answers += added;
            format!("{path}: {}", count(lines, "answer"))
        } else {
            self.others += 1;
            format!("{path}: {}", count(content.len(), "byte"))
        }
    }

    fn subject(&self) -> String {
        let mut parts = Vec::new();
        if self.sessions > 0 {
            let sessions = count(self.sessions, "session");
            parts.push(format!("{} in {sessions}", count(self.records, "record")));
        }
        if self.imports > 0 {
            let files = count(self.imports, "imported file");
            parts.push(format!("{} in {files}", count(self.imported, "record")));
        }
        if self.answers > 0 {
            parts.push(count(self.answers, "answer"));
        }
        if self.others > 0 {
            parts.push(count(self.others, "other file"));
        }
        if self.removed > 0 {
            parts.push(format!("{} removed", count(self.removed, "file")));
        }
        match parts.is_empty() {
            true => "answers changed by hand".to_owned(),
            false => parts.join(", "),
        }
    }
}

fn session_of(path: &str) -> Option<&str> {
    let name = path.strip_prefix("sessions/")?.rsplit('/').next()?;
    name.strip_suffix(".jsonl")
}

fn session_line(id: &str, content: &[u8]) -> String {
    let records = content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(|line| read(id, line));
    let Ok(session) = summarise(id, id.into(), records) else {
        return id.to_owned();
    };
    let said = session.first_text.map(|text| format!(" \"{}\"", quoted(&text))).unwrap_or_default();
    format!(
        "{id} {:.0} {}, {}{said}",
        session.started,
        count(session.interactions, "turn"),
        count(session.corrections, "correction"),
    )
}

fn read(id: &str, line: &[u8]) -> Result<Record> {
    let broken =
        |message: String| Error::Line(LineError { file: id.to_owned(), line: 0, message, hint: String::new() });
    let text = std::str::from_utf8(line).map_err(|error| broken(error.to_string()))?;
    Record::from_line(text).map_err(|error| broken(error.to_string()))
}

/// The first words, in one line.
fn quoted(text: &str) -> String {
    let line: String = text
        .chars()
        .take(4 * MAX_QUOTED)
        .map(|character| match character.is_control() {
            true => ' ',
            false => character,
        })
        .collect();
    let mut quoted = String::new();
    let mut length = 0;
    for word in line.split_whitespace() {
        let gap = usize::from(length > 0);
        let word_length = word.chars().count();
        if length + gap + word_length >= MAX_QUOTED {
            if length == 0 {
                quoted.extend(word.chars().take(MAX_QUOTED - 1));
            }
            quoted.push('…');
            break;
        }
        if gap > 0 {
            quoted.push(' ');
        }
        quoted.push_str(word);
        length += gap + word_length;
    }
    quoted
}

fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quotation_is_one_short_line() {
        assert_eq!(quoted("wake me\n\tup \u{7} at seven"), "wake me up at seven");
        let long = quoted("wake me up at seven in the morning on friday and on saturday");
        assert_eq!(long, "wake me up at seven in the morning on…");
        assert!(quoted(&"é".repeat(1_000_000)).chars().count() <= MAX_QUOTED);
        assert_eq!(quoted(" "), "");
    }
}
