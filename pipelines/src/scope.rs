//! How likely "out of scope" is where nobody in the home has said what is.
//!
//! Background texts ([`crate::background`]) teach a model to decline, but how many of them there are says nothing of how often
//! such texts will come. Beside a home's own examples that share would be a made-up prior, and it declines requests. So the
//! bias of the out-of-scope row is lowered until no more than a small share of the right validation calls is lost to it, as the
//! threshold may lose; what is then too likely to be called is the threshold's business.

use mynah_data::{Example, OUT_OF_SCOPE};
use mynah_runtime::Model;

use crate::background;

/// Share of the right validation calls that may be lost to the out-of-scope row.
const TOLERATED_LOSS: f64 = 0.002;
/// How far below the best call the row ends up that it was above.
const CLEARLY: f32 = 0.01;

/// The row of the function head and by how much its bias is to be lowered; none where the home has out-of-scope
/// examples of its own, or nothing is lost.
pub(crate) fn surplus(model: &Model, train: &[Example], validation: &[Example]) -> Option<(usize, f32)> {
    let row = model.labels().function_id(OUT_OF_SCOPE)?;
    let is_own = |example: &Example| example.function == OUT_OF_SCOPE && example.origin != background::ORIGIN;
    if train.iter().any(is_own) {
        return None;
    }
    let known: Vec<(&str, usize)> = validation
        .iter()
        .filter(|example| example.function != OUT_OF_SCOPE)
        .filter_map(|example| Some((example.text.as_str(), model.labels().function_id(&example.function)?)))
        .collect();
    let mut leads = Vec::new();
    for chunk in known.chunks(64) {
        let texts: Vec<&str> = chunk.iter().map(|(text, _)| *text).collect();
        let rows = model.function_logits(&texts);
        leads.extend(chunk.iter().zip(rows).filter_map(|((_, label), logits)| lead(&logits, row, *label)));
    }
    let shift = shift(leads)?;
    Some((row, shift))
}

/// By how much the out-of-scope row is above the right function, where that is the best of the others.
fn lead(logits: &[f32], row: usize, label: usize) -> Option<f32> {
    let others = logits.iter().enumerate().filter(|(other, _)| *other != row);
    let best = others.max_by(|a, b| a.1.total_cmp(b.1))?;
    (best.0 == label).then(|| logits[row] - best.1)
}

/// The smallest shift after which at most the tolerated share has a lead.
fn shift(mut leads: Vec<f32>) -> Option<f32> {
    let allowed = (TOLERATED_LOSS * leads.len() as f64) as usize;
    leads.sort_by(|a, b| b.total_cmp(a));
    leads.get(allowed).filter(|lead| **lead > 0.0).map(|lead| lead + CLEARLY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_calls_that_would_be_right_count() {
        // Out of scope is row 1 and leads by a half; the right function is the best of the others, then it is not.
        assert_eq!(lead(&[2.0, 2.5, 1.0], 1, 0), Some(0.5));
        assert_eq!(lead(&[2.0, 2.5, 1.0], 1, 2), None);
        assert_eq!(lead(&[3.0, 2.5, 1.0], 1, 0), Some(-0.5));
    }

    #[test]
    fn the_bias_goes_down_until_little_is_lost() {
        assert_eq!(shift(vec![-1.0, -0.2, -3.0]), None);
        assert_eq!(shift(Vec::new()), None);
        assert!((shift(vec![-1.0, 0.4, 0.7]).unwrap() - 0.71).abs() < 1e-6);
        // Of a thousand, two may be lost: the third lead decides.
        let mut leads = vec![-1.0; 997];
        leads.extend([0.9, 0.3, 0.6]);
        assert!((shift(leads).unwrap() - 0.31).abs() < 1e-6);
    }
}
