//! `inputs.json`: the body of every request, replayable with AIPerf's `--custom-dataset-type inputs_json`.

use serde_json::{Value, json};
use std::io::{self, Write};

/// Writes `inputs.json` from `(session id, request body)` pairs: `session_id` gives the id that `profile_export.jsonl` refers to,
/// a body is compact JSON. Indented by 2 and without a final newline, as AIPerf writes it; one session at a time is held in
/// memory.
pub fn write_inputs<W: Write>(
    mut out: W,
    sessions: impl IntoIterator<Item = (String, Vec<u8>)>,
) -> io::Result<()> {
    out.write_all(b"{\n  \"data\": [")?;
    let mut separator = "";
    for (session_id, body) in sessions {
        let payload: Value = serde_json::from_slice(&body)?;
        let session =
            serde_json::to_string_pretty(&json!({"session_id": session_id, "payloads": [payload]}))?;
        // A string in JSON has no raw line end, so these are all between values.
        write!(out, "{separator}\n    {}", session.replace('\n', "\n    "))?;
        separator = ",";
    }
    out.write_all(if separator.is_empty() { b"]\n}" } else { b"\n  ]\n}" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(sessions: Vec<(String, Value)>) -> String {
        let mut out = Vec::new();
        let bodies = sessions.into_iter().map(|(id, payload)| (id, payload.to_string().into_bytes()));
        write_inputs(&mut out, bodies).expect("write");
        String::from_utf8(out).expect("utf-8")
    }

    #[test]
    fn is_what_a_pretty_printer_gives() {
        let payload = json!({"messages": [{"role": "user", "content": "a\nb \"c\\\""}, {}, [], [[1, -2.5e3], null]], "model": "m", "stream": true});
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
