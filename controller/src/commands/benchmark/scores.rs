//! How often the whole decision (memory, model, thresholds) is right.

use std::fmt;

use mynah_data::{Example, OUT_OF_SCOPE};
use mynah_pipelines::{Progress, Stage};
use mynah_runtime::Mynah;
use serde::Serialize;

use crate::progress::RunProgress;

/// Texts that go through the model together.
const BATCH: usize = 64;

/// Shares of the texts with and without a function.
#[derive(Debug, Serialize)]
pub struct Scores {
    /// Texts with a function.
    pub in_scope: usize,
    /// The share of them that was understood as that function.
    pub in_scope_accuracy: f64,
    /// The share of them that no function was called for.
    pub in_scope_declined: f64,
    /// Texts without a function.
    pub out_of_scope: usize,
    /// The share of them that no function was called for; absent without such texts.
    pub out_of_scope_recall: Option<f64>,
}

impl Scores {
    /// Understands every text as a turn on its own.
    ///
    /// # Errors
    /// When the person stops it.
    pub fn measure(mynah: &Mynah, texts: &[Example], progress: &RunProgress) -> anyhow::Result<Self> {
        progress.stage(Stage::Evaluate, texts.len() as u64);
        let (mut in_scope, mut right, mut declined, mut out_of_scope, mut refused) = (0, 0, 0, 0, 0);
        let mut done = 0;
        for chunk in texts.chunks(BATCH) {
            if progress.is_cancelled() {
                return Err(mynah_pipelines::Error::Cancelled.into());
            }
            let words: Vec<&str> = chunk.iter().map(|example| example.text.as_str()).collect();
            for (example, understood) in chunk.iter().zip(mynah.predict_batch(&words)) {
                let function = understood.function.as_deref();
                if example.function == OUT_OF_SCOPE {
                    out_of_scope += 1;
                    refused += usize::from(function.is_none());
                } else {
                    in_scope += 1;
                    declined += usize::from(function.is_none());
                    right += usize::from(function == Some(example.function.as_str()));
                }
            }
            done += chunk.len() as u64;
            progress.advance(done, "");
        }
        let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
        Ok(Self {
            in_scope,
            in_scope_accuracy: share(right, in_scope),
            in_scope_declined: share(declined, in_scope),
            out_of_scope,
            out_of_scope_recall: (out_of_scope > 0).then(|| share(refused, out_of_scope)),
        })
    }
}

impl fmt::Display for Scores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "in-scope accuracy {:.3} of {} ({:.3} declined)",
            self.in_scope_accuracy, self.in_scope, self.in_scope_declined
        )?;
        match self.out_of_scope_recall {
            Some(recall) => write!(f, ", out-of-scope recall {recall:.3} of {}", self.out_of_scope),
            None => Ok(()),
        }
    }
}
