//! Every format from a sample, what the plan applies, every mistake with its message.

use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

fn trace(kind: TraceKind, path: &str) -> Trace {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    Trace {
        kind,
        path: path.display().to_string(),
        speedup: 1.0,
        start_s: 0.0,
        block_size: None,
        max_isl: None,
        max_osl: None,
        share: None,
    }
}

fn fixture(kind: TraceKind, name: &str) -> Trace {
    trace(kind, &format!("tests/fixtures/prompts/{name}"))
}

/// Nanoseconds, prompt and output length.
fn lengths(replay: &Replay) -> Vec<(u128, u32, u32)> {
    replay.requests.iter().map(|request| (request.at.as_nanos(), request.isl, request.osl)).collect()
}

fn of_bytes(trace: &Trace, bytes: &[u8]) -> Result<Replay, InputError> {
    let opened = Opened::from_reader("f", Box::new(std::io::Cursor::new(bytes.to_vec())))?;
    load_opened(trace, opened, &|text| text.split_whitespace().count() as u32)
}

fn load(trace: &Trace) -> Result<Replay, InputError> {
    super::load(trace, &|_| 0)
}

fn error(kind: TraceKind, bytes: &[u8]) -> String {
    of_bytes(&fixture(kind, "none"), bytes).unwrap_err().to_string()
}

const SECOND: u128 = 1_000_000_000;

#[test]
fn mooncake_has_milliseconds_and_blocks() {
    let trace = fixture(TraceKind::Mooncake, "mooncake.jsonl");
    let replay = load(&trace).unwrap();
    let expected = [(0, 1100, 40), (3 * SECOND, 1024, 500), (3 * SECOND, 513, 1), (9 * SECOND, 700, 9)];
    assert_eq!(lengths(&replay), expected);
    let blocks: Vec<&[u64]> = replay.requests.iter().map(|request| &*request.blocks).collect();
    assert_eq!(blocks, [&[0, 1, 2][..], &[0, 1], &[0, 3], &[]]);
    assert_eq!(replay.stats, TraceStats { rows: 4, ..TraceStats::default() });
    assert_eq!(
        replay.notes,
        ["blocks of 512 tokens, as Mooncake's are, which fits every row: 3 of 4 rows have blocks"]
    );
}

#[test]
fn burstgpt_leaves_failures_out_and_is_sorted() {
    let replay = load(&fixture(TraceKind::Burstgpt, "burstgpt.csv")).unwrap();
    let expected = [(0, 472, 18), (40 * SECOND, 1087, 230), (41_500_000_000, 900, 77)];
    assert_eq!(lengths(&replay), expected);
    assert_eq!(replay.stats, TraceStats { rows: 4, without_tokens: 1, ..TraceStats::default() });
}

#[test]
fn burstgpt_columns_are_found_by_name() {
    let replay = load(&fixture(TraceKind::Burstgpt, "burstgpt-sessions.csv")).unwrap();
    assert_eq!(lengths(&replay), [(0, 472, 18), (40 * SECOND, 1087, 230)]);
}

#[test]
fn azure_writes_time_in_two_ways() {
    let replay = load(&fixture(TraceKind::Azure, "azure-2023.csv")).unwrap();
    assert_eq!(lengths(&replay), [(0, 374, 44), (4_314_579_000, 396, 109), (4_541_977_000, 879, 55)]);
    let replay = load(&fixture(TraceKind::Azure, "azure-2024.csv")).unwrap();
    assert_eq!(lengths(&replay), [(0, 2162, 5), (7_405_000, 2399, 6), (990_070_000, 76, 15)]);
}

#[test]
fn the_samples_of_the_documentation_are_read_whole() {
    let rows = [
        (TraceKind::Mooncake, "mooncake.jsonl", 4),
        (TraceKind::Burstgpt, "burstgpt.csv", 4),
        (TraceKind::Azure, "azure.csv", 3),
    ];
    for (kind, name, requests) in rows {
        let replay = load(&trace(kind, &format!("docs/examples/prompts/{name}"))).unwrap();
        assert_eq!(replay.requests.len(), requests, "{name}");
    }
}

#[test]
fn start_speedup_and_clipping_are_applied() {
    let mut trace = fixture(TraceKind::Mooncake, "mooncake.jsonl");
    trace.start_s = 3.0;
    trace.speedup = 1.5;
    trace.max_isl = Some(512);
    trace.max_osl = Some(100);
    let replay = load(&trace).unwrap();
    assert_eq!(lengths(&replay), [(0, 512, 100), (0, 512, 1), (4 * SECOND, 512, 9)]);
    assert_eq!(replay.requests[0].blocks, [0], "a cut prompt keeps the blocks it needs");
    assert_eq!(replay.requests[2].blocks, [0_u64; 0]);
    assert_eq!(replay.stats.before_start, 1);
}

#[test]
fn rows_at_one_instant_keep_their_order() {
    let rows = "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-01-01 00:00:02,9,1\n2024-01-01 00:00:01,7,1\n\
                2024-01-01 00:00:01,3,1\n2024-01-01 00:00:01,5,1\n";
    let replay = of_bytes(&fixture(TraceKind::Azure, "none"), rows.as_bytes()).unwrap();
    assert_eq!(lengths(&replay), [(0, 7, 1), (0, 3, 1), (0, 5, 1), (SECOND, 9, 1)]);
}

#[test]
fn a_start_behind_the_last_request_leaves_nothing() {
    let mut trace = fixture(TraceKind::Burstgpt, "burstgpt.csv");
    trace.start_s = 60.0;
    let error = load(&trace).unwrap_err().to_string();
    let expected = ": none of its 4 rows is left: 1 have no prompt or no output tokens, 3 come before the start\n  \
                    expected: at least one request\n  \
                    next: start = \"60 s\" is behind the last request; make it less";
    assert_eq!(error, format!("{}{expected}", trace.path));
    trace.start_s = f64::MAX;
    assert!(load(&trace).is_err());
}

#[test]
fn a_bad_line_of_mooncake_is_named() {
    let rows: [(&[u8], &str); 10] = [
        (b"", "f: the file is empty"),
        (b"\n\n", "f: the file is empty"),
        (b"timestamp,input_length\n1,2\n", "f:1:2: not JSON: expected ident"),
        (
            b"Timestamp,Model\n1,2\n",
            "f:1:1: not JSON: expected value\n  expected: a JSON object on each line\n  next: if it is a table",
        ),
        (
            b"{\"timestamp\":1,\"input_length\":2}",
            "f:1:1: `output_length`: the field is missing; found timestamp, input_length",
        ),
        (b"\n{\"output_length\":2}", "f:2:1: `input_length`: the field is missing"),
        (
            b"{\"timestamp\":-1,\"input_length\":2,\"output_length\":3}",
            "f:1:1: `timestamp`: found the number -1\n  expected: milliseconds",
        ),
        (
            b"{\"timestamp\":1,\"input_length\":2.5,\"output_length\":3}",
            "f:1:1: `input_length`: found the number 2.5",
        ),
        (
            b"{\"timestamp\":1,\"input_length\":2,\"output_length\":3,\"hash_ids\":[1,-2]}",
            "f:1:1: `hash_ids`: found a list of 2",
        ),
        (
            b"{\"timestamp\":1,\"input_length\":0,\"output_length\":3}",
            "none of its 1 rows is left: 1 have no prompt",
        ),
    ];
    for (bytes, expected) in rows {
        let error = error(TraceKind::Mooncake, bytes);
        assert!(error.contains(expected), "{error}");
    }
}

/// Rows of `(input_length, blocks)`.
fn with_blocks(rows: &[(u32, usize)]) -> String {
    let line = |(isl, blocks): &(u32, usize)| {
        let ids: Vec<usize> = (0..*blocks).collect();
        format!("{{\"timestamp\":0,\"input_length\":{isl},\"output_length\":1,\"hash_ids\":{ids:?}}}\n")
    };
    rows.iter().map(line).collect()
}

#[test]
fn the_size_of_a_block_is_read_given_or_told_by_the_rows() {
    let size = |block_size: Option<u32>, text: &str| {
        let trace = Trace { block_size, ..fixture(TraceKind::Mooncake, "none") };
        of_bytes(&trace, text.as_bytes()).map(|replay| replay.block_tokens).map_err(|error| error.to_string())
    };
    let rows = [
        (None, with_blocks(&[(384, 6); 3]), 64),
        (None, with_blocks(&[(1100, 3), (200, 1)]), 512),
        (None, with_blocks(&[(521, 33), (1000, 63)]), 16),
        (None, with_blocks(&[(1000, 20)]), 50),
        (None, with_blocks(&[(1000, 10), (2000, 20), (99, 1)]), 100),
        (None, format!("{{\"block_size\":64}}\n{}", with_blocks(&[(384, 6)])), 64),
        (None, format!("{{\"metadata\":{{\"block_size\":128}}}}\n{}", with_blocks(&[(384, 3)])), 128),
        (None, with_blocks(&[(70, 1)]).replace("}", ",\"block_size\":70}"), 70),
        (Some(64), with_blocks(&[(384, 6), (400, 6), (400, 7)]), 64),
    ];
    for (given, text, expected) in rows {
        assert_eq!(size(given, &text), Ok(expected), "{text}");
    }
}

#[test]
fn blocks_that_do_not_fit_their_prompt_are_an_error_with_the_arithmetic() {
    let rows = [
        (
            None,
            with_blocks(&[(1100, 3), (384, 6)]),
            "f:2:1: `hash_ids`: 6 blocks of 512 tokens are 3072 tokens, and input_length is 384, which has 1 such blocks\n",
        ),
        (
            None,
            with_blocks(&[(1100, 3), (384, 6)]),
            "next: blocks of 64 to 76 tokens would fit this row: block_size",
        ),
        (
            Some(128),
            with_blocks(&[(384, 3), (384, 6)]),
            "f:2:1: `hash_ids`: 6 blocks of 128 tokens are 768 tokens",
        ),
        (Some(128), with_blocks(&[(384, 2)]), "which has 3 such blocks"),
        (None, with_blocks(&[(3, 5)]), "no number of tokens in a block fits this row"),
        (
            None,
            with_blocks(&[(64, 1)]).replace("}", ",\"block_size\":0}"),
            "`block_size`: found the number 0",
        ),
        (
            None,
            ["{\"block_size\":64}\n{\"block_size\":32}\n", &with_blocks(&[(64, 1)])].concat(),
            "f:2:1: `block_size`: found the number 32\n  expected: 64, as before",
        ),
    ];
    for (block_size, text, expected) in rows {
        let trace = Trace { block_size, path: "f".into(), ..fixture(TraceKind::Mooncake, "none") };
        let error = of_bytes(&trace, text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn sessions_delays_and_fields_that_a_trace_does_not_send_are_refused_or_counted() {
    let row = |fields: &str| format!("{{\"input_length\":9,\"output_length\":1{fields}}}\n");
    let alone = [
        row(",\"session_id\":\"a\",\"delay\":0"),
        row(",\"session_id\":\"b\",\"delay\":null,\"type\":\"x\""),
    ]
    .concat();
    let replay = of_bytes(&fixture(TraceKind::Mooncake, "none"), alone.as_bytes()).unwrap();
    assert_eq!(replay.notes, ["the field type of 1 rows is not used"]);
    let again = [row(",\"session_id\":\"a\""), row(",\"session_id\":\"a\"")].concat();
    let rows = [
        (again, "f:2:1: `session_id`: found \"a\" again: turns of a session wait for one another"),
        (row(",\"delay\":500"), "f:1:1: `delay`: found the number 500: a wait after another answer"),
        (row(",\"messages\":[]"), "f:1:1: `messages`: the field is not sent with a trace"),
        (row(",\"extra\":{}"), "load.extra_body"),
        (row(",\"chat_id\":1,\"parent_chat_id\":-1"), "block_size = 16"),
    ];
    for (text, expected) in rows {
        let error = error(TraceKind::Mooncake, text.as_bytes());
        assert!(error.contains(expected), "{error}");
    }
    let sessions =
        "Timestamp,Session ID,Request tokens,Response tokens\n1,7,2,3\n2,7,2,3\n3,8,2,3\n4,,2,3\n5,,2,3\n";
    let error = error(TraceKind::Burstgpt, sessions.as_bytes());
    assert!(error.contains(":3:1: `Session ID`: found 7 again"), "{error}");
    let alone = sessions.replace("2,7,", "2,9,");
    assert_eq!(of_bytes(&fixture(TraceKind::Burstgpt, "none"), alone.as_bytes()).unwrap().requests.len(), 5);
}

#[test]
fn a_trace_may_have_the_words_themselves() {
    let text = "{\"timestamp\":5,\"text_input\":\"three plain words\",\"output_length\":4}\n";
    let trace = fixture(TraceKind::Mooncake, "none");
    let replay = of_bytes(&trace, text.as_bytes()).unwrap();
    assert_eq!((replay.requests[0].isl, replay.requests[0].text.as_deref()), (3, Some("three plain words")));
    let cut = of_bytes(&Trace { max_isl: Some(2), ..trace }, text.as_bytes()).unwrap_err().to_string();
    assert!(cut.contains("`text_input`: found a text of 3 tokens, more than max_isl = 2"), "{cut}");
    let both = text.replace("\"timestamp\":5", "\"input_length\":5");
    assert!(error(TraceKind::Mooncake, both.as_bytes()).contains("found beside input_length or hash_ids"));
}

#[test]
fn a_bad_line_of_a_table_is_named() {
    const AZURE: &str = "TIMESTAMP,ContextTokens,GeneratedTokens\n";
    const BURSTGPT: &str = "Timestamp,Request tokens,Response tokens\n";
    let rows = [
        (TraceKind::Azure, "\n \n".to_owned(), "f: the file is empty"),
        (TraceKind::Azure, AZURE.to_owned(), "f: the table has a header and no rows"),
        (
            TraceKind::Azure,
            format!("{AZURE}\r\n\n2024-01-01 00:00:00,12\n"),
            "f:4:1: `GeneratedTokens`: the line has 2 columns",
        ),
        (
            TraceKind::Azure,
            format!("{AZURE}2024-01-01 00:00:00,1,1\n2024-13-01 00:00:00,1,1\n"),
            "f:3:1: `TIMESTAMP`: found `2024-13-01 00:00:00`\n  expected: a time such as",
        ),
        (
            TraceKind::Azure,
            format!("{AZURE}2024-01-01 00:00:00,1,-1\n"),
            "f:2:1: `GeneratedTokens`: found `-1`\n  expected: a whole number of tokens",
        ),
        (
            TraceKind::Azure,
            BURSTGPT.to_owned(),
            "f:1:1: `ContextTokens`: the column is missing; found Timestamp, Request tokens, Response tokens",
        ),
        (
            TraceKind::Azure,
            BURSTGPT.to_owned(),
            "next: the columns look like another format: kind = \"burstgpt\"",
        ),
        (
            TraceKind::Burstgpt,
            AZURE.to_owned(),
            "next: the columns look like another format: kind = \"azure\"",
        ),
        (
            TraceKind::Burstgpt,
            "{\"timestamp\":1}\n".to_owned(),
            "next: the line looks like JSON: kind = \"mooncake\"",
        ),
        (
            TraceKind::Burstgpt,
            "5,ChatGPT,472,18,490,log\n".to_owned(),
            "whether its first line is the header",
        ),
        (
            TraceKind::Burstgpt,
            format!("{BURSTGPT}inf,1,1\n"),
            "f:2:1: `Timestamp`: found `inf`\n  expected: seconds, 0 or more",
        ),
        (
            TraceKind::Burstgpt,
            format!("{BURSTGPT}\"1\",\"2,3\n1,x,3\n"),
            "f:3:1: `Request tokens`: found `x`",
        ),
        (
            TraceKind::Burstgpt,
            format!("{BURSTGPT}1,{},3", "0".repeat(1 << 20)),
            "f:2:1: a line from here on is longer than 1 MiB",
        ),
    ];
    for (kind, text, expected) in rows {
        let error = error(kind, text.as_bytes());
        assert!(error.contains(expected), "{error}");
    }
    let error = error(TraceKind::Burstgpt, b"Timestamp,Request tokens,Response tokens\n1,2,3\n1,\xff,3\n");
    assert!(error.starts_with("f:3:1: not UTF-8"), "{error}");
}

#[test]
fn marks_line_ends_and_blank_lines_are_accepted() {
    let text = "\u{feff}\r\nTimestamp,Request tokens,Response tokens\r\n\r\n1,2,3\r\n \n4,5,6";
    let replay = of_bytes(&fixture(TraceKind::Burstgpt, "none"), text.as_bytes()).unwrap();
    assert_eq!(lengths(&replay), [(0, 2, 3), (3 * SECOND, 5, 6)]);
}

const KINDS: [TraceKind; 3] = [TraceKind::Mooncake, TraceKind::Burstgpt, TraceKind::Azure];

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        for kind in KINDS {
            if let Err(error) = of_bytes(&fixture(kind, "none"), &bytes) {
                prop_assert!(error.origin == "f" || error.problem.contains("is left"), "{error}");
            }
        }
    }

    /// Whatever is replayed begins at 0, ascends, has lengths within bounds and blocks that fit or none.
    #[test]
    fn a_replay_keeps_its_promises(
        rows in proptest::collection::vec((any::<u32>(), 0..3000_u32, 0..50_u32, 0..8_usize), 1..30),
        speedup in 0.001..1000.0_f64, start_s in 0.0..1e6_f64, most in 1..2000_u32,
    ) {
        let text: String = rows.iter().map(|(at, isl, osl, blocks)| {
            let blocks: Vec<usize> = (0..*blocks).collect();
            format!("{{\"timestamp\":{at},\"input_length\":{isl},\"output_length\":{osl},\"hash_ids\":{blocks:?}}}\n")
        }).collect();
        let trace = Trace { speedup, start_s, max_isl: Some(most), ..fixture(TraceKind::Mooncake, "none") };
        if let Ok(replay) = of_bytes(&trace, text.as_bytes()) {
            prop_assert_eq!(replay.requests[0].at, Duration::ZERO);
            prop_assert!(replay.requests.is_sorted_by_key(|request| request.at));
            for request in &replay.requests {
                prop_assert!((1..=most).contains(&request.isl) && request.osl > 0);
                prop_assert!(request.blocks.len() as u32 <= request.isl.div_ceil(replay.block_tokens));
            }
            let left_out = replay.stats.without_tokens + replay.stats.before_start;
            prop_assert_eq!(replay.requests.len() as u64 + left_out, rows.len() as u64);
        }
    }

    #[test]
    fn no_table_makes_a_reader_panic(text in "(TIMESTAMP,ContextTokens,GeneratedTokens\n)?([0-9:, \\.\r\n\"+e-]{0,30}\n){0,4}") {
        for kind in KINDS {
            let _ = of_bytes(&fixture(kind, "none"), text.as_bytes());
        }
    }
}
