//! A full disk at every durable step, and then the same again with room.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use mynah_data::{
    Durability, FaultPoint, Home, ImportOptions, Log, LogOptions, Record, fault, import, imported_examples,
    taught_answers,
};

use crate::support::{full_at, full_in, home, turn};

const FILE: &str = "{\"text\":\"play jazz\",\"intent\":\"play\"}\n{\"question\":\"why\",\"answer\":\"because\"}\n";

fn converse(home: &Home, fault: FaultPoint) -> (usize, usize) {
    let log = Log::open_with(home, LogOptions::with_fault(fault));
    let mut acknowledged = 0;
    let mut refused = 0;
    let Ok(mut session) = log.start_session("chat") else {
        return (0, 1);
    };
    for text in ["one", "two", "three"] {
        let record = Record::Interaction(turn(session.id(), text));
        match session.append(&record) {
            Ok(()) => acknowledged += 1,
            Err(error) => {
                assert!(error.hint().contains("make room"), "{error}");
                refused += 1;
            }
        }
    }
    (acknowledged, refused)
}

fn turns(home: &Home) -> usize {
    Log::open(home)
        .records()
        .unwrap()
        .filter(|record| matches!(record.as_ref().unwrap(), Record::Interaction(_)))
        .count()
}

#[test]
fn what_was_acknowledged_is_in_the_log_and_what_was_refused_is_not() {
    for n in 0.. {
        let (_directory, home) = home();
        let (fault, calls) = full_at(n);
        let (acknowledged, refused) = converse(&home, fault);
        assert_eq!(turns(&home), acknowledged, "fault {n}");
        if calls.load(Ordering::SeqCst) <= n {
            assert_eq!((acknowledged, refused), (3, 0));
            assert!(n >= 10, "{n} steps only");
            return;
        }
        assert_eq!(refused, 1, "fault {n}");
        // With room again, everything works.
        assert_eq!(converse(&home, fault::none()), (3, 0));
        assert_eq!(turns(&home), acknowledged + 3);
    }
}

#[test]
fn a_line_that_could_not_be_cut_off_is_cut_off_by_the_next_writer() {
    let (_directory, home) = home();
    let log = Log::open(&home);
    let mut session = log.start_session("chat").unwrap();
    session.append(&Record::Interaction(turn(session.id(), "one"))).unwrap();
    let torn = format!("{}{{\"schema\":1,", fs::read_to_string(session.path()).unwrap());
    fs::write(session.path(), &torn).unwrap();
    let failing = LogOptions::with_fault(full_in("log.truncate"));
    assert!(Log::open_with(&home, failing).reopen(session.id()).is_err());
    assert_eq!(turns(&home), 1);
    session.append(&Record::Interaction(turn(session.id(), "two"))).unwrap();
    assert_eq!(turns(&home), 2);
}

/// A fault point that fails as a full disk at the first call of one step.
fn full_once(step: &'static str) -> FaultPoint {
    let failed = AtomicUsize::new(0);
    Arc::new(move |name| match name == step && failed.fetch_add(1, Ordering::SeqCst) == 0 {
        true => Err(std::io::ErrorKind::StorageFull.into()),
        false => Ok(()),
    })
}

#[test]
fn a_line_synced_behind_the_writer_is_there_at_once_and_a_failure_is_told_by_the_end() {
    let (_directory, home) = home();
    let behind = |fault| LogOptions::with_fault(fault).durability(Durability::Process);
    let mut session = Log::open_with(&home, behind(fault::none())).start_session("chat").unwrap();
    session.append(&Record::Interaction(turn(session.id(), "one"))).unwrap();
    assert_eq!(turns(&home), 1, "the operating system has it");
    session.end("quit").unwrap();

    for step in ["log.sync", "log.sync_directory"] {
        let mut session = Log::open_with(&home, behind(full_once(step))).start_session("chat").unwrap();
        let record = Record::Interaction(turn(session.id(), "two"));
        // The failure is that of the session's first record; who hears of it depends on the thread.
        let heard = [session.append(&record), session.append(&record), session.end("quit")];
        let errors: Vec<String> =
            heard.into_iter().filter_map(|result| result.err().map(|error| error.to_string())).collect();
        assert!(errors.len() == 1 && errors[0].contains("make durable"), "{step}: {errors:?}");
        assert!(session.end("quit").is_ok(), "told once");
    }
}

#[test]
fn a_session_that_is_dropped_was_waited_for() {
    let (_directory, home) = home();
    let synced = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&synced);
    let fault: FaultPoint = Arc::new(move |step| {
        counted.fetch_add(usize::from(step == "log.sync"), Ordering::SeqCst);
        Ok(())
    });
    let log = Log::open_with(&home, LogOptions::with_fault(fault).durability(Durability::Process));
    let mut session = log.start_session("chat").unwrap();
    for text in ["one", "two"] {
        session.append(&Record::Interaction(turn(session.id(), text))).unwrap();
    }
    drop(session);
    assert!((1..=3).contains(&synced.load(Ordering::SeqCst)), "lines that wait together are synced together");
    assert_eq!(turns(&home), 2);
}

#[test]
fn an_import_is_whole_or_absent() {
    let before = "{\"text\":\"old\",\"intent\":\"old\"}\n";
    for n in 0.. {
        let (_directory, home) = home();
        import(&home, before.as_bytes(), "file.jsonl", &ImportOptions::default()).unwrap();
        let (fault, calls) = full_at(n);
        let options = ImportOptions { fault, ..ImportOptions::default() };
        let result = import(&home, FILE.as_bytes(), "file.jsonl", &options);
        let texts: Vec<String> = imported_examples(&home).unwrap().map(|example| example.unwrap().text).collect();
        assert!(texts == ["old"] || texts == ["play jazz"], "fault {n}: {texts:?}");
        if calls.load(Ordering::SeqCst) <= n {
            assert_eq!(result.unwrap().imported(), 2);
            assert!(n >= 8, "{n} steps only");
            return;
        }
        assert!(result.is_err(), "fault {n}");
        let again = import(&home, FILE.as_bytes(), "file.jsonl", &ImportOptions::default());
        assert_eq!(again.unwrap().imported(), 2);
        assert_eq!(taught_answers(&home).unwrap().count(), 1, "fault {n}");
        let names: Vec<_> = fs::read_dir(home.examples_dir()).unwrap().collect();
        assert_eq!(names.len(), 1, "nothing temporary stays");
    }
}

#[test]
fn every_durable_step_is_listed_and_every_listed_step_happens() {
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let recorded = Arc::clone(&seen);
    let fault: FaultPoint = Arc::new(move |step| {
        recorded.lock().unwrap().insert(step);
        Ok(())
    });
    let (_directory, home) = home();
    converse(&home, fault.clone());
    let log = Log::open_with(&home, LogOptions::with_fault(fault.clone()));
    let id = log.session_ids().unwrap().remove(0);
    let path = log.session(&id).unwrap().path;
    fs::write(&path, "torn").unwrap();
    log.reopen(&id).unwrap();
    let options = ImportOptions { fault: fault.clone(), ..ImportOptions::default() };
    import(&home, FILE.as_bytes(), "file.jsonl", &options).unwrap();
    fs::write(home.memory_path(), "torn").unwrap();
    import(&home, FILE.as_bytes(), "file.jsonl", &options).unwrap();
    #[cfg(feature = "git")]
    mynah_data::snapshot::snapshot_with(&home, "test", &fault).unwrap();
    let listed: BTreeSet<&str> =
        fault::STEPS.iter().copied().filter(|step| cfg!(feature = "git") || !step.starts_with("snapshot.")).collect();
    assert_eq!(*seen.lock().unwrap(), listed);
}

/// Talks, imports and takes a snapshot, and dies at the step that the parent names.
#[test]
fn a_process_that_dies() {
    let (Some(path), Some(step)) = (std::env::var_os(HOME), std::env::var(STEP).ok()) else {
        // Only its parent, the next test, has something to do for it.
        return;
    };
    let step: usize = step.parse().unwrap();
    let home = Home::new(path);
    let calls = AtomicUsize::new(0);
    let fault: FaultPoint = Arc::new(move |_| {
        if calls.fetch_add(1, Ordering::SeqCst) == step {
            std::process::abort();
        }
        Ok(())
    });
    home.create().unwrap();
    let _lock = home.lock("home").unwrap();
    let durability = if std::env::var_os(BEHIND).is_some() { Durability::Process } else { Durability::Disk };
    let log = Log::open_with(&home, LogOptions::with_fault(fault.clone()).durability(durability));
    let mut session = log.start_session("chat").unwrap();
    for text in ["one", "two"] {
        let turn = turn(session.id(), text);
        session.append(&Record::Interaction(turn.clone())).unwrap();
        println!("acknowledged {}", turn.id);
    }
    session.end("quit").unwrap();
    let options = ImportOptions { fault: fault.clone(), ..ImportOptions::default() };
    import(&home, FILE.as_bytes(), "file.jsonl", &options).unwrap();
    println!("imported");
    #[cfg(feature = "git")]
    mynah_data::snapshot::snapshot_with(&home, "test", &fault).unwrap();
    println!("done");
}

const HOME: &str = "MYNAH_TEST_CRASH_HOME";
const STEP: &str = "MYNAH_TEST_CRASH_STEP";
const BEHIND: &str = "MYNAH_TEST_CRASH_BEHIND";

#[test]
fn what_a_killed_process_acknowledged_is_there_and_the_next_one_works() {
    kill_at_every_step(Durability::Disk);
}

#[test]
fn so_it_is_when_the_lines_are_synced_behind_the_writer() {
    kill_at_every_step(Durability::Process);
}

fn kill_at_every_step(durability: Durability) {
    for step in 0.. {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::new(directory.path().join("home"));
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "crash::a_process_that_dies", "--nocapture"]);
        child.env(HOME, home.root()).env(STEP, step.to_string()).env_remove(BEHIND);
        if durability == Durability::Process {
            child.env(BEHIND, "1");
        }
        let child = child.output().unwrap();
        let said = String::from_utf8(child.stdout).unwrap();
        let log = Log::open(&home);
        let acknowledged: Vec<&str> =
            said.lines().filter_map(|line| line.split_once("acknowledged ").map(|(_, id)| id.trim())).collect();
        for id in &acknowledged {
            assert!(log.find_interaction(id).unwrap().is_some(), "step {step}");
        }
        let records: Result<Vec<Record>, _> = log.records().unwrap().collect();
        assert!(records.is_ok(), "step {step}");
        if said.contains("imported") {
            assert_eq!(imported_examples(&home).unwrap().count(), 1);
        }
        // The lock died with its holder.
        home.create().unwrap();
        let _lock = home.lock("home").unwrap();
        for session in log.unfinished().unwrap() {
            log.reopen(&session.id).unwrap().end("interrupted").unwrap();
        }
        assert_eq!(log.unfinished().unwrap(), []);
        let again = import(&home, FILE.as_bytes(), "file.jsonl", &ImportOptions::default());
        assert_eq!(again.unwrap().imported(), 2);
        assert_eq!(taught_answers(&home).unwrap().count(), 1);
        #[cfg(feature = "git")]
        {
            mynah_data::snapshot(&home, "test").unwrap();
            assert!(mynah_data::head(&home).unwrap().is_some());
        }
        if child.status.success() {
            assert_eq!(acknowledged.len(), 2);
            assert!(said.contains("done") && step > 15, "{step} steps only");
            return;
        }
    }
}
