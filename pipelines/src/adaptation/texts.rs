//! What a home may be adapted to: the texts of the train split and everything said in the log, labelled or not, as far as
//! nobody removed it and it is not held out.

use mynah_data::{CallRecord, Decision, Home, LabelDecisions, Log, Record, normalise};
use std::collections::HashSet;

use crate::corpus::Corpus;
use crate::error::Error;
use crate::held_out::HeldOut;
use crate::review::garbage;

/// Every text once, in whatever case and punctuation it was said first; those of the train split before those of the log.
///
/// Left out are: what is held out, validated on or pinned, in any form ([`HeldOut::has_unlabelled`]); what a policy held
/// back and the turns whose label the owner rejected, wherever else the same words were said; what nobody says
/// ([`garbage`]).
///
/// # Errors
/// A log that cannot be read; lines of it that cannot are passed over.
pub(crate) fn texts(home: &Home, corpus: &Corpus) -> Result<Vec<String>, Error> {
    let log = Log::open(home);
    let decisions = LabelDecisions::of(&log)?;
    let (mut said, mut removed) = (Vec::new(), HashSet::new());
    for record in log.records()? {
        let turn = match record {
            Ok(Record::Interaction(turn)) => turn,
            Ok(_) | Err(mynah_data::Error::Line(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        let rejected = decisions.on(&turn.id, turn.at) == Some(Decision::Reject);
        match turn.reply.policy.is_some() || rejected {
            true => drop(removed.insert(normalise(&turn.text))),
            false => said.push((turn.text, turn.reply.calls)),
        }
    }
    let held_out = HeldOut::of(corpus);
    let mut seen = HashSet::new();
    let mut is_new = |text: &str| {
        let words = normalise(text);
        !removed.contains(&words) && garbage(text).is_none() && seen.insert(words)
    };
    let learned = corpus.dataset.train.iter().filter(|example| !held_out.has(example));
    let mut texts: Vec<String> =
        learned.filter(|example| is_new(&example.text)).map(|example| example.text.clone()).collect();
    for (text, calls) in said {
        let guesses = calls.iter().map(|CallRecord { slots, .. }| slots.as_slice());
        if !held_out.has_unlabelled(&text, guesses) && is_new(&text) {
            texts.push(text);
        }
    }
    Ok(texts)
}
