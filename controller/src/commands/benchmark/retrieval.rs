//! `mynah benchmark retrieval`: the right sentence among thousands, by embedding alone.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mynah_runtime::Model;
use serde::{Deserialize, Serialize};

use super::{Precisions, checkpoint, precision_name};
use crate::commands::import::open;
use crate::failure::{Exit, hinted};
use crate::interrupt::Interrupt;
use crate::output::Output;

/// Texts that are embedded together.
const BATCH: usize = 256;

/// Flags of `benchmark retrieval`.
#[derive(Debug, Args)]
pub struct RetrievalArgs {
    /// The questions with the numbers of the candidates that answer them, plain or gzip
    #[arg(long, value_name = "FILE")]
    pub queries: PathBuf,
    /// The sentences to choose from
    #[arg(long, value_name = "FILE")]
    pub candidates: PathBuf,
    /// A directory with config.json, tokenizer.json and weights [default: the embedded starter]
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// int8 (as served), f32 or both
    #[arg(long, default_value = "both")]
    pub precision: Precisions,
}

#[derive(Deserialize)]
struct Query {
    question: String,
    positives: Vec<usize>,
}

#[derive(Deserialize)]
struct Candidate {
    i: usize,
    text: String,
}

#[derive(Serialize)]
struct Report {
    benchmark: &'static str,
    model: String,
    queries: usize,
    candidates: usize,
    results: Vec<Scored>,
}

#[derive(Serialize)]
struct Scored {
    precision: &'static str,
    #[serde(flatten)]
    ranking: Ranking,
    seconds: f64,
}

/// How far up the first right candidate stands, over all queries. Ratios are in [0, 1].
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
struct Ranking {
    #[serde(rename = "recall@1")]
    recall_at_1: f64,
    #[serde(rename = "recall@10")]
    recall_at_10: f64,
    #[serde(rename = "mrr")]
    mean_reciprocal_rank: f64,
}

/// Embeds, ranks and prints.
///
/// # Errors
/// When a file or the model is no good, or the run was stopped.
pub fn run(output: Output, args: &RetrievalArgs, interrupt: &Interrupt) -> anyhow::Result<Exit> {
    let queries: Vec<Query> = records(&args.queries)?;
    let candidates: Vec<Candidate> = records(&args.candidates)?;
    let numbers: Vec<usize> = candidates.iter().map(|candidate| candidate.i).collect();
    let known = |query: &Query| query.positives.iter().any(|positive| numbers.contains(positive));
    if queries.is_empty() || !queries.iter().all(known) {
        let hint = "a query's `positives` are the `i` of candidates; take the two files of one test";
        return Err(hinted(format!("{} does not fit the candidates", args.queries.display()), hint));
    }
    let (files, model) = checkpoint(args.model.as_ref())?;
    let mut results = Vec::new();
    for precision in args.precision.each() {
        let served = Model::load(&files, *precision)?;
        let started = Instant::now();
        let bar = bar(output, precision_name(*precision), queries.len() + candidates.len());
        let asked: Vec<&str> = queries.iter().map(|query| query.question.as_str()).collect();
        let texts: Vec<&str> = candidates.iter().map(|candidate| candidate.text.as_str()).collect();
        let asked = embed(&served, &asked, &bar, interrupt)?;
        let texts = embed(&served, &texts, &bar, interrupt)?;
        bar.finish_and_clear();
        let positives: Vec<Vec<usize>> = queries
            .iter()
            .map(|query| {
                let place = |positive: &usize| numbers.iter().position(|number| number == positive);
                query.positives.iter().filter_map(place).collect()
            })
            .collect();
        results.push(Scored {
            precision: precision_name(*precision),
            ranking: rank(&asked, &texts, &positives),
            seconds: started.elapsed().as_secs_f64(),
        });
    }
    let report =
        Report { benchmark: "retrieval", model, queries: queries.len(), candidates: candidates.len(), results };
    if output.json {
        output.value(&report)?;
        return Ok(Exit::Done);
    }
    for Scored { precision, ranking, seconds } in &report.results {
        output.line(format!(
            "{precision:<5} recall@1 {:.2}, recall@10 {:.2}, MRR {:.2}  ({seconds:.0} s)",
            100.0 * ranking.recall_at_1,
            100.0 * ranking.recall_at_10,
            100.0 * ranking.mean_reciprocal_rank
        ))?;
    }
    Ok(Exit::Done)
}

fn records<T: for<'a> Deserialize<'a>>(path: &Path) -> anyhow::Result<Vec<T>> {
    let (mut reader, name) = open(path)?;
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes)?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut plain = Vec::new();
        flate2::read::MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut plain)?;
        bytes = plain;
    }
    let lines = bytes.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.trim_ascii().is_empty());
    lines
        .map(|(number, line)| {
            serde_json::from_slice(line).map_err(|error| {
                let hint = "queries are {\"question\",\"positives\":[…]}, candidates {\"i\",\"text\"}";
                hinted(format!("{name}:{}: {error}", number + 1), hint)
            })
        })
        .collect()
}

fn bar(output: Output, what: &'static str, total: usize) -> ProgressBar {
    if !output.draws {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("embed {prefix:<5} [{bar:24}] {percent:>3}%  {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar.set_prefix(what);
    bar
}

fn embed(model: &Model, texts: &[&str], bar: &ProgressBar, interrupt: &Interrupt) -> anyhow::Result<Vec<Vec<f32>>> {
    let mut embeddings = Vec::with_capacity(texts.len());
    for chunk in texts.chunks(BATCH) {
        if interrupt.is_asked() {
            return Err(mynah_pipelines::Error::Cancelled.into());
        }
        embeddings.extend(model.embed(chunk));
        bar.inc(chunk.len() as u64);
    }
    Ok(embeddings)
}

/// Ranks every text for every query; of equal similarities the wrong one counts as nearer.
///
/// # Shapes
/// `queries`: `[queries, dim]`, `texts`: `[texts, dim]`, rows of length 1
fn rank(queries: &[Vec<f32>], texts: &[Vec<f32>], positives: &[Vec<usize>]) -> Ranking {
    let mut ranking = Ranking::default();
    for (query, positives) in queries.iter().zip(positives) {
        let similarity = |text: &Vec<f32>| -> f32 { query.iter().zip(text).map(|(a, b)| a * b).sum() };
        let similarities: Vec<f32> = texts.iter().map(similarity).collect();
        let Some(best) = positives.iter().map(|positive| similarities[*positive]).max_by(f32::total_cmp) else {
            continue;
        };
        let nearer = similarities
            .iter()
            .enumerate()
            .filter(|(text, similarity)| **similarity >= best && !positives.contains(text))
            .count();
        ranking.recall_at_1 += f64::from(u8::from(nearer < 1));
        ranking.recall_at_10 += f64::from(u8::from(nearer < 10));
        ranking.mean_reciprocal_rank += 1.0 / (nearer + 1) as f64;
    }
    let n = queries.len().max(1) as f64;
    Ranking {
        recall_at_1: ranking.recall_at_1 / n,
        recall_at_10: ranking.recall_at_10 / n,
        mean_reciprocal_rank: ranking.mean_reciprocal_rank / n,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_by_hand() {
        let queries = vec![vec![1.0, 0.0], vec![0.0, 1.0], vec![0.6, 0.8]];
        let texts = vec![vec![1.0, 0.0], vec![0.0, 1.0], vec![0.8, 0.6]];
        // First, behind one, behind one with a tie against it.
        let ranking = rank(&queries, &texts, &[vec![0], vec![2], vec![0, 1]]);
        assert_eq!(ranking.recall_at_1, 1.0 / 3.0);
        assert_eq!(ranking.recall_at_10, 1.0);
        assert!((ranking.mean_reciprocal_rank - (1.0 + 0.5 + 0.5) / 3.0).abs() < 1e-12);
        let tied = rank(&queries[..1], &[texts[0].clone(), texts[0].clone()], &[vec![1]]);
        assert_eq!(tied.recall_at_1, 0.0);
    }
}
