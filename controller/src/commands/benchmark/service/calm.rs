//! Replies while a fine-tune runs, beside replies while nothing does.

use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::{Asker, CalmArgs, Running, Served, failed, steady_load, times};
use crate::commands::benchmark::Times;
use crate::failure::{Exit, Stopped, usage};
use crate::interrupt::Interrupt;
use crate::output::Output;

/// Requests before the first that counts.
const WARM_UP: Duration = Duration::from_secs(1);

#[derive(Serialize)]
struct Line {
    benchmark: &'static str,
    priority: String,
    rate: f64,
    seconds: f64,
    rounds: usize,
    idle: Vec<Times>,
    training: Vec<Times>,
    /// The median p99 while it trains by the median p99 while nothing runs.
    ratio_p99: f64,
}

/// Measures and prints a line for each priority.
///
/// # Errors
/// When the service cannot be started.
pub fn run(output: Output, args: &CalmArgs, interrupt: &Interrupt) -> anyhow::Result<Exit> {
    if !(args.seconds > 0.0 && args.rate > 0.0) || args.rounds == 0 {
        return Err(usage("nothing to measure", "give --seconds, --rate and --rounds above 0"));
    }
    let served = Served::new(output, 1, "")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let length = Duration::from_secs_f64(args.seconds);
    for priority in &args.priority {
        let service = Running::start(&served.context().home, &[("MYNAH_SERVICE__TRAINING_PRIORITY", priority)])?;
        let asker = service.asker();
        let (mut idle, mut training) = (Vec::new(), Vec::new());
        runtime.block_on(async {
            steady_load(&asker, args.rate, WARM_UP).await.map_err(failed)?;
            for _ in 0..args.rounds {
                if interrupt.is_asked() {
                    return Err(Stopped("stopped").into());
                }
                idle.push(times(&steady_load(&asker, args.rate, length).await.map_err(failed)?));
                let job = train(&asker).await.map_err(failed)?;
                training.push(times(&steady_load(&asker, args.rate, length).await.map_err(failed)?));
                let state = asker.get(&format!("/jobs/{job}")).await.map_err(failed)?;
                if state["state"] != "running" {
                    return Err(failed(format!("the fine-tune was over too soon: {state}")));
                }
                asker.post(&format!("/jobs/{job}/cancel"), json!({})).await.map_err(failed)?;
                while asker.get(&format!("/jobs/{job}")).await.map_err(failed)?["state"] == "running" {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            anyhow::Ok(())
        })?;
        let ratio_p99 = median(&training) / median(&idle).max(f64::MIN_POSITIVE);
        let line = Line {
            benchmark: "service calm",
            priority: priority.clone(),
            rate: args.rate,
            seconds: args.seconds,
            rounds: args.rounds,
            idle,
            training,
            ratio_p99,
        };
        match output.json {
            true => output.value(&line)?,
            false => output.line(format_args!(
                "{priority:<8} p99 {:.2} ms idle, {:.2} ms while it trains: {ratio_p99:.2} times",
                median(&line.idle),
                median(&line.training)
            ))?,
        }
    }
    Ok(Exit::Done)
}

/// Starts a fine-tune and waits until it trains.
async fn train(asker: &Asker) -> Result<String, String> {
    let answer = asker.post("/fine-tune", json!({"training": {"epochs": 100_000}, "force": true})).await?;
    let job = answer["job"].as_str().unwrap_or_default().to_owned();
    loop {
        let state = asker.get(&format!("/jobs/{job}")).await?;
        match (state["state"].as_str(), state["stage"].as_str()) {
            (Some("running"), Some("fine_tune")) => return Ok(job),
            (Some("queued" | "running"), _) => tokio::time::sleep(Duration::from_millis(20)).await,
            _ => return Err(state.to_string()),
        }
    }
}

fn median(times: &[Times]) -> f64 {
    let mut values: Vec<f64> = times.iter().map(|times| times.p99).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
