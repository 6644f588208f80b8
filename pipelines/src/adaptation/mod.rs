//! Masked-language adaptation (Gururangan et al. 2020, arXiv 2004.10964): before it is fine-tuned, the encoder guesses masked
//! words of what people said in the home, labelled or not.
//!
//! Off by default, and never in a run after a conversation. The head that guesses goes when the stage is over; embeddings
//! and lower layers keep their weights, and the mean-pooled embedding of a text is kept near the base's, as in a
//! fine-tune. The stage has no checkpoints: a run that is taken up again before the first checkpoint of its fine-tune does
//! it again from the start, which `adaptation_tokens` bounds, and a later one does without it.
//!
//! *Invariant:* the same texts, settings and weights give the same weights, with any number of threads; what is read is
//! what [`texts`] let through.

mod head;
mod masking;
#[cfg(test)]
mod tests;
mod texts;

use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::module::{Module, ParamGroup};
use burn::optim::ModuleOptimizer;
use burn::tensor::Device;
use mynah_runtime::Tokenizer;
use serde::Serialize;

pub(crate) use head::VocabularyHead;
pub(crate) use masking::{MaskableText, MaskedBatch, Masking};
pub(crate) use texts::texts;

use crate::adamw::AdamW;
use crate::batch::{Order, plan, shuffle};
use crate::distilbert::JointModel;
use crate::dropout::split_mix;
use crate::error::Error;
use crate::fine_tune::freeze_model;
use crate::native::{Dropout, Gradients, Network, Signal, VocabularyWeights};
use crate::progress::{Progress, Stage};
use crate::schedule::WarmupLinear;
use crate::settings::TrainingSettings;

/// Texts of a batch.
const BATCH: usize = 32;

/// Tells the order, masks and dropout of this stage from those of the fine-tune.
const SALT: u64 = 0x6164_6170_7461_7469;

/// What the head learns faster than the encoder: it starts from nothing and is not kept.
const HEAD_RATE: f64 = 5.0;

/// The texts of a home, ready to be masked.
pub(crate) struct Adaptation {
    /// In the order in which they were chosen.
    pub texts: Vec<MaskableText>,
    masking: Masking,
    vocabulary: usize,
}

/// What the stage came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Adapted {
    /// How many texts were read.
    pub texts: usize,
    /// Their tokens.
    pub tokens: usize,
    /// Mean cross entropy of the masked tokens in every epoch, in nats; empty when an earlier run read them.
    pub losses: Vec<f64>,
}

/// The encoder with the head that guesses words.
#[derive(Module, Debug)]
pub(crate) struct MaskedModel {
    /// The weights that are kept.
    pub model: JointModel,
    /// What guesses.
    pub head: VocabularyHead,
}

impl Adaptation {
    /// Tokenizes `said` as far as `settings` allow, chosen by the seed where that is not far enough; none without texts.
    ///
    /// # Errors
    /// [`Error::NoMaskToken`].
    pub fn encode(
        said: &[String],
        tokenizer: &Tokenizer,
        vocabulary: usize,
        settings: &TrainingSettings,
    ) -> Result<Option<Self>, Error> {
        let mut texts: Vec<MaskableText> = said
            .iter()
            .map(|text| MaskableText::new(tokenizer.encode(text, settings.max_tokens).input_ids))
            .filter(|text| text.maskable() > 0)
            .collect();
        let mut random = settings.seed ^ SALT;
        shuffle(&mut texts, &mut random);
        let mut left = settings.adaptation_tokens;
        let fits = texts.iter().take_while(|text| match left.checked_sub(text.input_ids.len()) {
            Some(rest) => {
                left = rest;
                true
            }
            None => false,
        });
        let count = fits.count();
        texts.truncate(count);
        if texts.is_empty() {
            return Ok(None);
        }
        let mask = tokenizer.token_id("[MASK]").ok_or(Error::NoMaskToken)?;
        let masking = Masking::new(&texts, mask, settings.adaptation_mask_share, settings.seed ^ SALT);
        Ok(Some(Self { texts, masking, vocabulary }))
    }

    /// How much there is to read.
    pub fn size(&self) -> Adapted {
        let tokens = self.texts.iter().map(|text| text.input_ids.len()).sum();
        Adapted { texts: self.texts.len(), tokens, losses: Vec::new() }
    }

    /// `model` with upper layers that have read the texts. It runs on the CPU, wherever the weights are.
    ///
    /// # Errors
    /// [`Error::Cancelled`] and [`Error::Diverged`].
    pub fn apply(
        &self,
        mut model: JointModel,
        settings: &TrainingSettings,
        progress: &dyn Progress,
    ) -> Result<(JointModel, Adapted), Error> {
        let epochs = settings.adaptation_epochs;
        progress.stage(Stage::Adapt, (epochs * self.texts.len()) as u64);
        let (home, cpu) = (model.pre_classifier.weight.device(), Device::flex().autodiff());
        let [dim, _] = model.pre_classifier.weight.dims();
        let layers = &mut model.distilbert.transformer.layer;
        let first = settings.adaptation_frozen_layers_of(layers.len());
        let frozen = TrainingSettings { freeze_embeddings: true, frozen_layers: first, ..settings.clone() };
        let mut trainee = MaskedModel {
            model: freeze_model(model.clone().fork(&cpu), &frozen)?,
            head: VocabularyHead::new(dim, &self.masking.log_frequencies(self.vocabulary), &cpu),
        };
        let lengths: Vec<usize> = self.texts.iter().map(|text| text.input_ids.len()).collect();
        let order = Order::Shuffled { seed: settings.seed ^ SALT };
        let mut scheduler = self.schedule(settings, dim)?;
        let mut optimizer = ModuleOptimizer::from(AdamW { start_decay: 0.0, ..AdamW::of(settings) });
        let (mut losses, mut seen, mut number) = (Vec::with_capacity(epochs), 0, 0u64);
        for epoch in 0..epochs {
            let (mut sum, mut masked) = (0f64, 0usize);
            for chosen in plan(&lengths, BATCH, order, epoch as u64) {
                if progress.is_cancelled() {
                    return Err(Error::Cancelled);
                }
                let batch = MaskedBatch::new(&self.texts, &chosen, &self.masking, epoch as u64);
                let stream = split_mix(settings.seed ^ SALT ^ split_mix(number));
                let dropout = Dropout { stream, encoder: settings.dropout, head: 0.0 };
                let mut gradients = Gradients::new(&cpu.clone().inner());
                let loss = {
                    let network = Network::read(&trainee.model, 0, false);
                    let head = VocabularyWeights::read(&trainee.head);
                    let signal = Signal::Learn(Some(dropout), &mut gradients);
                    network.masked(&head, &batch, settings.embedding_loss_weight, signal)
                };
                if !loss.total.is_finite() {
                    return Err(Error::Diverged);
                }
                trainee = optimizer.step(scheduler.step(), trainee, gradients.into_params());
                number += 1;
                seen += chosen.len() as u64;
                sum += loss.words * batch.targets.len() as f64;
                masked += batch.targets.len();
                progress.advance(seen, &format!("epoch {}/{epochs}, loss {:.2}", epoch + 1, sum / masked as f64));
            }
            losses.push(sum / masked as f64);
        }
        let MaskedModel { model: trained, .. } = trainee;
        if !crate::weights::is_finite(&trained)? {
            return Err(Error::Diverged);
        }
        // Layers that were trained here are trained by the fine-tune, too.
        let trained = trained.distilbert.transformer.layer.into_iter().skip(first);
        for (layer, trained) in model.distilbert.transformer.layer.iter_mut().skip(first).zip(trained) {
            *layer = trained.fork(&home);
        }
        Ok((model, Adapted { losses, ..self.size() }))
    }

    /// The encoder's learning rate, and the head's.
    fn schedule(&self, settings: &TrainingSettings, dim: usize) -> Result<ModuleLrScheduler, Error> {
        let peak = settings.adaptation_learning_rate_for(dim);
        let steps = settings.adaptation_epochs * self.texts.len().div_ceil(BATCH);
        let rate = |factor: f64| WarmupLinear::new(peak * factor, settings.warmup_ratio, steps);
        let head =
            ParamGroup::from_regex(r"^head\.").map_err(|source| Error::Training { message: format!("{source:?}") })?;
        Ok(ModuleLrScheduler::new(rate(1.0)).with_group(head, rate(HEAD_RATE)))
    }
}
