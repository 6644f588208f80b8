//! Telling others what was decided: a POST for every promotion, refusal, rollback and quarantine in the journal.
//!
//! The calls are those of the Standard Webhooks specification: `webhook-id`, `webhook-timestamp`, and `webhook-signature`
//! with an HMAC-SHA256 of both and the body. Invariant: an entry is told at least once, in the order of the journal, or
//! given up after its attempts; how far that got is in `service.webhooks` in the home, so that it outlives the process.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use mynah_registry::{Entry, Event, Registry};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::Service;
use super::access;
use super::signature::hmac_sha256;
use crate::commands::Context;

/// How often the journal is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a receiver may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The pause after the first attempt that failed; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// How often a pause looks whether the service stops.
const LOOK_FOR_STOP: Duration = Duration::from_millis(50);

/// Tells the receivers of the settings for as long as the service runs; ends at once when there are none.
pub(super) async fn run(service: Arc<Service>) {
    let settings = service.context.settings.service.webhooks.clone();
    if settings.urls.is_empty() {
        return;
    }
    let hooks = match service
        .blocking(|service| Hooks::open(&service.context).map_err(|error| super::ServiceError::internal(&error)))
        .await
    {
        Ok(hooks) => Arc::new(hooks),
        Err(error) => return tracing::error!("webhooks are not told: {error}"),
    };
    loop {
        let (hooks, of) = (hooks.clone(), service.clone());
        let told = tokio::task::spawn_blocking(move || {
            hooks.tell_news(|outcome| of.interface.metrics.webhook(outcome), || of.stopping.load(Ordering::Acquire))
        });
        match told.await {
            Ok(Err(error)) => tracing::warn!("webhooks: {error:#}"),
            Ok(Ok(())) => {}
            Err(error) => tracing::warn!("webhooks: {error}"),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// How a call ended.
enum Told {
    Delivered,
    Failed,
    /// The service stopped between two attempts.
    Stopped,
}

/// The receivers, and how far they were told.
struct Hooks {
    registry: Registry,
    urls: Vec<String>,
    attempts: u32,
    secret: Vec<u8>,
    position: PathBuf,
    agent: ureq::Agent,
}

impl Hooks {
    fn open(context: &Context) -> anyhow::Result<Self> {
        let settings = &context.settings.service.webhooks;
        let secret = match &settings.secret_file {
            Some(path) => path.clone(),
            None => context.home.root().join("service.webhook.secret"),
        };
        let hooks = Self {
            registry: context.registry()?,
            urls: settings.urls.clone(),
            attempts: settings.attempts.max(1),
            secret: access::webhook_secret(&secret)?,
            position: context.home.root().join("service.webhooks"),
            agent: ureq::Agent::config_builder().timeout_global(Some(ANSWER_WITHIN)).build().into(),
        };
        // What was decided before anybody listened is no news.
        if hooks.told_until().is_none() {
            hooks.note(hooks.registry.journal_head()?)?;
        }
        Ok(hooks)
    }

    fn told_until(&self) -> Option<u64> {
        std::fs::read_to_string(&self.position).ok()?.trim().parse().ok()
    }

    fn note(&self, sequence: u64) -> std::io::Result<()> {
        let temporary = self.position.with_extension("webhooks.tmp");
        std::fs::write(&temporary, sequence.to_string())?;
        std::fs::rename(&temporary, &self.position)
    }

    /// Tells every receiver of everything that was decided since the last time.
    fn tell_news(&self, count: impl Fn(&str), is_stopping: impl Fn() -> bool) -> anyhow::Result<()> {
        let told = self.told_until().unwrap_or_default();
        if self.registry.journal_head()? <= told {
            return Ok(());
        }
        for entry in self.registry.log()?.into_iter().filter(|entry| entry.sequence > told) {
            if let Some(news) = news(&entry) {
                for url in &self.urls {
                    match self.tell(url, &entry, &news, &is_stopping) {
                        Told::Delivered => count("delivered"),
                        Told::Failed => count("failed"),
                        // The next start tells it.
                        Told::Stopped => return Ok(()),
                    }
                }
            }
            self.note(entry.sequence)?;
        }
        Ok(())
    }

    /// Tells one receiver, as often as the settings allow.
    fn tell(&self, url: &str, entry: &Entry, news: &Value, is_stopping: &impl Fn() -> bool) -> Told {
        let body = news.to_string();
        // The same for every attempt, so that a receiver knows it again; different for another receiver's entry.
        let id = Sha256::digest(format!("{}:{}:{url}", entry.sequence, entry.at));
        let id: String = id.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let id = format!("msg_{id}");
        let mut pause = FIRST_PAUSE;
        for attempt in 1..=self.attempts {
            let timestamp = Timestamp::now().as_second().to_string();
            let sent = self
                .agent
                .post(url)
                .header("content-type", "application/json")
                .header("webhook-id", &id)
                .header("webhook-timestamp", &timestamp)
                .header("webhook-signature", &signature(&self.secret, &id, &timestamp, &body))
                .send(&body);
            match sent {
                Ok(_) => return Told::Delivered,
                Err(error) => tracing::warn!("webhook {url}, attempt {attempt} of {}: {error}", self.attempts),
            }
            if attempt < self.attempts {
                let until = Instant::now() + pause;
                while Instant::now() < until {
                    if is_stopping() {
                        return Told::Stopped;
                    }
                    std::thread::sleep(LOOK_FOR_STOP);
                }
                pause *= 2;
            }
        }
        Told::Failed
    }
}

/// `v1,` and the code of id, time and body.
fn signature(secret: &[u8], id: &str, timestamp: &str, body: &str) -> String {
    format!("v1,{}", BASE64.encode(hmac_sha256(secret, format!("{id}.{timestamp}.{body}").as_bytes())))
}

/// What a receiver is told of an entry; nothing for those that decide nothing about production.
fn news(entry: &Entry) -> Option<Value> {
    let (kind, version, before) = match &entry.event {
        Event::Promote { name, .. } => ("version.promoted", name, None),
        Event::Refuse { name, .. } => ("version.refused", name, None),
        Event::Rollback { from_name, to_name, .. } => ("version.rolled_back", to_name, Some(from_name)),
        Event::Quarantine { name, .. } => ("version.quarantined", name, None),
        _ => return None,
    };
    Some(json!({
        "type": kind,
        "timestamp": entry.at,
        "data": {"version": version, "before": before, "by": entry.actor, "reason": entry.reason, "sequence": entry.sequence},
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks specification's reference libraries.
    #[test]
    fn the_signature_is_that_of_the_specification() {
        let secret = BASE64.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = signature(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", "{\"test\": 2432232314}");
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
