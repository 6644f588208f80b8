//! DistilBERT with Mynah's heads as burn modules, for training.
//!
//! Mirrors Hugging Face's `modeling_distilbert.py`: post-norm layers, exact GELU, learned positions.
//! Serving does not go through here; `mynah-runtime` has its own forward pass over the same
//! checkpoint. Inputs are flattened to `[batch_size * seq_length, dim]` before every `Linear`,
//! because burn multiplies 3-D inputs sample by sample.

use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Bool, Device, Int, Tensor, activation};
use mynah_runtime::Config;

use crate::dropout::DropoutSource;
use crate::native::{ANSWER_PLACE, EMBEDDING_PLACE, FUNCTION_PLACE, LAYER_PLACE, TAG_PLACE};
use crate::padded::PaddedTokens;

/// Word and position embeddings with their normalisation.
#[derive(Module, Debug)]
pub struct Embeddings {
    /// `[vocab_size, dim]`
    pub word_embeddings: Embedding,
    /// `[max_position_embeddings, dim]`
    pub position_embeddings: Embedding,
    /// Over `dim`.
    pub layer_norm: LayerNorm,
}

/// Multi-head self-attention.
#[derive(Module, Debug)]
pub struct Attention {
    /// Query projection.
    pub q_lin: Linear,
    /// Key projection.
    pub k_lin: Linear,
    /// Value projection.
    pub v_lin: Linear,
    /// Output projection.
    pub out_lin: Linear,
}

/// The two projections of the feed-forward block.
#[derive(Module, Debug)]
pub struct FeedForward {
    /// `dim -> hidden_dim`
    pub lin1: Linear,
    /// `hidden_dim -> dim`
    pub lin2: Linear,
}

/// One transformer layer, normalised after each block.
#[derive(Module, Debug)]
pub struct TransformerLayer {
    /// Self-attention.
    pub attention: Attention,
    /// After attention and its residual.
    pub sa_layer_norm: LayerNorm,
    /// Feed-forward block.
    pub ffn: FeedForward,
    /// After the feed-forward block and its residual.
    pub output_layer_norm: LayerNorm,
}

/// The stack of layers.
#[derive(Module, Debug)]
pub struct Transformer {
    /// From the lowest to the highest.
    pub layer: Vec<TransformerLayer>,
}

/// The encoder.
#[derive(Module, Debug)]
pub struct DistilBert {
    /// Word and position embeddings.
    pub embeddings: Embeddings,
    /// The layers.
    pub transformer: Transformer,
}

/// The encoder with the function, argument and (when the checkpoint has one) answer head.
#[derive(Module, Debug)]
pub struct JointModel {
    /// The encoder.
    pub distilbert: DistilBert,
    /// First layer of the function head.
    pub pre_classifier: Linear,
    /// Second layer of the function head: one row a function.
    pub classifier: Linear,
    /// Argument head: one row a BIO tag.
    pub slot_classifier: Linear,
    /// Answer head: start and end; carried along unchanged by a run without questions.
    pub qa_outputs: Option<Linear>,
    /// Attention heads of a layer.
    pub n_heads: usize,
}

/// What the forward pass needs besides the weights.
#[derive(Clone, Debug, Default)]
pub struct ForwardOptions {
    /// The masks of a training step; none outside training.
    pub dropout: Option<DropoutSource>,
    /// The lowest layer whose weights are trained: below it nothing is dropped, and a batch may bring what enters it.
    pub first_trained_layer: usize,
}

impl ForwardOptions {
    fn drop(&self, input: Tensor<2>, with: impl FnOnce(&DropoutSource, Tensor<2>) -> Tensor<2>) -> Tensor<2> {
        match &self.dropout {
            Some(source) => with(source, input),
            None => input,
        }
    }
}

impl JointModel {
    /// A model of the given sizes with freshly initialised weights.
    pub fn new(config: &Config, functions: usize, tags: usize, device: &Device) -> Self {
        let dim = config.dim;
        let linear = |input: usize, output: usize| LinearConfig::new(input, output).init(device);
        let norm = || LayerNormConfig::new(dim).with_epsilon(1e-12).init(device);
        let layer = (0..config.n_layers)
            .map(|_| TransformerLayer {
                attention: Attention {
                    q_lin: linear(dim, dim),
                    k_lin: linear(dim, dim),
                    v_lin: linear(dim, dim),
                    out_lin: linear(dim, dim),
                },
                sa_layer_norm: norm(),
                ffn: FeedForward { lin1: linear(dim, config.hidden_dim), lin2: linear(config.hidden_dim, dim) },
                output_layer_norm: norm(),
            })
            .collect();
        Self {
            distilbert: DistilBert {
                embeddings: Embeddings {
                    word_embeddings: EmbeddingConfig::new(config.vocab_size, dim).init(device),
                    position_embeddings: EmbeddingConfig::new(config.max_position_embeddings, dim).init(device),
                    layer_norm: norm(),
                },
                transformer: Transformer { layer },
            },
            pre_classifier: linear(dim, dim),
            classifier: linear(dim, functions),
            slot_classifier: linear(dim, tags),
            qa_outputs: None,
            n_heads: config.n_heads,
        }
    }

    /// The encoder's last hidden states. Dropout is left out below the first trained layer, so that what frozen layers
    /// make of a text is the same in every epoch.
    ///
    /// # Shapes
    /// - output: `[batch_size * seq_length, dim]`
    pub fn hidden(&self, tokens: &PaddedTokens, options: &ForwardOptions) -> Tensor<2> {
        let [batch_size, seq_length] = tokens.input_ids.dims();
        let first_trained = options.first_trained_layer;
        let first = if tokens.below.is_some() { first_trained } else { 0 };
        let mut hidden = match &tokens.below {
            Some(below) => below.clone(),
            None => self.embed(&tokens.input_ids),
        };
        if first_trained == 0 {
            hidden = options.drop(hidden, |source, hidden| source.encoder(hidden, EMBEDDING_PLACE));
        }
        let padding = tokens.padding.clone().map(|mask| {
            mask.reshape([batch_size, 1, 1, seq_length]).expand([batch_size, self.n_heads, seq_length, seq_length])
        });
        let shape = [batch_size, seq_length, self.n_heads];
        for (index, layer) in self.distilbert.transformer.layer.iter().enumerate().skip(first) {
            hidden = layer.forward(hidden, shape, padding.clone(), |branch| match index >= first_trained {
                true => options.drop(branch, |source, branch| source.encoder(branch, LAYER_PLACE + index as u64)),
                false => branch,
            });
        }
        hidden
    }

    /// # Shapes
    /// - input_ids: `[batch_size, seq_length]`
    /// - output: `[batch_size * seq_length, dim]`
    fn embed(&self, input_ids: &Tensor<2, Int>) -> Tensor<2> {
        let [batch_size, seq_length] = input_ids.dims();
        let embeddings = &self.distilbert.embeddings;
        let positions = Tensor::<1, Int>::arange(0..seq_length as i64, &input_ids.device()).unsqueeze::<2>();
        let words = embeddings.word_embeddings.forward(input_ids.clone());
        let places = embeddings.position_embeddings.forward(positions);
        let [_, _, dim] = words.dims();
        embeddings.layer_norm.forward((words + places).reshape([batch_size * seq_length, dim]))
    }

    /// Logits of the function head from the first token of every text.
    ///
    /// # Shapes
    /// - first: `[batch_size, dim]`
    /// - output: `[batch_size, functions]`
    pub fn function_logits(&self, first: Tensor<2>, options: &ForwardOptions) -> Tensor<2> {
        let pooled = activation::relu(self.pre_classifier.forward(first));
        self.classifier.forward(options.drop(pooled, |source, rows| source.head(rows, FUNCTION_PLACE)))
    }

    /// Logits of the argument head.
    ///
    /// # Shapes
    /// - words: `[words, dim]`, the hidden state of the first token of every word
    /// - output: `[words, tags]`
    pub fn tag_logits(&self, words: Tensor<2>, options: &ForwardOptions) -> Tensor<2> {
        self.slot_classifier.forward(options.drop(words, |source, rows| source.head(rows, TAG_PLACE)))
    }

    /// Logits of the answer head, start and end; zeros without one.
    ///
    /// # Shapes
    /// - hidden: `[batch_size * seq_length, dim]`
    /// - output: `[batch_size * seq_length, 2]`
    pub fn answer_logits(&self, hidden: Tensor<2>, options: &ForwardOptions) -> Tensor<2> {
        match &self.qa_outputs {
            Some(head) => head.forward(options.drop(hidden, |source, rows| source.head_of_tokens(rows, ANSWER_PLACE))),
            None => hidden.narrow(1, 0, 2) * 0.0,
        }
    }
}

impl TransformerLayer {
    /// # Shapes
    /// - hidden: `[batch_size * seq_length, dim]`
    /// - padding: `[batch_size, n_heads, seq_length, seq_length]`
    /// - output: `[batch_size * seq_length, dim]`
    fn forward(
        &self,
        hidden: Tensor<2>,
        [batch_size, seq_length, n_heads]: [usize; 3],
        padding: Option<Tensor<4, Bool>>,
        dropped: impl FnOnce(Tensor<2>) -> Tensor<2>,
    ) -> Tensor<2> {
        let [rows, dim] = hidden.dims();
        let head_dim = dim / n_heads;
        let split =
            |projected: Tensor<2>| projected.reshape([batch_size, seq_length, n_heads, head_dim]).swap_dims(1, 2);
        let query = split(self.attention.q_lin.forward(hidden.clone()));
        let key = split(self.attention.k_lin.forward(hidden.clone()));
        let value = split(self.attention.v_lin.forward(hidden.clone()));
        let scale = 1.0 / (head_dim as f64).sqrt();
        let mut scores = (query * scale).matmul(key.swap_dims(2, 3));
        if let Some(padding) = padding {
            scores = scores.mask_fill(padding, -1e9);
        }
        let context = activation::softmax(scores, 3).matmul(value).swap_dims(1, 2).reshape([rows, dim]);
        let attended = self.sa_layer_norm.forward(self.attention.out_lin.forward(context) + hidden);
        let expanded = activation::gelu(self.ffn.lin1.forward(attended.clone()));
        let output = dropped(self.ffn.lin2.forward(expanded));
        self.output_layer_norm.forward(output + attended)
    }
}
