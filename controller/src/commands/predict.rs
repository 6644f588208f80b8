//! `mynah predict`: one understanding a line, in the order of the input, in flat memory.

mod lines;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};

use jiff::Zoned;
use mynah_data::{Functions, Slot};
use mynah_pipelines::decided;
use mynah_runtime::functions::Toolbox;
use mynah_runtime::normalise::Normalised;
use mynah_runtime::{Calibration, Model, Prediction};
use serde::Serialize;
use serde_json::Value;

use super::Context;
use super::evaluate::load;
use crate::cli::PredictArgs;
use crate::failure::{Exit, hinted, usage};
use crate::output::count;
use lines::Input;
pub(super) use lines::Texts;

/// Texts that go through the model together.
const BATCH: usize = 64;

/// What one line of the input means.
#[derive(Debug, Serialize)]
struct Understanding<'a> {
    text: &'a str,
    function: Option<&'a str>,
    arguments: Vec<Argument<'a>>,
    confidence: f32,
    alternatives: Vec<Alternative<'a>>,
    version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_logits: Option<BTreeMap<&'a str, f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Argument<'a> {
    name: &'a str,
    value: Value,
    raw: &'a str,
    start: usize,
    end: usize,
}

#[derive(Debug, Serialize)]
struct Alternative<'a> {
    function: &'a str,
    confidence: f32,
}

/// Reads texts and prints what they mean.
///
/// # Errors
/// When the version or the file is no good, or nobody reads the output.
pub fn run(context: &Context, args: &PredictArgs) -> anyhow::Result<Exit> {
    if args.logits && !context.output.json {
        return Err(usage("--logits without --json", "add --json: the scores are part of each line's object"));
    }
    let (model, version) = load(context, &context.registry()?, &args.version, args.precision)?;
    let reader: Box<dyn Read> = match args.input.as_deref() {
        None => Box::new(io::stdin()),
        Some(path) if path == std::path::Path::new("-") => Box::new(io::stdin()),
        Some(path) => Box::new(File::open(path).map_err(|error| {
            hinted(
                format!("cannot read {}: {error}", path.display()),
                "check the path; without --input standard input is read",
            )
        })?),
    };
    let mut calibration = model.calibration().clone();
    if let Some(threshold) = context.settings.runtime.threshold {
        calibration.threshold = threshold;
    }
    if let Some(threshold) = context.settings.runtime.scope_threshold {
        calibration.scope_threshold = threshold;
    }
    let predictor = Predictor {
        model: &model,
        calibration,
        toolbox: toolbox(context)?,
        version: &version,
        json: context.output.json,
        logits: args.logits,
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let mut wrong = 0;
    let mut batch: Vec<Input> = Vec::with_capacity(BATCH);
    for input in Texts::new(reader) {
        let input = input?;
        wrong += usize::from(input.error.is_some());
        // Somebody who types wants the answer to the line, not to the batch.
        let full = batch.len() + 1 >= BATCH || context.environment.stdin_is_terminal;
        batch.push(input);
        if full {
            predictor.write(&mut out, &batch)?;
            batch.clear();
        }
    }
    predictor.write(&mut out, &batch)?;
    if wrong > 0 {
        context.output.complain(format_args!(
            "{} could not be understood as text; see `error` in the output",
            count(wrong, "line")
        ));
        return Ok(Exit::Partial);
    }
    Ok(Exit::Done)
}

struct Predictor<'a> {
    model: &'a Model,
    calibration: Calibration,
    toolbox: Toolbox,
    version: &'a str,
    json: bool,
    logits: bool,
}

impl Predictor<'_> {
    fn write(&self, out: &mut impl Write, batch: &[Input]) -> io::Result<()> {
        let texts: Vec<&str> = batch.iter().map(|input| input.text.as_str()).collect();
        let now = Zoned::now();
        for (input, prediction) in batch.iter().zip(self.model.predict_batch(&texts)) {
            let understanding = self.understand(input, &prediction, &now);
            if self.json {
                serde_json::to_writer(&mut *out, &understanding)?;
                out.write_all(b"\n")?;
            } else {
                writeln!(out, "{}", in_words(&understanding))?;
            }
        }
        out.flush()
    }

    fn understand<'a>(&'a self, input: &'a Input, prediction: &'a Prediction, now: &Zoned) -> Understanding<'a> {
        let mut understanding = Understanding {
            text: &input.text,
            function: None,
            arguments: Vec::new(),
            confidence: 0.0,
            alternatives: Vec::new(),
            version: self.version,
            function_logits: self.logits.then(|| self.logits(prediction)),
            error: input.error.as_deref(),
        };
        // A line without words means nothing, whatever the network makes of it.
        if input.error.is_some() || input.text.trim().is_empty() {
            return understanding;
        }
        understanding.confidence = prediction.confidence;
        understanding.function = decided(prediction, &self.calibration);
        if let Some(function) = understanding.function {
            understanding.arguments = prediction.slots.iter().map(|slot| self.argument(function, slot, now)).collect();
        }
        understanding.alternatives = prediction
            .probabilities
            .iter()
            .filter(|(name, _)| understanding.function != Some(name))
            .map(|(function, confidence)| Alternative { function, confidence: *confidence })
            .collect();
        understanding
    }

    /// What the function head said of every function, whatever came of it.
    fn logits(&self, prediction: &Prediction) -> BTreeMap<&str, f32> {
        let functions = self.model.labels().functions.iter().map(String::as_str);
        functions.zip(prediction.function_logits.iter().copied()).collect()
    }

    /// The argument with the value that its schema makes of the words; the words themselves without a schema.
    fn argument<'a>(&self, function: &str, slot: &'a Slot, now: &Zoned) -> Argument<'a> {
        let parameter = self.toolbox.get(function).and_then(|tool| tool.parameter(&slot.name));
        let value = match parameter.and_then(|parameter| parameter.read(&slot.value, now)) {
            Some(Normalised::Exact(value) | Normalised::Verbatim(value)) => value,
            _ => Value::String(slot.value.clone()),
        };
        Argument { name: &slot.name, value, raw: &slot.value, start: slot.start, end: slot.end }
    }
}

fn in_words(understanding: &Understanding<'_>) -> String {
    if let Some(error) = understanding.error {
        return format!("error: {error}");
    }
    let arguments: Vec<String> =
        understanding.arguments.iter().map(|argument| format!(" {}={}", argument.name, argument.value)).collect();
    format!("{}{}  ({:.2})", understanding.function.unwrap_or("–"), arguments.concat(), understanding.confidence)
}

fn toolbox(context: &Context) -> anyhow::Result<Toolbox> {
    let path = context.home.functions_path();
    match path.exists() {
        true => Ok(Toolbox::new(&Functions::load(&path)?)?),
        false => Ok(Toolbox::default()),
    }
}
