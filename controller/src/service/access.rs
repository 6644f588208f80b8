//! Who may ask: bearer tokens from files that only their owner can read, known hosts, no web pages.
//!
//! The `Host` header is checked because a web page in the user's own browser can reach loopback ports under a name of its
//! own (DNS rebinding), and `Origin` and `Sec-Fetch-Site` because it can send requests blindly (CSRF). Invariant: a token is
//! compared in constant time and is in no log, error or list of arguments.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mynah_data::Home;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::problem::{Code, ServiceError};
use crate::client::ServiceFile;

/// What a request may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Anybody may ask this.
    Anybody,
    /// Look at things, and have texts understood without a trace.
    Read,
    /// Everything.
    Admin,
}

impl Scope {
    /// The word in the OpenAPI document and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anybody => "anybody",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }
}

/// The two tokens of a home.
pub struct Tokens {
    admin: String,
    read: String,
}

impl Tokens {
    /// The file of the token that may do everything.
    pub fn admin_path(home: &Home) -> PathBuf {
        home.root().join("service.token")
    }

    /// The file of the token that may read.
    pub fn read_path(home: &Home) -> PathBuf {
        home.root().join("service.read.token")
    }

    /// Reads the tokens of a home; those that are missing are made.
    ///
    /// # Errors
    /// What the system said.
    pub fn of_home(home: &Home) -> io::Result<Self> {
        Ok(Self { admin: read_or_make(&Self::admin_path(home))?, read: read_or_make(&Self::read_path(home))? })
    }

    /// The token that may do everything.
    pub fn admin(&self) -> &str {
        &self.admin
    }

    /// What an `Authorization` header may do; takes as long for every wrong token.
    pub fn scope(&self, header: Option<&str>) -> Scope {
        let given = header
            .and_then(|header| header.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let Some((_, given)) = given else { return Scope::Anybody };
        // Digests: of one length, whatever was given.
        let digest = |text: &str| -> [u8; 32] { Sha256::digest(text).into() };
        let given = digest(given.trim());
        let is = |token: &str| -> bool { given.ct_eq(&digest(token)).into() };
        match (is(&self.admin), is(&self.read)) {
            (true, _) => Scope::Admin,
            (false, true) => Scope::Read,
            (false, false) => Scope::Anybody,
        }
    }
}

/// Checks that a header's token suffices.
///
/// # Errors
/// [`Code::Unauthorized`] without a token, [`Code::Forbidden`] with one that may less.
pub fn authorize(given: Scope, needed: Scope) -> Result<(), ServiceError> {
    match given {
        given if given >= needed => Ok(()),
        Scope::Anybody => Err(ServiceError::refused(Code::Unauthorized, "the request has no valid token")),
        _ => Err(ServiceError::refused(Code::Forbidden, "the token may look at things, and this changes something")),
    }
}

/// Checks that a request names this machine and comes from no web page elsewhere.
///
/// # Errors
/// [`Code::ForeignHost`], [`Code::ForeignOrigin`].
pub fn check_origin(headers: &HeaderMap, hosts: &[String]) -> Result<(), ServiceError> {
    let text = |name: header::HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = text(header::HOST).unwrap_or_default();
    let known = |host: &str| is_loopback(host) || hosts.iter().any(|known| known.eq_ignore_ascii_case(name_of(host)));
    if !known(host) {
        return Err(ServiceError::refused(Code::ForeignHost, format!("host `{host}` is not this machine's")));
    }
    let own = |origin: &str| origin.split_once("://").is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(host));
    if let Some(origin) = text(header::ORIGIN).filter(|origin| !own(origin)) {
        return Err(ServiceError::refused(Code::ForeignOrigin, format!("a page of `{origin}` asked")));
    }
    match headers.get("sec-fetch-site").map(|value| value.as_bytes()) {
        None | Some(b"same-origin" | b"none") => Ok(()),
        Some(_) => Err(ServiceError::refused(Code::ForeignOrigin, "a page of another site asked")),
    }
}

/// Whether a `Host` header names this machine.
pub fn is_loopback(host: &str) -> bool {
    let name = name_of(host);
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The name in a `Host` header, without its port.
fn name_of(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    }
}

/// A new token of 256 bits.
///
/// Random bits come from version 7 UUIDs, of which the first of a process has 74 and each further one at least 32.
fn new_token() -> String {
    let mut hasher = Sha256::new();
    for _ in 0..8 {
        hasher.update(uuid::Uuid::now_v7().as_bytes());
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The secret of a file, `whsec_` and base64 (anything else is taken as it is); one that is missing is made.
///
/// # Errors
/// What the system said.
pub fn webhook_secret(path: &Path) -> io::Result<Vec<u8>> {
    const PREFIX: &str = "whsec_";
    if !path.exists() {
        let secret: [u8; 32] = Sha256::digest(new_token()).into();
        write_private(path, format!("{PREFIX}{}\n", BASE64.encode(secret)).as_bytes())?;
    }
    let text = std::fs::read_to_string(path)?;
    let text = text.trim();
    let decoded = text.strip_prefix(PREFIX).and_then(|text| BASE64.decode(text).ok());
    Ok(decoded.unwrap_or_else(|| text.as_bytes().to_vec()))
}

/// The token of a file; what is too short to be one is replaced.
fn read_or_make(path: &Path) -> io::Result<String> {
    const SHORTEST: usize = 16;
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().len() >= SHORTEST => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let token = new_token();
    write_private(path, format!("{token}\n").as_bytes())?;
    Ok(token)
}

/// Writes `service.json`, readable for its owner only.
///
/// # Errors
/// What the system said.
pub fn write(path: &Path, file: &ServiceFile) -> io::Result<()> {
    write_private(path, &serde_json::to_vec_pretty(file)?)
}

/// Writes a file that is its owner's only from its first byte on, whole or not at all.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let _ = std::fs::remove_file(&temporary);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut out = options.open(&temporary)?;
    out.write_all(bytes)?;
    out.sync_all()?;
    std::fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_pass() {
        for host in ["127.0.0.1:7878", "localhost", "LOCALHOST:80", "[::1]:7878", "127.0.0.9"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["", "example.com", "127.0.0.1.example.com", "localhost.example.com:80", "192.168.0.2", "[::2]:1"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_token_says_what_may_be_done() {
        let tokens = Tokens { admin: new_token(), read: new_token() };
        assert_eq!(tokens.admin.len(), 64);
        assert_ne!(tokens.admin, tokens.read);
        let scope = |header: &str| tokens.scope(Some(header));
        assert_eq!(scope(&format!("Bearer {}", tokens.admin)), Scope::Admin);
        assert_eq!(scope(&format!("bearer {}", tokens.read)), Scope::Read);
        for header in ["", "Bearer", "Bearer x", &tokens.admin, &format!("Basic {}", tokens.admin)] {
            assert_eq!(scope(header), Scope::Anybody, "{header:?}");
        }
        assert_eq!(tokens.scope(None), Scope::Anybody);
        assert_eq!(authorize(Scope::Read, Scope::Admin).unwrap_err().code(), Code::Forbidden);
        assert_eq!(authorize(Scope::Anybody, Scope::Read).unwrap_err().code(), Code::Unauthorized);
        assert!(authorize(Scope::Admin, Scope::Read).is_ok() && authorize(Scope::Anybody, Scope::Anybody).is_ok());
    }

    #[test]
    fn pages_of_other_sites_may_not_ask() {
        let code = |headers: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.insert(*name, value.parse().unwrap());
            }
            check_origin(&map, &["mynah.example".to_owned()]).map_err(|error| error.code())
        };
        let local = ("host", "127.0.0.1:1");
        assert_eq!(code(&[local]), Ok(()));
        assert_eq!(code(&[("host", "mynah.example:7878")]), Ok(()));
        assert_eq!(code(&[local, ("origin", "http://127.0.0.1:1")]), Ok(()));
        assert_eq!(code(&[local, ("sec-fetch-site", "none")]), Ok(()));
        assert_eq!(code(&[("host", "evil.example")]), Err(Code::ForeignHost));
        assert_eq!(code(&[]), Err(Code::ForeignHost));
        for foreign in ["http://evil.example", "null", "http://127.0.0.1:2", "127.0.0.1:1"] {
            assert_eq!(code(&[local, ("origin", foreign)]), Err(Code::ForeignOrigin), "{foreign}");
        }
        assert_eq!(code(&[local, ("sec-fetch-site", "cross-site")]), Err(Code::ForeignOrigin));
    }

    #[cfg(unix)]
    #[test]
    fn files_are_for_their_owner_only_and_tokens_stay() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let home = Home::new(directory.path());
        let first = Tokens::of_home(&home).unwrap();
        let second = Tokens::of_home(&home).unwrap();
        assert_eq!((&first.admin, &first.read), (&second.admin, &second.read));
        let file = ServiceFile::path(&home);
        for _ in 0..2 {
            write(&file, &ServiceFile { address: "127.0.0.1:1".into(), token: "t".into(), pid: 1, certificate: None })
                .unwrap();
        }
        for path in [Tokens::admin_path(&home), Tokens::read_path(&home), file] {
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
        }
        std::fs::write(Tokens::admin_path(&home), "").unwrap();
        assert_ne!(Tokens::of_home(&home).unwrap().admin, first.admin, "an empty file is no token");
    }
}
