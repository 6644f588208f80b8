//! Fully connected layers, in f32 and in int8.
//!
//! int8 follows the usual scheme of dynamic quantisation (arXiv:1712.05877): weights symmetric per output channel,
//! activations per row with a zero point, accumulation in i32. What remains of it after the product (scales, bias,
//! activation) is applied to every tile while it is in the first-level cache. A few *outlier* columns, whose inputs or
//! weights are so large that they would make the steps of all others coarse, are left out of the int8 product and added in
//! f32, as in LLM.int8() (arXiv:2208.07339); unlike there they are chosen from the weights, once, when loading.
//!
//! Outputs are *striped*: `[stripes, rows, STRIPE]`, so that each task of a phase writes a piece of its own.
//!
//! Invariant: a value depends on its row and the weights alone, not on the other rows, the stripes of a task, or threads.

use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_tensor::NdTensorView;

use super::Precision;
use super::instructions::{InstructionSet, Instructions};
use super::kernels::{Panels, STRIPE, Tile, row_blocks};
use super::passes::{Activation, Finish, LayerNorm, Sums, Terms};
use super::quantize::quantize_weights;
use super::team::{Even, Team};
use crate::checkpoint::Checkpoint;
use crate::error::Result;

enum Weights {
    Single(PackedBMatrix<f32>),
    Int8(PackedBMatrix<i8>),
    Panels(Panels),
}

/// The most outlier columns of a product. Each costs a vector operation per vector of outputs; more of them brought no
/// accuracy that could be measured.
pub(super) const MOST_OUTLIERS: usize = 8;

/// Input columns that are computed in f32.
///
/// # Shapes
/// `weights`: `[columns, outputs]`, with the outputs of whole stripes
#[derive(Default)]
struct Outliers {
    columns: Vec<usize>,
    weights: Vec<f32>,
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
/// weights: `[outputs, inputs]` before packing; `bias`, the scales and the sums of quantised weights: the outputs of whole
/// stripes
pub(super) struct Product {
    outputs: usize,
    inputs: usize,
    weights: Weights,
    bias: Vec<f32>,
    scales: Vec<f32>,
    sums: Vec<i32>,
    outliers: Outliers,
}

/// How a row was quantised: `value = (quantised - zero_point) * scale`, and the values of the outlier columns.
#[derive(Clone, Copy, Default)]
pub(super) struct QuantizedRow {
    pub(super) scale: f32,
    pub(super) zero_point: i32,
    pub(super) outliers: [f32; MOST_OUTLIERS],
}

/// The input of a product, in the form its precision needs, and work buffers of rten-gemm.
///
/// # Shapes
/// `single`: `[rows, inputs]`; `values`: `[rows, stride]`; `rows`: `[rows]`
#[derive(Default)]
pub(super) struct Operand {
    pub(super) single: Vec<f32>,
    pub(super) values: Vec<u8>,
    pub(super) rows: Vec<QuantizedRow>,
    pub(super) stride: usize,
}

/// Sums of whole products, for weights that rten-gemm multiplies with.
#[derive(Default)]
pub(super) struct Accumulators {
    single: Vec<f32>,
    int8: Vec<i32>,
}

impl Product {
    /// Loads layers of the same input and stacks their outputs.
    pub(super) fn load(
        checkpoint: &Checkpoint,
        names: &[String],
        [outputs, inputs]: [usize; 2],
        source: Source,
        (precision, instructions): (Precision, Instructions),
    ) -> Result<Self> {
        let (mut weight, mut bias) = (Vec::new(), Vec::new());
        for name in names {
            weight.extend(checkpoint.tensor(&format!("{name}.weight"), &[outputs, inputs])?);
            bias.extend(checkpoint.tensor(&format!("{name}.bias"), &[outputs])?);
        }
        Ok(Self::new(weight, bias, source, (precision, instructions)))
    }

    /// # Shapes
    /// `weight`: `[outputs, inputs]`; `bias`: `[outputs]`
    pub(super) fn new(
        mut weight: Vec<f32>,
        mut bias: Vec<f32>,
        source: Source,
        (precision, instructions): (Precision, Instructions),
    ) -> Self {
        let outputs = bias.len();
        let inputs = weight.len() / outputs;
        let padded = outputs.next_multiple_of(STRIPE);
        bias.resize(padded, 0.0);
        let (mut scales, mut sums, mut outliers) = (vec![0.0; padded], vec![0; padded], Outliers::default());
        let weights = match precision {
            Precision::F32 => {
                let view = NdTensorView::from_data([outputs, inputs], weight.as_slice());
                Weights::Single(GemmExecutor::<f32>::default().prepack_b(view.transposed()))
            }
            Precision::Int8 => {
                outliers = Outliers::take(&mut weight, inputs, source);
                let portable = instructions.set() == InstructionSet::Portable;
                let kernels = GemmExecutor::<u8, i8, i32>::default();
                // Kernels of rten-gemm without VNNI add two products in 16 bits: 2 × 255 × 64 is the most that fits.
                let limit = if portable && kernels.may_saturate() { 64.0 } else { 127.0 };
                let mut panels = Panels::zeros(if portable { 0 } else { outputs }, inputs);
                let mut quantized = vec![0; if portable { weight.len() } else { inputs }];
                for (output, channel) in weight.chunks_exact(inputs).enumerate() {
                    let at = if portable { output * inputs } else { 0 };
                    let quantized = &mut quantized[at..at + inputs];
                    (scales[output], sums[output]) = quantize_weights(instructions, channel, limit, quantized);
                    if !portable {
                        panels.set_output(output, quantized);
                    }
                }
                if portable {
                    let view = NdTensorView::from_data([outputs, inputs], quantized.as_slice());
                    Weights::Int8(kernels.prepack_b(view.transposed()))
                } else {
                    Weights::Panels(panels)
                }
            }
        };
        Self { outputs, inputs, weights, bias, scales, sums, outliers }
    }

    /// The input columns that the quantised rows must leave out.
    pub(super) fn outlier_columns(&self) -> &[usize] {
        &self.outliers.columns
    }

    /// The width of the inputs.
    pub(super) fn inputs(&self) -> usize {
        self.inputs
    }

    /// Bytes from one quantised row to the next.
    pub(super) fn stride(&self) -> usize {
        match &self.weights {
            Weights::Panels(panels) => panels.stride(),
            _ => self.inputs,
        }
    }

    /// Values of the output for so many rows.
    pub(super) fn striped_len(&self, rows: usize) -> usize {
        self.bias.len() * rows
    }

    /// Multiplies rows with the weights, and finishes them.
    ///
    /// # Shapes
    /// `single`: `[rows, inputs]`, for f32; `operand`: the same rows quantised, for int8; `output`: striped
    pub(super) fn run(
        &self,
        (team, instructions): (&Team, Instructions),
        input: Input,
        activation: Activation,
        accumulators: &mut Accumulators,
        output: &mut [f32],
    ) {
        let rows = input.count;
        if rows == 0 {
            return;
        }
        self.accumulate(input, accumulators);
        let accumulators = &*accumulators;
        let share = team.share_of(self.bias.len() / STRIPE);
        let tasks = (self.bias.len() / STRIPE).div_ceil(share);
        team.run(tasks, Even::new(output, share * rows * STRIPE), |task, part| {
            let mut tile = Tile::new();
            for (index, stripe) in part.chunks_exact_mut(rows * STRIPE).enumerate() {
                let index = task * share + index;
                for block in row_blocks(rows) {
                    let outputs = &mut stripe[block.start * STRIPE..block.end * STRIPE];
                    let (sums, sums_at, stride) = match &self.weights {
                        Weights::Panels(panels) => {
                            let stride = panels.stride();
                            let values = &input.values[block.start * stride..block.end * stride];
                            panels.multiply(instructions, index, values, &mut tile);
                            (Sums::Int8(tile.0.as_flattened()), 0, STRIPE)
                        }
                        Weights::Int8(_) => {
                            let sums = &accumulators.int8[block.start * self.outputs..block.end * self.outputs];
                            (Sums::Int8(sums), index * STRIPE, self.outputs)
                        }
                        Weights::Single(_) => {
                            let sums = &accumulators.single[block.start * self.outputs..block.end * self.outputs];
                            (Sums::Single(sums), index * STRIPE, self.outputs)
                        }
                    };
                    let rows = input.rows.get(block).unwrap_or_default();
                    let terms = self.terms(index);
                    instructions.run(Finish { sums, sums_at, stride, rows, terms, activation, outputs });
                }
            }
        });
    }

    /// The whole product at once, where rten-gemm computes it.
    fn accumulate(&self, input: Input, accumulators: &mut Accumulators) {
        let (rows, length) = (input.count, input.count * self.outputs);
        let fits = "weights were packed by the same kernels, and buffers have the shapes of config.json";
        match &self.weights {
            Weights::Panels(_) => {}
            Weights::Single(packed) => {
                accumulators.single.resize(length, 0.0);
                let view = NdTensorView::from_data([rows, self.inputs], &input.single[..rows * self.inputs]);
                let (view, packed) = (GemmInputA::Unpacked(view), GemmInputB::Packed(packed));
                let kernels = GemmExecutor::<f32>::default();
                kernels.gemm(&mut accumulators.single, view, packed, GemmOptions::default()).expect(fits);
            }
            Weights::Int8(packed) => {
                accumulators.int8.resize(length, 0);
                let view = NdTensorView::from_data([rows, self.inputs], &input.values[..rows * self.inputs]);
                let (view, packed) = (GemmInputA::Unpacked(view), GemmInputB::Packed(packed));
                // Zero points are not left to rten-gemm: its 0.27 packs those of the first rows with every further block
                // of rows. `(values - zero_point) * weights` is `values * weights - zero_point * sum(weights)`.
                let kernels = GemmExecutor::<u8, i8, i32>::default();
                kernels.gemm(&mut accumulators.int8, view, packed, GemmOptions::default()).expect(fits);
            }
        }
    }

    fn terms(&self, stripe: usize) -> Terms<'_> {
        let range = stripe * STRIPE..(stripe + 1) * STRIPE;
        let outliers = if self.outliers.columns.is_empty() { &[] } else { &self.outliers.weights[range.start..] };
        Terms {
            bias: &self.bias[range.clone()],
            scales: &self.scales[range.clone()],
            sums: &self.sums[range],
            outliers,
            outliers_stride: self.bias.len(),
        }
    }
}

/// The rows that a product is given.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    pub(super) count: usize,
    pub(super) single: &'a [f32],
    pub(super) values: &'a [u8],
    pub(super) rows: &'a [QuantizedRow],
}

impl Operand {
    /// Makes room for quantised rows of a product.
    pub(super) fn resize(&mut self, rows: usize, product: &Product) {
        self.stride = product.stride();
        self.values.resize(rows * self.stride, 0);
        self.rows.resize(rows, QuantizedRow::default());
    }
}

impl Outliers {
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
        let padded = (weight.len() / inputs).next_multiple_of(STRIPE);
        let mut weights = Vec::with_capacity(columns.len() * padded);
        for (index, &column) in columns.iter().enumerate() {
            let channels = weight.chunks_exact_mut(inputs);
            weights.extend(channels.map(|channel| std::mem::take(&mut channel[column])));
            weights.resize((index + 1) * padded, 0.0);
        }
        Self { columns, weights }
    }
}

/// The positions of the largest values, at most [`MOST_OUTLIERS`], among those above a multiple of the median.
fn above_median(values: &[f32], multiple: f32) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    let median = values[order[values.len() / 2]];
    order.into_iter().take(MOST_OUTLIERS).filter(|&index| values[index] > multiple * median).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn outlier_columns_are_taken_out_of_the_weights() {
        let mut weight = [0.1, 9.0, 0.2, 0.1, 0.3, -8.0, 0.2, 0.1];
        let outliers = Outliers::take(&mut weight, 4, Source::Activation);
        assert_eq!((outliers.columns, &outliers.weights[..2]), (vec![1], &[9.0, -8.0][..]));
        assert_eq!(outliers.weights.len(), STRIPE);
        assert_eq!(weight, [0.1, 0.0, 0.2, 0.1, 0.3, 0.0, 0.2, 0.1]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Weights and inputs that int8 represents exactly give what the definition gives, in any number of threads.
        #[test]
        fn products_equal_the_definition(rows in 1usize..40, inputs in 1usize..80, outputs in 1usize..100, threads in 1usize..4) {
            let pool = crate::encoder::team::Pool::start(threads).unwrap();
            let team = pool.team(threads);
            let weight: Vec<f32> = (0..outputs * inputs)
                // The first weight of a channel is the largest, so that the scale is one.
                .map(|i| if i % inputs == 0 { 127.0 } else { ((i * 7919) % 129) as f32 - 64.0 })
                .collect();
            let bias: Vec<f32> = (0..outputs).map(|output| output as f32).collect();
            let values: Vec<u8> = (0..rows * inputs).map(|i| (i * 31 % 256) as u8).collect();
            let zero_point = |row: usize| (row * 77 % 256) as i32;
            let single: Vec<f32> =
                values.iter().enumerate().map(|(i, &value)| (i32::from(value) - zero_point(i / inputs)) as f32).collect();
            for (precision, set) in InstructionSet::ALL
                .map(|set| (Precision::Int8, set))
                .into_iter()
                .chain([(Precision::F32, InstructionSet::Portable)])
            {
                let Some(instructions) = Instructions::new(set) else { continue };
                let product = Product::new(weight.clone(), bias.clone(), Source::Attention, (precision, instructions));
                let mut operand = Operand::default();
                operand.resize(rows, &product);
                for (row, values) in values.chunks_exact(inputs).enumerate() {
                    operand.values[row * operand.stride..][..inputs].copy_from_slice(values);
                    operand.rows[row] = QuantizedRow { scale: 1.0, zero_point: zero_point(row), ..QuantizedRow::default() };
                }
                let input = Input { count: rows, single: &single, values: &operand.values, rows: &operand.rows };
                let mut output = vec![0.0; product.striped_len(rows)];
                let how = (&team, instructions);
                product.run(how, input, Activation::None, &mut Accumulators::default(), &mut output);
                for row in 0..rows {
                    for column in 0..outputs {
                        let weights = &weight[column * inputs..(column + 1) * inputs];
                        let sum: f32 = single[row * inputs..(row + 1) * inputs].iter().zip(weights).map(|(a, b)| a * b).sum();
                        let value = output[column / STRIPE * rows * STRIPE + row * STRIPE + column % STRIPE];
                        prop_assert_eq!(value, sum + bias[column], "{:?} {:?}: {}, {}", precision, set, row, column);
                    }
                }
            }
        }
    }
}
