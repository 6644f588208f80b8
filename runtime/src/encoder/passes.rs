//! The element-wise passes between products, each a single walk over values that are still in the cache: scales, bias and
//! GELU of a tile; residual with LayerNorm and quantisation of a row.
//!
//! Written once over rten-simd's vectors and compiled for every instruction set it knows; the best is chosen at run time.
//! rten-vecmath's reductions are not used: its folds are not inlined, and outside of the dispatched function every vector
//! instruction becomes a call.
//!
//! Invariant: a row's result depends on that row alone.

use std::ops::Range;

use rten_simd::ops::{BitOps, FloatOps, NarrowSaturate, NumOps, ToFloat};
use rten_simd::{Isa, Simd, SimdOp, SimdUnaryOp};
use rten_vecmath::{Exp, Gelu};

use super::kernels::STRIPE;
use super::product::{MOST_OUTLIERS, QuantizedRow};
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

    /// One that only normalises.
    pub(super) fn unit(width: usize) -> Self {
        Self { weight: vec![1.0; width], bias: vec![0.0; width] }
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

/// What happens to the values of a product.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Activation {
    None,
    Gelu,
}

/// What a product left, before scales and bias.
#[derive(Clone, Copy)]
pub(super) enum Sums<'a> {
    Single(&'a [f32]),
    Int8(&'a [i32]),
}

/// Scales a tile, adds the bias and what the outlier columns contribute, and applies the activation.
///
/// # Shapes
/// `sums`: rows of at least `stride` values, of which those from `sums_at` on are used; `outputs`: `[rows, STRIPE]`
pub(super) struct Finish<'a> {
    pub(super) sums: Sums<'a>,
    pub(super) sums_at: usize,
    pub(super) stride: usize,
    pub(super) rows: &'a [QuantizedRow],
    pub(super) terms: Terms<'a>,
    pub(super) activation: Activation,
    pub(super) outputs: &'a mut [f32],
}

/// What belongs to the outputs of one stripe.
///
/// # Shapes
/// `bias`, `scales`, `sums`: `[STRIPE]`; `outliers`: rows of `outliers_stride`, one for each outlier column
#[derive(Clone, Copy)]
pub(super) struct Terms<'a> {
    pub(super) bias: &'a [f32],
    pub(super) scales: &'a [f32],
    pub(super) sums: &'a [i32],
    pub(super) outliers: &'a [f32],
    pub(super) outliers_stride: usize,
}

impl SimdOp for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        match (self.sums, self.activation) {
            (Sums::Single(sums), Activation::None) => {
                self.single(
                    isa,
                    sums,
                    #[inline(always)]
                    |value| value,
                );
            }
            (Sums::Single(sums), Activation::Gelu) => {
                self.single(
                    isa,
                    sums,
                    #[inline(always)]
                    |value| Gelu {}.eval(isa, value),
                );
            }
            (Sums::Int8(sums), Activation::None) => {
                self.int8(
                    isa,
                    sums,
                    #[inline(always)]
                    |value| value,
                );
            }
            (Sums::Int8(sums), Activation::Gelu) => {
                self.int8(
                    isa,
                    sums,
                    #[inline(always)]
                    |value| quick_gelu(isa, value),
                );
            }
        }
    }
}

impl Finish<'_> {
    /// Where the sums of the row of this index lie; those of the last stripe may be fewer.
    #[inline(always)]
    fn place(&self, index: usize) -> Range<usize> {
        index * self.stride + self.sums_at..index * self.stride + (self.sums_at + STRIPE).min(self.stride)
    }

    #[inline(always)]
    fn single<I: Isa>(mut self, isa: I, sums: &[f32], activate: impl Fn(I::F32) -> I::F32) {
        let ops = isa.f32();
        let outputs = std::mem::take(&mut self.outputs);
        for (index, row) in outputs.chunks_exact_mut(STRIPE).enumerate() {
            let sums = &sums[self.place(index)];
            for at in (0..STRIPE).step_by(ops.len()) {
                let value = load(ops, &sums[at.min(sums.len())..], 0);
                store(ops, activate(ops.add(value, load(ops, self.terms.bias, at))), row, at);
            }
        }
    }

    /// Vector by vector, so that what belongs to the outputs is loaded once for all rows.
    #[inline(always)]
    fn int8<I: Isa>(mut self, isa: I, sums: &[i32], activate: impl Fn(I::F32) -> I::F32) {
        let (ops, integers) = (isa.f32(), isa.i32());
        let outputs = std::mem::take(&mut self.outputs);
        let terms = self.terms;
        for at in (0..STRIPE).step_by(ops.len()) {
            let (bias, scales) = (load(ops, terms.bias, at), load(ops, terms.scales, at));
            let sums_of_weights = load(integers, terms.sums, at);
            let mut weights = [ops.zero(); MOST_OUTLIERS];
            let mut count = 0;
            for (vector, of_column) in weights.iter_mut().zip(terms.outliers.chunks(terms.outliers_stride)) {
                *vector = load(ops, of_column, at);
                count += 1;
            }
            for (index, (row, QuantizedRow { scale, zero_point, outliers })) in
                outputs.chunks_exact_mut(STRIPE).zip(self.rows).enumerate()
            {
                let sums = &sums[self.place(index)];
                let sums = load(integers, &sums[at.min(sums.len())..], 0);
                let shift = integers.mul(sums_of_weights, integers.splat(*zero_point));
                let scale = ops.mul(scales, ops.splat(*scale));
                let mut value = ops.mul_add(integers.to_float(integers.sub(sums, shift)), scale, bias);
                for (input, weights) in outliers.iter().zip(&weights).take(count) {
                    value = ops.mul_add(ops.splat(*input), *weights, value);
                }
                store(ops, activate(value), row, at);
            }
        }
    }
}

/// GELU to within 1e-4, which is far less than the steps its result is rounded to next: `x * Φ(x)`, where Φ(x) - ½ is an
/// odd polynomial between ±[`GELU_RANGE`], fitted for the smallest error of the product and made to be ½ at the end.
#[inline(always)]
fn quick_gelu<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let ops = isa.f32();
    let (lowest, highest) = (ops.splat(-GELU_RANGE), ops.splat(GELU_RANGE));
    let clamped = ops.min(ops.max(x, lowest), highest);
    let square = ops.mul(ops.mul(clamped, clamped), ops.splat(1.0 / (GELU_RANGE * GELU_RANGE)));
    let mut polynomial = ops.splat(GELU_COEFFICIENTS[0]);
    for coefficient in &GELU_COEFFICIENTS[1..] {
        polynomial = ops.mul_add(polynomial, square, ops.splat(*coefficient));
    }
    ops.mul(x, ops.mul_add(clamped, polynomial, ops.splat(0.5)))
}

const GELU_RANGE: f32 = 4.3;

/// Of the square of `x / GELU_RANGE`, the highest power first.
const GELU_COEFFICIENTS: [f32; 9] =
    [0.57337195, -3.1391265, 7.6008015, -10.818601, 10.182216, -6.7725315, 3.3145616, -1.2232155, 0.39880204];

/// Where rows are quantised to, and the columns to leave out.
///
/// # Shapes
/// `values`: `[rows, stride]`; `rows`: `[rows]`
pub(super) struct Quantized<'a> {
    pub(super) outlier_columns: &'a [usize],
    pub(super) values: &'a mut [u8],
    pub(super) stride: usize,
    pub(super) rows: &'a mut [QuantizedRow],
}

/// `rows = LayerNorm(rows + product)`, quantised for the next product.
///
/// # Shapes
/// `product`: `[stripes, total_rows, STRIPE]`; `rows`: `[part, dim]`, from row `first` on
pub(super) struct ResidualNorm<'a> {
    pub(super) product: &'a [f32],
    pub(super) total_rows: usize,
    pub(super) first: usize,
    pub(super) rows: &'a mut [f32],
    pub(super) norm: &'a LayerNorm,
    pub(super) quantized: Option<Quantized<'a>>,
}

impl SimdOp for ResidualNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(mut self, isa: I) {
        let ops = isa.f32();
        for (index, row) in self.rows.chunks_exact_mut(self.norm.bias.len()).enumerate() {
            let stripes = self.product.chunks_exact(self.total_rows * STRIPE);
            for (segment, stripe) in row.chunks_mut(STRIPE).zip(stripes) {
                let values = &stripe[(self.first + index) * STRIPE..][..segment.len()];
                for at in (0..segment.len()).step_by(ops.len()) {
                    let sum = ops.add(load(ops, segment, at), load(ops, values, at));
                    store(ops, sum, segment, at);
                }
            }
            self.norm.apply(isa, row);
            if let Some(quantized) = &mut self.quantized {
                quantize(isa, row, index, quantized);
            }
        }
    }
}

/// Puts rows together from segments, quantised for the next product where it is one of int8.
///
/// # Shapes
/// `rows`: `[part, width]`, or one row of scratch when they are quantised
pub(super) struct GatherRows<'a, F> {
    /// The segment of this index of the row of this index.
    pub(super) segment: F,
    pub(super) segment_width: usize,
    pub(super) range: Range<usize>,
    pub(super) width: usize,
    pub(super) rows: &'a mut [f32],
    pub(super) quantized: Option<Quantized<'a>>,
}

impl<'s, F: Fn(usize, usize) -> &'s [f32]> SimdOp for GatherRows<'_, F> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(mut self, isa: I) {
        let ops = isa.f32();
        for (index, from) in self.range.enumerate() {
            let start = if self.quantized.is_some() { 0 } else { index * self.width };
            let row = &mut self.rows[start..start + self.width];
            for (segment, values) in row.chunks_mut(self.segment_width).enumerate() {
                let from = (self.segment)(from, segment);
                for at in (0..values.len()).step_by(ops.len()) {
                    store(ops, load(ops, from, at), values, at);
                }
            }
            if let Some(quantized) = &mut self.quantized {
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
    let Quantized { outlier_columns, values, stride, rows } = quantized;
    let quantized = &mut rows[index];
    for (outlier, &column) in quantized.outliers.iter_mut().zip(*outlier_columns) {
        *outlier = std::mem::take(&mut row[column]);
    }
    let (lowest, highest) = range_with_zero(isa, row);
    // The smallest positive scale keeps a row of zeros (or of values that are not numbers) from dividing by zero.
    let scale = ((highest - lowest) / 255.0).max(f32::MIN_POSITIVE);
    let zero_point = (-lowest / scale).round() as u8;
    quantized.scale = scale;
    quantized.zero_point = i32::from(zero_point);
    let values = &mut values[index * *stride..][..row.len()];
    round_to_u8(isa, row, 1.0 / scale, zero_point, values);
    for (outlier, &column) in quantized.outliers.iter().zip(*outlier_columns) {
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

/// Softmax of the first `width` values of each row, in place.
///
/// # Shapes
/// `rows`: `[rows, stride]`, where the stride is a whole number of vectors
pub(super) struct Softmax<'a> {
    pub(super) rows: &'a mut [f32],
    pub(super) stride: usize,
    pub(super) width: usize,
}

impl SimdOp for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        for row in self.rows.chunks_exact_mut(self.stride) {
            softmax(isa, row, self.width);
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::instructions::{InstructionSet, Instructions};

    struct Gelus<'a>(&'a mut [[f32; 2]]);

    impl SimdOp for Gelus<'_> {
        type Output = ();

        #[inline(always)]
        fn eval<I: Isa>(self, isa: I) {
            let ops = isa.f32();
            for pair in self.0 {
                let x = ops.splat(pair[0]);
                *pair = [quick_gelu(isa, x), Gelu {}.eval(isa, x)].map(|value| value.to_array()[0]);
            }
        }
    }

    #[test]
    fn the_quick_gelu_is_near_the_exact_one() {
        for set in InstructionSet::ALL {
            let Some(instructions) = Instructions::new(set) else { continue };
            let mut pairs: Vec<[f32; 2]> = (-12_000..12_000).map(|i| [i as f32 / 1000.0; 2]).collect();
            instructions.run(Gelus(&mut pairs));
            let worst = pairs.iter().map(|[quick, exact]| (quick - exact).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-4, "{set:?}: {worst}");
        }
    }

    #[test]
    fn rows_are_quantised_with_their_outliers_left_out() {
        let mut rows: Vec<f32> = (0..80).map(|i| (i % 40) as f32 - 10.0).collect();
        rows[3] = 1e4;
        let before = rows.clone();
        for set in InstructionSet::ALL {
            let Some(instructions) = Instructions::new(set) else { continue };
            let (mut values, mut quantized_rows) = (vec![0; 88], [QuantizedRow::default(); 2]);
            let quantized =
                Quantized { outlier_columns: &[3], values: &mut values, stride: 44, rows: &mut quantized_rows };
            instructions.run(QuantizeRows { rows: &mut rows, width: 40, quantized });
            assert_eq!(rows, before);
            assert_eq!([quantized_rows[0].outliers[0], quantized_rows[1].outliers[0]], [1e4, -7.0]);
            for (row, QuantizedRow { scale, zero_point, .. }) in quantized_rows.iter().enumerate() {
                for column in (0..40).filter(|&column| column != 3) {
                    let value = (i32::from(values[row * 44 + column]) - zero_point) as f32 * scale;
                    let error = (value - rows[row * 40 + column]).abs();
                    assert!(error <= scale * 0.51, "{set:?}: {error}");
                }
            }
        }
    }
}
