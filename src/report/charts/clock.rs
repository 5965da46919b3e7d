//! A load point over time, on one clock: what was sent and what came back, what the servers said, the stages of a ramp.

use super::spread::counted;
use super::{Source, power};
use crate::metrics::Outcome;
use crate::metrics::request_figures::RequestFigures;
use crate::metrics::server::{Figures, Layer, Page};
use crate::metrics::stats::percentile;
use crate::report::chart::{Axis, Chart, Line, Series};
use crate::report::material::Run;
use crate::report::table::number;

/// Widths of the parts that time is cut into, seconds; the first that gives at most [`PARTS`].
const WIDTHS: [f64; 10] = [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 600.0];
const PARTS: f64 = 120.0;

/// Time in equal parts, seconds since instant 0 of the records.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    start: f64,
    pub(super) width: f64,
    pub(super) parts: usize,
}

pub(super) type Values = Vec<(f64, f64)>;

impl Clock {
    pub(super) fn of(run: &Run) -> Option<Self> {
        let start = run.requests.iter().map(|request| request.sent_us).min()? as f64 / 1e6;
        let end = run.requests.iter().map(|request| request.end_us).max()? as f64 / 1e6;
        let span = (end - start).max(0.1);
        let width = WIDTHS.into_iter().find(|width| span / width <= PARTS).unwrap_or(span / PARTS);
        Some(Self { start, width, parts: (span / width).ceil().max(1.0) as usize })
    }

    /// The part that an instant lies in.
    pub(super) fn part(&self, at: f64) -> Option<usize> {
        let part = (at - self.start) / self.width;
        (part >= 0.0).then_some(part as usize).filter(|part| *part < self.parts)
    }

    /// The middle of a part, seconds since the start.
    pub(super) fn middle(&self, part: usize) -> f64 {
        (part as f64 + 0.5) * self.width
    }

    /// How many instants lie in each part, per second.
    fn rate(&self, instants: impl Iterator<Item = f64>) -> Values {
        let mut counts = vec![0u64; self.parts];
        for part in instants.filter_map(|at| self.part(at)) {
            counts[part] += 1;
        }
        let point = |(part, count): (usize, u64)| (self.middle(part), count as f64 / self.width);
        counts.into_iter().enumerate().map(point).collect()
    }

    /// A percentile of the values of each part.
    fn percentile(&self, values: impl Iterator<Item = (f64, f64)>, percent: f64) -> Values {
        let mut parts: Vec<Vec<f64>> = vec![Vec::new(); self.parts];
        for (at, value) in values {
            self.part(at).into_iter().for_each(|part| parts[part].push(value));
        }
        let point = |(part, mut values): (usize, Vec<f64>)| {
            values.sort_unstable_by(f64::total_cmp);
            (!values.is_empty()).then(|| (self.middle(part), percentile(&values, percent)))
        };
        parts.into_iter().enumerate().filter_map(point).collect()
    }
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

/// The charts of one point over time.
pub(super) fn charts(source: Source<'_>, run: &Run) -> Vec<Chart> {
    let Some(clock) = Clock::of(run) else { return Vec::new() };
    let base = Chart {
        x: Axis::span("seconds since the start", 0.0, clock.parts as f64 * clock.width),
        lines: stages(source, run, clock),
        clock: Some(run.point.clone()),
        ..source.blank()
    };
    let all = [
        rates(run, clock),
        in_flight(run, clock),
        kv_cache(run, clock),
        latencies(run, clock),
        queue(run, clock),
        power::power(run, clock),
        power::utilization(run, clock),
    ];
    let chart = |over: Over| {
        let values = Chart::values(&over.series);
        Chart {
            name: over.name.to_owned(),
            title: over.title.to_owned(),
            y: Axis::from_zero(over.unit, values),
            series: over.series,
            sentence: over.sentence,
            ..base.clone()
        }
        .checked()
    };
    all.into_iter().flatten().filter_map(chart).collect()
}

/// What differs between the charts of a point.
pub(super) struct Over {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) unit: &'static str,
    pub(super) series: Vec<Series>,
    pub(super) sentence: String,
}

/// Where each stage of a ramp begins.
fn stages(source: Source<'_>, run: &Run, clock: Clock) -> Vec<Line> {
    let row = source.rows.iter().find(|row| row.point == run.point);
    let stages = row.and_then(|row| row.summary.stages.as_ref()).into_iter().flatten();
    stages.map(|stage| Line { x: (stage.start_s - clock.start).max(0.0), name: stage.name.clone() }).collect()
}

/// The highest value and when it was first reached.
pub(super) fn peak(values: &[(f64, f64)]) -> (f64, f64) {
    values.iter().copied().rev().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or_default()
}

fn rates(run: &Run, clock: Clock) -> Option<Over> {
    let sent = clock.rate(run.requests.iter().map(|request| seconds(request.sent_us)));
    let good = |request: &&RequestFigures| request.outcome == Outcome::Ok;
    let cut = |request: &&RequestFigures| request.outcome == Outcome::Cancelled;
    let done = clock.rate(run.requests.iter().filter(good).map(|request| seconds(request.end_us)));
    let lost = run.requests.iter().filter(|request| !good(request) && !cut(request));
    let (count, failed) = (run.requests.len(), lost.clone().count());
    let lost = clock.rate(lost.map(|request| seconds(request.end_us)));
    let (at, most) = peak(&done);
    Some(Over {
        name: "rates-over-time",
        title: "Requests sent, done and failed",
        unit: "requests/s",
        series: vec![
            Series { dashed: true, ..Series::line("sent", 5, sent) },
            Series::line("done", 0, done),
            Series::line("failed", 1, lost),
        ],
        sentence: format!(
            "Of {} requests {} failed; most were done per second after {} s: {} (parts of {} s).",
            counted(count),
            counted(failed),
            number(at),
            number(most),
            clock.width
        ),
    })
}

fn in_flight(run: &Run, clock: Clock) -> Option<Over> {
    let sorted = |of: fn(&RequestFigures) -> u64| {
        let mut instants: Vec<u64> = run.requests.iter().map(of).collect();
        instants.sort_unstable();
        instants
    };
    let (sent, ended) = (sorted(|request| request.sent_us), sorted(|request| request.end_us));
    let at = |part: usize| {
        let now = ((clock.start + clock.middle(part)) * 1e6) as u64;
        let flying = sent.partition_point(|at| *at <= now) - ended.partition_point(|at| *at <= now);
        (clock.middle(part), flying as f64)
    };
    let flying: Values = (0..clock.parts).map(at).collect();
    let (when, most) = peak(&flying);
    let mut series = vec![Series::line("in flight", 6, flying)];
    let running = gauge(run, clock, "running", 1.0, false);
    let waiting = gauge(run, clock, "waiting", 1.0, false);
    let (_, waited) = peak(&waiting);
    let said = !running.is_empty() || !waiting.is_empty();
    series.push(Series::line("running in the servers", 0, running));
    series.push(Series { dashed: true, ..Series::line("waiting in the servers", 1, waiting) });
    series.retain(|series| !series.points.is_empty());
    let servers =
        if said { format!(" At most {} waited inside the servers.", number(waited)) } else { String::new() };
    Some(Over {
        name: "in-flight-over-time",
        title: "Requests in flight, running and waiting",
        unit: "requests",
        series,
        sentence: format!(
            "Most requests were in flight after {} s: {}.{servers}",
            number(when),
            number(most)
        ),
    })
}

fn kv_cache(run: &Run, clock: Clock) -> Option<Over> {
    let used = gauge(run, clock, "kv_cache", 100.0, true);
    let (at, most) = peak(&used);
    (!used.is_empty()).then(|| Over {
        name: "kv-cache-over-time",
        title: "KV cache in use",
        unit: "%",
        series: vec![Series::line("", 2, used)],
        sentence: format!(
            "The fullest KV cache was at most {} % full, after {} s.",
            number(most),
            number(at)
        ),
    })
}

/// A gauge of the engines, which know, else of the frontend: the sum over servers, or the fullest.
fn gauge(run: &Run, clock: Clock, role: &str, factor: f64, fullest: bool) -> Values {
    let of = |layer: Layer| -> Values {
        let mut parts: Vec<Option<f64>> = vec![None; clock.parts];
        for pages in &run.servers {
            let mut own: Vec<(f64, u32)> = vec![(0.0, 0); clock.parts];
            for (at, page) in pages {
                let value = page.layers.get(&layer).and_then(|figures| figures.gauges.get(role));
                if let (Some(part), Some(value)) = (clock.part(*at), value) {
                    own[part] = (own[part].0 + value, own[part].1 + 1);
                }
            }
            for (part, (sum, count)) in parts.iter_mut().zip(own).filter(|(_, (_, count))| *count > 0) {
                let (mean, known) = (sum / f64::from(count), part.unwrap_or(0.0));
                *part = Some(if fullest { known.max(mean) } else { known + mean });
            }
        }
        let point = |(part, value): (usize, Option<f64>)| Some((clock.middle(part), value? * factor));
        parts.into_iter().enumerate().filter_map(point).collect()
    };
    let engines = of(Layer::Engine);
    if engines.is_empty() { of(Layer::Frontend) } else { engines }
}

/// A percentile of the requests sent in each part of the time.
fn seen(run: &Run, clock: Clock, figure: fn(&RequestFigures) -> Option<f64>, percent: f64) -> Values {
    let good = run.requests.iter().filter(|request| request.outcome == Outcome::Ok);
    clock.percentile(good.filter_map(|request| Some((seconds(request.sent_us), figure(request)?))), percent)
}

fn latencies(run: &Run, clock: Clock) -> Option<Over> {
    let of = |figure: fn(&RequestFigures) -> Option<f64>, percent| seen(run, clock, figure, percent);
    let slow = of(RequestFigures::e2e_ms, 95.0);
    let (at, most) = peak(&slow);
    let mut series = vec![
        Series::line("E2E p50", 0, of(RequestFigures::e2e_ms, 50.0)),
        Series { dashed: true, ..Series::line("E2E p95", 0, slow) },
        Series::line("TTFT p50", 1, of(RequestFigures::ttft_ms, 50.0)),
        Series { dashed: true, ..Series::line("TTFT p95", 1, of(RequestFigures::ttft_ms, 95.0)) },
    ];
    series.retain(|series| !series.points.is_empty());
    Some(Over {
        name: "latency-over-time",
        title: "Latency of the requests sent at that moment",
        unit: "ms",
        series,
        sentence: format!(
            "E2E latency p95 is highest for requests sent after {} s: {} ms.",
            number(at),
            number(most)
        ),
    })
}

/// Mean time in the servers' queues between two of their pages, below the p95 latency that contains it.
fn queue(run: &Run, clock: Clock) -> Option<Over> {
    let mut values: Values = Vec::new();
    for pages in &run.servers {
        for pair in pages.windows(2) {
            let [(_, before), (at, after)] = pair else { continue };
            let figures = |page: &Page| page.layers.get(&Layer::Engine).cloned();
            let (Some(before), Some(after)) = (figures(before), figures(after)) else { continue };
            let waited: Option<f64> = Figures::mean_ms_between(&before, &after, "queue");
            values.extend(waited.map(|ms| (*at, ms)));
        }
    }
    let waited = clock.percentile(values.into_iter(), 100.0);
    let (at, most) = peak(&waited);
    (!waited.is_empty()).then(|| Over {
        name: "queue-over-time",
        title: "p95 latency and queue wait in the servers",
        unit: "ms",
        series: vec![
            Series::line("E2E latency p95", 0, seen(run, clock, RequestFigures::e2e_ms, 95.0)),
            Series { dashed: true, ..Series::line("queue wait, mean", 3, waited) },
        ],
        sentence: format!(
            "Requests waited longest in the queue after {} s: {} ms on average.",
            number(at),
            number(most)
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::fixtures::record;

    /// A request is answered after 140 ms.
    fn run(sent_ms: &[u64]) -> Run {
        let of = |(id, ms): (usize, &u64)| RequestFigures::of(&record(id as u64, 1_000_000 + ms * 1000));
        Run { requests: sent_ms.iter().enumerate().map(of).collect(), ..Run::default() }
    }

    #[test]
    fn time_is_cut_into_round_parts_from_the_first_request_on() {
        // From 1 s to 71.14 s: 141 parts of 0.5 s would be too many.
        let clock = Clock::of(&run(&[0, 70_000])).unwrap();
        assert_eq!((clock.start, clock.width, clock.parts), (1.0, 1.0, 71));
        let parts = [0.9, 1.0, 2.5, 99.0].map(|at| clock.part(at));
        assert_eq!(parts, [None, Some(0), Some(1), None]);
    }

    #[test]
    fn in_flight_counts_those_sent_and_not_ended() {
        // At 0.25 s the third alone is not answered, at 0.75 s none.
        let run = run(&[0, 100, 200, 600]);
        let clock = Clock::of(&run).unwrap();
        let over = in_flight(&run, clock).unwrap();
        let counts: Vec<f64> = over.series[0].points.iter().map(|point| point.y).collect();
        assert_eq!((clock.width, counts), (0.5, vec![1.0, 0.0]));
    }

    #[test]
    fn rates_are_per_second() {
        let run = run(&[0, 100, 200, 600]);
        let clock = Clock::of(&run).unwrap();
        let rate = clock.rate(run.requests.iter().map(|request| seconds(request.sent_us)));
        let rounded: Vec<f64> = rate.iter().map(|(_, value)| value.round()).collect();
        assert_eq!(rounded, [6.0, 2.0]);
    }
}
