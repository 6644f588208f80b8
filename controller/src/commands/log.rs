//! `mynah log`: the conversations, as they are in the log.

use mynah_data::{Correction, Rating, Record, SessionSummary};
use serde_json::json;

use super::Context;
use crate::cli::LogCommand;
use crate::failure::{Exit, hinted};
use crate::output::{count, table};

/// Carries out one of the commands below `log`.
///
/// # Errors
/// When the log cannot be read.
pub fn run(context: &Context, command: &LogCommand) -> anyhow::Result<Exit> {
    match command {
        LogCommand::List { last } => list(context, *last),
        LogCommand::Show { session } => show(context, session),
    }
}

fn list(context: &Context, last: Option<usize>) -> anyhow::Result<Exit> {
    let log = context.log();
    let sessions: Vec<SessionSummary> = log.sessions()?.collect::<Result<_, _>>()?;
    let skip = last.map_or(0, |last| sessions.len().saturating_sub(last));
    let sessions = &sessions[skip..];
    if context.output.json {
        let sessions: Vec<_> = sessions.iter().map(session_json).collect();
        context.output.value(&json!({"sessions": sessions}))?;
        return Ok(Exit::Done);
    }
    if sessions.is_empty() {
        context.output.note("no conversations yet; start one with `mynah chat`");
        return Ok(Exit::Done);
    }
    let style = context.output.style;
    let mut rows = vec![["started", "session", "turns", "corrections", "began with"].map(str::to_owned).to_vec()];
    for session in sessions {
        rows.push(vec![
            session.started.strftime("%Y-%m-%d %H:%M").to_string(),
            format!("{}{}", session.id, if session.ended.is_none() { " (open)" } else { "" }),
            session.interactions.to_string(),
            session.corrections.to_string(),
            session.first_text.as_deref().map(shortened).unwrap_or_default(),
        ]);
    }
    for line in table(&rows, |row, _, cell| if row == 0 { style.dim(cell) } else { cell }) {
        context.output.line(line)?;
    }
    Ok(Exit::Done)
}

fn session_json(session: &SessionSummary) -> serde_json::Value {
    json!({
        "session": session.id, "client": session.client, "started": session.started, "ended": session.ended,
        "records": session.records, "interactions": session.interactions, "feedback": session.feedback,
        "corrections": session.corrections, "broken_lines": session.broken_lines, "path": session.path,
    })
}

fn show(context: &Context, wanted: &str) -> anyhow::Result<Exit> {
    let log = context.log();
    let ids = log.session_ids()?;
    let id = match wanted {
        "last" => ids.last().cloned(),
        // What a reply's reasons name: the conversation that the labelled turn belongs to.
        id if id.starts_with("i_") => log.find_interaction(id)?.map(|turn| turn.session),
        _ => {
            let mut found =
                ids.iter().filter(|id| id.starts_with(wanted) || id.trim_start_matches("s_").starts_with(wanted));
            let first = found.next().cloned();
            match found.next() {
                Some(_) => {
                    return Err(hinted(
                        format!("`{wanted}` is the start of several sessions"),
                        "give more of the id; `mynah log list` has them",
                    ));
                }
                None => first,
            }
        }
    };
    let Some(id) = id else {
        return Err(hinted(
            format!("no session `{wanted}` in {}", context.home.sessions_dir().display()),
            "`mynah log list` lists them",
        ));
    };
    let mut broken = 0;
    for record in log.records_of(&id)? {
        match record {
            Ok(record) if context.output.json => context.output.value(&record)?,
            Ok(record) => print(context, &record)?,
            Err(error) => {
                broken += 1;
                context.output.complain(format_args!("{} {error}", context.output.error_style.bad("broken:")));
            }
        }
    }
    if broken > 0 {
        context.output.complain(format_args!("{} cannot be read; the rest is above", count(broken, "line")));
        return Ok(Exit::Partial);
    }
    Ok(Exit::Done)
}

fn print(context: &Context, record: &Record) -> anyhow::Result<()> {
    let style = context.output.style;
    let time = style.dim(record.at().strftime("%H:%M:%S"));
    match record {
        Record::Session(session) => {
            let head = format!("{} with {}, {}", session.session, session.client, session.started.strftime("%Y-%m-%d"));
            context.output.line(style.bold(head))?;
        }
        Record::Interaction(turn) => {
            context.output.line(format_args!("{time} > {}", turn.text))?;
            context.output.line(format_args!("         {}", turn.reply.text))?;
            let mut about: Vec<String> = turn
                .reply
                .calls
                .iter()
                .map(|call| format!("{} {}", call.function, serde_json::Value::Object(call.arguments.clone())))
                .collect();
            about.push(format!("{} from {}", turn.reply.kind, turn.reply.source));
            about.push(format!("confidence {:.2}", turn.reply.confidence));
            about.extend(turn.reply.policy.as_ref().map(|held| format!("held back by {}", held.rule)));
            about.extend(turn.version.clone());
            about.push(turn.id.clone());
            context.output.line(style.dim(format_args!("         {}", about.join(" · "))))?;
        }
        Record::Feedback(feedback) => {
            let mut said: Vec<String> = Vec::new();
            said.extend(feedback.rating.map(|rating| match rating {
                Rating::Up => "good".to_owned(),
                Rating::Down => "bad".to_owned(),
            }));
            said.extend(feedback.correction.as_ref().map(|correction| match correction {
                Correction::Function { function, slots } => {
                    let slots: Vec<String> =
                        slots.iter().flatten().map(|slot| format!("{}={:?}", slot.name, slot.value)).collect();
                    let function = function.as_deref().unwrap_or("no function");
                    format!("should be {function} {}", slots.join(" ")).trim_end().to_owned()
                }
                Correction::Answer { answer } => format!("should answer {answer:?}"),
            }));
            context.output.line(format_args!(
                "{time} {}",
                style.name(format_args!("! {}  ({})", said.join(", "), feedback.interaction))
            ))?;
        }
        Record::End(end) => {
            context.output.line(format_args!("{time} {}", style.dim(format_args!("ended: {}", end.reason))))?
        }
    }
    Ok(())
}

fn shortened(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(48) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
