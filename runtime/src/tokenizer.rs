//! Text to tokens, the same for training and serving.
//!
//! Wraps the `tokenizers` crate around a checkpoint's tokenizer.json. Special tokens and truncation are done here and
//! not by the file's own settings, so padding or truncation that tokenizer.json may carry has no effect; `[SEP]` typed
//! by a person is text and never becomes the special token.
//!
//! Invariants: an [`Encoding`] is `[CLS] tokens [SEP]` of at most `max_tokens`; its offsets count characters of the
//! original text and lie within it; the time for one text is bounded, however long the text is, because only its first
//! [`MAX_CHARS_PER_TOKEN`] characters per allowed token are looked at.

mod plain;

use plain::Plain;
use tokenizers::Tokenizer as Inner;

use crate::checkpoint::{Checkpoint, TOKENIZER_FILE};
use crate::error::{Error, Result};

/// Tokens of an utterance that are looked at, `[CLS]` and `[SEP]` included; what people say is far shorter.
pub const UTTERANCE_TOKENS: usize = 128;

/// Tokens of a question with one window of its passage.
pub const PASSAGE_TOKENS: usize = 384;

/// Windows of a passage that are read for an answer; with [`PASSAGE_TOKENS`] about 2,000 tokens or three pages.
pub const ANSWER_WINDOWS: usize = 8;

/// Characters per allowed token that are tokenized; the rest of a text is cut off before any work is done on it. Written
/// language has about five, so this only ever cuts what truncation to `max_tokens` would have cut, or white space.
pub const MAX_CHARS_PER_TOKEN: usize = 32;

/// Turns text into token identifiers; Send + Sync.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: Inner,
    /// For texts that need less than the whole machinery of `inner`.
    plain: Option<Plain>,
    cls: u32,
    sep: u32,
    vocab_size: usize,
}

/// A tokenized text: `[CLS] tokens [SEP]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Encoding {
    /// Token identifiers.
    pub input_ids: Vec<u32>,
    /// For each token the number of its word (a piece of the pre-tokenizer), `None` for `[CLS]` and `[SEP]`. Never decreases.
    pub word_ids: Vec<Option<u32>>,
    /// For each token its characters in the original text, start and exclusive end; `(0, 0)` for `[CLS]` and `[SEP]`.
    pub offsets: Vec<(usize, usize)>,
}

/// A word of an [`Encoding`], on which one tag lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// The index of its first token, whose hidden state and label stand for the word.
    pub first_token: usize,
    /// Its first character in the original text.
    pub start: usize,
    /// The character after its last.
    pub end: usize,
}

/// How a passage is cut to be read beside a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Tokens of a window, question and special tokens included.
    pub max_tokens: usize,
    /// Tokens of the passage that neighbouring windows share, so that an answer of some length is whole in one of them;
    /// at most half of a window's part of the passage.
    pub overlap: usize,
    /// Windows at most; what lies behind them is not read.
    pub max_windows: usize,
}

impl Windows {
    /// The windows that are read when a question is answered, for a model of so many positions.
    pub fn served(max_position_embeddings: usize) -> Self {
        let max_tokens = PASSAGE_TOKENS.min(max_position_embeddings);
        Self { max_tokens, overlap: max_tokens / 4, max_windows: ANSWER_WINDOWS }
    }
}

/// A question with a part of a passage: `[CLS] question [SEP] passage [SEP]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairEncoding {
    /// Token identifiers.
    pub input_ids: Vec<u32>,
    /// The index of the passage's first token.
    pub passage_start: usize,
    /// For each token of the passage its characters in the passage, start and exclusive end.
    pub offsets: Vec<(usize, usize)>,
}

impl PairEncoding {
    /// The tokens, counted in the whole window, that hold the characters `start..end` of the passage; `None` when the
    /// window does not hold all of them.
    pub fn tokens_of(&self, start: usize, end: usize) -> Option<(usize, usize)> {
        let touches = |&&(from, to): &&(usize, usize)| from < end && start < to;
        let first = self.offsets.iter().position(|offset| touches(&offset))?;
        let last = self.offsets.iter().rposition(|offset| touches(&offset))?;
        // An answer that begins or ends between two windows is whole in one of them only.
        let whole = self.offsets[first].0 <= start && end <= self.offsets[last].1;
        whole.then_some((self.passage_start + first, self.passage_start + last))
    }
}

/// Tokens of a text, special ones aside.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Pieces {
    ids: Vec<u32>,
    word_ids: Vec<Option<u32>>,
    offsets: Vec<(usize, usize)>,
}

impl Pieces {
    fn with_capacity(tokens: usize) -> Self {
        Self {
            ids: Vec::with_capacity(tokens),
            word_ids: Vec::with_capacity(tokens),
            offsets: Vec::with_capacity(tokens),
        }
    }

    fn push(&mut self, id: u32, word: u32, offset: (usize, usize)) {
        self.ids.push(id);
        self.word_ids.push(Some(word));
        self.offsets.push(offset);
    }

    fn truncate(&mut self, tokens: usize) {
        self.ids.truncate(tokens);
        self.word_ids.truncate(tokens);
        self.offsets.truncate(tokens);
    }
}

impl Encoding {
    /// The words in the order of the text.
    pub fn words(&self) -> Vec<Word> {
        let mut words: Vec<Word> = Vec::new();
        let mut last = None;
        for (token, (&word_id, &(start, end))) in self.word_ids.iter().zip(&self.offsets).enumerate() {
            match words.last_mut() {
                _ if word_id.is_none() => {}
                Some(word) if last == word_id => word.end = word.end.max(end),
                _ => words.push(Word { first_token: token, start, end }),
            }
            last = word_id;
        }
        words
    }
}

impl Tokenizer {
    /// Reads the bytes of a tokenizer.json.
    ///
    /// # Errors
    /// When they are not a tokenizer, or it lacks `[CLS]`, `[SEP]` or a token for unknown words.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let broken = |error: tokenizers::Error| Error::Tokenizer { reason: error.to_string() };
        let mut inner = Inner::from_bytes(bytes).map_err(broken)?;
        inner.with_truncation(None).map_err(broken)?;
        inner.with_padding(None);
        inner.set_encode_special_tokens(true);
        let special = |token: &str| {
            inner.token_to_id(token).ok_or_else(|| Error::Tokenizer { reason: format!("it has no token `{token}`") })
        };
        let (cls, sep) = (special("[CLS]")?, special("[SEP]")?);
        // WordPiece fails on the first unknown word when the vocabulary lacks its unknown token: better now than later.
        inner.encode_char_offsets("word \u{10fffd}\u{e000} 9\u{fffd}", false).map_err(broken)?;
        let highest = inner.get_vocab(true).into_values().max().unwrap_or(0);
        let plain = Plain::of(&inner);
        Ok(Self { inner, plain, cls, sep, vocab_size: highest as usize + 1 })
    }

    /// Reads the tokenizer of a checkpoint and checks that every token has an embedding.
    ///
    /// # Errors
    /// When tokenizer.json is absent or broken, or has more tokens than config.json.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Self> {
        let bytes = checkpoint.file(TOKENIZER_FILE)?.ok_or_else(|| Error::MissingFile {
            checkpoint: checkpoint.location().to_owned(),
            file: TOKENIZER_FILE.to_owned(),
        })?;
        let tokenizer = Self::from_bytes(&bytes)?;
        let vocab_size = checkpoint.config().vocab_size;
        if tokenizer.vocab_size > vocab_size {
            let reason = format!("it has {} tokens, config.json says {vocab_size}", tokenizer.vocab_size);
            return Err(Error::Tokenizer { reason });
        }
        Ok(tokenizer)
    }

    /// The number of token identifiers, that is the highest one plus one.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The identifier of a token as the vocabulary writes it, such as `[MASK]`.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Tokenizes a text into `[CLS] tokens [SEP]`, cut to `max_tokens` (at least 2).
    pub fn encode(&self, text: &str, max_tokens: usize) -> Encoding {
        let room = max_tokens.saturating_sub(2);
        let pieces = self.pieces(text, room);
        let mut encoding = Encoding { input_ids: vec![self.cls], word_ids: vec![None], offsets: vec![(0, 0)] };
        encoding.input_ids.extend(&pieces.ids);
        encoding.word_ids.extend(&pieces.word_ids);
        encoding.offsets.extend(&pieces.offsets);
        encoding.input_ids.push(self.sep);
        encoding.word_ids.push(None);
        encoding.offsets.push((0, 0));
        encoding
    }

    /// Tokenizes a question with its passage into windows, so that a passage of any length is read piece by piece.
    ///
    /// The question takes at most half of a window.
    pub fn encode_pair(&self, question: &str, passage: &str, windows: Windows) -> Vec<PairEncoding> {
        let Windows { max_tokens, overlap, max_windows } = windows;
        let question = self.pieces(question, (max_tokens / 2).saturating_sub(2));
        let room = max_tokens.saturating_sub(question.ids.len() + 3).max(1);
        let step = (room - overlap.min(room / 2)).max(1);
        let passage = self.pieces(passage, room + step * max_windows.saturating_sub(1));
        let mut windows = Vec::new();
        let mut start = 0;
        while start < passage.ids.len() && windows.len() < max_windows {
            let end = (start + room).min(passage.ids.len());
            let mut input_ids = vec![self.cls];
            input_ids.extend(&question.ids);
            input_ids.push(self.sep);
            let passage_start = input_ids.len();
            input_ids.extend(&passage.ids[start..end]);
            input_ids.push(self.sep);
            windows.push(PairEncoding { input_ids, passage_start, offsets: passage.offsets[start..end].to_vec() });
            if end == passage.ids.len() {
                break;
            }
            start += step;
        }
        windows
    }

    /// The tokens of a text without special ones, at most `room`; none when the tokenizer fails on the text.
    fn pieces(&self, text: &str, room: usize) -> Pieces {
        let most = room.saturating_mul(MAX_CHARS_PER_TOKEN);
        let cut =
            if text.len() <= most { None } else { text.char_indices().nth(most) }.map_or(text.len(), |(byte, _)| byte);
        let plain = self.plain.as_ref().and_then(|plain| plain.pieces(&self.inner, &text[..cut], room));
        plain.unwrap_or_else(|| self.general_pieces(&text[..cut], room))
    }

    /// The same for a text of any kind and bounded length.
    fn general_pieces(&self, text: &str, room: usize) -> Pieces {
        // Only a vocabulary without an unknown token fails, and `from_bytes` refuses that; an empty text is the safe answer.
        let Ok(encoding) = self.inner.encode_char_offsets(text, false) else {
            return Pieces::default();
        };
        let length = encoding.len().min(room);
        Pieces {
            ids: encoding.get_ids()[..length].to_vec(),
            word_ids: encoding.get_word_ids()[..length].to_vec(),
            offsets: encoding.get_offsets()[..length].to_vec(),
        }
    }
}
