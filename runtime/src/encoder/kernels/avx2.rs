//! Tiles with AVX2: sixteen outputs at a time, with AVX-VNNI where the processor has it.
//!
//! Without VNNI the products are added in 16-bit pairs of widened bytes; the byte instruction (`vpmaddubsw`) would
//! saturate for weights beyond 64.

use std::arch::x86_64::{
    __m128i, __m256i, _MM_HINT_T0, _mm_cvtepu8_epi16, _mm_cvtsi32_si128, _mm_load_si128, _mm_prefetch,
    _mm256_add_epi32, _mm256_broadcastq_epi64, _mm256_cvtepi8_epi16, _mm256_dpbusd_avx_epi32, _mm256_hadd_epi32,
    _mm256_load_si256, _mm256_madd_epi16, _mm256_permute4x64_epi64, _mm256_set1_epi32, _mm256_setzero_si256,
    _mm256_store_si256,
};

use super::{AHEAD, Line, Tile};

/// # Safety
/// The processor has AVX2 and AVX-VNNI; `rows` has `count * stride` bytes, `count <= MAX_ROWS`, and `lines` has two lines
/// for every four bytes of `stride`.
pub(super) unsafe fn multiply_vnni(rows: &[u8], stride: usize, lines: &[Line], count: usize, out: &mut Tile) {
    for half in 0..2 {
        let mut first = 0;
        while first < count {
            let (row, tile) = (rows[first * stride..].as_ptr(), &mut *out);
            // SAFETY: passed on to the caller; `first` and the rows after it are below `count`.
            first += unsafe {
                match count - first {
                    1 => vnni::<1>(row, stride, lines, (first, half), tile),
                    2 => vnni::<2>(row, stride, lines, (first, half), tile),
                    3 => vnni::<3>(row, stride, lines, (first, half), tile),
                    4 => vnni::<4>(row, stride, lines, (first, half), tile),
                    5 => vnni::<5>(row, stride, lines, (first, half), tile),
                    _ => vnni::<6>(row, stride, lines, (first, half), tile),
                }
            };
        }
    }
}

/// # Safety
/// The processor has AVX2; otherwise as [`multiply_vnni`].
pub(super) unsafe fn multiply(rows: &[u8], stride: usize, lines: &[Line], count: usize, out: &mut Tile) {
    for half in 0..2 {
        let mut first = 0;
        while first < count {
            let (row, tile) = (rows[first * stride..].as_ptr(), &mut *out);
            // SAFETY: as above.
            first += unsafe {
                match count - first {
                    1 => widened::<1>(row, stride, lines, (first, half), tile),
                    _ => widened::<2>(row, stride, lines, (first, half), tile),
                }
            };
        }
    }
}

/// # Safety
/// The processor has the features; `rows` points to `ROWS` rows of `stride` bytes, `lines` has two lines for every four of
/// them, and the tile has `ROWS` rows from the first on.
#[target_feature(enable = "avx2,avxvnni")]
#[expect(clippy::needless_range_loop, reason = "the index is that of a row of values as well")]
unsafe fn vnni<const ROWS: usize>(
    rows: *const u8,
    stride: usize,
    lines: &[Line],
    (first, half): (usize, usize),
    Tile(out): &mut Tile,
) -> usize {
    let mut sums = [[_mm256_setzero_si256(); 2]; ROWS];
    for (step, pair) in lines.chunks_exact(2).enumerate() {
        let weights: *const __m256i = pair[half].0.as_ptr().cast();
        // SAFETY: a line is two vectors and aligned, and every row has four bytes for this step.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(pair.as_ptr().wrapping_add(AHEAD + half).cast());
            let (left, right) = (_mm256_load_si256(weights), _mm256_load_si256(weights.add(1)));
            for row in 0..ROWS {
                let values = _mm256_set1_epi32(rows.add(row * stride + 4 * step).cast::<i32>().read_unaligned());
                sums[row][0] = _mm256_dpbusd_avx_epi32(sums[row][0], values, left);
                sums[row][1] = _mm256_dpbusd_avx_epi32(sums[row][1], values, right);
            }
        }
    }
    for (row, sums) in out[first..].iter_mut().zip(sums) {
        store(&mut row[half * 16..half * 16 + 16], sums);
    }
    ROWS
}

/// # Safety
/// As [`vnni`], without AVX-VNNI.
#[target_feature(enable = "avx2")]
#[expect(clippy::needless_range_loop, reason = "the index is that of a row of values as well")]
unsafe fn widened<const ROWS: usize>(
    rows: *const u8,
    stride: usize,
    lines: &[Line],
    (first, half): (usize, usize),
    Tile(out): &mut Tile,
) -> usize {
    // Four outputs a vector, each with the sum of its even and its odd pairs.
    let mut sums = [[_mm256_setzero_si256(); 4]; ROWS];
    for (step, pair) in lines.chunks_exact(2).enumerate() {
        let weights: *const __m128i = pair[half].0.as_ptr().cast();
        // SAFETY: a line is four vectors of 128 bits and aligned, and every row has four bytes for this step.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(pair.as_ptr().wrapping_add(AHEAD + half).cast());
            let weights: [__m256i; 4] =
                [0, 1, 2, 3].map(|quarter| _mm256_cvtepi8_epi16(_mm_load_si128(weights.add(quarter))));
            for row in 0..ROWS {
                let four = rows.add(row * stride + 4 * step).cast::<i32>().read_unaligned();
                let values = _mm256_broadcastq_epi64(_mm_cvtepu8_epi16(_mm_cvtsi32_si128(four)));
                for quarter in 0..4 {
                    let products = _mm256_madd_epi16(values, weights[quarter]);
                    sums[row][quarter] = _mm256_add_epi32(sums[row][quarter], products);
                }
            }
        }
    }
    for (row, sums) in out[first..].iter_mut().zip(sums) {
        let fold = |left, right| _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(left, right));
        store(&mut row[half * 16..half * 16 + 16], [fold(sums[0], sums[1]), fold(sums[2], sums[3])]);
    }
    ROWS
}

#[target_feature(enable = "avx2")]
fn store(row: &mut [i32], sums: [__m256i; 2]) {
    assert_eq!(row.len(), 16);
    // SAFETY: the row is two vectors; rows of a tile and their halves are aligned to a line.
    unsafe {
        _mm256_store_si256(row.as_mut_ptr().cast(), sums[0]);
        _mm256_store_si256(row.as_mut_ptr().add(8).cast(), sums[1]);
    }
}
