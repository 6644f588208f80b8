//! What the decisions rest on and has to outlive the service: `jobs/ledger.json`.
//!
//! Deleting it is safe: schedules then count from now on, and failures and processor time are forgotten.

use std::path::PathBuf;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use mynah_data::Home;
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::fault::FaultPoint;

/// Processor time that a killed service may forget.
const SAVE_AFTER_SECONDS: f64 = 5.0;

/// The file's content.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ledger {
    /// Until when schedules were answered.
    pub schedules_until: Option<Timestamp>,
    /// Fine-tunes in a row that failed.
    pub failures: u32,
    /// When the last of them did.
    pub last_failure: Option<Timestamp>,
    /// The day that the processor time is of, in the system's time zone.
    pub day: Option<jiff::civil::Date>,
    /// Processor time of that day, in seconds.
    pub cpu_seconds: f64,
    /// Bad opinions up to here have led to a fine-tune already.
    pub opinions_until: Option<Timestamp>,
}

impl Ledger {
    /// Adds processor time to today's.
    pub fn spend(&mut self, seconds: f64, now: Timestamp) {
        let today = today(now);
        if self.day != Some(today) {
            (self.day, self.cpu_seconds) = (Some(today), 0.0);
        }
        self.cpu_seconds += seconds.max(0.0);
    }

    /// Today's processor time.
    pub fn spent(&self, now: Timestamp) -> SignedDuration {
        match self.day == Some(today(now)) {
            true => SignedDuration::try_from_secs_f64(self.cpu_seconds).unwrap_or_default(),
            false => SignedDuration::ZERO,
        }
    }

    /// What came due since it was last answered. The first look at a home answers everything before it.
    pub fn unanswered(&self, last_due: Option<Timestamp>) -> Option<Timestamp> {
        last_due.filter(|due| self.schedules_until.is_some_and(|until| *due > until))
    }
}

fn today(now: Timestamp) -> jiff::civil::Date {
    now.to_zoned(TimeZone::system()).date()
}

/// The file.
pub struct LedgerFile {
    path: PathBuf,
    fault: FaultPoint,
    ledger: Ledger,
    /// Processor time, in seconds, that the file does not have yet.
    unsaved: f64,
}

impl LedgerFile {
    /// Reads it; one that cannot be read counts as none, loudly.
    pub fn open(home: &Home, fault: FaultPoint, now: Timestamp) -> Self {
        let path = home.root().join("jobs").join("ledger.json");
        let ledger = durable::read_json::<Ledger>(&path).unwrap_or_else(|error| {
            tracing::warn!("{error:#}; it is begun anew");
            None
        });
        let mut file = Self { path, fault, ledger: ledger.unwrap_or_default(), unsaved: 0.0 };
        if file.ledger.schedules_until.is_none() {
            file.change(|ledger| ledger.schedules_until = Some(now));
        }
        file
    }

    /// What it says.
    pub fn read(&self) -> &Ledger {
        &self.ledger
    }

    /// Adds processor time, on the disk after a few seconds' worth of it.
    pub fn spend_soon(&mut self, seconds: f64, now: Timestamp) {
        self.ledger.spend(seconds, now);
        self.unsaved += seconds;
        if self.unsaved >= SAVE_AFTER_SECONDS {
            self.settle();
        }
    }

    /// Writes down what [`LedgerFile::spend_soon`] has not yet.
    pub fn settle(&mut self) {
        if self.unsaved > 0.0 {
            self.save();
        }
    }

    fn save(&mut self) {
        self.unsaved = 0.0;
        let bytes = serde_json::to_vec_pretty(&self.ledger).unwrap_or_default();
        if let Err(error) = durable::replace(&self.path, &bytes, &self.fault) {
            tracing::warn!("{error:#}");
        }
    }

    /// Changes it, on the disk too; a disk that refuses is told and costs no more than memory of it.
    pub fn change(&mut self, change: impl FnOnce(&mut Ledger)) {
        let before = self.ledger.clone();
        change(&mut self.ledger);
        if self.ledger != before {
            self.save();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn missed_times_are_found_after_a_restart_and_answered_once() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::new(directory.path());
        let open = |now| LedgerFile::open(&home, std::sync::Arc::new(|_| Ok(())), now);
        let first = open(at("2026-01-01T00:00:00Z"));
        assert_eq!(first.read().unanswered(Some(at("2025-12-31T03:00:00Z"))), None, "before its time");
        let due = at("2026-01-02T03:00:00Z");
        let mut second = open(at("2026-01-02T09:00:00Z"));
        assert_eq!(second.read().unanswered(Some(due)), Some(due));
        second.change(|ledger| ledger.schedules_until = Some(due));
        assert_eq!(open(at("2026-01-02T09:00:00Z")).read().unanswered(Some(due)), None);
        std::fs::write(directory.path().join("jobs/ledger.json"), "{").unwrap();
        assert_eq!(open(at("2026-01-03T00:00:00Z")).read().unanswered(Some(due)), None);
    }

    #[test]
    fn processor_time_is_of_one_day() {
        let mut ledger = Ledger::default();
        let noon = at("2026-01-01T12:00:00Z");
        ledger.spend(30.0, noon);
        ledger.spend(12.5, noon);
        assert_eq!(ledger.spent(noon), SignedDuration::from_millis(42_500));
        let later = noon + SignedDuration::from_hours(48);
        assert_eq!(ledger.spent(later), SignedDuration::ZERO);
        ledger.spend(1.0, later);
        assert_eq!(ledger.spent(later), SignedDuration::from_secs(1));
    }
}
