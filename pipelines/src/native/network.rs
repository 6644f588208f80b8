//! The weights as slices, the encoder over them, and where its derivatives go.

use burn::module::{Param, ParamId};
use burn::nn;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use mynah_registry::Digest;

use super::attention::Heads;
use super::block::{Block, Norm, Trace};
use super::linear::{Linear, LinearGradient};
use super::pointwise::{Mask, Normalised, layer_norm, layer_norm_backward};
use crate::batch::Ragged;
use crate::distilbert::JointModel;
use crate::dropout::split_mix;

/// The places of dropout: the embeddings, each layer, each head.
pub(crate) const EMBEDDING_PLACE: u64 = 0;
pub(crate) const LAYER_PLACE: u64 = 1;

/// A tensor's numbers beside what burn calls it.
pub(super) struct Weight {
    pub id: ParamId,
    pub is_trained: bool,
    data: TensorData,
}

impl Weight {
    pub fn of<const D: usize>(param: &Param<Tensor<D>>) -> Self {
        let tensor = param.val();
        let is_trained = tensor.is_require_grad();
        Self { id: param.id, is_trained, data: tensor.inner().into_data() }
    }

    pub fn values(&self) -> &[f32] {
        self.data.as_slice().expect("weights are f32")
    }
}

/// A linear layer.
pub(super) struct LinearWeights {
    pub weight: Weight,
    pub bias: Weight,
}

impl LinearWeights {
    pub fn of(linear: &nn::Linear) -> Self {
        let bias = linear.bias.as_ref().expect("every linear layer of DistilBERT has a bias");
        Self { weight: Weight::of(&linear.weight), bias: Weight::of(bias) }
    }

    pub fn view(&self) -> Linear<'_> {
        Linear { weight: self.weight.values(), bias: self.bias.values() }
    }
}

/// Scale and shift of a normalisation.
pub(super) struct NormWeights {
    gamma: Weight,
    beta: Weight,
}

impl NormWeights {
    pub fn of(norm: &nn::LayerNorm) -> Self {
        let beta = norm.beta.as_ref().expect("every normalisation of DistilBERT has a shift");
        Self { gamma: Weight::of(&norm.gamma), beta: Weight::of(beta) }
    }

    pub fn view(&self) -> Norm<'_> {
        Norm { gamma: self.gamma.values(), beta: self.beta.values() }
    }
}

struct LayerWeights {
    linears: [LinearWeights; 6],
    norms: [NormWeights; 2],
}

impl LayerWeights {
    fn is_trained(&self) -> bool {
        self.linears[0].weight.is_trained
    }

    fn view(&self, heads: Heads) -> Block<'_> {
        let [query, key, value, out, up, down] = self.linears.each_ref().map(LinearWeights::view);
        let [attention_norm, output_norm] = self.norms.each_ref().map(NormWeights::view);
        Block { projections: [query, key, value], out, attention_norm, up, down, output_norm, heads }
    }
}

struct EmbeddingWeights {
    words: Weight,
    positions: Weight,
    norm: NormWeights,
}

/// A model's weights at one step.
pub(crate) struct Network {
    /// None when the batch brings what lies below.
    embeddings: Option<EmbeddingWeights>,
    /// From `first` on.
    layers: Vec<LayerWeights>,
    /// The layer that `layers` begins with.
    first: usize,
    pub(super) pre_classifier: LinearWeights,
    pub(super) classifier: LinearWeights,
    pub(super) slot_classifier: LinearWeights,
    pub(super) qa_outputs: Option<LinearWeights>,
    pub(super) heads: Heads,
}

/// Dropout of a step: the stream its masks come from, and the probability inside the encoder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dropout {
    /// Differs from step to step.
    pub stream: u64,
    /// Inside the encoder.
    pub encoder: f64,
    /// Before the heads.
    pub head: f64,
}

impl Dropout {
    /// The mask of one place; none without dropout there.
    pub fn mask(self, place: u64, probability: f64) -> Option<Mask> {
        Mask::new(self.stream ^ split_mix(place.wrapping_add(1)), probability)
    }
}

/// What a forward pass leaves.
pub(super) struct Forward {
    embedded: Option<(Normalised, Option<Mask>)>,
    traces: Vec<Trace>,
    /// `[rows, dim]` when no layer is trained.
    untraced: Vec<f32>,
}

impl Forward {
    /// Hidden states of the last layer, `[rows, dim]`.
    pub fn hidden(&self) -> &[f32] {
        self.traces.last().map_or(&self.untraced, Trace::output)
    }
}

/// Derivatives by parameter.
pub(crate) struct Gradients {
    device: Device,
    params: GradientsParams,
}

impl Gradients {
    /// None yet; `device` is the one of the weights, without autodiff.
    pub fn new(device: &Device) -> Self {
        Self { device: device.clone(), params: GradientsParams::new() }
    }

    pub(super) fn put<const D: usize>(&mut self, weight: &Weight, values: Vec<f32>, shape: [usize; D]) {
        if weight.is_trained {
            self.params.register(weight.id, Tensor::<D>::from_data(TensorData::new(values, shape), &self.device));
        }
    }

    pub(super) fn linear(&mut self, weights: &LinearWeights, gradient: LinearGradient) {
        let output = gradient.bias.len();
        let input = gradient.weight.len() / output;
        self.put(&weights.weight, gradient.weight, [input, output]);
        self.put(&weights.bias, gradient.bias, [output]);
    }

    pub(super) fn norm(&mut self, weights: &NormWeights, (gamma, beta): (Vec<f32>, Vec<f32>)) {
        let dim = gamma.len();
        self.put(&weights.gamma, gamma, [dim]);
        self.put(&weights.beta, beta, [dim]);
    }

    /// As burn's optimizer takes them.
    pub fn into_params(self) -> GradientsParams {
        self.params
    }
}

impl Network {
    /// Reads the weights of `model` from layer `first` on, and the embeddings only when that is the lowest one and
    /// nothing is given in their place.
    pub fn read(model: &JointModel, first: usize, below_is_given: bool) -> Self {
        let embeddings = &model.distilbert.embeddings;
        let dim = model.pre_classifier.weight.dims()[0];
        let layers = model.distilbert.transformer.layer.iter().skip(first).map(|layer| {
            let attention = &layer.attention;
            let (up, down) = (&layer.ffn.lin1, &layer.ffn.lin2);
            LayerWeights {
                linears: [&attention.q_lin, &attention.k_lin, &attention.v_lin, &attention.out_lin, up, down]
                    .map(LinearWeights::of),
                norms: [&layer.sa_layer_norm, &layer.output_layer_norm].map(NormWeights::of),
            }
        });
        Self {
            embeddings: (!below_is_given).then(|| EmbeddingWeights {
                words: Weight::of(&embeddings.word_embeddings.weight),
                positions: Weight::of(&embeddings.position_embeddings.weight),
                norm: NormWeights::of(&embeddings.layer_norm),
            }),
            layers: layers.collect(),
            first,
            pre_classifier: LinearWeights::of(&model.pre_classifier),
            classifier: LinearWeights::of(&model.classifier),
            slot_classifier: LinearWeights::of(&model.slot_classifier),
            qa_outputs: model.qa_outputs.as_ref().map(LinearWeights::of),
            heads: Heads { count: model.n_heads, dim },
        }
    }

    /// Width of the model.
    pub fn dim(&self) -> usize {
        self.heads.dim
    }

    /// `[vocab_size, dim]`
    pub(super) fn word_embeddings(&self) -> &[f32] {
        self.embeddings.as_ref().expect("read with embeddings").words.values()
    }

    /// The embeddings of `batch`, normalised, `[rows, dim]`.
    fn embed(&self, embeddings: &EmbeddingWeights, batch: &Ragged) -> Normalised {
        let dim = self.dim();
        let (words, positions) = (embeddings.words.values(), embeddings.positions.values());
        let mut rows = Vec::with_capacity(batch.input_ids.len() * dim);
        for pair in batch.starts.windows(2) {
            for (position, id) in batch.input_ids[pair[0]..pair[1]].iter().enumerate() {
                let word = &words[*id as usize * dim..][..dim];
                let place = &positions[position * dim..][..dim];
                rows.extend(word.iter().zip(place).map(|(word, place)| word + place));
            }
        }
        let Norm { gamma, beta } = embeddings.norm.view();
        layer_norm(rows, gamma, beta)
    }

    /// The hidden states of the last layer, keeping what the derivatives need.
    pub(super) fn forward(&self, batch: &Ragged, dropout: Option<Dropout>) -> Forward {
        let mask = |place| dropout.and_then(|dropout| dropout.mask(place, dropout.encoder));
        let mut embedded = None;
        let mut hidden = match (&self.embeddings, &batch.below) {
            (_, Some(below)) => below.clone(),
            (Some(embeddings), None) => {
                let normalised = self.embed(embeddings, batch);
                let mut output = normalised.output.clone();
                let mask = mask(EMBEDDING_PLACE).filter(|_| self.first == 0 && !self.is_frozen(0));
                if let Some(mask) = mask {
                    mask.apply(&mut output);
                }
                embedded = embeddings.words.is_trained.then_some((normalised, mask));
                output
            }
            (None, None) => unreachable!("a network without embeddings reads batches that bring what lies below"),
        };
        let mut traces = Vec::with_capacity(self.layers.len());
        for (index, layer) in self.layers.iter().enumerate() {
            let block = layer.view(self.heads);
            // A frozen layer gives the same in every epoch, so that it can be remembered.
            let mask = mask(LAYER_PLACE + (self.first + index) as u64).filter(|_| layer.is_trained());
            let trace = block.forward(hidden, &batch.starts, mask);
            hidden = if layer.is_trained() || embedded.is_some() || !traces.is_empty() {
                let output = trace.output().to_vec();
                traces.push(trace);
                output
            } else {
                trace.into_output()
            };
        }
        Forward { embedded, traces, untraced: hidden }
    }

    /// Derivatives of every trained weight of the encoder from that of its last hidden states.
    pub(super) fn backward(&self, batch: &Ragged, forward: &Forward, mut gradient: Vec<f32>, into: &mut Gradients) {
        let traced = self.layers.len() - forward.traces.len();
        for (index, trace) in forward.traces.iter().enumerate().rev() {
            let layer = &self.layers[traced + index];
            let below = index > 0 || forward.embedded.is_some();
            let block = layer.view(self.heads).backward(trace, &mut gradient, &batch.starts, below);
            layer.linears.iter().zip(block.linears).for_each(|(weights, gradient)| into.linear(weights, gradient));
            layer.norms.iter().zip(block.norms).for_each(|(weights, gradient)| into.norm(weights, gradient));
        }
        if let (Some((normalised, mask)), Some(embeddings)) = (&forward.embedded, &self.embeddings) {
            if let Some(mask) = mask {
                mask.apply(&mut gradient);
            }
            let norm = layer_norm_backward(&mut gradient, normalised, embeddings.norm.view().gamma);
            into.norm(&embeddings.norm, norm);
            self.embedding_gradient(embeddings, batch, &gradient, into);
        }
    }

    fn embedding_gradient(&self, weights: &EmbeddingWeights, batch: &Ragged, gradient: &[f32], into: &mut Gradients) {
        let dim = self.dim();
        let mut words = vec![0f32; weights.words.values().len()];
        let mut positions = vec![0f32; weights.positions.values().len()];
        for pair in batch.starts.windows(2) {
            for (position, row) in (pair[0]..pair[1]).enumerate() {
                let gradient = &gradient[row * dim..][..dim];
                super::pointwise::add(&mut words[batch.input_ids[row] as usize * dim..][..dim], gradient);
                super::pointwise::add(&mut positions[position * dim..][..dim], gradient);
            }
        }
        let (word_rows, position_rows) = (words.len() / dim, positions.len() / dim);
        into.put(&weights.words, words, [word_rows, dim]);
        into.put(&weights.positions, positions, [position_rows, dim]);
    }

    fn is_frozen(&self, layer: usize) -> bool {
        self.layers.get(layer).is_some_and(|layer| !layer.is_trained())
    }

    /// Names everything that [`Self::below_first_trained`] depends on besides the text.
    pub fn frozen_digest(&self) -> Digest {
        let embeddings = self.embeddings.as_ref().expect("read with embeddings");
        let mut bytes = (self.heads.count as u64).to_le_bytes().to_vec();
        let mut add = |weight: &Weight| bytes.extend(Digest::of(weight.data.as_bytes()).as_bytes());
        let norm = &embeddings.norm;
        [&embeddings.words, &embeddings.positions, &norm.gamma, &norm.beta].into_iter().for_each(&mut add);
        for layer in self.layers.iter().take_while(|layer| !layer.is_trained()) {
            layer.linears.iter().flat_map(|linear| [&linear.weight, &linear.bias]).for_each(&mut add);
            layer.norms.iter().flat_map(|norm| [&norm.gamma, &norm.beta]).for_each(&mut add);
        }
        Digest::of(&bytes)
    }

    /// What enters the first trained layer, `[rows, dim]`, for one text; the same whatever else is computed with it.
    pub fn below_first_trained(&self, input_ids: &[u32]) -> Vec<f32> {
        let batch = Ragged::of([input_ids]);
        let embeddings = self.embeddings.as_ref().expect("read with embeddings");
        let mut hidden = self.embed(embeddings, &batch).output;
        for layer in self.layers.iter().take_while(|layer| !layer.is_trained()) {
            hidden = layer.view(self.heads).forward(hidden, &batch.starts, None).into_output();
        }
        hidden
    }
}
