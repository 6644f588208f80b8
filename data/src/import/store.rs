//! Imports into a home: `log/examples/<name>.jsonl`, replaced as a whole, and lines of `log/memory.jsonl`.
//!
//! *Invariant:* the examples of a name are those of one finished import, whenever the program was killed.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::{Format, Imported, read_examples};
use crate::durable::replace_file;
use crate::error::{Error, LineError, Result};
use crate::example::{Example, QuestionExample, RetrievalPair};
use crate::fault::{self, FaultPoint};
use crate::home::{Home, create_private_dir};
use crate::lines::RecordLines;
use crate::memory::{Memory, MemoryLine, fingerprint, taught_answers};
use crate::record::to_line;

/// How many wrong lines a summary keeps.
const KEPT_ERRORS: usize = 100;
const TEMPORARY: &str = ".import-";

/// How a file is imported.
#[derive(Clone)]
pub struct ImportOptions {
    /// The format; `None` looks at the content and the name.
    pub format: Option<Format>,
    /// Whether the file holds questions on passages and nothing else: any other record is a wrong line.
    pub questions_only: bool,
    /// Called right before each durable step.
    pub fault: FaultPoint,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self { format: None, questions_only: false, fault: fault::none() }
    }
}

/// What came of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportSummary {
    /// How many examples were imported.
    pub examples: usize,
    /// How many answers, those included that were known.
    pub answers: usize,
    /// How many questions on passages.
    pub questions: usize,
    /// How many questions with passages.
    pub pairs: usize,
    /// The first wrong lines.
    pub skipped: Vec<LineError>,
    /// How many wrong lines there are.
    pub skipped_total: usize,
    /// The file that was written; `None` when there was nothing for it, and then what a former import of that name
    /// wrote is left as it was.
    pub path: Option<PathBuf>,
}

impl ImportSummary {
    /// How many records were imported.
    pub fn imported(&self) -> usize {
        self.examples + self.answers + self.questions + self.pairs
    }

    /// Whether some lines were imported and others were wrong.
    pub fn is_partial(&self) -> bool {
        self.imported() > 0 && self.skipped_total > 0
    }
}

/// A line of an imported file in a home.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Stored {
    /// An utterance with its function.
    Example(Example),
    /// A question on a passage.
    Question(QuestionExample),
    /// A question with a passage that answers it.
    Pair(RetrievalPair),
}

/// Imports a file into a home; `name` is the file's, and importing it again replaces its examples.
///
/// Answers go to the memory, where one that is known already is not written again.
///
/// # Errors
/// When the home cannot be written. Wrong lines are no error: they are in the summary.
pub fn import(home: &Home, reader: impl Read, name: &str, options: &ImportOptions) -> Result<ImportSummary> {
    let directory = home.examples_dir();
    create_private_dir(&directory).map_err(Error::io("create the directory", &directory))?;
    remove_leftovers(&directory);
    let path = directory.join(format!("{}.jsonl", stem_of(name)));
    let mut summary = ImportSummary::default();
    let mut examples = Spool::new(&directory, &path, &options.fault)?;
    let mut answers = Spool::new(&directory, &home.memory_path(), &options.fault)?;
    let mut known = None;
    for record in read_examples(reader, name, options.format) {
        let record = match record {
            Ok(other) if options.questions_only && !matches!(other, Imported::Question(_)) => Err(no_question(&other)),
            record => record,
        };
        match record {
            Ok(Imported::Answer(answer)) => {
                summary.answers += 1;
                let known = match &mut known {
                    Some(known) => known,
                    None => known.insert(known_answers(home)?),
                };
                if known.insert(fingerprint(&answer)) {
                    answers.write(&MemoryLine::Answer(answer))?;
                }
            }
            Ok(Imported::Example(example)) => {
                summary.examples += 1;
                examples.write(&Stored::Example(example))?;
            }
            Ok(Imported::Question(question)) => {
                summary.questions += 1;
                examples.write(&Stored::Question(question))?;
            }
            Ok(Imported::Pair(pair)) => {
                summary.pairs += 1;
                examples.write(&Stored::Pair(pair))?;
            }
            Err(error) => {
                summary.skipped_total += 1;
                if summary.skipped.len() < KEPT_ERRORS {
                    summary.skipped.push(error);
                }
            }
        }
    }
    if answers.lines > 0 {
        let mut lines = answers.finish()?;
        lines.rewind().map_err(Error::io("read", &home.memory_path()))?;
        Memory::open(home, options.fault.clone())?.append_lines(lines.as_file_mut())?;
    }
    if examples.lines > 0 {
        replace_file(examples.finish()?, &path, &options.fault)?;
        summary.path = Some(path);
    }
    Ok(summary)
}

/// Everything that was imported into a home but the answers, file by file in the order of their names.
///
/// # Errors
/// When the directory cannot be read; an item is an error when a file or line cannot be.
pub fn stored(home: &Home) -> Result<impl Iterator<Item = Result<Stored>> + use<>> {
    let directory = home.examples_dir();
    let mut paths = Vec::new();
    match fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        entries => {
            for entry in entries.map_err(Error::io("read", &directory))? {
                let path = entry.map_err(Error::io("read", &directory))?.path();
                let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
                if !hidden && path.extension().is_some_and(|ending| ending == "jsonl") {
                    paths.push(path);
                }
            }
        }
    }
    paths.sort();
    Ok(paths.into_iter().flat_map(|path| match RecordLines::open(&path) {
        Ok(lines) => Box::new(lines) as Box<dyn Iterator<Item = Result<Stored>>>,
        Err(error) => Box::new(std::iter::once(Err(error))),
    }))
}

/// The imported examples of a home.
///
/// # Errors
/// When the directory cannot be read; an item is an error when a file or line cannot be.
pub fn imported_examples(home: &Home) -> Result<impl Iterator<Item = Result<Example>> + use<>> {
    Ok(stored(home)?.filter_map(|record| match record {
        Ok(Stored::Example(example)) => Some(Ok(example)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    }))
}

/// The questions on passages that were imported into a home.
///
/// # Errors
/// When the directory cannot be read; an item is an error when a file or line cannot be.
pub fn imported_questions(home: &Home) -> Result<impl Iterator<Item = Result<QuestionExample>> + use<>> {
    Ok(stored(home)?.filter_map(|record| match record {
        Ok(Stored::Question(question)) => Some(Ok(question)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    }))
}

/// A record of another kind among what should be questions.
fn no_question(record: &Imported) -> LineError {
    let (what, origin) = match record {
        Imported::Example(example) => ("an utterance", &example.origin),
        Imported::Answer(answer) => ("an answer without a passage", &answer.origin),
        Imported::Question(question) => ("a question", &question.origin),
        Imported::Pair(pair) => ("a question without the place of its answer", &pair.origin),
    };
    let (file, line) = origin.rsplit_once(':').unwrap_or((origin, ""));
    LineError {
        file: file.to_owned(),
        line: line.parse().unwrap_or(0),
        message: format!("{what}, not a question on a passage"),
        hint: "write {\"question\":…,\"context\":…,\"answers\":[{\"text\":…,\"start\":…}]}, or import the file without --questions"
            .to_owned(),
    }
}

fn known_answers(home: &Home) -> Result<HashSet<u64>> {
    let mut known = HashSet::new();
    for answer in taught_answers(home)? {
        match answer {
            Ok(answer) => known.insert(fingerprint(&answer)),
            // A broken line is nobody's answer.
            Err(Error::Line(_)) => false,
            Err(error) => return Err(error),
        };
    }
    Ok(known)
}

/// The name of an imported file in the home: that of the file without its directory and endings.
pub(crate) fn stem_of(name: &str) -> String {
    let file = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let file = match file.len().checked_sub(3).and_then(|at| file.split_at_checked(at)) {
        Some((stem, ending)) if ending.eq_ignore_ascii_case(".gz") => stem,
        _ => file,
    };
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem).trim_start_matches(['.', '-']);
    let stem: String = stem
        .chars()
        .map(|character| match character {
            '.' | '-' | '_' => character,
            other if other.is_alphanumeric() => other,
            _ => '_',
        })
        .take(60)
        .collect();
    match stem.is_empty() {
        true => "standard-input".to_owned(),
        false => stem,
    }
}

/// Lines on their way into a file.
struct Spool<'a> {
    file: BufWriter<Written<'a>>,
    target: PathBuf,
    lines: usize,
}

impl<'a> Spool<'a> {
    fn new(directory: &Path, target: &Path, fault: &'a FaultPoint) -> Result<Self> {
        let file = tempfile::Builder::new()
            .prefix(TEMPORARY)
            .suffix(".tmp")
            .tempfile_in(directory)
            .and_then(|file| file.as_file().lock().map(|()| file))
            .map_err(Error::io("write into", directory))?;
        Ok(Self {
            file: BufWriter::with_capacity(64 * 1024, Written { file, fault }),
            target: target.to_owned(),
            lines: 0,
        })
    }

    fn write<T: Serialize>(&mut self, record: &T) -> Result<()> {
        let line = to_line(record).map_err(|source| Error::Encode { path: self.target.clone(), source })?;
        self.lines += 1;
        self.file.write_all(line.as_bytes()).map_err(Error::io("write", &self.target))
    }

    fn finish(self) -> Result<NamedTempFile> {
        let Self { file, target, .. } = self;
        match file.into_inner() {
            Ok(written) => Ok(written.file),
            Err(error) => Err(Error::io("write", &target)(error.into_error())),
        }
    }
}

/// A temporary file with a fault point before each write.
struct Written<'a> {
    file: NamedTempFile,
    fault: &'a FaultPoint,
}

impl Write for Written<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (self.fault)("import.write")?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Removes what killed imports left: a temporary file that nobody has locked.
fn remove_leftovers(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let temporary = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes()));
        if temporary && File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
            // Left-overs cost room and nothing else: the import does not depend on it.
            let _ = fs::remove_file(&path);
        }
    }
}
