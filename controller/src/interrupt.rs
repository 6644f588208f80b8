//! Ctrl-C: the first one asks the work to stop in order, the second one ends the process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// The exit status of a process that the user interrupted: 128 + SIGINT.
pub const INTERRUPTED: u8 = 130;

type Listener = Box<dyn Fn() + Send>;

/// Whether the user wants to stop; clones share the answer.
#[derive(Clone, Default)]
pub struct Interrupt {
    asked: Arc<AtomicBool>,
    listeners: Arc<Mutex<Vec<Listener>>>,
}

impl Interrupt {
    /// Listens for Ctrl-C and for SIGTERM from now on.
    ///
    /// Without a way to listen (no signal support) the process simply ends at Ctrl-C, as it would have before.
    pub fn listen() -> Self {
        let interrupt = Self::default();
        let shared = interrupt.clone();
        let _ = std::thread::Builder::new().name("signals".into()).spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else {
                return;
            };
            runtime.block_on(async {
                while signalled().await.is_ok() {
                    if shared.ask() {
                        std::process::exit(i32::from(INTERRUPTED));
                    }
                }
            });
        });
        interrupt
    }

    /// Whether a stop was asked for.
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    /// Asks for a stop; true when one was asked for already.
    pub fn ask(&self) -> bool {
        let before = self.asked.swap(true, Ordering::AcqRel);
        if let Ok(listeners) = self.listeners.lock() {
            listeners.iter().for_each(|listener| listener());
        }
        before
    }

    /// Forgets an earlier Ctrl-C, when it was answered and work goes on.
    pub fn clear(&self) {
        self.asked.store(false, Ordering::Release);
    }

    /// Calls `listener` at every Ctrl-C.
    pub fn on_ask(&self, listener: impl Fn() + Send + 'static) {
        if let Ok(mut listeners) = self.listeners.lock() {
            listeners.push(Box::new(listener));
        }
    }
}

/// Waits for the next Ctrl-C or, on Unix, SIGTERM.
///
/// # Errors
/// When the system refuses to deliver signals.
pub async fn signalled() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            result = tokio::signal::ctrl_c() => result,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}
