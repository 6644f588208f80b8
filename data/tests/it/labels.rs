//! Functions and what people's opinions on turns make of them.

use mynah_data::inline::{parse_inline, render_inline};
use mynah_data::{
    Correction, Decision, Functions, LabelDecision, Labelled, Log, OUT_OF_SCOPE, Rating, Record, Source, SplitName,
    append_decision, check_slots, labelled, labelled_without,
};
use proptest::prelude::*;

use crate::support::{call, home, say, slot};

const FUNCTIONS: &str = r#"[
  {"type": "function",
   "function": {"name": "set_alarm", "description": "Sets an alarm",
     "parameters": {"type": "object", "properties": {"time": {"type": "string"}, "day": {"type": "string"}}, "required": ["time"]}},
   "examples": ["wake me at [seven](time)", "réveil à [7](time) [demain](day) \\[ok\\]"],
   "replies": ["Alarm set for {time}."]},
  {"name": "open_garage", "confirm": true, "examples": ["open the garage"]},
  {"name": "oos", "examples": ["why is the sky blue"]}
]"#;

#[test]
fn functions_in_openai_form_flat_and_with_inline_arguments() {
    let functions = Functions::parse(FUNCTIONS, "functions.json").unwrap();
    assert_eq!(functions.functions.len(), 2);
    let alarm = functions.get("set_alarm").unwrap();
    assert_eq!(alarm.arguments(), ["time", "day"]);
    assert_eq!(alarm.required(), ["time"]);
    assert_eq!(alarm.replies, ["Alarm set for {time}."]);
    assert_eq!(alarm.examples[1].text, "réveil à 7 demain [ok]");
    assert_eq!(alarm.examples[1].slots, [slot("time", 9, 10, "7"), slot("day", 11, 17, "demain")]);
    assert_eq!(alarm.examples[1].origin, "functions.json#set_alarm:2");
    assert!(functions.get("open_garage").unwrap().confirm);
    let examples = functions.examples();
    assert_eq!(examples.len(), 4);
    assert_eq!(examples[3].function, OUT_OF_SCOPE);
    assert!(examples.iter().all(|example| example.source == Source::Written));
    assert!(Functions::default().examples().is_empty());
}

#[test]
fn the_object_form_is_the_same() {
    let wrapped = format!(r#"{{"functions": {FUNCTIONS}, "out_of_scope": ["sing"]}}"#);
    let functions = Functions::parse(&wrapped, "functions.json").unwrap();
    assert_eq!(functions.out_of_scope.len(), 2);
}

#[test]
fn what_is_wrong_is_named_by_function_and_example() {
    let mut rendered = String::new();
    for wrong in [
        "",
        "{}",
        "[1]",
        r#"[{"name": "a b"}]"#,
        r#"[{"description": "no name"}]"#,
        r#"[{"name": "a"}, {"name": "a"}]"#,
        r#"[{"name": "a", "exmaples": []}]"#,
        r#"[{"name": "a", "examples": "x"}]"#,
        r#"[{"name": "a", "examples": ["x", "at [seven](tiem)"], "parameters": {"properties": {"time": {}}}}]"#,
        r#"[{"name": "a", "examples": ["at [seven](time)"]}]"#,
        r#"[{"name": "a", "examples": ["ok", "at [seven"]}]"#,
        r#"[{"name": "a", "examples": [" "]}]"#,
        r#"[{"name": "a", "parameters": {"required": ["time"]}}]"#,
        r#"{"functions": [], "out_of_scope": [1]}"#,
    ] {
        let error = Functions::parse(wrong, "functions.json").unwrap_err();
        rendered.push_str(&format!("{error}\n  hint: {}\n", error.hint()));
    }
    insta::assert_snapshot!(rendered, @r#"
    functions.json: not JSON: EOF while parsing a value at line 1 column 0
      hint: correct the line and column that are named
    functions.json: neither an array of functions nor an object with `functions`
      hint: write [{"type":"function","function":{"name":…}}]
    functions.json, function `#1`: a function is no object
      hint: write { … } with its keys
    functions.json, function `#1`: the name `a b` cannot be called
      hint: a name has 1 to 64 letters, digits, `_`, `-` or `.`
    functions.json, function `#1`: `name` has to be a text
      hint: correct `name`
    functions.json, function `a`: there are two functions of this name
      hint: rename one, or put the examples of both together
    functions.json, function `a`: unknown key `exmaples`
      hint: did you mean `examples`?
    functions.json, function `a`: `examples` has to be an array of texts
      hint: correct `examples`
    functions.json, function `a`, example 2: unknown argument `tiem`
      hint: did you mean `time`?
    functions.json, function `a`, example 1: unknown argument `time`
      hint: add it to parameters.properties
    functions.json, function `a`, example 2: the `[` at character 4 is never closed
      hint: write an argument as [its words](its_name), and a plain bracket as \[
    functions.json, function `a`, example 1: the example has no words
      hint: write what a person would say, or remove it
    functions.json, function `a`: the required argument `time` is not in parameters.properties
      hint: add it there, or take it out of `required`
    functions.json, function `oos`: `examples` has to be an array of texts
      hint: correct `examples`
    "#);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let (directory, home) = home();
    let missing = Functions::load(&home.functions_path()).unwrap_err();
    std::fs::write(home.functions_path(), b"[\xff]").unwrap();
    let binary = Functions::load(&home.functions_path()).unwrap_err();
    let rendered = format!("{missing}\n  hint: {}\n{binary}\n  hint: {}", missing.hint(), binary.hint())
        .replace(&directory.path().display().to_string(), "DIR");
    insta::assert_snapshot!(rendered, @r"
    cannot read DIR/home/functions.json: No such file or directory (os error 2)
      hint: check the path; a new home has to be created first
    functions.json: not UTF-8 at byte 1
      hint: save the file as UTF-8
    ");
}

fn correction(function: Option<&str>) -> Option<Correction> {
    Some(Correction::Function { function: function.map(str::to_owned), slots: None })
}

#[test]
fn the_last_opinion_on_an_utterance_counts() {
    let (_directory, home) = home();
    let log = Log::open(&home);
    let mut session = log.start_session("chat").unwrap();
    let first = say(&mut session, "Play jazz");
    let again = say(&mut session, "play  jazz");
    let question = say(&mut session, "who are you");
    let nonsense = say(&mut session, "blue seven the");
    say(&mut session, "nobody looked at this");
    log.append_feedback(&first, None, correction(Some("stop"))).unwrap();
    log.append_feedback(&again, Some(Rating::Down), correction(Some("play"))).unwrap();
    // A rating does not take a correction back.
    log.append_feedback(&again, Some(Rating::Down), None).unwrap();
    log.append_feedback(&nonsense, None, correction(None)).unwrap();
    session.end("quit").unwrap();
    let answer = Correction::Answer { answer: "Mynah.".to_owned() };
    log.append_feedback(&question, None, Some(answer)).unwrap();
    let labels = labelled(&log).unwrap();
    let summary: Vec<_> = labels
        .examples
        .iter()
        .map(|example| (example.text.as_str(), example.function.as_str(), example.split))
        .collect();
    assert_eq!(
        summary,
        [("play  jazz", "play", Some(SplitName::Train)), ("blue seven the", OUT_OF_SCOPE, Some(SplitName::Train)),]
    );
    assert_eq!(labels.examples[0].origin, again);
    assert_eq!(labels.answers.len(), 1);
    assert_eq!(labels.answers[0].answer, "Mynah.");
    assert_eq!(labels.answers[0].source, Source::Taught);
    assert_eq!(labels.problems, []);
}

#[test]
fn an_approved_call_is_an_example_unless_it_needed_the_turn_before() {
    let (_directory, home) = home();
    let log = Log::open(&home);
    let mut session = log.start_session("chat").unwrap();
    // The second argument was said in another turn.
    let slots = vec![slot("genre", 5, 9, "jazz"), slot("room", 12, 19, "kitchen")];
    let approved = call(session.id(), "play jazz", "play", slots);
    let mut followed = call(session.id(), "and tomorrow", "weather", Vec::new());
    followed.reply.source = "context".to_owned();
    let taken_back = call(session.id(), "stop", "stop", Vec::new());
    for turn in [&approved, &followed, &taken_back] {
        session.append(&Record::Interaction(turn.clone())).unwrap();
        log.append_feedback(&turn.id, Some(Rating::Up), None).unwrap();
    }
    log.append_feedback(&taken_back.id, Some(Rating::Down), None).unwrap();
    let labels = labelled(&log).unwrap();
    assert_eq!(labels.examples.len(), 1);
    assert_eq!(labels.examples[0].source, Source::Confirmed);
    assert_eq!(labels.examples[0].split, None);
    assert_eq!(labels.examples[0].slots, [slot("genre", 5, 9, "jazz")]);
}

#[test]
fn sessions_keep_their_say_and_the_owner_has_the_last_word() {
    let (_directory, home) = home();
    let log = Log::open(&home);
    let function = |name: &str| Some(Correction::Function { function: Some(name.to_owned()), slots: None });
    let mut turns = Vec::new();
    for name in ["play", "stop"] {
        let mut session = log.start_session("chat").unwrap();
        let turn = say(&mut session, "some tunes");
        log.append_feedback(&turn, None, function(name)).unwrap();
        session.end("quit").unwrap();
        turns.push(turn);
    }
    let functions =
        |labels: &Labelled| -> Vec<String> { labels.examples.iter().map(|example| example.function.clone()).collect() };
    let labels = labelled(&log).unwrap();
    assert_eq!(functions(&labels), ["stop"]);
    let votes = |labels: &Labelled| -> Vec<(String, String)> {
        labels.votes.iter().map(|vote| (vote.example.origin.clone(), vote.example.function.clone())).collect()
    };
    let both = [(turns[0].clone(), "play".to_owned()), (turns[1].clone(), "stop".to_owned())];
    assert_eq!(votes(&labels), both);
    // Without the later one the earlier one counts again, and both still have their say.
    let without = labelled_without(&log, &[turns[1].clone()].into()).unwrap();
    assert_eq!((functions(&without), votes(&without)), (vec!["play".to_owned()], both.to_vec()));

    let decide = |decision| {
        let at = jiff::Timestamp::now();
        let decided = LabelDecision { interaction: turns[1].clone(), decision, at, by: "owner".to_owned() };
        append_decision(&home, &decided, mynah_data::fault::none()).unwrap();
    };
    decide(Decision::Reject);
    let rejected = labelled(&log).unwrap();
    assert_eq!((functions(&rejected), rejected.votes.len()), (vec!["play".to_owned()], 1));
    decide(Decision::Accept);
    assert_eq!(functions(&labelled(&log).unwrap()), ["stop"]);
    // What is said after the decision is another label.
    decide(Decision::Reject);
    log.append_feedback(&turns[1], None, function("weather")).unwrap();
    assert_eq!(functions(&labelled(&log).unwrap()), ["weather"]);
    std::fs::write(home.decisions_path(), "not a line\n").unwrap();
    assert_eq!(labelled(&log).unwrap().problems.len(), 1);
}

proptest! {
    #[test]
    fn inline_arguments_are_read_as_they_were_written(
        parts in prop::collection::vec(("[^\\x00]{0,8}", "[a-z\\[\\]\\\\é ]{0,6}[a-z]"), 0..4),
        end in "[^\\x00]{0,8}",
    ) {
        let mut text = String::new();
        let mut slots = Vec::new();
        for (index, (before, value)) in parts.iter().enumerate() {
            text.push_str(before);
            let start = text.chars().count();
            text.push_str(value);
            slots.push(slot(&format!("a{index}"), start, text.chars().count(), value));
        }
        text.push_str(&end);
        let (read, mut read_slots) = parse_inline(&render_inline(&text, &slots)).unwrap();
        prop_assert_eq!(&read, &text);
        prop_assert_eq!(check_slots(&read, &mut read_slots), Ok(()));
        prop_assert_eq!(read_slots, slots);
    }

    #[test]
    fn no_file_panics(text in any::<String>()) {
        let _ = Functions::parse(&text, "f");
        let _ = parse_inline(&text);
    }
}

#[test]
fn the_turn_of_an_opinion_is_found_in_whatever_session_it_lies() {
    let (_directory, home) = home();
    let log = Log::open(&home);
    let mut said = log.start_session("test").unwrap();
    let mut other = log.start_session("test").unwrap();
    let turns = [say(&mut said, "who feeds the cat"), say(&mut said, "who waters the flowers")];
    // The second names a session that has no such turn, the third one that there is not.
    let sessions = [said.id(), other.id(), "s_0"].map(str::to_owned);
    for (turn, session) in turns.iter().cycle().zip(&sessions) {
        let opinion = mynah_data::FeedbackRecord {
            id: mynah_data::new_feedback_id(),
            interaction: turn.clone(),
            session: session.clone(),
            at: jiff::Timestamp::now(),
            rating: None,
            correction: Some(Correction::Answer { answer: format!("Anna, says {session}.") }),
        };
        other.append(&Record::Feedback(opinion)).unwrap();
        let answers = labelled(&log).unwrap().answers;
        let last = answers.last().expect("an answer");
        assert_eq!((&last.origin, last.answer.as_str()), (turn, format!("Anna, says {session}.").as_str()));
    }
    assert_eq!(labelled(&log).unwrap().answers.len(), 2);
}
