//! Reading the nearest passages for the words that answer a question.
//!
//! Retrieval says which passages are about the question, the answer head which of them answers it and where. A span that
//! the head is sure of is the answer; one that it only prefers to "no answer" is given with its sentence; and without any
//! the nearest sentence answers only if it is very near.
//!
//! Invariant: the words of an answer are words of its passage.

use super::{Found, Passage};
use crate::heads::AnswerSpan;
use crate::model::Model;

/// Passages that are read; the right one is rarely further down, and each costs a forward pass.
pub(crate) const READ_PASSAGES: usize = 3;

/// An answer with its passage.
#[derive(Debug, Clone, PartialEq)]
pub struct PassageAnswer<'a> {
    /// The passage.
    pub passage: &'a Passage,
    /// The similarity of passage and question, in [−1, 1].
    pub similarity: f32,
    /// The answer.
    pub words: String,
    /// Where the answer head sees it; none when the nearest sentence answers.
    pub span: Option<AnswerSpan>,
}

/// What is needed to answer from a passage, each in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ReadingThresholds {
    /// The head's score from which on a passage answers.
    pub answer: f32,
    /// The similarity from which on the nearest sentence answers though the head finds no span.
    pub sentence: f32,
}

/// The answer to a question in the nearest passages, nearest first; none when they do not answer.
pub(crate) fn read<'a>(
    question: &str,
    found: Vec<Found<'a>>,
    model: &Model,
    thresholds: ReadingThresholds,
) -> Option<PassageAnswer<'a>> {
    let spans = match model.has_answers() {
        true => {
            let pairs: Vec<(&str, &str)> = found.iter().map(|found| (question, found.passage.text.as_str())).collect();
            Some(model.read(&pairs))
        }
        false => None,
    };
    choose(found, spans, thresholds)
}

fn choose<'a>(
    found: Vec<Found<'a>>,
    spans: Option<Vec<Option<AnswerSpan>>>,
    thresholds: ReadingThresholds,
) -> Option<PassageAnswer<'a>> {
    let nearest = found.first().map(|found| (found.passage, found.similarity, found.sentence))?;
    let sentence = |(passage, similarity, sentence): (&'a Passage, f32, &'a str)| PassageAnswer {
        passage,
        similarity,
        words: sentence.to_owned(),
        span: None,
    };
    let Some(spans) = spans else { return Some(sentence(nearest)) };
    // A sure span of a passage that is about something else is as wrong as a near passage without an answer.
    let value = |found: &Found<'_>, span: &AnswerSpan| found.similarity.max(0.0) * span.score;
    let best = found
        .iter()
        .zip(spans)
        .filter_map(|(found, span)| Some((found, span?)))
        .filter(|(_, span)| span.score >= thresholds.answer)
        .max_by(|a, b| value(a.0, &a.1).total_cmp(&value(b.0, &b.1)));
    let Some((found, span)) = best else {
        return (nearest.1 >= thresholds.sentence).then(|| sentence(nearest));
    };
    let is_sure = span.score >= (1.0 + thresholds.answer) / 2.0;
    let words = match is_sure {
        true => span.text.clone(),
        false => sentence_at(found.passage, span.start).unwrap_or(&span.text).to_owned(),
    };
    Some(PassageAnswer { passage: found.passage, similarity: found.similarity, words, span: Some(span) })
}

/// The sentence of a passage that a character stands in.
fn sentence_at(passage: &Passage, character: usize) -> Option<&str> {
    let mut end = 0;
    passage
        .sentences
        .iter()
        .find(|sentence| {
            // The text is the sentences with a space between them.
            end += sentence.chars().count() + 1;
            character < end
        })
        .map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLDS: ReadingThresholds = ReadingThresholds { answer: 0.4, sentence: 0.8 };

    fn passage(sentences: &[&str]) -> Passage {
        Passage {
            file: "house.md".into(),
            line: 3,
            heading: Some("House".into()),
            text: sentences.join(" "),
            sentences: sentences.iter().map(|sentence| (*sentence).to_owned()).collect(),
        }
    }

    fn span(passage: &Passage, text: &str, score: f32) -> Option<AnswerSpan> {
        let start = passage.text.find(text).map(|at| passage.text[..at].chars().count()).unwrap();
        Some(AnswerSpan { start, end: start + text.chars().count(), text: text.into(), margin: 0.0, score })
    }

    fn near<'a>(passage: &'a Passage, similarity: f32) -> Found<'a> {
        Found { passage, similarity, sentence: &passage.sentences[0] }
    }

    #[test]
    fn a_sure_span_is_the_answer_and_a_doubtful_one_its_sentence() {
        let one = passage(&["Café Zoë is near.", "The key hangs by the door."]);
        let answer = |score| choose(vec![near(&one, 0.6)], Some(vec![span(&one, "by the door", score)]), THRESHOLDS);
        assert_eq!(answer(0.9).unwrap().words, "by the door");
        assert_eq!(answer(0.5).unwrap().words, "The key hangs by the door.");
        assert_eq!(answer(0.3), None);
        let first = choose(vec![near(&one, 0.6)], Some(vec![span(&one, "Café Zoë", 0.5)]), THRESHOLDS);
        assert_eq!(first.unwrap().words, "Café Zoë is near.");
    }

    #[test]
    fn the_span_decides_between_near_passages() {
        let (one, two) = (passage(&["Towels are in the hall."]), passage(&["The key hangs by the door."]));
        let found = || vec![near(&one, 0.62), near(&two, 0.6)];
        let spans = vec![span(&one, "Towels", 0.45), span(&two, "by the door", 0.9)];
        assert_eq!(choose(found(), Some(spans), THRESHOLDS).unwrap().passage, &two);
        let spans = vec![None, span(&two, "key", 0.1)];
        assert_eq!(choose(found(), Some(spans), THRESHOLDS), None);
    }

    #[test]
    fn without_a_span_only_a_very_near_sentence_answers() {
        let one = passage(&["Towels are in the hall."]);
        let answer = |similarity, spans| choose(vec![near(&one, similarity)], spans, THRESHOLDS);
        assert_eq!(answer(0.85, Some(vec![None])).unwrap().words, "Towels are in the hall.");
        assert_eq!(answer(0.7, Some(vec![None])), None);
        // A model without an answer head knows nothing better.
        assert_eq!(answer(0.55, None).unwrap().words, "Towels are in the hall.");
        assert_eq!(choose(Vec::new(), None, THRESHOLDS), None);
    }
}
