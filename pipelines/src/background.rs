//! Texts that no function is meant for, trained against so that a head which only ever saw requests does not take
//! everything for one (outlier exposure, Hendrycks et al. 2019, arXiv 1812.04606).
//!
//! Invariants: a text near anything that the home teaches is left out, so that an app whose function greets still hears
//! a greeting; none is ever held out, so that no score rests on them.

use std::collections::HashSet;

use mynah_data::{Dataset, Example, OUT_OF_SCOPE, Source, SplitName, normalise, split_of};
use mynah_runtime::Model;

use crate::batch::shuffle;
use crate::corpus::balanced;
use crate::dropout::split_mix;
use crate::error::Error;
use crate::progress::Progress;

/// Small talk, common knowledge, fragments, sayings and other languages, one a line.
const WRITTEN: &str = include_str!("background.txt");

/// The origin of these examples.
pub(crate) const ORIGIN: &str = "background";

/// How many made-up texts there are beside the written ones.
const MADE_UP: usize = 60;

/// Cosine similarity, in the base's embedding, from which on a text is too near an example of the home.
const TOO_NEAR: f32 = 0.45;

/// Examples of the home that the texts are compared with, evenly over the functions.
const COMPARED: usize = 2000;

/// Texts embedded at once.
const BATCH: usize = 64;

/// What the seed of the made-up texts is mixed with, so that they are no other sequence's.
const SALT: u64 = 0x6d79_6e61_6820_6267;

/// Out-of-scope examples for training and validation: a tenth of the training examples, or as many as a function has
/// on the average, whichever is more, less what the home has of its own.
///
/// None for a home that has as many of its own as a function has examples: beside CLINC150's 350 they cost on its
/// validation split (0.79 against 0.81 of what is out of scope declined where 0.959 of the rest is right).
///
/// # Errors
/// [`Error::Cancelled`] when the person stops it.
pub(crate) fn examples(
    base: &Model,
    dataset: &Dataset,
    seed: u64,
    progress: &dyn Progress,
) -> Result<Vec<Example>, Error> {
    let known: Vec<&Example> = dataset.train.iter().filter(|example| example.function != OUT_OF_SCOPE).collect();
    let functions = {
        let mut names: Vec<&str> = known.iter().map(|example| example.function.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names.len()
    };
    let (per_function, own) = (known.len() / functions.max(1), dataset.train.len() - known.len());
    if own >= per_function {
        return Ok(Vec::new());
    }
    let wanted = (known.len() / 10).max(per_function) - own;
    let Dataset { train, validation, held_out, .. } = dataset;
    let mut said: HashSet<String> =
        [train, validation, held_out].into_iter().flatten().map(|example| normalise(&example.text)).collect();
    let mut texts: Vec<String> = WRITTEN.lines().map(str::to_owned).chain(made_up(seed)).collect();
    texts.retain(|text| said.insert(normalise(text)));
    let compared = balanced(known, COMPARED, |_| 1, seed);
    let compared: Vec<&str> = compared.iter().map(|example| example.text.as_str()).collect();
    let embed = |texts: &[&str]| -> Result<Vec<Vec<f32>>, Error> {
        let mut embeddings = Vec::with_capacity(texts.len());
        for chunk in texts.chunks(BATCH) {
            if progress.is_cancelled() {
                return Err(Error::Cancelled);
            }
            embeddings.extend(base.embed(chunk));
        }
        Ok(embeddings)
    };
    let near = embed(&compared)?;
    let own = embed(&texts.iter().map(String::as_str).collect::<Vec<_>>())?;
    let mut own = own.into_iter();
    texts.retain(|_| {
        let Some(own) = own.next() else { return false };
        !near.iter().any(|other| own.iter().zip(other).map(|(a, b)| a * b).sum::<f32>() >= TOO_NEAR)
    });
    let mut random = seed ^ SALT;
    shuffle(&mut texts, &mut random);
    texts.truncate(wanted);
    Ok(texts.into_iter().map(example).collect())
}

fn example(text: String) -> Example {
    let mut example = Example {
        text,
        function: OUT_OF_SCOPE.to_owned(),
        slots: Vec::new(),
        split: None,
        source: Source::Written,
        origin: ORIGIN.to_owned(),
        at: None,
        weight: 1.0,
    };
    example.split = Some(match split_of(&example) {
        SplitName::Validation => SplitName::Validation,
        SplitName::Train | SplitName::HeldOut => SplitName::Train,
    });
    example
}

/// Words that are none, from random syllables, and keys hit at random.
fn made_up(seed: u64) -> impl Iterator<Item = String> {
    const ONSETS: [&str; 14] = ["b", "d", "fl", "gr", "k", "l", "m", "n", "pr", "sn", "t", "v", "w", "z"];
    const RHYMES: [&str; 12] = ["a", "ib", "e", "orn", "u", "ax", "ing", "ost", "ee", "ump", "y", "ock"];
    const KEYS: &[u8] = b"qwertyuiopasdfghjklzxcvbnm";
    let mut random = seed.wrapping_mul(3) ^ SALT;
    (0..MADE_UP).map(move |number| {
        let mut below = |limit: usize| {
            random = random.wrapping_add(1);
            (split_mix(random) % limit as u64) as usize
        };
        let words = 1 + below(4);
        let word = |below: &mut dyn FnMut(usize) -> usize| match number % 3 {
            0 => (0..3 + below(6)).map(|_| char::from(KEYS[below(KEYS.len())])).collect::<String>(),
            _ => {
                (0..1 + below(3)).map(|_| [ONSETS[below(ONSETS.len())], RHYMES[below(RHYMES.len())]].concat()).collect()
            }
        };
        (0..words).map(|_| word(&mut below)).collect::<Vec<_>>().join(" ")
    })
}

#[cfg(test)]
mod tests {
    use mynah_runtime::{Checkpoint, Precision};

    use super::*;
    use crate::progress::NoProgress;

    fn dataset(examples: &[(&str, &str)]) -> Dataset {
        let train = examples.iter().map(|(text, function)| Example {
            text: (*text).to_owned(),
            function: (*function).to_owned(),
            split: Some(SplitName::Train),
            ..example(String::new())
        });
        Dataset { train: train.collect(), ..Dataset::default() }
    }

    #[test]
    fn what_the_home_teaches_is_not_out_of_scope() {
        let base = Model::load(&Checkpoint::starter().expect("embedded"), Precision::Int8).expect("loaded");
        let mut taught: Vec<(String, &str)> =
            (0..900).map(|number| (format!("switch on lamp number {number}"), "switch")).collect();
        let texts = |taught: &[(String, &str)]| -> Vec<Example> {
            let pairs: Vec<(&str, &str)> = taught.iter().map(|(text, function)| (text.as_str(), *function)).collect();
            examples(&base, &dataset(&pairs), 7, &NoProgress).expect("chosen")
        };
        let without = texts(&taught);
        taught.extend([("hi there".to_owned(), "greet"), ("what is the capital of Australia?".to_owned(), "ask")]);
        let with = texts(&taught);
        let has = |examples: &[Example], text: &str| examples.iter().any(|example| example.text == text);
        for text in ["hello", "hey there", "what is the capital of australia"] {
            assert!(has(&without, text) && !has(&with, text), "{text}");
        }
        assert!(has(&with, "je ne comprends pas"), "what is far from everything stays");
        assert!(with.iter().all(|one| one.function == OUT_OF_SCOPE && one.split != Some(SplitName::HeldOut)));
        assert!(with.iter().any(|one| one.split == Some(SplitName::Validation)));
    }

    #[test]
    fn a_small_home_gets_few() {
        let base = Model::load(&Checkpoint::starter().expect("embedded"), Precision::Int8).expect("loaded");
        let pairs = [("lamp on", "on"), ("light on", "on"), ("lamp off", "off"), ("light off", "off")];
        let chosen = examples(&base, &dataset(&pairs), 7, &NoProgress).expect("chosen");
        assert_eq!(chosen.len(), 2, "as many as a function has");
        assert_eq!(chosen, examples(&base, &dataset(&pairs), 7, &NoProgress).expect("chosen"), "the seed decides");
        let own = [pairs.as_slice(), &[("tell me a tale", OUT_OF_SCOPE), ("who are you", OUT_OF_SCOPE)]].concat();
        assert_eq!(examples(&base, &dataset(&own), 7, &NoProgress).expect("chosen"), [], "it has its own");
    }

    #[test]
    fn the_texts_are_clean() {
        let mut seen = HashSet::new();
        for text in WRITTEN.lines() {
            assert!(!text.trim().is_empty() && text.trim() == text && seen.insert(text), "{text:?}");
        }
        assert!(made_up(3).all(|text| !text.is_empty() && text.split(' ').count() <= 4));
        assert_eq!(made_up(3).count(), MADE_UP);
    }
}
