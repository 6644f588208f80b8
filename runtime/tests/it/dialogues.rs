//! Conversations in which a turn needs those before it, and turns that ask for several things, with the starter alone.

use std::path::Path;

use jiff::Zoned;
use mynah_data::{Correction, Log, Record};
use mynah_runtime::{Mynah, Reply, Session, TurnsBefore};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

fn home() -> TempDir {
    let home = tempfile::tempdir().expect("a directory");
    std::fs::copy(Path::new(FIXTURES).join("household.json"), home.path().join("functions.json")).expect("copied");
    home
}

/// A Tuesday morning.
fn now() -> Zoned {
    "2026-03-03T10:20:00[UTC]".parse().expect("a valid time")
}

fn open(home: &TempDir) -> Mynah {
    Mynah::builder(home.path()).clock(now).open().expect("opened")
}

fn say(session: &mut Session, text: &str) -> Reply {
    session.respond(text).expect("replied")
}

fn values(reply: &Reply) -> Value {
    let call = |call: &mynah_runtime::Call| json!({"function": call.function, "arguments": call.values()});
    Value::Array(reply.calls.iter().map(call).collect())
}

/// What is said and replied, a line each.
fn talk(turns: &[&str]) -> String {
    let home = home();
    let mut session = open(&home).session().expect("started");
    let mut lines = Vec::new();
    for turn in turns {
        let reply = say(&mut session, turn);
        lines.push(format!("{turn} -> [{}] {}", reply.kind.as_str(), reply.text));
    }
    lines.join("\n")
}

#[test]
fn what_is_missing_is_asked_for_and_filled_whatever_stands_around_it() {
    insta::assert_snapshot!(talk(&["please set an alarm", "it should be at half past six, thanks"]), @r#"
        please set an alarm -> [ask] What is the time of the alarm?
        it should be at half past six, thanks -> [call] Alarm set for 06:30.
        "#);
    insta::assert_snapshot!(talk(&["book a table", "for four people at eight please", "yes please go ahead"]), @r#"
        book a table -> [ask] How many people?
        for four people at eight please -> [confirm] Shall I book a table in a restaurant (4, 08:00)? Please say yes or no.
        yes please go ahead -> [call] Table for 4 at 08:00.
        "#);
    insta::assert_snapshot!(talk(&["book a table at Luigi's", "we are four and we come at seven", "sounds good"]), @r#"
        book a table at Luigi's -> [ask] How many people?
        we are four and we come at seven -> [confirm] Shall I book a table in a restaurant (4, 07:00)? Please say yes or no.
        sounds good -> [call] Table for 4 at 07:00.
        "#);
}

#[test]
fn a_pending_question_swallows_no_request_of_its_own() {
    insta::assert_snapshot!(talk(&["please set an alarm", "what is the weather in Paris"]), @r#"
        please set an alarm -> [ask] What is the time of the alarm?
        what is the weather in Paris -> [call] The weather in Paris.
        "#);
    insta::assert_snapshot!(talk(&["please set an alarm", "never mind", "lights off"]), @r#"
        please set an alarm -> [ask] What is the time of the alarm?
        never mind -> [cancel] All right, never mind.
        lights off -> [call] Lights off.
        "#);
}

#[test]
fn a_follow_up_inherits_the_call_and_changes_one_argument() {
    insta::assert_snapshot!(talk(&["what is the weather in Paris", "and tomorrow?", "and in Rome?", "do that again"]), @r#"
        what is the weather in Paris -> [call] The weather in Paris.
        and tomorrow? -> [call] The weather in Paris on 2026-03-04.
        and in Rome? -> [call] The weather in Rome on 2026-03-04.
        do that again -> [call] The weather in Rome on 2026-03-04.
        "#);
    insta::assert_snapshot!(talk(&["set a timer for ten minutes", "make it twenty", "again, please"]), @r#"
        set a timer for ten minutes -> [call] Timer set for 10 minutes.
        make it twenty -> [call] Timer set for 20 minutes.
        again, please -> [call] Timer set for 20 minutes.
        "#);
}

#[test]
fn confirmations_are_answered_in_many_words() {
    insta::assert_snapshot!(
        talk(&["book a table", "there will be three of us", "make it 19:30", "no, make it 5 people", "yes, that's right"]),
        @r#"
        book a table -> [ask] How many people?
        there will be three of us -> [ask] At what time?
        make it 19:30 -> [confirm] Shall I book a table in a restaurant (3, 19:30)? Please say yes or no.
        no, make it 5 people -> [confirm] Shall I book a table in a restaurant (5, 19:30)? Please say yes or no.
        yes, that's right -> [call] Table for 5 at 19:30.
        "#
    );
    insta::assert_snapshot!(talk(&["call mum", "no I don't want that", "call mum", "ok wait"]), @r#"
        call mum -> [confirm] Shall I call somebody on the phone (mum)? Please say yes or no.
        no I don't want that -> [cancel] All right, I won't.
        call mum -> [confirm] Shall I call somebody on the phone (mum)? Please say yes or no.
        ok wait -> [abstain] I don't know what to do with that. Tell me what you meant or what I should answer, and I will remember it.
        "#);
}

#[test]
fn a_correction_changes_the_call_and_is_logged_for_the_words_it_corrects() {
    let home = home();
    let mut session = open(&home).session().expect("started");
    let first = say(&mut session, "turn on the light in the kitchen");
    let corrected = say(&mut session, "no, the bedroom");
    assert_eq!(
        values(&corrected),
        json!([{"function": "set_light", "arguments": {"on": true, "room": "bedroom"}}]),
        "{corrected:?}"
    );
    let records = Log::open(&mynah_data::Home::new(home.path())).read(session.id()).expect("read");
    let corrections: Vec<(&str, &Correction)> = records
        .iter()
        .filter_map(|record| match record {
            Record::Feedback(feedback) => Some((feedback.interaction.as_str(), feedback.correction.as_ref()?)),
            _ => None,
        })
        .collect();
    assert!(
        matches!(corrections.as_slice(), [(interaction, Correction::Function { function: Some(function), .. })]
            if *interaction == first.interaction && function == "set_light"),
        "{corrections:?}"
    );
}

#[test]
fn several_wishes_are_done_in_order_and_questions_wait_for_each_other() {
    insta::assert_snapshot!(talk(&["lights off and set an alarm for six"]), @r#"
        lights off and set an alarm for six -> [call] Lights off. Alarm set for 06:00.
        "#);
    insta::assert_snapshot!(talk(&["turn on the lamp and set an alarm", "quarter past seven"]), @r#"
        turn on the lamp and set an alarm -> [ask] Lights on. What is the time of the alarm?
        quarter past seven -> [call] Alarm set for 07:15.
        "#);
    insta::assert_snapshot!(talk(&["please set an alarm and play jazz", "hmm", "seven"]), @r#"
        please set an alarm and play jazz -> [ask] What is the time of the alarm?
        hmm -> [ask] Sorry, I did not understand that. What is the time of the alarm?
        seven -> [call] Alarm set for 07:00. Playing jazz.
        "#);
    insta::assert_snapshot!(talk(&["call mum and turn off the lights", "yes"]), @r#"
        call mum and turn off the lights -> [confirm] Shall I call somebody on the phone (mum)? Please say yes or no.
        yes -> [call] Calling mum. Lights off.
        "#);
    insta::assert_snapshot!(talk(&["call mum and turn off the lights", "no"]), @r#"
        call mum and turn off the lights -> [confirm] Shall I call somebody on the phone (mum)? Please say yes or no.
        no -> [call] All right, I won't. Lights off.
        "#);
}

#[test]
fn every_call_is_in_the_reply_and_in_the_log_with_its_places_in_the_text() {
    let home = home();
    let mut session = open(&home).session().expect("started");
    let text = "turn on the kitchen and the bedroom lights";
    let reply = say(&mut session, text);
    assert_eq!(
        values(&reply),
        json!([
            {"function": "set_light", "arguments": {"on": true, "room": "kitchen"}},
            {"function": "set_light", "arguments": {"room": "bedroom", "on": true}},
        ]),
        "{reply:?}"
    );
    let records = Log::open(&mynah_data::Home::new(home.path())).read(session.id()).expect("read");
    let Record::Interaction(turn) = &records[1] else { panic!("{records:?}") };
    assert_eq!(turn.reply.calls.len(), 2);
    for slot in turn.reply.calls.iter().flat_map(|call| &call.slots) {
        assert_eq!(text[slot.start..slot.end], slot.value);
    }
    // The words ask for two things, so a correction of the second is no label for them.
    say(&mut session, "no, the bathroom");
    let records = Log::open(&mynah_data::Home::new(home.path())).read(session.id()).expect("read");
    assert!(!records.iter().any(|record| matches!(record, Record::Feedback(_))), "{records:?}");
}

#[test]
fn sentences_with_two_wishes_are_two_calls_and_one_wish_is_one() {
    /// Share of the sentences with several wishes that have to be understood whole.
    const FLOOR: f64 = 0.9;
    let home = home();
    let mynah = open(&home);
    let file = std::fs::read_to_string(Path::new(FIXTURES).join("two_functions.txt")).expect("read");
    let (mut right, mut all, mut wrong) = (0, 0, Vec::new());
    for line in file.lines().filter(|line| !line.starts_with('#')) {
        let (wanted, text) = line.split_once(" | ").expect("functions and a sentence");
        let wanted: Vec<&str> = wanted.split(' ').collect();
        let found = mynah.functions_asked(text);
        if wanted.len() == 1 {
            assert!(found.len() <= 1, "`{text}` is one wish, not {found:?}");
            continue;
        }
        all += 1;
        match found == wanted {
            true => right += 1,
            false => wrong.push(format!("{text}: {found:?}")),
        }
    }
    assert!(all >= 40, "{all} sentences");
    assert!(f64::from(right) >= FLOOR * f64::from(all), "{right} of {all}; wrong: {wrong:#?}");
}

#[test]
fn a_text_is_read_with_what_was_said_before_it() {
    let home = home();
    let mynah = open(&home);
    let before = TurnsBefore {
        said: vec!["For how many people?".into()],
        function: Some("book_table".into()),
        ..TurnsBefore::default()
    };
    let reading = mynah.read(&before, "There are seven of us, around eight o'clock");
    let read: Vec<(&str, &Value)> =
        reading.changes.iter().map(|argument| (argument.name.as_str(), &argument.value)).collect();
    assert_eq!(reading.function.as_deref(), Some("book_table"));
    assert_eq!(read, [("people", &json!(7)), ("time", &json!("08:00"))]);
    let before = TurnsBefore { said: vec!["Is there anything else I can do?".into()], ..before };
    assert_eq!(mynah.read(&before, "no thanks, that's all"), mynah_runtime::Reading::default());
    let before = TurnsBefore { said: vec!["Shall I book a table for four people at 19:30?".into()], ..before };
    let accepted = mynah.read(&before, "yes, sounds good");
    let read: Vec<(&str, &Value)> =
        accepted.changes.iter().map(|argument| (argument.name.as_str(), &argument.value)).collect();
    assert_eq!(read, [("people", &json!(4)), ("time", &json!("19:30"))], "what was offered is taken over");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_said_is_read_off_the_words(said in ".{0,40}", text in "(yes|no|make it|in|[A-Z][a-zé]{1,6}|[0-9]{1,3}|at|and|[.,!?]| ){0,14}") {
        thread_local! {
            static OPENED: (TempDir, Mynah) = { let home = home(); let mynah = open(&home); (home, mynah) };
        }
        OPENED.with(|(_, mynah)| {
            let before = TurnsBefore { said: vec![said.clone()], function: Some("book_table".into()), ..TurnsBefore::default() };
            for argument in mynah.read(&before, &text).changes {
                let source: Vec<char> = if argument.end > argument.start { text.chars().collect() } else { said.chars().collect() };
                if argument.end > argument.start {
                    prop_assert_eq!(source[argument.start..argument.end].iter().collect::<String>(), argument.raw);
                } else {
                    prop_assert!(said.contains(&argument.raw));
                }
            }
            Ok(())
        })?;
    }
}
