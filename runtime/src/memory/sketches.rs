//! One bit a number: which of many embeddings may be near a query, without reading the embeddings.
//!
//! The bit is the sign of the number after the mean of all rows was taken off; of two rows whose cosine similarity is high,
//! few bits differ (random projections to signs, STOC 2002, doi 10.1145/509907.509965; here the axes are the projections).
//! Two steps. First the bits of some axes, the *heads*, of all rows: a hundred thousand rows of 384 numbers have 3.1 MB of
//! them instead of 4.7. Whoever is near by them is then scored by all bits against the numbers of the query
//! themselves, not their signs: the sum of the query's numbers, in eight bits each, where a row has a one. That orders rows
//! better than counting differing bits, and costs as little for the few that are left.
//!
//! Invariants: there is nothing to train; both steps count in integers, and who is left after the first depends on the rows
//! and the query alone, so that the same ones are found on every processor and by any number of threads.

mod kernels;

use std::cmp::Reverse;

use super::pages;
use super::rows::Rows;
use crate::encoder::Helpers;
use kernels::{LANES, Weights};

/// Rows that are scored by all bits, about.
///
/// With the 97,000 sentences of CLINC150, MASSIVE, SNIPS, SGD and SQuAD by all-MiniLM-L6-v2 and 400 others of them, the 96
/// best of 1,024 that are near by two thirds of the axes hold the nearest of all for 0.9975 of the sentences and 0.991 of the
/// ten nearest; those of 2,048 hold 1.000 and 0.994, at twice the cost: every row is a look into memory that no cache holds.
/// Cells of k-means cannot do it: of 1,024 cells, those with 16,000 rows hold 0.997 and 0.993 before anything else is lost.
const NEAR: usize = 1024;
/// One row in so many is looked at to guess how near the [`NEAR`] nearest are.
const SAMPLED: usize = 32;
/// Rows that one task of a search looks at: many tasks for whoever is done early, few for the sake of what each costs.
const TASK_ROWS: usize = 8192;

/// The sketches of [`Rows`].
#[derive(Debug, Clone, Default)]
pub(super) struct Sketches {
    len: usize,
    words: usize,
    /// Words of the heads, the first of every row.
    head_words: usize,
    /// The mean of all rows.
    centre: Vec<f32>,
    /// # Shapes
    /// `[rows / LANES, head_words, LANES]`
    heads: Vec<u64>,
    /// # Shapes
    /// `[rows, words]`
    rows: Vec<u64>,
    /// Every [`SAMPLED`]th block of the heads, side by side: picked out of all of them, each would be a page of its own.
    ///
    /// # Shapes
    /// `[sampled / LANES, head_words, LANES]`
    sample: Vec<u64>,
}

/// What a task of a search finds: scores and numbers of rows.
type Scored = Vec<(i32, u32)>;

impl Sketches {
    pub fn of(rows: &Rows) -> Self {
        let dim = rows.dim;
        let mut centre = vec![0.0_f64; dim];
        for index in 0..rows.len() {
            centre.iter_mut().zip(rows.embedding(index)).for_each(|(sum, number)| *sum += f64::from(number));
        }
        let centre: Vec<f32> = centre.iter().map(|sum| (sum / rows.len().max(1) as f64) as f32).collect();
        let words = dim.div_ceil(64);
        let head_words = (2 * words).div_ceil(3);
        let mut bits = pages::zeros(rows.len() * words);
        let mut heads = pages::zeros(rows.len().div_ceil(LANES) * head_words * LANES);
        for index in 0..rows.len() {
            let row = &mut bits[index * words..(index + 1) * words];
            let centred = rows.embedding(index).zip(&centre).map(|(number, centre)| number > *centre);
            for (axis, bit) in centred.enumerate() {
                row[axis / 64] |= u64::from(bit) << (axis % 64);
            }
            let (block, lane) = (index / LANES, index % LANES);
            for (word, bits) in row[..head_words].iter().enumerate() {
                heads[(block * head_words + word) * LANES + lane] = *bits;
            }
        }
        // The last block may be filled up with rows that are none.
        let whole = heads.chunks_exact((head_words * LANES).max(1)).take(rows.len() / LANES);
        let sample = whole.step_by(SAMPLED).flatten().copied().collect();
        Self { len: rows.len(), words, head_words, centre, heads, rows: bits, sample }
    }

    /// The `count` rows that score highest among those that are near by their heads, in the order of their numbers; of equal
    /// ones the first.
    ///
    /// # Shapes
    /// `query`: `[dim]`
    pub fn candidates(&self, query: &[f32], count: usize, helpers: Helpers) -> Vec<u32> {
        if count >= self.len {
            return (0..self.len as u32).collect();
        }
        let weights = Weights::of(query, &self.centre);
        let mut limit = u16::MAX;
        let sketch = self.sketch(query);
        if self.len > NEAR.max(2 * count) {
            limit = self.limit(&sketch, NEAR.max(2 * count));
        }
        let mut scored = loop {
            let scored = self.scored(&sketch, limit, &weights, helpers);
            if scored.len() >= count {
                break scored;
            }
            // The sample was unlucky; every bit of the widest sketch is 16 such steps.
            limit = limit.saturating_add((self.words * 4) as u16);
        };
        scored.select_nth_unstable_by_key(count.max(1) - 1, |(score, number)| (Reverse(*score), *number));
        let mut candidates: Vec<u32> = scored[..count].iter().map(|(_, number)| *number).collect();
        candidates.sort_unstable();
        candidates
    }

    fn sketch(&self, query: &[f32]) -> Vec<u64> {
        let mut sketch = vec![0; self.words];
        for (axis, (number, centre)) in query.iter().zip(&self.centre).enumerate() {
            sketch[axis / 64] |= u64::from(number > centre) << (axis % 64);
        }
        sketch.truncate(self.head_words);
        sketch
    }

    /// The distance within which about `count` rows are, by a sample of the rows.
    fn limit(&self, sketch: &[u64], count: usize) -> u16 {
        let mut counts = vec![0_u32; self.head_words * 64 + 1];
        let sampled = self.sample.len() / self.head_words.max(1);
        let mut distances = vec![0; sampled];
        kernels::compare(&self.sample, sketch, &mut distances);
        distances.iter().for_each(|distance| counts[usize::from(*distance)] += 1);
        let mut wanted = count * sampled / self.len;
        for (distance, here) in counts.iter().enumerate() {
            match wanted.checked_sub(*here as usize) {
                Some(rest) if rest > 0 => wanted = rest,
                _ => return distance as u16,
            }
        }
        u16::MAX
    }

    /// The scores of all rows within a distance, in the order of their numbers.
    fn scored(&self, sketch: &[u64], limit: u16, weights: &Weights, helpers: Helpers) -> Scored {
        let mut parts: Vec<(Vec<u32>, Scored)> = vec![Default::default(); self.len.div_ceil(TASK_ROWS)];
        helpers.share(&mut parts, |task, (near, scored)| {
            let first = task * TASK_ROWS;
            let rows = first..self.len.min(first + TASK_ROWS);
            if limit == u16::MAX {
                near.extend(rows.start as u32..rows.end as u32);
            } else {
                near.reserve(NEAR * TASK_ROWS / self.len + 64);
                let block_words = self.head_words * LANES;
                let blocks = rows.start / LANES * block_words..rows.end.div_ceil(LANES) * block_words;
                kernels::within(&self.heads[blocks], sketch, limit, rows.start, near);
                // The last block may be filled up with rows that are none.
                near.truncate(near.partition_point(|number| (*number as usize) < rows.end));
            }
            weights.score(&self.rows, near, scored);
        });
        let mut parts = parts.into_iter().map(|(_, scored)| scored);
        let mut all = parts.next().unwrap_or_default();
        parts.for_each(|scored| all.extend(scored));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bits of the head that differ, one by one.
    fn distance(sketches: &Sketches, rows: &Rows, number: usize, query: &[f32]) -> usize {
        let bits = rows.embedding(number).zip(query).zip(&sketches.centre).take(sketches.head_words * 64);
        bits.filter(|((number, query), centre)| (number > centre) != (*query > centre)).count()
    }

    fn score(sketches: &Sketches, rows: &Rows, number: usize, query: &[f32]) -> i32 {
        let weights = kernels::eight_bits(query, &sketches.centre);
        let bits = rows.embedding(number).zip(&sketches.centre).zip(weights);
        bits.map(|((number, centre), weight)| if number > *centre { i32::from(weight) } else { 0 }).sum()
    }

    fn numbers(seed: u64) -> impl FnMut() -> f32 {
        let mut state = seed | 1;
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        }
    }

    proptest! {
        #[test]
        fn candidates_of_few_rows_are_those_that_score_highest(
            seed in any::<u64>(), len in 0_usize..300, dim in prop::sample::select(vec![1, 3, 64, 70, 256, 384, 768]), count in 1_usize..40,
        ) {
            let mut next = numbers(seed);
            let embeddings: Vec<f32> = (0..len * dim).map(|_| next()).collect();
            let query: Vec<f32> = (0..dim).map(|_| next()).collect();
            let rows = Rows::from_embeddings(&embeddings, dim);
            let sketches = Sketches::of(&rows);
            let mut expected: Vec<u32> = (0..len as u32).collect();
            expected.sort_by_key(|number| (Reverse(score(&sketches, &rows, *number as usize, &query)), *number));
            expected.truncate(count);
            expected.sort_unstable();
            prop_assert_eq!(sketches.candidates(&query, count, Helpers::none()), expected);
        }
    }

    #[test]
    fn only_rows_that_are_near_by_their_heads_are_scored() {
        const DIM: usize = 130;
        let mut next = numbers(3);
        let len = 3 * TASK_ROWS + 13;
        let embeddings: Vec<f32> = (0..len * DIM).map(|_| next()).collect();
        let rows = Rows::from_embeddings(&embeddings, DIM);
        let sketches = Sketches::of(&rows);
        for _ in 0..5 {
            let query: Vec<f32> = (0..DIM).map(|_| next()).collect();
            let sketch = sketches.sketch(&query);
            let limit = sketches.limit(&sketch, NEAR);
            let weights = Weights::of(&query, &sketches.centre);
            let scored = sketches.scored(&sketch, limit, &weights, Helpers::none());
            let expected: Scored = (0..len)
                .filter(|number| distance(&sketches, &rows, *number, &query) <= usize::from(limit))
                .map(|number| (score(&sketches, &rows, number, &query), number as u32))
                .collect();
            assert_eq!(scored, expected);
            assert!((NEAR / 2..3 * NEAR).contains(&scored.len()), "{}", scored.len());
            let candidates = sketches.candidates(&query, 50, Helpers::none());
            assert_eq!(candidates.len(), 50);
            assert!(candidates.is_sorted());
        }
    }
}
