//! What Prometheus reads: counters and gauges in base units (seconds, bytes), under the names of the field.
//!
//! HTTP's are those of OpenTelemetry's semantic conventions, the process's those of Prometheus's own clients. Invariant:
//! labels are words of this program (methods, route patterns, statuses, kinds), never what somebody sent.

use std::time::{Duration, SystemTime};

use prometheus::core::Collector;
use prometheus::{
    Counter, Encoder, Gauge, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

/// The upper bounds of the buckets of a request's duration, in seconds: from a reply out of memory to the time limit.
const SECONDS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

/// What is counted, and what is looked up when somebody asks.
pub struct Metrics {
    registry: Registry,
    requests: HistogramVec,
    refused: IntCounterVec,
    active: IntGauge,
    replies: IntCounterVec,
    feedback: IntCounterVec,
    webhooks: IntCounterVec,
    production: IntGaugeVec,
    jobs: IntGaugeVec,
    sessions: IntGauge,
    new_labels: IntGauge,
    journal: IntGauge,
    resident: IntGauge,
    cpu: Counter,
    files: IntGauge,
}

/// What is looked up when somebody asks.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// What is in production.
    pub production: Option<String>,
    /// How many jobs are in each state.
    pub jobs: Vec<(String, i64)>,
    /// Sessions that nobody has ended.
    pub open_sessions: usize,
    /// Labels that production has not learned from.
    pub new_labels: usize,
    /// Entries of the journal.
    pub journal_entries: u64,
    /// Requests at work.
    pub active: usize,
}

impl Metrics {
    /// Everything at nought.
    ///
    /// # Errors
    /// Never with the names below, which are valid and each used once.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            kept(&registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        let gauges =
            |name: &str, help: &str, labels: &[&str]| kept(&registry, IntGaugeVec::new(Opts::new(name, help), labels)?);
        let gauge = |name: &str, help: &str| kept(&registry, IntGauge::new(name, help)?);
        let duration = HistogramOpts::new(
            "http_server_request_duration_seconds",
            "Time from a request's head to its reply, by route and status.",
        );
        let labels = ["http_request_method", "http_route", "http_response_status_code"];
        let requests = kept(&registry, HistogramVec::new(duration.buckets(SECONDS.to_vec()), &labels)?)?;
        let info = gauges("mynah_build_info", "The program; always 1.", &["version"])?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let started = kept(
            &registry,
            Gauge::new("process_start_time_seconds", "When the process started, in seconds since 1970.")?,
        )?;
        started.set(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64());
        Ok(Self {
            requests,
            refused: counters("mynah_refused_requests_total", "Requests that got an error, by its code.", &["code"])?,
            active: gauge("http_server_active_requests", "Requests at work.")?,
            replies: counters("mynah_replies_total", "Replies, by kind and by who decided.", &["kind", "source"])?,
            feedback: counters("mynah_feedback_total", "Opinions on replies, by what they say.", &["opinion"])?,
            webhooks: counters(
                "mynah_webhook_deliveries_total",
                "Calls of webhooks, by how they ended.",
                &["outcome"],
            )?,
            production: gauges("mynah_production_info", "What is in production; always 1.", &["version"])?,
            jobs: gauges("mynah_jobs", "Jobs that are remembered, by state.", &["state"])?,
            sessions: gauge("mynah_open_sessions", "Sessions that nobody has ended.")?,
            new_labels: gauge("mynah_new_labels", "Labels that production has not learned from.")?,
            journal: gauge("mynah_journal_entries", "Decisions in the journal of the registry.")?,
            resident: gauge("process_resident_memory_bytes", "Resident memory, in bytes.")?,
            cpu: kept(&registry, Counter::new("process_cpu_seconds_total", "Time of the processors, in seconds.")?)?,
            files: gauge("process_open_fds", "Open file descriptors.")?,
            registry,
        })
    }

    /// Notes a request that was answered.
    pub fn request(&self, method: &str, route: &str, status: u16, took: Duration) {
        let status = status.to_string();
        self.requests.with_label_values(&[method, route, status.as_str()]).observe(took.as_secs_f64());
    }

    /// Notes an error.
    pub fn refused(&self, code: &str) {
        self.refused.with_label_values(&[code]).inc();
    }

    /// Notes a reply.
    pub fn reply(&self, kind: &str, source: &str) {
        self.replies.with_label_values(&[kind, source]).inc();
    }

    /// Notes an opinion: `up`, `down` or `correction`.
    pub fn feedback(&self, opinion: &str) {
        self.feedback.with_label_values(&[opinion]).inc();
    }

    /// Notes the end of a webhook's call: `delivered` or `failed`.
    pub fn webhook(&self, outcome: &str) {
        self.webhooks.with_label_values(&[outcome]).inc();
    }

    /// Everything in Prometheus's text format.
    ///
    /// # Errors
    /// When the text cannot be put together.
    pub fn text(&self, snapshot: &Snapshot) -> prometheus::Result<Vec<u8>> {
        let size = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.production.reset();
        if let Some(version) = &snapshot.production {
            self.production.with_label_values(&[version.as_str()]).set(1);
        }
        self.jobs.reset();
        for (state, number) in &snapshot.jobs {
            self.jobs.with_label_values(&[state.as_str()]).set(*number);
        }
        self.sessions.set(size(snapshot.open_sessions));
        self.new_labels.set(size(snapshot.new_labels));
        self.journal.set(i64::try_from(snapshot.journal_entries).unwrap_or(i64::MAX));
        self.active.set(size(snapshot.active));
        if let Some(process) = Process::now() {
            self.resident.set(process.resident_bytes);
            // The system counts; this shows it.
            self.cpu.reset();
            self.cpu.inc_by(process.cpu_seconds);
            self.files.set(process.open_files);
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

fn kept<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

/// What Linux says of this process.
struct Process {
    resident_bytes: i64,
    cpu_seconds: f64,
    open_files: i64,
}

impl Process {
    /// `None` where there is no `/proc`.
    fn now() -> Option<Self> {
        // proc(5): pages of 4096 bytes and ticks of a hundredth of a second, as on every Linux this runs on.
        const PAGE: i64 = 4096;
        const TICKS: f64 = 100.0;
        let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
        let resident: i64 = pages.split(' ').nth(1)?.parse().ok()?;
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The name in brackets may hold spaces; utime and stime are fields 14 and 15 of all, 12 and 13 after it.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
        let open_files = std::fs::read_dir("/proc/self/fd").ok()?.count();
        Some(Self {
            resident_bytes: resident * PAGE,
            cpu_seconds: (ticks(11)? + ticks(12)?) / TICKS,
            open_files: i64::try_from(open_files).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_names_help_and_units() {
        let metrics = Metrics::new().unwrap();
        metrics.request("POST", "/chat", 200, Duration::from_millis(3));
        metrics.reply("call", "model");
        let snapshot = Snapshot {
            production: Some("v2".into()),
            jobs: vec![("running".into(), 1)],
            open_sessions: 3,
            ..Snapshot::default()
        };
        let text = String::from_utf8(metrics.text(&snapshot).unwrap()).unwrap();
        for line in [
            "# TYPE http_server_request_duration_seconds histogram",
            "mynah_replies_total{kind=\"call\",source=\"model\"} 1",
            "mynah_production_info{version=\"v2\"} 1",
            "mynah_jobs{state=\"running\"} 1",
            "mynah_open_sessions 3",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        let later = metrics.text(&Snapshot::default()).unwrap();
        assert!(!String::from_utf8(later).unwrap().contains("mynah_production_info{version=\"v2\"}"));
    }
}
