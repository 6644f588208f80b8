//! Turns through the runtime, with and without the turns before them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use jiff::Zoned;
use mynah_data::Functions;
use mynah_runtime::functions::{Parameter, Toolbox};
use mynah_runtime::normalise::Normalised;
use mynah_runtime::{Argument, Mynah, RuntimeSettings, TurnsBefore};
use serde_json::Value;

use super::score::{Outcome, folded};
use super::sets::{DialogueTurn, Service, SetError};

/// How a turn is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// [`Mynah::predict`]: the text alone.
    Alone,
    /// [`Mynah::read`] of the text with nothing before it.
    WithoutContext,
    /// [`Mynah::read`] of the text with the turns before it.
    InContext,
}

impl Method {
    /// The name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::WithoutContext => "without_context",
            Self::InContext => "in_context",
        }
    }
}

/// A service with its functions, opened.
pub struct Opened {
    mynah: Mynah,
    toolbox: Toolbox,
    _home: tempfile::TempDir,
}

/// The day on which the dialogues of the data set take place ("today" is the first of March 2019, a Friday).
pub fn today() -> Zoned {
    jiff::civil::date(2019, 3, 1).at(10, 0, 0, 0).to_zoned(jiff::tz::TimeZone::UTC).unwrap_or_default()
}

/// Opens the services that the turns are about, each as a home of its own with nothing but its functions in it.
///
/// # Errors
/// When a service is unknown or its home cannot be made; `prepare` registers the model.
pub fn open(
    services: &[Service],
    turns: &[DialogueTurn],
    prepare: &dyn Fn(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<HashMap<String, Opened>> {
    let names: BTreeSet<&String> = turns.iter().map(|turn| &turn.service).collect();
    let mut opened = HashMap::new();
    for name in names {
        let service = services.iter().find(|service| service.name == *name);
        let service = service.ok_or_else(|| SetError::UnknownService { name: name.clone() })?;
        let home = tempfile::tempdir()?;
        let functions = service.functions().to_string();
        std::fs::write(home.path().join("functions.json"), &functions)?;
        prepare(home.path())?;
        let mynah = Mynah::builder(home.path()).settings(RuntimeSettings::default()).clock(today).open()?;
        let toolbox = Toolbox::new(&Functions::parse(&functions, "functions.json")?)?;
        opened.insert(name.clone(), Opened { mynah, toolbox, _home: home });
    }
    Ok(opened)
}

impl Opened {
    /// Reads a turn and compares.
    pub fn outcome(&self, turn: &DialogueTurn, method: Method) -> Outcome {
        let (function, arguments) = match method {
            Method::Alone => {
                let understood = self.mynah.predict(&turn.text);
                (understood.function, understood.arguments)
            }
            Method::WithoutContext => {
                let reading = self.mynah.read(&TurnsBefore::default(), &turn.text);
                (reading.function, reading.changes)
            }
            Method::InContext => {
                let reading = self.mynah.read(&self.before(turn), &turn.text);
                (reading.function, reading.changes)
            }
        };
        let is_none = |name: &str| name == "NONE";
        let function = function.filter(|name| !is_none(name));
        let wanted_function = Some(turn.intent.clone()).filter(|name| !is_none(name));
        let mut found: BTreeMap<&str, &Argument> = BTreeMap::new();
        for argument in &arguments {
            found.insert(&argument.name, argument);
        }
        let wanted = turn.update.iter().map(|(name, update)| {
            let same = found.get(name.as_str()).is_some_and(|argument| self.same(argument, &update.value));
            (update.source.clone(), same)
        });
        Outcome { intent: function == wanted_function, wanted: wanted.collect(), found: found.len() }
    }

    fn before(&self, turn: &DialogueTurn) -> TurnsBefore {
        let of = |speaker: &str| {
            turn.history.iter().filter(|said| said.speaker == speaker).map(|said| said.text.clone()).collect::<Vec<_>>()
        };
        let arguments = turn.known().into_iter().map(|(name, raw)| {
            let value = self.parameter(&name).and_then(|parameter| parameter.read(&raw, &today())?.value());
            Argument { value: value.unwrap_or_else(|| Value::String(raw.clone())), name, raw, start: 0, end: 0 }
        });
        TurnsBefore {
            heard: of("user"),
            said: of("system"),
            function: turn.prev_intent.clone().filter(|name| name != "NONE"),
            arguments: arguments.collect(),
        }
    }

    fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.toolbox.tools().find_map(|tool| tool.parameter(name))
    }

    fn same(&self, argument: &Argument, wanted: &str) -> bool {
        let value = match &argument.value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let read = self.parameter(&argument.name).and_then(|parameter| match parameter.read(wanted, &today()) {
            Some(Normalised::Exact(value)) => Some(value),
            _ => None,
        });
        read.as_ref() == Some(&argument.value)
            || [value.as_str(), &argument.raw].iter().any(|text| folded(text) == folded(wanted))
    }
}
