//! The head that guesses masked words, as a burn module: the weights of a stage, no part of any checkpoint.

use burn::module::{Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData};

/// `vocab_transform`, `vocab_layer_norm` and the bias of `vocab_projector` of `DistilBertForMaskedLM` (Hugging Face's
/// `modeling_distilbert.py`); the projection's weights are the word embeddings.
#[derive(Module, Debug)]
pub struct VocabularyHead {
    /// `dim -> dim`, before GELU.
    pub transform: Linear,
    /// Over `dim`.
    pub norm: LayerNorm,
    /// `[vocab_size]`
    pub bias: Param<Tensor<1>>,
}

impl VocabularyHead {
    /// A head that passes hidden states on, and guesses words as often as `log_frequencies` say where they say nothing.
    pub fn new(dim: usize, log_frequencies: &[f32], device: &Device) -> Self {
        let mut identity = vec![0f32; dim * dim];
        identity.iter_mut().step_by(dim + 1).for_each(|value| *value = 1.0);
        let tensor = |values: Vec<f32>| Tensor::<1>::from_data(TensorData::new(values.clone(), [values.len()]), device);
        let mut transform = LinearConfig::new(dim, dim).init(device);
        transform.weight = Param::from_tensor(Tensor::from_data(TensorData::new(identity, [dim, dim]), device));
        transform.bias = Some(Param::from_tensor(tensor(vec![0.0; dim])));
        let norm = LayerNormConfig::new(dim).with_epsilon(1e-12).init(device);
        Self { transform, norm, bias: Param::from_tensor(tensor(log_frequencies.to_vec())) }
    }
}
