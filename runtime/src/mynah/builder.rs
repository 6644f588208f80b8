//! Opening a home: handlers, settings, the clock and the fault points.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Zoned;
use mynah_data::{Home, Log, LogOptions};
use mynah_registry::{Registry, RegistryOptions};

use super::fingerprint::{FilesLook, Fingerprint};
use super::{Admission, Inner, Mynah, MynahError, loading};
use crate::encoder::Precision;
use crate::functions::Call;
use crate::policy::Policy;
use crate::settings::RuntimeSettings;

/// Runs a function for the app and says what to reply.
pub(crate) type FunctionHandler = Arc<dyn Fn(&Call) -> Result<String, HandlerError> + Send + Sync>;

/// Hears how many of the texts that have to be embedded are: done, and in all.
pub(crate) type EmbeddingProgress = Arc<dyn Fn(usize, usize) + Send + Sync>;

/// Tells the time; the time zone decides what "tomorrow" is.
pub(crate) type Clock = Arc<dyn Fn() -> Zoned + Send + Sync>;

/// Why a function could not be run, in words for the person who asked.
///
/// Every error converts into it with `?`.
pub struct HandlerError {
    message: String,
}

impl HandlerError {
    /// An error of these words.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

impl<E: std::error::Error> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self::new(error.to_string())
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HandlerError").field(&self.message).finish()
    }
}

/// How a home is opened; see [`Mynah::builder`].
#[must_use = "nothing is opened before `open`"]
pub struct Builder {
    home: PathBuf,
    handlers: HashMap<String, FunctionHandler>,
    settings: Option<RuntimeSettings>,
    precision: Option<Precision>,
    memory: Option<bool>,
    client: String,
    clock: Clock,
    embedding: EmbeddingProgress,
    log: LogOptions,
    registry: RegistryOptions,
    reload: Reload,
    version: Option<String>,
}

/// Who looks for newer versions and changed files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reload {
    /// Every reply, before it answers: the one that finds something waits until it is loaded.
    #[default]
    EveryReply,
    /// The app, which calls [`Mynah::refresh`] from a thread of its own; no reply ever waits for a version to be loaded. What
    /// people say in conversations of this [`Mynah`] is used from the next turn on all the same.
    ByTheApp,
}

impl Builder {
    pub(super) fn new(home: &Path) -> Self {
        Self {
            home: home.to_owned(),
            handlers: HashMap::new(),
            settings: None,
            precision: None,
            memory: None,
            client: "app".to_owned(),
            clock: Arc::new(Zoned::now),
            embedding: Arc::new(|_, _| {}),
            log: LogOptions::default(),
            registry: RegistryOptions::default(),
            reload: Reload::default(),
            version: None,
        }
    }

    /// Who looks for newer versions and changed files; every reply by default.
    pub fn reload(mut self, reload: Reload) -> Self {
        self.reload = reload;
        self
    }

    /// Serves this version (a name, a tag or the start of a digest) instead of the one in production, whatever is promoted,
    /// until [`Mynah::follow_production`].
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Registers what runs a function; its words are the reply.
    ///
    /// Without a handler the reply carries the call for the app to run. A handler that panics makes an error reply.
    pub fn function_handler(
        mut self,
        function: impl Into<String>,
        handler: impl Fn(&Call) -> Result<String, HandlerError> + Send + Sync + 'static,
    ) -> Self {
        self.handlers.insert(function.into(), Arc::new(handler));
        self
    }

    /// Uses these settings instead of the `[runtime]` table of the home's `mynah.toml`.
    pub fn settings(mut self, settings: RuntimeSettings) -> Self {
        self.settings = Some(settings);
        self
    }

    /// Overrides the arithmetic of the encoder.
    pub fn precision(mut self, precision: Precision) -> Self {
        self.precision = Some(precision);
        self
    }

    /// Overrides whether corrections, taught answers and examples are looked up.
    pub fn memory(mut self, memory: bool) -> Self {
        self.memory = Some(memory);
        self
    }

    /// The name in the log of who talks; `app` by default.
    pub fn client(mut self, client: impl Into<String>) -> Self {
        self.client = client.into();
        self
    }

    /// What tells the time; the system's clock and time zone by default.
    pub fn clock(mut self, clock: impl Fn() -> Zoned + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Hears how far the embedding of remembered texts and passages is: how many are done, and how many there are. Called when
    /// opening and whenever something is loaded anew, from whichever thread does it; not for what the cache has.
    pub fn on_embedding(mut self, progress: impl Fn(usize, usize) + Send + Sync + 'static) -> Self {
        self.embedding = Arc::new(progress);
        self
    }

    /// The fault points of the log; when its lines count as written is said by the settings.
    pub fn log_options(mut self, options: LogOptions) -> Self {
        self.log = options;
        self
    }

    /// The fault points and the clock of the registry.
    pub fn registry_options(mut self, options: RegistryOptions) -> Self {
        self.registry = options;
        self
    }

    /// Opens the home; one that does not exist is made, with the starter model in it.
    ///
    /// # Errors
    /// When the home cannot be made or read, or one of its files needs mending.
    pub fn open(self) -> Result<Mynah, MynahError> {
        let home = Home::new(&self.home);
        let mut settings = match self.settings {
            Some(settings) => settings,
            None => RuntimeSettings::read(&home.settings_path())?,
        };
        settings.precision = self.precision.unwrap_or(settings.precision);
        settings.memory = self.memory.unwrap_or(settings.memory);
        settings.validate()?;
        let policy = Policy::new(&settings.policy)?;
        home.create()?;
        let registry = Registry::open_with(&home.registry_dir(), self.registry)?;
        loading::ensure_base(&home, &registry)?;
        let log = Log::open_with(&home, self.log.durability(settings.durability));
        // Taken before loading: what changes meanwhile is noticed at the first reply.
        let files_look = FilesLook::default();
        let seen = Fingerprint::of(&home, &registry, &files_look, Duration::ZERO)?;
        let chosen = self.version.as_deref().map(|version| registry.version(version)).transpose()?;
        let is_chosen = chosen.is_some();
        let (loaded, warnings) = loading::open(&home, &registry, &log, &settings, &*self.embedding, chosen.as_ref())?;
        let cores = settings.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let inner = Inner {
            admission: Admission::new(cores.saturating_add(settings.max_waiting)),
            embedding: self.embedding,
            home,
            settings,
            policy,
            client: self.client,
            handlers: self.handlers,
            clock: self.clock,
            registry,
            log,
            loaded: ArcSwap::from_pointee(loaded),
            reload: self.reload,
            is_chosen: AtomicBool::new(is_chosen),
            seen: Mutex::new(seen),
            files_look,
            warnings: Mutex::new(Vec::new()),
        };
        warnings.into_iter().for_each(|warning| inner.warn(warning));
        Ok(Mynah { inner: Arc::new(inner) })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("home", &self.home).finish_non_exhaustive()
    }
}
