//! Checkpoints in all their forms: whole, sharded, in half precision, with heads, and broken in every way that a disk or
//! a download can break them.

use std::collections::BTreeMap;
use std::path::Path;

use mynah_runtime::checkpoint::{INDEX_FILE, SINGLE_FILE, encoder_tensors};
use mynah_runtime::{Checkpoint, Config, Encoder, Error, Labels, Model, Precision, starter};
use proptest::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use tempfile::TempDir;

/// Tensors by name, with their shapes.
pub(crate) type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

const CONFIG: &str = r#"{"model_type":"distilbert","activation":"gelu","dim":12,"n_layers":2,"n_heads":3,
    "hidden_dim":20,"vocab_size":50,"max_position_embeddings":16}"#;

/// Weights that look random and are always the same.
fn tiny() -> Tensors {
    let config = Config::from_json(CONFIG.as_bytes()).unwrap();
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * 0.5
    };
    let tensors = encoder_tensors(&config).into_iter();
    tensors
        .map(|(name, shape)| {
            let values = (0..shape.iter().product()).map(|_| next()).collect();
            (name, (shape, values))
        })
        .collect()
}

/// The bytes of a safetensors file.
pub(crate) fn safetensors(tensors: &Tensors, dtype: Dtype) -> Vec<u8> {
    let bytes: BTreeMap<&String, Vec<u8>> = tensors
        .iter()
        .map(|(name, (_, values))| {
            let bytes = values.iter().flat_map(|&value| match dtype {
                Dtype::F16 => half::f16::from_f32(value).to_le_bytes().to_vec(),
                Dtype::BF16 => half::bf16::from_f32(value).to_le_bytes().to_vec(),
                Dtype::F64 => f64::from(value).to_le_bytes().to_vec(),
                _ => value.to_le_bytes().to_vec(),
            });
            (name, bytes.collect())
        })
        .collect();
    let views = bytes
        .iter()
        .map(|(name, bytes)| (name.as_str(), TensorView::new(dtype, tensors[*name].0.clone(), bytes).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

fn directory(tensors: &[u8]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("config.json"), CONFIG).unwrap();
    std::fs::write(directory.path().join(SINGLE_FILE), tensors).unwrap();
    directory
}

fn open(directory: &TempDir) -> Result<Checkpoint, Error> {
    Checkpoint::from_directory(directory.path())
}

/// The message, with the changing path taken out.
fn message(directory: &TempDir, error: &Error) -> String {
    error.to_string().replace(&directory.path().display().to_string(), "<directory>")
}

fn rows(checkpoint: &Checkpoint) -> Vec<f32> {
    Encoder::load(checkpoint, Precision::F32).unwrap().forward(&[&[1, 2, 3, 4]]).unwrap().rows
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn shards_are_the_same_model_as_one_file() {
    let tensors = tiny();
    let whole = open(&directory(&safetensors(&tensors, Dtype::F32))).map(|checkpoint| rows(&checkpoint));

    let sharded = tempfile::tempdir().unwrap();
    std::fs::write(sharded.path().join("config.json"), CONFIG).unwrap();
    let mut weight_map = BTreeMap::new();
    for (number, part) in ["embeddings", "transformer"].into_iter().enumerate() {
        let file = format!("model-{number}.safetensors");
        let shard: Tensors = tensors.clone().into_iter().filter(|(name, _)| name.contains(part)).collect();
        weight_map.extend(shard.keys().map(|name| (name.clone(), file.clone())));
        std::fs::write(sharded.path().join(file), safetensors(&shard, Dtype::F32)).unwrap();
    }
    let index = serde_json::json!({ "weight_map": weight_map });
    std::fs::write(sharded.path().join(INDEX_FILE), index.to_string()).unwrap();
    assert_eq!(rows(&open(&sharded).unwrap()), whole.unwrap());

    std::fs::remove_file(sharded.path().join("model-1.safetensors")).unwrap();
    insta::assert_snapshot!(message(&sharded, &open(&sharded).unwrap_err()), @r"
    <directory> has no `model-1.safetensors`
    hint: a checkpoint directory holds config.json, tokenizer.json and model.safetensors (or its shards and index)
    ");
}

#[test]
fn half_precision_is_read_as_single() {
    let tensors = tiny();
    let single = rows(&open(&directory(&safetensors(&tensors, Dtype::F32))).unwrap());
    for (dtype, tolerance) in [(Dtype::F16, 0.02), (Dtype::BF16, 0.15)] {
        let half = rows(&open(&directory(&safetensors(&tensors, dtype))).unwrap());
        assert!(worst(&half, &single) < tolerance, "{dtype:?}: {}", worst(&half, &single));
    }
}

#[test]
fn the_tensor_at_fault_is_named() {
    let explain = |tensors: &Tensors, dtype: Dtype| {
        let directory = directory(&safetensors(tensors, dtype));
        open(&directory).unwrap().validate_encoder().unwrap_err().to_string()
    };
    let name = "distilbert.transformer.layer.1.ffn.lin1.weight";
    let mut tensors = tiny();
    let (shape, values) = tensors.remove(name).unwrap();
    insta::assert_snapshot!(explain(&tensors, Dtype::F32), @"the checkpoint has no tensor `distilbert.transformer.layer.1.ffn.lin1.weight`");
    assert_eq!(shape, [20, 12]);
    tensors.insert(name.to_owned(), (vec![12, 20], values));
    insta::assert_snapshot!(explain(&tensors, Dtype::F32), @"tensor `distilbert.transformer.layer.1.ffn.lin1.weight` has shape [12, 20]; expected [20, 12]");
    insta::assert_snapshot!(explain(&tiny(), Dtype::F64), @"tensor `distilbert.embeddings.word_embeddings.weight` is of type F64; expected F32, F16 or BF16");
}

#[test]
fn a_file_cut_short_is_explained() {
    let mut bytes = safetensors(&tiny(), Dtype::F32);
    bytes.truncate(bytes.len() - 4);
    let cut = directory(&bytes);
    insta::assert_snapshot!(message(&cut, &open(&cut).unwrap_err()), @r"
    `model.safetensors` of <directory> is not a whole safetensors file: its header describes 12736 bytes of tensors, 12732 follow
    hint: copy or download it again
    ");
    let empty = directory(b"");
    insta::assert_snapshot!(message(&empty, &open(&empty).unwrap_err()), @r"
    `model.safetensors` of <directory> is not a whole safetensors file: it has 0 bytes
    hint: copy or download it again
    ");
}

#[test]
fn a_directory_without_a_config_is_explained() {
    let directory = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(message(&directory, &open(&directory).unwrap_err()), @r"
    <directory> has no `config.json`
    hint: a checkpoint directory holds config.json, tokenizer.json and model.safetensors (or its shards and index)
    ");
    assert!(matches!(Checkpoint::from_directory(Path::new("/nowhere/at/all")), Err(Error::Read { .. })));
}

#[test]
fn heads_must_fit_their_labels() {
    let directory = tempfile::tempdir().unwrap();
    starter::write_to(directory.path()).unwrap();
    let labels = Labels { functions: vec!["a".into(), "b".into(), "oos".into()], ..Labels::default() };
    std::fs::write(directory.path().join("labels.json"), labels.to_json()).unwrap();
    let load = || Model::load(&open(&directory).unwrap(), Precision::Int8).unwrap_err().to_string();
    insta::assert_snapshot!(load(), @"the checkpoint has no tensor `pre_classifier.weight`");

    let head = |name: &str, outputs: usize| {
        [
            (format!("{name}.weight"), (vec![outputs, 256], vec![0.0; outputs * 256])),
            (format!("{name}.bias"), (vec![outputs], vec![0.0; outputs])),
        ]
    };
    let heads: Tensors = head("pre_classifier", 256).into_iter().chain(head("classifier", 2)).collect();
    add_heads(directory.path(), &heads);
    insta::assert_snapshot!(load(), @"tensor `classifier.weight` has shape [2, 256]; expected [3, 256]");

    std::fs::remove_file(directory.path().join("labels.json")).unwrap();
    let error = Model::load(&open(&directory).unwrap(), Precision::Int8).unwrap_err();
    insta::assert_snapshot!(message(&directory, &error), @r"
    <directory> has no `labels.json`
    hint: the classifier's labels are needed; train the checkpoint again, or add `id2label` to config.json
    ");
}

/// Adds heads to a checkpoint of one file, as a shard of their own.
pub(crate) fn add_heads(directory: &Path, heads: &Tensors) {
    std::fs::write(directory.join("heads.safetensors"), safetensors(heads, Dtype::F32)).unwrap();
    let base = Checkpoint::starter().unwrap();
    let encoder = base.tensor_names().map(|name| (name.to_owned(), SINGLE_FILE));
    let heads = heads.keys().map(|name| (name.clone(), "heads.safetensors"));
    let weight_map: BTreeMap<String, &str> = encoder.chain(heads).collect();
    let index = serde_json::json!({ "weight_map": weight_map });
    std::fs::write(directory.join(INDEX_FILE), index.to_string()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_bytes_make_reading_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), honest in any::<bool>()) {
        // Half of the cases get past the length of the header.
        let mut file = if honest { (bytes.len() as u64 / 2).to_le_bytes().to_vec() } else { Vec::new() };
        file.extend(&bytes);
        prop_assert!(open(&directory(&file)).is_err());
        prop_assert!(Labels::from_json(&bytes).is_err());
        prop_assert!(Config::from_json(&bytes).is_err());
    }

    #[test]
    fn one_wrong_byte_in_the_header_never_makes_loading_panic(at in 8usize..3000, byte in any::<u8>()) {
        let mut bytes = safetensors(&tiny(), Dtype::F32);
        bytes[at] = byte;
        if let Ok(checkpoint) = open(&directory(&bytes)) {
            let _ = Encoder::load(&checkpoint, Precision::Int8);
        }
    }
}
