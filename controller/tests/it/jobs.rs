//! Jobs of the service: durable, stoppable, resumed, and contained in a process of their own.

use std::time::Duration;

use serde_json::{Value, json};

#[cfg(unix)]
use crate::crash::is_whole;
use crate::home::{TestHome, errors};
use crate::service_home::Running;

/// How often a job is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

fn fine_tune(service: &Running, epochs: usize) -> String {
    let (status, answer) = service.ask("POST", "/fine-tune", &json!({"training": {"epochs": epochs}, "force": true}));
    assert_eq!(status, 202, "{answer}");
    answer["job"].as_str().unwrap().to_owned()
}

fn job(service: &Running, id: &str) -> Value {
    let (status, job) = service.ask("GET", &format!("/jobs/{id}"), &Value::Null);
    assert_eq!(status, 200, "{job}");
    job
}

/// Waits until a job looks as it should.
fn wait_for(service: &Running, id: &str, is_there: impl Fn(&Value) -> bool) -> Value {
    loop {
        let job = job(service, id);
        if is_there(&job) {
            return job;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn is_over(job: &Value) -> bool {
    !matches!(job["state"].as_str(), Some("queued" | "running"))
}

fn is_training(job: &Value) -> bool {
    job["state"] == "running" && job["stage"] == "fine_tune"
}

fn kill(process: &Value) {
    let process = process.as_u64().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-KILL", &process]).status().unwrap().success());
}

#[test]
fn a_job_tells_what_it_does_what_from_and_what_came_of_it() {
    let home = TestHome::trained();
    let service = Running::start(&home);
    let id = fine_tune(&service, 1);
    let done = wait_for(&service, &id, is_over);
    assert!(matches!(done["state"].as_str(), Some("succeeded" | "refused")), "{done}");
    assert_eq!((&done["trigger"], &done["attempts"], &done["worker"]), (&json!("api"), &json!(1), &Value::Null));
    let stages: Vec<&str> = done["stages"].as_array().unwrap().iter().map(|it| it["stage"].as_str().unwrap()).collect();
    assert!(stages.starts_with(&["snapshot", "dataset"]) && stages.ends_with(&["gate", "promote"]), "{stages:?}");
    assert!(done["cpu_seconds"].as_f64().unwrap() > 0.0);
    let shown = home.json(&["models", "show", done["outputs"]["version"].as_str().unwrap()]);
    assert_eq!(done["outputs"]["digest"], shown["digest"]);
    assert_eq!(done["inputs"]["parent"], shown["parent"]);
    for input in ["production", "dataset", "settings", "functions"] {
        assert!(done["inputs"][input].as_str().is_some_and(|digest| digest.len() >= 40), "{input}: {done}");
    }

    // The same in every way, with the service and without.
    let (_, listed) = service.ask("GET", "/jobs", &Value::Null);
    assert_eq!(listed["jobs"], json!([done]));
    assert_eq!(home.json(&["jobs", "show", &id]), done);
    let log = home.ok(&["jobs", "log", "last"]);
    assert!(log.contains("fine-tune") && log.contains("v2"), "{log}");
    assert_eq!(service.stop(), Some(0));
    assert_eq!(home.json(&["jobs", "list"])["jobs"], json!([done]));
    assert!(home.ok(&["jobs", "show"]).contains("verdict"));
    let missing = home.run(&["jobs", "show", "j_no"]);
    assert!(errors(&missing).contains("hint: `mynah jobs list`"), "{}", errors(&missing));
}

#[cfg(unix)]
#[test]
fn a_job_at_work_is_stopped_and_the_next_one_starts() {
    let home = TestHome::trained();
    let service = Running::start(&home);
    // One that has hardly begun.
    let first = fine_tune(&service, 1000);
    assert_eq!(service.ask("DELETE", &format!("/jobs/{first}"), &Value::Null).0, 200);
    assert_eq!(wait_for(&service, &first, is_over)["state"], "cancelled");
    let long = fine_tune(&service, 1000);
    let waiting = fine_tune(&service, 1000);
    wait_for(&service, &long, is_training);
    assert_eq!(job(&service, &waiting)["state"], "queued");
    let (status, answer) = service.ask("DELETE", &format!("/jobs/{long}"), &Value::Null);
    assert_eq!((status, &answer["id"]), (200, &json!(long)));
    assert_eq!(wait_for(&service, &long, is_over)["state"], "cancelled");
    wait_for(&service, &waiting, is_training);
    home.ok(&["jobs", "cancel", &waiting]);
    assert_eq!(wait_for(&service, &waiting, is_over)["state"], "cancelled");
    assert_eq!(service.ask("POST", "/jobs/j_no/cancel", &json!({})).0, 404);
    let again = home.run(&["jobs", "cancel", &waiting]);
    assert!(errors(&again).contains("has cancelled already"), "{}", errors(&again));
    assert_eq!(home.json(&["models", "list"])["production"], "v1");
}

#[cfg(unix)]
#[test]
fn a_worker_that_crashes_fails_its_job_and_nothing_else() {
    let home = TestHome::trained();
    let service = Running::start(&home);
    let id = fine_tune(&service, 1000);
    let at_work = wait_for(&service, &id, is_training);
    kill(&at_work["worker"]);
    let failed = wait_for(&service, &id, is_over);
    assert_eq!(failed["state"], "failed");
    assert!(failed["error"].as_str().unwrap().contains("signal: 9"), "{failed}");
    assert!(failed["hint"].as_str().unwrap().contains("mynah jobs log"), "{failed}");
    assert_eq!(service.ask("POST", "/chat", &json!({"message": "play abba"})).0, 200);
    let next = fine_tune(&service, 1);
    assert!(matches!(wait_for(&service, &next, is_over)["state"].as_str(), Some("succeeded" | "refused")));
}

#[cfg(unix)]
#[test]
fn a_job_goes_on_after_its_service_was_killed() {
    let home = TestHome::trained();
    let mut service = Running::start(&home);
    let id = fine_tune(&service, 8);
    let at_work = wait_for(&service, &id, is_training);
    let runs = home.path().join("runs");
    let has_checkpoint = || {
        std::fs::read_dir(&runs).is_ok_and(|runs| runs.flatten().any(|run| is_whole(&run.path().join("checkpoint"))))
    };
    while !has_checkpoint() {
        assert!(!is_over(&job(&service, &id)), "the job was over before it could be killed");
        std::thread::sleep(Duration::from_millis(5));
    }
    service.child.kill().unwrap();
    service.child.wait().unwrap();
    // The worker notices, and leaves its checkpoints.
    let process = std::path::PathBuf::from(format!("/proc/{}", at_work["worker"]));
    while cfg!(target_os = "linux") && process.exists() {
        std::thread::sleep(LOOK_EVERY);
    }
    assert_eq!(home.json(&["jobs", "show", &id])["state"], "running", "nobody was there to note its end");
    let service = Running::start(&home);
    let done = wait_for(&service, &id, is_over);
    assert!(matches!(done["state"].as_str(), Some("succeeded" | "refused")), "{done}");
    assert_eq!(done["attempts"], 2);
    assert!(done["outcome"]["resumed"]["after_epoch"].as_u64().is_some_and(|epoch| epoch >= 1), "{done}");
}

#[cfg(unix)]
#[test]
fn a_service_that_stops_in_order_keeps_its_job_for_the_next_start() {
    let home = TestHome::trained();
    let service = Running::start(&home);
    let id = fine_tune(&service, 1000);
    wait_for(&service, &id, is_training);
    assert_eq!(service.stop(), Some(0));
    let kept = home.json(&["jobs", "show", &id]);
    assert_eq!((&kept["state"], &kept["worker"]), (&json!("queued"), &Value::Null));
    assert!(kept["note"].as_str().unwrap().contains("goes on"), "{kept}");
    home.ok(&["jobs", "cancel", &id]);
    assert_eq!(home.json(&["jobs", "show", &id])["state"], "cancelled");
}

#[test]
fn a_schedule_that_was_missed_is_caught_up_once() {
    let home = TestHome::trained();
    let settings = std::fs::read_to_string(home.path().join("mynah.toml")).unwrap();
    let schedule = "[service]\nsession_end = false\nmax_load = 0.0\non_battery = true\ncatch_up_hours = 100000\n\
        [[service.schedules]]\ncron = '0 3 1 1 *'\ntime_zone = 'Asia/Tokyo'\n";
    home.write("mynah.toml", format!("{settings}{schedule}").as_bytes());
    let chat = home.run_with(&["chat", "--no-learn"], b"is it chilly outside\n/correct weather\n/quit\n");
    assert_eq!(chat.status.code(), Some(0), "{}", errors(&chat));
    std::fs::create_dir_all(home.path().join("jobs")).unwrap();
    home.write("jobs/ledger.json", br#"{"schedules_until": "2020-01-01T00:00:00Z"}"#);
    let service = Running::start(&home);
    let id = loop {
        let (_, listed) = service.ask("GET", "/jobs", &Value::Null);
        if let Some(id) = listed["jobs"][0]["id"].as_str() {
            break id.to_owned();
        }
        std::thread::sleep(LOOK_EVERY);
    };
    let done = wait_for(&service, &id, is_over);
    assert_eq!(done["trigger"], "schedule");
    assert!(matches!(done["state"].as_str(), Some("succeeded" | "refused")), "{done}");
    service.stop();
    let service = Running::start(&home);
    // Whoever asks first is answered first: what the clock had wanted would be in the list by then.
    let next = fine_tune(&service, 1);
    wait_for(&service, &next, is_over);
    assert_eq!(service.ask("GET", "/jobs", &Value::Null).1["jobs"].as_array().unwrap().len(), 2);
}
