//! Slurm's times and durations.
//!
//! The executor sets `SLURM_TIME_FORMAT=%s` and `TZ=UTC`, so a time is seconds since 1970 or, from tools that ignore the format, an
//! ISO time in UTC.

use super::present;

/// A time in unix seconds: `1795322736`, or `2026-11-22T02:31:49` read as UTC. Absent for `N/A`, `Unknown`, `NONE`.
pub fn unix_s(text: &str) -> Option<i64> {
    let text = present(text)?;
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok().filter(|&s| s > 0);
    }
    let time: jiff::civil::DateTime = text.parse().ok()?;
    Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

/// A duration in seconds: `0:02`, `1:00:00`, `7-00:00:00`. Absent for `UNLIMITED`, `INVALID`, `N/A`, `Partition_Limit`.
/// Source: squeue(1), `%M` and `%l`: `days-hours:minutes:seconds`.
pub fn duration_s(text: &str) -> Option<u64> {
    let text = present(text)?;
    let (days, clock) = text.split_once('-').map_or(("0", text), |(days, clock)| (days, clock));
    let parts = clock.split(':').map(|part| part.parse::<u64>().ok()).collect::<Option<Vec<_>>>()?;
    let seconds = match (parts.as_slice(), text.contains('-')) {
        ([h, m, s], _) => hms(*h, *m, *s),
        ([h, m], true) => hms(*h, *m, 0),
        ([h], true) => hms(*h, 0, 0),
        ([m, s], false) => hms(0, *m, *s),
        _ => None,
    }?;
    days.parse::<u64>().ok()?.checked_mul(86_400)?.checked_add(seconds)
}

fn hms(hours: u64, minutes: u64, seconds: u64) -> Option<u64> {
    hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?.checked_add(seconds)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn instants() {
        assert_eq!(unix_s("1795322736"), Some(1_795_322_736));
        assert_eq!(unix_s("1970-01-02T00:00:01"), Some(86_401));
        for text in ["", "N/A", "Unknown", "None", "NONE", "0", "-5", "2026-13-01T00:00:00", "soon"] {
            assert_eq!(unix_s(text), None, "{text:?}");
        }
    }

    #[test]
    fn durations() {
        for (text, seconds) in
            [("0:02", 2), ("59:59", 3599), ("1:00:00", 3600), ("7-00:00:00", 604_800), ("2-03", 183_600)]
        {
            assert_eq!(duration_s(text), Some(seconds), "{text:?}");
        }
        for text in ["", "UNLIMITED", "INVALID", "Partition_Limit", "5", "1:2:3:4", "a-1:00", "-1:00"] {
            assert_eq!(duration_s(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*", digits in "[0-9:-]{0,40}") {
            let _ = (unix_s(&text), duration_s(&text), unix_s(&digits), duration_s(&digits));
        }
    }
}
