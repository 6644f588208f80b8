//! Matrix products over plain rows, and loops compiled for the processor's widest vectors.

use gemm::Parallelism;
use rten_simd::{Isa, SimdOp};

/// Rows that one task of a loop over a batch works on; sums are taken by such chunks in order, so that they
/// do not depend on the number of threads.
pub(super) const CHUNK: usize = 32;

/// A matrix in a slice, with its strides.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> View<'a> {
    /// `[rows, columns]`, row by row.
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// `[rows, columns]` with `row_stride` numbers between the beginnings of two rows.
    pub fn strided(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        Self { data, rows, columns, row_stride, column_stride: 1 }
    }

    /// The transposed matrix.
    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    fn check(&self) {
        let last = (self.rows.max(1) - 1) * self.row_stride + (self.columns.max(1) - 1) * self.column_stride;
        assert!(last < self.data.len(), "a matrix lies inside its slice");
    }
}

/// What a product does with the numbers that its output holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    /// Overwrites them.
    Replace,
    /// Adds to them.
    Add,
}

/// Who computes a product.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Threads {
    /// The calling thread.
    One,
    /// All of the current pool.
    All,
}

/// `output = scale * a b`, or `output += scale * a b`, with `output_stride` numbers between the rows of the output.
///
/// # Panics
/// If the shapes do not fit.
pub(super) fn multiply(
    (output, output_stride): (&mut [f32], usize),
    a: View<'_>,
    b: View<'_>,
    (mode, scale): (Output, f32),
    threads: Threads,
) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    assert_eq!(k, b.rows, "inner dimensions agree");
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    a.check();
    b.check();
    assert!(n <= output_stride || m == 1, "rows of the output do not overlap");
    assert!((m - 1) * output_stride + n <= output.len(), "the output lies inside its slice");
    let alpha = if mode == Output::Add { 1.0 } else { 0.0 };
    let parallelism = match (threads, rayon::current_num_threads()) {
        (Threads::One, _) | (_, 0 | 1) => Parallelism::None,
        (Threads::All, count) => Parallelism::Rayon(count),
    };
    // SAFETY: the asserts above keep every index of the three matrices inside its slice; the output is
    // borrowed mutably, so that it overlaps neither input.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            output.as_mut_ptr(),
            1,
            output_stride as isize,
            mode == Output::Add,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            alpha,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Runs `work` compiled for the widest vectors of this processor; its loops must be inlined into it.
pub(crate) fn wide<R>(work: impl FnOnce() -> R) -> R {
    struct Wide<F>(F);
    impl<R, F: FnOnce() -> R> SimdOp for Wide<F> {
        type Output = R;
        #[inline(always)]
        fn eval<I: Isa>(self, _isa: I) -> R {
            (self.0)()
        }
    }
    Wide(work).dispatch()
}

/// Sum of the products in 16 lanes.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; 16];
    let (whole_a, rest_a) = a.as_chunks::<16>();
    let (whole_b, rest_b) = b.as_chunks::<16>();
    for (a, b) in whole_a.iter().zip(whole_b) {
        for lane in 0..16 {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f32>() + rest
}

/// Sum in 16 lanes.
#[inline(always)]
pub(super) fn total(values: &[f32]) -> f32 {
    let mut lanes = [0f32; 16];
    let (whole, rest) = values.as_chunks::<16>();
    for values in whole {
        for lane in 0..16 {
            lanes[lane] += values[lane];
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().sum::<f32>()
}

/// `e^x` within 2e-7 of relative error, 0 below -87 (Cody and Waite's reduction, a polynomial of degree 6).
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.0, 88.0);
    let n = (clamped * std::f32::consts::LOG2_E + ROUND) - ROUND;
    // ln 2 in two parts, the first short enough for its product with n to be exact.
    let r = clamped - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * r + 1.0;
    let p = p * r + 1.0;
    let scale = f32::from_bits((((n as i32) + 127) as u32) << 23);
    if x < -87.0 { 0.0 } else { p * scale }
}
