//! Throughput per GPU against the speed that one user sees, and the front of the loads that no other one beats in both.

use itertools::Itertools;

use super::Source;
use super::sweep::MOST;
use crate::analyze::pareto::ParetoPoint;
use crate::report::chart::{Axis, Chart, Draw, Mark, Point, Series};
use crate::report::table::number;
use crate::report::{pareto, zones};

/// A chart for each workload with at least two loads whose number of GPUs is known.
pub(super) fn charts(source: Source<'_>) -> Vec<Chart> {
    let points = pareto::points(&zones::of_loads(source.rows));
    let workloads: Vec<&str> = points.iter().map(|point| point.workload.as_str()).unique().collect();
    let chart = |(number, workload): (usize, &&str)| {
        let own: Vec<&ParetoPoint> = points.iter().filter(|point| point.workload == *workload).collect();
        let mut chart = chart(source, &own)?;
        if workloads.len() > 1 {
            chart.name = format!("{}-{}", chart.name, number + 1);
            chart.title = format!("{} ({})", chart.title, workload.trim());
        }
        Some(chart)
    };
    workloads.iter().enumerate().filter_map(chart).collect()
}

/// The speed of a user that the chart shows: without streaming there is only that of whole answers.
struct Speed {
    label: &'static str,
    of: fn(&ParetoPoint) -> Option<f64>,
    is_on_front: fn(&ParetoPoint) -> bool,
}

fn speed(points: &[&ParetoPoint]) -> Speed {
    if points.iter().any(|point| point.tokens_per_s_per_user.is_some()) {
        Speed {
            label: "output tokens/s per user, mean of 1 / ITL",
            of: |point| point.tokens_per_s_per_user,
            is_on_front: |point| point.on_front,
        }
    } else {
        Speed {
            label: "output tokens/s per user, 1 / P90(E2E latency ÷ OSL)",
            of: |point| point.e2e_tokens_per_s_per_user,
            is_on_front: |point| point.on_e2e_front,
        }
    }
}

fn chart(source: Source<'_>, points: &[&ParetoPoint]) -> Option<Chart> {
    let speed = speed(points);
    let mut placed: Vec<(f64, &ParetoPoint)> =
        points.iter().filter_map(|point| Some(((speed.of)(point)?, *point))).collect();
    placed.sort_by(|a, b| a.0.total_cmp(&b.0));
    if placed.len() < 2 {
        return None;
    }
    let names: Vec<&str> =
        placed.iter().map(|(_, point)| point.configuration.as_str()).unique().sorted().collect();
    let is_on = |point: &ParetoPoint| (speed.is_on_front)(point);
    let front: Vec<(f64, &ParetoPoint)> = placed.iter().copied().filter(|(_, point)| is_on(point)).collect();
    let line = front.iter().map(|(x, point)| Point::new(*x, point.output_tokens_per_s_per_gpu)).collect();
    let mut series =
        vec![Series { name: "front".into(), colour: 6, dashed: true, draw: Draw::Line, points: line }];
    for (at, name) in names.iter().enumerate() {
        let shown = if names.len() > MOST { "other loads" } else { name };
        let colour = if names.len() > MOST { 0 } else { at };
        for labelled in [false, true] {
            let own =
                placed.iter().filter(|(_, point)| point.configuration == *name && is_on(point) == labelled);
            series.push(Series {
                name: shown.to_owned(),
                colour,
                dashed: false,
                draw: if labelled { Draw::Labelled } else { Draw::Dots },
                points: own.map(|(x, point)| dot(*x, point, names.len() > 1 && !labelled)).collect(),
            });
        }
    }
    let values = Chart::values(&series);
    Chart {
        name: "pareto".into(),
        title: "Throughput per GPU against speed per user".into(),
        x: Axis::around(speed.label, placed.iter().map(|(x, _)| *x)),
        y: Axis::from_zero("output tokens/s per GPU", values),
        series,
        sentence: sentence(&front, placed.len(), names.len() > 1)?,
        ..source.blank()
    }
    .checked()
}

/// A load, called by it, and by its configuration where there are several.
fn dot(x: f64, point: &ParetoPoint, several: bool) -> Point {
    let load = point.load.to_string();
    let name = if several { format!("{} {load}", point.configuration) } else { load };
    let mark = if point.suspect { Mark::Suspect } else { Mark::Valid };
    Point { name: Some(name), mark, ..Point::new(x, point.output_tokens_per_s_per_gpu) }
}

/// The ends of the front; it runs from the slowest user to the fastest.
fn sentence(front: &[(f64, &ParetoPoint)], count: usize, several: bool) -> Option<String> {
    let ((slow, most), (fast, least)) = (front.first()?, front.last()?);
    let called = |point: &ParetoPoint| {
        let of = if several { format!(" of {}", point.configuration.trim()) } else { String::new() };
        format!("{} {}{of}", point.axis.words(), point.load)
    };
    if front.len() == 1 {
        return Some(format!(
            "{} is best in both: {} tok/s per GPU and {} per user.",
            called(most),
            number(most.output_tokens_per_s_per_gpu),
            number(*slow)
        ));
    }
    Some(format!(
        "{} of {count} loads are on the front, from {} with {} tok/s per GPU and {} per user to {} with {} and {}; no other load is \
         better in both. The numbers are loads.",
        front.len(),
        called(most),
        number(most.output_tokens_per_s_per_gpu),
        number(*slow),
        called(least),
        number(least.output_tokens_per_s_per_gpu),
        number(*fast),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::pareto::points;
    use crate::analyze::zones::{self, Level};
    use crate::report::Header;

    /// Levels of one GPU: load, tokens/s, tokens/s of a user.
    fn series(configuration: &str, levels: &[(f64, f64, f64)]) -> zones::Series {
        let level = |(load, tokens, user): &(f64, f64, f64)| Level {
            load: *load,
            output_tokens_per_s: Some(*tokens),
            gpus: Some(1.0),
            per_user: Some(*user),
            ..Level::default()
        };
        let levels = levels.iter().map(level).collect();
        zones::Series { configuration: configuration.into(), levels, ..zones::Series::default() }
    }

    fn drawn(all: &[zones::Series]) -> Option<Chart> {
        let (header, points) = (Header::default(), points(all, 0.5));
        chart(Source { header: &header, rows: &[], runs: &[] }, &points.iter().collect::<Vec<_>>())
    }

    #[test]
    fn the_front_runs_from_the_slowest_user_to_the_fastest_and_its_loads_are_named() {
        // At 8, b is beaten by a in both.
        let chart = drawn(&[
            series("a", &[(1.0, 100.0, 100.0), (8.0, 600.0, 70.0)]),
            series("b", &[(8.0, 500.0, 60.0), (64.0, 2000.0, 25.0)]),
        ])
        .unwrap();
        let line: Vec<(f64, f64)> = chart.series[0].points.iter().map(|point| (point.x, point.y)).collect();
        assert_eq!(line, [(25.0, 2000.0), (70.0, 600.0), (100.0, 100.0)]);
        let others: Vec<(&str, usize, Vec<&str>)> = chart.series[1..]
            .iter()
            .map(|s| (s.name.as_str(), s.colour, s.points.iter().filter_map(|p| p.name.as_deref()).collect()))
            .collect();
        assert_eq!(others, [("a", 0, vec!["8", "1"]), ("b", 1, vec!["b 8"]), ("b", 1, vec!["64"])]);
        let expected = "3 of 4 loads are on the front, from concurrency 64 of b with 2,000 tok/s per GPU and 25.0 per user to \
                        concurrency 1 of a with 100 and 100; no other load is better in both. The numbers are loads.";
        assert_eq!(chart.sentence, expected);
    }

    #[test]
    fn one_load_has_no_front_and_one_that_is_best_in_both_is_called_so() {
        assert_eq!(drawn(&[series("", &[(1.0, 100.0, 100.0)])]), None);
        let chart = drawn(&[series("", &[(1.0, 100.0, 80.0), (2.0, 200.0, 90.0)])]).unwrap();
        assert_eq!(chart.sentence, "concurrency 2 is best in both: 200 tok/s per GPU and 90.0 per user.");
    }
}
