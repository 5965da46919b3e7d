//! The two peaks of vLLM: chunks in the busiest second and requests alive in the fullest one.
//!
//! Seconds are counted from the first successful request. A request is alive in every second it touches, so that
//! `max_concurrent_requests` may exceed the concurrency.

use super::succeeded;
use crate::metrics::fold::Fold;
use crate::metrics::record::RequestRecord;
use crate::metrics::row::Row;
use std::collections::BTreeMap;

const US_PER_S: u64 = 1_000_000;

/// The instant seconds are counted from; `None` when no request succeeded.
fn start_us(fold: &Fold) -> Option<u64> {
    fold.measured().filter(|row| succeeded(row)).map(|row| row.sent_us).min()
}

fn second(start_us: u64, at: u64) -> u64 {
    at.saturating_sub(start_us) / US_PER_S
}

/// Chunks by second, for `max_output_tokens_per_s`, which counts chunks.
#[derive(Debug)]
pub(super) struct Chunks {
    start_us: u64,
    by_second: BTreeMap<u64, u64>,
}

impl Chunks {
    pub(super) fn new(fold: &Fold) -> Self {
        Self { start_us: start_us(fold).unwrap_or(0), by_second: BTreeMap::new() }
    }

    /// Counts the chunks of a request, unless it failed.
    pub(super) fn add(&mut self, record: &RequestRecord) {
        if succeeded(&Row::of(record)) {
            for at in &record.chunks_us {
                *self.by_second.entry(second(self.start_us, *at)).or_default() += 1;
            }
        }
    }

    /// Those of the busiest second; 0 when there was none.
    pub(super) fn most(&self) -> u64 {
        self.by_second.values().copied().max().unwrap_or(0)
    }
}

/// `max_concurrent_requests`; 0 when no request succeeded.
pub(super) fn most_alive(fold: &Fold) -> u64 {
    let Some(start) = start_us(fold) else { return 0 };
    // How many requests more there are from this second on.
    let mut alive: BTreeMap<u64, i64> = BTreeMap::new();
    for row in fold.measured().filter(|row| succeeded(row)) {
        let first = second(start, row.sent_us);
        let last = row.last_us().map_or(first, |last| second(start, last)).max(first);
        *alive.entry(first).or_default() += 1;
        *alive.entry(last + 1).or_default() -= 1;
    }
    let level = alive.values().scan(0_i64, |level, change| {
        *level += change;
        Some(*level)
    });
    level.max().unwrap_or(0).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::record::Outcome;
    use crate::metrics::samples::{failed, record};

    fn peaks(records: &[RequestRecord]) -> (u64, u64) {
        let fold = Fold::of(records);
        let mut chunks = Chunks::new(&fold);
        records.iter().for_each(|record| chunks.add(record));
        (chunks.most(), most_alive(&fold))
    }

    #[test]
    fn worked_by_hand() {
        // First: 0.5–0.64 s, ten chunks. Second: chunks at 1.45 … 1.54 s, so five before the second is full (1.5 s after
        // the first was sent at 0.5 s is second 1) and five after.
        let (first, second) = (record(0, 500_000), record(1, 1_400_000));
        assert_eq!(peaks(&[first, second.clone()]), (15, 2));
        assert_eq!(peaks(&[second]), (10, 1));
    }

    #[test]
    fn failed_requests_have_no_part() {
        assert_eq!(peaks(&[]), (0, 0));
        assert_eq!(peaks(&[failed(0, 0, Outcome::Timeout)]), (0, 0));
    }
}
