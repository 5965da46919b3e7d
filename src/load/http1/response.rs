//! One answer on one connection, from its first byte to its last: head, then body.
//!
//! Pure: fed with stamped reads, it hands the head and the payload to a [`Sink`]. `connection` reads, `client` decides.

use std::time::Instant;

use super::framing::Framing;
use super::head;

pub trait Sink {
    /// The head is complete. `encoding`: the `Content-Encoding`, when there is one.
    fn head(&mut self, at: Instant, status: u16, encoding: Option<&str>);
    fn payload(&mut self, at: Instant, bytes: &[u8]);
}

#[derive(Debug)]
pub struct ResponseReader {
    state: State,
    keep_alive: bool,
}

#[derive(Debug)]
enum State {
    Head(Vec<u8>),
    Body(Framing),
}

impl Default for ResponseReader {
    fn default() -> Self {
        Self { state: State::Head(Vec::new()), keep_alive: false }
    }
}

impl ResponseReader {
    /// Takes in one read that was stamped `at` when it arrived.
    ///
    /// # Errors
    /// How the bytes break the protocol. Nothing more can be read from this connection.
    pub fn take(&mut self, at: Instant, bytes: &[u8], sink: &mut impl Sink) -> Result<(), String> {
        let mut rest = bytes;
        if let State::Head(before) = &mut self.state {
            let earlier = before.len();
            let whole: &[u8] = if before.is_empty() {
                bytes
            } else {
                before.extend_from_slice(bytes);
                before
            };
            let Some((head, length)) = head::first(whole)? else {
                if before.is_empty() {
                    before.extend_from_slice(bytes);
                }
                return Ok(());
            };
            rest = bytes.get(length.saturating_sub(earlier)..).unwrap_or_default();
            self.keep_alive = head.keep_alive;
            sink.head(at, head.status, head.encoding.as_deref());
            self.state = State::Body(head.framing);
        }
        let State::Body(framing) = &mut self.state else { return Ok(()) };
        let used =
            framing.decode(rest, |payload| sink.payload(at, payload)).map_err(|bad| bad.to_string())?;
        // Bytes after the end of the answer: it is complete, but the connection cannot be reused.
        self.keep_alive &= used == rest.len();
        Ok(())
    }

    pub(crate) fn has_head(&self) -> bool {
        matches!(self.state, State::Body(_))
    }

    pub fn complete(&self) -> bool {
        matches!(&self.state, State::Body(framing) if framing.complete())
    }

    pub(crate) fn reusable(&self) -> bool {
        self.keep_alive && self.complete()
    }

    /// The connection ended: what is missing, or `None` when nothing is.
    pub(crate) fn missing(&self) -> Option<String> {
        match &self.state {
            State::Head(bytes) if bytes.is_empty() => Some("the connection ended before the answer".into()),
            State::Head(_) => Some("the connection ended within the head of the answer".into()),
            State::Body(framing) => framing.missing(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Default, PartialEq, Eq)]
    struct Received {
        status: Option<u16>,
        payload: Vec<u8>,
    }

    impl Sink for Received {
        fn head(&mut self, _: Instant, status: u16, _: Option<&str>) {
            assert_eq!(self.status.replace(status), None);
        }

        fn payload(&mut self, _: Instant, bytes: &[u8]) {
            self.payload.extend_from_slice(bytes);
        }
    }

    fn read(pieces: &[&[u8]]) -> (Result<(), String>, ResponseReader, Received) {
        let (mut response, mut received) = (ResponseReader::default(), Received::default());
        let at = Instant::now();
        let result = pieces.iter().try_for_each(|piece| response.take(at, piece, &mut received));
        (result, response, received)
    }

    const ANSWER: &str = concat!(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n1;x\r\n!\r\n0\r\n\r\n"
    );

    proptest! {
        #[test]
        fn any_split_gives_the_same_answer(cuts in prop::collection::vec(0..=ANSWER.len(), 0..20)) {
            let mut cuts = cuts;
            cuts.extend([0, ANSWER.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &ANSWER.as_bytes()[pair[0]..pair[1]]).collect();
            let (result, response, received) = read(&pieces);
            prop_assert_eq!(result, Ok(()));
            prop_assert!(response.reusable());
            prop_assert_eq!(received, Received { status: Some(200), payload: b"hello!".to_vec() });
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>()) {
            let (front, back) = bytes.split_at(at.index(bytes.len() + 1));
            let _ = read(&[front, back]);
        }
    }

    #[test]
    fn bytes_behind_the_answer_spoil_the_connection_only() {
        let (result, response, received) =
            read(&[b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200"]);
        assert_eq!(result, Ok(()));
        assert!(response.complete() && !response.reusable());
        assert_eq!(received.payload, b"ok");
    }

    #[test]
    fn an_endless_head_is_refused() {
        let line = b"x-filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n";
        let mut pieces: Vec<&[u8]> = vec![b"HTTP/1.1 200 OK\r\n"];
        pieces.extend(vec![line.as_slice(); 1000]);
        assert!(read(&pieces).0.is_err());
    }

    #[test]
    fn an_early_end_is_named() {
        let missing = |text: &str| read(&[text.as_bytes()]).1.missing();
        assert!(missing("").unwrap().contains("before the answer"));
        assert!(missing("HTTP/1.1 200 OK\r\n").unwrap().contains("within the head"));
        assert!(missing("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab").unwrap().contains("3 bytes"));
        assert_eq!(missing("HTTP/1.0 200 OK\r\n\r\nab"), None);
    }
}
