//! Reasons from what was streamed: tokens that no chunk held, answers that were held back, chunks that came in bursts.

use super::{OSL_OFF_SUSPECT, Reason, share};
use crate::metrics::fold::Fold;
use crate::metrics::request_figures::RequestFigures;
use crate::metrics::streamed::{HELD_MIN_TOKENS, Streamed};
use crate::plan::LoadPoint;

/// When the median gap between chunks is below this part of the mean gap, ICL and ITL contradict each other.
pub const BURSTS_SUSPECT: f64 = 0.10;

/// The reasons that apply.
pub(super) fn reasons(point: &LoadPoint, fold: &Fold) -> Vec<Reason> {
    if !point.streaming {
        return Vec::new();
    }
    let of = |streamed| fold.good().filter(move |request| request.streamed == streamed);
    let held = of(Streamed::AtOnce).filter(|request| u64::from(request.osl) >= HELD_MIN_TOKENS).count();
    let long = fold.good().filter(|request| u64::from(request.osl) >= HELD_MIN_TOKENS).count();
    let mean = |streamed, tokens: fn(&RequestFigures) -> u32| {
        let sum = of(streamed).map(|request| u64::from(tokens(request))).sum();
        share(sum, of(streamed).count() as u64)
    };
    let osl = mean(Streamed::WithoutReasoning, |request| request.osl);
    let decoded = mean(Streamed::WithoutReasoning, |request| request.decoded);
    let first = mean(Streamed::BehindFirst, |request| request.osl.saturating_sub(request.decoded));
    let found = [
        above(
            held,
            long,
            "came in one chunk or burst: TTFT describes a buffer, not the server; ITL, decode time and tok/s/user are not applicable to them",
        ),
        above(
            of(Streamed::WithoutReasoning).count(),
            fold.good().count(),
            &format!(
                "hide their reasoning: usage counts {osl:.1} tokens, {:.1} were streamed, on average; TTFT has the time of the others; ITL, decode time and tok/s/user cover what was streamed",
                decoded + 1.0
            ),
        ),
        above(
            of(Streamed::BehindFirst).count(),
            fold.good().count(),
            &format!(
                "began with {first:.1} tokens at once, on average: TTFT has the time of all of them; ITL, decode time and tok/s/user cover the tokens behind them"
            ),
        ),
        above(
            of(Streamed::InPart).count(),
            fold.good().count(),
            "hold fewer tokens than usage counts (hidden reasoning, or tokens without text): ITL, decode time and tok/s/user are not applicable to them",
        ),
    ];
    let found: Vec<Reason> = found.into_iter().flatten().collect();
    if found.is_empty() { bursts(fold).into_iter().collect() } else { found }
}

fn above(some: usize, all: usize, what: &str) -> Option<Reason> {
    let applies = share(some as u64, all as u64) > OSL_OFF_SUSPECT;
    Reason::suspect_if(applies, format!("{some} of {all} streamed answers {what}"))
}

/// Text under a key that no known server uses for content, such as reasoning under a new name.
pub(super) fn unknown(fold: &Fold) -> Option<Reason> {
    let (key, some) = fold.unknown.as_ref()?;
    let completed = fold.good().count() as u64;
    let text = format!(
        "{some} of {completed} answers have text under {key:?}, which is not known as content: TTFT, ICL, ITL and tok/s/user leave it out"
    );
    Some(if share(*some, completed) > OSL_OFF_SUSPECT { Reason::suspect(text) } else { Reason::note(text) })
}

/// ITL × tokens is the time that the answers took. ICL × chunks is, by the median gap, when chunks come evenly.
fn bursts(fold: &Fold) -> Option<Reason> {
    let gaps = fold.gaps.distribution_ms()?;
    Reason::suspect_if(
        gaps.p50 < BURSTS_SUSPECT * gaps.avg && gaps.count >= 10 * HELD_MIN_TOKENS,
        format!(
            "chunks came in bursts: half of the gaps between them are below {:.2} ms, their mean is {:.2} ms; ITL holds on average, ICL and TTFT describe a buffer",
            gaps.p50, gaps.avg
        ),
    )
}
