//! A version with heads, made without training: the function whose examples' mean state is nearest.

use std::collections::BTreeMap;
use std::path::Path;

use mynah_registry::{Author, ManifestDraft, Registry, Version};
use mynah_runtime::{Checkpoint, Encoder, Labels, Precision, Tokenizer, starter};
use safetensors::tensor::{Dtype, TensorView};

/// How much further apart the scores of two functions are than their distances; makes the head sure of itself.
const SHARPNESS: f32 = 4.0;

/// Registers the starter with a function head over the given examples and an arguments head that tags nothing.
pub fn add_version(home: &Path, examples: &[(&str, &[&str])], tags: &[&str]) -> Version {
    let directory = tempfile::tempdir().expect("a directory");
    starter::write_to(directory.path()).expect("written");
    let checkpoint = Checkpoint::starter().expect("the starter");
    let dim = checkpoint.config().dim;
    let encoder = Encoder::load(&checkpoint, Precision::Int8).expect("loaded");
    let tokenizer = Tokenizer::from_checkpoint(&checkpoint).expect("loaded");
    let state = |text: &str| -> Vec<f32> {
        let hidden = encoder.forward(&[&tokenizer.encode(text, 64).input_ids]).expect("run");
        hidden.sequence(0)[..dim].iter().map(|value| value.max(0.0)).collect()
    };
    let (mut weight, mut bias) = (Vec::new(), Vec::new());
    for (_, texts) in examples {
        let states: Vec<Vec<f32>> = texts.iter().map(|text| state(text)).collect();
        let mean: Vec<f32> =
            (0..dim).map(|at| states.iter().map(|state| state[at]).sum::<f32>() / states.len() as f32).collect();
        bias.push(-SHARPNESS * mean.iter().map(|value| value * value).sum::<f32>() / 2.0);
        weight.extend(mean.iter().map(|value| SHARPNESS * value));
    }
    let identity: Vec<f32> = (0..dim * dim).map(|at| if at % (dim + 1) == 0 { 1.0 } else { 0.0 }).collect();
    let heads = [
        ("pre_classifier.weight", vec![dim, dim], identity),
        ("pre_classifier.bias", vec![dim], vec![0.0; dim]),
        ("classifier.weight", vec![examples.len(), dim], weight),
        ("classifier.bias", vec![examples.len()], bias),
        ("slot_classifier.weight", vec![tags.len(), dim], vec![0.0; tags.len() * dim]),
        (
            "slot_classifier.bias",
            vec![tags.len()],
            tags.iter().map(|tag| if *tag == "O" { 1.0 } else { 0.0 }).collect(),
        ),
    ];
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = heads
        .into_iter()
        .map(|(name, shape, values)| {
            (name.to_owned(), shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
        })
        .collect();
    let path = directory.path().join("model.safetensors");
    let encoder_bytes = std::fs::read(&path).expect("read");
    let stored = safetensors::SafeTensors::deserialize(&encoder_bytes).expect("safetensors");
    let mut tensors: Vec<(String, TensorView<'_>)> = stored.tensors();
    tensors.extend(bytes.iter().map(|(name, shape, bytes)| {
        (name.clone(), TensorView::new(Dtype::F32, shape.clone(), bytes).expect("a tensor"))
    }));
    std::fs::write(&path, safetensors::serialize(tensors, None).expect("serialised")).expect("written");
    let labels = Labels {
        functions: examples.iter().map(|(name, _)| (*name).to_owned()).collect(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        arguments: BTreeMap::new(),
        adjacent: None,
    };
    std::fs::write(directory.path().join("labels.json"), labels.to_json()).expect("written");
    let registry = Registry::open(&home.join("registry")).expect("opened");
    registry
        .add_directory(directory.path(), ManifestDraft::version("test"), &Author::new("test", "with heads"))
        .expect("added")
}
