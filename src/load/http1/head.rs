//! The head of an answer: status, the few headers that matter, and how its body is framed.
//!
//! Pure. Parsed by `httparse`, which hyper uses as well; read tolerantly where servers differ (folded headers, spaces
//! around names), strictly where a wrong guess would put one answer's bytes into another.

use super::framing::{Chunked, Framing};

const MAX_HEADERS: usize = 128;

/// Longest head that is accepted, with the interim ones before it, bytes.
const MAX_HEAD_BYTES: usize = 64 << 10;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// `Content-Encoding`, unless it is `identity`.
    pub(crate) encoding: Option<String>,
    pub(crate) framing: Framing,
    pub(crate) keep_alive: bool,
}

/// The first head in `bytes` that is not an interim one, and the position behind it; `None`: more bytes are needed.
pub(crate) fn first(bytes: &[u8]) -> Result<Option<(Head, usize)>, String> {
    let mut skipped = 0;
    loop {
        let found = parse(bytes.get(skipped..).unwrap_or_default())?;
        let end = found.as_ref().map_or(bytes.len(), |(_, length)| skipped + length);
        if end > MAX_HEAD_BYTES {
            return Err(format!("the head of the answer is longer than {MAX_HEAD_BYTES} bytes"));
        }
        match found {
            Some((Some(head), _)) => return Ok(Some((head, end))),
            Some((None, _)) => skipped = end,
            None => return Ok(None),
        }
    }
}

/// The head that `bytes` begin with and its length; no head for an interim answer (1xx), which the real one follows.
fn parse(bytes: &[u8]) -> Result<Option<(Option<Head>, usize)>, String> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let mut config = httparse::ParserConfig::default();
    config
        .allow_multiple_spaces_in_response_status_delimiters(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_spaces_after_header_name_in_responses(true);
    let length = match config.parse_response(&mut response, bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(format!("this is no HTTP/1 answer: {error}")),
    };
    let status = response.code.unwrap_or_default();
    if (100..200).contains(&status) && status != 101 {
        return Ok(Some((None, length)));
    }
    let mut head = Head {
        status,
        encoding: None,
        framing: Framing::UntilClose,
        keep_alive: response.version == Some(1),
    };
    let (mut chunked, mut body_length) = (None, None);
    for header in response.headers.iter() {
        let value = String::from_utf8_lossy(header.value);
        let value = value.trim();
        let name = |name: &str| header.name.eq_ignore_ascii_case(name);
        if name("content-encoding") {
            head.encoding = (!value.eq_ignore_ascii_case("identity")).then(|| value.to_owned());
        } else if name("connection") {
            let says = |word: &str| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word));
            head.keep_alive = (head.keep_alive || says("keep-alive")) && !says("close");
        } else if name("content-length") {
            body_length = Some(agreed_length(body_length, value)?);
        } else if name("transfer-encoding") {
            chunked = Some(is_chunked(value)?);
        }
    }
    head.framing = match (chunked, body_length) {
        _ if status == 204 || status == 304 => Framing::Length(0),
        (Some(_), length) => {
            // RFC 9112 §6.3: chunked wins over a length, and such a connection is not to be trusted further.
            head.keep_alive &= length.is_none();
            Framing::Chunked(Chunked::default())
        }
        (None, Some(length)) => Framing::Length(length),
        (None, None) => {
            head.keep_alive = false;
            Framing::UntilClose
        }
    };
    Ok(Some((Some(head), length)))
}

/// Repeated lengths have to agree (RFC 9112 §6.3).
fn agreed_length(before: Option<u64>, value: &str) -> Result<u64, String> {
    let mut agreed = before;
    for part in value.split(',') {
        let length: u64 =
            part.trim().parse().map_err(|_| format!("Content-Length {value:?} is no number of bytes"))?;
        if agreed.is_some_and(|agreed| agreed != length) {
            return Err(format!("several lengths that differ, the last {value:?}"));
        }
        agreed = Some(length);
    }
    agreed.ok_or_else(|| "an empty Content-Length".to_owned())
}

fn is_chunked(value: &str) -> Result<(), String> {
    if value.eq_ignore_ascii_case("chunked") {
        return Ok(());
    }
    Err(format!("Transfer-Encoding {value:?} was not asked for and is not understood"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Head {
        match parse(text.as_bytes()) {
            Ok(Some((Some(head), length))) => {
                assert_eq!(length, text.len());
                head
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn framing_follows_the_headers() {
        let chunked = Framing::Chunked(Chunked::default());
        for (lines, framing, keep_alive) in [
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunked.clone(), true),
            ("HTTP/1.1 200\r\ncontent-length: 12\r\n\r\n", Framing::Length(12), true),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 3, 3\r\ncontent-length: 3\r\n\r\n",
                Framing::Length(3),
                true,
            ),
            ("HTTP/1.1 200 OK\r\nCONNECTION: Close\r\ncontent-length: 3\r\n\r\n", Framing::Length(3), false),
            ("HTTP/1.0 200 OK\r\n\r\n", Framing::UntilClose, false),
            (
                "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 1\r\n\r\n",
                Framing::Length(1),
                true,
            ),
            ("HTTP/1.1 529 <none>\r\ncontent-length: 0\r\n\r\n", Framing::Length(0), true),
            ("HTTP/1.1 204 No Content\r\n\r\n", Framing::Length(0), true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\n\r\n", chunked, false),
        ] {
            let head = head(lines);
            assert_eq!((head.framing, head.keep_alive), (framing, keep_alive), "{lines:?}");
        }
    }

    #[test]
    fn headers_are_read_tolerantly() {
        let head =
            head("HTTP/1.1  200  OK\r\nContent-Encoding :deflate,\r\n gzip\r\nconnection: close\r\n\r\n");
        let encoding: Vec<String> =
            head.encoding.iter().flat_map(|text| text.split_whitespace()).map(str::to_owned).collect();
        assert_eq!(encoding, ["deflate,", "gzip"]);
    }

    #[test]
    fn interim_answers_are_told_apart() {
        let text = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\n";
        assert_eq!(parse(text), Ok(Some((None, 37))));
        assert_eq!(parse(b"HTTP/1.1 100 Con"), Ok(None));
    }

    #[test]
    fn nonsense_is_named() {
        for (text, words) in [
            ("SSH-2.0-OpenSSH_9.2\r\n", "no HTTP/1 answer"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n", "differ"),
            ("HTTP/1.1 200 OK\r\ncontent-length: -3\r\n\r\n", "\"-3\""),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n", "gzip, chunked"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }
}
