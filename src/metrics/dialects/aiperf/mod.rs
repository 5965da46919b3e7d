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
#[cfg(test)]
mod tests;
mod totals;
mod values;

pub use super::{ExportContext, Results};
pub use inputs::write_inputs;
pub use jsonl::write_jsonl;

use crate::metrics::record::Phase;
use std::io;

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

/// `profile_export_aiperf.csv` and `.json` of the measured requests; the metrics are computed once for both.
///
/// # Errors
/// Those of reading the records.
pub fn summary_files(results: &Results<'_>, context: &ExportContext<'_>) -> io::Result<SummaryFiles> {
    let window = (results.run.window_start_us, results.run.window_end_us);
    let measured = totals::metrics(results, Phase::Measure, window)?;
    Ok(SummaryFiles { csv: csv::csv(&measured), json: json::json(&measured, results, context)? })
}

/// The `conversation_id` of a request in `profile_export.jsonl` and its `session_id` in `inputs.json`.
pub fn session_id(phase: Phase, id: u64) -> String {
    match phase {
        Phase::Warmup => format!("warmup_{id:06}"),
        Phase::Measure | Phase::CoolDown => format!("session_{id:06}"),
    }
}
