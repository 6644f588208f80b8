//! `mynah simulate watch`: how often the watch errs, on promotions whose worth is known.

use clap::Args;
use mynah_pipelines::{SimulatedWatch, WatchSimulation, simulate_watch};
use serde_json::json;

use crate::commands::Context;
use crate::failure::{Exit, Stopped, usage};
use crate::interrupt::Interrupt;
use crate::output::{percent, table};

/// Flags of `simulate watch`.
#[derive(Debug, Args)]
pub struct SimulateWatchArgs {
    /// Share of the turns that go wrong before the promotion: corrected, disliked, not understood
    #[arg(long, default_value = "0.05,0.08,0.1,0.12,0.15,0.2", value_delimiter = ',', value_name = "SHARE,…")]
    pub rate: Vec<f64>,
    /// How many times as many go wrong after it
    #[arg(long, default_value = "1,2", value_delimiter = ',', value_name = "TIMES,…")]
    pub factor: Vec<f64>,
    /// How alike the turns of one session are: the correlation within it
    #[arg(long, default_value = "0,0.05", value_delimiter = ',', value_name = "SHARE,…")]
    pub spread: Vec<f64>,
    /// Turns of a session
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub session_turns: usize,
    /// Turns before the promotion
    #[arg(long, default_value = "2000", value_delimiter = ',', value_name = "N,…")]
    pub baseline: Vec<usize>,
    /// Promotions of every kind
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub promotions: usize,
    /// Seed of the draws
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
}

/// Simulates and prints one row a kind of promotion.
///
/// # Errors
/// When a share is none, or the user stopped it.
pub fn run(context: &Context, args: &SimulateWatchArgs, interrupt: &Interrupt) -> anyhow::Result<Exit> {
    let shares = args.rate.iter().map(|rate| ("--rate", *rate));
    for (name, share) in shares.chain(args.spread.iter().map(|spread| ("--spread", *spread))) {
        if !(0.0..1.0).contains(&share) {
            return Err(usage(format!("{name} is {share}, but is a share"), "give a number from 0 to below 1"));
        }
    }
    let mut rows: Vec<SimulatedWatch> = Vec::new();
    for &rate in &args.rate {
        for (&spread, &baseline) in args.spread.iter().flat_map(|s| args.baseline.iter().map(move |b| (s, b))) {
            for &factor in &args.factor {
                if interrupt.is_asked() {
                    return Err(Stopped("the simulation was stopped").into());
                }
                let simulation = WatchSimulation {
                    rate,
                    factor,
                    spread,
                    session_turns: args.session_turns,
                    baseline,
                    promotions: args.promotions,
                    seed: args.seed,
                };
                rows.push(simulate_watch(&context.settings.watch, &simulation));
            }
        }
    }
    if context.output.json {
        context.output.value(&json!({"watch": context.settings.watch, "rows": rows}))?;
        return Ok(Exit::Done);
    }
    let style = context.output.style;
    let head = ["went wrong", "after", "spread", "baseline", "rolled back", "median turn"].map(str::to_owned).to_vec();
    let cells = rows.iter().map(|row| {
        vec![
            percent(row.simulation.rate),
            format!("x{}", row.simulation.factor),
            format!("{}", row.simulation.spread),
            row.simulation.baseline.to_string(),
            format!("{:.2} %", 100.0 * row.share),
            row.median_turns.map_or("–".to_owned(), |turn| turn.to_string()),
        ]
    });
    let cells: Vec<Vec<String>> = std::iter::once(head).chain(cells).collect();
    for line in table(&cells, |row, _, cell| if row == 0 { style.dim(cell) } else { cell }) {
        context.output.line(line)?;
    }
    Ok(Exit::Done)
}
