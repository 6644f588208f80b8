//! Plots as inline SVG; colours come from the page's style, so that they are right in the light and in the dark.

use std::fmt::Write;

use crate::analysis::{CalibrationReport, Changes, Share, ThresholdPoint};

/// Size of the two larger plots and the space for their labels, in units of the drawing.
const SIZE: (f64, f64) = (440.0, 320.0);
const MARGIN: (f64, f64) = (56.0, 38.0);

/// A line with a dot: the share and its interval on the scale from 0 to 1.
pub(super) fn interval(share: &Share) -> String {
    if share.of == 0 {
        return String::new();
    }
    let x = |value: f64| 4.0 + 152.0 * value;
    format!(
        "<svg width=\"160\" height=\"14\" viewBox=\"0 0 160 14\" role=\"img\" aria-label=\"{:.0} to {:.0} %\">\
         <rect class=\"track\" x=\"4\" y=\"6\" width=\"152\" height=\"2\"/>\
         <line class=\"range\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"7\" y2=\"7\"/>\
         <circle class=\"mark\" cx=\"{:.1}\" cy=\"7\" r=\"3.5\"/></svg>",
        100.0 * share.low,
        100.0 * share.high,
        x(share.low),
        x(share.high),
        x(share.value)
    )
}

/// Confidence beside accuracy: a bar a bin, the share of examples in it below, and the diagonal of a perfect calibration.
pub(super) fn reliability(calibration: &CalibrationReport) -> String {
    let axes = Axes::unit();
    let mut svg = axes.open("confidence", "right");
    let total: usize = calibration.bins.iter().map(|bin| bin.n).sum();
    for bin in &calibration.bins {
        let (left, right) = (axes.x(bin.low) + 1.0, axes.x(bin.high) - 1.0);
        let (top, bottom) = (axes.y(bin.accuracy), axes.y(0.0));
        let share = bin.n as f64 / total.max(1) as f64;
        let _ = write!(
            svg,
            "<rect class=\"bar\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"><title>{} examples: confidence \
             {:.2}, right {:.2}</title></rect><circle class=\"mark\" cx=\"{:.1}\" cy=\"{top:.1}\" r=\"{:.1}\"/>",
            right - left,
            (bottom - top).max(0.0),
            bin.n,
            bin.confidence,
            bin.accuracy,
            axes.x(bin.confidence),
            2.5 + 5.0 * share.sqrt()
        );
    }
    let (x0, y0, x1, y1) = (axes.x(0.0), axes.y(0.0), axes.x(1.0), axes.y(1.0));
    let _ = write!(svg, "<line class=\"ideal\" x1=\"{x0}\" y1=\"{y0}\" x2=\"{x1}\" y2=\"{y1}\"/></svg>");
    svg
}

/// In-scope accuracy over out-of-scope recall, threshold by threshold, with the version's own marked.
pub(super) fn trade_off(points: &[ThresholdPoint], threshold: f64) -> String {
    let nearest = |point: &&ThresholdPoint| (point.threshold - threshold).abs();
    let Some(chosen) = points.iter().min_by(|a, b| nearest(a).total_cmp(&nearest(b))) else { return String::new() };
    // The part of the curve around what was chosen; the rest falls to zero.
    let floor = (((chosen.in_scope_accuracy - 0.2) * 5.0).floor() / 5.0).clamp(0.0, 0.8);
    let axes = Axes { y: (floor, 1.0), ..Axes::unit() };
    let mut svg = axes.open("out of scope declined", "in scope right");
    let visible = points.iter().filter(|point| point.in_scope_accuracy >= floor);
    let path: Vec<String> = visible
        .map(|point| format!("{:.1},{:.1}", axes.x(point.out_of_scope_recall), axes.y(point.in_scope_accuracy)))
        .collect();
    let (x, y) = (axes.x(chosen.out_of_scope_recall), axes.y(chosen.in_scope_accuracy));
    // Beside the mark, on the side with more room.
    let (anchor, shift) = if chosen.out_of_scope_recall > 0.55 { ("end", -9.0) } else { ("start", 9.0) };
    let _ = write!(
        svg,
        "<polyline class=\"curve\" points=\"{}\"/><circle class=\"chosen\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\"/>\
         <text class=\"strong\" text-anchor=\"{anchor}\" x=\"{:.1}\" y=\"{:.1}\">threshold {threshold:.2}</text></svg>",
        path.join(" "),
        x + shift,
        y + 18.0,
    );
    svg
}

/// A bar of what stayed and what changed.
pub(super) fn changes(changes: &Changes) -> String {
    let parts = [
        ("kept", changes.both_right),
        ("fixed", changes.fixed),
        ("broken", changes.broken),
        ("wrong", changes.both_wrong),
    ];
    let total: usize = parts.iter().map(|(_, n)| n).sum();
    let mut svg = String::from(
        "<svg width=\"1000\" height=\"22\" viewBox=\"0 0 1000 22\" role=\"img\" aria-label=\"what changed\">",
    );
    let mut x = 0.0;
    for (class, n) in parts {
        let width = 1000.0 * n as f64 / total.max(1) as f64;
        let _ = write!(
            svg,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"0\" width=\"{width:.1}\" height=\"22\"><title>{n}</title></rect>"
        );
        x += width;
    }
    svg.push_str("</svg>");
    svg
}

/// One line over the sessions.
pub(super) struct Series<'a> {
    /// Its name, which is also its class.
    pub name: &'a str,
    /// What it is after each session; none where there is nothing.
    pub values: Vec<Option<f64>>,
    /// Sessions whose candidate was refused, counted from 0: an open dot.
    pub refused: Vec<usize>,
}

/// Shares from 0 to 1 after every session, a line each.
pub(super) fn sessions(series: &[Series<'_>], y_name: &str) -> String {
    let count = series.iter().map(|line| line.values.len()).max().unwrap_or(0);
    if count == 0 {
        return String::new();
    }
    let step = count.div_ceil(10);
    let axes = Axes {
        x: (1.0, (count as f64).max(2.0)),
        x_ticks: (1..=count).step_by(step).map(|session| session as f64).collect(),
        ..Axes::unit()
    };
    let mut svg = axes.open("sessions", y_name);
    for line in series {
        let places = line.values.iter().enumerate();
        let places: Vec<(usize, f64)> = places.filter_map(|(session, value)| Some((session, (*value)?))).collect();
        let at = |session: usize, value: f64| (axes.x(session as f64 + 1.0), axes.y(value));
        let points: Vec<String> =
            places.iter().map(|(session, value)| at(*session, *value)).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = write!(svg, "<polyline class=\"line {}\" points=\"{}\"/>", line.name, points.join(" "));
        for (session, value) in places {
            let (x, y) = at(session, value);
            let class = if line.refused.contains(&session) { "open" } else { "dot" };
            let _ = write!(
                svg,
                "<circle class=\"{class} {0}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"><title>{0}, session {1}: {2:.1} %</title></circle>",
                line.name,
                session + 1,
                100.0 * value
            );
        }
    }
    svg.push_str("</svg>");
    svg
}

struct Axes {
    x: (f64, f64),
    y: (f64, f64),
    /// Where the horizontal axis has numbers; quarters of it when empty.
    x_ticks: Vec<f64>,
}

impl Axes {
    /// Both from 0 to 1.
    fn unit() -> Self {
        Self { x: (0.0, 1.0), y: (0.0, 1.0), x_ticks: Vec::new() }
    }

    fn x(&self, value: f64) -> f64 {
        MARGIN.0 + (SIZE.0 - MARGIN.0 - 12.0) * (value - self.x.0) / (self.x.1 - self.x.0)
    }

    fn y(&self, value: f64) -> f64 {
        SIZE.1 - MARGIN.1 - (SIZE.1 - MARGIN.1 - 12.0) * (value - self.y.0) / (self.y.1 - self.y.0)
    }

    /// The frame with five ticks a side, and the names of the axes.
    fn open(&self, x_name: &str, y_name: &str) -> String {
        let mut svg = format!(
            "<svg width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" role=\"img\" aria-label=\"{y_name} over {x_name}\">",
            SIZE.0, SIZE.1
        );
        let (left, right, top, bottom) = (self.x(self.x.0), self.x(self.x.1), self.y(self.y.1), self.y(self.y.0));
        let quarters = |(from, to): (f64, f64)| (0..=4).map(move |step| from + f64::from(step) / 4.0 * (to - from));
        for y in quarters(self.y) {
            let _ = write!(
                svg,
                "<line class=\"axis\" x1=\"{left}\" x2=\"{right}\" y1=\"{0:.1}\" y2=\"{0:.1}\"/>\
                 <text text-anchor=\"end\" x=\"{1:.1}\" y=\"{2:.1}\">{3}</text>",
                self.y(y),
                left - 6.0,
                self.y(y) + 4.0,
                tick(y),
            );
        }
        let x_ticks = if self.x_ticks.is_empty() { quarters(self.x).collect() } else { self.x_ticks.clone() };
        for x in x_ticks {
            let (place, bottom) = (self.x(x), bottom + 16.0);
            let _ = write!(svg, "<text text-anchor=\"middle\" x=\"{place:.1}\" y=\"{bottom:.1}\">{}</text>", tick(x));
        }
        let _ = write!(
            svg,
            "<text class=\"strong\" text-anchor=\"middle\" x=\"{:.1}\" y=\"{:.1}\">{x_name}</text>\
             <text class=\"strong\" text-anchor=\"middle\" transform=\"translate(11 {:.1}) rotate(-90)\">{y_name}</text>",
            f64::midpoint(left, right),
            SIZE.1 - 4.0,
            f64::midpoint(top, bottom)
        );
        svg
    }
}

/// At most three digits: 0.25, 0.8, 1; floors are fifths, so that quarters of the rest are short.
fn tick(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
