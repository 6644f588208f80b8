//! The library that an app links: open a home, start a session, get replies.
//!
//! A [`Mynah`] is cheap to clone and may be used from any thread; all clones serve the same model. When another
//! version is promoted, or a correction is given (by this process or another), the next reply uses it; a function or a passage
//! that is written into a file is used 0.02 seconds later (a second, among hundreds of files). The state is looked after at
//! the start of every reply, loaded aside, and swapped in whole.
//!
//! Invariants: a reply is made by exactly one loaded version, which was verified; nothing is printed; the environment is
//! not read. What could not be used (a damaged version, a broken line) is told by [`Mynah::warnings`].

mod admission;
mod builder;
mod error;
mod fingerprint;
mod loaded;
mod loading;
mod offered;
mod predict;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use arc_swap::ArcSwap;
use jiff::Zoned;
use mynah_data::{FeedbackRecord, Home, Log};
use mynah_registry::Registry;

pub use builder::{Builder, HandlerError, Reload};
pub use error::{MynahError, Warning};
pub use loaded::Served;
pub use offered::{Choice, Offered};
pub use predict::Understood;

pub(crate) use admission::{Admission, Place};
pub(crate) use builder::{Clock, EmbeddingProgress, FunctionHandler};
pub(crate) use loaded::{Loaded, Understanding};

use crate::memory::Memory;
use crate::model::Model;
use crate::policy::Policy;
use crate::session::{Feedback, Session};
use crate::settings::RuntimeSettings;
use fingerprint::{FilesLook, Fingerprint};

/// How many warnings are kept; a log with ten thousand broken lines has one cause.
const MAX_WARNINGS: usize = 100;

/// An assistant with its home.
#[derive(Clone)]
pub struct Mynah {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub home: Home,
    pub settings: RuntimeSettings,
    pub policy: Policy,
    pub client: String,
    pub handlers: HashMap<String, FunctionHandler>,
    pub clock: Clock,
    pub embedding: EmbeddingProgress,
    pub admission: Admission,
    pub registry: Registry,
    pub log: Log,
    pub loaded: ArcSwap<Loaded>,
    reload: Reload,
    /// The loaded version was asked for by its name, and promotions do not change it.
    is_chosen: AtomicBool,
    /// What the loaded state was made from; held while another is loaded, so that one thread loads at a time.
    seen: Mutex<Fingerprint>,
    files_look: FilesLook,
    warnings: Mutex<Vec<Warning>>,
}

impl Mynah {
    /// Opens a home with the settings of its `mynah.toml`; one that does not exist is made, with the starter model in it.
    ///
    /// # Errors
    /// When the home cannot be made or read, or one of its files needs mending.
    pub fn open(home: &Path) -> Result<Self, MynahError> {
        Self::builder(home).open()
    }

    /// Prepares to open a home with function handlers or other settings.
    pub fn builder(home: &Path) -> Builder {
        Builder::new(home)
    }

    /// Starts a conversation.
    ///
    /// # Errors
    /// When its log file cannot be made.
    pub fn session(&self) -> Result<Session, MynahError> {
        self.session_for(&self.inner.client)
    }

    /// Starts a conversation of another client than the one that was set when opening.
    ///
    /// # Errors
    /// When its log file cannot be made.
    pub fn session_for(&self, client: &str) -> Result<Session, MynahError> {
        Ok(Session::new(self.clone(), self.inner.log.start_session(client)?))
    }

    /// Goes on with a conversation that was not ended; what was said before is in its log but no longer in its context.
    ///
    /// # Errors
    /// When there is no such conversation, or its log file cannot be written.
    pub fn resume(&self, session: &str) -> Result<Session, MynahError> {
        Ok(Session::new(self.clone(), self.inner.log.reopen(session)?))
    }

    /// Takes an opinion on a reply of any conversation; the next reply to the same words uses a correction.
    ///
    /// # Errors
    /// When there is no such interaction or function, when the words of an argument were not said, or when the disk refuses.
    pub fn feedback(&self, interaction: &str, feedback: Feedback) -> Result<FeedbackRecord, MynahError> {
        let unknown = || mynah_data::Error::UnknownInteraction {
            id: interaction.to_owned(),
            path: self.inner.home.sessions_dir(),
        };
        let turn = self.inner.log.find_interaction(interaction)?.ok_or_else(unknown)?;
        let (rating, correction) = feedback.resolve(&turn.text, &self.loaded())?;
        let record = self.inner.log.append_feedback(interaction, rating, correction)?;
        self.labels_changed();
        Ok(record)
    }

    /// The version that the next reply will be made by, without looking for a newer one; `None` for the embedded starter.
    pub fn version(&self) -> Option<Served> {
        self.loaded().version.clone()
    }

    /// Whether the loaded version has a function head, that is, whether anything was trained.
    pub fn is_trained(&self) -> bool {
        self.loaded().model.has_functions()
    }

    /// The names of the functions that can be called: those of `functions.json` and those that the model has learned.
    pub fn functions(&self) -> Vec<String> {
        self.loaded().function_names()
    }

    /// How many sentences and answers are remembered.
    pub fn remembered(&self) -> usize {
        self.loaded().memory.len()
    }

    /// The model that the next reply will be made by, without looking for a newer one.
    pub fn model(&self) -> Arc<Model> {
        Arc::clone(&self.loaded().model)
    }

    /// What is remembered, embedded by [`Mynah::model`].
    pub fn memory(&self) -> Memory {
        self.loaded().memory.clone()
    }

    /// Serves what is in production from now on, after another version was asked for by [`Builder::version`].
    pub fn follow_production(&self) {
        if self.inner.is_chosen.swap(false, Ordering::AcqRel) {
            // No journal is so short: the next look loads what is in production.
            self.seen().journal = 0;
            self.refresh();
        }
    }

    /// Whether the version was asked for by its name and promotions do not change it.
    pub fn is_chosen(&self) -> bool {
        self.inner.is_chosen.load(Ordering::Acquire)
    }

    /// What a reply does before it answers.
    pub(crate) fn refresh_for_reply(&self) {
        if self.inner.reload == Reload::EveryReply {
            self.refresh_if_changed(Fingerprint::take_for_reply(&self.inner));
        }
    }

    /// Looks for a newer version, changed files and new labels, and loads what changed; tells whether anything did.
    ///
    /// Every reply does this by itself, unless [`Reload::ByTheApp`] was asked for; but files that a program has just written
    /// may be seen by the first reply 0.02 seconds later only, and a large `knowledge/` a second later. What cannot be loaded leaves what was there, and a warning.
    pub fn refresh(&self) -> bool {
        self.refresh_if_changed(Fingerprint::take(&self.inner))
    }

    fn refresh_if_changed(&self, current: Option<Fingerprint>) -> bool {
        let Some(current) = current else { return false };
        let changed = match self.inner.seen.try_lock() {
            Ok(seen) => current != *seen,
            Err(TryLockError::Poisoned(seen)) => current != *seen.into_inner(),
            // Another thread loads what changed; until it is there, what is there serves.
            Err(TryLockError::WouldBlock) => false,
        };
        changed && self.reload()
    }

    /// What could not be used since the home was opened, oldest first.
    pub fn warnings(&self) -> Vec<Warning> {
        self.inner.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same, and forgets them.
    pub fn take_warnings(&self) -> Vec<Warning> {
        std::mem::take(&mut *self.inner.warnings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The home's paths.
    pub fn home(&self) -> &Home {
        &self.inner.home
    }

    /// The registry of the home.
    pub fn registry(&self) -> &Registry {
        &self.inner.registry
    }

    /// The log of the home.
    pub fn log(&self) -> &Log {
        &self.inner.log
    }

    /// The settings in use.
    pub fn settings(&self) -> &RuntimeSettings {
        &self.inner.settings
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    pub(crate) fn loaded(&self) -> Arc<Loaded> {
        self.inner.loaded.load_full()
    }

    /// Lets a turn in.
    ///
    /// # Errors
    /// [`MynahError::Overloaded`] when as many are at work or waiting as the settings let.
    pub(crate) fn enter(&self) -> Result<Place<'_>, MynahError> {
        self.inner.admission.enter()
    }

    pub(crate) fn now(&self) -> Zoned {
        (self.inner.clock)()
    }

    /// Tells all processes that there are new labels, and reads them.
    pub(crate) fn labels_changed(&self) {
        if let Err(error) = fingerprint::count_up(&self.inner.home) {
            self.inner.warn(Warning::new(format!("other processes will not notice the new label at once: {error}")));
        }
        self.reload();
    }

    /// Loads what changed since the loaded state was made.
    fn reload(&self) -> bool {
        let mut seen = self.seen();
        let Some(current) = Fingerprint::take(&self.inner) else { return false };
        if current == *seen {
            return false;
        }
        let (next, warnings) = loading::update(&self.inner, &self.loaded(), &seen, &current);
        // Also after a failure: what could not be loaded is not tried again at every reply.
        *seen = current;
        warnings.into_iter().for_each(|warning| self.inner.warn(warning));
        match next {
            Some(next) => {
                self.inner.loaded.store(Arc::new(next));
                true
            }
            None => false,
        }
    }

    fn seen(&self) -> MutexGuard<'_, Fingerprint> {
        // The fingerprint is replaced whole, so one that a panicking thread left is still one.
        self.inner.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    pub fn warn(&self, warning: Warning) {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        if warnings.len() < MAX_WARNINGS && !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
}

impl std::fmt::Debug for Mynah {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mynah").field("home", &self.inner.home.root()).finish_non_exhaustive()
    }
}
