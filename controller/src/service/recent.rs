//! The latest turns of the log, with what people thought of them: what alarms and the watch count.
//!
//! A session that has ended never changes, so it is read once; opinions on it are in files of their own.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use mynah_data::{Error, Log, Rating, Record};

/// Turns that are looked at, the latest ones.
const MAX_TURNS: usize = 6_000;

/// One turn, without its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// When it was answered.
    pub at: Timestamp,
    /// The session it belongs to.
    pub session: String,
    /// The manifest of the version that answered.
    pub version: Option<String>,
    /// The reply was that nobody knows.
    pub abstained: bool,
    /// Somebody corrected it or did not like it.
    pub disliked: bool,
}

impl Turn {
    /// Whether somebody was not served: corrected, disliked, or not understood.
    pub fn went_wrong(&self) -> bool {
        self.abstained || self.disliked
    }
}

/// An opinion on some turn.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Opinion {
    at: Timestamp,
    interaction: String,
    bad: bool,
}

#[derive(Debug, Clone, Default)]
struct Session {
    turns: Vec<(String, Turn)>,
    opinions: Vec<Opinion>,
    ended: bool,
}

/// What was read, kept for the next look.
#[derive(Debug, Default)]
pub struct Recent {
    sessions: BTreeMap<String, Session>,
}

impl Recent {
    /// Reads what is new.
    ///
    /// # Errors
    /// When a file or directory cannot be read.
    pub fn update(&mut self, log: &Log) -> mynah_data::Result<()> {
        let mut turns = 0;
        let mut kept = BTreeMap::new();
        for id in log.session_ids()?.into_iter().rev() {
            let session = match self.sessions.remove(&id).filter(|session| session.ended) {
                Some(session) => session,
                None => read(log, &id)?,
            };
            turns += session.turns.len();
            kept.insert(id, session);
            if turns >= MAX_TURNS {
                break;
            }
        }
        self.sessions = kept;
        Ok(())
    }

    /// The turns in the order of their time.
    pub fn turns(&self) -> Vec<Turn> {
        let mut bad: HashMap<&str, bool> = HashMap::new();
        let mut opinions: Vec<&Opinion> = self.sessions.values().flat_map(|session| &session.opinions).collect();
        opinions.sort_by_key(|opinion| opinion.at);
        for opinion in opinions {
            // Once corrected stays corrected; a thumb may be turned.
            bad.insert(&opinion.interaction, opinion.bad);
        }
        let turns = self.sessions.values().flat_map(|session| &session.turns);
        let mut turns: Vec<Turn> = turns
            .map(|(id, turn)| Turn { disliked: bad.get(id.as_str()).copied().unwrap_or(false), ..turn.clone() })
            .collect();
        turns.sort_by_key(|turn| turn.at);
        turns
    }

    /// When anything was last said.
    pub fn last_at(&self) -> Option<Timestamp> {
        let turns = self.sessions.values().filter_map(|session| session.turns.last().map(|(_, turn)| turn.at));
        turns.chain(self.sessions.values().filter_map(|session| session.opinions.last().map(|it| it.at))).max()
    }

    /// How many of the latest opinions after `since` are bad, without a good one between them; and when the last was given.
    pub fn unhappy_in_a_row(&self, since: Option<Timestamp>) -> (usize, Option<Timestamp>) {
        let opinions = self.sessions.values().flat_map(|session| &session.opinions);
        let mut opinions: Vec<&Opinion> =
            opinions.filter(|opinion| since.is_none_or(|since| opinion.at > since)).collect();
        opinions.sort_by_key(|opinion| opinion.at);
        let row = opinions.iter().rev().take_while(|opinion| opinion.bad).count();
        (row, opinions.last().map(|opinion| opinion.at))
    }
}

fn read(log: &Log, id: &str) -> mynah_data::Result<Session> {
    let mut session = Session::default();
    for record in log.records_of(id)? {
        let record = match record {
            Ok(record) => record,
            Err(Error::Line(_)) => continue,
            Err(error) => return Err(error),
        };
        session.ended = matches!(record, Record::End(_));
        match record {
            Record::Interaction(turn) => {
                let abstained = turn.reply.kind == "abstain";
                let (at, session_id, version) = (turn.at, turn.session, turn.version_digest);
                let fact = Turn { at, session: session_id, version, abstained, disliked: false };
                session.turns.push((turn.id, fact));
            }
            Record::Feedback(opinion) => {
                let bad = opinion.correction.is_some() || opinion.rating == Some(Rating::Down);
                session.opinions.push(Opinion { at: opinion.at, interaction: opinion.interaction, bad });
            }
            Record::Session(_) | Record::End(_) => {}
        }
    }
    Ok(session)
}

#[cfg(test)]
mod tests {
    use mynah_data::{Home, InteractionRecord, ReplyRecord, new_interaction_id};

    use super::*;

    fn turn(log: &mut mynah_data::SessionLog, kind: &str) -> String {
        let id = new_interaction_id();
        let reply = ReplyRecord {
            text: String::new(),
            kind: kind.to_owned(),
            calls: Vec::new(),
            confidence: 0.5,
            source: "model".to_owned(),
            policy: None,
        };
        let record = InteractionRecord {
            id: id.clone(),
            session: log.id().to_owned(),
            at: Timestamp::now(),
            text: "words".to_owned(),
            reply,
            version: Some("v1".to_owned()),
            version_digest: Some("d1".to_owned()),
            latency_ms: 1.0,
        };
        log.append(&Record::Interaction(record)).unwrap();
        id
    }

    #[test]
    fn turns_have_their_opinions_wherever_those_are_written() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::new(directory.path());
        home.create().unwrap();
        let log = Log::open(&home);
        let mut session = log.start_session("test").unwrap();
        let ids: Vec<String> = ["call", "abstain", "call"].into_iter().map(|kind| turn(&mut session, kind)).collect();
        log.append_feedback(&ids[0], Some(Rating::Up), None).unwrap();
        log.append_feedback(&ids[0], Some(Rating::Down), None).unwrap();
        let mut recent = Recent::default();
        recent.update(&log).unwrap();
        assert_eq!(recent.unhappy_in_a_row(None).0, 1);
        session.end("quit").unwrap();
        recent.update(&log).unwrap();
        // Opinions on a session that has ended are in a file of their own.
        log.append_feedback(&ids[2], Some(Rating::Down), None).unwrap();
        recent.update(&log).unwrap();
        let facts: Vec<(bool, bool)> = recent.turns().iter().map(|turn| (turn.abstained, turn.disliked)).collect();
        assert_eq!(facts, [(false, true), (true, false), (false, true)]);
        let (row, last) = recent.unhappy_in_a_row(None);
        assert_eq!(row, 2);
        assert_eq!(recent.unhappy_in_a_row(last).0, 0);
    }
}
