//! The process's environment, read once.
//!
//! `main` calls [`Environment::from_process`]; everything below receives plain values, so that tests need no variables and
//! no library reads any. Architecture invariant: outside of tests and examples no other module reads variables; `main` itself
//! takes the arguments.

use std::io::IsTerminal;
use std::path::PathBuf;

use crate::hub::HubEnvironment;

/// What the program takes from its surroundings.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `MYNAH_HOME`.
    pub home: Option<PathBuf>,
    /// The XDG data directory: `XDG_DATA_HOME`, else `~/.local/share`.
    pub data_directory: Option<PathBuf>,
    /// The XDG configuration directory: `XDG_CONFIG_HOME`, else `~/.config`.
    pub config_directory: Option<PathBuf>,
    /// Where the hub is and how to ask it.
    pub hub: HubEnvironment,
    /// `NO_COLOR` is set and not empty.
    pub no_color: bool,
    /// `MYNAH_FAULT`; see [`crate::fault`].
    pub fault: Option<String>,
    /// `MYNAH_LOG`: what the service logs, in the syntax of `tracing`.
    pub log_filter: Option<String>,
    /// Settings as `MYNAH_<SECTION>__<KEY>`, sorted by name.
    pub settings: Vec<(String, String)>,
    /// Who runs the program: `USER`, for the journal.
    pub user: Option<String>,
    /// Standard input is a terminal.
    pub stdin_is_terminal: bool,
    /// Standard output is a terminal.
    pub stdout_is_terminal: bool,
    /// Standard error is a terminal.
    pub stderr_is_terminal: bool,
}

impl Environment {
    /// Reads the process's environment.
    pub fn from_process() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let mut settings: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with("MYNAH_") && name.contains("__"))
            .collect();
        settings.sort();
        Self {
            home: path("MYNAH_HOME"),
            data_directory: path("XDG_DATA_HOME")
                .filter(|directory| directory.is_absolute())
                .or_else(|| path("HOME").map(|home| home.join(".local").join("share"))),
            config_directory: path("XDG_CONFIG_HOME")
                .filter(|directory| directory.is_absolute())
                .or_else(|| path("HOME").map(|home| home.join(".config"))),
            hub: HubEnvironment {
                endpoint: text("HF_ENDPOINT"),
                offline: text("HF_HUB_OFFLINE").is_some_and(|value| is_true(&value)),
                token: text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN")),
            },
            no_color: text("NO_COLOR").is_some(),
            fault: text("MYNAH_FAULT"),
            log_filter: text("MYNAH_LOG"),
            settings,
            user: text("USER").or_else(|| text("LOGNAME")),
            stdin_is_terminal: std::io::stdin().is_terminal(),
            stdout_is_terminal: std::io::stdout().is_terminal(),
            stderr_is_terminal: std::io::stderr().is_terminal(),
        }
    }
}

/// The values that `huggingface_hub` takes for true (`constants.py`).
fn is_true(value: &str) -> bool {
    matches!(value.trim().to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE")
}
