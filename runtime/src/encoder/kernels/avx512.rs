//! Tiles with AVX-512 VNNI.

use std::arch::x86_64::{
    _MM_HINT_T0, _mm_prefetch, _mm512_dpbusd_epi32, _mm512_load_si512, _mm512_set1_epi32, _mm512_setzero_si512,
    _mm512_store_si512,
};

use super::{AHEAD, Line, MAX_ROWS, Tile};

/// # Safety
/// The processor has the features named at [`tile`]; `rows` has `count * stride` bytes, `count <= MAX_ROWS`, and `lines`
/// has two lines for every four bytes of `stride`.
pub(super) unsafe fn multiply(rows: &[u8], stride: usize, lines: &[Line], count: usize, out: &mut Tile) {
    let (rows, weights, steps) = (rows.as_ptr(), lines.as_ptr(), lines.len() / 2);
    macro_rules! choose {
        ($($rows:literal)*) => {
            match count {
                // SAFETY: passed on to the caller.
                $($rows => unsafe { tile::<$rows>(rows, stride, weights, steps, out) },)*
                _ => {}
            }
        };
    }
    choose!(1 2 3 4 5 6 7 8 9 10 11 12);
}

/// # Safety
/// The processor has the features; `rows` points to `ROWS` rows of `stride` bytes each, `4 * steps <= stride`, `weights`
/// to `2 * steps` lines, and `ROWS <= MAX_ROWS`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn tile<const ROWS: usize>(
    rows: *const u8,
    stride: usize,
    weights: *const Line,
    steps: usize,
    Tile(out): &mut Tile,
) {
    let mut sums = [[_mm512_setzero_si512(); 2]; ROWS];
    // Three rows share a pointer: more pointers than registers would be loaded anew in every step.
    let mut bases: [*const u8; MAX_ROWS / 3] = std::array::from_fn(|group| rows.wrapping_add(3 * group * stride));
    let mut weights = weights;
    for _ in 0..steps {
        // SAFETY: `weights` has advanced by two lines a step, and lines are aligned; the bases by four bytes a step.
        // Prefetching any address is allowed.
        unsafe {
            let left = _mm512_load_si512(weights.cast());
            let right = _mm512_load_si512(weights.add(1).cast());
            _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(AHEAD).cast());
            _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(AHEAD + 1).cast());
            for row in 0..ROWS {
                let four = bases[row / 3].add(row % 3 * stride).cast::<i32>().read_unaligned();
                let values = _mm512_set1_epi32(four);
                sums[row][0] = _mm512_dpbusd_epi32(sums[row][0], values, left);
                sums[row][1] = _mm512_dpbusd_epi32(sums[row][1], values, right);
            }
        }
        weights = weights.wrapping_add(2);
        bases.iter_mut().for_each(|base| *base = base.wrapping_add(4));
    }
    for (row, [left, right]) in out.iter_mut().zip(sums) {
        // SAFETY: a row of a tile is two vectors, aligned to a line.
        unsafe {
            _mm512_store_si512(row.as_mut_ptr().cast(), left);
            _mm512_store_si512(row.as_mut_ptr().add(16).cast(), right);
        }
    }
}
