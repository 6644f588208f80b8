//! `mynah report`: what a run came to, from the files that it left in the home.

use std::path::{Path, PathBuf};

use mynah_pipelines::{Analysis, Document, Share, Verdict, page, read_report};

use super::Context;
use crate::cli::ReportArgs;
use crate::failure::{Exit, hinted};
use crate::output::{Style, count, percent, table};
use crate::report::gate_lines;

/// Rows of the worst functions, confusions and changed texts.
const ROWS: usize = 8;

/// Prints the report of a run, or writes it as a page.
///
/// # Errors
/// When there is no such run, or its files cannot be read or written.
pub fn run(context: &Context, args: &ReportArgs) -> anyhow::Result<Exit> {
    let document = find(context, args.of.as_deref())?;
    if let Some(path) = &args.html {
        write_page(path, &document)?;
    }
    match (context.output.json, &args.html) {
        (true, _) => context.output.value(&document)?,
        (false, Some(path)) => context.output.line(path.display())?,
        (false, None) => {
            for line in lines(&document, context.output.style) {
                context.output.line(line)?;
            }
        }
    }
    Ok(Exit::Done)
}

/// Writes a report as a page.
///
/// # Errors
/// When the file cannot be written.
pub fn write_page(path: &Path, document: &Document) -> anyhow::Result<()> {
    std::fs::write(path, page(document)).map_err(|error| {
        hinted(format!("cannot write {}: {error}", path.display()), "give --html a file in a directory that exists")
    })
}

/// The latest report of all runs, of a version, or of one run.
fn find(context: &Context, of: Option<&str>) -> anyhow::Result<Document> {
    let registry = context.registry()?;
    let runs = context.home.runs_dir();
    let mut directories: Vec<PathBuf> = match std::fs::read_dir(&runs) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        entries => entries?.collect::<Result<Vec<_>, _>>()?.into_iter().map(|entry| entry.path()).collect(),
    };
    directories.sort();
    if let Some(name) = of
        && let Some(directory) =
            directories.iter().find(|it| it.file_name().is_some_and(|it| it.to_str() == Some(name)))
    {
        let report = read_report(directory)?;
        return report.ok_or_else(|| hinted(format!("the run {name} has no report"), "it was stopped, or failed"));
    }
    let version = of.map(|name| registry.version(name)).transpose()?.map(|version| version.name);
    for directory in directories.iter().rev() {
        let Some(document) = read_report(directory)? else { continue };
        if version.as_ref().is_none_or(|version| *version == document.version) {
            return Ok(document);
        }
    }
    Err(match version {
        Some(version) => hinted(
            format!("no run of this home reports on {version}"),
            "score it on examples of yours: `mynah evaluate --examples FILE --version … --html PAGE`",
        ),
        None => hinted("no run has a report yet", "run `mynah train`"),
    })
}

fn lines(document: &Document, style: Style) -> Vec<String> {
    let analysis = &document.analysis;
    let verdict = match document.verdict {
        Some(Verdict::Promoted) => style.good("promoted"),
        Some(Verdict::Accepted) => style.good("passed"),
        Some(Verdict::Refused) => style.bad("refused"),
        _ => String::new(),
    };
    let mut lines = vec![format!("{}  {verdict}", style.bold(&document.version)), String::new()];
    lines.extend(scores(document, style));
    if !document.gate.rules.is_empty() {
        lines.push(String::new());
        lines.extend(gate_lines(&document.gate, style));
    }
    lines.extend(changes(analysis, style));
    lines.extend(parts(analysis, style));
    lines
}

fn ranged(share: &Share) -> [String; 2] {
    match share.of {
        0 => ["–".to_owned(), String::new()],
        _ => [percent(share.value), format!("{} to {} of {}", percent(share.low), percent(share.high), share.of)],
    }
}

fn scores(document: &Document, style: Style) -> Vec<String> {
    let analysis = &document.analysis;
    let head = [format!("on {} {}", analysis.n, document.examples), String::new(), "95 % interval".to_owned()];
    let mut rows = vec![head.to_vec()];
    let shares = [
        ("exact match", &analysis.exact_match),
        ("right function", &analysis.accuracy),
        ("in scope right", &analysis.in_scope_accuracy),
        ("out of scope declined", &analysis.out_of_scope_recall),
    ];
    for (name, share) in shares.into_iter().filter(|(_, share)| share.of > 0) {
        let [value, range] = ranged(share);
        rows.push(vec![name.to_owned(), value, range]);
    }
    let calibration = &analysis.calibration;
    let fitted = calibration.fitted_on.map(|n| format!(", fitted on {}", count(n, "validation example")));
    rows.push(vec![
        "calibration error".to_owned(),
        percent(calibration.expected_error),
        format!(
            "temperature {:.2}, threshold {:.2}{}{}",
            calibration.temperature,
            calibration.threshold,
            match calibration.scope_threshold {
                0.0 => String::new(),
                scope => format!(" ({scope:.2} for any function)"),
            },
            fitted.unwrap_or_default()
        ),
    ]);
    table(&rows, |row, _, cell| if row == 0 { style.dim(cell) } else { cell })
}

fn changes(analysis: &Analysis, style: Style) -> Vec<String> {
    let Some(changes) = &analysis.changes else { return Vec::new() };
    let mut lines = vec![
        String::new(),
        format!(
            "against {}: {} fixed, {} broken, {} right and {} wrong in both",
            changes.against, changes.fixed, changes.broken, changes.both_right, changes.both_wrong
        ),
    ];
    let marked = [(style.good("fixed"), &changes.fixed_texts), (style.bad("broken"), &changes.broken_texts)];
    for (mark, texts) in marked {
        for change in texts.iter().take(ROWS) {
            lines.push(format!(
                "{mark}  {}  {}",
                change.text,
                style.dim(format_args!("{} → {}", change.before, change.after))
            ));
        }
    }
    lines
}

fn parts(analysis: &Analysis, style: Style) -> Vec<String> {
    let mut lines = Vec::new();
    let mut worst: Vec<_> = analysis.functions.iter().filter(|row| row.recall.of > 0).collect();
    worst.sort_by(|a, b| a.f1.value.total_cmp(&b.f1.value));
    let mut rows = vec![["worst functions", "n", "precision", "recall", "F1", ""].map(str::to_owned).to_vec()];
    rows.extend(worst.into_iter().take(ROWS).map(|row| {
        let [f1, _] = ranged(&row.f1);
        let range = format!("{} to {}", percent(row.f1.low), percent(row.f1.high));
        let share = |share: &Share| ranged(share)[0].clone();
        vec![row.name.clone(), row.recall.of.to_string(), share(&row.precision), share(&row.recall), f1, range]
    }));
    lines.push(String::new());
    lines.extend(table(&rows, |row, _, cell| if row == 0 { style.dim(cell) } else { cell }));
    if !analysis.confusions.is_empty() {
        let mut rows = vec![["should be", "taken for", "n", "for example"].map(str::to_owned).to_vec()];
        rows.extend(analysis.confusions.iter().take(ROWS).map(|one| {
            let text = one.texts.first().cloned().unwrap_or_default();
            vec![one.expected.clone(), one.decided.clone(), one.n.to_string(), text]
        }));
        lines.push(String::new());
        lines.extend(table(&rows, |row, _, cell| if row == 0 { style.dim(cell) } else { cell }));
    }
    for probe in &analysis.probes {
        lines.push(String::new());
        lines.push(format!(
            "{} swapped in {}: {} decided otherwise",
            probe.kind,
            count(probe.swapped, "text"),
            probe.changed
        ));
    }
    lines
}
