//! `inputs.json`: the body of every request, replayable with AIPerf's `--custom-dataset-type inputs_json`.

use std::io::{self, Write};

/// Writes `inputs.json` from `(session id, request body)` pairs: `session_id` gives the id that `profile_export.jsonl` refers to,
/// a body is compact JSON. Indented by 2 and without a final newline, as AIPerf writes it; one session at a time is held in
/// memory.
pub fn write_inputs<W: Write>(
    mut out: W,
    sessions: impl IntoIterator<Item = (String, Vec<u8>)>,
) -> io::Result<()> {
    out.write_all(b"{\n  \"data\": [")?;
    let mut separator = "\n";
    let mut text = Vec::new();
    for (session_id, payload) in sessions {
        text.clear();
        indent(&payload, 4, &mut text);
        write!(
            out,
            "{separator}    {{\n      \"session_id\": \"{session_id}\",\n      \"payloads\": [\n        "
        )?;
        out.write_all(&text)?;
        out.write_all(b"\n      ]\n    }")?;
        separator = ",\n";
    }
    out.write_all(if separator == "\n" { b"]\n}" } else { b"\n  ]\n}" })
}

/// Adds `compact` JSON to `out`, indented by 2, from `depth` levels on.
fn indent(compact: &[u8], mut depth: usize, out: &mut Vec<u8>) {
    let new_line = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.resize(out.len() + 2 * depth, b' ');
    };
    let mut rest = compact;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'"' => {
                let length = string_length(rest);
                out.push(b'"');
                out.extend_from_slice(rest.get(..length).unwrap_or(rest));
                rest = rest.get(length..).unwrap_or_default();
            }
            b'{' | b'[' if matches!(rest.first(), Some(b'}' | b']')) => {
                out.extend([*byte, *rest.first().unwrap_or(byte)]);
                rest = rest.get(1..).unwrap_or_default();
            }
            b'{' | b'[' => {
                depth += 1;
                out.push(*byte);
                new_line(out, depth);
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                new_line(out, depth);
                out.push(*byte);
            }
            b',' => {
                out.push(b',');
                new_line(out, depth);
            }
            b':' => out.extend(b": "),
            other => out.push(*other),
        }
    }
}

/// Bytes up to and with the quote that ends a string.
fn string_length(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(next) = memchr::memchr2(b'"', b'\\', bytes.get(at..).unwrap_or_default()) {
        let is_escape = bytes.get(at + next) == Some(&b'\\');
        at += next + if is_escape { 2 } else { 1 };
        if !is_escape {
            return at;
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

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
