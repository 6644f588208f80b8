//! Cutting files into passages and passages into sentences.

use std::io::Read;
use std::path::Path;

use super::listing::Listing;

/// Bytes of a file that are read; a book has about one million.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Words of a passage at most; longer paragraphs are cut between sentences.
const MAX_PASSAGE_WORDS: usize = 120;

/// A paragraph with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// The file, relative to the directory.
    pub file: String,
    /// The paragraph's first line, from 1.
    pub line: usize,
    /// The heading it stands under.
    pub heading: Option<String>,
    /// Its text, on one line.
    pub text: String,
    /// The sentences of the text; at least one.
    pub sentences: Vec<String>,
}

/// Reads all `*.md` and `*.txt` files, in the order of their names; what cannot be read is told in the second part.
pub fn read_directory(directory: &Path) -> (Vec<Passage>, Vec<String>) {
    let Listing { mut files, mut problems, .. } = Listing::of(directory);
    files.sort();
    let mut passages = Vec::new();
    for path in files {
        let name = path.strip_prefix(directory).unwrap_or(&path).to_string_lossy().into_owned();
        match read(&path) {
            Ok(text) => passages.extend(cut(&name, &text)),
            Err(error) => problems.push(format!("cannot read {}: {error}", path.display())),
        }
    }
    (passages, problems)
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Cuts a text at headings, blank lines and list items.
pub(super) fn cut(file: &str, text: &str) -> Vec<Passage> {
    let mut passages = Vec::new();
    let mut heading: Option<String> = None;
    let mut paragraph = String::new();
    let mut first_line = 0;
    let mut fenced = false;
    let mut finish = |paragraph: &mut String, line: usize, heading: &Option<String>| {
        passages.extend(split_long(file, line, heading.as_deref(), paragraph));
        paragraph.clear();
    };
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with("```") {
            fenced = !fenced;
            continue;
        }
        let title = line.trim_start_matches('#');
        let is_heading = !fenced && title.len() < line.len() && title.starts_with([' ', '\t']);
        let is_rule = !line.is_empty() && line.chars().all(|c| matches!(c, '-' | '=' | '*' | '_'));
        if is_heading || line.is_empty() || is_rule {
            finish(&mut paragraph, first_line, &heading);
            if is_heading {
                heading = Some(title.trim().trim_end_matches('#').trim().to_owned());
            }
            continue;
        }
        let item = line.strip_prefix("- ").or_else(|| line.strip_prefix("* ")).or_else(|| line.strip_prefix("> "));
        if paragraph.is_empty() {
            first_line = index + 1;
        } else {
            // An item of a list is a sentence of its own.
            paragraph.push(if item.is_some() { '\n' } else { ' ' });
        }
        paragraph.push_str(&item.unwrap_or(line).replace("**", "").replace('`', ""));
    }
    finish(&mut paragraph, first_line, &heading);
    passages
}

fn split_long(file: &str, line: usize, heading: Option<&str>, text: &str) -> Vec<Passage> {
    let mut passages: Vec<Passage> = Vec::new();
    let mut words = 0;
    for sentence in sentences(text) {
        let count = sentence.split_whitespace().count();
        match passages.last_mut() {
            Some(last) if words + count <= MAX_PASSAGE_WORDS => {
                words += count;
                last.text.push(' ');
                last.text.push_str(&sentence);
                last.sentences.push(sentence);
            }
            _ => {
                words = count;
                let heading = heading.filter(|heading| !heading.is_empty()).map(str::to_owned);
                passages.push(Passage {
                    file: file.to_owned(),
                    line,
                    heading,
                    text: sentence.clone(),
                    sentences: vec![sentence],
                });
            }
        }
    }
    passages
}

/// Cuts a text at line ends, and behind `.`, `!` or `?` that white space and no lower-case letter follow.
fn sentences(text: &str) -> Vec<String> {
    text.lines().flat_map(sentences_of_line).collect()
}

fn sentences_of_line(text: &str) -> Vec<String> {
    const ABBREVIATIONS: [&str; 8] = ["e.g.", "i.e.", "Dr.", "Mr.", "Mrs.", "Ms.", "St.", "No."];
    let mut sentences = Vec::new();
    let mut start = 0;
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let end = at + character.len_utf8();
        if !matches!(character, '.' | '!' | '?') || !characters.peek().is_some_and(|(_, next)| next.is_whitespace()) {
            continue;
        }
        let next = text[end..].trim_start().chars().next();
        let abbreviated = ABBREVIATIONS.iter().any(|known| text[start..end].ends_with(known));
        if next.is_some_and(|next| !next.is_lowercase()) && !abbreviated {
            sentences.push(text[start..end].trim().to_owned());
            start = end;
        }
    }
    sentences.push(text[start..].trim().to_owned());
    sentences.retain(|sentence| !sentence.is_empty());
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn passages_keep_heading_and_line() {
        let text = "# House\n\nIntro here.\n\n## Wi-Fi\nThe network is called Burrow.\nThe password, e.g. for guests, is on the router. Ask us!\n\n- towels are in the hall\n- keys hang by the door\n";
        let passages = cut("house.md", text);
        let seen: Vec<String> = passages
            .iter()
            .map(|one| {
                format!(
                    "{}:{} [{}] {}",
                    one.file,
                    one.line,
                    one.heading.as_deref().unwrap_or(""),
                    one.sentences.join(" | ")
                )
            })
            .collect();
        insta::assert_snapshot!(seen.join("\n"), @r"
        house.md:3 [House] Intro here.
        house.md:6 [Wi-Fi] The network is called Burrow. | The password, e.g. for guests, is on the router. | Ask us!
        house.md:9 [Wi-Fi] towels are in the hall | keys hang by the door
        ");
    }

    #[test]
    fn long_paragraphs_are_cut_between_sentences() {
        let text = "One two three four five six seven eight nine ten. ".repeat(30);
        let passages = cut("long.txt", &text);
        assert_eq!(passages.len(), 3);
        assert!(passages.iter().all(|one| one.text.split_whitespace().count() <= MAX_PASSAGE_WORDS));
    }

    #[test]
    fn a_directory_is_read_in_order_and_other_files_are_not() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(directory.path().join("sub")).expect("made");
        for (name, text) in
            [("b.txt", "Second."), ("a.md", "First."), ("c.pdf", "No."), (".hidden.md", "No."), ("sub/d.md", "Third.")]
        {
            std::fs::write(directory.path().join(name), text).expect("written");
        }
        let (passages, problems) = read_directory(directory.path());
        assert_eq!(passages.iter().map(|one| one.text.as_str()).collect::<Vec<_>>(), ["First.", "Second.", "Third."]);
        assert!(problems.is_empty());
        assert_eq!(read_directory(&directory.path().join("none")), (vec![], vec![]));
    }

    proptest! {
        #[test]
        fn any_text_is_cut_without_a_panic(text in "(.|\n){0,200}") {
            for passage in cut("x", &text) {
                prop_assert!(!passage.sentences.is_empty());
                prop_assert!(passage.line >= 1);
            }
        }
    }
}
