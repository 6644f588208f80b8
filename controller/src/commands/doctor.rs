//! `mynah doctor`: what is wrong with a home, and how to mend it.
//!
//! Every check looks and changes nothing. Invariant: a check that cannot be made is a finding itself, so that the command
//! reports on the worst of homes.

use std::path::Path;

use mynah_data::Functions;
use mynah_runtime::Mynah;
use serde::Serialize;
use serde_json::json;

use super::Context;
use crate::client::{Client, ServiceFile};
use crate::config::{self, Flag};
use crate::environment::Environment;
use crate::failure::{Exit, hint, hinted};
use crate::output::{Output, count};
use crate::service::access::Tokens;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Fine,
    /// It works, and could be better.
    Warning,
    /// Something does not work.
    Problem,
}

#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    state: State,
    detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Finding {
    fn fine(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, state: State::Fine, detail: detail.into(), hint: None }
    }

    fn warning(check: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { check, state: State::Warning, detail: detail.into(), hint: Some(hint.into()) }
    }

    fn problem(check: &'static str, error: &anyhow::Error) -> Self {
        let detail = format!("{error:#}");
        let detail = detail.split("\nhint: ").next().unwrap_or_default().to_owned();
        Self { check, state: State::Problem, detail, hint: hint(error) }
    }
}

/// Looks at everything and says what is wrong.
///
/// # Errors
/// When anything is: so that scripts see it in the exit status.
pub fn run(home: Option<&Path>, output: Output, environment: &Environment) -> anyhow::Result<Exit> {
    let findings = findings(home, output, environment);
    let problems = findings.iter().filter(|finding| finding.state == State::Problem).count();
    if output.json {
        output.value(&json!({"problems": problems, "checks": findings}))?;
    } else {
        for finding in &findings {
            let word = match finding.state {
                State::Fine => output.style.good("fine   "),
                State::Warning => output.style.bold("warning"),
                State::Problem => output.style.bad("problem"),
            };
            output.line(format_args!("{word}  {:<10} {}", finding.check, finding.detail))?;
            if let Some(hint) = &finding.hint {
                output.line(format_args!("{:<20} {} {hint}", "", output.style.name("hint:")))?;
            }
        }
    }
    match problems {
        0 => Ok(Exit::Done),
        _ => Err(hinted(format!("{} found", count(problems, "problem")), "each has its own hint above")),
    }
}

fn findings(home: Option<&Path>, output: Output, environment: &Environment) -> Vec<Finding> {
    let flags: [Flag; 0] = [];
    let (context, settings) = match Context::new(home, &flags, output, environment) {
        Ok(context) => (context, Finding::fine("settings", "mynah.toml and the variables are understood")),
        Err(error) => {
            let broken = Finding::problem("settings", &error);
            // Everything else is looked at with the settings that are built in.
            let defaults = config::home_directory(home, environment)
                .map_err(anyhow::Error::from)
                .map(|directory| Context::with_defaults(&directory, output, environment));
            match defaults {
                Ok(context) => (context, broken),
                Err(_) => return vec![broken],
            }
        }
    };
    let context = &context;
    if !context.home.registry_dir().is_dir() {
        let detail = format!("{} is not set up", context.home.root().display());
        return vec![settings, Finding::warning("home", detail, "run `mynah init`, or `mynah serve` makes one")];
    }
    let checks: [fn(&Context) -> Finding; 7] = [home_check, functions, registry, model, log, service, tokens];
    std::iter::once(settings).chain(checks.into_iter().map(|check| check(context))).collect()
}

fn home_check(context: &Context) -> Finding {
    let root = context.home.root();
    // Whether it can be written is known once something was.
    match tempfile::Builder::new().prefix(".doctor-").tempfile_in(root) {
        Ok(_) => Finding::fine("home", format!("{} can be written", root.display())),
        Err(error) => Finding::problem(
            "home",
            &hinted(
                format!("cannot write to {}: {error}", root.display()),
                "check its owner, its permissions and the disk",
            ),
        ),
    }
}

fn functions(context: &Context) -> Finding {
    let path = context.home.functions_path();
    if !path.is_file() {
        return Finding::warning("functions", "there is no functions.json", "add one to have something to call");
    }
    let checked = Functions::load(&path).map_err(anyhow::Error::from).and_then(|functions| {
        mynah_runtime::functions::Toolbox::new(&functions).map_err(mynah_runtime::MynahError::from)?;
        Ok(functions.functions.len())
    });
    match checked {
        Ok(number) => Finding::fine("functions", count(number, "function")),
        Err(error) => Finding::problem("functions", &error),
    }
}

fn registry(context: &Context) -> Finding {
    let looked = || -> anyhow::Result<Finding> {
        let registry = context.registry()?;
        let verification = registry.verify_all()?;
        if let Some(problem) = verification.problems.first() {
            let message = format!("{} damaged, first: {}", count(verification.problems.len(), "part"), problem.error);
            return Err(hinted(message, "restore it from a backup, or `mynah models delete` the version"));
        }
        let detail = format!(
            "{} in {} as they were written",
            count(verification.objects as usize, "object"),
            count(verification.versions as usize, "version")
        );
        Ok(Finding::fine("registry", detail))
    };
    looked().unwrap_or_else(|error| Finding::problem("registry", &error))
}

fn model(context: &Context) -> Finding {
    let looked = || -> anyhow::Result<Finding> {
        let mynah = Mynah::builder(context.home.root()).settings(context.settings.runtime.clone()).open()?;
        let serving = mynah.version().map_or_else(|| "the embedded starter".to_owned(), |version| version.name);
        mynah.reply_unlogged(&[], "hello", None)?;
        if let Some(warning) = mynah.warnings().into_iter().next() {
            let hint = warning.hint.unwrap_or_else(|| "see `mynah status`".to_owned());
            return Ok(Finding::warning("model", format!("{serving} answers, but {}", warning.message), hint));
        }
        Ok(match mynah.is_trained() {
            true => Finding::fine("model", format!("{serving} answers")),
            false => Finding::warning(
                "model",
                format!("{serving} answers from examples alone"),
                "`mynah train` makes a first version",
            ),
        })
    };
    looked().unwrap_or_else(|error| Finding::problem("model", &error))
}

fn log(context: &Context) -> Finding {
    let looked = || -> anyhow::Result<Finding> {
        let (mut sessions, mut broken) = (0, 0);
        for session in context.log().sessions()? {
            sessions += 1;
            broken += session?.broken_lines;
        }
        Ok(match broken {
            0 => Finding::fine("log", count(sessions, "session")),
            _ => Finding::warning(
                "log",
                format!("{} cannot be read", count(broken, "line")),
                "`mynah log show` names them; correct or remove them, every other line is kept",
            ),
        })
    };
    looked().unwrap_or_else(|error| Finding::problem("log", &error))
}

fn service(context: &Context) -> Finding {
    if let Some(client) = Client::connect(&context.home) {
        return Finding::fine("service", format!("answers on {} (process {})", client.address(), client.pid()));
    }
    let listen = &context.settings.service.listen;
    if let Err(error) = crate::service::check_settings(context) {
        return Finding::problem("service", &error);
    }
    if ServiceFile::path(&context.home).exists() {
        let hint = "start it with `mynah serve`; the file that a killed one left is then replaced";
        return Finding::warning("service", "service.json names a service that does not answer", hint);
    }
    match std::net::TcpListener::bind(listen) {
        Ok(_) => Finding::fine("service", format!("does not run; {listen} is free for it")),
        Err(error) => Finding::warning(
            "service",
            format!("{listen} cannot be listened on: {error}"),
            "something else has the port; set `listen` in [service], or use --listen 127.0.0.1:0",
        ),
    }
}

fn tokens(context: &Context) -> Finding {
    let home = &context.home;
    #[cfg(unix)]
    for path in [Tokens::admin_path(home), Tokens::read_path(home), home.root().join("service.webhook.secret")] {
        use std::os::unix::fs::PermissionsExt;
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        if metadata.permissions().mode() & 0o077 != 0 {
            let message = format!("{} can be read by others", path.display());
            let hint = format!("chmod 600 {0}, or delete it: the next start makes another", path.display());
            return Finding::problem("tokens", &hinted(message, hint));
        }
    }
    match Tokens::admin_path(home).exists() {
        true => Finding::fine("tokens", "are their owner's only"),
        false => Finding::fine("tokens", "are made when the service is first started"),
    }
}
