//! Traces in tables: BurstGPT and Azure, CSV with a header.
//!
//! BurstGPT has `Timestamp` (seconds), `Model`, `Request tokens`, `Response tokens`, `Total tokens`, `Log Type`, newer
//! releases also `Session ID` and `Elapsed time` (<https://github.com/HPMLL/BurstGPT>). Azure has `TIMESTAMP`,
//! `ContextTokens`, `GeneratedTokens` (<https://github.com/Azure/AzurePublicDataset>, AzureLLMInferenceDataset2023.md and
//! 2024.md). Columns are found by their names, upper or lower case.

use std::io::{BufRead, ErrorKind, Read};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

use super::super::dataset::file::{self, Opened};
use super::super::dataset::records::at;
use super::TraceRow;
use crate::document::InputError;

/// The columns of a format.
pub(super) struct Columns {
    time: &'static str,
    isl: &'static str,
    osl: &'static str,
    clock: Clock,
    /// The header, in words.
    expected: &'static str,
}

/// How a format writes time.
#[derive(Clone, Copy)]
enum Clock {
    /// A number of seconds.
    Seconds,
    /// Date and time of day, with or without an offset from UTC.
    Date,
}

/// BurstGPT.
pub(super) const BURSTGPT: Columns = Columns {
    time: "Timestamp",
    isl: "Request tokens",
    osl: "Response tokens",
    clock: Clock::Seconds,
    expected: "the header of BurstGPT: Timestamp, Model, Request tokens, Response tokens, Total tokens, Log Type",
};

/// Azure, of 2023 and 2024.
pub(super) const AZURE: Columns = Columns {
    time: "TIMESTAMP",
    isl: "ContextTokens",
    osl: "GeneratedTokens",
    clock: Clock::Date,
    expected: "the header of an Azure trace: TIMESTAMP, ContextTokens, GeneratedTokens",
};

/// Bytes of a line at most; those of the formats have fewer than 200.
const LONGEST: usize = 1 << 20;

/// Hands every row to `see`.
pub(super) fn read(
    columns: &Columns,
    opened: Opened,
    see: &mut dyn FnMut(TraceRow),
) -> Result<(), InputError> {
    let Opened { origin, reader } = opened;
    // No column of either format needs quotes; without them an unpaired one cannot swallow the file, and a record is a
    // line.
    let mut table = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .quoting(false)
        .terminator(csv::Terminator::Any(b'\n'))
        .from_reader(Lines { reader, line: Vec::new(), given: 0 });
    let mut cells = csv::ByteRecord::new();
    let (mut number, mut places, mut rows) = (0, None, false);
    while table.read_byte_record(&mut cells).map_err(|error| stopped(&origin, number + 1, error))? {
        number += 1;
        let line = TableLine { origin: &origin, number, cells: &cells };
        if cells.iter().all(|cell| cell.trim_ascii().is_empty()) {
            continue;
        }
        match places {
            None => places = Some(line.places(columns)?),
            Some(places) => {
                see(line.row(columns, places)?);
                rows = true;
            }
        }
    }
    match (places, rows) {
        (None, _) => Err(file::empty(&origin)),
        (Some(_), false) => Err(InputError::new(&*origin, "the table has a header and no rows")
            .expected("at least one request")
            .next("look whether the download was complete")),
        (Some(_), true) => Ok(()),
    }
}

/// Reads a file line by line, bounded, with a blank in place of an empty line, which `csv` would not count.
struct Lines {
    reader: Box<dyn BufRead>,
    line: Vec<u8>,
    given: usize,
}

impl Read for Lines {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.given == self.line.len() {
            self.given = 0;
            file::read_line(&mut self.reader, LONGEST, &mut self.line)?;
            if self.line.len() > LONGEST {
                return Err(ErrorKind::FileTooLarge.into());
            }
            if self.line == b"\n" {
                self.line.insert(0, b' ');
            }
        }
        let rest = self.line.get(self.given..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        self.given += count;
        Ok(count)
    }
}

/// Why the table cannot be read beyond line `number`.
fn stopped(origin: &str, number: usize, error: csv::Error) -> InputError {
    match error.into_kind() {
        csv::ErrorKind::Io(error) if error.kind() == ErrorKind::FileTooLarge => {
            let error = InputError::new(origin, "a line from here on is longer than 1 MiB");
            at(error, (number, 1)).expected("a table in CSV").next("look whether this is the right file")
        }
        csv::ErrorKind::Io(error) => file::unreadable(origin, &error),
        other => InputError::new(origin, format!("not CSV: {other:?}")).expected("a table in CSV"),
    }
}

/// One line of a table.
struct TableLine<'a> {
    origin: &'a str,
    number: usize,
    cells: &'a csv::ByteRecord,
}

impl TableLine<'_> {
    fn error(&self, problem: impl Into<String>) -> InputError {
        at(InputError::new(self.origin, problem), (self.number, 1))
    }

    /// The text of a cell, without white space and quotes around it.
    fn cell(&self, place: usize) -> Result<Option<&str>, InputError> {
        let Some(bytes) = self.cells.get(place) else { return Ok(None) };
        let text =
            std::str::from_utf8(bytes).map_err(|_| at(file::not_utf8(self.origin), (self.number, 1)))?;
        Ok(Some(text.trim().trim_matches('"')))
    }

    /// The columns of time, prompt tokens and output tokens.
    fn places(&self, columns: &Columns) -> Result<[usize; 3], InputError> {
        let mut names = Vec::new();
        for place in 0..self.cells.len() {
            names.extend(self.cell(place)?);
        }
        let place = |wanted: &str| {
            let found = names.iter().position(|name| name.eq_ignore_ascii_case(wanted));
            found.ok_or_else(|| self.no_column(wanted, &names, columns))
        };
        // Time last: both formats have the same name for it.
        let [isl, osl] = [place(columns.isl)?, place(columns.osl)?];
        Ok([place(columns.time)?, isl, osl])
    }

    fn no_column(&self, wanted: &str, names: &[&str], columns: &Columns) -> InputError {
        let found: String = names.join(", ").chars().take(200).collect();
        let error = self
            .error(format!("the column is missing; found {found}"))
            .key(wanted)
            .expected(columns.expected);
        let has = |wanted: &str| names.iter().any(|name| name.eq_ignore_ascii_case(wanted));
        if names.first().is_some_and(|name| name.starts_with('{')) {
            error.next("the line looks like JSON: kind = \"mooncake\"")
        } else if has(AZURE.isl) {
            error.next("the columns look like another format: kind = \"azure\"")
        } else if has(BURSTGPT.isl) {
            error.next("the columns look like another format: kind = \"burstgpt\"")
        } else {
            error.next("look whether this is the right file, and whether its first line is the header")
        }
    }

    /// The line as a row.
    fn row(&self, columns: &Columns, [time, isl, osl]: [usize; 3]) -> Result<TraceRow, InputError> {
        let (expected, parse): (_, fn(&str) -> Option<i64>) = match columns.clock {
            Clock::Seconds => ("seconds, 0 or more", seconds),
            Clock::Date => ("a time such as 2023-11-16 18:15:46.6805900", date),
        };
        Ok(TraceRow {
            at_ns: self.value(time, columns.time, expected, parse)?,
            isl: self.value(isl, columns.isl, TOKENS, tokens)?,
            osl: self.value(osl, columns.osl, TOKENS, tokens)?,
            blocks: Vec::new(),
        })
    }

    fn value<T>(
        &self,
        place: usize,
        name: &str,
        expected: &str,
        parse: fn(&str) -> Option<T>,
    ) -> Result<T, InputError> {
        let Some(cell) = self.cell(place)? else {
            let found = format!("the line has {} columns and none for this", self.cells.len());
            return Err(self.error(found).key(name).expected(expected));
        };
        parse(cell).ok_or_else(|| {
            let start: String = cell.chars().take(60).collect();
            self.error(format!("found `{start}`")).key(name).expected(expected)
        })
    }
}

/// The expected form of a length.
const TOKENS: &str = "a whole number of tokens, 0 or more";

/// A whole number; pandas writes `512.0` for a column with gaps.
fn tokens(cell: &str) -> Option<u32> {
    cell.strip_suffix(".0").unwrap_or(cell).parse().ok()
}

/// Seconds as nanoseconds.
fn seconds(cell: &str) -> Option<i64> {
    let nanoseconds = (cell.parse::<f64>().ok()? * 1e9).round();
    (0.0..9e18).contains(&nanoseconds).then_some(nanoseconds as i64)
}

/// Date and time as nanoseconds since 1970; UTC when no offset is written.
fn date(cell: &str) -> Option<i64> {
    let instant = match cell.parse::<Timestamp>() {
        Ok(instant) => instant,
        Err(_) => Offset::UTC.to_timestamp(cell.parse::<DateTime>().ok()?).ok()?,
    };
    i64::try_from(instant.as_nanosecond()).ok()
}
