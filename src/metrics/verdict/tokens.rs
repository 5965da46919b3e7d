//! Reasons from who counted the tokens and who had seen them before: a prefix cache that answered against the plan, a server
//! whose count of output tokens is not the tokenizer's.

use super::Rating;
use crate::metrics::fold::Fold;
use crate::metrics::prefix_cache::PrefixCache;
use crate::metrics::record::PointRun;
use crate::metrics::token_check::TokenCheck;
use std::fmt;

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

/// Why token counts, or the prompts they count, are not what they seem.
#[derive(Debug, Clone, PartialEq)]
pub enum TokenReason {
    /// The prefix cache answered more than planned.
    PrefixCache {
        /// What it answered.
        cache: PrefixCache,
        /// Tokens answered against the plan.
        excess: u64,
    },
    /// The server's `usage` and the client's tokenizer disagree about the length of the same answers.
    OutputCount(TokenCheck),
}

impl TokenReason {
    /// How bad the reason is.
    pub fn rating(&self) -> Rating {
        match self {
            Self::PrefixCache { cache, excess } if above(*excess, CACHE_EXCESS_INVALID, cache) => {
                Rating::Invalid
            }
            Self::PrefixCache { .. } | Self::OutputCount(_) => Rating::Suspect,
        }
    }
}

impl fmt::Display for TokenReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PrefixCache { cache, .. } => write!(
                f,
                "the {cache}: prompts were seen before; give the run another salt, or empty the cache before it (load.prompts.reset_cache)"
            ),
            Self::OutputCount(check) => write!(
                f,
                "the {check}: OSL, ITL and tok/s rest on the server's count; see what it counts, or whether the tokenizer is the model's (load.prompts.tokenizer)"
            ),
        }
    }
}

/// The reasons that apply.
pub(super) fn reasons(run: &PointRun, fold: &Fold) -> Vec<TokenReason> {
    let cache = PrefixCache::of(run, fold.cache()).and_then(|cache| {
        let excess = fold.cache().excess(&cache);
        (excess > CACHE_EXCESS_MIN_TOKENS && above(excess, CACHE_EXCESS_SUSPECT, &cache))
            .then_some(TokenReason::PrefixCache { cache, excess })
    });
    let count = fold.counted().check().filter(is_off).map(TokenReason::OutputCount);
    cache.into_iter().chain(count).collect()
}

/// Whether `excess` is more than `share` of the tokens looked up.
fn above(excess: u64, share: f64, cache: &PrefixCache) -> bool {
    excess as f64 > share * cache.queried as f64
}

fn is_off(check: &TokenCheck) -> bool {
    let TokenCheck { requests, usage_mean, tokenizer_mean, .. } = check;
    *requests >= TOKEN_CHECK_MIN_REQUESTS
        && (usage_mean - tokenizer_mean).abs() > TOKEN_RATIO_SUSPECT * tokenizer_mean
}
