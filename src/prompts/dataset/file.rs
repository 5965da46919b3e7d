//! Opens a local file of prompts or of a trace, and names what is not text at all before anything is parsed.

use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;
use std::rc::Rc;

use crate::document::{InputError, no_such_file};

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
    pub(in crate::prompts) reader: Box<dyn BufRead>,
}

impl Opened {
    /// Opens `path`. Fails on a missing or unreadable file, and on what [`Opened::from_reader`] refuses.
    pub(in crate::prompts) fn open(path: &Path) -> Result<Self, InputError> {
        let origin = path.display().to_string();
        let file = fs_err::File::open(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => no_such_file(path).expected("a local file").or_next(
                "correct the path, or download the file to it first; nothing is downloaded by itself",
            ),
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

/// First bytes of files that are no text, what they are, and what to do about it.
const FOREIGN: [(&[u8], &str, &str); 7] = [
    (
        LFS_POINTER,
        "is a pointer of Git LFS, not the data it stands for",
        "run `git lfs pull` in the repository, or download the file itself",
    ),
    (b"\x1f\x8b", "is compressed with gzip", "unpack it with `gunzip`"),
    (b"\x28\xb5\x2f\xfd", "is compressed with Zstandard", "unpack it with `unzstd`"),
    (b"PK\x03\x04", "is a ZIP archive", "unpack it with `unzip`"),
    (b"PAR1", "is a Parquet file", "take the JSON, JSONL or CSV file of the same data"),
    (b"\xff\xfe", "is in UTF-16", "convert it with `iconv -f UTF-16 -t UTF-8`"),
    (b"\xfe\xff", "is in UTF-16", "convert it with `iconv -f UTF-16 -t UTF-8`"),
];

/// The error of a file whose first bytes are those of something else.
fn not_text(origin: &str, start: &[u8]) -> Option<InputError> {
    if start.is_empty() {
        return Some(empty(origin));
    }
    let found = |problem: &str, next: &str| {
        Some(InputError::new(origin, problem).expected("a text file in UTF-8").next(next))
    };
    let word = start.trim_ascii_start().to_ascii_lowercase();
    if word.starts_with(b"<!doctype html") || word.starts_with(b"<html") {
        return found("is a web page", "download the file itself; hubs have it under `resolve` or `raw`");
    }
    let (_, problem, next) = FOREIGN.iter().find(|(magic, ..)| start.starts_with(magic))?;
    found(problem, next)
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
