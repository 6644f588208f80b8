//! `mynah expect`: sentences with the call that every version has to make of them.

use clap::{Args, Subcommand};
use mynah_data::{Expectation, Expectations, Functions, inline};
use mynah_pipelines::{CheckedExpectation, check_expectations};
use mynah_registry::Registry;
use serde_json::{Map, Value, json};

use super::Context;
use super::evaluate::load;
use crate::failure::{Exit, hinted, usage};
use crate::output::{count, table};

/// The commands below `expect`.
#[derive(Debug, Subcommand)]
pub enum ExpectCommand {
    /// Pin a sentence with its call
    #[command(
        after_help = "Arguments are marked in the sentence, as in functions.json; with --any-arguments they do not count.\n\n\
        Examples:\n  mynah expect add 'wake me at [seven](time)' --function set_alarm\n  \
        mynah expect add 'tell me a joke' --nothing"
    )]
    Add(AddArgs),
    /// List what is pinned
    List,
    /// Take a pinned sentence away
    Remove {
        /// The sentence
        text: String,
    },
    /// Ask a version for all of them; exit status 4 when one is missed
    Check {
        /// Which version: a name, a tag or the start of a digest
        #[arg(long, default_value = "production")]
        version: String,
    },
}

/// Flags of `expect add`.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// The sentence, with its arguments as [words](name)
    pub text: String,
    /// The function to be called
    #[arg(long, value_name = "NAME", required_unless_present = "nothing")]
    pub function: Option<String>,
    /// Nothing may be called
    #[arg(long, conflicts_with = "function")]
    pub nothing: bool,
    /// Only the function counts
    #[arg(long, conflicts_with = "nothing")]
    pub any_arguments: bool,
}

/// Adds, lists, removes or checks.
///
/// # Errors
/// When the file cannot be read or written, or what is pinned makes no sense.
pub fn run(context: &Context, command: &ExpectCommand) -> anyhow::Result<Exit> {
    match command {
        ExpectCommand::Add(args) => add(context, args),
        ExpectCommand::List => list(context),
        ExpectCommand::Remove { text } => remove(context, text),
        ExpectCommand::Check { version } => check(context, version),
    }
}

fn add(context: &Context, args: &AddArgs) -> anyhow::Result<Exit> {
    let registry = context.registry()?;
    let (text, slots) =
        inline::parse_inline(args.text.trim()).map_err(|error| usage(error.to_string(), error.hint()))?;
    let mut arguments = Map::new();
    for slot in &slots {
        match arguments.get_mut(&slot.name) {
            None => drop(arguments.insert(slot.name.clone(), json!(slot.value))),
            Some(Value::Array(values)) => values.push(json!(slot.value)),
            Some(value) => *value = json!([value.clone(), slot.value]),
        }
    }
    let counted = args.function.is_some() && !args.any_arguments;
    let expectation = Expectation { text, function: args.function.clone(), arguments: counted.then_some(arguments) };
    if args.nothing && !slots.is_empty() {
        return Err(usage("a sentence that nothing is called for has no arguments", "leave the brackets out"));
    }
    let path = context.home.expectations_path();
    let mut alone = Expectations::default();
    let refuse = |(message, hint): (String, String)| hinted(message, hint);
    alone.add(expectation.clone()).map_err(refuse)?;
    let known = known_functions(context, &registry)?;
    let names: Vec<&str> = known.iter().map(String::as_str).collect();
    if !names.is_empty()
        && let Err(mynah_data::Error::Line(error)) = alone.check_functions(&names)
    {
        return Err(hinted(error.message, error.hint));
    }
    let mut expectations = Expectations::load(&path)?;
    expectations.add(expectation).map_err(refuse)?;
    expectations.save(&path, &context.fault)?;
    // Said at once: with this one pinned, no version is promoted that gets it wrong.
    let checked = match registry.production()? {
        None => None,
        Some(production) => {
            let (model, _) = load(context, &registry, &production.name, None)?;
            check_expectations(&model, &functions(context)?, &alone).pop()
        }
    };
    if context.output.json {
        let right = checked.as_ref().map(|checked| checked.right);
        context.output.value(&json!({"added": args.text, "expectations": expectations.len(), "right_now": right}))?;
        return Ok(Exit::Done);
    }
    context.output.line(format_args!("{} pinned", count(expectations.len(), "sentence")))?;
    if let Some(checked) = checked.filter(|checked| !checked.right) {
        context.output.note(format_args!(
            "production gets it wrong now: {checked}; no version is promoted until one gets it right"
        ));
    }
    Ok(Exit::Done)
}

fn list(context: &Context) -> anyhow::Result<Exit> {
    let expectations = Expectations::load(&context.home.expectations_path())?;
    if context.output.json {
        context.output.value(&expectations.iter().collect::<Vec<_>>())?;
        return Ok(Exit::Done);
    }
    let mut rows = vec![["text", "function", "arguments"].map(str::to_owned).to_vec()];
    rows.extend(expectations.iter().map(|one| {
        let arguments = one.arguments.clone().map_or("any".to_owned(), |it| Value::Object(it).to_string());
        let arguments = if one.function.is_some() { arguments } else { String::new() };
        vec![one.text.clone(), one.function.clone().unwrap_or_else(|| "nothing".to_owned()), arguments]
    }));
    let style = context.output.style;
    for line in table(&rows, |row, _, cell| if row == 0 { style.dim(cell) } else { cell }) {
        context.output.line(line)?;
    }
    Ok(Exit::Done)
}

fn remove(context: &Context, text: &str) -> anyhow::Result<Exit> {
    let path = context.home.expectations_path();
    let mut expectations = Expectations::load(&path)?;
    if expectations.remove(text).is_none() {
        return Err(hinted(format!("{text:?} is not pinned"), "see `mynah expect list`"));
    }
    expectations.save(&path, &context.fault)?;
    match context.output.json {
        true => context.output.value(&json!({"removed": text, "expectations": expectations.len()}))?,
        false => context.output.line(format_args!("{} pinned", count(expectations.len(), "sentence")))?,
    }
    Ok(Exit::Done)
}

fn check(context: &Context, version: &str) -> anyhow::Result<Exit> {
    let expectations = Expectations::load(&context.home.expectations_path())?;
    let (model, version) = load(context, &context.registry()?, version, None)?;
    let checked = check_expectations(&model, &functions(context)?, &expectations);
    let missed: Vec<&CheckedExpectation> = checked.iter().filter(|one| !one.right).collect();
    if context.output.json {
        context
            .output
            .value(&json!({"version": version, "n": checked.len(), "missed": missed.len(), "checked": checked}))?;
    } else {
        for one in &missed {
            context.output.line(format_args!("{} {one}", context.output.style.bad("missed:")))?;
        }
        let right = checked.len() - missed.len();
        context.output.line(format_args!("{version}: {right} of {} right", count(checked.len(), "pinned sentence")))?;
    }
    Ok(if missed.is_empty() { Exit::Done } else { Exit::Refused })
}

fn functions(context: &Context) -> anyhow::Result<Functions> {
    let path = context.home.functions_path();
    Ok(if path.exists() { Functions::load(&path)? } else { Functions::default() })
}

/// The functions of `functions.json` and of the version in production; imported ones are known once they are trained.
fn known_functions(context: &Context, registry: &Registry) -> anyhow::Result<Vec<String>> {
    let mut known: Vec<String> = functions(context)?.functions.into_iter().map(|function| function.name).collect();
    for example in mynah_data::imported_examples(&context.home)? {
        known.push(example?.function);
    }
    if let Some(production) = registry.production()? {
        known.extend(load(context, registry, &production.name, None)?.0.labels().functions.iter().cloned());
    }
    known.sort_unstable();
    known.dedup();
    known.retain(|name| name != mynah_data::OUT_OF_SCOPE);
    Ok(known)
}
