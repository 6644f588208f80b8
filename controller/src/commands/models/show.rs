//! `mynah models show`: everything about one version.

use mynah_registry::{Entry, Event, Registry};
use serde_json::{Value, json};

use super::{origin, print_entries, scores, summary};
use crate::commands::Context;
use crate::failure::Exit;
use crate::output::{percent, size, table};

pub(super) fn show(context: &Context, registry: &Registry, name: &str) -> anyhow::Result<Exit> {
    let version = registry.version(name)?;
    let file = |name: &str| {
        let entry = version.manifest.files.get(name)?;
        serde_json::from_slice::<Value>(&registry.read_object(&entry.sha256).ok()?).ok()
    };
    let decisions: Vec<Entry> =
        registry.log()?.into_iter().filter(|entry| concerns(&entry.event, &version.name)).collect();
    if context.output.json {
        let mut shown = summary(registry, &version);
        shown["files"] = json!(version.manifest.files);
        shown["seed"] = json!(version.manifest.seed);
        shown["data_commit"] = json!(version.manifest.data_commit);
        shown["dataset_digest"] = json!(version.manifest.dataset_digest);
        shown["engine"] = json!(version.manifest.engine);
        shown["training"] = json!(file("training.json"));
        shown["decisions"] = json!(decisions);
        context.output.value(&shown)?;
        return Ok(Exit::Done);
    }
    let style = context.output.style;
    let versions = registry.versions()?;
    context.output.line(format_args!("{}  {}", style.bold(&version.name), version.status))?;
    let manifest = &version.manifest;
    let mut facts = vec![
        ("digest", version.manifest_digest.to_string()),
        ("registered", version.registered_at.to_string()),
        ("from", origin(&version, &versions)),
        ("engine", manifest.engine.clone()),
    ];
    facts.extend(manifest.data_commit.clone().map(|commit| ("log commit", commit)));
    facts.extend(manifest.dataset_digest.as_ref().map(|digest| ("data set", digest.to_string())));
    facts.extend(manifest.seed.map(|seed| ("seed", seed.to_string())));
    if let Some(scores) = scores(registry, &version) {
        let score = |pointer: &str| scores.pointer(pointer).and_then(Value::as_f64).map_or("–".to_owned(), percent);
        let words = format!(
            "exact match {}, function accuracy {}, argument F1 {} on {} held-out examples",
            score("/exact_match"),
            score("/function/accuracy"),
            score("/arguments/f1"),
            scores["n"]
        );
        facts.push(("scores", words));
    }
    for (name, fact) in facts {
        context.output.line(format_args!("{}{fact}", style.dim(format_args!("{name:<12}"))))?;
    }
    context.output.line(style.dim("files"))?;
    let rows: Vec<Vec<String>> = manifest
        .files
        .iter()
        .map(|(name, entry)| vec![format!("  {name}"), size(entry.size_bytes), entry.sha256.short()])
        .collect();
    for line in table(&rows, |_, _, cell| cell) {
        context.output.line(line)?;
    }
    context.output.line(style.dim("decisions"))?;
    print_entries(context, &decisions, &versions)?;
    Ok(Exit::Done)
}

/// Whether an entry of the journal is about a version.
pub fn concerns(event: &Event, version: &str) -> bool {
    match event {
        Event::Register { name, .. }
        | Event::Promote { name, .. }
        | Event::Refuse { name, .. }
        | Event::Quarantine { name, .. }
        | Event::Delete { name, .. }
        | Event::Tag { name, .. } => name == version,
        Event::Rollback { from_name, to_name, .. } => from_name == version || to_name == version,
        _ => false,
    }
}
