//! Recorded traces: when requests came, how long they were, which blocks they shared.
//!
//! Arrow: `plan::Trace` → here → `source`, and its clock → `load::schedule`.

use std::time::Duration;

/// One request of a trace, after speed-up, start and clipping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceRequest {
    /// Intended arrival after the start of the load.
    pub at: Duration,
    /// Prompt length, tokens.
    pub isl: u32,
    /// Output length, tokens.
    pub osl: u32,
    /// Blocks of [`BLOCK_TOKENS`] tokens the prompt is made of; equal numbers are equal blocks. Empty: not recorded.
    pub blocks: Vec<u64>,
}

/// Tokens of a block of a Mooncake trace.
pub const BLOCK_TOKENS: u32 = 512;
