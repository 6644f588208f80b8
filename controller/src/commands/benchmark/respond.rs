//! `mynah benchmark respond`: a whole turn, from the string to the reply that is in the log, beside the encoder alone.

use std::path::PathBuf;
use std::sync::Barrier;
use std::time::Duration;

use clap::Args;
use mynah_data::{Durability, ImportOptions};
use mynah_runtime::tokenizer::UTTERANCE_TOKENS;
use mynah_runtime::{Feedback, Mynah, RuntimeSettings};
use serde::Serialize;
use serde_json::json;

use super::sentences::sentences;
use super::{BenchmarkHome, Times, timed};
use crate::cli::PrecisionName;
use crate::failure::{Exit, Stopped, usage};
use crate::interrupt::Interrupt;
use crate::output::{Output, table};

/// How many of the nearest sentences the search is asked for, as a reply asks.
const NEAREST: usize = 10;

/// Flags of `benchmark respond`.
#[derive(Debug, Args)]
pub struct RespondArgs {
    /// How many answers are remembered
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    pub memory: usize,
    /// A directory with config.json, tokenizer.json and weights [default: the embedded starter]
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// Files of sentences, plain or gzip; made-up ones fill up
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub texts: Vec<PathBuf>,
    /// Turns that are timed
    #[arg(long, default_value_t = 500, value_name = "N")]
    pub turns: usize,
    /// Threads of the encoder [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// int8 (as served) or f32
    #[arg(long, default_value = "int8")]
    pub precision: PrecisionName,
    /// How many callers ask at once
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 64])]
    pub callers: Vec<usize>,
    /// A directory for the home, to be used again: its memory need not be embedded twice
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    benchmark: &'static str,
    model: String,
    precision: PrecisionName,
    remembered: usize,
    sentences_given: usize,
    turns: usize,
    open_seconds: f64,
    open_again_seconds: f64,
    /// With durability `process`, and then with `disk`.
    milliseconds: Milliseconds,
    milliseconds_disk: Milliseconds,
    /// `respond` by the encoder alone, of the medians.
    ratio: Ratio,
    recall: Recall,
    correction_ms: f64,
    callers: Vec<Callers>,
}

#[derive(Serialize)]
struct Milliseconds {
    encoder: Times,
    tokenizer: Times,
    predict: Times,
    memory: Times,
    refresh: Times,
    respond: Times,
}

#[derive(Serialize)]
struct Ratio {
    process: f64,
    disk: f64,
}

#[derive(Serialize)]
struct Recall {
    at_1: f64,
    at_10: f64,
}

/// Requests a second when that many ask at once.
#[derive(Serialize)]
struct Callers {
    callers: usize,
    predict_alone: f64,
    predict_grouped: f64,
    respond_process: f64,
}

/// Measures and prints.
///
/// # Errors
/// When a file or the model is no good, or the disk refuses.
pub fn run(output: Output, args: &RespondArgs, interrupt: &Interrupt) -> anyhow::Result<Exit> {
    if args.turns == 0 || args.callers.contains(&0) {
        return Err(usage("nothing to measure", "ask for one turn and one caller at least"));
    }
    let home = BenchmarkHome::new(output, args.model.as_deref(), args.keep.as_deref())?;
    let (mut remembered, given) = sentences(&args.texts, args.memory + args.turns)?;
    // Every so many sentences one that is not remembered.
    let every = remembered.len() / args.turns;
    let mut asked = Vec::with_capacity(args.turns);
    let mut index = 0;
    remembered.retain(|text| {
        index += 1;
        let is_asked = every > 0 && index % every == 0 && asked.len() < args.turns;
        if is_asked {
            asked.push(text.clone());
        }
        !is_asked
    });
    let lines: String = remembered
        .iter()
        .enumerate()
        .map(|(number, text)| format!("{}\n", json!({"question": text, "answer": format!("Answer {number}.")})))
        .collect();
    mynah_data::import(&home.context.home, lines.as_bytes(), "benchmark.jsonl", &ImportOptions::default())?;

    let open = |durability| -> anyhow::Result<Mynah> {
        let settings = RuntimeSettings {
            durability,
            threads: args.threads,
            precision: args.precision.into(),
            ..RuntimeSettings::default()
        };
        let note = move |done, total| {
            if done % 10_240 == 0 && total > 10_240 {
                output.note(format_args!("embedding {done} of {total} sentences"));
            }
        };
        Ok(Mynah::builder(home.context.home.root()).settings(settings).on_embedding(note).open()?)
    };
    // One at a time: an app has one, and two would take the processor's cache from each other.
    let (disk, opened) = timed(|| open(Durability::Disk));
    let on_disk = turns(&disk?, &asked, interrupt)?;
    let (process, again) = timed(|| open(Durability::Process));
    let process = process?;
    let measured = turns(&process, &asked, interrupt)?;
    let recall = recall(&process, &asked);
    let callers = args.callers.iter().map(|callers| many(&process, &asked, *callers)).collect::<anyhow::Result<_>>()?;
    let correction_ms = correction(&process, &asked)?;
    let ratio = |measured: &Milliseconds| (1000.0 * measured.respond.p50 / measured.encoder.p50).round() / 1000.0;
    let report = Report {
        benchmark: "respond",
        model: home.model,
        precision: args.precision,
        remembered: process.remembered(),
        sentences_given: given,
        turns: asked.len(),
        open_seconds: opened.as_secs_f64(),
        open_again_seconds: again.as_secs_f64(),
        ratio: Ratio { process: ratio(&measured), disk: ratio(&on_disk) },
        milliseconds: measured,
        milliseconds_disk: on_disk,
        recall,
        correction_ms,
        callers,
    };
    print(output, &report)
}

/// One turn after the other, each beside its parts, so that what else the machine does hits all alike.
fn turns(mynah: &Mynah, asked: &[String], interrupt: &Interrupt) -> anyhow::Result<Milliseconds> {
    const WARM_UP: usize = 20;
    let (model, memory) = (mynah.model(), mynah.memory());
    let mut session = mynah.session()?;
    // A turn looks at sentences that no cache holds; those of its own text are in one as soon as it was answered.
    let elsewhere: Vec<Vec<f32>> = asked.iter().map(|text| model.predict(text).embedding).collect();
    let elsewhere = elsewhere.iter().cycle().skip(asked.len() / 2);
    let mut times: [Vec<Duration>; 6] = Default::default();
    let turns = asked.iter().cycle().zip(elsewhere).take(asked.len() + WARM_UP);
    for (round, (text, embedding)) in turns.enumerate() {
        if interrupt.is_asked() {
            return Err(Stopped("stopped").into());
        }
        let (encoding, tokenizer) = timed(|| model.tokenizer().encode(text, UTTERANCE_TOKENS));
        let (hidden, encoder) = timed(|| model.encoder().forward(&[&encoding.input_ids]));
        hidden?;
        let (reply, turn) = timed(|| session.respond(text));
        reply?;
        let (_, predict) = timed(|| model.predict(text));
        let (_, search) = timed(|| memory.nearest_with(&model, embedding, NEAREST));
        let (_, refresh) = timed(|| mynah.refresh());
        if round >= WARM_UP {
            let all = [encoder, tokenizer, predict, search, refresh, turn];
            times.iter_mut().zip(all).for_each(|(times, time)| times.push(time));
        }
    }
    session.end("done")?;
    let [encoder, tokenizer, predict, memory, refresh, respond] = times.map(Times::of);
    Ok(Milliseconds { encoder, tokenizer, predict, memory, refresh, respond })
}

/// How many of the nearest sentences the search finds, beside comparing with all of them.
fn recall(mynah: &Mynah, asked: &[String]) -> Recall {
    let (model, memory) = (mynah.model(), mynah.memory());
    let (mut first, mut found, mut all) = (0, 0, 0);
    for text in asked {
        let embedding = model.predict(text).embedding;
        let nearest = memory.nearest(&embedding, NEAREST);
        let expected = memory.nearest_of_all(&embedding, NEAREST);
        first += usize::from(nearest.first() == expected.first());
        found += nearest.iter().filter(|one| expected.contains(one)).count();
        all += expected.len();
    }
    Recall { at_1: first as f64 / asked.len().max(1) as f64, at_10: found as f64 / all.max(1) as f64 }
}

/// Requests a second from many threads: each core one at a time, with what waits grouped, and whole turns.
fn many(mynah: &Mynah, asked: &[String], callers: usize) -> anyhow::Result<Callers> {
    const REQUESTS: usize = 2000;
    let each = (REQUESTS / callers).max(10);
    let model = mynah.model();
    let texts = |caller: usize| asked.iter().cycle().skip(caller * 7).take(each).map(String::as_str);
    let rate = |work: &(dyn Fn(usize) -> anyhow::Result<()> + Sync)| -> anyhow::Result<f64> {
        let start = Barrier::new(callers + 1);
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..callers)
                .map(|caller| {
                    let start = &start;
                    scope.spawn(move || {
                        start.wait();
                        work(caller)
                    })
                })
                .collect();
            start.wait();
            let (done, time) = timed(|| {
                let join = |thread: std::thread::ScopedJoinHandle<'_, anyhow::Result<()>>| {
                    thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a caller panicked")))
                };
                threads.into_iter().map(join).collect::<anyhow::Result<Vec<()>>>()
            });
            done?;
            Ok(((callers * each) as f64 / time.as_secs_f64()).round())
        })
    };
    Ok(Callers {
        callers,
        predict_alone: rate(&|caller| {
            texts(caller).for_each(|text| _ = model.predict_batch(&[text]));
            Ok(())
        })?,
        predict_grouped: rate(&|caller| {
            texts(caller).for_each(|text| _ = model.predict(text));
            Ok(())
        })?,
        respond_process: rate(&|caller| {
            let mut session = mynah.session()?;
            texts(caller).try_for_each(|text| session.respond(text).map(|_| ()))?;
            Ok(session.end("done")?)
        })?,
    })
}

/// Teaches an answer, and checks that the next turn gives it.
fn correction(mynah: &Mynah, asked: &[String]) -> anyhow::Result<f64> {
    let mut session = mynah.session()?;
    let text = asked.first().map_or("what is it", String::as_str);
    let reply = session.respond(text)?;
    let (given, time) = timed(|| session.feedback(&reply.interaction, Feedback::correct_answer("That is it.")));
    given?;
    let again = session.respond(text)?;
    session.end("done")?;
    if again.text != "That is it." {
        return Err(anyhow::anyhow!("what was taught was not used: {}", again.text));
    }
    Ok(time.as_secs_f64() * 1e3)
}

fn print(output: Output, report: &Report) -> anyhow::Result<Exit> {
    if output.json {
        output.value(report)?;
        return Ok(Exit::Done);
    }
    let row = |name: &str, times: Times| {
        let figures = [times.p50, times.p90, times.p99].map(|figure| format!("{figure:.3}"));
        [vec![name.to_owned()], figures.to_vec()].concat()
    };
    let measured = &report.milliseconds;
    let rows = vec![
        ["ms", "p50", "p90", "p99"].map(str::to_owned).to_vec(),
        row("encoder alone", measured.encoder),
        row("tokenizer", measured.tokenizer),
        row("predict", measured.predict),
        row("search", measured.memory),
        row("refresh", measured.refresh),
        row("respond, process", measured.respond),
        row("respond, disk", report.milliseconds_disk.respond),
    ];
    for line in table(&rows, |_, _, cell| cell) {
        output.line(line)?;
    }
    output.line(format_args!(
        "respond by encoder: {} (process), {} (disk); {} remembered; recall@1 {:.4}, @10 {:.4}",
        report.ratio.process, report.ratio.disk, report.remembered, report.recall.at_1, report.recall.at_10
    ))?;
    for one in &report.callers {
        output.line(format_args!(
            "{} callers: {} requests/s alone, {} grouped; {} turns/s",
            one.callers, one.predict_alone, one.predict_grouped, one.respond_process
        ))?;
    }
    output.line(format_args!(
        "opened in {:.2} s, again in {:.2} s; a correction takes {:.1} ms",
        report.open_seconds, report.open_again_seconds, report.correction_ms
    ))?;
    Ok(Exit::Done)
}
