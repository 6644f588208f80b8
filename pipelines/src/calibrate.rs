//! Temperature and thresholds of a version, fitted on validation.
//!
//! Two thresholds, for two doubts. A text may lie between two functions: the more probable one is called unless it is less
//! likely than not. And it may mean no function at all, which the probability of the out-of-scope label tells better than that of
//! the best function, since one that is shared by two similar functions is no sign of nonsense.

use mynah_data::{Example, OUT_OF_SCOPE};
use mynah_runtime::{Calibration, Model};

/// Share of the right validation decisions that a threshold may turn into "I don't know" without an out-of-scope text that it
/// declines for that.
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
    /// The probability that any function is meant.
    in_scope: f32,
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

/// Fits `model`'s temperature and thresholds to `validation`.
///
/// The temperature minimises the negative log likelihood (arXiv 1706.04599). The thresholds decline as many
/// out-of-scope texts as a small, fixed share of the right calls can buy; how many such texts validation happens to
/// have, beside how many calls, does not move them.
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
    let none = model.labels().function_id(OUT_OF_SCOPE);
    let judged: Vec<Judged> = known
        .iter()
        .zip(&logits)
        .filter_map(|((example, label), logits)| {
            let (best, confidence) = top(logits, calibration.temperature)?;
            let out_of_scope = Some(best) == none;
            let kind = match (example.function == OUT_OF_SCOPE, best == *label) {
                _ if out_of_scope => return None,
                (true, _) => Kind::OutOfScope,
                (false, true) => Kind::Right,
                (false, false) => Kind::Wrong,
            };
            let in_scope = 1.0 - none.map_or(0.0, |none| probability(logits, none, calibration.temperature));
            Some(Judged { confidence, in_scope, kind })
        })
        .collect();
    let out_of_scope = known.iter().filter(|(example, _)| example.function == OUT_OF_SCOPE).count();
    let enough_right = ENOUGH_RIGHT.max(model.labels().functions.len());
    (calibration.threshold, calibration.scope_threshold) = fit_thresholds(&judged, out_of_scope, enough_right);
    calibration
}

fn top(logits: &[f32], temperature: f32) -> Option<(usize, f32)> {
    let (best, _) = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1))?;
    Some((best, probability(logits, best, temperature)))
}

fn probability(logits: &[f32], label: usize, temperature: f32) -> f32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.iter().map(|logit| ((logit - largest) / temperature).exp()).sum();
    logits.get(label).map_or(0.0, |logit| ((logit - largest) / temperature).exp() / sum)
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

/// The smallest confidence, and the smallest probability that any function is meant.
///
/// Where out-of-scope texts are weighed, the right calls that may be given up are shared between the two so that most of
/// those texts are declined.
fn fit_thresholds(judged: &[Judged], out_of_scope: usize, enough_right: usize) -> (f32, f32) {
    let of_right = |score: fn(&Judged) -> f32| {
        let mut scores: Vec<f32> = judged.iter().filter(|one| one.kind == Kind::Right).map(score).collect();
        scores.sort_by(f32::total_cmp);
        scores
    };
    let confidences = of_right(|one| one.confidence);
    let allowed = (TOLERATED_LOSS * judged.len() as f64) as usize;
    let lowest = confidences.get(allowed).copied().unwrap_or(LARGEST_UNWEIGHED);
    let unweighed = below(lowest.min(LARGEST_UNWEIGHED));
    let rights = confidences.len();
    if out_of_scope < ENOUGH_OUT_OF_SCOPE || rights < enough_right {
        return (unweighed, 0.0);
    }
    let least = of_right(|one| one.in_scope).get((TOLERATED_LOSS * rights as f64) as usize).copied();
    let least = least.filter(|least| *least < 1.0);
    let allowed = (TOLERATED_LOSS_WEIGHED * rights as f64) as usize;
    let shared = (0..=allowed).map(|by_confidence| {
        let confidence = weigh(judged.iter(), |one| one.confidence, by_confidence).max(unweighed);
        let acted = || judged.iter().filter(|one| one.confidence >= confidence);
        let lost = rights - acted().filter(|one| one.kind == Kind::Right).count();
        let scope = weigh(acted(), |one| one.in_scope, allowed.saturating_sub(lost));
        let called = acted().filter(|one| one.kind == Kind::OutOfScope && one.in_scope >= scope).count();
        (called, confidence, scope)
    });
    // Of equal ones the first, which leaves most to the second threshold.
    let (_, confidence, scope) = shared.min_by_key(|(called, ..)| *called).unwrap_or((0, unweighed, 0.0));
    (confidence, least.map_or(scope, |least| between(scope, least)))
}

/// Half-way, in log-odds, from where the last out-of-scope text is declined to where right calls begin to be lost: what
/// people ask in vain is nearer to what they may than the texts that validation has.
fn between(declined: f32, least: f32) -> f32 {
    let log_odds = |share: f32| f64::from(share / (1.0 - share)).ln();
    let declined = declined.max(LARGEST_UNWEIGHED);
    match declined < least {
        true => (1.0 / (1.0 + (-(log_odds(declined) + log_odds(least)) / 2.0).exp())) as f32,
        false => declined,
    }
}

/// The threshold on a score that declines most out-of-scope texts for so many right calls; 0 when it declines none.
fn weigh<'a>(judged: impl Iterator<Item = &'a Judged>, score: impl Fn(&Judged) -> f32, allowed: usize) -> f32 {
    let mut sorted: Vec<(f32, Kind)> = judged.map(|one| (score(one), one.kind)).collect();
    // Of equal scores the right calls first: they are lost together with the others.
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.1 != Kind::Right).cmp(&(b.1 != Kind::Right))));
    let (mut lost, mut threshold) = (0, 0.0);
    for (index, &(score, kind)) in sorted.iter().enumerate() {
        match kind {
            Kind::Wrong => {}
            Kind::Right if lost == allowed => break,
            Kind::Right => lost += 1,
            // As close to the next decision as rejects this one: right calls given up for nothing are kept.
            Kind::OutOfScope => {
                let next = sorted.get(index + 1).map_or(1.0, |next| next.0);
                if next > score {
                    threshold = (score + next) / 2.0;
                }
            }
        }
    }
    threshold
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
        list.iter().map(|&(confidence, kind)| Judged { confidence, in_scope: 1.0, kind }).collect()
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
        assert!((fit_thresholds(&list, 5, 1).0 - 0.495).abs() < 1e-6);
        // With four hundred right calls two may go, and with them the nonsense at 0.55, but not that above a third.
        let mut many =
            judged(&[(0.3, Kind::OutOfScope), (0.5, Kind::Right), (0.55, Kind::OutOfScope), (0.57, Kind::Right)]);
        many.extend(judged(&[(0.6, Kind::Right), (0.65, Kind::OutOfScope)]));
        many.extend(std::iter::repeat_n(Judged { confidence: 0.9, in_scope: 1.0, kind: Kind::Right }, 397));
        assert!((fit_thresholds(&many, 5, 1).0 - 0.56).abs() < 1e-6);
    }

    #[test]
    fn without_nonsense_hardly_any_right_call_is_lost() {
        let list = judged(&[(0.2, Kind::Wrong), (0.35, Kind::Right), (0.9, Kind::Right)]);
        // A handful of right decisions says nothing of one in two hundred.
        assert!(fit_thresholds(&list, 5, usize::MAX).0 <= LARGEST_UNWEIGHED);
        assert!((fit_thresholds(&list, 0, 1).0 - 0.3465).abs() < 1e-4);
        assert!(fit_thresholds(&judged(&[(0.9, Kind::Right)]), 0, 1).0 <= 0.5);
    }

    #[test]
    fn a_text_between_two_functions_is_no_nonsense() {
        // Three right calls of 600 may go. By confidence alone they are those between two functions, and nonsense at 0.55 stays.
        let one = |confidence, in_scope, kind| Judged { confidence, in_scope, kind };
        let mut list = vec![one(0.51, 0.99, Kind::Right); 20];
        list.extend([one(0.55, 0.6, Kind::OutOfScope), one(0.7, 0.75, Kind::OutOfScope)]);
        list.extend(vec![one(0.97, 0.98, Kind::Right); 580]);
        let (confidence, scope) = fit_thresholds(&list, 5, 1);
        assert!(confidence <= LARGEST_UNWEIGHED && scope > 0.75 && scope < 0.98, "{confidence} {scope}");
        // Odds of 4 and of 36: those between are 12.
        assert!((between(0.8, 36.0 / 37.0) - 12.0 / 13.0).abs() < 1e-5);
        // A head without the label says nothing of scope.
        let without: Vec<Judged> = list.iter().map(|one| Judged { in_scope: 1.0, ..*one }).collect();
        assert_eq!(fit_thresholds(&without, 5, 1), (below(LARGEST_UNWEIGHED), 0.0));
    }
}
