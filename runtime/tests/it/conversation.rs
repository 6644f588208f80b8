//! Conversations with the starter model, through the library API alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Zoned;
use mynah_data::{Log, LogOptions, PolicyStage, Record};
use mynah_runtime::{
    AnswerSource, Builder, Call, Feedback, HandlerError, Mynah, MynahError, PolicySettings, ReplyKind, ReplySource,
    RuntimeSettings,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

pub const FUNCTIONS: &str = r#"[
  {"name": "set_alarm", "description": "Set an alarm",
   "parameters": {"type": "object", "required": ["time"], "properties": {
     "time": {"type": "string", "format": "time", "description": "The time of the alarm"},
     "day": {"type": "string", "format": "date"}}},
   "examples": ["wake me at [seven](time)", "set an alarm for [six thirty](time)", "alarm at [noon](time)", "I need to get up at [eight](time)",
     "please set an alarm", "wake me up", "I want to be woken at [5 am](time)", "get me out of bed at [nine](time)"],
   "replies": ["Alarm set for {time}."]},
  {"name": "set_light", "description": "Switch a light on or off", "confirm": true,
   "parameters": {"type": "object", "required": ["room", "on"], "properties": {
     "room": {"type": "string", "enum": ["living_room", "kitchen", "bedroom"], "description": "Which room?"},
     "on": {"type": "boolean"}}},
   "examples": ["turn [on](on) the light in the [kitchen](room)", "switch the [bedroom](room) lamp [off](on)", "lights [off](on) in the [living room](room)",
     "turn the lights [on](on)", "[kitchen](room) lights [on](on) please", "light [off](on)"]},
  {"name": "get_weather", "description": "Tell the weather forecast of a place",
   "parameters": {"type": "object", "properties": {
     "place": {"type": "string", "description": "Where?"}, "day": {"type": "string", "format": "date"}}},
   "examples": ["what is the weather in [Paris](place)", "will it rain in [London](place) [tomorrow](day)", "how warm is it outside", "weather forecast for [Oslo](place)",
     "is it going to snow in [Berlin](place)", "weather in [Madrid](place) [today](day)"],
   "replies": ["Here is the weather in {place} on {day}.", "Here is the weather in {place}.", "Here is the weather."]}
]"#;

const KNOWLEDGE: &str = "# The house\n\n## Wi-Fi\nThe wireless network is called Burrow. The password is written under the router in the hall.\n\n\
    ## Rubbish\nThe bins are emptied every Thursday morning. Paper goes into the blue bin.\n";

pub fn home() -> TempDir {
    let home = tempfile::tempdir().expect("a directory");
    std::fs::write(home.path().join("functions.json"), FUNCTIONS).expect("written");
    std::fs::create_dir(home.path().join("knowledge")).expect("made");
    std::fs::write(home.path().join("knowledge/house.md"), KNOWLEDGE).expect("written");
    home
}

/// A Tuesday morning.
fn now() -> Zoned {
    "2026-03-03T10:20:00[UTC]".parse().expect("a valid time")
}

pub fn builder(home: &TempDir) -> Builder {
    Mynah::builder(home.path()).clock(now)
}

pub fn open(home: &TempDir) -> Mynah {
    builder(home).open().expect("opened")
}

fn log(home: &TempDir) -> Log {
    Log::open(&mynah_data::Home::new(home.path()))
}

fn texts_in_log(home: &TempDir) -> Vec<String> {
    let records = log(home).records().expect("listed");
    records
        .filter_map(|record| match record {
            Ok(Record::Interaction(turn)) => Some(turn.text),
            _ => None,
        })
        .collect()
}

fn values(call: &Call) -> Value {
    Value::Object(call.values())
}

#[test]
fn a_home_that_does_not_exist_is_made_and_abstains() {
    let directory = tempfile::tempdir().expect("a directory");
    let mynah = Mynah::open(&directory.path().join("new/home")).expect("opened");
    let mut session = mynah.session().expect("started");
    let reply = session.respond("wake me at seven").expect("replied");
    assert_eq!((reply.kind, reply.version.as_deref()), (ReplyKind::Abstain, Some("base1")));
    assert_eq!(mynah.warnings(), []);
    session.end("quit").expect("ended");
    assert!(matches!(session.respond("hello"), Err(MynahError::SessionEnded { .. })));
    // Again, with nothing to be made.
    drop(mynah);
    let again = Mynah::open(&directory.path().join("new/home")).expect("opened again");
    assert_eq!(again.registry().versions().expect("listed").len(), 1);
}

#[test]
fn functions_work_from_their_examples_before_any_training() {
    let home = home();
    let mynah = open(&home);
    let mut session = mynah.session().expect("started");
    let reply = session.respond("Please wake me at half past six!").expect("replied");
    assert_eq!((reply.kind, reply.text.as_str()), (ReplyKind::Call, "Alarm set for 06:30."));
    let argument = &reply.calls[0].arguments[0];
    assert_eq!((argument.raw.as_str(), argument.start, argument.end), ("half past six", 18, 31));
    assert!(
        !reply.why.nearest.is_empty() && reply.why.nearest[0].origin.starts_with("functions.json#set_alarm"),
        "{:?}",
        reply.why
    );

    let reply = session.respond("what's the weather in Lisbon").expect("replied");
    assert_eq!(values(&reply.calls[0]), json!({"place": "Lisbon"}));
    // The log has what was said, understood and replied, and it can be read back.
    let records = log(&home).read(session.id()).expect("read");
    let Record::Interaction(turn) = &records[1] else { panic!("{records:?}") };
    assert_eq!(
        (turn.text.as_str(), turn.reply.kind.as_str(), turn.version.as_deref()),
        ("Please wake me at half past six!", "call", Some("base1"))
    );
    assert_eq!(turn.reply.calls[0].slots[0].value, "half past six");
}

#[test]
fn nonsense_and_other_matters_are_not_known() {
    let home = home();
    let mut session = open(&home).session().expect("started");
    for text in [
        "flibber the wug gromly",
        "¿dónde está la biblioteca?",
        "?!",
        "the mitochondria is the powerhouse of the cell",
        "🙂",
    ] {
        let reply = session.respond(text).expect("replied");
        assert_eq!(reply.kind, ReplyKind::Abstain, "{text}: {reply:?}");
        assert!(reply.text.contains("don't know"));
    }
}

#[test]
fn questions_are_answered_from_the_knowledge_with_its_source() {
    let home = home();
    let mut session = open(&home).session().expect("started");
    let reply = session.respond("where is the wifi password?").expect("replied");
    assert_eq!((reply.kind, reply.source), (ReplyKind::Answer, ReplySource::Knowledge), "{reply:?}");
    assert_eq!(reply.text, "The password is written under the router in the hall. (house.md, Wi-Fi)");
    assert!(matches!(
        &reply.why.answer,
        Some(AnswerSource::Passage { file, line: 4, heading: Some(heading), span: None, .. })
            if file == "house.md" && heading == "Wi-Fi"
    ));
    let reply = session.respond("when are the bins emptied").expect("replied");
    assert!(reply.text.contains("Thursday"), "{reply:?}");
    assert_eq!(reply.why.passage.expect("a passage").line, 7);
}

#[test]
fn a_taught_answer_names_its_line_of_the_log() {
    let home = home();
    let mut session = open(&home).session().expect("started");
    let asked = session.respond("who waters the flowers?").expect("replied");
    session.feedback(&asked.interaction, Feedback::correct_answer("Our neighbour does.")).expect("taken");
    let reply = session.respond("Who waters the flowers").expect("replied");
    assert_eq!((reply.text.as_str(), reply.source), ("Our neighbour does.", ReplySource::Memory));
    assert_eq!(
        reply.why.answer,
        Some(AnswerSource::Remembered {
            question: "who waters the flowers?".to_owned(),
            origin: asked.interaction,
            source: mynah_data::Source::Taught,
        })
    );
}

#[test]
fn a_correction_counts_from_the_next_reply_on_in_every_session() {
    let home = home();
    let mynah = open(&home);
    // Another process, as far as the two can tell.
    let other = open(&home);
    let mut session = mynah.session().expect("started");
    let text = "make it cosy at six";
    let reply = session.respond(text).expect("replied");
    session
        .feedback(&reply.interaction, Feedback::correct_function("set_alarm").with_argument("time", "six"))
        .expect("taken");
    for mynah in [&mynah, &other] {
        let reply = mynah.session().expect("started").respond("Make it cosy at SIX!").expect("replied");
        assert_eq!(
            (reply.kind, reply.source, reply.text.as_str()),
            (ReplyKind::Call, ReplySource::Memory, "Alarm set for 06:00."),
            "{reply:?}"
        );
    }
    // Only the function: the arguments are found in the words.
    let reply = session.respond("do the morning thing at 7:45").expect("replied");
    session.feedback(&reply.interaction, Feedback::correct_function("set_alarm")).expect("taken");
    assert_eq!(session.respond("do the morning thing at 7:45").expect("replied").text, "Alarm set for 07:45.");
    // And back to nothing.
    let last = session.respond(text).expect("replied").interaction;
    session.feedback(&last, Feedback::no_function()).expect("taken");
    assert_eq!(session.respond(text).expect("replied").kind, ReplyKind::Abstain);
    assert_eq!(other.predict(text).function, Some("set_alarm".into()), "a prediction looks for nothing new by itself");
    assert!(other.refresh());
    assert_eq!(other.predict(text).function, None);
}

#[test]
fn a_taught_answer_is_given_next_time() {
    let home = home();
    let mynah = open(&home);
    let mut session = mynah.session().expect("started");
    let reply = session.respond("who feeds the cat on weekends?").expect("replied");
    assert_ne!(reply.text, "Anna does.");
    session.end("quit").expect("ended");
    // The session is over, and feedback still finds it.
    mynah.feedback(&reply.interaction, Feedback::correct_answer("Anna does.")).expect("taken");
    let mut session = mynah.session().expect("started");
    for text in ["Who feeds the cat on weekends", "who feeds the cat on the weekend?"] {
        let reply = session.respond(text).expect("replied");
        assert_eq!(
            (reply.text.as_str(), reply.kind, reply.source),
            ("Anna does.", ReplyKind::Answer, ReplySource::Memory),
            "{text}"
        );
    }
    // Not with memory switched off.
    let forgetful = builder(&home).memory(false).open().expect("opened");
    assert_ne!(
        forgetful.session().expect("started").respond("who feeds the cat on weekends?").expect("replied").text,
        "Anna does."
    );
}

#[test]
fn bad_feedback_is_explained() {
    let home = home();
    let mynah = open(&home);
    let mut session = mynah.session().expect("started");
    let id = session.respond("wake me at seven").expect("replied").interaction;
    let hint = |error: MynahError| format!("{error}; {}", error.hint());
    let unknown = session.feedback(&id, Feedback::correct_function("set_alram")).expect_err("refused");
    insta::assert_snapshot!(hint(unknown), @"there is no function `set_alram`; did you mean `set_alarm`?");
    let unsaid = session
        .feedback(&id, Feedback::correct_function("set_alarm").with_argument("time", "eight"))
        .expect_err("refused");
    insta::assert_snapshot!(hint(unsaid), @"`eight` (argument `time`) was not said in `wake me at seven`; give the argument in the very words of the sentence");
    assert!(session.feedback("i_nothing", Feedback::up()).is_err());
    session.feedback(&id, Feedback::up()).expect("taken");
}

#[test]
fn a_missing_argument_is_asked_for_and_filled() {
    let home = home();
    let mut session = open(&home).session().expect("started");
    let asked = session.respond("please set an alarm").expect("replied");
    assert_eq!((asked.kind, asked.text.as_str()), (ReplyKind::Ask, "What is the time of the alarm?"), "{asked:?}");
    assert_eq!(asked.calls, []);
    let unclear = session.respond("hmm let me think").expect("replied");
    assert_eq!(unclear.kind, ReplyKind::Ask, "{unclear:?}");
    let filled = session.respond("quarter past seven").expect("replied");
    assert_eq!(
        (filled.kind, filled.source, filled.text.as_str()),
        (ReplyKind::Call, ReplySource::Context, "Alarm set for 07:15.")
    );
}

#[test]
fn never_mind_gives_up_and_something_else_is_something_else() {
    let home = home();
    let mut session = open(&home).session().expect("started");
    session.respond("please set an alarm").expect("replied");
    assert_eq!(session.respond("never mind").expect("replied").kind, ReplyKind::Cancel);
    assert_ne!(
        session.respond("quarter past seven").expect("replied").kind,
        ReplyKind::Call,
        "nothing is pending any more"
    );
    session.respond("please set an alarm").expect("replied");
    let other = session.respond("what is the weather in Paris").expect("replied");
    assert_eq!(values(&other.calls[0]), json!({"place": "Paris"}), "{other:?}");
}

#[test]
fn what_asks_for_confirmation_waits_for_a_yes() {
    let home = home();
    let mut session = open(&home).session().expect("started");
    let asked = session.respond("turn on the light in the kitchen").expect("replied");
    assert_eq!((asked.kind, asked.calls.len()), (ReplyKind::Confirm, 0));
    insta::assert_snapshot!(asked.text, @"Shall I switch a light on or off (on, kitchen)? Please say yes or no.");
    let done = session.respond("yes please").expect("replied");
    assert_eq!((done.kind, values(&done.calls[0])), (ReplyKind::Call, json!({"on": true, "room": "kitchen"})));
    session.respond("turn on the light in the kitchen").expect("replied");
    let declined = session.respond("no").expect("replied");
    assert_eq!((declined.kind, declined.calls.len()), (ReplyKind::Cancel, 0));
    session.respond("turn on the light in the kitchen").expect("replied");
    let changed = session.respond("no, the bedroom").expect("replied");
    assert_eq!(changed.kind, ReplyKind::Confirm, "{changed:?}");
    let done = session.respond("yes").expect("replied");
    assert_eq!(values(&done.calls[0]), json!({"on": true, "room": "bedroom"}));
}

#[test]
fn follow_ups_change_the_last_call_and_corrections_are_logged() {
    let home = home();
    let mynah = open(&home);
    let mut session = mynah.session().expect("started");
    session.respond("what is the weather in Paris").expect("replied");
    let followed = session.respond("and tomorrow?").expect("replied");
    assert_eq!(
        (followed.source, values(&followed.calls[0])),
        (ReplySource::Context, json!({"place": "Paris", "day": "2026-03-04"})),
        "{followed:?}"
    );
    let followed = session.respond("what about in Rome?").expect("replied");
    assert_eq!(values(&followed.calls[0]), json!({"place": "Rome", "day": "2026-03-04"}), "{followed:?}");

    let first = session.respond("wake me at seven").expect("replied");
    let corrected = session.respond("no, I meant eight").expect("replied");
    assert_eq!(corrected.text, "Alarm set for 08:00.");
    assert_eq!(corrected.calls[0].slots()[0].start, 12, "offsets are those of this turn");
    let records = log(&home).read(session.id()).expect("read");
    let corrections: Vec<&str> = records
        .iter()
        .filter_map(|record| match record {
            Record::Feedback(feedback) if feedback.correction.is_some() => Some(feedback.interaction.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(corrections, [first.interaction.as_str()]);
    // A turn of its own is none.
    let whole = session.respond("no wake me at a quarter to nine in the morning").expect("replied");
    assert_eq!(whole.text, "Alarm set for 08:45.");
}

#[test]
fn handlers_reply_and_their_failures_are_replies_too() {
    let home = home();
    let mynah = builder(&home)
        .function_handler("set_alarm", |call: &Call| Ok(format!("Ring at {}.", call.text("time").unwrap_or_default())))
        .function_handler("get_weather", |call: &Call| match call.text("place") {
            Some(_) => Err(HandlerError::new("no connection")),
            None => panic!("the app has a bug"),
        })
        .open()
        .expect("opened");
    let mut session = mynah.session().expect("started");
    assert_eq!(session.respond("wake me at seven").expect("replied").text, "Ring at 07:00.");
    let failed = session.respond("what is the weather in Paris").expect("replied");
    assert_eq!((failed.kind, failed.text.as_str()), (ReplyKind::Error, "That did not work: no connection"));
    let panicked = session.respond("weather forecast").expect("replied");
    assert_eq!(panicked.kind, ReplyKind::Error, "{panicked:?}");
    assert_eq!(texts_in_log(&home).len(), 3);
}

#[test]
fn no_words_and_too_many_words() {
    let home = home();
    let mut session = open(&home).session().expect("started");
    for text in ["", "  \n\t"] {
        assert_eq!(session.respond(text).expect("replied").kind, ReplyKind::Ask);
    }
    let long = "wake me at seven and then ".repeat(40_000);
    session.respond(&long).expect("replied");
    assert_eq!(texts_in_log(&home), ["", "  \n\t", long.as_str()]);
}

#[test]
fn a_reply_that_cannot_be_logged_is_an_error_and_loses_nothing() {
    let home = home();
    let full = Arc::new(AtomicBool::new(false));
    let fault = {
        let full = Arc::clone(&full);
        move |step: &'static str| match full.load(Ordering::SeqCst) && step == "log.append" {
            true => Err(std::io::Error::from(std::io::ErrorKind::StorageFull)),
            false => Ok(()),
        }
    };
    let mynah = builder(&home).log_options(LogOptions::with_fault(Arc::new(fault))).open().expect("opened");
    let mut session = mynah.session().expect("started");
    session.respond("please set an alarm").expect("replied");
    full.store(true, Ordering::SeqCst);
    let error = session.respond("seven").expect_err("the disk is full");
    assert!(matches!(&error, MynahError::Data(mynah_data::Error::Io { .. })), "{error}");
    assert_eq!(error.hint(), "make room on the disk and try again; what was written before is kept");
    full.store(false, Ordering::SeqCst);
    assert_eq!(session.respond("seven").expect("replied").text, "Alarm set for 07:00.", "the context is as it was");
    assert_eq!(texts_in_log(&home), ["please set an alarm", "seven"]);
}

#[test]
fn a_torn_line_of_a_killed_process_is_no_obstacle() {
    let home = home();
    let mynah = open(&home);
    let mut session = mynah.session().expect("started");
    let reply = session.respond("make it cosy at six").expect("replied");
    session.feedback(&reply.interaction, Feedback::correct_function("set_alarm")).expect("taken");
    let (id, path) = (session.id().to_owned(), session.path().to_owned());
    drop((session, mynah));
    let mut bytes = std::fs::read(&path).expect("read");
    bytes.extend_from_slice(br#"{"schema":1,"type":"interac"#);
    std::fs::write(&path, bytes).expect("torn");

    let mynah = open(&home);
    assert_eq!(mynah.warnings(), []);
    assert_eq!(mynah.log().unfinished().expect("listed").len(), 1);
    let mut session = mynah.resume(&id).expect("resumed");
    assert_eq!(session.respond("make it cosy at six").expect("replied").text, "Alarm set for 06:00.");
    session.end("quit").expect("ended");
    assert_eq!(mynah.log().read(&id).expect("whole").len(), 5);
}

#[test]
fn many_threads_talk_at_once() {
    let home = home();
    let mynah = open(&home);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut session = mynah.session().expect("started");
                for hour in ["six", "seven", "eight"] {
                    let reply = session.respond(&format!("wake me at {hour}")).expect("replied");
                    session.feedback(&reply.interaction, Feedback::up()).expect("taken");
                    assert_eq!(reply.kind, ReplyKind::Call);
                }
                session.end("quit").expect("ended");
            });
        }
    });
    assert_eq!(texts_in_log(&home).len(), 12);
}

#[test]
fn a_prediction_is_the_same_alone_and_in_a_batch() {
    let home = home();
    let mynah = open(&home);
    let texts = ["wake me at seven", "", "flibber the wug gromly", "turn on the light in the kitchen"];
    let batch = mynah.predict_batch(&texts);
    for (text, understood) in texts.iter().zip(&batch) {
        let alone = mynah.predict(text);
        assert_eq!(
            (&alone.function, &alone.arguments, &alone.version),
            (&understood.function, &understood.arguments, &understood.version)
        );
    }
    assert_eq!(batch[0].arguments[0].value, json!("07:00"));
    assert_eq!(batch[3].function.as_deref(), Some("set_light"), "confirmation is the session's matter");
    assert_eq!(texts_in_log(&home), Vec::<String>::new());
}

#[test]
fn any_text_gets_a_reply() {
    let home = home();
    let mynah = open(&home);
    let session = std::cell::RefCell::new(mynah.session().expect("started"));
    let config = ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let pieces = prop::sample::select(vec![
        "wake me",
        "at",
        "seven",
        "no",
        "and",
        "yes",
        "what about",
        "i meant",
        "never mind",
        "\u{0}",
        "é",
        "🙂",
        "ﬃ",
        "İ",
        "kitchen",
        "?",
        "{time}",
        "\u{202e}",
        " ",
    ]);
    let texts = prop_oneof![any::<String>(), prop::collection::vec(pieces, 0..8).prop_map(|words| words.join(" "))];
    let result = runner.run(&texts, |text| {
        let length = text.chars().count();
        let reply = session.borrow_mut().respond(&text).map_err(|error| TestCaseError::fail(error.to_string()))?;
        for slot in reply.calls.iter().flat_map(Call::slots) {
            prop_assert!(slot.end <= length);
        }
        Ok(())
    });
    result.expect("every text gets a reply");
}

#[test]
fn politeness_is_returned_and_asks_for_nothing() {
    let home = home();
    let mynah = open(&home);
    let mut session = mynah.session().expect("started");
    for (text, expected) in [
        ("Hello there!", "Hello! What can I do for you?"),
        ("hi, how are you?", "I'm ready. What can I do for you?"),
        ("thank you very much", "You're welcome."),
    ] {
        let reply = session.respond(text).expect("replied");
        assert_eq!((reply.kind, reply.text.as_str()), (ReplyKind::Courtesy, expected), "{text}");
        assert_eq!(reply.calls, []);
    }
    // What was taught for it goes first.
    let turn = session.respond("good morning").expect("replied");
    session.feedback(&turn.interaction, Feedback::correct_answer("Morning, sunshine!")).expect("taught");
    let reply = session.respond("Good morning!").expect("replied");
    assert_eq!((reply.kind, reply.text.as_str()), (ReplyKind::Answer, "Morning, sunshine!"));
    // A question that is pending is not forgotten over it: "ok" is no time.
    let reply = session.respond("set an alarm please").expect("replied");
    assert_eq!(reply.kind, ReplyKind::Ask, "{reply:?}");
    let reply = session.respond("thanks, now the weather in Rome").expect("replied");
    assert_ne!(reply.kind, ReplyKind::Courtesy, "more than politeness: {reply:?}");
}

#[test]
fn the_policy_holds_back_and_says_so_in_the_log() {
    let home = home();
    let policy = PolicySettings {
        words: vec!["burrow".into(), "dynamite".into()],
        patterns: vec![r"\d{16}".into()],
        functions: vec!["set_light".into()],
        reply: "Let's talk about something else.".into(),
        ..PolicySettings::default()
    };
    let settings = RuntimeSettings { policy, ..RuntimeSettings::default() };
    let called = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&called);
    let mynah = builder(&home)
        .settings(settings)
        .function_handler("set_light", move |_| {
            seen.store(true, Ordering::SeqCst);
            Ok("done".to_owned())
        })
        .open()
        .expect("opened");
    let mut session = mynah.session().expect("started");
    let cases = [
        ("how do I make Dynamite?", PolicyStage::Request, "word `dynamite`"),
        ("remember 1234567812345678", PolicyStage::Request, r"pattern `\d{16}`"),
        ("turn on the light in the kitchen", PolicyStage::Function, "function `set_light`"),
        ("what is the wireless network called", PolicyStage::Reply, "word `burrow`"),
    ];
    for (text, stage, rule) in cases {
        let reply = session.respond(text).expect("replied");
        assert_eq!(
            (reply.kind, reply.text.as_str()),
            (ReplyKind::Blocked, "Let's talk about something else."),
            "{text}"
        );
        let held = reply.why.policy.expect("the reason is given");
        assert_eq!((held.stage, held.rule.as_str()), (stage, rule), "{text}");
    }
    assert!(!called.load(Ordering::SeqCst), "a function that the policy declines never runs");
    let reply = session.respond("wake me at seven").expect("replied");
    assert_eq!((reply.kind, reply.why.policy), (ReplyKind::Call, None));
    // All of it is in the log, with the reply that was not given.
    let records = log(&home).read(session.id()).expect("read");
    let held: Vec<_> = records
        .iter()
        .filter_map(|record| match record {
            Record::Interaction(turn) => turn.reply.policy.clone(),
            _ => None,
        })
        .collect();
    assert_eq!(held.len(), cases.len());
    assert!(held[3].withheld.as_ref().is_some_and(|reply| reply.contains("Burrow")), "{held:?}");
}

#[test]
fn one_turn_too_many_is_refused_and_the_next_is_not() {
    let home = home();
    let settings = RuntimeSettings { threads: Some(1), max_waiting: 0, ..RuntimeSettings::default() };
    let inner: Arc<std::sync::OnceLock<Mynah>> = Arc::default();
    let shared = Arc::clone(&inner);
    // The handler runs inside of the only turn there is room for.
    let handler = move |_: &Call| match shared.get().map(|mynah| mynah.session()?.respond("what's the weather in Oslo"))
    {
        Some(Err(error @ MynahError::Overloaded { .. })) => Ok(error.to_string()),
        other => Err(HandlerError::new(format!("{other:?}"))),
    };
    let mynah = builder(&home).settings(settings).function_handler("set_alarm", handler).open().expect("opened");
    assert!(inner.set(mynah.clone()).is_ok());
    let mut session = mynah.session().expect("started");
    let reply = session.respond("wake me at seven").expect("replied");
    assert_eq!((reply.kind, reply.text.as_str()), (ReplyKind::Call, "overloaded: 1 turns are at work or waiting"));
    assert!(session.respond("what's the weather in Oslo").is_ok(), "there is room again");
}

#[test]
fn a_line_synced_behind_the_reply_is_in_the_log_at_once_and_a_failed_sync_is_told() {
    let home = home();
    let settings = RuntimeSettings { durability: mynah_runtime::Durability::Process, ..RuntimeSettings::default() };
    let fails = Arc::new(AtomicBool::new(false));
    let failing = Arc::clone(&fails);
    let fault = move |step: &'static str| match step == "log.sync" && failing.load(Ordering::SeqCst) {
        true => Err(std::io::ErrorKind::StorageFull.into()),
        false => Ok(()),
    };
    let options = LogOptions::with_fault(Arc::new(fault));
    let mynah = builder(&home).settings(settings).log_options(options).open().expect("opened");
    let mut session = mynah.session().expect("started");
    session.respond("wake me at seven").expect("replied");
    assert_eq!(texts_in_log(&home), ["wake me at seven"]);
    session.end("quit").expect("on the disk");
    let mut session = mynah.session().expect("started");
    fails.store(true, Ordering::SeqCst);
    let replied = session.respond("wake me at eight");
    let ended = session.end("quit");
    let error = replied.err().or(ended.err()).expect("told once").to_string();
    assert!(error.contains("make durable"), "{error}");
    assert!(texts_in_log(&home).len() <= 2);
}

#[test]
fn embedding_reports_how_far_it_is_and_is_not_done_twice() {
    let home = home();
    std::fs::write(home.path().join("mynah.toml"), "[runtime]\nprecision = 'f32'\n").expect("written");
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    let listen = || {
        let heard = Arc::clone(&heard);
        builder(&home).on_embedding(move |done, total| heard.lock().expect("unharmed").push((done, total)))
    };
    let mynah = listen().open().expect("opened");
    assert_eq!(mynah.model().precision(), mynah_runtime::Precision::F32, "as the settings say");
    let (done, total) = *heard.lock().expect("unharmed").last().expect("something was embedded");
    assert!(done == total && total >= mynah.remembered(), "{done} of {total}");
    let nearest = mynah.memory().nearest(&mynah.model().predict("wake me at seven").embedding, 3);
    heard.lock().expect("unharmed").clear();
    let again = listen().open().expect("opened again");
    assert_eq!(*heard.lock().expect("unharmed"), [], "the cache has all of it");
    assert_eq!(again.memory().nearest(&again.model().predict("wake me at seven").embedding, 3), nearest);
}
