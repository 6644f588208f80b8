//! Weights between a checkpoint directory and the burn modules.
//!
//! The directory is Hugging Face's layout: `Linear` weights lie as `[out, in]` there and as
//! `[in, out]` in burn. Files are written with sorted keys and no metadata, so the same weights give
//! the same bytes; what a run left frozen keeps its hash.

use burn::module::{Module, Param};
use burn::nn::{Embedding, LayerNorm, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData};
use mynah_runtime::{Checkpoint, Config, Labels};
use safetensors::tensor::{Dtype, TensorView};
use std::collections::BTreeMap;
use std::path::Path;

use crate::distilbert::JointModel;
use crate::dropout::split_mix;
use crate::error::Error;

/// Tells the answer head's first weights from those of the other heads.
const ANSWER_STREAM: u64 = 0x616E_7377_6572;

/// Loads `checkpoint` into a model with one row per function and tag of `labels`.
///
/// Rows that the checkpoint's own labels name keep their weights; new rows, and heads that it does
/// not have, start from N(0, 0.02) drawn from `seed`.
///
/// # Errors
/// A tensor of the encoder that is missing or misshapen.
pub fn load(checkpoint: &Checkpoint, labels: &Labels, seed: u64, device: &Device) -> Result<JointModel, Error> {
    let config = checkpoint.config();
    let dim = config.dim;
    // A head without rows stays in the model as one row that nothing trains, and is not saved.
    let (functions, tags) = (labels.functions.len().max(1), labels.tags.len().max(1));
    let mut model = JointModel::new(config, functions, tags, device);
    let source = Source { checkpoint, device };
    let embeddings = &mut model.distilbert.embeddings;
    embeddings.word_embeddings = source.embedding(
        "distilbert.embeddings.word_embeddings",
        [config.vocab_size, dim],
        embeddings.word_embeddings.clone(),
    )?;
    embeddings.position_embeddings = source.embedding(
        "distilbert.embeddings.position_embeddings",
        [config.max_position_embeddings, dim],
        embeddings.position_embeddings.clone(),
    )?;
    embeddings.layer_norm = source.norm("distilbert.embeddings.LayerNorm", dim, embeddings.layer_norm.clone())?;
    for (index, layer) in model.distilbert.transformer.layer.iter_mut().enumerate() {
        let name = |part: &str| format!("distilbert.transformer.layer.{index}.{part}");
        let attention = &mut layer.attention;
        for (part, linear) in [
            ("attention.q_lin", &mut attention.q_lin),
            ("attention.k_lin", &mut attention.k_lin),
            ("attention.v_lin", &mut attention.v_lin),
            ("attention.out_lin", &mut attention.out_lin),
        ] {
            *linear = source.linear(&name(part), [dim, dim])?;
        }
        layer.ffn.lin1 = source.linear(&name("ffn.lin1"), [config.hidden_dim, dim])?;
        layer.ffn.lin2 = source.linear(&name("ffn.lin2"), [dim, config.hidden_dim])?;
        layer.sa_layer_norm = source.norm(&name("sa_layer_norm"), dim, layer.sa_layer_norm.clone())?;
        layer.output_layer_norm = source.norm(&name("output_layer_norm"), dim, layer.output_layer_norm.clone())?;
    }
    let known = checkpoint.labels()?.unwrap_or_default();
    let mut normal = Normal(seed);
    model.pre_classifier = match checkpoint.has("pre_classifier.weight") {
        true => source.linear("pre_classifier", [dim, dim])?,
        false => source.head_of_rows(&vec![None; dim], dim, &mut normal),
    };
    if !labels.functions.is_empty() {
        model.classifier = source.grown("classifier", &known.functions, &labels.functions, dim, &mut normal)?;
    }
    if !labels.tags.is_empty() {
        model.slot_classifier = source.grown("slot_classifier", &known.tags, &labels.tags, dim, &mut normal)?;
    }
    if checkpoint.has("qa_outputs.weight") {
        model.qa_outputs = Some(source.linear("qa_outputs", [2, dim])?);
    }
    Ok(model)
}

/// Gives `model` an answer head, drawn from `seed`, unless it has one.
pub fn ensure_answer_head(model: &mut JointModel, seed: u64, device: &Device) {
    if model.qa_outputs.is_some() {
        return;
    }
    let [dim, _] = model.pre_classifier.weight.val().dims();
    // A stream of its own: whether there are questions does not change the other heads.
    let mut normal = Normal(seed ^ split_mix(ANSWER_STREAM));
    let weight: Vec<f32> = (0..2 * dim).map(|_| 0.02 * normal.next()).collect();
    model.qa_outputs = Some(linear(&weight, vec![0.0; 2], [2, dim], device));
}

struct Source<'a> {
    checkpoint: &'a Checkpoint,
    device: &'a Device,
}

impl Source<'_> {
    fn tensor<const D: usize>(&self, name: &str, shape: [usize; D]) -> Result<Tensor<D>, Error> {
        let values = self.checkpoint.tensor(name, &shape)?;
        Ok(Tensor::from_data(TensorData::new(values, shape), self.device))
    }

    fn embedding(&self, name: &str, shape: [usize; 2], mut module: Embedding) -> Result<Embedding, Error> {
        module.weight = Param::from_tensor(self.tensor(&format!("{name}.weight"), shape)?);
        Ok(module)
    }

    fn norm(&self, name: &str, dim: usize, mut module: LayerNorm) -> Result<LayerNorm, Error> {
        module.gamma = Param::from_tensor(self.tensor(&format!("{name}.weight"), [dim])?);
        module.beta = Some(Param::from_tensor(self.tensor(&format!("{name}.bias"), [dim])?));
        Ok(module)
    }

    /// A linear layer of Hugging Face's shape `[out, in]`.
    fn linear(&self, name: &str, [output, input]: [usize; 2]) -> Result<Linear, Error> {
        let weight = self.checkpoint.tensor(&format!("{name}.weight"), &[output, input])?;
        let bias = self.checkpoint.tensor(&format!("{name}.bias"), &[output])?;
        Ok(self.build(&weight, bias, [output, input]))
    }

    /// A head whose rows follow `wanted`; the rows that `known` names come from the checkpoint.
    fn grown(
        &self,
        name: &str,
        known: &[String],
        wanted: &[String],
        dim: usize,
        normal: &mut Normal,
    ) -> Result<Linear, Error> {
        let weight_name = format!("{name}.weight");
        if known.is_empty() || !self.checkpoint.has(&weight_name) {
            return Ok(self.head_of_rows(&vec![None; wanted.len()], dim, normal));
        }
        let weight = self.checkpoint.tensor(&weight_name, &[known.len(), dim])?;
        let bias = self.checkpoint.tensor(&format!("{name}.bias"), &[known.len()])?;
        let rows: Vec<Option<(&[f32], f32)>> = wanted
            .iter()
            .map(|label| {
                let row = known.iter().position(|known| known == label)?;
                Some((&weight[row * dim..(row + 1) * dim], bias[row]))
            })
            .collect();
        Ok(self.head_of_rows(&rows, dim, normal))
    }

    fn head_of_rows(&self, rows: &[Option<(&[f32], f32)>], dim: usize, normal: &mut Normal) -> Linear {
        let mut weight = Vec::with_capacity(rows.len() * dim);
        let mut bias = Vec::with_capacity(rows.len());
        for row in rows {
            match row {
                Some((values, offset)) => {
                    weight.extend_from_slice(values);
                    bias.push(*offset);
                }
                None => {
                    weight.extend((0..dim).map(|_| 0.02 * normal.next()));
                    bias.push(0.0);
                }
            }
        }
        self.build(&weight, bias, [rows.len(), dim])
    }

    fn build(&self, weight: &[f32], bias: Vec<f32>, shape: [usize; 2]) -> Linear {
        linear(weight, bias, shape, self.device)
    }
}

/// A linear layer from a weight of Hugging Face's shape `[out, in]`.
fn linear(weight: &[f32], bias: Vec<f32>, [output, input]: [usize; 2], device: &Device) -> Linear {
    let mut module = LinearConfig::new(input, output).init(device);
    let transposed = transpose(weight, output, input);
    module.weight = Param::from_tensor(Tensor::from_data(TensorData::new(transposed, [input, output]), device));
    module.bias = Some(Param::from_tensor(Tensor::from_data(TensorData::new(bias, [output]), device)));
    module
}

/// `[rows, columns]` to `[columns, rows]`.
fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = vec![0.0; values.len()];
    for row in 0..rows {
        for column in 0..columns {
            out[column * rows + row] = values[row * columns + column];
        }
    }
    out
}

/// Standard normal numbers by Box and Muller over SplitMix64.
struct Normal(u64);

impl Normal {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        ((split_mix(self.0) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    fn next(&mut self) -> f32 {
        let (radius, angle) = (self.uniform(), self.uniform());
        ((-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()) as f32
    }
}

/// Tensors under Hugging Face's names and shapes.
type Named = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Writes the weights of `model` as sharded safetensors with their index into `directory`: one file
/// for the embeddings, one per layer and one for the heads that `labels` has rows for.
///
/// # Errors
/// A file that cannot be written.
pub fn save(model: &JointModel, labels: &Labels, directory: &Path) -> Result<(), Error> {
    let mut shards: Vec<(String, Named)> = Vec::new();
    let embeddings = &model.distilbert.embeddings;
    let mut named = Named::new();
    put(&mut named, "distilbert.embeddings.word_embeddings.weight", embeddings.word_embeddings.weight.val())?;
    put(&mut named, "distilbert.embeddings.position_embeddings.weight", embeddings.position_embeddings.weight.val())?;
    put_norm(&mut named, "distilbert.embeddings.LayerNorm", &embeddings.layer_norm)?;
    shards.push(("embeddings".into(), named));
    for (index, layer) in model.distilbert.transformer.layer.iter().enumerate() {
        let name = |part: &str| format!("distilbert.transformer.layer.{index}.{part}");
        let mut named = Named::new();
        put_linear(&mut named, &name("attention.q_lin"), &layer.attention.q_lin)?;
        put_linear(&mut named, &name("attention.k_lin"), &layer.attention.k_lin)?;
        put_linear(&mut named, &name("attention.v_lin"), &layer.attention.v_lin)?;
        put_linear(&mut named, &name("attention.out_lin"), &layer.attention.out_lin)?;
        put_linear(&mut named, &name("ffn.lin1"), &layer.ffn.lin1)?;
        put_linear(&mut named, &name("ffn.lin2"), &layer.ffn.lin2)?;
        put_norm(&mut named, &name("sa_layer_norm"), &layer.sa_layer_norm)?;
        put_norm(&mut named, &name("output_layer_norm"), &layer.output_layer_norm)?;
        shards.push((format!("layer-{index}"), named));
    }
    let mut named = Named::new();
    if !labels.functions.is_empty() {
        put_linear(&mut named, "pre_classifier", &model.pre_classifier)?;
        put_linear(&mut named, "classifier", &model.classifier)?;
    }
    if !labels.tags.is_empty() {
        put_linear(&mut named, "slot_classifier", &model.slot_classifier)?;
    }
    if let Some(qa_outputs) = &model.qa_outputs {
        put_linear(&mut named, "qa_outputs", qa_outputs)?;
    }
    shards.push(("heads".into(), named));

    let mut weight_map = serde_json::Map::new();
    let mut total_size = 0usize;
    for (part, named) in &shards {
        let file = format!("model-{part}.safetensors");
        total_size += write_shard(named, &directory.join(&file))?;
        weight_map.extend(named.keys().map(|name| (name.clone(), file.clone().into())));
    }
    weight_map.sort_keys();
    let index = serde_json::json!({
        "metadata": { "total_size": total_size },
        "weight_map": weight_map,
    });
    crate::files::write_json(&directory.join("model.safetensors.index.json"), &index)
}

fn write_shard(named: &Named, path: &Path) -> Result<usize, Error> {
    let mut bytes: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::with_capacity(named.len());
    for (name, (shape, values)) in named {
        let mut raw = Vec::with_capacity(values.len() * 4);
        for value in values {
            raw.extend_from_slice(&value.to_le_bytes());
        }
        bytes.push((name.clone(), shape.clone(), raw));
    }
    let size = bytes.iter().map(|(_, _, raw)| raw.len()).sum();
    let views: Result<Vec<(String, TensorView<'_>)>, _> = bytes
        .iter()
        .map(|(name, shape, raw)| Ok((name.clone(), TensorView::new(Dtype::F32, shape.clone(), raw)?)))
        .collect();
    let metadata = std::collections::HashMap::from([("format".to_string(), "pt".to_string())]);
    let write = |views: Vec<(String, TensorView<'_>)>| safetensors::serialize_to_file(views, Some(metadata), path);
    views
        .and_then(write)
        .map_err(|source| Error::Serialize { path: path.to_path_buf(), message: source.to_string() })?;
    Ok(size)
}

fn put<const D: usize>(named: &mut Named, name: &str, tensor: Tensor<D>) -> Result<(), Error> {
    let shape = tensor.dims().to_vec();
    named.insert(name.to_string(), (shape, values(tensor)?));
    Ok(())
}

fn put_norm(named: &mut Named, name: &str, norm: &LayerNorm) -> Result<(), Error> {
    put(named, &format!("{name}.weight"), norm.gamma.val())?;
    match &norm.beta {
        Some(beta) => put(named, &format!("{name}.bias"), beta.val()),
        None => Ok(()),
    }
}

fn put_linear(named: &mut Named, name: &str, linear: &Linear) -> Result<(), Error> {
    let [input, output] = linear.weight.val().dims();
    let weight = transpose(&values(linear.weight.val())?, input, output);
    named.insert(format!("{name}.weight"), (vec![output, input], weight));
    match &linear.bias {
        Some(bias) => put(named, &format!("{name}.bias"), bias.val()),
        None => Ok(()),
    }
}

/// The numbers of a tensor, row by row.
pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, Error> {
    tensor.into_data().try_to_vec::<f32>().map_err(|source| Error::Tensor { message: format!("{source:?}") })
}

/// Whether every weight of `model` is a finite number.
///
/// # Errors
/// A tensor that cannot be read.
pub fn is_finite(model: &JointModel) -> Result<bool, Error> {
    struct Finite(bool);
    impl burn::module::ModuleVisitor for Finite {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let values = values(param.val());
            self.0 &= values.is_ok_and(|values| values.iter().all(|value| value.is_finite()));
        }
    }
    let mut visitor = Finite(true);
    model.visit(&mut visitor);
    Ok(visitor.0)
}

/// Names the sizes of a checkpoint for its model card.
pub fn describe(config: &Config) -> String {
    format!(
        "{} layers, {} dimensions, {} heads, vocabulary of {}",
        config.n_layers, config.dim, config.n_heads, config.vocab_size
    )
}
