//! Sessions: writing, reading, torn and broken lines, feedback that comes later.

use std::fs;
use std::io::Write;

use mynah_data::{
    CallRecord, Correction, EndRecord, Error, FeedbackRecord, InteractionRecord, Log, Rating, Record, ReplyRecord,
    SessionRecord,
};
use proptest::prelude::*;

use crate::support::{home, say, slot, turn};

fn sample() -> Vec<Record> {
    let at = "2026-03-01T08:00:00Z".parse().unwrap();
    let session = "s_019505e0f1c07000800000000000000a".to_owned();
    vec![
        Record::Session(SessionRecord { session: session.clone(), started: at, client: "chat".to_owned() }),
        Record::Interaction(InteractionRecord {
            id: "i_1".to_owned(),
            session: session.clone(),
            at,
            text: "wake me at \"seven\"\n".to_owned(),
            reply: ReplyRecord {
                text: "Alarm set for 07:00.".to_owned(),
                kind: "call".to_owned(),
                calls: vec![CallRecord {
                    function: "set_alarm".to_owned(),
                    arguments: serde_json::from_str(r#"{"time":"07:00"}"#).unwrap(),
                    slots: vec![slot("time", 12, 17, "seven")],
                }],
                confidence: 0.93,
                source: "model".to_owned(),
                policy: None,
            },
            version: Some("v12".to_owned()),
            version_digest: None,
            latency_ms: f32::NAN,
        }),
        Record::Feedback(FeedbackRecord {
            id: "f_1".to_owned(),
            interaction: "i_1".to_owned(),
            session: session.clone(),
            at,
            rating: Some(Rating::Down),
            correction: Some(Correction::Function { function: None, slots: None }),
        }),
        Record::Feedback(FeedbackRecord {
            id: "f_2".to_owned(),
            interaction: "i_1".to_owned(),
            session: session.clone(),
            at,
            rating: None,
            correction: Some(Correction::Answer { answer: "no".to_owned() }),
        }),
        Record::End(EndRecord { session, at, reason: "quit".to_owned() }),
    ]
}

#[test]
fn the_format_of_the_lines() {
    let lines: String = sample().iter().map(|record| record.to_line().unwrap()).collect();
    insta::assert_snapshot!(lines, @r#"
    {"schema":1,"type":"session","session":"s_019505e0f1c07000800000000000000a","started":"2026-03-01T08:00:00Z","client":"chat"}
    {"schema":1,"type":"interaction","id":"i_1","session":"s_019505e0f1c07000800000000000000a","at":"2026-03-01T08:00:00Z","text":"wake me at \"seven\"\n","reply":{"text":"Alarm set for 07:00.","kind":"call","calls":[{"function":"set_alarm","arguments":{"time":"07:00"},"slots":[{"name":"time","start":12,"end":17,"value":"seven"}]}],"confidence":0.93,"source":"model"},"version":"v12","latency_ms":0.0}
    {"schema":1,"type":"feedback","id":"f_1","interaction":"i_1","session":"s_019505e0f1c07000800000000000000a","at":"2026-03-01T08:00:00Z","rating":"down","correction":{"function":null}}
    {"schema":1,"type":"feedback","id":"f_2","interaction":"i_1","session":"s_019505e0f1c07000800000000000000a","at":"2026-03-01T08:00:00Z","correction":{"answer":"no"}}
    {"schema":1,"type":"end","session":"s_019505e0f1c07000800000000000000a","at":"2026-03-01T08:00:00Z","reason":"quit"}
    "#);
    let read: Vec<Record> = lines.lines().map(|line| Record::from_line(line).unwrap()).collect();
    // What is no number is written as 0, so that the line can be read again.
    let rewritten: String = read.iter().map(|record| record.to_line().unwrap()).collect();
    assert_eq!(rewritten, lines);
}

#[test]
fn what_is_no_record_is_said_and_unknown_fields_are_left_out() {
    let mut rendered = String::new();
    for line in [
        "",
        "{",
        "[]",
        r#"{"schema":2,"type":"interaction"}"#,
        r#"{"type":"end"}"#,
        r#"{"schema":1,"type":"lunch"}"#,
        r#"{"schema":1,"type":"feedback","id":"f","interaction":"i","session":"s","at":"2026-03-01T08:00:00Z","correction":{"slots":[]}}"#,
    ] {
        let error = Record::from_line(line).unwrap_err();
        rendered.push_str(&format!("{error}\n  hint: {}\n", error.hint()));
    }
    insta::assert_snapshot!(rendered, @r"
    not a record: no JSON object
      hint: correct or remove the line; every other line is kept
    not a record: EOF while parsing an object at column 1
      hint: correct or remove the line; every other line is kept
    not a record: no JSON object
      hint: correct or remove the line; every other line is kept
    schema 2 is newer than 1, which is what this program reads
      hint: read the log with the newer program that wrote it
    not a record: missing field `schema` at column 14
      hint: correct or remove the line; every other line is kept
    not a record: unknown variant `lunch`, expected one of `session`, `interaction`, `feedback`, `end` at column 26
      hint: correct or remove the line; every other line is kept
    not a record: a correction has either a `function` or an `answer`
      hint: correct or remove the line; every other line is kept
    ");
    let end = r#"{"schema":1,"type":"end","session":"s","at":"2026-03-01T08:00:00Z","reason":"quit","mood":"good"}"#;
    assert!(matches!(Record::from_line(end).unwrap(), Record::End(_)));
}

#[test]
fn every_prefix_of_a_file_gives_exactly_its_whole_records_and_can_be_continued() {
    let (_directory, home) = home();
    let log = Log::open(&home);
    let mut session = log.start_session("chat").unwrap();
    say(&mut session, "première");
    say(&mut session, "second\nline");
    session.end("quit").unwrap();
    let (id, path) = (session.id().to_owned(), session.path().to_owned());
    let bytes = fs::read(&path).unwrap();
    let whole = log.read(&id).unwrap();
    assert_eq!(whole.len(), 4);
    for length in 0..=bytes.len() {
        let expected = bytes[..length].iter().filter(|byte| **byte == b'\n').count();
        fs::write(&path, &bytes[..length]).unwrap();
        assert_eq!(log.read(&id).unwrap(), whole[..expected], "{length} bytes");
        // Each takes three waits for the disk: around the ends of lines, and now and then between them.
        let near_an_end = bytes[length.saturating_sub(2)..(length + 2).min(bytes.len())].contains(&b'\n');
        if !near_an_end && length % 16 != 0 {
            continue;
        }
        // A writer that comes back cuts the torn line off before it writes.
        let mut again = log.reopen(&id).unwrap();
        again.end("recovered").unwrap();
        let records = log.read(&id).unwrap();
        assert_eq!(records[..expected], whole[..expected]);
        assert!(matches!(&records[expected..], [Record::End(end)] if end.reason == "recovered"));
    }
}

#[test]
fn a_torn_line_of_another_writer_is_cut_off_by_an_open_one() {
    let (_directory, home) = home();
    let log = Log::open(&home);
    let mut session = log.start_session("chat").unwrap();
    let mut other = fs::OpenOptions::new().append(true).open(session.path()).unwrap();
    other.write_all(b"{\"schema\":1,\"type\":\"inter").unwrap();
    say(&mut session, "still here");
    assert_eq!(log.read(session.id()).unwrap().len(), 2);
}

#[test]
fn a_broken_line_in_the_middle_is_named_and_the_others_are_read() {
    let (directory, home) = home();
    let log = Log::open(&home);
    let mut session = log.start_session("chat").unwrap();
    say(&mut session, "one");
    let mut file = fs::OpenOptions::new().append(true).open(session.path()).unwrap();
    file.write_all(b"not json\n\n\xff\n{\"schema\":9,\"type\":\"end\"}\n").unwrap();
    say(&mut session, "two");
    session.end("quit").unwrap();
    let mut rendered = String::new();
    let mut read = 0;
    for record in log.records_of(session.id()).unwrap() {
        match record {
            Ok(_) => read += 1,
            Err(error) => rendered.push_str(&format!("{error}\n  hint: {}\n", error.hint())),
        }
    }
    assert_eq!(read, 4);
    let rendered = rendered
        .replace(&session.path().display().to_string(), "SESSION")
        .replace(&directory.path().display().to_string(), "DIR");
    insta::assert_snapshot!(rendered, @r"
    SESSION:3: not a record: no JSON object
      hint: correct or remove the line; every other line is kept
    SESSION:5: not UTF-8 at byte 0
      hint: correct or remove the line; every other line is kept
    SESSION:6: schema 9 is newer than 1, which is what this program reads
      hint: read the log with the newer program that wrote it
    ");
    assert!(matches!(log.read(session.id()), Err(Error::Line(error)) if error.line == 3));
    let summary = log.session(session.id()).unwrap();
    assert_eq!((summary.records, summary.broken_lines), (4, 3));
    assert_eq!(log.records().unwrap().filter(Result::is_ok).count(), 4);
}

#[test]
fn sessions_are_summed_up_and_merged_by_time() {
    let (_directory, home) = home();
    let log = Log::open(&home);
    assert_eq!(log.sessions().unwrap().count(), 0);
    let mut first = log.start_session("chat").unwrap();
    let mut second = log.start_session("http").unwrap();
    say(&mut first, "one");
    say(&mut second, "two");
    say(&mut first, "three");
    first.end("quit").unwrap();
    let texts: Vec<String> = log
        .records()
        .unwrap()
        .filter_map(|record| match record.unwrap() {
            Record::Interaction(turn) => Some(turn.text),
            _ => None,
        })
        .collect();
    assert_eq!(texts, ["one", "two", "three"]);
    let sessions: Vec<_> = log.sessions().unwrap().map(Result::unwrap).collect();
    assert_eq!(sessions.len(), 2);
    assert_eq!(sessions[0].id, first.id());
    assert_eq!((sessions[0].records, sessions[0].interactions), (4, 2));
    assert_eq!(sessions[0].first_text.as_deref(), Some("one"));
    assert!(sessions[0].ended.is_some());
    assert_eq!(sessions[1].client, "http");
    let unfinished = log.unfinished().unwrap();
    assert_eq!(unfinished.len(), 1);
    assert_eq!(unfinished[0].id, second.id());
}

#[test]
fn feedback_goes_to_an_open_session_or_to_one_of_its_own() {
    let (_directory, home) = home();
    let log = Log::open(&home);
    let mut session = log.start_session("chat").unwrap();
    let id = say(&mut session, "play jazz");
    assert_eq!(log.find_interaction(&id).unwrap().unwrap().text, "play jazz");
    let feedback = log.append_feedback(&id, Some(Rating::Up), None).unwrap();
    assert_eq!(feedback.session, session.id());
    assert_eq!(log.session(session.id()).unwrap().feedback, 1);
    session.end("quit").unwrap();
    let correction =
        Correction::Function { function: Some("play_music".to_owned()), slots: Some(vec![slot("genre", 5, 9, "")]) };
    let feedback = log.append_feedback(&id, None, Some(correction)).unwrap();
    assert!(matches!(
        &feedback.correction,
        Some(Correction::Function { slots: Some(slots), .. }) if slots[0].value == "jazz"
    ));
    assert_eq!(log.session(session.id()).unwrap().feedback, 1);
    let sessions: Vec<_> = log.sessions().unwrap().map(Result::unwrap).collect();
    assert_eq!(sessions[1].client, "feedback");
    assert_eq!((sessions[1].corrections, sessions[1].ended.is_some()), (1, true));
}

#[test]
fn what_feedback_is_about_is_checked() {
    let (directory, home) = home();
    let log = Log::open(&home);
    let mut session = log.start_session("chat").unwrap();
    let id = say(&mut session, "play jazz");
    let wrong = Correction::Function {
        function: Some("play_music".to_owned()),
        slots: Some(vec![slot("genre", 5, 9, "rock")]),
    };
    let unknown = mynah_data::new_interaction_id();
    let mut rendered = String::new();
    for error in [
        log.append_feedback(&id, None, Some(wrong)).unwrap_err(),
        log.append_feedback(&unknown, None, None).unwrap_err(),
        log.append_feedback("../../etc", None, None).unwrap_err(),
        log.read("../../../etc/passwd").unwrap_err(),
        log.read("s_").unwrap_err(),
    ] {
        rendered.push_str(&format!("{error}\n  hint: {}\n", error.hint()));
    }
    let rendered = rendered
        .replace(&directory.path().display().to_string(), "DIR")
        .replace(&id, "ID")
        .replace(&unknown, "UNKNOWN");
    insta::assert_snapshot!(rendered, @r"
    correction of ID: argument `genre` has the value `rock`, but characters 5 to 9 are `jazz`
      hint: offsets count characters from 0, not bytes, and `end` is the one after the last
    no interaction UNKNOWN in DIR/home/log/sessions
      hint: an interaction's id starts with i_ and is part of its reply
    no interaction ../../etc in DIR/home/log/sessions
      hint: an interaction's id starts with i_ and is part of its reply
    no session ../../../etc/passwd in DIR/home/log/sessions
      hint: list the sessions for their ids
    no session s_ in DIR/home/log/sessions
      hint: list the sessions for their ids
    ");
}

#[test]
fn a_record_of_a_million_bytes_is_read_again() {
    let (_directory, home) = home();
    let log = Log::open(&home);
    let mut session = log.start_session("chat").unwrap();
    let text = "é\u{0}\u{2028}\"\\".repeat(150_000);
    let id = say(&mut session, &text);
    assert_eq!(log.find_interaction(&id).unwrap().unwrap().text, text);
}

#[test]
fn files_of_others_in_the_log_are_left_alone() {
    let (_directory, home) = home();
    let log = Log::open(&home);
    let session = log.start_session("chat").unwrap();
    let day = session.path().parent().unwrap();
    fs::write(day.join("notes.txt"), "hello").unwrap();
    fs::write(day.join("s_copy.jsonl"), "hello").unwrap();
    fs::write(home.sessions_dir().join("README"), "hello").unwrap();
    assert_eq!(log.session_ids().unwrap(), [session.id()]);
}

#[test]
fn writers_of_one_session_do_not_tear_each_others_lines() {
    let (_directory, home) = home();
    let log = Log::open(&home);
    let session = log.start_session("chat").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut writer = log.reopen(session.id()).unwrap();
                for _ in 0..25 {
                    say(&mut writer, &"word ".repeat(2_000));
                }
            });
        }
    });
    assert_eq!(log.read(session.id()).unwrap().len(), 101);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_text_survives_a_line(text in any::<String>(), confidence in any::<f32>()) {
        let mut turn = turn("s_1", &text);
        turn.reply.confidence = confidence;
        let line = Record::Interaction(turn.clone()).to_line().unwrap();
        prop_assert_eq!(line.matches('\n').count(), 1);
        let Record::Interaction(read) = Record::from_line(&line).unwrap() else {
            panic!("an interaction was written")
        };
        prop_assert_eq!(read.text, turn.text);
        if confidence.is_finite() {
            prop_assert_eq!(read.reply.confidence, confidence);
        }
    }

    #[test]
    fn no_line_panics(line in any::<String>()) {
        let _ = Record::from_line(&line);
    }
}
