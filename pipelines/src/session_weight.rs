//! What one session can weigh in a run: however many labels it has, it is outvoted by the rest.

use mynah_data::{Example, Vote};
use std::collections::{BTreeMap, HashMap};

use crate::background;

/// Lowers the weights of the examples of every session that has more than `share` of the weight of all, to that share.
///
/// Only labels of functions that production knows count, since it is those that a session can spoil; `knows` says which.
/// A session with nothing beside it keeps its weight; background texts are nobody's labels and count for nothing.
pub(crate) fn cap(epoch: &mut [Example], votes: &[Vote], share: f64, knows: impl Fn(&str) -> bool) {
    let sessions: HashMap<&str, &str> =
        votes.iter().map(|vote| (vote.example.origin.as_str(), vote.session.as_str())).collect();
    let session = |example: &Example| -> Option<&str> {
        sessions.get(example.origin.as_str()).copied().filter(|_| knows(&example.function))
    };
    let mut weights: BTreeMap<&str, f64> = BTreeMap::new();
    let mut total = 0.0;
    for example in epoch.iter() {
        total += if example.origin == background::ORIGIN { 0.0 } else { f64::from(example.weight) };
        if let Some(session) = session(example) {
            *weights.entry(session).or_default() += f64::from(example.weight);
        }
    }
    // What is left after the others' share is what they weigh; a session may have as much beside it as `share` allows.
    let factors: BTreeMap<&str, f32> = weights
        .into_iter()
        .filter_map(|(session, weight)| {
            let others = total - weight;
            let most = others * share / (1.0 - share);
            (others > 0.0 && weight > most).then_some((session, (most / weight) as f32))
        })
        .collect();
    for example in epoch.iter_mut() {
        if let Some(factor) = session(example).and_then(|session| factors.get(session)) {
            example.weight *= factor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mynah_data::Source;

    fn example(origin: &str, function: &str) -> Example {
        Example {
            text: "text".into(),
            function: function.into(),
            slots: Vec::new(),
            split: None,
            source: Source::Corrected,
            origin: origin.into(),
            at: None,
            weight: 1.0,
        }
    }

    fn capped(origins: &[&str], share: f64) -> Vec<f32> {
        let vote = |origin: &str, session: &str| Vote { example: example(origin, "known"), session: session.into() };
        let votes = [vote("a", "s1"), vote("b", "s1"), vote("c", "s2"), vote("d", "s1")];
        let mut epoch: Vec<Example> =
            origins.iter().map(|origin| example(origin, if *origin == "d" { "new" } else { "known" })).collect();
        cap(&mut epoch, &votes, share, |function| function == "known");
        epoch.iter().map(|example| example.weight).collect()
    }

    #[test]
    fn a_session_weighs_its_share_at_most() {
        // Four of six, to as much as the other two together.
        assert_eq!(capped(&["a", "b", "a", "b", "c", "written"], 0.5), [0.5, 0.5, 0.5, 0.5, 1.0, 1.0]);
        assert_eq!(capped(&["a", "c", "written"], 0.5), [1.0; 3]);
        // What is new to production is not the session's to spoil.
        assert_eq!(capped(&["d", "d", "d", "written"], 0.5), [1.0; 4]);
    }

    #[test]
    fn a_session_alone_keeps_its_weight() {
        assert_eq!(capped(&["a", "b"], 0.5), [1.0, 1.0]);
        assert_eq!(capped(&["a", "b", background::ORIGIN], 0.5), [1.0; 3]);
    }
}
