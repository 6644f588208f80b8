//! Matrix products over packed weights, in f32 and in int8.
//!
//! int8 follows the usual scheme of dynamic quantisation (arXiv:1712.05877): weights symmetric per output channel,
//! activations per row with a zero point, accumulation in i32. What remains of it after the product (scales and bias)
//! is applied by the passes that read the accumulators. A few *outlier* columns, whose inputs or weights are so large
//! that they would make the steps of all others coarse, are left out of the int8 product and added in f32, as in
//! LLM.int8() (arXiv:2208.07339); unlike there they are chosen from the weights, once, when loading.
//!
//! Invariant: a [`Product`]'s packed weights were made by the same [`Kernels`] that multiply with them.

use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_tensor::NdTensorView;

use super::Precision;
use super::passes::LayerNorm;
use crate::checkpoint::Checkpoint;
use crate::error::Result;

/// The products that this processor computes fastest.
pub(super) struct Kernels {
    single: GemmExecutor<f32, f32, f32>,
    int8: GemmExecutor<u8, i8, i32>,
}

impl Kernels {
    pub(super) fn detect() -> Self {
        Self { single: GemmExecutor::default(), int8: GemmExecutor::default() }
    }

    /// Packs quantised weights.
    ///
    /// Zero points are not left to rten-gemm: its 0.27 packs those of the first rows with every further block of rows.
    /// `(values - zero_point) * weights` is `values * weights - zero_point * sum(weights)`, and the passes subtract that.
    fn pack(&self, weights: &[i8], shape: [usize; 2], scales: Vec<f32>, outliers: Outliers) -> Weights {
        let view = NdTensorView::from_data(shape, weights);
        let sums = weights.chunks_exact(shape[1]).map(|channel| channel.iter().map(|&weight| i32::from(weight)).sum());
        Weights::Int8 { packed: self.int8.prepack_b(view.transposed()), scales, sums: sums.collect(), outliers }
    }

    /// The largest quantised weight. Kernels without VNNI add two products in 16 bits: 2 × 255 × 64 is the most that
    /// fits there.
    fn weight_limit(&self) -> f32 {
        if self.int8.may_saturate() { 64.0 } else { 127.0 }
    }
}

enum Weights {
    Single(PackedBMatrix<f32>),
    Int8 { packed: PackedBMatrix<i8>, scales: Vec<f32>, sums: Vec<i32>, outliers: Outliers },
}

/// Input columns that are computed in f32.
///
/// # Shapes
/// `weights`: `[columns, outputs]`
#[derive(Default)]
pub(super) struct Outliers {
    pub(super) columns: Vec<usize>,
    pub(super) weights: Vec<f32>,
}

/// Where the inputs of a layer come from, which tells the columns that may become large.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// A LayerNorm: its weight and bias bound what usually comes out.
    Norm(&'a LayerNorm),
    /// A GELU: neurons that matter rarely and much have large weights.
    Activation,
    /// The attention, which averages large values away.
    Attention,
}

/// One fully connected layer.
///
/// # Shapes
/// weights: `[outputs, inputs]` before packing; `bias`, the scales and the sums of quantised weights: `[outputs]`
pub(super) struct Product {
    weights: Weights,
    bias: Vec<f32>,
}

/// Rows quantised for a product.
///
/// # Shapes
/// `values`: `[rows, width]`; `scales`, `zero_points`: `[rows]`; `outliers`: `[rows, outlier columns]`
#[derive(Default)]
pub(super) struct QuantizedRows {
    pub(super) values: Vec<u8>,
    pub(super) scales: Vec<f32>,
    pub(super) zero_points: Vec<i32>,
    pub(super) outliers: Vec<f32>,
}

/// Accumulators of a product, before scales and bias.
#[derive(Default)]
pub(super) struct Accumulators {
    single: Vec<f32>,
    int8: Vec<i32>,
}

/// The input of a product, in the form its precision needs.
#[derive(Clone, Copy)]
pub(super) enum Input<'a> {
    Single(&'a [f32]),
    Int8(&'a QuantizedRows),
}

/// What a product left in the accumulators, with all that is needed to finish it.
#[derive(Clone, Copy)]
pub(super) enum Output<'a> {
    Single {
        values: &'a [f32],
        bias: &'a [f32],
    },
    Int8 {
        values: &'a [i32],
        rows: &'a QuantizedRows,
        column_scales: &'a [f32],
        column_sums: &'a [i32],
        outliers: &'a Outliers,
        bias: &'a [f32],
    },
}

impl QuantizedRows {
    pub(super) fn resize(&mut self, rows: usize, width: usize, outliers: usize) {
        self.outliers.resize(rows * outliers, 0.0);
        self.values.resize(rows * width, 0);
        self.scales.resize(rows, 0.0);
        self.zero_points.resize(rows, 0);
    }
}

impl Product {
    /// Loads layers of the same input and stacks their outputs.
    pub(super) fn load(
        checkpoint: &Checkpoint,
        names: &[String],
        [outputs, inputs]: [usize; 2],
        source: Source,
        (precision, kernels): (Precision, &Kernels),
    ) -> Result<Self> {
        let (mut weight, mut bias) = (Vec::new(), Vec::new());
        for name in names {
            weight.extend(checkpoint.tensor(&format!("{name}.weight"), &[outputs, inputs])?);
            bias.extend(checkpoint.tensor(&format!("{name}.bias"), &[outputs])?);
        }
        let shape = [bias.len(), inputs];
        let weights = match precision {
            Precision::F32 => {
                let view = NdTensorView::from_data(shape, weight.as_slice());
                Weights::Single(kernels.single.prepack_b(view.transposed()))
            }
            Precision::Int8 => {
                let outliers = Outliers::take(&mut weight, inputs, source);
                let (quantized, scales) = quantize_weights(&weight, inputs, kernels.weight_limit());
                kernels.pack(&quantized, shape, scales, outliers)
            }
        };
        Ok(Self { weights, bias })
    }

    /// The input columns that the quantised rows must leave out.
    pub(super) fn outlier_columns(&self) -> &[usize] {
        match &self.weights {
            Weights::Single(_) => &[],
            Weights::Int8 { outliers, .. } => &outliers.columns,
        }
    }

    /// Multiplies rows with the weights.
    ///
    /// # Shapes
    /// input: `[rows, inputs]`; the output: `[rows, outputs]`
    pub(super) fn multiply<'a>(
        &'a self,
        kernels: &Kernels,
        rows: usize,
        input: Input<'a>,
        accumulators: &'a mut Accumulators,
    ) -> Output<'a> {
        let outputs = self.bias.len();
        match (&self.weights, input) {
            (Weights::Single(packed), Input::Single(values)) => {
                let view = NdTensorView::from_data([rows, packed.rows()], values);
                accumulators.single.resize(rows * outputs, 0.0);
                kernels
                    .single
                    .gemm(
                        &mut accumulators.single,
                        GemmInputA::Unpacked(view),
                        GemmInputB::Packed(packed),
                        GemmOptions::default(),
                    )
                    .expect("weights were packed by these kernels, and buffers have the shapes of config.json");
                Output::Single { values: &accumulators.single, bias: &self.bias }
            }
            (Weights::Int8 { packed, scales, sums, outliers }, Input::Int8(quantized)) => {
                let view = NdTensorView::from_data([rows, packed.rows()], quantized.values.as_slice());
                accumulators.int8.resize(rows * outputs, 0);
                kernels
                    .int8
                    .gemm(
                        &mut accumulators.int8,
                        GemmInputA::Unpacked(view),
                        GemmInputB::Packed(packed),
                        GemmOptions::default(),
                    )
                    .expect("weights were packed by these kernels, and buffers have the shapes of config.json");
                Output::Int8 {
                    values: &accumulators.int8,
                    rows: quantized,
                    column_scales: scales,
                    column_sums: sums,
                    outliers,
                    bias: &self.bias,
                }
            }
            _ => unreachable!("a block prepares its inputs in the precision of its weights"),
        }
    }
}

impl Outliers {
    /// Each column costs a vector operation per vector of outputs; more of them brought no accuracy that could be
    /// measured.
    const MOST: usize = 8;

    /// Takes the outlier columns out of the weights, leaving zeros.
    fn take(weight: &mut [f32], inputs: usize, source: Source) -> Self {
        let columns = match source {
            Source::Attention => Vec::new(),
            // Normalised values rarely exceed 3.5 standard deviations.
            Source::Norm(norm) => above_median(&norm.range(3.5), 2.0),
            Source::Activation => {
                let mut largest = vec![0.0f32; inputs];
                for channel in weight.chunks_exact(inputs) {
                    largest.iter_mut().zip(channel).for_each(|(largest, value)| *largest = largest.max(value.abs()));
                }
                above_median(&largest, 3.0)
            }
        };
        let mut weights = Vec::with_capacity(columns.len() * weight.len() / inputs);
        for &column in &columns {
            let channels = weight.chunks_exact_mut(inputs);
            weights.extend(channels.map(|channel| std::mem::take(&mut channel[column])));
        }
        Self { columns, weights }
    }
}

/// The positions of the largest values, at most [`Outliers::MOST`], among those above a multiple of the median.
fn above_median(values: &[f32], multiple: f32) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    let median = values[order[values.len() / 2]];
    order.into_iter().take(Outliers::MOST).filter(|&index| values[index] > multiple * median).collect()
}

/// Quantises each row (an output channel) symmetrically to `-limit..=limit`.
///
/// # Shapes
/// `weight`: `[outputs, inputs]`; the result: `[outputs, inputs]` and scales `[outputs]`
fn quantize_weights(weight: &[f32], inputs: usize, limit: f32) -> (Vec<i8>, Vec<f32>) {
    let mut quantized = Vec::with_capacity(weight.len());
    let mut scales = Vec::with_capacity(weight.len() / inputs);
    for channel in weight.chunks_exact(inputs) {
        let largest = channel.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let scale = if largest > 0.0 && largest.is_finite() { largest / limit } else { 1.0 };
        quantized.extend(channel.iter().map(|value| (value / scale).round().clamp(-limit, limit) as i8));
        scales.push(scale);
    }
    (quantized, scales)
}

#[cfg(test)]
mod tests {
    use rten_simd::SimdOp;

    use super::*;
    use crate::encoder::passes::AddBias;

    #[test]
    fn weights_are_quantised_per_channel() {
        let (quantized, scales) = quantize_weights(&[1.0, -0.5, 0.0, 100.0, 0.0, 0.0, 0.0, 0.0], 2, 127.0);
        assert_eq!(quantized, [127, -64, 0, 127, 0, 0, 0, 0]);
        assert_eq!(scales, [1.0 / 127.0, 100.0 / 127.0, 1.0, 1.0]);
    }

    #[test]
    fn outlier_columns_are_taken_out_of_the_weights() {
        let mut weight = [0.1, 9.0, 0.2, 0.1, 0.3, -8.0, 0.2, 0.1];
        let outliers = Outliers::take(&mut weight, 4, Source::Activation);
        assert_eq!((outliers.columns, outliers.weights), (vec![1], vec![9.0, -8.0]));
        assert_eq!(weight, [0.1, 0.0, 0.2, 0.1, 0.3, 0.0, 0.2, 0.1]);
    }

    #[test]
    fn int8_products_are_exact_in_integers() {
        let kernels = Kernels::detect();
        for (rows, inputs, outputs) in [(1, 4, 4), (3, 32, 16), (16, 384, 1152), (9, 1536, 40), (70, 1100, 33)] {
            let limit = kernels.weight_limit() as i64;
            let weight: Vec<i8> =
                (0..outputs * inputs).map(|i| ((i as i64 * 7919) % (2 * limit + 1) - limit) as i8).collect();
            let weights = kernels.pack(&weight, [outputs, inputs], vec![1.0; outputs], Outliers::default());
            let product = Product { weights, bias: vec![0.0; outputs] };
            let quantized = QuantizedRows {
                values: (0..rows * inputs).map(|i| (i * 31 % 256) as u8).collect(),
                scales: vec![1.0; rows],
                zero_points: (0..rows).map(|i| (i * 77 % 256) as i32).collect(),
                outliers: Vec::new(),
            };
            let mut accumulators = Accumulators::default();
            let product = product.multiply(&kernels, rows, Input::Int8(&quantized), &mut accumulators);
            let mut values = vec![0.0; rows * outputs];
            AddBias { product, width: outputs, rows: &mut values }.dispatch();
            for row in 0..rows {
                for column in 0..outputs {
                    let expected: i32 = (0..inputs)
                        .map(|k| {
                            let value = i32::from(quantized.values[row * inputs + k]) - quantized.zero_points[row];
                            value * i32::from(weight[column * inputs + k])
                        })
                        .sum();
                    let at = format!("{rows} x {inputs} x {outputs}: row {row}, column {column}");
                    assert_eq!(values[row * outputs + column], expected as f32, "{at}");
                }
            }
        }
    }
}
