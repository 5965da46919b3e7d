//! Whether a load point may be believed: `valid`, `suspect` or `invalid`, with reasons that name the figures.
//!
//! *Invalid* means that a figure is not what its name says; *suspect* means a reader must know the reason
//! before using it. Each threshold is a constant with its why.

pub mod client;
mod steady;
pub mod tokens;

use self::client::ClientReason;
use self::tokens::TokenReason;
use super::fold::Fold;
use super::record::{CountSource, PointRun};
use super::request_figures::RequestFigures;
use super::stats::percentile;
use crate::plan::LoadPoint;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Above this share of failed requests the survivors are no longer a fair sample of the load that was requested.
pub const ERROR_RATE_SUSPECT: f64 = 0.01;
/// Above this share the server ran under a visibly lighter load than the point's name states.
pub const ERROR_RATE_INVALID: f64 = 0.10;
/// With `ignore_eos` the answer must have the requested length; 5 % is AIPerf's own mismatch threshold.
pub const OSL_REACHED: f64 = 0.95;
/// A few short answers (stop strings, context limit) hardly move a mean, more do.
pub const OSL_SHORT_SUSPECT: f64 = 0.05;
/// When most answers are short, the point measured another output length.
pub const OSL_SHORT_INVALID: f64 = 0.50;
/// Chat templates and BOS add tokens; when prompts are off by more than 10 % of the plan on average, in either direction,
/// prefill work differs from the recipe's.
pub const ISL_OFF_SUSPECT: f64 = 0.10;
/// An answer of so many tokens in a single chunk was buffered on its way; shorter ones may well fit in one chunk.
pub const ONE_CHUNK_MIN_OSL: u64 = 8;
/// Share of such answers above which TTFT and ITL describe a buffer, not the server.
pub const ONE_CHUNK_SUSPECT: f64 = 0.50;
/// A decode step of a fast server takes 5 ms or more, and it looks at new requests once a step: arrivals shifted by less
/// meet the same batch. Later than this, requests no longer arrive on schedule.
pub const SCHEDULE_LAG_SUSPECT_MS: f64 = 5.0;
/// Latency near saturation is steep in the rate; 5 % less load can look like a much faster server.
pub const RATE_OFF_SUSPECT: f64 = 0.05;
/// Requests that are cut are the longest ones: cutting more than this lets the latencies look better than they are.
pub const CUT_SUSPECT: f64 = 0.05;
/// Below this many requests not only p99 but every percentile from p90 up lies between the two slowest of them. (p95 needs
/// 20 requests and p99 100 to be anything else.)
pub const FEW_REQUESTS: u64 = 10;

/// Whether a result may be used.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Rating {
    /// Nothing speaks against it.
    Valid,
    /// Usable by a reader who knows the reasons.
    Suspect,
    /// Not to be used.
    Invalid,
}

impl fmt::Display for Rating {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Valid => "valid",
            Self::Suspect => "suspect",
            Self::Invalid => "invalid",
        })
    }
}

/// A rating and its reasons, in words for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Verdict {
    /// The worst of the reasons.
    pub result: Rating,
    /// One sentence each, with figures; empty when valid.
    pub reasons: Vec<String>,
}

impl Verdict {
    /// The verdict that `reasons` add up to.
    pub fn of(reasons: &[Reason]) -> Self {
        let result = reasons.iter().map(Reason::rating).max().unwrap_or(Rating::Valid);
        Self { result, reasons: reasons.iter().map(Reason::to_string).collect() }
    }

    /// Makes it at least suspect for a reason from outside the records.
    pub fn suspect(&mut self, reason: String) {
        self.result = self.result.max(Rating::Suspect);
        self.reasons.push(reason);
    }

    /// Makes it invalid for a reason from outside the records, such as a server that died.
    pub fn invalidate(&mut self, reason: &str) {
        self.result = Rating::Invalid;
        self.reasons.insert(0, reason.to_owned());
    }
}

/// Why a load point is not plainly valid. Shares are 0–1.
#[derive(Debug, Clone, PartialEq)]
pub enum Reason {
    /// The point was cut short.
    Interrupted,
    /// The load was scaled down on purpose.
    Scaled {
        /// Share of the recipe's requests and time.
        share: f64,
    },
    /// Not one measured request ended well.
    NothingCompleted {
        /// Measured requests.
        total: u64,
    },
    /// Too many measured requests failed.
    Errors {
        /// Failed measured requests.
        failed: u64,
        /// Measured requests.
        total: u64,
    },
    /// Requests completed, yet no token was generated.
    ZeroTokens {
        /// Completed requests.
        completed: u64,
    },
    /// Answers shorter than requested although `ignore_eos` is on.
    OslNotReached {
        /// Requests with less than [`OSL_REACHED`] of their output length.
        short: u64,
        /// Requests whose output length is known.
        completed: u64,
        /// Their mean output length, tokens.
        mean: f64,
        /// The requested mean, tokens.
        requested: f64,
    },
    /// Prompts have another length than planned.
    IslOff {
        /// Mean prompt length, tokens.
        mean: f64,
        /// The mean planned, tokens.
        planned: f64,
        /// Whether `mean` rests on the approximate count.
        approximate: bool,
    },
    /// Streaming was requested, and answers came in one piece.
    NotStreamed {
        /// Answers of [`ONE_CHUNK_MIN_OSL`] or more tokens in one chunk.
        single: u64,
        /// Answers of that length.
        long: u64,
    },
    /// The server sent no `usage` and there was no tokenizer.
    ApproximateCounts {
        /// Requests with an approximate count.
        requests: u64,
        /// Completed requests.
        completed: u64,
    },
    /// Prompts were in a cache against the plan, or output tokens are counted in another way.
    Tokens(TokenReason),
    /// The client or its machine was the limit.
    Client(ClientReason),
    /// Requests were sent later than scheduled.
    ScheduleLag {
        /// 99th percentile of sent − intended, ms.
        p99_ms: f64,
    },
    /// Requests were not sent at the rate of the schedule.
    RateOff {
        /// Requests sent per second.
        sent: f64,
        /// Intended arrivals per second.
        offered: f64,
    },
    /// Arrivals were not sent: no place was free.
    Dropped {
        /// Dropped arrivals.
        dropped: u64,
        /// All arrivals.
        arrivals: u64,
    },
    /// Arrivals were not sent: the point ended while they waited.
    Unsent {
        /// Such arrivals.
        unsent: u64,
        /// All arrivals.
        arrivals: u64,
    },
    /// Requests were cut at the end of the point.
    CutAtEnd {
        /// Requests that were cut.
        cut: u64,
        /// Measured requests.
        total: u64,
    },
    /// Too few requests for percentiles.
    FewRequests {
        /// Completed requests.
        completed: u64,
    },
    /// The latency rose or fell all through the measured window.
    Unsteady {
        /// Median latency in the first third of the steady part, ms.
        early_ms: f64,
        /// Median latency in its last third, ms.
        late_ms: f64,
    },
}

impl Reason {
    /// How bad the reason is.
    pub fn rating(&self) -> Rating {
        let above = |is_invalid: bool| if is_invalid { Rating::Invalid } else { Rating::Suspect };
        match self {
            Self::Interrupted | Self::NothingCompleted { .. } | Self::ZeroTokens { .. } => Rating::Invalid,
            Self::Errors { failed, total } => above(share(*failed, *total) > ERROR_RATE_INVALID),
            Self::OslNotReached { short, completed, .. } => {
                above(share(*short, *completed) > OSL_SHORT_INVALID)
            }
            Self::Tokens(reason) => reason.rating(),
            Self::Client(reason) => reason.rating(),
            Self::IslOff { .. }
            | Self::NotStreamed { .. }
            | Self::ApproximateCounts { .. }
            | Self::ScheduleLag { .. }
            | Self::RateOff { .. }
            | Self::Dropped { .. }
            | Self::Unsent { .. }
            | Self::CutAtEnd { .. }
            | Self::FewRequests { .. }
            | Self::Scaled { .. }
            | Self::Unsteady { .. } => Rating::Suspect,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupted => f.write_str("interrupted before the load point was complete"),
            Self::Scaled { share } => {
                write!(f, "the load was scaled to {share} of the recipe's: a rehearsal, not a result")
            }
            Self::NothingCompleted { total } => write!(f, "none of {total} measured requests completed"),
            Self::Errors { failed, total } => {
                write!(f, "{failed} of {total} requests failed ({:.1} %)", 100.0 * share(*failed, *total))
            }
            Self::ZeroTokens { completed } => {
                write!(f, "{completed} requests completed without a single output token")
            }
            Self::OslNotReached { short, completed, mean, requested } => write!(
                f,
                "output length not reached in {short} of {completed} requests ({:.1} %): mean {mean:.1} tokens, {requested:.1} requested",
                100.0 * share(*short, *completed)
            ),
            Self::IslOff { mean, planned, approximate } => write!(
                f,
                "prompts have {mean:.1} tokens on average, {planned:.1} planned{}",
                if *approximate { " (the count is approximate)" } else { "" }
            ),
            Self::NotStreamed { single, long } => write!(
                f,
                "{single} of {long} streamed answers came in one chunk: TTFT and ITL describe a buffer, not the server"
            ),
            Self::ApproximateCounts { requests, completed } => write!(
                f,
                "token counts of {requests} of {completed} requests are approximate: no usage from the server, no tokenizer"
            ),
            Self::Tokens(reason) => reason.fmt(f),
            Self::Client(reason) => reason.fmt(f),
            Self::ScheduleLag { p99_ms } => {
                write!(f, "schedule not kept: p99 of sent − intended is {p99_ms:.1} ms")
            }
            Self::RateOff { sent, offered } => {
                write!(f, "requests were sent at {sent:.2} per second, {offered:.2} were offered")
            }
            Self::Dropped { dropped, arrivals } => write!(
                f,
                "{dropped} of {arrivals} arrivals were dropped ({:.1} %): the most allowed requests were in flight",
                100.0 * share(*dropped, *arrivals)
            ),
            Self::Unsent { unsent, arrivals } => {
                write!(f, "{unsent} of {arrivals} arrivals still waited at the end and were not sent")
            }
            Self::CutAtEnd { cut, total } => write!(
                f,
                "{cut} of {total} requests were cut at the end ({:.1} %): the longest are missing from the latencies",
                100.0 * share(*cut, *total)
            ),
            Self::FewRequests { completed: 1 } => {
                f.write_str("only 1 request completed: every percentile is that one")
            }
            Self::FewRequests { completed } => write!(
                f,
                "only {completed} requests completed: p90, p95 and p99 lie between the two slowest of them"
            ),
            Self::Unsteady { early_ms, late_ms } => write!(
                f,
                "unsteady: the median latency went from {early_ms:.0} to {late_ms:.0} ms ({:+.0} %) within the measured window",
                100.0 * (late_ms / early_ms - 1.0)
            ),
        }
    }
}

/// Every reason that applies to a load point as it ran, server side first, client side last.
pub fn reasons(point: &LoadPoint, run: &PointRun, fold: &Fold) -> Vec<Reason> {
    let completed = fold.good().count() as u64;
    let mut found = Vec::new();
    if run.interrupted {
        found.push(Reason::Interrupted);
    }
    found.extend(point.scaled.map(|share| Reason::Scaled { share }));
    found.extend(completion(run, fold, completed));
    if completed > 0 {
        let answers = [
            zero_tokens(fold, completed),
            osl(point, fold),
            isl(fold),
            not_streamed(point, fold),
            approximate(fold, completed),
            (completed < FEW_REQUESTS).then_some(Reason::FewRequests { completed }),
            steady::trend(point, fold).map(|(early_ms, late_ms)| Reason::Unsteady { early_ms, late_ms }),
        ];
        found.extend(answers.into_iter().flatten());
    }
    found.extend(tokens::reasons(run, fold).into_iter().map(Reason::Tokens));
    found.extend(schedule(run, fold));
    let measured = fold.measured().count() as u64;
    let gap_p50_ms = || fold.gaps().distribution_ms().map(|gaps| gaps.p50);
    let client = client::reasons(&run.client, run.window_s(), measured, gap_p50_ms);
    found.extend(client.into_iter().map(Reason::Client));
    found
}

/// Whether the load was the one that was requested.
fn schedule(run: &PointRun, fold: &Fold) -> Vec<Reason> {
    let mut found = Vec::new();
    let (cut, total) = (fold.cut_at_end(run), fold.measured().count() as u64);
    if share(cut, total) > CUT_SUSPECT {
        found.push(Reason::CutAtEnd { cut, total });
    }
    let Some(arrivals) = run.arrivals else { return found };
    if arrivals.dropped > 0 {
        found.push(Reason::Dropped { dropped: arrivals.dropped, arrivals: arrivals.total });
    }
    if arrivals.unsent > 0 {
        found.push(Reason::Unsent { unsent: arrivals.unsent, arrivals: arrivals.total });
    }
    if let (Some(sent), Some(offered)) = (fold.sent_per_s(), arrivals.rate_per_s())
        && (sent - offered).abs() > RATE_OFF_SUSPECT * offered
    {
        found.push(Reason::RateOff { sent, offered });
    }
    let mut lags = fold.values(fold.measured().map(RequestFigures::schedule_lag_ms));
    lags.sort_unstable_by(f64::total_cmp);
    let p99_ms = percentile(&lags, 99.0);
    if p99_ms > SCHEDULE_LAG_SUSPECT_MS {
        found.push(Reason::ScheduleLag { p99_ms });
    }
    found
}

fn completion(run: &PointRun, fold: &Fold, completed: u64) -> Option<Reason> {
    let measured = fold.measured().count() as u64;
    // What the planned end cut did not fail; it has its own reason.
    let total = measured - fold.cut_at_end(run);
    let failed = total - completed;
    if completed == 0 {
        return Some(Reason::NothingCompleted { total: measured });
    }
    (share(failed, total) > ERROR_RATE_SUSPECT).then_some(Reason::Errors { failed, total })
}

fn zero_tokens(fold: &Fold, completed: u64) -> Option<Reason> {
    fold.good().all(|request| request.osl == 0).then_some(Reason::ZeroTokens { completed })
}

/// Only counts that are no approximation are judged: one token a word is further off than the threshold.
fn osl(point: &LoadPoint, fold: &Fold) -> Option<Reason> {
    let counted = || fold.good().filter(|request| request.osl_source != CountSource::Approximate);
    let is_short =
        |request: &&RequestFigures| f64::from(request.osl) < OSL_REACHED * f64::from(request.osl_requested);
    let (short, completed) = (counted().filter(is_short).count() as u64, counted().count() as u64);
    (point.ignore_eos && share(short, completed) > OSL_SHORT_SUSPECT).then(|| Reason::OslNotReached {
        short,
        completed,
        mean: share(counted().map(|request| u64::from(request.osl)).sum(), completed),
        requested: share(counted().map(|request| u64::from(request.osl_requested)).sum(), completed),
    })
}

fn isl(fold: &Fold) -> Option<Reason> {
    let prompts = fold.prompts();
    let planned = prompts.mean_planned();
    (prompts.mean_off() > ISL_OFF_SUSPECT * planned).then(|| Reason::IslOff {
        mean: prompts.mean_isl(),
        planned,
        approximate: fold.good().any(|request| request.isl_source == CountSource::Approximate),
    })
}

fn not_streamed(point: &LoadPoint, fold: &Fold) -> Option<Reason> {
    let long = || fold.good().filter(|request| u64::from(request.osl) >= ONE_CHUNK_MIN_OSL);
    let single = long().filter(|request| request.chunks == 1).count() as u64;
    let long = long().count() as u64;
    (point.streaming && share(single, long) > ONE_CHUNK_SUSPECT)
        .then_some(Reason::NotStreamed { single, long })
}

fn approximate(fold: &Fold, completed: u64) -> Option<Reason> {
    let is_approximate = |request: &&RequestFigures| {
        [request.isl_source, request.osl_source].contains(&CountSource::Approximate)
    };
    let requests = fold.good().filter(is_approximate).count() as u64;
    (requests > 0).then_some(Reason::ApproximateCounts { requests, completed })
}

/// `part / whole`, 0 when there is no whole.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests;
