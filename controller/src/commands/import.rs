//! `mynah import`: files into the log.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use mynah_data::{Format, ImportOptions, ImportSummary};
use serde_json::{Value, json};

use super::Context;
use crate::cli::{ImportArgs, ImportFormat};
use crate::failure::{Exit, hinted, usage};
use crate::output::count;

/// How many skipped lines are named on the screen.
const SHOWN: usize = 10;

/// Imports every file; lines that cannot be used are named and skipped.
///
/// # Errors
/// When a file cannot be opened, nothing of a file could be used, or the home cannot be written.
pub fn run(context: &Context, args: &ImportArgs) -> anyhow::Result<Exit> {
    if args.name.is_some() && args.files.len() > 1 {
        return Err(usage("--name is for one file", "import the files one by one"));
    }
    context.home.create()?;
    let options =
        ImportOptions { format: args.format.map(format), questions_only: args.questions, fault: context.fault.clone() };
    let mut summaries = Vec::new();
    for file in &args.files {
        let (reader, name) = open(file)?;
        let name = args.name.clone().unwrap_or(name);
        let summary = mynah_data::import(&context.home, reader, &name, &options)?;
        report(context, &name, &summary);
        summaries.push((name, summary));
    }
    context.snapshot();
    let skipped: usize = summaries.iter().map(|(_, summary)| summary.skipped_total).sum();
    let imported: usize = summaries.iter().map(|(_, summary)| summary.imported()).sum();
    if context.output.json {
        let files: Vec<Value> = summaries.iter().map(|(name, summary)| summary_json(name, summary)).collect();
        context.output.value(&json!({"imported": imported, "skipped": skipped, "files": files}))?;
    }
    match (imported, skipped) {
        (0, 1..) => {
            Err(hinted("nothing could be imported", "see the lines above; `mynah import --help` lists the formats"))
        }
        (_, 0) => Ok(Exit::Done),
        _ => Ok(Exit::Partial),
    }
}

/// Opens a file or, for `-`, standard input; and the name that errors and origins use.
///
/// # Errors
/// When the file cannot be opened.
pub fn open(file: &Path) -> anyhow::Result<(Box<dyn Read>, String)> {
    if file == Path::new("-") {
        return Ok((Box::new(io::stdin()), "stdin".to_owned()));
    }
    let cannot = |error: io::Error| {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => "check the path; `-` reads standard input",
            _ => "check the file's permissions",
        };
        hinted(format!("cannot read {}: {error}", file.display()), hint)
    };
    let reader = File::open(file).map_err(cannot)?;
    if file.is_dir() {
        return Err(hinted(format!("{} is a directory", file.display()), "name the files in it"));
    }
    let name = file.file_name().map_or_else(|| "file".to_owned(), |name| name.to_string_lossy().into_owned());
    Ok((Box::new(reader), name))
}

fn report(context: &Context, name: &str, summary: &ImportSummary) {
    let output = context.output;
    for error in summary.skipped.iter().take(SHOWN) {
        output.complain(format_args!("{} {error}", output.error_style.bad("skipped:")));
    }
    if let Some(error) = summary.skipped.first() {
        output.complain(format_args!("{} {}", output.error_style.name("hint:"), error.hint()));
    }
    if summary.skipped_total > SHOWN {
        output.complain(format_args!("… and {} more", count(summary.skipped_total - SHOWN, "line")));
    }
    let kinds = [
        ("example", summary.examples),
        ("answer", summary.answers),
        ("question", summary.questions),
        ("pair", summary.pairs),
    ];
    let kinds: Vec<String> =
        kinds.into_iter().filter(|(_, number)| *number > 0).map(|(noun, number)| count(number, noun)).collect();
    let skipped = match summary.skipped_total {
        0 => String::new(),
        number => format!(", {} skipped", count(number, "line")),
    };
    let imported = if kinds.is_empty() { "nothing".to_owned() } else { kinds.join(", ") };
    output.note(format_args!("{name}: {imported} imported{skipped}"));
}

fn summary_json(name: &str, summary: &ImportSummary) -> Value {
    let skipped: Vec<Value> = summary
        .skipped
        .iter()
        .map(|error| json!({"file": error.file, "line": error.line, "message": error.message, "hint": error.hint}))
        .collect();
    json!({
        "name": name, "examples": summary.examples, "answers": summary.answers, "questions": summary.questions,
        "pairs": summary.pairs, "skipped": summary.skipped_total, "errors": skipped, "path": summary.path,
    })
}

fn format(format: ImportFormat) -> Format {
    match format {
        ImportFormat::Jsonl => Format::JsonLines,
        ImportFormat::Json => Format::Json,
        ImportFormat::Csv => Format::Csv,
        ImportFormat::Pairs => Format::Text,
    }
}
