//! Vectors as 8-bit integers with one scale a row, a quarter of the memory of f32: remembered embeddings, prototypes, and the
//! weights of the function head.
//!
//! The largest number of a row is 127 steps from zero, and each is off by half a step at most. Of rows of 384 numbers, as
//! embeddings have them, a cosine similarity is off by 0.0005 (one standard deviation): a tenth of what an encoder in int8 is
//! off by. They are compared with a [`Query`] of 16-bit integers.

use crate::pages;

/// Rows of `dim` numbers.
///
/// # Shapes
/// `scales`: `[rows]`, `numbers`: `[rows, dim]`
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Rows {
    pub dim: usize,
    pub scales: Vec<f32>,
    pub numbers: Vec<i8>,
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
        let scale = largest / f32::from(i8::MAX);
        let steps = if scale > 0.0 { scale.recip() } else { 0.0 };
        self.scales[index] = scale;
        let row = &mut self.numbers[index * self.dim..(index + 1) * self.dim];
        // `as` saturates, and makes zero of what is no number.
        row.iter_mut().zip(embedding).for_each(|(number, value)| *number = (value * steps).round() as i8);
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

    pub fn row(&self, index: usize) -> &[i8] {
        &self.numbers[index * self.dim..(index + 1) * self.dim]
    }

    /// A row as it was, but for rounding.
    pub fn embedding(&self, index: usize) -> impl Iterator<Item = f32> + '_ {
        let scale = self.scales[index];
        self.row(index).iter().map(move |number| scale * f32::from(*number))
    }

    /// The dot products of some rows with a query of the same width, in the order of `indices`.
    ///
    /// # Shapes
    /// the result: `[indices]`
    pub fn similarities(&self, indices: &[u32], query: &Query) -> Vec<f32> {
        let mut similarities = vec![0.0; indices.len()];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512bw") {
            // SAFETY: the processor has what the function is compiled for.
            unsafe { compare_avx512(self, indices, query, &mut similarities) };
            return similarities;
        }
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has what the function is compiled for.
            unsafe { compare_avx2(self, indices, query, &mut similarities) };
            return similarities;
        }
        compare(self, indices, query, &mut similarities, dot);
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
            const LINE: usize = 64;
            for line in self.row(*index as usize).chunks(LINE) {
                // SAFETY: a hint about memory that is ours; it reads nothing.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = index;
    }
}

/// What rows are compared with: as exact as f32 beside the rows' 8 bits, and multiplied as integers, whose sum is the same in any
/// order.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    /// # Shapes
    /// `[dim]`
    numbers: Vec<i16>,
    scale: f32,
}

impl Query {
    /// # Shapes
    /// `embedding`: `[dim]`
    pub fn of(embedding: &[f32]) -> Self {
        // The sum of the products of a row and a query, each as large as can be, is an `i32`.
        let most = i32::MAX / i32::from(i8::MAX) / embedding.len().max(1) as i32;
        let most = most.min(i32::from(i16::MAX)) as f32;
        let largest = embedding.iter().fold(0.0_f32, |largest, number| largest.max(number.abs()));
        let steps = if largest > 0.0 { most / largest } else { 0.0 };
        // A sum with so large a number has no fraction; rounding itself is a call for each number on processors of any age. `as`
        // saturates, and makes zero of what is no number.
        const NO_FRACTION: f32 = 12_582_912.0;
        let numbers = embedding.iter().map(|number| (number * steps + NO_FRACTION - NO_FRACTION) as i16).collect();
        Self { numbers, scale: if steps > 0.0 { steps.recip() } else { 0.0 } }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn compare_avx512(rows: &Rows, indices: &[u32], query: &Query, similarities: &mut [f32]) {
    compare(rows, indices, query, similarities, |row, query| avx512::dot(row, query));
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn compare_avx2(rows: &Rows, indices: &[u32], query: &Query, similarities: &mut [f32]) {
    compare(rows, indices, query, similarities, |row, query| avx2::dot(row, query));
}

#[inline(always)]
fn compare(rows: &Rows, indices: &[u32], query: &Query, similarities: &mut [f32], dot: impl Fn(&[i8], &[i16]) -> i32) {
    const AHEAD: usize = 4;
    // The first of a row finds its page; the others can follow only then.
    indices.iter().for_each(|index| rows.prefetch_first(*index));
    for (at, (index, similarity)) in indices.iter().zip(similarities).enumerate() {
        rows.prefetch(indices.get(at + AHEAD));
        let dot = dot(rows.row(*index as usize), &query.numbers);
        *similarity = rows.scales[*index as usize] * query.scale * dot as f32;
    }
}

fn dot(row: &[i8], query: &[i16]) -> i32 {
    row.iter().zip(query).map(|(number, value)| i32::from(*number) * i32::from(*value)).sum()
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        __m512i, _mm256_loadu_si256, _mm512_add_epi32, _mm512_cvtepi8_epi16, _mm512_dpwssd_epi32, _mm512_loadu_si512,
        _mm512_reduce_add_epi32, _mm512_setzero_si512,
    };

    /// Numbers of a register.
    const LANES: usize = 32;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub fn dot(row: &[i8], query: &[i16]) -> i32 {
        let (row_lanes, row_rest) = row.as_chunks::<LANES>();
        let (query_lanes, query_rest) = query.as_chunks::<LANES>();
        let (row_pairs, row_last) = row_lanes.as_chunks::<2>();
        let (query_pairs, query_last) = query_lanes.as_chunks::<2>();
        // Two sums with a name each: those of an array are kept in memory.
        let (mut even, mut odd) = (_mm512_setzero_si512(), _mm512_setzero_si512());
        for (numbers, values) in row_pairs.iter().zip(query_pairs) {
            even = with_products(even, &numbers[0], &values[0]);
            odd = with_products(odd, &numbers[1], &values[1]);
        }
        for (numbers, values) in row_last.iter().zip(query_last) {
            even = with_products(even, numbers, values);
        }
        let rest = row_rest.iter().zip(query_rest).map(|(number, value)| i32::from(*number) * i32::from(*value));
        _mm512_reduce_add_epi32(_mm512_add_epi32(even, odd)) + rest.sum::<i32>()
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn with_products(sums: __m512i, numbers: &[i8; LANES], values: &[i16; LANES]) -> __m512i {
        // SAFETY: the 32 bytes that are loaded are the 32 numbers, the 64 the 32 values.
        let (numbers, values) =
            unsafe { (_mm256_loadu_si256(numbers.as_ptr().cast()), _mm512_loadu_si512(values.as_ptr().cast())) };
        _mm512_dpwssd_epi32(sums, _mm512_cvtepi8_epi16(numbers), values)
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m256i, _mm_loadu_si128, _mm256_add_epi32, _mm256_cvtepi8_epi16, _mm256_loadu_si256, _mm256_madd_epi16,
        _mm256_setzero_si256, _mm256_storeu_si256,
    };

    /// Numbers of a register.
    const LANES: usize = 16;
    /// Sums side by side, so that none waits for the one before.
    const SUMS: usize = 4;

    /// In intrinsics, because the plain loop is turned into a heap of moves.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn dot(row: &[i8], query: &[i16]) -> i32 {
        let (numbers, values) = (row.as_chunks::<LANES>().0, query.as_chunks::<LANES>().0);
        let mut sums = [_mm256_setzero_si256(); SUMS];
        for (numbers, values) in numbers.chunks(SUMS).zip(values.chunks(SUMS)) {
            for (sum, (numbers, values)) in sums.iter_mut().zip(numbers.iter().zip(values)) {
                *sum = _mm256_add_epi32(*sum, products(numbers, values));
            }
        }
        let sum = sums.into_iter().fold(_mm256_setzero_si256(), |all, sum| _mm256_add_epi32(all, sum));
        let mut eight = [0_i32; 8];
        // SAFETY: eight 32-bit numbers are the 32 bytes of a register.
        unsafe { _mm256_storeu_si256(eight.as_mut_ptr().cast(), sum) };
        let rest = row.as_chunks::<LANES>().1.iter().zip(query.as_chunks::<LANES>().1);
        eight.iter().sum::<i32>() + rest.map(|(number, value)| i32::from(*number) * i32::from(*value)).sum::<i32>()
    }

    /// The products of sixteen numbers, of two neighbours in one sum.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn products(numbers: &[i8; LANES], values: &[i16; LANES]) -> __m256i {
        // SAFETY: the 16 bytes that are loaded are the sixteen numbers, the 32 the sixteen values.
        let (numbers, values) =
            unsafe { (_mm_loadu_si128(numbers.as_ptr().cast()), _mm256_loadu_si256(values.as_ptr().cast())) };
        _mm256_madd_epi16(_mm256_cvtepi8_epi16(numbers), values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn zeros_and_what_is_no_number_are_zero() {
        let rows = Rows::from_embeddings(&[0.0, 0.0, f32::NAN, 0.5], 2);
        assert_eq!(rows.similarities(&[0, 1], &Query::of(&[1.0, 1.0])), [0.0, 0.5]);
    }

    #[test]
    fn no_sum_is_too_large() {
        for dim in [1, 384, 768, 4096] {
            let rows = Rows::from_embeddings(&vec![-1.0; dim], dim);
            let similarity = rows.similarities(&[0], &Query::of(&vec![1.0; dim]))[0];
            assert!((similarity / dim as f32 + 1.0).abs() < 1e-3, "{dim}: {similarity}");
        }
    }

    proptest! {
        #[test]
        fn a_similarity_is_that_of_the_exact_numbers(pairs in prop::collection::vec((-1.0_f32..1.0, -1.0_f32..1.0), 1..130)) {
            let (row, query): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            let rows = Rows::from_embeddings(&row, row.len());
            let expected: f64 = row.iter().zip(&query).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
            let query = Query::of(&query);
            let similarity = rows.similarities(&[0], &query)[0];
            // Half a step of each number, by numbers of one at most.
            prop_assert!((f64::from(similarity) - expected).abs() < 0.501 / 127.0 * row.len() as f64);
            prop_assert_eq!(rows.scales[0] * query.scale * dot(rows.row(0), &query.numbers) as f32, similarity);
        }
    }
}
