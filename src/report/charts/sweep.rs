//! Figures over load: throughput, rates, latencies, and what the servers say. Zones are shaded where one series was measured.

use super::Source;
use super::levels::{Level, levels, names};
use crate::analyze::zones::{Thresholds, Zone, Zones, judge};
use crate::report::chart::{Axis, Band, Chart, Draw, Point, Series};
use crate::report::repeats::means;
use crate::report::table::number;
use crate::report::zones;

/// More series than this on one chart cannot be told apart.
pub(super) const MOST: usize = 6;

type Figure = fn(&Level<'_>) -> Option<f64>;

/// A line of a chart: name, whether it is dashed, figure.
type Lines = &'static [(&'static str, bool, Figure)];

/// A chart over load: file, title, unit, what its last line is, lines.
struct Over {
    name: &'static str,
    title: &'static str,
    unit: &'static str,
    told: &'static str,
    lines: Lines,
}

const CHARTS: [Over; 8] = [
    Over {
        name: "throughput",
        title: "Output throughput",
        unit: "output tokens/s",
        told: "Output throughput",
        lines: &[("", false, |level| level.whole(level.output_tokens_per_s))],
    },
    Over {
        name: "ttft",
        title: "Time to first token (TTFT)",
        unit: "ms",
        told: "TTFT p99",
        lines: &[
            ("p50", false, |level| Some(level.ttft?.p50)),
            ("p95", false, |level| Some(level.ttft?.p95)),
            ("p99", false, |level| Some(level.ttft?.p99)),
        ],
    },
    Over {
        name: "e2e",
        title: "End-to-end (E2E) latency",
        unit: "ms",
        told: "E2E latency p99",
        lines: &[
            ("p50", false, |level| Some(level.e2e?.p50)),
            ("p95", false, |level| Some(level.e2e?.p95)),
            ("p99", false, |level| Some(level.e2e?.p99)),
        ],
    },
    Over {
        name: "itl",
        title: "Inter-token latency (ITL)",
        unit: "ms",
        told: "ITL p99",
        lines: &[
            ("p50", false, |level| Some(level.itl?.p50)),
            ("p95", false, |level| Some(level.itl?.p95)),
            ("p99", false, |level| Some(level.itl?.p99)),
        ],
    },
    Over {
        name: "requests",
        title: "Successful and total rate",
        unit: "requests/s",
        told: "The rate of all requests that ended",
        lines: &[
            ("within the SLO", true, |level| level.whole(level.goodput_per_s?)),
            ("successful", false, |level| level.whole(level.requests_per_s)),
            ("total", true, |level| level.whole(level.requests_per_s + level.failed_per_s)),
        ],
    },
    Over {
        name: "queue",
        title: "p95 latency and queue wait in the servers",
        unit: "ms",
        told: "Queue wait p95",
        lines: &[
            ("E2E latency p95", false, |level| {
                level.served(|layer| layer.queue_ms?.p95).and(Some(level.e2e?.p95))
            }),
            ("queue wait p95", true, |level| level.served(|layer| layer.queue_ms?.p95)),
        ],
    },
    Over {
        name: "kv-cache",
        title: "KV cache in use",
        unit: "%",
        told: "The fullest KV cache",
        lines: &[
            ("mean", false, |level| level.served(|layer| Some(layer.kv_cache?.avg * 100.0))),
            ("highest", true, |level| level.served(|layer| Some(layer.kv_cache?.max * 100.0))),
        ],
    },
    Over {
        name: "batch",
        title: "Requests running and waiting in the servers",
        unit: "requests, mean",
        told: "The number of waiting requests",
        lines: &[
            ("running", false, |level| level.served(|layer| Some(layer.running?.avg))),
            ("waiting", true, |level| level.served(|layer| Some(layer.waiting?.avg))),
        ],
    },
];

/// The charts; none where all levels have one load.
pub(super) fn charts(source: Source<'_>) -> Vec<Chart> {
    let means = means(source.rows);
    let levels = levels(&means);
    let names = names(&levels);
    let has_loads = levels.iter().any(|level| levels.first().is_some_and(|first| first.load != level.load));
    if !has_loads || names.len() > MOST {
        return Vec::new();
    }
    let zones: Vec<Zones> =
        zones::series(source.rows).iter().map(|series| judge(series, Thresholds::default(), &[])).collect();
    let bands = match zones.as_slice() {
        [one] if names.len() == 1 => bands(one),
        _ => Vec::new(),
    };
    let label = load_label(&levels);
    let x = || Axis::loads(label, levels.iter().map(|level| level.load));
    let chart = |over: Over| {
        let series = lines(&levels, &names, over.lines);
        Chart {
            name: over.name.to_owned(),
            title: format!(
                "{} over {}",
                over.title,
                if levels[0].is_rate { "request rate" } else { "concurrency" }
            ),
            x: x(),
            y: Axis::from_zero(over.unit, Chart::values(&series)),
            sentence: sentence(&series, &over, levels[0].is_rate, zones.first().filter(|_| names.len() == 1)),
            series,
            bands: bands.clone(),
            ..source.blank()
        }
        .checked()
    };
    CHARTS.into_iter().filter_map(chart).collect()
}

/// The label of the load's axis.
pub(super) fn load_label(levels: &[Level<'_>]) -> &'static str {
    if levels.iter().any(|level| level.is_rate) {
        "request rate, requests per second"
    } else {
        "concurrency, requests in flight"
    }
}

/// A line per figure; of several series the first and the last figure alone, in the colour of the series.
fn lines(levels: &[Level<'_>], names: &[&str], lines: Lines) -> Vec<Series> {
    let several = names.len() > 1;
    let shown = lines.iter().enumerate().filter(|(at, _)| !several || *at == 0 || at + 1 == lines.len());
    let mut series = Vec::new();
    for (at, (label, dashed, figure)) in shown {
        for (number, name) in names.iter().enumerate() {
            let own = levels.iter().filter(|level| level.series == *name);
            let point = |level: &Level| {
                let mark = level.rating.into();
                Some(Point { mark, ..Point::new(level.load, figure(level)?) })
            };
            let parts = [if several { *name } else { "" }, label];
            series.push(Series {
                name: parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" "),
                colour: if several { number } else { at },
                dashed: *dashed || (several && at > 0),
                draw: Draw::Marked,
                points: own.filter_map(point).collect(),
            });
        }
    }
    series.retain(|series| !series.points.is_empty());
    series
}

/// Zones as ranges of load; neighbours meet half way, by factor where loads are far apart.
fn bands(zones: &Zones) -> Vec<Band> {
    let mut bands: Vec<Band> = Vec::new();
    let tone = |zone| match zone {
        Zone::Safe => 0,
        Zone::EarlyDegradation => 1,
        Zone::Saturated => 2,
        Zone::OverSaturated | Zone::Failed => 3,
    };
    let mut before: Option<f64> = None;
    for judged in &zones.points {
        let load = judged.level.load;
        let from =
            before.map_or(f64::MIN, |before| if before > 0.0 { (before * load).sqrt() } else { load / 2.0 });
        before = Some(load);
        let name = judged.zone.words();
        match bands.last_mut() {
            Some(last) if last.name == name => last.to = f64::MAX,
            last => {
                last.into_iter().for_each(|last| last.to = from);
                bands.push(Band { from, to: f64::MAX, name: name.to_owned(), tone: tone(judged.zone) });
            }
        }
    }
    bands
}

/// How the most telling line runs, and from where on throughput no longer grows.
fn sentence(series: &[Series], over: &Over, is_rate: bool, zones: Option<&Zones>) -> String {
    let load = if is_rate { "request rate" } else { "concurrency" };
    let unit = over.unit.split(", ").next().unwrap_or_default();
    let Some(told) = series.last() else { return String::new() };
    let (Some(first), Some(last)) = (told.points.first(), told.points.last()) else { return String::new() };
    let name = if zones.is_none() && !told.name.is_empty() {
        format!("{} ({})", over.told, told.name)
    } else {
        over.told.to_owned()
    };
    let best = told.points.iter().max_by(|a, b| a.y.total_cmp(&b.y)).unwrap_or(last);
    let verb = if last.y > first.y * 1.02 {
        "rises"
    } else if last.y < first.y * 0.98 {
        "falls"
    } else {
        "stays"
    };
    let ends = format!(
        "{name} {verb} from {} {unit} at {load} {} to {} at {}",
        number(first.y),
        first.x,
        number(last.y),
        last.x
    );
    let peak = if best.x != last.x && best.x != first.x && best.y > last.y.max(first.y) * 1.02 {
        format!("; the highest value is {} at {}", number(best.y), best.x)
    } else {
        String::new()
    };
    let saturated = zones.and_then(|zones| zones.saturation_beyond);
    let saturated = saturated.map(|bound| format!(" Throughput no longer grows beyond {load} {bound}."));
    format!("{ends}{peak}.{}", saturated.unwrap_or_default())
}
