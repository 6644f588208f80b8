//! `mynah status`: what is in production, what is new, what runs.

use std::path::Path;

use mynah_registry::{Event, Registry};
use serde_json::{Value, json};

use super::{Context, models};
use crate::client::Client;
use crate::failure::Exit;
use crate::learning;
use crate::output::{count, percent, size};
use crate::pin;

/// Decisions that are shown.
const SHOWN: usize = 3;

/// Prints the state of the home.
///
/// # Errors
/// When the registry or the log cannot be read.
pub fn run(context: &Context) -> anyhow::Result<Exit> {
    let registry = context.registry()?;
    let production = registry.production()?;
    let scores = production.as_ref().and_then(|version| models::scores(&registry, version));
    let log = context.log();
    let sessions = log.session_ids()?.len();
    let (mut turns, mut corrections, mut broken) = (0, 0, 0);
    for session in log.sessions()? {
        let session = session?;
        turns += session.interactions;
        corrections += session.corrections;
        broken += session.broken_lines;
    }
    let new = learning::new_labels(&context.log(), &registry)?;
    let client = Client::connect(&context.home);
    let service = client.as_ref().and_then(|client| client.status().ok());
    let control = client.as_ref().and_then(|client| client.control().ok());
    let pinned = pin::of(&context.home);
    let bytes = disk_use(context.home.root());
    let verdicts = verdicts(&registry)?;
    // While somebody trains, what looks like a stopped run is the one at work.
    let stopped = match context.home.lock(learning::TRAIN_LOCK) {
        Ok(_lock) => mynah_pipelines::resumable_run(&context.home)?,
        Err(_) => None,
    };

    if context.output.json {
        context.output.value(&json!({
            "home": context.home.root(),
            "production": production.as_ref().map(|version| &version.name),
            "held_out": scores,
            "log": {"sessions": sessions, "interactions": turns, "corrections": corrections, "broken_lines": broken},
            "new": {"examples": new.examples, "answers": new.answers},
            "service": service.as_ref().zip(client.as_ref()).map(|(service, client)| json!({
                "address": client.address(), "url": client.url(), "pid": client.pid(), "training": service.training, "open_sessions": service.open_sessions,
            })),
            "control": control,
            "pin": pinned,
            "stopped_run": stopped,
            "disk_bytes": bytes,
            "verdicts": verdicts.iter().map(|(text, reason)| json!({"verdict": text, "reason": reason})).collect::<Vec<_>>(),
        }))?;
        return Ok(Exit::Done);
    }
    let output = context.output;
    let fact =
        |name: &str, text: String| output.line(format_args!("{}{text}", output.style.dim(format_args!("{name:<12}"))));
    fact("home", format!("{} ({})", context.home.root().display(), size(bytes)))?;
    let score = |pointer: &str| {
        scores.as_ref().and_then(|scores| scores.pointer(pointer)?.as_f64()).map_or("–".to_owned(), percent)
    };
    fact(
        "production",
        match &production {
            None => "nothing yet; `mynah train` makes a first version".to_owned(),
            Some(version) => format!(
                "{}, exact match {}, function accuracy {}",
                output.style.good(&version.name),
                score("/exact_match"),
                score("/function/accuracy")
            ),
        },
    )?;
    fact(
        "log",
        format!("{} in {}, {}", count(turns, "turn"), count(sessions, "session"), count(corrections, "correction")),
    )?;
    if broken > 0 {
        fact(
            "",
            output.style.bad(format_args!("{} cannot be read; `mynah log show` names them", count(broken, "line"))),
        )?;
    }
    fact("new", format!("{} to learn from, {}", count(new.examples, "label"), count(new.answers, "taught answer")))?;
    fact(
        "service",
        match (&service, &client) {
            (Some(service), Some(client)) => {
                let doing = if service.training { "training" } else { "idle" };
                format!(
                    "{} (process {}), {doing}, {}",
                    client.url(),
                    client.pid(),
                    count(service.open_sessions, "open session")
                )
            }
            _ => "not running; `mynah serve` starts it".to_owned(),
        },
    )?;
    if let Some(pin) = &pinned {
        fact("pinned", format!("by {} ({}); `mynah unpin` lets production change", pin.by, pin.reason))?;
    }
    for line in control.iter().flat_map(control_lines) {
        fact("", line)?;
    }
    if let Some(stopped) = &stopped {
        let after = count(stopped.epochs, "epoch");
        fact("stopped", format!("run {} after {after}; the same command goes on from there", stopped.run))?;
    }
    for (index, (text, reason)) in verdicts.iter().enumerate() {
        fact(if index == 0 { "decisions" } else { "" }, format!("{text}  {}", output.style.dim(reason)))?;
    }
    Ok(Exit::Done)
}

/// What the service waits for, watches and tries, in words.
fn control_lines(control: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(why) = control["waits"]["why"].as_str() {
        lines.push(format!("a fine-tune ({}) waits: {why}", control["waits"]["trigger"].as_str().unwrap_or_default()));
    }
    let watch = &control["watch"];
    if let (Some(version), Some(turns)) = (watch["version"].as_str(), watch["watched"]["turns"].as_u64()) {
        let wrong = watch["watched"]["wrong"].as_u64().unwrap_or_default();
        lines.push(format!("watches {version}: {wrong} of {turns} turns went wrong since it was promoted"));
    }
    if let (Some(version), Some(stage)) = (control["rollout"]["version"].as_str(), control["rollout"]["stage"].as_str())
    {
        lines.push(format!("tries {version}: {stage}"));
    }
    lines
}

/// The last decisions about production, the latest first.
fn verdicts(registry: &Registry) -> anyhow::Result<Vec<(String, String)>> {
    let versions = registry.versions()?;
    let name_of = |digest: &mynah_registry::Digest| {
        versions
            .iter()
            .find(|version| version.manifest_digest == *digest)
            .map_or_else(|| digest.short(), |version| version.name.clone())
    };
    let decisive = |event: &Event| {
        matches!(
            event,
            Event::Promote { .. } | Event::Refuse { .. } | Event::Rollback { .. } | Event::Quarantine { .. }
        )
    };
    let entries = registry.log()?.into_iter().rev().filter(|entry| decisive(&entry.event)).take(SHOWN);
    Ok(entries
        .map(|entry| {
            (
                format!("{} {}", entry.at.strftime("%Y-%m-%d %H:%M"), models::describe(&entry.event, name_of)),
                entry.reason,
            )
        })
        .collect())
}

/// The bytes of all files below a directory; what cannot be read counts nothing.
fn disk_use(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => disk_use(&entry.path()),
            Ok(kind) if kind.is_file() => entry.metadata().map_or(0, |metadata| metadata.len()),
            _ => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_use_adds_up_files_below() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("a")).unwrap();
        std::fs::write(directory.path().join("a/b"), [0; 10]).unwrap();
        std::fs::write(directory.path().join("c"), [0; 5]).unwrap();
        assert_eq!(disk_use(directory.path()), 15);
        assert_eq!(disk_use(&directory.path().join("none")), 0);
    }
}
