//! Dot products in f32, with wide registers where the processor has them.
//!
//! Invariant: the products are added up in the same order whatever the registers are, so that every processor has the same
//! result.

/// Running sums: a single one would fix the order of additions, and few would wait for each other.
const LANES: usize = 32;

/// The dot product of two vectors of the same width.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (a_lanes, b_lanes) = (a.as_chunks::<LANES>().0, b.as_chunks::<LANES>().0);
    for (a, b) in a_lanes.iter().zip(b_lanes) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    added(sums, a, b)
}

/// The dot products of rows with a vector of the same width, in their order.
pub(crate) fn dots<'a>(rows: impl Iterator<Item = &'a [f32]>, vector: &[f32]) -> Vec<f32> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has what the function is compiled for.
        return rows.map(|row| unsafe { avx512::dot(row, vector) }).collect();
    }
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has what the function is compiled for.
        return rows.map(|row| unsafe { avx2::dot(row, vector) }).collect();
    }
    rows.map(|row| dot(row, vector)).collect()
}

/// The sum of the lanes, and of what is left of the vectors.
#[inline(always)]
fn added(mut sums: [f32; LANES], a: &[f32], b: &[f32]) -> f32 {
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        let (low, high) = sums.split_at_mut(width);
        low.iter_mut().zip(high).for_each(|(low, high)| *low += *high);
    }
    sums[0] + rest(a, b)
}

/// What the lanes leave of the vectors.
#[inline(always)]
fn rest(a: &[f32], b: &[f32]) -> f32 {
    a.as_chunks::<LANES>().1.iter().zip(b.as_chunks::<LANES>().1).map(|(a, b)| a * b).sum()
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehl_ps, _mm_shuffle_ps, _mm512_add_ps, _mm512_castps512_ps128,
        _mm512_loadu_ps, _mm512_mul_ps, _mm512_setzero_ps, _mm512_shuffle_f32x4,
    };

    use super::{LANES, rest};

    /// Numbers of a register.
    const WIDTH: usize = LANES / 2;

    /// The halves of the sums are added as [`super::added`] does.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub fn dot(a: &[f32], b: &[f32]) -> f32 {
        // Two sums with a name each: those of an array are kept in memory.
        let (mut low, mut high) = (_mm512_setzero_ps(), _mm512_setzero_ps());
        for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
            // SAFETY: sixteen numbers are the 64 bytes of a register, and there are twice as many.
            let load = |numbers: &[f32; LANES]| unsafe {
                (_mm512_loadu_ps(numbers.as_ptr()), _mm512_loadu_ps(numbers[WIDTH..].as_ptr()))
            };
            let ((a_low, a_high), (b_low, b_high)) = (load(a), load(b));
            low = _mm512_add_ps(low, _mm512_mul_ps(a_low, b_low));
            high = _mm512_add_ps(high, _mm512_mul_ps(a_high, b_high));
        }
        let sixteen = _mm512_add_ps(low, high);
        let eight = _mm512_add_ps(sixteen, _mm512_shuffle_f32x4::<0b01_00_11_10>(sixteen, sixteen));
        let four = _mm512_add_ps(eight, _mm512_shuffle_f32x4::<0b10_11_00_01>(eight, eight));
        let four = _mm512_castps512_ps128(four);
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        let one = _mm_add_ss(two, _mm_shuffle_ps::<1>(two, two));
        _mm_cvtss_f32(one) + rest(a, b)
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{_mm256_add_ps, _mm256_loadu_ps, _mm256_mul_ps, _mm256_setzero_ps, _mm256_storeu_ps};

    use super::{LANES, added};

    /// Numbers of a register.
    const WIDTH: usize = 8;
    const REGISTERS: usize = LANES / WIDTH;

    /// In intrinsics, because the plain loop is turned into a heap of moves; multiplied and added apart, as everywhere else.
    #[target_feature(enable = "avx2")]
    pub fn dot(a: &[f32], b: &[f32]) -> f32 {
        let mut sums = [_mm256_setzero_ps(); REGISTERS];
        let (a_lanes, b_lanes) = (a.as_chunks::<LANES>().0, b.as_chunks::<LANES>().0);
        for (a, b) in a_lanes.iter().zip(b_lanes) {
            for (register, sum) in sums.iter_mut().enumerate() {
                let (a, b) = (&a[register * WIDTH..][..WIDTH], &b[register * WIDTH..][..WIDTH]);
                // SAFETY: eight numbers are the 32 bytes of a register.
                let (a, b) = unsafe { (_mm256_loadu_ps(a.as_ptr()), _mm256_loadu_ps(b.as_ptr())) };
                *sum = _mm256_add_ps(*sum, _mm256_mul_ps(a, b));
            }
        }
        let mut lanes = [0.0; LANES];
        for (lanes, sum) in lanes.as_chunks_mut::<WIDTH>().0.iter_mut().zip(sums) {
            // SAFETY: eight numbers are the 32 bytes of a register.
            unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), sum) };
        }
        added(lanes, a, b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn dot_products_are_sums_of_products(pairs in prop::collection::vec((-1.0_f32..1.0, -1.0_f32..1.0), 0..150)) {
            let (a, b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            let expected: f64 = a.iter().zip(&b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
            prop_assert!((f64::from(dot(&a, &b)) - expected).abs() < 1e-4);
            let every_processor = [dots([&*a, &*b].into_iter(), &b), vec![dot(&a, &b), dot(&b, &b)]];
            prop_assert_eq!(&every_processor[0], &every_processor[1]);
        }
    }
}
