//! Embeddings as 16-bit integers with one scale a row: half the memory of f32, and as exact as a comparison can tell.
//!
//! The largest number of a row is 32,767 steps from zero, so a cosine similarity is off by less than 1e-5.

use super::pages;

/// Rows of `dim` numbers.
///
/// # Shapes
/// `scales`: `[rows]`, `numbers`: `[rows, dim]`
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Rows {
    pub dim: usize,
    pub scales: Vec<f32>,
    pub numbers: Vec<i16>,
}

impl Rows {
    pub fn new(dim: usize) -> Self {
        Self { dim, scales: Vec::new(), numbers: Vec::new() }
    }

    /// Rows of zeros, to be set one by one.
    pub fn zeros(rows: usize, dim: usize) -> Self {
        Self { dim, scales: vec![0.0; rows], numbers: pages::zeros(rows * dim) }
    }

    /// # Shapes
    /// `embeddings`: `[rows, dim]`
    pub fn from_embeddings(embeddings: &[f32], dim: usize) -> Self {
        let mut rows = Self::zeros(embeddings.len().checked_div(dim).unwrap_or(0), dim);
        for (index, embedding) in embeddings.chunks_exact(dim.max(1)).enumerate() {
            rows.set(index, embedding);
        }
        rows
    }

    pub fn len(&self) -> usize {
        self.scales.len()
    }

    /// # Shapes
    /// `embedding`: `[dim]`
    pub fn set(&mut self, index: usize, embedding: &[f32]) {
        let largest = embedding.iter().fold(0.0_f32, |largest, number| largest.max(number.abs()));
        let scale = largest / f32::from(i16::MAX);
        let steps = if scale > 0.0 { scale.recip() } else { 0.0 };
        self.scales[index] = scale;
        let row = &mut self.numbers[index * self.dim..(index + 1) * self.dim];
        // `as` saturates, and makes zero of what is no number.
        row.iter_mut().zip(embedding).for_each(|(number, value)| *number = (value * steps).round() as i16);
    }

    /// Sets a row to that of others of the same width.
    pub fn copy(&mut self, index: usize, from: &Self, row: usize) {
        self.scales[index] = from.scales[row];
        self.numbers[index * self.dim..(index + 1) * self.dim].copy_from_slice(from.row(row));
    }

    /// Adds a row.
    pub fn push(&mut self, embedding: &[f32]) {
        self.scales.push(0.0);
        self.numbers.resize(self.numbers.len() + self.dim, 0);
        self.set(self.len() - 1, embedding);
    }

    pub fn row(&self, index: usize) -> &[i16] {
        &self.numbers[index * self.dim..(index + 1) * self.dim]
    }

    /// A row as it was, but for rounding.
    pub fn embedding(&self, index: usize) -> impl Iterator<Item = f32> + '_ {
        let scale = self.scales[index];
        self.row(index).iter().map(move |number| scale * f32::from(*number))
    }

    /// The dot products of some rows with a query, in the order of `indices`.
    ///
    /// # Shapes
    /// `query`: `[dim]`; the result: `[indices]`
    pub fn similarities(&self, indices: &[u32], query: &[f32]) -> Vec<f32> {
        let mut similarities = vec![0.0; indices.len()];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has what the function is compiled for.
            unsafe { compare_avx2(self, indices, query, &mut similarities) };
            return similarities;
        }
        compare(self, indices, query, &mut similarities);
        similarities
    }

    /// Asks for where a row begins.
    #[inline(always)]
    fn prefetch_first(&self, index: u32) {
        #[cfg(target_arch = "x86_64")]
        if let Some(first) = self.row(index as usize).first() {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a hint about memory that is ours; it reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(first).cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = index;
    }

    /// Asks for a row that will be read soon: rows that are picked here and there are mostly in no cache.
    #[inline(always)]
    fn prefetch(&self, index: Option<&u32>) {
        #[cfg(target_arch = "x86_64")]
        if let Some(index) = index {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            const LINE: usize = 32;
            for line in self.row(*index as usize).chunks(LINE) {
                // SAFETY: a hint about memory that is ours; it reads nothing.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = index;
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn compare_avx2(rows: &Rows, indices: &[u32], query: &[f32], similarities: &mut [f32]) {
    compare(rows, indices, query, similarities);
}

/// A loop rather than a closure, which would not be compiled for the caller's processor.
#[inline(always)]
fn compare(rows: &Rows, indices: &[u32], query: &[f32], similarities: &mut [f32]) {
    const AHEAD: usize = 4;
    // The first of a row finds its page; the others can follow only then.
    indices.iter().for_each(|index| rows.prefetch_first(*index));
    for (at, (index, similarity)) in indices.iter().zip(similarities).enumerate() {
        rows.prefetch(indices.get(at + AHEAD));
        *similarity = rows.scales[*index as usize] * dot(rows.row(*index as usize), query);
    }
}

/// The same number on every processor: the lanes are fixed, and nothing is fused.
#[inline(always)]
fn dot(row: &[i16], query: &[f32]) -> f32 {
    const LANES: usize = 32;
    let mut sums = [0.0_f32; LANES];
    let (row_lanes, row_rest) = row.as_chunks::<LANES>();
    let (query_lanes, query_rest) = query.as_chunks::<LANES>();
    for (numbers, values) in row_lanes.iter().zip(query_lanes) {
        for lane in 0..LANES {
            sums[lane] += f32::from(numbers[lane]) * values[lane];
        }
    }
    for (lane, (number, value)) in row_rest.iter().zip(query_rest).enumerate() {
        sums[lane] += f32::from(*number) * value;
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn zeros_and_what_is_no_number_are_zero() {
        let rows = Rows::from_embeddings(&[0.0, 0.0, f32::NAN, 0.5], 2);
        assert_eq!(rows.similarities(&[0, 1], &[1.0, 1.0]), [0.0, 0.5]);
    }

    proptest! {
        #[test]
        fn a_similarity_is_that_of_the_exact_numbers(pairs in prop::collection::vec((-1.0_f32..1.0, -1.0_f32..1.0), 1..130)) {
            let (row, query): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            let rows = Rows::from_embeddings(&row, row.len());
            let expected: f64 = row.iter().zip(&query).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
            prop_assert!((f64::from(rows.similarities(&[0], &query)[0]) - expected).abs() < 1e-4 * row.len() as f64);
            prop_assert_eq!(dot(rows.row(0), &query) * rows.scales[0], rows.similarities(&[0], &query)[0]);
        }
    }
}
