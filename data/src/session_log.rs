//! The file of one session, which only grows.
//!
//! *Invariant:* a record that [`SessionLog::append`] returned `Ok` for is on the disk, or with [`Durability::Process`] in
//! the hands of the operating system and on the disk when the session ends or is dropped; one that it returned an error for
//! is not in the file.
//!
//! [`Durability::Process`]: crate::Durability::Process

use std::path::{Path, PathBuf};

use jiff::{Timestamp, tz::TimeZone};

use crate::durable::{LOG_STEPS, LineFile};
use crate::error::{Error, Result};
use crate::home::sessions_dir;
use crate::log::LogOptions;
use crate::record::{EndRecord, Record, SessionRecord, id_time, new_session_id};

/// A session that is being written.
pub struct SessionLog {
    id: String,
    started: Timestamp,
    file: LineFile,
}

impl SessionLog {
    /// Starts a session below the log directory and writes its first record.
    ///
    /// # Errors
    /// When the file cannot be made durable; nothing of it is left then.
    pub fn create(log_dir: &Path, client: &str, options: &LogOptions) -> Result<Self> {
        let id = new_session_id();
        let started = id_time(&id).unwrap_or_else(Timestamp::now);
        let path = path_of(log_dir, &id)
            .ok_or_else(|| Error::UnknownSession { id: id.clone(), path: sessions_dir(log_dir) })?;
        let file = LineFile::create(&path, &LOG_STEPS, options.fault.clone(), options.thread())?;
        let mut session = Self { id, started, file };
        let first = Record::Session(SessionRecord { session: session.id.clone(), started, client: client.to_owned() });
        if let Err(error) = session.append(&first) {
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        Ok(session)
    }

    /// Opens a session to write more; what a killed writer left of a line is cut off.
    ///
    /// # Errors
    /// When there is no such session, or its file cannot be written.
    pub fn open(log_dir: &Path, id: &str, options: &LogOptions) -> Result<Self> {
        let unknown = || Error::UnknownSession { id: id.to_owned(), path: sessions_dir(log_dir) };
        let path = path_of(log_dir, id).ok_or_else(unknown)?;
        if !path.exists() {
            return Err(unknown());
        }
        Ok(Self {
            id: id.to_owned(),
            started: id_time(id).ok_or_else(unknown)?,
            file: LineFile::open(&path, &LOG_STEPS, options.fault.clone(), options.thread())?,
        })
    }

    /// The session's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// When it started.
    pub fn started(&self) -> Timestamp {
        self.started
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Writes a record as one line, and returns when that counts as written; see [`crate::Durability`].
    ///
    /// # Errors
    /// When the disk refuses this record, or with `Durability::Process` refused to sync an earlier one; the file is cut back to its last whole line and later appends work.
    pub fn append(&mut self, record: &Record) -> Result<()> {
        let line = record.to_line().map_err(|source| Error::Encode { path: self.file.path().to_owned(), source })?;
        self.file.append(line.as_bytes())
    }

    /// Writes the record that ends the session, and returns when the whole session is on the disk.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn end(&mut self, reason: &str) -> Result<()> {
        let end = Record::End(EndRecord { session: self.id.clone(), at: Timestamp::now(), reason: reason.to_owned() });
        self.append(&end)?;
        self.file.settle()
    }
}

/// The file of a session: its id carries the day. `None` when the id is none of ours.
pub(crate) fn path_of(log_dir: &Path, id: &str) -> Option<PathBuf> {
    let ours = id.len() == 34 && id.starts_with("s_") && id.bytes().skip(2).all(|byte| byte.is_ascii_hexdigit());
    let started = id_time(id).filter(|_| ours)?.to_zoned(TimeZone::UTC);
    let day = started.strftime("%Y/%m/%d").to_string();
    Some(sessions_dir(log_dir).join(day).join(format!("{id}.jsonl")))
}
