//! A model hub on a loopback port of its own, as far as hf-hub asks: the list of files at a revision, and files by range.
//!
//! Large files are redirected to a second path as the public hub does, with the digest in `X-Linked-Etag`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

/// The commit that every revision of the served model resolves to.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// One request as the server saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub path: String,
    pub range: Option<String>,
    pub authorization: Option<String>,
}

/// How the server misbehaves.
#[derive(Debug, Default)]
pub struct Faults {
    /// The next transfer of a file breaks off after so many bytes.
    pub cut: Option<(String, usize)>,
    /// This file arrives with one bit flipped.
    pub flip: Option<String>,
    /// Requests need this bearer token.
    pub token: Option<String>,
}

pub struct HubServer {
    pub endpoint: String,
    pub seen: Arc<Mutex<Vec<Seen>>>,
    pub faults: Arc<Mutex<Faults>>,
}

impl HubServer {
    /// Serves `files` as the model `id`.
    pub fn start(id: &str, files: BTreeMap<String, Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { endpoint, seen: Arc::default(), faults: Arc::default() };
        let shared = Shared { id: id.to_owned(), files, seen: server.seen.clone(), faults: server.faults.clone() };
        let shared = Arc::new(shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        server
    }

    pub fn requests(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

struct Shared {
    id: String,
    files: BTreeMap<String, Vec<u8>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    faults: Arc<Mutex<Faults>>,
}

impl Shared {
    /// One request a connection, so that a broken-off transfer needs no bookkeeping.
    fn serve(&self, mut stream: TcpStream) {
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let Some(Ok(request)) = lines.next() else {
            return;
        };
        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
        let headers: BTreeMap<String, String> = lines
            .map_while(Result::ok)
            .take_while(|line| !line.is_empty())
            .filter_map(|line| {
                line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            })
            .collect();
        let seen = Seen {
            path: path.clone(),
            range: headers.get("range").cloned(),
            authorization: headers.get("authorization").cloned(),
        };
        let answer = self.answer(&seen);
        self.seen.lock().unwrap().push(seen);
        let _ = stream.write_all(&answer);
    }

    fn answer(&self, seen: &Seen) -> Vec<u8> {
        let mut faults = self.faults.lock().unwrap();
        let wanted = faults.token.as_ref().map(|token| format!("Bearer {token}"));
        if !seen.path.starts_with("/cdn/") && wanted.is_some() && seen.authorization != wanted {
            return response("401 Unauthorized", &[], b"{}");
        }
        let api = format!("/api/models/{}/revision/", self.id);
        if seen.path.starts_with(&api) {
            let siblings: Vec<_> = self.files.keys().map(|name| serde_json::json!({"rfilename": name})).collect();
            let body = serde_json::json!({"id": self.id, "sha": COMMIT, "siblings": siblings}).to_string();
            return response("200 OK", &[("Content-Type", "application/json".into())], body.as_bytes());
        }
        let resolve = format!("/{}/resolve/{COMMIT}/", self.id);
        if let Some(name) = seen.path.strip_prefix(&resolve)
            && let Some(bytes) = self.files.get(name)
        {
            if name.ends_with(".safetensors") {
                let headers = [
                    ("Location", format!("/cdn/{name}")),
                    ("X-Linked-Etag", format!("\"{}\"", sha256(bytes))),
                    ("X-Repo-Commit", COMMIT.to_owned()),
                ];
                return response("302 Found", &headers, b"");
            }
            let etag = sha256(bytes)[..40].to_owned();
            return self.ranged(seen, name, bytes, &etag, &mut faults);
        }
        if let Some(name) = seen.path.strip_prefix("/cdn/")
            && let Some(bytes) = self.files.get(name)
        {
            return self.ranged(seen, name, bytes, &sha256(bytes), &mut faults);
        }
        response("404 Not Found", &[], b"{\"error\":\"Repository not found\"}")
    }

    fn ranged(&self, seen: &Seen, name: &str, bytes: &[u8], etag: &str, faults: &mut Faults) -> Vec<u8> {
        let range = seen
            .range
            .as_deref()
            .and_then(|range| range.strip_prefix("bytes="))
            .and_then(|range| range.split_once('-'));
        let Some((start, end)) = range else {
            return response("200 OK", &[], bytes);
        };
        let start: usize = start.parse().unwrap();
        let end = end.parse().map_or(bytes.len(), |end: usize| (end + 1).min(bytes.len()));
        if start >= bytes.len() {
            return response("416 Range Not Satisfiable", &[], b"");
        }
        let headers = [
            ("ETag", format!("\"{etag}\"")),
            ("X-Repo-Commit", COMMIT.to_owned()),
            ("Content-Range", format!("bytes {start}-{}/{}", end - 1, bytes.len())),
        ];
        let mut part = bytes[start..end].to_vec();
        if faults.flip.as_deref() == Some(name) && end - start > 1 {
            let middle = part.len() / 2;
            part[middle] ^= 1;
        }
        let mut whole = response("206 Partial Content", &headers, &part);
        if end - start > 1
            && let Some((_, length)) = faults.cut.take_if(|(cut, _)| cut == name)
        {
            whole.truncate(whole.len() - part.len() + length);
        }
        whole
    }
}

fn response(status: &str, headers: &[(&str, String)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
