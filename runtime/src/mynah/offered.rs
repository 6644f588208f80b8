//! Functions that are offered for a while instead of the home's: those of one request.
//!
//! A function that the home has as well keeps its examples and replies; one that it has not is found by its name and its
//! description alone. Invariants: nothing is written; a function that is not offered is never called; what is offered was
//! embedded with the model that replies.

use std::collections::HashSet;
use std::sync::Arc;

use mynah_data::{Function, Functions};

use super::{Loaded, Mynah, MynahError};
use crate::decision::{Decider, Decision, Evidence, Label, Prototype};
use crate::dot::dot;
use crate::functions::Toolbox;
use crate::model::Prediction;

/// Functions that a reply may call, made ready by [`Mynah::offer`].
#[derive(Debug, Clone)]
pub struct Offered {
    /// What the home had loaded when it was made.
    base: Arc<Loaded>,
    loaded: Arc<Loaded>,
    known: bool,
}

/// Whether one of the offered functions has to be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice {
    /// When the text asks for it.
    #[default]
    Free,
    /// Whatever the text says: the likeliest one.
    Required,
}

/// The offered functions, as a decision needs them.
#[derive(Debug, Clone)]
pub(crate) struct Offer {
    names: HashSet<String>,
    /// One unit vector for each function that the home has no examples of.
    ///
    /// # Shapes
    /// `[functions, dim]`
    described: Vec<(String, Vec<f32>)>,
    choice: Choice,
}

impl Offered {
    /// Whether every function is one of the home's, so that turns with it may be learned from.
    pub fn is_known(&self) -> bool {
        self.known
    }

    pub(crate) fn loaded(&self) -> &Arc<Loaded> {
        &self.loaded
    }
}

impl Mynah {
    /// Makes functions ready to be called in place of the home's.
    ///
    /// # Errors
    /// [`MynahError::Schema`] when the parameters of one are not a JSON Schema.
    pub fn offer(&self, functions: &Functions, choice: Choice) -> Result<Offered, MynahError> {
        self.refresh_for_reply();
        let base = self.loaded();
        let known = functions.functions.iter().all(|function| base.functions.get(&function.name).is_some());
        let functions = Functions {
            functions: functions.functions.iter().map(|function| with_examples(function, &base.functions)).collect(),
            out_of_scope: Vec::new(),
        };
        let unknown: Vec<&Function> =
            functions.functions.iter().filter(|function| !base.has_examples_of(&function.name)).collect();
        let offer = Offer {
            names: functions.functions.iter().map(|function| function.name.clone()).collect(),
            described: described(&base, &unknown),
            choice,
        };
        let mut loaded = Loaded::clone(&base);
        loaded.toolbox = Arc::new(Toolbox::new(&functions)?);
        loaded.functions = Arc::new(functions);
        loaded.offer = Some(Arc::new(offer));
        Ok(Offered { base, loaded: Arc::new(loaded), known })
    }

    /// Whether what was offered was made from what is loaded now, so that it may be used again.
    pub fn is_current(&self, offered: &Offered) -> bool {
        Arc::ptr_eq(&offered.base, &self.loaded())
    }
}

impl Offer {
    pub fn has(&self, function: &str) -> bool {
        self.names.contains(function)
    }

    /// Whether a call is made whatever the text says.
    pub fn requires_call(&self) -> bool {
        self.choice == Choice::Required && !self.names.is_empty()
    }

    /// Whether nothing but its description is known of a function.
    pub fn is_described(&self, function: &str) -> bool {
        self.described.iter().any(|(name, _)| name == function)
    }

    /// What the head says about the functions that are offered, or that none is meant.
    pub fn of_head(&self, prediction: &Prediction) -> Option<(String, f32)> {
        let function = prediction.function.clone()?;
        let counts = self.has(&function) || crate::memory::is_out_of_scope(&function);
        // With functions that the head never saw, "none that I know" says nothing.
        let counts = counts && (self.has(&function) || self.described.is_empty());
        counts.then_some((function, prediction.confidence))
    }

    pub fn has_label(&self, label: &Label) -> bool {
        match label {
            Label::Function(name) => self.has(name) || crate::memory::is_out_of_scope(name),
            Label::Answer => true,
        }
    }

    /// The functions that are known by their description alone, beside a text.
    pub fn prototypes(&self, embedding: &[f32]) -> impl Iterator<Item = Prototype> {
        self.described.iter().map(|(function, vector)| Prototype {
            function: function.clone(),
            similarity: if vector.len() == embedding.len() { dot(vector, embedding) } else { 0.0 },
            known_to_head: false,
        })
    }

    /// The decision, or the likeliest call when one is required.
    pub fn decided(&self, decision: Decision, evidence: &Evidence) -> Decision {
        if !self.requires_call() || matches!(decision, Decision::Call { .. }) {
            return decision;
        }
        let likeliest = evidence.prototypes.first().map(|one| (one.function.clone(), one.similarity));
        let first = self.names.iter().min().map(|name| (name.clone(), 0.0));
        match likeliest.or(first) {
            Some((function, similarity)) => {
                Decision::Call { function, confidence: similarity.clamp(0.0, 1.0), decider: Decider::Vote(None) }
            }
            None => decision,
        }
    }
}

/// The function as it is offered, with the examples and replies that the home has for it.
fn with_examples(function: &Function, home: &Functions) -> Function {
    match home.get(&function.name) {
        Some(known) => {
            Function { examples: known.examples.clone(), replies: known.replies.clone(), ..function.clone() }
        }
        None => function.clone(),
    }
}

/// One direction a function: what its name and its description have in common.
fn described(base: &Loaded, functions: &[&Function]) -> Vec<(String, Vec<f32>)> {
    let texts: Vec<String> = functions
        .iter()
        .flat_map(|function| {
            let name = function.name.replace(['_', '-', '.'], " ");
            let description = function.description.trim();
            [if description.is_empty() { name.clone() } else { description.to_owned() }, name]
        })
        .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let embeddings = base.model.embed(&texts);
    functions
        .iter()
        .zip(embeddings.chunks(2))
        .filter_map(|(function, pair)| {
            let [description, name] = pair else { return None };
            let sum: Vec<f32> = description.iter().zip(name).map(|(a, b)| a + b).collect();
            let norm = dot(&sum, &sum).sqrt();
            let unit = sum.iter().map(|value| value / norm.max(f32::MIN_POSITIVE)).collect();
            Some((function.name.clone(), unit))
        })
        .collect()
}
