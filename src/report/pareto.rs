//! The Pareto front as a table.

use itertools::Itertools;

use super::table::{Table, maybe, number};
use super::{PointResult, zones};
use crate::analyze::pareto::{self, ParetoPoint};
use crate::analyze::zones::{Axis, Series, Thresholds};

/// What the columns of the table are.
pub const ABOUT: &str = "tok/s/user is the mean of 1 / ITL; E2E/user is 1 / P90(E2E latency ÷ OSL), which counts the wait for the first \
token. No other point is better both per GPU and in the column that `front` names.";

/// The points of all load levels; see [`pareto::points`].
pub fn points(series: &[Series]) -> Vec<ParetoPoint> {
    pareto::points(series, Thresholds::default().failed)
}

/// The points on a front, a row each; `None` if there are none, or only one point to compare.
pub fn table(points: &[ParetoPoint]) -> Option<Table> {
    let front: Vec<&ParetoPoint> =
        points.iter().filter(|point| point.on_front || point.on_e2e_front).collect();
    if points.len() < 2 || front.is_empty() {
        return None;
    }
    let differs = |of: fn(&ParetoPoint) -> &String| !points.iter().map(of).all_equal();
    let named = [
        (
            "workload",
            differs(|point| &point.workload),
            (|point| &point.workload) as fn(&ParetoPoint) -> &String,
        ),
        ("configuration", differs(|point| &point.configuration), |point| &point.configuration),
    ];
    let named: Vec<_> = named.into_iter().filter(|(_, shown, _)| *shown).collect();
    let load = match front.iter().map(|point| point.axis).all_equal_value() {
        Ok(Axis::RequestRate) => "rate",
        Ok(Axis::Concurrency) => "conc",
        Err(_) => "load",
    };
    let mut table = Table::default();
    table.head.extend(named.iter().map(|(head, ..)| (*head).to_owned()));
    table.head.extend([load, "tok/s/gpu", "tok/s/user", "E2E/user", "front"].map(str::to_owned));
    for point in front {
        let mut cells: Vec<String> = named.iter().map(|(_, _, of)| of(point).clone()).collect();
        cells.push(point.load.to_string());
        cells.push(number(point.output_tokens_per_s_per_gpu));
        cells.extend([point.tokens_per_s_per_user, point.e2e_tokens_per_s_per_user].map(maybe));
        let fronts = match (point.on_front, point.on_e2e_front) {
            (true, true) => "both",
            (true, false) => "tok/s/user",
            _ => "E2E/user",
        };
        cells.push(if point.suspect { format!("{fronts}, suspect") } else { fronts.to_owned() });
        table.push(cells);
    }
    Some(table)
}

/// The front of these load points.
pub(super) fn front(rows: &[PointResult]) -> Option<Table> {
    table(&points(&zones::of_loads(rows)))
}
