//! `mynah bench`: how fast the encoder is on this machine, and what the machine's limits are.
//!
//! The lines are those of the peer in `benchmarks/`, and so are the token ids, so that the two can be interleaved. What is
//! timed is [`Encoder::forward_into`]: token ids in, hidden states out.

mod limits;

use std::time::{Duration, Instant};

use anyhow::Context as _;
use mynah_runtime::{Checkpoint, Config, Encoder, EncoderOptions, Hidden, Precision};
use serde::Serialize;

use crate::cli::{BenchArgs, PrecisionName};
use crate::failure::{Exit, usage};
use crate::output::{Output, table};

/// Runs before the first that counts.
const WARM_UP: usize = 3;
/// Runs that count, however long they take.
const FEWEST: usize = 5;

/// The figures of one shape.
#[derive(Debug, Serialize)]
struct Line {
    peer: &'static str,
    precision: &'static str,
    threads: usize,
    batch: usize,
    tokens: usize,
    median_ms: f64,
}

/// Times the encoder of a model, or the limits of the machine.
///
/// # Errors
/// When the model cannot be loaded, or a list on the command line is not one.
pub fn run(output: Output, args: &BenchArgs) -> anyhow::Result<Exit> {
    let seconds = Duration::try_from_secs_f64(args.seconds)
        .map_err(|_| usage("--seconds is not a time", "a number such as 0.5 or 2"))?;
    if args.limits {
        return limits::run(output, seconds);
    }
    let checkpoint = match (&args.model, &args.random) {
        (Some(directory), _) => Checkpoint::from_directory(directory)?,
        (None, Some(sizes)) => Checkpoint::random(random_config(sizes)?)?,
        (None, None) => Checkpoint::starter()?,
    };
    let shapes = args.shapes.iter().map(|shape| parse_shape(shape)).collect::<anyhow::Result<Vec<_>>>()?;
    let longest = checkpoint.config().max_position_embeddings;
    if let Some((_, tokens)) = shapes.iter().find(|(batch, tokens)| *batch == 0 || *tokens == 0 || *tokens > longest) {
        return Err(usage(format!("a sequence of {tokens} tokens"), format!("this model reads 1 to {longest} tokens")));
    }
    let mut lines = Vec::new();
    for &threads in &args.threads {
        for &precision in &args.precision {
            let (name, precision) = match precision {
                PrecisionName::Int8 => ("int8", Precision::Int8),
                PrecisionName::F32 => ("f32", Precision::F32),
            };
            let started = Instant::now();
            let encoder = Encoder::load_with(&checkpoint, precision, EncoderOptions { threads: Some(threads) })?;
            let load = started.elapsed();
            output.note(format_args!(
                "{name}, {threads} threads: loaded in {:.0} ms, {:?}",
                load.as_secs_f64() * 1e3,
                encoder.instruction_set()
            ));
            for &(batch, tokens) in &shapes {
                let median = median_of(&encoder, batch, tokens, seconds)?;
                let line = Line {
                    peer: "mynah",
                    precision: name,
                    threads,
                    batch,
                    tokens,
                    median_ms: (median.as_secs_f64() * 1e7).round() / 1e4,
                };
                if output.json {
                    output.value(&line)?;
                } else {
                    lines.push(line);
                }
            }
        }
    }
    if !output.json {
        print(output, &lines)?;
    }
    Ok(Exit::Done)
}

/// The median time of a forward pass over a batch.
fn median_of(encoder: &Encoder, batch: usize, tokens: usize, seconds: Duration) -> anyhow::Result<Duration> {
    let highest = encoder.config().vocab_size as u64 - 1;
    let ids: Vec<u32> = (0..(batch * tokens) as u64).map(|i| (i * 7919 % 9000 + 1000).min(highest) as u32).collect();
    let sequences: Vec<&[u32]> = ids.chunks_exact(tokens).collect();
    let mut hidden = Hidden::default();
    for _ in 0..WARM_UP {
        encoder.forward_into(&sequences, &mut hidden)?;
    }
    let (mut times, started) = (Vec::new(), Instant::now());
    while times.len() < FEWEST || started.elapsed() < seconds {
        let before = Instant::now();
        encoder.forward_into(&sequences, &mut hidden)?;
        times.push(before.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

fn parse_shape(shape: &str) -> anyhow::Result<(usize, usize)> {
    let sizes = sizes(shape).filter(|sizes| sizes.len() == 2).map(|sizes| (sizes[0], sizes[1]));
    sizes.ok_or_else(|| usage(format!("`{shape}` is not a shape"), "BATCHxTOKENS, e.g. 1x16 or 32x32"))
}

/// The sizes of `DIMxLAYERSxHEADSxHIDDEN`, with the vocabulary of distilbert-base-uncased.
pub(super) fn random_config(text: &str) -> anyhow::Result<Config> {
    let Some([dim, n_layers, n_heads, hidden_dim]) = sizes(text).and_then(|sizes| <[usize; 4]>::try_from(sizes).ok())
    else {
        return Err(usage(
            format!("`{text}` are not the sizes of a model"),
            "DIMxLAYERSxHEADSxHIDDEN, e.g. 768x6x12x3072",
        ));
    };
    let json = serde_json::json!({
        "model_type": "distilbert", "dim": dim, "n_layers": n_layers, "n_heads": n_heads, "hidden_dim": hidden_dim,
        "vocab_size": 30_522, "max_position_embeddings": 512,
    });
    Config::from_json(json.to_string().as_bytes()).with_context(|| format!("a model of {text}"))
}

fn sizes(text: &str) -> Option<Vec<usize>> {
    text.split('x').map(|size| size.parse().ok()).collect()
}

fn print(output: Output, lines: &[Line]) -> anyhow::Result<()> {
    let mut rows = vec![["shape", "precision", "threads", "ms"].map(String::from).to_vec()];
    for line in lines {
        let shape = format!("{}x{}", line.batch, line.tokens);
        rows.push(vec![shape, line.precision.into(), line.threads.to_string(), format!("{:.3}", line.median_ms)]);
    }
    for line in table(&rows, |row, _, cell| if row == 0 { output.style.bold(cell) } else { cell }) {
        output.line(line)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_and_sizes_are_read_or_refused() {
        assert_eq!(parse_shape("32x16").unwrap(), (32, 16));
        assert_eq!(random_config("64x2x4x128").unwrap().head_dim(), 16);
        for wrong in ["", "32", "1x2x3", "ax2"] {
            assert!(parse_shape(wrong).is_err() && random_config(wrong).is_err(), "{wrong}");
        }
        assert!(random_config("63x2x4x128").is_err(), "heads that do not divide the width");
    }

    #[test]
    fn every_shape_is_timed() {
        let checkpoint = Checkpoint::random(random_config("32x1x2x64").unwrap()).unwrap();
        let encoder = Encoder::load(&checkpoint, Precision::Int8).unwrap();
        assert!(median_of(&encoder, 2, 5, Duration::ZERO).unwrap() > Duration::ZERO);
    }
}
