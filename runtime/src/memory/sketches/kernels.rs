//! The two inner loops of [`super::Sketches`], each in plain code and for AVX-512.
//!
//! Invariant: both give the same integers.

/// Rows whose words lie together, so that one vector register holds a word of each.
pub(super) const LANES: usize = 8;
/// Rows that are compared before the near ones are picked; their distances stay in the first-level cache.
const CHUNK: usize = 2048;
/// How far ahead a row is asked for: those that are near lie here and there, mostly in no near cache.
const AHEAD: usize = 16;

/// The distances of all rows of some blocks.
///
/// # Shapes
/// `blocks`: `[rows / LANES, words, LANES]`, `sketch`: `[words]`, `distances`: `[rows]`
pub(super) fn compare(blocks: &[u64], sketch: &[u64], distances: &mut [u16]) {
    #[cfg(target_arch = "x86_64")]
    if has_avx512() {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { avx512::compare(blocks, sketch, distances) };
    }
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("popcnt") {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { compare_popcnt(blocks, sketch, distances) };
    }
    compare_blocks(blocks, sketch, distances);
}

/// Adds the rows within a distance in the order of their numbers, the first of which is `first`.
///
/// # Shapes
/// `blocks`: `[rows / LANES, words, LANES]`, `sketch`: `[words]`
pub(super) fn within(blocks: &[u64], sketch: &[u64], limit: u16, first: usize, near: &mut Vec<u32>) {
    #[cfg(target_arch = "x86_64")]
    if has_avx512() {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { avx512::within(blocks, sketch, limit, first as u32, near) };
    }
    let words = sketch.len().max(1);
    let mut distances = [0_u16; CHUNK];
    for (blocks, first) in blocks.chunks(CHUNK * words).zip((first..).step_by(CHUNK)) {
        let rows = blocks.len() / words;
        compare(blocks, sketch, &mut distances[..rows]);
        pick(&distances[..rows], limit, first, near);
    }
}

/// A query's numbers for the scores of sketches.
#[derive(Debug)]
pub(super) struct Weights {
    /// # Shapes
    /// `[words * 64]`
    weights: Vec<i8>,
    /// The sum of the weights for every value of every byte of a sketch; empty where vectors do without.
    ///
    /// # Shapes
    /// `[words * 8, 256]`
    sums: Vec<[i16; 256]>,
}

/// How far a query's numbers are from the centre, the largest being 127.
pub(super) fn eight_bits<'a>(query: &'a [f32], centre: &'a [f32]) -> impl Iterator<Item = i8> + 'a {
    let largest =
        query.iter().zip(centre).fold(0.0_f32, |largest, (number, centre)| largest.max((number - centre).abs()));
    let steps = if largest > 0.0 { f32::from(i8::MAX) / largest } else { 0.0 };
    // `as` saturates, and makes zero of what is no number.
    query.iter().zip(centre).map(move |(number, centre)| ((number - centre) * steps).round() as i8)
}

impl Weights {
    /// # Shapes
    /// `query` and `centre`: `[dim]`
    pub fn of(query: &[f32], centre: &[f32]) -> Self {
        let mut weights: Vec<i8> = eight_bits(query, centre).collect();
        weights.resize(weights.len().next_multiple_of(64), 0);
        #[cfg(target_arch = "x86_64")]
        if has_avx512() {
            return Self { weights, sums: Vec::new() };
        }
        let sums = sums(&weights);
        Self { weights, sums }
    }

    /// Adds the scores of some rows: of each the sum of the weights where it has a one.
    ///
    /// # Shapes
    /// `rows`: `[rows, words]`
    pub fn score(&self, rows: &[u64], numbers: &[u32], scored: &mut Vec<(i32, u32)>) {
        scored.reserve(numbers.len());
        #[cfg(target_arch = "x86_64")]
        if has_avx512() {
            // SAFETY: the processor has what the function is compiled for.
            return unsafe { avx512::score(&self.weights, rows, numbers, scored) };
        }
        let words = self.weights.len() / 64;
        for number in numbers {
            let row = &rows[*number as usize * words..][..words];
            scored.push((score_row(&self.sums, row), *number));
        }
    }
}

fn sums(weights: &[i8]) -> Vec<[i16; 256]> {
    let of_byte = |weights: &[i8; 8]| {
        let mut sums = [0_i16; 256];
        for value in 1..256_usize {
            // The sum without the lowest bit is known already.
            sums[value] = sums[value & (value - 1)] + i16::from(weights[value.trailing_zeros() as usize]);
        }
        sums
    };
    weights.as_chunks::<8>().0.iter().map(of_byte).collect()
}

fn score_row(sums: &[[i16; 256]], row: &[u64]) -> i32 {
    let bytes = row.iter().flat_map(|word| word.to_le_bytes());
    sums.iter().zip(bytes).map(|(sums, byte)| i32::from(sums[usize::from(byte)])).sum()
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512vpopcntdq")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
}

/// Eight rows a register, or eight bytes a lane of one.
#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        __m512i, _MM_HINT_T0, _mm_prefetch, _mm_storeu_si128, _mm512_add_epi16, _mm512_add_epi64,
        _mm512_cmple_epu64_mask, _mm512_cvtepi64_epi16, _mm512_loadu_si512, _mm512_madd_epi16, _mm512_maddubs_epi16,
        _mm512_maskz_mov_epi8, _mm512_popcnt_epi64, _mm512_reduce_add_epi32, _mm512_set1_epi8, _mm512_set1_epi16,
        _mm512_set1_epi64, _mm512_setzero_si512, _mm512_xor_si512,
    };

    use super::{AHEAD, LANES};

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vpopcntdq")]
    pub fn compare(blocks: &[u64], sketch: &[u64], distances: &mut [u16]) {
        let blocks = blocks.as_chunks::<LANES>().0.chunks_exact(sketch.len().max(1));
        for (block, distances) in blocks.zip(distances.as_chunks_mut::<LANES>().0) {
            // SAFETY: eight 16-bit numbers are the 16 bytes of a register.
            unsafe { _mm_storeu_si128(distances.as_mut_ptr().cast(), _mm512_cvtepi64_epi16(bits(block, sketch))) };
        }
    }

    /// Loops over the words of a row cost as much as what they do: for the usual numbers of words there are none.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vpopcntdq")]
    pub fn within(blocks: &[u64], sketch: &[u64], limit: u16, first: u32, near: &mut Vec<u32>) {
        macro_rules! of_words {
            ($($words:literal)*) => {
                match sketch.len() {
                    $($words => {
                        let mut query = [0; $words];
                        query.copy_from_slice(sketch);
                        for (block, first) in blocks.as_chunks::<LANES>().0.as_chunks::<$words>().0.iter().zip((first..).step_by(LANES)) {
                            pick(bits(block, &query), limit, first, near);
                        }
                    })*
                    words => {
                        let blocks = blocks.as_chunks::<LANES>().0.chunks_exact(words.max(1));
                        for (block, first) in blocks.zip((first..).step_by(LANES)) {
                            pick(bits(block, sketch), limit, first, near);
                        }
                    }
                }
            };
        }
        of_words!(3 4 6 8);
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vpopcntdq")]
    fn pick(bits: __m512i, limit: u16, first: u32, near: &mut Vec<u32>) {
        let mut lanes = _mm512_cmple_epu64_mask(bits, _mm512_set1_epi64(i64::from(limit)));
        while lanes != 0 {
            near.push(first + lanes.trailing_zeros());
            lanes &= lanes - 1;
        }
    }

    /// How many bits of each of the eight rows differ.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vpopcntdq")]
    fn bits(block: &[[u64; LANES]], sketch: &[u64]) -> __m512i {
        let mut bits = _mm512_setzero_si512();
        for (words, query) in block.iter().zip(sketch) {
            // SAFETY: eight words are the 64 bytes of a register.
            let words = unsafe { _mm512_loadu_si512(words.as_ptr().cast()) };
            let differing = _mm512_xor_si512(words, _mm512_set1_epi64(query.cast_signed()));
            bits = _mm512_add_epi64(bits, _mm512_popcnt_epi64(differing));
        }
        bits
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vpopcntdq")]
    pub fn score(weights: &[i8], rows: &[u64], numbers: &[u32], scored: &mut Vec<(i32, u32)>) {
        let weights = weights.as_chunks::<64>().0;
        macro_rules! of_words {
            ($($words:literal)*) => {
                match weights.len() {
                    $($words => {
                        let mut copy = [[0; 64]; $words];
                        copy.copy_from_slice(weights);
                        let rows = rows.as_chunks::<$words>().0;
                        for (at, number) in numbers.iter().enumerate() {
                            ask_for(numbers.get(at + AHEAD).map(|ahead| rows[*ahead as usize].as_slice()));
                            scored.push((sum(&copy, &rows[*number as usize]), *number));
                        }
                    })*
                    words => for (at, number) in numbers.iter().enumerate() {
                        let row = |number: &u32| &rows[*number as usize * words..][..words];
                        ask_for(numbers.get(at + AHEAD).map(row));
                        scored.push((sum(weights, row(number)), *number));
                    }
                }
            };
        }
        of_words!(4 6 8 12);
    }

    #[inline]
    fn ask_for(row: Option<&[u64]>) {
        let Some(row) = row else { return };
        // A row may begin in the middle of a cache line.
        for word in row.iter().step_by(LANES).chain(row.last()) {
            // SAFETY: a hint about memory that is ours; it reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(word).cast()) };
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vpopcntdq")]
    fn sum(weights: &[[i8; 64]], row: &[u64]) -> i32 {
        /// Words after which pairs of weights could exceed 16 bits.
        const MOST: usize = 128;
        let ones = _mm512_set1_epi8(1);
        let mut total = 0;
        for (weights, row) in weights.chunks(MOST).zip(row.chunks(MOST)) {
            let mut pairs = _mm512_setzero_si512();
            for (weights, bits) in weights.iter().zip(row) {
                // SAFETY: 64 weights are the 64 bytes of a register.
                let weights = unsafe { _mm512_loadu_si512(weights.as_ptr().cast()) };
                pairs = _mm512_add_epi16(pairs, _mm512_maddubs_epi16(_mm512_maskz_mov_epi8(*bits, ones), weights));
            }
            total += _mm512_reduce_add_epi32(_mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
        }
        total
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "popcnt")]
fn compare_popcnt(blocks: &[u64], sketch: &[u64], distances: &mut [u16]) {
    compare_blocks(blocks, sketch, distances);
}

#[inline(always)]
fn compare_blocks(blocks: &[u64], sketch: &[u64], distances: &mut [u16]) {
    let blocks = blocks.as_chunks::<LANES>().0.chunks_exact(sketch.len().max(1));
    for (block, distances) in blocks.zip(distances.chunks_exact_mut(LANES)) {
        differing_bits(block, sketch, distances);
    }
}

#[inline(always)]
fn differing_bits(block: &[[u64; LANES]], sketch: &[u64], distances: &mut [u16]) {
    let mut bits = [0_u64; LANES];
    for (words, query) in block.iter().zip(sketch) {
        for lane in 0..LANES {
            bits[lane] += u64::from((words[lane] ^ query).count_ones());
        }
    }
    distances.iter_mut().zip(bits).for_each(|(distance, bits)| *distance = bits as u16);
}

/// Adds the rows within a distance.
fn pick(distances: &[u16], limit: u16, first: usize, near: &mut Vec<u32>) {
    const GROUP: usize = 32;
    for (group, distances) in distances.chunks(GROUP).enumerate() {
        // Mostly none is: one comparison of vectors passes over the group.
        if !distances.iter().fold(false, |any, distance| any | (*distance <= limit)) {
            continue;
        }
        for (lane, _) in distances.iter().enumerate().filter(|(_, distance)| **distance <= limit) {
            near.push((first + group * GROUP + lane) as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_processor_counts_the_same(words in prop::collection::vec(any::<u64>(), 6 * 5 * LANES), sketch in prop::array::uniform6(any::<u64>()), limit in 150_u16..220) {
            let (mut plain, mut fast) = ([0; 5 * LANES], [0; 5 * LANES]);
            compare_blocks(&words, &sketch, &mut plain);
            compare(&words, &sketch, &mut fast);
            prop_assert_eq!(plain, fast);
            let (mut picked, mut near) = (Vec::new(), Vec::new());
            pick(&plain, limit, 3, &mut picked);
            within(&words, &sketch, limit, 3, &mut near);
            prop_assert_eq!(picked, near);
        }

        #[test]
        fn every_processor_scores_the_same(rows in prop::collection::vec(any::<u64>(), 20 * 3), query in prop::collection::vec(-1.0_f32..1.0, 129..=192)) {
            let weights = Weights::of(&query, &vec![0.1; query.len()]);
            let numbers: Vec<u32> = (0..20).rev().collect();
            let mut scored = Vec::new();
            weights.score(&rows, &numbers, &mut scored);
            let sums = sums(&weights.weights);
            let expected: Vec<(i32, u32)> =
                numbers.iter().map(|number| (score_row(&sums, &rows[*number as usize * 3..][..3]), *number)).collect();
            prop_assert_eq!(scored, expected);
        }
    }

    #[test]
    fn the_widest_sums_fit() {
        let weights = Weights::of(&[1.0; 20_000], &[0.0; 20_000]);
        let rows = vec![u64::MAX; 20_000_usize.div_ceil(64)];
        let mut scored = Vec::new();
        weights.score(&rows, &[0], &mut scored);
        assert_eq!(scored, [(20_000 * 127, 0)]);
    }
}
