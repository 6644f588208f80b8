//! Temperature and threshold of a version, fitted on validation.

use mynah_data::{Example, OUT_OF_SCOPE};
use mynah_runtime::{Calibration, Model};

/// Share of the right validation decisions that the threshold may turn into "I don't know" when
/// there are no out-of-scope texts to weigh it against.
const TOLERATED_LOSS: f64 = 0.002;
/// The same where there are such texts: one right call in two hundred may be given up to decline more of them.
const TOLERATED_LOSS_WEIGHED: f64 = 0.005;
/// Out-of-scope texts from which on the threshold is weighed against them.
const ENOUGH_OUT_OF_SCOPE: usize = 5;
/// Right validation decisions from which on a share of them says something; never fewer than there are functions.
const ENOUGH_RIGHT: usize = 20;
/// No threshold without such texts goes above this: it asks for no more than "more likely than not".
const LARGEST_UNWEIGHED: f32 = 0.5;

/// One validation decision.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Judged {
    confidence: f32,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The most probable label is the right function.
    Right,
    /// It is another function.
    Wrong,
    /// The text is out of scope, but a function is the most probable label.
    OutOfScope,
}

/// Fits `model`'s temperature and threshold to `validation`.
///
/// The temperature minimises the negative log likelihood (arXiv 1706.04599). The threshold declines as many
/// out-of-scope texts as a small, fixed share of the right calls can buy; how many such texts validation happens to
/// have, beside how many calls, does not move it.
pub(crate) fn calibrate(model: &Model, validation: &[Example]) -> Calibration {
    let mut calibration = model.calibration().clone();
    let known: Vec<(&Example, usize)> = validation
        .iter()
        .filter_map(|example| Some((example, model.labels().function_id(&example.function)?)))
        .collect();
    if known.is_empty() {
        return calibration;
    }
    let mut logits = Vec::with_capacity(known.len());
    for chunk in known.chunks(64) {
        let texts: Vec<&str> = chunk.iter().map(|(example, _)| example.text.as_str()).collect();
        logits.extend(model.function_logits(&texts));
    }
    let labels: Vec<usize> = known.iter().map(|(_, label)| *label).collect();
    calibration.temperature = fit_temperature(&logits, &labels);
    let judged: Vec<Judged> = known
        .iter()
        .zip(&logits)
        .filter_map(|((example, label), logits)| {
            let (best, confidence) = top(logits, calibration.temperature)?;
            let out_of_scope = model.labels().functions.get(best).is_some_and(|name| name == OUT_OF_SCOPE);
            let kind = match (example.function == OUT_OF_SCOPE, best == *label) {
                _ if out_of_scope => return None,
                (true, _) => Kind::OutOfScope,
                (false, true) => Kind::Right,
                (false, false) => Kind::Wrong,
            };
            Some(Judged { confidence, kind })
        })
        .collect();
    let out_of_scope = known.iter().filter(|(example, _)| example.function == OUT_OF_SCOPE).count();
    calibration.threshold = fit_threshold(&judged, out_of_scope, ENOUGH_RIGHT.max(model.labels().functions.len()));
    calibration
}

fn top(logits: &[f32], temperature: f32) -> Option<(usize, f32)> {
    let (best, largest) = logits.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let sum: f32 = logits.iter().map(|logit| ((logit - largest) / temperature).exp()).sum();
    Some((best, 1.0 / sum))
}

/// Mean negative log likelihood at a temperature.
fn likelihood_loss(logits: &[Vec<f32>], labels: &[usize], temperature: f64) -> f64 {
    let per_row = logits.iter().zip(labels).map(|(row, label)| {
        let scaled = row.iter().map(|logit| f64::from(*logit) / temperature);
        let largest = scaled.clone().fold(f64::NEG_INFINITY, f64::max);
        let log_sum = largest + scaled.clone().map(|value| (value - largest).exp()).sum::<f64>().ln();
        log_sum - row.get(*label).map_or(0.0, |logit| f64::from(*logit) / temperature)
    });
    per_row.sum::<f64>() / labels.len().max(1) as f64
}

/// Golden-section search over ln T in [ln 1/4, ln 4]; the loss is convex in 1/T.
fn fit_temperature(logits: &[Vec<f32>], labels: &[usize]) -> f32 {
    let golden = (5f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = ((0.25f64).ln(), 4f64.ln());
    let loss = |log: f64| likelihood_loss(logits, labels, log.exp());
    for _ in 0..40 {
        let (left, right) = (high - golden * (high - low), low + golden * (high - low));
        if loss(left) < loss(right) {
            high = right;
        } else {
            low = left;
        }
    }
    ((low + high) / 2.0).exp() as f32
}

fn fit_threshold(judged: &[Judged], out_of_scope: usize, enough_right: usize) -> f32 {
    let mut sorted = judged.to_vec();
    sorted.sort_by(|a, b| a.confidence.total_cmp(&b.confidence));
    let allowed = (TOLERATED_LOSS * judged.len() as f64) as usize;
    let mut right = sorted.iter().filter(|one| one.kind == Kind::Right);
    let lowest = right.nth(allowed).map_or(LARGEST_UNWEIGHED, |one| one.confidence);
    let unweighed = below(lowest.min(LARGEST_UNWEIGHED));
    let rights = judged.iter().filter(|one| one.kind == Kind::Right).count();
    if out_of_scope < ENOUGH_OUT_OF_SCOPE || rights < enough_right {
        return unweighed;
    }
    let allowed = (TOLERATED_LOSS_WEIGHED * rights as f64) as usize;
    let (mut lost, mut threshold) = (0, 0.0);
    for (index, one) in sorted.iter().enumerate() {
        match one.kind {
            Kind::Wrong => {}
            Kind::Right if lost == allowed => break,
            Kind::Right => lost += 1,
            // As close to the next decision as rejects this one: right calls given up for nothing are kept.
            Kind::OutOfScope => {
                let next = sorted.get(index + 1).map_or(1.0, |next| next.confidence);
                threshold = (one.confidence + next) / 2.0;
            }
        }
    }
    threshold.max(unweighed)
}

/// A little below `confidence`, so that rounding in a batch does not reject it.
fn below(confidence: f32) -> f32 {
    confidence * 0.99
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temperature_finds_the_scale_that_made_the_labels() {
        // Two classes at logit difference d are right with probability 1 / (1 + e^-d): with d = 4 and
        // 3 of 4 right, the best temperature is 4 / ln 3.
        let logits = vec![vec![4.0, 0.0]; 4];
        let temperature = fit_temperature(&logits, &[0, 0, 0, 1]);
        assert!((f64::from(temperature) - 4.0 / 3f64.ln()).abs() < 1e-3, "{temperature}");
    }

    fn judged(list: &[(f32, Kind)]) -> Vec<Judged> {
        list.iter().map(|&(confidence, kind)| Judged { confidence, kind }).collect()
    }

    #[test]
    fn threshold_weighs_rejected_calls_against_rejected_nonsense() {
        let list = judged(&[
            (0.3, Kind::OutOfScope),
            (0.4, Kind::OutOfScope),
            (0.5, Kind::Right),
            (0.55, Kind::OutOfScope),
            (0.9, Kind::Right),
            (0.95, Kind::Right),
        ]);
        // Between the nonsense at 0.4 and the call at 0.5, as close to the call as costs nothing.
        assert!((fit_threshold(&list, 5, 1) - 0.495).abs() < 1e-6);
        // With four hundred right calls two may go, and with them the nonsense at 0.55, but not that above a third.
        let mut many =
            judged(&[(0.3, Kind::OutOfScope), (0.5, Kind::Right), (0.55, Kind::OutOfScope), (0.57, Kind::Right)]);
        many.extend(judged(&[(0.6, Kind::Right), (0.65, Kind::OutOfScope)]));
        many.extend(std::iter::repeat_n(Judged { confidence: 0.9, kind: Kind::Right }, 397));
        assert!((fit_threshold(&many, 5, 1) - 0.56).abs() < 1e-6);
    }

    #[test]
    fn without_nonsense_hardly_any_right_call_is_lost() {
        let list = judged(&[(0.2, Kind::Wrong), (0.35, Kind::Right), (0.9, Kind::Right)]);
        // A handful of right decisions says nothing of one in two hundred.
        assert!(fit_threshold(&list, 5, usize::MAX) <= LARGEST_UNWEIGHED);
        assert!((fit_threshold(&list, 0, 1) - 0.3465).abs() < 1e-4);
        assert!(fit_threshold(&judged(&[(0.9, Kind::Right)]), 0, 1) <= 0.5);
    }
}
