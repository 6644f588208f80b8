//! Syncing behind the writer: when a line counts as written, and the thread that syncs afterwards.
//!
//! With [`Durability::Disk`] an append waits for the disk. With [`Durability::Process`] it returns as soon as the operating
//! system has the line, which then survives the end of the process but not a cut cable, and a thread of the log syncs
//! it within a twentieth of a second. *Invariant:* every line is synced or its failure is returned, by the next append to the same file or by
//! waiting for the file; a file that is dropped was waited for.

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::durable::{Steps, sync_directory};
use crate::fault::FaultPoint;

/// When an appended line counts as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// When it is on the disk: it survives a cut cable.
    #[default]
    Disk,
    /// When the operating system has it: it survives a kill of the process, and is on the disk a moment later.
    Process,
}

/// How long the thread rests after it synced. The lines of a rest are synced together, and their writers need
/// not wake it.
const PAUSE: Duration = Duration::from_millis(50);

/// The thread that syncs the files of a log; it starts with the first file and ends with the last holder.
#[derive(Clone, Default)]
pub(crate) struct SyncThread {
    queue: Arc<Mutex<Option<Sender<Arc<Behind>>>>>,
}

impl SyncThread {
    /// Hands a file over, or syncs it here when no thread can be had.
    fn sync_soon(&self, file: Arc<Behind>) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.is_none() {
            let (sender, receiver) = channel::<Arc<Behind>>();
            let work = move || {
                while let Ok(file) = receiver.recv() {
                    file.sync();
                    receiver.try_iter().for_each(|file| file.sync());
                    std::thread::sleep(PAUSE);
                }
            };
            let started = std::thread::Builder::new().name("mynah-log".to_owned()).spawn(work);
            *queue = started.ok().map(|_| sender);
        }
        let refused = match queue.as_ref() {
            Some(queue) => queue.send(file).err().map(|refused| refused.0),
            None => Some(file),
        };
        drop(queue);
        if let Some(file) = refused {
            file.sync();
        }
    }
}

/// A file whose lines are synced by a [`SyncThread`].
pub(crate) struct Behind {
    file: File,
    fault: FaultPoint,
    steps: &'static Steps,
    /// Directories whose names are not durable yet.
    directories: Mutex<Vec<PathBuf>>,
    state: Mutex<State>,
    settled: Condvar,
}

#[derive(Default)]
struct State {
    waiting: bool,
    at_work: bool,
    failed: Option<io::Error>,
}

impl Behind {
    /// A file that is open for appending, and the directories that were made for it.
    pub(crate) fn new(file: File, fault: FaultPoint, steps: &'static Steps, directories: Vec<PathBuf>) -> Arc<Self> {
        let (directories, state) = (Mutex::new(directories), Mutex::default());
        Arc::new(Self { file, fault, steps, directories, state, settled: Condvar::new() })
    }

    /// Asks for the lines written so far to be synced.
    pub(crate) fn sync_soon(self: &Arc<Self>, thread: &SyncThread) {
        if !std::mem::replace(&mut self.lock().waiting, true) {
            thread.sync_soon(Arc::clone(self));
        }
    }

    /// What went wrong since this was asked last.
    pub(crate) fn failure(&self) -> Option<io::Error> {
        self.lock().failed.take()
    }

    /// Waits until everything that was written is on the disk; syncs it here when the thread rests.
    pub(crate) fn settle(&self) -> io::Result<()> {
        self.sync();
        self.lock().failed.take().map_or(Ok(()), Err)
    }

    /// Syncs what waits, unless somebody else just did.
    fn sync(&self) {
        let mut state = self.lock();
        while state.at_work {
            state = self.settled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if !std::mem::take(&mut state.waiting) {
            return;
        }
        state.at_work = true;
        drop(state);
        // Whoever waits must not wait for ever, whatever a fault point does.
        let synced = catch_unwind(AssertUnwindSafe(|| self.sync_now()))
            .unwrap_or_else(|_| Err(io::Error::other("the thread that syncs the log panicked")));
        let mut state = self.lock();
        state.at_work = false;
        if let Err(error) = synced {
            state.failed.get_or_insert(error);
        }
        self.settled.notify_all();
    }

    fn sync_now(&self) -> io::Result<()> {
        let mut directories = self.directories.lock().unwrap_or_else(PoisonError::into_inner);
        if !directories.is_empty() {
            (self.fault)(self.steps.sync_directory)?;
            directories.iter().try_for_each(|directory| sync_directory(directory))?;
            directories.clear();
        }
        drop(directories);
        (self.fault)(self.steps.sync)?;
        self.file.sync_data()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
