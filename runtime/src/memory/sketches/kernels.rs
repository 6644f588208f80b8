//! The two inner loops of [`super::Sketches`], each in plain code and for AVX-512.
//!
//! Invariant: both give the same integers.

/// Rows whose words lie together, so that one vector register holds a word of each.
pub(super) const LANES: usize = 8;

/// A word of what rows are compared with: its bits, and how much each of them counts, as the planes of a binary number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Word<const PLANES: usize> {
    pub bits: u64,
    pub planes: [u64; PLANES],
}

impl Word<1> {
    /// All bits count one.
    pub fn plain(bits: u64) -> Self {
        Self { bits, planes: [u64::MAX] }
    }
}

/// The distances of all rows of some blocks: what the bits count that differ.
///
/// # Shapes
/// `blocks`: `[rows / LANES, words, LANES]`, `query`: `[words]`, `distances`: `[rows]`
pub(super) fn compare<const PLANES: usize>(blocks: &[u64], query: &[Word<PLANES>], distances: &mut [u16]) {
    #[cfg(target_arch = "x86_64")]
    if has_avx512() {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { avx512::compare(blocks, query, distances) };
    }
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("popcnt") {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { compare_popcnt(blocks, query, distances) };
    }
    compare_blocks(blocks, query, distances);
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
        __m512i, _mm_cvtsi32_si128, _mm_storeu_si128, _mm512_add_epi64, _mm512_and_si512, _mm512_cmple_epu16_mask,
        _mm512_cvtepi64_epi16, _mm512_loadu_si512, _mm512_mask_cmple_epu16_mask, _mm512_maskz_loadu_epi16,
        _mm512_popcnt_epi64, _mm512_set1_epi16, _mm512_set1_epi64, _mm512_setzero_si512, _mm512_sll_epi64,
        _mm512_xor_si512,
    };

    use super::{LANES, Word};

    /// Loops over the words of a row cost as much as what they do: for the usual numbers of words there are none.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vpopcntdq")]
    pub fn compare<const PLANES: usize>(blocks: &[u64], query: &[Word<PLANES>], distances: &mut [u16]) {
        let lanes = blocks.as_chunks::<LANES>().0;
        let distances = distances.as_chunks_mut::<LANES>().0;
        macro_rules! of_words {
            ($($words:literal)*) => {
                match query.len() {
                    $($words => {
                        let mut fixed = [Word { bits: 0, planes: [0; PLANES] }; $words];
                        fixed.copy_from_slice(query);
                        for (block, distances) in lanes.as_chunks::<$words>().0.iter().zip(distances) {
                            store(differing(block, &fixed), distances);
                        }
                    })*
                    words => {
                        for (block, distances) in lanes.chunks_exact(words.max(1)).zip(distances) {
                            store(differing(block, query), distances);
                        }
                    }
                }
            };
        }
        of_words!(4 6 8 12);
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn store(bits: __m512i, distances: &mut [u16; LANES]) {
        // SAFETY: eight 16-bit numbers are the 16 bytes of a register.
        unsafe { _mm_storeu_si128(distances.as_mut_ptr().cast(), _mm512_cvtepi64_epi16(bits)) };
    }

    /// Distances of a register.
    const GROUP: usize = 32;

    #[target_feature(enable = "avx512f,avx512bw")]
    pub fn within(distances: &[u16], limit: u16) -> usize {
        let limits = _mm512_set1_epi16(limit.cast_signed());
        let (groups, rest) = distances.as_chunks::<GROUP>();
        let within = groups.iter().map(|group| {
            // SAFETY: 32 distances are the 64 bytes of a register.
            let group = unsafe { _mm512_loadu_si512(group.as_ptr().cast()) };
            _mm512_cmple_epu16_mask(group, limits).count_ones() as usize
        });
        within.sum::<usize>() + rest.iter().filter(|distance| **distance <= limit).count()
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    pub fn pick(distances: &[u16], limit: u16, near: &mut Vec<u32>) {
        let limits = _mm512_set1_epi16(limit.cast_signed());
        for (group, first) in distances.chunks(GROUP).zip((0..).step_by(GROUP)) {
            let valid = u32::MAX >> (GROUP - group.len());
            // SAFETY: no distance is read beyond those that are valid.
            let group = unsafe { _mm512_maskz_loadu_epi16(valid, group.as_ptr().cast()) };
            let mut within = _mm512_mask_cmple_epu16_mask(valid, group, limits);
            while within != 0 {
                near.push(first + within.trailing_zeros());
                within &= within - 1;
            }
        }
    }

    /// What the bits count in which each of the eight rows differs.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vpopcntdq")]
    fn differing<const PLANES: usize>(block: &[[u64; LANES]], query: &[Word<PLANES>]) -> __m512i {
        let mut sums = [_mm512_setzero_si512(); PLANES];
        for (words, query) in block.iter().zip(query) {
            // SAFETY: eight words are the 64 bytes of a register.
            let words = unsafe { _mm512_loadu_si512(words.as_ptr().cast()) };
            let bits = _mm512_xor_si512(words, _mm512_set1_epi64(query.bits.cast_signed()));
            for (sum, plane) in sums.iter_mut().zip(query.planes) {
                let bits = _mm512_and_si512(bits, _mm512_set1_epi64(plane.cast_signed()));
                *sum = _mm512_add_epi64(*sum, _mm512_popcnt_epi64(bits));
            }
        }
        sums.into_iter().zip(0..).fold(_mm512_setzero_si512(), |all, (sum, plane)| {
            _mm512_add_epi64(all, _mm512_sll_epi64(sum, _mm_cvtsi32_si128(plane)))
        })
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "popcnt")]
fn compare_popcnt<const PLANES: usize>(blocks: &[u64], query: &[Word<PLANES>], distances: &mut [u16]) {
    compare_blocks(blocks, query, distances);
}

#[inline(always)]
fn compare_blocks<const PLANES: usize>(blocks: &[u64], query: &[Word<PLANES>], distances: &mut [u16]) {
    let blocks = blocks.as_chunks::<LANES>().0.chunks_exact(query.len().max(1));
    for (block, distances) in blocks.zip(distances.chunks_exact_mut(LANES)) {
        differing_bits(block, query, distances);
    }
}

#[inline(always)]
fn differing_bits<const PLANES: usize>(block: &[[u64; LANES]], query: &[Word<PLANES>], distances: &mut [u16]) {
    let mut sums = [0_u64; LANES];
    for (words, query) in block.iter().zip(query) {
        for lane in 0..LANES {
            let bits = words[lane] ^ query.bits;
            for (plane, mask) in query.planes.iter().enumerate() {
                sums[lane] += u64::from((bits & mask).count_ones()) << plane;
            }
        }
    }
    distances.iter_mut().zip(sums).for_each(|(distance, sum)| *distance = sum as u16);
}

/// Asks for where words begin, of which many others will be read before.
pub(super) fn ask_for_page(words: &[u64]) {
    ask_for(words.get(..1).unwrap_or_default());
}

/// Asks for words that will be read soon, as far as they are few.
pub(super) fn ask_for(words: &[u64]) {
    /// What is asked for too early is gone again.
    const MOST: usize = 64;
    #[cfg(target_arch = "x86_64")]
    for word in words.iter().step_by(LANES).take(MOST) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint about memory that is ours; it reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(word).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = words;
}

/// The least distance within which `count` are; the greatest of all where there are fewer.
pub(super) fn limit(distances: &[u16], count: usize) -> u16 {
    let (mut least, mut most) = (0, distances.iter().fold(0, |most, distance| most.max(*distance)));
    while least < most {
        let middle = least + (most - least) / 2;
        if within(distances, middle) < count { least = middle + 1 } else { most = middle }
    }
    most
}

/// How many distances are within the limit.
fn within(distances: &[u16], limit: u16) -> usize {
    #[cfg(target_arch = "x86_64")]
    if has_avx512() {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { avx512::within(distances, limit) };
    }
    // A sum as wide as the distances, so that as many of them are counted at once as can be compared at once.
    let counted = |distances: &[u16]| distances.iter().map(|distance| u16::from(*distance <= limit)).sum::<u16>();
    distances.chunks(usize::from(u16::MAX)).map(|distances| usize::from(counted(distances))).sum()
}

/// Adds which distances are within the limit.
pub(super) fn pick(distances: &[u16], limit: u16, near: &mut Vec<u32>) {
    #[cfg(target_arch = "x86_64")]
    if has_avx512() {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { avx512::pick(distances, limit, near) };
    }
    pick_groups(distances, limit, near);
}

fn pick_groups(distances: &[u16], limit: u16, near: &mut Vec<u32>) {
    const GROUP: usize = 32;
    for (group, first) in distances.chunks(GROUP).zip((0..).step_by(GROUP)) {
        // One comparison of vectors passes over a group without any.
        if group.iter().fold(false, |any, distance| any | (*distance <= limit)) {
            near.extend((first..).zip(group).filter(|(_, distance)| **distance <= limit).map(|(at, _)| at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_processor_counts_the_same(words in prop::collection::vec(any::<u64>(), 6 * 5 * LANES), query in prop::array::uniform6(any::<[u64; 3]>()), limit in 150_u16..320, rows in 0..=5 * LANES) {
            let (mut plain, mut fast) = ([0; 5 * LANES], [0; 5 * LANES]);
            compare_blocks(&words, &query.map(|[bits, ..]| Word::plain(bits)), &mut plain);
            compare(&words, &query.map(|[bits, ..]| Word::plain(bits)), &mut fast);
            prop_assert_eq!(plain, fast);
            let differing = (0..6).map(|word| (words[word * LANES] ^ query[word][0]).count_ones()).sum::<u32>();
            prop_assert_eq!(u32::from(plain[0]), differing, "every bit counts one");
            let weighed = query.map(|[bits, ones, twos]| Word { bits, planes: [ones, twos] });
            compare_blocks(&words, &weighed, &mut plain);
            compare(&words, &weighed, &mut fast);
            prop_assert_eq!(plain, fast);
            let plain = &plain[..rows];
            let (mut picked, mut again) = (Vec::new(), Vec::new());
            pick_groups(plain, limit, &mut picked);
            pick(plain, limit, &mut again);
            let near = (0..).zip(plain).filter(|(_, distance)| **distance <= limit).map(|(number, _)| number);
            prop_assert_eq!(&picked, &near.collect::<Vec<u32>>());
            prop_assert_eq!(picked, again);
        }

        #[test]
        fn as_many_as_wanted_are_within_the_limit(distances in prop::collection::vec(0_u16..40, 0..200), count in 0_usize..220) {
            let limit = limit(&distances, count);
            let within = distances.iter().filter(|distance| **distance <= limit).count();
            prop_assert!(within >= count.min(distances.len()));
            let nearer = distances.iter().filter(|distance| **distance < limit).count();
            prop_assert!(nearer == 0 || nearer < count);
        }
    }
}
