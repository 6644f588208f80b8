//! Multi-head self-attention of one sequence, over its real tokens only.
//!
//! Keys are transposed per head, so that scores of a query against many keys are one vector operation per dimension;
//! several queries share every load. Scores and their softmax are in f32.
//!
//! Invariant: only rows of the one sequence are read.

use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp};

use super::passes::{load, softmax, store};

/// Queries computed together: as many accumulators as hide the latency of a fused multiply-add.
const QUERIES: usize = 8;

/// # Shapes
/// `query_key_value`: `[tokens, 3 * dim]`; `context`: `[tokens, dim]`
pub(super) struct Attention<'a> {
    pub(super) n_heads: usize,
    pub(super) dim: usize,
    pub(super) query_key_value: &'a [f32],
    pub(super) context: &'a mut [f32],
    pub(super) transposed_keys: &'a mut Vec<f32>,
    pub(super) scores: &'a mut Vec<f32>,
}

impl SimdOp for Attention<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "one index walks over several arrays at once")]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        let (dim, width) = (self.dim, 3 * self.dim);
        let head_dim = dim / self.n_heads;
        let tokens = self.context.len() / dim;
        let padded = tokens.next_multiple_of(ops.len());
        self.transposed_keys.clear();
        self.transposed_keys.resize(head_dim * padded, 0.0);
        self.scores.resize(QUERIES * padded, 0.0);
        let (keys, scores) = (self.transposed_keys.as_mut_slice(), self.scores.as_mut_slice());
        // As in `modeling_distilbert.py`, queries are divided by the square root of the head's width.
        let scale = 1.0 / (head_dim as f32).sqrt();

        for head in 0..self.n_heads {
            let query_at = head * head_dim;
            let (key_at, value_at) = (dim + query_at, 2 * dim + query_at);
            for token in 0..tokens {
                let key = &self.query_key_value[token * width + key_at..][..head_dim];
                for (d, value) in key.iter().enumerate() {
                    keys[d * padded + token] = value * scale;
                }
            }
            for first in (0..tokens).step_by(QUERIES) {
                // The last block may repeat the last query; repeated results are not stored.
                let query: [usize; QUERIES] = std::array::from_fn(|q| (first + q).min(tokens - 1));
                let queries: [&[f32]; QUERIES] =
                    query.map(|token| &self.query_key_value[token * width + query_at..][..head_dim]);
                for block in (0..padded).step_by(ops.len()) {
                    let mut sums = [ops.zero(); QUERIES];
                    for d in 0..head_dim {
                        let key = load(ops, keys, d * padded + block);
                        for q in 0..QUERIES {
                            sums[q] = ops.mul_add(ops.splat(queries[q][d]), key, sums[q]);
                        }
                    }
                    for q in 0..QUERIES {
                        store(ops, sums[q], scores, q * padded + block);
                    }
                }
                let count = QUERIES.min(tokens - first);
                for q in 0..count {
                    softmax(isa, &mut scores[q * padded..][..padded], tokens);
                }
                let weights: [&[f32]; QUERIES] = std::array::from_fn(|q| &scores[q * padded..][..tokens]);
                for column in (0..head_dim).step_by(ops.len()) {
                    let mut sums = [ops.zero(); QUERIES];
                    for token in 0..tokens {
                        let value = &self.query_key_value[token * width + value_at..][..head_dim];
                        let value = load(ops, value, column);
                        for q in 0..QUERIES {
                            sums[q] = ops.mul_add(ops.splat(weights[q][token]), value, sums[q]);
                        }
                    }
                    for q in 0..count {
                        let row = &mut self.context[(first + q) * dim + query_at..][..head_dim];
                        store(ops, sums[q], row, column);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for (n_heads, dim, tokens) in [(1, 4, 1), (2, 8, 3), (3, 60, 17), (4, 64, 40), (2, 96, 9)] {
            let qkv: Vec<f32> = (0..tokens * 3 * dim).map(|i| ((i * 37 % 101) as f32 - 50.0) / 60.0).collect();
            let mut context = vec![0.0; tokens * dim];
            Attention {
                n_heads,
                dim,
                query_key_value: &qkv,
                context: &mut context,
                transposed_keys: &mut Vec::new(),
                scores: &mut Vec::new(),
            }
            .dispatch();
            let expected = reference(n_heads, dim, &qkv);
            let worst = context.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-5, "{n_heads} heads, {dim}, {tokens} tokens: {worst}");
        }
    }
}
