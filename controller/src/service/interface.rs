//! What the HTTP interface keeps between requests.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use serde_json::Value;

use super::access::Tokens;
use super::limits::{Places, Rate};
use super::metrics::Metrics;
use super::openai;
use super::telemetry::Telemetry;
use crate::commands::Context;

/// Tokens, limits, figures and what OpenAI's endpoints remember.
pub struct Interface {
    /// Who may ask.
    pub tokens: Tokens,
    /// Names beside loopback's that this machine goes by.
    pub hosts: Vec<String>,
    /// How often a client may ask.
    pub rate: Rate,
    /// How many requests may be at work.
    pub places: Places,
    /// What is counted.
    pub metrics: Metrics,
    /// Where spans go.
    pub telemetry: Telemetry,
    /// The OpenAPI document, once somebody wanted it.
    pub document: OnceLock<Value>,
    /// What OpenAI's endpoints remember.
    pub openai: openai::Memory,
    /// Whether the model has answered once.
    pub warmed: AtomicBool,
}

impl Interface {
    /// As the settings say, with the tokens of the home.
    ///
    /// # Errors
    /// When the tokens can be neither read nor made.
    pub fn new(context: &Context) -> anyhow::Result<Self> {
        let settings = &context.settings.service;
        Ok(Self {
            tokens: Tokens::of_home(&context.home)?,
            hosts: settings.hosts.iter().cloned().chain(own_address(&settings.listen)).collect(),
            rate: Rate::new(settings.requests_per_second),
            places: Places::new(settings.max_requests),
            metrics: Metrics::new()?,
            telemetry: Telemetry::new(&settings.telemetry, settings.tls_certificate.is_some())?,
            document: OnceLock::new(),
            openai: openai::Memory::default(),
            warmed: AtomicBool::new(false),
        })
    }
}

/// The address itself, by which no web page of another name can ask.
fn own_address(listen: &str) -> Option<String> {
    let address = listen.parse::<SocketAddr>().ok()?.ip();
    (!address.is_unspecified()).then(|| address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_was_chosen_may_be_asked_for() {
        assert_eq!(own_address("192.168.0.2:7878").as_deref(), Some("192.168.0.2"));
        assert_eq!(own_address("0.0.0.0:7878"), None);
    }
}
