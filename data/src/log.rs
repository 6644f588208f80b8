//! The log of all conversations: reading it, and adding feedback to it later.
//!
//! The log is a directory of session files and nothing else: no index that could disagree with them. It is never
//! rewritten here.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::behind::{Durability, SyncThread};
use crate::error::{Error, Result};
use crate::example::check_slots;
use crate::fault::{self, FaultPoint};
use crate::home::{Home, decisions_path, sessions_dir};
use crate::lines::RecordLines;
use crate::opinions::Opinions;
use crate::record::{Correction, FeedbackRecord, InteractionRecord, Rating, Record, id_time, new_feedback_id};
use crate::session_log::{SessionLog, path_of};

/// How a log is written.
#[derive(Clone)]
pub struct LogOptions {
    /// Called right before each durable step.
    pub fault: FaultPoint,
    /// When a line counts as written.
    pub durability: Durability,
    /// Syncs the files of this log when its lines count earlier than that.
    thread: SyncThread,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self::with_fault(fault::none())
    }
}

impl LogOptions {
    /// Waits for the disk, with fault points.
    pub fn with_fault(fault: FaultPoint) -> Self {
        Self { fault, durability: Durability::default(), thread: SyncThread::default() }
    }

    /// The same with another moment at which a line counts as written.
    pub fn durability(self, durability: Durability) -> Self {
        Self { durability, ..self }
    }

    pub(crate) fn thread(&self) -> Option<SyncThread> {
        (self.durability == Durability::Process).then(|| self.thread.clone())
    }
}

/// What is known of a session without its texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSummary {
    /// The session's id.
    pub id: String,
    /// Its file.
    pub path: PathBuf,
    /// Who talked.
    pub client: String,
    /// When it started.
    pub started: Timestamp,
    /// When it ended; `None` while its last record is no end.
    pub ended: Option<Timestamp>,
    /// When its last record was written.
    pub last: Timestamp,
    /// How many records it has.
    pub records: usize,
    /// How many turns.
    pub interactions: usize,
    /// How many opinions, on turns of this session or another.
    pub feedback: usize,
    /// How many of them say what would have been right.
    pub corrections: usize,
    /// The first thing that was said.
    pub first_text: Option<String>,
    /// How many lines cannot be read.
    pub broken_lines: usize,
}

/// The log of a home.
#[derive(Clone)]
pub struct Log {
    directory: PathBuf,
    options: LogOptions,
    opinions: Arc<Mutex<Opinions>>,
}

impl Log {
    /// The log of a home.
    pub fn open(home: &Home) -> Self {
        Self::open_with(home, LogOptions::default())
    }

    /// The log of a home, with fault points.
    pub fn open_with(home: &Home, options: LogOptions) -> Self {
        Self { directory: home.log_dir(), options, opinions: Arc::default() }
    }

    /// What was read of the opinions so far.
    pub(crate) fn opinions(&self) -> MutexGuard<'_, Opinions> {
        self.opinions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn decisions_path(&self) -> PathBuf {
        decisions_path(&self.directory)
    }

    /// Starts a session.
    ///
    /// # Errors
    /// When its file cannot be made.
    pub fn start_session(&self, client: &str) -> Result<SessionLog> {
        SessionLog::create(&self.directory, client, &self.options)
    }

    /// Opens a session to write more.
    ///
    /// # Errors
    /// When there is no such session, or its file cannot be written.
    pub fn reopen(&self, session: &str) -> Result<SessionLog> {
        SessionLog::open(&self.directory, session, &self.options)
    }

    /// The ids of all sessions, oldest first.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn session_ids(&self) -> Result<Vec<String>> {
        let mut ids = Vec::new();
        collect_ids(&self.directory, &sessions_dir(&self.directory), 3, &mut ids)?;
        ids.sort_unstable();
        Ok(ids)
    }

    /// All sessions, oldest first, each read when its turn comes.
    ///
    /// # Errors
    /// When a directory cannot be read; an item is an error when its file cannot be.
    pub fn sessions(&self) -> Result<impl Iterator<Item = Result<SessionSummary>> + use<>> {
        let log = self.clone();
        Ok(self.session_ids()?.into_iter().map(move |id| log.session(&id)))
    }

    /// One session.
    ///
    /// # Errors
    /// When there is no such session, or its file cannot be read.
    pub fn session(&self, id: &str) -> Result<SessionSummary> {
        let path = self.path(id)?;
        let records = self.records_of(id)?;
        summarise(id, path, records)
    }

    /// The sessions whose last record is no end, oldest first: those that are still open, and those whose writer was
    /// killed. `last` tells how long ago anything was written.
    ///
    /// # Errors
    /// When a file or directory cannot be read.
    pub fn unfinished(&self) -> Result<Vec<SessionSummary>> {
        self.sessions()?.filter(|session| !matches!(session, Ok(SessionSummary { ended: Some(_), .. }))).collect()
    }

    /// All records of a session.
    ///
    /// # Errors
    /// The first line that cannot be read; [`Log::records_of`] reads on behind it.
    pub fn read(&self, session: &str) -> Result<Vec<Record>> {
        self.records_of(session)?.collect()
    }

    /// The records of a session one by one; a broken line is one error and a torn last line is none.
    ///
    /// # Errors
    /// When there is no such session, or its file cannot be opened.
    pub fn records_of(&self, session: &str) -> Result<impl Iterator<Item = Result<Record>> + use<>> {
        RecordLines::open(&self.path(session)?)
    }

    /// All records of all sessions in the order of their time. Only the sessions that overlap are in memory together.
    ///
    /// # Errors
    /// When a directory cannot be read; an item is an error when a line or file cannot be.
    pub fn records(&self) -> Result<impl Iterator<Item = Result<Record>> + use<>> {
        Ok(Merge {
            waiting: self.session_ids()?.into(),
            log: self.clone(),
            open: BinaryHeap::new(),
            sessions: Vec::new(),
        })
    }

    /// A turn, by its id.
    ///
    /// # Errors
    /// When a file or directory cannot be read.
    pub fn find_interaction(&self, id: &str) -> Result<Option<InteractionRecord>> {
        let Some(at) = id_time(id).filter(|_| id.starts_with("i_")) else {
            return Ok(None);
        };
        // A turn lies in a session that started before it, mostly the last such.
        for session in self.session_ids()?.iter().rev() {
            if id_time(session).is_some_and(|started| started > at) {
                continue;
            }
            let path = self.path(session)?;
            let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
            if !String::from_utf8_lossy(&bytes).contains(id) {
                continue;
            }
            let found = self.records_of(session)?.find_map(|record| match record {
                Ok(Record::Interaction(interaction)) if interaction.id == id => Some(interaction),
                _ => None,
            });
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Writes an opinion on a turn: into the session of the turn while that is open, else into a session of its own.
    ///
    /// # Errors
    /// When there is no such turn, when the corrected arguments do not fit what was said, or when the disk refuses.
    pub fn append_feedback(
        &self,
        interaction: &str,
        rating: Option<Rating>,
        correction: Option<Correction>,
    ) -> Result<FeedbackRecord> {
        let turn = self.find_interaction(interaction)?.ok_or_else(|| Error::UnknownInteraction {
            id: interaction.to_owned(),
            path: sessions_dir(&self.directory),
        })?;
        let correction = checked(&turn, correction)?;
        let feedback = FeedbackRecord {
            id: new_feedback_id(),
            interaction: turn.id,
            session: turn.session.clone(),
            at: Timestamp::now(),
            rating,
            correction,
        };
        let record = Record::Feedback(feedback.clone());
        if self.session(&turn.session)?.ended.is_none() {
            self.reopen(&turn.session)?.append(&record)?;
        } else {
            let mut session = self.start_session("feedback")?;
            session.append(&record)?;
            session.end("feedback")?;
        }
        Ok(feedback)
    }

    pub(crate) fn path(&self, session: &str) -> Result<PathBuf> {
        path_of(&self.directory, session)
            .filter(|path| path.exists())
            .ok_or_else(|| Error::UnknownSession { id: session.to_owned(), path: sessions_dir(&self.directory) })
    }
}

/// Checks the arguments of a correction against the turn that it corrects.
fn checked(turn: &InteractionRecord, correction: Option<Correction>) -> Result<Option<Correction>> {
    let Some(Correction::Function { function, slots: Some(mut slots) }) = correction else {
        return Ok(correction);
    };
    check_slots(&turn.text, &mut slots).map_err(|source| Error::Correction { interaction: turn.id.clone(), source })?;
    Ok(Some(Correction::Function { function, slots: Some(slots) }))
}

pub(crate) fn summarise(
    id: &str,
    path: PathBuf,
    records: impl Iterator<Item = Result<Record>>,
) -> Result<SessionSummary> {
    let started = id_time(id).unwrap_or(Timestamp::UNIX_EPOCH);
    let mut summary = SessionSummary {
        id: id.to_owned(),
        path,
        client: String::new(),
        started,
        ended: None,
        last: started,
        records: 0,
        interactions: 0,
        feedback: 0,
        corrections: 0,
        first_text: None,
        broken_lines: 0,
    };
    for record in records {
        let record = match record {
            Ok(record) => record,
            Err(Error::Line(_)) => {
                summary.broken_lines += 1;
                continue;
            }
            Err(error) => return Err(error),
        };
        summary.records += 1;
        summary.last = record.at();
        summary.ended = None;
        match record {
            Record::Session(session) => {
                summary.client = session.client;
                summary.started = session.started;
            }
            Record::Interaction(interaction) => {
                summary.interactions += 1;
                summary.first_text.get_or_insert(interaction.text);
            }
            Record::Feedback(feedback) => {
                summary.feedback += 1;
                summary.corrections += usize::from(feedback.correction.is_some());
            }
            Record::End(end) => summary.ended = Some(end.at),
        }
    }
    Ok(summary)
}

/// Collects the session ids of a directory and, `depth` levels deep, of those below it.
fn collect_ids(log_dir: &Path, directory: &Path, depth: usize, ids: &mut Vec<String>) -> Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(Error::io("read", directory))?,
    };
    for entry in entries {
        let path = entry.map_err(Error::io("read", directory))?.path();
        if depth > 0 {
            if path.is_dir() {
                collect_ids(log_dir, &path, depth - 1, ids)?;
            }
        } else if let Some(id) = path.file_stem().and_then(|stem| stem.to_str()) {
            // Anything else that a person put here is left alone.
            if path_of(log_dir, id).is_some_and(|expected| expected == path) {
                ids.push(id.to_owned());
            }
        }
    }
    Ok(())
}

/// The time and place of a record that waits in [`Merge`], the earliest first.
type Head = Reverse<(Timestamp, usize)>;

/// Merges the sessions by time.
struct Merge {
    log: Log,
    /// The sessions that have not been opened, oldest first.
    waiting: VecDeque<String>,
    /// The first record of each session that has been.
    open: BinaryHeap<Head>,
    sessions: Vec<VecDeque<Result<Record>>>,
}

impl Merge {
    /// Opens the sessions that start before the first waiting record.
    fn open_sessions(&mut self) -> Result<()> {
        while let Some(id) = self.waiting.front() {
            let started = id_time(id).unwrap_or(Timestamp::UNIX_EPOCH);
            if let Some(Reverse((first, _))) = self.open.peek()
                && started > *first
            {
                break;
            }
            let id = self.waiting.pop_front().unwrap_or_default();
            let records: VecDeque<_> = self.log.records_of(&id)?.collect();
            let index = self.sessions.len();
            self.sessions.push(records);
            self.push_head(index, started);
        }
        Ok(())
    }

    /// Queues the next record of a session; a broken line takes the time of the record before it.
    fn push_head(&mut self, index: usize, before: Timestamp) {
        match self.sessions[index].front() {
            Some(Ok(record)) => self.open.push(Reverse((record.at(), index))),
            Some(Err(_)) => self.open.push(Reverse((before, index))),
            None => self.sessions[index] = VecDeque::new(),
        }
    }
}

impl Iterator for Merge {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(error) = self.open_sessions() {
            return Some(Err(error));
        }
        let Reverse((at, index)) = self.open.pop()?;
        let record = self.sessions[index].pop_front();
        self.push_head(index, at);
        record
    }
}
