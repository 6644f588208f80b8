//! What to do with a turn: a pure function from what is known about it to a decision.
//!
//! The function head, the nearest examples, remembered answers and the passages of `knowledge/` each have a say; below
//! the thresholds Mynah abstains. Arguments, questions for them and the words of the reply come afterwards.
//!
//! The order, first match wins:
//! 1. the same words were labelled before: that label;
//! 2. nearly the same words were labelled by a person, or have an answer: that label;
//! 3. the head is sure: its function, unless the turn is a question that something written answers clearly better;
//! 4. the nearest examples agree on a function, and the head (if it knows the function) with them; for a question,
//!    an answer that is about as near goes first;
//! 5. a remembered answer or a passage;
//! 6. "I don't know".

use mynah_data::OUT_OF_SCOPE;

/// How near two cosine similarities are to count as equal.
const SIMILARITY_TIE: f32 = 0.05;

/// How fast a neighbour's vote fades with its distance behind the nearest one. This and the two below were chosen on
/// the validation split of CLINC150 with 3 and 10 examples a function and the starter.
const VOTE_TEMPERATURE: f32 = 0.1;

/// The smallest share of the votes that decides.
const MIN_VOTE_SHARE: f32 = 0.3;

/// How many times the votes of the next function are needed.
const MIN_VOTE_LEAD: f32 = 1.1;

/// The similarities and confidences that are needed, each in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// Calibrated confidence of the head to act upon.
    pub act: f32,
    /// Similarity at which a remembered sentence counts as the same.
    pub memory: f32,
    /// Similarity at which examples may vote.
    pub vote: f32,
    /// Similarity at which a passage answers.
    pub knowledge: f32,
}

impl Thresholds {
    /// A remembered answer that nothing speaks against may be a bit further away than one that overrules the head.
    fn answer(&self) -> f32 {
        (self.memory + self.vote) / 2.0
    }
}

/// What a remembered sentence is labelled with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Label {
    /// A function's name, or `oos`.
    Function(String),
    /// An answer.
    Answer,
}

/// A remembered sentence beside the turn's text.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbour {
    /// Where memory keeps it.
    pub entry: usize,
    /// What it is labelled with.
    pub label: Label,
    /// Cosine similarity to the turn, in [−1, 1].
    pub similarity: f32,
    /// Whether a person labelled it in a conversation, rather than beforehand in a file.
    pub live: bool,
    /// Whether the function head was trained on this function.
    pub known_to_head: bool,
}

/// Everything that is known about a turn.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evidence {
    /// The head's function with its calibrated confidence; `None` without a head.
    pub head: Option<(String, f32)>,
    /// The remembered sentence of the same words.
    pub exact: Option<Neighbour>,
    /// The nearest remembered sentences, nearest first.
    pub nearest: Vec<Neighbour>,
    /// The similarity of the best passage.
    pub passage: Option<f32>,
    /// Whether the turn asks for information.
    pub question: bool,
}

/// Who decided for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decider {
    /// The function head.
    Head,
    /// A remembered sentence.
    Memory(usize),
    /// The nearest examples, of which this is the nearest.
    Vote(usize),
}

/// Why there is nothing to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// The head or a correction says that no function is meant.
    OutOfScope,
    /// Nothing is sure enough.
    Unsure,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Call a function.
    Call {
        /// Its name.
        function: String,
        /// How sure that is, in [0, 1].
        confidence: f32,
        /// Who decided.
        decider: Decider,
    },
    /// Give a remembered answer.
    Answer {
        /// Where memory keeps it.
        entry: usize,
        /// How sure that is, in [0, 1].
        confidence: f32,
    },
    /// Answer from the best passage.
    Passage {
        /// How sure that is, in [0, 1].
        confidence: f32,
    },
    /// Say so.
    Abstain {
        /// Why.
        reason: Unknown,
        /// The confidence that was not enough, in [0, 1].
        confidence: f32,
    },
}

/// Decides what to do with a turn.
pub fn decide(evidence: &Evidence, thresholds: &Thresholds) -> Decision {
    let out_of_scope = |function: &str| function == OUT_OF_SCOPE;
    let sure = evidence.head.as_ref().is_some_and(|(_, confidence)| *confidence >= thresholds.act);
    let mut declined = matches!(&evidence.head, Some((function, _)) if sure && out_of_scope(function));

    let same = evidence
        .nearest
        .first()
        .filter(|first| first.similarity >= thresholds.memory && (first.live || first.label == Label::Answer));
    if let Some(remembered) = evidence.exact.as_ref().or(same) {
        let confidence = remembered.similarity.clamp(0.0, 1.0);
        match &remembered.label {
            Label::Answer => return Decision::Answer { entry: remembered.entry, confidence },
            Label::Function(function) if !out_of_scope(function) => {
                return Decision::Call {
                    function: function.clone(),
                    confidence,
                    decider: Decider::Memory(remembered.entry),
                };
            }
            Label::Function(_) => {
                return written(evidence, thresholds)
                    .unwrap_or(Decision::Abstain { reason: Unknown::OutOfScope, confidence });
            }
        }
    }

    let nearest_function =
        evidence.nearest.iter().find(|one| matches!(one.label, Label::Function(_))).map(|one| one.similarity);
    if let Some((function, confidence)) = &evidence.head
        && sure
        && !out_of_scope(function)
    {
        let clearly_better = |decision: &Decision| {
            nearest_function.is_some_and(|function| similarity(decision) > function + SIMILARITY_TIE)
        };
        let written = written(evidence, thresholds).filter(|decision| evidence.question && clearly_better(decision));
        return written.unwrap_or_else(|| Decision::Call {
            function: function.clone(),
            confidence: *confidence,
            decider: Decider::Head,
        });
    }

    let vote = vote(evidence, thresholds);
    declined |= matches!(&vote, Some(vote) if out_of_scope(&vote.function));
    let vote = vote.filter(|vote| !out_of_scope(&vote.function) && agrees(vote, evidence, declined));
    let written = written(evidence, thresholds);
    match (vote, written) {
        (Some(vote), Some(written))
            if evidence.question && similarity(&written) + SIMILARITY_TIE >= vote.similarity =>
        {
            written
        }
        (Some(vote), _) => Decision::Call {
            function: vote.function,
            confidence: vote.similarity.clamp(0.0, 1.0),
            decider: Decider::Vote(vote.entry),
        },
        (None, Some(written)) => written,
        (None, None) => Decision::Abstain {
            reason: if declined { Unknown::OutOfScope } else { Unknown::Unsure },
            confidence: evidence
                .head
                .as_ref()
                .map_or(nearest_function.unwrap_or(0.0), |(_, confidence)| *confidence)
                .clamp(0.0, 1.0),
        },
    }
}

/// Whether a text asks for information: by its question mark or its first word.
pub fn is_question(text: &str) -> bool {
    const WORDS: [&str; 9] = ["what", "who", "whose", "whom", "when", "where", "why", "how", "which"];
    let first = text.split_whitespace().next().unwrap_or_default().to_lowercase();
    let first = first.split(['\'', '’']).next().unwrap_or_default();
    text.trim_end().ends_with('?') || WORDS.contains(&first)
}

struct Vote {
    function: String,
    similarity: f32,
    entry: usize,
    known_to_head: bool,
}

/// The function that the nearest examples agree on.
fn vote(evidence: &Evidence, thresholds: &Thresholds) -> Option<Vote> {
    let mut shares: Vec<(&str, f32, &Neighbour)> = Vec::new();
    let mut total = 0.0;
    let mut nearest = None;
    for one in &evidence.nearest {
        let Label::Function(function) = &one.label else { continue };
        let nearest = *nearest.get_or_insert(one.similarity);
        let weight = ((one.similarity - nearest) / VOTE_TEMPERATURE).exp();
        total += weight;
        match shares.iter_mut().find(|(name, ..)| name == function) {
            Some((_, share, _)) => *share += weight,
            None => shares.push((function, weight, one)),
        }
    }
    shares.sort_by(|a, b| b.1.total_cmp(&a.1));
    let second = shares.get(1).map_or(0.0, |(_, share, _)| *share);
    let (function, share, first) = shares.into_iter().next()?;
    let decides =
        first.similarity >= thresholds.vote && share >= MIN_VOTE_SHARE * total && share > MIN_VOTE_LEAD * second;
    decides.then(|| Vote {
        function: function.to_owned(),
        similarity: first.similarity,
        entry: first.entry,
        known_to_head: first.known_to_head,
    })
}

/// A head that knows the function has to prefer it too; one that was trained before the function existed cannot.
fn agrees(vote: &Vote, evidence: &Evidence, declined: bool) -> bool {
    match &evidence.head {
        None => true,
        Some(_) if !vote.known_to_head => true,
        Some((function, _)) => !declined && *function == vote.function,
    }
}

/// The nearer of a remembered answer and a passage.
fn written(evidence: &Evidence, thresholds: &Thresholds) -> Option<Decision> {
    let answer =
        evidence.nearest.iter().find(|one| one.label == Label::Answer && one.similarity >= thresholds.answer());
    let passage = evidence.passage.filter(|similarity| *similarity >= thresholds.knowledge);
    match (answer, passage) {
        (Some(answer), passage) if passage.is_none_or(|similarity| answer.similarity >= similarity) => {
            Some(Decision::Answer { entry: answer.entry, confidence: answer.similarity.clamp(0.0, 1.0) })
        }
        (_, Some(similarity)) => Some(Decision::Passage { confidence: similarity.clamp(0.0, 1.0) }),
        _ => None,
    }
}

fn similarity(decision: &Decision) -> f32 {
    match decision {
        Decision::Call { confidence, .. }
        | Decision::Answer { confidence, .. }
        | Decision::Passage { confidence }
        | Decision::Abstain { confidence, .. } => *confidence,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLDS: Thresholds = Thresholds { act: 0.5, memory: 0.9, vote: 0.6, knowledge: 0.5 };

    fn example(function: &str, similarity: f32) -> Neighbour {
        Neighbour { entry: 1, label: Label::Function(function.into()), similarity, live: false, known_to_head: true }
    }

    fn answer(similarity: f32) -> Neighbour {
        Neighbour { entry: 2, label: Label::Answer, similarity, live: true, known_to_head: false }
    }

    fn live(one: Neighbour) -> Neighbour {
        Neighbour { live: true, ..one }
    }

    fn new(one: Neighbour) -> Neighbour {
        Neighbour { known_to_head: false, ..one }
    }

    fn said(decision: Decision) -> String {
        match decision {
            Decision::Call { function, decider, .. } => format!("{function} by {decider:?}"),
            Decision::Answer { entry, .. } => format!("answer {entry}"),
            Decision::Passage { .. } => "passage".into(),
            Decision::Abstain { reason, .. } => format!("{reason:?}"),
        }
    }

    fn head(function: &str, confidence: f32) -> Option<(String, f32)> {
        Some((function.to_owned(), confidence))
    }

    #[test]
    fn table_of_decisions() {
        let none = Evidence::default;
        let question = || Evidence { question: true, ..none() };
        let cases = [
            ("nothing known", none(), "Unsure"),
            ("a sure head", Evidence { head: head("a", 0.6), ..none() }, "a by Head"),
            ("an unsure head", Evidence { head: head("a", 0.4), ..none() }, "Unsure"),
            ("a head that declines", Evidence { head: head("oos", 0.9), ..none() }, "OutOfScope"),
            (
                "the same words, against the head",
                Evidence { head: head("a", 0.99), exact: Some(example("b", 1.0)), ..none() },
                "b by Memory(1)",
            ),
            (
                "the same words are nothing",
                Evidence { head: head("a", 0.99), exact: Some(example("oos", 1.0)), ..none() },
                "OutOfScope",
            ),
            (
                "the same words are nothing, but written about",
                Evidence { passage: Some(0.8), exact: Some(example("oos", 1.0)), ..none() },
                "passage",
            ),
            (
                "a near correction, against the head",
                Evidence { head: head("a", 0.99), nearest: vec![live(example("b", 0.92))], ..none() },
                "b by Memory(1)",
            ),
            (
                "a near example does not overrule the head",
                Evidence { head: head("a", 0.99), nearest: vec![example("b", 0.92)], ..none() },
                "a by Head",
            ),
            (
                "an example nearer than a near correction",
                Evidence {
                    head: head("a", 0.9),
                    nearest: vec![example("a", 0.95), live(example("b", 0.92))],
                    ..none()
                },
                "a by Head",
            ),
            (
                "examples alone",
                Evidence { nearest: vec![example("a", 0.7), example("a", 0.69), example("b", 0.6)], ..none() },
                "a by Vote(1)",
            ),
            ("examples too far", Evidence { nearest: vec![example("a", 0.55)], ..none() }, "Unsure"),
            (
                "examples that disagree",
                Evidence { nearest: vec![example("a", 0.7), example("b", 0.7), example("c", 0.7)], ..none() },
                "Unsure",
            ),
            ("examples are out of scope", Evidence { nearest: vec![example("oos", 0.8)], ..none() }, "OutOfScope"),
            (
                "an unsure head with the examples",
                Evidence { head: head("a", 0.4), nearest: vec![example("a", 0.7)], ..none() },
                "a by Vote(1)",
            ),
            (
                "an unsure head against the examples",
                Evidence { head: head("b", 0.4), nearest: vec![example("a", 0.7)], ..none() },
                "Unsure",
            ),
            (
                "a function the head has not learned",
                Evidence { head: head("oos", 0.9), nearest: vec![new(example("n", 0.7))], ..none() },
                "n by Vote(1)",
            ),
            (
                "a near answer, against the head",
                Evidence { head: head("a", 0.9), nearest: vec![answer(0.95)], ..none() },
                "answer 2",
            ),
            ("an answer a bit away", Evidence { nearest: vec![answer(0.8)], ..question() }, "answer 2"),
            (
                "a question near a passage",
                Evidence { passage: Some(0.6), nearest: vec![example("a", 0.62)], ..question() },
                "passage",
            ),
            (
                "a question nearer to a function",
                Evidence { passage: Some(0.6), nearest: vec![example("a", 0.8)], ..question() },
                "a by Vote(1)",
            ),
            (
                "a wish nearer to a passage",
                Evidence { passage: Some(0.7), nearest: vec![example("a", 0.62)], ..none() },
                "a by Vote(1)",
            ),
            (
                "a question, the head is sure, a passage far better",
                Evidence { head: head("a", 0.9), passage: Some(0.8), nearest: vec![example("a", 0.4)], ..question() },
                "passage",
            ),
            (
                "a question, the head is sure, no examples to compare",
                Evidence { head: head("a", 0.9), passage: Some(0.8), ..question() },
                "a by Head",
            ),
            ("declined, then a passage", Evidence { head: head("oos", 0.9), passage: Some(0.7), ..none() }, "passage"),
        ];
        for (name, evidence, expected) in cases {
            assert_eq!(said(decide(&evidence, &THRESHOLDS)), expected, "{name}");
        }
    }

    #[test]
    fn numbers_that_are_none_abstain() {
        let nan = Evidence {
            head: head("a", f32::NAN),
            nearest: vec![example("a", f32::NAN)],
            passage: Some(f32::NAN),
            ..Evidence::default()
        };
        assert_eq!(said(decide(&nan, &THRESHOLDS)), "Unsure");
    }

    #[test]
    fn questions() {
        for text in ["what is up", "What's the time", "is it late?", "how far is it? "] {
            assert!(is_question(text), "{text}");
        }
        for text in ["", "turn it on", "whatever you like", "tell me who"] {
            assert!(!is_question(text), "{text}");
        }
    }
}
