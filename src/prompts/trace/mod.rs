//! Recorded traces: arrivals, lengths and shared blocks of requests.

mod mooncake;
mod table;

use std::path::Path;
use std::time::Duration;

use super::dataset::file::Opened;
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
    /// Blocks of [`BLOCK_TOKENS`] tokens the prompt is made of, the last one perhaps cut; equal numbers are equal blocks.
    /// Empty: not recorded.
    pub blocks: Vec<u64>,
}

/// Tokens of a block of a Mooncake trace.
pub const BLOCK_TOKENS: u32 = 512;

/// The requests of a trace, and the counts of what was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// In the order of their arrival; the first arrives at 0. Never empty.
    pub requests: Vec<TraceRequest>,
    pub stats: TraceStats,
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
    /// Rows whose blocks are left out, because they do not fit the prompt: other than one for [`BLOCK_TOKENS`] tokens.
    pub blocks_unfit: u64,
}

/// A row of a trace as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TraceRow {
    /// Arrival on the trace's own clock, nanoseconds.
    at_ns: i64,
    isl: u32,
    osl: u32,
    blocks: Vec<u64>,
}

/// Reads `trace` and applies its speed-up, start, share and bounds.
///
/// Rows without prompt or output tokens are left out, then those in the first `start_s` seconds after the earliest of the
/// rest; of the others the first `share`, at least one, is kept. Arrivals count from the first row kept, divided by
/// `speedup`. Lengths are cut to `max_isl` and `max_osl`, and blocks to what the cut prompt needs. Rows at the same instant
/// keep their order in the file.
///
/// Fails on a file that cannot be read or is not of this kind, naming line and field, and when no row is kept.
pub fn load(trace: &Trace) -> Result<Replay, InputError> {
    load_opened(trace, Opened::open(Path::new(&trace.path))?)
}

/// As [`load`], of a file that is open.
fn load_opened(trace: &Trace, opened: Opened) -> Result<Replay, InputError> {
    let mut stats = TraceStats::default();
    let mut rows = Vec::new();
    let mut see = |row: TraceRow| {
        stats.rows += 1;
        if row.isl == 0 || row.osl == 0 {
            stats.without_tokens += 1;
        } else {
            rows.push(row);
        }
    };
    match trace.kind {
        TraceKind::Mooncake => mooncake::read(opened, &mut see)?,
        TraceKind::Burstgpt => table::read(&table::BURSTGPT, opened, &mut see)?,
        TraceKind::Azure => table::read(&table::AZURE, opened, &mut see)?,
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
    let requests = rows.drain(early..).take(wanted.max(1)).map(|row| request(row, zero, trace, &mut stats));
    Ok(Replay { requests: requests.collect(), stats })
}

/// The instant `seconds` after `at_ns`.
fn after(at_ns: i64, seconds: f64) -> i64 {
    // A float beyond the range of i64 becomes its end.
    at_ns.saturating_add((seconds * 1e9).round() as i64)
}

/// The request of a row; `zero` is the arrival of the first one.
fn request(mut row: TraceRow, zero: i64, trace: &Trace, stats: &mut TraceStats) -> TraceRequest {
    if !row.blocks.is_empty() && row.blocks.len() != blocks_of(row.isl) {
        row.blocks = Vec::new();
        stats.blocks_unfit += 1;
    }
    let isl = row.isl.min(trace.max_isl.unwrap_or(u32::MAX));
    row.blocks.truncate(blocks_of(isl));
    let nanos = row.at_ns.abs_diff(zero) as f64 / trace.speedup;
    TraceRequest {
        at: Duration::from_nanos(nanos.round() as u64),
        isl,
        osl: row.osl.min(trace.max_osl.unwrap_or(u32::MAX)),
        blocks: row.blocks,
    }
}

/// Blocks that a prompt of `isl` tokens has.
fn blocks_of(isl: u32) -> usize {
    usize::try_from(isl.div_ceil(BLOCK_TOKENS)).unwrap_or(usize::MAX)
}

/// The error when no row is kept.
fn nothing_left(trace: &Trace, stats: &TraceStats) -> InputError {
    let TraceStats { rows, without_tokens, before_start, .. } = stats;
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
