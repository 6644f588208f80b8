//! The program is killed before every durable step of a command; the next command works and nothing acknowledged is lost.

use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};

use mynah_data::{Home, Log, Record};

use crate::home::{TestHome, errors, text, with_input};

/// More steps than any of these commands takes.
const MANY: usize = 400;

/// The durable steps of a training run, each by its name.
const TRAINING_STEPS: [&str; 8] = [
    "object.write",
    "object.sync",
    "object.rename",
    "object.sync_directory",
    "journal.write",
    "journal.sync",
    "journal.create",
    "journal.sync_directory",
];

/// Runs a command on copies of a home, killed before its first, second, … step, until one runs to its end; two at a time.
/// Returns how many steps there were.
fn killed_at_every_step(
    prepare: impl Fn() -> TestHome + Sync,
    run: impl Fn(&TestHome, &str) -> Output + Sync,
    check: impl Fn(&TestHome, &Output) + Sync,
) -> usize {
    let next = AtomicUsize::new(1);
    let last = AtomicUsize::new(MANY);
    let work = || {
        loop {
            let step = next.fetch_add(1, Ordering::SeqCst);
            if step >= last.load(Ordering::SeqCst) {
                return;
            }
            let home = prepare();
            let output = run(&home, &format!("abort:*:{step}"));
            check(&home, &output);
            let verified = home.run(&["models", "verify"]);
            assert_eq!(verified.status.code(), Some(0), "step {step}: {}", errors(&verified));
            if output.status.code().is_some() {
                assert_eq!(output.status.code(), Some(0), "step {step}: {}", errors(&output));
                last.fetch_min(step, Ordering::SeqCst);
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let last = last.load(Ordering::SeqCst);
    assert!(last < MANY, "the command takes more than {MANY} steps");
    last - 1
}

#[test]
fn a_killed_promotion_leaves_the_one_or_the_other() {
    let two = TestHome::trained();
    two.second_version();
    let production = two.json(&["models", "list"])["production"].clone();
    assert_eq!(production, "v2");
    let prepare = || {
        let home = TestHome::empty();
        crate::home::copy_directory(two.path(), home.path());
        home
    };
    let run = |home: &TestHome, fault: &str| {
        home.command(&["models", "promote", "v1"]).env("MYNAH_FAULT", fault).output().unwrap()
    };
    let check = |home: &TestHome, output: &Output| {
        let production = home.json(&["models", "list"])["production"].clone();
        assert!(production == "v1" || (production == "v2" && output.status.code().is_none()), "{production}");
        home.ok(&["models", "rollback", "v2"]);
    };
    assert!(killed_at_every_step(prepare, run, check) >= 3);
}

#[test]
fn a_killed_chat_has_every_turn_that_was_answered() {
    let talk =
        b"play abba\nwill it rain in rome\n/correct weather city=rome\n/good\nlights on\n/teach They are on.\n/quit\n";
    let run = |home: &TestHome, fault: &str| {
        let mut command = home.command(&["chat", "--no-learn", "--json"]);
        command.env("MYNAH_FAULT", fault);
        with_input(command, talk)
    };
    let check = |home: &TestHome, output: &Output| {
        let log = Log::open(&Home::new(home.path()));
        let logged: Vec<String> = log
            .records()
            .unwrap()
            .filter_map(|record| match record.unwrap() {
                Record::Interaction(turn) => Some(turn.id),
                _ => None,
            })
            .collect();
        for line in text(output).lines() {
            let reply: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(logged.iter().any(|id| *id == reply["interaction"]), "{line} is not in the log");
        }
        let next = home.run_with(&["chat", "--no-learn", "--json"], b"play queen\n");
        assert_eq!(next.status.code(), Some(0), "{}", errors(&next));
        assert!(text(&next).contains("interaction"));
    };
    assert!(killed_at_every_step(TestHome::trained, run, check) >= 8);
}

#[test]
fn a_killed_training_is_repeated_by_the_next_one() {
    let base = TestHome::new();
    let prepare = || {
        let home = TestHome::empty();
        crate::home::copy_directory(base.path(), home.path());
        home
    };
    let run = |home: &TestHome, fault: &str| {
        home.command(&["train", "--epochs", "1"]).env("MYNAH_FAULT", fault).output().unwrap()
    };
    // Once at every step that a run takes, by its name: each kill costs a whole training.
    for step in TRAINING_STEPS {
        let home = prepare();
        let output = run(&home, &format!("abort:{step}:1"));
        assert_eq!(output.status.code(), None, "{step} was never reached: {}", errors(&output));
        assert_eq!(home.json(&["models", "list"])["production"], serde_json::Value::Null, "{step}");
        home.ok(&["models", "verify"]);
    }
    // One that was killed before its last entry is followed by one that ends well.
    let home = prepare();
    run(&home, "abort:journal.create:2");
    assert_eq!(home.json(&["models", "list"])["production"], serde_json::Value::Null);
    home.ok(&["train", "--epochs", "1"]);
    assert_eq!(home.json(&["models", "list"])["production"], "v1");
}

#[test]
fn a_full_disk_is_reported_and_nothing_is_lost() {
    let home = TestHome::trained();
    let mut command = home.command(&["chat", "--no-learn", "--json"]);
    command.env("MYNAH_FAULT", "enospc:*:4");
    let output = with_input(command, b"play abba\nplay queen\nplay bach\n");
    assert_eq!(output.status.code(), Some(1), "{}", errors(&output));
    assert!(errors(&output).contains("hint:"), "{}", errors(&output));
    let next = home.run_with(&["chat", "--no-learn", "--json"], b"play queen\n");
    assert_eq!(next.status.code(), Some(0));
}

#[cfg(unix)]
#[test]
fn an_interrupted_training_promotes_nothing() {
    use std::io::{BufRead, BufReader, Read};
    let home = TestHome::new();
    let mut command = home.command(&["train", "--epochs", "1000"]);
    let mut child = command.stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.starts_with("fine-tune"), "{line}");
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest}");
    assert!(rest.contains("error: the run was stopped; nothing was promoted"), "{rest}");
    assert_eq!(home.json(&["models", "list"])["production"], serde_json::Value::Null);
    home.ok(&["train", "--epochs", "1"]);
    assert_eq!(home.json(&["status"])["stopped_run"], serde_json::Value::Null);
}

/// Whether the first epoch is written.
#[cfg(unix)]
pub fn is_whole(checkpoint: &std::path::Path) -> bool {
    ["model", "optim", "scheduler"].iter().all(|part| checkpoint.join(format!("{part}-1.bpk")).exists())
}

/// Waits until a fine-tune under way in `home` has left something to go on from.
#[cfg(unix)]
fn wait_for_checkpoint(home: &TestHome, child: &mut std::process::Child) {
    let runs = home.path().join("runs");
    let is_there = || {
        std::fs::read_dir(&runs).is_ok_and(|runs| runs.flatten().any(|run| is_whole(&run.path().join("checkpoint"))))
    };
    while !is_there() {
        assert!(child.try_wait().unwrap().is_none(), "the run was over before it could be killed");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// Waits until a run says that a stage began.
#[cfg(unix)]
fn wait_for_stage(child: &mut std::process::Child, stage: &str) {
    use std::io::{BufRead, BufReader};
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with(stage)), "the run was over before `{stage}` began");
}

/// Kills a training run when `is_time`, runs it again, and compares it with one that nobody disturbed; returns what `status` says of
/// the killed run, and the report of the one after it.
#[cfg(unix)]
fn killed_and_run_again(
    environment: &[(&str, &str)],
    is_time: impl Fn(&TestHome, &mut std::process::Child),
) -> (TestHome, serde_json::Value, serde_json::Value) {
    let home = TestHome::new();
    let undisturbed = TestHome::empty();
    crate::home::copy_directory(home.path(), undisturbed.path());
    let train = |home: &TestHome| {
        let mut command = home.command(&["train", "--epochs", "8", "--json"]);
        command.envs(environment.iter().copied()).stdin(std::process::Stdio::null());
        command
    };
    let report = |home: &TestHome| -> serde_json::Value {
        let output = train(home).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", errors(&output)))
    };
    let expected = report(&undisturbed);
    assert_eq!(expected["resumed"], serde_json::Value::Null);

    let silent = std::process::Stdio::null;
    let mut child = train(&home).stdout(silent()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    is_time(&home, &mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    let stopped = home.json(&["status"])["stopped_run"].clone();
    let again = report(&home);
    assert_eq!((&again["version"], &again["digest"]), (&expected["version"], &expected["digest"]));
    (home, stopped, again)
}

#[cfg(unix)]
#[test]
fn a_killed_fine_tune_goes_on_to_the_version_it_would_have_made() {
    let (home, stopped, resumed) = killed_and_run_again(&[], wait_for_checkpoint);
    assert!(stopped["epochs"].as_u64().unwrap() >= 1, "{stopped}");
    assert_eq!(resumed["resumed"]["run"], stopped["run"]);
    let register = home.ok(&["models", "log"]);
    assert!(register.contains("gone on from run"), "{register}");
}

#[cfg(unix)]
#[test]
fn a_run_that_is_killed_in_or_after_its_adaptation_makes_the_same_version() {
    let environment = [("MYNAH_TRAINING__ADAPTATION_EPOCHS", "2")];
    let (_, stopped, resumed) = killed_and_run_again(&environment, wait_for_checkpoint);
    assert_eq!(resumed["resumed"]["run"], stopped["run"]);
    killed_and_run_again(&environment, |_, child| wait_for_stage(child, "adapt"));
}
