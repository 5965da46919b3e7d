//! Speculative decoding as the engines count it.

use serde::{Deserialize, Serialize};

use super::layer::Pages;

/// Speculative decoding in the window. What the engines do not publish is `null`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Speculation {
    /// Drafts that were verified.
    pub drafts: Option<u64>,
    /// Tokens in them.
    pub draft_tokens: Option<u64>,
    /// Of those, accepted.
    pub accepted_tokens: Option<u64>,
    /// `accepted_tokens / draft_tokens`
    pub acceptance_rate: Option<f64>,
    /// Mean tokens a step yields: 1 + accepted tokens per draft.
    pub acceptance_length: Option<f64>,
    /// Share of the drafts whose token at this position was accepted, from the first on; empty if not published.
    pub rate_by_position: Vec<f64>,
}

impl Speculation {
    /// `None` when nothing was drafted.
    pub(super) fn of(pages: &Pages<'_>) -> Option<Self> {
        let (drafted, accepted) = (pages.by_position("drafted"), pages.by_position("accepted"));
        // Every draft has a first token.
        let first = drafted.first().map(|first| first.round() as u64);
        let drafts = pages.counter("drafts").or(first);
        let draft_tokens = pages.counter("draft_tokens");
        let accepted_tokens = pages.counter("accepted_tokens");
        if drafts.or(draft_tokens)? == 0 {
            return None;
        }
        let ratio = |part: Option<u64>, whole: Option<u64>| {
            let (part, whole) = (part?, whole.filter(|whole| *whole > 0)?);
            Some(part as f64 / whole as f64)
        };
        let rate_by_position = accepted.iter().enumerate().map_while(|(at, accepted)| {
            let verified = drafts.map(|drafts| drafts as f64).or_else(|| drafted.get(at).copied())?;
            (verified > 0.0).then(|| accepted / verified)
        });
        Some(Self {
            acceptance_rate: ratio(accepted_tokens, draft_tokens).or_else(|| pages.mean("acceptance_rate")),
            acceptance_length: ratio(accepted_tokens, drafts)
                .map(|accepted| 1.0 + accepted)
                .or_else(|| pages.mean("acceptance_length")),
            rate_by_position: rate_by_position.collect(),
            drafts,
            draft_tokens,
            accepted_tokens,
        })
    }
}
