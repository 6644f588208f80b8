//! What the fields of a record mean, whatever file it stood in.

use serde_json::{Map, Value};

use super::{File, Imported};
use crate::error::LineError;
use crate::example::{
    AnswerSpan, Example, OUT_OF_SCOPE, QuestionExample, RetrievalPair, Slot, Source, SplitName, TaughtAnswer,
    check_slots,
};

/// The keys under which a document has its records.
pub(super) const CONTAINERS: [&str; 4] = ["data", "examples", "utterances", "records"];
/// The names of an utterance.
pub(super) const TEXT: [&str; 4] = ["text", "utterance", "query", "sentence"];
/// The names of its function.
pub(super) const FUNCTION: [&str; 4] = ["intent", "function", "label", "category"];
/// The names of a question with its answer.
pub(super) const ANSWERS: [[&str; 2]; 2] = [["question", "answer"], ["user_message", "ai_response"]];

type Item = Result<Imported, LineError>;
type Fields = Map<String, Value>;

/// What is wrong with a record, and what to do about it.
struct Problem {
    message: String,
    hint: String,
}

fn problem<T>(message: impl Into<String>, hint: impl Into<String>) -> Result<T, Problem> {
    Err(Problem { message: message.into(), hint: hint.into() })
}

/// Reads a record; those of one that holds others are all of its line.
pub(super) fn read(value: &Value, file: &File, line: u64) -> Vec<Item> {
    let origin = file.origin(line);
    let report =
        |item: Result<Imported, Problem>| item.map_err(|Problem { message, hint }| file.error(line, message, hint));
    let Value::Object(fields) = value else {
        let wrong = problem("not an object", "write {\"text\":…,\"intent\":…} or {\"question\":…,\"answer\":…}");
        return vec![report(wrong)];
    };
    let is_record = TEXT.iter().any(|key| fields.contains_key(*key));
    let contained = CONTAINERS.iter().find_map(|key| fields.get(*key).and_then(Value::as_array));
    if let Some(records) = contained.filter(|_| !is_record) {
        return records.iter().flat_map(|record| read(record, file, line)).collect();
    }
    if let Some(Value::Array(paragraphs)) = fields.get("paragraphs") {
        return paragraphs
            .iter()
            .flat_map(|paragraph| article(fields, paragraph))
            .map(|fields| report(record(&fields, &origin)))
            .collect();
    }
    vec![report(record(fields, &origin))]
}

/// The questions of SQuAD's own nested form, each with its passage and title.
fn article(article: &Fields, paragraph: &Value) -> Vec<Fields> {
    let questions = paragraph.get("qas").and_then(Value::as_array);
    let inherited =
        [("title", article.get("title")), ("split", article.get("split")), ("context", paragraph.get("context"))];
    questions
        .into_iter()
        .flatten()
        .map(|question| {
            let mut fields = question.as_object().cloned().unwrap_or_default();
            for (key, value) in inherited {
                if let Some(value) = value
                    && !fields.contains_key(key)
                {
                    fields.insert(key.to_owned(), value.clone());
                }
            }
            fields
        })
        .collect()
}

fn record(fields: &Fields, origin: &str) -> Result<Imported, Problem> {
    let has = |key: &str| fields.contains_key(key);
    if has("context") && has("question") {
        return question(fields, origin).map(Imported::Question);
    }
    if has("question") && has("positive") {
        return Ok(Imported::Pair(RetrievalPair {
            question: words(fields, "question")?,
            positive: words(fields, "positive")?,
            split: split(fields)?,
            origin: origin.to_owned(),
        }));
    }
    if has("question") && has("positives") {
        return problem(
            "a question whose passages are in another file",
            "import {\"question\":…,\"positive\":…} with the passage itself",
        );
    }
    for [question, answer] in ANSWERS {
        if has(question) {
            return Ok(Imported::Answer(TaughtAnswer {
                question: words(fields, question)?,
                answer: words(fields, answer)?,
                source: Source::Imported,
                origin: origin.to_owned(),
                at: None,
            }));
        }
    }
    match TEXT.into_iter().find(|key| has(key)) {
        Some(text) => example(fields, text, origin).map(Imported::Example),
        None => {
            let keys: Vec<&str> = fields.keys().take(8).map(String::as_str).collect();
            problem(
                format!("no known fields among `{}`", keys.join("`, `")),
                "a record has text and intent, question and answer, user_message and ai_response, \
                 or question and context",
            )
        }
    }
}

fn example(fields: &Fields, text: &str, origin: &str) -> Result<Example, Problem> {
    let text = words(fields, text)?;
    let function = match FUNCTION.into_iter().find_map(|key| fields.get(key)) {
        Some(Value::Null) => OUT_OF_SCOPE,
        Some(Value::String(function)) => match function.trim() {
            "" => return problem("the intent is empty", "name the function, or write `oos`"),
            "out_of_scope" | "NONE" | "none" => OUT_OF_SCOPE,
            function => function,
        },
        Some(_) => return problem("the intent is no string", "write the function's name"),
        None => return problem("no intent", "add the function's name as `intent`, or `oos`"),
    };
    let mut slots = slots(fields.get("slots"))?;
    if let Err(error) = check_slots(&text, &mut slots) {
        return problem(error.to_string(), error.hint());
    }
    Ok(Example {
        function: function.to_owned(),
        text,
        slots,
        split: split(fields)?,
        source: Source::Imported,
        origin: origin.to_owned(),
        at: None,
        weight: 1.0,
    })
}

fn slots(slots: Option<&Value>) -> Result<Vec<Slot>, Problem> {
    const FORM: &str = "write [{\"name\":…,\"start\":…,\"end\":…,\"value\":…}]";
    let slots = match slots {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(slots)) => slots,
        Some(_) => return problem("`slots` is no array", FORM),
    };
    slots
        .iter()
        .map(|slot| {
            let place = |key: &str| {
                let place = slot.get(key).and_then(Value::as_u64);
                match place.and_then(|place| usize::try_from(place).ok()) {
                    Some(place) => Ok(place),
                    None => problem(format!("an argument has no number `{key}`"), FORM),
                }
            };
            let name = ["name", "slot", "entity"].iter().find_map(|key| slot.get(*key).and_then(Value::as_str));
            let Some(name) = name else {
                return problem("an argument has no `name`", FORM);
            };
            let value = match slot.get("value") {
                None | Some(Value::Null) => "",
                Some(Value::String(value)) => value,
                Some(_) => return problem(format!("the value of `{name}` is no string"), FORM),
            };
            Ok(Slot { name: name.to_owned(), start: place("start")?, end: place("end")?, value: value.to_owned() })
        })
        .collect()
}

fn question(fields: &Fields, origin: &str) -> Result<QuestionExample, Problem> {
    let context = words(fields, "context")?;
    let text_of = |key: &str| fields.get(key).and_then(Value::as_str).map(str::to_owned);
    let impossible = fields.get("is_impossible") == Some(&Value::Bool(true));
    let answers = match fields.get("answers") {
        _ if impossible => Vec::new(),
        None | Some(Value::Null) => Vec::new(),
        Some(answers) => answer_spans(answers, &context)?,
    };
    Ok(QuestionExample {
        id: text_of("id"),
        title: text_of("title"),
        question: words(fields, "question")?,
        answers,
        split: split(fields)?,
        origin: origin.to_owned(),
        context,
    })
}

/// The answers as a list of objects, or as an object of lists.
fn answer_spans(answers: &Value, context: &str) -> Result<Vec<AnswerSpan>, Problem> {
    const FORM: &str = "write [{\"text\":…,\"start\":…}]";
    let start_of = |answer: &Value| ["start", "answer_start"].iter().find_map(|key| answer.get(*key).cloned());
    let is_exact = |answer: &Value| answer.get("start_exact") != Some(&Value::Bool(false));
    let pairs: Vec<(Option<Value>, Option<Value>, bool)> = match answers {
        Value::Array(answers) => {
            answers.iter().map(|answer| (answer.get("text").cloned(), start_of(answer), is_exact(answer))).collect()
        }
        Value::Object(lists) => {
            let texts = lists.get("text").and_then(Value::as_array);
            let starts = start_of(answers);
            let starts = starts.as_ref().and_then(Value::as_array);
            let text_list = texts.into_iter().flatten().cloned().map(Some);
            let start_list = starts.into_iter().flatten().cloned().map(Some);
            text_list
                .zip(start_list.chain(std::iter::repeat(None)))
                .map(|(text, start)| (text, start, is_exact(answers)))
                .collect()
        }
        _ => return problem("`answers` is no array", FORM),
    };
    pairs
        .into_iter()
        .map(|(text, start, exact)| match text {
            Some(Value::String(text)) => Ok(AnswerSpan { exact, ..span(text, start, context)? }),
            _ => problem("an answer has no `text`", FORM),
        })
        .collect()
}

fn span(text: String, start: Option<Value>, context: &str) -> Result<AnswerSpan, Problem> {
    let count = |at: usize| context[..at].chars().count();
    let Some(start) = start.filter(|start| !start.is_null()) else {
        let mut places = context.match_indices(&text);
        return match (places.next(), places.next()) {
            (Some((at, _)), None) => Ok(AnswerSpan { start: count(at), text, exact: true }),
            _ => problem(
                format!("the answer `{text}` has no `start` and is not once in the context"),
                "add the place of its first character as `start`",
            ),
        };
    };
    let place = start.as_u64().and_then(|start| usize::try_from(start).ok());
    let at = place.and_then(|place| context.char_indices().nth(place));
    match (place, at) {
        (Some(start), Some((at, _))) if context[at..].starts_with(&text) && !text.is_empty() => {
            Ok(AnswerSpan { text, start, exact: true })
        }
        _ => problem(
            format!("the answer `{text}` is not at character {start} of the context"),
            "`start` counts characters from 0, not bytes",
        ),
    }
}

fn words(fields: &Fields, key: &str) -> Result<String, Problem> {
    match fields.get(key) {
        Some(Value::String(text)) if text.trim().is_empty() => {
            problem(format!("`{key}` is empty"), "fill it in, or remove the record")
        }
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => problem(format!("`{key}` is no string"), "write it in quotes"),
        None => problem(format!("no `{key}`"), format!("add `{key}`")),
    }
}

fn split(fields: &Fields) -> Result<Option<SplitName>, Problem> {
    match fields.get("split") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(split)) if split.trim().is_empty() => Ok(None),
        Some(Value::String(split)) => match split.parse() {
            Ok(split) => Ok(Some(split)),
            Err(error) => problem(error.to_string(), error.hint()),
        },
        Some(_) => problem("the split is no string", "write train, valid or test"),
    }
}
