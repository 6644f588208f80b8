//! Everything that the weights of a fine-tune depend on, as one digest: a stopped run is gone on from by one with the same.

use mynah_registry::Digest;
use mynah_runtime::{Labels, Precision};

use crate::adaptation::Adaptation;
use crate::batch::EncodedExample;
use crate::error::Error;
use crate::fine_tune::FineTuneInput;
use crate::windows::AnswerWindow;

/// Where a fine-tune starts from.
pub(crate) struct Origin<'a> {
    /// The program that trains, and the device.
    pub engine: &'a str,
    /// The version or base whose weights, embeddings and logits it reads.
    pub parent: &'a Digest,
    /// Functions and tags of the candidate.
    pub labels: &'a Labels,
    /// The precision of the base that embeds the texts.
    pub precision: Precision,
    /// What the encoder reads before; none for nothing.
    pub adaptation: Option<&'a Adaptation>,
}

/// The digest of `input`. Embeddings, activations and production's logits follow from the tokens and the origin, so that
/// only their presence enters.
///
/// # Errors
/// Settings that cannot be written as JSON.
pub(crate) fn digest(input: &FineTuneInput<'_>, origin: &Origin<'_>) -> Result<Digest, Error> {
    let mut fields = Fields(Vec::new());
    let settings = serde_json::to_vec(input.settings)
        .map_err(|source| Error::Serialize { path: input.directory.to_path_buf(), message: source.to_string() })?;
    fields.bytes(origin.engine.as_bytes());
    fields.bytes(origin.parent.as_bytes());
    fields.bytes(format!("{:?}", origin.labels).as_bytes());
    fields.bytes(format!("{:?}", origin.precision).as_bytes());
    fields.bytes(&settings);
    for number in [input.epochs, input.batch_size, input.questions.passes] {
        fields.number(number as u64);
    }
    fields.number(input.function_surplus.len() as u64);
    input.function_surplus.iter().for_each(|surplus| fields.number(u64::from(surplus.to_bits())));
    fields.number(input.learning_rate.to_bits());
    fields.number(input.head_learning_rate.to_bits());
    fields.examples(&input.train);
    fields.examples(&input.validation);
    fields.windows(&input.questions.train);
    fields.windows(&input.questions.validation);
    let adaptation = origin.adaptation.map_or(&[][..], |adaptation| &adaptation.texts);
    fields.number(adaptation.len() as u64);
    adaptation.iter().for_each(|text| fields.ids(&text.input_ids));
    Ok(Digest::of(&fields.0))
}

/// Fields one after the other, each list behind its length, so that no two inputs give the same bytes.
struct Fields(Vec<u8>);

impl Fields {
    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn ids(&mut self, ids: &[u32]) {
        self.number(ids.len() as u64);
        ids.iter().for_each(|id| self.0.extend_from_slice(&id.to_be_bytes()));
    }

    fn examples(&mut self, examples: &[EncodedExample]) {
        self.number(examples.len() as u64);
        for example in examples {
            self.ids(&example.input_ids);
            self.number(u64::from(example.function));
            self.number(example.words.len() as u64);
            example.words.iter().for_each(|(position, tag)| self.ids(&[*position, *tag]));
            self.number(u64::from(example.weight.to_bits()));
            let given = [!example.embedding.is_empty(), example.below.is_some(), example.teacher.is_some()];
            self.0.extend(given.map(u8::from));
        }
    }

    fn windows(&mut self, windows: &[AnswerWindow]) {
        self.number(windows.len() as u64);
        for window in windows {
            self.ids(&window.input_ids);
            self.ids(&[window.start, window.end]);
            self.0.push(u8::from(!window.embedding.is_empty()));
        }
    }
}
