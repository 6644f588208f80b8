//! A temporary home and the program run on it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};

/// A small file of functions: enough for a version, small enough for a test.
pub fn functions() -> Value {
    let function = |name: &str, argument: &str, examples: [&str; 9]| {
        json!({
            "type": "function",
            "function": {
                "name": name, "description": format!("{name}."),
                "parameters": {"type": "object", "properties": {argument: {"type": "string"}}, "required": []},
            },
            "examples": examples,
            "replies": [format!("{name} {{{argument}}}"), name],
        })
    };
    json!([
        function(
            "play",
            "artist",
            [
                "play [abba](artist)",
                "put on some music by [queen](artist)",
                "play a song of [bach](artist)",
                "i want to hear [abba](artist)",
                "start the music of [mozart](artist)",
                "music by [queen](artist) please",
                "let me listen to [bach](artist)",
                "play music",
                "some music please",
            ]
        ),
        function(
            "weather",
            "city",
            [
                "will it rain in [rome](city)",
                "what is the weather in [oslo](city)",
                "is it cold in [paris](city)",
                "weather for [rome](city)",
                "how is the weather in [lima](city)",
                "does it snow in [oslo](city)",
                "forecast for [paris](city)",
                "will it rain",
                "how is the weather",
            ]
        ),
        function(
            "lights",
            "room",
            [
                "lights on in the [kitchen](room)",
                "turn on the lamp in the [hall](room)",
                "switch the [kitchen](room) light off",
                "lights out in the [attic](room)",
                "make it bright in the [hall](room)",
                "turn off the [attic](room) lamp",
                "it is dark in the [kitchen](room)",
                "lights on",
                "turn the lamp off",
            ]
        ),
    ])
}

/// The program with a home of its own.
pub struct TestHome {
    directory: tempfile::TempDir,
}

impl TestHome {
    /// A home with the starter and the small functions; every example trains, and a few sentences judge.
    pub fn new() -> Self {
        let home = Self { directory: tempfile::tempdir().unwrap() };
        let file = home.write("functions.source.json", functions().to_string().as_bytes());
        home.ok(&["init", "--functions", file.to_str().unwrap()]);
        let settings = "[training]\nepochs = 3\n[gate]\nfirst_accuracy = 0.0\nprecision_agreement = 0.0\nmax_latency_ms = 60000.0\n\
            margin = 1.0\ndrift_allowance = 1.0\nfunction_allowance = 1.0\nout_of_scope_allowance = 1.0\ncorrections_right = 0.0\n";
        home.write("mynah.toml", settings.as_bytes());
        home
    }

    /// A home with nothing in it.
    pub fn empty() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    /// A copy of a home with one trained version; trained once for all tests of a process.
    pub fn trained() -> Self {
        static TRAINED: OnceLock<TestHome> = OnceLock::new();
        let trained = TRAINED.get_or_init(|| {
            let home = Self::new();
            home.ok(&["train"]);
            home
        });
        let copy = Self { directory: tempfile::tempdir().unwrap() };
        copy_directory(trained.path(), copy.path());
        copy
    }

    /// Puts a second version into production, whatever the gate thinks of it.
    pub fn second_version(&self) {
        let trained = self.run(&["train", "--force", "--seed", "7"]);
        assert!(matches!(trained.status.code(), Some(0 | 4)), "{}", errors(&trained));
        self.ok(&["models", "promote", "v2"]);
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        command.args(arguments).arg("--home").arg(self.path());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs the program with a text as its standard input.
    pub fn run_with(&self, arguments: &[&str], input: &[u8]) -> Output {
        with_input(self.command(arguments), input)
    }

    /// Runs the program and expects it to succeed.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}\n{}", errors(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs the program with `--json` and expects it to succeed.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let text = self.ok(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}\n{text}"))
    }
}

/// The program without a home and without what the test's own surroundings say.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mynah"));
    for name in [
        "MYNAH_HOME",
        "MYNAH_FAULT",
        "MYNAH_LOG",
        "HF_ENDPOINT",
        "HF_HUB_OFFLINE",
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
    ] {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1").env("USER", "tester").env("NO_PROXY", "127.0.0.1").env("COLUMNS", "100");
    command
}

pub fn with_input(mut command: Command, input: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // The program may end before it has read everything.
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_directory(&entry.path(), &target),
            false => {
                std::fs::copy(entry.path(), target).unwrap();
            }
        }
    }
}
