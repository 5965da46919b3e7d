//! The server's count of output tokens held against the client's own.
//!
//! OSL, ITL and tok/s all rest on `usage`; nothing else would show a server that counts chunks or characters.

use super::record::RequestRecord;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Output tokens of the same answers by both counts: measured requests that ended well, with `usage`, and counted by the
/// client.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TokenCheck {
    /// Answers counted twice.
    pub requests: u64,
    /// Their mean output length by the server's `usage`, tokens.
    pub usage_mean: f64,
    /// Their mean output length by the client's tokenizer, tokens.
    pub tokenizer_mean: f64,
    /// `usage_mean / tokenizer_mean`; `null` when the client counted no token.
    pub ratio: Option<f64>,
}

impl fmt::Display for TokenCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, usage_mean, tokenizer_mean, .. } = self;
        write!(
            f,
            "server reports {usage_mean:.1} output tokens where the client's tokenizer counts {tokenizer_mean:.1} (mean of {requests})"
        )
    }
}

/// Both counts, summed up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CountTally {
    requests: u64,
    usage: u64,
    counted: u64,
}

impl CountTally {
    /// Takes one measured record that ended well.
    pub(super) fn add(&mut self, record: &RequestRecord) {
        if let (Some(usage), Some(counted)) = (record.usage, record.osl_counted) {
            self.requests += 1;
            self.usage = self.usage.saturating_add(usage.completion_tokens);
            self.counted = self.counted.saturating_add(counted);
        }
    }

    /// The check; `None` when no answer was counted twice.
    pub fn check(&self) -> Option<TokenCheck> {
        let mean = |sum: u64| sum as f64 / self.requests as f64;
        (self.requests > 0).then(|| TokenCheck {
            requests: self.requests,
            usage_mean: mean(self.usage),
            tokenizer_mean: mean(self.counted),
            ratio: (self.counted > 0).then(|| self.usage as f64 / self.counted as f64),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::fixtures::{failed, record};
    use crate::metrics::fold::Fold;
    use crate::metrics::record::{Outcome, Phase};

    #[test]
    fn worked_by_hand() {
        let counted = |tokens| RequestRecord { osl_counted: Some(tokens), ..record(0, 0) };
        let records = [
            counted(8),
            counted(12),
            record(1, 0),
            RequestRecord { usage: None, ..counted(99) },
            RequestRecord { phase: Phase::Warmup, ..counted(99) },
            RequestRecord { osl_counted: Some(99), ..failed(2, 0, Outcome::Disconnected) },
        ];
        let check = Fold::of(&records).counted.check().expect("a check");
        assert_eq!((check.requests, check.usage_mean, check.tokenizer_mean), (2, 10.0, 10.0));
        assert_eq!(check.ratio, Some(1.0));
        let check = Fold::of(&[counted(25)]).counted.check().expect("a check");
        assert_eq!(check.ratio, Some(0.4));
        let words = "server reports 10.0 output tokens where the client's tokenizer counts 25.0 (mean of 1)";
        assert_eq!(check.to_string(), words);
    }

    #[test]
    fn what_was_not_counted_twice_says_nothing() {
        assert_eq!(Fold::of(&[record(0, 0)]).counted.check(), None);
        let none = RequestRecord { osl_counted: Some(0), ..record(0, 0) };
        assert_eq!(Fold::of(&[none]).counted.check().expect("a check").ratio, None);
    }
}
