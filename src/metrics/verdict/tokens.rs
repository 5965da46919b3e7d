//! Reasons from who counted the tokens and who had seen them before: a prefix cache that answered against the plan, a server
//! whose count of output tokens is not the tokenizer's.

use super::Reason;
use crate::metrics::fold::Fold;
use crate::metrics::prefix_cache::PrefixCache;
use crate::metrics::record::PointRun;
use crate::metrics::token_check::TokenCheck;

/// Prompts are planned with a tokenizer that may differ from the server's in a token or two of a prompt, and caches count in
/// blocks. What is found against the plan beyond 1 % of the tokens looked up is neither.
pub const CACHE_EXCESS_SUSPECT: f64 = 0.01;
/// A tenth of the prefill work left out moves TTFT by about as much as a faster GPU would.
pub const CACHE_EXCESS_INVALID: f64 = 0.10;
/// Below this many tokens, a few blocks, the share is not judged: in a tiny run one of them is a large share.
pub const CACHE_EXCESS_MIN_TOKENS: u64 = 64;
/// Generated text does not re-tokenize into the tokens it was generated from: with random weights a client counted 34 for 32
/// (`research/real-servers.md` §9), and partial UTF-8 or special tokens never arrive as text. A server that counts chunks, which hold
/// several tokens under load or with `--stream-interval`, or characters, of which a token has three to five, is further off.
pub const TOKEN_RATIO_SUSPECT: f64 = 0.25;
/// Fewer answers than this may all be odd ones.
pub const TOKEN_CHECK_MIN_REQUESTS: u64 = 5;

/// The reasons that apply.
pub(super) fn reasons(run: &PointRun, fold: &Fold) -> impl Iterator<Item = Reason> {
    let cache = PrefixCache::of(run, &fold.cache).and_then(|cache| reused(cache, fold));
    cache.into_iter().chain(fold.counted.check().and_then(count_off))
}

/// The cache answered more than was planned.
fn reused(cache: PrefixCache, fold: &Fold) -> Option<Reason> {
    let excess = fold.cache.excess(&cache);
    if excess <= CACHE_EXCESS_MIN_TOKENS {
        return None;
    }
    let text = format!(
        "the {cache}: prompts were seen before; give the run another salt, or empty the cache before it (load.prompts.reset_cache)"
    );
    let limits = [CACHE_EXCESS_SUSPECT, CACHE_EXCESS_INVALID].map(|part| part * cache.queried as f64);
    Reason::above(excess as f64, limits, text)
}

/// The server's `usage` and the client's tokenizer disagree about the length of the same answers.
fn count_off(check: TokenCheck) -> Option<Reason> {
    let off = (check.usage_mean - check.tokenizer_mean).abs();
    let applies =
        check.requests >= TOKEN_CHECK_MIN_REQUESTS && off > TOKEN_RATIO_SUSPECT * check.tokenizer_mean;
    let text = format!(
        "the {check}: OSL, ITL and tok/s rest on the server's count; see what it counts, or whether the tokenizer is the model's (load.prompts.tokenizer)"
    );
    Reason::suspect_if(applies, text)
}
