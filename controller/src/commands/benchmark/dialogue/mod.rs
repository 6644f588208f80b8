//! `mynah benchmark dialogue`: turns read alone and with the turns before them.
//!
//! The runtime gets of a service its functions with their descriptions and types, never an example; of a dialogue the turns,
//! the function and the arguments before. Test turns are for the one figure that is reported: choices are made on `valid`.

mod evaluate;
mod score;
mod sets;
mod single;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Args;
use mynah_data::Home;
use mynah_registry::{Author, ManifestDraft, Registry};
use mynah_runtime::Checkpoint;
use serde::Serialize;

use super::Context;
use crate::failure::{Exit, hinted};
use crate::output::{percent, table};
use evaluate::Method;
use score::{Outcome, Scores, recall_by_source, scores};
use sets::{DialogueTurn, Service, SetError};

/// The files of turns.
const SETS: [&str; 2] = ["sgd_followups", "sgd_corrections"];

/// Flags of `benchmark dialogue`.
#[derive(Debug, Args)]
pub struct DialogueArgs {
    /// The directory with the data sets
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// A checkpoint directory to read with [default: the embedded starter, which has learned nothing]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Which turns: train, valid or test
    #[arg(long, default_value = "test", value_name = "SPLIT")]
    split: String,
}

#[derive(Debug, Serialize)]
struct Report {
    model: String,
    split: String,
    sets: BTreeMap<String, BTreeMap<&'static str, MethodReport>>,
    single_wishes: Vec<single::SingleWishes>,
}

#[derive(Debug, Serialize)]
struct MethodReport {
    all: Scores,
    seen_services: Scores,
    unseen_services: Scores,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    by_kind: BTreeMap<String, Scores>,
    recall_by_source: BTreeMap<String, f64>,
}

/// Measures and prints.
///
/// # Errors
/// When a file is not there or not as it should be, or no turn is of the split.
pub fn run(context: &Context, args: &DialogueArgs) -> anyhow::Result<Exit> {
    let services: Vec<Service> = sets::read(&args.data, "sgd_schema").map_err(explained)?;
    let prepare = |home: &Path| register(home, args.model.as_deref());
    let mut report = Report {
        model: args.model.as_ref().map_or_else(|| "starter".to_owned(), |model| model.display().to_string()),
        split: args.split.clone(),
        sets: BTreeMap::new(),
        single_wishes: Vec::new(),
    };
    for set in SETS {
        let turns: Vec<DialogueTurn> = sets::read(&args.data, set).map_err(explained)?;
        let seen: BTreeSet<String> =
            turns.iter().filter(|turn| turn.split == "train").map(|turn| turn.service.clone()).collect();
        let turns: Vec<DialogueTurn> = turns.into_iter().filter(|turn| turn.split == args.split).collect();
        if turns.is_empty() {
            let hint = "name another --split: train, valid or test";
            return Err(hinted(format!("{set} has no turns of split `{}`", args.split), hint));
        }
        context.output.note(format_args!("{set}: {} turns", turns.len()));
        let opened =
            evaluate::open(&services, &turns, &prepare).map_err(|error| match error.downcast::<SetError>() {
                Ok(error) => explained(error),
                Err(error) => error,
            })?;
        let mut methods = BTreeMap::new();
        for method in [Method::Alone, Method::WithoutContext, Method::InContext] {
            let outcomes: Vec<Outcome> = turns.iter().map(|turn| opened[&turn.service].outcome(turn, method)).collect();
            methods.insert(method.name(), method_report(&turns, &outcomes, &seen));
        }
        report.sets.insert(set.to_owned(), methods);
    }
    for set in single::SETS {
        report.single_wishes.extend(single::measure(&args.data, set)?);
    }
    match context.output.json {
        true => context.output.value(&report)?,
        false => {
            for line in lines(&report) {
                context.output.line(line)?;
            }
        }
    }
    Ok(Exit::Done)
}

fn method_report(turns: &[DialogueTurn], outcomes: &[Outcome], seen: &BTreeSet<String>) -> MethodReport {
    let of = |wanted: &dyn Fn(&DialogueTurn) -> bool| {
        scores(turns.iter().zip(outcomes).filter(|(turn, _)| wanted(turn)).map(|(_, outcome)| outcome))
    };
    let kinds: BTreeSet<&String> = turns.iter().filter_map(|turn| turn.kind.as_ref()).collect();
    MethodReport {
        all: scores(outcomes),
        seen_services: of(&|turn| seen.contains(&turn.service)),
        unseen_services: of(&|turn| !seen.contains(&turn.service)),
        by_kind: kinds.into_iter().map(|kind| (kind.clone(), of(&|turn| turn.kind.as_ref() == Some(kind)))).collect(),
        recall_by_source: recall_by_source(outcomes),
    }
}

fn explained(error: SetError) -> anyhow::Error {
    hinted(error.to_string(), "--data names the directory with sgd_schema, sgd_followups and sgd_corrections")
}

/// Makes a checkpoint the base of a home; without one the home gets the starter by itself.
fn register(home: &Path, model: Option<&Path>) -> anyhow::Result<()> {
    let Some(model) = model else { return Ok(()) };
    Checkpoint::from_directory(model)?.validate_encoder()?;
    let home = Home::new(home);
    home.create()?;
    let registry = Registry::open(&home.registry_dir())?;
    let draft = ManifestDraft::base(concat!("mynah ", env!("CARGO_PKG_VERSION")));
    registry.add_directory(model, draft, &Author::new("benchmark", "the model that is measured"))?;
    Ok(())
}

fn lines(report: &Report) -> Vec<String> {
    let head = ["set", "read", "turns", "joint goal", "slot F1", "intent", "joint seen", "joint unseen"];
    let mut rows: Vec<Vec<String>> = vec![head.map(str::to_owned).to_vec()];
    for (set, methods) in &report.sets {
        for (method, one) in methods {
            rows.push(vec![
                set.clone(),
                (*method).to_owned(),
                one.all.turns.to_string(),
                percent(one.all.joint_goal_accuracy),
                percent(one.all.slot_f1),
                percent(one.all.intent_accuracy),
                percent(one.seen_services.joint_goal_accuracy),
                percent(one.unseen_services.joint_goal_accuracy),
            ]);
        }
    }
    let mut lines = table(&rows, |_, _, cell| cell);
    lines.extend(
        report
            .single_wishes
            .iter()
            .map(|one| format!("{}: {} of {} single wishes taken for several", one.set, one.cut, one.texts)),
    );
    lines
}
