//! Recognises a chunk that differs from an earlier one of its stream in the text alone, without parsing it.
//!
//! Pure. When both ends of a payload are those of a chunk that was parsed, and what lies between is a JSON string without
//! escapes, parsing it would give that chunk with another text. Anything else is parsed.

use super::chunk::Chunk;
use super::words::Words;

/// Bytes around the text that are compared at most; longer chunks are parsed.
const MAX_FRAME_BYTES: usize = 4 << 10;

/// The frame of the last chunk with one text that was parsed.
#[derive(Debug, Default)]
pub(crate) struct Repeat {
    before: Vec<u8>,
    behind: Vec<u8>,
    choice: u64,
    is_output: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Repeated<'a> {
    /// Valid UTF-8.
    pub(crate) text: &'a [u8],
    pub(crate) words: Words,
    pub(crate) choice: u64,
    pub(crate) is_output: bool,
}

impl Repeat {
    /// Remembers the frame of `chunk`, which was parsed from `data`, if the text is all it holds.
    pub(crate) fn learn(&mut self, data: &[u8], chunk: &Chunk<'_>) {
        let Some((choice, text, is_output)) = chunk.only_text() else { return };
        // A borrowed text lies within the data; one that had escapes does not.
        let start = (text.as_ptr() as usize).wrapping_sub(data.as_ptr() as usize);
        let frame = data.get(..start).zip(data.get(start.saturating_add(text.len())..));
        let Some((before, behind)) = frame.filter(|(before, behind)| {
            before.ends_with(b"\"")
                && behind.starts_with(b"\"")
                && before.len() + behind.len() <= MAX_FRAME_BYTES
                // Only several lines of data have one inside.
                && !before.contains(&b'\n') && !behind.contains(&b'\n')
        }) else {
            return;
        };
        self.before.clear();
        self.before.extend_from_slice(before);
        self.behind.clear();
        self.behind.extend_from_slice(behind);
        self.choice = choice;
        self.is_output = is_output;
    }

    /// The text of `data`, when its frame is the known one.
    pub(crate) fn recognise<'a>(&self, data: &'a [u8]) -> Option<Repeated<'a>> {
        self.first(data).filter(|(_, rest)| rest.is_empty()).map(|(repeated, _)| repeated)
    }

    /// The text of the event that `stream` begins with, when it is a whole event in the known frame, and what follows it.
    pub(crate) fn next_event<'a>(&self, stream: &'a [u8]) -> Option<(Repeated<'a>, &'a [u8])> {
        let data = stream.strip_prefix(b"data:")?;
        let (repeated, rest) = self.first(data.strip_prefix(b" ").unwrap_or(data))?;
        let rest = rest.strip_prefix(b"\n\n").or_else(|| rest.strip_prefix(b"\r\n\r\n"))?;
        Some((repeated, rest))
    }

    /// The text at the start of `bytes`, when its frame is the known one, and what follows the frame.
    fn first<'a>(&self, bytes: &'a [u8]) -> Option<(Repeated<'a>, &'a [u8])> {
        if self.before.is_empty() {
            return None;
        }
        let rest = bytes.strip_prefix(self.before.as_slice())?;
        let (text, rest) = rest.split_at_checked(memchr::memchr2(b'"', b'\\', rest)?)?;
        let rest = rest.strip_prefix(self.behind.as_slice())?;
        let words = Words::of(text).filter(|words| !words.has_control)?;
        Some((Repeated { text, words, choice: self.choice, is_output: self.is_output }, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::chunk::{Payload, classify};
    use proptest::prelude::*;

    fn parsed(data: &str) -> Option<Chunk<'_>> {
        match classify(b"", data.as_bytes()) {
            Ok(Payload::Chunk(chunk)) => Some(chunk),
            _ => None,
        }
    }

    fn learned(data: &str) -> Repeat {
        let mut repeat = Repeat::default();
        repeat.learn(data.as_bytes(), &parsed(data).unwrap());
        repeat
    }

    #[test]
    fn only_the_text_may_differ() {
        let frame = |text: &str, more: &str| {
            format!(
                r#"{{"id":"c-1","choices":[{{"index":2,"delta":{{"content":"{text}"}},"finish_reason":null}}]{more}}}"#
            )
        };
        let repeat = learned(&frame(" a", ""));
        let known = |data: &str| {
            repeat
                .recognise(data.as_bytes())
                .map(|seen| (String::from_utf8_lossy(seen.text).into_owned(), seen.choice))
        };
        assert_eq!(known(&frame(" wörld", "")), Some((" wörld".to_owned(), 2)));
        for other in [
            frame("", ""),
            frame("a\\n", ""),
            frame(r#"x","role":"y"#, ""),
            frame(" a", r#","usage":null"#),
            frame(" a", "").replace("c-1", "c-2"),
            frame(" a", "").replace("null", "\"stop\""),
        ] {
            assert_eq!(known(&other), None, "{other}");
        }
        assert_eq!(repeat.recognise(&frame("\u{1}", "").into_bytes()), None);
        let mut broken = frame("ab", "").into_bytes();
        let at = broken.windows(2).position(|two| two == b"ab").unwrap();
        broken[at] = 0xff;
        assert_eq!(repeat.recognise(&broken), None);
    }

    #[test]
    fn chunks_with_more_than_a_text_give_no_frame() {
        for data in [
            r#"{"choices":[{"delta":{"content":"x"}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#,
            r#"{"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}"#,
            r#"{"choices":[{"delta":{"content":"x","reasoning":"y"}}]}"#,
            r#"{"choices":[{"delta":{"content":"x"}},{"index":1,"delta":{"content":"y"}}]}"#,
            r#"{"choices":[{"delta":{"content":"x\n"}}]}"#,
            r#"{"choices":[{"delta":{"content":""}}]}"#,
        ] {
            assert_eq!(learned(data).recognise(data.as_bytes()), None, "{data}");
        }
    }

    proptest! {
        #[test]
        fn recognised_chunks_equal_parsed_ones(
            first in "[ a-z]{1,8}",
            text in r#"[ -~é"\\]{0,8}"#,
            key in prop::sample::select(vec!["content", "reasoning", "reasoning_content"]),
            tail in prop::sample::select(vec!["", ",\"finish_reason\":null", ",\"logprobs\":null"]),
        ) {
            let data = |text: &str| format!(r#"{{"choices":[{{"index":0,"delta":{{"{key}":"{text}"}}{tail}}}]}}"#);
            let repeat = learned(&data(&first));
            let other = data(&text);
            if let Some(seen) = repeat.recognise(other.as_bytes()) {
                let chunk = parsed(&other).expect("it is a chunk");
                let text = std::str::from_utf8(seen.text).unwrap();
                prop_assert_eq!(chunk.only_text(), Some((seen.choice, text, seen.is_output)));
            }
            prop_assert!(repeat.recognise(data(&first).as_bytes()).is_some());
        }
    }
}
