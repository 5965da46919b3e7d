//! How much of the prompts a prefix cache answered, and how much of them it should have by plan.
//!
//! A prompt that the server has seen before costs it next to no prefill, so its TTFT does not describe one that it has not.

use super::record::{CacheCount, PointRun, RequestRecord};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What prefix caches answered of the prompt tokens of a load point, warm-up included.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PrefixCache {
    /// Prompt tokens looked up.
    pub queried: u64,
    /// Of those, found.
    pub hit: u64,
    /// `hit / queried`; `null` when nothing was looked up, as with the cache turned off.
    pub hit_rate: Option<f64>,
    /// Prompt tokens that earlier requests may have had as well, by plan: the most that should be found.
    pub planned: u64,
    /// Who counted.
    pub source: CacheSource,
}

/// Who counted what a prefix cache found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CacheSource {
    /// The servers' own counters, over the whole point.
    Counters,
    /// The servers' `usage`, request by request.
    Usage,
}

impl PrefixCache {
    /// From the servers' counters, else from `usage`; `None` when neither reports them.
    pub fn of(run: &PointRun, tally: &CacheTally) -> Option<Self> {
        let counters = run.prefix_cache.map(|count| (count, CacheSource::Counters));
        let usage = || tally.reported.then_some((tally.usage, CacheSource::Usage));
        let (CacheCount { queried, hit }, source) = counters.or_else(usage)?;
        let hit_rate = (queried > 0).then(|| hit as f64 / queried as f64);
        Some(Self { queried, hit, hit_rate, planned: tally.shared, source })
    }
}

impl fmt::Display for PrefixCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(rate) = self.hit_rate else {
            return f.write_str("prefix cache was asked for no prompt token");
        };
        let planned = 100.0 * self.planned as f64 / self.queried as f64;
        write!(f, "prefix cache answered {:.1} % of the prompt tokens, {planned:.1} % by plan", 100.0 * rate)
    }
}

/// Prompt tokens of all records of a load point, summed up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheTally {
    /// By plan.
    planned: u64,
    /// Of those, the ones earlier requests may have had as well.
    shared: u64,
    /// By `usage`.
    usage: CacheCount,
    /// By plan, of the records with `usage`.
    planned_with_usage: u64,
    /// Whether any `usage` reported cached tokens. vLLM leaves the number out where it is 0.
    reported: bool,
}

impl CacheTally {
    /// Takes one record, of whatever phase and outcome.
    pub(super) fn add(&mut self, record: &RequestRecord) {
        let add = |sum: &mut u64, tokens: u64| *sum = sum.saturating_add(tokens);
        add(&mut self.planned, record.isl_planned);
        add(&mut self.shared, record.isl_shared);
        if let Some(usage) = record.usage {
            add(&mut self.planned_with_usage, record.isl_planned);
            add(&mut self.usage.queried, usage.prompt_tokens);
            add(&mut self.usage.hit, usage.cached_tokens.unwrap_or(0));
            self.reported |= usage.cached_tokens.is_some();
        }
    }

    /// Tokens of `cache`, which was made from this, that were found against the plan.
    ///
    /// Tokens looked up beyond those planned are given the benefit of the doubt: a chat template that the client does not
    /// know is in every prompt, and a server that looks a prompt up twice (prefill and decode apart, or a request that had to
    /// wait for memory) finds it twice. Of prompts planned to the token there are none.
    pub fn excess(&self, cache: &PrefixCache) -> u64 {
        let planned = match cache.source {
            CacheSource::Counters => self.planned,
            CacheSource::Usage => self.planned_with_usage,
        };
        let unplanned = cache.queried.saturating_sub(planned);
        cache.hit.saturating_sub(cache.planned).saturating_sub(unplanned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::fixtures::{Ran, any_record, failed, record, run};
    use crate::metrics::record::{Outcome, Phase, Usage};
    use proptest::prelude::*;

    fn with_usage(prompt_tokens: u64, cached_tokens: Option<u64>, isl_shared: u64) -> RequestRecord {
        let usage = Usage { prompt_tokens, completion_tokens: 10, reasoning_tokens: None, cached_tokens };
        RequestRecord { usage: Some(usage), isl_shared, ..record(0, 0) }
    }

    fn found(ran: &Ran) -> Option<PrefixCache> {
        PrefixCache::of(ran, &ran.fold().cache)
    }

    #[test]
    fn by_usage_of_all_phases() {
        let warmup = RequestRecord { phase: Phase::Warmup, ..with_usage(100, Some(48), 40) };
        // Where the number is left out it is 0; a request without usage tells nothing, and was planned all the same.
        let unasked = RequestRecord { isl_shared: 5, ..failed(2, 0, Outcome::Connect) };
        let cache = found(&run(vec![warmup, with_usage(300, None, 40), unasked])).expect("a figure");
        let expected = PrefixCache {
            queried: 400,
            hit: 48,
            hit_rate: Some(0.12),
            planned: 85,
            source: CacheSource::Usage,
        };
        assert_eq!(cache, expected);
        assert_eq!(cache.to_string(), "prefix cache answered 12.0 % of the prompt tokens, 21.2 % by plan");
        let json = serde_json::json!({"queried": 400, "hit": 48, "hit_rate": 0.12, "planned": 85, "source": "usage"});
        assert_eq!(serde_json::to_value(cache).expect("json"), json);
    }

    #[test]
    fn counters_go_before_usage() {
        let mut ran = run(vec![with_usage(100, Some(96), 10)]);
        ran.prefix_cache = Some(CacheCount { queried: 200, hit: 50 });
        let cache = found(&ran).expect("a figure");
        assert_eq!((cache.queried, cache.hit_rate, cache.source), (200, Some(0.25), CacheSource::Counters));
    }

    #[test]
    fn nothing_known_and_nothing_looked_up() {
        assert_eq!(found(&run(vec![with_usage(100, None, 10)])), None);
        let mut off = run(vec![record(0, 0)]);
        off.prefix_cache = Some(CacheCount::default());
        let cache = found(&off).expect("counters");
        assert_eq!((cache.hit_rate, off.fold().cache.excess(&cache)), (None, 0));
        assert_eq!(cache.to_string(), "prefix cache was asked for no prompt token");
    }

    #[test]
    fn excess_is_what_neither_the_plan_nor_an_unknown_template_explains() {
        let excess = |ran: &Ran| ran.fold().cache.excess(&found(ran).expect("a figure"));
        // 100 planned, 10 of them shared.
        assert_eq!(excess(&run(vec![with_usage(100, Some(96), 10)])), 86);
        assert_eq!(excess(&run(vec![with_usage(100, Some(10), 10)])), 0);
        // 37 tokens that nobody planned, as a template has them, and two blocks of it found.
        assert_eq!(excess(&run(vec![with_usage(137, Some(32), 0)])), 0);
        assert_eq!(excess(&run(vec![with_usage(137, Some(136), 0)])), 99);
        // Each prompt looked up twice.
        let mut twice = run(vec![RequestRecord { isl_shared: 50, ..record(0, 0) }; 10]);
        twice.prefix_cache = Some(CacheCount { queried: 2_000, hit: 1_000 });
        assert_eq!(excess(&twice), 0);
        twice.prefix_cache = Some(CacheCount { queried: 2_000, hit: 2_000 });
        assert_eq!(excess(&twice), 500);
    }

    proptest! {
        #[test]
        fn no_record_overflows(records in prop::collection::vec(any_record(), 0..20)) {
            let ran = run(records);
            if let Some(cache) = found(&ran) {
                prop_assert!(ran.fold().cache.excess(&cache) <= cache.hit);
            }
        }
    }
}
