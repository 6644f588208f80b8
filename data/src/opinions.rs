//! What people thought of their turns, read from the log again and again: only the sessions that changed are read anew.
//!
//! A service asks for the labels after every opinion, and a log only grows. Clones of a [`Log`] share what was read.
//!
//! Invariant: what is given is what reading everything would give. A session is known by its length, which a line that is added
//! changes.

use std::collections::{HashMap, HashSet};
use std::fs;

use jiff::Timestamp;

use crate::error::{Error, LineError, Result};
use crate::log::Log;
use crate::record::{FeedbackRecord, InteractionRecord, Record, id_time};

/// What was read of a log.
#[derive(Default)]
pub(crate) struct Opinions {
    sessions: HashMap<String, SessionOpinions>,
    /// The turns that somebody has an opinion on, by their ids.
    turns: HashMap<String, InteractionRecord>,
    /// Turns that no session has.
    absent: HashSet<String>,
}

struct SessionOpinions {
    bytes: u64,
    /// In the order of the file, each with the latest time up to it.
    opinions: Vec<(Timestamp, FeedbackRecord)>,
    problems: Vec<LineError>,
}

impl Opinions {
    /// All opinions in the order of their time, and the lines that cannot be read.
    ///
    /// # Errors
    /// When a file or directory cannot be read.
    pub fn read(&mut self, log: &Log) -> Result<(Vec<FeedbackRecord>, Vec<LineError>)> {
        let ids = log.session_ids()?;
        let mut sessions = HashMap::with_capacity(ids.len());
        let mut unchanged = HashSet::new();
        for id in &ids {
            // Taken before the reading: what is added meanwhile is found the next time.
            let path = match log.path(id) {
                Err(Error::UnknownSession { .. }) => continue,
                path => path?,
            };
            let bytes = fs::metadata(&path).map_err(Error::io("read", &path))?.len();
            let known = self.sessions.remove(id);
            if known.is_none() {
                // It may have the turns that were looked for.
                self.absent.clear();
            }
            let known = known.filter(|known| known.bytes == bytes);
            if known.is_some() {
                unchanged.insert(id.as_str());
            }
            sessions.insert(id.clone(), known.map_or_else(|| SessionOpinions::read(log, id, bytes), Ok)?);
        }
        self.sessions = sessions;
        self.turns.retain(|_, turn| unchanged.contains(turn.session.as_str()));
        let known = ids.iter().filter_map(|id| self.sessions.get(id));
        let mut opinions: Vec<&(Timestamp, FeedbackRecord)> = known.clone().flat_map(|one| &one.opinions).collect();
        opinions.sort_by_key(|(at, _)| *at);
        let problems = known.flat_map(|one| one.problems.iter().cloned()).collect();
        Ok((opinions.into_iter().map(|(_, opinion)| opinion.clone()).collect(), problems))
    }

    /// The turns that some opinions are about; the others need no memory.
    ///
    /// An opinion names the session of its turn, so that mostly a few files are read and not the whole log.
    ///
    /// # Errors
    /// When a file or directory cannot be read.
    pub fn turns_of(&mut self, log: &Log, opinions: &[FeedbackRecord]) -> Result<&HashMap<String, InteractionRecord>> {
        let missing = |known: &Self| -> Vec<&FeedbackRecord> {
            let is_new = |id: &String| !known.turns.contains_key(id) && !known.absent.contains(id);
            opinions.iter().filter(|opinion| is_new(&opinion.interaction)).collect()
        };
        let wanted: HashSet<&str> = opinions.iter().map(|opinion| opinion.interaction.as_str()).collect();
        let sessions: HashSet<&str> = missing(self).into_iter().map(|opinion| opinion.session.as_str()).collect();
        for session in sessions {
            match log.records_of(session) {
                Ok(records) => self.keep(records, &wanted)?,
                Err(Error::UnknownSession { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        if !missing(self).is_empty() {
            // Somebody wrote another session there, or none that is left.
            self.keep(log.records()?, &wanted)?;
            let absent = missing(self).into_iter().map(|opinion| opinion.interaction.clone()).collect::<Vec<_>>();
            self.absent.extend(absent);
        }
        Ok(&self.turns)
    }

    fn keep(&mut self, records: impl Iterator<Item = Result<Record>>, wanted: &HashSet<&str>) -> Result<()> {
        for record in records {
            match record {
                Ok(Record::Interaction(turn)) if wanted.contains(turn.id.as_str()) => {
                    self.turns.insert(turn.id.clone(), turn);
                }
                Ok(_) | Err(Error::Line(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl SessionOpinions {
    fn read(log: &Log, id: &str, bytes: u64) -> Result<Self> {
        let mut read = Self { bytes, opinions: Vec::new(), problems: Vec::new() };
        let mut latest = id_time(id).unwrap_or(Timestamp::UNIX_EPOCH);
        let records = match log.records_of(id) {
            Err(Error::UnknownSession { .. }) => return Ok(read),
            records => records?,
        };
        for record in records {
            match record {
                Ok(record) => {
                    latest = latest.max(record.at());
                    if let Record::Feedback(opinion) = record {
                        read.opinions.push((latest, opinion));
                    }
                }
                Err(Error::Line(problem)) => read.problems.push(problem),
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }
}
