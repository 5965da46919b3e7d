//! The simulated engine: an OpenAI-compatible server whose timing comes from a model of continuous batching.
//!
//! `profile` (data) → `config` (checked) → `engine` + `cost`, `roofline` (pure, virtual time) → `server` (HTTP, real time).
//! All answers are marked as simulated: the header `x-tokmark-simulated`, `"simulated": true` in `/v1/models`,
//! `system_fingerprint`.

mod answer;
mod api_error;
pub mod config;
pub mod cost;
mod driver;
pub mod engine;
pub mod faults;
mod pacer;
pub mod profile;
mod prometheus;
mod render;
mod request;
pub mod roofline;
mod routes;
pub mod server;
mod stats;
pub mod step;

pub use config::{ConfigError, Overrides, SimConfig};
pub use faults::Faults;
pub use server::{ServeEnd, SimError, run_until};

/// Number of tokens under the `approximate` tokenizer: one per word, separated by whitespace.
///
/// The client counts the same way, so its figures equal the server's `usage`. Without chat template.
pub fn count_words(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}

/// A 64-bit hash that is the same on every machine and in every version: FNV-1a, finished with splitmix64.
pub(crate) fn stable_hash(seed: u64, bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    let mut mixed = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A hash as a number in [0, 1).
pub(crate) fn unit_interval(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_word() {
        for (text, tokens) in [("", 0), ("  ", 0), ("one", 1), (" two\twords\n", 2), ("a b  c", 3)] {
            assert_eq!(count_words(text), tokens, "{text:?}");
        }
    }

    #[test]
    fn the_hash_depends_on_seed_and_bytes_and_spreads() {
        assert_ne!(stable_hash(1, b"x"), stable_hash(2, b"x"));
        assert_ne!(stable_hash(1, b"x"), stable_hash(1, b"y"));
        let mean =
            (0..10_000_u64).map(|n| unit_interval(stable_hash(7, &n.to_le_bytes()))).sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
    }
}
