//! Opens a local file of prompts or of a trace, and names what is not text at all before anything is parsed.

use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::Path;
use std::rc::Rc;

use crate::document::InputError;

/// Bytes of one line, or of one element of a JSON array, at most.
pub(in crate::prompts) const LONGEST: usize = 64 << 20;

/// The start of a file that Git LFS has not fetched (<https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md>).
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1";

/// The byte-order mark of UTF-8.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// A file, read up to behind its byte-order mark.
pub(in crate::prompts) struct Opened {
    /// Its path as the user wrote it.
    pub(in crate::prompts) origin: Rc<str>,
    /// Its content.
    pub(in crate::prompts) reader: Box<dyn BufRead>,
}

impl Opened {
    /// Opens `path`. Fails on a missing or unreadable file, and on what [`Opened::from_reader`] refuses.
    pub(in crate::prompts) fn open(path: &Path) -> Result<Self, InputError> {
        let origin = path.display().to_string();
        let file = fs_err::File::open(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => InputError::new(&*origin, "there is no such file")
                .expected("a local file")
                .next("correct the path, or download the file to it first; nothing is downloaded by itself"),
            ErrorKind::PermissionDenied => InputError::new(&*origin, "cannot be read: permission denied")
                .expected("a readable file")
                .next("give yourself the right to read it"),
            _ => unreadable(&origin, &error),
        })?;
        if file.metadata().is_ok_and(|found| found.is_dir()) {
            return Err(InputError::new(origin, "is a folder")
                .expected("a file")
                .next("name the file in the folder"));
        }
        Self::from_reader(&origin, Box::new(BufReader::with_capacity(1 << 16, file)))
    }

    /// Skips a byte-order mark. Fails on anything but text: compressed files, Parquet, UTF-16, a pointer of Git LFS,
    /// a web page, nothing at all.
    pub(in crate::prompts) fn from_reader(
        origin: &str,
        mut reader: Box<dyn BufRead>,
    ) -> Result<Self, InputError> {
        let start = reader.fill_buf().map_err(|error| unreadable(origin, &error))?;
        if let Some(error) = not_text(origin, start) {
            return Err(error);
        }
        if start.starts_with(BOM) {
            reader.consume(BOM.len());
        }
        Ok(Self { origin: origin.into(), reader })
    }
}

/// The error of a file whose first bytes are those of something else.
fn not_text(origin: &str, start: &[u8]) -> Option<InputError> {
    let found = |problem: &str, next: &str| {
        Some(InputError::new(origin, problem).expected("a text file in UTF-8").next(next))
    };
    if start.is_empty() {
        return Some(empty(origin));
    }
    if start.starts_with(LFS_POINTER) {
        return found(
            "is a pointer of Git LFS, not the data it stands for",
            "run `git lfs pull` in the repository, or download the file itself",
        );
    }
    if start.starts_with(b"\x1f\x8b") {
        return found("is compressed with gzip", "unpack it with `gunzip`");
    }
    if start.starts_with(b"\x28\xb5\x2f\xfd") {
        return found("is compressed with Zstandard", "unpack it with `unzstd`");
    }
    if start.starts_with(b"PK\x03\x04") {
        return found("is a ZIP archive", "unpack it with `unzip`");
    }
    if start.starts_with(b"PAR1") {
        return found("is a Parquet file", "take the JSON, JSONL or CSV file of the same data");
    }
    if start.starts_with(b"\xff\xfe") || start.starts_with(b"\xfe\xff") {
        return found("is in UTF-16", "convert it with `iconv -f UTF-16 -t UTF-8`");
    }
    let word: Vec<u8> = start.trim_ascii_start().iter().take(14).map(u8::to_ascii_lowercase).collect();
    if word.starts_with(b"<!doctype html") || word.starts_with(b"<html") {
        return found("is a web page", "download the file itself; hubs have it under `resolve` or `raw`");
    }
    None
}

/// The error of a file that holds nothing.
pub(in crate::prompts) fn empty(origin: &str) -> InputError {
    InputError::new(origin, "the file is empty")
        .expected("at least one entry")
        .next("look whether the download was complete")
}

/// The error of a file that stopped being readable.
pub(in crate::prompts) fn unreadable(origin: &str, error: &std::io::Error) -> InputError {
    InputError::new(origin, format!("cannot be read: {error}")).expected("a readable file")
}

/// The error of a line, or of an element of an array, that exceeds [`LONGEST`].
pub(in crate::prompts) fn too_long(origin: &str, what: &str) -> InputError {
    InputError::new(origin, format!("{what} is longer than {} MiB", LONGEST >> 20))
        .expected("a text file with one entry a line")
        .next("look whether this is the right file")
}

/// The error of bytes that are no UTF-8.
pub(in crate::prompts) fn not_utf8(origin: &str) -> InputError {
    InputError::new(origin, "not UTF-8")
        .expected("a text file in UTF-8")
        .next("convert it with `iconv -t UTF-8`")
}

/// Reads a line with its end into the emptied `buffer`; false at the end of the file. A line that exceeds `limit` bytes
/// is left in the buffer cut, with more than `limit` bytes.
pub(in crate::prompts) fn read_line(
    reader: &mut dyn BufRead,
    limit: usize,
    buffer: &mut Vec<u8>,
) -> std::io::Result<bool> {
    buffer.clear();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    Ok(reader.take(most).read_until(b'\n', buffer)? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &'static [u8]) -> String {
        match Opened::from_reader("f", Box::new(bytes)) {
            Ok(_) => panic!("accepted"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_is_no_text_is_named() {
        let rows: [(&'static [u8], &str); 9] = [
            (b"", "f: the file is empty"),
            (
                b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
                "f: is a pointer of Git LFS, not the data it stands for\n  expected: a text file in UTF-8\n  next: run `git lfs pull`",
            ),
            (
                b"\x1f\x8b\x08",
                "f: is compressed with gzip\n  expected: a text file in UTF-8\n  next: unpack it with `gunzip`",
            ),
            (b"\x28\xb5\x2f\xfd", "f: is compressed with Zstandard"),
            (b"PK\x03\x04", "f: is a ZIP archive"),
            (b"PAR1\x15", "f: is a Parquet file"),
            (b"\xff\xfe{\0", "f: is in UTF-16"),
            (b"\n <!DOCTYPE html><p>", "f: is a web page"),
            (b"<html>", "f: is a web page"),
        ];
        for (bytes, expected) in rows {
            assert!(refused(bytes).starts_with(expected), "{}", refused(bytes));
        }
    }

    #[test]
    fn a_missing_file_and_a_folder_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = |path: &Path| Opened::open(path).err().unwrap().problem;
        assert_eq!(error(&folder.path().join("none")), "there is no such file");
        assert_eq!(error(folder.path()), "is a folder");
    }

    #[test]
    fn a_byte_order_mark_is_skipped() {
        let mut opened = Opened::from_reader("f", Box::new(&b"\xef\xbb\xbfab\n"[..])).unwrap();
        let mut line = Vec::new();
        assert!(read_line(&mut opened.reader, 9, &mut line).unwrap());
        assert_eq!(line, b"ab\n");
        assert!(!read_line(&mut opened.reader, 9, &mut line).unwrap());
    }

    #[test]
    fn a_line_is_cut_one_byte_over_the_limit() {
        let mut reader = &b"abcdef\n"[..];
        let mut line = Vec::new();
        assert!(read_line(&mut reader, 3, &mut line).unwrap());
        assert_eq!(line, b"abcd");
    }
}
