//! The page of a backtest: the learning curve of every arm, what each forgot and what it cost.

use std::collections::BTreeSet;

use super::plots::{Series, sessions};
use super::{STYLE, escape, percent, section, table, tile};
use crate::backtest::{Arm, ArmReport, BacktestReport, SessionPoint};
use crate::learn::Verdict;

/// A backtest as one self-contained HTML page.
pub fn backtest_page(report: &BacktestReport) -> String {
    let title = match &report.examples {
        Some(name) => format!("Learning from {name}, session by session"),
        None => "Learning from this home, session by session".to_owned(),
    };
    let title = escape(&title);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1><p class=\"soft\">{} labels in {} sessions \
         ({}), {} texts asked after each; base {}, seed {}. Weights alone, without memory.</p>",
        report.labels,
        report.sessions,
        report.order.as_str(),
        report.test,
        escape(&report.base),
        report.seed,
    );
    html.push_str(&tiles(report));
    html.push_str(&curves(report));
    html.push_str(&arms(report));
    html.push_str(&points(report));
    html.push_str("</body></html>\n");
    html
}

fn tiles(report: &BacktestReport) -> String {
    let Some(own) = report.arms.iter().find(|arm| arm.arm == Arm::Mynah) else { return String::new() };
    let mut tiles = String::from("<div class=\"tiles\">");
    tiles.push_str(&tile("right in the end", &percent(own.final_accuracy), "Mynah, functions"));
    tiles.push_str(&tile("forgotten", &points_of(own.forgetting), "points since each task was known best"));
    if let Some(anew) = report.arms.iter().find(|arm| arm.arm == Arm::Retrain) {
        let behind = own.final_accuracy - anew.final_accuracy;
        tiles.push_str(&tile("beside training anew", &format!("{:+.1}", 100.0 * behind), "points of accuracy"));
        if anew.training_cpu_seconds > 0.0 {
            let cost = own.training_cpu_seconds / anew.training_cpu_seconds;
            tiles.push_str(&tile("at a cost of", &percent(cost), "of its processor time"));
        }
    }
    let note = format!("{} refused", own.refused);
    tiles.push_str(&tile("promoted", &own.promoted.to_string(), &note));
    tiles + "</div>"
}

fn curves(report: &BacktestReport) -> String {
    let series = |of: &dyn Fn(&SessionPoint) -> Option<f64>| -> Vec<Series<'_>> {
        let line = |arm: &ArmReport| Series {
            name: arm.arm.as_str(),
            values: arm.sessions.iter().map(of).collect(),
            refused: (0..arm.sessions.len())
                .filter(|session| arm.sessions[*session].verdict == Some(Verdict::Refused))
                .collect(),
        };
        report.arms.iter().map(line).collect()
    };
    let known = sessions(&series(&|point| Some(point.accuracy)), "right, of the functions so far");
    let before = sessions(&series(&|point| point.predicted), "right before it was learned");
    let keys: BTreeSet<(usize, &str)> =
        report.arms.iter().enumerate().map(|(place, arm)| (place, arm.arm.as_str())).collect();
    let keys: String = keys.iter().map(|(_, name)| format!("<span class=\"key line {name}\">{name}</span>")).collect();
    let body = format!(
        "<p>{keys} <small>an open dot: refused by the gate</small></p><div class=\"pair\"><div class=\"card\"><h3>After each \
         session</h3>{known}</div><div class=\"card\"><h3>What a session said, before it was learned from</h3>{before}</div></div>"
    );
    section("The learning curve", &body)
}

fn arms(report: &BacktestReport) -> String {
    let row = |arm: &ArmReport| {
        format!(
            "<tr><td><b>{}</b><br><small>{}</small></td><td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td>\
             <td class=\"num\">{}</td><td class=\"num\">{} / {}</td><td class=\"num\">{:.0} s</td></tr>",
            arm.arm.as_str(),
            arm.arm.meaning(),
            percent(arm.final_accuracy),
            percent(arm.final_exact_match),
            points_of(arm.forgetting),
            points_of(arm.backward_transfer),
            arm.promoted,
            arm.refused,
            arm.training_cpu_seconds,
        )
    };
    let head =
        ["", "#right in the end", "#exact match", "#forgotten", "#backward", "#promoted / refused", "#processor time"];
    section("Ways of learning", &table(&head, report.arms.iter().map(row).collect()))
}

fn points(report: &BacktestReport) -> String {
    let row = |arm: &ArmReport, point: &SessionPoint| {
        let (class, verdict) = match point.verdict {
            Some(Verdict::Promoted) => ("good", "promoted"),
            Some(Verdict::Refused) => ("bad", "refused"),
            _ => ("soft", "nothing learned"),
        };
        format!(
            "<tr><td>{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"{class}\">{verdict}</td>\
             <td class=\"words\">{}</td></tr>",
            arm.arm.as_str(),
            point.session,
            point.predicted.map(percent).unwrap_or_default(),
            percent(point.accuracy),
            escape(point.reason.as_deref().unwrap_or_default())
        )
    };
    let rows = report.arms.iter().flat_map(|arm| arm.sessions.iter().map(move |point| row(arm, point)));
    section("Every session", &table(&["", "#session", "#before", "#after", "gate", "why refused"], rows.collect()))
}

fn points_of(share: f64) -> String {
    format!("{:.1}", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions::SessionOrder;

    fn arm(arm: Arm, accuracy: [f64; 2], cost: f64) -> ArmReport {
        let point = |session: usize| SessionPoint {
            session: session + 1,
            labels: 3,
            predicted: (session > 0).then_some(0.25),
            accuracy: accuracy[session],
            exact_match: accuracy[session],
            verdict: Some(if session == 0 { Verdict::Promoted } else { Verdict::Refused }),
            reason: (session == 1).then(|| "worst function <b>lamp</b>".to_owned()),
            training_seconds: cost,
            training_cpu_seconds: cost,
            seconds: cost,
        };
        ArmReport {
            arm,
            sessions: vec![point(0), point(1)],
            final_accuracy: accuracy[1],
            final_exact_match: accuracy[1],
            forgetting: 0.015,
            backward_transfer: -0.01,
            promoted: 1,
            refused: 1,
            training_seconds: 2.0 * cost,
            training_cpu_seconds: 2.0 * cost,
        }
    }

    #[test]
    fn a_backtest_is_a_page_with_every_arm() {
        let report = BacktestReport {
            examples: Some("<mine>.jsonl".into()),
            base: "starter".into(),
            order: SessionOrder::Shuffled,
            sessions: 2,
            labels: 6,
            test: 10,
            seed: 1,
            arms: vec![arm(Arm::Mynah, [0.9, 0.85], 1.0), arm(Arm::Retrain, [0.9, 0.875], 8.0)],
        };
        let page = backtest_page(&report);
        assert!(page.contains("&lt;mine&gt;.jsonl") && page.contains("&lt;b&gt;lamp"), "texts are escaped");
        assert!(page.contains("-2.5") && page.contains("12.5 %"), "beside training anew");
        // A line and two dots an arm in the first plot; one dot each in the second, for the session before which there was a model.
        assert_eq!(page.matches("<polyline").count(), 4);
        assert_eq!(page.matches("class=\"open ").count(), 4);
        assert_eq!(page.matches("class=\"dot ").count(), 2);
        for elsewhere in ["<script", "http", "src="] {
            assert!(!page.contains(elsewhere), "{elsewhere}");
        }
        let back: BacktestReport = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        assert_eq!(backtest_page(&back), page);
        assert!(backtest_page(&BacktestReport { arms: Vec::new(), ..report }).ends_with("</html>\n"));
    }
}
