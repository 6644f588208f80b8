//! Multi-head self-attention of one sequence, over its real tokens only.
//!
//! Keys are transposed per head, so that scores of a query against many keys are one vector operation per dimension;
//! several queries share every load. Scores and their softmax are in f32.
//!
//! Invariant: only rows of the one sequence are looked at.

use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp};

use super::kernels::STRIPE;
use super::passes::{load, softmax, store};

/// Queries computed together: with two vectors each, as many sums as hide the latency of a fused multiply-add.
const QUERIES: usize = 8;

/// Work buffers of one head.
#[derive(Default)]
pub(super) struct AttentionScratch {
    queries: Vec<f32>,
    transposed_keys: Vec<f32>,
    values: Vec<f32>,
    scores: Vec<f32>,
}

impl AttentionScratch {
    /// Makes room for sequences of at most so many tokens.
    pub(super) fn reserve(&mut self, tokens: usize, head_dim: usize) {
        // A vector has at most 16 values.
        let padded = tokens.next_multiple_of(16);
        self.queries.resize(tokens * head_dim, 0.0);
        self.values.resize(tokens * head_dim, 0.0);
        self.transposed_keys.resize(head_dim * padded, 0.0);
        self.scores.resize(QUERIES * padded, 0.0);
    }
}

/// One head of one sequence.
///
/// # Shapes
/// `query_key_value`: striped, for `total_rows`; `context`: `[tokens, head_dim]`
pub(super) struct Attention<'a> {
    pub(super) head: usize,
    pub(super) head_dim: usize,
    pub(super) dim: usize,
    pub(super) total_rows: usize,
    pub(super) first: usize,
    pub(super) query_key_value: &'a [f32],
    pub(super) context: &'a mut [f32],
    pub(super) scratch: &'a mut AttentionScratch,
}

impl Attention<'_> {
    /// Hands out the values of some columns, token by token, in pieces that lie together.
    #[inline(always)]
    fn columns(&self, part: usize, tokens: usize, mut take: impl FnMut(usize, usize, &[f32])) {
        let start = part * self.dim + self.head * self.head_dim;
        let mut done = 0;
        while done < self.head_dim {
            let column = start + done;
            let width = (STRIPE - column % STRIPE).min(self.head_dim - done);
            let stripe = &self.query_key_value[(column / STRIPE * self.total_rows + self.first) * STRIPE..];
            for token in 0..tokens {
                take(token, done, &stripe[token * STRIPE + column % STRIPE..][..width]);
            }
            done += width;
        }
    }
}

impl SimdOp for Attention<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        let head_dim = self.head_dim;
        let tokens = self.context.len() / head_dim;
        let padded = tokens.next_multiple_of(ops.len());
        // As in `modeling_distilbert.py`, queries are divided by the square root of the head's width.
        let scale = 1.0 / (head_dim as f32).sqrt();
        let mut scratch = std::mem::take(&mut *self.scratch);
        scratch.reserve(tokens, head_dim);
        let AttentionScratch { queries, transposed_keys: keys, values, scores } = &mut scratch;
        self.columns(
            0,
            tokens,
            #[inline(always)]
            |token, at, piece| queries[token * head_dim + at..][..piece.len()].copy_from_slice(piece),
        );
        self.columns(
            1,
            tokens,
            #[inline(always)]
            |token, at, piece| {
                for (d, value) in piece.iter().enumerate() {
                    keys[(at + d) * padded + token] = value * scale;
                }
            },
        );
        self.columns(
            2,
            tokens,
            #[inline(always)]
            |token, at, piece| values[token * head_dim + at..][..piece.len()].copy_from_slice(piece),
        );
        // What earlier sequences left behind the last key would be multiplied, though never looked at.
        for d in 0..head_dim {
            keys[d * padded + tokens..(d + 1) * padded].fill(0.0);
        }
        for first in (0..tokens).step_by(QUERIES) {
            // The last block may repeat the last query; repeated results are not stored.
            let rows: [&[f32]; QUERIES] =
                std::array::from_fn(|q| &queries[(first + q).min(tokens - 1) * head_dim..][..head_dim]);
            weighted_sums(
                isa,
                rows,
                (&*keys, padded),
                padded,
                #[inline(always)]
                |q, at, sum| store(ops, sum, scores, q * padded + at),
            );
            let count = QUERIES.min(tokens - first);
            for q in 0..count {
                softmax(isa, &mut scores[q * padded..][..padded], tokens);
            }
            let weights: [&[f32]; QUERIES] = std::array::from_fn(|q| &scores[q * padded..][..tokens]);
            let context = &mut self.context[first * head_dim..][..count * head_dim];
            weighted_sums(
                isa,
                weights,
                (&*values, head_dim),
                head_dim,
                #[inline(always)]
                |q, at, sum| {
                    if q < count {
                        store(ops, sum, &mut context[q * head_dim..(q + 1) * head_dim], at);
                    }
                },
            );
        }
        *self.scratch = scratch;
    }
}

/// Sums of the rows of a matrix, weighted by each of several rows of factors.
///
/// # Shapes
/// `factors`: `[QUERIES, n]`; `matrix`: `[n, stride]`, of which `width` columns are summed
#[inline(always)]
fn weighted_sums<I: Isa>(
    isa: I,
    factors: [&[f32]; QUERIES],
    (matrix, stride): (&[f32], usize),
    width: usize,
    mut take: impl FnMut(usize, usize, I::F32),
) {
    let ops = isa.f32();
    let step = ops.len();
    let mut at = 0;
    while at + 2 * step <= width {
        let sums = columns::<I, 2>(isa, factors, matrix, stride, at);
        for (q, [left, right]) in sums.into_iter().enumerate() {
            take(q, at, left);
            take(q, at + step, right);
        }
        at += 2 * step;
    }
    while at < width {
        let sums = columns::<I, 1>(isa, factors, matrix, stride, at);
        for (q, [sum]) in sums.into_iter().enumerate() {
            take(q, at, sum);
        }
        at += step;
    }
}

#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "one index walks over several arrays at once")]
fn columns<I: Isa, const VECTORS: usize>(
    isa: I,
    factors: [&[f32]; QUERIES],
    matrix: &[f32],
    stride: usize,
    at: usize,
) -> [[I::F32; VECTORS]; QUERIES] {
    let ops = isa.f32();
    let mut sums = [[ops.zero(); VECTORS]; QUERIES];
    let count = factors[0].len();
    let factors = factors.map(|row| &row[..count]);
    for row in 0..count {
        let mut values = [ops.zero(); VECTORS];
        for (vector, value) in values.iter_mut().enumerate() {
            // A narrow matrix may end within the vector; what is read beyond its width is not stored.
            *value = load(ops, matrix, row * stride + at + vector * ops.len());
        }
        for q in 0..QUERIES {
            let factor = ops.splat(factors[q][row]);
            for vector in 0..VECTORS {
                sums[q][vector] = ops.mul_add(factor, values[vector], sums[q][vector]);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::instructions::{InstructionSet, Instructions};

    /// The definition, without any cleverness.
    fn reference(n_heads: usize, dim: usize, qkv: &[f32]) -> Vec<f32> {
        let (tokens, head_dim) = (qkv.len() / (3 * dim), dim / n_heads);
        let at = |token: usize, part: usize, column: usize| qkv[token * 3 * dim + part * dim + column];
        let mut context = vec![0.0; tokens * dim];
        for head in 0..n_heads {
            let columns = head * head_dim..(head + 1) * head_dim;
            for query in 0..tokens {
                let score = |key: usize| -> f32 {
                    columns.clone().map(|c| at(query, 0, c) * at(key, 1, c)).sum::<f32>() / (head_dim as f32).sqrt()
                };
                let exponentials: Vec<f32> = (0..tokens).map(|key| score(key).exp()).collect();
                let sum: f32 = exponentials.iter().sum();
                for column in columns.clone() {
                    context[query * dim + column] =
                        (0..tokens).map(|key| exponentials[key] / sum * at(key, 2, column)).sum();
                }
            }
        }
        context
    }

    #[test]
    fn equals_the_definition_for_any_length_and_width() {
        for (n_heads, dim, tokens) in [(1usize, 4usize, 1usize), (2, 8, 3), (3, 60, 17), (4, 64, 40), (2, 96, 9)] {
            let qkv: Vec<f32> = (0..tokens * 3 * dim).map(|i| ((i * 37 % 101) as f32 - 50.0) / 60.0).collect();
            let mut striped = vec![0.0; (3 * dim).next_multiple_of(STRIPE) * (tokens + 1)];
            for (index, value) in qkv.iter().enumerate() {
                let (row, column) = (index / (3 * dim) + 1, index % (3 * dim));
                striped[(column / STRIPE * (tokens + 1) + row) * STRIPE + column % STRIPE] = *value;
            }
            let head_dim = dim / n_heads;
            for set in InstructionSet::ALL {
                let Some(instructions) = Instructions::new(set) else { continue };
                let mut context = vec![0.0; tokens * dim];
                for head in 0..n_heads {
                    let mut of_head = vec![0.0; tokens * head_dim];
                    instructions.run(Attention {
                        head,
                        head_dim,
                        dim,
                        total_rows: tokens + 1,
                        first: 1,
                        query_key_value: &striped,
                        context: &mut of_head,
                        scratch: &mut AttentionScratch::default(),
                    });
                    for (token, values) in of_head.chunks(head_dim).enumerate() {
                        context[token * dim + head * head_dim..][..head_dim].copy_from_slice(values);
                    }
                }
                let expected = reference(n_heads, dim, &qkv);
                let worst = context.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst < 1e-5, "{set:?}, {n_heads} heads, {dim}, {tokens} tokens: {worst}");
            }
        }
    }
}
