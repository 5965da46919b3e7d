//! Whether the load was the one that was requested: its concurrency, its rate, its schedule, its end.

use super::{FEW_REQUESTS, Reason, share};
use crate::metrics::fold::Fold;
use crate::metrics::record::{Arrivals, PointRun};
use crate::metrics::request_figures::RequestFigures;
use crate::metrics::stats::highest_standing;
use crate::plan::{Arrival, Level, LoadPoint};

/// A decode step of a fast server takes 5 ms or more, and it looks at new requests once a step: arrivals shifted by less
/// meet the same batch. Later than this, requests no longer arrive on schedule.
pub const SCHEDULE_LAG_SUSPECT_MS: f64 = 5.0;
/// Latency near saturation is steep in the load; 5 % less can look like a much faster server.
pub const LOAD_OFF_SUSPECT: f64 = 0.05;
/// Requests that are cut are the longest ones: cutting more than this lets the latencies look better than they are.
pub const CUT_SUSPECT: f64 = 0.05;
/// When more than half of the requests are unanswered as the last one is due, the load was still building up. Of a few requests
/// the last ones always are: a server takes longer than the time between them.
pub const UNANSWERED_SUSPECT: f64 = 0.50;

/// The reasons that apply.
pub(super) fn reasons(point: &LoadPoint, run: &PointRun, fold: &Fold) -> Vec<Reason> {
    let mut found = Vec::new();
    // A point that was cut short is invalid for that.
    if !run.interrupted && run.aborted.is_none() {
        found.extend(concurrency(point, fold));
        found.extend(rate(point, run, fold));
    }
    found.extend(fold.stages_cut().map(|(stage, cut)| {
        Reason::suspect(format!(
            "stage {stage}: tokmark cut all of its {cut} requests at the end; it has no latencies, for it is shorter than an answer"
        ))
    }));
    found.extend(schedule(run, fold));
    found
}

/// A closed loop that never had the requests in flight that its name states.
fn concurrency(point: &LoadPoint, fold: &Fold) -> Option<Reason> {
    let Arrival::Closed { concurrency } = &point.arrival else { return None };
    let (wanted, most) = (concurrency.peak(), fold.most_in_flight() as f64);
    // A ramp reaches its highest at one instant; users of conversations pause between their turns.
    let allowed = if point.arrival.ramp().is_some() { wanted - 1.0 } else { wanted };
    let pauses = fold.turns.conversations().is_some_and(|conversations| conversations as f64 >= wanted);
    Reason::suspect_if(
        most > 0.0 && most < allowed * (1.0 - LOAD_OFF_SUSPECT) && !pauses,
        format!(
            "concurrency {wanted} was never reached: at most {most} requests were in flight; send more requests, or for longer"
        ),
    )
}

/// An open loop that ended before the server had the requests in flight that its rate leads to.
fn rate(point: &LoadPoint, run: &PointRun, fold: &Fold) -> Option<Reason> {
    let Arrival::Open { rate: Level::Constant(rate), .. } = &point.arrival else { return None };
    let last_us = run.arrivals?.last_us;
    let all = fold.measured().count() as u64;
    let open = fold.measured().filter(|request| request.end_us > last_us).count() as u64;
    Reason::suspect_if(
        all >= FEW_REQUESTS && share(open, all) > UNANSWERED_SUSPECT,
        format!(
            "the load of {rate} requests per second was not reached: {open} of {all} were unanswered when the last was due; the server is too slow for it, or the time too short"
        ),
    )
}

/// Whether requests were sent when they were due, and to the end.
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
        && total >= FEW_REQUESTS
        && (sent - offered).abs() > LOAD_OFF_SUSPECT * offered
    {
        suspect(format!("requests were sent at {sent:.2} per second, {offered:.2} were offered"));
    }
    let lags = fold.values(fold.measured().map(RequestFigures::schedule_lag_ms));
    if let Some((percent, lag_ms)) = highest_standing(lags).filter(|(_, lag)| *lag > SCHEDULE_LAG_SUSPECT_MS)
    {
        suspect(format!("schedule not kept: p{percent} of sent − intended is {lag_ms:.1} ms"));
    }
    found
}
