//! `inputs.json`: the body of every request, replayable with AIPerf's `--custom-dataset-type inputs_json`.

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::PrettyFormatter;
use std::io::{self, Write};

#[derive(Serialize)]
struct Session {
    session_id: String,
    payloads: [Value; 1],
}

/// Writes `inputs.json` from `(session id, request body)` pairs (`session_id` gives the id that `profile_export.jsonl`
/// refers to). Indented by 2 and without a final newline, as AIPerf writes it; one session at a time is held in memory.
pub fn write_inputs<W: Write>(
    mut out: W,
    sessions: impl IntoIterator<Item = (String, Value)>,
) -> io::Result<()> {
    out.write_all(b"{\n  \"data\": [")?;
    let mut separator = "\n";
    let mut text = Vec::new();
    for (session_id, payload) in sessions {
        text.clear();
        let mut serializer =
            serde_json::Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"  "));
        Session { session_id, payloads: [payload] }.serialize(&mut serializer)?;
        out.write_all(separator.as_bytes())?;
        // The session sits two levels deep. Strings hold no raw newline, so each line is one of the formatter's.
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            out.write_all(if index == 0 { b"    " } else { b"\n    " })?;
            out.write_all(line)?;
        }
        separator = ",\n";
    }
    out.write_all(if separator == "\n" { b"]\n}" } else { b"\n  ]\n}" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn written(sessions: Vec<(String, Value)>) -> String {
        let mut out = Vec::new();
        write_inputs(&mut out, sessions).expect("write");
        String::from_utf8(out).expect("utf-8")
    }

    #[test]
    fn is_what_a_pretty_printer_gives() {
        let payload =
            json!({"messages": [{"role": "user", "content": "a\nb \"c\""}], "model": "m", "stream": true});
        let sessions =
            vec![("session_000000".to_owned(), payload.clone()), ("session_000001".to_owned(), payload)];
        let whole: Vec<Value> =
            sessions.iter().map(|(id, p)| json!({"session_id": id, "payloads": [p]})).collect();
        assert_eq!(written(sessions), serde_json::to_string_pretty(&json!({"data": whole})).expect("json"));
    }

    #[test]
    fn no_session() {
        assert_eq!(written(vec![]), serde_json::to_string_pretty(&json!({"data": []})).expect("json"));
    }
}
