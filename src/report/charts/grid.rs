//! A grid of servers: the effect of each axis that its deployments differ in, one colour per value, the best server marked.

use itertools::Itertools;

use super::Source;
use super::levels::{Level, levels};
use super::sweep::load_label;
use crate::metrics::Rating;
use crate::report::PointResult;
use crate::report::chart::{Axis, Chart, Draw, Mark, Point, Series};
use crate::report::repeats::means;
use crate::report::table::number;

/// An axis with the value that each deployment has on it, by the deployment's id.
#[derive(Debug, Clone, PartialEq)]
struct GridAxis {
    name: String,
    /// In the order of the recipe.
    values: Vec<String>,
    /// Id of a deployment and the number of its value.
    places: Vec<(String, usize)>,
}

impl GridAxis {
    fn place(&self, deployment: &str) -> Option<usize> {
        self.places.iter().find(|(id, _)| id == deployment).map(|(_, place)| *place)
    }
}

/// The axes with several values each, in the order of the recipe.
fn axes(rows: &[PointResult]) -> Vec<GridAxis> {
    let names = rows.iter().flat_map(|row| row.axes.iter().map(|(name, _)| name)).unique();
    let axis = |name: &String| {
        let value = |row: &PointResult| {
            row.axes.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        };
        let values: Vec<String> = rows.iter().filter_map(value).unique().collect();
        let place = |row: &PointResult| {
            let value = value(row)?;
            Some((row.deployment.clone(), values.iter().position(|known| *known == value)?))
        };
        let places = rows.iter().filter_map(place).unique().collect();
        GridAxis { name: name.clone(), values, places }
    };
    names.map(axis).filter(|axis| axis.values.len() > 1).collect()
}

/// What a grid is judged by: name, title, unit, whether more is better.
struct Measure {
    name: &'static str,
    title: &'static str,
    unit: &'static str,
    more: bool,
    figure: fn(&Level<'_>) -> Option<f64>,
}

const MEASURES: [Measure; 2] = [
    Measure {
        name: "throughput",
        title: "Output throughput",
        unit: "output tokens/s",
        more: true,
        figure: |level| Some(level.output_tokens_per_s),
    },
    Measure {
        name: "ttft",
        title: "TTFT p99",
        unit: "ms",
        more: false,
        figure: |level| Some(level.ttft?.p99),
    },
];

/// A server by its values: `max_num_seqs 256, kv_cache_dtype fp8`.
fn server(axes: &[GridAxis], deployment: &str) -> String {
    let value =
        |axis: &GridAxis| Some(format!("{} {}", axis.name, axis.values.get(axis.place(deployment)?)?));
    axes.iter().filter_map(value).join(", ")
}

/// For each axis: throughput over load, and what the axis does to throughput and to TTFT at the highest load.
pub(super) fn charts(source: Source<'_>) -> Vec<Chart> {
    let means = means(source.rows);
    let (axes, levels) = (axes(&means), levels(&means));
    let Some(load) = levels.iter().map(|level| level.load).reduce(f64::max) else { return Vec::new() };
    let has_loads = levels.iter().any(|level| level.load != load);
    let mut charts = Vec::new();
    for axis in &axes {
        charts.extend(has_loads.then(|| over_load(source, axis, &axes, &levels)).flatten());
        let at: Vec<&Level> = levels.iter().filter(|level| level.load == load).collect();
        charts.extend(MEASURES.iter().filter_map(|measure| effect(source, (axis, &axes), measure, &at)));
    }
    charts
}

fn over_load(source: Source<'_>, axis: &GridAxis, axes: &[GridAxis], levels: &[Level<'_>]) -> Option<Chart> {
    let best = best(levels.iter(), &MEASURES[0]);
    let mut series = Vec::new();
    for name in super::levels::names(levels) {
        let own: Vec<&Level> = levels.iter().filter(|level| level.series == name).collect();
        let place = axis.place(own.first()?.deployment)?;
        let point = |level: &&Level| Point {
            name: Some(server(axes, level.deployment)),
            mark: mark(level, best),
            ..Point::new(level.load, level.output_tokens_per_s)
        };
        series.push(Series {
            name: format!("{} = {}", axis.name, axis.values.get(place)?),
            colour: place,
            dashed: false,
            draw: Draw::Marked,
            points: own.iter().map(point).collect(),
        });
    }
    let (x, is_rate) = (load_label(levels), levels.iter().any(|level| level.is_rate));
    let load = if is_rate { "request rate" } else { "concurrency" };
    let told = best.map_or_else(String::new, |best| {
        format!(
            "The highest throughput, {} output tokens/s at {load} {}, has the server {}.",
            number(best.output_tokens_per_s),
            best.load,
            server(axes, best.deployment)
        )
    });
    Chart {
        name: format!("throughput-by-{}", file_name(&axis.name)),
        title: format!("Output throughput over {load}, by {}", axis.name),
        x: Axis::loads(x, levels.iter().map(|level| level.load)),
        y: Axis::from_zero("output tokens/s", Chart::values(&series)),
        series,
        sentence: told,
        ..source.blank()
    }
    .checked()
}

/// A part of a file name.
fn file_name(axis: &str) -> String {
    axis.chars()
        .map(|letter| if letter.is_ascii_alphanumeric() || letter == '_' { letter } else { '-' })
        .collect()
}

fn mark(level: &Level<'_>, best: Option<&Level<'_>>) -> Mark {
    let is_best = best.is_some_and(|best| (best.deployment, best.load) == (level.deployment, level.load));
    if is_best && level.rating == Rating::Valid { Mark::Best } else { level.rating.into() }
}

fn best<'a, 'b>(levels: impl Iterator<Item = &'b Level<'a>>, measure: &Measure) -> Option<&'b Level<'a>>
where
    'a: 'b,
{
    let usable = levels.filter(|level| level.rating != Rating::Invalid);
    let known = usable.filter_map(|level| Some((level, (measure.figure)(level)?)));
    let signed = |value: f64| if measure.more { value } else { -value };
    known.max_by(|a, b| signed(a.1).total_cmp(&signed(b.1))).map(|(level, _)| level)
}

/// One load: each server at the value it has on the axis, and the mean of each value.
fn effect(
    source: Source<'_>,
    (axis, axes): (&GridAxis, &[GridAxis]),
    measure: &Measure,
    levels: &[&Level<'_>],
) -> Option<Chart> {
    let best = best(levels.iter().copied(), measure);
    let (mut series, mut means) = (Vec::new(), Vec::new());
    for (place, value) in axis.values.iter().enumerate() {
        let own = levels.iter().filter(|level| axis.place(level.deployment) == Some(place));
        let own: Vec<(&Level, f64)> =
            own.filter_map(|level| Some((*level, (measure.figure)(level)?))).collect();
        if own.is_empty() {
            continue;
        }
        let mean = own.iter().map(|(_, value)| value).sum::<f64>() / own.len() as f64;
        means.push((place, value, mean));
        // Side by side within the room of a name.
        let x = |at: usize| place as f64 + 0.5 * ((at as f64 + 0.5) / own.len() as f64 - 0.5);
        let point = |(at, (level, y)): (usize, &(&Level, f64))| Point {
            name: Some(server(axes, level.deployment)),
            mark: mark(level, best),
            ..Point::new(x(at), *y)
        };
        let points = own.iter().enumerate().map(point).collect();
        series.push(Series {
            name: format!("{} = {value}", axis.name),
            colour: place,
            ..Series::bare(points)
        });
    }
    let points = means.iter().map(|(place, _, mean)| Point::new(*place as f64, *mean)).collect();
    series.push(Series { name: "mean".into(), colour: 6, dashed: true, draw: Draw::Line, points });
    let load = if levels.first()?.is_rate { "request rate" } else { "concurrency" };
    Some(Chart {
        name: format!("{}-effect-{}", measure.name, file_name(&axis.name)),
        title: format!("{} at {load} {}, by {}", measure.title, levels.first()?.load, axis.name),
        x: Axis::named(axis.name.clone(), &axis.values),
        y: Axis::from_zero(measure.unit, Chart::values(&series)),
        series,
        sentence: told(axis, measure, &means, best.map(|best| (best.rating, server(axes, best.deployment)))),
        ..source.blank()
    })
    .and_then(Chart::checked)
}

fn told(
    axis: &GridAxis,
    measure: &Measure,
    means: &[(usize, &String, f64)],
    best: Option<(Rating, String)>,
) -> String {
    let each = means.iter().map(|(_, value, mean)| format!("{value}: {}", number(*mean))).join(", ");
    let (low, high) = means
        .iter()
        .fold((f64::INFINITY, 0.0f64), |(low, high), (_, _, mean)| (low.min(*mean), high.max(*mean)));
    let apart =
        if low > 0.0 { format!(", {:.1} % apart", (high / low - 1.0) * 100.0) } else { String::new() };
    let best = best.map_or_else(String::new, |(rating, server)| match rating {
        Rating::Valid => format!(" The large mark is the best server: {server}."),
        rating => format!(" The best server ({rating}): {server}."),
    });
    format!("{}, {}, mean by {}: {each}{apart}.{best}", measure.title, measure.unit, axis.name)
}
