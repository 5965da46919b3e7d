//! Whether a load point may be believed: `valid`, `suspect` or `invalid`, with reasons that name the figures.
//!
//! *Invalid* means that a figure is not what its name says; *suspect* means a reader must know the reason
//! before using it. Each threshold is a constant with its why.

pub mod client;
mod steady;
pub mod tokens;

use super::fold::Fold;
use super::record::{Arrivals, CountSource, PointRun};
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
        let result = reasons.iter().map(|reason| reason.rating).max().unwrap_or(Rating::Valid);
        Self { result, reasons: reasons.iter().map(|reason| reason.text.clone()).collect() }
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

/// Why a load point is not plainly valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// How bad it is.
    pub rating: Rating,
    /// One sentence with figures.
    pub text: String,
}

impl Reason {
    fn suspect(text: impl Into<String>) -> Self {
        Self { rating: Rating::Suspect, text: text.into() }
    }

    fn invalid(text: impl Into<String>) -> Self {
        Self { rating: Rating::Invalid, text: text.into() }
    }

    fn suspect_if(applies: bool, text: String) -> Option<Self> {
        applies.then(|| Self::suspect(text))
    }

    /// Suspect if `figure` is above the first limit, invalid if it is above the second.
    fn above(figure: f64, [suspect, invalid]: [f64; 2], text: String) -> Option<Self> {
        let rating = if figure > invalid { Rating::Invalid } else { Rating::Suspect };
        (figure > suspect).then_some(Self { rating, text })
    }
}

/// Every reason that applies to a load point as it ran, server side first, client side last.
pub fn reasons(point: &LoadPoint, run: &PointRun, fold: &Fold) -> Vec<Reason> {
    let completed = fold.good().count() as u64;
    let mut found = Vec::new();
    if run.interrupted {
        found.push(Reason::invalid("interrupted before the load point was complete"));
    }
    found.extend(point.scaled.map(|share| {
        Reason::suspect(format!("the load was scaled to {share} of the recipe's: a rehearsal, not a result"))
    }));
    found.extend(completion(run, fold, completed));
    if completed > 0 {
        let answers = [
            zero_tokens(fold, completed),
            osl(point, fold),
            isl(fold),
            not_streamed(point, fold),
            approximate(fold, completed),
            few_requests(completed),
            steady::reason(point, fold),
        ];
        found.extend(answers.into_iter().flatten());
    }
    found.extend(tokens::reasons(run, fold));
    found.extend(schedule(run, fold));
    let measured = fold.measured().count() as u64;
    let gap_p50_ms = || fold.gaps.distribution_ms().map(|gaps| gaps.p50);
    found.extend(client::reasons(&run.client, run.window_s(), measured, gap_p50_ms));
    found
}

/// Whether the load was the one that was requested.
fn schedule(run: &PointRun, fold: &Fold) -> Vec<Reason> {
    let mut found = Vec::new();
    let mut suspect = |text| found.push(Reason::suspect(text));
    let (cut, total) = (fold.cut_at_end(run), fold.measured().count() as u64);
    if share(cut, total) > CUT_SUSPECT {
        let percent = 100.0 * share(cut, total);
        suspect(format!(
            "{cut} of {total} requests were cut at the end ({percent:.1} %): the longest are missing from the latencies"
        ));
    }
    let Some(Arrivals { total, dropped, unsent, .. }) = run.arrivals else { return found };
    if dropped > 0 {
        let percent = 100.0 * share(dropped, total);
        suspect(format!(
            "{dropped} of {total} arrivals were dropped ({percent:.1} %): the most allowed requests were in flight"
        ));
    }
    if unsent > 0 {
        suspect(format!("{unsent} of {total} arrivals still waited at the end and were not sent"));
    }
    if let (Some(sent), Some(offered)) = (fold.sent_per_s(), run.arrivals.and_then(|all| all.rate_per_s()))
        && (sent - offered).abs() > RATE_OFF_SUSPECT * offered
    {
        suspect(format!("requests were sent at {sent:.2} per second, {offered:.2} were offered"));
    }
    let mut lags = fold.values(fold.measured().map(RequestFigures::schedule_lag_ms));
    lags.sort_unstable_by(f64::total_cmp);
    let p99_ms = percentile(&lags, 99.0);
    if p99_ms > SCHEDULE_LAG_SUSPECT_MS {
        suspect(format!("schedule not kept: p99 of sent − intended is {p99_ms:.1} ms"));
    }
    found
}

fn completion(run: &PointRun, fold: &Fold, completed: u64) -> Option<Reason> {
    let measured = fold.measured().count() as u64;
    // What the planned end cut did not fail; it has its own reason.
    let total = measured - fold.cut_at_end(run);
    let failed = total - completed;
    if completed == 0 {
        return Some(Reason::invalid(format!("none of {measured} measured requests completed")));
    }
    let rate = share(failed, total);
    let text = format!("{failed} of {total} requests failed ({:.1} %)", 100.0 * rate);
    Reason::above(rate, [ERROR_RATE_SUSPECT, ERROR_RATE_INVALID], text)
}

fn zero_tokens(fold: &Fold, completed: u64) -> Option<Reason> {
    let text = || format!("{completed} requests completed without a single output token");
    fold.good().all(|request| request.osl == 0).then(|| Reason::invalid(text()))
}

/// Only counts that are no approximation are judged: one token a word is further off than the threshold.
fn osl(point: &LoadPoint, fold: &Fold) -> Option<Reason> {
    let counted = || fold.good().filter(|request| request.osl_source != CountSource::Approximate);
    let is_short =
        |request: &&RequestFigures| f64::from(request.osl) < OSL_REACHED * f64::from(request.osl_requested);
    if !point.ignore_eos {
        return None;
    }
    let (short, completed) = (counted().filter(is_short).count() as u64, counted().count() as u64);
    let part = share(short, completed);
    let mean = share(counted().map(|request| u64::from(request.osl)).sum(), completed);
    let requested = share(counted().map(|request| u64::from(request.osl_requested)).sum(), completed);
    let text = format!(
        "output length not reached in {short} of {completed} requests ({:.1} %): mean {mean:.1} tokens, {requested:.1} requested",
        100.0 * part
    );
    Reason::above(part, [OSL_SHORT_SUSPECT, OSL_SHORT_INVALID], text)
}

fn isl(fold: &Fold) -> Option<Reason> {
    let [mean, planned, off] = fold.prompts.means();
    let is_approximate = fold.good().any(|request| request.isl_source == CountSource::Approximate);
    let remark = if is_approximate { " (the count is approximate)" } else { "" };
    let text = format!("prompts have {mean:.1} tokens on average, {planned:.1} planned{remark}");
    Reason::suspect_if(off > ISL_OFF_SUSPECT * planned, text)
}

fn not_streamed(point: &LoadPoint, fold: &Fold) -> Option<Reason> {
    let long = || fold.good().filter(|request| u64::from(request.osl) >= ONE_CHUNK_MIN_OSL);
    let single = long().filter(|request| request.chunks == 1).count() as u64;
    let long = long().count() as u64;
    Reason::suspect_if(
        point.streaming && share(single, long) > ONE_CHUNK_SUSPECT,
        format!(
            "{single} of {long} streamed answers came in one chunk: TTFT and ITL describe a buffer, not the server"
        ),
    )
}

fn approximate(fold: &Fold, completed: u64) -> Option<Reason> {
    let is_approximate = |request: &&RequestFigures| {
        [request.isl_source, request.osl_source].contains(&CountSource::Approximate)
    };
    let requests = fold.good().filter(is_approximate).count() as u64;
    Reason::suspect_if(
        requests > 0,
        format!(
            "token counts of {requests} of {completed} requests are approximate: no usage from the server, no tokenizer"
        ),
    )
}

fn few_requests(completed: u64) -> Option<Reason> {
    match completed {
        1 => Some(Reason::suspect("only 1 request completed: every percentile is that one")),
        2..FEW_REQUESTS => Some(Reason::suspect(format!(
            "only {completed} requests completed: p90, p95 and p99 lie between the two slowest of them"
        ))),
        _ => None,
    }
}

/// `part / whole`, 0 when there is no whole.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests;
