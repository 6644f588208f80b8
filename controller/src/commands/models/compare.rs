//! `mynah models diff`: the files and scores of two versions side by side.

use mynah_registry::Registry;
use serde_json::{Value, json};

use super::scores;
use crate::commands::Context;
use crate::failure::Exit;
use crate::output::{percent, table};

pub(super) fn diff(context: &Context, registry: &Registry, from: &str, to: &str) -> anyhow::Result<Exit> {
    let (from, to) = (registry.version(from)?, registry.version(to)?);
    let (old, new) = (&from.manifest.files, &to.manifest.files);
    let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let mut files = Vec::new();
    for name in names {
        let change = match (old.get(name), new.get(name)) {
            (Some(a), Some(b)) if a.sha256 == b.sha256 => "same",
            (Some(_), Some(_)) => "changed",
            (Some(_), None) => "removed",
            _ => "added",
        };
        files.push((name.clone(), change));
    }
    let (a, b) = (scores(registry, &from), scores(registry, &to));
    let score =
        |scores: &Option<Value>, pointer: &str| scores.as_ref().and_then(|scores| scores.pointer(pointer)?.as_f64());
    let compared: Vec<(&str, Option<f64>, Option<f64>)> = [
        ("exact match", "/exact_match"),
        ("function accuracy", "/function/accuracy"),
        ("macro F1", "/function/macro_f1"),
        ("argument F1", "/arguments/f1"),
        ("out-of-scope recall", "/out_of_scope/recall"),
        ("calibration error", "/expected_calibration_error"),
    ]
    .into_iter()
    .map(|(name, pointer)| (name, score(&a, pointer), score(&b, pointer)))
    .collect();
    if context.output.json {
        let scores: serde_json::Map<String, Value> =
            compared.iter().map(|(name, a, b)| (name.replace([' ', '-'], "_"), json!([a, b]))).collect();
        let files: serde_json::Map<String, Value> =
            files.into_iter().map(|(name, change)| (name, json!(change))).collect();
        context.output.value(&json!({"from": from.name, "to": to.name, "held_out": scores, "files": files}))?;
        return Ok(Exit::Done);
    }
    let figure = |share: Option<f64>| share.map_or("–".to_owned(), percent);
    let mut rows = vec![vec!["held-out score".to_owned(), from.name.clone(), to.name.clone()]];
    rows.extend(compared.into_iter().map(|(name, a, b)| vec![name.to_owned(), figure(a), figure(b)]));
    let mut lines = table(&rows, |_, _, cell| cell);
    lines.push(String::new());
    lines.extend(table(
        &files.into_iter().map(|(name, change)| vec![name, change.to_owned()]).collect::<Vec<_>>(),
        |_, _, cell| cell,
    ));
    for line in lines {
        context.output.line(line)?;
    }
    Ok(Exit::Done)
}
