//! Single kernels with inputs of their own, to be timed: what this machine's limits are, and how near the encoder comes.
//!
//! `mynah bench --limits` and the crate's benchmarks run them; nothing that serves does.

use super::Precision;
use super::instructions::{InstructionSet, Instructions};
use super::kernels::STRIPE;
use super::passes::{Activation, Finish, LayerNorm, QuantizeRows, Quantized, ResidualNorm, Softmax, Sums, Terms};
use super::product::{Accumulators, Input, Operand, Product, QuantizedRow, Source};
use super::team::Team;

/// A kernel and its sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// An int8 product: `rows` by `inputs`, times `inputs` by `outputs`.
    Product {
        /// Rows of activations.
        rows: usize,
        /// The width of a row.
        inputs: usize,
        /// The width of the result.
        outputs: usize,
    },
    /// Scales, bias and, where asked for, GELU over the sums of a product.
    Finish {
        /// How many values.
        values: usize,
        /// Whether GELU is applied.
        gelu: bool,
    },
    /// Softmax over rows of this width.
    Softmax {
        /// How many rows.
        rows: usize,
        /// The width of a row.
        width: usize,
    },
    /// Residual and LayerNorm over rows of this width.
    LayerNorm {
        /// How many rows.
        rows: usize,
        /// The width of a row.
        width: usize,
    },
    /// Quantisation of rows of this width.
    Quantize {
        /// How many rows.
        rows: usize,
        /// The width of a row.
        width: usize,
    },
    /// Reading so many bytes of memory once.
    Read {
        /// How many.
        bytes: usize,
    },
}

/// A kernel with its inputs, on the calling thread.
pub struct Prepared {
    kernel: Kernel,
    instructions: Instructions,
    product: Option<Product>,
    operand: Operand,
    sums: Vec<i32>,
    first: Vec<f32>,
    second: Vec<f32>,
    norm: LayerNorm,
    words: Vec<u64>,
}

impl Kernel {
    /// Makes inputs for it. A set that this processor does not run is replaced by [`InstructionSet::Portable`].
    pub fn prepare(self, set: InstructionSet) -> Prepared {
        let instructions = Instructions::new(set).unwrap_or_else(Instructions::portable);
        let floats = |length: usize| -> Vec<f32> { (0..length).map(|i| (i * 37 % 101) as f32 / 25.0 - 2.0).collect() };
        let mut prepared = Prepared {
            kernel: self,
            instructions,
            product: None,
            operand: Operand::default(),
            sums: Vec::new(),
            first: Vec::new(),
            second: Vec::new(),
            norm: LayerNorm::unit(1),
            words: Vec::new(),
        };
        match self {
            Self::Product { rows, inputs, outputs } => {
                let how = (Precision::Int8, instructions);
                let product = Product::new(floats(outputs * inputs), vec![0.0; outputs], Source::Attention, how);
                prepared.operand.resize(rows, &product);
                prepared.operand.values.iter_mut().enumerate().for_each(|(i, value)| *value = (i * 31 % 256) as u8);
                prepared.first = vec![0.0; product.striped_len(rows)];
                prepared.product = Some(product);
            }
            Self::Finish { values, .. } => {
                let values = values.next_multiple_of(STRIPE);
                prepared.sums = (0..values).map(|i| (i * 7919 % 20_000) as i32 - 10_000).collect();
                prepared.first = vec![0.0; values];
                let row = QuantizedRow { scale: 2e-4, zero_point: 120, ..QuantizedRow::default() };
                prepared.operand.rows = vec![row; values / STRIPE];
            }
            Self::Softmax { rows, width } => {
                prepared.first = floats(rows * width.next_multiple_of(16));
                prepared.second = prepared.first.clone();
            }
            Self::LayerNorm { rows, width } => {
                prepared.first = floats(rows * width);
                prepared.second = floats(rows * width.next_multiple_of(STRIPE));
                prepared.norm = LayerNorm::unit(width);
            }
            Self::Quantize { rows, width } => {
                prepared.first = floats(rows * width);
                prepared.operand.values = vec![0; rows * width];
                prepared.operand.rows = vec![QuantizedRow::default(); rows];
            }
            Self::Read { bytes } => prepared.words = (0..bytes as u64 / 8).collect(),
        }
        prepared
    }

    /// Multiplications and additions of a product; values of a pass; bytes of a read.
    pub fn operations(self) -> usize {
        match self {
            Self::Product { rows, inputs, outputs } => 2 * rows * inputs * outputs,
            Self::Finish { values, .. } => values,
            Self::Softmax { rows, width } | Self::LayerNorm { rows, width } | Self::Quantize { rows, width } => {
                rows * width
            }
            Self::Read { bytes } => bytes,
        }
    }
}

impl Prepared {
    /// Runs the kernel once; the result depends on what it computed, so that it is not left out.
    pub fn run(&mut self) -> f32 {
        let instructions = self.instructions;
        let no_outliers = &[][..];
        match self.kernel {
            Kernel::Product { rows, .. } => {
                let Some(product) = &self.product else { return 0.0 };
                let input = Input { count: rows, single: &[], values: &self.operand.values, rows: &self.operand.rows };
                let how = (&Team::alone(), instructions);
                product.run(how, input, Activation::None, &mut Accumulators::default(), &mut self.first);
            }
            Kernel::Finish { gelu, .. } => {
                let (ones, sums) = ([0.0; STRIPE], [1; STRIPE]);
                let scales = [1.0; STRIPE];
                let terms = Terms { bias: &ones, scales: &scales, sums: &sums, outliers: &[], outliers_stride: STRIPE };
                instructions.run(Finish {
                    sums: Sums::Int8(&self.sums),
                    sums_at: 0,
                    stride: STRIPE,
                    rows: &self.operand.rows,
                    terms,
                    activation: if gelu { Activation::Gelu } else { Activation::None },
                    outputs: &mut self.first,
                });
            }
            Kernel::Softmax { width, .. } => {
                self.first.copy_from_slice(&self.second);
                instructions.run(Softmax { rows: &mut self.first, stride: width.next_multiple_of(16), width });
            }
            Kernel::LayerNorm { rows, .. } => instructions.run(ResidualNorm {
                product: &self.second,
                total_rows: rows,
                first: 0,
                rows: &mut self.first,
                norm: &self.norm,
                quantized: None,
            }),
            Kernel::Quantize { width, .. } => {
                let Operand { values, rows, .. } = &mut self.operand;
                let quantized = Quantized { outlier_columns: no_outliers, values, stride: width, rows };
                instructions.run(QuantizeRows { rows: &mut self.first, width, quantized });
                return f32::from(self.operand.values.first().copied().unwrap_or(0));
            }
            Kernel::Read { .. } => {
                // Eight sums at a time, so that the additions never wait for each other.
                let mut sums = [0u64; 8];
                for words in self.words.as_chunks::<8>().0 {
                    sums.iter_mut().zip(words).for_each(|(sum, word)| *sum = sum.wrapping_add(*word));
                }
                return sums.iter().fold(0, |sum: u64, part| sum.wrapping_add(*part)) as f32;
            }
        }
        self.first.first().copied().unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_runs_on_every_instruction_set() {
        let kernels = [
            Kernel::Product { rows: 3, inputs: 40, outputs: 33 },
            Kernel::Finish { values: 64, gelu: true },
            Kernel::Softmax { rows: 2, width: 17 },
            Kernel::LayerNorm { rows: 2, width: 48 },
            Kernel::Quantize { rows: 2, width: 48 },
            Kernel::Read { bytes: 4096 },
        ];
        for kernel in kernels {
            let results = InstructionSet::ALL.map(|set| kernel.prepare(set).run());
            assert!(results.iter().all(|result| (result - results[0]).abs() < 1e-4), "{kernel:?}: {results:?}");
        }
    }
}
