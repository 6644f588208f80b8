//! Scores and verdicts as people read them.

use mynah_pipelines::{EvaluationReport, GateReport};

use crate::learning::{Finished, Verdict};
use crate::output::{Style, count, percent, table};

/// One figure of the table of scores: its name and how to find it.
type Score = (&'static str, fn(&EvaluationReport) -> Option<f64>);

const SCORES: [Score; 7] = [
    ("function accuracy", |report| Some(report.function.accuracy)),
    ("macro F1", |report| Some(report.function.macro_f1)),
    ("argument F1", |report| Some(report.arguments.f1)),
    ("exact match", |report| Some(report.exact_match)),
    ("answer F1", |report| report.answers.map(|answers| answers.served_f1)),
    ("out-of-scope recall", |report| report.out_of_scope.recall),
    ("calibration error", |report| Some(report.expected_calibration_error)),
];

/// A table of scores, one column a report.
pub fn score_lines(reports: &[&EvaluationReport], style: Style) -> Vec<String> {
    let n = reports.first().map_or(0, |report| report.n);
    let mut head = vec![format!("on {}", count(n, "held-out example"))];
    head.extend(reports.iter().map(|report| report.version.clone()));
    let mut rows = vec![head];
    for (name, score) in SCORES {
        let figures: Vec<Option<f64>> = reports.iter().map(|report| score(report)).collect();
        if figures.iter().any(Option::is_some) {
            let mut row = vec![name.to_owned()];
            row.extend(figures.into_iter().map(|figure| figure.map_or("–".to_owned(), percent)));
            rows.push(row);
        }
    }
    table(&rows, |row, _, cell| if row == 0 { style.dim(cell) } else { cell })
}

/// The gate's rules, one a line, each with what it compared.
pub fn gate_lines(gate: &GateReport, style: Style) -> Vec<String> {
    let width = gate.rules.iter().map(|rule| rule.name.chars().count()).max().unwrap_or(0);
    gate.rules
        .iter()
        .map(|rule| {
            let mark = if rule.passed { style.good("pass") } else { style.bad("FAIL") };
            let padding = " ".repeat(width - rule.name.chars().count());
            format!("{mark}  {}{padding}  {}", rule.name, style.dim(&rule.detail))
        })
        .collect()
}

/// The verdict in a sentence.
pub fn verdict_line(outcome: &Finished, style: Style) -> String {
    let version = &outcome.version;
    match outcome.verdict {
        Verdict::Promoted => format!("{} {version} is in production", style.good("promoted:")),
        Verdict::Accepted => format!(
            "{} {version} waits; `mynah models promote candidate` promotes it, where production is not pinned",
            style.good("passed:")
        ),
        Verdict::Refused => format!("{} {version} stays out; production is unchanged", style.bad("refused:")),
        Verdict::NothingNew => "nothing new to learn; production is unchanged".to_owned(),
    }
}

/// Everything about a finished run: scores, rules, verdict.
pub fn outcome_lines(outcome: &Finished, style: Style) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(held_out) = &outcome.held_out {
        let reports: Vec<&EvaluationReport> = outcome.production.iter().chain([held_out]).collect();
        lines.extend(score_lines(&reports, style));
        lines.push(String::new());
    }
    lines.extend(gate_lines(&outcome.gate, style));
    if outcome.held_back > 0 {
        let labels = count(outcome.held_back, "label");
        lines.push(format!("{labels} held back; `mynah labels list --held` says why"));
    }
    lines.push(verdict_line(outcome, style));
    lines
}
