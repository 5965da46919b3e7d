//! Capacity zones as a table, sentences and a page, `capacity-zones.md`; and the load levels of measured points.

use itertools::Itertools;

use super::markdown::push_simulated;
use super::parts::{Block, Part};
use super::table::{Table, maybe, number};
use super::{Header, PointResult, load_of};
use crate::analyze::cost::cost;
use crate::analyze::zones::stability::{Stability, grades};
use crate::analyze::zones::{
    Axis, CutShort, Efficiency, Judged, Level, Outcome, Series, Signal, SignalName, Sustained, Thresholds,
    Unit, Zones, judge, table,
};
use crate::metrics::stages::StageFigures;
use crate::metrics::{Distribution, Rating, Summary};

/// The series of points that differ in load alone, and of the level stages of each ramp. One with a single level is left out.
pub fn series(rows: &[PointResult]) -> Vec<Series> {
    let of = |row: &PointResult| match &row.summary.stages {
        Some(stages) => {
            let series = of_row(row);
            let held = stages.iter().flat_map(StageFigures::levels);
            let levels = held.map(|(load, stage)| stage_level(load, stage, row.gpus)).collect();
            let rises = stages.iter().any(|stage| !stage.slices.is_empty());
            Some(Series { name: row.series.clone(), levels, rises, ..series })
        }
        None => of_load(row),
    };
    let mut series = table::join(rows.iter().filter_map(of));
    series.retain(|series| {
        series.levels.iter().any(|level| Some(level.load) != series.levels.first().map(|l| l.load))
    });
    series
}

/// The series of all points with a constant load, those with a single level too: what a Pareto front spans.
pub fn of_loads(rows: &[PointResult]) -> Vec<Series> {
    table::join(rows.iter().filter_map(of_load))
}

fn of_load(row: &PointResult) -> Option<Series> {
    let levels = vec![level(row, load_of(&row.summary)?)];
    Some(Series { levels, ..of_row(row) })
}

/// The series of a point, without levels.
fn of_row(row: &PointResult) -> Series {
    let point = &row.summary.point;
    let axis = if point.request_rate.is_some() { Axis::RequestRate } else { Axis::Concurrency };
    let streaming = if point.streaming { "" } else { ", streaming off" };
    Series {
        name: row.series.clone(),
        workload: format!("{} {}{streaming}", row.model, row.workload),
        configuration: [&row.configuration, &row.deployment]
            .into_iter()
            .filter(|part| !part.is_empty())
            .join(" "),
        axis,
        price: row.price.clone(),
        rises: false,
        levels: Vec::new(),
    }
}

pub(super) fn level(row: &PointResult, load: f64) -> Level {
    let s = &row.summary;
    let counted = s.requests.completed + s.requests.failed;
    let good = s.throughput.goodput_per_s.filter(|_| counted > 0);
    let good = good.map(|rate| ("goodput".to_owned(), rate * s.duration_s / counted as f64));
    let latencies = [
        ("ttft", s.ttft_ms),
        ("itl", s.itl_ms),
        ("e2e", s.e2e_ms),
        ("e2e_per_token", s.e2e_per_token_ms),
        ("icl", s.icl_ms),
    ];
    Level {
        requests_per_s: Some(s.throughput.requests_per_s),
        output_tokens_per_s: Some(s.throughput.output_tokens_per_s),
        total_tokens_per_s: Some(s.throughput.total_tokens_per_s),
        gpus: (row.gpus > 0).then_some(row.gpus.into()),
        per_user: s.throughput.output_tokens_per_s_per_user,
        figures: figures(&latencies).chain(good).collect(),
        suspect: s.verdict.result == Rating::Suspect,
        cut_short: match &s.cut_short {
            None => CutShort::No,
            Some(cut) if cut.over_saturated => CutShort::OverSaturated,
            Some(_) => CutShort::Broken,
        },
        waiting: waiting(s),
        kv_cache: kv_cache(s),
        failed: s.verdict.result == Rating::Invalid,
        ..seen(load, s.ttft_ms, s.e2e_ms, (s.requests.completed, s.requests.failed))
    }
}

/// Every statistic of the latencies by its name, such as `ttft.p99`.
fn figures<'a>(latencies: &'a [(&str, Option<Distribution>)]) -> impl Iterator<Item = (String, f64)> + 'a {
    let known = latencies.iter().filter_map(|(name, figures)| Some((name, (*figures)?)));
    known.flat_map(|(name, figures)| {
        figures.named().into_iter().map(move |(statistic, value)| (format!("{name}.{statistic}"), value))
    })
}

/// What the requests under a load saw, of which so many completed and failed.
fn seen(
    load: f64,
    ttft: Option<Distribution>,
    e2e: Option<Distribution>,
    (completed, failed): (u64, u64),
) -> Level {
    let counted = completed + failed;
    Level {
        load,
        latency_avg_ms: e2e.map(|d| d.avg),
        latency_p99_ms: e2e.map(|d| d.p99),
        ttft_avg_ms: ttft.map(|d| d.avg),
        ttft_p50_ms: ttft.map(|d| d.p50),
        ttft_p95_ms: ttft.map(|d| d.p95),
        ttft_p99_ms: ttft.map(|d| d.p99),
        error_rate: (counted > 0).then(|| failed as f64 / counted as f64),
        ..Level::default()
    }
}

/// Requests that waited inside the servers on average: of the engines, which know, else of the frontend.
fn waiting(summary: &Summary) -> Option<f64> {
    let servers = summary.servers.as_ref()?;
    let engines = servers.engines().filter_map(|layer| Some(layer.waiting?.avg));
    engines.reduce(|a, b| a + b).or_else(|| Some(servers.frontend.as_ref()?.waiting?.avg))
}

/// Share of the KV cache in use at its fullest.
fn kv_cache(summary: &Summary) -> Option<f64> {
    let engines = summary.servers.as_ref()?.engines().filter_map(|layer| Some(layer.kv_cache?.max));
    engines.reduce(f64::max)
}

/// The level of a load that a ramp held.
fn stage_level(load: f64, stage: &StageFigures, gpus: u32) -> Level {
    let counted = stage.completed + stage.failed;
    let good =
        stage.good.filter(|_| counted > 0).map(|good| ("goodput".to_owned(), good as f64 / counted as f64));
    let latencies = [("ttft", stage.ttft_ms), ("itl", stage.itl_ms), ("e2e", stage.e2e_ms)];
    let servers = stage.servers.as_deref();
    Level {
        gpus: (gpus > 0).then_some(gpus.into()),
        figures: figures(&latencies).chain(good).collect(),
        requests_per_s: Some(stage.requests_per_s),
        output_tokens_per_s: Some(stage.output_tokens_per_s),
        waiting: servers.and_then(|layer| Some(layer.waiting?.avg)),
        kv_cache: servers.and_then(|layer| Some(layer.kv_cache?.max)),
        ..seen(load, stage.ttft_ms, stage.e2e_ms, (stage.completed, stage.failed))
    }
}

/// A throughput, unless the measurement was cut short.
fn whole(level: &Level, throughput: Option<f64>) -> Option<f64> {
    throughput.filter(|_| level.failed || level.is_whole())
}

/// A row per level. The wide one has requests per second and the tail of TTFT, too.
pub fn table(zones: &Zones, wide: bool) -> Table {
    let has =
        |figure: fn(&Level) -> Option<f64>| zones.points.iter().any(|judged| figure(&judged.level).is_some());
    type Column = (&'static str, bool, fn(&Level) -> Option<f64>);
    let columns: [Column; 6] = [
        ("req/s", !has(|level| level.output_tokens_per_s), |level| whole(level, level.requests_per_s)),
        ("tok/s", true, |level| whole(level, level.output_tokens_per_s)),
        ("E2E avg", true, |level| level.latency_avg_ms),
        ("p99", true, |level| level.latency_p99_ms),
        ("TTFT p50", true, |level| level.ttft_p50_ms.or(level.ttft_avg_ms)),
        ("p95", false, |level| level.ttft_p95_ms),
    ];
    let costs = zones.points.iter().map(|judged| cost(&judged.level, zones.price.as_ref()?));
    let costs: Vec<Option<f64>> = costs.map(|cost| Some(cost?.output)).collect();
    let priced = zones.price.as_ref().filter(|_| costs.iter().any(Option::is_some));
    let is_shown = |(_, narrow, figure): &Column| (wide || *narrow) && has(*figure);
    let columns: Vec<Column> = columns.into_iter().filter(is_shown).collect();
    let grades = grades(zones.points.iter().map(|judged| &judged.level));
    let graded = grades.iter().any(Option::is_some);
    let mut table = Table::new([if zones.axis == Axis::Concurrency { "conc" } else { "rate" }]);
    table.head.extend(columns.iter().map(|(head, ..)| (*head).to_owned()));
    table.head.extend(graded.then(|| "TTFT is".to_owned()));
    table.head.extend(priced.map(|price| format!("{}/Mtok", price.currency)));
    table.head.extend(["efficiency", "zone"].map(str::to_owned));
    for ((judged, grade), cost) in zones.points.iter().zip(grades).zip(costs) {
        let mut cells = vec![judged.level.load.to_string()];
        cells.extend(columns.iter().map(|(_, _, figure)| maybe(figure(&judged.level))));
        cells.extend(graded.then(|| grade.map_or("-", Stability::words).to_owned()));
        cells.extend(priced.map(|_| maybe(cost)));
        let efficiency = match judged.efficiency {
            Some(Efficiency::Good) => "good",
            Some(Efficiency::Poor) => "poor",
            None => "-",
        };
        cells.extend([efficiency.to_owned(), judged.zone.words().to_owned()]);
        table.push(cells);
    }
    table
}

/// What the table tells: saturation, the first signal, operating points.
pub fn sentences(zones: &Zones) -> Vec<String> {
    let axis = zones.axis.words();
    let figure = |load: f64, figure: fn(&Level) -> Option<f64>| {
        zones.points.iter().find(|judged| judged.level.load == load).and_then(|judged| figure(&judged.level))
    };
    let throughput = |load: f64| match figure(load, |level| level.output_tokens_per_s) {
        Some(tokens) => format!("{} tok/s", number(tokens)),
        None => format!("{} requests/s", maybe(figure(load, |level| level.requests_per_s))),
    };
    let usable = zones.points.iter().filter(|judged| judged.level.is_whole());
    let has_cut = zones.points.iter().any(|judged| judged.level.cut_short != CutShort::No);
    let is_alone = usable.clone().count() < 2;
    let mut sentences = Vec::new();
    sentences.push(match (zones.saturation_beyond, usable.clone().next_back()) {
        (Some(bound), _) => format!("Saturated beyond {axis} {bound}: throughput no longer grows."),
        (None, Some(highest)) if !is_alone => format!(
            "Saturation was not reached: throughput still grows at {axis} {}, the highest load{}.",
            highest.level.load,
            if has_cut { " that was measured to its end" } else { "" }
        ),
        (None, Some(_)) => "One load tells nothing about saturation.".to_owned(),
        (None, None) => "No load has usable figures.".to_owned(),
    });
    sentences.extend(zones.first_signal().map(|first| signal(first, zones)));
    sentences.extend(zones.sustained.iter().flat_map(|found| sustained(found, axis)));
    let cut = zones.points.iter().filter(|judged| judged.level.cut_short != CutShort::No);
    let cut: Vec<String> = cut.map(|judged| judged.level.load.to_string()).collect();
    if !cut.is_empty() {
        sentences.push(format!(
            "Cut short by a search, so that the throughput is not known: {axis} {}.",
            cut.join(", ")
        ));
    }
    for Judged { level, .. } in zones.points.iter().filter(|judged| judged.level.more > 0) {
        sentences.push(format!("{axis} {}: the mean of {} results.", level.load, level.more + 1));
    }
    if zones.rises {
        sentences.push(format!(
            "Where the ramp rises, a row is the mean {axis} of a part of a stage that outlasts an answer."
        ));
    }
    if is_alone {
        return sentences;
    }
    let points = &zones.operating;
    sentences.extend(points.optimal_latency.map(|load| {
        let latency = maybe(figure(load, |level| level.latency_avg_ms));
        format!("Lowest latency at {axis} {load}: {latency} ms on average.")
    }));
    sentences.extend(
        points.peak_throughput.map(|load| format!("Peak throughput at {axis} {load}: {}.", throughput(load))),
    );
    sentences.extend(points.sweet_spot.map(|(from, to)| {
        let range = if from == to { from.to_string() } else { format!("{from} to {to}") };
        format!("Sweet spot, the best ratio of throughput to latency: {axis} {range}.")
    }));
    sentences
}

/// The highest load that keeps the objectives, as sentences.
fn sustained(found: &Sustained, axis: &str) -> Vec<String> {
    let objectives = found.objectives.join(" and ");
    let shown = |value: f64, unit: Unit| match unit {
        Unit::Ms => format!("{} ms", number(value)),
        Unit::Share => format!("{} %", number(value * 100.0)),
        Unit::Plain => number(value),
    };
    let why =
        found.broken.as_ref().map_or_else(String::new, |broken| match (&broken.objective, broken.value) {
            (Some(objective), Some(value)) => {
                let figure = objective.split(['<', '>']).next().unwrap_or_default().trim();
                format!("{figure} is {} at {}", shown(value, broken.unit), broken.at)
            }
            _ => format!("{} failed, or its queue grew without bound", broken.at),
        });
    let load = found.load.unwrap_or_default();
    let what = format!("Highest {axis} with {objectives}");
    let mut sentences = vec![match found.outcome {
        Outcome::Unknown => format!("{what}: not known, because no load has these figures."),
        Outcome::None => format!("{what}: none; {why}."),
        Outcome::NotReached => format!("{what}: not reached; {load}, the highest measured, keeps it."),
        Outcome::Bounded => format!("{what}: {load}; {why}."),
    }];
    sentences.extend(
        found
            .interpolated
            .map(|at| format!("A straight line between the two crosses the bound at {}.", number(at))),
    );
    if !found.kept_again.is_empty() {
        let again: Vec<String> = found.kept_again.iter().map(f64::to_string).collect();
        sentences.push(format!("It was kept again at {}: repeat the measurement.", again.join(", ")));
    }
    sentences
}

/// The earliest signal as a sentence.
fn signal(Signal { name, at, value }: &Signal, zones: &Zones) -> String {
    let Thresholds { queue, kv_cache, latency, ttft, errors, .. } = zones.thresholds;
    let (axis, shown, percent) =
        (zones.axis.words(), number(*value), |share: f64| (share * 1e4).round() / 100.0);
    let what = match name {
        SignalName::QueueGrowth if zones.axis == Axis::Concurrency => {
            format!(
                "{shown} requests wait inside the server, more than {} % of the concurrency",
                percent(queue)
            )
        }
        SignalName::QueueGrowth => format!("{shown} requests wait inside the server"),
        SignalName::Ttft => format!("TTFT is {shown} ms, more than {ttft} times its lowest value so far"),
        SignalName::KvCache => {
            format!("the KV cache is {} % full, at least {} %", percent(*value), percent(kv_cache))
        }
        SignalName::Latency => {
            format!("the average latency is {shown} ms, more than {latency} times its lowest value so far")
        }
        SignalName::ThroughputPlateau => format!("throughput is {shown} and no longer grows"),
        SignalName::Errors => {
            format!("{} % of the requests fail, more than {} %", percent(*value), percent(errors))
        }
    };
    format!("First signal, at {axis} {at}: {what}; it stays so at every higher load.")
}

/// The sentences of every series of the points, each with its name if several were measured.
pub fn lines(rows: &[PointResult]) -> Vec<String> {
    let all = series(rows);
    let of = |one: &Series| {
        let name = if all.len() > 1 { format!("{}: ", one.name) } else { String::new() };
        let sentences = sentences(&judge(one, Thresholds::default(), &[]));
        sentences.into_iter().map(|sentence| format!("{name}{sentence}")).collect::<Vec<_>>()
    };
    all.iter().flat_map(of).collect()
}

/// The zones of every series, as tables and sentences.
pub(super) fn part(rows: &[PointResult]) -> Part {
    let series = series(rows);
    series.iter().fold(Part::new("Capacity"), |part, one| {
        let zones = judge(one, Thresholds::default(), &[]);
        let part = if series.len() > 1 { part.with(Block::Head(one.name.clone())) } else { part };
        part.with(Block::List(sentences(&zones))).with(Block::Table(table(&zones, true)))
    })
}

/// `capacity-zones.md`; `None` if no points differ in load alone.
pub fn page(header: &Header, rows: &[PointResult]) -> Option<String> {
    let series = series(rows);
    if series.is_empty() {
        return None;
    }
    let mut text = format!("# {}: capacity zones\n\n", header.name);
    push_simulated(&mut text, rows);
    for one in &series {
        let zones = judge(one, Thresholds::default(), &[]);
        if series.len() > 1 {
            text.push_str(&format!("## {}\n\n", one.name));
        }
        sentences(&zones).iter().for_each(|sentence| text.push_str(&format!("- {sentence}\n")));
        text.push_str(&format!("\n{}\n", table(&zones, true).markdown()));
    }
    text.push_str("Latencies in ms; the rules and their thresholds: docs/zones.md of tokmark.\n");
    Some(text)
}
