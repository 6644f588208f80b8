//! Conversations as text: `User: …`, `AI: …`, and lines that go on with what was said before.

use std::collections::VecDeque;
use std::io::Read;

use super::{File, Imported, TextLines};
use crate::error::LineError;
use crate::example::{Source, TaughtAnswer};

/// The longest message.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

type Item = Result<Imported, LineError>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaker {
    User,
    Assistant,
}

/// Splits `User: hello` into who speaks and what.
fn speaker_of(line: &str) -> Option<(Speaker, &str)> {
    let (name, text) = line.trim_start().split_once(':')?;
    let speaker = match name.trim_end().to_ascii_lowercase().as_str() {
        "user" | "human" | "q" => Speaker::User,
        "ai" | "assistant" | "bot" | "mynah" | "a" => Speaker::Assistant,
        _ => return None,
    };
    Some((speaker, text.trim()))
}

/// Whether a file's first line is something that somebody says.
pub(super) fn is_start(head: &[u8]) -> bool {
    head.split(|byte| *byte == b'\n')
        .map(String::from_utf8_lossy)
        .find(|line| !line.trim().is_empty())
        .is_some_and(|line| speaker_of(&line).is_some())
}

/// A pair a question.
pub(super) fn pairs<R: Read>(lines: TextLines<R>) -> impl Iterator<Item = Item> {
    let file = lines.file.clone();
    Pairs { lines: Some(lines), pair: None, pending: VecDeque::new(), file }
}

struct Pair {
    line: u64,
    question: String,
    answer: Option<String>,
}

struct Pairs<R> {
    lines: Option<TextLines<R>>,
    pair: Option<Pair>,
    pending: VecDeque<Item>,
    file: File,
}

impl<R: Read> Iterator for Pairs<R> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        loop {
            if let Some(item) = self.pending.pop_front() {
                return Some(item);
            }
            match self.lines.as_mut()?.next() {
                Some(Ok((number, line))) => self.line(number, &line),
                Some(Err(error)) => self.pending.push_back(Err(error)),
                None => {
                    self.lines = None;
                    self.finish();
                    return self.pending.pop_front();
                }
            }
        }
    }
}

impl<R: Read> Pairs<R> {
    fn line(&mut self, number: u64, line: &str) {
        match (speaker_of(line), &mut self.pair) {
            (Some((Speaker::User, text)), _) => {
                self.finish();
                self.pair = Some(Pair { line: number, question: text.to_owned(), answer: None });
            }
            (Some((Speaker::Assistant, text)), Some(pair)) if pair.answer.is_none() => {
                pair.answer = Some(text.to_owned());
            }
            (Some((Speaker::Assistant, _)), _) => self.pending.push_back(Err(self.file.error(
                number,
                "an answer without a question",
                "write `User: …` before `AI: …`",
            ))),
            (None, Some(pair)) => {
                let message = pair.answer.as_mut().unwrap_or(&mut pair.question);
                if message.len() + line.len() < MAX_MESSAGE_BYTES {
                    message.push('\n');
                    message.push_str(line.trim_end());
                }
            }
            (None, None) if line.trim().is_empty() => {}
            (None, None) => self.pending.push_back(Err(self.file.error(
                number,
                "nobody says this",
                "start the line with `User:` or `AI:`",
            ))),
        }
    }

    /// Hands out the pair that was read.
    fn finish(&mut self) {
        let Some(Pair { line, question, answer }) = self.pair.take() else {
            return;
        };
        let question = question.trim();
        let answer = answer.as_deref().map(str::trim).unwrap_or_default();
        self.pending.push_back(match (question, answer) {
            ("", _) => Err(self.file.error(line, "the question is empty", "fill it in")),
            (_, "") => Err(self.file.error(line, "a question without an answer", "write `AI: …` behind it")),
            (question, answer) => Ok(Imported::Answer(TaughtAnswer {
                question: question.to_owned(),
                answer: answer.to_owned(),
                source: Source::Imported,
                origin: self.file.origin(line),
                at: None,
            })),
        });
    }
}
