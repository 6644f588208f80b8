//! The clock: cron schedules in their time zones.
//!
//! The scheduler wakes the service; what has come due is worked out from the time alone ([`Clock::last_due`]), so that what was
//! missed while the machine slept or the service was down is found as well. The scheduler takes a fixed offset from UTC, so it
//! is set up again when daylight saving changes one.

use std::pin::Pin;
use std::sync::Arc;

use croner::Cron;
use croner::parser::{CronParser, Seconds};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

use crate::config::{ConfigError, Schedule};

/// Called when a schedule's time has come.
pub type OnDue = Arc<dyn Fn() + Send + Sync>;

/// A schedule that is one.
struct Checked {
    cron: String,
    pattern: Cron,
    zone: TimeZone,
}

/// The running clock.
pub struct Clock {
    schedules: Vec<Checked>,
    offsets: Vec<i32>,
    scheduler: Option<JobScheduler>,
    on_due: OnDue,
}

impl Clock {
    /// Checks the schedules; nothing runs yet.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] for a cron expression or a time zone that is none.
    pub fn new(schedules: &[Schedule], on_due: OnDue) -> Result<Self, ConfigError> {
        let schedules = schedules.iter().map(checked).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { schedules, offsets: Vec::new(), scheduler: None, on_due })
    }

    /// Starts the clock, or sets it again when an offset has changed.
    ///
    /// # Errors
    /// When the scheduler cannot be started.
    pub async fn set(&mut self, now: Timestamp) -> Result<(), JobSchedulerError> {
        let offsets: Vec<i32> = self.schedules.iter().map(|schedule| schedule.zone.to_offset(now).seconds()).collect();
        if self.schedules.is_empty() || (self.scheduler.is_some() && offsets == self.offsets) {
            return Ok(());
        }
        self.stop().await;
        let scheduler = JobScheduler::new().await?;
        for (schedule, seconds) in self.schedules.iter().zip(&offsets) {
            scheduler.add(job(&schedule.cron, *seconds, self.on_due.clone())?).await?;
        }
        scheduler.start().await?;
        (self.scheduler, self.offsets) = (Some(scheduler), offsets);
        Ok(())
    }

    /// The latest time of any schedule up to `now`; `None` without schedules.
    ///
    /// A local time that daylight saving skips counts as later by as much, one that it repeats counts once.
    pub fn last_due(&self, now: Timestamp) -> Option<Timestamp> {
        self.schedules.iter().filter_map(|schedule| schedule.last_due(now)).max()
    }

    /// Stops the clock.
    pub async fn stop(&mut self) {
        if let Some(mut scheduler) = self.scheduler.take() {
            let _ = scheduler.shutdown().await;
        }
    }
}

impl Checked {
    fn last_due(&self, now: Timestamp) -> Option<Timestamp> {
        // The pattern is about the clock on the wall: it is matched in a calendar without time zone.
        let mut wall = self.zone.to_datetime(now);
        // A wall clock that was put back shows the same times twice, so the first find may be a time still to come.
        for _ in 0..LOOKS {
            let shown =
                chrono::DateTime::from_timestamp(wall.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second(), 0)?;
            let found = self.pattern.find_previous_occurrence(&shown, true).ok()?.timestamp();
            wall = TimeZone::UTC.to_datetime(Timestamp::from_second(found).ok()?);
            let at = self.zone.to_ambiguous_timestamp(wall).compatible().ok()?;
            if at <= now {
                return Some(at);
            }
            wall = wall.checked_sub(jiff::Span::new().seconds(1)).ok()?;
        }
        None
    }
}

/// How many finds may lie in the hour that a clock jumps over: one a second.
const LOOKS: usize = 3600;

fn checked(schedule: &Schedule) -> Result<Checked, ConfigError> {
    let invalid = |message: String| ConfigError::Invalid { origin: "[[service.schedules]]".to_owned(), message };
    // The scheduler wants seconds; people write five fields.
    let cron = match schedule.cron.split_whitespace().count() {
        5 => format!("0 {}", schedule.cron.trim()),
        _ => schedule.cron.trim().to_owned(),
    };
    let zone = match &schedule.time_zone {
        None => TimeZone::system(),
        Some(name) => TimeZone::get(name).map_err(|error| invalid(format!("`{name}` is no time zone: {error}")))?,
    };
    let no_cron = |error: String| invalid(format!("`{}` is no cron expression: {error}", schedule.cron));
    job(&cron, 0, Arc::new(|| {})).map_err(|error| no_cron(error.to_string()))?;
    // As the scheduler reads it.
    let parser = CronParser::builder().seconds(Seconds::Required).dom_and_dow(true).build();
    let pattern = parser.parse(&cron).map_err(|error| no_cron(error.to_string()))?;
    Ok(Checked { cron, pattern, zone })
}

fn job(cron: &str, offset_seconds: i32, on_due: OnDue) -> Result<Job, JobSchedulerError> {
    let zone = chrono::FixedOffset::east_opt(offset_seconds).ok_or(JobSchedulerError::ParseSchedule)?;
    Job::new_async_tz(cron, zone, move |_, _| {
        on_due();
        Box::pin(async {}) as Pin<Box<dyn Future<Output = ()> + Send>>
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(cron: &str, zone: Option<&str>) -> Schedule {
        Schedule { cron: cron.to_owned(), time_zone: zone.map(str::to_owned) }
    }

    #[test]
    fn five_and_six_fields_are_taken_and_nonsense_is_named() {
        let new = |schedule: Schedule| Clock::new(&[schedule], Arc::new(|| {})).map(|_| ());
        assert!(new(schedule("0 3 * * *", None)).is_ok());
        assert!(new(schedule("30 0 3 * * Mon-Fri", Some("Europe/Berlin"))).is_ok());
        let error = new(schedule("at three", None)).unwrap_err().to_string();
        assert!(error.contains("`at three` is no cron expression"), "{error}");
        let error = new(schedule("0 3 * * *", Some("Europe/Berln"))).unwrap_err().to_string();
        assert!(error.contains("`Europe/Berln` is no time zone"), "{error}");
    }

    #[test]
    fn what_was_due_last_is_a_matter_of_the_wall_clock() {
        let last = |cron: &str, zone: &str, now: &str| {
            let clock = Clock::new(&[schedule(cron, Some(zone))], Arc::new(|| {})).unwrap();
            clock.last_due(now.parse().unwrap()).map_or("never".to_owned(), |at| at.to_string())
        };
        let rows = [
            ("0 3 * * *", "Europe/Berlin", "2026-01-10T01:59:59Z"),
            ("0 3 * * *", "Europe/Berlin", "2026-01-10T02:00:00Z"),
            ("0 3 * * *", "Europe/Berlin", "2026-07-10T02:00:00Z"),
            ("0 3 * * *", "America/New_York", "2026-01-10T02:00:00Z"),
            ("0 12 * * Mon", "Asia/Kolkata", "2026-01-10T00:00:00Z"),
            // 02:30 does not exist on 29 March 2026 and exists twice on 25 October.
            ("30 2 * * *", "Europe/Berlin", "2026-03-29T12:00:00Z"),
            ("30 2 * * *", "Europe/Berlin", "2026-03-29T01:10:00Z"),
            ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:40:00Z"),
            ("30 2 * * *", "Europe/Berlin", "2026-10-25T01:40:00Z"),
            ("0 3 31 12 *", "UTC", "2026-06-01T00:00:00Z"),
        ];
        let table: Vec<String> = rows
            .iter()
            .map(|(cron, zone, now)| format!("{now} {cron:<13}{zone:<18}{}", last(cron, zone, now)))
            .collect();
        insta::assert_snapshot!(table.join("\n"), @r"
        2026-01-10T01:59:59Z 0 3 * * *    Europe/Berlin     2026-01-09T02:00:00Z
        2026-01-10T02:00:00Z 0 3 * * *    Europe/Berlin     2026-01-10T02:00:00Z
        2026-07-10T02:00:00Z 0 3 * * *    Europe/Berlin     2026-07-10T01:00:00Z
        2026-01-10T02:00:00Z 0 3 * * *    America/New_York  2026-01-09T08:00:00Z
        2026-01-10T00:00:00Z 0 12 * * Mon Asia/Kolkata      2026-01-05T06:30:00Z
        2026-03-29T12:00:00Z 30 2 * * *   Europe/Berlin     2026-03-29T01:30:00Z
        2026-03-29T01:10:00Z 30 2 * * *   Europe/Berlin     2026-03-28T01:30:00Z
        2026-10-25T00:40:00Z 30 2 * * *   Europe/Berlin     2026-10-25T00:30:00Z
        2026-10-25T01:40:00Z 30 2 * * *   Europe/Berlin     2026-10-25T00:30:00Z
        2026-06-01T00:00:00Z 0 3 31 12 *  UTC               2025-12-31T03:00:00Z
        ");
        let now: Timestamp = "2026-01-10T02:00:00Z".parse().unwrap();
        assert_eq!(Clock::new(&[], Arc::new(|| {})).unwrap().last_due(now), None);
    }

    #[tokio::test]
    async fn a_schedule_comes_due_and_follows_daylight_saving() {
        let (sender, mut due) = tokio::sync::mpsc::unbounded_channel();
        let on_due: OnDue = Arc::new(move || {
            let _ = sender.send(());
        });
        let mut clock = Clock::new(&[schedule("* * * * * *", Some("Europe/Berlin"))], on_due).unwrap();
        clock.set("2026-01-01T00:00:00Z".parse().unwrap()).await.unwrap();
        assert_eq!(clock.offsets, [3600]);
        assert_eq!(due.recv().await, Some(()));
        clock.set("2026-07-01T00:00:00Z".parse().unwrap()).await.unwrap();
        assert_eq!(clock.offsets, [7200]);
        assert_eq!(due.recv().await, Some(()));
        clock.stop().await;
    }
}
