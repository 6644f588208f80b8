//! Who may ask: a bearer token from a file that only its owner can read, and loopback names in the `Host` header.
//!
//! The header is checked because a web page in the user's own browser can reach loopback ports; its name is then another one.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::client::ServiceFile;

/// A new token of 256 bits.
///
/// Random bits come from version 7 UUIDs, of which the first of a process has 74 and each further one at least 32.
pub fn new_token() -> String {
    let mut hasher = Sha256::new();
    for _ in 0..8 {
        hasher.update(uuid::Uuid::now_v7().as_bytes());
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether an `Authorization` header carries the token; takes as long for every wrong one.
pub fn is_authorized(header: Option<&str>, token: &str) -> bool {
    let given =
        header.and_then(|header| header.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    given.is_some_and(|(_, given)| Sha256::digest(given.trim()) == Sha256::digest(token))
}

/// Whether a `Host` header names this machine.
pub fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Writes `service.json`, readable for its owner only from its first byte on.
///
/// # Errors
/// What the system said.
pub fn write(path: &Path, file: &ServiceFile) -> io::Result<()> {
    let temporary = path.with_extension("json.tmp");
    let _ = std::fs::remove_file(&temporary);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut out = options.open(&temporary)?;
    out.write_all(&serde_json::to_vec_pretty(file)?)?;
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
    fn only_the_token_passes() {
        let token = new_token();
        assert_eq!(token.len(), 64);
        assert_ne!(token, new_token());
        assert!(is_authorized(Some(&format!("Bearer {token}")), &token));
        assert!(is_authorized(Some(&format!("bearer {token}")), &token));
        for header in
            [None, Some(""), Some("Bearer"), Some("Bearer x"), Some(token.as_str()), Some(&format!("Basic {token}"))]
        {
            assert!(!is_authorized(header, &token), "{header:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn the_file_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("service.json");
        for _ in 0..2 {
            write(&path, &ServiceFile { address: "127.0.0.1:1".into(), token: "t".into(), pid: 1 }).unwrap();
        }
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
