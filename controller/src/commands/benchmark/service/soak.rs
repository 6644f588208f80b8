//! Many turns in many sessions, with opinions; what the service holds in memory meanwhile.

use std::time::Instant;

use serde::Serialize;
use serde_json::json;

use super::{Running, SAID, Served, SoakArgs, failed};
use crate::failure::{Exit, Stopped, usage};
use crate::interrupt::Interrupt;
use crate::output::Output;

/// The share of the sessions after which memory counts: until then it is being filled.
const FILLED: f64 = 0.1;

/// Samples of the memory that are reported.
const SAMPLES: usize = 20;

#[derive(Serialize)]
struct Report {
    benchmark: &'static str,
    interactions: usize,
    sessions: usize,
    opinions: usize,
    failed: usize,
    seconds: f64,
    requests_a_second: f64,
    /// Megabytes after a tenth of the sessions and at the end, and the most in between.
    resident_mb: Option<[f64; 3]>,
    /// The end by the tenth, less one.
    growth: Option<f64>,
    samples_mb: Vec<f64>,
}

/// Measures and prints.
///
/// # Errors
/// When the service cannot be started.
pub fn run(output: Output, args: &SoakArgs, interrupt: &Interrupt) -> anyhow::Result<Exit> {
    if args.sessions == 0 || args.interactions < args.sessions {
        return Err(usage("nothing to measure", "give at least one turn for each session"));
    }
    let served = Served::new(output, 1, "[runtime]\ndurability = \"process\"\n")?;
    let service = Running::start(&served.context().home, &[])?;
    let asker = service.asker();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let per_session = args.interactions / args.sessions;
    let started = Instant::now();
    let (mut samples, mut opinions, mut failures) = (Vec::new(), 0, 0);
    runtime.block_on(async {
        for number in 0..args.sessions {
            let mut session = None;
            for turn in 0..per_session {
                if interrupt.is_asked() {
                    return Err(Stopped("stopped").into());
                }
                // Not the same words again and again: what remembers texts has to forget some.
                let message = format!("{} {}", SAID[turn % SAID.len()], number * per_session + turn);
                match asker.post("/chat", json!({"message": message, "session": session})).await {
                    Ok(reply) => {
                        session = reply["session"].as_str().map(str::to_owned);
                        if args.opinion_every > 0 && turn % args.opinion_every == 0 {
                            let rating = if turn % (2 * args.opinion_every) == 0 { "down" } else { "up" };
                            let body = json!({"interaction": reply["interaction"], "rating": rating});
                            opinions += 1;
                            failures += usize::from(asker.post("/feedback", body).await.is_err());
                        }
                    }
                    Err(_) => failures += 1,
                }
            }
            if let Some(session) = session {
                asker.post(&format!("/sessions/{session}/end"), json!({})).await.map_err(failed)?;
            }
            samples.extend(service.resident_mb());
            if number % 20 == 19 {
                output.note(format_args!(
                    "{} sessions, {:.1} MB",
                    number + 1,
                    samples.last().copied().unwrap_or_default()
                ));
            }
        }
        anyhow::Ok(())
    })?;
    let seconds = started.elapsed().as_secs_f64();
    let filled = samples.get((args.sessions as f64 * FILLED) as usize..).unwrap_or_default();
    let resident_mb = match (filled.first(), filled.last()) {
        (Some(first), Some(last)) => Some([*first, *last, filled.iter().copied().fold(0.0, f64::max)]),
        _ => None,
    };
    let every = samples.len().div_ceil(SAMPLES).max(1);
    let report = Report {
        benchmark: "service soak",
        interactions: per_session * args.sessions,
        sessions: args.sessions,
        opinions,
        failed: failures,
        seconds,
        requests_a_second: (per_session * args.sessions) as f64 / seconds,
        resident_mb,
        growth: resident_mb.map(|[first, last, _]| last / first - 1.0),
        samples_mb: samples.into_iter().step_by(every).collect(),
    };
    if output.json {
        output.value(&report)?;
        return Ok(Exit::Done);
    }
    let [first, last, most] = report.resident_mb.unwrap_or_default();
    output.line(format_args!(
        "{} turns, {} failed, {:.0} a second; {first:.1} MB after a tenth, {last:.1} MB at the end ({:+.1} %), at most {most:.1} MB",
        report.interactions,
        report.failed,
        report.requests_a_second,
        100.0 * report.growth.unwrap_or_default(),
    ))?;
    Ok(Exit::Done)
}
