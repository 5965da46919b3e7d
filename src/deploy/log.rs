//! Reads growing logs: the last lines, or each new line once.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// How much of a log's end is searched for an excerpt.
const TAIL_BYTES: u64 = 64 * 1024;

/// The last `lines` non-blank lines, without terminal escapes.
pub fn tail(path: &Path, lines: usize) -> String {
    let Ok(mut file) = std::fs::File::open(path) else { return String::new() };
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    if file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES))).is_err() {
        return String::new();
    }
    let mut bytes = Vec::new();
    if file.read_to_end(&mut bytes).is_err() {
        return String::new();
    }
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<String> = text.lines().map(plain).filter(|line| !line.is_empty()).collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// A line without terminal escapes, carriage returns and trailing whitespace, cut to 400 characters.
pub fn plain(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        if c == '\u{1b}' {
            for escape in characters.by_ref() {
                if escape.is_ascii_alphabetic() {
                    break;
                }
            }
        } else if c == '\r' {
            text.clear();
        } else if !c.is_control() || c == '\t' {
            text.push(c);
        }
    }
    text.trim_end().chars().take(400).collect()
}

/// Whether any line after the first `from` bytes of the file matches.
pub fn contains(path: &Path, from: u64, pattern: &regex::Regex) -> bool {
    since(path, from).lines().any(|line| pattern.is_match(&plain(line)))
}

/// The text after the first `from` bytes of the file; empty if it cannot be read.
pub fn since(path: &Path, from: u64) -> String {
    let Ok(mut file) = std::fs::File::open(path) else { return String::new() };
    let mut bytes = Vec::new();
    if file.seek(SeekFrom::Start(from)).is_err() || file.read_to_end(&mut bytes).is_err() {
        return String::new();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Follows a growing file.
#[derive(Debug)]
pub struct Follow {
    path: PathBuf,
    offset: u64,
    partial: Vec<u8>,
}

impl Follow {
    /// Follows `path`, skipping its first `offset` bytes.
    pub fn new(path: &Path, offset: u64) -> Self {
        Self { path: path.to_path_buf(), offset, partial: Vec::new() }
    }

    /// Lines completed since the last call; with `last` also an unterminated final line.
    pub fn lines(&mut self, last: bool) -> Vec<String> {
        let mut bytes = Vec::new();
        if let Ok(mut file) = std::fs::File::open(&self.path)
            && file.seek(SeekFrom::Start(self.offset)).is_ok()
            && file.by_ref().take(4 << 20).read_to_end(&mut bytes).is_ok()
        {
            self.offset += bytes.len() as u64;
        }
        self.partial.extend_from_slice(&bytes);
        let mut lines = Vec::new();
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            lines.push(plain(&String::from_utf8_lossy(&line)));
        }
        if last && !self.partial.is_empty() {
            let line = std::mem::take(&mut self.partial);
            lines.push(plain(&String::from_utf8_lossy(&line)));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn each_line_comes_once_and_only_when_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l");
        let mut file = std::fs::File::create(&path).unwrap();
        writeln!(file, "before").unwrap();
        let mut follow = Follow::new(&path, 7);
        write!(file, "one\n\x1b[31mtw").unwrap();
        assert_eq!(follow.lines(false), ["one"]);
        writeln!(file, "o\x1b[0m").unwrap();
        write!(file, "10%\r20%").unwrap();
        assert_eq!(follow.lines(false), ["two"]);
        assert_eq!(follow.lines(true), ["20%"]);
        assert_eq!(tail(&path, 2), "two\n20%");
    }
}
