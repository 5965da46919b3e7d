//! Every format from a sample, every mistake with its message.

use std::path::PathBuf;

use proptest::prelude::*;

use super::file::Opened;
use super::*;

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn fixture(kind: DatasetKind, name: &str) -> (Vec<Entry>, ReadStats) {
    let mut entries = Vec::new();
    let path = root("tests/fixtures/prompts").join(name);
    let stats = read(kind, &path, &mut |entry| entries.push(entry));
    (entries, stats.unwrap())
}

/// Counts of a file of which all is used.
fn counts(entries: u64, skipped: u64) -> ReadStats {
    ReadStats { entries, skipped, ..ReadStats::default() }
}

fn of_bytes(kind: DatasetKind, bytes: &[u8]) -> Result<(Vec<Entry>, ReadStats), InputError> {
    let reader = Box::new(std::io::Cursor::new(bytes.to_vec()));
    let mut entries = Vec::new();
    let records = Records::new(Opened::from_reader("f", reader)?);
    let stats = read_records(kind, records, &mut |entry| entries.push(entry))?;
    Ok((entries, stats))
}

fn error(kind: DatasetKind, text: &str) -> String {
    of_bytes(kind, text.as_bytes()).unwrap_err().to_string()
}

/// An entry of the words of user and assistant in turn; "" for no answer.
fn entry(number: u64, system: Option<&str>, words: &[(&str, &str)], output_tokens: Option<u32>) -> Entry {
    let turn = |(user, answer): &(&str, &str)| {
        Turn::plain((*user).to_owned(), Some((*answer).to_owned()).filter(|answer| !answer.is_empty()))
    };
    let mut turns: Vec<Turn> = words.iter().map(turn).collect();
    if let Some(system) = system {
        turns[0].said.insert(0, Message::new(Role::System, system));
    }
    Entry { number, sample: Sample { turns, output_tokens, ..Sample::default() } }
}

#[test]
fn dolly_puts_the_context_behind_the_instruction() {
    let (entries, stats) = fixture(DatasetKind::Dolly, "dolly.jsonl");
    let swims = "Which of the animals swims?\n\nA heron wades, a swift flies, an otter swims.";
    let expected = [
        entry(1, None, &[("Name three rivers of Europe.", "The Danube, the Rhine and the Po.")], None),
        entry(2, None, &[(swims, "The otter.")], None),
        entry(3, None, &[("Écris une phrase sur la pluie.", "")], None),
    ];
    assert_eq!((entries, stats), (expected.to_vec(), counts(3, 1)));
}

#[test]
fn sharegpt_is_read_as_an_array_and_as_lines() {
    let bread =
        [("How long does bread rise?", "About an hour."), ("And in a cold room?", "Two, or overnight.")];
    let expected = [
        entry(1, None, &bread, None),
        entry(4, Some("You are terse."), &[("Say ]} and \"hello\".", "]} \"hello\"")], None),
        entry(5, None, &[("Only a question", "")], None),
    ];
    for name in ["sharegpt.json", "sharegpt.jsonl"] {
        let (entries, stats) = fixture(DatasetKind::Sharegpt, name);
        assert_eq!((entries, stats), (expected.to_vec(), counts(3, 2)), "{name}");
    }
}

#[test]
fn openassistant_messages_give_each_prompt_its_best_reply() {
    let (entries, stats) = fixture(DatasetKind::Openassistant, "oasst.messages.jsonl");
    let expected = [
        entry(1, None, &[("Why is the sea salt?", "Rivers carry minerals into it.")], None),
        entry(8, None, &[("Nobody answered this.", "")], None),
    ];
    let later = "a later message of the user (the file *.trees.jsonl has whole conversations)".to_owned();
    assert_eq!(
        (entries, stats),
        (expected.to_vec(), ReadStats { left_out: [(later, 1)].into(), ..counts(2, 1) })
    );
}

#[test]
fn openassistant_trees_give_the_conversation_along_the_best_replies() {
    let (entries, stats) = fixture(DatasetKind::Openassistant, "oasst.trees.jsonl");
    let salt =
        [("Why is the sea salt?", "Rivers carry minerals into it."), ("And lakes?", "Most of them drain.")];
    let expected = [entry(1, None, &salt, None), entry(3, None, &[("Nobody answered this.", "")], None)];
    assert_eq!((entries, stats), (expected.to_vec(), counts(2, 1)));
}

/// Prompts first, replies later: the first prompt is given up once 1024 newer ones have come.
#[test]
fn openassistant_waits_for_replies_within_bounds() {
    let prompt = |n: u32| {
        format!("{{\"message_id\":\"m{n}\",\"text\":\"q{n}\",\"role\":\"prompter\",\"parent_id\":null}}\n")
    };
    let reply = |n: u32, rank: &str| {
        format!(
            "{{\"message_id\":\"r\",\"text\":\"a{n}{rank}\",\"role\":\"assistant\",\"parent_id\":\"m{n}\",\"rank\":{rank}}}\n"
        )
    };
    let mut text: String = (0..=1024).map(prompt).collect();
    for (n, rank) in [(0, "0"), (1, "null"), (1, "2"), (1, "1"), (1, "3"), (9999, "0")] {
        text.push_str(&reply(n, rank));
    }
    let (entries, stats) = of_bytes(DatasetKind::Openassistant, text.as_bytes()).unwrap();
    assert_eq!(stats, counts(1025, 0));
    assert_eq!(entries[0], entry(1, None, &[("q0", "")], None));
    assert_eq!(entries[1], entry(2, None, &[("q1", "a11")], None));
    assert!(entries.is_sorted_by_key(|entry| entry.number));
}

#[test]
fn jsonl_has_a_prompt_or_messages_and_may_ask_for_a_length() {
    let (entries, stats) = fixture(DatasetKind::Jsonl, "prompts.jsonl");
    let expected = [
        entry(1, None, &[("Count to three.", "One, two, three.")], Some(12)),
        entry(2, None, &[("Name a colour.", "")], Some(4)),
        entry(3, None, &[("Name a metal.", "")], Some(5)),
    ];
    assert_eq!(entries[..3], expected);
    let [tin, weather] = &entries[3..] else { panic!() };
    let roles =
        |sample: &Sample| sample.messages().iter().map(|m| m.role().to_owned()).collect::<Vec<_>>().join(" ");
    assert_eq!((tin.number, roles(&tin.sample)), (4, "system user assistant user".into()));
    assert_eq!(
        (tin.sample.output_tokens, tin.sample.asked().unwrap().answer_text()),
        (Some(7), Some("Sn.".into()))
    );
    assert_eq!((weather.number, roles(&weather.sample)), (6, "developer user assistant tool".into()));
    assert_eq!(weather.sample.asked().unwrap().answer_text().as_deref(), Some("It rains."));
    let left_out = ["max_completion_tokens", "max_tokens", "model", "output_length", "output_tokens"];
    let left_out = left_out.map(|name| (name.to_owned(), 1)).into();
    assert_eq!(stats, ReadStats { entries: 5, skipped: 1, left_out });
}

#[test]
fn the_samples_of_the_documentation_are_read_whole() {
    let rows = [
        (DatasetKind::Dolly, "dolly.jsonl", 3),
        (DatasetKind::Sharegpt, "sharegpt.json", 2),
        (DatasetKind::Openassistant, "openassistant.trees.jsonl", 2),
        (DatasetKind::Jsonl, "prompts.jsonl", 3),
    ];
    for (kind, name, entries) in rows {
        let path = root("docs/examples/prompts").join(name);
        let stats = read(kind, &path, &mut |_| {}).unwrap();
        assert_eq!((stats.entries, stats.skipped), (entries, 0), "{name}");
    }
}

#[test]
fn a_missing_field_names_what_is_there_and_what_the_file_looks_like() {
    use DatasetKind::{Dolly, Jsonl, Openassistant, Sharegpt};
    let sharegpt = "[\n {\"id\":\"x\",\"conversations\":[]}\n]";
    assert_eq!(
        error(Dolly, sharegpt),
        "f:2:2: `instruction`: the field is missing; found id, conversations\n  \
         expected: the fields of databricks-dolly-15k.jsonl: instruction, context, response, category\n  \
         next: the fields look like another format: kind = \"sharegpt\""
    );
    let dolly = r#"{"instruction":"a","context":"","response":"b"}"#;
    let rows = [
        (
            Sharegpt,
            dolly,
            "f:1:1: `conversations`: the field is missing; found instruction, context, response",
            "kind = \"dolly\"",
        ),
        (Jsonl, dolly, "f:1:1: `prompt`: the field is missing", "kind = \"dolly\""),
        (
            Openassistant,
            r#"{"prompt":"a"}"#,
            "f:1:1: `prompt`: found the string \"a\"",
            "the first message of a tree",
        ),
        (
            Openassistant,
            r#"{"messages":[]}"#,
            "f:1:1: `message_id`: the field is missing",
            "kind = \"jsonl\"",
        ),
        (
            Dolly,
            r#"{"message_id":"a","role":"prompter"}"#,
            "f:1:1: `instruction`",
            "kind = \"openassistant\"",
        ),
        (
            Jsonl,
            r#"{"timestamp":1,"input_length":2,"output_length":3}"#,
            "f:1:1: `prompt`",
            "[load.prompts.trace] with kind = \"mooncake\"",
        ),
        (
            Dolly,
            "{\"instruction\":\"a\",\"response\":\"b\"}\n{\"instruction\":\"a\"}",
            "f:2:1: `response`: the field is missing; found instruction",
            "kind",
        ),
        (Jsonl, "{}", "f:1:1: `prompt`: the field is missing; found no field", "the right file"),
    ];
    for (kind, text, start, part) in rows {
        let error = error(kind, text);
        assert!(error.starts_with(start) && error.contains(part), "{error}");
    }
}

#[test]
fn what_a_format_does_not_send_is_counted_by_name() {
    let sharegpt = r#"{"id":"1","system":"s","tools":"[]","conversations":[{"from":"human","value":"a"},{"from":"gpt","value":"b"},{"from":"function_call","value":"c"},{"from":"observation","value":"d"}]}"#;
    let (entries, stats) = of_bytes(DatasetKind::Sharegpt, sharegpt.as_bytes()).unwrap();
    assert_eq!(stats.left_out, ["system", "tools"].map(|name| (name.to_owned(), 1)).into());
    assert_eq!((entries[0].sample.turns.len(), entries[0].sample.cut), (1, 2));
}

#[test]
fn a_wrong_type_names_field_found_and_expected() {
    use DatasetKind::{Dolly, Jsonl, Openassistant, Sharegpt};
    let rows = [
        (
            Dolly,
            r#"{"instruction":5,"response":""}"#,
            "f:1:1: `instruction`: found the number 5\n  expected: a string",
        ),
        (
            Sharegpt,
            r#"{"conversations":"a"}"#,
            "f:1:1: `conversations`: found the string \"a\"\n  expected: a list",
        ),
        (
            Sharegpt,
            r#"{"conversations":[{"from":"human","value":"a"},{"from":"gpt"}]}"#,
            "f:1:1: `conversations[2].value`: found nothing",
        ),
        (Sharegpt, r#"{"conversations":[7]}"#, "f:1:1: `conversations[1].from`: found nothing"),
        (Jsonl, r#"{"prompt":["a"]}"#, "f:1:1: `prompt`: found a list of 1\n  expected: a string"),
        (
            Jsonl,
            r#"{"prompt":"a","max_tokens":-1}"#,
            "f:1:1: `max_tokens`: found the number -1\n  expected: a whole number of tokens, 1 or more",
        ),
        (Jsonl, r#"{"prompt":"a","output_tokens":0}"#, "f:1:1: `output_tokens`: found the number 0"),
        (Jsonl, r#"{"prompt":"a","output_tokens":1.5}"#, "f:1:1: `output_tokens`: found the number 1.5"),
        (
            Jsonl,
            r#"{"prompt":"a","output_tokens":4294967296}"#,
            "f:1:1: `output_tokens`: found the number 4294967296",
        ),
        (Jsonl, r#"{"prompt":"a","response":{}}"#, "f:1:1: `response`: found an object of 0 fields"),
        (
            Jsonl,
            r#"{"messages":[{"role":"owner","content":"a"}]}"#,
            "f:1:1: `messages[1].role`: found the string \"owner\"\n  expected: one of system",
        ),
        (Jsonl, r#"{"turns":[{"text":"a"},{"image":"b"}]}"#, "f:1:1: `turns[2].text`: found nothing"),
        (Jsonl, r#"{"turns":[{"text":"a","delay":-1}]}"#, "f:1:1: `turns[1].delay`: found the number -1"),
        (
            Jsonl,
            r#"{"messages":[{"role":"user","content":3}]}"#,
            "f:1:1: `messages[1].content`: found the number 3",
        ),
        (
            Openassistant,
            r#"{"message_id":"a","text":"b","role":"owner"}"#,
            "f:1:1: `role`: found the role \"owner\"",
        ),
        (Openassistant, r#"{"prompt":{"role":"prompter"}}"#, "f:1:1: `prompt`: found an object of 1 fields"),
    ];
    for (kind, text, expected) in rows {
        assert!(error(kind, text).starts_with(expected), "{}", error(kind, text));
    }
}

const KINDS: [DatasetKind; 4] =
    [DatasetKind::Dolly, DatasetKind::Sharegpt, DatasetKind::Openassistant, DatasetKind::Jsonl];

/// JSON values of the shapes that the readers look into, with their field names.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        prop_oneof![
            Just("human"),
            Just("gpt"),
            Just("prompter"),
            Just("assistant"),
            Just("user"),
            Just(""),
            Just("text")
        ]
        .prop_map(Into::into),
    ];
    let name = prop_oneof![
        Just("prompt"),
        Just("text"),
        Just("messages"),
        Just("role"),
        Just("content"),
        Just("type"),
        Just("conversations"),
        Just("from"),
        Just("value"),
        Just("message_id"),
        Just("parent_id"),
        Just("rank"),
        Just("replies"),
        Just("instruction"),
        Just("response"),
        Just("max_tokens"),
        Just("deleted"),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            proptest::collection::vec((name.clone(), inner), 0..6).prop_map(|fields| {
                fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
            }),
        ]
    })
}

proptest! {
    /// Whatever a file holds, a reader gives prompts with words, or an error with its file.
    #[test]
    fn no_file_makes_a_reader_panic(values in proptest::collection::vec(value(), 0..5), cut in any::<proptest::sample::Index>()) {
        let text: String = values.iter().map(|value| format!("{value}\n")).collect();
        let bytes = &text.as_bytes()[..text.len() - cut.index(text.len() + 1) / 4];
        for kind in KINDS {
            match of_bytes(kind, bytes) {
                Ok((entries, stats)) => {
                    prop_assert_eq!(entries.len() as u64, stats.entries);
                    for turn in entries.iter().flat_map(|entry| &entry.sample.turns) {
                        prop_assert!(!turn.said.is_empty() || !turn.answer.is_empty());
                    }
                    prop_assert!(entries.iter().all(|entry| !entry.sample.turns.is_empty()));
                }
                Err(error) => prop_assert_eq!(error.origin, "f"),
            }
        }
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        for kind in KINDS {
            if let Err(error) = of_bytes(kind, &bytes) {
                prop_assert_eq!(error.origin, "f");
            }
        }
    }
}
