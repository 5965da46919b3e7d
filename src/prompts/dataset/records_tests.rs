//! Objects out of lines and arrays, whole and broken.

use proptest::prelude::*;

use super::*;

fn records(bytes: &[u8]) -> Result<Records, InputError> {
    let reader = std::io::BufReader::with_capacity(7, std::io::Cursor::new(bytes.to_vec()));
    Ok(Records::new(Opened::from_reader("f", Box::new(reader))?))
}

/// Number, line, column and value of the field `a` of every object.
type Found = Vec<(u64, (usize, usize), Value)>;

fn all(bytes: &[u8]) -> Result<Found, InputError> {
    let mut records = records(bytes)?;
    let mut found = Vec::new();
    while let Some(record) = records.next()? {
        found.push((record.number, record.at, record.fields["a"].clone()));
    }
    Ok(found)
}

fn error(bytes: &[u8]) -> String {
    all(bytes).unwrap_err().to_string()
}

#[test]
fn lines_with_any_line_end_and_blank_ones_between() {
    let expected = vec![(2, (2, 1), 1.into()), (4, (4, 1), 2.into()), (5, (5, 1), 3.into())];
    assert_eq!(all(b"\n{\"a\":1}\r\n  \r\n{\"a\":2}\n{\"a\":3}").unwrap(), expected);
    assert_eq!(all(b"\xef\xbb\xbf{\"a\":1}").unwrap(), [(1, (1, 1), 1.into())]);
}

#[test]
fn elements_of_an_array_whatever_their_strings_hold() {
    let text = "\u{feff} [\n {\"a\": \"]},{\\\"\\\\\"},{\"a\":[{\"b\":[]}]}\n ,\n{\"a\":\"é\"}]\n\n";
    let nested = serde_json::json!([{"b": []}]);
    assert_eq!(
        all(text.as_bytes()).unwrap(),
        [(1, (2, 2), "]},{\"\\".into()), (2, (2, 20), nested), (3, (4, 1), "é".into())]
    );
}

#[test]
fn what_is_not_json_is_named_with_line_and_column() {
    let rows: [(&[u8], &str); 12] = [
        (b"{\"a\":1}\n{\"a\" 1}\n", "f:2:6: not JSON: expected `:`\n  expected: a JSON object on each line"),
        (b"{\"a\":1}\n{\"a\":", "f:2:5: not JSON: EOF while parsing a value"),
        (b"{\n\"a\":1\n}\n", "f:1:1: not JSON: EOF while parsing an object"),
        (b"{\"a\":1}\n[1, 2]", "f:2:1: found a list of 2\n  expected: a JSON object on each line"),
        (b"17", "f:1:1: found the number 17"),
        (b"{\"a\":1}\n\n{\"a\":\"\xff\"}", "f:3:7: not UTF-8"),
        (b"[{\"a\":1},\n {\"a\": nul}]", "f:2:11: not JSON: expected ident"),
        (b"[{\"a\":1},\n  7]", "f:2:3: not JSON: found `7` in the array\n  expected: an object"),
        (b"[{\"a\":1} {\"a\":2}]", "f:1:10: not JSON: found `{` in the array\n  expected: a comma"),
        (b"[{\"a\":1}] x", "f:1:11: not JSON: found `x` in the array\n  expected: nothing after the array"),
        (b"[{\"a\":1,\n {\"a\":2}, {\"a\":3}]", "f:2:2: not JSON: key must be a string"),
        (b"[{\"a\":1},\n {\"a\":\"\xff\"}]", "f:2:8: not UTF-8"),
    ];
    for (bytes, expected) in rows {
        assert!(error(bytes).starts_with(expected), "{}", error(bytes));
    }
}

#[test]
fn an_array_that_ends_in_its_middle_is_named() {
    let inside = "f:1:10: the JSON array ends in its middle after 1 elements\n  expected: a whole array";
    for text in ["[{\"a\":1},{\"a\":\"two", "[{\"a\":1},{\"a\":2,", "[{\"a\":1},"] {
        assert!(error(text.as_bytes()).starts_with(inside), "{}", error(text.as_bytes()));
    }
    assert!(error(b"[").starts_with("f:1:2: the JSON array ends in its middle\n"), "{}", error(b"["));
    assert!(error(b"[{\"a\":1}").contains("after 1 elements"));
}

#[test]
fn a_file_without_an_object_is_empty() {
    for bytes in [&b"\n \r\n"[..], b"[]", b"[ \n ]\n", b"\xef\xbb\xbf"] {
        assert_eq!(error(bytes).lines().next(), Some("f: the file is empty"), "{bytes:?}");
    }
}

#[test]
fn a_line_that_never_ends_is_not_read_whole() {
    let endless = Box::new(std::io::BufReader::with_capacity(1 << 20, std::io::repeat(b'0')));
    let mut records = Records::new(Opened::from_reader("f", endless).unwrap());
    let error = records.next().err().unwrap().to_string();
    assert!(error.starts_with("f:1:1: the line is longer than 64 MiB"), "{error}");
    assert!(records.buffer.len() <= LONGEST + 1);
}

/// 20 MB in 10 000 elements of 2 kB.
#[test]
fn a_large_array_takes_the_memory_of_one_element() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.json");
    let words = "word ".repeat(400);
    let elements: Vec<String> = (0..10_000).map(|n| format!("{{\"a\":\"{n} {words}\"}}")).collect();
    std::fs::write(&path, format!("[{}]", elements.join(",\n"))).unwrap();
    let mut records = Records::open(&path).unwrap();
    let mut last = 0;
    while let Some(record) = records.next().unwrap() {
        last = record.number;
    }
    assert_eq!(last, 10_000);
    assert!(records.buffer.capacity() < 1 << 16, "{}", records.buffer.capacity());
}

#[test]
fn halves_of_surrogate_pairs_are_replaced_as_python_would_keep_them() {
    let text = r#"{"a": "x \ud83d y \ud83d\ude00 \ude00 \\ud83d \u0041"}"#;
    assert_eq!(all(text.as_bytes()).unwrap()[0].2, "x \u{fffd} y \u{1f600} \u{fffd} \\ud83d A");
    assert_eq!(replace_lone_surrogates(r"\ud83d\ude00 \u0041 \\ \é \"), None);
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = all_numbers(&bytes);
    }

    #[test]
    fn no_json_like_text_makes_the_reader_panic(text in "[\\[\\]{}\",:a0\\\\ud8é \n]{0,60}") {
        let _ = all_numbers(text.as_bytes());
        let _ = replace_lone_surrogates(&text);
    }

    /// Written in either shape, the same objects come back.
    #[test]
    fn lines_and_arrays_hold_the_same(values in proptest::collection::vec(any::<String>(), 1..6)) {
        let objects: Vec<Value> = values.iter().map(|text| serde_json::json!({"a": text})).collect();
        let lines: String = objects.iter().map(|object| format!("{object}\n")).collect();
        let array = serde_json::to_string_pretty(&objects).unwrap();
        let texts = |found: Found| -> Vec<String> {
            found.iter().map(|(_, _, value)| value.as_str().unwrap().to_owned()).collect()
        };
        prop_assert_eq!(&texts(all(lines.as_bytes()).unwrap()), &values);
        prop_assert_eq!(&texts(all(array.as_bytes()).unwrap()), &values);
    }
}

fn all_numbers(bytes: &[u8]) -> Result<u64, InputError> {
    let mut records = records(bytes)?;
    let mut last = 0;
    while let Some(record) = records.next()? {
        last = record.number;
    }
    Ok(last)
}
