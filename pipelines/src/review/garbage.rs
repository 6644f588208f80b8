//! Texts that nobody says: something pasted, keys held down.

/// Characters from which on a text is too long to be a request.
const LONG: usize = 1000;
/// Characters below which a text is too short to be told from an abbreviation.
const SHORT: usize = 12;
/// The share of characters that are neither letters, digits nor spaces from which on a text is mostly symbols.
const SYMBOLS: f64 = 0.4;
/// Letters and digits of ASCII in a row that are no word: the longest of English in use has 28.
const LONG_RUN: usize = 32;
/// Words from which on repetition is looked for, and the share of different words below which it is found.
const REPEATED: (usize, f64) = (8, 0.3);

/// What is wrong with a text, in words; `None` when somebody may have said it.
pub(crate) fn garbage(text: &str) -> Option<String> {
    let characters = text.chars().count();
    if characters > LONG {
        return Some(format!("{characters} characters"));
    }
    if characters < SHORT {
        return None;
    }
    let symbols = text.chars().filter(|c| !c.is_alphanumeric() && !c.is_whitespace()).count();
    if symbols as f64 >= SYMBOLS * characters as f64 {
        return Some(format!("{symbols} of {characters} characters are symbols"));
    }
    let is_encoded = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '_' | '-' | '%' | '&');
    let run = text.split(|c| !is_encoded(c)).map(str::len).max().unwrap_or(0);
    if run >= LONG_RUN && 2 * run >= characters {
        return Some(format!("{run} letters and digits without a space"));
    }
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    let mut different = words.clone();
    different.sort_unstable();
    different.dedup();
    let (least, share) = REPEATED;
    if words.len() >= least && (different.len() as f64) < share * words.len() as f64 {
        return Some(format!("{} different words among {}", different.len(), words.len()));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_says_is_found() {
        assert!(garbage(&"on and on ".repeat(200)).is_some());
        assert!(garbage("{\"a\":[1,2,{\"b\":\"c\"}],\"d\":{}}").is_some());
        assert!(garbage("dGhpcyBpcyBub3QgYSByZXF1ZXN0IGF0IGFsbA==").is_some());
        assert!(garbage("buy buy buy buy now buy buy buy buy").is_some());
        assert!(garbage("=====-----=====").is_some());
    }

    #[test]
    fn what_somebody_says_is_let_pass() {
        for said in [
            "wake me at 7:30, please!",
            "play ac/dc",
            "what's 12 * (3 + 4)?",
            "???",
            "明日の朝七時に起こしてくださいそれから音楽をかけてください照明もつけてくださいお願いします",
            "remind me to call mum, and dad, and mum again, and dad again",
            "open https://example.org/a/rather/long/path-of-a-page for me and read the first paragraph of it",
        ] {
            assert_eq!(garbage(said), None, "{said}");
        }
    }
}
