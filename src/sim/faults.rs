//! Injected faults, to test a benchmark with failing servers. Off by default; the same seed fails the same requests.

use super::{stable_hash, unit_interval};

/// Salt that keeps the failure draw apart from the other draws of the same seed.
const FAIL_SALT: u64 = 0xfa11;

/// The faults.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Faults {
    /// Share of the requests answered with 503, 0 to 1.
    pub fail_rate: f64,
    /// Seconds before the server listens.
    pub startup_delay_s: f64,
    /// The process exits with 1 after this many answered requests.
    pub crash_after: Option<u64>,
    /// The answer to this request (from 1) stops half-way and never ends.
    pub stall_after: Option<u64>,
}

impl Faults {
    /// Whether the `nth` request (from 1) gets a 503.
    pub fn fails(&self, seed: u64, nth: u64) -> bool {
        self.fail_rate > 0.0
            && unit_interval(stable_hash(seed ^ FAIL_SALT, &nth.to_le_bytes())) < self.fail_rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failing_share_is_exact_and_deterministic() {
        let faults = Faults { fail_rate: 0.1, ..Faults::default() };
        let failed = |seed| (1..=10_000).filter(|nth| faults.fails(seed, *nth)).collect::<Vec<u64>>();
        assert!((900..1100).contains(&failed(1).len()), "{}", failed(1).len());
        assert_eq!(failed(1), failed(1));
        assert_ne!(failed(1), failed(2));
        assert!(!Faults::default().fails(1, 1));
        assert!(Faults { fail_rate: 1.0, ..Faults::default() }.fails(1, 1));
    }
}
