//! Settings: defaults < `mynah.toml` < environment < flags, merged here and nowhere else.
//!
//! Libraries receive the plain structs. Invariant: a key that no setting has never passes silently.

mod merge;

use std::path::{Path, PathBuf};

use mynah_pipelines::{GateSettings, TrainingSettings, WatchSettings};
use mynah_runtime::settings::RuntimeSettings;
use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::priority::Priority;
use crate::rollout::RolloutSettings;
use crate::service::logging::LogFormat;
use crate::service::telemetry::TelemetrySettings;

pub use merge::{ConfigError, Flag, nearest};

/// All settings of the program: the tables of `mynah.toml`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How replies are made.
    pub runtime: RuntimeSettings,
    /// How a candidate is fine-tuned.
    pub training: TrainingSettings,
    /// When a candidate is promoted.
    pub gate: GateSettings,
    /// How a candidate that passed the gate comes into production.
    pub rollout: RolloutSettings,
    /// When a promotion is taken back.
    pub watch: WatchSettings,
    /// When and where the service works.
    pub service: ServiceSettings,
}

/// The `[service]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceSettings {
    /// The loopback address to listen on; port 0 takes a free one.
    pub listen: String,
    /// When to learn by the clock; none by default.
    pub schedules: Vec<Schedule>,
    /// Whether to learn after a session ended.
    pub session_end: bool,
    /// Minutes without a word before a session's end leads to learning; a session left open for as long counts as ended.
    pub quiet_minutes: u32,
    /// Labels (corrected and confirmed calls; taught answers need no training) that must be new before learning starts by itself.
    pub min_new_labels: usize,
    /// How late a schedule is still answered that was missed because the machine slept or the service was down.
    pub catch_up_hours: u32,
    /// Thumbs down and corrections in a row, without a thumb up, after which it learns without waiting for a session's end; 0: never.
    pub alarm_after: usize,
    /// The wait after a fine-tune that failed; each further failure doubles it, up to a day.
    pub back_off_minutes: u32,
    /// Processor time that fine-tunes may take a day; what runs then goes on the next day. 0: any. Requests are not counted out.
    pub daily_cpu_minutes: u32,
    /// Whether to learn on battery too, by itself.
    pub on_battery: bool,
    /// Load for each core (over a minute) above which the machine counts as busy; 0: it never does.
    pub max_load: f64,
    /// After so long a busy machine has to bear a fine-tune at low priority.
    pub busy_patience_hours: u32,
    /// How a fine-tune of the service shares the processor.
    pub training_priority: Priority,
    /// Names beside loopback's under which the service may be asked (the `Host` header).
    pub hosts: Vec<String>,
    /// A PEM file with the certificate, for listening on other than loopback.
    pub tls_certificate: Option<PathBuf>,
    /// A PEM file with the certificate's private key.
    pub tls_key: Option<PathBuf>,
    /// Requests a second that one client may send, and as many at once; 0 sets no limit.
    pub requests_per_second: u32,
    /// Requests at work at a time; one more is refused as overloaded.
    pub max_requests: usize,
    /// The largest body of a request.
    pub max_body_bytes: usize,
    /// How long a request may take.
    pub request_seconds: u64,
    /// `text` or `json`.
    pub log_format: LogFormat,
    /// Who is told of promotions, refusals and rollbacks.
    pub webhooks: WebhookSettings,
    /// Where traces go.
    pub telemetry: TelemetrySettings,
}

impl Default for ServiceSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7878".to_owned(),
            schedules: Vec::new(),
            session_end: true,
            quiet_minutes: 5,
            min_new_labels: 1,
            catch_up_hours: 24,
            alarm_after: 5,
            back_off_minutes: 10,
            daily_cpu_minutes: 120,
            on_battery: false,
            max_load: 0.8,
            busy_patience_hours: 6,
            training_priority: Priority::Idle,
            hosts: Vec::new(),
            tls_certificate: None,
            tls_key: None,
            requests_per_second: 1000,
            max_requests: 512,
            max_body_bytes: 2 * 1024 * 1024,
            request_seconds: 30,
            log_format: LogFormat::Text,
            webhooks: WebhookSettings::default(),
            telemetry: TelemetrySettings::default(),
        }
    }
}

/// The `[service.webhooks]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookSettings {
    /// Addresses that get a POST for every decision; none by default.
    pub urls: Vec<String>,
    /// A file with the secret that signs the calls; `service.webhook.secret` in the home, made at first use, when absent.
    pub secret_file: Option<PathBuf>,
    /// How often a call is tried.
    pub attempts: u32,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        Self { urls: Vec::new(), secret_file: None, attempts: 5 }
    }
}

/// One entry of `[[service.schedules]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Five fields (minute, hour, day, month, weekday), or six with seconds first.
    pub cron: String,
    /// An IANA name such as `Europe/Berlin`; the system's zone when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// Resolves the settings of a home.
///
/// # Errors
/// [`ConfigError`] for anything that the user has to mend.
pub fn resolve(path: &Path, variables: &[(String, String)], flags: &[Flag]) -> Result<Settings, ConfigError> {
    let known = known_keys();
    let mut table = match std::fs::read_to_string(path) {
        Ok(text) => {
            let table = merge::checked_table(path, &text, &known)?;
            // Alone first: its values' types are then reported with their line.
            toml::from_str::<Settings>(&text).map_err(|error| merge::invalid(path, &text, &error))?;
            table
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => toml::Table::new(),
        Err(source) => {
            return Err(ConfigError::Read { path: path.to_owned(), source });
        }
    };
    merge::overlay_environment(&mut table, variables, &known)?;
    merge::overlay_flags(&mut table, flags);
    Settings::deserialize(toml::Value::Table(table)).map_err(|error| ConfigError::Invalid {
        origin: "environment or flags".to_owned(),
        message: error.message().to_owned(),
    })
}

/// Every section with its keys: the defaults, serialised.
fn known_keys() -> serde_json::Value {
    serde_json::to_value(Settings::default()).unwrap_or_default()
}

/// The home: `--home`, else `MYNAH_HOME`, else `mynah` in the XDG data directory.
///
/// # Errors
/// [`ConfigError::NoHome`] when nothing names one.
pub fn home_directory(flag: Option<&Path>, environment: &Environment) -> Result<PathBuf, ConfigError> {
    let path = flag
        .map(Path::to_owned)
        .or_else(|| environment.home.clone())
        .or_else(|| environment.data_directory.as_ref().map(|data| data.join("mynah")))
        .ok_or(ConfigError::NoHome)?;
    // Absolute, so that nothing depends on the working directory later.
    std::path::absolute(&path).map_err(|source| ConfigError::Read { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str) -> Result<Settings, ConfigError> {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("mynah.toml");
        std::fs::write(&path, text).unwrap();
        resolve(&path, &[], &[])
    }

    #[test]
    fn no_file_means_the_defaults() {
        let settings = resolve(Path::new("/nonexistent/mynah.toml"), &[], &[]).unwrap();
        assert_eq!(settings.service, ServiceSettings::default());
    }

    #[test]
    fn schedules_are_tables_in_an_array() {
        let settings = resolved("[[service.schedules]]\ncron = '0 3 * * *'\ntime_zone = 'Europe/Berlin'\n").unwrap();
        assert_eq!(settings.service.schedules[0].cron, "0 3 * * *");
        let error = resolved("[[service.schedules]]\ncrn = '0 3 * * *'\n").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("crn"), "{error}");
    }

    #[test]
    fn a_value_of_the_wrong_type_is_reported_with_its_line() {
        let error = resolved("[training]\n\nepochs = 'many'\n").unwrap_err().to_string();
        assert!(error.contains("line 3") && error.contains("many"), "{error}");
    }

    #[test]
    fn the_home_is_the_flag_then_the_variable_then_the_data_directory() {
        let mut environment = Environment { data_directory: Some("/data".into()), ..Environment::default() };
        assert_eq!(home_directory(None, &environment).unwrap(), Path::new("/data/mynah"));
        environment.home = Some("/variable".into());
        assert_eq!(home_directory(None, &environment).unwrap(), Path::new("/variable"));
        assert_eq!(home_directory(Some(Path::new("/flag")), &environment).unwrap(), Path::new("/flag"));
        assert!(home_directory(None, &Environment::default()).is_err());
    }
}
