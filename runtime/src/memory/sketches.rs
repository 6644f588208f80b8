//! One bit a number: which of many embeddings may be near a query, without reading the embeddings.
//!
//! The bit is the sign of the number after the mean of all rows was taken off; of two rows whose cosine similarity is high,
//! few bits differ (random projections to signs, STOC 2002, doi 10.1145/509907.509965; here the axes are the projections). The
//! query is known better than by its signs: a bit that differs counts more the farther the query's number is from the mean
//! (asymmetric distances, doi 10.1109/TPAMI.2010.57), from not at all to [`MOST_COUNT`]. Of many rows, those in the [`Cells`]
//! whose centres are near are looked at, and of these those whose bits differ least are candidates.
//!
//! Invariant: all steps count in integers, and who is left after each depends on the rows and the query alone, so that the
//! same ones are found on every processor and by any number of threads.

mod cells;
mod kernels;

use std::ops::Range;

use crate::encoder::Helpers;
use crate::pages;
use crate::rows::Rows;
use cells::Cells;
use kernels::{LANES, Word};

/// How many cells ahead one is asked for.
const AHEAD: usize = 8;
/// Rows that are looked at together where there are no cells.
const TASK_ROWS: usize = 1024;
/// Tasks of a search for each thread: several for whoever is done early, few because the first cells of each were not asked for.
const TASKS: usize = 2;
/// A search with a head start looks at one in so many of its cells: choosing them and that takes as long as the heads.
const HEAD_START: usize = 4;

/// How much a bit counts is a number of so many bits: three of them find hardly more.
const PLANES: usize = 2;
/// The most that a bit counts.
const MOST_COUNT: u16 = (1 << PLANES) - 1;
/// What a bit counts whose number is as far from the mean as all are on the (quadratic) average, before rounding.
const USUAL_COUNT: f32 = 1.5;

/// A query as rows are compared with it.
type Probe = [Word<PLANES>];

/// A search that has begun: with what it looks, where, and what it knows already.
#[derive(Debug, Default)]
pub(super) struct Search {
    probe: Vec<Word<PLANES>>,
    places: Vec<Range<usize>>,
    /// # Shapes
    /// `[lanes of the places]`
    distances: Vec<u16>,
    /// How many of the places have their distances.
    compared: usize,
    count: usize,
}

/// The sketches of [`Rows`].
#[derive(Debug, Clone, Default)]
pub(super) struct Sketches {
    words: usize,
    /// The mean of all rows.
    centre: Vec<f32>,
    cells: Cells,
    /// The row at every place.
    ///
    /// # Shapes
    /// `[places]`
    numbers: Vec<u32>,
    /// # Shapes
    /// `[places / LANES, words, LANES]`
    bits: Vec<u64>,
}

impl Sketches {
    pub fn of(rows: &Rows, helpers: Helpers) -> Self {
        let centre = mean(rows);
        let words = rows.dim.div_ceil(64);
        let bits = all_bits(rows, &centre, helpers);
        let (cells, numbers) = Cells::of(rows, &bits, &centre, helpers);
        let mut blocks = pages::zeros(numbers.len() * words);
        for (place, number) in numbers.iter().enumerate().filter(|(_, number)| **number != cells::NONE) {
            let (block, lane) = (place / LANES, place % LANES);
            for (word, bits) in bits[*number as usize * words..][..words].iter().enumerate() {
                blocks[(block * words + word) * LANES + lane] = *bits;
            }
        }
        Self { words, centre, cells, numbers, bits: blocks }
    }

    /// Begins a search for `count` rows that are near a query: chooses where to look and, with `head_start`, looks at some of
    /// it, for the time in which nobody can help.
    ///
    /// # Shapes
    /// `query`: `[dim]`
    pub fn search(&self, query: &[f32], count: usize, head_start: bool) -> Search {
        if count >= self.cells.rows() {
            return Search { count, ..Search::default() };
        }
        let probe = self.probe(query);
        let places = self.cells.near(&probe, count);
        let mut distances = vec![0; places.iter().map(lanes).sum()];
        let compared = if head_start { places.len() / HEAD_START } else { 0 };
        let (first, _) = distances.split_at_mut(places[..compared].iter().map(lanes).sum());
        self.compare(&probe, &places[..compared], first);
        Search { probe, places, distances, compared, count }
    }

    /// The rows whose bits differ least from the query's in the near cells, as many as were wanted and those that differ as
    /// little as the last of them, in no order that means anything.
    pub fn candidates(&self, search: Search, helpers: Helpers) -> Vec<u32> {
        let Search { probe, places, mut distances, compared, count } = search;
        if count >= self.cells.rows() {
            return (0..self.cells.rows() as u32).collect();
        }
        let (_, mut rest) = distances.split_at_mut(places[..compared].iter().map(lanes).sum());
        let left = &places[compared..];
        let tasks = if helpers.threads() > 1 { TASKS * helpers.threads() } else { 1 };
        let mut parts = Vec::with_capacity(tasks);
        for places in left.chunks(left.len().div_ceil(tasks).max(1)) {
            let part;
            (part, rest) = rest.split_at_mut(places.iter().map(lanes).sum());
            parts.push((places, part));
        }
        helpers.share(&mut parts, |_, (places, distances)| self.compare(&probe, places, distances));
        let near = placed(&places, &distances, kernels::limit(&distances, count), count);
        near.into_iter().map(|place| self.numbers[place as usize]).collect()
    }

    /// How far the rows at some places are from the query.
    ///
    /// # Shapes
    /// `probe`: `[words]`, `distances`: `[lanes of the places]`
    fn compare(&self, probe: &Probe, places: &[Range<usize>], distances: &mut [u16]) {
        // Cells lie here and there; no processor sees the next one coming. The page of each takes longest to find.
        places.iter().for_each(|places| kernels::ask_for_page(self.bits(places)));
        places.iter().take(AHEAD).for_each(|places| kernels::ask_for(self.bits(places)));
        let mut rest = distances;
        for (at, here) in places.iter().enumerate() {
            if let Some(ahead) = places.get(at + AHEAD) {
                kernels::ask_for(self.bits(ahead));
            }
            let distances;
            (distances, rest) = rest.split_at_mut(lanes(here));
            kernels::compare(self.bits(here), probe, distances);
            // The last block may be filled up with rows that are none.
            distances[here.len()..].fill(((self.words * 64) as u16).saturating_mul(MOST_COUNT));
        }
    }

    fn probe(&self, query: &[f32]) -> Vec<Word<PLANES>> {
        let from_mean = || query.iter().zip(&self.centre).map(|(number, centre)| number - centre);
        let mean_square = from_mean().map(|number| number * number).sum::<f32>() / query.len().max(1) as f32;
        // What is at the mean itself is as far from all, and no count is better than another.
        let steps = if mean_square > 0.0 { USUAL_COUNT / mean_square.sqrt() } else { 0.0 };
        let least = if mean_square > 0.0 { 0 } else { 1 };
        let mut probe = vec![Word { bits: 0, planes: [0; PLANES] }; self.words];
        for (axis, number) in from_mean().enumerate() {
            let (word, bit) = (&mut probe[axis / 64], axis % 64);
            word.bits |= u64::from(number > 0.0) << bit;
            // `as` saturates, and makes zero of what is no number.
            let counts = ((number.abs() * steps + 0.5) as u64).clamp(least, u64::from(MOST_COUNT));
            for (plane, bits) in word.planes.iter_mut().enumerate() {
                *bits |= (counts >> plane & 1) << bit;
            }
        }
        probe
    }

    /// The bits of some places, the first of which is the first of a block.
    fn bits(&self, places: &Range<usize>) -> &[u64] {
        let block_words = self.words * LANES;
        &self.bits[places.start / LANES * block_words..places.end.div_ceil(LANES) * block_words]
    }
}

/// As many distances as the blocks of some places have.
fn lanes(places: &Range<usize>) -> usize {
    places.len().next_multiple_of(LANES)
}

/// The places within a distance, of one range after the other; of `count` or a few more.
fn placed(places: &[Range<usize>], distances: &[u16], limit: u16, count: usize) -> Vec<u32> {
    let mut near = Vec::with_capacity(2 * count);
    kernels::pick(distances, limit, &mut near);
    let (mut here, mut first, mut rest) = (0..0, 0, places.iter());
    near.retain_mut(|at| {
        while *at as usize >= first + lanes(&here) {
            let Some(next) = rest.next() else { return false };
            first += lanes(&here);
            here = next.clone();
        }
        let place = here.start + *at as usize - first;
        *at = place as u32;
        place < here.end
    });
    near
}

fn mean(rows: &Rows) -> Vec<f32> {
    let mut sums = vec![0.0_f64; rows.dim];
    for index in 0..rows.len() {
        sums.iter_mut().zip(rows.embedding(index)).for_each(|(sum, number)| *sum += f64::from(number));
    }
    sums.iter().map(|sum| (sum / rows.len().max(1) as f64) as f32).collect()
}

/// Sets the bits of the numbers that are above the centre; the others are zeros before.
fn set_bits(numbers: impl Iterator<Item = f32>, centre: &[f32], bits: &mut [u64]) {
    for (axis, (number, centre)) in numbers.zip(centre).enumerate() {
        bits[axis / 64] |= u64::from(number > *centre) << (axis % 64);
    }
}

/// # Shapes
/// the result: `[rows, words]`
fn all_bits(rows: &Rows, centre: &[f32], helpers: Helpers) -> Vec<u64> {
    let words = rows.dim.div_ceil(64);
    let mut bits = pages::zeros(rows.len() * words);
    let part_rows = part_rows(rows.len());
    let mut parts: Vec<&mut [u64]> = bits.chunks_mut((part_rows * words).max(1)).collect();
    helpers.share(&mut parts, |part, bits| {
        for (index, bits) in (part * part_rows..).zip(bits.chunks_exact_mut(words)) {
            set_bits(rows.embedding(index), centre, bits);
        }
    });
    bits
}

/// Rows of one part, where all rows are shared out.
fn part_rows(rows: usize) -> usize {
    const PARTS: usize = 32;
    rows.div_ceil(PARTS).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Query;
    use proptest::prelude::*;

    /// What the bits count that differ, one by one.
    fn distance(sketches: &Sketches, rows: &Rows, number: usize, query: &[f32]) -> usize {
        let from_mean: Vec<f32> = query.iter().zip(&sketches.centre).map(|(query, centre)| query - centre).collect();
        let usual = (from_mean.iter().map(|number| number * number).sum::<f32>() / query.len() as f32).sqrt();
        let bits = rows.embedding(number).zip(&from_mean).zip(&sketches.centre);
        let differing = bits.filter(|((number, query), centre)| (number > centre) != (**query > 0.0));
        differing.map(|((_, query), _)| ((1.5 * query.abs() / usual).round() as usize).min(3)).sum()
    }

    /// What is found, with a head start and without.
    fn candidates(sketches: &Sketches, query: &[f32], count: usize) -> Vec<u32> {
        let [found, again] = [false, true]
            .map(|head_start| sketches.candidates(sketches.search(query, count, head_start), Helpers::none()));
        assert_eq!(found, again);
        found
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
        fn candidates_of_few_rows_are_those_whose_bits_differ_least(
            seed in any::<u64>(), len in 0_usize..300, dim in prop::sample::select(vec![1, 3, 64, 70, 256, 384, 768]), count in 1_usize..40,
        ) {
            let mut next = numbers(seed);
            let embeddings: Vec<f32> = (0..len * dim).map(|_| next()).collect();
            let query: Vec<f32> = (0..dim).map(|_| next()).collect();
            let rows = Rows::from_embeddings(&embeddings, dim);
            let sketches = Sketches::of(&rows, Helpers::none());
            let candidates = candidates(&sketches, &query, count);
            let distance = |number: u32| distance(&sketches, &rows, number as usize, &query);
            let farthest = candidates.iter().map(|number| distance(*number)).max();
            let expected: Vec<u32> = (0..len as u32).filter(|number| Some(distance(*number)) <= farthest).collect();
            prop_assert_eq!(&candidates, &expected);
            prop_assert!(candidates.len() >= count.min(len));
            let nearer = candidates.iter().filter(|number| Some(distance(**number)) < farthest).count();
            prop_assert!(count >= len || nearer < count);
        }
    }

    #[test]
    fn of_some_thousand_rows_those_that_differ_least_are_found() {
        const DIM: usize = 130;
        let mut next = numbers(3);
        let len = 3 * TASK_ROWS + 13;
        let embeddings: Vec<f32> = (0..len * DIM).map(|_| next()).collect();
        let rows = Rows::from_embeddings(&embeddings, DIM);
        let sketches = Sketches::of(&rows, Helpers::none());
        for count in [1, 50, 200, len / 2, len - 1] {
            let query: Vec<f32> = (0..DIM).map(|_| next()).collect();
            let candidates = candidates(&sketches, &query, count);
            let distance = |number: u32| distance(&sketches, &rows, number as usize, &query);
            let farthest = candidates.iter().map(|number| distance(*number)).max();
            let expected: Vec<u32> = (0..len as u32).filter(|number| Some(distance(*number)) <= farthest).collect();
            assert_eq!(candidates, expected);
            assert!((count..=2 * count + 30).contains(&candidates.len()), "{count}: {}", candidates.len());
        }
    }

    /// Many rows in clusters, as people's sentences are.
    #[test]
    fn of_many_rows_the_near_cells_are_searched() {
        const DIM: usize = 128;
        const COUNT: usize = 96;
        let mut next = numbers(11);
        let centres: Vec<[f32; DIM]> = (0..500).map(|_| std::array::from_fn(|_| next())).collect();
        let len = 40_003;
        let mut near = |number: usize| -> [f32; DIM] {
            let row: [f32; DIM] = std::array::from_fn(|axis| centres[number % 500][axis] + 0.8 * next());
            let length = row.iter().map(|number| number * number).sum::<f32>().sqrt();
            row.map(|number| number / length)
        };
        let embeddings: Vec<f32> = (0..len).flat_map(&mut near).collect();
        let rows = Rows::from_embeddings(&embeddings, DIM);
        let sketches = Sketches::of(&rows, Helpers::none());
        let mut numbers: Vec<u32> = sketches.numbers.iter().copied().filter(|number| *number != cells::NONE).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..len as u32).collect::<Vec<_>>(), "every row has one place");
        let every: Vec<u32> = (0..len as u32).collect();
        let mut found = 0;
        for query in (0..50).map(|number| near(7 * number)) {
            let places = sketches.cells.near(&sketches.probe(&query), COUNT);
            let searched: usize = places.iter().map(Range::len).sum();
            assert!((3000..10_000).contains(&searched), "{searched}");
            let similarities = rows.similarities(&every, &Query::of(&query));
            let nearest =
                (0..len as u32).max_by(|a, b| similarities[*a as usize].total_cmp(&similarities[*b as usize]));
            let candidates = candidates(&sketches, &query, COUNT);
            assert!((COUNT..4 * COUNT).contains(&candidates.len()), "{}", candidates.len());
            let all: std::collections::HashSet<u32> =
                candidates.iter().copied().filter(|one| (*one as usize) < len).collect();
            assert_eq!(all.len(), candidates.len(), "each once");
            found += usize::from(nearest.is_some_and(|nearest| candidates.contains(&nearest)));
        }
        assert!(found >= 49, "{found} of 50");
        let query = near(3);
        for count in [1, 20_000, len - 1, len, len + 1] {
            let found = candidates(&sketches, &query, count).len();
            assert!((count.min(len)..=len).contains(&found), "{count}: {found}");
        }
    }

    #[test]
    fn rows_that_are_all_alike_are_found_too() {
        let rows = Rows::from_embeddings(&[0.6, 0.8].repeat(33_000), 2);
        let sketches = Sketches::of(&rows, Helpers::none());
        assert!(sketches.candidates(sketches.search(&[0.6, 0.8], 10, false), Helpers::none()).len() >= 10);
    }
}
