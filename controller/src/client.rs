//! Asking the service of a home, when one runs.
//!
//! `service.json` names address, token and process. A file whose service does not answer to its token is left over from a
//! killed process and ignored: the command then does the work itself.

pub mod pinned;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use mynah_data::{Correction, Home, Rating};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::conversation::Reply;
use crate::failure::hinted;
use crate::learning::Scope;
use crate::service::jobs::Job;
use crate::service::wire::{Problem, ServiceStatus};

/// How long a live service may take to say that it lives.
const ALIVE_WITHIN: Duration = Duration::from_secs(2);

/// What `service.json` holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServiceFile {
    /// Host and port.
    pub address: String,
    /// The bearer token.
    pub token: String,
    /// The process.
    pub pid: u32,
    /// The SHA-256 of its certificate, where it speaks TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
}

impl ServiceFile {
    /// Where the file is.
    pub fn path(home: &Home) -> PathBuf {
        home.root().join("service.json")
    }

    /// Where it answers this machine, such as `http://127.0.0.1:7878`.
    pub fn url(&self) -> String {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        let address = self.address.parse::<SocketAddr>().ok().map(|mut address| {
            // Listening on all addresses is no address to ask.
            match address.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
                IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
                _ => {}
            }
            address.to_string()
        });
        format!("{scheme}://{}", address.unwrap_or_else(|| self.address.clone()))
    }

    /// What asks it.
    ///
    /// # Errors
    /// When the system has no room for a connection.
    pub fn http(&self) -> anyhow::Result<reqwest::Client> {
        // Without a certificate none is taken, and those of the system are not looked for.
        let tls = pinned::only(self.certificate.as_deref().unwrap_or_default())?;
        Ok(reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls).build()?)
    }
}

/// A connection to the live service of a home.
pub struct Client {
    file: ServiceFile,
    http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl Client {
    /// Connects when `service.json` names a service that answers.
    pub fn connect(home: &Home) -> Option<Self> {
        let file: ServiceFile = serde_json::from_slice(&std::fs::read(ServiceFile::path(home)).ok()?).ok()?;
        let http = file.http().ok()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        let client = Self { file, http, runtime };
        let status = client.http.get(client.at("/status")).bearer_auth(&client.file.token).timeout(ALIVE_WITHIN);
        let alive =
            client.runtime.block_on(async { status.send().await.is_ok_and(|response| response.status().is_success()) });
        alive.then_some(client)
    }

    /// Host and port.
    pub fn address(&self) -> &str {
        &self.file.address
    }

    /// Where the service answers, such as `http://127.0.0.1:7878`.
    pub fn url(&self) -> String {
        self.file.url()
    }

    /// The service's process.
    pub fn pid(&self) -> u32 {
        self.file.pid
    }

    /// Says something in a session; a new one when `session` is `None`.
    ///
    /// # Errors
    /// What the service answers.
    pub fn chat(&self, session: Option<&str>, message: &str, explain: bool) -> anyhow::Result<Reply> {
        self.post("/chat", &json!({"session": session, "message": message, "explain": explain}))
    }

    /// Gives an opinion on a reply.
    ///
    /// # Errors
    /// What the service answers.
    pub fn feedback(
        &self,
        interaction: &str,
        rating: Option<Rating>,
        correction: Option<Correction>,
    ) -> anyhow::Result<()> {
        let body = json!({"interaction": interaction, "rating": rating, "correction": correction});
        self.post::<Value>("/feedback", &body).map(|_| ())
    }

    /// Ends a session.
    ///
    /// # Errors
    /// What the service answers.
    pub fn end(&self, session: &str) -> anyhow::Result<()> {
        self.post::<Value>(&format!("/sessions/{session}/end"), &json!({})).map(|_| ())
    }

    /// Asks for a fine-tune and returns the job's id.
    ///
    /// # Errors
    /// What the service answers.
    pub fn fine_tune(&self, training: &Map<String, Value>, scope: Scope) -> anyhow::Result<String> {
        #[derive(Deserialize)]
        struct Accepted {
            job: String,
        }
        Ok(self
            .post::<Accepted>(
                "/fine-tune",
                &json!({"training": training, "scope": scope.learns, "force": scope.forced}),
            )?
            .job)
    }

    /// Looks at a job.
    ///
    /// # Errors
    /// What the service answers.
    pub fn job(&self, id: &str) -> anyhow::Result<Job> {
        self.send(self.http.get(self.at(&format!("/jobs/{id}"))))
    }

    /// Stops a job; one at work ends within a second.
    ///
    /// # Errors
    /// What the service answers.
    pub fn cancel(&self, id: &str) -> anyhow::Result<Job> {
        self.post::<Job>(&format!("/jobs/{id}/cancel"), &json!({}))
    }

    /// What the service is doing.
    ///
    /// # Errors
    /// What the service answers.
    pub fn status(&self) -> anyhow::Result<ServiceStatus> {
        self.send(self.http.get(self.at("/status")))
    }

    /// What the service waits for, watches and tries.
    ///
    /// # Errors
    /// What the service answers.
    pub fn control(&self) -> anyhow::Result<Value> {
        self.send(self.http.get(self.at("/control")))
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.file.url())
    }

    fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> anyhow::Result<T> {
        self.send(self.http.post(self.at(path)).json(body))
    }

    fn send<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> anyhow::Result<T> {
        self.runtime.block_on(async {
            let lost = |error: reqwest::Error| {
                hinted(
                    format!("the service at {} does not answer: {error}", self.file.address),
                    "start it again with `mynah serve`, or try again without it",
                )
            };
            let response = request.bearer_auth(&self.file.token).send().await.map_err(lost)?;
            let status = response.status();
            let bytes = response.bytes().await.map_err(lost)?;
            if status.is_success() {
                return Ok(serde_json::from_slice(&bytes)?);
            }
            match serde_json::from_slice::<Problem>(&bytes) {
                Ok(problem) => Err(hinted(problem.detail, problem.hint)),
                Err(_) => {
                    Err(hinted(format!("the service answered {status}"), "is something else listening on its port?"))
                }
            }
        })
    }
}
