//! `mynah chat`: a conversation on the terminal, and what is learned at its end.

mod slash;

use std::io::{self, BufRead};
use std::sync::mpsc::{Receiver, Sender, channel};

use mynah_data::{Correction, Functions, Rating};
use serde_json::{Map, json};

use super::{Context, models};
use crate::cli::ChatArgs;
use crate::client::Client;
use crate::config::nearest;
use crate::conversation::{self, Conversation, Remote, Reply};
use crate::failure::{Exit, render};
use crate::interrupt::Interrupt;
use crate::learning::{self, Scope, Task};
use crate::report::{gate_lines, verdict_line};
pub use slash::correction;
use slash::{HELP, Said, parse};

/// What comes from the keyboard.
enum Event {
    Line(String),
    End,
    Interrupted,
}

/// How a conversation is held.
#[derive(Debug, Clone, Copy, Default)]
pub struct TalkOptions {
    /// Say with every reply where it comes from.
    pub why: bool,
}

/// Talks until the end of the input, then learns what was corrected.
///
/// # Errors
/// When a turn could not be logged, or the fine-tune failed.
pub fn run(context: &Context, args: &ChatArgs, interrupt: &Interrupt) -> anyhow::Result<Exit> {
    let options = TalkOptions { why: args.why };
    // A service has its own memory settings.
    let client = if args.local || args.no_memory { None } else { Client::connect(&context.home) };
    match client {
        Some(client) => {
            context.output.note(format_args!("talking to the service at {}", client.address()));
            let mut remote = Remote::new(client);
            talk(context, &mut remote, options, interrupt)?;
            learn_in_service(context, args, &remote, interrupt)
        }
        None => {
            let mut local = conversation::open(context, !args.no_memory, "chat")?;
            talk(context, &mut local, options, interrupt)?;
            context.snapshot();
            if args.no_learn {
                return Ok(Exit::Done);
            }
            learn(context, interrupt)
        }
    }
}

/// Learns what the log has that no version knows, and shows the verdict.
///
/// # Errors
/// When the fine-tune failed.
pub fn learn(context: &Context, interrupt: &Interrupt) -> anyhow::Result<Exit> {
    let labels = learning::new_labels(&context.log(), &context.registry()?)?;
    if !worth_learning(context, &labels) {
        return Ok(Exit::Done);
    }
    // The Ctrl-C that ended the conversation is answered; the next one stops the fine-tune.
    interrupt.clear();
    let finished = learning::here(context, &Task { trigger: "session-end", scope: Scope::NEW }, interrupt)?;
    show(context, &finished)
}

fn learn_in_service(
    context: &Context,
    args: &ChatArgs,
    remote: &Remote,
    interrupt: &Interrupt,
) -> anyhow::Result<Exit> {
    let labels = learning::new_labels(&context.log(), &context.registry()?)?;
    if args.no_learn || !worth_learning(context, &labels) {
        return Ok(Exit::Done);
    }
    interrupt.clear();
    let finished = learning::in_service(context, remote.client(), &Map::new(), Scope::NEW, interrupt)?;
    show(context, &finished)
}

fn worth_learning(context: &Context, labels: &learning::NewLabels) -> bool {
    if let Some(learning::Tried { version, refused }) = &labels.tried {
        context.output.note(match refused {
            true => format!("{version} learned the same and was refused; `mynah models log` says why"),
            false => format!("{version} learned the same and is not in production; `mynah models log` says why"),
        });
        return false;
    }
    match (labels.examples, labels.answers) {
        (0, 0) => context.output.note("nothing was corrected or taught, so there is nothing to learn"),
        (0, _) => context.output.note("what you taught is in memory; the model itself needs no training for it"),
        _ => {}
    }
    labels.examples > 0
}

fn show(context: &Context, finished: &learning::Finished) -> anyhow::Result<Exit> {
    if context.output.json {
        context.output.value(&json!({"learned": finished.json}))?;
    } else {
        for line in gate_lines(&finished.gate, context.output.style) {
            context.output.line(line)?;
        }
        context.output.line(verdict_line(finished, context.output.style))?;
    }
    // A refusal ends the chat as well as a promotion: nothing went wrong.
    Ok(Exit::Done)
}

/// Holds a conversation and ends it in order, whatever ended the input.
///
/// # Errors
/// When a turn or the end could not be logged.
pub fn talk(
    context: &Context,
    conversation: &mut dyn Conversation,
    options: TalkOptions,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let events = events(interrupt);
    let mut talk = Talk { context, options, last: None, functions: functions(context) };
    let reason = loop {
        talk.prompt();
        match events.recv() {
            Ok(Event::Line(line)) => match talk.turn(conversation, &line) {
                Ok(true) => {}
                Ok(false) => break "quit",
                Err(error) => {
                    // What was said before is safe; the end is noted if that is still possible.
                    let _ = conversation.end("error");
                    return Err(error);
                }
            },
            Ok(Event::End) | Err(_) => break "end of input",
            Ok(Event::Interrupted) => break "interrupted",
        }
    };
    conversation.end(reason)
}

struct Talk<'a> {
    context: &'a Context,
    options: TalkOptions,
    /// The last message with its reply.
    last: Option<(String, Reply)>,
    functions: Vec<String>,
}

impl Talk<'_> {
    fn prompt(&self) {
        if self.context.environment.stdin_is_terminal
            && self.context.environment.stdout_is_terminal
            && !self.context.output.json
        {
            use io::Write;
            let mut stdout = io::stdout().lock();
            let _ = write!(stdout, "{} ", self.context.output.style.bold(">"));
            let _ = stdout.flush();
        }
    }

    /// Answers one line; false ends the conversation.
    fn turn(&mut self, conversation: &mut dyn Conversation, line: &str) -> anyhow::Result<bool> {
        let output = self.context.output;
        match parse(line) {
            Said::Nothing => {}
            Said::Quit => return Ok(false),
            Said::Message(message) => {
                let reply = conversation.respond(&message, self.options.why)?;
                self.print(&reply)?;
                self.last = Some((message, reply));
            }
            Said::Why => match &self.last {
                Some((_, reply)) => output.line(&reply.why)?,
                None => output.note("nothing was said yet"),
            },
            Said::Good => self.opinion(conversation, Some(Rating::Up), None, "noted")?,
            Said::Bad => self.opinion(
                conversation,
                Some(Rating::Down),
                None,
                "noted; /correct or /teach says what would have been right",
            )?,
            Said::Teach(answer) => {
                self.opinion(conversation, None, Some(Correction::Answer { answer }), "remembered")?
            }
            Said::Correct(function, arguments) => self.correct(conversation, &function, &arguments)?,
            Said::Functions => match self.functions.is_empty() {
                true => output.note("there is no functions.json in the home"),
                false => output.line(self.functions.join("\n"))?,
            },
            Said::Versions => {
                for line in models::list_lines(self.context, &self.context.registry()?)? {
                    output.line(line)?;
                }
            }
            Said::Help => output.line(HELP)?,
            Said::Mistake(mistake) => output.complain(mistake),
        }
        Ok(true)
    }

    fn print(&self, reply: &Reply) -> anyhow::Result<()> {
        let output = self.context.output;
        if output.json {
            return Ok(output.value(reply)?);
        }
        output.line(&reply.text)?;
        if self.options.why {
            output.line(output.style.dim(&reply.why))?;
        }
        Ok(())
    }

    fn correct(
        &self,
        conversation: &mut dyn Conversation,
        function: &str,
        arguments: &[(String, String)],
    ) -> anyhow::Result<()> {
        let output = self.context.output;
        let known = self.functions.iter().map(|line| line.split_whitespace().next().unwrap_or_default());
        if !matches!(function, "none" | "oos")
            && !self.functions.is_empty()
            && !known.clone().any(|known| known == function)
        {
            let hint = nearest(function, known)
                .map_or_else(|| "/functions lists them".to_owned(), |name| format!("did you mean {name}?"));
            output.complain(format_args!("there is no function {function}; {hint}"));
            return Ok(());
        }
        let Some((message, _)) = &self.last else {
            output.note("nothing was said yet");
            return Ok(());
        };
        match correction(message, function, arguments) {
            Ok(correction) => {
                self.opinion(conversation, None, Some(correction), "corrected; the same words mean that from now on")
            }
            Err(mistake) => {
                output.complain(mistake);
                Ok(())
            }
        }
    }

    /// Logs an opinion on the last reply. One that does not fit is reported, and the conversation goes on.
    fn opinion(
        &self,
        conversation: &mut dyn Conversation,
        rating: Option<Rating>,
        correction: Option<Correction>,
        thanks: &str,
    ) -> anyhow::Result<()> {
        let output = self.context.output;
        let Some((_, reply)) = &self.last else {
            output.note("nothing was said yet");
            return Ok(());
        };
        match conversation.feedback(&reply.interaction, rating, correction) {
            Ok(()) => output.note(output.error_style.dim(thanks)),
            Err(error) => output.complain(render(&error, output.error_style)),
        }
        Ok(())
    }
}

/// The functions of the home, one a line with its description.
fn functions(context: &Context) -> Vec<String> {
    Functions::load(&context.home.functions_path())
        .map(|functions| {
            functions
                .functions
                .iter()
                .map(|function| format!("{:<18} {}", function.name, function.description).trim_end().to_owned())
                .collect()
        })
        .unwrap_or_default()
}

/// Lines of standard input and Ctrl-C, as they come. The reader's thread ends with the process: a blocked read cannot be woken.
fn events(interrupt: &Interrupt) -> Receiver<Event> {
    let (sender, events) = channel();
    let interrupted = sender.clone();
    interrupt.on_ask(move || {
        let _ = interrupted.send(Event::Interrupted);
    });
    let _ = std::thread::Builder::new().name("keyboard".into()).spawn(move || read_lines(&sender));
    events
}

fn read_lines(events: &Sender<Event>) {
    let mut stdin = io::stdin().lock();
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let event = match stdin.read_until(b'\n', &mut bytes) {
            Ok(0) | Err(_) => Event::End,
            Ok(_) => Event::Line(String::from_utf8_lossy(&bytes).into_owned()),
        };
        let ended = matches!(event, Event::End);
        if events.send(event).is_err() || ended {
            return;
        }
    }
}
