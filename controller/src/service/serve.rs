//! The life of the service: lock, listen, tick, stop in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use mynah_data::Error as DataError;
use mynah_runtime::Mynah;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::access::Tokens;
use super::decide::decide;
use super::interface::Interface;
use super::listen::Tls;
use super::schedule::Clock;
use super::{Service, access, listen, lock, logging, routes, webhooks};
use crate::allocator;
use crate::client::ServiceFile;
use crate::commands::Context;
use crate::failure::{Exit, hinted, usage};
use crate::interrupt::signalled;

/// The longest time between two looks at what is to be done.
const TICK: Duration = Duration::from_secs(5);

/// How often the log is read for what other processes wrote.
const REFRESH_EVERY: Duration = Duration::from_secs(60);

/// How long requests under way may take when the service stops.
const DRAIN: Duration = Duration::from_secs(10);

/// Reads the settings again, as when the service was started.
pub type Again<'a> = dyn Fn() -> anyhow::Result<Context> + 'a;

/// Runs the service until Ctrl-C or SIGTERM; SIGHUP reads the settings again and goes on with them.
///
/// # Errors
/// When another service of this home runs, the address is taken, or a setting is no good.
pub fn serve(context: &Context, again: &Again<'_>) -> anyhow::Result<Exit> {
    logging::start(context)?;
    allocator::give_back_at_once();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(context, again))
}

/// How a service came to its end.
enum Ended {
    Stopped,
    /// SIGHUP: go on with this.
    Again(Box<Next>),
}

/// Settings that can be used from now on.
struct Next {
    context: Context,
    /// Where they listen, when that is somewhere else.
    listener: Option<TcpListener>,
}

impl Next {
    /// Reads the settings again and takes the address that they name. `waiting` are those that were read before and wait for a
    /// fine-tune; they may have the same address.
    async fn read(again: &Again<'_>, present: &Context, waiting: &mut Option<Box<Self>>) -> anyhow::Result<Box<Self>> {
        let context = again()?;
        check_settings(&context)?;
        let listens = |context: &Context| context.settings.service.listen.clone();
        if listens(&context) == listens(present) {
            return Ok(Box::new(Self { context, listener: None }));
        }
        let taken = waiting.take_if(|waiting| listens(&waiting.context) == listens(&context));
        let listener = match taken.and_then(|waiting| waiting.listener) {
            Some(listener) => listener,
            None => listen_on(address(&context)?.address).await?,
        };
        Ok(Box::new(Self { context, listener: Some(listener) }))
    }
}

async fn listen_on(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        hinted(format!("cannot listen on {address}: {error}"), "choose another port with --listen 127.0.0.1:0")
    })
}

async fn run(context: &Context, again: &Again<'_>) -> anyhow::Result<Exit> {
    let mut signals = Signals::listen()?;
    prepare(context)?;
    let _lock = context.home.lock("serve").map_err(|error| match error {
        DataError::Locked { pid, .. } => {
            let by = pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
            hinted(
                format!("a service of this home runs already{by}"),
                "`mynah status` shows it; stop it first, or use another --home",
            )
        }
        error => error.into(),
    })?;
    let mut context = context.clone();
    let mut before: Option<Life> = None;
    loop {
        let (ended, life) = once(&context, again, &mut signals, before.take()).await?;
        match ended {
            Ended::Stopped => {
                context.output.note("stopped");
                return Ok(Exit::Done);
            }
            Ended::Again(next) => {
                // With the same address, connections that come meanwhile wait in its queue.
                before = Some(Life { listener: next.listener.or(life.listener), ..life });
                context = next.context;
            }
        }
    }
}

/// A home that was never set up gets the embedded starter, so that one command is enough.
fn prepare(context: &Context) -> anyhow::Result<()> {
    if !context.home.registry_dir().is_dir() {
        context.home.create()?;
        Mynah::builder(context.home.root()).settings(context.settings.runtime.clone()).open()?;
        context.output.note(format_args!("made a home in {}", context.home.root().display()));
    }
    Ok(())
}

/// Checks what the settings say about the service, as its start would.
///
/// # Errors
/// What is no good.
pub fn check_settings(context: &Context) -> anyhow::Result<()> {
    address(context)?;
    context.settings.service.telemetry.check()?;
    Clock::new(&context.settings.service.schedules, Arc::new(|| {}))?;
    Ok(())
}

/// What the settings say about listening, checked.
struct Address {
    address: SocketAddr,
    tls: Option<Tls>,
}

fn address(context: &Context) -> anyhow::Result<Address> {
    let settings = &context.settings.service;
    let address: SocketAddr = settings
        .listen
        .parse()
        .map_err(|_| usage(format!("`{}` is no address", settings.listen), "use e.g. 127.0.0.1:7878"))?;
    let tls = match (&settings.tls_certificate, &settings.tls_key) {
        (Some(certificate), Some(key)) => Some(listen::tls(certificate, key)?),
        (None, None) => None,
        _ => return Err(usage("tls_certificate and tls_key go together", "set both in [service], or neither")),
    };
    if !address.ip().is_loopback() && tls.is_none() {
        return Err(usage(
            format!("{address} can be reached from other machines"),
            "listen on loopback (127.0.0.1 or [::1]), or set tls_certificate and tls_key in [service]",
        ));
    }
    Ok(Address { address, tls })
}

/// What goes on when the settings are read again.
struct Life {
    service: Arc<Service>,
    listener: Option<TcpListener>,
}

/// The service with one set of settings.
async fn once(
    context: &Context,
    again: &Again<'_>,
    signals: &mut Signals,
    before: Option<Life>,
) -> anyhow::Result<(Ended, Life)> {
    let Address { address, tls } = address(context)?;
    let (earlier, listener) = before.map_or((None, None), |life| (Some(life.service), life.listener));
    let service = Service::new(context.clone(), Interface::new(context)?, earlier.as_deref())?;
    let service = Arc::new(service);
    drop(earlier);
    let on_due = {
        let service = service.clone();
        Arc::new(move || service.wake.notify_one())
    };
    let mut clock = Clock::new(&context.settings.service.schedules, on_due)?;
    let listener = match listener {
        Some(listener) => listener,
        None => listen_on(address).await?,
    };
    // A second handle keeps the address while the settings are read again.
    let listener = listener.into_std()?;
    let kept = TcpListener::from_std(listener.try_clone()?)?;
    let listener = TcpListener::from_std(listener)?;
    let (tls, certificate) = tls.unzip();
    announce(context, &service, &listener.local_addr()?.to_string(), certificate)?;

    let (stop, stopped) = watch::channel(false);
    let server = tokio::spawn(listen::serve(listener, tls, routes::router(service.clone()), stopped));
    let hooks = tokio::spawn(webhooks::run(service.clone()));
    tokio::spawn(warm_up(service.clone()));
    let fresh = service.clone();
    std::thread::Builder::new().name("fresh".into()).spawn(move || fresh.keep_fresh())?;
    notify(&[sd_notify::NotifyState::Ready]);
    let ended = tick_until_signalled(&service, &mut clock, again, signals).await;

    notify(&[match &ended {
        Ok(Ended::Again(_)) => sd_notify::NotifyState::Reloading,
        _ => sd_notify::NotifyState::Stopping,
    }]);
    hooks.abort();
    if matches!(ended, Ok(Ended::Again(_))) {
        let _ = stop.send(true);
        clock.stop().await;
        let _ = tokio::time::timeout(DRAIN, server).await;
        // Whatever still works for it ends; the next one has its conversations and jobs.
        service.stopping.store(true, Ordering::Release);
        // Nobody waits for a collector that does not answer.
        tokio::spawn(send_telemetry(service.clone()));
        return Ok((ended?, Life { service, listener: Some(kept) }));
    }
    service.stopping.store(true, Ordering::Release);
    let _ = std::fs::remove_file(ServiceFile::path(&context.home));
    let _ = stop.send(true);
    service.pause_jobs();
    clock.stop().await;
    let _ = tokio::time::timeout(DRAIN, server).await;
    while service.training.load(Ordering::Acquire) {
        service.wake.notified().await;
    }
    let open: Vec<String> = lock(&service.sessions).keys().cloned().collect();
    for id in open {
        let _ = service.blocking(move |service| service.end_session(&id, "service stopped")).await;
    }
    let commit = |service: &Service| {
        service.context.snapshot();
        Ok(())
    };
    let _ = service.blocking(commit).await;
    send_telemetry(service.clone()).await;
    Ok((ended?, Life { service, listener: None }))
}

/// Sends what a collector has not got yet.
async fn send_telemetry(service: Arc<Service>) {
    let send = |service: &Service| {
        service.interface.telemetry.stop();
        Ok(())
    };
    let _ = service.blocking(send).await;
}

/// Says where the service is: to programs in service.json, to people on standard output.
fn announce(context: &Context, service: &Service, address: &str, certificate: Option<String>) -> anyhow::Result<()> {
    let path = ServiceFile::path(&context.home);
    let token = service.interface.tokens.admin().to_owned();
    let scheme = if certificate.is_some() { "https" } else { "http" };
    let file = ServiceFile { address: address.to_owned(), token, pid: std::process::id(), certificate };
    access::write(&path, &file)?;
    context.output.line(match context.output.json {
        true => serde_json::json!({"address": address, "scheme": scheme, "pid": std::process::id()}).to_string(),
        false => {
            let token = Tokens::admin_path(&context.home);
            format!("listening on {scheme}://{address} (token in {})", token.display())
        }
    })?;
    Ok(())
}

/// Loads and asks the model once, so that the first person does not wait for it.
async fn warm_up(service: Arc<Service>) {
    if let Err(error) = service.blocking(Service::ready).await {
        tracing::warn!("not ready: {error}");
    }
}

/// Tells systemd, when it started the service.
fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, states) {
        tracing::debug!("systemd was not told: {error}");
    }
}

/// What the process is told from outside. It listens before anybody is told that it is ready: a signal that nobody listens
/// to ends the process.
struct Signals {
    stop: tokio::task::JoinHandle<std::io::Result<()>>,
    #[cfg(unix)]
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            stop: tokio::spawn(signalled()),
            #[cfg(unix)]
            hangup: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?,
        })
    }

    /// Waits for Ctrl-C, SIGTERM or SIGHUP.
    async fn next(&mut self) -> anyhow::Result<Signal> {
        #[cfg(unix)]
        tokio::select! {
            stopped = &mut self.stop => {
                stopped??;
                Ok(Signal::Stop)
            }
            _ = self.hangup.recv() => Ok(Signal::Again),
        }
        #[cfg(not(unix))]
        {
            (&mut self.stop).await??;
            Ok(Signal::Stop)
        }
    }
}

enum Signal {
    Stop,
    /// SIGHUP.
    Again,
}

/// Does what a signal asks for; the end, when that is what it asks for.
async fn hear(signal: Signal, service: &Service, again: &Again<'_>, next: &mut Option<Box<Next>>) -> Option<Ended> {
    match signal {
        Signal::Stop => return Some(Ended::Stopped),
        Signal::Again => match Next::read(again, &service.context, next).await {
            Ok(read) => {
                tracing::info!("the settings were read again");
                *next = Some(read);
            }
            // What cannot be used leaves what was there.
            Err(error) => tracing::error!("the settings stay as they were: {error:#}"),
        },
    }
    None
}

async fn tick_until_signalled(
    service: &Arc<Service>,
    clock: &mut Clock,
    again: &Again<'_>,
    signals: &mut Signals,
) -> anyhow::Result<Ended> {
    let mut refreshed: Option<Instant> = None;
    let mut next: Option<Box<Next>> = None;
    loop {
        clock.set(Timestamp::now()).await?;
        service.control.schedule(clock.last_due(Timestamp::now()));
        // Feedback and finished jobs wake the loop, and both change what is new.
        let due = refreshed.is_none_or(|at| at.elapsed() >= REFRESH_EVERY);
        let look = service.loading(move |service| {
            let may_look = service.control.may_look();
            if due || (may_look && (service.trial.rollout().is_some() || service.dirty.swap(false, Ordering::AcqRel))) {
                service.refresh();
            }
            Ok(())
        });
        // Loading may take long where much is remembered, and a signal does not wait for it.
        tokio::select! {
            _ = look => {}
            signal = signals.next() => match hear(signal?, service, again, &mut next).await {
                Some(ended) => return Ok(ended),
                None => continue,
            },
        }
        if due {
            refreshed = Some(Instant::now());
        }
        // A fine-tune at work is finished with the settings it began with.
        if let Some(next) = next.take_if(|_| !service.training.load(Ordering::Acquire)) {
            return Ok(Ended::Again(next));
        }
        let now = Timestamp::now();
        for action in decide(&service.state(now), &service.policy(), now) {
            service.carry_out(action, now);
        }
        tokio::select! {
            signal = signals.next() => {
                if let Some(ended) = hear(signal?, service, again, &mut next).await {
                    return Ok(ended);
                }
            }
            () = service.wake.notified() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }
}
