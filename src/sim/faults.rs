//! Injected faults, to test a benchmark with failing servers. Off by default; the same seed fails the same requests.

use super::{stable_hash, unit_interval};

/// Salt that keeps the failure draw apart from the other draws of the same seed.
const FAIL_SALT: u64 = 0xfa11;

/// The flags of `tokmark sim` for faults.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
pub struct Faults {
    /// Fault: answer this share of the requests (0 to 1, chosen by the seed) with 503
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub fail_rate: f64,
    /// Fault: listen only after this many seconds, like a server that loads a model
    #[arg(long = "startup-delay", default_value_t = 0.0, value_name = "SECONDS")]
    pub startup_delay_s: f64,
    /// Fault: exit with code 1 after this many answered requests
    #[arg(long, value_name = "N")]
    pub crash_after: Option<u64>,
    /// Fault: the answer to the Nth request stops half-way and never ends
    #[arg(long, value_name = "N")]
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
