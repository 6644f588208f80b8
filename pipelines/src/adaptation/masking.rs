//! Which tokens of a text are guessed, and what stands in their place (Devlin et al. 2018, arXiv 1810.04805, section 3.1).
//!
//! *Invariant:* what happens to a text in an epoch depends on the seed, the epoch and its place among the texts alone.

use crate::batch::{Ragged, shuffle};
use crate::dropout::split_mix;

/// Of the tokens that are guessed, how many are replaced by `[MASK]`, and how many by that or another token.
const MASKED: u64 = 80;
const MASKED_OR_REPLACED: u64 = 90;

/// A text whose tokens can be masked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MaskableText {
    /// Token ids, `[CLS]` and `[SEP]` included.
    pub input_ids: Vec<u32>,
    /// The base's embedding of the whole text, which training keeps close to; empty when there is none.
    pub embedding: Vec<f32>,
}

impl MaskableText {
    /// A text without embedding.
    pub fn new(input_ids: Vec<u32>) -> Self {
        Self { input_ids, embedding: Vec::new() }
    }

    /// Tokens between the special ones.
    pub fn maskable(&self) -> usize {
        self.input_ids.len().saturating_sub(2)
    }
}

/// How texts are masked.
#[derive(Clone, Debug)]
pub(crate) struct Masking {
    mask: u32,
    share: f64,
    seed: u64,
    /// Every token of the texts with its count, by id.
    counts: Vec<(u32, usize)>,
}

impl Masking {
    /// Masks `share` of the tokens; tokens that stand in for others are drawn from those of `texts`.
    pub fn new(texts: &[MaskableText], mask: u32, share: f64, seed: u64) -> Self {
        let mut counts = std::collections::BTreeMap::new();
        for text in texts {
            for id in &text.input_ids[1..=text.maskable()] {
                *counts.entry(*id).or_insert(0) += 1;
            }
        }
        Self { mask, share, seed, counts: counts.into_iter().collect() }
    }

    /// How often each token of a vocabulary comes in the texts, as logarithms that sum to one; those that never come count
    /// as half a time together.
    ///
    /// # Shapes
    /// - output: `[vocab_size]`
    pub fn log_frequencies(&self, vocabulary: usize) -> Vec<f32> {
        let total = 0.5 + self.counts.iter().map(|(_, count)| *count as f64).sum::<f64>();
        let others = (vocabulary - self.counts.len()).max(1) as f64;
        let mut logs = vec![(0.5 / others / total).ln() as f32; vocabulary];
        for (id, count) in &self.counts {
            logs[*id as usize] = (*count as f64 / total).ln() as f32;
        }
        logs
    }

    /// Masks one text: its ids, and the positions that are guessed with what was there.
    fn apply(&self, text: &MaskableText, stream: u64) -> (Vec<u32>, Vec<(usize, u32)>) {
        let mut ids = text.input_ids.clone();
        let maskable = text.maskable();
        let mut positions: Vec<usize> = (1..=maskable).collect();
        let mut random = stream;
        shuffle(&mut positions, &mut random);
        // At least one: most of what is said has fewer than ten tokens.
        let count = ((self.share * maskable as f64).round() as usize).clamp(1, maskable);
        positions.truncate(count);
        positions.sort_unstable();
        let mut guessed = Vec::with_capacity(count);
        for position in positions {
            guessed.push((position, ids[position]));
            let draw = split_mix(stream ^ split_mix(position as u64));
            ids[position] = match draw % 100 {
                0..MASKED => self.mask,
                MASKED..MASKED_OR_REPLACED => self.counts[(draw / 100) as usize % self.counts.len()].0,
                _ => ids[position],
            };
        }
        (ids, guessed)
    }
}

/// Some masked texts of similar length.
#[derive(Clone, Debug)]
pub(crate) struct MaskedBatch {
    /// The tokens as the model sees them.
    pub ragged: Ragged,
    /// `[masked]`: the rows that are guessed.
    pub places: Vec<u32>,
    /// `[masked]`: the tokens that were there.
    pub targets: Vec<u32>,
    /// `[batch_size, dim]`: unit vectors; empty when none were computed.
    pub embeddings: Vec<f32>,
}

impl MaskedBatch {
    /// The `chosen` ones of `texts`, masked for `epoch`.
    pub fn new(texts: &[MaskableText], chosen: &[usize], masking: &Masking, epoch: u64) -> Self {
        let (mut sequences, mut places, mut targets, mut embeddings) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut start = 0;
        for number in chosen {
            let stream = split_mix(masking.seed ^ split_mix(epoch ^ split_mix(*number as u64)));
            let (ids, guessed) = masking.apply(&texts[*number], stream);
            for (position, target) in guessed {
                places.push((start + position) as u32);
                targets.push(target);
            }
            start += ids.len();
            sequences.push(ids);
            embeddings.extend_from_slice(&texts[*number].embedding);
        }
        Self { ragged: Ragged::of(sequences.iter().map(Vec::as_slice)), places, targets, embeddings }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> Vec<MaskableText> {
        let text = |n: u32| MaskableText::new((0..3 + n % 19).map(|token| 10 + (token * 7 + n) % 40).collect());
        (0..2_000).map(text).collect()
    }

    #[test]
    fn shares_are_those_of_bert_and_special_tokens_stay() {
        let texts = texts();
        let masking = Masking::new(&texts, 4, 0.15, 9);
        let chosen: Vec<usize> = (0..texts.len()).collect();
        let batch = MaskedBatch::new(&texts, &chosen, &masking, 0);
        let original: Vec<u32> = texts.iter().flat_map(|text| text.input_ids.clone()).collect();
        let guessed: std::collections::HashSet<u32> = batch.places.iter().copied().collect();
        assert_eq!(guessed.len(), batch.places.len());
        for (row, (now, before)) in batch.ragged.input_ids.iter().zip(&original).enumerate() {
            assert!(now == before || guessed.contains(&(row as u32)), "only what is guessed changes");
        }
        for pair in batch.ragged.starts.windows(2) {
            assert!(!guessed.contains(&(pair[0] as u32)) && !guessed.contains(&(pair[1] as u32 - 1)));
        }
        let at = |place: &u32| batch.ragged.input_ids[*place as usize];
        assert!(batch.places.iter().zip(&batch.targets).all(|(place, was)| original[*place as usize] == *was));
        let share = |count: usize| count as f64 / batch.places.len() as f64;
        let masked = share(batch.places.iter().filter(|place| at(place) == 4).count());
        let kept = share(batch.places.iter().zip(&batch.targets).filter(|(place, was)| at(place) == **was).count());
        assert!((masked - 0.8).abs() < 0.03 && (kept - 0.1).abs() < 0.03, "{masked} {kept}");
        // 15 % of long texts, one token of short ones.
        assert_eq!(masking.apply(&MaskableText::new(vec![2, 11, 3]), 1).1, [(1, 11)]);
        assert_eq!(masking.apply(&MaskableText::new(vec![10; 42]), 1).1.len(), 6);
    }

    #[test]
    fn every_epoch_has_masks_of_its_own_whatever_is_beside_a_text() {
        let texts = texts();
        let masking = Masking::new(&texts, 4, 0.15, 9);
        let of = |chosen: &[usize], epoch| MaskedBatch::new(&texts, chosen, &masking, epoch).ragged.input_ids;
        let length = texts[18].input_ids.len();
        assert_eq!(of(&[18], 1), of(&[18, 5], 1)[..length]);
        assert_ne!(of(&[18, 37, 56], 1), of(&[18, 37, 56], 2));
    }

    #[test]
    fn frequencies_sum_to_one() {
        let texts = [MaskableText::new(vec![2, 7, 7, 8, 3])];
        let logs = Masking::new(&texts, 4, 0.15, 1).log_frequencies(12);
        assert!((logs.iter().map(|log| log.exp()).sum::<f32>() - 1.0).abs() < 1e-5);
        assert!((logs[7].exp() - 2.0 / 3.5).abs() < 1e-6 && (logs[8].exp() - 1.0 / 3.5).abs() < 1e-6);
    }
}
