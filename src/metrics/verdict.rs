//! Whether a load point may be believed: `valid`, `suspect` or `invalid`, with reasons that name the figures.
//!
//! *Invalid* means that a figure is not what its name says; *suspect* means a reader must know the reason
//! before using it. Each threshold is a constant with its why.

pub mod client;
pub mod gpus;
pub mod processes;
pub mod reached;
mod servers;
mod speculation;
mod steady;
pub mod streamed;
pub mod tokens;

pub use speculation::reason as speculation_reason;

use super::fault::Fault;
use super::fold::Fold;
use super::record::{CountSource, Outcome, PointRun};
use super::request_figures::RequestFigures;
use super::stats::{SHOWN, needed, stands};
use crate::plan::LoadPoint;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Above this share of failed requests the survivors are no longer a fair sample of the load that was requested.
pub const ERROR_RATE_SUSPECT: f64 = 0.01;
/// Above this share the server ran under a visibly lighter load than the point's name states.
pub const ERROR_RATE_INVALID: f64 = 0.10;
/// With `ignore_eos` the answer must have the requested length; 5 % is AIPerf's own mismatch threshold.
pub const OSL_REACHED: f64 = 0.95;
/// Longer answers than this are longer than asked for: a server that counts the end token is one above.
pub const OSL_EXCEEDED: f64 = 1.05;
/// A few short answers (stop strings, context limit), or long ones, hardly move a mean, more do.
pub const OSL_OFF_SUSPECT: f64 = 0.05;
/// When most answers are short, the point measured another output length.
pub const OSL_SHORT_INVALID: f64 = 0.50;
/// Chat templates and BOS add tokens; when prompts are off by more than 10 % of the plan on average, in either direction,
/// prefill work differs from the recipe's.
pub const ISL_OFF_SUSPECT: f64 = 0.10;
/// Below this many requests not only p99 but every percentile from p90 up lies between the two slowest of them. From here
/// on a reason names the percentiles that do not stand, and the point stays valid: the others and the means do.
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
    /// One sentence each, with figures; of a valid point at most which percentiles do not stand.
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
    /// Something to know of a point that stays as it is.
    fn note(text: String) -> Self {
        Self { rating: Rating::Valid, text }
    }

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
        let what = if share < 1.0 {
            format!("the load was scaled to {share} of the recipe's")
        } else {
            "the simulated engine stood in for the recipe's".to_owned()
        };
        Reason::suspect(format!("{what}: a rehearsal, not a result"))
    }));
    if let Some(failed) = completion(fold, completed) {
        found.push(failed);
        let faults = Fault::of(&fold.failures.ranked());
        found.extend(faults.iter().map(|fault| Reason::note(fault.to_string())));
    }
    if completed > 0 {
        let answers = [
            zero_tokens(fold, completed),
            osl_short(point, fold),
            osl_long(fold),
            isl(fold),
            approximate(fold, completed),
            few_requests(completed),
            steady::reason(point, fold),
            streamed::unknown(fold),
        ];
        found.extend(answers.into_iter().flatten());
        found.extend(streamed::reasons(point, fold));
    }
    found.extend(tokens::reasons(run, fold));
    found.extend(servers::reasons(run, fold));
    found.extend(gpus::reasons(run.gpus.as_ref()));
    found.extend(processes::reasons(&run.processes, run.window_s()));
    found.extend(reached::reasons(point, run, fold));
    let measured = fold.measured().count() as u64;
    let gap_p50_ms = || fold.gaps.distribution_ms().map(|gaps| gaps.p50);
    found.extend(client::reasons(&run.client, run.window_s(), measured, gap_p50_ms));
    found.extend(too_few_for(completed).map(Reason::note));
    found
}

const ALL_CUT: &str = ": tokmark cut all of them at the end; let the load last longer than an answer, or wait for the \
                       answers (load.at_end = \"drain\")";

/// What tokmark cut itself did not fail; it has its own reason.
fn completion(fold: &Fold, completed: u64) -> Option<Reason> {
    let measured = fold.measured().count() as u64;
    let cut = fold.measured().filter(|request| request.outcome == Outcome::Cancelled).count() as u64;
    let total = measured - cut;
    if completed == 0 {
        let why = match cut {
            0 => String::new(),
            cut if cut == measured => ALL_CUT.to_owned(),
            cut => format!(": {total} failed, and tokmark cut {cut} at the end"),
        };
        return Some(Reason::invalid(format!("none of {measured} measured requests completed{why}")));
    }
    let failed = total - completed;
    let rate = share(failed, total);
    let text = format!("{failed} of {total} requests failed ({:.1} %)", 100.0 * rate);
    Reason::above(rate, [ERROR_RATE_SUSPECT, ERROR_RATE_INVALID], text)
}

fn zero_tokens(fold: &Fold, completed: u64) -> Option<Reason> {
    let text = || format!("{completed} requests completed without a single output token");
    fold.good().all(|request| request.osl == 0).then(|| Reason::invalid(text()))
}

/// The share of answers with a length that `is_off`, in words, and their mean length. Only counts that are no approximation
/// are judged: one token a word is further off than any threshold.
fn osl_off(
    fold: &Fold,
    what: &str,
    invalid: f64,
    is_off: impl Fn(&RequestFigures) -> bool,
) -> Option<Reason> {
    let counted = || fold.good().filter(|request| request.osl_source != CountSource::Approximate);
    let (off, completed) =
        (counted().filter(|request| is_off(request)).count() as u64, counted().count() as u64);
    let part = share(off, completed);
    let mean = share(counted().map(|request| u64::from(request.osl)).sum(), completed);
    let requested = share(counted().map(|request| u64::from(request.osl_requested)).sum(), completed);
    let text = format!(
        "{what} in {off} of {completed} requests ({:.1} %): mean {mean:.1} tokens, {requested:.1} requested",
        100.0 * part
    );
    Reason::above(part, [OSL_OFF_SUSPECT, invalid], text)
}

fn osl_short(point: &LoadPoint, fold: &Fold) -> Option<Reason> {
    let is_short =
        |request: &RequestFigures| f64::from(request.osl) < OSL_REACHED * f64::from(request.osl_requested);
    osl_off(fold, "output length not reached", OSL_SHORT_INVALID, is_short).filter(|_| point.ignore_eos)
}

/// A model may stop early, but never late: the server did not keep to the limit, or counts something else. No figure is
/// flattered by it, so that it stays suspect.
fn osl_long(fold: &Fold) -> Option<Reason> {
    let is_long = |request: &RequestFigures| {
        let requested = f64::from(request.osl_requested);
        let allowed = match request.osl_source {
            CountSource::Tokenizer => requested * (1.0 + tokens::TOKEN_RATIO_SUSPECT),
            _ => requested * OSL_EXCEEDED,
        };
        request.osl_requested > 0 && f64::from(request.osl) > allowed.max(requested + 1.0)
    };
    osl_off(fold, "answers longer than asked for", f64::INFINITY, is_long)
}

fn isl(fold: &Fold) -> Option<Reason> {
    let [mean, planned, off] = fold.prompts.means();
    let is_approximate = fold.good().any(|request| request.isl_source == CountSource::Approximate);
    let remark = if is_approximate { " (the count is approximate)" } else { "" };
    let text = format!("prompts have {mean:.1} tokens on average, {planned:.1} planned{remark}");
    Reason::suspect_if(off > ISL_OFF_SUSPECT * planned, text)
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

/// Which of the shown percentiles so many requests are too few for; `None` when all stand, or when the verdict says more.
pub fn too_few_for(completed: u64) -> Option<String> {
    let (standing, others): (Vec<f64>, Vec<f64>) =
        SHOWN.iter().partition(|percent| stands(**percent, completed));
    let names = |percentiles: &[f64]| percentiles.iter().map(|p| format!("p{p}")).collect::<Vec<_>>();
    let stand = match names(&standing).split_last() {
        None => "no percentile stands".to_owned(),
        Some((last, [])) => format!("{last} stands"),
        Some((last, rest)) => format!("{} and {last} stand", rest.join(", ")),
    };
    let wanted: Vec<String> =
        others.iter().map(|percent| format!("p{percent} needs {}", needed(*percent))).collect();
    (completed >= FEW_REQUESTS && !others.is_empty())
        .then(|| format!("{completed} requests completed: {stand} at 99 % confidence; {}", wanted.join(", ")))
}

/// `part / whole`, 0 when there is no whole.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests;
