//! The clock: cron schedules in their time zones.
//!
//! The scheduler takes a fixed offset from UTC, so it is set up again when daylight saving changes one.

use std::pin::Pin;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

use crate::config::{ConfigError, Schedule};

/// Called when a schedule's time has come.
pub type OnDue = Arc<dyn Fn() + Send + Sync>;

/// The running clock.
pub struct Clock {
    schedules: Vec<(String, TimeZone)>,
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
        let offsets: Vec<i32> = self.schedules.iter().map(|(_, zone)| zone.to_offset(now).seconds()).collect();
        if self.schedules.is_empty() || (self.scheduler.is_some() && offsets == self.offsets) {
            return Ok(());
        }
        self.stop().await;
        let scheduler = JobScheduler::new().await?;
        for ((cron, _), seconds) in self.schedules.iter().zip(&offsets) {
            scheduler.add(job(cron, *seconds, self.on_due.clone())?).await?;
        }
        scheduler.start().await?;
        (self.scheduler, self.offsets) = (Some(scheduler), offsets);
        Ok(())
    }

    /// Stops the clock.
    pub async fn stop(&mut self) {
        if let Some(mut scheduler) = self.scheduler.take() {
            let _ = scheduler.shutdown().await;
        }
    }
}

fn checked(schedule: &Schedule) -> Result<(String, TimeZone), ConfigError> {
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
    job(&cron, 0, Arc::new(|| {}))
        .map_err(|error| invalid(format!("`{}` is no cron expression: {error}", schedule.cron)))?;
    Ok((cron, zone))
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
