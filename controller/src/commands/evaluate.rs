//! `mynah evaluate`: the scores of a version on labelled examples.

use mynah_data::{Example, Imported, SplitName};
use mynah_pipelines::{Document, Progress, evaluate_and_analyse};
use mynah_registry::Registry;
use mynah_runtime::{Checkpoint, Model, Precision};

use super::Context;
use super::import::open;
use super::report::write_page;
use crate::cli::{EvaluateArgs, PrecisionName};
use crate::failure::{Exit, hinted, usage};
use crate::interrupt::Interrupt;
use crate::output::count;
use crate::progress::RunProgress;
use crate::report::score_lines;

/// Scores a version on the examples of a file, as a stream.
///
/// # Errors
/// When the version, the file or the split's name is no good, or no example is left.
pub fn run(context: &Context, args: &EvaluateArgs, interrupt: Interrupt) -> anyhow::Result<Exit> {
    let wanted = match args.split.as_str() {
        "all" => None,
        name => Some(name.parse::<SplitName>().map_err(|error| usage(error.to_string(), error.hint()))?),
    };
    let (model, version) = load(context, &context.registry()?, &args.version, args.precision)?;
    let (reader, name) = open(&args.examples)?;
    let mut skipped = 0;
    let mut other = 0;
    let output = context.output;
    let examples = mynah_data::read_examples(reader, &name, None).filter_map(|record| match record {
        Ok(Imported::Example(example)) => is_wanted(&example, wanted).then_some(example),
        Ok(_) => {
            other += 1;
            None
        }
        Err(error) => {
            skipped += 1;
            if skipped <= 10 {
                output.complain(format_args!("{} {error}", output.error_style.bad("skipped:")));
            }
            None
        }
    });
    let progress = RunProgress::new(context.output, interrupt);
    let report = match &args.html {
        None => mynah_pipelines::evaluate(&model, &version, examples, 0, &progress as &dyn Progress)?,
        Some(path) => {
            let examples: Vec<Example> = examples.collect();
            let (report, analysis) = evaluate_and_analyse(&model, &version, &examples, &progress as &dyn Progress)?;
            if report.n > 0 {
                let examples = format!("examples of {name}, split `{}`", args.split);
                let document = Document { version: version.clone(), examples, analysis, ..Document::default() };
                write_page(path, &document)?;
            }
            report
        }
    };
    progress.finish();
    if report.n == 0 {
        let hint = match other {
            0 => "name another --split, or a file of utterances with their intent",
            _ => "the file holds questions or answers; evaluate needs utterances with their intent",
        };
        return Err(hinted(format!("{name} has no examples of split `{}`", args.split), hint));
    }
    if context.output.json {
        context.output.value(&report)?;
    } else {
        for line in score_lines(&[&report], context.output.style) {
            context.output.line(line)?;
        }
    }
    if skipped > 0 {
        context.output.complain(format_args!("{} skipped", count(skipped, "line")));
        return Ok(Exit::Partial);
    }
    Ok(Exit::Done)
}

/// Loads a version, verified, at the asked or the configured precision.
///
/// # Errors
/// When there is no such version, it fails verification, or its checkpoint cannot be served.
pub fn load(
    context: &Context,
    registry: &Registry,
    name: &str,
    precision: Option<PrecisionName>,
) -> anyhow::Result<(Model, String)> {
    let version = registry.version(name)?;
    let precision = match precision {
        Some(PrecisionName::Int8) => Precision::Int8,
        Some(PrecisionName::F32) => Precision::F32,
        None => context.settings.runtime.precision,
    };
    let model = Model::load(&Checkpoint::from_verified(&registry.verify(&version)?)?, precision)?;
    if !model.has_functions() {
        return Err(hinted(format!("{} has no function head", version.name), "train a version first: `mynah train`"));
    }
    Ok((model, version.name))
}

/// An example without a split of its own belongs where its text hashes to.
fn is_wanted(example: &Example, wanted: Option<SplitName>) -> bool {
    wanted.is_none_or(|wanted| example.split.unwrap_or_else(|| mynah_data::split_of(example)) == wanted)
}
