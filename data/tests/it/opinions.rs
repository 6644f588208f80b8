//! Labels that are read again and again, of which only what changed is read anew.

use mynah_data::{Correction, Home, Log, Rating, Record, SessionLog, labelled};
use proptest::prelude::*;

use crate::support::{call, home, say};

/// What a log that has read before says is what one says that reads for the first time.
fn is_as_read_anew(log: &Log, home: &Home) {
    assert_eq!(labelled(log).unwrap(), labelled(&Log::open(home)).unwrap());
}

fn function(name: &str) -> Option<Correction> {
    Some(Correction::Function { function: Some(name.to_owned()), slots: None })
}

#[test]
fn what_is_added_changed_or_taken_away_is_seen() {
    let (_directory, home) = home();
    let log = Log::open(&home);
    let mut first = log.start_session("test").unwrap();
    let id = say(&mut first, "is it warm");
    assert!(labelled(&log).unwrap().examples.is_empty());
    log.append_feedback(&id, None, function("weather")).unwrap();
    assert_eq!(labelled(&log).unwrap().examples[0].function, "weather");
    let second = say(&mut first, "play abba");
    let session = first.id().to_owned();
    first.end("done").unwrap();
    is_as_read_anew(&log, &home);
    // Into sessions of their own, by another process.
    Log::open(&home).append_feedback(&second, None, function("music")).unwrap();
    Log::open(&home).append_feedback(&id, None, function("lights")).unwrap();
    let functions = |log: &Log| -> Vec<String> {
        labelled(log).unwrap().examples.into_iter().map(|example| example.function).collect()
    };
    assert_eq!(functions(&log), ["music", "lights"]);
    is_as_read_anew(&log, &home);
    let path = log.session(&session).unwrap().path;
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("is it warm", "is it warm outside")).unwrap();
    assert!(labelled(&log).unwrap().examples.iter().any(|one| one.text == "is it warm outside"));
    is_as_read_anew(&log, &home);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(functions(&log), [""; 0]);
    is_as_read_anew(&log, &home);
    std::fs::write(&path, text).unwrap();
    assert_eq!(functions(&log), ["music", "lights"]);
    is_as_read_anew(&log, &home);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn reading_as_it_comes_gives_what_reading_at_the_end_gives(
        steps in prop::collection::vec((0_usize..3, 0_usize..4, 0_usize..8), 1..40),
    ) {
        let (_directory, home) = home();
        let log = Log::open(&home);
        let mut sessions: Vec<SessionLog> = (0..3).map(|_| log.start_session("test").unwrap()).collect();
        let mut turns: Vec<String> = Vec::new();
        for (session, what, number) in steps {
            match what {
                0 | 1 => {
                    let turn = call(sessions[session].id(), &format!("text {number}"), "music", Vec::new());
                    sessions[session].append(&Record::Interaction(turn.clone())).unwrap();
                    turns.push(turn.id);
                }
                _ if turns.is_empty() => {}
                2 => {
                    let rating = if number % 2 == 0 { Rating::Up } else { Rating::Down };
                    log.append_feedback(&turns[number % turns.len()], Some(rating), None).unwrap();
                }
                _ => {
                    let correction = Correction::Answer { answer: number.to_string() };
                    log.append_feedback(&turns[number % turns.len()], None, Some(correction)).unwrap();
                }
            }
            is_as_read_anew(&log, &home);
        }
    }
}
