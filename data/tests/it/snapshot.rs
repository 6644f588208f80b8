//! The log's git history, and what is left when a snapshot is killed.

use std::fs;
use std::sync::atomic::Ordering;

use mynah_data::snapshot::snapshot_with;
use mynah_data::{Correction, Home, ImportOptions, Log, SessionLog, head, import, snapshot};

use crate::support::{full_at, home, say};

fn converse(home: &Home) -> SessionLog {
    let log = Log::open(home);
    let mut session = log.start_session("chat").unwrap();
    let turn = say(&mut session, "wake me up at seven in the morning on every friday");
    say(&mut session, "thanks");
    let answer = Correction::Answer { answer: "fine".to_owned() };
    log.append_feedback(&turn, None, Some(answer)).unwrap();
    session.end("quit").unwrap();
    session
}

fn history(home: &Home) -> Vec<String> {
    let repository = git2::Repository::open(home.log_dir()).unwrap();
    let mut walk = repository.revwalk().unwrap();
    walk.push_head().unwrap();
    walk.map(|id| {
        let commit = repository.find_commit(id.unwrap()).unwrap();
        commit.summary().unwrap().unwrap().to_owned()
    })
    .collect()
}

#[test]
fn git_log_reads_as_the_history_of_the_conversations() {
    let (_directory, home) = home();
    assert_eq!(head(&home).unwrap(), None);
    let first = converse(&home);
    let second = Log::open(&home).start_session("http").unwrap();
    let file = "{\"text\":\"a\",\"intent\":\"b\"}\n{\"question\":\"q\",\"answer\":\"a\"}\n";
    import(&home, file.as_bytes(), "set.jsonl", &ImportOptions::default()).unwrap();
    let commit = snapshot(&home, "chat").unwrap().unwrap();
    assert_eq!(head(&home).unwrap(), Some(commit.id.clone()));
    let message = commit
        .message
        .replace(first.id(), "FIRST")
        .replace(second.id(), "SECOND")
        .replace(&format!("{:.0}", first.started()), "TIME")
        .replace(&format!("{:.0}", second.started()), "TIME");
    insta::assert_snapshot!(message, @r#"
    6 records in 2 sessions, 1 record in 1 imported file, 1 answer

    examples/set.jsonl: 1 record
    memory.jsonl: 1 answer
    FIRST TIME 2 turns, 1 correction "wake me up at seven in the morning on…"
    SECOND TIME 0 turns, 0 corrections
    "#);
    assert_eq!(snapshot(&home, "chat").unwrap(), None);

    let again = converse(&home);
    let mut reopened = Log::open(&home).reopen(second.id()).unwrap();
    say(&mut reopened, "hello\nworld");
    fs::remove_file(home.examples_dir().join("set.jsonl")).unwrap();
    let commit = snapshot(&home, "<evil>\n").unwrap().unwrap();
    let message = commit
        .message
        .replace(again.id(), "AGAIN")
        .replace(second.id(), "SECOND")
        .replace(&format!("{:.0}", again.started()), "TIME")
        .replace(&format!("{:.0}", second.started()), "TIME");
    insta::assert_snapshot!(message, @r#"
    6 records in 2 sessions, 1 file removed

    examples/set.jsonl: removed, 1 line
    SECOND TIME 1 turn, 0 corrections "hello world"
    AGAIN TIME 2 turns, 1 correction "wake me up at seven in the morning on…"
    "#);
    assert_eq!(history(&home).len(), 2);
    let repository = git2::Repository::open(home.log_dir()).unwrap();
    let last = repository.head().unwrap().peel_to_commit().unwrap();
    assert_eq!(last.author().name().unwrap(), "evil");
    assert_eq!(last.committer().email().unwrap(), "mynah@localhost");
    // People's `git status` is clean.
    assert!(repository.statuses(None).unwrap().is_empty());
}

#[test]
fn an_unchanged_log_of_days_ago_is_not_read_again_and_a_torn_line_is_left_out() {
    let (_directory, home) = home();
    let session = converse(&home);
    let mut bytes = fs::read(session.path()).unwrap();
    let whole = bytes.len();
    bytes.extend_from_slice(b"{\"schema\":1,");
    fs::write(session.path(), &bytes).unwrap();
    snapshot(&home, "").unwrap().unwrap();
    let repository = git2::Repository::open(home.log_dir()).unwrap();
    let tree = repository.head().unwrap().peel_to_tree().unwrap();
    let path = session.path().strip_prefix(home.log_dir()).unwrap().to_owned();
    let blob = tree.get_path(&path).unwrap().id();
    assert_eq!(repository.find_blob(blob).unwrap().content().len(), whole);
    assert_eq!(snapshot(&home, "").unwrap(), None);
    fs::write(session.path(), &bytes[..whole]).unwrap();
    assert_eq!(snapshot(&home, "").unwrap(), None);
}

#[test]
fn a_snapshot_that_is_killed_anywhere_is_taken_the_next_time() {
    for n in 0.. {
        let (_directory, home) = home();
        converse(&home);
        let (fault, calls) = full_at(n);
        let result = snapshot_with(&home, "test", &fault);
        if calls.load(Ordering::SeqCst) <= n {
            assert!(n > 5, "{n} steps only");
            return;
        }
        // The last step writes the index, which is nobody's loss.
        let written = matches!(&result, Ok(Some(_)));
        let again = snapshot(&home, "test").unwrap();
        assert_eq!(again.is_some(), !written, "fault {n}");
        assert_eq!(history(&home).len(), 1);
        converse(&home);
        assert!(snapshot(&home, "test").unwrap().is_some());
        assert_eq!(history(&home).len(), 2);
    }
}

#[test]
fn lock_files_of_a_killed_process_are_removed_under_the_lock_of_the_home_only() {
    let (_directory, home) = home();
    converse(&home);
    snapshot(&home, "test").unwrap().unwrap();
    let git = home.log_dir().join(".git");
    for name in ["index.lock", "HEAD.lock", "refs/heads/main.lock"] {
        fs::write(git.join(name), "").unwrap();
    }
    converse(&home);
    let error = snapshot(&home, "test").unwrap_err();
    assert!(error.hint().contains("*.lock"), "{error}: {}", error.hint());
    let held = home.lock("home").unwrap();
    assert!(snapshot(&home, "test").unwrap().is_some());
    drop(held);
    assert_eq!(history(&home).len(), 2);
    assert!(!git.join("index.lock").exists());
}

#[cfg(unix)]
#[test]
fn a_home_of_another_owner_is_committed_to() {
    let (_directory, home) = home();
    converse(&home);
    snapshot(&home, "test").unwrap().unwrap();
    let git = home.log_dir().join(".git");
    for path in [home.log_dir(), git] {
        if std::os::unix::fs::chown(&path, Some(54_321), Some(54_321)).is_err() {
            eprintln!("skipped: only root can give a directory away");
            return;
        }
    }
    converse(&home);
    assert!(snapshot(&home, "test").unwrap().is_some());
}

#[test]
fn a_repository_that_is_none_is_named() {
    let (_directory, home) = home();
    fs::write(home.log_dir().join(".git"), "nonsense").unwrap();
    let error = snapshot(&home, "test").unwrap_err();
    assert!(error.to_string().contains("git repository"), "{error}");
    assert!(!error.hint().is_empty());
}
