//! Damaged, missing and edited files are found, named, and never served.

use std::fs;
use std::path::PathBuf;

use mynah_registry::{ChainFault, Digest, Error, Event, Status};

use crate::support::{Home, ada, draft, flip_bit, gate, overwrite};

fn objects(home: &Home) -> Vec<PathBuf> {
    let shards = fs::read_dir(home.dir().join("objects")).unwrap();
    shards.flat_map(|shard| fs::read_dir(shard.unwrap().path()).unwrap()).map(|file| file.unwrap().path()).collect()
}

fn entry_path(home: &Home, sequence: u64) -> PathBuf {
    home.dir().join(format!("journal/{sequence:012}.json"))
}

#[test]
fn a_flipped_bit_in_any_object_is_named_and_a_new_put_heals_it() {
    let home = Home::new();
    let one = home.add("one");
    home.registry.promote_with_evidence(&one, None, gate(), b"report", &ada()).unwrap();
    for path in objects(&home) {
        flip_bit(&path);
        let actual_on_disk = Digest::of(&fs::read(&path).unwrap());
        let problems = home.reopen().verify_all().unwrap().problems;
        let [problem] = problems.as_slice() else { panic!("{problems:?}") };
        let Error::Corrupt { file, path: named, expected, actual, .. } = &problem.error else { panic!("{problem:?}") };
        assert_eq!(named, &path);
        assert_eq!(expected.to_string(), path.file_name().unwrap().to_str().unwrap());
        assert_eq!(**actual, actual_on_disk);
        if file == "evidence of entry 2" {
            assert!(problem.versions.is_empty());
            home.promote(&home.add("two"));
            let current = home.registry.production().unwrap().unwrap().manifest_digest;
            home.registry.promote_with_evidence(&one, Some(&current), gate(), b"report", &ada()).unwrap();
        } else {
            assert_eq!(problem.versions[0], "v1");
            let error = home.registry.verify(&one).unwrap_err();
            assert!(matches!(&error, Error::Corrupt { file: found, .. } if found == file));
            assert_eq!(home.add("one").name, "v1");
        }
        assert!(home.reopen().verify_all().unwrap().problems.is_empty(), "healed: {}", path.display());
    }
}

#[test]
fn a_missing_or_shortened_object_is_named() {
    let home = Home::new();
    let one = home.add("one");
    for path in objects(&home) {
        fs::remove_file(&path).unwrap();
        let problems = home.reopen().verify_all().unwrap().problems;
        let [problem] = problems.as_slice() else { panic!("{problems:?}") };
        assert!(matches!(&problem.error, Error::MissingObject { path: named, .. } if *named == path));
        assert_eq!(problem.versions, ["v1"]);
        assert!(matches!(home.registry.verify(&one), Err(Error::MissingObject { .. })));
        fs::write(&path, "").unwrap();
        assert!(matches!(home.registry.verify(&one), Err(Error::Corrupt { .. })));
        home.add("one");
        home.registry.verify(&one).unwrap();
    }
}

#[test]
fn a_shared_object_names_all_its_versions() {
    let home = Home::new();
    let one = home.add("one");
    home.add("two");
    flip_bit(&home.object(&one.manifest.files["config.json"].sha256));
    let problems = home.registry.verify_all().unwrap().problems;
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].versions, ["v1", "v2"]);
}

#[test]
fn loading_falls_back_to_the_last_that_verifies_and_says_so() {
    let home = Home::new();
    assert!(home.registry.load_production().unwrap().is_none());
    let versions = ["one", "two", "three", "four"].map(|text| home.add(text));
    let [one, two, three, four] = &versions;
    [one, two, three].into_iter().for_each(|version| home.promote(version));
    home.registry.refuse(four, gate(), &ada()).unwrap();
    // Everything about them can be damaged: a file, and the manifest itself.
    flip_bit(&home.object(&three.manifest.files["model.safetensors"].sha256));
    fs::remove_file(home.object(&two.manifest_digest)).unwrap();
    let loaded = home.reopen().load_production().unwrap().unwrap();
    assert_eq!((loaded.version.name.as_str(), loaded.checkpoint.name()), ("v1", "v1"));
    assert_eq!(loaded.checkpoint.read("model.safetensors").unwrap(), b"weights of one");
    let skipped: Vec<_> = loaded.skipped.iter().map(|(version, _)| version.name.as_str()).collect();
    assert_eq!(skipped, ["v3", "v2"]);
    assert!(matches!(&loaded.skipped[0].1, Error::Corrupt { file, .. } if file == "model.safetensors"));
    assert!(matches!(&loaded.skipped[1].1, Error::MissingObject { file, .. } if file == "manifest"));

    // The damaged one is still listed, and production can move on from it.
    let listed = home.registry.version("v2").unwrap();
    assert_eq!((listed.damaged, listed.status), (true, Status::Promoted));
    assert!(matches!(home.registry.collect_garbage(), Err(Error::MissingObject { .. })));
    assert!(matches!(
        home.registry.promote(two, Some(&three.manifest_digest), gate(), &ada()),
        Err(Error::MissingObject { .. })
    ));
    assert!(matches!(home.registry.rollback(None, &ada()), Err(Error::MissingObject { .. })));
    home.registry.quarantine(three, &ada()).unwrap();
    assert_eq!(home.in_production().as_deref(), Some("v1"));

    fs::remove_file(home.object(&one.manifest.files["config.json"].sha256)).unwrap();
    let error = home.reopen().load_production().unwrap_err();
    assert!(matches!(&error, Error::NothingVerifies { production, tried: 2, .. } if production == "v1"), "{error}");
}

#[test]
fn a_file_that_changes_after_verification_is_not_read() {
    let home = Home::new();
    let one = home.add("one");
    let checkpoint = home.registry.verify(&one).unwrap();
    flip_bit(&checkpoint.path("config.json").unwrap());
    assert!(matches!(checkpoint.read("config.json"), Err(Error::Corrupt { .. })));
}

#[test]
fn an_export_of_a_damaged_version_leaves_nothing() {
    let home = Home::new();
    let one = home.add("one");
    flip_bit(&home.object(&one.manifest.files["model.safetensors"].sha256));
    let to = home.root.path().join("exports/one");
    assert!(matches!(home.registry.export(&one, &to), Err(Error::Corrupt { .. })));
    assert_eq!(fs::read_dir(to.parent().unwrap()).unwrap().count(), 0);
}

/// Five entries: three registrations, two promotions.
fn with_history() -> Home {
    let home = Home::new();
    let (one, two) = (home.add("one"), home.add("two"));
    home.promote(&one);
    home.promote(&two);
    home.add("three");
    home
}

fn broken(home: &Home) -> (u64, PathBuf, ChainFault) {
    let error = home.reopen().log().unwrap_err();
    assert!(error.hint().is_some());
    let Error::BrokenChain { sequence, path, fault } = error else { panic!("{error}") };
    // Everything that reads the journal stops there; nothing is appended to it.
    let registry = home.reopen();
    assert!(matches!(registry.production(), Err(Error::BrokenChain { .. })));
    assert!(matches!(registry.load_production(), Err(Error::BrokenChain { .. })));
    assert!(matches!(registry.collect_garbage(), Err(Error::BrokenChain { .. })));
    let added = registry.add_directory(&home.model("four"), draft(), &ada());
    assert!(matches!(added, Err(Error::BrokenChain { .. })));
    let problems = registry.verify_all().unwrap().problems;
    assert!(matches!(problems.as_slice(), [problem] if matches!(problem.error, Error::BrokenChain { .. })));
    (sequence, path, fault)
}

#[test]
fn an_edited_entry_is_named() {
    for sequence in 1..=5 {
        let home = with_history();
        let path = entry_path(&home, sequence);
        let text = fs::read_to_string(&path).unwrap();
        overwrite(&path, text.replace("testing", "tasting").as_bytes());
        assert!(matches!(broken(&home), (at, named, ChainFault::Changed { .. }) if at == sequence && named == path));
        // What is no entry at all.
        for text in ["", "{}", "\n", &text[..text.len() - 1], &text.repeat(2)] {
            overwrite(&path, text.as_bytes());
            assert_eq!(broken(&home).0, sequence, "{text:?}");
        }
    }
}

#[test]
fn a_removed_entry_is_named() {
    for sequence in 1..5 {
        let home = with_history();
        let path = entry_path(&home, sequence);
        fs::remove_file(&path).unwrap();
        assert_eq!(broken(&home), (sequence, path, ChainFault::Missing));
    }
    // Nothing follows the last: only who has read it knows that it is gone.
    let home = with_history();
    fs::remove_file(entry_path(&home, 5)).unwrap();
    for error in [home.registry.log().unwrap_err(), home.registry.production().unwrap_err()] {
        assert!(matches!(error, Error::BrokenChain { sequence: 5, fault: ChainFault::Missing, .. }), "{error}");
    }
}

#[test]
fn an_entry_from_elsewhere_is_named() {
    let (home, other) = (with_history(), with_history());
    overwrite(&entry_path(&home, 3), &fs::read(entry_path(&other, 3)).unwrap());
    assert!(matches!(broken(&home), (3, _, ChainFault::Unchained { .. })));
    let home = with_history();
    overwrite(&entry_path(&home, 3), &fs::read(entry_path(&home, 4)).unwrap());
    assert!(matches!(broken(&home), (3, _, ChainFault::Misplaced { actual: 4 })));
}

#[test]
fn files_that_are_no_entries_are_left_alone() {
    let home = with_history();
    for name in [".tmp-000000000006.json", "notes.txt", "6.json", "000000000006.json~"] {
        fs::write(home.dir().join("journal").join(name), "{").unwrap();
    }
    assert_eq!(home.reopen().log().unwrap().len(), 5);
    home.add("four");
    assert_eq!(home.reopen().journal_head().unwrap(), 6);
}

#[test]
fn an_entry_of_a_later_program_is_not_called_damage() {
    let home = with_history();
    let path = entry_path(&home, 5);
    let text = fs::read_to_string(&path).unwrap();
    let content = text.split(",\"digest\":").next().unwrap().replace("\"schema\":1", "\"schema\":2");
    let digest = Digest::of(format!("{content}}}").as_bytes());
    overwrite(&path, format!("{content},\"digest\":\"{digest}\"}}\n").as_bytes());
    let error = home.reopen().log().unwrap_err();
    assert!(matches!(error, Error::UnknownSchema { schema: 2, supported: 1, .. }), "{error}");
}

#[test]
fn a_journal_with_decisions_about_unknown_versions_is_read() {
    // Written by hand: the chain is right, the decisions make no sense.
    let home = Home::new();
    let manifest = Digest::of(b"nothing");
    let events = [
        Event::Rollback { from: manifest, to: manifest, from_name: "v7".into(), to_name: "v8".into() },
        Event::Promote { name: "v9".into(), manifest, expected_current: None, evidence: None, gate: gate() },
        Event::Register { name: "v18446744073709551615".into(), manifest, kind: mynah_registry::Kind::Version },
        Event::Tag { name: "v5".into(), manifest, tag: "production".into() },
    ];
    let mut previous = None;
    for (sequence, event) in (1..).zip(events) {
        let entry = mynah_registry::Entry {
            schema: 1,
            sequence,
            previous,
            at: jiff::Timestamp::UNIX_EPOCH,
            actor: String::new(),
            reason: String::new(),
            event,
        };
        let content = serde_json::to_string(&entry).unwrap();
        let digest = Digest::of(content.as_bytes());
        let text = format!("{},\"digest\":\"{digest}\"}}\n", &content[..content.len() - 1]);
        fs::write(entry_path(&home, sequence), &text).unwrap();
        previous = Some(Digest::of(text.as_bytes()));
    }
    let registry = home.reopen();
    assert_eq!(registry.production().unwrap(), None);
    let versions = registry.versions().unwrap();
    assert_eq!((versions.len(), versions[0].damaged), (1, true));
    let added = registry.add_directory(&home.model("one"), draft(), &ada());
    assert_eq!(added.unwrap().name, "v1");
}
