//! The distributions of one load point, and its requests one by one.

use super::Source;
use crate::metrics::request_figures::RequestFigures;
use crate::metrics::stats::{percentile, with_thousands};
use crate::metrics::{Outcome, Phase};
use crate::report::chart::{Axis, Chart, Draw, KEPT, Mark, Point, Series, sampled};
use crate::report::material::Run;
use crate::report::table::number;

type Figure = fn(&RequestFigures) -> Option<f64>;

const FIGURES: [(&str, &str, Figure); 3] = [
    ("ttft", "Time to first token (TTFT)", RequestFigures::ttft_ms),
    ("e2e", "End-to-end (E2E) latency", RequestFigures::e2e_ms),
    ("itl", "Inter-token latency (ITL)", RequestFigures::itl_ms),
];

/// Bars of a histogram.
const BARS: usize = 40;
/// Steps of a cumulative distribution.
const STEPS: usize = 500;
/// From this ratio of the slowest to the fastest on, a cumulative distribution has a logarithmic axis.
const WIDE: f64 = 50.0;

/// A number of requests.
pub(super) fn counted(count: usize) -> String {
    with_thousands(&count.to_string())
}

/// CDF and histogram of each latency, then the requests over time.
pub(super) fn charts(source: Source<'_>, run: &Run) -> Vec<Chart> {
    let streamed = source.rows.iter().any(|row| row.point == run.point && row.summary.point.streaming);
    let mut charts = Vec::new();
    for (name, title, figure) in FIGURES.into_iter().filter(|(name, ..)| streamed || *name == "e2e") {
        let good = run.requests.iter().filter(|request| request.counts());
        let mut values: Vec<f64> = good.filter_map(figure).collect();
        values.sort_unstable_by(f64::total_cmp);
        charts.extend(cumulative(source, name, title, &values));
        charts.extend(histogram(source, name, title, &values));
    }
    charts.extend(timeline(source, run, streamed));
    charts
}

/// The requests over time alone: the distributions of a ramp mix its stages.
pub(super) fn over_time(source: Source<'_>, run: &Run) -> Option<Chart> {
    let streamed = source.rows.iter().any(|row| row.point == run.point && row.summary.point.streaming);
    timeline(source, run, streamed)
}

/// Share of the requests that were at most this slow.
fn cumulative(source: Source<'_>, name: &str, title: &str, values: &[f64]) -> Option<Chart> {
    let (first, last) = (*values.first()?, *values.last()?);
    let log = first > 0.0 && last / first >= WIDE;
    let label = "ms";
    let x = if log { Axis::log(label, [first, last]) } else { Axis::from_zero(label, [last]) };
    let series = vec![Series { name: String::new(), ..Series::line("", 0, steps(values)) }];
    let [p50, p95, p99] = [50.0, 95.0, 99.0].map(|percent| number(percentile(values, percent)));
    Chart {
        name: format!("{name}-cdf"),
        title: format!("{title}: share of the requests that were at most this slow"),
        x,
        y: Axis::from_zero("% of the requests", [100.0]),
        series,
        sentence: format!(
            "Half of {} requests took at most {p50} ms, 95 % at most {p95} ms and 99 % at most {p99} ms; the slowest took {} ms.",
            counted(values.len()),
            number(last)
        ),
        ..source.blank()
    }
    .checked()
}

/// Value and share for each of at most [`STEPS`] ranks; the fastest and the slowest are among them.
fn steps(sorted: &[f64]) -> Vec<(f64, f64)> {
    let count = sorted.len();
    let every = count.div_ceil(STEPS).max(1);
    let ranks = (0..count).filter(|rank| rank % every == 0 || rank + 1 == count);
    ranks.map(|rank| (sorted[rank], 100.0 * (rank + 1) as f64 / count as f64)).collect()
}

fn histogram(source: Source<'_>, name: &str, title: &str, values: &[f64]) -> Option<Chart> {
    let (first, last) = (*values.first()?, *values.last()?);
    let width = if last > first { (last - first) / BARS as f64 } else { 1.0 };
    let mut counts = [0u64; BARS];
    for value in values {
        counts[(((value - first) / width) as usize).min(BARS - 1)] += 1;
    }
    let middle = |(at, count): (usize, &u64)| Point::new(first + width * (at as f64 + 0.5), *count as f64);
    let points: Vec<Point> = counts.iter().enumerate().map(middle).collect();
    let fullest = points.iter().max_by(|a, b| a.y.total_cmp(&b.y))?.clone();
    let series = vec![Series { draw: Draw::Bars(width), ..Series::bare(points) }];
    let sentence = format!(
        "Of {} requests {} took {} to {} ms, the fullest of {BARS} bars; all lie between {} and {} ms.",
        counted(values.len()),
        with_thousands(&fullest.y.to_string()),
        number(fullest.x - width / 2.0),
        number(fullest.x + width / 2.0),
        number(first),
        number(last)
    );
    Chart {
        name: format!("{name}-histogram"),
        title: format!("{title}: histogram"),
        x: Axis::span("ms", first, first + width * BARS as f64),
        y: Axis::from_zero("requests", Chart::values(&series)),
        series,
        sentence,
        ..source.blank()
    }
    .checked()
}

/// Every request at the moment it was sent.
fn timeline(source: Source<'_>, run: &Run, streamed: bool) -> Option<Chart> {
    let measured = || run.requests.iter().filter(|request| request.phase == Phase::Measure);
    let start = measured().map(|request| request.sent_us).min()?;
    let at = |request: &RequestFigures| (request.sent_us - start) as f64 / 1e6;
    let of = |figure: Figure| -> Vec<(f64, f64)> {
        measured()
            .filter(|request| request.counts())
            .filter_map(|request| Some((at(request), figure(request)?)))
            .collect()
    };
    let dots = |name: &str, colour, points, mark| {
        let points = sampled(points, KEPT).into_iter();
        let points = points.map(|(x, y)| Point { mark, ..Point::new(x, y) }).collect();
        Series { name: name.to_owned(), colour, ..Series::bare(points) }
    };
    let lost = measured().filter(|request| !request.counts() && request.outcome != Outcome::Cancelled);
    let lost = lost.map(|request| (at(request), (request.end_us - request.sent_us) as f64 / 1e3)).collect();
    let e2e = of(RequestFigures::e2e_ms);
    let slowest = e2e.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1));
    let ttft = if streamed { of(RequestFigures::ttft_ms) } else { Vec::new() };
    let (count, failed) = (measured().count(), measured().filter(|r| !r.counts()).count());
    let mut series = vec![
        dots("E2E latency", 0, e2e, Mark::Valid),
        dots("TTFT", 4, ttft, Mark::Valid),
        dots("failed", 1, lost, Mark::Invalid),
    ];
    series.retain(|series| !series.points.is_empty());
    let slowest = slowest.map_or_else(String::new, |(x, y)| {
        format!(" The slowest, sent after {} s, took {} ms.", number(x), number(y))
    });
    let last = measured().map(at).fold(0.0, f64::max);
    let thinned =
        if count > KEPT { " Of each part of the time, the lowest and the highest are drawn." } else { "" };
    Chart {
        name: "requests-over-time".into(),
        title: "Every request at the moment it was sent".into(),
        x: Axis::span("seconds since the first request", 0.0, last),
        y: Axis::from_zero("ms", Chart::values(&series)),
        series,
        sentence: format!(
            "{} requests in {} s, {} without a whole answer.{slowest}{thinned}",
            counted(count),
            number(last),
            counted(failed)
        ),
        ..source.blank()
    }
    .checked()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cumulative_distribution_ends_at_the_slowest_with_all_requests() {
        assert_eq!(steps(&[1.0, 2.0, 4.0, 8.0]), [(1.0, 25.0), (2.0, 50.0), (4.0, 75.0), (8.0, 100.0)]);
        let many: Vec<f64> = (0..100_000).map(f64::from).collect();
        let steps = steps(&many);
        assert!(steps.len() <= STEPS + 1, "{}", steps.len());
        assert_eq!(steps.last(), Some(&(99_999.0, 100.0)));
    }
}
