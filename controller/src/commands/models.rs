//! `mynah models`: what the registry knows, and decisions by hand.

mod compare;
mod show;

pub use show::concerns;

use std::path::Path;

use mynah_registry::{Digest, Entry, Event, Kind, Registry, Status, Version};
use serde_json::{Value, json};

use super::Context;
use crate::cli::ModelsCommand;
use crate::failure::{Exit, hinted};
use crate::output::{count, percent, size, table};
use crate::pin;

/// Carries out one of the commands below `models`.
///
/// # Errors
/// What the registry refuses.
pub fn run(context: &Context, command: &ModelsCommand) -> anyhow::Result<Exit> {
    let registry = context.registry()?;
    match command {
        ModelsCommand::List => list(context, &registry),
        ModelsCommand::Show { version } => show::show(context, &registry, version),
        ModelsCommand::Promote { version, reason } => promote(context, &registry, version, reason),
        ModelsCommand::Rollback { version, reason } => rollback(context, &registry, version.as_deref(), reason),
        ModelsCommand::Verify => verify(context, &registry),
        ModelsCommand::Log => log(context, &registry),
        ModelsCommand::Export { version, directory } => export(context, &registry, version, directory),
        ModelsCommand::Diff { from, to } => compare::diff(context, &registry, from, to),
        ModelsCommand::Delete { version, reason } => {
            let version = registry.version(version)?;
            registry.delete(&version, &context.author(reason))?;
            done(
                context,
                json!({"deleted": version.name}),
                format!("{} is deleted; `mynah models gc` frees its space", version.name),
            )
        }
        ModelsCommand::Gc => {
            let freed = registry.collect_garbage()?;
            let text = format!("freed {} in {}", size(freed.size_bytes), count(freed.objects as usize, "object"));
            done(context, json!({"objects": freed.objects, "size_bytes": freed.size_bytes}), text)
        }
    }
}

/// The lines of the table of versions.
///
/// # Errors
/// When the registry cannot be read.
pub fn list_lines(context: &Context, registry: &Registry) -> anyhow::Result<Vec<String>> {
    let style = context.output.style;
    let versions = registry.versions()?;
    let mut rows = vec![
        ["version", "status", "exact match", "accuracy", "from", "size", "registered", "digest"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for version in &versions {
        let scores = scores(registry, version);
        let score = |pointer: &str| {
            scores.as_ref().and_then(|scores| scores.pointer(pointer)?.as_f64()).map_or("–".to_owned(), percent)
        };
        rows.push(vec![
            version.name.clone(),
            version.status.to_string(),
            score("/exact_match"),
            score("/function/accuracy"),
            origin(version, &versions),
            size(version.manifest.size_bytes()),
            version.registered_at.strftime("%Y-%m-%d %H:%M").to_string(),
            version.manifest_digest.short(),
        ]);
    }
    Ok(table(&rows, |row, column, cell| match (row, column) {
        (0, _) => style.dim(cell),
        (_, 1) if cell == Status::Production.as_str() => style.good(cell),
        (_, 1) if cell == Status::Refused.as_str() || cell == Status::Quarantined.as_str() => style.bad(cell),
        _ => cell,
    }))
}

/// The held-out scores stored with a version.
pub fn scores(registry: &Registry, version: &Version) -> Option<Value> {
    let entry = version.manifest.files.get("evaluation.json")?;
    serde_json::from_slice(&registry.read_object(&entry.sha256).ok()?).ok()
}

/// What an entry of the journal says, in one line without its time.
pub fn describe(event: &Event, name_of: impl Fn(&Digest) -> String) -> String {
    match event {
        Event::Register { name, manifest, kind: Kind::Base } => {
            format!("registered base {name} ({})", manifest.short())
        }
        Event::Register { name, manifest, .. } => {
            format!("registered {name} ({})", manifest.short())
        }
        Event::Promote { name, expected_current, .. } => match expected_current {
            Some(current) => format!("promoted {name} over {}", name_of(current)),
            None => format!("promoted {name}, the first in production"),
        },
        Event::Refuse { name, .. } => format!("refused {name}"),
        Event::Rollback { from_name, to_name, .. } => format!("rolled back from {from_name} to {to_name}"),
        Event::Quarantine { name, .. } => format!("quarantined {name}"),
        Event::Delete { name, .. } => format!("deleted {name}"),
        Event::Tag { name, tag, .. } => format!("tagged {name} as {tag}"),
        _ => "noted something that a later program understands".to_owned(),
    }
}

fn list(context: &Context, registry: &Registry) -> anyhow::Result<Exit> {
    if context.output.json {
        let versions = registry.versions()?;
        let production = registry.production()?.map(|version| version.name);
        let versions: Vec<Value> = versions.iter().map(|version| summary(registry, version)).collect();
        context.output.value(&json!({"production": production, "versions": versions}))?;
    } else {
        for line in list_lines(context, registry)? {
            context.output.line(line)?;
        }
    }
    Ok(Exit::Done)
}

fn summary(registry: &Registry, version: &Version) -> Value {
    json!({
        "version": version.name,
        "digest": version.manifest_digest,
        "kind": version.kind,
        "status": version.status.as_str(),
        "registered_at": version.registered_at,
        "parent": version.manifest.parent,
        "base": version.manifest.base,
        "source": version.manifest.source,
        "size_bytes": version.manifest.size_bytes(),
        "tags": version.tags,
        "held_out": scores(registry, version).map(brief),
    })
}

/// Scores without the breakdown by function.
pub fn brief(mut scores: Value) -> Value {
    if let Some(scores) = scores.as_object_mut() {
        scores.shift_remove("per_function");
    }
    scores
}

fn promote(context: &Context, registry: &Registry, name: &str, reason: &str) -> anyhow::Result<Exit> {
    pin::guard(&context.home)?;
    let version = registry.version(name)?;
    let current = registry.production()?;
    if version.kind == Kind::Base {
        return Err(hinted(
            format!("{} is a base model and has nothing to answer with", version.name),
            "train a version from it with `mynah train`",
        ));
    }
    if current.as_ref().is_some_and(|current| current.name == version.name) {
        return done(
            context,
            json!({"production": version.name}),
            format!("{} is in production already", version.name),
        );
    }
    let current = current.map(|current| current.manifest_digest);
    // The gate did not speak: the journal says that a person did.
    registry.promote(&version, current.as_ref(), json!({"by_hand": true}), &context.author(reason))?;
    done(context, json!({"production": version.name}), format!("{} is in production", version.name))
}

fn rollback(context: &Context, registry: &Registry, name: Option<&str>, reason: &str) -> anyhow::Result<Exit> {
    pin::guard(&context.home)?;
    let to = name.map(|name| registry.version(name)).transpose()?;
    let entry = registry.rollback(to.as_ref(), &context.author(reason))?;
    let Event::Rollback { from_name, to_name, .. } = &entry.event else {
        return done(
            context,
            json!({"production": registry.production()?.map(|version| version.name)}),
            "done".to_owned(),
        );
    };
    done(
        context,
        json!({"production": to_name, "from": from_name}),
        format!("{to_name} is in production again, in place of {from_name}"),
    )
}

fn verify(context: &Context, registry: &Registry) -> anyhow::Result<Exit> {
    let verification = registry.verify_all()?;
    let problems: Vec<Value> = verification
        .problems
        .iter()
        .map(|problem| json!({"error": problem.error.to_string(), "versions": problem.versions}))
        .collect();
    if context.output.json {
        context.output.value(&json!({
            "objects": verification.objects, "size_bytes": verification.size_bytes, "versions": verification.versions,
            "entries": verification.entries, "problems": problems,
        }))?;
    } else {
        context.output.line(format_args!(
            "checked {} ({}), {} and {} of the journal",
            count(verification.objects as usize, "object"),
            size(verification.size_bytes),
            count(verification.versions as usize, "version"),
            match verification.entries {
                1 => "1 entry".to_owned(),
                entries => format!("{entries} entries"),
            },
        ))?;
    }
    if verification.problems.is_empty() {
        if !context.output.json {
            context.output.line(context.output.style.good("all is as it was written"))?;
        }
        return Ok(Exit::Done);
    }
    for problem in &verification.problems {
        context.output.complain(format_args!(
            "{} {} (in {})",
            context.output.error_style.bad("damaged:"),
            problem.error,
            problem.versions.join(", ")
        ));
    }
    let message = format!("{} found", count(verification.problems.len(), "problem"));
    Err(hinted(
        message,
        "`mynah chat` serves the last version that verifies; restore the object from a backup, or delete the version",
    ))
}

fn log(context: &Context, registry: &Registry) -> anyhow::Result<Exit> {
    let entries = registry.log()?;
    if context.output.json {
        context.output.value(&json!({"entries": entries}))?;
    } else {
        print_entries(context, &entries, &registry.versions()?)?;
    }
    Ok(Exit::Done)
}

fn print_entries(context: &Context, entries: &[Entry], versions: &[Version]) -> anyhow::Result<()> {
    let style = context.output.style;
    let name_of = |digest: &Digest| named(digest, versions);
    for entry in entries {
        let at = entry.at.strftime("%Y-%m-%d %H:%M:%S");
        let what = describe(&entry.event, name_of);
        context.output.line(format_args!(
            "{} {}  {what}",
            style.dim(format_args!("{:>4}", entry.sequence)),
            style.dim(at)
        ))?;
        context.output.line(style.dim(format_args!("{:26}by {}: {}", "", entry.actor, entry.reason)))?;
        for rule in failed_rules(&entry.event, &entry.reason) {
            context.output.line(format_args!("{:26}{}", "", style.bad(rule)))?;
        }
    }
    Ok(())
}

/// The rules that a refused candidate broke, as the gate put them, unless the reason has them already.
fn failed_rules(event: &Event, reason: &str) -> Vec<String> {
    let Event::Refuse { gate, .. } = event else {
        return Vec::new();
    };
    let rules = gate.get("rules").or(Some(gate)).and_then(Value::as_array);
    rules
        .into_iter()
        .flatten()
        .filter(|rule| {
            rule["passed"] == json!(false) && rule["detail"].as_str().is_none_or(|detail| !reason.contains(detail))
        })
        .map(|rule| {
            format!("{}: {}", rule["name"].as_str().unwrap_or("a rule"), rule["detail"].as_str().unwrap_or("failed"))
        })
        .collect()
}

fn export(context: &Context, registry: &Registry, name: &str, directory: &Path) -> anyhow::Result<Exit> {
    let version = registry.version(name)?;
    registry.export(&version, directory)?;
    let text = format!("{} is in {}; `transformers` loads it with from_pretrained", version.name, directory.display());
    done(context, json!({"version": version.name, "directory": directory}), text)
}

fn done(context: &Context, value: Value, text: String) -> anyhow::Result<Exit> {
    if context.output.json {
        context.output.value(&value)?;
    } else {
        context.output.line(text)?;
    }
    Ok(Exit::Done)
}

fn origin(version: &Version, versions: &[Version]) -> String {
    let manifest = &version.manifest;
    match (&manifest.parent, &manifest.base, &manifest.source) {
        (Some(parent), ..) => named(parent, versions),
        (None, Some(base), _) => named(base, versions),
        (None, None, Some(source)) => source.clone(),
        _ => "–".to_owned(),
    }
}

fn named(digest: &Digest, versions: &[Version]) -> String {
    versions
        .iter()
        .find(|version| version.manifest_digest == *digest)
        .map_or_else(|| digest.short(), |version| version.name.clone())
}
