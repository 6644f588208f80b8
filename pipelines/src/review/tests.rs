//! Who is held back, with a judge whose opinion is written down here.

use super::*;
use mynah_data::{Example, LabelDecision, Source};

/// Doubts the labels whose text says so.
struct Scripted;

impl Judge for Scripted {
    fn knows(&self, function: &str) -> bool {
        function != "new"
    }

    fn doubts(&self, votes: &[&Vote]) -> Result<Vec<Option<Outvoted>>, Error> {
        let doubt = || Outvoted { detail: "outvoted".into(), neighbours: Vec::new() };
        Ok(votes.iter().map(|vote| vote.example.text.contains("doubtful").then(doubt)).collect())
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

/// The votes of sessions: `(session, text, function)`, a second apart, named `i0`, `i1` …
fn votes(lines: &[(&str, &str, &str)]) -> Vec<Vote> {
    let vote = |(number, (session, text, function)): (usize, &(&str, &str, &str))| Vote {
        example: Example {
            text: text.to_string(),
            function: function.to_string(),
            slots: Vec::new(),
            split: None,
            source: Source::Corrected,
            origin: format!("i{number}"),
            at: Some(at(number as i64)),
            weight: 1.0,
        },
        session: session.to_string(),
    };
    lines.iter().enumerate().map(vote).collect()
}

fn held(lines: &[(&str, &str, &str)]) -> Vec<(String, Doubt)> {
    held_since(lines, 0, &LabelDecisions::default())
}

fn held_since(lines: &[(&str, &str, &str)], since: i64, decisions: &LabelDecisions) -> Vec<(String, Doubt)> {
    let is_new = |vote: &Vote| vote.example.at.is_some_and(|given| given >= at(since));
    let held = held_back(&votes(lines), decisions, is_new, Some(&Scripted)).unwrap();
    held.into_iter().map(|label| (label.interaction, label.doubt)).collect()
}

#[test]
fn each_doubt_has_its_reason() {
    let lines = [
        ("a", "light in the hall", "light"),
        ("a", "doubtful", "light"),
        ("a", "doubtful but new", "new"),
        ("b", "Light, in the hall", "alarm"),
        ("c", "{{{{}}}}[[[]]]:::;;;", "alarm"),
        ("c", "{{{{}}}}[[[]]]:::;;;!", "oos"),
    ];
    let expected = [
        ("i0".to_string(), Doubt::Contradicted),
        ("i1".to_string(), Doubt::Outvoted),
        ("i3".to_string(), Doubt::Contradicted),
        ("i4".to_string(), Doubt::Garbage),
    ];
    assert_eq!(held(&lines), expected);
    // What a version has learned is not looked at again, but still speaks.
    assert_eq!(held_since(&lines, 3, &LabelDecisions::default()), expected[2..]);
}

#[test]
fn a_second_session_confirms_and_outvotes() {
    assert_eq!(held(&[("a", "doubtful", "light"), ("b", "doubtful", "light")]), []);
    assert_eq!(held(&[("a", "doubtful", "light"), ("a", "doubtful", "light")]).len(), 2);
    let two_to_one = [("a", "hall", "light"), ("b", "hall", "light"), ("c", "hall", "alarm")];
    assert_eq!(held(&two_to_one), [("i2".to_string(), Doubt::Contradicted)]);
}

#[test]
fn a_session_full_of_doubts_is_held_back_as_a_whole() {
    let mut lines = vec![("a", "doubtful 1", "light"), ("a", "doubtful b", "light"), ("a", "doubtful c", "alarm")];
    lines.extend([("a", "fine", "light"), ("a", "unheard of", "new"), ("b", "fine too", "light")]);
    let whole = held(&lines);
    assert_eq!(whole.len(), 4);
    assert_eq!(whole[3], ("i3".to_string(), Doubt::Session));
    // Three among a dozen are mistakes.
    let fine = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
    lines.extend(fine.map(|text| ("a", text, "light")));
    assert_eq!(held(&lines).len(), 3);
}

#[test]
fn the_owner_has_the_last_word() {
    let home = tempfile::tempdir().unwrap();
    let home = Home::new(home.path());
    home.create().unwrap();
    let decide = |interaction: &str, second: i64| {
        let decision = LabelDecision {
            interaction: interaction.into(),
            decision: Decision::Accept,
            at: at(second),
            by: "owner".into(),
        };
        mynah_data::append_decision(&home, &decision, mynah_data::fault::none()).unwrap();
    };
    let lines = [("a", "doubtful", "light"), ("b", "doubtful too", "light")];
    decide("i0", 5);
    // Given after the decision: another label.
    decide("i1", 0);
    let decisions = LabelDecisions::of(&Log::open(&home)).unwrap();
    assert_eq!(held_since(&lines, 0, &decisions), [("i1".to_string(), Doubt::Outvoted)]);
}

#[test]
fn without_a_judge_texts_and_sessions_still_speak() {
    let lines = votes(&[("a", "hall", "light"), ("b", "hall", "alarm"), ("a", "doubtful", "light")]);
    let held = held_back(&lines, &LabelDecisions::default(), |_| true, None).unwrap();
    assert_eq!(held.len(), 2);
}
