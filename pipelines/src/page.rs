//! A report as one self-contained HTML page: no script, no font, no image from elsewhere; light and dark.
//!
//! *Invariant:* every text that comes from data or from people goes through [`escape`].

mod curve;
mod plots;

use std::fmt::Write;

use crate::analysis::{Analysis, Change, Changes, FunctionRow, Share};
use crate::document::{Document, DocumentLineage};
use crate::learn::Verdict;

pub use curve::backtest_page;

const STYLE: &str = include_str!("page/style.css");
/// Rows of a table that are shown at once; the others can be unfolded.
const ROWS: usize = 40;
/// Changed texts that are shown at once.
const TEXTS: usize = 12;

/// The page of a report.
pub fn page(document: &Document) -> String {
    let analysis = &document.analysis;
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{}</title><style>{STYLE}</style></head><body>",
        escape(&document.title())
    );
    html.push_str(&head(document));
    html.push_str(&tiles(document));
    html.push_str(&gate(document));
    html.push_str(&analysis.changes.as_ref().map(changes).unwrap_or_default());
    html.push_str(&confidence(analysis));
    html.push_str(&functions(analysis));
    html.push_str(&confusions(analysis));
    html.push_str(&arguments(analysis));
    html.push_str(&slices(analysis));
    html.push_str(&probes(analysis));
    html.push_str(&expectations(analysis));
    html.push_str(&document.lineage.as_ref().map(lineage).unwrap_or_default());
    html.push_str("</body></html>\n");
    html
}

fn head(document: &Document) -> String {
    let badge = match document.verdict {
        Some(Verdict::Promoted) => " <span class=\"badge good\">promoted</span>",
        Some(Verdict::Accepted) => " <span class=\"badge good\">passed</span>",
        Some(Verdict::Refused) => " <span class=\"badge bad\">refused</span>",
        _ => "",
    };
    let reason = match document.verdict {
        Some(_) => format!("<p>{}</p>", escape(&document.gate.reason())),
        None => String::new(),
    };
    format!(
        "<h1>{}{badge}</h1><p class=\"soft\">{} {}; intervals are at 95 %</p>{reason}",
        escape(&document.version),
        document.analysis.n,
        escape(&document.examples)
    )
}

fn tiles(document: &Document) -> String {
    let analysis = &document.analysis;
    let share = |name: &str, share: &Share| match share.of {
        0 => String::new(),
        _ => tile(name, &percent(share.value), &format!("{} to {}", percent(share.low), percent(share.high))),
    };
    let mut tiles = String::from("<div class=\"tiles\">");
    tiles.push_str(&share("exact match", &analysis.exact_match));
    tiles.push_str(&share("right function", &analysis.accuracy));
    tiles.push_str(&share("in scope right", &analysis.in_scope_accuracy));
    tiles.push_str(&share("out of scope declined", &analysis.out_of_scope_recall));
    let calibration = &analysis.calibration;
    tiles.push_str(&tile(
        "calibration error",
        &percent(calibration.expected_error),
        &format!("temperature {:.2}", calibration.temperature),
    ));
    if let Some(speed) = document.speed {
        let (time, size) = (format!("{:.1} ms", speed.latency_ms), format!("{:.1} MB", speed.size_mb));
        tiles.push_str(&tile("a request", &time, &size));
    }
    if let Some(precision) = &document.precision {
        let name = if precision.served == mynah_runtime::Precision::F32 { "f32" } else { "int8" };
        let note = format!("of {} texts as in f32", precision.n);
        tiles.push_str(&tile(&format!("{name} decides"), &percent(precision.function_agreement), &note));
    }
    tiles + "</div>"
}

fn tile(name: &str, figure: &str, note: &str) -> String {
    format!("<div class=\"card tile\"><span class=\"soft\">{name}</span><b>{figure}</b><small>{note}</small></div>")
}

fn gate(document: &Document) -> String {
    if document.gate.rules.is_empty() {
        return String::new();
    }
    // What a figure is depends on the rule: milliseconds in one, a share in the others.
    let figure = |rule: &str, value: Option<f64>| match value {
        None => String::new(),
        Some(value) if rule == "budget" => format!("{value:.1} ms"),
        Some(value) if ["no function falls", "better"].contains(&rule) => format!("{:+.1} points", 100.0 * value),
        Some(value) => percent(value),
    };
    let rows = document.gate.rules.iter().map(|rule| {
        let (class, mark) = if rule.passed { ("good", "pass") } else { ("bad", "FAIL") };
        format!(
            "<tr><td class=\"{class}\"><b>{mark}</b></td><td>{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"words\">{}</td></tr>",
            escape(&rule.name),
            figure(&rule.name, rule.candidate),
            figure(&rule.name, rule.production),
            escape(&rule.detail)
        )
    });
    section("The gate", &table(&["", "rule", "#candidate", "#against", "in words"], rows.collect()))
}

fn changes(changes: &Changes) -> String {
    let list = |texts: &[Change], all: usize| {
        let item = |change: &Change| {
            format!(
                "<li>{}<br><small>should be <code>{}</code>, was <code>{}</code>, is <code>{}</code></small></li>",
                escape(&change.text),
                escape(&change.expected),
                escape(&change.before),
                escape(&change.after)
            )
        };
        let items: Vec<String> = texts.iter().map(item).collect();
        let unfolded = items.iter().take(TEXTS).cloned().collect::<String>();
        let more = match items.get(TEXTS..).unwrap_or_default() {
            [] => String::new(),
            more => format!("<details><summary>{} more</summary><ul>{}</ul></details>", all - TEXTS, more.concat()),
        };
        if items.is_empty() { "<p class=\"soft\">none</p>".to_owned() } else { format!("<ul>{unfolded}</ul>{more}") }
    };
    let body = format!(
        "<div class=\"card\">{}<p><span class=\"key kept\">{} right in both</span><span class=\"key good\">{} fixed</span>\
         <span class=\"key bad\">{} broken</span><span class=\"key wrong\">{} wrong in both</span></p>\
         <p class=\"soft\">Were nothing lost, at least as many would be broken with probability {:.3}; were nothing gained, at least \
         as many fixed with {:.3}.</p></div><div class=\"pair\" style=\"margin-top:.8rem\"><div class=\"card\"><h3 class=\"good\">fixed</h3>{}</div>\
         <div class=\"card\"><h3 class=\"bad\">broken</h3>{}</div></div>",
        plots::changes(changes),
        changes.both_right,
        changes.fixed,
        changes.broken,
        changes.both_wrong,
        changes.p_worse,
        changes.p_better,
        list(&changes.fixed_texts, changes.fixed),
        list(&changes.broken_texts, changes.broken)
    );
    section(&format!("What changed against {}", escape(&changes.against)), &body)
}

fn confidence(analysis: &Analysis) -> String {
    let calibration = &analysis.calibration;
    let fitted = match calibration.fitted_on {
        Some(n) => format!("Temperature and thresholds were fitted on {n} validation examples. "),
        None => String::new(),
    };
    let scope = match calibration.scope_threshold {
        0.0 => String::new(),
        scope => format!(", nor where the probability that any function is meant is below {scope:.2}"),
    };
    let swept = if calibration.scope_threshold > 0.0 { calibration.scope_threshold } else { calibration.threshold };
    let mut body = format!(
        "<p class=\"soft\">{fitted}Below a confidence of {:.2} nothing is called{scope}.</p><div class=\"pair\"><div class=\"card\">\
         <h3>Can confidence be believed?</h3>{}<p class=\"soft\">A dot on the dashed line: right as often as it is sure. Larger dots \
         stand for more examples.</p></div>",
        calibration.threshold,
        plots::reliability(calibration)
    );
    if !analysis.trade_off.is_empty() {
        let _ = write!(
            body,
            "<div class=\"card\"><h3>What would another threshold do?</h3>{}<p class=\"soft\">A higher threshold moves along the curve \
             to the right: more that is out of scope is declined, and more that is not.</p></div>",
            plots::trade_off(&analysis.trade_off, swept)
        );
    }
    section("Confidence", &(body + "</div>"))
}

fn functions(analysis: &Analysis) -> String {
    let mut worst_first: Vec<&FunctionRow> = analysis.functions.iter().collect();
    worst_first.sort_by(|a, b| a.f1.value.total_cmp(&b.f1.value).then(b.recall.of.cmp(&a.recall.of)));
    let rows = worst_first.into_iter().map(|row| {
        let name = if row.name == mynah_data::OUT_OF_SCOPE { "<i>nothing</i>".to_owned() } else { code(&row.name) };
        format!(
            "<tr><td>{name}</td><td class=\"num\">{}</td>{}{}<td class=\"num\">{}</td><td class=\"bars\">{}</td></tr>",
            row.recall.of,
            ranged(&row.precision),
            ranged(&row.recall),
            if row.f1.of == 0 { String::new() } else { percent(row.f1.value) },
            plots::interval(&row.f1)
        )
    });
    let head = ["function", "#examples", "#precision", "#recall", "#F1", "F1, interval"];
    section("Functions, the worst first", &table(&head, rows.collect()))
}

fn confusions(analysis: &Analysis) -> String {
    if analysis.confusions.is_empty() {
        return section("Confusions", "<p class=\"soft\">none</p>");
    }
    let name = |label: &str| if label == mynah_data::OUT_OF_SCOPE { "<i>nothing</i>".to_owned() } else { code(label) };
    let rows = analysis.confusions.iter().map(|confusion| {
        let texts: Vec<String> = confusion.texts.iter().map(|text| escape(text)).collect();
        format!(
            "<tr><td>{}</td><td>{}</td><td class=\"num\">{}</td><td>{}</td></tr>",
            name(&confusion.expected),
            name(&confusion.decided),
            confusion.n,
            texts.join("<br>")
        )
    });
    section("Confusions", &table(&["should be", "was taken for", "#times", "for example"], rows.collect()))
}

fn arguments(analysis: &Analysis) -> String {
    if analysis.arguments.is_empty() {
        return String::new();
    }
    let rows = analysis.arguments.iter().map(|row| {
        format!(
            "<tr><td>{}</td><td class=\"num\">{}</td>{}{}<td class=\"num\">{}</td><td class=\"bars\">{}</td></tr>",
            code(&row.name),
            row.recall.of,
            ranged(&row.precision),
            ranged(&row.recall),
            if row.f1.of == 0 { String::new() } else { percent(row.f1.value) },
            plots::interval(&row.f1)
        )
    });
    let head = ["argument", "#labelled", "#precision", "#recall", "#F1", "F1, interval"];
    section("Arguments", &table(&head, rows.collect()))
}

fn slices(analysis: &Analysis) -> String {
    let compared = analysis.slices.iter().any(|slice| slice.production_exact.is_some());
    let mut kind = "";
    let rows = analysis.slices.iter().map(|slice| {
        let first = if kind == slice.kind { String::new() } else { escape(&slice.kind) };
        kind = &slice.kind;
        let production = slice.production_exact.map_or(String::new(), |share| percent(share.value));
        let production = if compared { format!("<td class=\"num\">{production}</td>") } else { String::new() };
        format!(
            "<tr><td class=\"soft\">{first}</td><td>{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td>{production}\
             <td class=\"num\">{}</td><td class=\"bars\">{}</td></tr>",
            escape(&slice.name),
            slice.exact.of,
            percent(slice.accuracy.value),
            percent(slice.exact.value),
            plots::interval(&slice.exact)
        )
    });
    let rows: Vec<String> = rows.collect();
    let head: &[&str] = match compared {
        true => &["", "part", "#examples", "#right function", "#exact before", "#exact match", "exact match, interval"],
        false => &["", "part", "#examples", "#right function", "#exact match", "exact match, interval"],
    };
    section("Parts of the examples", &table(head, rows))
}

fn probes(analysis: &Analysis) -> String {
    let about = "<p class=\"soft\">Words in the examples were swapped: he for she, one name or place for another. A decision should not \
        depend on them, except where the function is about them.</p>";
    if analysis.probes.is_empty() {
        return section("Does it matter who is spoken of?", "<p class=\"soft\">No example has a word to swap.</p>");
    }
    let name = |function: &Option<String>| function.as_deref().map_or("<i>nothing</i>".to_owned(), code);
    let rows = analysis.probes.iter().map(|probe| {
        let examples: Vec<String> = probe
            .examples
            .iter()
            .map(|one| {
                format!(
                    "{} → {}<br><small>{} → {}</small>",
                    escape(&one.text),
                    escape(&one.swapped),
                    name(&one.decided),
                    name(&one.decided_swapped)
                )
            })
            .collect();
        let share = Share::new(probe.changed, probe.swapped);
        format!(
            "<tr><td>{}</td><td class=\"num\">{}</td><td class=\"num\">{} ({})</td><td class=\"num\">{}</td><td>{}</td></tr>",
            escape(&probe.kind),
            probe.swapped,
            probe.changed,
            percent(share.value),
            probe.arguments_changed,
            examples.join("<br>")
        )
    });
    let head = ["swapped", "#texts", "#another function", "#other arguments", "for example"];
    section("Does it matter who is spoken of?", &(about.to_owned() + &table(&head, rows.collect())))
}

fn expectations(analysis: &Analysis) -> String {
    if analysis.expectations.is_empty() {
        return String::new();
    }
    let rows = analysis.expectations.iter().map(|one| {
        let (class, mark) = if one.right { ("good", "right") } else { ("bad", "MISSED") };
        format!("<tr><td class=\"{class}\"><b>{mark}</b></td><td>{}</td></tr>", escape(&one.to_string()))
    });
    section("Pinned sentences", &table(&["", "sentence"], rows.collect()))
}

fn lineage(lineage: &DocumentLineage) -> String {
    let counts = &lineage.counts;
    let mut facts = vec![
        ("trained from", escape(&lineage.parent)),
        ("started by", escape(&lineage.trigger)),
        ("run", code(&lineage.run)),
        ("ended", escape(&lineage.at.strftime("%Y-%m-%d %H:%M UTC").to_string())),
        ("commit of the log", lineage.commit.as_deref().map(code).unwrap_or_default()),
        (
            "examples",
            format!(
                "{} for training ({} new in conversations), {} for validation, {} held out, {} corrections",
                counts.train, counts.new, counts.validation, counts.held_out, counts.corrections
            ),
        ),
        ("best epoch", lineage.best_epoch.to_string()),
        (
            "new functions and arguments",
            lineage.new_labels.iter().map(|label| code(label)).collect::<Vec<_>>().join(" "),
        ),
    ];
    let stages: Vec<String> =
        lineage.stages.iter().map(|(stage, seconds)| format!("{} {seconds:.1} s", escape(stage))).collect();
    facts.push(("time", format!("{:.1} s: {}", lineage.seconds, stages.join(", "))));
    let rows = facts.into_iter().filter(|(_, fact)| !fact.is_empty());
    let rows = rows.map(|(name, fact)| format!("<tr><td class=\"soft\">{name}</td><td>{fact}</td></tr>")).collect();
    section("Where it comes from", &table(&[], rows))
}

fn section(title: &str, body: &str) -> String {
    format!("<section><h2>{title}</h2>{body}</section>")
}

/// A table in a card; a head that starts with `#` is above figures.
fn table(head: &[&str], mut rows: Vec<String>) -> String {
    let cells: String = head
        .iter()
        .map(|cell| match cell.strip_prefix('#') {
            Some(name) => format!("<th class=\"num\">{name}</th>"),
            None => format!("<th>{cell}</th>"),
        })
        .collect();
    let head = if cells.is_empty() { String::new() } else { format!("<thead><tr>{cells}</tr></thead>") };
    let whole =
        |rows: &[String]| format!("<div class=\"scroll\"><table>{head}<tbody>{}</tbody></table></div>", rows.concat());
    let more = if rows.len() > ROWS + 5 { rows.split_off(ROWS) } else { Vec::new() };
    let more = match more.len() {
        0 => String::new(),
        n => format!("<details><summary>{n} more</summary>{}</details>", whole(&more)),
    };
    format!("<div class=\"card\">{}{more}</div>", whole(&rows))
}

/// A share with its interval, in one cell of figures.
fn ranged(share: &Share) -> String {
    match share.of {
        0 => "<td class=\"num soft\">–</td>".to_owned(),
        _ => format!(
            "<td class=\"num\">{} <small>{:.0}–{:.0}</small></td>",
            percent(share.value),
            100.0 * share.low,
            100.0 * share.high
        ),
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn code(text: &str) -> String {
    format!("<code>{}</code>", escape(text))
}

/// Text that cannot be taken for markup.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Confusion, Probe, ReliabilityBin, Slice, SwappedText, ThresholdPoint};
    use crate::gate::{GateReport, Rule};

    const NASTY: &str = "<script>alert('x')</script> & \"more\"";

    fn document() -> Document {
        let rule = Rule {
            name: "not worse".into(),
            passed: false,
            candidate: Some(0.9),
            production: Some(0.92),
            limit: None,
            detail: NASTY.into(),
        };
        let change = Change { text: NASTY.into(), expected: NASTY.into(), before: NASTY.into(), after: NASTY.into() };
        let analysis = Analysis {
            version: NASTY.into(),
            n: 4,
            exact_match: Share::new(3, 4),
            functions: vec![FunctionRow {
                name: NASTY.into(),
                precision: Share::new(1, 2),
                recall: Share::new(1, 3),
                f1: Share::f1(1, 3, 2),
            }],
            confusions: vec![Confusion {
                expected: NASTY.into(),
                decided: NASTY.into(),
                n: 1,
                texts: vec![NASTY.into()],
            }],
            calibration: crate::analysis::CalibrationReport {
                bins: vec![ReliabilityBin { low: 0.9, high: 1.0, n: 4, confidence: 0.95, accuracy: 0.75 }],
                threshold: 0.4,
                scope_threshold: 0.0,
                ..Default::default()
            },
            trade_off: vec![ThresholdPoint { threshold: 0.4, in_scope_accuracy: 0.9, out_of_scope_recall: 0.7 }],
            changes: Some(Changes {
                against: NASTY.into(),
                fixed: 1,
                broken: 1,
                both_right: 1,
                both_wrong: 1,
                p_worse: 0.75,
                p_better: 0.75,
                fixed_texts: vec![change.clone()],
                broken_texts: vec![change],
            }),
            slices: vec![Slice {
                kind: "origin".into(),
                name: NASTY.into(),
                accuracy: Share::new(1, 2),
                exact: Share::new(1, 2),
                production_exact: None,
            }],
            probes: vec![Probe {
                kind: "name".into(),
                swapped: 2,
                changed: 1,
                arguments_changed: 0,
                examples: vec![SwappedText {
                    text: NASTY.into(),
                    swapped: NASTY.into(),
                    decided: Some(NASTY.into()),
                    decided_swapped: None,
                }],
            }],
            ..Analysis::default()
        };
        Document {
            version: NASTY.into(),
            examples: NASTY.into(),
            verdict: Some(Verdict::Refused),
            gate: GateReport { rules: vec![rule] },
            analysis,
            ..Document::default()
        }
    }

    #[test]
    fn nothing_that_was_said_becomes_markup_and_nothing_comes_from_elsewhere() {
        let html = page(&document());
        assert!(!html.contains("<script"), "{html}");
        assert!(html.matches("&lt;script&gt;").count() >= 12);
        for outside in ["http:", "https:", "src=", "href=", "@import", "url("] {
            assert!(!html.contains(outside), "{outside}");
        }
        for tag in ["section", "table", "svg", "details", "ul", "div", "td", "code"] {
            let opened = html.matches(&format!("<{tag}>")).count() + html.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, html.matches(&format!("</{tag}>")).count(), "{tag}");
        }
        for figure in ["75.0 %", "33.3 %", "40.0 %", "threshold 0.40", "FAIL", "refused"] {
            assert!(html.contains(figure), "{figure} is missing");
        }
        assert!(!html.contains("NaN"));
    }

    #[test]
    fn an_empty_report_is_a_page() {
        let html = page(&Document::default());
        assert!(html.ends_with("</body></html>\n") && !html.contains("NaN"));
    }

    #[test]
    fn a_report_reads_back_from_its_json() {
        let json = serde_json::to_string(&document()).expect("plain data");
        assert_eq!(serde_json::from_str::<Document>(&json).expect("the same"), document());
    }
}
