//! Load points of the plan without figures, because the servers or the prompts failed: the last rows of every table.

use std::path::Path;

use super::csv;
use super::table::Table;
use super::{Header, PointResult};
use crate::experiment::event::{self, Event};
use crate::plan::{Deployment, LoadPoint, Plan};

/// What stands in the place of a verdict.
const FAILED: &str = "failed";

/// A load point that was not measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Unmeasured {
    pub point: String,
    /// Its constant load.
    load: Option<f64>,
    /// What is known of it, by column of `summary.csv`.
    known: Vec<(&'static str, String)>,
    /// One line.
    reason: String,
}

impl Unmeasured {
    fn of(point: String, deployment: &Deployment, load: &LoadPoint, reason: &str) -> Self {
        let gpus = Some(deployment.gpus).filter(|gpus| *gpus > 0);
        let (concurrency, rate) = (load.concurrency(), load.request_rate());
        let known = vec![
            ("deployment", deployment.id.clone()),
            ("gpus", gpus.map(|gpus| gpus.to_string()).unwrap_or_default()),
            ("isl", load.isl.mean.to_string()),
            ("osl", load.osl.mean.to_string()),
            ("concurrency", concurrency.map(|most| most.to_string()).unwrap_or_default()),
            ("request_rate", rate.map(|rate| rate.to_string()).unwrap_or_default()),
            ("streaming", load.streaming.to_string()),
            ("endpoint", load.endpoint.as_str().to_owned()),
        ];
        let load = rate.or(concurrency.map(f64::from)).filter(|_| load.arrival.ramp().is_none());
        Self { point, load, known, reason: reason.lines().next().unwrap_or_default().to_owned() }
    }
}

/// Those of an experiment since it was last started that have no row, in plan order.
pub fn read(dir: &Path, plan: &Plan, rows: &[PointResult]) -> Vec<Unmeasured> {
    let mut reasons: Vec<(String, String)> = Vec::new();
    for stamped in event::read(dir) {
        match stamped.event {
            Event::Started { .. } => reasons.clear(),
            Event::PointFailed { point, reason } => reasons.push((point, reason)),
            Event::GivenUp { points, reason, .. } => {
                reasons.extend(points.into_iter().map(|point| (point, reason.clone())));
            }
            _ => {}
        }
    }
    let of = |(deployment, load): (&Deployment, &LoadPoint)| {
        let point = plan.point_name(deployment, load);
        let (_, reason) = reasons.iter().find(|(failed, _)| *failed == point)?;
        if rows.iter().any(|row| row.point == point) {
            return None;
        }
        Some(Unmeasured::of(point.clone(), deployment, load, reason))
    };
    plan.points().filter_map(of).collect()
}

/// Adds their rows to a table whose last column is the verdict.
pub fn add_to(table: &mut Table, unmeasured: &[Unmeasured]) {
    let by_load = table.head.first().is_some_and(|head| ["conc", "rate"].contains(&head.as_str()));
    for failed in unmeasured {
        let name =
            failed.load.filter(|_| by_load).map_or_else(|| failed.point.clone(), |load| load.to_string());
        let empty = vec!["-".to_owned(); table.head.len().saturating_sub(2)];
        table.push([vec![name], empty, vec![FAILED.to_owned()]].concat());
    }
}

/// A line for each reason, with the points that it concerns.
pub fn lines(unmeasured: &[Unmeasured]) -> Vec<String> {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for failed in unmeasured {
        match reasons.iter_mut().find(|(reason, _)| *reason == failed.reason) {
            Some((_, points)) => points.push(&failed.point),
            None => reasons.push((&failed.reason, vec![&failed.point])),
        }
    }
    let line = |(reason, points): (&str, Vec<&str>)| format!("not measured: {}: {reason}", points.join(", "));
    reasons.into_iter().map(line).collect()
}

/// Their lines of `summary.csv`.
pub(super) fn csv_lines(header: &Header) -> String {
    let line = |failed: &Unmeasured| {
        let own = [("point", &failed.point), ("reasons", &failed.reason)];
        let known = failed.known.iter().map(|(column, text)| (*column, text));
        let known: Vec<(&str, &String)> = own.into_iter().chain(known).collect();
        let cell = |column: &str| match known.iter().find(|(name, _)| *name == column) {
            Some((_, text)) => csv::quoted(text),
            None => if column == "verdict" { FAILED } else { "" }.to_owned(),
        };
        format!("{}\n", csv::head().split(',').map(cell).collect::<Vec<_>>().join(","))
    };
    header.unmeasured.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_that_failed_for_one_reason_share_a_line() {
        let failed = |point: &str, reason: &str| Unmeasured {
            point: point.into(),
            load: None,
            known: Vec::new(),
            reason: reason.into(),
        };
        let all = [failed("a_con1", "died"), failed("b_con1", "late"), failed("a_con2", "died")];
        assert_eq!(lines(&all), ["not measured: a_con1, a_con2: died", "not measured: b_con1: late"]);
    }
}
