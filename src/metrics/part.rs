//! The requests of one part of a load point, such as a stage or a turn: how many, and their latencies.
//!
//! A part knows where its requests are among the rows, 4 bytes each, and takes their figures from there.

use super::row::Row;
use super::rows::Rows;
use super::stats::Distribution;

/// The requests of a part.
#[derive(Debug, Clone, Default)]
pub(super) struct Part {
    requests: u64,
    /// Positions among the rows of those that ended well.
    completed: Vec<u32>,
}

/// The latencies of the requests of a part, ms; `None` where they do not apply.
pub(super) struct Latencies {
    pub(super) ttft_ms: Option<Distribution>,
    pub(super) itl_ms: Option<Distribution>,
    pub(super) e2e_ms: Option<Distribution>,
}

impl Part {
    /// Takes the measured request that has `row`, at `position` among the rows.
    pub(super) fn add(&mut self, row: &Row, position: u32) {
        self.requests += 1;
        if row.counts() {
            self.completed.push(position);
        }
    }

    /// How many there are.
    pub(super) fn requests(&self) -> u64 {
        self.requests
    }

    /// How many of them ended well.
    pub(super) fn completed(&self) -> u64 {
        self.completed.len() as u64
    }

    /// The latencies of those that ended well. Without streaming only E2E applies.
    pub(super) fn latencies(&self, rows: &Rows, streamed: bool) -> Latencies {
        let of = |applies: bool, value: fn(&Row) -> Option<f64>| {
            let mut values = Vec::with_capacity(if applies { self.completed.len() } else { 0 });
            values.extend(self.rows(rows).filter(|_| applies).filter_map(value));
            Distribution::of(&mut values)
        };
        Latencies {
            ttft_ms: of(streamed, Row::ttft_ms),
            itl_ms: of(streamed, Row::itl_ms),
            e2e_ms: of(true, Row::e2e_ms),
        }
    }

    /// The mean of a number of tokens over those that ended well; `None` when none did.
    pub(super) fn mean(&self, rows: &Rows, tokens: fn(&Row) -> u32) -> Option<f64> {
        let sum: u64 = self.rows(rows).map(|row| u64::from(tokens(row))).sum();
        (!self.completed.is_empty()).then(|| sum as f64 / self.completed.len() as f64)
    }

    fn rows<'a>(&'a self, rows: &'a Rows) -> impl Iterator<Item = &'a Row> {
        self.completed.iter().filter_map(|position| rows.get(*position))
    }
}
