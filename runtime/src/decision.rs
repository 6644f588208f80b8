//! What to do with a turn: a pure function from what is known about it to a decision.
//!
//! The function head, the nearest examples, remembered answers and the passages of `knowledge/` each have a say; below
//! the thresholds Mynah abstains. Arguments, questions for them and the words of the reply come afterwards.
//!
//! The order, first match wins:
//! 1. the same words were labelled before: that label;
//! 2. nearly the same words were labelled by a person, or have an answer: that label;
//! 3. the head is sure (that any function is meant, and which): its function, unless the turn is a question that something written answers clearly better;
//! 4. the examples of a function are near, and the head (if it knows the function) agrees; for a question, an answer
//!    that is about as near goes first;
//! 5. a remembered answer or a passage;
//! 6. "I don't know".

use mynah_data::OUT_OF_SCOPE;

/// How near two cosine similarities are to count as equal.
const SIMILARITY_TIE: f32 = 0.05;

/// The similarities and confidences that are needed, each in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// Calibrated confidence of the head to act upon.
    pub act: f32,
    /// Probability that any function is meant for the head to act.
    pub scope: f32,
    /// Similarity at which a remembered sentence counts as the same.
    pub memory: f32,
    /// Similarity to a function's examples at which they choose it.
    pub vote: f32,
    /// Similarity at which a passage answers.
    pub knowledge: f32,
}

impl Thresholds {
    /// What nothing speaks against may be a bit further away than what overrules the head, and has to be nearer than
    /// what nobody was trained on.
    pub(crate) fn between(&self) -> f32 {
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

/// A function beside the turn's text: near the direction that its description and examples have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct Prototype {
    /// The function.
    pub function: String,
    /// Cosine similarity to the turn, in [−1, 1].
    pub similarity: f32,
    /// Whether the function head was trained on this function.
    pub known_to_head: bool,
}

/// Everything that is known about a turn.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evidence {
    /// The head's function with its calibrated confidence; `None` without a head.
    pub head: Option<(String, f32)>,
    /// The head's probability that any function is meant.
    pub in_scope: f32,
    /// The remembered sentence of the same words.
    pub exact: Option<Neighbour>,
    /// The nearest remembered sentences, nearest first.
    pub nearest: Vec<Neighbour>,
    /// The functions whose examples are nearest as a whole, nearest first.
    pub prototypes: Vec<Prototype>,
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
    /// The examples of the function, of which this is the nearest when it is among the nearest of all.
    Vote(Option<usize>),
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
    let sure = evidence.head.as_ref().is_some_and(|(function, confidence)| {
        *confidence >= thresholds.act && (out_of_scope(function) || evidence.in_scope >= thresholds.scope)
    });
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

    let nearest_function = evidence
        .nearest
        .iter()
        .find(|one| matches!(one.label, Label::Function(_)))
        .map(|one| one.similarity)
        .into_iter()
        .chain(evidence.prototypes.first().map(|one| one.similarity))
        .reduce(f32::max);
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
    let vote = vote.filter(|vote| !out_of_scope(&vote.function) && agrees(vote, evidence, thresholds, declined));
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
    entry: Option<usize>,
    known_to_head: bool,
}

/// The function whose examples are nearest.
///
/// A function is near as a whole (its prototype) or because of one sentence that a person labelled in a conversation;
/// what a single sentence of a file says counts only against calling anything.
fn vote(evidence: &Evidence, thresholds: &Thresholds) -> Option<Vote> {
    let functions = evidence.nearest.iter().filter_map(|one| match &one.label {
        Label::Function(function) => Some((function, one)),
        Label::Answer => None,
    });
    let single = functions.clone().find(|(function, one)| one.live || *function == OUT_OF_SCOPE);
    let whole = evidence.prototypes.first();
    if let Some((function, one)) = single
        && whole.is_none_or(|whole| one.similarity > whole.similarity)
    {
        return (one.similarity >= thresholds.vote).then(|| Vote {
            function: function.clone(),
            similarity: one.similarity,
            entry: Some(one.entry),
            known_to_head: one.known_to_head,
        });
    }
    let whole = whole.filter(|whole| whole.similarity >= thresholds.vote)?;
    let nearest = functions.clone().find(|(function, _)| **function == whole.function).map(|(_, one)| one);
    Some(Vote {
        function: whole.function.clone(),
        similarity: nearest.map_or(whole.similarity, |one| one.similarity.max(whole.similarity)),
        entry: nearest.map(|one| one.entry),
        known_to_head: whole.known_to_head,
    })
}

/// A head that knows the function has to prefer it too, and what it is not sure of has to be nearer than what it never
/// saw; one that was trained before the function existed has no say.
fn agrees(vote: &Vote, evidence: &Evidence, thresholds: &Thresholds, declined: bool) -> bool {
    match &evidence.head {
        None => true,
        Some(_) if !vote.known_to_head => true,
        Some((function, _)) => !declined && *function == vote.function && vote.similarity >= thresholds.between(),
    }
}

/// The nearer of a remembered answer and a passage.
fn written(evidence: &Evidence, thresholds: &Thresholds) -> Option<Decision> {
    let answer =
        evidence.nearest.iter().find(|one| one.label == Label::Answer && one.similarity >= thresholds.between());
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

    const THRESHOLDS: Thresholds = Thresholds { act: 0.5, scope: 0.8, memory: 0.9, vote: 0.6, knowledge: 0.5 };

    fn example(function: &str, similarity: f32) -> Neighbour {
        Neighbour { entry: 1, label: Label::Function(function.into()), similarity, live: false, known_to_head: true }
    }

    fn answer(similarity: f32) -> Neighbour {
        Neighbour { entry: 2, label: Label::Answer, similarity, live: true, known_to_head: false }
    }

    fn near(function: &str, similarity: f32) -> Prototype {
        Prototype { function: function.into(), similarity, known_to_head: true }
    }

    fn live(one: Neighbour) -> Neighbour {
        Neighbour { live: true, ..one }
    }

    fn new(one: Prototype) -> Prototype {
        Prototype { known_to_head: false, ..one }
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
        let none = || Evidence { in_scope: 1.0, ..Evidence::default() };
        let question = || Evidence { question: true, ..none() };
        let cases = [
            ("nothing known", none(), "Unsure"),
            ("a sure head", Evidence { head: head("a", 0.6), ..none() }, "a by Head"),
            ("an unsure head", Evidence { head: head("a", 0.4), ..none() }, "Unsure"),
            ("torn between functions", Evidence { head: head("a", 0.5), in_scope: 0.95, ..none() }, "a by Head"),
            ("perhaps no function", Evidence { head: head("a", 0.7), in_scope: 0.75, ..none() }, "Unsure"),
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
                Evidence {
                    prototypes: vec![near("a", 0.65), near("b", 0.64)],
                    nearest: vec![example("b", 0.7), example("a", 0.6)],
                    ..none()
                },
                "a by Vote(Some(1))",
            ),
            (
                "examples too far",
                Evidence { prototypes: vec![near("a", 0.55)], nearest: vec![example("a", 0.65)], ..none() },
                "Unsure",
            ),
            (
                "one sentence that a person labelled",
                Evidence { prototypes: vec![near("a", 0.65)], nearest: vec![live(example("b", 0.7))], ..none() },
                "b by Vote(Some(1))",
            ),
            (
                "one sentence that a person declined",
                Evidence { prototypes: vec![near("a", 0.65)], nearest: vec![live(example("oos", 0.7))], ..none() },
                "OutOfScope",
            ),
            ("examples are out of scope", Evidence { nearest: vec![example("oos", 0.8)], ..none() }, "OutOfScope"),
            (
                "an unsure head with the examples",
                Evidence { head: head("a", 0.4), prototypes: vec![near("a", 0.8)], ..none() },
                "a by Vote(None)",
            ),
            (
                "an unsure head, and examples that are not near",
                Evidence { head: head("a", 0.4), prototypes: vec![near("a", 0.7)], ..none() },
                "Unsure",
            ),
            (
                "an unsure head against the examples",
                Evidence { head: head("b", 0.4), prototypes: vec![near("a", 0.7)], ..none() },
                "Unsure",
            ),
            (
                "a function the head has not learned",
                Evidence { head: head("oos", 0.9), prototypes: vec![new(near("n", 0.7))], ..none() },
                "n by Vote(None)",
            ),
            (
                "a near answer, against the head",
                Evidence { head: head("a", 0.9), nearest: vec![answer(0.95)], ..none() },
                "answer 2",
            ),
            ("an answer a bit away", Evidence { nearest: vec![answer(0.8)], ..question() }, "answer 2"),
            (
                "a question near a passage",
                Evidence { passage: Some(0.6), prototypes: vec![near("a", 0.62)], ..question() },
                "passage",
            ),
            (
                "a question nearer to a function",
                Evidence { passage: Some(0.6), prototypes: vec![near("a", 0.8)], ..question() },
                "a by Vote(None)",
            ),
            (
                "a wish nearer to a passage",
                Evidence { passage: Some(0.7), prototypes: vec![near("a", 0.62)], ..none() },
                "a by Vote(None)",
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
            prototypes: vec![near("a", f32::NAN)],
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
