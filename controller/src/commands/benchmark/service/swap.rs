//! Promotions and rollbacks by another process, under a steady load.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::{Running, Served, SwapArgs, failed, steady_load, times};
use crate::commands::benchmark::Times;
use crate::failure::{Exit, Stopped, usage};
use crate::interrupt::Interrupt;
use crate::output::Output;

/// What counts as a pause.
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Serialize)]
struct Report {
    benchmark: &'static str,
    seconds: f64,
    requests: usize,
    failed: usize,
    /// Why the first one did.
    first_failure: Option<String>,
    promotions: usize,
    rollbacks: usize,
    /// How often replies began to name another version.
    swaps_seen: usize,
    replies_by_version: BTreeMap<String, usize>,
    milliseconds: Times,
    longest_ms: f64,
    /// Requests that took longer than 50 ms from the moment at which they were due.
    pauses: usize,
}

/// Measures and prints.
///
/// # Errors
/// When the service cannot be started, or the registry refuses.
pub fn run(output: Output, args: &SwapArgs, interrupt: &Interrupt) -> anyhow::Result<Exit> {
    if !(args.seconds > 0.0 && args.rate > 0.0) {
        return Err(usage("nothing to measure", "give --seconds and --rate above 0"));
    }
    let served = Served::new(output, 2, "")?;
    let service = Running::start(&served.context().home, &[])?;
    let asker = service.asker();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let length = Duration::from_secs_f64(args.seconds);
    let swaps = args.swaps;
    let registry = served.registry()?;
    let author = served.context().author("benchmark");
    let latest = registry.version("v2")?;
    // Hashing a version takes a moment, in which the load has to go on.
    let swap = Arc::new(move |number: usize| -> anyhow::Result<()> {
        match number % 2 {
            0 => registry.rollback(None, &author)?,
            _ => {
                let current = registry.production()?.map(|production| production.manifest_digest);
                registry.promote(&latest, current.as_ref(), json!({"by_hand": true}), &author)?
            }
        };
        Ok(())
    });
    let answered = runtime.block_on(async {
        let load = steady_load(&asker, args.rate, length);
        let swapping = async {
            for number in 0..swaps {
                tokio::time::sleep(length / (swaps as u32 + 1)).await;
                if interrupt.is_asked() {
                    return Err(Stopped("stopped").into());
                }
                let swap = swap.clone();
                tokio::task::spawn_blocking(move || swap(number)).await??;
            }
            anyhow::Ok(())
        };
        let (answered, swapped) = tokio::join!(load, swapping);
        swapped?;
        answered.map_err(failed)
    })?;
    let named: Vec<&String> = answered.iter().filter_map(|answered| answered.version.as_ref().ok()).collect();
    let mut replies_by_version = BTreeMap::new();
    for version in &named {
        *replies_by_version.entry((*version).clone()).or_default() += 1;
    }
    let failures: Vec<&String> = answered.iter().filter_map(|answered| answered.version.as_ref().err()).collect();
    let longest = answered.iter().map(|answered| answered.took).max().unwrap_or_default();
    let report = Report {
        benchmark: "service swap",
        seconds: args.seconds,
        requests: answered.len(),
        failed: failures.len(),
        first_failure: failures.first().map(|failure| (*failure).clone()),
        promotions: swaps / 2,
        rollbacks: swaps.div_ceil(2),
        swaps_seen: named.windows(2).filter(|pair| pair[0] != pair[1]).count(),
        replies_by_version,
        milliseconds: times(&answered),
        longest_ms: longest.as_secs_f64() * 1e3,
        pauses: answered.iter().filter(|answered| answered.took > PAUSE).count(),
    };
    if output.json {
        output.value(&report)?;
        return Ok(Exit::Done);
    }
    output.line(format_args!(
        "{} requests, {} failed; p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms; {} over 50 ms; {} swaps seen of {swaps}",
        report.requests,
        report.failed,
        report.milliseconds.p50,
        report.milliseconds.p99,
        report.longest_ms,
        report.pauses,
        report.swaps_seen,
    ))?;
    Ok(Exit::Done)
}
