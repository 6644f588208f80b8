//! `mynah benchmark service load`: requests a second and their times over HTTP, with many clients at once.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use mynah_data::Home;
use serde::Serialize;
use serde_json::{Value, json};

use super::Running;
use crate::commands::benchmark::{BenchmarkHome, Times};
use crate::commands::quickstart::FUNCTIONS;
use crate::failure::{Exit, Stopped, hinted, usage};
use crate::interrupt::Interrupt;
use crate::output::{Output, table};

/// What is asked: requests of functions, questions, and what nobody understands.
const ASKED: [&str; 6] = [
    "wake me up at half past six",
    "turn on the lights in the kitchen",
    "what is the weather like tomorrow",
    "set a timer for ten minutes",
    "play some quiet music",
    "my neighbour has a new bicycle",
];

/// Time of a run that is not counted.
const WARM_UP: Duration = Duration::from_millis(500);

/// Flags of `benchmark service load`.
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// How many clients ask at once, each on a connection of its own
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 64], value_name = "N,…")]
    pub clients: Vec<usize>,
    /// How long each of them is measured
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// What is asked for
    #[arg(long, value_delimiter = ',', default_values = ["chat", "generate", "completions"])]
    pub endpoints: Vec<Asked>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Asked {
    /// POST /chat: a turn of a session, in the log
    Chat,
    /// POST /generate: an answer without a trace
    Generate,
    /// POST /v1/chat/completions with two tools of the request
    Completions,
}

#[derive(Serialize)]
struct Row {
    benchmark: &'static str,
    asked: Asked,
    clients: usize,
    requests: usize,
    failed: usize,
    requests_per_second: f64,
    milliseconds: Times,
}

/// Measures and prints.
///
/// # Errors
/// When the service cannot be started.
pub fn run(output: Output, args: &LoadArgs, interrupt: &Interrupt) -> anyhow::Result<Exit> {
    if args.clients.contains(&0) || args.seconds <= 0.0 {
        return Err(usage("nothing to measure", "ask for one client and some time at least"));
    }
    let home = BenchmarkHome::new(output, None, None)?;
    std::fs::write(home.context.home.functions_path(), FUNCTIONS)?;
    std::fs::write(home.context.home.settings_path(), "[service]\nrequests_per_second = 0\nsession_end = false\n")?;
    let service = Served::start(&home.context.home)?;
    let mut rows = Vec::new();
    for asked in &args.endpoints {
        for clients in &args.clients {
            if interrupt.is_asked() {
                return Err(Stopped("stopped").into());
            }
            let row = service.measure(*asked, *clients, Duration::from_secs_f64(args.seconds))?;
            if output.json {
                output.value(&row)?;
            }
            rows.push(row);
        }
    }
    if output.json {
        return Ok(Exit::Done);
    }
    let head = ["asked", "clients", "requests/s", "p50 ms", "p99 ms", "failed"].map(str::to_owned).to_vec();
    let lines = rows.iter().map(|row| {
        let name = row.asked.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let times = row.milliseconds;
        vec![
            name,
            row.clients.to_string(),
            format!("{:.0}", row.requests_per_second),
            format!("{:.2}", times.p50),
            format!("{:.2}", times.p99),
            row.failed.to_string(),
        ]
    });
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(lines).collect();
    for line in table(&rows, |row, _, cell| if row == 0 { output.style.dim(cell) } else { cell }) {
        output.line(line)?;
    }
    Ok(Exit::Done)
}

/// The service in a process of its own, as it would run.
struct Served(Running);

impl Served {
    fn start(home: &Home) -> anyhow::Result<Self> {
        let served = Self(Running::start(home, &[])?);
        match served.client()?.ask("GET", "/readyz", "")?.status {
            200 => Ok(served),
            status => Err(hinted(format!("the service is not ready: {status}"), "`mynah doctor` looks for the cause")),
        }
    }

    fn client(&self) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(&self.0.file.address)?;
        stream.set_nodelay(true)?;
        Ok(Connection {
            reader: BufReader::new(stream),
            host: self.0.file.address.clone(),
            token: self.0.file.token.clone(),
        })
    }

    fn measure(&self, asked: Asked, clients: usize, time: Duration) -> anyhow::Result<Row> {
        let connections: Vec<Connection> = (0..clients).map(|_| self.client()).collect::<Result<_, _>>()?;
        let barrier = Barrier::new(clients);
        let done: Vec<anyhow::Result<(Vec<Duration>, usize)>> = std::thread::scope(|scope| {
            let threads: Vec<_> = connections
                .into_iter()
                .enumerate()
                .map(|(number, connection)| {
                    let barrier = &barrier;
                    scope.spawn(move || client(connection, number, asked, barrier, time))
                })
                .collect();
            // A thread that panicked is a bug, and shows as no requests at all.
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Ok((Vec::new(), 0)))).collect()
        });
        let (mut times, mut failed) = (Vec::new(), 0);
        for one in done {
            let (its_times, its_failed) = one?;
            times.extend(its_times);
            failed += its_failed;
        }
        Ok(Row {
            benchmark: "service load",
            asked,
            clients,
            requests: times.len(),
            failed,
            requests_per_second: (times.len() as f64 / time.as_secs_f64()).round(),
            milliseconds: Times::of(times),
        })
    }
}

/// One client: its requests within the time, and how many of them failed.
fn client(
    mut connection: Connection,
    number: usize,
    asked: Asked,
    barrier: &Barrier,
    time: Duration,
) -> anyhow::Result<(Vec<Duration>, usize)> {
    let mut session: Option<String> = None;
    let (mut times, mut failed) = (Vec::new(), 0);
    barrier.wait();
    let started = Instant::now();
    for turn in number.. {
        let text = ASKED[turn % ASKED.len()];
        let (path, body) = match asked {
            Asked::Chat => ("/chat", json!({"message": text, "session": session})),
            Asked::Generate => ("/generate", json!({"input": text})),
            Asked::Completions => ("/v1/chat/completions", completion(text)),
        };
        let sent = Instant::now();
        let answer = connection.ask("POST", path, &body.to_string())?;
        let took = sent.elapsed();
        if session.is_none() && asked == Asked::Chat {
            session = serde_json::from_slice::<Value>(&answer.body)?["session"].as_str().map(str::to_owned);
        }
        if started.elapsed() >= WARM_UP {
            times.push(took);
            failed += usize::from(answer.status != 200);
        }
        if started.elapsed() >= WARM_UP + time {
            break;
        }
    }
    Ok((times, failed))
}

fn completion(text: &str) -> Value {
    let tool = |name: &str, description: &str, argument: &str| {
        json!({"type": "function", "function": {"name": name, "description": description, "parameters":
            {"type": "object", "properties": {argument: {"type": "string"}}, "required": []}}})
    };
    json!({
        "model": "mynah",
        "messages": [{"role": "user", "content": text}],
        "tools": [
            tool("get_forecast", "Tell what the weather will be like.", "place"),
            tool("switch_device", "Turn a device of the house on or off.", "device"),
        ],
    })
}

/// A connection that is kept.
struct Connection {
    reader: BufReader<TcpStream>,
    host: String,
    token: String,
}

struct Answered {
    status: u16,
    body: Vec<u8>,
}

impl Connection {
    fn ask(&mut self, method: &str, path: &str, body: &str) -> anyhow::Result<Answered> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.host,
            self.token,
            body.len()
        );
        self.reader.get_mut().write_all(request.as_bytes())?;
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        let mut length = 0;
        loop {
            line.clear();
            if self.reader.read_line(&mut line)? == 0 || line == "\r\n" {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body)?;
        Ok(Answered { status, body })
    }
}
