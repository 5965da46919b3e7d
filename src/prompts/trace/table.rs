//! Traces in tables: BurstGPT and Azure, CSV with a header.
//!
//! BurstGPT has `Timestamp` (seconds), `Model`, `Request tokens`, `Response tokens`, `Total tokens`, `Log Type`, newer
//! releases also `Session ID` and `Elapsed time` (<https://github.com/HPMLL/BurstGPT>). Azure has `TIMESTAMP`,
//! `ContextTokens`, `GeneratedTokens` (<https://github.com/Azure/AzurePublicDataset>, AzureLLMInferenceDataset2023.md and
//! 2024.md). Columns are found by their names, upper or lower case.

use std::collections::HashSet;
use std::io::{BufRead, Read};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

use super::super::dataset::file::{self, Opened};
use super::super::dataset::records::at;
use super::{Rows, TraceRow};
use crate::document::InputError;

/// The columns of a format.
pub(super) struct Columns {
    time: &'static str,
    isl: &'static str,
    osl: &'static str,
    /// Reads a time as nanoseconds.
    parse_time: fn(&str) -> Option<i64>,
    /// The form of a time, in words.
    expected_time: &'static str,
    /// The header, in words.
    expected: &'static str,
}

/// BurstGPT.
pub(super) const BURSTGPT: Columns = Columns {
    time: "Timestamp",
    isl: "Request tokens",
    osl: "Response tokens",
    parse_time: seconds,
    expected_time: "seconds, 0 or more",
    expected: "the header of BurstGPT: Timestamp, Model, Request tokens, Response tokens, Total tokens, Log Type",
};

/// Azure, of 2023 and 2024.
pub(super) const AZURE: Columns = Columns {
    time: "TIMESTAMP",
    isl: "ContextTokens",
    osl: "GeneratedTokens",
    parse_time: date,
    expected_time: "a time such as 2023-11-16 18:15:46.6805900",
    expected: "the header of an Azure trace: TIMESTAMP, ContextTokens, GeneratedTokens",
};

/// Bytes of a line at most; those of the formats have fewer than 200.
const LONGEST: usize = 1 << 20;

/// Hands every row to `seen`. No column of either format needs quotes; without their rules an unpaired one cannot swallow the
/// file.
pub(super) fn read(columns: &Columns, opened: Opened, seen: &mut Rows<'_>) -> Result<(), InputError> {
    let Opened { origin, mut reader } = opened;
    let (mut places, mut rows, mut bytes) = (None, false, Vec::new());
    let (mut session, mut sessions) = (None, HashSet::<String>::new());
    for number in 1.. {
        bytes.clear();
        let read = reader.by_ref().take(LONGEST as u64 + 1).read_until(b'\n', &mut bytes);
        if read.map_err(|error| file::unreadable(&origin, &error))? == 0 {
            break;
        }
        if bytes.len() > LONGEST {
            let error = InputError::new(&*origin, "a line from here on is longer than 1 MiB");
            let error = at(error, (number, 1)).expected("a table in CSV");
            return Err(error.next("look whether this is the right file"));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| at(file::not_utf8(&origin), (number, 1)))?;
        if text.chars().all(|c| c == ',' || c.is_whitespace()) {
            continue;
        }
        let cells = text.split(',').map(|cell| cell.trim().trim_matches('"')).collect();
        let line = TableLine { origin: &origin, number, cells };
        match places {
            None => {
                places = Some(line.places(columns)?);
                session = line.cells.iter().position(|name| name.eq_ignore_ascii_case("Session ID"));
            }
            Some(places) => {
                seen.see(line.row(columns, places)?);
                let own = session.and_then(|place| line.cells.get(place)).filter(|own| !own.is_empty());
                if let Some(own) = own.filter(|own| !sessions.insert((**own).to_owned())) {
                    return Err(line.same_session(own));
                }
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

/// One line of a table; its cells are without white space and quotes around them.
struct TableLine<'a> {
    origin: &'a str,
    number: usize,
    cells: Vec<&'a str>,
}

impl TableLine<'_> {
    fn error(&self, problem: impl Into<String>) -> InputError {
        at(InputError::new(self.origin, problem), (self.number, 1))
    }

    /// A session that has another row already.
    fn same_session(&self, session: &str) -> InputError {
        let session: String = session.chars().take(60).collect();
        self.error(format!(
            "found {session} again: turns of a session wait for one another and repeat what was said, which no clock keeps"
        ))
        .key("Session ID")
        .expected("a row for each request, which stands alone")
        .next("take the column out, and each row is sent at its own time; or hold conversations: [load.prompts.conversation]")
    }

    /// The columns of time, prompt tokens and output tokens.
    fn places(&self, columns: &Columns) -> Result<[usize; 3], InputError> {
        let place = |wanted: &str| {
            let found = self.cells.iter().position(|name| name.eq_ignore_ascii_case(wanted));
            found.ok_or_else(|| self.no_column(wanted, columns))
        };
        // Time last: both formats have the same name for it.
        let [isl, osl] = [place(columns.isl)?, place(columns.osl)?];
        Ok([place(columns.time)?, isl, osl])
    }

    fn no_column(&self, wanted: &str, columns: &Columns) -> InputError {
        let names = &self.cells;
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
        Ok(TraceRow {
            at_ns: self.value(time, columns.time, columns.expected_time, columns.parse_time)?,
            isl: self.value(isl, columns.isl, TOKENS, tokens)?,
            osl: self.value(osl, columns.osl, TOKENS, tokens)?,
            blocks: Vec::new(),
            text: None,
            place: (self.number, 1),
        })
    }

    fn value<T>(
        &self,
        place: usize,
        name: &str,
        expected: &str,
        parse: fn(&str) -> Option<T>,
    ) -> Result<T, InputError> {
        let Some(cell) = self.cells.get(place) else {
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
