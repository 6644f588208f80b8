//! Properties that hold for every text: the same alone and in a batch, spans within the text, bounded work, no panics.

use std::sync::OnceLock;

use mynah_runtime::tokenizer::MAX_CHARS_PER_TOKEN;
use mynah_runtime::{Checkpoint, Encoder, EncoderOptions, Error, InstructionSet, Labels, Model, Precision, starter};
use proptest::prelude::*;

use crate::checkpoints::{Tensors, add_heads};

fn base() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| Model::load(&Checkpoint::starter().unwrap(), Precision::Int8).unwrap())
}

/// The starter with heads that read simple things off the hidden states.
fn with_heads() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        starter::write_to(directory.path()).unwrap();
        let labels = Labels {
            functions: vec!["lights".into(), "timer".into(), "oos".into()],
            tags: ["O", "B-room", "I-room", "B-time", "I-time"].map(String::from).to_vec(),
            ..Labels::default()
        };
        std::fs::write(directory.path().join("labels.json"), labels.to_json()).unwrap();
        // Picks hidden dimension `row + 7` for output `row`: arbitrary, but different from word to word.
        let head = |name: &str, outputs: usize| {
            let mut weight = vec![0.0; outputs * 256];
            (0..outputs).for_each(|row| weight[row * 256 + row + 7] = 1.0);
            [
                (format!("{name}.weight"), (vec![outputs, 256], weight)),
                (format!("{name}.bias"), (vec![outputs], vec![0.0; outputs])),
            ]
        };
        let heads: Tensors =
            [head("pre_classifier", 249), head("classifier", 3), head("slot_classifier", 5), head("qa_outputs", 2)]
                .into_iter()
                .flatten()
                .map(|(name, (mut shape, mut values))| {
                    if name.starts_with("pre_classifier") {
                        shape[0] = 256;
                        values.resize(shape.iter().product(), 0.0);
                    }
                    (name, (shape, values))
                })
                .collect();
        add_heads(directory.path(), &heads);
        Model::load(&Checkpoint::from_directory(directory.path()).unwrap(), Precision::Int8).unwrap()
    })
}

#[test]
fn a_base_model_has_an_embedding_and_no_opinion() {
    let prediction = base().predict("turn on the lights");
    assert_eq!(prediction.function, None);
    assert!(prediction.probabilities.is_empty() && prediction.function_logits.is_empty());
    assert!(prediction.slots.is_empty());
    let norm: f32 = prediction.embedding.iter().map(|value| value * value).sum();
    assert!((norm - 1.0).abs() < 1e-5);
    assert_eq!(base().answer("who?", "somebody"), None);
}

#[test]
fn meaning_is_nearer_than_wording() {
    let embeddings = base().embed(&["switch the lamp on", "turn the light on", "switch the channel over"]);
    let cosine = |a: usize, b: usize| -> f32 { embeddings[a].iter().zip(&embeddings[b]).map(|(a, b)| a * b).sum() };
    assert!(cosine(0, 1) > cosine(0, 2));
}

#[test]
fn heads_are_read_and_calibrated() {
    let model = with_heads();
    assert!(model.has_functions() && model.has_answers());
    let prediction = model.predict("wake me up");
    assert_eq!(prediction.function_logits.len(), 3);
    assert_eq!(prediction.function_logits, model.function_logits(&["wake me up"])[0]);
    let total: f32 = prediction.probabilities.iter().map(|(_, probability)| probability).sum();
    assert!((total - 1.0).abs() < 1e-5);
    assert_eq!(prediction.confidence, prediction.probabilities[0].1);
    assert_eq!(prediction.function.as_ref(), Some(&prediction.probabilities[0].0));
}

#[test]
fn an_answer_is_a_span_of_a_passage_of_any_length() {
    let sentence = "The café in Zürich opens at eight — except on Sundays. ";
    for passage in [String::new(), sentence.to_owned(), sentence.repeat(400)] {
        if let Some(span) = with_heads().answer("When does the café open?", &passage) {
            let text: String = passage.chars().skip(span.start).take(span.end - span.start).collect();
            assert_eq!(text, span.text);
            assert!((0.5..=1.0).contains(&span.score));
        }
    }
}

#[test]
fn only_the_beginning_of_a_long_text_is_looked_at() {
    let model = base();
    let limit = 512 * MAX_CHARS_PER_TOKEN;
    for long in ["a".repeat(1_000_000), "word ".repeat(200_000), " ".repeat(1_000_000), "世界".repeat(300_000)] {
        let encoding = model.tokenizer().encode(&long, 512);
        assert!(encoding.input_ids.len() <= 512);
        assert!(encoding.offsets.iter().all(|&(_, end)| end <= limit));
        assert_eq!(model.predict(&long).embedding.len(), model.dim());
    }
}

#[test]
fn special_tokens_cannot_be_typed() {
    let tokenizer = base().tokenizer();
    let typed = tokenizer.encode("[SEP] [CLS] [MASK]", 32).input_ids;
    let (first, last) = (typed[0], typed[typed.len() - 1]);
    assert!(typed[1..typed.len() - 1].iter().all(|&id| id != first && id != last));
}

#[test]
fn words_are_pieces_of_the_pre_tokenizer() {
    let encoding = base().tokenizer().encode("Zürich's unbelievably-good cafés", 64);
    let text: Vec<char> = "Zürich's unbelievably-good cafés".chars().collect();
    let words: Vec<String> = encoding.words().iter().map(|word| text[word.start..word.end].iter().collect()).collect();
    assert_eq!(words, ["Zürich", "'", "s", "unbelievably", "-", "good", "cafés"]);
}

#[test]
fn impossible_tokens_are_refused() {
    let encoder = base().encoder();
    assert!(matches!(encoder.forward(&[&[2, 99_999, 3]]), Err(Error::UnknownToken { id: 99_999, vocab_size: 12_288 })));
    assert!(matches!(encoder.forward(&[&[2; 600]]), Err(Error::SequenceTooLong { maximum: 512, actual: 600 })));
    assert!(encoder.forward(&[]).unwrap().is_empty());
    assert!(encoder.forward(&[&[], &[2, 3]]).unwrap().sequence(0).is_empty());
}

#[test]
fn threads_share_a_model() {
    let texts = ["good morning", "turn it off", "no", "how long is a piece of string?"];
    let alone: Vec<_> = texts.iter().map(|text| base().predict(text)).collect();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|i| scope.spawn(move || base().predict(texts[i % 4]))).collect();
        for (i, thread) in threads.into_iter().enumerate() {
            assert_eq!(thread.join().unwrap(), alone[i % 4]);
        }
    });
}

fn sequences() -> impl Strategy<Value = Vec<Vec<u32>>> {
    proptest::collection::vec(proptest::collection::vec(0u32..12_288, 0..40), 1..24)
}

fn encoder(precision: Precision) -> &'static Encoder {
    static ENCODERS: OnceLock<[Encoder; 2]> = OnceLock::new();
    let encoders = ENCODERS.get_or_init(|| {
        let checkpoint = Checkpoint::starter().unwrap();
        let options = EncoderOptions { threads: Some(2) };
        [Precision::F32, Precision::Int8].map(|precision| Encoder::load_with(&checkpoint, precision, options).unwrap())
    });
    &encoders[usize::from(precision == Precision::Int8)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_sequence_is_the_same_alone_and_in_a_batch(sequences in sequences()) {
        let batch: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
        for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Int8, 0.0)] {
            let encoder = encoder(precision);
            let together = encoder.forward(&batch).unwrap();
            for (index, sequence) in batch.iter().enumerate() {
                let alone = encoder.forward(&[sequence]).unwrap();
                prop_assert_eq!(alone.rows.len(), together.sequence(index).len());
                for (a, b) in alone.rows.iter().zip(together.sequence(index)) {
                    prop_assert!((a - b).abs() <= tolerance, "{:?}: {} and {}", precision, a, b);
                }
            }
        }
    }
}

/// The starter for every instruction set of this processor, each with another number of threads.
fn encoders() -> &'static [Encoder] {
    static ENCODERS: OnceLock<Vec<Encoder>> = OnceLock::new();
    ENCODERS.get_or_init(|| {
        let checkpoint = Checkpoint::starter().unwrap();
        let sets = InstructionSet::ALL.into_iter().filter(|set| set.is_available()).enumerate();
        let load = |(index, set)| {
            let options = EncoderOptions { threads: Some(1 + index % 3) };
            Encoder::load_for(&checkpoint, Precision::Int8, options, set).unwrap()
        };
        sets.map(load).collect()
    })
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn every_instruction_set_gives_the_same_answer(sequences in sequences()) {
        let batch: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
        let reference = encoder(Precision::F32).forward(&batch).unwrap();
        let results: Vec<_> = encoders().iter().map(|encoder| encoder.forward(&batch).unwrap()).collect();
        for (encoder, result) in encoders().iter().zip(&results) {
            let set = encoder.instruction_set();
            prop_assert_eq!(&result.starts, &reference.starts);
            for (row, first) in result.rows.chunks(result.dim).zip(results[0].rows.chunks(result.dim)) {
                // The sums are the same integers; what differs is where a value lies that is rounded next.
                prop_assert!(cosine(row, first) > 0.998, "{:?}: {}", set, cosine(row, first));
            }
            for (row, exact) in result.rows.chunks(result.dim).zip(reference.rows.chunks(result.dim)) {
                prop_assert!(cosine(row, exact) > 0.98, "{:?}: {}", set, cosine(row, exact));
            }
        }
    }

    #[test]
    fn the_number_of_threads_changes_nothing(sequences in sequences()) {
        static ENCODERS: OnceLock<[Encoder; 3]> = OnceLock::new();
        let encoders = ENCODERS.get_or_init(|| {
            [1, 2, 5].map(|threads| {
                let options = EncoderOptions { threads: Some(threads) };
                Encoder::load_with(&Checkpoint::starter().unwrap(), Precision::Int8, options).unwrap()
            })
        });
        let batch: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
        let alone = encoders[0].forward(&batch).unwrap();
        for encoder in &encoders[1..] {
            prop_assert_eq!(&encoder.forward(&batch).unwrap(), &alone);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_text_gets_a_prediction_with_spans_inside_it(bytes in proptest::collection::vec(any::<u8>(), 0..120), text in "\\PC{0,60}") {
        for text in [String::from_utf8_lossy(&bytes).into_owned(), text] {
            let prediction = with_heads().predict(&text);
            let mut end = 0;
            for slot in &prediction.slots {
                prop_assert!(end <= slot.start && slot.start < slot.end);
                let value: String = text.chars().skip(slot.start).take(slot.end - slot.start).collect();
                prop_assert_eq!(&value, &slot.value);
                end = slot.end;
            }
            prop_assert!(end <= text.chars().count());
            prop_assert!(prediction.embedding.iter().all(|value| value.is_finite()));
            prop_assert_eq!(&with_heads().predict_batch(&["warm up", &text])[1], &prediction);
        }
    }

    #[test]
    fn any_bytes_as_a_tokenizer_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        prop_assert!(mynah_runtime::Tokenizer::from_bytes(&bytes).is_err());
    }
}

#[test]
fn callers_that_wait_for_each_other_get_what_they_would_get_alone() {
    let texts =
        ["lights in the kitchen", "a timer for ten minutes", "", "what is this", "turn it all off, please, and now"];
    let model = with_heads();
    let expected: Vec<_> = texts.iter().map(|text| model.predict(text)).collect();
    std::thread::scope(|scope| {
        for caller in 0..16 {
            let expected = &expected;
            scope.spawn(move || {
                for round in 0..8 {
                    let index = (caller + round) % texts.len();
                    let (prediction, expected) = (model.predict(texts[index]), &expected[index]);
                    assert_eq!((&prediction.function, &prediction.slots), (&expected.function, &expected.slots));
                    for (given, alone) in prediction.embedding.iter().zip(&expected.embedding) {
                        assert!((given - alone).abs() < 1e-5, "{given} {alone}");
                    }
                }
            });
        }
    });
}
