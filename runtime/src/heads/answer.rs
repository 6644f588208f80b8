//! The answer to a question as a span of a passage, as in extractive question answering (arXiv:1606.05250, with the
//! "no answer" score of arXiv:1806.03822 on the first token).
//!
//! Invariant: a span's text is exactly the characters `start..end` of the passage.

use super::tags::char_slice;
use crate::tokenizer::PairEncoding;

/// Tokens of the longest answer; longer spans are almost always two answers with the text between them.
const MAX_ANSWER_TOKENS: usize = 30;

/// The best answer that the head finds in a passage.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerSpan {
    /// Its first character.
    pub start: usize,
    /// The character after its last.
    pub end: usize,
    /// Its text.
    pub text: String,
    /// How much more the head believes in it than in "no answer", in nats; negative when it believes less.
    pub margin: f32,
    /// The same as a probability in [0, 1].
    pub score: f32,
}

/// The best span of a window, whether or not "no answer" (start and end on `[CLS]`) scores higher; `None` when the window
/// has no tokens of the passage or a score is not a number.
///
/// # Shapes
/// `logits`: `[tokens, 2]`, start and end
pub(super) fn best_span(passage: &str, window: &PairEncoding, logits: &[[f32; 2]]) -> Option<AnswerSpan> {
    let no_answer = logits.first().map(|[start, end]| start + end)?;
    let tokens = logits.get(window.passage_start..)?;
    let count = window.offsets.len().min(tokens.len());
    let mut best: Option<(usize, usize, f32)> = None;
    for first in 0..count {
        for last in first..count.min(first + MAX_ANSWER_TOKENS) {
            let score = tokens[first][0] + tokens[last][1];
            if best.is_none_or(|(_, _, highest)| score > highest) {
                best = Some((first, last, score));
            }
        }
    }
    let (first, last, score) = best?;
    let margin = score - no_answer;
    if margin.is_nan() {
        return None;
    }
    let (start, end) = (window.offsets[first].0, window.offsets[last].1);
    let text = char_slice(passage, start, end)?.to_owned();
    Some(AnswerSpan { start, end, text, margin, score: 1.0 / (1.0 + (-margin).exp()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window() -> PairEncoding {
        // [CLS] q [SEP] the red door [SEP]
        PairEncoding { input_ids: vec![0; 7], passage_start: 3, offsets: vec![(0, 3), (4, 7), (8, 12)] }
    }

    #[test]
    fn the_best_pair_of_start_and_end_wins() {
        let mut logits = [[0.0; 2]; 7];
        logits[4][0] = 3.0;
        logits[5][1] = 3.0;
        logits[6] = [9.0, 9.0]; // [SEP] is not part of the passage
        let span = best_span("the red door", &window(), &logits).unwrap();
        assert_eq!((span.start, span.end, span.text.as_str()), (4, 12, "red door"));
        assert!(span.score > 0.99);
    }

    #[test]
    fn no_answer_is_weighed_against_the_span() {
        let mut logits = [[0.0; 2]; 7];
        logits[0] = [2.0, 2.0];
        logits[4] = [1.0, 1.0];
        let span = best_span("the red door", &window(), &logits).unwrap();
        assert_eq!((span.text.as_str(), span.margin), ("red", -2.0));
        assert!((span.score - 0.119_202_92).abs() < 1e-6);
        assert_eq!(best_span("the red door", &window(), &[[f32::NAN; 2]; 7]), None);
        assert_eq!(best_span("", &window(), &[]), None);
    }
}
