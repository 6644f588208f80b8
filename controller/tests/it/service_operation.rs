//! Running the service: a fresh home, readiness, figures, signals, webhooks, and what the doctor says.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};

use crate::home::{TestHome, errors, functions, text};
use crate::service_home::{PATIENCE, Running, receiver, until};

#[test]
fn one_command_serves_a_fresh_home() {
    let home = TestHome::empty();
    home.write("functions.json", functions().to_string().as_bytes());
    let service = Running::start(&home);
    assert_eq!(service.send("GET", "/livez", "", b"").status, 200);
    let ready = service.send("GET", "/readyz", "", b"");
    assert_eq!((ready.status, &ready.body["serving"]), (200, &json!("base1")), "{}", ready.text);
    let reply = service.post("/chat", &json!({"message": "lights on in the kitchen"})).body;
    assert_eq!(reply["calls"][0]["function"], "lights", "{reply}");
    assert_eq!(service.stop(), Some(0));
}

#[test]
fn figures_are_prometheus_text() {
    let home = TestHome::trained();
    let service = Running::start(&home);
    let reply = service.post("/chat", &json!({"message": "play abba"})).body;
    service.post("/feedback", &json!({"interaction": reply["interaction"], "rating": "up"}));
    service.get("/jobs/none");
    let metrics = service.get("/metrics");
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for line in [
        "http_server_request_duration_seconds_count{http_request_method=\"POST\",http_response_status_code=\"200\",http_route=\"/chat\"} 1",
        "http_server_request_duration_seconds_count{http_request_method=\"GET\",http_response_status_code=\"404\",http_route=\"/jobs/{job}\"} 1",
        "mynah_refused_requests_total{code=\"not_found\"} 1",
        "mynah_feedback_total{opinion=\"up\"} 1",
        "mynah_production_info{version=\"v1\"} 1",
        "mynah_open_sessions 1",
    ] {
        assert!(metrics.text.lines().any(|one| one == line), "{line}\n{}", metrics.text);
    }
    let Ok(mut promtool) = std::process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
    else {
        eprintln!("promtool is not installed; the figures are not checked with it");
        return;
    };
    promtool.stdin.take().unwrap().write_all(metrics.text.as_bytes()).unwrap();
    let checked = promtool.wait_with_output().unwrap();
    assert!(checked.status.success(), "{}{}", text(&checked), errors(&checked));
    assert_eq!(text(&checked) + &errors(&checked), "", "promtool has nothing to say");
}

#[test]
fn what_is_under_way_is_answered_before_it_stops() {
    let home = TestHome::trained();
    let service = Running::start(&home);
    service.send("GET", "/readyz", "", b"");
    // The head is there and half of the body: the request is under way.
    let mut stream = TcpStream::connect(&service.address).unwrap();
    let body = json!({"message": "play abba"}).to_string();
    let (first, rest) = body.split_at(5);
    let head = format!(
        "POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{}\r\n{first}",
        body.len(),
        service.bearer()
    );
    stream.write_all(head.as_bytes()).unwrap();
    until(|| service.get("/metrics").text.contains("http_server_active_requests 2").then_some(()));
    service.signal("TERM");
    until(|| (!home.path().join("service.json").exists()).then_some(()));
    stream.write_all(rest.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(service.stop(), Some(0));
}

#[test]
fn sighup_reads_the_settings_again_and_conversations_go_on() {
    let home = TestHome::trained();
    let service = Running::start(&home);
    let reply = service.post("/chat", &json!({"message": "play abba"})).body;
    let log = || std::fs::read_to_string(home.path().join("service.log")).unwrap();
    home.write("mynah.toml", b"[service]\nmax_body_bites = 3\n");
    service.signal("HUP");
    until(|| log().contains("the settings stay as they were").then_some(()));
    assert_eq!(service.get("/status").status, 200);
    home.write("mynah.toml", b"[service]\nmax_body_bytes = 200\n");
    service.signal("HUP");
    let long = json!({"message": "word ".repeat(100)});
    until(|| (service.post("/chat", &long).problem() == (413, "too_large")).then_some(()));
    let next = service.post("/chat", &json!({"message": "will it rain", "session": reply["session"]}));
    assert_eq!(next.status, 200, "{}", next.text);
    assert_eq!(service.stop(), Some(0));
}

#[test]
fn sighup_moves_the_service_only_where_it_can_listen() {
    let home = TestHome::trained();
    let listen = |address: &str| home.write("mynah.toml", format!("[service]\nlisten = '{address}'\n").as_bytes());
    listen("127.0.0.1:0");
    let mut service = Running::start_as(&home, &["serve"]);
    let log = || std::fs::read_to_string(home.path().join("service.log")).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let elsewhere = taken.local_addr().unwrap().to_string();
    listen(&elsewhere);
    service.signal("HUP");
    until(|| log().contains("the settings stay as they were").then_some(()));
    assert!(log().contains(&format!("cannot listen on {elsewhere}")), "{}", log());
    assert_eq!(service.get("/status").status, 200);
    home.write("mynah.toml", b"[service]\nlisten = '127.0.0.1:0'\n[service.telemetry]\nendpoint = 'collector'\n");
    service.signal("HUP");
    until(|| log().contains("`collector` is no http:// or https:// address").then_some(()));
    assert_eq!(service.get("/status").status, 200);
    listen(&elsewhere);
    drop(taken);
    service.signal("HUP");
    let address = || {
        let file = std::fs::read(home.path().join("service.json")).unwrap();
        serde_json::from_slice::<Value>(&file).map_or(Value::Null, |file| file["address"].clone())
    };
    until(|| (address() == elsewhere.as_str()).then_some(()));
    service.address = elsewhere;
    assert_eq!(service.get("/status").status, 200);
    assert_eq!(service.stop(), Some(0));
}

#[test]
fn a_webhook_is_told_signed_and_again_after_a_failure() {
    let home = TestHome::trained();
    home.second_version();
    let (address, received) = receiver(&[500, 204, 204]);
    let url = format!("{address}/hook");
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    home.write("hook.secret", secret.as_bytes());
    let file = home.path().join("hook.secret");
    let settings = format!("[service.webhooks]\nurls = ['{url}']\nsecret_file = '{}'\n", file.display());
    home.write("mynah.toml", settings.as_bytes());
    let service = Running::start(&home);
    service.send("GET", "/readyz", "", b"");
    until(|| home.path().join("service.webhooks").exists().then_some(()));
    assert_eq!(service.post("/versions/rollback", &json!({"reason": "worse"})).status, 200);
    let (first, body) = received.recv_timeout(PATIENCE).unwrap();
    let (again, same) = received.recv_timeout(PATIENCE).unwrap();
    assert_eq!(body, same);
    let news: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&news["type"], &news["data"]["version"]), (&json!("version.rolled_back"), &json!("v1")));
    assert_eq!(news["data"]["reason"], "worse");
    let header = |head: &str, name: &str| {
        head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned)).unwrap()
    };
    assert_eq!(header(&first, "webhook-id"), header(&again, "webhook-id"), "a receiver knows it again");
    assert!(header(&again, "webhook-signature").starts_with("v1,"));
    let tag = "If-Match: \"v1\"\r\n";
    let promoted = service.send("POST", "/versions/v2/promote", &(service.bearer() + tag), b"");
    assert_eq!(promoted.status, 200, "{}", promoted.text);
    let (_, body) = received.recv_timeout(PATIENCE).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["type"], "version.promoted");
    until(|| {
        let figures = service.get("/metrics").text;
        figures.contains("mynah_webhook_deliveries_total{outcome=\"delivered\"} 2").then_some(())
    });
}

#[test]
fn logs_are_json_when_asked() {
    let home = TestHome::trained();
    let service = Running::start_with(&home, &["--log-format", "json"]);
    let reply = service.post("/chat", &json!({"message": "play abba"})).body;
    home.write("mynah.toml", b"broken");
    service.signal("HUP");
    let log = || std::fs::read_to_string(home.path().join("service.log")).unwrap();
    let line = until(|| log().lines().find(|line| line.contains("settings stay")).map(str::to_owned));
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["level"], &line["target"]), (&json!("ERROR"), &json!("mynah_controller::service::serve")));
    assert!(line["timestamp"].is_string() && reply["session"].is_string());
}

#[test]
fn the_doctor_names_what_is_wrong_and_the_way_out() {
    let home = TestHome::trained();
    let well = home.run(&["doctor"]);
    assert_eq!(well.status.code(), Some(0), "{}{}", text(&well), errors(&well));
    let service = Running::start(&home);
    let report = home.json(&["doctor"]);
    let check = |report: &Value, name: &str| {
        let checks = report["checks"].as_array().unwrap().clone();
        checks.into_iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("{name}: {report}"))
    };
    assert_eq!(check(&report, "service")["state"], "fine");
    drop(service);

    home.write("functions.json", b"[{\"name\": 3}]");
    home.write("mynah.toml", b"[service]\nlissten = 'x'\n");
    let object = std::fs::read_dir(home.path().join("registry/objects")).unwrap().flatten().next().unwrap().path();
    let object = std::fs::read_dir(object).unwrap().flatten().next().unwrap().path();
    let mut bytes = std::fs::read(&object).unwrap();
    bytes[0] ^= 1;
    let mut permissions = std::fs::metadata(&object).unwrap().permissions();
    #[allow(clippy::permissions_set_readonly_false, reason = "a file of this test")]
    permissions.set_readonly(false);
    std::fs::set_permissions(&object, permissions).unwrap();
    std::fs::write(&object, bytes).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(home.path().join("service.token"), open).unwrap();
    }
    let ill = home.run(&["doctor", "--json"]);
    assert_eq!(ill.status.code(), Some(1));
    let report: Value = serde_json::from_str(&text(&ill)).unwrap();
    for (name, words) in [
        ("settings", "lissten"),
        ("functions", "functions.json"),
        ("registry", "damaged"),
        ("tokens", "read by others"),
    ] {
        let check = check(&report, name);
        assert_eq!(check["state"], "problem", "{check}");
        assert!(check["detail"].as_str().unwrap().contains(words), "{check}");
        assert!(check["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{check}");
    }
    assert_eq!(check(&report, "service")["state"], "warning", "a killed service left its file: {report}");
    let nothing = TestHome::empty().json(&["doctor"]);
    assert_eq!(check(&nothing, "home")["state"], "warning");
}

#[test]
fn the_unit_is_written_and_removed() {
    let home = TestHome::trained();
    let config = home.path().join("config");
    let run = |arguments: &[&str]| {
        let mut command = home.command(arguments);
        // Nobody's systemd is touched.
        command.env("XDG_CONFIG_HOME", &config).env("PATH", "/nonexistent").output().unwrap()
    };
    let installed = run(&["service", "install", "--no-start"]);
    assert_eq!(installed.status.code(), Some(0), "{}", errors(&installed));
    let path = config.join("systemd/user/mynah.service");
    let unit = std::fs::read_to_string(&path).unwrap();
    assert!(unit.contains("Type=notify") && unit.contains(&format!("{}\"", home.path().display())), "{unit}");
    let status = run(&["service", "status", "--json"]);
    let status: Value = serde_json::from_str(&text(&status)).unwrap();
    assert_eq!((&status["installed"], &status["systemd"]), (&json!(true), &json!("unknown")));
    let started = run(&["service", "install"]);
    assert_eq!(started.status.code(), Some(1));
    assert!(errors(&started).contains("cannot run systemctl"), "{}", errors(&started));
    assert_eq!(run(&["service", "uninstall"]).status.code(), Some(0));
    assert!(!path.exists());
}

#[cfg(unix)]
#[test]
fn systemd_is_told_when_it_is_ready_reloads_and_stops() {
    let home = TestHome::trained();
    let path = home.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = || {
        let mut buffer = [0; 256];
        let count = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..count]).trim().to_owned()
    };
    let mut service = home.command(&["serve", "--listen", "127.0.0.1:0"]);
    let mut service = service.env("NOTIFY_SOCKET", &path).stdout(std::process::Stdio::null()).spawn().unwrap();
    let signal = |name: &str| {
        let process = service.id().to_string();
        assert!(std::process::Command::new("kill").args([name, &process]).status().unwrap().success());
    };
    assert_eq!(told(), "READY=1");
    // At once: whoever is told that it is ready may ask it for anything.
    signal("-HUP");
    assert_eq!(told(), "RELOADING=1");
    assert_eq!(told(), "READY=1");
    signal("-TERM");
    assert_eq!(told(), "STOPPING=1");
    assert_eq!(service.wait().unwrap().code(), Some(0));
}
