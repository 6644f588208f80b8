//! What people and scripts see: data on standard output, everything else on standard error.
//!
//! Colours only where a terminal shows them. A closed pipe is an [`std::io::Error`] for the caller, never a panic.

use std::fmt::Display;
use std::io::{self, Write};

use serde::Serialize;

use crate::environment::Environment;

/// Whether text is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// With escape sequences.
    Coloured,
    /// As it is.
    Plain,
}

impl Style {
    fn paint(self, code: &str, text: impl Display) -> String {
        match self {
            Self::Coloured => format!("\x1b[{code}m{text}\x1b[0m"),
            Self::Plain => text.to_string(),
        }
    }

    /// For titles and what matters most.
    pub fn bold(self, text: impl Display) -> String {
        self.paint("1", text)
    }

    /// For what can be skipped.
    pub fn dim(self, text: impl Display) -> String {
        self.paint("2", text)
    }

    /// For what went well.
    pub fn good(self, text: impl Display) -> String {
        self.paint("32", text)
    }

    /// For what did not.
    pub fn bad(self, text: impl Display) -> String {
        self.paint("31", text)
    }

    /// For names that can be typed.
    pub fn name(self, text: impl Display) -> String {
        self.paint("36", text)
    }
}

/// The two streams and how to write to them.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// Data is printed as JSON.
    pub json: bool,
    /// Only data and errors are printed.
    pub quiet: bool,
    /// For standard output.
    pub style: Style,
    /// For standard error.
    pub error_style: Style,
    /// Standard error is a terminal, so that bars can be drawn.
    pub draws: bool,
}

impl Output {
    /// The output for a call with these flags.
    pub fn new(json: bool, quiet: bool, environment: &Environment) -> Self {
        let style = |terminal: bool| {
            if terminal && !environment.no_color { Style::Coloured } else { Style::Plain }
        };
        Self {
            json,
            quiet,
            style: style(environment.stdout_is_terminal && !json),
            error_style: style(environment.stderr_is_terminal),
            draws: environment.stderr_is_terminal && !quiet,
        }
    }

    /// Writes one line of data to standard output.
    ///
    /// # Errors
    /// What the system said; `BrokenPipe` when nobody reads any more.
    pub fn line(&self, text: impl Display) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}")?;
        stdout.flush()
    }

    /// Writes one value as a line of JSON to standard output.
    ///
    /// # Errors
    /// What the system said.
    pub fn value(&self, value: &impl Serialize) -> io::Result<()> {
        self.line(serde_json::to_string(value).map_err(io::Error::other)?)
    }

    /// Writes one line for people to standard error, unless `--quiet`.
    pub fn note(&self, text: impl Display) {
        if !self.quiet {
            self.complain(text);
        }
    }

    /// Writes one line to standard error, whatever the flags. A closed standard error is nobody's error.
    pub fn complain(&self, text: impl Display) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

/// Lays rows out in columns two spaces apart; columns of figures are aligned to the right.
///
/// The first row is the head. Widths are counted in characters, so cells must not contain escape sequences; `paint` adds
/// them afterwards, given row and column.
pub fn table(rows: &[Vec<String>], paint: impl Fn(usize, usize, String) -> String) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let figures: Vec<bool> = (0..columns)
        .map(|column| rows.len() > 1 && rows[1..].iter().filter_map(|row| row.get(column)).all(|cell| is_figure(cell)))
        .collect();
    rows.iter()
        .enumerate()
        .map(|(row_index, row)| {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let padding = " ".repeat(widths[column].saturating_sub(cell.chars().count()));
                let painted = paint(row_index, column, cell.clone());
                if column > 0 {
                    line.push_str("  ");
                }
                line.push_str(&if figures[column] {
                    format!("{padding}{painted}")
                } else {
                    format!("{painted}{padding}")
                });
            }
            line.trim_end().to_owned()
        })
        .collect()
}

fn is_figure(cell: &str) -> bool {
    cell.is_empty()
        || cell == "–"
        || cell.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '%' | '+' | '-' | ',' | '−'))
}

/// A share as a percentage with one digit.
pub fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

/// A size with a decimal unit.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// A number and its noun: `1 version`, `2 versions`.
pub fn count(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_figures_to_the_right() {
        let rows = [["name", "n", "note"], ["v1", "8", "first"], ["v12", "1024", ""]];
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect();
        insta::assert_snapshot!(table(&rows, |_, _, cell| cell).join("\n"), @r"
        name     n  note
        v1       8  first
        v12   1024
        ");
    }

    #[test]
    fn sizes_and_counts() {
        assert_eq!(size(16_043_752), "16.0 MB");
        assert_eq!(size(12), "12 B");
        assert_eq!(count(1, "version"), "1 version");
        assert_eq!(count(0, "version"), "0 versions");
        assert_eq!(percent(0.9876), "98.8%");
    }
}
