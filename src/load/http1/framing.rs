//! Where the body of an answer ends: RFC 9112 §6 and §7.1, decoded incrementally without copying.
//!
//! Pure: bytes in, payload slices out. `response` feeds it.

/// Bytes of chunk extensions and trailers that are skipped at most, per answer.
const MAX_SKIPPED: u32 = 64 << 10;

/// How the end of a body is marked, and how much of it is still to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Framing {
    /// `Content-Length`: bytes still to come. Answers without a body have 0.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked(Chunked),
    UntilClose,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Chunked {
    at: At,
    skipped: u32,
}

/// What the next byte of a chunked body is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum At {
    /// First digit of a chunk size.
    #[default]
    Size,
    /// Later digits of the size so far, or what ends it.
    Digits(u64),
    /// The rest of the size line, of a chunk of this size.
    Extension(u64),
    SizeEnd(u64),
    /// Payload: bytes of the chunk still to come.
    Data(u64),
    DataCr,
    DataLf,
    /// First byte of a trailer line, or CR of the last line.
    Trailer,
    TrailerRest,
    LastLf,
    End,
}

/// The body breaks the rules of its framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadFraming {
    #[error("broken chunked encoding: byte 0x{0:02x} where a chunk size belongs")]
    Size(u8),
    #[error("broken chunked encoding: a chunk size of more than 64 bits")]
    TooLarge,
    #[error("broken chunked encoding: byte 0x{0:02x} where a line ends")]
    LineEnd(u8),
    #[error("broken chunked encoding: more than {MAX_SKIPPED} bytes of extensions and trailers")]
    Skipped,
}

impl Framing {
    pub(crate) fn complete(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunked) => chunked.at == At::End,
            Self::UntilClose => false,
        }
    }

    /// What is missing when the connection ends now; `None`: nothing.
    pub(crate) fn missing(&self) -> Option<String> {
        match self {
            Self::UntilClose | Self::Length(0) => None,
            Self::Length(left) => Some(format!("the connection ended {left} bytes before the body did")),
            Self::Chunked(Chunked { at: At::End, .. }) => None,
            Self::Chunked(Chunked { at: At::Data(left), .. }) => {
                Some(format!("the connection ended {left} bytes before the end of a chunk"))
            }
            Self::Chunked(_) => Some("the connection ended before the last chunk".into()),
        }
    }

    /// Takes in `bytes`, handing the payload in them to `take`; gives how many of them belong to this body.
    pub(crate) fn decode(&mut self, bytes: &[u8], mut take: impl FnMut(&[u8])) -> Result<usize, BadFraming> {
        match self {
            Self::UntilClose => {
                take(bytes);
                Ok(bytes.len())
            }
            Self::Length(left) => {
                let payload = front(bytes, *left);
                *left -= payload.len() as u64;
                if !payload.is_empty() {
                    take(payload);
                }
                Ok(payload.len())
            }
            Self::Chunked(chunked) => chunked.decode(bytes, take),
        }
    }
}

fn front(bytes: &[u8], most: u64) -> &[u8] {
    usize::try_from(most).ok().and_then(|most| bytes.get(..most)).unwrap_or(bytes)
}

impl Chunked {
    fn decode(&mut self, bytes: &[u8], mut take: impl FnMut(&[u8])) -> Result<usize, BadFraming> {
        let mut used = 0;
        while let Some(rest) = bytes.get(used..)
            && let Some(&byte) = rest.first()
            && self.at != At::End
        {
            if let At::Data(left) = self.at {
                let payload = front(rest, left);
                take(payload);
                used += payload.len();
                let left = left - payload.len() as u64;
                self.at = if left == 0 { At::DataCr } else { At::Data(left) };
                continue;
            }
            // Nearly every chunk is whole in one read, and nearly every line between two is bare.
            if self.at == At::Size
                && let Some((payload, length)) = whole_chunk(rest)
            {
                take(payload);
                used += length;
                continue;
            }
            let bare = match self.at {
                At::Size => bare_size_line(rest),
                At::DataCr if rest.starts_with(b"\r\n") => Some((At::Size, 2)),
                _ => None,
            };
            if let Some((at, length)) = bare {
                self.at = at;
                used += length;
                continue;
            }
            self.at = self.step(byte)?;
            used += 1;
        }
        Ok(used)
    }

    /// Where one byte outside the payload leads. Bare LF ends a line too, as RFC 9112 §2.2 allows a reader to accept.
    fn step(&mut self, byte: u8) -> Result<At, BadFraming> {
        Ok(match (self.at, byte) {
            (At::Size, _) => At::Digits(digit(byte).ok_or(BadFraming::Size(byte))?),
            (At::Digits(size) | At::Extension(size), b'\r') => At::SizeEnd(size),
            (At::Digits(size) | At::Extension(size) | At::SizeEnd(size), b'\n') => begins(size),
            (At::Digits(size), b';' | b' ' | b'\t') => At::Extension(size),
            (At::Digits(size), _) => {
                let digit = digit(byte).ok_or(BadFraming::Size(byte))?;
                At::Digits(size.checked_mul(16).ok_or(BadFraming::TooLarge)? | digit)
            }
            (At::Extension(size), _) => self.skip(At::Extension(size))?,
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataCr | At::DataLf, b'\n') => At::Size,
            (At::Trailer, b'\r') => At::LastLf,
            (At::Trailer | At::LastLf, b'\n') => At::End,
            (At::TrailerRest, b'\n') => At::Trailer,
            (At::Trailer | At::TrailerRest, _) => self.skip(At::TrailerRest)?,
            (At::SizeEnd(_) | At::DataCr | At::DataLf | At::LastLf, _) => {
                return Err(BadFraming::LineEnd(byte));
            }
            (At::Data(_) | At::End, _) => self.at,
        })
    }

    fn skip(&mut self, at: At) -> Result<At, BadFraming> {
        self.skipped += 1;
        if self.skipped > MAX_SKIPPED { Err(BadFraming::Skipped) } else { Ok(at) }
    }
}

fn begins(size: u64) -> At {
    if size == 0 { At::Trailer } else { At::Data(size) }
}

/// Where a size line without extensions leads, and its length; `None` when it has some, or is not whole.
fn bare_size_line(bytes: &[u8]) -> Option<(At, usize)> {
    let mut size = 0;
    for (index, byte) in bytes.iter().take(16).enumerate() {
        let Some(digit) = digit(*byte) else {
            let ends = index > 0 && bytes.get(index..index + 2) == Some(b"\r\n");
            return ends.then_some((begins(size), index + 2));
        };
        size = size * 16 + digit;
    }
    None
}

/// The payload of a chunk that is whole, with a bare size line, and the length of both.
fn whole_chunk(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (At::Data(size), line) = bare_size_line(bytes)? else { return None };
    let (payload, rest) = bytes.get(line..)?.split_at_checked(usize::try_from(size).ok()?)?;
    rest.starts_with(b"\r\n").then_some((payload, line + payload.len() + 2))
}

fn digit(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The payload, the bytes that belong to the body, and whether it is complete.
    fn read(framing: Framing, pieces: &[&[u8]]) -> Result<(Vec<u8>, usize, bool), BadFraming> {
        let (mut framing, mut payload, mut used) = (framing, Vec::new(), 0);
        for piece in pieces {
            used += framing.decode(piece, |bytes| payload.extend_from_slice(bytes))?;
        }
        Ok((payload, used, framing.complete()))
    }

    fn chunked() -> Framing {
        Framing::Chunked(Chunked::default())
    }

    #[test]
    fn a_body_ends_after_its_length() {
        assert_eq!(read(Framing::Length(3), &[b"ab", b"cd"]), Ok((b"abc".to_vec(), 3, true)));
        assert_eq!(read(Framing::Length(0), &[b"x"]), Ok((vec![], 0, true)));
        assert_eq!(read(Framing::Length(9), &[b"ab"]), Ok((b"ab".to_vec(), 2, false)));
        assert_eq!(read(Framing::UntilClose, &[b"ab"]), Ok((b"ab".to_vec(), 2, false)));
    }

    #[test]
    fn chunks_with_extensions_trailers_and_bare_line_feeds() {
        for (text, payload, rest) in [
            ("3\r\nabc\r\n0\r\n\r\n", "abc", ""),
            ("3;a=b\r\nabc\r\n2 \r\nde\r\n0;z\r\nx-sum: 1\r\ny: 2\r\n\r\nHTTP/1.1", "abcde", "HTTP/1.1"),
            ("00A\nabcdefghij\n0\n\n", "abcdefghij", ""),
            ("0\r\n\r\n", "", ""),
        ] {
            let expected = Ok((payload.as_bytes().to_vec(), text.len() - rest.len(), true));
            assert_eq!(read(chunked(), &[text.as_bytes()]), expected, "{text:?}");
        }
    }

    #[test]
    fn broken_chunks_are_named() {
        let error = |text: &[u8]| read(chunked(), &[text]).unwrap_err();
        assert_eq!(error(b"xyz\r\n"), BadFraming::Size(b'x'));
        assert_eq!(error(b"\r\n"), BadFraming::Size(b'\r'));
        assert_eq!(error(b"3\r\nabcd"), BadFraming::LineEnd(b'd'));
        assert_eq!(error(b"11112222333344445\r\n"), BadFraming::TooLarge);
        let long = [b"1;".as_slice(), &vec![b'x'; 100_000]].concat();
        assert_eq!(error(&long), BadFraming::Skipped);
    }

    #[test]
    fn missing_bytes_are_named() {
        let cut = |text: &[u8]| {
            let mut framing = chunked();
            framing.decode(text, |_| {}).unwrap();
            framing.missing().unwrap_or_default()
        };
        assert!(cut(b"5\r\nab").contains("3 bytes before the end of a chunk"));
        assert!(cut(b"5\r\nabcde\r\n").contains("before the last chunk"));
        assert_eq!(cut(b"0\r\n\r\n"), "");
        assert!(Framing::Length(7).missing().unwrap().contains("7 bytes"));
        assert_eq!(Framing::UntilClose.missing(), None);
    }

    proptest! {
        #[test]
        fn any_split_of_any_chunking_gives_the_payload(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend_from_slice(format!("{:X};e=1\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\nt: 1\r\n\r\n");
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
            cuts.extend([0, wire.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &wire[pair[0]..pair[1]]).collect();
            prop_assert_eq!(read(chunked(), &pieces), Ok((chunks.concat(), wire.len(), true)));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(chunked(), &[&bytes]);
        }
    }
}
