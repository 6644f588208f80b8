//! Turns that only mean something after the one before: the value that was asked for, "no, the kitchen", "and tomorrow?".
//!
//! Invariant: a call is only ever changed here, never made up: the function is that of the context.

use mynah_data::{Correction, Slot};

use super::super::context::{LastCall, Pending, carried};
use super::super::feedback::find;
use super::super::phrases::{Link, hesitates, link, without_small_words};
use super::super::reading::{Stance, answers, stance};
use super::super::reply::{ReplyKind, ReplySource};
use super::{LINKED_CONFIDENCE, MAX_ATTEMPTS, Origin, Outcome, Turn};
use crate::decision::{Decider, Decision};
use crate::extract::Text;
use crate::functions::{Argument, Call, Draft, Parameter};
use crate::memory::head;
use crate::mynah::Understanding;
use crate::normalise::{Normalised, is_recognisable};

/// Words of a turn that says a value and hardly anything else.
const MAX_FRAGMENT_WORDS: usize = 5;

/// Words beside the values in a follow-up ("and … in the … please").
const MAX_OTHER_WORDS: usize = 3;

impl Turn<'_> {
    /// The turn after a question for an argument; `None` when it is about something else.
    pub(super) fn asked(
        &self,
        draft: &Draft,
        name: &str,
        attempts: u8,
        understanding: &Understanding,
    ) -> Option<Outcome> {
        let text = Text::new(head(self.text));
        let parameter = self.loaded.toolbox.get(&draft.function)?.parameter(name)?;
        let said = answers(self.loaded, draft, name, head(self.text), understanding, self.now);
        let found = self.value(parameter, &text, understanding, &said);
        if self.is_other_call(draft, found.as_ref(), &text, understanding) {
            return None;
        }
        let Some(argument) = found else {
            let is_answer = matches!(understanding.decision, Decision::Answer { .. } | Decision::Passage { .. });
            if is_answer || attempts + 1 >= MAX_ATTEMPTS {
                return None;
            }
            let question =
                format!("Sorry, I did not understand that. {}", self.loaded.toolbox.question(&draft.function, name));
            let pending = Pending::Argument { draft: draft.clone(), name: name.to_owned(), attempts: attempts + 1 };
            let mut context = self.context.with(pending);
            context.waiting.clone_from(&self.context.waiting);
            let why = format!("the text has no value for `{name}`");
            return Some(self.said(&question, ReplyKind::Ask, &why, context));
        };
        let mut filled = carried(draft.clone());
        self.loaded.toolbox.set(&mut filled, argument);
        // "seven, in the kitchen": what else was said for the same function.
        let tagged = self.loaded.tagged(&draft.function, &understanding.prediction.slots);
        let tagged = self.loaded.toolbox.draft(&draft.function, &tagged, self.now).arguments;
        for more in tagged.into_iter().chain(said) {
            let overlaps = filled
                .arguments
                .iter()
                .any(|known| known.name == more.name || (more.start < known.end && more.end > known.start));
            if !overlaps {
                self.loaded.toolbox.set(&mut filled, more);
            }
        }
        let origin = Origin { confidence: LINKED_CONFIDENCE, source: ReplySource::Context };
        let mut outcome = self.go_on(self.act(filled, origin), &self.context.waiting, origin);
        outcome.why.decision = format!("the turn says `{name}` of {}", draft.function);
        Some(outcome)
    }

    /// The value of an argument that was asked for: as tagged, by its form, or the whole text.
    fn value(
        &self,
        parameter: &Parameter,
        text: &Text,
        understanding: &Understanding,
        said: &[Argument],
    ) -> Option<Argument> {
        let read = |slot: &Slot| match parameter.read(&slot.value, self.now)? {
            Normalised::Exact(value) => Some(Argument {
                name: parameter.name.clone(),
                value,
                raw: slot.value.clone(),
                start: slot.start,
                end: slot.end,
            }),
            _ => None,
        };
        let tagged = understanding.prediction.slots.iter().find(|slot| slot.name == parameter.name);
        let whole = || text.whole(&parameter.name);
        let recognised = match is_recognisable(&parameter.schema) {
            true => whole()
                .as_ref()
                .and_then(&read)
                .or_else(|| text.recognise(parameter, &[], self.now).as_ref().and_then(&read)),
            false => None,
        };
        let read_off = said.iter().find(|argument| argument.name == parameter.name).cloned();
        tagged.and_then(&read).or(recognised).or(read_off).or_else(|| whole().as_ref().and_then(&read))
    }

    /// Whether a turn after a question calls for something else instead.
    fn is_other_call(
        &self,
        draft: &Draft,
        found: Option<&Argument>,
        text: &Text,
        understanding: &Understanding,
    ) -> bool {
        let Decision::Call { function, decider, .. } = &understanding.decision else { return false };
        if *function == draft.function {
            return false;
        }
        let value_words = found.map_or(0, |argument| argument.raw.split_whitespace().count());
        let is_all_value = found.is_some() && text.word_count() <= value_words;
        match decider {
            Decider::Memory(_) => understanding.evidence.exact.is_some(),
            // A bare value is what was asked for, whatever the head thinks of it; free text is a value only when short.
            Decider::Head | Decider::Vote(_) => match found {
                Some(argument) if is_all_value && argument.value.is_string() => text.word_count() > MAX_FRAGMENT_WORDS,
                Some(_) => !is_all_value && text.word_count() > value_words + MAX_OTHER_WORDS,
                None => true,
            },
        }
    }

    /// The turn after a question whether to act: changed and asked again, a yes or no in other words, or `None` when it is about
    /// something else.
    pub(super) fn answered_confirmation(&self, draft: &Draft, understanding: &Understanding) -> Option<Outcome> {
        let call = Call { function: draft.function.clone(), arguments: draft.arguments.clone() };
        let words = Text::new(head(self.text)).word_count();
        let short = words <= MAX_FRAGMENT_WORDS + MAX_OTHER_WORDS;
        let other = matches!(&understanding.decision, Decision::Call { function, .. } if *function != draft.function);
        if !short || other {
            return None;
        }
        let part = match link(head(self.text)) {
            Some(Link::Correction(rest) | Link::FollowUp(rest)) => rest,
            None => head(self.text),
        };
        if let Some(changed) = self.changed(&call, part, Change::Form) {
            let mut outcome = self.act(changed, Origin { confidence: LINKED_CONFIDENCE, source: ReplySource::Context });
            outcome.context.waiting.clone_from(&self.context.waiting);
            outcome.why.decision = format!("{} was changed before it was confirmed", draft.function);
            return Some(outcome);
        }
        match stance(self.text) {
            Stance::Accepting if !hesitates(self.text) => Some(self.confirmed(draft)),
            Stance::Declining if words <= MAX_FRAGMENT_WORDS && !self.text.trim_end().ends_with('?') => {
                Some(self.declined())
            }
            _ => None,
        }
    }

    /// "do that again": the last call once more.
    pub(super) fn repeated(&self, last: &LastCall) -> Outcome {
        let draft =
            Draft { function: last.call.function.clone(), arguments: last.call.arguments.clone(), missing: Vec::new() };
        let mut outcome = self.act(carried(draft), Origin { confidence: 1.0, source: ReplySource::Context });
        outcome.why.decision = format!("the last call of {} once more", last.call.function);
        outcome
    }

    /// "no, the kitchen": the last call with another argument, and a correction of its interaction.
    pub(super) fn corrected(&self, last: &LastCall, rest: &str) -> Option<Outcome> {
        let rest = self.part(rest)?;
        // "no, set a timer for ten minutes" says it all: a call of its own, and no verdict on the words before.
        let alone = self.loaded.understand(rest);
        let is_whole = Text::new(rest).word_count() > MAX_FRAGMENT_WORDS;
        if is_whole && matches!(alone.decision, Decision::Call { .. }) {
            return None;
        }
        let changed = self.changed(&last.call, rest, Change::Anything)?;
        let correction =
            Correction::Function { function: Some(last.call.function.clone()), slots: corrected_slots(last, &changed) };
        let mut outcome = self.act(changed, Origin { confidence: LINKED_CONFIDENCE, source: ReplySource::Context });
        outcome.why.decision = format!("the turn corrects the last call of {}", last.call.function);
        // Of a turn that asked for several things the words do not stand for this one.
        outcome.correction = last.alone.then_some(correction);
        Some(outcome)
    }

    /// "and tomorrow?": the last call with an argument changed.
    pub(super) fn followed_up(&self, last: &LastCall, rest: &str, understanding: &Understanding) -> Option<Outcome> {
        let rest = self.part(rest)?;
        let words = Text::new(rest).word_count();
        let other =
            matches!(&understanding.decision, Decision::Call { function, .. } if *function != last.call.function);
        if words > MAX_FRAGMENT_WORDS + MAX_OTHER_WORDS || (other && words > MAX_FRAGMENT_WORDS) {
            return None;
        }
        // A bare word after "and" is free text only when nothing else is meant by it.
        let change = if other { Change::Form } else { Change::Anything };
        self.linked(last, self.changed(&last.call, rest, change)?)
    }

    /// "in the kitchen": a few words that mean nothing alone but fit an argument of the last call.
    pub(super) fn fragment(&self, last: &LastCall, understanding: &Understanding) -> Option<Outcome> {
        let unclear = matches!(understanding.decision, Decision::Abstain { .. });
        if !unclear || Text::new(head(self.text)).word_count() > MAX_FRAGMENT_WORDS {
            return None;
        }
        self.linked(last, self.changed(&last.call, head(self.text), Change::Form)?)
    }

    fn linked(&self, last: &LastCall, changed: Draft) -> Option<Outcome> {
        let mut outcome = self.act(changed, Origin { confidence: LINKED_CONFIDENCE, source: ReplySource::Context });
        outcome.why.decision = format!("the turn changes the last call of {}", last.call.function);
        Some(outcome)
    }

    /// A part of the text, as far as it is looked at.
    fn part<'b>(&self, part: &'b str) -> Option<&'b str> {
        (self.text.len() == head(self.text).len()).then_some(part)
    }

    /// A call with the arguments that `part`, a stretch of this turn's text, says differently; `None` when it says none.
    fn changed(&self, call: &Call, part: &str, change: Change) -> Option<Draft> {
        let toolbox = &self.loaded.toolbox;
        let text = Text::new(part);
        let tagged = self.loaded.tagged(&call.function, &self.loaded.model.predict(part).slots);
        let mut said: Vec<Argument> = toolbox.draft(&call.function, &tagged, self.now).arguments;
        if let Some(tool) = toolbox.get(&call.function) {
            let in_call = |parameter: &&Parameter| call.value(&parameter.name).is_some();
            // What the call has is rather changed than something added.
            let parameters = tool
                .parameters
                .iter()
                .filter(in_call)
                .chain(tool.parameters.iter().filter(|parameter| !in_call(parameter)));
            for parameter in parameters {
                if said.iter().any(|argument| argument.name == parameter.name) {
                    continue;
                }
                let taken: Vec<Slot> = said.iter().filter_map(Argument::slot).collect();
                let found = text.recognise(parameter, &taken, self.now);
                said.extend(
                    found
                        .and_then(|slot| toolbox.draft(&call.function, &[slot], self.now).arguments.into_iter().next()),
                );
            }
            let value_words: usize = said.iter().map(|argument| argument.raw.split_whitespace().count()).sum();
            if text.word_count() > value_words + MAX_OTHER_WORDS {
                said.clear();
            }
            if said.is_empty() {
                said.extend(self.in_the_unit_before(call, &tool.parameters, part));
            }
            if said.is_empty() && change == Change::Anything && text.word_count() <= MAX_FRAGMENT_WORDS {
                said.extend(self.free_text(call, &tool.parameters, part));
            }
        }
        let before = call.values();
        said.retain(|argument| before.get(&argument.name) != Some(&argument.value));
        if said.is_empty() {
            return None;
        }
        let offset = offset(self.text, part);
        let mut draft =
            carried(Draft { function: call.function.clone(), arguments: call.arguments.clone(), missing: Vec::new() });
        for argument in said {
            toolbox
                .set(&mut draft, Argument { start: argument.start + offset, end: argument.end + offset, ..argument });
        }
        Some(draft)
    }

    /// "make it twenty": a bare number takes the unit of the duration that it changes.
    fn in_the_unit_before(&self, call: &Call, parameters: &[Parameter], part: &str) -> Option<Argument> {
        let number = without_small_words(part);
        for parameter in parameters {
            let Some(unit) = call.text(&parameter.name).and_then(unit) else { continue };
            let is_duration = parameter.schema.get("format").is_some_and(|format| format == "duration");
            let slot = find(part, &parameter.name, number).filter(|_| is_duration)?;
            if let Some(Normalised::Exact(value)) = parameter.read(&format!("{number} {unit}"), self.now) {
                return Some(Argument { name: slot.name, value, raw: slot.value, start: slot.start, end: slot.end });
            }
        }
        None
    }

    /// The words as the one argument of the call that takes any words.
    fn free_text(&self, call: &Call, parameters: &[Parameter], part: &str) -> Option<Argument> {
        let mut free = parameters
            .iter()
            .filter(|parameter| !is_recognisable(&parameter.schema) && call.value(&parameter.name).is_some());
        let (parameter, None) = (free.next()?, free.next()) else { return None };
        let slot = find(part, &parameter.name, without_small_words(part))?;
        self.loaded.toolbox.draft(&call.function, &[slot], self.now).arguments.into_iter().next()
    }
}

/// What may change a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    /// What is tagged, or has the form of an argument.
    Form,
    /// Also any words, for the argument that takes any.
    Anything,
}

/// Where the corrected arguments are in the words of the last call; `None` when those words do not say them.
fn corrected_slots(last: &LastCall, changed: &Draft) -> Option<Vec<Slot>> {
    let mut slots = Vec::new();
    for argument in &changed.arguments {
        match argument.slot() {
            // Said just now: it counts for the earlier words only if they say it too.
            Some(_) => slots.push(find(&last.text, &argument.name, without_small_words(&argument.raw))?),
            None => slots.extend(find(&last.text, &argument.name, &argument.raw)),
        }
    }
    mynah_data::check_slots(&last.text, &mut slots).is_ok().then_some(slots)
}

/// The smallest unit that an ISO 8601 duration names.
fn unit(duration: &str) -> Option<&'static str> {
    let (date, time) = duration.strip_prefix('P')?.split_once('T').unwrap_or((duration, ""));
    match (time.chars().last(), date.chars().last()) {
        (Some('S'), _) => Some("seconds"),
        (Some('M'), _) => Some("minutes"),
        (Some('H'), _) => Some("hours"),
        (_, Some('D')) => Some("days"),
        (_, Some('W')) => Some("weeks"),
        _ => None,
    }
}

/// Where a part of a text begins, in characters.
pub(super) fn offset(text: &str, part: &str) -> usize {
    let bytes = (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    text.get(..bytes).map_or(0, |before| before.chars().count())
}
