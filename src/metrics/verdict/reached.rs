//! Whether the load was the one that was requested: its concurrency, its rate, its schedule, its end.

use super::{FEW_REQUESTS, Reason, share};
use crate::metrics::fold::Fold;
use crate::metrics::record::{Arrivals, PointRun};
use crate::metrics::request_figures::RequestFigures;
use crate::metrics::stages::StageLoad;
use crate::metrics::stats::highest_standing;
use crate::plan::{Arrival, Level, LoadPoint, Spacing};

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
/// Standard deviations by which a number that is drawn may differ from its mean: one run in 370 reaches it.
pub const CHANCE_Z: f64 = 3.0;

/// The reasons that apply.
pub(super) fn reasons(point: &LoadPoint, run: &PointRun, fold: &Fold) -> Vec<Reason> {
    let mut found = Vec::new();
    // A point that was cut short is invalid for that.
    if !run.interrupted && run.aborted.is_none() {
        found.extend(concurrency(point, fold));
        found.extend(rate(point, run, fold).or_else(|| answered(point, run, fold)));
        found.extend(stages(point, fold));
    }
    found.extend(fold.stages_cut().map(|(stage, cut)| {
        Reason::suspect(format!(
            "stage {stage}: tokmark cut all of its {cut} requests at the end; it has no latencies, for it is shorter than an answer"
        ))
    }));
    found.extend(schedule(point, run, fold));
    found
}

/// A closed loop that never had the requests in flight that its name states.
fn concurrency(point: &LoadPoint, fold: &Fold) -> Option<Reason> {
    let Arrival::Closed { concurrency: Level::Constant(wanted) } = &point.arrival else { return None };
    let (wanted, most) = (f64::from(*wanted), fold.most_in_flight() as f64);
    Reason::suspect_if(
        most > 0.0 && most < wanted * (1.0 - LOAD_OFF_SUSPECT) && !pauses(fold, wanted),
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

/// Users of conversations pause between their turns, so that fewer requests are in flight than there are users.
fn pauses(fold: &Fold, users: f64) -> bool {
    fold.turns.conversations().is_some_and(|conversations| conversations as f64 >= users)
}

/// An open loop whose server fell behind: more and more requests were unanswered in the second half of the time.
fn answered(point: &LoadPoint, run: &PointRun, fold: &Fold) -> Option<Reason> {
    let Arrival::Open { rate: Level::Constant(rate), .. } = &point.arrival else { return None };
    let Arrivals { first_us, last_us, .. } = run.arrivals?;
    let middle_us = first_us.midpoint(last_us);
    let due = |from_us, until_us| {
        let is_due = |at: u64| at > from_us && at <= until_us;
        fold.measured().filter(|request| is_due(request.scheduled_us)).count() as f64
    };
    let unanswered = |at_us: u64| {
        fold.measured().filter(|request| request.scheduled_us <= at_us && request.end_us > at_us).count()
            as f64
    };
    let (due, before, after) = (due(middle_us, last_us), unanswered(middle_us), unanswered(last_us));
    let (more, by_chance) = (after - before, CHANCE_Z * (after + before).sqrt());
    let half_s = (last_us - middle_us) as f64 / 1e6;
    Reason::suspect_if(
        due >= FEW_REQUESTS as f64 && more > by_chance.max(LOAD_OFF_SUSPECT * due),
        format!(
            "the load of {rate} requests per second was not reached: in the second half of the time the server answered {:.2} per second, and the unanswered requests grew from {before} to {after}; it is too slow for it, or the time too short",
            (due - more) / half_s
        ),
    )
}

/// Stages of a ramp that never had the load that they state.
fn stages(point: &LoadPoint, fold: &Fold) -> Vec<Reason> {
    let in_flight = fold.in_flight();
    let reason = |stage: StageLoad<'_>| match &point.arrival {
        Arrival::Closed { .. } => {
            let (wanted, most) = (stage.from.max(stage.to), in_flight.most(stage.start_us, stage.end_us));
            // A slope reaches its highest at one instant.
            let allowed = if stage.from == stage.to { wanted } else { wanted - 1.0 };
            Reason::suspect_if(
                (most as f64) < allowed * (1.0 - LOAD_OFF_SUSPECT) && !pauses(fold, wanted),
                format!(
                    "stage {}: concurrency {wanted} was never reached: at most {most} requests were in flight",
                    stage.name
                ),
            )
        }
        Arrival::Open { spacing, .. } => {
            let length_s = stage.end_us.saturating_sub(stage.start_us) as f64 / 1e6;
            let asked = (stage.from + stage.to) / 2.0;
            let sent = in_flight.sent(stage.start_us, stage.end_us) as f64;
            let allowed =
                (LOAD_OFF_SUSPECT * asked * length_s).max(by_chance(*spacing, asked * length_s) + 1.0);
            Reason::suspect_if(
                (sent - asked * length_s).abs() > allowed,
                format!(
                    "stage {}: requests were sent at {:.2} per second, {asked:.2} were asked for on average",
                    stage.name,
                    sent / length_s
                ),
            )
        }
        Arrival::Trace { .. } => None,
    };
    fold.stage_loads().filter_map(reason).collect()
}

/// By how much the number of arrivals may differ from its mean because the gaps between them are drawn.
fn by_chance(spacing: Spacing, arrivals: f64) -> f64 {
    match spacing {
        Spacing::Constant => 0.0,
        Spacing::Poisson => CHANCE_Z * arrivals.sqrt(),
        Spacing::Gamma { shape } => CHANCE_Z * (arrivals / shape).sqrt(),
    }
}

/// Whether requests were sent when they were due, and to the end.
fn schedule(point: &LoadPoint, run: &PointRun, fold: &Fold) -> Vec<Reason> {
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
    } else if let Arrival::Open { rate: Level::Constant(asked), spacing, .. } = &point.arrival
        && let Some(sent) = fold.sent_per_s().filter(|_| total >= FEW_REQUESTS)
        && (sent - asked).abs()
            > asked * LOAD_OFF_SUSPECT.max(by_chance(*spacing, total as f64) / total as f64)
    {
        suspect(format!("requests were sent at {sent:.2} per second, {asked} were asked for"));
    }
    let lags = fold.values(fold.measured().map(RequestFigures::schedule_lag_ms));
    if let Some((percent, lag_ms)) = highest_standing(lags).filter(|(_, lag)| *lag > SCHEDULE_LAG_SUSPECT_MS)
    {
        suspect(format!("schedule not kept: p{percent} of sent − intended is {lag_ms:.1} ms"));
    }
    found
}
