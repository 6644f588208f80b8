//! Splits that share no text and do not move, on made-up data and on the real sets.

use std::collections::HashSet;
use std::fs::File;
use std::path::PathBuf;

use mynah_data::{
    Dataset, Example, Imported, OUT_OF_SCOPE, Source, SplitName, mask, normalise, read_examples, split_of,
};
use proptest::prelude::*;

fn example(text: &str, split: Option<SplitName>) -> Example {
    Example {
        text: text.to_owned(),
        function: "a".to_owned(),
        slots: Vec::new(),
        split,
        source: Source::Imported,
        origin: "x.jsonl:1".to_owned(),
        at: None,
        weight: 1.0,
    }
}

fn texts(examples: &[Example]) -> Vec<&str> {
    examples.iter().map(|example| example.text.as_str()).collect()
}

fn key(text: &str) -> String {
    text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ")
}

const TRAIN: Option<SplitName> = Some(SplitName::Train);
const VALIDATION: Option<SplitName> = Some(SplitName::Validation);
const HELD_OUT: Option<SplitName> = Some(SplitName::HeldOut);

#[test]
fn texts_of_train_are_removed_from_the_other_splits() {
    let dataset = Dataset::build([
        example("Play  jazz", TRAIN),
        example("play jazz", HELD_OUT),
        example("stop", VALIDATION),
        example("STOP", HELD_OUT),
        example("go", VALIDATION),
        example("play JAZZ", VALIDATION),
    ]);
    assert_eq!(texts(&dataset.train), ["Play  jazz"]);
    assert_eq!(texts(&dataset.held_out), ["STOP"]);
    assert_eq!(texts(&dataset.validation), ["go"]);
    assert_eq!(dataset.removed, 3);
}

#[test]
fn what_is_held_out_is_caught_under_another_name_case_or_value() {
    let slot = |start, end| mynah_data::Slot { name: "time".to_owned(), start, end, value: String::new() };
    let from = |file: &str, text: &str, slots: &[mynah_data::Slot], split| Example {
        origin: format!("{file}.jsonl:1"),
        slots: slots.to_vec(),
        ..example(text, split)
    };
    // Another file says the same louder; a correction has the same words with another value; the published train split of
    // the same file may have the wording of its test split, but not its text.
    let mut corrected = from("i_1", "alarm for noon", &[slot(10, 14)], TRAIN);
    corrected.source = Source::Corrected;
    let dataset = Dataset::build([
        from("a", "Close the door!", &[], HELD_OUT),
        from("b", "CLOSE, the door", &[], TRAIN),
        from("b", "close  the door", &[], None),
        from("a", "alarm for seven", &[slot(10, 15)], HELD_OUT),
        corrected,
        from("a", "wake me at seven", &[slot(11, 16)], TRAIN),
        from("a", "wake me at ten", &[slot(11, 14)], HELD_OUT),
        from("a", "Wake me at  SEVEN", &[slot(11, 16)], HELD_OUT),
        from("a", "timer 5 minutes", &[], HELD_OUT),
        from("c", "timer 10 minutes", &[], TRAIN),
    ]);
    assert_eq!(texts(&dataset.held_out), ["wake me at ten"]);
    assert_eq!(texts(&dataset.train), ["CLOSE, the door", "alarm for noon", "wake me at seven", "timer 10 minutes"]);
    // One without a split of its own joins what is held out already, however it is written.
    let joined = Dataset::build([from("a", "Close the door!", &[], HELD_OUT), from("b", "close  the DOOR", &[], None)]);
    assert_eq!((joined.train.len(), joined.held_out.len()), (0, 2));
}

#[test]
fn later_labels_win_but_no_guess_does() {
    let mut corrected = example("PLAY jazz", TRAIN);
    corrected.function = "b".to_owned();
    let mut guess = example("play jazz", TRAIN);
    guess.function = "c".to_owned();
    guess.source = Source::Predicted;
    let dataset = Dataset::build([example("play jazz", TRAIN), corrected, guess]);
    assert_eq!(dataset.train.len(), 1);
    assert_eq!(dataset.train[0].function, "b");
    assert_eq!(dataset.duplicates, 2);
}

#[test]
fn a_published_test_set_keeps_its_repetitions_and_learns_later_labels() {
    let mut confirmed = example("go", None);
    confirmed.source = Source::Confirmed;
    confirmed.function = "b".to_owned();
    let dataset = Dataset::build([example("go", HELD_OUT), example("Go", HELD_OUT), confirmed]);
    assert_eq!(dataset.held_out.len(), 2);
    assert!(dataset.held_out.iter().all(|example| example.function == "b"));
}

#[test]
fn a_guess_is_never_held_out() {
    let guesses = (0..200).map(|index| {
        let word: String = format!("{index:03}").chars().map(|digit| char::from(digit as u8 + 49)).collect();
        Example {
            source: Source::Predicted,
            split: (index % 10 == 0).then_some(SplitName::HeldOut),
            ..example(&word, None)
        }
    });
    let dataset = Dataset::build(guesses);
    assert_eq!((dataset.held_out.len(), dataset.validation.len()), (0, 0));
    assert_eq!(dataset.train.len() + dataset.removed, 200);
}

#[test]
fn the_digest_is_of_what_is_learned() {
    let mut moved = example("a b", TRAIN);
    moved.origin = "elsewhere:9".to_owned();
    let one = Dataset::build([example("a b", TRAIN)]);
    assert_eq!(one.digest, Dataset::build([moved]).digest);
    assert_eq!(one.digest.len(), 64);
    let mut other = example("a b", TRAIN);
    other.function = OUT_OF_SCOPE.to_owned();
    assert_ne!(one.digest, Dataset::build([other]).digest);
    assert!(Dataset::build([]).is_empty());
}

fn real(name: &str) -> Option<Vec<Example>> {
    let Some(directory) = std::env::var_os("MYNAH_DATA") else {
        eprintln!("skipped: MYNAH_DATA names no directory with {name}");
        return None;
    };
    let path = PathBuf::from(directory).join(name);
    let Ok(file) = File::open(&path) else {
        eprintln!("skipped: there is no {}", path.display());
        return None;
    };
    let read = read_examples(file, name, None).map(|record| match record {
        Ok(Imported::Example(example)) => example,
        other => panic!("{other:?}"),
    });
    Some(read.collect())
}

#[test]
fn real_test_sets_lose_what_is_in_train_and_nothing_else() {
    for (name, held_out, in_train) in
        [("snips_cased.jsonl.gz", 700, 23), ("massive_en_us.jsonl.gz", 2_974, 21), ("clinc150.jsonl.gz", 5_500, 2)]
    {
        let Some(examples) = real(name) else { continue };
        let dataset = Dataset::build(examples);
        assert_eq!(dataset.held_out.len(), held_out - in_train, "{name}");
        disjoint(&dataset).unwrap();
    }
}

#[test]
fn every_real_file_of_questions_is_read() {
    for (name, records) in [
        ("squad_train_subset.jsonl.gz", 8_219),
        ("squad_train_unanswerable.jsonl.gz", 348),
        ("squad_v1_dev.jsonl.gz", 10_570),
        ("squad_retrieval_train.jsonl.gz", 10_000),
        ("squadshifts_reddit.jsonl.gz", 9_803),
    ] {
        let Some(directory) = std::env::var_os("MYNAH_DATA") else {
            eprintln!("skipped: MYNAH_DATA names no directory with {name}");
            continue;
        };
        let Ok(file) = File::open(PathBuf::from(directory).join(name)) else {
            eprintln!("skipped: there is no {name}");
            continue;
        };
        let read = read_examples(file, name, None).map(Result::unwrap).count();
        assert_eq!(read, records, "{name}");
    }
}

fn disjoint(dataset: &Dataset) -> Result<(), String> {
    let keys =
        |examples: &[Example]| -> HashSet<String> { examples.iter().map(|example| key(&example.text)).collect() };
    let [train, validation, held_out] =
        [&dataset.train, &dataset.validation, &dataset.held_out].map(|split| keys(split));
    for (one, other) in [(&train, &validation), (&train, &held_out), (&validation, &held_out)] {
        if let Some(shared) = one.intersection(other).next() {
            return Err(format!("`{shared}` is in two splits"));
        }
    }
    Ok(())
}

fn any_example() -> impl Strategy<Value = Example> {
    let split = prop_oneof![
        4 => Just(None),
        1 => Just(TRAIN),
        1 => Just(VALIDATION),
        1 => Just(HELD_OUT)
    ];
    let source = prop_oneof![Just(Source::Imported), Just(Source::Confirmed), Just(Source::Predicted)];
    ("[aAbB ]{1,4}", split, source, "[xy]", "[fg]\\.jsonl:[1-9]").prop_map(|(text, split, source, function, origin)| {
        Example { function, source, origin, ..example(&text, split) }
    })
}

proptest! {
    #[test]
    fn normalising_twice_is_normalising_once(text in any::<String>()) {
        let once = normalise(&text);
        prop_assert_eq!(normalise(&once), once);
    }

    #[test]
    fn case_space_and_punctuation_do_not_move_a_text(words in prop::collection::vec("[a-z]{1,6}", 1..6)) {
        let plain = example(&words.join(" "), None);
        let shouted = example(&format!("  {}!", words.join(", ").to_uppercase()), None);
        prop_assert_eq!(split_of(&plain), split_of(&shouted));
    }

    #[test]
    fn the_split_is_a_function_of_the_words(text in any::<String>(), function in "[a-z]{1,4}") {
        let mut other = example(&text, None);
        let split = split_of(&other);
        other.function = function;
        other.source = Source::Corrected;
        other.origin = "elsewhere".to_owned();
        other.weight = 0.5;
        prop_assert_eq!(split_of(&other), split);
        prop_assert_eq!(mask(&text, &[]), normalise(&text));
    }

    #[test]
    fn splits_share_no_text(examples in prop::collection::vec(any_example(), 0..40)) {
        let dataset = Dataset::build(examples.clone());
        prop_assert_eq!(disjoint(&dataset), Ok(()));
        let kept = dataset.train.len() + dataset.validation.len() + dataset.held_out.len();
        prop_assert_eq!(kept + dataset.removed + dataset.duplicates, examples.len());
        prop_assert_eq!(Dataset::build(examples), dataset);
    }

    #[test]
    fn nothing_moves_when_data_grows(
        before in prop::collection::vec("[a-h ]{1,8}", 0..30),
        more in prop::collection::vec("[a-h ]{1,8}", 0..30),
    ) {
        let grown = before.iter().chain(&more).map(|text| example(text, None));
        let old = Dataset::build(before.iter().map(|text| example(text, None)));
        let new = Dataset::build(grown);
        for split in [SplitName::Train, SplitName::Validation, SplitName::HeldOut] {
            let keys: HashSet<String> = new.split(split).iter().map(|example| key(&example.text)).collect();
            for example in old.split(split) {
                prop_assert!(keys.contains(&key(&example.text)), "{:?} left {split}", example.text);
            }
        }
    }
}
