//! Fields of a request that not every OpenAI-compatible server takes, and what a result means without them.

use serde::{Deserialize, Serialize};

/// One such field. The order is the one in which they are given up: the least missed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extension {
    /// `stream_options.continuous_usage_stats`: `usage` in every chunk.
    ContinuousUsageStats,
    /// `min_tokens`: no end before the output length.
    MinTokens,
    /// `ignore_eos`: no end by the model's own token.
    IgnoreEos,
    /// `stream_options`: `usage` in a stream at all.
    StreamOptions,
    /// `max_tokens` on the chat endpoint, in whose place `max_completion_tokens` is sent.
    MaxTokens,
}

impl Extension {
    /// All, in the order in which they are given up.
    pub const ALL: [Self; 5] =
        [Self::ContinuousUsageStats, Self::MinTokens, Self::IgnoreEos, Self::StreamOptions, Self::MaxTokens];

    /// The key as it stands in the body and in a server's complaint.
    pub fn key(self) -> &'static str {
        match self {
            Self::ContinuousUsageStats => "continuous_usage_stats",
            Self::MinTokens => "min_tokens",
            Self::IgnoreEos => "ignore_eos",
            Self::StreamOptions => "stream_options",
            Self::MaxTokens => "max_tokens",
        }
    }

    /// The whole path in the body.
    pub fn path(self) -> &'static str {
        match self {
            Self::ContinuousUsageStats => "stream_options.continuous_usage_stats",
            other => other.key(),
        }
    }

    /// The extension of that path.
    pub fn of_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|extension| extension.path() == path)
    }

    /// The field that is sent in its place.
    pub fn replacement(self) -> Option<&'static str> {
        (self == Self::MaxTokens).then_some("max_completion_tokens")
    }

    /// What a result means when this and the others of `left_out` were not sent.
    pub fn effect(self, left_out: &[Self]) -> &'static str {
        let without = |other: Self| left_out.contains(&other);
        match self {
            Self::ContinuousUsageStats => "usage comes once, at the end of a stream",
            Self::MinTokens if without(Self::IgnoreEos) => "output lengths are the model's own",
            Self::MinTokens => "output lengths rest on ignore_eos alone",
            Self::IgnoreEos if without(Self::MinTokens) => "output lengths are the model's own",
            Self::IgnoreEos => "output lengths rest on min_tokens alone",
            Self::StreamOptions => "token counts are approximate unless the server sends usage unasked",
            Self::MaxTokens => "none: max_completion_tokens bounds the output as well",
        }
    }
}
