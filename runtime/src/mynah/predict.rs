//! Understanding without a conversation: no context, no handlers, no log.

use serde::Serialize;

use super::{Loaded, Mynah, Understanding};
use crate::decision::Decision;
use crate::functions::Argument;
use crate::memory::head;

/// What a text was understood as.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Understood {
    /// The text.
    pub text: String,
    /// The function that would be called; `None` when none is meant, or none is sure enough.
    pub function: Option<String>,
    /// Its normalised arguments, as far as the schema accepts them.
    pub arguments: Vec<Argument>,
    /// How sure the function is, in [0, 1]; without one, how sure the best guess was.
    pub confidence: f32,
    /// The head's most probable functions, best first.
    pub alternatives: Vec<(String, f32)>,
    /// The version that understood it.
    pub version: Option<String>,
}

impl Mynah {
    /// Understands one text.
    pub fn predict(&self, text: &str) -> Understood {
        let loaded = self.loaded();
        self.understood(&loaded, text, loaded.understand(text))
    }

    /// Understands several texts, each as [`Mynah::predict`] would, all by the same version.
    pub fn predict_batch(&self, texts: &[&str]) -> Vec<Understood> {
        let loaded = self.loaded();
        let heads: Vec<&str> = texts.iter().map(|text| head(text)).collect();
        let predictions = loaded.model.predict_batch(&heads);
        let understood = |(text, prediction): (&&str, _)| {
            self.understood(&loaded, text, loaded.understand_predicted(text, prediction))
        };
        texts.iter().zip(predictions).map(understood).collect()
    }

    fn understood(&self, loaded: &Loaded, text: &str, understanding: Understanding) -> Understood {
        let (function, confidence) = match &understanding.decision {
            Decision::Call { function, confidence, .. } => (Some(function.clone()), *confidence),
            Decision::Answer { confidence, .. }
            | Decision::Passage { confidence }
            | Decision::Abstain { confidence, .. } => (None, *confidence),
        };
        let arguments = function
            .as_deref()
            .map(|function| loaded.draft(function, head(text), &understanding, &self.now()).arguments);
        Understood {
            text: text.to_owned(),
            function,
            arguments: arguments.unwrap_or_default(),
            confidence,
            alternatives: understanding.prediction.probabilities,
            version: loaded.version.as_ref().map(|version| version.name.clone()),
        }
    }
}
