//! `mynah quickstart`: the whole loop once, in front of somebody who sees it for the first time.
//!
//! Nothing is staged: every reply, score and verdict is what this run computed, and the run goes on honestly when the gate
//! says no.

mod story;

use std::path::Path;

use mynah_data::{Correction, Functions, Home, ImportOptions};
use mynah_registry::Event;
use serde_json::Value;

use super::chat::{self, TalkOptions, correction};
use super::{Context, models};
use crate::base::{self, Base};
use crate::cli::QuickstartArgs;
use crate::conversation::{Assistant, Conversation, Local, Reply};
use crate::environment::Environment;
use crate::failure::{Exit, Stopped, hinted};
use crate::interrupt::Interrupt;
use crate::learning::{self, Finished, Scope, Task, Verdict};
use crate::output::{Output, count, size};
use crate::report::{gate_lines, score_lines, verdict_line};
use story::Meaning;

pub(crate) use story::FUNCTIONS;

/// Shows the loop in the given home, or in a temporary one that goes at the end.
///
/// # Errors
/// When the home is in use already, or something fails on the way.
pub fn run(
    args: &QuickstartArgs,
    home: Option<&Path>,
    output: Output,
    environment: &Environment,
) -> anyhow::Result<Exit> {
    let temporary = match home {
        Some(_) => None,
        None => Some(tempfile::Builder::new().prefix("mynah-quickstart-").tempdir()?),
    };
    let context =
        Context::new(home.or(temporary.as_ref().map(|directory| directory.path())), &[], output, environment)?;
    refuse_used(&context.home)?;
    let interrupt = &Interrupt::listen();
    let show = Show { context: &context, interrupt };
    show.whole_loop()?;
    let at_a_terminal = context.environment.stdin_is_terminal && context.environment.stdout_is_terminal;
    if !args.no_chat && (args.chat || at_a_terminal) {
        show.title("Your turn", "/help lists commands, /quit ends")?;
        let mut conversation = Assistant::open(&context, true)?.start("chat");
        chat::talk(&context, &mut conversation, TalkOptions::default(), interrupt)?;
        chat::learn(&context, interrupt)?;
    }
    context.snapshot();
    show.what_next(temporary.is_some())?;
    Ok(Exit::Done)
}

fn refuse_used(home: &Home) -> anyhow::Result<()> {
    if home.functions_path().exists() || home.registry_dir().exists() || home.log_dir().exists() {
        let message = format!("{} is in use already", home.root().display());
        return Err(hinted(message, "give the quickstart a new directory: mynah quickstart --home DIR"));
    }
    Ok(())
}

struct Show<'a> {
    context: &'a Context,
    interrupt: &'a Interrupt,
}

impl Show<'_> {
    fn whole_loop(&self) -> anyhow::Result<()> {
        let context = self.context;
        self.line(format_args!(
            "{}  everything on this machine, in {}",
            context.output.style.bold("Mynah quickstart"),
            context.home.root().display()
        ))?;
        self.set_up()?;
        self.learn("quickstart", Scope::default())?;

        let assistant = Assistant::open(context, true)?;
        let mut talk = assistant.start("quickstart");
        self.title("Talk", "calls with arguments, follow-ups, a question, and nonsense")?;
        for text in story::CALLS {
            self.say(&mut talk, text)?;
        }
        self.say(&mut talk, story::QUESTION)?;
        self.say(&mut talk, story::NONSENSE)?;

        self.title("Correct and teach", "used from the next turn on")?;
        self.correct(&mut talk)?;
        self.teach(&mut talk)?;
        talk.end("quickstart")?;

        self.title("Learn from it", "the conversation is over: fine-tune, compare, decide")?;
        let finished = self.fine_tune("session-end", Scope::NEW)?;
        self.lines(score_lines(
            &finished.production.iter().chain(&finished.held_out).collect::<Vec<_>>(),
            context.output.style,
        ))?;
        self.line("")?;
        self.lines(gate_lines(&finished.gate, context.output.style))?;
        self.verdict(&finished)?;

        self.title("Answer from the weights", "memory is switched off: only what was learned counts")?;
        let mut weights = Assistant::open(context, false)?.start("quickstart");
        for text in [story::UNKNOWN[0].text, story::NEW_WORDS, story::CALLS[0]] {
            let reply = self.say(&mut weights, text)?;
            if reply.calls.is_empty() {
                let note =
                    "      a few corrections do not reach every wording: correct this one, and it is learned, too";
                self.line(self.context.output.style.dim(note))?;
            }
        }
        weights.end("quickstart")?;

        self.versions(finished.verdict)
    }

    fn set_up(&self) -> anyhow::Result<()> {
        let context = self.context;
        let home = &context.home;
        home.create()?;
        let functions = Functions::parse(story::FUNCTIONS, "functions.json").map_err(mynah_data::Error::from)?;
        std::fs::write(home.functions_path(), story::FUNCTIONS)?;
        std::fs::create_dir_all(home.knowledge_dir())?;
        std::fs::write(home.knowledge_dir().join(story::KNOWLEDGE.0), story::KNOWLEDGE.1)?;
        let options = ImportOptions { fault: context.fault.clone(), ..ImportOptions::default() };
        let imported = mynah_data::import(home, story::OUT_OF_SCOPE.as_bytes(), "out_of_scope.jsonl", &options)?;
        let registry = context.new_registry()?;
        let base = base::register(context, &registry, &Base::Starter)?;
        let written: usize = functions.functions.iter().map(|function| function.examples.len()).sum();
        let what = format!(
            "{} with {}, {} that none answers, a page about a house",
            count(functions.functions.len(), "function"),
            count(written, "example"),
            count(imported.examples, "sentence"),
        );
        self.title("Learn", &what)?;
        self.line(format_args!("the starter model ({}) is the base", size(base.manifest.size_bytes())))
    }

    /// Trains the first version and shows its scores.
    fn learn(&self, trigger: &str, scope: Scope) -> anyhow::Result<()> {
        let finished = self.fine_tune(trigger, scope)?;
        self.lines(score_lines(&finished.held_out.iter().collect::<Vec<_>>(), self.context.output.style))?;
        self.verdict(&finished)?;
        if finished.verdict != Verdict::Promoted {
            self.lines(gate_lines(&finished.gate, self.context.output.style))?;
            return Err(hinted(
                "the first version was refused, so there is nothing to show",
                "this should not happen; please report the lines above",
            ));
        }
        Ok(())
    }

    fn fine_tune(&self, trigger: &str, scope: Scope) -> anyhow::Result<Finished> {
        learning::here(self.context, &Task { trigger, scope }, self.interrupt)
    }

    fn verdict(&self, finished: &Finished) -> anyhow::Result<()> {
        let style = self.context.output.style;
        self.line(format_args!(
            "{}  {}",
            verdict_line(finished, style),
            style.dim(format_args!("{:.0} s", finished.seconds))
        ))
    }

    /// Corrects what is not understood, and says it again.
    fn correct(&self, talk: &mut Local) -> anyhow::Result<()> {
        for meaning in &story::UNKNOWN {
            let reply = self.say(talk, meaning.text)?;
            if is_right(&reply, meaning) {
                continue;
            }
            let arguments: Vec<(String, String)> =
                meaning.arguments.iter().map(|(name, words)| ((*name).to_owned(), (*words).to_owned())).collect();
            let words: String = arguments.iter().map(|(name, words)| format!(" {name}={words:?}")).collect();
            self.typed(&format!("/correct {}{words}", meaning.function))?;
            let correction = correction(meaning.text, meaning.function, &arguments)
                .map_err(|mistake| hinted(mistake, "this should not happen; please report it"))?;
            talk.feedback(&reply.interaction, None, Some(correction))?;
            self.say(talk, meaning.text)?;
        }
        Ok(())
    }

    fn teach(&self, talk: &mut Local) -> anyhow::Result<()> {
        let (question, answer) = story::TAUGHT;
        let reply = self.say(talk, question)?;
        self.typed(&format!("/teach {answer}"))?;
        talk.feedback(&reply.interaction, None, Some(Correction::Answer { answer: answer.to_owned() }))?;
        self.say(talk, question)?;
        Ok(())
    }

    /// Lists the versions, goes back to the first and verifies everything.
    fn versions(&self, verdict: Verdict) -> anyhow::Result<()> {
        let context = self.context;
        let registry = context.registry()?;
        self.title("Roll back", "every version is kept; going back is one entry in a journal that only grows")?;
        self.lines(models::list_lines(context, &registry)?)?;
        if verdict == Verdict::Promoted {
            let entry = registry.rollback(None, &context.author("quickstart"))?;
            if let Event::Rollback { from_name, to_name, .. } = &entry.event {
                self.line(format_args!("rolled back from {from_name} to {to_name}"))?;
            }
        } else {
            self.line("the second version was refused, so production never changed")?;
        }
        let verification = registry.verify_all()?;
        let checked = format!(
            "{} and {} journal entries verified",
            count(verification.objects as usize, "object"),
            verification.entries
        );
        match verification.problems.first() {
            None => self.line(format_args!("{} {checked}, no problem found", context.output.style.good("ok:"))),
            Some(problem) => Err(hinted(problem.error.to_string(), "this should not happen; please report it")),
        }
    }

    fn what_next(&self, temporary: bool) -> anyhow::Result<()> {
        self.title("What next", "")?;
        let style = self.context.output.style;
        if temporary {
            self.line("this home was temporary and is gone now; keep one with")?;
            self.line(format_args!("  {}", style.name("mynah quickstart --home DIR")))?;
        } else {
            let home = self.context.home.root().display();
            self.line(format_args!("  {}", style.name(format_args!("mynah chat --home {home}"))))?;
            self.line(format_args!("  {}", style.name(format_args!("mynah models log --home {home}"))))?;
            self.line(format_args!("  {}", style.name(format_args!("git -C {home}/log log"))))?;
        }
        self.line("set up your own, with your functions:")?;
        self.line(format_args!(
            "  {}",
            style.name("mynah init --functions functions.json && mynah train && mynah chat")
        ))
    }

    fn say(&self, conversation: &mut dyn Conversation, text: &str) -> anyhow::Result<Reply> {
        if self.interrupt.is_asked() {
            let _ = conversation.end("interrupted");
            return Err(Stopped("the quickstart was stopped").into());
        }
        self.typed(text)?;
        let reply = conversation.respond(text, false)?;
        let style = self.context.output.style;
        self.line(format_args!("{} {}", style.name("mynah"), reply.text))?;
        let mut about: Vec<String> = reply
            .calls
            .iter()
            .map(|call| format!("{} {}", call.function, Value::Object(call.arguments.clone())))
            .collect();
        about.push(format!("{} · {:.2}", reply.source, reply.confidence));
        self.line(style.dim(format_args!("      {}", about.join(" · "))))?;
        Ok(reply)
    }

    fn typed(&self, text: &str) -> anyhow::Result<()> {
        self.line(format_args!("{}   {text}", self.context.output.style.bold("you")))
    }

    fn title(&self, title: &str, about: &str) -> anyhow::Result<()> {
        let style = self.context.output.style;
        self.line("")?;
        self.line(format!("{}  {}", style.bold(title), style.dim(about)).trim_end())
    }

    fn lines(&self, lines: Vec<String>) -> anyhow::Result<()> {
        lines.into_iter().try_for_each(|line| self.line(line))
    }

    fn line(&self, text: impl std::fmt::Display) -> anyhow::Result<()> {
        Ok(self.context.output.line(text)?)
    }
}

/// Whether a reply calls what was meant with the arguments that were said.
fn is_right(reply: &Reply, odd: &Meaning) -> bool {
    reply.calls.iter().any(|call| {
        call.function == odd.function && odd.arguments.iter().all(|(name, _)| call.arguments.contains_key(*name))
    })
}
