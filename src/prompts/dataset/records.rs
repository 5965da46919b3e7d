//! Reads a file of JSON objects, one per line or as the elements of one array, one at a time.
//!
//! Each object is cut out of the file and parsed alone, so that a file of any size takes the memory of its longest object, and
//! an error knows its line.

use std::io::{BufRead, Read};
use std::path::Path;
use std::rc::Rc;

use regex::{Captures, Regex};
use serde::de::IgnoredAny;
use serde_json::{Deserializer, Map, Value};

use super::file::{self, LONGEST, Opened};
use crate::document::InputError;

/// Bytes read at a time, when no object is longer.
const CHUNK: usize = 8 << 10;

/// The objects of a file, in its order.
pub(in crate::prompts) struct Records {
    origin: Rc<str>,
    reader: Box<dyn BufRead>,
    shape: Shape,
    /// Bytes that were read; those before `used` were returned as objects.
    buffer: Vec<u8>,
    used: usize,
    /// Line and column (1-based) of the next byte.
    at: (usize, usize),
    count: u64,
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
    pub(in crate::prompts) fields: Map<String, Value>,
    /// What its format does not use, by name.
    pub(in crate::prompts) left_out: Vec<String>,
}

impl Records {
    /// Opens `path`; errors as [`Opened::open`].
    pub(in crate::prompts) fn open(path: &Path) -> Result<Self, InputError> {
        Ok(Self::new(Opened::open(path)?))
    }

    /// The objects of a file that is open.
    pub(in crate::prompts) fn new(opened: Opened) -> Self {
        let Opened { origin, reader } = opened;
        let (shape, buffer) = (Shape::Unknown, Vec::new());
        Self { origin, reader, shape, buffer, used: 0, at: (1, 1), count: 0 }
    }

    /// The next object; `None` at the end. Fails on what is not UTF-8, not JSON or not an object, on an array that does
    /// not end, and on a file without any object.
    pub(in crate::prompts) fn next(&mut self) -> Result<Option<Record>, InputError> {
        if self.shape == Shape::Unknown {
            self.shape = match self.peek()? {
                Some(b'[') => {
                    self.skip(1);
                    Shape::Array
                }
                _ => Shape::Lines,
            };
        }
        let length = match self.shape {
            Shape::Lines => self.line()?,
            Shape::Array => self.element()?,
            Shape::Unknown | Shape::Ended => None,
        };
        let Some(length) = length else {
            self.shape = Shape::Ended;
            return if self.count == 0 { Err(file::empty(&self.origin)) } else { Ok(None) };
        };
        let fields = self.parse(&self.unread()[..length])?;
        let at = self.at;
        self.count += 1;
        self.skip(length);
        let number = if self.shape == Shape::Lines { at.0 as u64 } else { self.count };
        Ok(Some(Record { origin: self.origin.clone(), at, number, fields, left_out: Vec::new() }))
    }

    /// Length of the line that begins with the next byte that is not blank.
    fn line(&mut self) -> Result<Option<usize>, InputError> {
        if self.peek()?.is_none() {
            return Ok(None);
        }
        loop {
            if let Some(end) = memchr::memchr(b'\n', self.unread()) {
                return Ok(Some(self.unread()[..end].trim_ascii_end().len()));
            }
            if !self.read_more("the line")? {
                return Ok(Some(self.unread().trim_ascii_end().len()));
            }
        }
    }

    /// Length of the next element of the array.
    fn element(&mut self) -> Result<Option<usize>, InputError> {
        let mut next = self.peek()?;
        if next == Some(b']') {
            self.skip(1);
            return match self.peek()? {
                None => Ok(None),
                found => Err(self.misplaced(found, "nothing after the array")),
            };
        }
        if self.count > 0 && next.is_some() {
            if next != Some(b',') {
                return Err(self.misplaced(next, "a comma or the end of the array"));
            }
            self.skip(1);
            next = self.peek()?;
        }
        match next {
            Some(b'{') => {}
            None => return Err(self.truncated()),
            found => return Err(self.misplaced(found, "an object")),
        }
        loop {
            let mut objects = Deserializer::from_slice(self.unread()).into_iter::<IgnoredAny>();
            match objects.next() {
                Some(Err(error)) if !error.is_eof() => return Err(self.not_json(&error)),
                Some(Ok(_)) => return Ok(Some(objects.byte_offset())),
                _ if !self.read_more("the element")? => return Err(self.truncated()),
                _ => {}
            }
        }
    }

    fn unread(&self) -> &[u8] {
        self.buffer.get(self.used..).unwrap_or_default()
    }

    /// Reads as many bytes again as are unread; false at the end of the file. Fails when they are too many for one object, which
    /// `what` names.
    fn read_more(&mut self, what: &str) -> Result<bool, InputError> {
        self.buffer.drain(..self.used);
        self.used = 0;
        if self.buffer.len() > LONGEST {
            return Err(at(file::too_long(&self.origin, what), self.at));
        }
        let more = self.buffer.len().max(CHUNK).min(LONGEST + 1 - self.buffer.len());
        let read = self.reader.by_ref().take(more as u64).read_to_end(&mut self.buffer);
        Ok(read.map_err(|error| file::unreadable(&self.origin, &error))? > 0)
    }

    /// The next byte that is no white space, not taken.
    fn peek(&mut self) -> Result<Option<u8>, InputError> {
        loop {
            let blank = self.unread().iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            self.skip(blank);
            if let Some(next) = self.unread().first() {
                return Ok(Some(*next));
            }
            if !self.read_more("the line")? {
                return Ok(None);
            }
        }
    }

    fn skip(&mut self, bytes: usize) {
        self.at = position(self.unread(), bytes, self.at);
        self.used += bytes;
    }

    /// The object in `bytes`, which begin at the next byte.
    fn parse(&self, bytes: &[u8]) -> Result<Map<String, Value>, InputError> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            at(file::not_utf8(&self.origin), position(bytes, error.valid_up_to(), self.at))
        })?;
        let value = match serde_json::from_str(text) {
            Err(error) => match replace_lone_surrogates(text).map(|text| serde_json::from_str(&text)) {
                Some(Ok(value)) => value,
                _ => return Err(self.not_json(&error)),
            },
            Ok(value) => value,
        };
        match value {
            Value::Object(fields) => Ok(fields),
            other => Err(at(InputError::new(&*self.origin, format!("found {}", describe(&other))), self.at)
                .expected("a JSON object on each line, or one array of them")),
        }
    }

    fn not_json(&self, error: &serde_json::Error) -> InputError {
        let text = error.to_string();
        let what = text.rsplit_once(" at line ").map_or(&*text, |(what, _)| what);
        let column = if error.line() <= 1 { self.at.1 - 1 + error.column() } else { error.column() };
        let place = (self.at.0 + error.line().saturating_sub(1), column.max(1));
        let mistaken = at(InputError::new(&*self.origin, format!("not JSON: {what}")), place);
        match self.shape {
            Shape::Array => mistaken.expected("an array of JSON objects"),
            _ if error.is_eof() => mistaken
                .expected("a whole JSON object on each line")
                .next("look whether the download was complete; an object over several lines is made one by `jq -c .`"),
            _ => mistaken.expected("a JSON object on each line"),
        }
    }

    fn truncated(&self) -> InputError {
        let inside = if self.count == 0 { String::new() } else { format!(" after {} elements", self.count) };
        at(InputError::new(&*self.origin, format!("the JSON array ends in its middle{inside}")), self.at)
            .expected("a whole array")
            .next("download the file again")
    }

    fn misplaced(&self, found: Option<u8>, expected: &str) -> InputError {
        let found = found.map_or_else(String::new, |byte| char::from(byte).escape_default().to_string());
        at(InputError::new(&*self.origin, format!("not JSON: found `{found}` in the array")), self.at)
            .expected(expected)
    }
}

/// An error with its line and column.
pub(in crate::prompts) fn at(error: InputError, place: (usize, usize)) -> InputError {
    InputError { line: Some(place), ..error }
}

/// Line and column of byte `offset` of `bytes`, which begin at `start`.
fn position(bytes: &[u8], offset: usize, start: (usize, usize)) -> (usize, usize) {
    let before = bytes.get(..offset).unwrap_or(bytes);
    match memchr::memrchr(b'\n', before) {
        None => (start.0, start.1 + before.len()),
        Some(last) => (start.0 + memchr::memchr_iter(b'\n', before).count(), before.len() - last),
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
fn replace_lone_surrogates(text: &str) -> Option<String> {
    // A pair, a half alone (captured), or any other escape.
    const ESCAPES: &str = r"(?s)\\u[dD][89abAB][[:xdigit:]]{2}\\u[dD][c-fC-F][[:xdigit:]]{2}|(\\u[dD][89a-fA-F][[:xdigit:]]{2})|\\.";
    let replaced = Regex::new(ESCAPES).ok()?.replace_all(text, |found: &Captures<'_>| match found.get(1) {
        Some(_) => "\\ufffd".to_owned(),
        None => found[0].to_owned(),
    });
    (replaced != text).then(|| replaced.into_owned())
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
