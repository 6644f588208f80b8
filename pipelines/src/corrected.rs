//! Which corrections a version has right, remembered with its digest.
//!
//! Every correction is checked at every gate, for the candidate and for production. What production makes of an old one was
//! found out when it was a candidate, so only the candidate's side grows with the log. *Invariant:* that of
//! [`crate::remembered`].

use mynah_data::Example;
use mynah_registry::Digest;
use mynah_runtime::{Model, Precision};
use std::path::Path;

use crate::error::Error;
use crate::evaluate::evaluate_each;
use crate::progress::NoProgress;
use crate::remembered::{Kind, Remembered, key};

/// What one version makes of corrections.
#[derive(Debug, Default)]
pub(crate) struct Corrected(Remembered);

impl Corrected {
    /// What is remembered of a version; nothing when there is no file, or it cannot be read.
    pub fn open(cache: &Path, version: &Digest, precision: Precision) -> Self {
        Self(Remembered::open(Kind::Corrections, cache, version, precision))
    }

    /// Whether `model` has each of `corrections` right; only those that are not remembered are asked.
    ///
    /// # Errors
    /// As for [`crate::evaluate()`].
    pub fn ask(&mut self, model: &Model, corrections: &[Example]) -> Result<Vec<bool>, Error> {
        let keys: Vec<Digest> = corrections.iter().map(key).collect();
        let unknown = || keys.iter().zip(corrections).filter(|(key, _)| self.0.get(key).is_none());
        let asked: Vec<(Digest, Example)> = unknown().map(|(key, example)| (*key, example.clone())).collect();
        let (asked, examples): (Vec<Digest>, Vec<Example>) = asked.into_iter().unzip();
        let (_, outcomes) = evaluate_each(model, "", &examples, &NoProgress)?;
        for ((key, example), answered) in asked.into_iter().zip(&examples).zip(outcomes) {
            let outcome = answered.outcome;
            // A correction that names only the function says nothing about the arguments.
            self.0.insert(key, if example.slots.is_empty() { outcome.function_right } else { outcome.exact });
        }
        Ok(keys.iter().map(|key| self.0.get(key).is_some_and(|right| right)).collect())
    }

    /// Remembers it for `version`, and nothing of versions before it.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, cache: &Path, version: &Digest, precision: Precision) -> Result<(), Error> {
        self.0.save(cache, version, precision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mynah_data::{Slot, Source};
    use mynah_runtime::Checkpoint;

    fn example(text: &str, function: &str) -> Example {
        Example {
            text: text.into(),
            function: function.into(),
            slots: Vec::new(),
            split: None,
            source: Source::Corrected,
            origin: "test".into(),
            at: None,
            weight: 1.0,
        }
    }

    #[test]
    fn what_is_remembered_is_not_asked_again_and_another_label_is() {
        let directory = tempfile::tempdir().unwrap();
        let model = Model::load(&Checkpoint::starter().unwrap(), Precision::Int8).unwrap();
        let version = Digest::of(b"a version");
        let examples = [example("lamp on", "lamp"), example("wake me", "alarm")];
        let mut fresh = Corrected::open(directory.path(), &version, Precision::Int8);
        // The starter has no functions, so it has nothing right.
        assert_eq!(fresh.ask(&model, &examples).unwrap(), [false, false]);
        // As if the first one had been right.
        fresh.0.insert(key(&examples[0]), true);
        fresh.save(directory.path(), &version, Precision::Int8).unwrap();

        let mut again = Corrected::open(directory.path(), &version, Precision::Int8);
        assert_eq!(again.ask(&model, &examples).unwrap(), [true, false]);
        let slot = Slot { name: "state".into(), start: 5, end: 7, value: "on".into() };
        let relabelled = [example("lamp on", "alarm"), Example { slots: vec![slot], ..example("lamp on", "lamp") }];
        assert_eq!(again.ask(&model, &relabelled).unwrap(), [false, false]);
    }
}
