//! `mynah pin` and `mynah unpin`: nothing but the owner changes what is in production.

use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::Context;
use crate::failure::Exit;
use crate::pin::{self, Pin};

/// Flags of `pin`.
#[derive(Debug, Args)]
pub struct PinArgs {
    /// Why
    #[arg(long, default_value = "by hand")]
    pub reason: String,
}

/// Pins what is in production.
///
/// # Errors
/// When the home is not set up or cannot be written.
pub fn pin(context: &Context, args: &PinArgs) -> anyhow::Result<Exit> {
    let production = context.registry()?.production()?;
    let pin = Pin {
        version: production.as_ref().map(|version| version.name.clone()),
        digest: production.map(|version| version.manifest_digest.to_string()),
        by: context.actor(),
        at: Timestamp::now(),
        reason: args.reason.clone(),
    };
    pin::set(&context.home, &pin, &context.fault)?;
    match context.output.json {
        true => context.output.value(&json!({"pinned": pin}))?,
        false => {
            let version = pin.version.as_deref().unwrap_or("nothing");
            context.output.line(format_args!("{version} stays in production until `mynah unpin`"))?;
        }
    }
    Ok(Exit::Done)
}

/// Takes the pin away.
///
/// # Errors
/// When the home is not set up or cannot be written.
pub fn unpin(context: &Context) -> anyhow::Result<Exit> {
    context.registry()?;
    let was = pin::clear(&context.home)?;
    match (context.output.json, was) {
        (true, _) => context.output.value(&json!({"pinned": null, "was_pinned": was}))?,
        (false, true) => context.output.line("production may change again")?,
        (false, false) => context.output.line("nothing was pinned")?,
    }
    Ok(Exit::Done)
}
