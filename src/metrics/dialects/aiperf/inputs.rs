//! `inputs.json`: the body of every request, replayable with AIPerf's `--custom-dataset-type inputs_json`.

use serde::{Serialize, Serializer};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Writes `inputs.json` from `(session id, request body)` pairs: `session_id` gives the id that `profile_export.jsonl` refers to.
/// Indented by 2 and without a final newline, as AIPerf writes it; one session at a time is held in memory.
pub fn write_inputs<W: Write, B: Serialize>(
    out: W,
    sessions: impl Iterator<Item = (String, B)>,
) -> io::Result<()> {
    let sessions = sessions.map(|(session_id, body)| Session { session_id, payloads: [body] });
    Ok(serde_json::to_writer_pretty(out, &BTreeMap::from([("data", Sessions(Cell::new(Some(sessions))))]))?)
}

#[derive(Serialize)]
struct Session<B> {
    session_id: String,
    payloads: [B; 1],
}

/// A list that is written as it is made.
struct Sessions<I>(Cell<Option<I>>);

impl<I: Iterator<Item: Serialize>> Serialize for Sessions<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.take().into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn written(sessions: Vec<(String, Value)>) -> String {
        let mut out = Vec::new();
        write_inputs(&mut out, sessions.into_iter()).expect("write");
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
