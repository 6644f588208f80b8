//! Questions beside their passages, as the answer head learns them.
//!
//! A long passage is read in overlapping windows. A window that does not hold the whole answer, and one of a question
//! that its passage does not answer, point at `[CLS]` (arXiv 1806.03822).

use mynah_data::{AnswerSpan, QuestionExample};
use mynah_runtime::{Tokenizer, Windows};
use std::collections::{BTreeMap, BTreeSet};

use crate::batch::Ragged;
use crate::settings::TrainingSettings;

/// Windows of one passage that are trained on at most; a passage of a book is no passage.
const MAX_WINDOWS: usize = 64;

/// Characters on either side of an uncertain answer that are compared with the question.
const SURROUNDINGS: usize = 100;

/// A window with the place of the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct AnswerWindow {
    /// `[CLS] question [SEP] passage [SEP]`.
    pub input_ids: Vec<u32>,
    /// The answer's first token; 0 when the window does not answer.
    pub start: u32,
    /// The answer's last token; 0 when the window does not answer.
    pub end: u32,
    /// The base's embedding of the window, which training keeps close to; empty when there is none.
    pub embedding: Vec<f32>,
}

impl AnswerWindow {
    fn new(input_ids: Vec<u32>, (start, end): (usize, usize)) -> Self {
        Self { input_ids, start: start as u32, end: end as u32, embedding: Vec::new() }
    }
}

/// The windows of `questions`. A share of the questions, [`TrainingSettings::answer_negatives`], is also put to a passage
/// of another one, which does not answer them.
pub fn windows(
    questions: &[QuestionExample],
    tokenizer: &Tokenizer,
    positions: usize,
    settings: &TrainingSettings,
) -> Vec<AnswerWindow> {
    let form = Windows {
        max_tokens: settings.answer_window_tokens.min(positions),
        overlap: settings.answer_overlap,
        max_windows: MAX_WINDOWS,
    };
    let mut windows = Vec::new();
    for (index, question) in questions.iter().enumerate() {
        let span = trained_answer(question).map(|(start, answer)| (start, start + answer.text.chars().count()));
        for window in tokenizer.encode_pair(&question.question, &question.context, form) {
            let tokens = span.and_then(|(start, end)| window.tokens_of(start, end)).unwrap_or((0, 0));
            windows.push(AnswerWindow::new(window.input_ids, tokens));
        }
        // Every n-th: spread evenly, and the same questions in every run.
        let share = settings.answer_negatives;
        if ((index + 1) as f64 * share) as usize > (index as f64 * share) as usize
            && let Some(other) = other_passage(questions, index)
        {
            let first = tokenizer.encode_pair(&question.question, other, Windows { max_windows: 1, ..form });
            windows.extend(first.into_iter().map(|pair| AnswerWindow::new(pair.input_ids, (0, 0))));
        }
    }
    windows
}

/// A passage from elsewhere in the set that says no answer to the question at `index`.
pub(crate) fn other_passage(questions: &[QuestionExample], index: usize) -> Option<&str> {
    const TRIES: usize = 8;
    let question = &questions[index];
    let answers: Vec<String> = question.answers.iter().map(|answer| answer.text.to_lowercase()).collect();
    let half = questions.len() / 2;
    let others = (0..TRIES.min(questions.len())).map(|step| &questions[(index + half + step) % questions.len()]);
    let mut strangers = others.filter(|other| other.context != question.context).map(|other| other.context.as_str());
    strangers.find(|context| {
        let context = context.to_lowercase();
        !answers.iter().any(|answer| context.contains(answer))
    })
}

/// The answer that is trained on, with its first character: the one that most people gave, where it is meant.
fn trained_answer(question: &QuestionExample) -> Option<(usize, &AnswerSpan)> {
    let mut given: BTreeMap<&str, usize> = BTreeMap::new();
    for answer in &question.answers {
        *given.entry(&answer.text).or_default() += 1;
    }
    let mut best: Option<(usize, &AnswerSpan)> = None;
    for answer in &question.answers {
        let people = given.get(answer.text.as_str()).copied().unwrap_or(0);
        if best.is_none_or(|(most, _)| people > most) {
            best = Some((people, answer));
        }
    }
    let (_, answer) = best?;
    Some((if answer.exact { answer.start } else { likely_place(question, answer) }, answer))
}

/// Where an answer with an uncertain place is meant: the words around it share most with the question.
fn likely_place(question: &QuestionExample, answer: &AnswerSpan) -> usize {
    let context: Vec<char> = question.context.chars().collect();
    let length = answer.text.chars().count();
    let asked = words(&question.question);
    let count = |at: usize| question.context[..at].chars().count();
    let elsewhere = question.context.match_indices(&answer.text).map(|(at, _)| count(at));
    let mut best: Option<(usize, usize)> = None;
    for place in std::iter::once(answer.start).chain(elsewhere) {
        let (from, to) = (place.saturating_sub(SURROUNDINGS), (place + length + SURROUNDINGS).min(context.len()));
        let around: String = context.get(from..to).unwrap_or_default().iter().collect();
        let shared = words(&around).intersection(&asked).count();
        if best.is_none_or(|(most, _)| shared > most) {
            best = Some((shared, place));
        }
    }
    best.map_or(answer.start, |(_, place)| place)
}

fn words(text: &str) -> BTreeSet<String> {
    let parts = text.split(|character: char| !character.is_alphanumeric() && character != '_');
    parts.filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

/// Some windows of similar length.
#[derive(Clone, Debug)]
pub struct WindowBatch {
    /// The tokens.
    pub ragged: Ragged,
    /// `[batch_size]`: the first token of the answer.
    pub starts: Vec<u32>,
    /// `[batch_size]`: its last token.
    pub ends: Vec<u32>,
    /// `[batch_size, dim]`: unit vectors; empty when none were computed.
    pub embeddings: Vec<f32>,
}

impl WindowBatch {
    /// Puts `windows` beside each other.
    pub fn new(windows: &[&AnswerWindow]) -> Self {
        let embeddings: Vec<f32> = windows.iter().flat_map(|window| window.embedding.iter().copied()).collect();
        let complete = windows.first().is_some_and(|first| embeddings.len() == windows.len() * first.embedding.len());
        Self {
            ragged: Ragged::of(windows.iter().map(|window| window.input_ids.as_slice())),
            starts: windows.iter().map(|window| window.start).collect(),
            ends: windows.iter().map(|window| window.end).collect(),
            embeddings: if complete { embeddings } else { Vec::new() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mynah_runtime::Checkpoint;
    use proptest::prelude::*;

    fn question(context: &str, asked: &str, answers: &[(&str, usize, bool)]) -> QuestionExample {
        QuestionExample {
            id: None,
            title: None,
            context: context.into(),
            question: asked.into(),
            answers: answers
                .iter()
                .map(|&(text, start, exact)| AnswerSpan { text: text.into(), start, exact })
                .collect(),
            split: None,
            origin: "test:1".into(),
        }
    }

    fn tokenizer() -> Tokenizer {
        Tokenizer::from_checkpoint(&Checkpoint::starter().unwrap()).unwrap()
    }

    #[test]
    fn the_answer_of_most_people_is_learned_where_it_is_meant() {
        let votes = question("red or blue", "which?", &[("red", 0, true), ("blue", 7, true), ("blue", 7, true)]);
        assert_eq!(trained_answer(&votes).unwrap().0, 7);
        assert_eq!(trained_answer(&question("a", "b", &[])), None);
        let far = "x ".repeat(150);
        let context = format!("In May it rained. {far} The museum of trains opened in May 1901.");
        let uncertain = question(&context, "When did the museum of trains open?", &[("May", 3, false)]);
        let place = trained_answer(&uncertain).unwrap().0;
        assert!(context.chars().skip(place).collect::<String>().starts_with("May 1901"));
        let certain = question(&context, "When did the museum of trains open?", &[("May", 3, true)]);
        assert_eq!(trained_answer(&certain).unwrap().0, 3);
    }

    #[test]
    fn windows_without_the_answer_point_at_the_first_token() {
        let context = format!("{}The door is red. {}", "Nothing here. ".repeat(60), "Nothing there. ".repeat(60));
        let place = context.find("red").unwrap();
        let settings = TrainingSettings { answer_window_tokens: 64, answer_overlap: 16, ..TrainingSettings::default() };
        let asked = question(&context, "What colour is the door?", &[("red", place, true)]);
        let windows = windows(&[asked], &tokenizer(), 512, &settings);
        assert!(windows.len() > 4 && windows.iter().all(|window| window.input_ids.len() <= 64));
        let holding: Vec<_> = windows.iter().filter(|window| window.start > 0).collect();
        assert!((1..=2).contains(&holding.len()));
        let red = tokenizer().encode("red", 8).input_ids[1];
        assert!(
            holding.iter().all(|window| window.input_ids[window.start as usize] == red && window.end == window.start)
        );
    }

    #[test]
    fn negatives_are_questions_to_passages_that_do_not_answer_them() {
        let questions: Vec<_> = (0..10)
            .map(|n| {
                question(&format!("Number {n} lives in house {n}{n}."), "Where?", &[(&format!("{n}{n}"), 24, true)])
            })
            .collect();
        let settings = TrainingSettings { answer_negatives: 0.2, ..TrainingSettings::default() };
        let windows = windows(&questions, &tokenizer(), 512, &settings);
        assert_eq!(windows.len(), 12);
        assert_eq!(windows.iter().filter(|window| window.start == 0).count(), 2);
        assert_eq!(other_passage(&questions[..1], 0), None);
    }

    #[test]
    fn a_batch_is_padded_to_its_longest_window() {
        let window = |length: u32, start: usize| AnswerWindow::new((0..length).collect(), (start, start + 1));
        let batch = WindowBatch::new(&[&window(3, 1), &window(5, 2)]);
        assert_eq!(batch.ragged.starts, [0, 3, 8]);
        assert_eq!(batch.ends, [2, 3]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// The tokens of a span lie within the window, and their characters hold the span's.
        #[test]
        fn windows_map_back_to_characters(text in "(\\PC{0,3}[a-zé世 .]{0,12}){0,20}", from in 0usize..200, length in 1usize..12) {
            let tokenizer = tokenizer();
            let characters: Vec<char> = text.chars().collect();
            let form = Windows { max_tokens: 24, overlap: 6, max_windows: 64 };
            for window in tokenizer.encode_pair("what is it?", &text, form) {
                prop_assert!(window.input_ids.len() <= 24);
                prop_assert_eq!(window.input_ids.len(), window.passage_start + window.offsets.len() + 1);
                prop_assert!(window.offsets.iter().all(|&(start, end)| start <= end && end <= characters.len()));
                let end = (from + length).min(characters.len());
                if from < end && let Some((first, last)) = window.tokens_of(from, end) {
                    prop_assert!(window.passage_start <= first && first <= last && last + 1 < window.input_ids.len());
                    let offset = |token: usize| window.offsets[token - window.passage_start];
                    prop_assert!(offset(first).0 <= from && end <= offset(last).1);
                    let held: String = characters[offset(first).0..offset(last).1].iter().collect();
                    let span: String = characters[from..end].iter().collect();
                    prop_assert!(held.contains(&span));
                }
            }
        }
    }
}
