//! Latency and TTFT by range of load: neighbouring levels of one zone in a row.

use super::table::{Table, number};
use super::{PointResult, zones};
use crate::analyze::zones::stability::{Stability, grades};
use crate::analyze::zones::{Axis, Judged, Level, Thresholds, Zones, judge};

type Figure = fn(&Level) -> Option<f64>;

const FIGURES: [(&str, Figure); 7] = [
    ("TTFT p50", |level| level.ttft_p50_ms.or(level.ttft_avg_ms)),
    ("TTFT p95", |level| level.ttft_p95_ms),
    ("TTFT p99", |level| level.ttft_p99_ms),
    ("ITL p50", |level| level.figures.get("itl.p50").copied()),
    ("E2E avg", |level| level.latency_avg_ms),
    ("E2E p99", |level| level.latency_p99_ms),
    ("tok/s", |level| level.output_tokens_per_s),
];

/// The tables of all series, each below its name if there are several; empty without a series.
pub fn section(rows: &[PointResult]) -> String {
    let series = zones::series(rows);
    let mut text = String::new();
    for one in &series {
        let name = if series.len() > 1 { format!(": {}", one.name) } else { String::new() };
        let zones = judge(one, Thresholds::default(), &[]);
        text.push_str(&format!("## By {}{name}\n\n{}\n", zones.axis.words(), table(&zones).markdown()));
    }
    if !text.is_empty() {
        text.push_str("Each row covers neighbouring loads of one zone, from the lowest to the highest figure among them; ms.\n\n");
    }
    text
}

/// A row per range.
fn table(zones: &Zones) -> Table {
    let grades = grades(zones.points.iter().map(|judged| &judged.level));
    let graded: Vec<(&Judged, Option<Stability>)> = zones.points.iter().zip(grades).collect();
    let is_measured = |figure: &Figure| zones.points.iter().any(|judged| figure(&judged.level).is_some());
    let figures: Vec<_> = FIGURES.into_iter().filter(|(_, figure)| is_measured(figure)).collect();
    let has_grades = graded.iter().any(|(_, grade)| grade.is_some());
    let mut table =
        Table::new([if zones.axis == Axis::Concurrency { "concurrency" } else { "request rate" }, "zone"]);
    table.head.extend(figures.iter().map(|(head, _)| (*head).to_owned()));
    table.head.extend(has_grades.then(|| "TTFT is".to_owned()));
    for range in graded.chunk_by(|(a, _), (b, _)| a.zone == b.zone) {
        let of = |figure: Figure| range.iter().filter_map(move |(judged, _)| figure(&judged.level));
        let span = |figure: Figure| {
            let (low, high) = (of(figure).reduce(f64::min)?, of(figure).reduce(f64::max)?);
            let (low, high) = (number(low), number(high));
            Some(if low == high { low } else { format!("{low} – {high}") })
        };
        let loads = [range.first(), range.last()].map(|end| end.map_or(0.0, |(judged, _)| judged.level.load));
        let mut cells = match loads {
            [from, to] if from == to => vec![from.to_string()],
            [from, to] => vec![format!("{from} – {to}")],
        };
        cells.extend(range.first().map(|(judged, _)| judged.zone.words().to_owned()));
        cells.extend(figures.iter().map(|(_, figure)| span(*figure).unwrap_or_else(|| "N/A".to_owned())));
        let worst = range.iter().filter_map(|(_, grade)| *grade).max();
        cells.extend(has_grades.then(|| worst.map_or("-", Stability::words).to_owned()));
        table.push(cells);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::zones::Series;

    #[test]
    fn neighbours_of_one_zone_share_a_row() {
        let level = |(load, tokens, ttft): (f64, f64, f64)| Level {
            load,
            output_tokens_per_s: Some(tokens),
            ttft_p50_ms: Some(ttft),
            latency_avg_ms: Some(load / tokens * 1e5),
            ..Level::default()
        };
        let levels = [(8.0, 800.0, 20.0), (16.0, 1500.0, 30.0), (32.0, 2600.0, 45.0), (64.0, 2610.0, 900.0)];
        let series = Series { levels: levels.map(level).to_vec(), ..Series::default() };
        let table = table(&judge(&series, Thresholds::default(), &[]));
        assert_eq!(table.head, ["concurrency", "zone", "TTFT p50", "E2E avg", "tok/s", "TTFT is"]);
        assert_eq!(
            table.rows,
            [
                ["8 – 32", "safe", "20.0 – 45.0", "1,000 – 1,231", "800 – 2,600", "stable"],
                ["64", "saturated", "900", "2,452", "2,610", "severe"],
            ]
        );
    }
}
