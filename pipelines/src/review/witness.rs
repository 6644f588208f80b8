//! What the version in production and the nearest labelled examples say of a label.

use mynah_data::{Example, Source, Vote};
use mynah_runtime::memory::{EmbeddingCache, Entry, Layer, Meaning};
use mynah_runtime::{Labels, Model};
use std::collections::HashSet;
use std::path::Path;

use super::{Judge, Neighbour, Outvoted};
use crate::corpus::balanced;
use crate::error::Error;
use crate::progress::Progress;

/// Labelled examples that neighbours are looked for among, evenly over the functions: the cost of a look does not depend on
/// how much there is.
const COMPARED: usize = 2000;
/// Validation examples that say how sure production is where it is right.
const MEASURED: usize = 500;
/// Neighbours that are asked.
const NEIGHBOURS: usize = 5;
/// How many of them must have the function that production is sure of, and how many at most the one that was given.
const AGREE: (usize, usize) = (3, 0);
/// Probability that is sure enough, however sure production is elsewhere: one that knows its few examples by heart is certain
/// of all of them.
const SURE: f32 = 0.9;
/// How near the nearest must be for the place to be known.
const NEAR: f32 = 0.5;
/// Seed of the choice among too many examples; the same ones are asked every time.
const SEED: u64 = 1;
/// Texts that go through the model together.
const BATCH: usize = 64;

/// Production, with what it and the home know.
pub(crate) struct Witness<'a> {
    /// The version in production.
    pub model: &'a Model,
    /// Where the memory keeps the embeddings of what is labelled, and the version's digest by which it does; it is read only.
    pub cache: &'a Path,
    /// See `cache`.
    pub version: &'a str,
    /// Examples that are not in question, of every kind.
    pub known: Vec<&'a Example>,
    /// Examples that production did not learn from.
    pub validation: Vec<&'a Example>,
    /// Told that the person wants to stop.
    pub progress: &'a dyn Progress,
}

impl Witness<'_> {
    /// Calibrated probabilities of all functions.
    ///
    /// # Shapes
    /// `[texts, functions]`
    fn probabilities(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Error> {
        let temperature = self.model.calibration().temperature.max(1e-3);
        let mut rows = Vec::with_capacity(texts.len());
        for chunk in texts.chunks(BATCH) {
            if self.progress.is_cancelled() {
                return Err(Error::Cancelled);
            }
            rows.extend(self.model.function_logits(chunk).into_iter().map(|row| softmax(row, temperature)));
        }
        Ok(rows)
    }

    /// How sure production is of each function where that is right, on the average (the thresholds of confident learning);
    /// of one without validation examples, as of all together.
    fn thresholds(&self) -> Result<Vec<f32>, Error> {
        let labels = self.model.labels();
        let measured = balanced(self.validation.clone(), MEASURED, |_| 1, SEED);
        let texts: Vec<&str> = measured.iter().map(|example| example.text.as_str()).collect();
        let mut sums = vec![(0.0f32, 0usize); labels.functions.len()];
        let mut all = (0.0f32, 0usize);
        for (example, row) in measured.iter().zip(self.probabilities(&texts)?) {
            if let Some(function) = labels.function_id(&example.function) {
                for (sum, count) in [&mut sums[function], &mut all] {
                    *sum += row[function];
                    *count += 1;
                }
            }
        }
        let mean = |(sum, count): (f32, usize)| (count > 0).then(|| sum / count as f32);
        let overall = mean(all).unwrap_or(SURE);
        Ok(sums.into_iter().map(|sum| mean(sum).unwrap_or(overall).min(SURE)).collect())
    }
}

impl Judge for Witness<'_> {
    fn knows(&self, function: &str) -> bool {
        self.model.labels().function_id(function).is_some()
    }

    fn doubts(&self, votes: &[&Vote]) -> Result<Vec<Option<Outvoted>>, Error> {
        let labels: &Labels = self.model.labels();
        let texts: Vec<&str> = votes.iter().map(|vote| vote.example.text.as_str()).collect();
        let rows = self.probabilities(&texts)?;
        // What production says itself needs no witness, and costs no more than that.
        let other: Vec<Option<(usize, usize)>> = votes
            .iter()
            .zip(&rows)
            .map(|(vote, row)| {
                let best = (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b]))?;
                let given = labels.function_id(&vote.example.function)?;
                (best != given).then_some((best, given))
            })
            .collect();
        if other.iter().all(Option::is_none) {
            return Ok(vec![None; votes.len()]);
        }
        let thresholds = self.thresholds()?;
        let is_sure =
            |row: &[f32], best: usize, given: usize| row[best] >= thresholds[best] && row[given] < thresholds[given];
        let sure: Vec<Option<usize>> = other
            .iter()
            .zip(&rows)
            .map(|(other, row)| other.filter(|(best, given)| is_sure(row, *best, *given)).map(|(best, _)| best))
            .collect();
        let mut doubts = vec![None; votes.len()];
        if sure.iter().all(Option::is_none) {
            return Ok(doubts);
        }
        let known = balanced(self.known.clone(), COMPARED, |_| 1, SEED);
        let entries: Vec<Entry> = known.iter().map(|example| Entry::from((*example).clone())).collect();
        let mut cache = EmbeddingCache::open(self.cache, self.version, self.model.precision(), self.model.dim());
        let layer = Layer::build(entries, self.model, &mut cache, None);
        for (number, best) in sure.iter().enumerate().filter_map(|(number, best)| Some((number, (*best)?))) {
            if self.progress.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let (vote, best) = (votes[number], labels.functions[best].as_str());
            let Some(embedding) = self.model.embed(&[vote.example.text.as_str()]).pop() else { continue };
            let neighbours: Vec<Neighbour> = layer
                .nearest(&embedding, NEIGHBOURS)
                .into_iter()
                .filter_map(|(entry, similarity)| Neighbour::of(layer.entry(entry)?, similarity))
                .collect();
            let of = |function: &str| neighbours.iter().filter(|neighbour| neighbour.function == function).count();
            let is_near = neighbours.first().is_some_and(|nearest| nearest.similarity >= NEAR);
            let (for_it, against) = AGREE;
            if is_near && of(best) >= for_it.min(neighbours.len()) && of(&vote.example.function) <= against {
                let share = 100.0 * rows[number][labels.function_id(best).unwrap_or(0)];
                let detail = format!(
                    "production calls it {best} ({share:.0} %), and so are {} of the {} nearest",
                    of(best),
                    neighbours.len()
                );
                doubts[number] = Some(Outvoted { detail, neighbours });
            }
        }
        Ok(doubts)
    }
}

impl Neighbour {
    fn of(entry: &Entry, similarity: f32) -> Option<Self> {
        let Meaning::Function { name, .. } = &entry.meaning else { return None };
        Some(Self { text: entry.text.clone(), function: name.clone(), similarity, origin: entry.origin.clone() })
    }
}

fn softmax(mut row: Vec<f32>, temperature: f32) -> Vec<f32> {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter_mut().for_each(|logit| *logit = ((*logit - largest) / temperature).exp());
    let sum: f32 = row.iter().sum();
    row.iter_mut().for_each(|value| *value /= sum);
    row
}

/// Those of `examples` that do not come from `candidates`.
pub(super) fn not_in_question<'a>(examples: &'a [Example], candidates: &HashSet<&str>) -> Vec<&'a Example> {
    let is_asked = |example: &Example| {
        matches!(example.source, Source::Corrected | Source::Confirmed) && candidates.contains(example.origin.as_str())
    };
    examples.iter().filter(|example| !is_asked(example)).collect()
}
