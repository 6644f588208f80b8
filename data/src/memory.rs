//! `memory.jsonl`: imported questions with their answers, a line each.
//!
//! What is taught in a conversation stays in its session's file; [`crate::labelled()`] finds it there. The file only
//! grows; of two answers to one question the later one counts, and deleting a line undoes it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;

use serde::{Deserialize, Serialize};

use crate::durable::{LineFile, MEMORY_STEPS};
use crate::error::{Error, Result};
use crate::example::TaughtAnswer;
use crate::fault::FaultPoint;
use crate::home::Home;
use crate::lines::RecordLines;
use crate::record::to_line;

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum MemoryLine {
    Answer(TaughtAnswer),
}

/// The file, to be written to.
pub struct Memory {
    file: LineFile,
}

impl Memory {
    /// Opens the memory of a home, and makes its file when it is missing.
    ///
    /// # Errors
    /// When the file cannot be opened or made.
    pub fn open(home: &Home, fault: FaultPoint) -> Result<Self> {
        let file = LineFile::open_or_create(&home.memory_path(), &MEMORY_STEPS, fault)?;
        Ok(Self { file })
    }

    /// Writes an answer, and returns when it is on the disk.
    ///
    /// # Errors
    /// When the disk refuses; nothing of the line is left then.
    pub fn append(&mut self, answer: &TaughtAnswer) -> Result<()> {
        let line = to_line(&MemoryLine::Answer(answer.clone()))
            .map_err(|source| Error::Encode { path: self.file.path().to_owned(), source })?;
        self.file.append(line.as_bytes())
    }

    /// Writes lines that are finished already, all or nothing.
    pub(crate) fn append_lines(&mut self, lines: &mut dyn Read) -> Result<()> {
        const CHUNK_BYTES: usize = 256 * 1024;
        self.file.append_from(lines, CHUNK_BYTES)
    }
}

/// The imported answers in the order in which they came; the later one counts.
///
/// # Errors
/// When the file cannot be opened; an item is an error when its line cannot be read.
pub fn taught_answers(home: &Home) -> Result<impl Iterator<Item = Result<TaughtAnswer>> + use<>> {
    let lines = RecordLines::<MemoryLine>::open_if_present(&home.memory_path())?;
    Ok(lines.map(|line| line.map(|MemoryLine::Answer(answer)| answer)))
}

/// A number that stands for a question and its answer, so that 100,000 of them can be compared in little memory.
pub(crate) fn fingerprint(answer: &TaughtAnswer) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&answer.question, &answer.answer).hash(&mut hasher);
    hasher.finish()
}
