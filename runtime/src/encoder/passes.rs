//! The element-wise passes between products, each a single walk over rows that are still in the cache: bias, GELU,
//! residual with LayerNorm, and quantisation.
//!
//! Written once over rten-simd's vectors and compiled for every instruction set it knows; the best is chosen at run time.
//! rten-vecmath's reductions are not used: its folds are not inlined, and outside of the dispatched function every vector
//! instruction becomes a call.
//!
//! Invariant: a row's result depends on that row alone.

use rten_simd::ops::{BitOps, FloatOps, NarrowSaturate, NumOps, ToFloat};
use rten_simd::{Isa, Simd, SimdOp, SimdUnaryOp};
use rten_vecmath::{Exp, Gelu};

use super::product::{Output, QuantizedRows};
use crate::checkpoint::Checkpoint;
use crate::error::Result;

/// DistilBERT's, from `modeling_distilbert.py`.
const LAYER_NORM_EPSILON: f32 = 1e-12;

/// Scale and shift of a LayerNorm.
///
/// # Shapes
/// `[width]`
pub(super) struct LayerNorm {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl LayerNorm {
    pub(super) fn load(checkpoint: &Checkpoint, name: &str, width: usize) -> Result<Self> {
        Ok(Self {
            weight: checkpoint.tensor(&format!("{name}.weight"), &[width])?,
            bias: checkpoint.tensor(&format!("{name}.bias"), &[width])?,
        })
    }

    /// How large each column may become when normalised values stay within so many standard deviations.
    pub(super) fn range(&self, deviations: f32) -> Vec<f32> {
        self.weight.iter().zip(&self.bias).map(|(weight, bias)| weight.abs() * deviations + bias.abs()).collect()
    }

    #[inline(always)]
    fn apply<I: Isa>(&self, isa: I, row: &mut [f32]) {
        let ops = isa.f32();
        let width = row.len() as f32;
        let mean = sum_of(isa, row, 0.0, Power::One) / width;
        let variance = sum_of(isa, row, mean, Power::Two) / width;
        let scale = ops.splat(1.0 / (variance + LAYER_NORM_EPSILON).sqrt());
        let mean = ops.splat(mean);
        let mut at = 0;
        while at < row.len() {
            let centred = ops.mul(ops.sub(load(ops, row, at), mean), scale);
            let value = ops.mul_add(centred, load(ops, &self.weight, at), load(ops, &self.bias, at));
            store(ops, value, row, at);
            at += ops.len();
        }
    }
}

/// LayerNorm of every row, in place.
pub(super) struct NormalizeRows<'a> {
    pub(super) rows: &'a mut [f32],
    pub(super) norm: &'a LayerNorm,
}

impl SimdOp for NormalizeRows<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        for row in self.rows.chunks_exact_mut(self.norm.bias.len()) {
            self.norm.apply(isa, row);
        }
    }
}

/// `rows = product + bias`
pub(super) struct AddBias<'a> {
    pub(super) product: Output<'a>,
    pub(super) width: usize,
    pub(super) rows: &'a mut [f32],
}

impl SimdOp for AddBias<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        for (index, row) in self.rows.chunks_exact_mut(self.width).enumerate() {
            finish(
                isa,
                self.product,
                index,
                self.width,
                #[inline(always)]
                |at, value| store(ops, value, row, at),
            );
        }
    }
}

/// `rows = LayerNorm(rows + product + bias)`
pub(super) struct ResidualNorm<'a> {
    pub(super) product: Output<'a>,
    pub(super) rows: &'a mut [f32],
    pub(super) norm: &'a LayerNorm,
}

impl SimdOp for ResidualNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        let width = self.norm.bias.len();
        for (index, row) in self.rows.chunks_exact_mut(width).enumerate() {
            finish(
                isa,
                self.product,
                index,
                width,
                #[inline(always)]
                |at, value| {
                    let sum = ops.add(load(ops, row, at), value);
                    store(ops, sum, row, at);
                },
            );
            self.norm.apply(isa, row);
        }
    }
}

/// `values = GELU(product + bias)`, or, when quantised, `values` is the buffer of one row.
pub(super) struct GeluRows<'a> {
    pub(super) product: Output<'a>,
    pub(super) width: usize,
    pub(super) rows: usize,
    pub(super) values: &'a mut [f32],
    pub(super) quantized: Option<Quantized<'a>>,
}

/// Where to quantise rows to, and the columns to leave out.
pub(super) struct Quantized<'a> {
    pub(super) outlier_columns: &'a [usize],
    pub(super) rows: &'a mut QuantizedRows,
}

impl SimdOp for GeluRows<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        let (width, mut quantized) = (self.width, self.quantized);
        for index in 0..self.rows {
            let start = if quantized.is_some() { 0 } else { index * width };
            let row = &mut self.values[start..start + width];
            finish(
                isa,
                self.product,
                index,
                width,
                #[inline(always)]
                |at, value| store(ops, Gelu {}.eval(isa, value), row, at),
            );
            if let Some(quantized) = &mut quantized {
                quantize(isa, row, index, quantized);
            }
        }
    }
}

/// Quantises rows for the next product; the rows are as before when it is done.
///
/// # Shapes
/// `rows`: `[rows, width]`
pub(super) struct QuantizeRows<'a> {
    pub(super) rows: &'a mut [f32],
    pub(super) width: usize,
    pub(super) quantized: Quantized<'a>,
}

impl SimdOp for QuantizeRows<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(mut self, isa: I) {
        for (index, row) in self.rows.chunks_exact_mut(self.width).enumerate() {
            quantize(isa, row, index, &mut self.quantized);
        }
    }
}

/// Quantises one row to u8: `value = (quantised - zero_point) * scale`, with zero exactly representable.
#[inline(always)]
fn quantize<I: Isa>(isa: I, row: &mut [f32], index: usize, quantized: &mut Quantized) {
    let Quantized { outlier_columns, rows: quantized } = quantized;
    let outliers = &mut quantized.outliers[index * outlier_columns.len()..(index + 1) * outlier_columns.len()];
    for (outlier, &column) in outliers.iter_mut().zip(*outlier_columns) {
        *outlier = std::mem::take(&mut row[column]);
    }
    let (lowest, highest) = range_with_zero(isa, row);
    // The smallest positive scale keeps a row of zeros (or of values that are not numbers) from dividing by zero.
    let scale = ((highest - lowest) / 255.0).max(f32::MIN_POSITIVE);
    let zero_point = (-lowest / scale).round() as u8;
    quantized.scales[index] = scale;
    quantized.zero_points[index] = i32::from(zero_point);
    let values = &mut quantized.values[index * row.len()..(index + 1) * row.len()];
    round_to_u8(isa, row, 1.0 / scale, zero_point, values);
    for (outlier, &column) in outliers.iter().zip(*outlier_columns) {
        row[column] = *outlier;
    }
}

/// `saturate(round(row * inverse_scale) + zero_point)`
#[inline(always)]
fn round_to_u8<I: Isa>(isa: I, row: &[f32], inverse_scale: f32, zero_point: u8, values: &mut [u8]) {
    let (ops, integers, bytes) = (isa.f32(), isa.i32(), isa.u8());
    let scale = ops.splat(inverse_scale);
    let zero = integers.splat(i32::from(zero_point));
    let step = ops.len();
    let vectors = row.len().min(values.len()) / (4 * step);
    for index in 0..vectors {
        let at = index * 4 * step;
        let mut rounded = [zero; 4];
        for (part, rounded) in rounded.iter_mut().enumerate() {
            let value = ops.mul(load(ops, row, at + part * step), scale);
            *rounded = integers.add(ops.to_int_round(value), zero);
        }
        let low = integers.narrow_saturate(rounded[0], rounded[1]);
        let high = integers.narrow_saturate(rounded[2], rounded[3]);
        store(bytes, isa.i16().narrow_saturate(low, high), values, at);
    }
    let at = vectors * 4 * step;
    for (value, rounded) in row[at..].iter().zip(&mut values[at..]) {
        *rounded = ((value * inverse_scale).round_ties_even() as i32 + i32::from(zero_point)).clamp(0, 255) as u8;
    }
}

/// The lowest and the highest of the values and zero.
#[inline(always)]
fn range_with_zero<I: Isa>(isa: I, row: &[f32]) -> (f32, f32) {
    let ops = isa.f32();
    let (mut lowest, mut highest) = (ops.zero(), ops.zero());
    let mut at = 0;
    while at < row.len() {
        // The padding of the last vector is zero, which takes part anyway.
        let value = load(ops, row, at);
        lowest = ops.min(lowest, value);
        highest = ops.max(highest, value);
        at += ops.len();
    }
    let lowest = lowest.to_array().into_iter().fold(0.0, f32::min);
    (lowest, highest.to_array().into_iter().fold(0.0, f32::max))
}

#[derive(Clone, Copy, PartialEq)]
enum Power {
    One,
    Two,
}

/// The sum of `(value - offset)` to the power.
#[inline(always)]
fn sum_of<I: Isa>(isa: I, row: &[f32], offset: f32, power: Power) -> f32 {
    let ops = isa.f32();
    let step = ops.len();
    let vector_offset = ops.splat(offset);
    // Two sums hide some of the latency of the additions.
    let mut sums = [ops.zero(); 2];
    let vectors = row.len() / step;
    for index in 0..vectors {
        let value = ops.sub(load(ops, row, index * step), vector_offset);
        let sum = &mut sums[index % 2];
        *sum = match power {
            Power::One => ops.add(*sum, value),
            Power::Two => ops.mul_add(value, value, *sum),
        };
    }
    let mut total: f32 = ops.add(sums[0], sums[1]).to_array().into_iter().sum();
    for value in &row[vectors * step..] {
        let value = value - offset;
        total += if power == Power::One { value } else { value * value };
    }
    total
}

/// Softmax of the first `count` values, in place; the values after them become zero.
///
/// The row is a whole number of vectors.
#[inline(always)]
pub(super) fn softmax<I: Isa>(isa: I, row: &mut [f32], count: usize) {
    let ops = isa.f32();
    let step = ops.len();
    let lowest = ops.splat(f32::MIN);
    let used = count.next_multiple_of(step).min(row.len());
    if count < used {
        // What lies after the values must not take part: its exponential is to be zero.
        let last = used - step;
        let value = ops.select(load(ops, row, last), lowest, ops.first_n_mask(count - last));
        store(ops, value, row, last);
    }
    let mut highest = lowest;
    for at in (0..used).step_by(step) {
        highest = ops.max(highest, load(ops, row, at));
    }
    let highest = ops.splat(highest.to_array().into_iter().fold(f32::MIN, f32::max));
    let mut sum = ops.zero();
    for at in (0..used).step_by(step) {
        let value = Exp {}.eval(isa, ops.sub(load(ops, row, at), highest));
        sum = ops.add(sum, value);
        store(ops, value, row, at);
    }
    let factor = ops.splat(1.0 / sum.to_array().into_iter().sum::<f32>());
    for at in (0..used).step_by(step) {
        let value = ops.mul(load(ops, row, at), factor);
        store(ops, value, row, at);
    }
}

/// Walks over one row of a product and hands out its values, scaled and with the bias, vector by vector.
///
/// Closures given to it must be `#[inline(always)]`: outside of the dispatched function they would be compiled without
/// its vector instructions.
#[inline(always)]
fn finish<I: Isa>(isa: I, product: Output, index: usize, width: usize, mut take: impl FnMut(usize, I::F32)) {
    let ops = isa.f32();
    let step = ops.len();
    let columns = index * width..(index + 1) * width;
    match product {
        Output::Single { values, bias } => {
            let row = &values[columns];
            let mut at = 0;
            while at < width {
                take(at, ops.add(load(ops, row, at), load(ops, bias, at)));
                at += step;
            }
        }
        Output::Int8 { values, rows, column_scales, column_sums, outliers, bias } => {
            let integers = isa.i32();
            let row = &values[columns];
            let row_scale = ops.splat(rows.scales[index]);
            let zero_point = integers.splat(rows.zero_points[index]);
            let count = outliers.columns.len();
            let inputs = &rows.outliers[index * count..(index + 1) * count];
            let mut at = 0;
            while at < width {
                let shift = integers.mul(load(integers, column_sums, at), zero_point);
                let value = integers.to_float(integers.sub(load(integers, row, at), shift));
                let scale = ops.mul(load(ops, column_scales, at), row_scale);
                let mut value = ops.mul_add(value, scale, load(ops, bias, at));
                for (input, weights) in inputs.iter().zip(outliers.weights.chunks_exact(width)) {
                    value = ops.mul_add(ops.splat(*input), load(ops, weights, at), value);
                }
                take(at, value);
                at += step;
            }
        }
    }
}

/// Loads a vector from `values[at..]`, padded with zeros at the end.
#[inline(always)]
pub(super) fn load<T: rten_simd::Elem, O: BitOps<T>>(ops: O, values: &[T], at: usize) -> O::Simd {
    let rest = &values[at..];
    if rest.len() >= ops.len() {
        // SAFETY: a whole vector is left. `ops.load` would do, but is not always inlined, which makes it a call.
        unsafe { ops.load_ptr(rest.as_ptr()) }
    } else {
        ops.load_pad(rest).0
    }
}

/// Stores a vector to `values[at..]`, as much of it as fits.
#[inline(always)]
pub(super) fn store<T: rten_simd::Elem, O: BitOps<T>>(ops: O, value: O::Simd, values: &mut [T], at: usize) {
    let rest = &mut values[at..];
    if rest.len() >= ops.len() {
        // SAFETY: a whole vector is left.
        unsafe { ops.store_ptr(value, rest.as_mut_ptr()) };
    } else {
        let mask = ops.first_n_mask(rest.len());
        // SAFETY: the mask is true for exactly the elements of `rest`.
        unsafe { ops.store_ptr_mask(value, rest.as_mut_ptr(), mask) };
    }
}
