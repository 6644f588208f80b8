//! Settings of a run: plain structs with documented defaults.
//!
//! The `[training]` and `[gate]` tables of `mynah.toml` deserialise into these; unknown keys are
//! refused. The resolved values are stored with every version that a run makes.

use serde::{Deserialize, Serialize};

use crate::device::TrainingDevice;
use crate::error::Error;

/// How a candidate is fine-tuned: the `[training]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainingSettings {
    /// Passes over the training examples; unset: between 5 and 30, so that a small data set still
    /// gets enough steps, and between 2 and 15 in a run after a conversation.
    pub epochs: Option<usize>,
    /// Peak learning rate of the encoder; unset: chosen by the model's width, 2e-4 at 384 dimensions.
    pub learning_rate: Option<f64>,
    /// Share of the learning rate that is used when training starts from a version rather than from a
    /// base: enough to learn what is new, little enough to keep what is known.
    pub continued_learning_rate_factor: f64,
    /// The same for a run after a conversation all of which is about functions that the version does not know; in
    /// proportion, where a part is: they have to be told apart from all others, which takes larger steps than keeping apart what
    /// is apart already.
    pub new_function_learning_rate_factor: f64,
    /// Learning rate of the heads, as a multiple of the encoder's when it starts from a base; heads always
    /// learn at the full rate, since new functions live in them.
    pub head_learning_rate_factor: f64,
    /// Factor between the learning rates of one layer and the layer below it (1: all alike).
    pub layer_decay: f64,
    /// Share of the steps over which the learning rate rises to its peak; it falls linearly after.
    pub warmup_ratio: f64,
    /// Examples in a batch; unset: 16 for up to 2,000 training examples, else 32.
    pub batch_size: Option<usize>,
    /// Longest text in tokens, `[CLS]` and `[SEP]` included; the rest is cut.
    pub max_tokens: usize,
    /// Decoupled weight decay of AdamW (arXiv 1711.05101).
    pub weight_decay: f32,
    /// Decoupled pull towards the weights that training starts from (L2-SP, arXiv 1802.01483); 0 for none.
    pub start_decay: f32,
    /// Weight of the distance to what production says of older texts (arXiv 1503.02531); 0 for none.
    pub distillation_weight: f32,
    /// What both sides' logits are divided by before they are compared.
    pub distillation_temperature: f32,
    /// How much of the surplus of the functions that a run after a conversation sees most is taken from what it learns
    /// (logit adjustment, arXiv 2007.07314): 1 for all of it, 0 for nothing.
    pub logit_adjustment: f32,
    /// Largest gradient norm of one parameter tensor; larger ones are scaled down to it.
    pub gradient_clip: f32,
    /// Dropout in the encoder.
    pub dropout: f64,
    /// Dropout before the function and argument heads.
    pub head_dropout: f64,
    /// Label smoothing of the function head (arXiv 1512.00567).
    pub label_smoothing: f32,
    /// Weight of the argument loss beside the function loss.
    pub argument_loss_weight: f32,
    /// Weight of the cosine distance between the mean-pooled embedding of a text, or of a question with its passage,
    /// and the base's. It keeps neighbours neighbours, on which memory and knowledge depend.
    pub embedding_loss_weight: f32,
    /// How many copies of every example with arguments get the values of other examples, while there
    /// are at most 4,000 examples.
    pub value_swaps: usize,
    /// Whether the embeddings keep their weights.
    pub freeze_embeddings: bool,
    /// How many of the lowest layers keep their weights.
    pub frozen_layers: usize,
    /// How many of the lowest layers keep their weights in a run after a conversation, embeddings included; unset: half of
    /// them. What they make of a text is computed once and remembered in `cache/`.
    pub session_frozen_layers: Option<usize>,
    /// Tokens of older examples that are trained on again in a run after a conversation, balanced over the functions. The
    /// time of such a run depends on this and on what is new, not on how much there is.
    pub replay_tokens: usize,
    /// Tokens of older examples for each token of what is new, where that comes to more than `replay_tokens`.
    pub replay_share: f64,
    /// Epochs without a better validation score after which training stops.
    pub patience: usize,
    /// How often an older correction is seen in one epoch, at most; new ones are seen up to 12 times. Together they are no
    /// more than a quarter of it.
    pub correction_repeats: usize,
    /// Whether new labels that other sessions contradict, or that production and the nearest examples agree against, are held
    /// back until somebody confirms them; memory has them at once all the same.
    pub hold_back: bool,
    /// How much of the weight of an epoch the labels of one session may have, in (0, 1); those of new functions do not count.
    pub session_share: f64,
    /// Whether texts that no function is meant for (small talk, common knowledge, nonsense, other languages) are trained
    /// against, as far as they are unlike everything that the home teaches.
    pub background: bool,
    /// Passes over the imported questions, spread over the run; 0 leaves the answer head as it is.
    pub answer_epochs: usize,
    /// Questions with a passage in a batch.
    pub answer_batch_size: usize,
    /// Longest window of a question with its passage in tokens, `[CLS]` and both `[SEP]` included.
    pub answer_window_tokens: usize,
    /// Tokens of a passage that neighbouring windows share.
    pub answer_overlap: usize,
    /// Share of the questions that are also put to another passage, so that the head learns to say "no answer".
    pub answer_negatives: f64,
    /// Windows that are seen again when training goes on from a version that has learned these questions already.
    pub answer_replay: usize,
    /// Passes over what people said, labelled or not, in which the upper layers guess masked words before they are fine-tuned
    /// (arXiv 2004.10964); 0 for none. Never after a conversation.
    pub adaptation_epochs: usize,
    /// Peak learning rate of these passes; unset: that of a fine-tune from a base.
    pub adaptation_learning_rate: Option<f64>,
    /// The share of the tokens of a text that are guessed, one at least.
    pub adaptation_mask_share: f64,
    /// How many of the lowest layers keep their weights in these passes, embeddings always; unset: half of them.
    pub adaptation_frozen_layers: Option<usize>,
    /// Tokens of the texts at most; of more, the seed chooses.
    pub adaptation_tokens: usize,
    /// Where the steps are computed: `cpu`, `cuda` or `wgpu`, with `:1` and so on for another card than the first. The weights
    /// differ by the rounding of the device.
    pub device: TrainingDevice,
    /// Seed of shuffling, dropout and new heads.
    pub seed: u64,
}

impl Default for TrainingSettings {
    fn default() -> Self {
        Self {
            epochs: None,
            learning_rate: None,
            continued_learning_rate_factor: 0.3,
            new_function_learning_rate_factor: 0.8,
            head_learning_rate_factor: 3.0,
            layer_decay: 1.0,
            warmup_ratio: 0.1,
            batch_size: None,
            max_tokens: 128,
            weight_decay: 0.01,
            start_decay: 0.0,
            distillation_weight: 2.0,
            distillation_temperature: 2.0,
            logit_adjustment: 1.0,
            gradient_clip: 1.0,
            dropout: 0.1,
            head_dropout: 0.1,
            label_smoothing: 0.05,
            argument_loss_weight: 2.0,
            embedding_loss_weight: 1.0,
            value_swaps: 2,
            freeze_embeddings: true,
            frozen_layers: 0,
            session_frozen_layers: None,
            replay_tokens: 8_192,
            replay_share: 3.0,
            patience: 4,
            correction_repeats: 6,
            hold_back: true,
            session_share: 0.5,
            background: true,
            answer_epochs: 2,
            answer_batch_size: 16,
            answer_window_tokens: 256,
            answer_overlap: 64,
            answer_negatives: 0.1,
            answer_replay: 512,
            adaptation_epochs: 0,
            adaptation_learning_rate: None,
            adaptation_mask_share: 0.15,
            adaptation_frozen_layers: None,
            adaptation_tokens: 131_072,
            device: TrainingDevice::Cpu,
            seed: 42,
        }
    }
}

impl TrainingSettings {
    /// Refuses what no training can be done with.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub(crate) fn check(&self) -> Result<(), Error> {
        let refuse = |key: &'static str, value: String, expected: &'static str| {
            Err(Error::Setting { table: "training", key, value, expected })
        };
        if self.batch_size == Some(0) {
            return refuse("batch_size", "0".into(), "at least 1");
        }
        if !(3..=512).contains(&self.max_tokens) {
            return refuse("max_tokens", self.max_tokens.to_string(), "between 3 and 512");
        }
        if self.learning_rate.is_some_and(|rate| !(rate > 0.0 && rate <= 1.0)) {
            let value = self.learning_rate.unwrap_or_default().to_string();
            return refuse("learning_rate", value, "above 0 and at most 1");
        }
        if self.answer_batch_size == 0 {
            return refuse("answer_batch_size", "0".into(), "at least 1");
        }
        if !(16..=512).contains(&self.answer_window_tokens) {
            return refuse("answer_window_tokens", self.answer_window_tokens.to_string(), "between 16 and 512");
        }
        if !(0.0..=1.0).contains(&self.answer_negatives) {
            return refuse("answer_negatives", self.answer_negatives.to_string(), "at least 0 and at most 1");
        }
        if !(self.session_share > 0.0 && self.session_share < 1.0) {
            return refuse("session_share", self.session_share.to_string(), "above 0 and below 1");
        }
        for (key, factor) in [
            ("continued_learning_rate_factor", self.continued_learning_rate_factor),
            ("new_function_learning_rate_factor", self.new_function_learning_rate_factor),
        ] {
            if !(factor > 0.0 && factor <= 10.0) {
                return refuse(key, factor.to_string(), "above 0 and at most 10");
            }
        }
        if !(0.0..=2.0).contains(&self.logit_adjustment) {
            return refuse("logit_adjustment", self.logit_adjustment.to_string(), "between 0 and 2");
        }
        if !(0.0..=100.0).contains(&self.replay_share) {
            return refuse("replay_share", self.replay_share.to_string(), "between 0 and 100");
        }
        if !(self.adaptation_mask_share > 0.0 && self.adaptation_mask_share <= 0.5) {
            return refuse("adaptation_mask_share", self.adaptation_mask_share.to_string(), "above 0 and at most 0.5");
        }
        if self.adaptation_learning_rate.is_some_and(|rate| !(rate > 0.0 && rate <= 1.0)) {
            let value = self.adaptation_learning_rate.unwrap_or_default().to_string();
            return refuse("adaptation_learning_rate", value, "above 0 and at most 1");
        }
        for (key, value) in [("dropout", self.dropout), ("head_dropout", self.head_dropout)] {
            if !(0.0..1.0).contains(&value) {
                return refuse(key, value.to_string(), "at least 0 and below 1");
            }
        }
        Ok(())
    }

    /// The settings of a run after a conversation, on a model of `n_layers` with `examples` in an epoch; `unknown` is the share
    /// of what is new that is about functions which the version does not know.
    pub(crate) fn for_session(&self, n_layers: usize, examples: usize, unknown: f64) -> Self {
        let frozen = self.session_frozen_layers.unwrap_or(n_layers / 2).min(n_layers);
        // About 200 steps: what is replayed was learned before. Where there is much, two passes over more of it are worth more
        // than four over less.
        let steps_per_epoch = examples.div_ceil(self.batch_size_for(examples)).max(1);
        Self {
            epochs: self.epochs.or(Some(200usize.div_ceil(steps_per_epoch).clamp(2, 15))),
            frozen_layers: self.frozen_layers.max(frozen),
            freeze_embeddings: self.freeze_embeddings || frozen > 0,
            continued_learning_rate_factor: self.continued_learning_rate_factor * (1.0 - unknown)
                + self.new_function_learning_rate_factor * unknown,
            adaptation_epochs: 0,
            ..self.clone()
        }
    }

    /// The batch size for `examples` training texts when none is set.
    pub fn batch_size_for(&self, examples: usize) -> usize {
        self.batch_size.unwrap_or(if examples <= 2_000 { 16 } else { 32 }).max(1)
    }

    /// The number of epochs for `examples` training texts when none is set.
    ///
    /// `continued` says that training starts from a version rather than from a base.
    pub fn epochs_for(&self, examples: usize, continued: bool) -> usize {
        if let Some(epochs) = self.epochs {
            return epochs.max(1);
        }
        // About 500 steps for a small set, never fewer than 5 passes over a large one.
        let steps_per_epoch = examples.div_ceil(self.batch_size_for(examples)).max(1);
        let epochs = (500usize.div_ceil(steps_per_epoch)).clamp(5, 30);
        if continued { epochs.div_ceil(2).max(5) } else { epochs }
    }

    /// The peak learning rate for an encoder of `dim` dimensions; a rate that was set is used as it is.
    pub fn learning_rate_for(&self, dim: usize, continued: bool) -> f64 {
        let factor = if continued { self.continued_learning_rate_factor } else { 1.0 };
        self.learning_rate.unwrap_or_else(|| factor * 2e-4 * (384.0 / dim.max(1) as f64).powf(1.5))
    }

    /// The peak learning rate of the adaptation of an encoder of `dim` dimensions.
    pub(crate) fn adaptation_learning_rate_for(&self, dim: usize) -> f64 {
        self.adaptation_learning_rate.unwrap_or_else(|| self.learning_rate_for(dim, false))
    }

    /// How many of `n_layers` the adaptation leaves as they are: those that the fine-tune does, at least.
    pub(crate) fn adaptation_frozen_layers_of(&self, n_layers: usize) -> usize {
        self.adaptation_frozen_layers.unwrap_or(n_layers / 2).max(self.frozen_layers).min(n_layers)
    }
}

/// When a candidate is promoted: the `[gate]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GateSettings {
    /// The loss of held-out exact match that has to be ruled out, in [0, 1], by an exact paired test. Of candidates that lost
    /// as much, `significance` at most get through.
    pub margin: f64,
    /// Level of both sides of that: at which a loss, however small, is shown, and at which one of the margin is ruled out.
    /// 0.025 stands for the 95 % interval: it must reach above zero, and must not reach down to the margin.
    pub significance: f64,
    /// Held-out examples below which hardly any loss can be ruled out, so that one net broken example is let pass instead,
    /// whatever the reason to promote. Above, a candidate that is as good but changes much is refused more often than not;
    /// below, one that lost two points gets through in a quarter to half of the cases (`mynah simulate gate`). A refused one is
    /// tried again with the next labels, and memory answers corrections meanwhile.
    pub few_examples: usize,
    /// How far below the best version so far a candidate may be, in [0, 1] of the held-out exact match, one example in any case.
    /// Each promotion may lose to the one before what nobody can see; this bounds what many in a row lose. It is a bound on
    /// what is seen, without a test: the smaller, the less drifts and the more often one that is as good is refused
    /// (`mynah simulate gate`).
    pub drift_allowance: f64,
    /// How much of the exact match on what production knows may be lost, in [0, 1], by a candidate that brings functions or
    /// arguments with a third as many held-out examples as there were (with fewer, less in proportion) and is better beyond
    /// chance on everything together: with more functions all of them are harder to tell apart.
    pub new_function_allowance: f64,
    /// Level at which a better held-out score is a reason to promote; exact match and answers share it.
    pub better_significance: f64,
    /// Level at which the fall of a part (a function, the out-of-scope texts) counts as real; the functions that could
    /// reach it share it.
    pub part_significance: f64,
    /// How much of its held-out recall a single function may lose, in [0, 1].
    pub function_allowance: f64,
    /// Held-out examples below which a function is not judged alone.
    pub function_min_examples: usize,
    /// Share of the corrections that the candidate must have right without memory, in [0, 1].
    pub corrections_right: f64,
    /// Share of the corrections that production may have right and the candidate wrong, in [0, 1], rounded down: none of
    /// fewer than a hundred. (Memory answers the corrected words themselves, whatever the weights say.)
    pub corrections_lost: f64,
    /// How much the share of accepted out-of-scope texts may rise, in [0, 1].
    pub out_of_scope_allowance: f64,
    /// Share of held-out texts on which the served precision must choose the same function as f32, below which it must not
    /// fall beyond chance (at `part_significance`). Always kept when f32 serves.
    pub precision_agreement: f64,
    /// Held-out accuracy that a first version must reach, in [0, 1].
    pub first_accuracy: f64,
    /// Longest median time of one request on the serving path, in milliseconds.
    pub max_latency_ms: f64,
    /// Largest size of a version, in megabytes.
    pub max_size_mb: f64,
}

impl Default for GateSettings {
    fn default() -> Self {
        Self {
            margin: 0.02,
            significance: 0.025,
            few_examples: 500,
            drift_allowance: 0.01,
            new_function_allowance: 0.05,
            better_significance: 0.05,
            part_significance: 0.1,
            function_allowance: 0.10,
            function_min_examples: 8,
            corrections_right: 0.9,
            corrections_lost: 0.01,
            out_of_scope_allowance: 0.05,
            precision_agreement: 0.99,
            first_accuracy: 0.5,
            max_latency_ms: 500.0,
            max_size_mb: 2048.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_sets_get_more_epochs() {
        let settings = TrainingSettings::default();
        assert_eq!(settings.epochs_for(13_000, false), 5);
        assert_eq!(settings.epochs_for(320, false), 25);
        assert_eq!(settings.epochs_for(320, true), 13);
        let fixed = TrainingSettings { epochs: Some(2), ..settings };
        assert_eq!(fixed.epochs_for(320, true), 2);
    }

    #[test]
    fn a_run_after_a_conversation_is_short() {
        let settings = TrainingSettings::default();
        let epochs = |examples| settings.for_session(6, examples, 0.0).epochs_for(examples, true);
        assert_eq!((epochs(20), epochs(320), epochs(900), epochs(3_000)), (15, 10, 4, 3));
        let fixed = TrainingSettings { epochs: Some(6), ..settings.clone() };
        assert_eq!(fixed.for_session(6, 900, 0.0).epochs_for(900, true), 6);
        assert_eq!(settings.for_session(6, 900, 0.0).frozen_layers, 3);
    }

    #[test]
    fn what_brings_new_functions_takes_larger_steps() {
        let settings = TrainingSettings::default();
        let rate = |unknown| settings.for_session(6, 100, unknown).learning_rate_for(384, true) / 2e-4;
        for (unknown, factor) in [(0.0, 0.3), (0.5, 0.55), (1.0, 0.8)] {
            assert!((rate(unknown) - factor).abs() < 1e-12, "{unknown}");
        }
        let fixed = TrainingSettings { learning_rate: Some(1e-5), ..settings };
        assert_eq!(fixed.for_session(6, 100, 1.0).learning_rate_for(384, true), 1e-5);
    }

    #[test]
    fn unknown_keys_are_refused() {
        let error = serde_json::from_str::<GateSettings>(r#"{"margn": 0.1}"#).unwrap_err();
        assert!(error.to_string().contains("margn"), "{error}");
    }

    #[test]
    fn learning_rate_falls_with_width() {
        let settings = TrainingSettings::default();
        assert!((settings.learning_rate_for(384, false) - 2e-4).abs() < 1e-12);
        assert!(settings.learning_rate_for(768, false) < settings.learning_rate_for(256, false));
        assert!((settings.learning_rate_for(384, true) - 6e-5).abs() < 1e-12);
    }
}
