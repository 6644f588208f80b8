//! `mynah benchmark training`: the time of a training step, in the form of the peer in `benchmarks/`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use mynah_pipelines::{StepShape, TrainingDevice, time_steps};
use mynah_runtime::Checkpoint;
use serde::Serialize;

use super::checkpoint;
use crate::commands::bench::random_config;
use crate::failure::{Exit, usage};
use crate::output::{Output, table};

/// Flags of `benchmark training`.
#[derive(Debug, Args)]
pub struct TrainingArgs {
    /// Directory of the model; without it the embedded starter
    #[arg(long, value_name = "DIR", conflicts_with = "random")]
    model: Option<PathBuf>,
    /// A model of these sizes with made-up weights, DIMxLAYERSxHEADSxHIDDEN
    #[arg(long, value_name = "SIZES")]
    random: Option<String>,
    /// Texts of a batch
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Tokens of every text
    #[arg(long, default_value_t = 32)]
    tokens: usize,
    /// Threads, one after the other
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    threads: Vec<usize>,
    /// Lower layers that are not trained; with any, the embeddings are not either, and what they give is remembered
    #[arg(long, value_delimiter = ',', default_value = "0,3")]
    frozen: Vec<usize>,
    /// Where they are computed: cpu, cuda, cuda:1, wgpu and so on; a graphics card has no use for --threads
    #[arg(long, default_value_t)]
    device: TrainingDevice,
    /// Time burn's own differentiation too
    #[arg(long)]
    autodiff: bool,
    /// Seconds for each line
    #[arg(long, default_value_t = 6.0)]
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct Line {
    peer: &'static str,
    device: String,
    frozen: usize,
    threads: usize,
    batch: usize,
    tokens: usize,
    median_ms: f64,
}

/// Prints one line a figure.
///
/// # Errors
/// When the model cannot be loaded, or a number makes no sense.
pub fn run(output: Output, args: &TrainingArgs) -> anyhow::Result<Exit> {
    let budget = Duration::try_from_secs_f64(args.seconds)
        .map_err(|_| usage("--seconds is not a time", "a number such as 0.5 or 6"))?;
    let checkpoint = match &args.random {
        Some(sizes) => Checkpoint::random(random_config(sizes)?)?,
        None => checkpoint(args.model.as_ref())?.0,
    };
    let config = checkpoint.config();
    if args.batch == 0 || args.tokens == 0 || args.tokens > config.max_position_embeddings {
        let hint = format!("at least one text of 1 to {} tokens", config.max_position_embeddings);
        return Err(usage(format!("a batch of {} texts of {} tokens", args.batch, args.tokens), hint));
    }
    if let Some(frozen) = args.frozen.iter().find(|frozen| **frozen > config.n_layers) {
        return Err(usage(format!("{frozen} frozen layers"), format!("this model has {}", config.n_layers)));
    }
    if args.threads.contains(&0) {
        return Err(usage("0 threads", "at least one"));
    }
    let mut rows = vec![["step", "device", "frozen layers", "threads", "ms"].map(String::from).to_vec()];
    let device = args.device;
    let is_cpu = device == TrainingDevice::Cpu;
    let engines: &[bool] = if args.autodiff && is_cpu { &[false, true] } else { &[false] };
    let threads = if is_cpu { args.threads.as_slice() } else { &args.threads[..1] };
    for &frozen in &args.frozen {
        for &threads in threads {
            for &autodiff in engines {
                let (batch, tokens) = (args.batch, args.tokens);
                let cached = frozen > 0 && !autodiff;
                let shape = StepShape { batch, tokens, frozen, cached, autodiff, device, threads };
                let median = time_steps(&checkpoint, shape, budget)?;
                let line = Line {
                    peer: if autodiff { "mynah, differentiated by burn" } else { "mynah" },
                    device: device.to_string(),
                    frozen,
                    threads,
                    batch,
                    tokens,
                    median_ms: (median.as_secs_f64() * 1e5).round() / 1e2,
                };
                if output.json {
                    output.value(&line)?;
                } else {
                    let ms = format!("{:.1}", line.median_ms);
                    rows.push(vec![line.peer.into(), line.device, frozen.to_string(), threads.to_string(), ms]);
                }
            }
        }
    }
    if !output.json {
        for line in table(&rows, |row, _, cell| if row == 0 { output.style.bold(cell) } else { cell }) {
            output.line(line)?;
        }
    }
    Ok(Exit::Done)
}
