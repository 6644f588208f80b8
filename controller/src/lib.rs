//! The program `mynah`: its command line and its local service.
//!
//! The binary is a thin shell around [`run`], so that tests can call what the command line calls. The crate knows nothing of
//! tensors: models are versions in the registry, and what they mean is the runtime's and the pipelines' matter.
//!
//! ```
//! use mynah_controller::environment::Environment;
//!
//! let environment = Environment::default();
//! let status = mynah_controller::run(["mynah", "--version"], &environment);
//! assert_eq!(status, 0);
//! ```

pub mod allocator;
pub mod base;
pub mod cli;
pub mod client;
pub mod commands;
pub mod config;
pub mod conversation;
pub mod durable;
pub mod environment;
pub mod failure;
pub mod fault;
pub mod hub;
pub mod interrupt;
pub mod learning;
pub mod output;
pub mod pin;
pub mod priority;
pub mod progress;
pub mod report;
pub mod rollout;
pub mod service;
pub mod watch;
pub mod worker;

use std::ffi::OsString;

use clap::Parser;

use cli::{Cli, Command, ServeArgs};
use commands::Context;
use config::Flag;
use environment::Environment;
use failure::Exit;
use interrupt::Interrupt;
use output::Output;
use service::logging::LogFormat;

/// Runs the program with these arguments and surroundings and returns its exit status.
pub fn run<I>(arguments: I, environment: &Environment) -> u8
where
    I: IntoIterator,
    I::Item: Into<OsString> + Clone,
{
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // clap prints help and version to standard output and mistakes to standard error.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(2);
        }
    };
    let output = Output::new(cli.global.json, cli.global.quiet, environment);
    match dispatch(&cli, output, environment) {
        Ok(exit) => exit.status(),
        Err(error) if failure::is_closed_pipe(&error) => 0,
        Err(error) => {
            output.complain(failure::render(&error, output.error_style));
            failure::exit_status(&error)
        }
    }
}

fn dispatch(cli: &Cli, output: Output, environment: &Environment) -> anyhow::Result<Exit> {
    let home = cli.global.home.as_deref();
    let flags = match &cli.command {
        Command::Train(args) => commands::train::overrides(args),
        Command::Serve(args) => serve_flags(args),
        _ => Vec::new(),
    };
    let context = || Context::new(home, &flags, output, environment);
    match &cli.command {
        Command::Quickstart(args) => commands::quickstart::run(args, home, output, environment),
        Command::Init(args) => commands::init::run(&context()?, args),
        Command::Import(args) => commands::import::run(&context()?, args),
        Command::Train(args) => commands::train::run(&context()?, args, Interrupt::listen()),
        Command::Benchmark(command) => commands::benchmark::run(&context()?, command, Interrupt::listen()),
        Command::Labels(command) => commands::labels::run(&context()?, command, Interrupt::listen()),
        Command::Report(args) => commands::report::run(&context()?, args),
        Command::Expect(command) => commands::expect::run(&context()?, command),
        Command::Simulate(command) => commands::simulate::run(&context()?, command, &Interrupt::listen()),
        Command::Backtest(args) => commands::backtest::run(&context()?, args, Interrupt::listen()),
        Command::Evaluate(args) => commands::evaluate::run(&context()?, args, Interrupt::listen()),
        Command::Predict(args) => commands::predict::run(&context()?, args),
        Command::Chat(args) => commands::chat::run(&context()?, args, &Interrupt::listen()),
        Command::Serve(args) => {
            let again = || Context::new(home, &serve_flags(args), output, environment);
            service::serve(&context()?, &again)
        }
        Command::Service(command) => commands::unit::run(&context()?, command),
        Command::Doctor => commands::doctor::run(home, output, environment),
        Command::Models(command) => commands::models::run(&context()?, command),
        Command::Log(command) => commands::log::run(&context()?, command),
        Command::Bench(args) => commands::bench::run(output, args),
        Command::Status => commands::status::run(&context()?),
        Command::Pin(args) => commands::pin::pin(&context()?, args),
        Command::Unpin => commands::pin::unpin(&context()?),
        Command::Jobs(command) => commands::jobs::run(&context()?, command),
        Command::Work => worker::run(&context()?),
    }
}

fn serve_flags(args: &ServeArgs) -> Vec<Flag> {
    let flag = |key: &'static str, value: &str| Flag { section: "service", key, value: value.into() };
    let listen = args.listen.as_deref().map(|listen| flag("listen", listen));
    let format = args.log_format.map(|format| match format {
        LogFormat::Text => flag("log_format", "text"),
        LogFormat::Json => flag("log_format", "json"),
    });
    listen.into_iter().chain(format).collect()
}
