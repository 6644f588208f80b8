//! Lines of text from plain or gzip input, one at a time.
//!
//! Invariant: as many items as lines, whatever the bytes are, and never more than one line in memory.

use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use serde_json::Value;

/// The longest line that is read whole; the rest of a longer one is dropped. The model looks at its first words only.
const MAX_LINE_BYTES: usize = 4 << 20;

/// One line: its text, or as much of it as is text, and what is wrong.
#[derive(Debug, PartialEq, Eq)]
pub struct Input {
    /// The text; characters that were none are replaced.
    pub text: String,
    /// Why the line is not a text.
    pub error: Option<String>,
}

/// The input with the bytes back in front that were read to recognise it.
type Whole = BufReader<Chain<Cursor<Vec<u8>>, Box<dyn Read>>>;

enum Source {
    Plain(Whole),
    Gzip(Box<BufReader<MultiGzDecoder<Whole>>>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    JsonLines,
}

/// The lines of a reader.
pub struct Texts {
    source: Result<Source, Option<io::Error>>,
    form: Option<Form>,
}

impl Texts {
    /// Reads lines; gzip is recognised by its first bytes, JSON Lines by the first line.
    pub fn new(mut reader: Box<dyn Read>) -> Self {
        let mut head = Vec::new();
        let source = match reader.by_ref().take(2).read_to_end(&mut head) {
            Err(error) => Err(Some(error)),
            Ok(_) => {
                let gzip = head == [0x1f, 0x8b];
                let whole = BufReader::new(Cursor::new(head).chain(reader));
                Ok(if gzip {
                    Source::Gzip(Box::new(BufReader::new(MultiGzDecoder::new(whole))))
                } else {
                    Source::Plain(whole)
                })
            }
        };
        Self { source, form: None }
    }

    fn understand(&mut self, bytes: &[u8], whole: bool) -> Input {
        let (text, mut error) = match std::str::from_utf8(bytes) {
            Ok(text) => (text.to_owned(), None),
            Err(error) => (
                String::from_utf8_lossy(bytes).into_owned(),
                Some(format!("not UTF-8 at byte {}", error.valid_up_to())),
            ),
        };
        if !whole {
            // A cut may run through a character; what counts is that the line was too long.
            error = Some(format!("longer than {MAX_LINE_BYTES} bytes"));
        }
        if error.is_some() {
            let shown = text.chars().take(1000).collect();
            return Input { text: if whole { text } else { shown }, error };
        }
        let object = || {
            serde_json::from_str::<Value>(&text)
                .map(|value| value.get("text").and_then(Value::as_str).map(str::to_owned))
        };
        let form = match self.form {
            Some(form) => form,
            None if text.trim().is_empty() => Form::Plain,
            None => {
                let form = if text.starts_with('{') && matches!(object(), Ok(Some(_))) {
                    Form::JsonLines
                } else {
                    Form::Plain
                };
                *self.form.insert(form)
            }
        };
        if form == Form::Plain {
            return Input { text, error: None };
        }
        match object() {
            Ok(Some(text)) => Input { text, error: None },
            Ok(None) => Input { text, error: Some("no string `text` in the object".to_owned()) },
            Err(error) => Input { text, error: Some(format!("broken JSON: {error}")) },
        }
    }
}

impl Iterator for Texts {
    type Item = io::Result<Input>;

    fn next(&mut self) -> Option<Self::Item> {
        let source = match &mut self.source {
            Ok(source) => source,
            Err(error) => return error.take().map(Err),
        };
        let line = match source {
            Source::Plain(reader) => read_line(reader),
            Source::Gzip(reader) => read_line(reader.as_mut()),
        };
        match line {
            Ok(Some((bytes, whole))) => Some(Ok(self.understand(&bytes, whole))),
            Ok(None) => None,
            Err(error) => {
                self.source = Err(None);
                Some(Err(error))
            }
        }
    }
}

/// One line without its end and whether it is whole; `None` at the end of the input.
fn read_line(reader: &mut impl BufRead) -> io::Result<Option<(Vec<u8>, bool)>> {
    let mut line = Vec::new();
    let mut whole = true;
    loop {
        let buffer = match reader.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            buffer => buffer?,
        };
        if buffer.is_empty() {
            return Ok((!line.is_empty() || !whole).then_some((line, whole)));
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let part = &buffer[..end.unwrap_or(buffer.len())];
        let room = MAX_LINE_BYTES - line.len();
        whole &= part.len() <= room;
        line.extend_from_slice(&part[..part.len().min(room)]);
        let used = part.len() + usize::from(end.is_some());
        reader.consume(used);
        if end.is_some() {
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            return Ok(Some((line, whole)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn texts(bytes: &[u8]) -> Vec<Input> {
        Texts::new(Box::new(Cursor::new(bytes.to_vec()))).map(Result::unwrap).collect()
    }

    fn plain(text: &str) -> Input {
        Input { text: text.to_owned(), error: None }
    }

    #[test]
    fn as_many_items_as_lines() {
        assert_eq!(texts(b""), []);
        assert_eq!(texts(b"a"), [plain("a")]);
        assert_eq!(texts(b"a\n\r\n\nb\r\n"), [plain("a"), plain(""), plain(""), plain("b")]);
    }

    #[test]
    fn gzip_is_recognised_even_in_several_members() {
        let member = |text: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        };
        let bytes = [member(b"wake me\nat "), member(b"seven\n")].concat();
        assert_eq!(texts(&bytes), [plain("wake me"), plain("at seven")]);
        let cut = &bytes[..bytes.len() - 20];
        assert!(Texts::new(Box::new(Cursor::new(cut.to_vec()))).any(|line| line.is_err()));
    }

    #[test]
    fn json_lines_give_their_text_and_broken_ones_an_error() {
        let lines = texts(b"\n{\"text\":\"a\",\"intent\":\"x\"}\n{\"text\":1}\n{broken\n\"b\"\n");
        assert_eq!(lines[0], plain(""));
        assert_eq!(lines[1], plain("a"));
        assert!(lines[2].error.is_some() && lines[3].error.as_ref().unwrap().starts_with("broken JSON"));
        assert!(lines[4].error.is_some());
    }

    #[test]
    fn what_only_looks_like_json_is_text() {
        assert_eq!(texts(b"{hello}\nthere\n"), [plain("{hello}"), plain("there")]);
    }

    #[test]
    fn bytes_that_are_no_text_are_an_error_of_their_line() {
        let lines = texts(b"ok\nbr\xffken\nok\n");
        assert_eq!(lines[1], Input { text: "br\u{fffd}ken".into(), error: Some("not UTF-8 at byte 2".into()) });
        assert_eq!(lines[2], plain("ok"));
    }

    #[test]
    fn a_line_too_long_is_dropped_and_reading_goes_on() {
        let mut bytes = vec![b'a'; MAX_LINE_BYTES + 10];
        bytes.extend_from_slice(b"\nnext\n");
        let lines = texts(&bytes);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].error.as_ref().unwrap().starts_with("longer than"));
        assert_eq!(lines[1], plain("next"));
    }
}
