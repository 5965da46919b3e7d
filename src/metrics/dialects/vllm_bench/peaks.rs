//! The two peaks of vLLM: chunks in the busiest second and requests alive in the fullest one.
//!
//! Seconds are counted from the first successful request. A request is alive in every second it touches, so that
//! `max_concurrent_requests` may exceed the concurrency. Arrow: `record` → here → `json`.

use super::succeeded;
use crate::metrics::record::RequestRecord;
use std::collections::BTreeMap;

const US_PER_S: u64 = 1_000_000;

/// `max_output_tokens_per_s` (which counts chunks) and `max_concurrent_requests`. Both 0 when no request succeeded.
pub(super) fn peaks(records: &[&RequestRecord]) -> (u64, u64) {
    let good = || records.iter().filter(|record| succeeded(record));
    let Some(start) = good().map(|record| record.sent_us).min() else { return (0, 0) };
    let second = |at: u64| at.saturating_sub(start) / US_PER_S;
    let mut chunks: BTreeMap<u64, u64> = BTreeMap::new();
    // How many requests more there are from this second on.
    let mut alive: BTreeMap<u64, i64> = BTreeMap::new();
    for record in good() {
        for at in &record.chunks_us {
            *chunks.entry(second(*at)).or_default() += 1;
        }
        let first = second(record.sent_us);
        let last = record.chunks_us.last().map_or(first, |last| second(*last)).max(first);
        *alive.entry(first).or_default() += 1;
        *alive.entry(last + 1).or_default() -= 1;
    }
    let level = alive.values().scan(0_i64, |level, change| {
        *level += change;
        Some(*level)
    });
    (chunks.into_values().max().unwrap_or(0), level.max().unwrap_or(0).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::record::Outcome;
    use crate::metrics::samples::{failed, record};

    #[test]
    fn worked_by_hand() {
        // First: 0.5–0.64 s, ten chunks. Second: chunks at 1.45 … 1.54 s, so five before the second is full (1.5 s after
        // the first was sent at 0.5 s is second 1) and five after.
        let (first, second) = (record(0, 500_000), record(1, 1_400_000));
        assert_eq!(peaks(&[&first, &second]), (15, 2));
        assert_eq!(peaks(&[&second]), (10, 1));
    }

    #[test]
    fn failed_requests_have_no_part() {
        assert_eq!(peaks(&[]), (0, 0));
        assert_eq!(peaks(&[&failed(0, 0, Outcome::Timeout)]), (0, 0));
    }
}
