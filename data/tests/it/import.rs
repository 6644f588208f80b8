//! Files in every accepted form, whole and broken.

use std::cell::Cell;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use mynah_data::{
    Example, Format, ImportOptions, Imported, LineError, SplitName, import, imported_examples, imported_questions,
    read_examples, taught_answers,
};
use proptest::prelude::*;

use crate::support::{home, slot};

fn read(bytes: &[u8], name: &str) -> (Vec<Imported>, Vec<LineError>) {
    let mut records = Vec::new();
    let mut errors = Vec::new();
    for item in read_examples(bytes, name, None) {
        match item {
            Ok(record) => records.push(record),
            Err(error) => errors.push(error),
        }
    }
    (records, errors)
}

fn examples(bytes: &[u8], name: &str) -> Vec<Example> {
    let (records, errors) = read(bytes, name);
    assert_eq!(errors, []);
    records
        .into_iter()
        .map(|record| match record {
            Imported::Example(example) => example,
            other => panic!("not an example: {other:?}"),
        })
        .collect()
}

fn answers(bytes: &[u8], name: &str) -> Vec<(String, String, String)> {
    let (records, errors) = read(bytes, name);
    assert_eq!(errors, []);
    records
        .into_iter()
        .map(|record| match record {
            Imported::Answer(answer) => (answer.question, answer.answer, answer.origin),
            other => panic!("not an answer: {other:?}"),
        })
        .collect()
}

fn rendered(errors: &[LineError]) -> String {
    errors.iter().map(|error| format!("{error}\n  hint: {}\n", error.hint())).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const LINES: &str = "{\"text\":\"Café in Bonn\",\"intent\":\"find\",\"slots\":[{\"name\":\"city\",\"start\":8,\"end\":12,\"value\":\"Bonn\"}],\"split\":\"test\"}\n{\"utterance\":\"sing\",\"label\":\"oos\"}\n";

#[test]
fn json_lines_with_a_mark_crlf_blank_lines_and_gzip() {
    let plain = examples(LINES.as_bytes(), "x.jsonl");
    assert_eq!(plain[0].slots, [slot("city", 8, 12, "Bonn")]);
    assert_eq!(plain[0].split, Some(SplitName::HeldOut));
    assert_eq!((plain[1].function.as_str(), plain[1].origin.as_str()), ("oos", "x.jsonl:2"));
    let windows = format!("\u{feff}{}", LINES.replace('\n', "\r\n"));
    assert_eq!(examples(windows.as_bytes(), "x.jsonl"), plain);
    assert_eq!(examples(&gzip(LINES.as_bytes()), "x.jsonl"), plain);
    assert_eq!(examples(&gzip(windows.as_bytes()), "x.jsonl"), plain);
    assert_eq!(examples(LINES.trim_end().as_bytes(), "x.jsonl"), plain);
    // Several gzip files in a row are one.
    let (first, second) = LINES.split_at(30);
    let members = [gzip(first.as_bytes()), gzip(second.as_bytes())].concat();
    assert_eq!(examples(&members, "x.jsonl"), plain);
    let blank = LINES.replace('\n', "\n\n  \n");
    let origins: Vec<String> =
        examples(blank.as_bytes(), "x.jsonl").into_iter().map(|example| example.origin).collect();
    assert_eq!(origins, ["x.jsonl:1", "x.jsonl:4"]);
    // Neither the name nor the format is needed.
    assert_eq!(examples(LINES.as_bytes(), "-").len(), 2);
}

#[test]
fn json_documents() {
    let array = "[\n {\"text\":\"a\",\n  \"intent\":\"x\"},\n {\"text\":\"b\",\"function\":null}\n]";
    let read = examples(array.as_bytes(), "x.json");
    assert_eq!(read[1].origin, "x.json:4");
    assert_eq!(read[1].function, "oos");
    for wrapped in [
        format!("{{\"version\":[\"1]\"],\n\"data\":{array}}}"),
        format!("{{\"data\":{}}}", array.replace('\n', "")),
        format!("{{\"examples\":{array},\"data\":3}}"),
        "{\"text\":\"a\",\n\"intent\":\"x\"}\n{\"text\":\"b\",\n\"intent\":\"oos\"}".to_owned(),
        "{\"text\":\"a\",\"intent\":\"x\"}\n{\"text\":\"b\",\"intent\":\"oos\"}".to_owned(),
    ] {
        let functions: Vec<String> =
            examples(wrapped.as_bytes(), "x.json").into_iter().map(|example| example.function).collect();
        assert_eq!(functions, ["x", "oos"], "{wrapped}");
    }
    assert_eq!(examples(b"[]", "x.json"), []);
    assert_eq!(examples(b"", "x.json"), []);
    assert_eq!(examples(b" \n\n", "anything"), []);
}

#[test]
fn squad_in_its_own_form_and_in_a_line() {
    let nested = r#"{"version":"1.1","data":[{"title":"T","paragraphs":[{"context":"Zoë was in Rome.","qas":[
        {"id":"1","question":"Where?","answers":[{"text":"Rome","answer_start":11},{"text":"Rome","answer_start":12}]},
        {"id":"2","question":"Who?","answers":[{"text":"Zoë","answer_start":0}]},
        {"id":"3","question":"Why?","is_impossible":true,"answers":[]}]}]}]}"#;
    let (records, errors) = read(nested.as_bytes(), "squad.json");
    insta::assert_snapshot!(rendered(&errors), @r"
    squad.json:1: the answer `Rome` is not at character 12 of the context
      hint: `start` counts characters from 0, not bytes
    ");
    let [Imported::Question(who), Imported::Question(why)] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!((who.title.as_deref(), who.answers[0].start), (Some("T"), 0));
    assert_eq!(why.answers, []);
    let line = r#"{"id":"1","context":"Zoë was in Rome.","question":"Where?","answers":{"text":["Rome"],"answer_start":[11]},"split":"dev"}"#;
    let (records, errors) = read(line.as_bytes(), "squad.jsonl");
    assert_eq!(errors, []);
    assert!(matches!(&records[0], Imported::Question(question)
        if question.answers[0].start == 11 && question.split == Some(SplitName::Validation)));
    let pair = br#"{"question":"Where?","positive":"In Rome.","split":"train"}"#;
    assert!(matches!(&read(pair, "x.jsonl").0[0], Imported::Pair(pair) if pair.positive == "In Rome."));
}

#[test]
fn csv_with_its_headers_and_delimiters() {
    let csv = "\u{feff}Text,Intent,split\r\n\"Play \"\"Yes\"\", please\",play,train\r\n\"two\nlines\",play,\r\na 5\" pipe,buy,\r\n\"last\",play,dev\r\n";
    let read = examples(csv.as_bytes(), "x.csv");
    let texts: Vec<&str> = read.iter().map(|example| example.text.as_str()).collect();
    assert_eq!(texts, ["Play \"Yes\", please", "two\nlines", "a 5\" pipe", "last"]);
    assert_eq!(read[1].split, None);
    assert_eq!(read[3].origin, "x.csv:6");
    let semicolons = "text;label\nhello, you;greet\n";
    assert_eq!(examples(semicolons.as_bytes(), "x.csv")[0].text, "hello, you");
    let tabs = "text\tintent\n\"hello\tgreet\n";
    assert_eq!(examples(tabs.as_bytes(), "x.tsv")[0].text, "\"hello");
    let slots =
        "text,intent,slots\nin Bonn,find,\"[{\"\"name\"\":\"\"city\"\",\"\"start\"\":3,\"\"end\"\":7}]\"\nok,yes,\n";
    assert_eq!(examples(slots.as_bytes(), "x.csv")[0].slots, [slot("city", 3, 7, "Bonn")]);
    for csv in
        ["question,answer\nwho,me\n", "user_message,ai_response\nwho,me\n", "id,User Message,AI Response\n1,who,me\n"]
    {
        for name in ["x.csv", "x"] {
            assert_eq!(answers(csv.as_bytes(), name)[0].1, "me", "{csv}");
        }
    }
}

#[test]
fn wrong_csv_rows_are_named_and_the_others_read() {
    let csv = "text,intent\nok,a\none\n\"never closed,a\nfine,b\n,c\nx,y,z\nlast,d\n";
    let (records, errors) = read(csv.as_bytes(), "x.csv");
    assert_eq!(records.len(), 3);
    insta::assert_snapshot!(rendered(&errors), @r#"
    x.csv:3: the header has 2 fields and this row 1
      hint: put quotes around texts that contain the delimiter
    x.csv:4: a quote is never closed
      hint: close it, or write "" for a quote inside of quotes
    x.csv:6: `text` is empty
      hint: fill it in, or remove the record
    x.csv:7: the header has 2 fields and this row 3
      hint: put quotes around texts that contain the delimiter
    "#);
    let (records, errors) = read(b"colour,size\nred,2\n", "x.csv");
    assert_eq!(records, []);
    insta::assert_snapshot!(rendered(&errors), @r"
    x.csv:1: the header `colour,size` is not known
      hint: name the columns text,intent or question,answer or user_message,ai_response
    ");
}

#[test]
fn conversations_as_text() {
    let text = "User: who are you?\nAI: Mynah.\n\nUSER: tell me a poem\nassistant: one: two\n  three\n\nfour\n\nUser: hi\nAI: hello";
    assert_eq!(
        answers(text.as_bytes(), "x.txt"),
        [
            ("who are you?".to_owned(), "Mynah.".to_owned(), "x.txt:1".to_owned()),
            ("tell me a poem".to_owned(), "one: two\n  three\n\nfour".to_owned(), "x.txt:4".to_owned()),
            ("hi".to_owned(), "hello".to_owned(), "x.txt:10".to_owned()),
        ]
    );
    let wrong = "User: one\nUser: two\nAI: 2\nAI: 3\nUser:\nAI: x\n";
    let (records, errors) = read(wrong.as_bytes(), "x");
    assert_eq!(records.len(), 1);
    insta::assert_snapshot!(rendered(&errors), @r"
    x:1: a question without an answer
      hint: write `AI: …` behind it
    x:4: an answer without a question
      hint: write `User: …` before `AI: …`
    x:5: the question is empty
      hint: fill it in
    ");
    let (_, errors) = read(b"Dear diary\nUser: a\nAI: b\n", "x.txt");
    insta::assert_snapshot!(rendered(&errors), @r"
    x.txt:1: nobody says this
      hint: start the line with `User:` or `AI:`
    ");
}

#[test]
fn wrong_lines_are_named_and_the_others_read() {
    let mut lines = Vec::new();
    for line in [
        &br#"{"text":"fine","intent":"a"}"#[..],
        b"{\"text\":\"cut off",
        b"{\"text\":\"\xff\",\"intent\":\"a\"}",
        br#"{"text":"  ","intent":"a"}"#,
        br#"{"text":7,"intent":"a"}"#,
        br#"{"text":"no intent"}"#,
        br#"{"text":"a","intent":3}"#,
        br#"{"text":"a","intent":"b","split":"tset"}"#,
        br#"{"text":"a","intent":"b","slots":{}}"#,
        br#"{"text":"a","intent":"b","slots":[{"name":"n","start":-1,"end":1}]}"#,
        "{\"text\":\"über Bonn\",\"intent\":\"b\",\"slots\":[{\"name\":\"city\",\"start\":6,\"end\":10,\"value\":\"Bonn\"}]}".as_bytes(),
        br#"{"text":"ab","intent":"b","slots":[{"name":"n","start":0,"end":2},{"name":"m","start":1,"end":2}]}"#,
        br#"{"question":"q"}"#,
        br#"{"question":"q","positives":[3]}"#,
        br#"{"colour":"red","size":2}"#,
        br#""text""#,
        br#"{"text":"fine too","intent":"a"}"#,
    ] {
        lines.extend_from_slice(line);
        lines.push(b'\n');
    }
    let (records, errors) = read(&lines, "x.jsonl");
    assert_eq!(records.len(), 2);
    insta::assert_snapshot!(rendered(&errors), @r#"
    x.jsonl:2: not JSON: EOF while parsing a string at column 16
      hint: correct the line and import the file again
    x.jsonl:3: not UTF-8 at byte 9
      hint: save the file as UTF-8
    x.jsonl:4: `text` is empty
      hint: fill it in, or remove the record
    x.jsonl:5: `text` is no string
      hint: write it in quotes
    x.jsonl:6: no intent
      hint: add the function's name as `intent`, or `oos`
    x.jsonl:7: the intent is no string
      hint: write the function's name
    x.jsonl:8: unknown split `tset`
      hint: a split is train, validation (valid, dev) or held_out (test)
    x.jsonl:9: `slots` is no array
      hint: write [{"name":…,"start":…,"end":…,"value":…}]
    x.jsonl:10: an argument has no number `start`
      hint: write [{"name":…,"start":…,"end":…,"value":…}]
    x.jsonl:11: argument `city` is at characters 6 to 10 of an utterance of 9 characters
      hint: offsets count characters from 0, not bytes, and `end` is the one after the last
    x.jsonl:12: arguments `n` and `m` overlap at character 1
      hint: keep one of the two arguments
    x.jsonl:13: no `answer`
      hint: add `answer`
    x.jsonl:14: a question whose passages are in another file
      hint: import {"question":…,"positive":…} with the passage itself
    x.jsonl:15: no known fields among `colour`, `size`
      hint: a record has text and intent, question and answer, user_message and ai_response, or question and context
    x.jsonl:16: not an object
      hint: write {"text":…,"intent":…} or {"question":…,"answer":…}
    "#);
}

#[test]
fn wrong_documents_are_named_and_the_rest_read() {
    let document = "[\n{\"text\":\"a\",\"intent\":\"x\"},\n{\"text\":\"b\" \"intent\":\"x\"},\n}\n7,\n{\"text\":\"c\",\"intent\":\"x\"},\n{\"text\":\"d\",";
    let (records, errors) = read(document.as_bytes(), "x.json");
    assert_eq!(records.len(), 2);
    insta::assert_snapshot!(rendered(&errors), @r#"
    x.json:3: not JSON: expected `,` or `}` at column 13
      hint: correct the line and import the file again
    x.json:4: not JSON: expected value at column 1
      hint: correct the line and import the file again
    x.json:5: not an object
      hint: write {"text":…,"intent":…} or {"question":…,"answer":…}
    x.json:7: the record that starts here is never closed
      hint: close its brackets and quotes
    "#);
    let (_, errors) = read(&[0xff, 0xfe, b'{', 0, b'"', 0], "x.json");
    insta::assert_snapshot!(rendered(&errors), @r"
    x.json:1: the file is UTF-16
      hint: save the file as UTF-8
    ");
    let (_, errors) = read(b"\x00\x01\x02binary", "photo");
    insta::assert_snapshot!(rendered(&errors), @r#"
    photo:1: neither JSON Lines, JSON, CSV with a known header, nor `User: …` / `AI: …`
      hint: write one JSON object a line, such as {"text":…,"intent":…}
    "#);
}

#[test]
fn a_gzip_file_that_breaks_off_is_read_up_to_there() {
    let mut lines = String::new();
    for index in 0..20_000 {
        lines.push_str(&format!("{{\"text\":\"say {index} {}\",\"intent\":\"a\"}}\n", index * 7919 % 10_007));
    }
    let whole = gzip(lines.as_bytes());
    for keep in [whole.len() / 2, whole.len() - 4, 11, 3] {
        let (records, errors) = read(&whole[..keep], "x.jsonl.gz");
        assert_eq!(errors.len(), 1, "{keep} bytes");
        assert_eq!(errors[0].message, "the compressed data ends early");
        assert!(records.len() as u64 >= errors[0].line - 1);
        assert_eq!(records.len() > 1_000, keep > 1_000);
    }
    let (records, errors) = read(&[&whole[..], b"trailing"].concat(), "x.jsonl.gz");
    assert_eq!((records.len(), errors.len()), (20_000, 1));
}

type Line = fn(usize) -> String;

/// Lines that are made while they are read, and how many bytes of them were.
struct Endless<'a> {
    line: Line,
    next: usize,
    buffer: Vec<u8>,
    taken: &'a Cell<usize>,
}

impl Read for Endless<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.buffer.is_empty() && self.next < 100_000 {
            self.buffer = (self.line)(self.next).into_bytes();
            self.next += 1;
        }
        let length = into.len().min(self.buffer.len());
        into[..length].copy_from_slice(&self.buffer[..length]);
        self.buffer.drain(..length);
        self.taken.set(self.taken.get() + length);
        Ok(length)
    }
}

#[test]
fn a_hundred_thousand_lines_are_a_stream() {
    let forms: [(&str, Line); 3] = [
        ("x.jsonl", |n| format!("{{\"text\":\"say {n:06}\",\"intent\":\"say\"}}\n")),
        ("x.csv", |n| match n {
            0 => "text,intent\n".to_owned(),
            n => format!("say {n:06},say\n"),
        }),
        ("x.txt", |n| match n % 2 {
            0 => format!("User: say {n:06}\n"),
            _ => format!("AI: {n:06}\n"),
        }),
    ];
    for (name, line) in forms {
        let taken = Cell::new(0);
        let lines = Endless { line, next: 0, buffer: Vec::new(), taken: &taken };
        let mut behind = 0;
        let mut records = 0;
        for record in read_examples(lines, name, None) {
            let number: usize = match record.unwrap() {
                Imported::Example(example) => example.text[4..].parse().unwrap(),
                Imported::Answer(answer) => answer.question[4..].parse().unwrap(),
                other => panic!("{other:?}"),
            };
            records += 1;
            // What was read for the record: a buffer's worth more than the lines up to it.
            let needed = number * line(1).len().min(line(2).len());
            behind = behind.max(taken.get().saturating_sub(needed));
        }
        assert!(records >= 50_000, "{name}: {records}");
        let spread = 100_000 * line(1).len().abs_diff(line(2).len());
        assert!(behind <= 256 * 1024 + spread, "{name}: {behind} bytes ahead");
    }
}

#[test]
fn a_text_of_a_million_bytes_and_a_line_without_end() {
    let long = "é".repeat(500_000);
    let line = format!("{{\"text\":\"{long}\",\"intent\":\"a\"}}\n");
    assert_eq!(examples(line.as_bytes(), "x.jsonl")[0].text, long);
    let csv = format!("text,intent\n\"{long}\",a\n");
    assert_eq!(examples(csv.as_bytes(), "x.csv")[0].text, long);
    let text = format!("User: {long}\nAI: yes\n");
    assert_eq!(answers(text.as_bytes(), "x.txt")[0].0, long);
    let endless = io::repeat(b'x').take(40_000_000).chain(&b"\n{\"text\":\"a\",\"intent\":\"b\"}\n"[..]);
    let items: Vec<_> = read_examples(endless, "x.jsonl", Some(Format::JsonLines)).collect();
    assert_eq!(items.len(), 2);
    assert_eq!(items[0].as_ref().unwrap_err().message, "longer than 16777216 bytes");
    assert!(items[1].is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_bytes_panic_or_give_more_than_they_have(
        pieces in prop::collection::vec(prop_oneof![
            "[\\[\\]{}\",:;\\\\\n\t a]{0,6}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..6),
            Just(b"{\"text\":\"a\",\"intent\":\"b\"}".to_vec()),
            Just(b"\"data\":[".to_vec()),
            Just(b"text,intent\n".to_vec()),
            Just(b"User: a\nAI: b\n".to_vec()),
            Just(vec![0x1f, 0x8b, 8, 0]),
        ], 0..20),
        format in prop_oneof![
            Just(None),
            Just(Some(Format::JsonLines)),
            Just(Some(Format::Json)),
            Just(Some(Format::Csv)),
            Just(Some(Format::Text)),
        ],
    ) {
        let bytes = pieces.concat();
        let items = read_examples(&bytes[..], "x", format).count();
        prop_assert!(items <= bytes.len() + 2);
    }
}

#[test]
fn importing_again_replaces_the_examples_and_repeats_no_answer() {
    let (_directory, home) = home();
    let options = ImportOptions::default();
    let file = format!("{LINES}{{\"question\":\"q\",\"answer\":\"a\"}}\nbroken\n");
    let summary = import(&home, file.as_bytes(), "/data/My set.jsonl.gz", &options).unwrap();
    assert_eq!((summary.examples, summary.answers, summary.skipped_total), (2, 1, 1));
    assert!(summary.is_partial());
    let path = summary.path.unwrap();
    assert_eq!(path, home.examples_dir().join("My_set.jsonl"));
    insta::assert_snapshot!(fs::read_to_string(&path).unwrap(), @r#"
    {"schema":1,"type":"example","text":"Café in Bonn","function":"find","slots":[{"name":"city","start":8,"end":12,"value":"Bonn"}],"split":"held_out","source":"imported","origin":"/data/My set.jsonl.gz:1"}
    {"schema":1,"type":"example","text":"sing","function":"oos","source":"imported","origin":"/data/My set.jsonl.gz:2"}
    "#);
    insta::assert_snapshot!(fs::read_to_string(home.memory_path()).unwrap(), @r#"{"schema":1,"type":"answer","question":"q","answer":"a","source":"imported","origin":"/data/My set.jsonl.gz:3"}"#);
    let before: Vec<Example> = imported_examples(&home).unwrap().map(Result::unwrap).collect();
    assert_eq!(before.len(), 2);
    let again = import(&home, file.as_bytes(), "/data/My set.jsonl.gz", &options).unwrap();
    assert_eq!(again.answers, 1);
    assert_eq!(taught_answers(&home).unwrap().count(), 1);
    assert_eq!(imported_examples(&home).unwrap().count(), 2);
    // A file without anything right in it replaces nothing.
    let nothing = import(&home, &b"{}\n"[..], "My set.jsonl", &options).unwrap();
    assert_eq!((nothing.path.clone(), nothing.imported(), nothing.skipped_total), (None, 0, 1));
    assert_eq!(imported_examples(&home).unwrap().count(), 2);
    import(&home, &b"text,intent\nx,y\n"[..], "other.csv", &options).unwrap();
    assert_eq!(imported_examples(&home).unwrap().count(), 3);
    // What was stored can be imported itself.
    let stored = fs::read(&path).unwrap();
    assert_eq!(examples(&stored, "My_set.jsonl").len(), 2);
}

#[test]
fn the_name_of_an_import_stays_in_its_directory() {
    let (_directory, home) = home();
    for (name, stem) in [
        ("../../etc/passwd", "passwd"),
        ("..", "standard-input"),
        ("-", "standard-input"),
        (".hidden.jsonl", "hidden"),
        ("a b\u{0}.csv.GZ", "a_b_"),
        ("C:\\data\\é.json", "é"),
    ] {
        let summary = import(&home, LINES.as_bytes(), name, &ImportOptions::default()).unwrap();
        let expected = home.examples_dir().join(format!("{stem}.jsonl"));
        assert_eq!(summary.path, Some(expected), "{name}");
    }
}

#[test]
fn only_the_first_hundred_wrong_lines_are_kept() {
    let (_directory, home) = home();
    let file = format!("{}{LINES}", "wrong\n".repeat(1_000));
    let summary = import(&home, file.as_bytes(), "x.jsonl", &ImportOptions::default()).unwrap();
    assert_eq!((summary.skipped.len(), summary.skipped_total), (100, 1_000));
    assert_eq!(summary.skipped[99].line, 100);
    let stored = fs::File::open(summary.path.unwrap()).unwrap();
    assert_eq!(BufReader::new(stored).lines().count(), 2);
}

#[test]
fn a_file_of_questions_holds_nothing_else() {
    let (_directory, home) = home();
    let file = concat!(
        r#"{"context":"The tower is 50 m high. It is 50 m away.","question":"How high?","answers":[{"text":"50 m","start":13,"start_exact":false}]}"#,
        "\n",
        r#"{"text":"wake me","intent":"alarm"}"#,
        "\n",
        r#"{"question":"who?","answer":"me"}"#,
        "\n",
    );
    let options = ImportOptions { questions_only: true, ..ImportOptions::default() };
    let summary = import(&home, file.as_bytes(), "mixed.jsonl", &options).unwrap();
    assert_eq!((summary.questions, summary.imported(), summary.skipped_total), (1, 1, 2));
    let rendered: Vec<String> = summary.skipped.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(rendered.join("\n"), @r"
    mixed.jsonl:2: an utterance, not a question on a passage
    mixed.jsonl:3: an answer without a passage, not a question on a passage
    ");
    assert!(taught_answers(&home).unwrap().next().is_none());
    let questions: Vec<_> = imported_questions(&home).unwrap().map(Result::unwrap).collect();
    assert_eq!((questions[0].answers[0].start, questions[0].answers[0].exact), (13, false));
}
