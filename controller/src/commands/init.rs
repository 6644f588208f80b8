//! `mynah init`: a home with a base model.

use mynah_data::Functions;
use serde_json::json;

use super::Context;
use crate::base::{self, Base};
use crate::cli::InitArgs;
use crate::failure::Exit;
use crate::output::{count, size};

/// Creates the home, registers the base model and takes over a file of functions.
///
/// # Errors
/// When the base or the functions are refused; the home is left without them then.
pub fn run(context: &Context, args: &InitArgs) -> anyhow::Result<Exit> {
    let base = Base::parse(&args.base)?;
    // Before anything is written: a broken file should cost nothing.
    let functions = args.functions.as_deref().map(Functions::load).transpose()?;
    context.home.create()?;
    let registry = context.new_registry()?;
    let version = base::register(context, &registry, &base)?;
    if let Some(file) = &args.functions {
        std::fs::copy(file, context.home.functions_path())?;
    }
    let source = version.manifest.source.clone().unwrap_or_default();
    if context.output.json {
        context.output.value(&json!({
            "home": context.home.root(), "base": version.name, "source": source, "digest": version.manifest_digest,
            "size_bytes": version.manifest.size_bytes(), "functions": functions.as_ref().map(|functions| functions.functions.len()),
        }))?;
        return Ok(Exit::Done);
    }
    context.output.line(format_args!("home   {}", context.home.root().display()))?;
    context.output.line(format_args!("base   {} ({source}, {})", version.name, size(version.manifest.size_bytes())))?;
    if let Some(functions) = &functions {
        context.output.line(format_args!("can do {}", count(functions.functions.len(), "function")))?;
    }
    let next = match context.home.functions_path().exists() {
        true => "next: `mynah train`, then `mynah chat`",
        false => "next: put functions.json into the home or `mynah import` examples, then `mynah train`",
    };
    context.output.note(next);
    Ok(Exit::Done)
}
