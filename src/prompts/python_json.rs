//! JSON in chat templates, byte for byte as Python writes it.

use std::io::{self, Write};

use itertools::Itertools;
use minijinja::value::Kwargs;
use minijinja::{Error, ErrorKind, Value};
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// `tojson` as `transformers` defines it, which is Python's `json.dumps` without HTML escapes: the keywords `ensure_ascii`,
/// `indent`, `separators` and `sort_keys`.
pub(super) fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let broken = |error: serde_json::Error| Error::new(ErrorKind::BadSerialization, error.to_string());
    let indent: Option<usize> = options.get("indent")?;
    let separators: Option<(String, String)> = match options.get::<Option<Vec<String>>>("separators")? {
        Some(two) => two.into_iter().collect_tuple(),
        None => None,
    };
    let ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sorted = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    let mut json = serde_json::to_value(value).map_err(broken)?;
    if sorted {
        json.sort_all_objects();
    }
    let between = if indent.is_some() { "," } else { ", " };
    let (item, key) = separators.unwrap_or_else(|| (between.into(), ": ".into()));
    let mut out = Vec::new();
    let format = PythonJson { item, key, indent, depth: 0, has_value: false };
    json.serialize(&mut Serializer::with_formatter(&mut out, format)).map_err(broken)?;
    let text = String::from_utf8_lossy(&out).into_owned();
    if !ascii {
        return Ok(text);
    }
    let mut units = [0; 2];
    let escaped = text.chars().map(|c| match c {
        c if c.is_ascii() => c.to_string(),
        c => c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
    });
    Ok(escaped.collect())
}

/// `json.dumps` with its separators and its indent.
struct PythonJson {
    item: String,
    key: String,
    indent: Option<usize>,
    depth: usize,
    has_value: bool,
}

impl PythonJson {
    fn line<W: ?Sized + Write>(&self, writer: &mut W) -> io::Result<()> {
        let Some(width) = self.indent else { return Ok(()) };
        write!(writer, "\n{}", " ".repeat(width * self.depth))
    }

    fn open<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: u8) -> io::Result<()> {
        (self.depth, self.has_value) = (self.depth + 1, false);
        writer.write_all(&[bracket])
    }

    fn close<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: u8) -> io::Result<()> {
        self.depth -= 1;
        if self.has_value {
            self.line(writer)?;
        }
        self.has_value = true;
        writer.write_all(&[bracket])
    }

    fn element<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.has_value = true;
        if !first {
            writer.write_all(self.item.as_bytes())?;
        }
        self.line(writer)
    }
}

impl Formatter for PythonJson {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b'[')
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b']')
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b'{')
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b'}')
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.element(writer, first)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.element(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(self.key.as_bytes())
    }
}
