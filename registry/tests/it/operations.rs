//! What each operation does when nothing goes wrong, and what it refuses.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use mynah_registry::{Author, Digest, Error, Event, Kind, ManifestDraft, RegistryOptions, Status};

use crate::support::{Home, ada, draft, gate};

#[test]
fn a_directory_comes_back_as_it_was() {
    let home = Home::new();
    let model = home.model("one");
    fs::write(model.join(".hidden"), "no").unwrap();
    fs::write(model.join("half.tmp"), "no").unwrap();
    fs::create_dir(model.join(".git")).unwrap();
    fs::write(model.join(".git/config"), "no").unwrap();
    fs::write(model.join("empty.txt"), "").unwrap();
    let version = home.registry.add_directory(&model, draft(), &ada()).unwrap();
    let names: Vec<&str> = version.manifest.files.keys().map(String::as_str).collect();
    assert_eq!(names, ["1_Pooling/config.json", "config.json", "empty.txt", "model.safetensors"]);

    let to = home.root.path().join("a/b/export");
    home.registry.export(&version, &to).unwrap();
    for name in names {
        assert_eq!(fs::read(to.join(name)).unwrap(), fs::read(model.join(name)).unwrap(), "{name}");
    }
    let error = home.registry.export(&version, &to).unwrap_err();
    assert!(matches!(error, Error::NotEmpty { directory } if directory == to));
    let empty = home.root.path().join("empty");
    fs::create_dir(&empty).unwrap();
    home.registry.export(&version, &empty).unwrap();
    assert!(empty.join("1_Pooling/config.json").exists());
}

#[cfg(unix)]
#[test]
fn objects_are_read_only_and_links_to_files_are_followed() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    let model = home.model("one");
    std::os::unix::fs::symlink("config.json", model.join("linked.json")).unwrap();
    std::os::unix::fs::symlink("..", model.join("loop")).unwrap();
    let version = home.registry.add_directory(&model, draft(), &ada()).unwrap();
    assert_eq!(version.manifest.files["linked.json"], version.manifest.files["config.json"]);
    let checkpoint = home.registry.verify(&version).unwrap();
    let path = checkpoint.path("linked.json").unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o222, 0);
    assert_eq!(checkpoint.path("nothing"), None);
    assert!(matches!(checkpoint.read("nothing"), Err(Error::UnknownFile { .. })));
}

#[test]
fn the_same_files_are_the_same_version() {
    let home = Home::new();
    let first = home.add("one");
    let again = home.add("one");
    assert_eq!(first, again);
    let other = ManifestDraft { seed: Some(7), ..draft() };
    let other = home.registry.add_directory(&home.model("one"), other, &ada()).unwrap();
    assert_eq!(other.name, "v2");
    assert_eq!(home.registry.journal_head().unwrap(), 2);
    // Three files and two manifests: what is shared is stored once.
    assert_eq!(home.registry.verify_all().unwrap().objects, 5);
}

#[test]
fn names_count_up_by_kind_and_are_not_used_twice() {
    let home = Home::new();
    let base = |text: &str| {
        let draft = ManifestDraft::base("mynah 0.1.0");
        home.registry.add_directory(&home.model(text), draft, &ada()).unwrap()
    };
    assert_eq!(base("b").name, "base1");
    assert_eq!(home.add("one").name, "v1");
    let second = home.add("two");
    assert_eq!((second.name.as_str(), second.kind, second.status), ("v2", Kind::Version, Status::Candidate));
    home.registry.delete(&second, &ada()).unwrap();
    assert_eq!(home.add("two").name, "v3");
    assert_eq!(base("c").name, "base2");
    let latest = home.registry.base().unwrap().unwrap();
    assert_eq!((latest.name.as_str(), latest.status), ("base2", Status::Base));
}

#[test]
fn a_version_goes_by_many_names() {
    let home = Home::new();
    let (one, two) = (home.add("one"), home.add("two"));
    home.promote(&two);
    home.registry.tag(&one, "stable", &ada()).unwrap();
    let digest = one.manifest_digest.to_string();
    for wanted in ["v1", "V1", "1", " v1 ", "stable", &digest, &digest[..6], &digest[..12].to_uppercase()] {
        assert_eq!(home.registry.version(wanted).unwrap().name, "v1", "{wanted}");
    }
    assert_eq!(home.registry.version("production").unwrap().name, "v2");
    assert_eq!(home.registry.version("v1").unwrap().tags, ["stable"]);
    assert!(matches!(home.registry.version("base"), Err(Error::NoBase)));
    for wanted in ["", "v3", &digest[..5], "no such version", "é", &"x".repeat(10_000)] {
        assert!(matches!(home.registry.version(wanted), Err(Error::UnknownVersion { .. })), "{wanted}");
    }
    home.registry.tag(&two, "stable", &ada()).unwrap();
    assert_eq!(home.registry.version("stable").unwrap().name, "v2");
    assert!(matches!(home.registry.tag(&two, "v9", &ada()), Err(Error::InvalidTag { .. })));
}

#[test]
fn a_promotion_loses_to_one_it_does_not_know_of() {
    let home = Home::new();
    let (one, two) = (home.add("one"), home.add("two"));
    let first = home.registry.promote(&one, None, gate(), &ada()).unwrap();
    let error = home.registry.promote(&two, None, gate(), &ada()).unwrap_err();
    assert!(
        matches!(error, Error::Conflict { expected: None, actual: Some(actual), .. } if actual == one.manifest_digest)
    );
    let missing = Digest::of(b"another");
    let error = home.registry.promote(&two, Some(&missing), gate(), &ada()).unwrap_err();
    assert!(matches!(error, Error::Conflict { expected: Some(expected), .. } if expected == missing));
    // What is in production already stays there, by the entry that put it there.
    let again = home.registry.promote(&one, Some(&one.manifest_digest), gate(), &ada()).unwrap();
    assert_eq!(again, first);
    assert_eq!(home.in_production().as_deref(), Some("v1"));
}

#[test]
fn every_rollback_goes_further_back() {
    let home = Home::new();
    let versions = ["one", "two", "three"].map(|text| home.add(text));
    assert!(matches!(home.registry.rollback(None, &ada()), Err(Error::NoProduction)));
    assert!(matches!(home.registry.rollback(Some(&versions[0]), &ada()), Err(Error::NeverPromoted { .. })));
    versions.iter().for_each(|version| home.promote(version));
    let entry = home.registry.rollback(None, &Author::new("watch", "worse")).unwrap();
    assert!(matches!(&entry.event, Event::Rollback { from_name, to_name, .. } if from_name == "v3" && to_name == "v2"));
    assert_eq!((entry.actor.as_str(), entry.reason.as_str()), ("watch", "worse"));
    home.registry.rollback(None, &ada()).unwrap();
    assert_eq!(home.in_production().as_deref(), Some("v1"));
    assert!(matches!(home.registry.rollback(None, &ada()), Err(Error::NothingToRollBackTo)));
    // Forward again, to one that was rolled back from.
    home.registry.rollback(Some(&versions[2]), &ada()).unwrap();
    assert_eq!(home.in_production().as_deref(), Some("v3"));
    assert_eq!(home.registry.version("v2").unwrap().status, Status::Promoted);
}

#[test]
fn what_stands_below_production_comes_with_its_verdicts() {
    let home = Home::new();
    let standing = || -> Vec<(String, serde_json::Value)> {
        let standing = home.reopen().standing().unwrap();
        standing.into_iter().map(|(version, verdict)| (version.name, verdict)).collect()
    };
    let of = |names: &[&str]| -> Vec<(String, serde_json::Value)> {
        names.iter().map(|name| ((*name).to_owned(), gate())).collect()
    };
    assert!(standing().is_empty());
    let versions: Vec<_> = ["one", "two", "three", "four"].map(|text| home.add(text)).into_iter().collect();
    versions.iter().for_each(|version| home.promote(version));
    assert_eq!(standing(), of(&["v1", "v2", "v3", "v4"]));
    home.registry.rollback(Some(&versions[2]), &ada()).unwrap();
    home.registry.quarantine(&versions[1], &ada()).unwrap();
    assert_eq!(standing(), of(&["v1", "v3"]), "v4 was rolled back from");
    let by_hand = serde_json::json!({"by_hand": true});
    let current = home.registry.production().unwrap().unwrap().manifest_digest;
    home.registry.promote(&versions[3], Some(&current), by_hand.clone(), &ada()).unwrap();
    assert_eq!(standing().pop(), Some(("v4".to_owned(), by_hand)), "the latest verdict counts");
}

#[test]
fn a_rollback_by_somebody_who_has_seen_something_else_changes_nothing() {
    let home = Home::new();
    let versions = ["one", "two", "three"].map(|text| home.add(text));
    versions.iter().for_each(|version| home.promote(version));
    let [one, two, three] = versions.map(|version| version.manifest_digest);
    let error = home.registry.rollback_from(&two, None, &ada()).unwrap_err();
    assert!(
        matches!(error, Error::Conflict { expected: Some(expected), actual: Some(actual), .. } if (expected, actual) == (two, three))
    );
    assert_eq!(home.in_production().as_deref(), Some("v3"));
    home.registry.rollback_from(&three, None, &ada()).unwrap();
    assert_eq!(home.in_production().as_deref(), Some("v2"));
    assert!(matches!(home.registry.rollback_from(&one, None, &ada()), Err(Error::Conflict { .. })));
}

#[test]
fn a_quarantined_version_leaves_production_for_good() {
    let home = Home::new();
    let (one, two) = (home.add("one"), home.add("two"));
    home.promote(&one);
    home.promote(&two);
    home.registry.quarantine(&two, &ada()).unwrap();
    assert_eq!(home.in_production().as_deref(), Some("v1"));
    assert_eq!(home.registry.version("v2").unwrap().status, Status::Quarantined);
    let current = Some(&one.manifest_digest);
    assert!(matches!(home.registry.promote(&two, current, gate(), &ada()), Err(Error::Quarantined { .. })));
    assert!(matches!(home.registry.rollback(Some(&two), &ada()), Err(Error::Quarantined { .. })));
    // Another name does not help.
    home.registry.delete(&two, &ada()).unwrap();
    let again = home.add("two");
    assert_eq!((again.name.as_str(), again.quarantined), ("v3", true));
    assert!(matches!(home.registry.promote(&again, current, gate(), &ada()), Err(Error::Quarantined { .. })));
    // Nothing is left to go back to: something must be served.
    home.registry.quarantine(&one, &ada()).unwrap();
    let production = home.registry.production().unwrap().unwrap();
    assert_eq!((production.name.as_str(), production.status, production.quarantined), ("v1", Status::Production, true));
}

#[test]
fn refused_and_deleted_versions() {
    let home = Home::new();
    let (one, two) = (home.add("one"), home.add("two"));
    home.promote(&one);
    home.registry.refuse(&two, serde_json::json!({"passed": false}), &ada()).unwrap();
    assert_eq!(home.registry.version("v2").unwrap().status, Status::Refused);
    assert!(matches!(home.registry.refuse(&one, gate(), &ada()), Err(Error::InProduction { .. })));
    assert!(matches!(home.registry.delete(&one, &ada()), Err(Error::InProduction { .. })));
    home.registry.delete(&two, &ada()).unwrap();
    assert!(matches!(home.registry.delete(&two, &ada()), Err(Error::Deleted { .. })));
    let deleted = home.registry.version("v2").unwrap();
    assert_eq!(deleted.status, Status::Deleted);
    assert!(matches!(home.registry.export(&deleted, &home.root.path().join("x")), Err(Error::Deleted { .. })));

    let freed = home.registry.collect_garbage().unwrap();
    assert_eq!((freed.objects, freed.size_bytes), (1, "weights of two".len() as u64));
    assert_eq!(home.registry.collect_garbage().unwrap(), Default::default());
    assert!(home.registry.verify_all().unwrap().problems.is_empty());
    assert_eq!(home.registry.versions().unwrap().len(), 2, "history stays");
    assert_eq!(home.add("two").name, "v3");
}

#[test]
fn garbage_collection_keeps_evidence_and_removes_unfinished_files() {
    let home = Home::new();
    let one = home.add("one");
    let entry = home.registry.promote_with_evidence(&one, None, gate(), b"report", &ada()).unwrap();
    let Event::Promote { evidence: Some(evidence), .. } = entry.event else { panic!("no evidence") };
    let shard = home.object(&evidence).parent().unwrap().to_owned();
    fs::write(shard.join(".tmp-half"), "hal").unwrap();
    fs::write(home.dir().join("journal/.tmp-half"), "half").unwrap();
    fs::write(shard.join("notes.txt"), "not ours").unwrap();
    let freed = home.registry.collect_garbage().unwrap();
    assert_eq!((freed.objects, freed.unfinished, freed.size_bytes), (0, 2, 7));
    assert_eq!(home.registry.read_object(&evidence).unwrap(), b"report");
    assert!(shard.join("notes.txt").exists());
    assert_eq!(home.reopen().log().unwrap().len(), 2);
}

#[test]
fn production_at_a_time() {
    let now = Arc::new(AtomicI64::new(0));
    let clock = Arc::clone(&now);
    let clock = Arc::new(move || Timestamp::from_second(clock.load(Ordering::Relaxed)).unwrap());
    let home = Home::with(RegistryOptions { clock, ..RegistryOptions::default() });
    for (second, text) in [(10, "one"), (20, "two")] {
        now.store(second, Ordering::Relaxed);
        let version = home.add(text);
        home.promote(&version);
    }
    now.store(30, Ordering::Relaxed);
    home.registry.rollback(None, &ada()).unwrap();
    let at = |second| {
        let version = home.registry.production_at(Timestamp::from_second(second).unwrap()).unwrap();
        version.map(|version| version.name)
    };
    let names = [9, 10, 19, 20, 29, 30, 99].map(|second| at(second).unwrap_or_default());
    assert_eq!(names, ["", "v1", "v1", "v2", "v2", "v1", "v1"]);
}

#[test]
fn another_handle_sees_new_entries() {
    let home = Home::new();
    let watcher = home.reopen();
    assert_eq!((watcher.journal_head().unwrap(), watcher.production().unwrap()), (0, None));
    let one = home.add("one");
    assert_eq!(watcher.journal_head().unwrap(), 1);
    home.promote(&one);
    assert_eq!(watcher.journal_head().unwrap(), 2);
    assert_eq!(watcher.production().unwrap().unwrap().name, "v1");
    assert_eq!(watcher.load_production().unwrap().unwrap().checkpoint.digest(), &one.manifest_digest);
}

#[test]
fn a_large_file_is_streamed() {
    let home = Home::new();
    let model = home.model("large");
    // Sparse: takes no room as a source, and more than any piece the store reads at a time.
    fs::File::create(model.join("zeros")).unwrap().set_len(3_000_001).unwrap();
    let version = home.registry.add_directory(&model, draft(), &ada()).unwrap();
    let zeros = vec![0; 3_000_001];
    assert_eq!(version.manifest.files["zeros"].sha256, Digest::of(&zeros));
    assert_eq!(home.registry.verify(&version).unwrap().read("zeros").unwrap(), zeros);
}

#[test]
fn what_is_handed_around_crosses_threads() {
    fn crosses<T: Send + Sync + 'static>() {}
    crosses::<mynah_registry::Registry>();
    crosses::<mynah_registry::VerifiedCheckpoint>();
    crosses::<Error>();
}
