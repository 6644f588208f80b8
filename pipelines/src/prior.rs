//! How much more often an epoch has a function than the data set does.
//!
//! A run after a conversation sees all that is new and a small, balanced replay of the rest, so the functions of the
//! conversation come far more often than they will be asked for, and a model that fits such an epoch says them too often.
//! Training therefore adds `ln(share in the epoch / share in the data set)` to the logits before the cross entropy, so that the
//! logits themselves fit the data set (logit adjustment, arXiv 2007.07314; balanced softmax, arXiv 2007.10740).

use crate::batch::EncodedExample;

/// The logarithms of both shares' quotients, one for each of `functions` rows of the head. `all` has the rows of all training
/// examples; one example of every function is added on both sides, so that none is infinitely rare.
pub(crate) fn surplus(epoch: &[EncodedExample], all: impl IntoIterator<Item = usize>, functions: usize) -> Vec<f32> {
    let (mut in_epoch, mut in_all) = (vec![1f64; functions], vec![1f64; functions]);
    for example in epoch {
        in_epoch[example.function as usize] += f64::from(example.weight);
    }
    for function in all {
        in_all[function] += 1.0;
    }
    let share = |counts: &[f64]| -> Vec<f64> {
        let total: f64 = counts.iter().sum();
        counts.iter().map(|count| count / total).collect()
    };
    share(&in_epoch).into_iter().zip(share(&in_all)).map(|(epoch, all)| (epoch / all).ln() as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_epoch_repeats_is_in_surplus() {
        let epoch: Vec<EncodedExample> = [0, 0, 0, 1].map(|function| EncodedExample::plain(vec![1], function)).into();
        // 4/7, 2/7, 1/7 of the epoch with one added to each; 2/10, 7/10, 1/10 of the data set.
        let surplus = surplus(&epoch, [0, 1, 1, 1, 1, 1, 1], 3);
        let expected = [(4.0 / 7.0) / 0.2, (2.0 / 7.0) / 0.7, (1.0 / 7.0) / 0.1].map(|ratio: f64| ratio.ln());
        for (value, expected) in surplus.iter().zip(expected) {
            assert!((f64::from(*value) - expected).abs() < 1e-6, "{surplus:?}");
        }
        let weighed = EncodedExample { weight: 3.0, ..EncodedExample::plain(vec![1], 0) };
        let once = [weighed, EncodedExample::plain(vec![1], 1)];
        assert_eq!(super::surplus(&once, [0, 1, 1, 1, 1, 1, 1], 3), surplus, "a weight counts as often");
    }
}
