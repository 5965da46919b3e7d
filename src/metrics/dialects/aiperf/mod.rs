//! AIPerf 0.13 exports: `profile_export_aiperf.csv`, `profile_export_aiperf.json`, `profile_export.jsonl`, `inputs.json`.
//!
//! Definitions, tags, headers, units, order and number formats are AIPerf's own, so its readers and everybody's scripts
//! work unchanged. Checked against files AIPerf 0.13.0 wrote (`tests/it/aiperf_oracle.rs`).
//!
//! What differs, on purpose:
//! - `http_req_*` rows are absent: they need a trace inside the HTTP client, which we do not have and do not invent.
//! - Streaming off: AIPerf writes the prefill and decode curves as zeros; here they are absent, as is every other
//!   streaming-only metric.
//! - When every request failed AIPerf writes neither CSV nor JSON; here both exist, with the counts and `error_summary`.
//! - `adj_*` rows count a failure as an infinite latency. AIPerf's CSV prints `inf`; here such a cell is empty, and `null`
//!   in JSON, where AIPerf writes `null` as well.
//! - Token counts of the server's `usage` are used as with `--use-server-token-count`; the `usage_*_diff_pct` rows exist
//!   only for requests whose counts do not come from `usage`.
//! - `start_time` and `end_time` are UTC; AIPerf writes local time without saying so.
//! - The JSON has two more keys, `generator` and `simulated`: its pydantic model accepts extra keys at the top level.
//!
//! Throughputs divide by the window first sent → last ended; `benchmark_duration` is last content − first sent of successful
//! requests, as in AIPerf.

mod csv;
mod curves;
pub(super) mod errors;
mod inputs;
mod json;
mod jsonl;
mod requests;
#[cfg(test)]
mod tests;
mod totals;
mod values;

pub use super::ExportContext;
pub use inputs::write_inputs;

use crate::metrics::record::{Phase, PointRun, RequestRecord};
use crate::plan::LoadPoint;
use errors::ErrorTally;
use requests::{PhaseRequests, Request};
use std::io::{self, Write};

/// The AIPerf version whose formats are written.
pub const AIPERF_VERSION: &str = "0.13.0";

/// The version of the JSON export's schema.
pub const SCHEMA_VERSION: &str = "1.4";

/// The two files that sum a load point up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SummaryFiles {
    /// `profile_export_aiperf.csv`: UTF-8 with CRLF line ends; write it as it is.
    pub csv: String,
    /// `profile_export_aiperf.json`, without a final newline.
    pub json: String,
}

/// The export of one load point, made from its records as they are read: a line of `profile_export.jsonl` at once, the other
/// two files at the end.
#[derive(Debug)]
pub struct Export<'a, W> {
    point: &'a LoadPoint,
    started_at: jiff::Timestamp,
    lines: W,
    warmup: PhaseRequests,
    measured: PhaseRequests,
    errors: ErrorTally,
}

impl<'a, W: Write> Export<'a, W> {
    /// Begins; `lines` receives `profile_export.jsonl`. `started_at` is the wall-clock time of instant 0 of the records.
    pub fn new(point: &'a LoadPoint, started_at: jiff::Timestamp, lines: W) -> Self {
        let phase = || PhaseRequests::new(point.streaming);
        Self { point, started_at, lines, warmup: phase(), measured: phase(), errors: ErrorTally::default() }
    }

    /// Adds a record. Records come in order of ending.
    pub fn add(&mut self, record: &RequestRecord) -> io::Result<()> {
        let request = Request::of(record);
        let phase = match record.phase {
            Phase::Warmup => &mut self.warmup,
            Phase::Measure => &mut self.measured,
            // AIPerf has no word for a phase behind the measured one.
            Phase::CoolDown => return Ok(()),
        };
        phase.add(record, request);
        if record.phase == Phase::Measure {
            self.errors.add(record);
        }
        // The warm-up ends before the first measured request is sent.
        let has_warmup = !self.warmup.all().is_empty();
        jsonl::write_line(&mut self.lines, self.point, self.started_at, has_warmup, record, &request)
    }

    /// The other two files, and what received the lines.
    pub fn finish(
        mut self,
        run: &PointRun,
        context: &ExportContext<'_>,
    ) -> serde_json::Result<(SummaryFiles, W)> {
        let metrics =
            totals::metrics(self.point, &mut self.measured, (run.window_start_us, run.window_end_us));
        let warmup = self.warmup.window().map(|window| totals::metrics(self.point, &mut self.warmup, window));
        let json = json::json(self.point, run, &metrics, warmup.as_deref(), &self.errors, context)?;
        Ok((SummaryFiles { csv: csv::csv(&metrics), json }, self.lines))
    }
}

/// The `conversation_id` of a request in `profile_export.jsonl` and its `session_id` in `inputs.json`.
pub fn session_id(phase: Phase, id: u64) -> String {
    match phase {
        Phase::Warmup => format!("warmup_{id:06}"),
        Phase::Measure | Phase::CoolDown => format!("session_{id:06}"),
    }
}
