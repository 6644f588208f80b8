//! The local service: conversations over HTTP, and learning when its time has come.
//!
//! What to do is decided in [`decide`]; this module gathers what is known and carries the decision out. Invariants: it
//! listens on loopback only, one fine-tune is at work at a time, and a conversation's turn is answered only after it was
//! logged.

pub mod access;
mod control;
pub mod decide;
pub mod endpoints;
mod interface;
pub mod jobs;
mod ledger;
mod limits;
mod listen;
pub mod logging;
mod machine;
mod metrics;
pub mod openai;
pub mod openapi;
pub mod problem;
pub mod recent;
mod routes;
mod schedule;
mod serve;
mod signature;
pub mod telemetry;
mod trial;
mod versions;
mod webhooks;
pub mod wire;
mod workers;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use jiff::Timestamp;
use mynah_data::Log;
use mynah_pipelines::TrainingSettings;
use mynah_runtime::{MynahError, Reload};

use crate::commands::Context;
use crate::conversation::{Assistant, Conversation, Local, Reply};
use crate::learning::Scope;
use control::Control;
use decide::Trigger;
use interface::Interface;
use jobs::{JobRequest, Jobs};
use wire::{ChatRequest, FeedbackRequest, FineTuneRequest, ServiceError, ServiceStatus};

pub use serve::{check_settings, serve};

/// A conversation that the service holds.
struct Open {
    conversation: Arc<Mutex<Local>>,
    last: Timestamp,
}

/// Work for the thread that loads.
type Load = Box<dyn FnOnce(&Service) + Send>;

/// The service's own state.
pub struct Service {
    context: Context,
    interface: Interface,
    jobs: Jobs,
    control: Control,
    trial: trial::Trial,
    assistant: Mutex<Option<Assistant>>,
    sessions: Mutex<HashMap<String, Open>>,
    /// Turns of open sessions, for feedback.
    turns: Mutex<HashMap<String, String>>,
    stopping: AtomicBool,
    training: AtomicBool,
    /// The number of new labels may have changed.
    dirty: AtomicBool,
    new_labels: AtomicUsize,
    latest_label: Mutex<Option<Timestamp>>,
    tried_until: Mutex<Option<Timestamp>>,
    last_activity: Mutex<Option<Timestamp>>,
    wake: tokio::sync::Notify,
    loads: mpsc::Sender<Load>,
    /// Taken by [`Service::keep_fresh`].
    to_load: Mutex<Option<mpsc::Receiver<Load>>>,
}

impl Service {
    /// With other settings, `before` goes on: its conversations and its jobs.
    fn new(context: Context, interface: Interface, before: Option<&Self>) -> anyhow::Result<Self> {
        let (loads, to_load) = mpsc::channel();
        Ok(Self {
            jobs: match before {
                Some(before) => before.jobs.clone(),
                None => Jobs::open(&context.home, context.fault.clone())?,
            },
            control: Control::open(&context),
            trial: trial::Trial::default(),
            context,
            interface,
            assistant: Mutex::default(),
            sessions: Mutex::new(before.map(|before| std::mem::take(&mut *lock(&before.sessions))).unwrap_or_default()),
            turns: Mutex::new(before.map(|before| std::mem::take(&mut *lock(&before.turns))).unwrap_or_default()),
            stopping: AtomicBool::new(false),
            training: AtomicBool::new(false),
            dirty: AtomicBool::new(true),
            new_labels: AtomicUsize::new(0),
            latest_label: Mutex::default(),
            tried_until: Mutex::default(),
            last_activity: Mutex::default(),
            wake: tokio::sync::Notify::new(),
            loads,
            to_load: Mutex::new(Some(to_load)),
        })
    }

    /// Runs work that reads files or computes where it holds up no other request.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, ServiceError> + Send + 'static,
    ) -> Result<T, ServiceError> {
        let service = self.clone();
        let work = tokio::task::spawn_blocking(move || work(&service)).await;
        work.unwrap_or_else(|error| {
            Err(ServiceError::Internal { message: format!("the request failed: {error}"), hint: None })
        })
    }

    /// Runs work that makes anew what replies are made from, on the one thread that does so. On any thread, each would keep
    /// room for as much.
    async fn loading<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, ServiceError> + Send + 'static,
    ) -> Result<T, ServiceError> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let load: Load = Box::new(move |service| {
            let done = catch_unwind(AssertUnwindSafe(|| work(service))).unwrap_or_else(|_| {
                Err(ServiceError::Internal { message: "the request failed".to_owned(), hint: None })
            });
            let _ = answer.send(done);
        });
        if let Err(mpsc::SendError(load)) = self.loads.send(load) {
            // The thread has ended already, since the service is about to.
            let done = move |service: &Self| {
                load(service);
                Ok(())
            };
            self.blocking(done).await?;
        }
        answered.await.unwrap_or(Err(ServiceError::Stopping))
    }

    /// The log as the assistant has it, which remembers what it has read; before there is one, as anybody would open it.
    fn log(&self) -> Log {
        let assistant = self.assistant.try_lock().ok();
        let opened = assistant.as_ref().and_then(|assistant| assistant.as_ref());
        opened.map_or_else(|| self.context.log(), |assistant| assistant.mynah().log().clone())
    }

    fn production(&self) -> Result<Option<String>, ServiceError> {
        let production =
            || -> anyhow::Result<_> { Ok(self.context.registry()?.production()?.map(|version| version.name)) };
        production().map_err(|error| ServiceError::internal(&error))
    }

    fn status(&self) -> Result<ServiceStatus, ServiceError> {
        Ok(ServiceStatus {
            mynah: env!("CARGO_PKG_VERSION").to_owned(),
            production: self.production()?,
            training: self.training.load(Ordering::Acquire),
            open_sessions: lock(&self.sessions).len(),
            new_labels: self.new_labels.load(Ordering::Acquire),
        })
    }

    fn chat(&self, request: ChatRequest) -> Result<Reply, ServiceError> {
        let conversation = match &request.session {
            Some(id) => lock(&self.sessions).get(id).map(|open| open.conversation.clone()),
            None => {
                let assistant = self.assistant()?;
                if !assistant.has_something_to_say() {
                    return Err(ServiceError::NoModel);
                }
                let share = self.context.settings.rollout.canary_share;
                Some(Arc::new(Mutex::new(assistant.start("http").with_canary(self.trial.canary(), share))))
            }
        };
        let conversation = conversation.ok_or_else(|| ServiceError::NotFound {
            what: "session",
            id: request.session.clone().unwrap_or_default(),
        })?;
        let reply = lock(&conversation).respond(&request.message, request.explain).map_err(unanswered)?;
        if self.trial.overhear(&request.message) {
            self.wake.notify_one();
        }
        let now = Timestamp::now();
        lock(&self.sessions).insert(reply.session.clone(), Open { conversation, last: now });
        lock(&self.turns).insert(reply.interaction.clone(), reply.session.clone());
        *lock(&self.last_activity) = Some(now);
        Ok(reply)
    }

    fn feedback(&self, request: FeedbackRequest) -> Result<(), ServiceError> {
        if request.rating.is_none() && request.correction.is_none() {
            return Err(ServiceError::BadRequest { reason: "feedback needs a `rating` or a `correction`".to_owned() });
        }
        let session = lock(&self.turns).get(&request.interaction).cloned();
        let open = session.and_then(|session| lock(&self.sessions).get(&session).map(|open| open.conversation.clone()));
        let given = match open {
            Some(conversation) => {
                lock(&conversation).feedback(&request.interaction, request.rating, request.correction)
            }
            None => self.assistant()?.feedback(&request.interaction, request.rating, request.correction),
        };
        *lock(&self.last_activity) = Some(Timestamp::now());
        self.dirty.store(true, Ordering::Release);
        self.wake.notify_one();
        given.map_err(|error| misfit(&error).unwrap_or_else(|| ServiceError::internal(&error)))
    }

    fn end_session(&self, id: &str, reason: &str) -> Result<(), ServiceError> {
        let open = lock(&self.sessions).remove(id);
        let open = open.ok_or_else(|| ServiceError::NotFound { what: "session", id: id.to_owned() })?;
        lock(&self.turns).retain(|_, session| session != id);
        self.wake.notify_one();
        lock(&open.conversation).end(reason).map_err(|error| ServiceError::internal(&error))
    }

    /// The model with its memory, opened when it is first needed. Before anything was learned it is the base, which
    /// answers from memory and examples.
    fn assistant(&self) -> Result<Assistant, ServiceError> {
        let mut assistant = lock(&self.assistant);
        if let Some(assistant) = assistant.as_ref() {
            return Ok(assistant.clone());
        }
        let memory = self.context.settings.runtime.memory;
        let opened = Assistant::open_with(&self.context, memory, |builder| builder.reload(Reload::ByTheApp))
            .map_err(|error| ServiceError::internal(&error))?;
        Ok(assistant.insert(opened).clone())
    }

    /// Whether there is a model to answer with; the name of the version in production, if any is.
    fn ready(&self) -> Result<Option<String>, ServiceError> {
        let assistant = self.assistant()?;
        // The first reply touches every weight and starts the threads: nobody should wait for that.
        if !self.interface.warmed.load(Ordering::Acquire) {
            assistant.mynah().reply_unlogged(&[], "hello", None).map_err(|error| unanswered(error.into()))?;
            self.interface.warmed.store(true, Ordering::Release);
        }
        self.production()
    }

    fn request_fine_tune(&self, request: FineTuneRequest) -> Result<String, ServiceError> {
        if self.stopping.load(Ordering::Acquire) {
            return Err(ServiceError::Stopping);
        }
        let bad = |error: serde_json::Error| ServiceError::BadRequest { reason: format!("training: {error}") };
        let mut settings = serde_json::to_value(&self.context.settings.training).map_err(bad)?;
        if let Some(settings) = settings.as_object_mut() {
            settings.extend(request.training);
        }
        let training: TrainingSettings = serde_json::from_value(settings).map_err(bad)?;
        training.device.check_built().map_err(|error| ServiceError::BadRequest { reason: error.to_string() })?;
        let scope = Scope { learns: request.scope, forced: request.force };
        let request = JobRequest { training, scope };
        let id = self.jobs.add(Trigger::Api, request).map_err(|error| ServiceError::internal(&error))?;
        self.wake.notify_one();
        Ok(id)
    }
}

/// A full queue is no fault of the service, and over in a moment.
fn unanswered(error: anyhow::Error) -> ServiceError {
    match error.downcast_ref() {
        Some(error @ MynahError::Overloaded { .. }) => ServiceError::Overloaded { message: error.to_string() },
        _ => ServiceError::internal(&error),
    }
}

/// An opinion that does not fit its turn is the asker's mistake, not the service's.
fn misfit(error: &anyhow::Error) -> Option<ServiceError> {
    let wrong = |error: &dyn std::error::Error| Some(ServiceError::BadRequest { reason: error.to_string() });
    match (crate::failure::data_error(error), error.downcast_ref()) {
        (Some(mynah_data::Error::UnknownInteraction { id, .. }), _) => {
            Some(ServiceError::NotFound { what: "interaction", id: id.clone() })
        }
        (Some(error @ mynah_data::Error::Correction { .. }), _) => wrong(error),
        (_, Some(error @ (MynahError::UnknownFunction { .. } | MynahError::WordsNotSaid { .. }))) => wrong(error),
        _ => None,
    }
}

/// A lock whose data a panic elsewhere cannot have left half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
