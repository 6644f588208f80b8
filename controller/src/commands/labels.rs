//! `mynah labels`: what people labelled, what of it is held back, and the owner's word on it.

use clap::Subcommand;
use jiff::Timestamp;
use mynah_data::{Decision, LabelDecision, LabelDecisions, Source, Vote, append_decision, labelled};
use mynah_pipelines::{HeldBack, labels_held_back};
use serde_json::{Value, json};

use super::Context;
use crate::failure::{Exit, hinted};
use crate::interrupt::Interrupt;
use crate::output::{count, table};
use crate::progress::RunProgress;

/// The commands below `labels`.
#[derive(Debug, Subcommand)]
pub enum LabelsCommand {
    /// List the labels given in conversations
    #[command(after_help = "Examples:\n  mynah labels list --held\n  mynah labels list --json")]
    List {
        /// Only those that are held back, with the reason and the nearest examples
        #[arg(long)]
        held: bool,
    },
    /// Let a label count, whatever speaks against it; the next fine-tune learns it
    Accept {
        /// The id of the turn that was labelled (`i_…`), or the start of it
        id: String,
    },
    /// Drop a label: neither memory nor training has it any more
    Reject {
        /// The id of the turn that was labelled (`i_…`), or the start of it
        id: String,
    },
}

/// Lists or decides.
///
/// # Errors
/// When the log or the registry cannot be read, no label has this id, or the decision cannot be written.
pub fn run(context: &Context, command: &LabelsCommand, interrupt: Interrupt) -> anyhow::Result<Exit> {
    match command {
        LabelsCommand::List { held } => list(context, *held, interrupt),
        LabelsCommand::Accept { id } => decide(context, id, Decision::Accept),
        LabelsCommand::Reject { id } => decide(context, id, Decision::Reject),
    }
}

fn list(context: &Context, held_only: bool, interrupt: Interrupt) -> anyhow::Result<Exit> {
    let registry = context.registry()?;
    let log = context.log();
    let settings = &context.settings;
    let held: Vec<HeldBack> = match settings.training.hold_back {
        true => {
            let progress = RunProgress::new(context.output, interrupt);
            labels_held_back(&context.home, &registry, settings.runtime.precision, &progress)?
        }
        false => Vec::new(),
    };
    let decisions = LabelDecisions::of(&log)?;
    let votes = labelled(&log)?.votes;
    let rows: Vec<(&Vote, Option<&HeldBack>)> = votes
        .iter()
        .map(|vote| (vote, held.iter().find(|label| label.interaction == vote.example.origin)))
        .filter(|(_, held)| held.is_some() || !held_only)
        .collect();
    let output = context.output;
    if output.json {
        let labels: Vec<Value> = rows.iter().map(|(vote, held)| as_json(vote, *held, &decisions)).collect();
        output.value(&json!({"labels": labels, "held_back": held.len()}))?;
        return Ok(Exit::Done);
    }
    if rows.is_empty() {
        output.note(if held_only { "no label is held back" } else { "nobody has labelled anything yet" });
        return Ok(Exit::Done);
    }
    if held_only {
        for label in rows.iter().filter_map(|(_, held)| *held) {
            show(context, label)?;
        }
        let next = "`mynah labels accept ID` lets one count, `mynah labels reject ID` drops it";
        output.note(format_args!("{} held back; {next}", count(held.len(), "label")));
        return Ok(Exit::Done);
    }
    let mut lines = vec![["id", "given", "function", "state", "text"].map(str::to_owned).to_vec()];
    for (vote, held) in rows {
        let example = &vote.example;
        let given = example.at.map(|at| at.strftime("%Y-%m-%d %H:%M").to_string()).unwrap_or_default();
        let state = state(vote, held, &decisions).to_owned();
        lines.push(vec![example.origin.clone(), given, example.function.clone(), state, shortened(&example.text)]);
    }
    for line in table(&lines, |row, _, cell| if row == 0 { output.style.dim(cell) } else { cell }) {
        output.line(line)?;
    }
    Ok(Exit::Done)
}

fn show(context: &Context, label: &HeldBack) -> anyhow::Result<()> {
    let output = context.output;
    let text = shortened(&label.text);
    output.line(format_args!("{}  {}  {text}", label.interaction, output.style.name(&label.function)))?;
    output.line(format_args!("    {}", label.detail))?;
    for near in label.neighbours.iter().take(3) {
        let line = format!("{:.2}  {}  {}  ({})", near.similarity, near.function, shortened(&near.text), near.origin);
        output.line(format_args!("    {}", output.style.dim(line)))?;
    }
    output.line(format_args!("    {}", output.style.dim(format_args!("mynah log show {}", label.interaction))))?;
    Ok(())
}

fn state(vote: &Vote, held: Option<&HeldBack>, decisions: &LabelDecisions) -> &'static str {
    let decided = vote.example.at.and_then(|at| decisions.on(&vote.example.origin, at));
    match (held, decided) {
        (Some(_), _) => "held back",
        (None, Some(Decision::Accept)) => "accepted",
        _ if vote.example.source == Source::Confirmed => "approved",
        _ => "corrected",
    }
}

fn as_json(vote: &Vote, held: Option<&HeldBack>, decisions: &LabelDecisions) -> Value {
    let example = &vote.example;
    json!({
        "interaction": example.origin, "session": vote.session, "at": example.at, "text": example.text,
        "function": example.function, "slots": example.slots, "state": state(vote, held, decisions),
        "doubt": held.map(|held| held.doubt), "detail": held.map(|held| &held.detail),
        "neighbours": held.map(|held| &held.neighbours),
    })
}

fn decide(context: &Context, id: &str, decision: Decision) -> anyhow::Result<Exit> {
    let votes = labelled(&context.log())?.votes;
    let mut found: Vec<&Vote> = votes.iter().filter(|vote| vote.example.origin.starts_with(id)).collect();
    found.dedup_by_key(|vote| vote.example.origin.as_str());
    let [vote] = found.as_slice() else {
        let message = match found.len() {
            0 => format!("no label has the id `{id}`"),
            several => format!("`{id}` is the start of {several} ids"),
        };
        return Err(hinted(message, "`mynah labels list` has them all"));
    };
    let interaction = vote.example.origin.clone();
    let by = context.actor();
    let decided = LabelDecision { interaction, decision, at: Timestamp::now(), by };
    append_decision(&context.home, &decided, context.fault.clone())?;
    if context.output.json {
        context.output.value(&decided)?;
        return Ok(Exit::Done);
    }
    let what = match decision {
        Decision::Accept => "accepted",
        Decision::Reject => "rejected",
    };
    let example = &vote.example;
    context.output.line(format_args!("{what}: {}  {}", example.function, shortened(&example.text)))?;
    Ok(Exit::Done)
}

fn shortened(text: &str) -> String {
    const WIDTH: usize = 60;
    match text.chars().count() > WIDTH {
        true => format!("{}…", text.chars().take(WIDTH).collect::<String>()),
        false => text.to_owned(),
    }
}
