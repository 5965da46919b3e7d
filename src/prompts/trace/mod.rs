//! Recorded traces: arrivals, lengths and shared blocks of requests.

mod blocks;
mod mooncake;
mod table;

use std::path::Path;
use std::time::Duration;

use super::dataset::file::Opened;
use super::dataset::records::at;
use crate::document::InputError;
use crate::plan::prompts::{Trace, TraceKind};

/// One request of a trace, after speed-up, start and clipping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceRequest {
    /// Intended arrival after the start of the load.
    pub at: Duration,
    /// Prompt length, tokens; 1 or more.
    pub isl: u32,
    /// Output length, tokens; 1 or more.
    pub osl: u32,
    /// Blocks of [`Replay::block_tokens`] tokens the prompt is made of, the last one perhaps cut; equal numbers are equal
    /// blocks. Empty: not recorded.
    pub blocks: Vec<u64>,
    /// The words of the prompt, where the trace has them.
    pub text: Option<String>,
}

/// The requests of a trace, and the counts of what was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// In the order of their arrival; the first arrives at 0. Never empty.
    pub requests: Vec<TraceRequest>,
    /// Tokens of a block.
    pub block_tokens: u32,
    pub stats: TraceStats,
    /// What a reader must know of how the file was read.
    pub notes: Vec<String>,
}

/// Counts of a trace's rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TraceStats {
    /// Rows of the file.
    pub rows: u64,
    /// Rows without prompt tokens or without output tokens, which are left out. BurstGPT records failures so.
    pub without_tokens: u64,
    /// Rows in the seconds that are left out at the start.
    pub before_start: u64,
}

/// A row of a trace as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TraceRow {
    /// Arrival on the trace's own clock, nanoseconds.
    at_ns: i64,
    isl: u32,
    osl: u32,
    blocks: Vec<u64>,
    text: Option<String>,
    /// Line and column in the file.
    place: (usize, usize),
}

/// Receives the rows of a file, and what is said of all of them.
struct Rows<'a> {
    /// Counts the tokens of a text.
    count: &'a dyn Fn(&str) -> u32,
    rows: Vec<TraceRow>,
    stats: TraceStats,
    /// Tokens of a block, as the file says.
    block_size: Option<u32>,
    notes: Vec<String>,
}

impl Rows<'_> {
    fn see(&mut self, row: TraceRow) {
        self.stats.rows += 1;
        if row.isl == 0 || row.osl == 0 {
            self.stats.without_tokens += 1;
        } else {
            self.rows.push(row);
        }
    }
}

/// Reads `trace` and applies its speed-up, start, share and bounds.
///
/// Rows without prompt or output tokens are left out, then those in the first `start_s` seconds after the earliest of the
/// rest; of the others the first `share`, at least one, is kept. Arrivals count from the first row kept, divided by
/// `speedup`. Lengths are cut to `max_isl` and `max_osl`, and blocks to what the cut prompt needs. Rows at the same instant
/// keep their order in the file.
///
/// `count` counts the tokens of a text, where the trace has texts.
///
/// Fails on a file that cannot be read or is not of this kind, naming line and field, on blocks that do not fit their prompt,
/// and when no row is kept.
pub fn load(trace: &Trace, count: &dyn Fn(&str) -> u32) -> Result<Replay, InputError> {
    load_opened(trace, Opened::open(Path::new(&trace.path))?, count)
}

/// As [`load`], of a file that is open.
fn load_opened(trace: &Trace, opened: Opened, count: &dyn Fn(&str) -> u32) -> Result<Replay, InputError> {
    let (rows, stats) = (Vec::new(), TraceStats::default());
    let mut read = Rows { count, rows, stats, block_size: None, notes: Vec::new() };
    match trace.kind {
        TraceKind::Mooncake => mooncake::read(opened, &mut read)?,
        TraceKind::Burstgpt => table::read(&table::BURSTGPT, opened, &mut read)?,
        TraceKind::Azure => table::read(&table::AZURE, opened, &mut read)?,
    }
    let Rows { mut rows, mut stats, block_size, mut notes, .. } = read;
    let (block_tokens, source) = blocks::tokens(trace, block_size, &rows)?;
    let with_blocks = rows.iter().filter(|row| !row.blocks.is_empty()).count();
    if with_blocks > 0 {
        notes.insert(
            0,
            format!(
                "blocks of {block_tokens} tokens, {source}: {with_blocks} of {} rows have blocks",
                stats.rows
            ),
        );
    }
    rows.sort_by_key(|row| row.at_ns);
    let start = rows.first().map_or(0, |row| after(row.at_ns, trace.start_s));
    let early = rows.partition_point(|row| row.at_ns < start);
    stats.before_start = u64::try_from(early).unwrap_or(u64::MAX);
    let Some(zero) = rows.get(early).map(|row| row.at_ns) else {
        return Err(nothing_left(trace, &stats));
    };
    let of_all = rows.len() - early;
    let wanted = trace.share.map_or(of_all, |share| (of_all as f64 * share).ceil() as usize);
    let kept = rows.drain(early..).take(wanted.max(1));
    let requests = kept.map(|row| request(row, zero, trace, block_tokens)).collect::<Result<_, _>>()?;
    Ok(Replay { requests, block_tokens, stats, notes })
}

/// The instant `seconds` after `at_ns`.
fn after(at_ns: i64, seconds: f64) -> i64 {
    // A float beyond the range of i64 becomes its end.
    at_ns.saturating_add((seconds * 1e9).round() as i64)
}

/// The request of a row; `zero` is the arrival of the first one.
fn request(
    mut row: TraceRow,
    zero: i64,
    trace: &Trace,
    block_tokens: u32,
) -> Result<TraceRequest, InputError> {
    let isl = row.isl.min(trace.max_isl.unwrap_or(u32::MAX));
    if isl < row.isl && row.text.is_some() {
        let problem = format!("found a text of {} tokens, more than max_isl = {isl}", row.isl);
        let error = at(InputError::new(&*trace.path, problem), row.place).key("text_input");
        return Err(error.expected("a text that needs no cut").next("leave out max_isl, or the row"));
    }
    row.blocks.truncate(usize::try_from(isl.div_ceil(block_tokens)).unwrap_or(usize::MAX));
    let nanos = row.at_ns.abs_diff(zero) as f64 / trace.speedup;
    Ok(TraceRequest {
        at: Duration::from_nanos(nanos.round() as u64),
        isl,
        osl: row.osl.min(trace.max_osl.unwrap_or(u32::MAX)),
        blocks: row.blocks,
        text: row.text,
    })
}

/// The error when no row is kept.
fn nothing_left(trace: &Trace, stats: &TraceStats) -> InputError {
    let TraceStats { rows, without_tokens, before_start } = stats;
    let error = InputError::new(
        &*trace.path,
        format!(
            "none of its {rows} rows is left: {without_tokens} have no prompt or no output tokens, {before_start} come before the start"
        ),
    )
    .expected("at least one request");
    if *before_start > 0 {
        return error
            .next(format!("start = \"{} s\" is behind the last request; make it less", trace.start_s));
    }
    error.next("look whether this is the right file, and `kind` its format")
}

#[cfg(test)]
mod tests;
