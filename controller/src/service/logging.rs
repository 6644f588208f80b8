//! What the service says of itself: lines for people or JSON for machines, on standard error.
//!
//! Invariant: neither texts nor headers are logged, so no token is.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::commands::Context;
use crate::failure::usage;

/// The form of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging.
///
/// # Errors
/// When `MYNAH_LOG` is no filter.
pub fn start(context: &Context) -> anyhow::Result<()> {
    let filter = context.environment.log_filter.as_deref().unwrap_or("warn,mynah_controller=info");
    let filter =
        EnvFilter::try_new(filter).map_err(|error| usage(format!("MYNAH_LOG: {error}"), "use e.g. MYNAH_LOG=info"))?;
    let coloured = context.output.error_style == crate::output::Style::Coloured;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(coloured)
        .with_target(false)
        .with_writer(std::io::stderr);
    // A second start in the same process (a test) keeps the first one's.
    let _ = match context.settings.service.log_format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.event_format(JsonLines).try_init(),
    };
    Ok(())
}

/// One JSON object an event: `timestamp`, `level`, `target`, `message`, and the event's own fields.
struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = Map::from_iter([
            ("timestamp".to_owned(), Value::from(Timestamp::now().to_string())),
            ("level".to_owned(), Value::from(event.metadata().level().as_str())),
            ("target".to_owned(), Value::from(event.metadata().target())),
        ]);
        event.record(&mut Fields(&mut line));
        writeln!(writer, "{}", Value::Object(line))
    }
}

struct Fields<'a>(&'a mut Map<String, Value>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), Value::from(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }
}
