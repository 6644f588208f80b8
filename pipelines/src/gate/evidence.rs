//! What the rules are held against.

use std::collections::BTreeMap;

use crate::paired::Paired;
use crate::precision::PrecisionReport;

/// Right answers to the texts that people corrected, all of them ever.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Corrections {
    /// Corrected texts.
    pub n: usize,
    /// Right by the candidate, without memory.
    pub candidate_right: usize,
    /// Right by production, without memory.
    pub production_right: usize,
    /// Of those that production has not learned from: right by the candidate alone.
    pub newly_right: usize,
    /// The texts that production has right and the candidate wrong.
    pub lost: Vec<String>,
}

/// The sentences that somebody pinned with their call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expectations {
    /// How many there are.
    pub n: usize,
    /// Those that the candidate has wrong, each in words: the text, what it makes of it, what was expected.
    pub missed: Vec<String>,
}

/// What production is compared by; a first version has none.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Production's held-out exact match.
    pub exact_match: f64,
    /// Exact matches on all held-out examples.
    pub exact: Paired,
    /// Exact matches on the held-out examples whose function and arguments production knows; what is new cannot make up
    /// for what is lost on them.
    pub known: Paired,
    /// Exact matches on the others.
    pub new: Paired,
    /// Accepted calls on the out-of-scope examples ("right" means rejected).
    pub out_of_scope: Paired,
    /// Right decisions by function.
    pub functions: BTreeMap<String, Paired>,
}

/// Answers to the held-out questions on passages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answers {
    /// The candidate has an answer head and what it was trained from had none.
    pub is_new: bool,
    /// The candidate's mean F1; none without held-out questions.
    pub f1: Option<f64>,
    /// Production's mean F1; none without an answer head.
    pub production_f1: Option<f64>,
    /// Right answers beside production's.
    pub right: Paired,
}

/// What the best version so far is compared by; it may be production.
#[derive(Clone, Debug, PartialEq)]
pub struct Best {
    /// Its name.
    pub version: String,
    /// Its exact match on the examples of `exact`.
    pub exact_match: f64,
    /// Exact matches on the held-out examples that production knows and for which it is remembered what the best made of them.
    pub exact: Paired,
}

/// What a candidate is judged by.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// Held-out examples.
    pub held_out: usize,
    /// Held-out share of right decisions.
    pub accuracy: f64,
    /// Held-out exact match.
    pub exact_match: f64,
    /// Held-out share of accepted out-of-scope texts.
    pub false_accept_rate: Option<f64>,
    /// The served precision beside f32.
    pub precision: Option<PrecisionReport>,
    /// Median time of one request, in milliseconds.
    pub latency_ms: f64,
    /// Size of the version, in megabytes.
    pub size_mb: f64,
    /// Corrected texts.
    pub corrections: Corrections,
    /// Pinned sentences.
    pub expectations: Expectations,
    /// Functions and argument tags that production does not know.
    pub new_labels: usize,
    /// Answers from passages; none without an answer head.
    pub answers: Option<Answers>,
    /// The comparison with production.
    pub production: Option<Comparison>,
    /// The comparison with the best version that knows what production knows.
    pub best: Option<Best>,
}
