//! The passes between the products: normalisation, GELU, dropout, sums over rows; each with its derivative.
//!
//! Rows are worked on in chunks of [`CHUNK`], in parallel; sums over rows are taken chunk by chunk in order.

use rayon::prelude::*;

use super::matrix::{CHUNK, dot, exp, total, wide};
use crate::dropout::split_mix;

/// Added to the variance (`layer_norm_eps` of DistilBERT).
const EPSILON: f32 = 1e-12;

/// Rows normalised, and what the derivative needs.
pub(super) struct Normalised {
    /// `[rows, dim]`: zero mean, unit variance.
    pub unit: Vec<f32>,
    /// `[rows]`: one over the standard deviation.
    pub inverse_deviation: Vec<f32>,
    /// `[rows, dim]`: scaled and shifted.
    pub output: Vec<f32>,
}

/// Layer normalisation (arXiv 1607.06450) of `[rows, dim]`.
pub(super) fn layer_norm(input: Vec<f32>, gamma: &[f32], beta: &[f32]) -> Normalised {
    let dim = gamma.len();
    let rows = input.len() / dim;
    let mut unit = input;
    let mut output = vec![0f32; unit.len()];
    let mut inverse_deviation = vec![0f32; rows];
    (unit.par_chunks_mut(CHUNK * dim), output.par_chunks_mut(CHUNK * dim), inverse_deviation.par_chunks_mut(CHUNK))
        .into_par_iter()
        .for_each(|(unit, output, inverse)| {
            wide(|| {
                for ((unit, output), inverse) in
                    unit.chunks_exact_mut(dim).zip(output.chunks_exact_mut(dim)).zip(inverse)
                {
                    let mean = total(unit) / dim as f32;
                    unit.iter_mut().for_each(|value| *value -= mean);
                    *inverse = 1.0 / (dot(unit, unit) / dim as f32 + EPSILON).sqrt();
                    for (((value, output), gamma), beta) in unit.iter_mut().zip(output).zip(gamma).zip(beta) {
                        *value *= *inverse;
                        *output = *value * gamma + beta;
                    }
                }
            });
        });
    Normalised { unit, inverse_deviation, output }
}

/// Derivatives of [`layer_norm`]: `gradient` becomes that of the input; returns those of gamma and beta.
pub(super) fn layer_norm_backward(gradient: &mut [f32], of: &Normalised, gamma: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let dim = gamma.len();
    let partial: Vec<(Vec<f32>, Vec<f32>)> =
        (gradient.par_chunks_mut(CHUNK * dim), of.unit.par_chunks(CHUNK * dim), of.inverse_deviation.par_chunks(CHUNK))
            .into_par_iter()
            .map(|(gradient, unit, inverse)| {
                let (mut scale, mut shift) = (vec![0f32; dim], vec![0f32; dim]);
                wide(|| {
                    for ((gradient, unit), inverse) in
                        gradient.chunks_exact_mut(dim).zip(unit.chunks_exact(dim)).zip(inverse)
                    {
                        for ((((gradient, unit), gamma), scale), shift) in
                            gradient.iter_mut().zip(unit).zip(gamma).zip(&mut scale).zip(&mut shift)
                        {
                            *scale += *gradient * unit;
                            *shift += *gradient;
                            *gradient *= gamma;
                        }
                        let mean = total(gradient) / dim as f32;
                        let along = dot(gradient, unit) / dim as f32;
                        for (gradient, unit) in gradient.iter_mut().zip(unit) {
                            *gradient = (*gradient - mean - unit * along) * inverse;
                        }
                    }
                });
                (scale, shift)
            })
            .collect();
    let mut sums = (vec![0f32; dim], vec![0f32; dim]);
    for (scale, shift) in &partial {
        add(&mut sums.0, scale);
        add(&mut sums.1, shift);
    }
    sums
}

/// `target += values`.
pub(super) fn add(target: &mut [f32], values: &[f32]) {
    target.iter_mut().zip(values).for_each(|(target, value)| *target += value);
}

/// `target += values`, in parallel.
pub(super) fn add_rows(target: &mut [f32], values: &[f32]) {
    const SPAN: usize = 16_384;
    target.par_chunks_mut(SPAN).zip(values.par_chunks(SPAN)).for_each(|(target, values)| wide(|| add(target, values)));
}

/// Sums of the columns of `[rows, columns]`.
pub(super) fn column_sums(values: &[f32], columns: usize) -> Vec<f32> {
    let partial: Vec<Vec<f32>> = values
        .par_chunks(CHUNK * columns)
        .map(|rows| {
            let mut sums = vec![0f32; columns];
            wide(|| rows.chunks_exact(columns).for_each(|row| add(&mut sums, row)));
            sums
        })
        .collect();
    let mut sums = vec![0f32; columns];
    partial.iter().for_each(|chunk| add(&mut sums, chunk));
    sums
}

/// Phi(x) and phi(x): distribution and density of the standard normal. The error function is approximated as in
/// Abramowitz and Stegun 7.1.26, within 1.5e-7.
#[inline(always)]
fn normal(x: f32) -> (f32, f32) {
    let tail = exp(-0.5 * x * x);
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let poly = ((((1.061_405_4 * t - 1.453_152_1) * t + 1.421_413_8) * t - 0.284_496_73) * t + 0.254_829_6) * t;
    let erf = (1.0 - poly * tail).copysign(x);
    (0.5 * (1.0 + erf), 0.398_942_3 * tail)
}

const SPAN: usize = 8_192;

/// Exact GELU (arXiv 1606.08415), x Phi(x).
pub(super) fn gelu(input: &[f32]) -> Vec<f32> {
    let mut output = vec![0f32; input.len()];
    output.par_chunks_mut(SPAN).zip(input.par_chunks(SPAN)).for_each(|(output, input)| {
        wide(|| output.iter_mut().zip(input).for_each(|(output, &x)| *output = x * normal(x).0));
    });
    output
}

/// Derivative of [`gelu`]: `gradient` becomes that of its input.
pub(super) fn gelu_backward(gradient: &mut [f32], input: &[f32]) {
    gradient.par_chunks_mut(SPAN).zip(input.par_chunks(SPAN)).for_each(|(gradient, input)| {
        wide(|| {
            for (gradient, &x) in gradient.iter_mut().zip(input) {
                let (distribution, density) = normal(x);
                *gradient *= distribution + x * density;
            }
        });
    });
}

/// The dropout of one place of one step: its masks depend on `stream` and the place of a number alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mask {
    stream: u64,
    threshold: u64,
    keep: f32,
}

impl Mask {
    /// Zeroes with `probability`, scales by `1 / (1 - probability)`.
    pub fn new(stream: u64, probability: f64) -> Option<Self> {
        (probability > 0.0).then(|| Self {
            stream,
            threshold: (probability * 65_536.0) as u64,
            keep: (1.0 / (1.0 - probability)) as f32,
        })
    }

    /// What the numbers that are kept are multiplied by.
    pub fn factor(self) -> f32 {
        self.keep
    }

    /// Which of `count` numbers from `first` on are kept, as bits of words, the lowest first.
    pub fn kept(self, first: usize, count: usize) -> Vec<u32> {
        let mut words = vec![0u32; count.div_ceil(32)];
        let mut bits = 0;
        for number in 0..count {
            let (word, lane) = ((first + number) / 4, (first + number) % 4);
            if number == 0 || lane == 0 {
                bits = split_mix(self.stream ^ split_mix(word as u64));
            }
            let draw = (bits >> (16 * lane)) & 0xFFFF;
            words[number / 32] |= u32::from(draw >= self.threshold) << (number % 32);
        }
        words
    }

    /// Applies the mask; its derivative is the same multiplication.
    pub fn apply(self, values: &mut [f32]) {
        let Self { stream, threshold, keep } = self;
        values.par_chunks_mut(SPAN).enumerate().for_each(|(span, values)| {
            wide(|| {
                for (word, four) in values.chunks_mut(4).enumerate() {
                    let bits = split_mix(stream ^ split_mix((span * (SPAN / 4) + word) as u64));
                    for (lane, value) in four.iter_mut().enumerate() {
                        let draw = (bits >> (16 * lane)) & 0xFFFF;
                        *value *= if draw < threshold { 0.0 } else { keep };
                    }
                }
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_and_the_normal_distribution_are_near_the_library() {
        for step in -2_000..2_000 {
            let x = step as f32 * 0.02;
            let expected = f64::from(x).exp();
            assert!((f64::from(exp(x)) - expected).abs() <= 3e-7 * expected, "{x}");
        }
        assert_eq!(exp(-100.0), 0.0);
        // Phi(1) and phi(1).
        let (distribution, density) = normal(1.0);
        assert!((distribution - 0.841_344_7).abs() < 1e-6 && (density - 0.241_970_7).abs() < 1e-6);
        assert!((normal(-1.0).0 - 0.158_655_25).abs() < 1e-6);
    }

    #[test]
    fn masks_keep_the_expected_share_and_mean_and_differ_by_stream() {
        let draw = |stream| {
            let mut ones = vec![1f32; 100_000];
            Mask::new(stream, 0.1).unwrap().apply(&mut ones);
            ones
        };
        let mask = draw(7);
        let zeros = mask.iter().filter(|&&factor| factor == 0.0).count();
        assert!((9_500..10_500).contains(&zeros), "{zeros}");
        let mean = mask.iter().sum::<f32>() / mask.len() as f32;
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
        assert_eq!(mask, draw(7));
        assert_ne!(mask, draw(8));
        assert!(Mask::new(1, 0.0).is_none());
        // The same as bits, from a number that begins no word.
        let kept = Mask::new(7, 0.1).unwrap().kept(9_001, 70);
        let is_kept = |number: usize| kept[number / 32] >> (number % 32) & 1 == 1;
        assert!((0..70).all(|number| is_kept(number) == (mask[9_001 + number] != 0.0)));
    }

    #[test]
    fn normalised_rows_by_hand() {
        // Mean 2, deviation 1; gamma 2, beta 1.
        let normalised = layer_norm(vec![1.0, 3.0], &[2.0, 2.0], &[1.0, 1.0]);
        assert_eq!(normalised.unit, [-1.0, 1.0]);
        assert_eq!(normalised.output, [-1.0, 3.0]);
        assert_eq!(column_sums(&[1.0, 2.0, 3.0, 4.0], 2), [4.0, 6.0]);
    }
}
