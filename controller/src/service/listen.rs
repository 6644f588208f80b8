//! Connections: plain or TLS, with a time limit for the head of a request, drained when the service stops.
//!
//! Invariant: a connection is never kept waiting by another: handshakes and requests run in tasks of their own.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::routes::Peer;
use crate::client::pinned::fingerprint;
use crate::failure::hinted;

/// How long the head of a request, and a handshake, may take; and how long a connection may be idle.
const HEAD_WITHIN: Duration = Duration::from_secs(30);

/// Connections at a time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 1024;

/// The pause after an accept that failed for want of file descriptors.
const BREATHE: Duration = Duration::from_millis(50);

/// TLS, and the fingerprint of the certificate that is shown.
pub type Tls = (TlsAcceptor, String);

/// TLS with a certificate and its key, both PEM.
///
/// # Errors
/// When a file cannot be read or the two do not go together.
pub fn tls(certificate: &Path, key: &Path) -> anyhow::Result<Tls> {
    let hint = "tls_certificate and tls_key in [service] name PEM files: a certificate (chain) and its private key";
    let wrong = |path: &Path, error: &dyn std::fmt::Display| hinted(format!("{}: {error}", path.display()), hint);
    let open = |path: &Path| File::open(path).map(BufReader::new).map_err(|error| wrong(path, &error));
    let chain: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_reader_iter(open(certificate)?).collect();
    let chain = chain.map_err(|error| wrong(certificate, &error))?;
    let fingerprint = chain.first().map(fingerprint).unwrap_or_default();
    let private = PrivateKeyDer::from_pem_reader(open(key)?).map_err(|error| wrong(key, &error))?;
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|error| wrong(certificate, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((TlsAcceptor::from(Arc::new(config)), fingerprint))
}

/// Serves until `stop` says so and every request under way has its reply.
pub async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, router: Router, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // Every connection holds a sender; when the last one is gone, all have ended.
    let (alive, mut ended) = mpsc::channel::<()>(1);
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(BREATHE).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let (router, tls, stop, alive) = (router.clone(), tls.clone(), stop.clone(), alive.clone());
        tokio::spawn(async move {
            let _held = (place, alive);
            match tls {
                None => connection(stream, Peer(peer), router, stop).await,
                Some(tls) => match tokio::time::timeout(HEAD_WITHIN, tls.accept(stream)).await {
                    Ok(Ok(stream)) => connection(stream, Peer(peer), router, stop).await,
                    Ok(Err(error)) => tracing::debug!("a handshake failed: {error}"),
                    Err(_) => tracing::debug!("a handshake took too long"),
                },
            }
        });
    }
    drop(alive);
    let _ = ended.recv().await;
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Without a sender nobody is left to say so: the service is gone.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: Peer,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let router = TowerToHyperService::new(router);
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.call(request)
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            // What was asked is answered; then the connection closes.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection broke off: {error}");
    }
}
