//! The commands: each takes the context of one call and its flags, and answers with how it ended.

pub mod backtest;
pub mod bench;
pub mod benchmark;
pub mod chat;
pub mod doctor;
pub mod evaluate;
pub mod expect;
pub mod import;
pub mod init;
pub mod jobs;
pub mod labels;
pub mod log;
pub mod models;
pub mod pin;
pub mod predict;
pub mod quickstart;
pub mod report;
pub mod simulate;
pub mod status;
pub mod train;
pub mod unit;

use std::path::Path;

use mynah_data::{Home, Log, LogOptions};
use mynah_registry::{Author, Registry, RegistryOptions};

use crate::config::{self, Flag, Settings};
use crate::environment::Environment;
use crate::failure::hinted;
use crate::fault::{self, FaultPoint};
use crate::learning::TRAIN_LOCK;
use crate::output::Output;

/// What every command needs.
#[derive(Clone)]
pub struct Context {
    /// The home.
    pub home: Home,
    /// The merged settings.
    pub settings: Settings,
    /// Where to write to.
    pub output: Output,
    /// The surroundings of the process.
    pub environment: Environment,
    /// Called before every durable step; see [`crate::fault`].
    pub fault: FaultPoint,
}

impl Context {
    /// Resolves home, settings and fault point.
    ///
    /// # Errors
    /// When the settings are wrong or no home can be found.
    pub fn new(home: Option<&Path>, flags: &[Flag], output: Output, environment: &Environment) -> anyhow::Result<Self> {
        let directory = config::home_directory(home, environment)?;
        let fault = match &environment.fault {
            Some(value) => fault::parse(value)?,
            None => std::sync::Arc::new(|_: &'static str| Ok(())) as FaultPoint,
        };
        let home = Home::new(directory);
        let settings = config::resolve(&home.settings_path(), &environment.settings, flags)?;
        settings.runtime.validate()?;
        Ok(Self { home, settings, output, environment: environment.clone(), fault })
    }

    /// A home with the settings that are built in, to look at one whose own are broken.
    pub fn with_defaults(directory: &Path, output: Output, environment: &Environment) -> Self {
        Self {
            home: Home::new(directory),
            settings: Settings::default(),
            output,
            environment: environment.clone(),
            fault: std::sync::Arc::new(|_: &'static str| Ok(())),
        }
    }

    /// The registry of the home, which must have been set up.
    ///
    /// # Errors
    /// When there is no home yet, or its registry cannot be read.
    pub fn registry(&self) -> anyhow::Result<Registry> {
        if !self.home.registry_dir().is_dir() {
            let root = self.home.root().display();
            return Err(hinted(
                format!("{root} is not set up"),
                "run `mynah init` there, or `mynah quickstart` to see how it works",
            ));
        }
        self.new_registry()
    }

    /// The registry of the home, created when missing.
    ///
    /// # Errors
    /// When it can be neither read nor made.
    pub fn new_registry(&self) -> anyhow::Result<Registry> {
        let options = RegistryOptions { fault: self.fault.clone(), ..RegistryOptions::default() };
        Ok(Registry::open_with(&self.home.registry_dir(), options)?)
    }

    /// The log of the home.
    pub fn log(&self) -> Log {
        Log::open_with(&self.home, LogOptions::with_fault(self.fault.clone()))
    }

    /// Commits the log, so that its history is the history of all conversations. A training run that holds the lock
    /// commits by itself. What cannot be committed now is committed later, so this warns and never fails.
    pub fn snapshot(&self) {
        let committed =
            self.home.lock(TRAIN_LOCK).and_then(|_lock| mynah_data::snapshot(&self.home, &self.actor()).map(|_| ()));
        match committed {
            Ok(()) | Err(mynah_data::Error::Locked { .. }) => {}
            Err(error) => {
                let warning = self.output.error_style.bad("warning:");
                self.output.complain(format_args!("{warning} the log was not committed: {error}"));
            }
        }
    }

    /// Who does something, and why.
    pub fn author(&self, reason: impl Into<String>) -> Author {
        Author::new(self.actor(), reason)
    }

    /// Who runs the program.
    pub fn actor(&self) -> String {
        self.environment.user.clone().unwrap_or_else(|| "somebody".to_owned())
    }
}
