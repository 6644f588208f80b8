//! What most texts are, plain ASCII for a lower-casing WordPiece vocabulary, cut into tokens without the general machinery.
//!
//! That machinery keeps a string with the origin of every character through each of its steps, which for a short text costs
//! more than a tenth of a small encoder. Here a text is walked once. The rules are those of `BertNormalizer`,
//! `BertPreTokenizer` and `WordPiece` of the `tokenizers` crate, whose vocabulary is looked up.
//!
//! Invariant: a text gets exactly the tokens, words and offsets that the crate gives it, or is left to the crate: whatever is
//! not ASCII or has a control character, and every tokenizer.json that asks for anything else.

use tokenizers::models::wordpiece::WordPiece;
use tokenizers::{Model, ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, Tokenizer};

use super::Pieces;

/// What has to be known of a tokenizer.json to do without the crate.
#[derive(Debug, Clone)]
pub(super) struct Plain {
    lowercase: bool,
    unknown: u32,
    /// Bytes of the longest token.
    longest: usize,
}

impl Plain {
    /// `None` when the tokenizer does anything that is not done here.
    pub fn of(tokenizer: &Tokenizer) -> Option<Self> {
        let NormalizerWrapper::BertNormalizer(normalizer) = tokenizer.get_normalizer()? else { return None };
        let PreTokenizerWrapper::BertPreTokenizer(_) = tokenizer.get_pre_tokenizer()? else { return None };
        let model = model(tokenizer)?;
        // Special tokens in a text are text; any other added token would have to be found first.
        let added = tokenizer.get_added_tokens_decoder();
        if !normalizer.clean_text || added.values().any(|token| !token.special) {
            return None;
        }
        let longest = tokenizer.get_vocab(false).into_keys().map(|token| token.len()).max().unwrap_or(0);
        Some(Self { lowercase: normalizer.lowercase, unknown: model.token_to_id(&model.unk_token)?, longest })
    }

    /// At most `room` tokens of a text; `None` when it is not plain.
    pub fn pieces(&self, tokenizer: &Tokenizer, text: &str, room: usize) -> Option<Pieces> {
        let model = model(tokenizer)?;
        if !text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r')) {
            return None;
        }
        let mut pieces = Pieces::with_capacity(room.min(text.len()));
        let mut buffer = Vec::new();
        let bytes = text.as_bytes();
        let (mut start, mut word) = (0, 0);
        while start < bytes.len() && pieces.ids.len() < room {
            let end = match bytes[start] {
                byte if byte.is_ascii_whitespace() => {
                    start += 1;
                    continue;
                }
                byte if byte.is_ascii_punctuation() => start + 1,
                _ => {
                    let is_end = |byte: &u8| byte.is_ascii_whitespace() || byte.is_ascii_punctuation();
                    bytes[start..].iter().position(is_end).map_or(bytes.len(), |length| start + length)
                }
            };
            self.word(model, &bytes[start..end], &mut buffer, |id, from, to| {
                pieces.push(id, word, (start + from, start + to));
            })?;
            (start, word) = (end, word + 1);
        }
        pieces.truncate(room);
        Some(pieces)
    }

    /// The longest token at the start of a word, then of the rest, and so on; one unknown token when the rest has none.
    fn word(
        &self,
        model: &WordPiece,
        word: &[u8],
        buffer: &mut Vec<u8>,
        mut push: impl FnMut(u32, usize, usize),
    ) -> Option<()> {
        const MOST: usize = 128;
        if word.len() > model.max_input_chars_per_word {
            push(self.unknown, 0, word.len());
            return Some(());
        }
        // The prefix of what does not begin a word takes the place of the bytes before it, which are done with.
        let prefix = model.continuing_subword_prefix.as_bytes();
        buffer.clear();
        buffer.extend_from_slice(prefix);
        buffer.extend(word.iter().map(|byte| if self.lowercase { byte.to_ascii_lowercase() } else { *byte }));
        let mut found = [(0_u32, 0_usize); MOST];
        let (mut count, mut start) = (0, 0);
        while start < word.len() {
            let first = if start == 0 {
                prefix.len()
            } else {
                buffer[start..start + prefix.len()].copy_from_slice(prefix);
                start
            };
            let last = (prefix.len() + word.len()).min(first + self.longest);
            let shortest = prefix.len() + start + 1;
            let token = (shortest..=last).rev().find_map(|end| {
                let id = model.token_to_id(std::str::from_utf8(&buffer[first..end]).ok()?)?;
                Some((id, end - prefix.len()))
            });
            let Some((id, end)) = token else {
                push(self.unknown, 0, word.len());
                return Some(());
            };
            // A vocabulary that allows words of more pieces than this is left to the crate.
            *found.get_mut(count)? = (id, end);
            (count, start) = (count + 1, end);
        }
        let mut from = 0;
        for (id, to) in &found[..count] {
            push(*id, from, *to);
            from = *to;
        }
        Some(())
    }
}

fn model(tokenizer: &Tokenizer) -> Option<&WordPiece> {
    match tokenizer.get_model() {
        ModelWrapper::WordPiece(model) => Some(model),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use crate::starter::FILES;
    use crate::tokenizer::Tokenizer as Ours;

    fn json() -> serde_json::Value {
        let bytes = FILES.iter().find(|(name, _)| *name == "tokenizer.json").map(|(_, bytes)| *bytes).unwrap();
        serde_json::from_slice(bytes).unwrap()
    }

    /// The starter's tokenizer, and one with other settings: capitals, another prefix, short words, half of its tokens.
    static TOKENIZERS: LazyLock<[Ours; 2]> = LazyLock::new(|| {
        let mut other = json();
        other["normalizer"]["lowercase"] = false.into();
        other["model"]["continuing_subword_prefix"] = "~+~".into();
        other["model"]["max_input_chars_per_word"] = 9.into();
        let vocab = other["model"]["vocab"].as_object_mut().unwrap();
        let kept = vocab.iter().filter(|(token, _)| token.starts_with('[') || token.len() % 2 == 1);
        let kept = kept.map(|(token, id)| (token.replace("##", "~+~"), id.clone()));
        *vocab = kept.collect();
        [json(), other].map(|json| Ours::from_bytes(json.to_string().as_bytes()).unwrap())
    });

    fn check(text: &str, room: usize) -> std::result::Result<(), TestCaseError> {
        for tokenizer in &*TOKENIZERS {
            let plain = tokenizer.plain.as_ref().expect("nothing unusual");
            let expected = tokenizer.general_pieces(text, room);
            if let Some(pieces) = plain.pieces(&tokenizer.inner, text, room) {
                prop_assert_eq!(&pieces, &expected, "{:?}", text);
            } else {
                prop_assert!(!text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{:?} is plain", text);
            }
            prop_assert_eq!(tokenizer.pieces(text, room), expected);
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn ascii_gets_what_the_crate_gives(text in "[ -~\t\n\r]{0,80}", room in 0_usize..40) {
            check(&text, room)?;
        }

        #[test]
        fn words_get_what_the_crate_gives(
            words in prop::collection::vec(prop_oneof![
                "[a-z]{1,12}", "[A-Z][a-z]{1,30}", "[a-z]{95,105}", "[0-9]{1,6}", "[!-/]{1,3}", "\\[SEP\\]", "\\[unk\\]", "x\\[CLS\\]y",
                Just("what's the weather like in San Francisco".to_owned()), "##[a-z]{1,4}", "~\\+~[a-z]{1,4}",
            ], 0..12),
            gap in prop::sample::select(vec![" ", "", "\t", "  "]),
        ) {
            check(&words.join(gap), 126)?;
        }

        #[test]
        fn any_text_gets_what_the_crate_gives(text in prop_oneof!["\\PC{0,30}", any::<String>(), "[ -~éß中\u{0}\u{7f}\u{b}\u{c}]{0,30}"]) {
            check(&text, 126)?;
        }
    }

    #[test]
    fn what_is_unusual_is_left_to_the_crate() {
        let with = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut json = json();
            change(&mut json);
            Ours::from_bytes(json.to_string().as_bytes()).unwrap()
        };
        assert!(with(&|_| {}).plain.is_some());
        assert!(with(&|json| json["normalizer"]["clean_text"] = false.into()).plain.is_none());
        assert!(with(&|json| json["normalizer"] = serde_json::Value::Null).plain.is_none());
        assert!(with(&|json| json["pre_tokenizer"]["type"] = "Whitespace".into()).plain.is_none());
        let added = with(&|json| {
            let mut token = json["added_tokens"][0].clone();
            (token["id"], token["content"], token["special"]) = (0.into(), "play it".into(), false.into());
            json["added_tokens"].as_array_mut().unwrap().push(token);
        });
        assert!(added.plain.is_none());
    }
}
