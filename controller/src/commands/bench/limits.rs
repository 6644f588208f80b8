//! The limits of the machine: how fast one core multiplies, and how fast it reads.

use std::hint::black_box;
use std::time::{Duration, Instant};

use mynah_runtime::InstructionSet;
use mynah_runtime::encoder::measure::Kernel;
use serde::Serialize;

use crate::failure::Exit;
use crate::output::{Output, table};

/// A product of one layer of distilbert-base-uncased.
const INPUTS: usize = 768;
const OUTPUTS: usize = 3072;

#[derive(Debug, Serialize)]
struct Limit {
    limit: &'static str,
    rows: Option<usize>,
    /// 10⁹ operations or bytes a second, on one core.
    billions_per_second: f64,
}

pub(super) fn run(output: Output, seconds: Duration) -> anyhow::Result<Exit> {
    let set = InstructionSet::detect();
    output.note(format_args!("one core, {set:?}; products of {INPUTS} by {OUTPUTS}, weights in the cache"));
    let products = [16, 32, 128, 1024]
        .map(|rows| ("int8 product", Some(rows), Kernel::Product { rows, inputs: INPUTS, outputs: OUTPUTS }));
    // Far more than the last-level cache of one core's share.
    let read = ("memory read", None, Kernel::Read { bytes: 512 << 20 });
    let mut rows = vec![["limit", "rows", "GOP/s or GB/s"].map(String::from).to_vec()];
    for (limit, count, kernel) in products.into_iter().chain([read]) {
        let line = Limit { limit, rows: count, billions_per_second: rate(kernel, set, seconds) };
        if output.json {
            output.value(&line)?;
        } else {
            let count = count.map(|count| count.to_string()).unwrap_or_default();
            rows.push(vec![limit.into(), count, format!("{:.1}", line.billions_per_second)]);
        }
    }
    if !output.json {
        for line in table(&rows, |row, _, cell| if row == 0 { output.style.bold(cell) } else { cell }) {
            output.line(line)?;
        }
    }
    Ok(Exit::Done)
}

/// The best rate of several runs, in 10⁹ operations a second: a limit is what nothing got in the way of.
fn rate(kernel: Kernel, set: InstructionSet, seconds: Duration) -> f64 {
    let mut prepared = kernel.prepare(set);
    black_box(prepared.run());
    let (mut best, started) = (f64::INFINITY, Instant::now());
    for run in 0.. {
        if run >= super::FEWEST && started.elapsed() >= seconds {
            break;
        }
        let before = Instant::now();
        black_box(prepared.run());
        best = best.min(before.elapsed().as_secs_f64());
    }
    (kernel.operations() as f64 / best / 1e8).round() / 10.0
}
