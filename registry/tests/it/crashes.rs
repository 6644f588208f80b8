//! The disk fails, or the process ends, at every durable step of a script; then the registry is opened again.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use mynah_registry::fault::{FaultPoint, STEPS};
use mynah_registry::{Error, ManifestDraft, Registry, RegistryOptions, Result};

use crate::support::{ada, draft, gate, model, name_in_production, temporary};

/// A step of the script, as a person does it: with what is in production now.
type Operation = fn(&Registry, &Path) -> Result<()>;

/// The script, with what is in production after each operation.
const SCRIPT: &[(Operation, Option<&str>)] = &[
    (|registry, root| add(registry, root, "base", ManifestDraft::base("mynah")), None),
    (|registry, root| add(registry, root, "one", draft()), None),
    (|registry, _| promote(registry, "v1"), Some("v1")),
    (|registry, root| add(registry, root, "two", draft()), Some("v1")),
    (|registry, _| promote(registry, "v2"), Some("v2")),
    (|registry, _| registry.rollback(Some(&registry.version("v1")?), &ada()).map(drop), Some("v1")),
];

fn add(registry: &Registry, root: &Path, text: &str, draft: ManifestDraft) -> Result<()> {
    registry.add_directory(&model(root, text), draft, &ada()).map(drop)
}

fn promote(registry: &Registry, name: &str) -> Result<()> {
    let current = registry.production()?.map(|version| version.manifest_digest);
    registry.promote_with_evidence(&registry.version(name)?, current.as_ref(), gate(), b"report", &ada()).map(drop)
}

fn options(fault: FaultPoint) -> RegistryOptions {
    RegistryOptions { fault, ..RegistryOptions::default() }
}

/// Runs the script; the number of operations that succeeded, and the error that stopped it.
fn run(root: &Path, fault: FaultPoint) -> (usize, Option<Error>) {
    let registry = match Registry::open_with(&root.join("registry"), options(fault)) {
        Ok(registry) => registry,
        Err(error) => return (0, Some(error)),
    };
    for (done, (operation, _)) in SCRIPT.iter().enumerate() {
        if let Err(error) = operation(&registry, root) {
            return (done, Some(error));
        }
    }
    (SCRIPT.len(), None)
}

/// Checks what survived, repeats the interrupted operation, and finishes the script.
fn recover(root: &Path, done: usize, context: &str) {
    let registry = Registry::open(&root.join("registry")).unwrap();
    let entries = registry.log().unwrap_or_else(|error| panic!("{context}: {error}"));
    assert!(entries.len() == done || entries.len() == done + 1, "{context}: {} entries", entries.len());
    let expected = |done: usize| done.checked_sub(1).and_then(|last| SCRIPT[last].1);
    let production = name_in_production(&registry);
    let possible = [expected(done), expected((done + 1).min(SCRIPT.len()))];
    assert!(possible.contains(&production.as_deref()), "{context}: {production:?}, not one of {possible:?}");
    assert!(registry.load_production().unwrap().is_none_or(|loaded| loaded.skipped.is_empty()));
    for (operation, production) in &SCRIPT[done..] {
        operation(&registry, root).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(name_in_production(&registry).as_deref(), *production, "{context}");
    }
    check_end(&registry, context);
}

fn check_end(registry: &Registry, context: &str) {
    // Nothing was done twice.
    assert_eq!(registry.log().unwrap().len(), SCRIPT.len(), "{context}");
    let names: Vec<String> = registry.versions().unwrap().into_iter().map(|version| version.name).collect();
    assert_eq!(names, ["base1", "v1", "v2"], "{context}");
    registry.collect_garbage().unwrap();
    let verification = registry.verify_all().unwrap();
    assert!(verification.problems.is_empty(), "{context}: {:?}", verification.problems);
    // Three manifests, two shared files, three of their own, one report.
    assert_eq!(verification.objects, 9, "{context}");
}

/// The names of the steps the script takes, in their order.
fn steps_of_script() -> Vec<&'static str> {
    let steps = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&steps);
    let root = temporary();
    let (_, error) = run(
        root.path(),
        Arc::new(move |step| {
            seen.lock().unwrap().push(step);
            Ok(())
        }),
    );
    assert!(error.is_none());
    let steps = steps.lock().unwrap();
    steps.clone()
}

#[test]
fn the_script_takes_every_step_that_stores() {
    let taken: BTreeSet<&str> = steps_of_script().into_iter().collect();
    let known: BTreeSet<&str> = STEPS.iter().copied().collect();
    assert_eq!(known.len(), STEPS.len(), "names are unique");
    let elsewhere = |step: &&str| !step.starts_with("export.") && !step.starts_with("garbage.");
    assert_eq!(taken, known.into_iter().filter(elsewhere).collect());
}

#[test]
fn the_disk_freezes_at_any_step() {
    for (number, step) in steps_of_script().into_iter().enumerate() {
        let root = temporary();
        let count = AtomicUsize::new(0);
        let (done, error) = run(
            root.path(),
            Arc::new(move |_| match count.fetch_add(1, Ordering::Relaxed) < number {
                true => Ok(()),
                false => Err(io::Error::other("the disk is gone")),
            }),
        );
        let context = format!("frozen at step {number}, {step}");
        assert!(matches!(error, Some(Error::Io { .. })), "{context}: {error:?}");
        recover(root.path(), done, &context);
    }
}

#[test]
fn the_disk_is_full_once_at_any_step() {
    for (number, step) in steps_of_script().into_iter().enumerate() {
        let root = temporary();
        let count = AtomicUsize::new(0);
        let fault: FaultPoint = Arc::new(move |_| match count.fetch_add(1, Ordering::Relaxed) == number {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        });
        let context = format!("full at step {number}, {step}");
        let open = || Registry::open_with(&root.path().join("registry"), options(Arc::clone(&fault)));
        let mut failures = Vec::new();
        let registry = open().or_else(|error| {
            failures.push(error);
            open()
        });
        let registry = registry.unwrap();
        // The same handle goes on: each operation that fails is repeated at once.
        for (operation, _) in SCRIPT {
            if let Err(error) = operation(&registry, root.path()) {
                failures.push(error);
                operation(&registry, root.path()).unwrap();
            }
        }
        let [error] = failures.as_slice() else { panic!("{context}: {failures:?}") };
        assert!(error.to_string().ends_with(": the disk is full"), "{context}: {error}");
        assert!(error.hint().is_some());
        check_end(&registry, &context);
    }
}

/// Where the process of [`the_process_ends_at_any_step`] works, and at which step it ends.
const CHILD: &str = "MYNAH_REGISTRY_TEST_CHILD";

#[test]
fn the_process_ends_at_any_step() {
    if let Ok(child) = std::env::var(CHILD) {
        let (number, root) = child.split_once(' ').unwrap();
        let number: usize = number.parse().unwrap();
        let count = AtomicUsize::new(0);
        run(
            Path::new(root),
            Arc::new(move |_| {
                if count.fetch_add(1, Ordering::Relaxed) == number {
                    // No destructor runs: unfinished files stay.
                    std::process::exit(99);
                }
                Ok(())
            }),
        );
        return;
    }
    let mut unfinished = 0;
    for (number, step) in steps_of_script().into_iter().enumerate() {
        let root = temporary();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "crashes::the_process_ends_at_any_step", "--nocapture"]);
        let output = command.env(CHILD, format!("{number} {}", root.path().display())).output().unwrap();
        let context = format!("ended at step {number}, {step}");
        assert_eq!(output.status.code(), Some(99), "{context}: {output:?}");
        // The process could not say how far it came; the journal can.
        let registry = Registry::open(&root.path().join("registry")).unwrap();
        let done = registry.log().unwrap().len();
        unfinished += registry.collect_garbage().unwrap().unfinished;
        recover(root.path(), done, &context);
    }
    assert!(unfinished > 0, "some files were left unfinished");
}

#[test]
fn an_interrupted_export_leaves_nothing_and_can_be_repeated() {
    let root = temporary();
    let armed = Arc::new(AtomicUsize::new(usize::MAX));
    let countdown = Arc::clone(&armed);
    let fault: FaultPoint = Arc::new(move |_| match countdown.load(Ordering::Relaxed) {
        usize::MAX => Ok(()),
        0 => Err(io::ErrorKind::StorageFull.into()),
        left => {
            countdown.store(left - 1, Ordering::Relaxed);
            Ok(())
        }
    });
    let registry = Registry::open_with(&root.path().join("registry"), options(fault)).unwrap();
    let version = registry.add_directory(&model(root.path(), "one"), draft(), &ada()).unwrap();
    let to = root.path().join("out/export");
    for step in 0.. {
        armed.store(step, Ordering::Relaxed);
        let exported = registry.export(&version, &to);
        armed.store(usize::MAX, Ordering::Relaxed);
        if to.exists() {
            // Complete from the moment it has its name, durable when the call succeeds.
            assert_eq!(std::fs::read(to.join("model.safetensors")).unwrap(), b"weights of one");
            break;
        }
        assert!(matches!(exported, Err(Error::Io { .. })));
        assert_eq!(std::fs::read_dir(root.path().join("out")).map_or(0, Iterator::count), 0);
    }
}

#[test]
fn interrupted_garbage_collection_can_be_repeated() {
    for number in 0..4 {
        let root = temporary();
        let registry = Registry::open(&root.path().join("registry")).unwrap();
        for text in ["one", "two"] {
            add(&registry, root.path(), text, draft()).unwrap();
            registry.delete(&registry.version(if text == "one" { "v1" } else { "v2" }).unwrap(), &ada()).unwrap();
        }
        add(&registry, root.path(), "three", draft()).unwrap();
        let count = AtomicUsize::new(0);
        let frozen = options(Arc::new(move |_| match count.fetch_add(1, Ordering::Relaxed) < number {
            true => Ok(()),
            false => Err(io::ErrorKind::PermissionDenied.into()),
        }));
        let frozen = Registry::open_with(&root.path().join("registry"), frozen).unwrap();
        assert_eq!(frozen.collect_garbage().is_ok(), number == 4);
        registry.collect_garbage().unwrap();
        let verification = registry.verify_all().unwrap();
        assert!(verification.problems.is_empty());
        assert_eq!(verification.objects, 6);
    }
}
