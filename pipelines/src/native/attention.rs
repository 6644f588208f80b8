//! Attention inside each sequence of a ragged batch, and its derivative.

use rayon::prelude::*;

use super::matrix::{Output, Threads, View, dot, exp, multiply, total, wide};

/// Where the sequences of a batch begin, and the end of the last one.
pub(super) type Starts = [usize];

/// Queries, keys and values, `[rows, dim]` each.
pub(super) struct Projected {
    /// What each token asks for.
    pub query: Vec<f32>,
    /// What it is found by.
    pub key: Vec<f32>,
    /// What it says.
    pub value: Vec<f32>,
}

/// What attention made of them, and what its derivative needs.
pub(super) struct Attended {
    /// `[rows, dim]`
    pub context: Vec<f32>,
    /// Of every sequence, `[n_heads, length, length]`.
    probabilities: Vec<f32>,
}

/// Splits `[rows, dim]` at the sequences.
fn sequences<'a>(mut rows: &'a mut [f32], starts: &Starts, size: impl Fn(usize) -> usize) -> Vec<&'a mut [f32]> {
    let mut parts = Vec::with_capacity(starts.len() - 1);
    for pair in starts.windows(2) {
        let (part, rest) = rows.split_at_mut(size(pair[1] - pair[0]));
        parts.push(part);
        rows = rest;
    }
    parts
}

#[derive(Clone, Copy)]
pub(super) struct Heads {
    /// How many.
    pub count: usize,
    /// Width of the model.
    pub dim: usize,
}

impl Heads {
    fn width(self) -> usize {
        self.dim / self.count
    }

    fn scale(self) -> f32 {
        1.0 / (self.width() as f32).sqrt()
    }

    /// Softmax of the scaled scores times the values.
    pub fn forward(self, input: &Projected, starts: &Starts) -> Attended {
        let Self { count, dim } = self;
        let width = self.width();
        let mut context = vec![0f32; input.query.len()];
        let mut probabilities = vec![0f32; starts.windows(2).map(|pair| count * (pair[1] - pair[0]).pow(2)).sum()];
        let contexts = sequences(&mut context, starts, |length| length * dim);
        let tables = sequences(&mut probabilities, starts, |length| count * length * length);
        (contexts, tables, starts.par_windows(2)).into_par_iter().for_each(|(context, tables, pair)| {
            let length = pair[1] - pair[0];
            let range = pair[0] * dim..pair[1] * dim;
            let [query, key, value] = [&input.query, &input.key, &input.value].map(|rows| &rows[range.clone()]);
            for (head, table) in tables.chunks_exact_mut(length * length).enumerate() {
                let at = head * width;
                let view = |rows| View::strided(rows, length, width, dim);
                let scores = (Output::Replace, self.scale());
                multiply((table, length), view(&query[at..]), view(&key[at..]).transposed(), scores, Threads::One);
                wide(|| table.chunks_exact_mut(length).for_each(softmax));
                let output = (&mut context[at..], dim);
                let table = View::new(table, length, length);
                multiply(output, table, view(&value[at..]), (Output::Replace, 1.0), Threads::One);
            }
        });
        Attended { context, probabilities }
    }

    /// Derivatives of queries, keys and values from that of the context.
    pub fn backward(self, input: &Projected, attended: &Attended, gradient: &[f32], starts: &Starts) -> Projected {
        let Self { count, dim } = self;
        let width = self.width();
        let mut output = Projected {
            query: vec![0f32; gradient.len()],
            key: vec![0f32; gradient.len()],
            value: vec![0f32; gradient.len()],
        };
        let mut offsets = Vec::with_capacity(starts.len());
        let mut offset = 0;
        for pair in starts.windows(2) {
            offsets.push(offset);
            offset += count * (pair[1] - pair[0]).pow(2);
        }
        let size = |length: usize| length * dim;
        let queries = sequences(&mut output.query, starts, size);
        let keys = sequences(&mut output.key, starts, size);
        let values = sequences(&mut output.value, starts, size);
        (queries, keys, values, starts.par_windows(2), offsets).into_par_iter().for_each(
            |(d_query, d_key, d_value, pair, offset)| {
                let length = pair[1] - pair[0];
                let range = pair[0] * dim..pair[1] * dim;
                let [query, key, value] = [&input.query, &input.key, &input.value].map(|rows| &rows[range.clone()]);
                let gradient = &gradient[range];
                let mut scores = vec![0f32; length * length];
                let view = |rows| View::strided(rows, length, width, dim);
                for head in 0..count {
                    let at = head * width;
                    let table = &attended.probabilities[offset + head * length * length..][..length * length];
                    let probabilities = View::new(table, length, length);
                    let replace = (Output::Replace, 1.0);
                    let context = view(&gradient[at..]);
                    multiply((&mut d_value[at..], dim), probabilities.transposed(), context, replace, Threads::One);
                    let value = view(&value[at..]).transposed();
                    multiply((&mut scores, length), context, value, replace, Threads::One);
                    wide(|| {
                        for (gradient, row) in scores.chunks_exact_mut(length).zip(table.chunks_exact(length)) {
                            let mean = dot(gradient, row);
                            gradient.iter_mut().zip(row).for_each(|(gradient, p)| *gradient = p * (*gradient - mean));
                        }
                    });
                    let scaled = (Output::Replace, self.scale());
                    let scores = View::new(&scores, length, length);
                    multiply((&mut d_query[at..], dim), scores, view(&key[at..]), scaled, Threads::One);
                    multiply((&mut d_key[at..], dim), scores.transposed(), view(&query[at..]), scaled, Threads::One);
                }
            },
        );
        output
    }
}

/// Softmax in place.
#[inline(always)]
pub(super) fn softmax(row: &mut [f32]) {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter_mut().for_each(|value| *value = exp(*value - largest));
    let inverse = 1.0 / total(row);
    row.iter_mut().for_each(|value| *value *= inverse);
}
