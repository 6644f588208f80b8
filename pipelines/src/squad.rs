//! Exact match and F1 of answers, as SQuAD v1.1 scores them (arXiv 1606.05250).
//!
//! Answers are compared without case, punctuation and articles, and an answer counts by the best of the accepted ones.

use std::collections::HashMap;

/// How near an answer is to an accepted one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Nearness {
    /// 1 when the words are the same, else 0.
    pub exact: f64,
    /// F1 over the words, in [0, 1].
    pub f1: f64,
}

/// The nearness of `answer` to the nearest of the `accepted` ones. Without accepted answers, saying nothing is right.
pub fn nearness<'a>(answer: &str, accepted: impl IntoIterator<Item = &'a str>) -> Nearness {
    let answer = normalise(answer);
    let mut accepted = accepted.into_iter().peekable();
    if accepted.peek().is_none() {
        let right = f64::from(u8::from(answer.is_empty()));
        return Nearness { exact: right, f1: right };
    }
    accepted.map(normalise).fold(Nearness::default(), |best, truth| Nearness {
        exact: best.exact.max(f64::from(u8::from(answer == truth))),
        f1: best.f1.max(f1(&answer, &truth)),
    })
}

/// Lower case without ASCII punctuation and without `a`, `an` and `the`.
fn normalise(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let mut plain = String::with_capacity(lower.len());
    let mut word = String::new();
    let finish = |word: &mut String, plain: &mut String| {
        let article = matches!(word.as_str(), "a" | "an" | "the");
        plain.push_str(if article { " " } else { word });
        word.clear();
    };
    for character in lower.chars().filter(|character| !character.is_ascii_punctuation()) {
        if character.is_alphanumeric() {
            word.push(character);
        } else {
            finish(&mut word, &mut plain);
            plain.push(character);
        }
    }
    finish(&mut word, &mut plain);
    plain.split_whitespace().map(str::to_owned).collect()
}

fn f1(answer: &[String], truth: &[String]) -> f64 {
    let mut left: HashMap<&str, usize> = HashMap::new();
    for word in truth {
        *left.entry(word).or_default() += 1;
    }
    let mut same = 0usize;
    for word in answer {
        if let Some(count) = left.get_mut(word.as_str()).filter(|count| **count > 0) {
            *count -= 1;
            same += 1;
        }
    }
    if same == 0 { 0.0 } else { 2.0 * same as f64 / (answer.len() + truth.len()) as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_punctuation_and_articles_do_not_count() {
        for (answer, truth) in [
            ("The Broncos", "broncos"),
            ("U.S.", "us"),
            ("a  cat, an owl", "cat owl"),
            ("“the” end", "“ ” end"),
            ("well-known", "wellknown"),
        ] {
            assert_eq!(nearness(answer, [truth]), Nearness { exact: 1.0, f1: 1.0 }, "{answer}");
        }
        // An article inside a word stays.
        assert_eq!(normalise("theatre; Panama"), ["theatre", "panama"]);
    }

    #[test]
    fn f1_by_hand() {
        // Words: "big red door" against "red door": 2 shared of 3 and 2: 2 * 2 / 5.
        assert_eq!(nearness("the big red door", ["red door"]), Nearness { exact: 0.0, f1: 0.8 });
        // A word counts as often as the truth has it: 1 shared of 2 and 1.
        assert!((nearness("ha ha", ["ha"]).f1 - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(nearness("blue", ["red"]), Nearness::default());
        // The best of several.
        assert_eq!(nearness("in 1901", ["May 1901", "1901"]), Nearness { exact: 0.0, f1: 2.0 / 3.0 });
        // As in the reference, an answer of articles alone shares no word.
        assert_eq!(nearness("the", ["a"]), Nearness { exact: 1.0, f1: 0.0 });
    }

    #[test]
    fn nothing_is_the_answer_to_what_has_none() {
        assert_eq!(nearness("", []), Nearness { exact: 1.0, f1: 1.0 });
        assert_eq!(nearness("red", []), Nearness::default());
    }
}
