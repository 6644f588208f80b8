//! One direction a function: what its description and its examples have in common.
//!
//! The cosine to the mean of a class's embeddings is the classifier of prototypical networks (Snell et al. 2017, arXiv
//! 1703.05175). With few examples it is right more often than the nearest example: on CLINC150's validation split with
//! 3 examples a function 0.84 against 0.76.

use std::collections::BTreeMap;

use super::{Entry, Meaning, is_out_of_scope};
use crate::dot::dot;
use crate::rows::{Query, Rows};

/// The functions of a layer, each with one unit vector.
///
/// Invariant: there is one row a name. What is out of scope has nothing in common, and no prototype.
#[derive(Debug, Default)]
pub(super) struct Prototypes {
    names: Vec<String>,
    /// # Shapes
    /// `[names, dim]`
    rows: Rows,
}

impl Prototypes {
    /// The prototypes of entries with a row each.
    pub fn of(entries: &[Entry], embeddings: &Rows) -> Self {
        let dim = embeddings.dim;
        let mut sums: BTreeMap<&str, Vec<f32>> = BTreeMap::new();
        for (number, entry) in entries.iter().enumerate().take(embeddings.len()) {
            let (Meaning::Function { name, .. } | Meaning::Description(name)) = &entry.meaning else { continue };
            if is_out_of_scope(name) {
                continue;
            }
            let sum = sums.entry(name).or_insert_with(|| vec![0.0; dim]);
            sum.iter_mut().zip(embeddings.embedding(number)).for_each(|(sum, value)| *sum += value);
        }
        let mut prototypes = Self { names: Vec::new(), rows: Rows::new(dim) };
        for (name, sum) in sums {
            let norm = dot(&sum, &sum).sqrt();
            if norm > 0.0 {
                prototypes.names.push(name.to_owned());
                let unit: Vec<f32> = sum.iter().map(|value| value / norm).collect();
                prototypes.rows.push(&unit);
            }
        }
        prototypes
    }

    /// The functions that have examples or a description.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Whether a function has examples or a description.
    pub fn has(&self, function: &str) -> bool {
        self.names.binary_search_by(|name| name.as_str().cmp(function)).is_ok()
    }

    /// The `count` nearest functions with their cosine similarities, nearest first.
    pub fn nearest(&self, embedding: &[f32], count: usize) -> Vec<(&str, f32)> {
        if self.names.is_empty() || embedding.len() != self.rows.dim {
            return Vec::new();
        }
        let every: Vec<u32> = (0..self.names.len() as u32).collect();
        let similarities = self.rows.similarities(&every, &Query::of(embedding));
        let mut scored: Vec<(&str, f32)> = self.names.iter().map(String::as_str).zip(similarities).collect();
        let nearer = |a: &(&str, f32), b: &(&str, f32)| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(b.0));
        if count < scored.len() {
            scored.select_nth_unstable_by(count, nearer);
            scored.truncate(count);
        }
        scored.sort_unstable_by(nearer);
        scored
    }
}

#[cfg(test)]
mod tests {
    use mynah_data::Source;

    use super::*;

    fn entry(meaning: Meaning) -> Entry {
        Entry { text: String::new(), meaning, source: Source::Written, origin: String::new(), at: None }
    }

    fn example(name: &str) -> Entry {
        entry(Meaning::Function { name: name.into(), slots: Vec::new() })
    }

    #[test]
    fn a_function_is_where_its_examples_and_description_point() {
        let entries = [
            example("a"),
            entry(Meaning::Description("a".into())),
            example("b"),
            example("oos"),
            entry(Meaning::Answer("x".into())),
        ];
        let embeddings = [1.0, 0.0, 0.0, 1.0, -1.0, 0.0, 0.0, -1.0, 0.6, 0.8];
        let prototypes = Prototypes::of(&entries, &Rows::from_embeddings(&embeddings, 2));
        let half = std::f32::consts::FRAC_1_SQRT_2;
        let nearest = prototypes.nearest(&[1.0, 0.0], 9);
        assert_eq!(nearest.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["a", "b"]);
        assert!((nearest[0].1 - half).abs() < 5e-3 && (nearest[1].1 + 1.0).abs() < 5e-3, "{nearest:?}");
        assert_eq!(prototypes.nearest(&[1.0], 9), [], "an embedding of another width is near nothing");
        // Opposite examples have no direction in common.
        assert!(
            Prototypes::of(&[example("a"), example("a")], &Rows::from_embeddings(&[1.0, 0.0, -1.0, 0.0], 2))
                .names
                .is_empty()
        );
    }
}
