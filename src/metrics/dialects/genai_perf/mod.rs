//! genai-perf 0.0.16 exports: `profile_export_genai_perf.csv` and `profile_export_genai_perf.json`.
//!
//! Rows, names, units, order and number formats are genai-perf's own, and so are the definitions: its clock is ns, the ITL
//! of a request is a whole number of ns, the duration is first sent → last content of the requests that had content, and
//! the request throughput counts the empty answers that every other figure leaves out. Checked against files that
//! genai-perf's own parser and exporters wrote (`tests/it/genai_perf_oracle.rs`).
//!
//! What cannot be reproduced, because records keep instants and counts but no text:
//! - genai-perf counts tokens with the client's tokenizer; here they are the record's (`usage` when the server sent it).
//! - It does not know `reasoning_content`: its first token is the first one after the reasoning, and answers that are all
//!   reasoning drop out. Here reasoning is content, as everywhere else.
//! - It takes events that arrive in one read for one response; our chunks are events.
//!
//! What differs, on purpose:
//! - Streaming off: its CSV leaves the streaming rows out, but its JSON has a `time_to_first_token` that is the request
//!   latency under another name. Here the JSON leaves it out as well.
//! - perf_analyzer gives up at the first failed request. Here failed requests are left out and the others summed up.
//! - With an ITL objective its goodput pairs values of different requests as soon as one request has no ITL. Here a
//!   request without the value does not meet the objective.
//! - When no answer was streamed as it was generated, there is no ITL, and no objective on it is met.
//! - Where it divides by zero (no request, no time passed, ITL 0) and dies, here the value is absent.
//! - `input_config` holds what our load points know, in its words, and one more key, `tokmark`, with `simulated` and
//!   `is_complete` in it.

mod csv;
mod json;
#[cfg(test)]
mod tests;
mod values;

use super::ExportContext;
use crate::metrics::fold::Fold;
use crate::metrics::record::PointRun;
use crate::plan::LoadPoint;

/// The two files of a load point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SummaryFiles {
    /// `profile_export_genai_perf.csv`: UTF-8 with CRLF line ends; write it as it is.
    pub csv: String,
    /// `profile_export_genai_perf.json`, without a final newline.
    pub json: String,
}

/// Both files of the measured requests; the metrics are computed once.
pub fn summary_files(
    point: &LoadPoint,
    run: &PointRun,
    fold: &Fold,
    context: &ExportContext<'_>,
) -> SummaryFiles {
    let metrics = values::metrics(point, fold);
    SummaryFiles {
        csv: csv::csv(&metrics, point.streaming, !point.slo.is_empty()),
        json: json::json(&metrics, point, run, context),
    }
}
