//! The crate arrows of `ARCHITECTURE.md`, as Cargo sees them: who may link whom, and who must not link what.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Every crate with the crates of this workspace that it links, no more and no less.
const ARROWS: [(&str, &[&str]); 5] = [
    ("mynah-registry", &[]),
    ("mynah-data", &[]),
    ("mynah-runtime", &["mynah-data", "mynah-registry"]),
    ("mynah-pipelines", &["mynah-data", "mynah-registry", "mynah-runtime"]),
    ("mynah-controller", &["mynah-data", "mynah-pipelines", "mynah-registry", "mynah-runtime"]),
];

const MACHINE_LEARNING: [&str; 7] =
    ["burn", "rten-gemm", "rten-simd", "rten-tensor", "rten-vecmath", "safetensors", "tokenizers"];
const HTTP: [&str; 4] = ["axum", "hf-hub", "reqwest", "tokio"];
const SCHEDULES: [&str; 2] = ["chrono", "tokio-cron-scheduler"];

/// The direct dependencies of every member by name, without those of tests and build scripts.
fn normal_dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("metadata is JSON");
    let list = |value: &Value| value.as_array().expect("a list").clone();
    let name = |value: &Value| value["name"].as_str().expect("a name").to_owned();
    list(&metadata["packages"])
        .iter()
        .map(|package| {
            let normal = list(&package["dependencies"]).into_iter().filter(|dependency| dependency["kind"].is_null());
            (name(package), normal.map(|dependency| name(&dependency)).collect())
        })
        .collect()
}

/// Fails with everything that `package` links out of `forbidden`.
fn assert_links_none(dependencies: &BTreeMap<String, BTreeSet<String>>, package: &str, forbidden: &[&str]) {
    // A part of burn is burn.
    let is_forbidden = |name: &&String| {
        forbidden.iter().any(|no| name == no || name.strip_prefix(no).is_some_and(|rest| rest.starts_with('-')))
    };
    let linked: Vec<&String> = dependencies[package].iter().filter(is_forbidden).collect();
    assert!(linked.is_empty(), "{package} must not link {linked:?}");
}

#[test]
fn crates_link_each_other_as_the_architecture_says() {
    let dependencies = normal_dependencies();
    let members: BTreeSet<&str> = dependencies.keys().map(String::as_str).collect();
    let expected: BTreeSet<&str> = ARROWS.iter().map(|(package, _)| *package).collect();
    assert_eq!(members, expected);
    for (package, arrows) in ARROWS {
        let linked: Vec<&str> =
            dependencies[package].iter().map(String::as_str).filter(|name| members.contains(name)).collect();
        assert_eq!(linked, arrows, "{package}");
    }
}

#[test]
fn crates_do_not_link_what_they_know_nothing_of() {
    let dependencies = normal_dependencies();
    for package in ["mynah-registry", "mynah-data"] {
        assert_links_none(&dependencies, package, &MACHINE_LEARNING);
    }
    for package in ["mynah-registry", "mynah-data", "mynah-runtime", "mynah-pipelines"] {
        assert_links_none(&dependencies, package, &HTTP);
        assert_links_none(&dependencies, package, &SCHEDULES);
    }
    for package in ["mynah-registry", "mynah-runtime"] {
        assert_links_none(&dependencies, package, &["git2"]);
    }
    assert_links_none(&dependencies, "mynah-runtime", &["burn"]);
    assert_links_none(&dependencies, "mynah-controller", &MACHINE_LEARNING);
}
