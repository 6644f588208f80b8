//! Whatever comes in: a clear error with a hint, an exit status that says what kind, and nothing lost.

use serde_json::Value;

use crate::home::{TestHome, errors, program, text};

#[test]
fn help_explains_and_mistakes_are_usage_errors() {
    let help = program().arg("--help").output().unwrap();
    assert_eq!(help.status.code(), Some(0));
    for word in ["quickstart", "Examples:", "Exit statuses:", "MYNAH_HOME"] {
        assert!(text(&help).contains(word), "{word}");
    }
    assert!(text(&program().args(["init", "--help"]).output().unwrap()).contains("distilbert-base-uncased"));
    for wrong in [&["trian"][..], &["models"], &["evaluate"], &["train", "--epochs", "many"]] {
        assert_eq!(program().args(wrong).output().unwrap().status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn the_short_help_fits_a_screen() {
    let help = program().arg("-h").output().unwrap();
    insta::assert_snapshot!(text(&help), @r"
    A local assistant that learns from every conversation, and never gets worse

    Usage: mynah [OPTIONS] <COMMAND>

    Commands:
      quickstart  Show everything once: learn, talk, be corrected, learn again, roll back
      init        Set up a home: a base model and, if you like, functions
      import      Import examples, questions and answers from files
      train       Fine-tune a candidate, judge it, and promote it or refuse
      evaluate    Score a version on labelled examples
      backtest    Replay labelled examples as sessions and compare ways of learning from them
      report      Show the report of a run: verdict, figures, what changed; as text, JSON or a page
      predict     Read texts, print one understanding a line
      chat        Talk; corrections are used at once and learned at the end
      serve       Run the local service: HTTP on loopback, schedules, learning after sessions
      service     Install the service as a unit of your systemd, remove it, look at it
      doctor      Look for what is wrong with the home, and say how to mend it
      models      List, compare, promote, roll back, verify and export model versions
      log         Read the log of conversations
      labels      Labels that people gave: which are held back and why; accept or reject one
      status      What is in production, what is new, what runs
      pin         Keep what is in production: nothing is promoted or rolled back until `unpin`
      unpin       Let production change again
      jobs        Fine-tunes of the service: which wait, run and ran; what they said; stop one
      expect      Pin sentences with their call: no version that gets one wrong is promoted
      simulate    Try the rules on made-up candidates whose worth is known
      benchmark   Measure, as BENCHMARKS.md does
      bench       Time the encoder on this machine
      help        Print this message or the help of the given subcommand(s)

    Options:
          --home <DIR>  The home directory [default: $MYNAH_HOME, else the XDG data directory]
          --json        Print data as JSON on standard output
      -q, --quiet       Print only data and errors
      -h, --help        Print help (see more with '--help')
      -V, --version     Print version

    Examples:
      mynah quickstart                       see everything once, in a temporary home
      mynah init --functions functions.json  set up a home of your own
      mynah train && mynah chat              learn, then talk
    ");
}

#[test]
fn a_home_that_is_not_set_up_says_so() {
    let home = TestHome::empty();
    for command in [&["train"][..], &["status"], &["models", "list"], &["predict"]] {
        let output = home.run(command);
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        let expected = format!(
            "error: {} is not set up\nhint: run `mynah init` there, or `mynah quickstart` to see how it works\n",
            home.path().display()
        );
        assert_eq!(errors(&output), expected, "{command:?}");
    }
}

#[test]
fn an_unknown_setting_is_named_with_the_nearest_one() {
    let home = TestHome::empty();
    home.write("mynah.toml", b"[runtime]\ntreshold = 0.4\n");
    let output = home.run(&["status"]);
    assert_eq!(output.status.code(), Some(2));
    let errors = errors(&output);
    assert!(
        errors.contains(
            "mynah.toml, line 2: unknown key `treshold` in [runtime]; did you mean `threshold`?\nhint: known keys:"
        ),
        "{errors}"
    );
}

#[test]
fn a_device_that_nobody_has_is_a_usage_error() {
    let home = TestHome::new();
    let refused = |arguments: &[&str]| {
        let output = home.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{}", errors(&output));
        let begun = std::fs::read_dir(home.path().join("runs")).is_ok_and(|mut runs| runs.next().is_some());
        assert!(!begun, "a run was begun");
        errors(&output)
    };
    let unknown = refused(&["train", "--local", "--device", "gpu"]);
    assert!(unknown.contains("`gpu` is no device; known are cpu, cuda,") && unknown.contains("\nhint: "), "{unknown}");
    // Programs of the tests are built without graphics cards, unless somebody asks for them.
    for device in ["cuda", "wgpu:1"] {
        let kind = device.split(':').next().unwrap();
        if mynah_pipelines::TrainingDevice::check_built(device.parse().unwrap()).is_ok() {
            continue;
        }
        let unbuilt = refused(&["train", "--local", "--device", device]);
        let expected = format!("error: this program was built without `{kind}`, so it can't train on `{device}`");
        assert!(unbuilt.starts_with(&expected), "{unbuilt}");
        assert!(
            unbuilt.contains(&format!("hint: build it with `cargo build --release --features {kind}`")),
            "{unbuilt}"
        );
    }
    home.write("mynah.toml", b"[training]\ndevice = \"tpu\"\n");
    let setting = refused(&["train", "--local"]);
    assert!(setting.contains("mynah.toml, line 2: `tpu` is no device"), "{setting}");
}

#[test]
fn a_broken_line_is_named_and_the_rest_is_imported() {
    let home = TestHome::new();
    let file = home.write("mixed.jsonl", b"{\"text\":\"play abba\",\"intent\":\"play\"}\n{\"text\": broken\n\xff\xfe{}\n{\"text\":\"lights on\",\"intent\":\"lights\"}\n");
    let output = home.run(&["import", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3), "{}", errors(&output));
    let errors = errors(&output);
    assert!(
        errors.contains("skipped: mixed.jsonl:2: ") && errors.contains("skipped: mixed.jsonl:3: not UTF-8"),
        "{errors}"
    );
    assert!(errors.contains("mixed.jsonl: 2 examples imported, 2 lines skipped"), "{errors}");
    assert!(errors.contains("hint:"), "{errors}");
}

#[test]
fn nothing_usable_is_an_error() {
    let home = TestHome::new();
    let file = home.write("noise.jsonl", b"{\"a\":1}\n");
    assert_eq!(home.run(&["import", file.to_str().unwrap()]).status.code(), Some(1));
    let missing = home.run(&["import", "no-such-file.jsonl"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(errors(&missing).contains("cannot read no-such-file.jsonl"));
}

#[test]
fn every_line_of_predict_gets_its_line() {
    let home = TestHome::trained();
    let long = "play abba ".repeat(100_000);
    let mut input = b"\n  \nplay abba\nbr\xffken\n".to_vec();
    input.extend_from_slice(long.as_bytes());
    input.extend_from_slice("\n🎺🎺🎺\n\u{202e}\u{0}\n".as_bytes());
    let output = home.run_with(&["predict", "--json"], &input);
    assert_eq!(output.status.code(), Some(3), "{}", errors(&output));
    let lines: Vec<Value> = text(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 7);
    assert_eq!(lines[3]["error"], "not UTF-8 at byte 2");
    assert!(lines[4]["text"].as_str().unwrap().len() == long.len());
}

#[test]
fn a_chat_survives_whatever_is_typed() {
    let home = TestHome::trained();
    let mut input = b"\xff\xfe\n\n/correct\n/correct nothing a=b\n/teach\n/good\nplay abba\n/correct pley\n/correct play artist=queen\n".to_vec();
    input.extend_from_slice("word ".repeat(200_000).as_bytes());
    input.extend_from_slice(b"\n/good\n/quit\nnot read any more\n");
    let output = home.run_with(&["chat", "--no-learn"], &input);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    let errors = errors(&output);
    assert!(errors.contains("there is no function pley; did you mean play?"), "{errors}");
    assert!(errors.contains("`queen` is not in what you said"), "{errors}");
}

#[test]
fn a_flipped_bit_is_refused_and_the_version_before_answers() {
    let home = TestHome::trained();
    home.second_version();
    let files = home.json(&["models", "show", "v2"])["files"].clone();
    let old = home.json(&["models", "show", "v1"])["files"].clone();
    let shared: Vec<&Value> = old.as_object().unwrap().values().map(|file| &file["sha256"]).collect();
    let own = files
        .as_object()
        .unwrap()
        .iter()
        .find(|(name, file)| name.ends_with(".safetensors") && !shared.contains(&&file["sha256"]));
    let (name, file) = own.expect("the second version has weights of its own");
    let digest = file["sha256"].as_str().unwrap();
    let path = home.path().join("registry/objects").join(&digest[..2]).join(digest);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let mut permissions = std::fs::metadata(&path).unwrap().permissions();
    #[allow(clippy::permissions_set_readonly_false)]
    permissions.set_readonly(false);
    std::fs::set_permissions(&path, permissions).unwrap();
    std::fs::write(&path, bytes).unwrap();

    let verified = home.run(&["models", "verify"]);
    assert_eq!(verified.status.code(), Some(1));
    assert!(errors(&verified).contains(name.as_str()) && errors(&verified).contains("v2"), "{}", errors(&verified));
    let predicted = home.run_with(&["predict", "--json"], b"play abba\n");
    assert_eq!(predicted.status.code(), Some(1));
    assert!(errors(&predicted).contains("is corrupt"), "{}", errors(&predicted));
    let chat = home.run_with(&["chat", "--no-learn", "--json"], b"play abba\n");
    assert_eq!(chat.status.code(), Some(0), "{}", errors(&chat));
    assert!(errors(&chat).contains("warning:"), "{}", errors(&chat));
    let reply: Value = serde_json::from_str(text(&chat).lines().next().unwrap()).unwrap();
    assert_eq!(reply["version"], "v1");
}

#[test]
fn a_directory_that_is_no_model_is_refused_by_tensor() {
    let home = TestHome::empty();
    let model = home.path().join("model");
    std::fs::create_dir(&model).unwrap();
    let refused = |what: &str| {
        let output = home.run(&["init", "--base", model.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        let errors = errors(&output);
        assert!(errors.starts_with("error: ") && errors.contains(what), "{errors}");
        assert!(
            home.run(&["models", "list"]).status.code() == Some(1)
                || home.json(&["models", "list"])["versions"] == serde_json::json!([])
        );
    };
    refused("config.json");
    for (name, bytes) in mynah_runtime::starter::FILES {
        std::fs::write(model.join(name), bytes).unwrap();
    }
    let tensors = safetensors::SafeTensors::deserialize(mynah_runtime::starter::FILES[4].1).unwrap();
    let missing = "distilbert.transformer.layer.0.attention.q_lin.weight";
    let rest: Vec<_> = tensors.tensors().into_iter().filter(|(name, _)| name != missing).collect();
    safetensors::serialize_to_file(rest, None, &model.join("model.safetensors")).unwrap();
    refused(missing);
}

#[cfg(unix)]
#[test]
fn a_home_without_permissions_is_reported() {
    use std::os::unix::fs::PermissionsExt;
    let home = TestHome::trained();
    let sessions = home.path().join("log/sessions");
    std::fs::create_dir_all(&sessions).unwrap();
    std::fs::set_permissions(&sessions, std::fs::Permissions::from_mode(0o500)).unwrap();
    // Root may write anywhere; there is nothing to see then.
    let root = std::fs::write(sessions.join("probe"), b"").is_ok();
    let output = home.run_with(&["chat", "--no-learn"], b"play abba\n");
    std::fs::set_permissions(&sessions, std::fs::Permissions::from_mode(0o700)).unwrap();
    if !root {
        assert_eq!(output.status.code(), Some(1));
        assert!(
            errors(&output).contains("ermission denied") && errors(&output).contains("hint:"),
            "{}",
            errors(&output)
        );
    }
}
