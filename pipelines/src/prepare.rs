//! From labelled examples to what the training steps read: tokens and labels, the base's embeddings, production's
//! logits, and what the frozen layers make of a text.

use mynah_data::Example;
use mynah_registry::{Registry, Version};
use mynah_runtime::{Checkpoint, Labels, Model, Precision, Tokenizer};
use std::path::Path;
use std::sync::Arc;

use crate::activations::Activations;
use crate::adaptation::Adaptation;
use crate::answers::question_input;
use crate::batch::{Batch, EncodedExample, Teacher};
use crate::corpus::{Corpus, Replay, balanced, tokens_of};
use crate::device::host;
use crate::distilbert::JointModel;
use crate::error::Error;
use crate::fine_tune::{QuestionInput, freeze_model};
use crate::native::{Network, Signal};
use crate::prior;
use crate::progress::Progress;
use crate::settings::TrainingSettings;
use crate::trainee::{Objective, largest};
use crate::weights;

/// Texts that the teacher reads at once.
const TEACHER_BATCH: usize = 32;

/// Where training starts from and with what.
pub(crate) struct Beginning<'a> {
    /// The version or base.
    pub version: &'a Version,
    /// Its checkpoint.
    pub checkpoint: &'a Checkpoint,
    /// Functions and tags of the candidate.
    pub labels: &'a Labels,
    /// Whether it is a version, which has something to teach, rather than a base.
    pub is_version: bool,
    /// Whether the questions were learned by it already.
    pub knows_questions: bool,
    /// How many older examples are trained on again, and as many choose the epoch; none: all.
    pub replay: Option<Replay>,
    /// What people said, for the encoder to be adapted to; nothing for no adaptation.
    pub said: &'a [String],
    /// The resolved settings.
    pub settings: &'a TrainingSettings,
}

/// What the training steps read.
pub(crate) struct Prepared {
    /// The weights to start from, on the CPU, frozen where they stay as they are.
    pub model: JointModel,
    /// Examples whose loss is minimised.
    pub train: Vec<EncodedExample>,
    /// Examples that choose the best epoch.
    pub validation: Vec<EncodedExample>,
    /// Questions beside the examples.
    pub questions: QuestionInput,
    /// What the encoder reads before the fine-tune.
    pub adaptation: Option<Adaptation>,
    /// What the epoch has too much of, see [`crate::prior`]; empty when it is the data set.
    pub function_surplus: Vec<f32>,
}

impl Beginning<'_> {
    /// Prepares `epoch` and the validation examples of `corpus`; `is_new` says what production has not seen.
    ///
    /// # Errors
    /// A checkpoint that lacks a tensor, a cache that cannot be written, [`Error::Cancelled`].
    pub fn prepare(
        &self,
        corpus: &Corpus,
        epoch: &[Example],
        is_new: impl Fn(&Example) -> bool,
        (registry, precision): (&Registry, Precision),
        cache: &Path,
        progress: &dyn Progress,
    ) -> Result<Prepared, Error> {
        let settings = self.settings;
        let tokenizer = Tokenizer::from_checkpoint(self.checkpoint)?;
        let encode = |example: &Example| EncodedExample::new(example, self.labels, &tokenizer, settings.max_tokens);
        let (mut train, mut is_old) = (Vec::with_capacity(epoch.len()), Vec::with_capacity(epoch.len()));
        for example in epoch {
            if let Some(encoded) = encode(example) {
                train.push(encoded);
                is_old.push(!is_new(example));
            }
        }
        // The epoch that is kept should have the corrections right, too.
        let (new, old) = corpus.corrections.iter().partition(|example| is_new(example));
        // How many there are must not tell in the time of a run after a conversation.
        let judges = [(corpus.dataset.validation.iter().collect(), 2), (new, 8), (old, 8)];
        let judges = judges.into_iter().flat_map(|(examples, share): (Vec<&Example>, usize)| match self.replay {
            Some(Replay { seed, .. }) => balanced(examples, settings.replay_tokens / share, tokens_of, seed),
            None => examples,
        });
        let mut validation: Vec<EncodedExample> = judges.filter_map(encode).collect();
        let function_surplus = match self.replay {
            Some(_) if settings.logit_adjustment > 0.0 => {
                let all = corpus.dataset.train.iter();
                let rows = all.filter_map(|example| self.labels.function_id(&example.function));
                let mut surplus = prior::surplus(&train, rows, self.labels.functions.len());
                surplus.iter_mut().for_each(|surplus| *surplus *= settings.logit_adjustment);
                surplus
            }
            _ => Vec::new(),
        };
        let mut questions = question_input(&corpus.questions, self.checkpoint, settings, self.knows_questions)?;
        let mut adaptation = Adaptation::encode(self.said, &tokenizer, self.checkpoint.config().vocab_size, settings)?;
        if settings.embedding_loss_weight > 0.0 {
            let anchor = anchor(registry, self.version, precision)?;
            let texts = train.iter_mut().map(|text| (&text.input_ids, &mut text.embedding)).collect();
            remember_embeddings(texts, &anchor, progress)?;
            let windows = questions.train.iter_mut();
            let windows = windows.map(|window| (&window.input_ids, &mut window.embedding)).collect();
            remember_embeddings(windows, &anchor, progress)?;
            let said = adaptation.iter_mut().flat_map(|adaptation| &mut adaptation.texts);
            let said = said.map(|text| (&text.input_ids, &mut text.embedding)).collect();
            remember_embeddings(said, &anchor, progress)?;
        }
        if validation.is_empty() {
            // Too few examples for a split of their own: the last epoch is as good a choice as any.
            validation = train.clone();
        }
        // Wherever the steps are computed: what is remembered and taught does not depend on it.
        let device = host().autodiff();
        let mut model = weights::load(self.checkpoint, self.labels, settings.seed, &device)?;
        if !questions.train.is_empty() {
            weights::ensure_answer_head(&mut model, settings.seed, &device);
        }
        let model = freeze_model(model, settings)?;
        let network = Network::read(&model, 0, false);
        if settings.frozen_layers > 0 {
            let mut activations = Activations::open(cache, &network);
            for set in [&mut train, &mut validation] {
                let texts: Vec<&[u32]> = set.iter().map(|example| example.input_ids.as_slice()).collect();
                let rows = activations.of(&texts, &network, progress)?;
                set.iter_mut().zip(rows).for_each(|(example, rows)| example.below = Some(rows));
            }
            activations.save()?;
        }
        if self.is_version && settings.distillation_weight > 0.0 {
            let upper = (settings.frozen_layers > 0).then(|| Network::read(&model, settings.frozen_layers, true));
            self.teach(&mut train, &is_old, upper.as_ref().unwrap_or(&network), progress)?;
        }
        Ok(Prepared { model, train, validation, questions, adaptation, function_surplus })
    }

    /// Adds what production says of the old texts, where it is right: the weights to start from are production's.
    fn teach(
        &self,
        train: &mut [EncodedExample],
        is_old: &[bool],
        network: &Network,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let known = self.checkpoint.labels()?.unwrap_or_default();
        let (functions, tags) = (known.functions.len(), known.tags.len());
        let mut old: Vec<&mut EncodedExample> = train
            .iter_mut()
            .zip(is_old)
            .filter(|(example, is_old)| **is_old && (example.function as usize) < functions)
            .map(|(example, _)| example)
            .collect();
        for chunk in old.chunks_mut(TEACHER_BATCH) {
            if progress.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let batch = Batch::new(&chunk.iter().map(|example| &**example).collect::<Vec<_>>());
            let scores = network.texts(&batch, &Objective::default(), Signal::Score);
            let width = scores.functions.len() / chunk.len();
            let tag_width = scores.tags.len() / batch.words.len().max(1);
            let mut word = 0;
            for (example, row) in chunk.iter_mut().zip(scores.functions.chunks_exact(width)) {
                let words = example.words.len();
                let rows = scores.tags[word * tag_width..(word + words) * tag_width].chunks_exact(tag_width.max(1));
                word += words;
                let said = largest(&row[..functions]);
                let tags_said: Vec<f32> = rows.flat_map(|row| &row[..tags.min(row.len())]).copied().collect();
                if said == example.function as usize {
                    example.teacher = Some(Arc::new(Teacher {
                        functions: row[..functions].to_vec(),
                        tags: tags_said,
                        tag_count: tags.min(tag_width),
                    }));
                }
            }
        }
        Ok(())
    }
}

/// The model whose embeddings every version keeps close to: the base that its lineage starts from.
pub(crate) fn anchor(registry: &Registry, parent: &Version, precision: Precision) -> Result<Model, Error> {
    let base = parent.manifest.base.unwrap_or(parent.manifest_digest);
    let base = registry.version(&base.to_string())?;
    Ok(Model::load(&Checkpoint::from_verified(&registry.verify(&base)?)?, precision)?)
}

/// Computes the anchor's embedding of every text.
fn remember_embeddings(
    mut texts: Vec<(&Vec<u32>, &mut Vec<f32>)>,
    anchor: &Model,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let mut done = 0;
    for chunk in texts.chunks_mut(64) {
        if progress.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let ids: Vec<&[u32]> = chunk.iter().map(|(ids, _)| ids.as_slice()).collect();
        let embeddings = anchor.embed_ids(&ids)?;
        for ((_, place), embedding) in chunk.iter_mut().zip(embeddings) {
            **place = embedding;
        }
        done += chunk.len() as u64;
        progress.advance(done, "");
    }
    Ok(())
}
