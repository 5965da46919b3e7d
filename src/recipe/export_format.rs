//! Formats of other tools in which results can be written.

use serde::{Deserialize, Serialize};

/// Another tool's result files.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum ExportFormat {
    /// AIPerf: `profile_export_aiperf.csv`, `profile_export_aiperf.json`, `profile_export.jsonl`.
    Aiperf,
    /// genai-perf: `profile_export_genai_perf.csv`, `profile_export_genai_perf.json`.
    GenaiPerf,
    /// `vllm bench serve --save-result --save-detailed`: one JSON file.
    Vllm,
    /// vllm-bench: a CSV file with a row per request.
    VllmBench,
}
