//! Single kernels, forward passes and the tokenizer: `cargo bench -p mynah-runtime`.
//!
//! Everything runs on the starter's sizes or on those of distilbert-base-uncased, without any file.

use divan::Bencher;
use divan::counter::ItemsCount;
use mynah_runtime::encoder::measure::Kernel;
use mynah_runtime::{Checkpoint, Encoder, EncoderOptions, Hidden, InstructionSet, Precision, Tokenizer};

fn main() {
    divan::main();
}

fn kernel(bencher: Bencher, kernel: Kernel) {
    let mut prepared = kernel.prepare(InstructionSet::detect());
    bencher.counter(ItemsCount::new(kernel.operations())).bench_local(|| prepared.run());
}

#[divan::bench(args = [1, 16, 32, 128, 1024])]
fn product_768_by_3072(bencher: Bencher, rows: usize) {
    kernel(bencher, Kernel::Product { rows, inputs: 768, outputs: 3072 });
}

#[divan::bench(args = [16, 128])]
fn product_384_by_1536(bencher: Bencher, rows: usize) {
    kernel(bencher, Kernel::Product { rows, inputs: 384, outputs: 1536 });
}

#[divan::bench(args = [false, true])]
fn finish_with_gelu(bencher: Bencher, gelu: bool) {
    kernel(bencher, Kernel::Finish { values: 1 << 16, gelu });
}

#[divan::bench(args = [16, 128, 512])]
fn softmax(bencher: Bencher, width: usize) {
    kernel(bencher, Kernel::Softmax { rows: 128, width });
}

#[divan::bench(args = [256, 384, 768])]
fn residual_and_layer_norm(bencher: Bencher, width: usize) {
    kernel(bencher, Kernel::LayerNorm { rows: 128, width });
}

#[divan::bench(args = [768, 3072])]
fn quantize(bencher: Bencher, width: usize) {
    kernel(bencher, Kernel::Quantize { rows: 128, width });
}

#[divan::bench(args = [(1, 16), (1, 32), (1, 128), (32, 32)], consts = [1, 2])]
fn forward_starter<const THREADS: usize>(bencher: Bencher, (batch, tokens): (usize, usize)) {
    let checkpoint = Checkpoint::starter().expect("the embedded starter is whole");
    let options = EncoderOptions { threads: Some(THREADS) };
    let encoder = Encoder::load_with(&checkpoint, Precision::Int8, options).expect("the embedded starter loads");
    let ids: Vec<u32> = (0..(batch * tokens) as u32).map(|i| i * 7919 % 9000 + 1000).collect();
    let sequences: Vec<&[u32]> = ids.chunks_exact(tokens).collect();
    let mut hidden = Hidden::default();
    bencher.counter(ItemsCount::new(ids.len())).bench_local(|| encoder.forward_into(&sequences, &mut hidden));
}

#[divan::bench(args = [1, 8, 64])]
fn tokenize_sentences(bencher: Bencher, sentences: usize) {
    let checkpoint = Checkpoint::starter().expect("the embedded starter is whole");
    let tokenizer = Tokenizer::from_checkpoint(&checkpoint).expect("the embedded starter has a tokenizer");
    let text = "Could you wake me at a quarter past seven, please? ".repeat(sentences);
    bencher.counter(ItemsCount::new(text.len())).bench_local(|| tokenizer.encode(&text, 512));
}
