//! Server-sent events, parsed incrementally from bytes as they arrive.
//!
//! Pure. Follows the WHATWG HTML standard §9.2.6 (`https://html.spec.whatwg.org/multipage/server-sent-events.html`), with these
//! tolerances: [`Parser::finish`] also gives a last event that no blank line closed; where JSON ends and begins anew on the next
//! `data` line, each such line is an event; `error: …` is an event of that name, and a bare line of JSON is one without a name.
//! Events borrow from the buffer.

/// Longest event that is accepted, bytes. Longer ones are malformed, so that a hostile server cannot fill memory.
pub const MAX_EVENT_BYTES: usize = 16 << 20;

/// Consumed bytes that may stay at the front of the buffer before the rest is moved down.
const SLACK_BYTES: usize = 4 << 10;

/// One event with at least one `data` line.
#[derive(Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Value of the last `event` line; empty when there was none.
    pub name: &'a [u8],
    /// The `data` lines, joined by LF.
    pub data: &'a [u8],
}

/// An event grew beyond the limit; the stream cannot be read any further.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than {limit} bytes")]
pub struct TooLong {
    limit: usize,
}

/// The parser of one stream. It holds at most one event, one read and some KiB.
#[derive(Debug, Default)]
pub struct Parser {
    /// Longest event, bytes; [`MAX_EVENT_BYTES`] when it is not set.
    limit: Option<usize>,
    buffer: Vec<u8>,
    /// Start of the line that is being read.
    line: usize,
    /// Bytes before this position were searched for a line end.
    scanned: usize,
    /// The previous line ended with CR: a LF that follows belongs to it.
    after_cr: bool,
    /// The first line was seen (a byte order mark may only precede it).
    started: bool,
    name: Vec<u8>,
    /// Where its data is in the buffer.
    data: Option<(usize, usize)>,
    /// The event was handed out: forget its name before the next line.
    dispatched: bool,
    /// No blank line closes an event.
    lines_are_events: bool,
    /// The beginning of the lines so far that are no field of the protocol.
    strange: Vec<u8>,
}

/// Bytes of strange lines that are kept.
const STRANGE_BYTES: usize = 2 << 10;

/// Whether a body begins like a stream of events.
pub fn begins(body: &[u8]) -> bool {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body).trim_ascii_start();
    ["data:", "event:", "id:", "retry:", ":"].iter().any(|field| body.starts_with(field.as_bytes()))
}

impl Parser {
    /// Adds bytes. Take events with [`Parser::next_event`] until it gives `None` before adding more.
    pub fn push(&mut self, bytes: &[u8]) {
        let keep = self.first_needed();
        if keep == self.buffer.len() || keep > SLACK_BYTES {
            self.buffer.drain(..keep);
            self.line -= keep;
            self.scanned -= keep;
            self.data = self.data.map(|(start, end)| (start - keep, end - keep));
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete event, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`TooLong`]: the stream is unusable from here on.
    pub fn next_event(&mut self) -> Result<Option<Event<'_>>, TooLong> {
        while let Some(end) = self.line_end() {
            let start = self.line;
            if self.begins_anew(start, end) {
                self.lines_are_events = true;
                (self.scanned, self.after_cr) = (start, false);
                return Ok(self.dispatch());
            }
            self.line = self.scanned;
            if self.take_line(start, end) {
                return Ok(self.dispatch());
            }
        }
        let limit = self.limit.unwrap_or(MAX_EVENT_BYTES);
        if self.buffer.len() - self.first_needed() > limit { Err(TooLong { limit }) } else { Ok(None) }
    }

    /// Whether the next byte begins an event: it may be read without this parser up to the end of an event.
    pub fn is_between_events(&self) -> bool {
        let is_empty = self.line == self.buffer.len() && self.data.is_none() && !self.after_cr;
        is_empty && self.started && (self.dispatched || self.name.is_empty())
    }

    /// The stream has ended: the last event, if no blank line closed it.
    pub fn finish(&mut self) -> Option<Event<'_>> {
        let (start, end) = (self.line, self.buffer.len());
        self.line = end;
        self.scanned = end;
        if start < end {
            self.take_line(start, end);
        }
        self.dispatch()
    }

    /// The beginning of the lines so far that are no field of the protocol: a body that is not SSE at all has some and no event.
    pub fn strange(&self) -> &[u8] {
        &self.strange
    }

    /// Whether the data so far is complete and the line is the data of another event. Inside JSON no `{` or `[` follows a `}`.
    fn begins_anew(&self, start: usize, end: usize) -> bool {
        let ends = |data: &[u8]| data.ends_with(b"}") || data.ends_with(b"[DONE]");
        let begins = |data: &[u8]| data.starts_with(b"{") || data.starts_with(b"[DONE]");
        let Some(line) = self.buffer.get(start..end).and_then(|line| line.strip_prefix(b"data:")) else {
            return false;
        };
        let so_far = self.data.and_then(|(start, end)| self.buffer.get(start..end));
        so_far.is_some_and(|data| ends(data.trim_ascii_end())) && begins(line.trim_ascii_start())
    }

    /// Lowest position of the buffer that is still needed.
    fn first_needed(&self) -> usize {
        self.data.map_or(self.line, |(start, _)| start)
    }

    /// Position of the terminator of the line that begins at `self.line`, when it is complete.
    fn line_end(&mut self) -> Option<usize> {
        if self.after_cr && self.scanned < self.buffer.len() {
            self.after_cr = false;
            if self.buffer.get(self.scanned) == Some(&b'\n') {
                self.scanned += 1;
                self.line = self.scanned;
            }
        }
        let rest = self.buffer.get(self.scanned..)?;
        let offset = match rest.first() {
            // The blank line behind an event.
            Some(b'\n' | b'\r') => Some(0),
            _ => memchr::memchr2(b'\n', b'\r', rest),
        };
        let Some(offset) = offset else {
            self.scanned = self.buffer.len();
            return None;
        };
        let end = self.scanned + offset;
        self.after_cr = rest.get(offset) == Some(&b'\r');
        self.scanned = end + 1;
        Some(end)
    }

    /// Takes in one line; true when it closes an event that has data.
    fn take_line(&mut self, mut start: usize, end: usize) -> bool {
        if std::mem::take(&mut self.dispatched) {
            self.name.clear();
        }
        if !self.started {
            self.started = true;
            if self.buffer.get(start..end).is_some_and(|line| line.starts_with(b"\xEF\xBB\xBF")) {
                start += 3;
            }
        }
        let line = self.buffer.get(start..end).unwrap_or_default();
        if line.is_empty() {
            // The standard: an event without data is dropped, its name with it. An error is one all the same.
            self.dispatched = true;
            if self.name.eq_ignore_ascii_case(b"error") {
                self.data.get_or_insert((start, start));
            }
            return self.data.is_some();
        }
        let colon = if line.starts_with(b"data:") { Some(4) } else { memchr::memchr(b':', line) };
        let field = line.get(..colon.unwrap_or(line.len())).unwrap_or_default();
        let value = match colon {
            Some(at) if line.get(at + 1) == Some(&b' ') => start + at + 2,
            Some(at) => start + at + 1,
            None => end,
        };
        match field {
            b"data" => {
                self.append_data(value, end);
                return self.lines_are_events;
            }
            b"error" => {
                self.name = b"error".to_vec();
                self.append_data(value, end);
                return self.lines_are_events;
            }
            b"event" => {
                self.name.clear();
                self.name.extend_from_slice(self.buffer.get(value..end).unwrap_or_default());
            }
            b"" | b"id" | b"retry" => {}
            _ if self.data.is_none() && line.starts_with(b"{\"") && line.trim_ascii_end().ends_with(b"}") => {
                self.data = Some((start, end));
                return true;
            }
            _ => {
                let room = STRANGE_BYTES.saturating_sub(self.strange.len());
                self.strange.extend_from_slice(line.get(..room).unwrap_or(line));
                self.strange.push(b'\n');
            }
        }
        false
    }

    /// Adds the bytes `value..end` to the data of the event, moving them down next to what is there.
    fn append_data(&mut self, value: usize, end: usize) {
        let Some((start, tail)) = self.data else {
            self.data = Some((value, end));
            return;
        };
        // The terminator of the earlier line and this line's `data:` lie between: there is room for the joining LF.
        if let Some(byte) = self.buffer.get_mut(tail) {
            *byte = b'\n';
        }
        self.buffer.copy_within(value..end, tail + 1);
        self.data = Some((start, tail + 1 + end - value));
    }

    fn dispatch(&mut self) -> Option<Event<'_>> {
        let (start, end) = self.data.take()?;
        self.dispatched = true;
        Some(Event { name: &self.name, data: self.buffer.get(start..end).unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Owned = (String, String);

    fn drain(parser: &mut Parser, into: &mut Vec<Owned>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        while let Some(event) = parser.next_event().unwrap() {
            into.push((text(event.name), text(event.data)));
        }
    }

    fn events(reads: &[&[u8]]) -> Vec<Owned> {
        let mut parser = Parser::default();
        let mut seen = Vec::new();
        for read in reads {
            parser.push(read);
            drain(&mut parser, &mut seen);
        }
        if let Some(event) = parser.finish() {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            seen.push((text(event.name), text(event.data)));
        }
        seen
    }

    fn named(name: &str, data: &str) -> Owned {
        (name.to_owned(), data.to_owned())
    }

    #[test]
    fn streams_and_their_events() {
        type Row<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)]);
        let table: &[Row<'_>] = &[
            (&[""], &[]),
            (&["data: a\n\n"], &[("", "a")]),
            (&["data:a\n\ndata:  b\n\n"], &[("", "a"), ("", " b")]),
            (&["data: a\r\n\r\ndata: b\r\n\r\n"], &[("", "a"), ("", "b")]),
            (&["data: a\r\rdata: b\r\r"], &[("", "a"), ("", "b")]),
            (&["data: a\r", "\n\r", "\ndata: b\r\n\r\n"], &[("", "a"), ("", "b")]),
            (&["data: one\ndata: two\ndata\ndata: four\n\n"], &[("", "one\ntwo\n\nfour")]),
            (&["event: error\ndata: x\n\ndata: y\n\n"], &[("error", "x"), ("", "y")]),
            (&["data: x\nevent: late\ndata: y\n\n"], &[("late", "x\ny")]),
            (&["event: request_id\n: \"c3bb\"\n\ndata: x\n\n"], &[("", "x")]),
            (&[": keep-alive\n\n:\n\n:\ndata: x\n\n"], &[("", "x")]),
            (&["id: 7\nretry: 10\nfoo: bar\nbaz\ndata: x\n\n"], &[("", "x")]),
            (&["\u{feff}data: x\n\n"], &[("", "x")]),
            (&["data:\n\n"], &[("", "")]),
            (&["\n\n\ndata: x\n\n\n\n"], &[("", "x")]),
            (&["da", "ta: [DO", "NE]\n"], &[("", "[DONE]")]),
            (&["data: [DONE]"], &[("", "[DONE]")]),
        ];
        for (reads, expected) in table {
            let reads: Vec<&[u8]> = reads.iter().map(|read| read.as_bytes()).collect();
            let expected: Vec<Owned> = expected.iter().map(|(name, data)| named(name, data)).collect();
            assert_eq!(events(&reads), expected, "{reads:?}");
        }
    }

    #[test]
    fn lines_of_json_without_blank_lines_are_events() {
        let stream = "data: {\"a\":1}\ndata: {\"b\":\ndata: 2}\ndata: {\"c\":3}\r\ndata: [DONE]\n";
        // After the first two, every line is an event at once, so that its time is that of its arrival.
        let expected = ["{\"a\":1}", "{\"b\":", "2}", "{\"c\":3}", "[DONE]"].map(|data| named("", data));
        for size in [1, 7, 1000] {
            let reads: Vec<&[u8]> = stream.as_bytes().chunks(size).collect();
            assert_eq!(events(&reads), expected, "{size}");
        }
        // One object over several lines is one event.
        assert_eq!(
            events(&[b"data: {\"a\":\ndata: {\"b\":1},\ndata: \"c\":2}\n\n"]),
            [named("", "{\"a\":\n{\"b\":1},\n\"c\":2}")]
        );
    }

    #[test]
    fn an_error_may_come_as_a_field_or_as_a_bare_line() {
        assert_eq!(
            events(&[b"data: {}\n\nerror: boom\n\n{\"error\":\"x\"}\n\ndata: y\n\n"]),
            [named("", "{}"), named("error", "boom"), named("", "{\"error\":\"x\"}"), named("", "y")]
        );
    }

    #[test]
    fn an_error_needs_no_data() {
        let mut parser = Parser::default();
        parser.push(b"event: x\n\nevent: error\n\n\ndata: a\n\n");
        let mut events = Vec::new();
        drain(&mut parser, &mut events);
        assert_eq!(events, [("error".to_owned(), String::new()), (String::new(), "a".to_owned())]);
    }

    #[test]
    fn strange_lines_are_kept() {
        let mut parser = Parser::default();
        parser.push(b": one\n:\n<html>\n<p>no: events</p>\n\n");
        assert_eq!(parser.next_event(), Ok(None));
        assert_eq!(parser.strange(), b"<html>\n<p>no: events</p>\n");
    }

    #[test]
    fn an_endless_line_is_refused_and_memory_stays_bounded() {
        let mut parser = Parser::default();
        parser.push(b"data: ");
        let block = vec![b'x'; 1 << 20];
        for _ in 0..15 {
            parser.push(&block);
            assert_eq!(parser.next_event(), Ok(None));
        }
        parser.push(&block);
        parser.push(&block);
        assert_eq!(parser.next_event(), Err(TooLong { limit: MAX_EVENT_BYTES }));
    }

    #[test]
    fn the_buffer_does_not_grow_with_the_stream() {
        let mut parser = Parser::default();
        let mut seen = Vec::new();
        // The cut lies inside an event, so that the buffer is never empty between two reads.
        for _ in 0..10_000 {
            parser.push(b"x\n\ndata: 0123456789\n\ndata: y");
            drain(&mut parser, &mut seen);
        }
        assert!(parser.buffer.capacity() <= 4 * SLACK_BYTES);
        assert_eq!(seen.len(), 19_999);
    }

    /// The standard's own words, step by step, on a whole stream; a last event that no blank line closed counts too.
    fn by_the_standard(stream: &str) -> Vec<Owned> {
        let stream =
            stream.strip_prefix('\u{feff}').unwrap_or(stream).replace("\r\n", "\n").replace('\r', "\n");
        let (mut name, mut data) = (String::new(), None::<String>);
        let mut events = Vec::new();
        for line in stream.split('\n').chain([""]) {
            if line.is_empty() {
                let name = std::mem::take(&mut name);
                events.extend(data.take().map(|data| (name, data)));
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match (field, &mut data) {
                ("event", _) => name = value.to_owned(),
                ("data", None) => data = Some(value.to_owned()),
                ("data", Some(data)) => *data += &format!("\n{value}"),
                _ => {}
            }
        }
        events
    }

    fn line() -> impl Strategy<Value = String> {
        prop_oneof![
            Just(String::new()),
            "data: ?[a-zé日🙂:]{0,12}",
            "event: ?[a-z]{0,5}",
            ":[a-z ]{0,5}",
            "[a-z]{1,4}(: ?[a-z])?",
            Just("data".to_owned()),
        ]
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_events(
            mark in prop::sample::select(vec!["", "\u{feff}"]),
            lines in prop::collection::vec((line(), prop::sample::select(vec!["\n", "\r\n", "\r"])), 0..30),
            tail in line(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let lines = lines.iter().flat_map(|(line, end)| [line.as_str(), end]);
            let stream: String = [mark].into_iter().chain(lines).chain([tail.as_str()]).collect();
            let bytes = stream.as_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.sort_unstable();
            let mut reads = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([bytes.len()]) {
                reads.push(&bytes[from..cut]);
                from = cut;
            }
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            let whole = by_the_standard(&stream);
            prop_assert_eq!(&events(&[bytes]), &whole);
            prop_assert_eq!(&events(&reads), &whole);
            prop_assert_eq!(&events(&single), &whole);
        }

        #[test]
        fn no_bytes_make_it_panic(reads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..10)) {
            let reads: Vec<&[u8]> = reads.iter().map(Vec::as_slice).collect();
            events(&reads);
        }

        #[test]
        fn no_bytes_exceed_its_memory_limit(
            pieces in prop::collection::vec(
                prop_oneof![line().prop_map(String::into_bytes), Just(b"\n".to_vec()), prop::collection::vec(any::<u8>(), 0..40)],
                0..200,
            ),
            times in 1..100_usize,
        ) {
            let (limit, mut parser) = (256, Parser { limit: Some(256), ..Parser::default() });
            let longest = pieces.iter().map(Vec::len).max().unwrap_or(0);
            'stream: for piece in pieces.iter().cycle().take(times * pieces.len()) {
                parser.push(piece);
                prop_assert!(parser.buffer.len() <= SLACK_BYTES + limit + longest);
                loop {
                    match parser.next_event() {
                        Ok(Some(event)) => prop_assert!(event.data.len() <= limit + longest && event.name.len() <= limit + longest),
                        Ok(None) => break,
                        Err(error) => {
                            prop_assert_eq!(error, TooLong { limit });
                            break 'stream;
                        }
                    }
                }
            }
        }
    }
}
