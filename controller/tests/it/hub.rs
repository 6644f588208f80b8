//! Base models from a hub that the test serves itself.

use std::collections::BTreeMap;
use std::path::Path;

use mynah_controller::hub::{Download, HubEnvironment, HubError, HubId, download};

use crate::hub_server::{COMMIT, HubServer};

const ID: &str = "somebody/tiny-distilbert";

fn files() -> BTreeMap<String, Vec<u8>> {
    let weights: Vec<u8> = (0..200_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    [
        ("config.json", b"{\"model_type\":\"distilbert\"}".to_vec()),
        ("tokenizer.json", b"{\"version\":\"1.0\"}".to_vec()),
        ("README.md", b"not asked for".to_vec()),
        ("model.safetensors", weights),
    ]
    .into_iter()
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .collect()
}

fn server() -> (HubServer, HubEnvironment) {
    let server = HubServer::start(ID, files());
    let environment = HubEnvironment { endpoint: Some(server.endpoint.clone()), ..HubEnvironment::default() };
    (server, environment)
}

fn fetch(cache: &Path, environment: &HubEnvironment) -> Result<Download, HubError> {
    download(&ID.parse::<HubId>().unwrap(), cache, environment, || ())
}

#[test]
fn a_model_arrives_whole_and_pinned_to_its_commit() {
    let (server, environment) = server();
    let cache = tempfile::tempdir().unwrap();
    let model = fetch(cache.path(), &environment).unwrap();
    assert_eq!(model.commit, COMMIT);
    let stage = tempfile::tempdir().unwrap();
    model.stage(stage.path()).unwrap();
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        assert_eq!(std::fs::read(stage.path().join(name)).unwrap(), files()[name], "{name}");
    }
    assert!(!stage.path().join("README.md").exists());
    // Every file was asked for at the commit, none at the branch.
    assert!(server.requests().iter().all(|request| !request.path.contains("/resolve/main/")));
}

#[test]
fn a_broken_transfer_is_resumed_by_the_next_call() {
    let (server, environment) = server();
    let cache = tempfile::tempdir().unwrap();
    server.faults.lock().unwrap().cut = Some(("model.safetensors".into(), 70_000));
    let error = fetch(cache.path(), &environment).unwrap_err();
    assert!(matches!(error, HubError::Transfer { .. }), "{error:?}");
    assert!(error.hint().contains("goes on where it stopped"));

    let model = fetch(cache.path(), &environment).unwrap();
    assert_eq!(std::fs::read(&model.files[2].1).unwrap(), files()["model.safetensors"]);
    // `bytes=0-0` only asks for the size.
    let transfers =
        server.requests().into_iter().filter(|seen| seen.path.starts_with("/cdn/")).filter_map(|seen| seen.range);
    let transfers: Vec<String> = transfers.filter(|range| range != "bytes=0-0").collect();
    assert_eq!(transfers, ["bytes=0-", "bytes=70000-"]);
}

#[test]
fn a_whole_part_file_is_not_downloaded_again() {
    let (server, environment) = server();
    let cache = tempfile::tempdir().unwrap();
    let whole = files()["model.safetensors"].clone();
    let blobs = cache.path().join("models--somebody--tiny-distilbert/blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::write(blobs.join(format!("{}.part", crate::hub_server::sha256(&whole))), &whole).unwrap();
    let model = fetch(cache.path(), &environment).unwrap();
    assert_eq!(std::fs::read(&model.files[2].1).unwrap(), whole);
    assert!(server.requests().iter().any(|seen| seen.range.as_deref() == Some("bytes=199999-")));
}

#[test]
fn a_damaged_file_is_refused_and_removed() {
    let (server, environment) = server();
    let cache = tempfile::tempdir().unwrap();
    server.faults.lock().unwrap().flip = Some("model.safetensors".into());
    let error = fetch(cache.path(), &environment).unwrap_err();
    assert!(matches!(&error, HubError::Damaged { file, .. } if file == "model.safetensors"), "{error:?}");

    server.faults.lock().unwrap().flip = None;
    let model = fetch(cache.path(), &environment).unwrap();
    assert_eq!(std::fs::read(&model.files[2].1).unwrap(), files()["model.safetensors"]);
}

#[test]
fn an_unknown_model_is_named_with_the_hub_and_the_status() {
    let (server, environment) = server();
    let cache = tempfile::tempdir().unwrap();
    let error = download(&"nobody/nothing".parse().unwrap(), cache.path(), &environment, || ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{} has no model `nobody/nothing` at revision `main` (HTTP 404)", server.endpoint)
    );
}

#[test]
fn a_missing_file_is_named() {
    let mut few = files();
    few.remove("tokenizer.json");
    let server = HubServer::start(ID, few);
    let environment = HubEnvironment { endpoint: Some(server.endpoint.clone()), ..HubEnvironment::default() };
    let cache = tempfile::tempdir().unwrap();
    let error = fetch(cache.path(), &environment).unwrap_err();
    assert_eq!(error.to_string(), format!("model `{ID}` has no tokenizer.json"));
}

#[test]
fn offline_uses_the_cache_and_names_what_it_lacks() {
    let (server, mut environment) = server();
    let cache = tempfile::tempdir().unwrap();
    environment.offline = true;
    let error = fetch(cache.path(), &environment).unwrap_err();
    assert!(matches!(&error, HubError::Offline { file, .. } if file == "config.json"), "{error:?}");
    assert!(server.requests().is_empty());

    environment.offline = false;
    fetch(cache.path(), &environment).unwrap();
    let before = server.requests().len();
    environment.offline = true;
    let model = fetch(cache.path(), &environment).unwrap();
    assert_eq!(model.commit, COMMIT);
    assert_eq!(server.requests().len(), before);
}

#[test]
fn a_token_is_sent_to_the_hub() {
    let (server, mut environment) = server();
    server.faults.lock().unwrap().token = Some("hf_abc".into());
    let cache = tempfile::tempdir().unwrap();
    let error = fetch(cache.path(), &environment).unwrap_err();
    assert!(matches!(error, HubError::NotFound { status: 401, .. }), "{error:?}");
    assert!(error.hint().contains("HF_TOKEN"));

    environment.token = Some("hf_abc".into());
    fetch(cache.path(), &environment).unwrap();
}

#[test]
fn a_sharded_model_arrives_with_its_shards() {
    let mut sharded = files();
    let weights = sharded.remove("model.safetensors").unwrap();
    sharded.insert("model-1-of-2.safetensors".into(), weights[..9].to_vec());
    sharded.insert("model-2-of-2.safetensors".into(), weights[9..].to_vec());
    let index = serde_json::json!({"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors", "c": "model-1-of-2.safetensors"}});
    sharded.insert("model.safetensors.index.json".into(), index.to_string().into_bytes());
    let server = HubServer::start(ID, sharded);
    let mut environment = HubEnvironment { endpoint: Some(server.endpoint.clone()), ..HubEnvironment::default() };
    let cache = tempfile::tempdir().unwrap();
    assert_eq!(fetch(cache.path(), &environment).unwrap().files.len(), 5);
    environment.offline = true;
    assert_eq!(fetch(cache.path(), &environment).unwrap().files.len(), 5);
}
