//! From tag scores per word to arguments: the best sequence of tags that obeys the BIO rules.
//!
//! There is a decoder for all tags, and one for those of the arguments that a function takes.
//!
//! Invariants: `I-x` follows only `B-x` or `I-x`; the slots found are in the order of the text, do not overlap, and each
//! one's value is exactly the characters `start..end` of the text.

use mynah_data::Slot;

use crate::checkpoint::Tag;
use crate::tokenizer::Word;

/// A tag with its argument as a number, for quick comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Outside,
    Begin(usize),
    Inside(usize),
}

/// Decodes tag scores for one set of tags.
#[derive(Debug, Clone)]
pub struct TagDecoder {
    kinds: Vec<Kind>,
    /// Which of the head's tags each one is.
    rows: Vec<u32>,
    names: Vec<String>,
    /// The tags of each name, the only ones that its `I-` may follow.
    of_name: Vec<Vec<usize>>,
    /// Whether two arguments of this name may stand side by side.
    adjacent: Vec<bool>,
}

impl TagDecoder {
    /// Makes a decoder for tags as in labels.json; a tag that is not a BIO tag counts as `O`.
    pub fn new(tags: &[String]) -> Self {
        let mut names: Vec<String> = Vec::new();
        let mut number = |name: &str| {
            names.iter().position(|known| known == name).unwrap_or_else(|| {
                names.push(name.to_owned());
                names.len() - 1
            })
        };
        let kinds: Vec<Kind> = tags
            .iter()
            .map(|tag| match Tag::parse(tag) {
                Some(Tag::Begin(name)) => Kind::Begin(number(name)),
                Some(Tag::Inside(name)) => Kind::Inside(number(name)),
                Some(Tag::Outside) | None => Kind::Outside,
            })
            .collect();
        let adjacent = vec![true; names.len()];
        let rows = (0..kinds.len() as u32).collect();
        Self { of_name: of_name(&kinds, names.len()), kinds, rows, names, adjacent }
    }

    /// A decoder after which only the arguments named in `adjacent` may stand side by side with their like.
    pub fn with_adjacent(mut self, adjacent: &[String]) -> Self {
        self.adjacent = self.names.iter().map(|name| adjacent.contains(name)).collect();
        self
    }

    /// A decoder for the tags of the arguments named in `arguments`, and those of none.
    pub fn of_arguments(&self, arguments: &[String]) -> Self {
        let own: Vec<usize> = (0..self.names.len()).filter(|&name| arguments.contains(&self.names[name])).collect();
        let number = |name: usize| own.iter().position(|&own| own == name);
        let kinds = self.kinds.iter().zip(&self.rows).filter_map(|(kind, row)| {
            let kind = match kind {
                Kind::Outside => Kind::Outside,
                Kind::Begin(name) => Kind::Begin(number(*name)?),
                Kind::Inside(name) => Kind::Inside(number(*name)?),
            };
            Some((kind, *row))
        });
        let (kinds, rows): (Vec<Kind>, Vec<u32>) = kinds.unzip();
        Self {
            of_name: of_name(&kinds, own.len()),
            kinds,
            rows,
            names: own.iter().map(|&name| self.names[name].clone()).collect(),
            adjacent: own.iter().map(|&name| self.adjacent[name]).collect(),
        }
    }

    /// Which of the head's tags are decoded, in the order of their scores.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// Whether there is an argument to be found.
    pub fn finds_any(&self) -> bool {
        self.kinds.iter().any(|kind| *kind != Kind::Outside)
    }

    fn may_follow(&self, before: Kind, kind: Kind) -> bool {
        match kind {
            Kind::Outside => true,
            Kind::Begin(name) => self.adjacent[name] || (before != Kind::Begin(name) && before != Kind::Inside(name)),
            Kind::Inside(name) => before == Kind::Begin(name) || before == Kind::Inside(name),
        }
    }

    /// The permitted sequence of tags with the highest sum of scores (Viterbi); scores that are not numbers count as
    /// the lowest possible.
    ///
    /// # Shapes
    /// `logits`: `[words, tags]`; the result: `[words]`
    pub fn decode(&self, logits: &[f32]) -> Vec<usize> {
        let tags = self.kinds.len();
        if tags == 0 || logits.is_empty() {
            return Vec::new();
        }
        // The worst score keeps a path alive, so that there is always one; -inf would tie with forbidden paths.
        let clean = |logit: f32| if logit.is_nan() { f32::MIN } else { logit.clamp(f32::MIN, f32::MAX) } as f64;
        let mut words = logits.chunks_exact(tags);
        let mut scores: Vec<f64> = words
            .next()
            .unwrap_or_default()
            .iter()
            .zip(&self.kinds)
            .map(|(&logit, kind)| if self.may_follow(Kind::Outside, *kind) { clean(logit) } else { f64::NEG_INFINITY })
            .collect();
        let mut came_from: Vec<usize> = Vec::new();
        for word in words {
            let best = argmax(scores.iter().copied());
            let mut next = vec![f64::NEG_INFINITY; tags];
            for (tag, &kind) in self.kinds.iter().enumerate() {
                let from = match kind {
                    // The best predecessor of all will mostly do.
                    _ if self.may_follow(self.kinds[best], kind) => best,
                    Kind::Inside(name) => {
                        let before = &self.of_name[name];
                        before[argmax(before.iter().map(|&tag| scores[tag]))]
                    }
                    _ => argmax(scores.iter().zip(&self.kinds).map(|(&score, &before)| {
                        if self.may_follow(before, kind) { score } else { f64::NEG_INFINITY }
                    })),
                };
                if self.may_follow(self.kinds[from], kind) {
                    next[tag] = scores[from] + clean(word[tag]);
                }
                came_from.push(from);
            }
            scores = next;
        }
        let mut tag = argmax(scores.iter().copied());
        let mut path = vec![tag];
        for step in came_from.chunks_exact(tags).rev() {
            tag = step[tag];
            path.push(tag);
        }
        path.reverse();
        path
    }

    /// The arguments that the best sequence of tags spells out.
    ///
    /// # Shapes
    /// `logits`: `[words, tags]`
    pub fn slots(&self, text: &str, words: &[Word], logits: &[f32]) -> Vec<Slot> {
        let path = self.decode(logits);
        let mut spans: Vec<(usize, usize, usize)> = Vec::new();
        let mut open = false;
        for (&tag, word) in path.iter().zip(words) {
            match self.kinds[tag] {
                Kind::Begin(name) => {
                    spans.push((name, word.start, word.end));
                    open = true;
                }
                Kind::Inside(_) if open => {
                    if let Some(span) = spans.last_mut() {
                        span.2 = word.end;
                    }
                }
                Kind::Inside(_) | Kind::Outside => open = false,
            }
        }
        let slots = spans.into_iter().filter_map(|(name, start, end)| {
            let value = char_slice(text, start, end)?.to_owned();
            Some(Slot { name: self.names[name].clone(), start, end, value })
        });
        slots.collect()
    }
}

/// # Shapes
/// the result: `[names, tags of it]`
fn of_name(kinds: &[Kind], names: usize) -> Vec<Vec<usize>> {
    let mut of_name = vec![Vec::new(); names];
    for (tag, kind) in kinds.iter().enumerate() {
        if let Kind::Begin(name) | Kind::Inside(name) = kind {
            of_name[*name].push(tag);
        }
    }
    of_name
}

fn argmax(scores: impl Iterator<Item = f64>) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (index, score) in scores.enumerate() {
        if score > best.1 {
            best = (index, score);
        }
    }
    best.0
}

/// The characters `start..end` of a text, or `None` when they are not all in it or there are none.
pub(super) fn char_slice(text: &str, start: usize, end: usize) -> Option<&str> {
    let mut bytes = text.char_indices().map(|(byte, _)| byte).chain([text.len()]);
    let first = bytes.nth(start)?;
    let last = bytes.nth(end.checked_sub(start)?.checked_sub(1)?)?;
    text.get(first..last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tags() -> Vec<String> {
        ["O", "B-room", "I-room", "B-color", "I-color"].map(String::from).to_vec()
    }

    fn words(spans: &[(usize, usize)]) -> Vec<Word> {
        spans.iter().enumerate().map(|(i, &(start, end))| Word { first_token: i + 1, start, end }).collect()
    }

    #[test]
    fn spans_cover_words_and_values_are_slices_of_the_text() {
        let text = "grün: living room";
        let logits = [
            [0.0, 0.0, 0.0, 5.0, 0.0],
            [5.0, 0.0, 0.0, 0.0, 0.0],
            [0.0, 5.0, 0.0, 0.0, 0.0],
            [0.0, 0.0, 5.0, 0.0, 0.0],
        ];
        let words = words(&[(0, 4), (4, 5), (6, 12), (13, 17)]);
        let slots = TagDecoder::new(&tags()).slots(text, &words, logits.as_flattened());
        let found: Vec<_> = slots.iter().map(|slot| (slot.name.as_str(), slot.value.as_str(), slot.start)).collect();
        assert_eq!(found, [("color", "grün", 0), ("room", "living room", 6)]);
    }

    #[test]
    fn an_inside_tag_without_its_begin_is_not_chosen() {
        let decoder = TagDecoder::new(&tags());
        // "I-room" scores highest on both words, but only "B-room I-room" is a permitted way to have it.
        assert_eq!(decoder.decode([[0.0, 1.0, 9.0, 0.0, 0.0], [0.0, 0.0, 9.0, 0.0, 0.0]].as_flattened()), [1, 2]);
        // After "B-color" an "I-room" is forbidden however high it scores.
        assert_eq!(decoder.decode([[0.0, 0.0, 0.0, 99.0, 0.0], [1.0, 0.0, 9.0, 0.0, 0.0]].as_flattened()), [3, 0]);
    }

    #[test]
    fn two_begins_are_two_slots() {
        let logits = [[0.0, 9.0, 0.0, 0.0, 0.0]; 2];
        let slots = TagDecoder::new(&tags()).slots("a b", &words(&[(0, 1), (2, 3)]), logits.as_flattened());
        assert_eq!(slots.len(), 2);
    }

    #[test]
    fn a_decoder_of_some_arguments_finds_no_others() {
        let decoder = TagDecoder::new(&tags()).of_arguments(&["color".to_owned()]);
        assert_eq!((decoder.rows(), decoder.finds_any()), ([0, 3, 4].as_slice(), true));
        let logits = [[0.0, 5.0, 0.0], [0.0, 1.0, 5.0], [5.0, 0.0, 0.0]];
        let slots = decoder.slots("a b c", &words(&[(0, 1), (2, 3), (4, 5)]), logits.as_flattened());
        assert_eq!(
            slots.iter().map(|slot| (slot.name.as_str(), slot.value.as_str())).collect::<Vec<_>>(),
            [("color", "a b")]
        );
        let none = decoder.of_arguments(&[]);
        assert_eq!((none.rows(), none.finds_any()), ([0].as_slice(), false));
        assert_eq!(none.slots("a", &words(&[(0, 1)]), &[1.0]), []);
    }

    proptest! {
        #[test]
        fn every_decoded_sequence_obeys_the_rules(
            logits in proptest::collection::vec(prop_oneof![9 => -9.0f32..9.0, 1 => proptest::num::f32::ANY], 0..60),
        ) {
            let decoder = TagDecoder::new(&tags());
            let path = decoder.decode(&logits[..logits.len() / 5 * 5]);
            prop_assert_eq!(path.len(), logits.len() / 5);
            let mut before = Kind::Outside;
            for tag in path {
                prop_assert!(decoder.may_follow(before, decoder.kinds[tag]));
                before = decoder.kinds[tag];
            }
        }

        #[test]
        fn no_permitted_sequence_scores_higher(
            logits in proptest::collection::vec(-9.0f32..9.0, 15),
        ) {
            let decoder = TagDecoder::new(&tags());
            let score = |path: &[usize]| -> f32 { path.iter().enumerate().map(|(w, t)| logits[w * 5 + t]).sum() };
            let best = score(&decoder.decode(&logits));
            for code in 0..125usize {
                let path = [code / 25, code / 5 % 5, code % 5];
                let kinds = path.map(|tag| decoder.kinds[tag]);
                let follows = |before, kind| decoder.may_follow(before, kind);
                if follows(Kind::Outside, kinds[0]) && follows(kinds[0], kinds[1]) && follows(kinds[1], kinds[2]) {
                    prop_assert!(score(&path) <= best + 1e-4);
                }
            }
        }

        #[test]
        fn slots_are_within_the_text(text in "\\PC{0,12}", spans in proptest::collection::vec((0usize..15, 0usize..15), 0..6)) {
            let logits: Vec<f32> = (0..spans.len() * 5).map(|i| ((i * 7919) % 13) as f32).collect();
            for slot in TagDecoder::new(&tags()).slots(&text, &words(&spans), &logits) {
                let value: String = text.chars().skip(slot.start).take(slot.end - slot.start).collect();
                prop_assert_eq!(value, slot.value);
                prop_assert!(slot.end <= text.chars().count());
            }
        }
    }
}
