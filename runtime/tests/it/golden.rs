//! The encoder agrees with independent implementations.
//!
//! `tests/golden/starter.json` was computed in numpy by `make_golden.py` beside it. With `MYNAH_MODELS` set to a
//! directory of checkpoints that have a `golden.json` of the same form (PyTorch's values), those are compared as well.

use std::path::Path;

use mynah_runtime::{Checkpoint, Model, Precision};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    sentences: Vec<Sentence>,
}

#[derive(Deserialize)]
struct Sentence {
    text: String,
    input_ids: Vec<u32>,
    first_token: Vec<f32>,
    last_token: Vec<f32>,
    embedding: Vec<f32>,
}

/// The largest difference from the reference that is put down to the order of additions.
const TOLERANCE: f32 = 1e-3;

fn starter() -> Golden {
    serde_json::from_str(include_str!("../golden/starter.json")).unwrap()
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn compare(checkpoint: &Checkpoint, golden: &Golden) {
    let single = Model::load(checkpoint, Precision::F32).unwrap();
    let int8 = Model::load(checkpoint, Precision::Int8).unwrap();
    for sentence in &golden.sentences {
        let text = sentence.text.as_str();
        assert_eq!(single.tokenizer().encode(text, 128).input_ids, sentence.input_ids, "{text}");
        let hidden = single.encoder().forward(&[&sentence.input_ids]).unwrap();
        let rows = hidden.sequence(0);
        let dim = hidden.dim;
        assert!(worst(&rows[..dim], &sentence.first_token) < TOLERANCE, "{text}");
        assert!(worst(&rows[rows.len() - dim..], &sentence.last_token) < TOLERANCE, "{text}");
        assert!(worst(&single.embed(&[text])[0], &sentence.embedding) < TOLERANCE, "{text}");

        let cosine: f32 = int8.embed(&[text])[0].iter().zip(&sentence.embedding).map(|(a, b)| a * b).sum();
        assert!(cosine > 0.995, "{text}: {cosine}");
    }
}

#[test]
fn the_starter_agrees_with_the_reference() {
    compare(&Checkpoint::starter().unwrap(), &starter());
}

#[test]
fn other_checkpoints_agree_with_pytorch() {
    let Some(models) = std::env::var_os("MYNAH_MODELS") else {
        eprintln!("skipped: MYNAH_MODELS names no directory of checkpoints");
        return;
    };
    let mut compared = 0;
    for entry in std::fs::read_dir(Path::new(&models)).unwrap() {
        let directory = entry.unwrap().path();
        if let Ok(golden) = std::fs::read(directory.join("golden.json")) {
            compare(&Checkpoint::from_directory(&directory).unwrap(), &serde_json::from_slice(&golden).unwrap());
            compared += 1;
        }
    }
    assert!(compared > 0, "no golden.json in any directory of {}", Path::new(&models).display());
}
