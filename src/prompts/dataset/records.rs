//! Reads a file of JSON objects, one per line or as the elements of one array, one at a time.
//!
//! An array is cut into its elements by counting brackets and each element is parsed alone, so that a file of any size takes
//! the memory of its longest element, and an error of one knows its line.

use std::io::BufRead;
use std::path::Path;
use std::rc::Rc;

use serde_json::{Map, Value};

use super::file::{self, LONGEST, Opened};
use crate::document::InputError;

/// The objects of a file, in its order.
pub(in crate::prompts) struct Records {
    origin: Rc<str>,
    reader: Box<dyn BufRead>,
    shape: Shape,
    /// Line and column (1-based) of the next byte.
    at: (usize, usize),
    /// Elements of the array so far.
    elements: u64,
    /// Whether there was an object.
    any: bool,
    buffer: Vec<u8>,
}

/// How the objects are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Unknown until the first byte.
    Unknown,
    /// One per line.
    Lines,
    /// One array, inside it.
    Array,
    /// Read to its end.
    Ended,
}

/// One object of a file.
pub(in crate::prompts) struct Record {
    /// The file, as the user wrote it.
    pub(in crate::prompts) origin: Rc<str>,
    /// Line and column (1-based) where it begins.
    pub(in crate::prompts) at: (usize, usize),
    /// Its line, or its number in the array; from 1.
    pub(in crate::prompts) number: u64,
    /// Its fields.
    pub(in crate::prompts) fields: Map<String, Value>,
}

impl Records {
    /// Opens `path`; errors as [`Opened::open`].
    pub(in crate::prompts) fn open(path: &Path) -> Result<Self, InputError> {
        Ok(Self::new(Opened::open(path)?))
    }

    /// The objects of a file that is open.
    pub(in crate::prompts) fn new(opened: Opened) -> Self {
        let Opened { origin, reader } = opened;
        Self {
            origin,
            reader,
            shape: Shape::Unknown,
            at: (1, 1),
            elements: 0,
            any: false,
            buffer: Vec::new(),
        }
    }

    /// The next object; `None` at the end. Fails on what is not UTF-8, not JSON or not an object, on an array that does
    /// not end, and on a file without any object.
    pub(in crate::prompts) fn next(&mut self) -> Result<Option<Record>, InputError> {
        if self.shape == Shape::Unknown {
            self.shape = match self.peek()? {
                None => return Err(file::empty(&self.origin)),
                Some(b'[') => {
                    self.skip(1);
                    Shape::Array
                }
                Some(_) => Shape::Lines,
            };
        }
        let found = match self.shape {
            Shape::Lines => self.line()?,
            Shape::Array => self.element()?,
            Shape::Unknown | Shape::Ended => None,
        };
        if found.is_none() {
            self.shape = Shape::Ended;
            if !self.any {
                return Err(file::empty(&self.origin));
            }
        }
        self.any = true;
        Ok(found)
    }

    /// The object on the next line that is not blank.
    fn line(&mut self) -> Result<Option<Record>, InputError> {
        loop {
            if !file::read_line(&mut self.reader, LONGEST, &mut self.buffer)
                .map_err(|error| file::unreadable(&self.origin, &error))?
            {
                return Ok(None);
            }
            let start = self.at;
            if self.buffer.len() > LONGEST {
                return Err(at(file::too_long(&self.origin, "the line"), start));
            }
            self.at = (start.0 + 1, 1);
            self.buffer.truncate(self.buffer.trim_ascii_end().len());
            if !self.buffer.is_empty() {
                let fields = self.parse(start)?;
                let number = u64::try_from(start.0).unwrap_or(u64::MAX);
                return Ok(Some(Record { origin: self.origin.clone(), at: start, number, fields }));
            }
        }
    }

    /// The next element of the array.
    fn element(&mut self) -> Result<Option<Record>, InputError> {
        let mut next = self.peek()?;
        if next == Some(b',') && self.elements > 0 {
            self.skip(1);
            next = self.peek()?;
        } else if next != Some(b']') && next.is_some() && self.elements > 0 {
            return Err(self.misplaced(next, "a comma or the end of the array"));
        } else if next == Some(b']') {
            self.skip(1);
            return match self.peek()? {
                None => Ok(None),
                found => Err(self.misplaced(found, "nothing after the array")),
            };
        }
        match next {
            Some(b'{') => {}
            None => return Err(self.truncated(self.at)),
            found => return Err(self.misplaced(found, "an object")),
        }
        let start = self.at;
        self.take_object(start)?;
        self.at = position(&self.buffer, self.buffer.len(), start);
        self.elements += 1;
        let fields = self.parse(start)?;
        Ok(Some(Record { origin: self.origin.clone(), at: start, number: self.elements, fields }))
    }

    /// Reads the object that begins at the next byte into the buffer.
    fn take_object(&mut self, start: (usize, usize)) -> Result<(), InputError> {
        self.buffer.clear();
        let mut brackets = Brackets::default();
        loop {
            let chunk = self.reader.fill_buf().map_err(|error| file::unreadable(&self.origin, &error))?;
            let end = brackets.end(chunk);
            let used = end.unwrap_or(chunk.len());
            self.buffer.extend_from_slice(&chunk[..used]);
            self.reader.consume(used);
            if end.is_some() {
                return Ok(());
            }
            if used == 0 {
                return Err(self.unfinished(start, self.truncated(start)));
            }
            if self.buffer.len() > LONGEST {
                let error = at(file::too_long(&self.origin, "the element"), start);
                return Err(self.unfinished(start, error));
            }
        }
    }

    /// Why the object in the buffer does not end: a bracket or a quote too many or too few, which the parser finds, or
    /// `otherwise`.
    fn unfinished(&mut self, start: (usize, usize), otherwise: InputError) -> InputError {
        if let Err(error) = std::str::from_utf8(&self.buffer)
            && error.error_len().is_none()
        {
            self.buffer.truncate(error.valid_up_to());
        }
        match self.parse(start) {
            Err(error) if !error.problem.contains("EOF") => error,
            _ => otherwise,
        }
    }

    /// The next byte that is no white space, not taken.
    fn peek(&mut self) -> Result<Option<u8>, InputError> {
        loop {
            let chunk = self.reader.fill_buf().map_err(|error| file::unreadable(&self.origin, &error))?;
            let blank = chunk.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            let next = chunk.get(blank).copied();
            let ended = chunk.is_empty();
            self.at = position(chunk, blank, self.at);
            self.reader.consume(blank);
            if next.is_some() || ended {
                return Ok(next);
            }
        }
    }

    /// Skips bytes that [`Records::peek`] has returned.
    fn skip(&mut self, bytes: usize) {
        self.reader.consume(bytes);
        self.at.1 += bytes;
    }

    /// The object in the buffer, which begins at `start`.
    fn parse(&self, start: (usize, usize)) -> Result<Map<String, Value>, InputError> {
        let text = std::str::from_utf8(&self.buffer).map_err(|error| {
            at(file::not_utf8(&self.origin), position(&self.buffer, error.valid_up_to(), start))
        })?;
        let value = match serde_json::from_str(text) {
            Err(error) => match mend(text).map(|text| serde_json::from_str(&text)) {
                Some(Ok(value)) => value,
                _ => return Err(self.not_json(&error, start)),
            },
            Ok(value) => value,
        };
        match value {
            Value::Object(fields) => Ok(fields),
            other => Err(at(InputError::new(&*self.origin, format!("found {}", describe(&other))), start)
                .expected("a JSON object on each line, or one array of them")),
        }
    }

    fn not_json(&self, error: &serde_json::Error, start: (usize, usize)) -> InputError {
        let text = error.to_string();
        let what = text.rsplit_once(" at line ").map_or(&*text, |(what, _)| what);
        let column = if error.line() <= 1 { start.1 - 1 + error.column() } else { error.column() };
        let place = (start.0 + error.line().saturating_sub(1), column.max(1));
        let mistaken = at(InputError::new(&*self.origin, format!("not JSON: {what}")), place);
        match self.shape {
            Shape::Array => mistaken.expected("an array of JSON objects"),
            _ if error.is_eof() => mistaken
                .expected("a whole JSON object on each line")
                .next("look whether the download was complete; an object over several lines is made one by `jq -c .`"),
            _ => mistaken.expected("a JSON object on each line"),
        }
    }

    fn truncated(&self, start: (usize, usize)) -> InputError {
        let inside =
            if self.elements == 0 { String::new() } else { format!(" after {} elements", self.elements) };
        at(InputError::new(&*self.origin, format!("the JSON array ends in its middle{inside}")), start)
            .expected("a whole array")
            .next("download the file again")
    }

    fn misplaced(&self, found: Option<u8>, expected: &str) -> InputError {
        let found = found.map_or_else(String::new, |byte| char::from(byte).escape_default().to_string());
        at(InputError::new(&*self.origin, format!("not JSON: found `{found}` in the array")), self.at)
            .expected(expected)
    }
}

/// Brackets of an object, counted over pieces of it.
#[derive(Default)]
struct Brackets {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Brackets {
    /// Bytes of `piece` up to behind the bracket that closes the object; `None` when it goes on.
    fn end(&mut self, piece: &[u8]) -> Option<usize> {
        for (index, byte) in piece.iter().enumerate() {
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(index + 1);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

/// An error with its line and column.
pub(in crate::prompts) fn at(mut error: InputError, line: (usize, usize)) -> InputError {
    error.line = Some(line);
    error
}

/// Line and column of byte `offset` of `bytes`, which begin at `start`.
fn position(bytes: &[u8], offset: usize, start: (usize, usize)) -> (usize, usize) {
    let before = bytes.get(..offset).unwrap_or(bytes);
    match before.iter().rposition(|byte| *byte == b'\n') {
        None => (start.0, start.1 + before.len()),
        Some(last) => (start.0 + before.iter().filter(|byte| **byte == b'\n').count(), before.len() - last),
    }
}

/// A short description of a value, for errors.
pub(in crate::prompts) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => {
            let start: String = text.chars().take(30).collect();
            format!("the string {start:?}{}", if start.len() < text.len() { "…" } else { "" })
        }
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(fields) => format!("an object of {} fields", fields.len()),
    }
}

/// `text` with U+FFFD in place of escaped halves of surrogate pairs; `None` when it has none. Python's `json` writes and
/// reads them (a character cut in two), serde_json refuses them.
fn mend(text: &str) -> Option<String> {
    let mut mended = String::with_capacity(text.len());
    let (mut rest, mut changed) = (text, false);
    while let Some(slash) = rest.find('\\') {
        mended.push_str(&rest[..slash]);
        rest = &rest[slash..];
        let length = match (escaped_unit(rest), rest.get(6..).and_then(escaped_unit)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                mended.push_str("\\ufffd");
                rest = &rest[6..];
                changed = true;
                continue;
            }
            (Some(_), _) => 6,
            // A backslash and the character behind it, which may be another backslash.
            (None, _) => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
        };
        mended.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    mended.push_str(rest);
    changed.then_some(mended)
}

/// The UTF-16 unit of the `\uXXXX` that `text` begins with.
fn escaped_unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
