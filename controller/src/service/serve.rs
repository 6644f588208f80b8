//! The life of the service: lock, listen, tick, stop in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use mynah_data::Error as DataError;
use tracing_subscriber::EnvFilter;

use super::decide::decide;
use super::schedule::Clock;
use super::{Service, access, lock, routes};
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

/// Runs the service until Ctrl-C or SIGTERM.
///
/// # Errors
/// When another service of this home runs, the address is taken, or a schedule is no good.
pub fn serve(context: &Context) -> anyhow::Result<Exit> {
    let filter = context.environment.log_filter.as_deref().unwrap_or("warn,mynah_controller=info");
    let filter =
        EnvFilter::try_new(filter).map_err(|error| usage(format!("MYNAH_LOG: {error}"), "use e.g. MYNAH_LOG=info"))?;
    let coloured = context.output.error_style == crate::output::Style::Coloured;
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(coloured)
        .with_target(false)
        .with_writer(std::io::stderr)
        .try_init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(context))
}

async fn run(context: &Context) -> anyhow::Result<Exit> {
    let address: SocketAddr = context.settings.service.listen.parse().map_err(|_| {
        usage(format!("`{}` is no address", context.settings.service.listen), "use e.g. 127.0.0.1:7878")
    })?;
    if !address.ip().is_loopback() {
        return Err(usage(
            format!("{address} can be reached from other machines"),
            "the service listens on loopback only: 127.0.0.1 or [::1]",
        ));
    }
    context.registry()?;
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
    let service = Arc::new(Service::new(context.clone(), access::new_token())?);
    let on_due = {
        let service = service.clone();
        Arc::new(move || service.wake.notify_one())
    };
    let mut clock = Clock::new(&context.settings.service.schedules, on_due)?;
    let listener = tokio::net::TcpListener::bind(address).await.map_err(|error| {
        hinted(format!("cannot listen on {address}: {error}"), "choose another port with --listen 127.0.0.1:0")
    })?;
    let address = listener.local_addr()?.to_string();
    let path = ServiceFile::path(&context.home);
    access::write(
        &path,
        &ServiceFile { address: address.clone(), token: service.token.clone(), pid: std::process::id() },
    )?;
    context.output.line(match context.output.json {
        true => serde_json::json!({"address": address, "pid": std::process::id()}).to_string(),
        false => format!("listening on http://{address} (token in {})", path.display()),
    })?;

    let stop = Arc::new(tokio::sync::Notify::new());
    let stopped = stop.clone();
    let server = axum::serve(listener, routes::router(service.clone()))
        .with_graceful_shutdown(async move { stopped.notified().await });
    let server = tokio::spawn(async move { server.await });
    let fresh = service.clone();
    std::thread::Builder::new().name("fresh".into()).spawn(move || fresh.keep_fresh())?;
    let ended = tick_until_signalled(&service, &mut clock).await;

    service.stopping.store(true, Ordering::Release);
    let _ = std::fs::remove_file(&path);
    stop.notify_one();
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
    context.output.note("stopped");
    ended.map(|()| Exit::Done)
}

async fn tick_until_signalled(service: &Arc<Service>, clock: &mut Clock) -> anyhow::Result<()> {
    let mut refreshed: Option<Instant> = None;
    let signal = signalled();
    tokio::pin!(signal);
    loop {
        clock.set(Timestamp::now()).await?;
        service.control.schedule(clock.last_due(Timestamp::now()));
        // Feedback and finished jobs wake the loop, and both change what is new.
        let due = refreshed.is_none_or(|at| at.elapsed() >= REFRESH_EVERY);
        let _ = service
            .blocking(move |service| {
                let may_look = service.control.may_look();
                if due
                    || (may_look && (service.trial.rollout().is_some() || service.dirty.swap(false, Ordering::AcqRel)))
                {
                    service.refresh();
                }
                Ok(())
            })
            .await;
        if due {
            refreshed = Some(Instant::now());
        }
        let now = Timestamp::now();
        for action in decide(&service.state(now), &service.policy(), now) {
            service.carry_out(action, now);
        }
        tokio::select! {
            result = &mut signal => return Ok(result?),
            () = service.wake.notified() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }
}
