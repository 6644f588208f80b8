//! What changes while a home is open: versions, functions, the knowledge.

use std::path::Path;

use mynah_registry::{Author, Kind, ManifestDraft, Registry};
use mynah_runtime::{Feedback, Mynah, MynahError, Reload, ReplyKind, ReplySource, RuntimeSettings, starter};
use serde_json::json;

use crate::conversation::{FUNCTIONS, builder, home, open};

/// As long as a person takes at least, and the files of a home are not looked at again for.
fn pause() {
    std::thread::sleep(std::time::Duration::from_millis(25));
}

#[test]
fn a_file_edited_inside_the_knowledge_is_noticed_at_the_next_turn() {
    let home = home();
    std::fs::create_dir(home.path().join("knowledge/garden")).expect("made");
    let path = home.path().join("knowledge/garden/trees.md");
    std::fs::write(&path, "# Trees\nThe old pear tree stands behind the shed.\n").expect("written");
    let mut session = open(&home).session().expect("started");
    let ask = "where does the old pear tree stand?";
    assert!(session.respond(ask).expect("replied").text.contains("behind the shed"));
    std::fs::write(&path, "# Trees\nThe old pear tree stands beside the well at the gate.\n").expect("written");
    pause();
    let reply = session.respond(ask).expect("replied");
    assert_eq!(reply.text, "The old pear tree stands beside the well at the gate. (garden/trees.md, Trees)");
    std::fs::remove_file(&path).expect("removed");
    pause();
    assert!(!session.respond(ask).expect("replied").text.contains("pear"));
}

/// Registers a copy of the starter with a file changed, so that it is another version.
fn add_version(home: &Path, note: &str) -> mynah_registry::Version {
    let registry = Registry::open(&home.join("registry")).expect("opened");
    let directory = tempfile::tempdir().expect("a directory");
    starter::write_to(directory.path()).expect("written");
    std::fs::write(directory.path().join("README.md"), note).expect("written");
    let draft = ManifestDraft { kind: Kind::Version, ..ManifestDraft::version("test") };
    registry.add_directory(directory.path(), draft, &Author::new("test", note)).expect("added")
}

fn promote(home: &Path, version: &mynah_registry::Version) {
    let registry = Registry::open(&home.join("registry")).expect("opened");
    let current = registry.production().expect("read").map(|version| version.manifest_digest);
    registry
        .promote(version, current.as_ref(), json!({"passed": true}), &Author::new("test", "for the test"))
        .expect("promoted");
}

#[test]
fn a_promotion_is_served_from_the_next_reply_on_and_a_damaged_one_is_not() {
    let home = home();
    let mynah = open(&home);
    let mut session = mynah.session().expect("started");
    assert_eq!(session.respond("wake me at seven").expect("replied").version.as_deref(), Some("base1"));
    let first = add_version(home.path(), "first");
    promote(home.path(), &first);
    let reply = session.respond("wake me at seven").expect("replied");
    assert_eq!((reply.version.as_deref(), reply.text.as_str()), (Some("v1"), "Alarm set for 07:00."));

    // One flipped bit in the file that only the second version has.
    let second = add_version(home.path(), "second");
    promote(home.path(), &second);
    let digest = second.manifest.files["README.md"].sha256.to_string();
    let object = home.path().join("registry/objects").join(&digest[..2]).join(&digest);
    make_writable(&object);
    std::fs::write(&object, "secone").expect("damaged");
    let reply = session.respond("wake me at seven").expect("replied");
    assert_eq!(reply.version.as_deref(), Some("v1"));
    let warnings = mynah.take_warnings();
    assert!(warnings.len() == 1 && warnings[0].message.starts_with("v2 is not served: "), "{warnings:?}");
    assert_eq!(session.respond("wake me at seven").expect("replied").version.as_deref(), Some("v1"));
    assert_eq!(mynah.warnings(), [], "told once");

    // A fresh start falls back as well, and tells.
    let fresh = open(&home);
    assert_eq!(fresh.version().expect("a version").name, "v1");
    assert_eq!(fresh.warnings().len(), 1);
}

#[test]
fn a_chosen_version_stays_and_an_app_may_reload_off_the_way_of_replies() {
    let home = home();
    promote(home.path(), &add_version(home.path(), "first"));
    add_version(home.path(), "candidate");
    let production = builder(&home).reload(Reload::ByTheApp).open().expect("opened");
    let candidate = builder(&home).version("v2").open().expect("opened");
    let (mut one, mut two) = (production.session().expect("started"), candidate.session().expect("started"));
    let say = |session: &mut mynah_runtime::Session| {
        session.respond("wake me at seven").expect("replied").version.expect("a version")
    };
    assert_eq!((say(&mut one), say(&mut two)), ("v1".to_owned(), "v2".to_owned()));
    promote(home.path(), &add_version(home.path(), "third"));
    assert_eq!((say(&mut one), say(&mut two)), ("v1".to_owned(), "v2".to_owned()), "nobody has looked");
    assert!(production.refresh());
    assert_eq!((say(&mut one), say(&mut two)), ("v3".to_owned(), "v2".to_owned()));
    // What people say counts at once in both.
    let wrong = one.respond("rise and shine").expect("replied");
    one.feedback(&wrong.interaction, Feedback::correct_answer("Good morning.")).expect("taken");
    assert_eq!(one.respond("rise and shine").expect("replied").text, "Good morning.");
    assert_eq!(two.respond("rise and shine").expect("replied").text, "Good morning.");
    assert!(candidate.is_chosen());
    candidate.follow_production();
    assert_eq!(say(&mut two), "v3");
    promote(home.path(), &add_version(home.path(), "fourth"));
    assert_eq!(say(&mut two), "v4");
    assert!(matches!(builder(&home).version("v9").open(), Err(MynahError::Registry(_))));
}

#[test]
fn a_version_with_heads_decides_and_memory_decides_above_it() {
    let home = home();
    let mynah = open(&home);
    let mut session = mynah.session().expect("started");
    let version = crate::trained::add_version(
        home.path(),
        &[
            ("set_alarm", &["wake me at seven", "set an alarm for six", "please set an alarm"]),
            ("get_weather", &["what is the weather in Paris", "will it rain tomorrow"]),
            ("oos", &["flibber the wug", "who wrote hamlet", "buy me a car"]),
        ],
        &["O", "B-time", "I-time", "B-place", "I-place", "B-day", "I-day"],
    );
    promote(home.path(), &version);
    let reply = session.respond("wake me up at eight").expect("replied");
    assert_eq!(
        (reply.version.as_deref(), reply.source, reply.kind),
        (Some("v1"), ReplySource::Model, ReplyKind::Call),
        "{reply:?}"
    );
    assert_eq!(reply.text, "Alarm set for 08:00.", "a required argument is found by its form when the head misses it");
    assert_eq!(reply.why.functions.len(), 3);
    assert_eq!(session.respond("who wrote macbeth").expect("replied").kind, ReplyKind::Abstain);
    // A function that the head never saw, from its examples; and a correction against the head.
    let lights = session.respond("turn on the light in the kitchen").expect("replied");
    assert_eq!((lights.kind, lights.source), (ReplyKind::Confirm, ReplySource::Memory), "{lights:?}");
    session.respond("never mind").expect("replied");
    let text = "will it be bright tomorrow";
    let wrong = session.respond(text).expect("replied");
    session.feedback(&wrong.interaction, Feedback::correct_answer("As ever.")).expect("taken");
    assert_eq!(session.respond(text).expect("replied").text, "As ever.");
    // Without memory the head stands alone.
    let forgetful = builder(&home).memory(false).open().expect("opened");
    assert_eq!(forgetful.remembered(), 0);
    assert_ne!(forgetful.session().expect("started").respond(text).expect("replied").text, "As ever.");
    assert_eq!(forgetful.predict("wake me up at eight").function.as_deref(), Some("set_alarm"));
}

fn make_writable(path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("made writable");
    }
    let _ = path;
}

#[test]
fn changed_files_are_noticed_and_broken_ones_leave_what_was_there() {
    let home = home();
    let mynah = open(&home);
    let mut session = mynah.session().expect("started");
    std::fs::write(home.path().join("functions.json"), "[{").expect("written");
    pause();
    assert_eq!(session.respond("wake me at seven").expect("replied").text, "Alarm set for 07:00.");
    assert_eq!(mynah.take_warnings().len(), 1);
    std::fs::write(home.path().join("functions.json"), FUNCTIONS.replace("Alarm set", "Bell set")).expect("written");
    assert!(mynah.refresh());
    assert_eq!(session.respond("wake me at seven").expect("replied").text, "Bell set for 07:00.");
    assert!(
        Mynah::builder(home.path())
            .settings(RuntimeSettings { vote_threshold: 2.0, ..RuntimeSettings::default() })
            .open()
            .is_err()
    );
    std::fs::write(home.path().join("functions.json"), "[{").expect("written");
    let error = Mynah::open(home.path()).expect_err("broken");
    assert!(error.to_string().starts_with("functions.json"), "{error}");
}
