//! What the searches of an experiment found: sentences, and JSON.

use serde_json::{Value, json};

use super::PointResult;
use crate::analyze::search::{Evaluated, Found, Step, evaluated, json as as_json, next, sentence};
use crate::metrics::Summary;
use crate::plan::search::Search;
use crate::plan::{Deployment, LoadPoint, Plan};

/// The search from one load point of the plan.
pub struct Progress {
    /// Its name without the load.
    pub name: String,
    pub seen: Vec<Evaluated>,
    pub next: Step,
}

impl Progress {
    pub fn found(&self) -> Option<&Found> {
        match &self.next {
            Step::Done(found) => Some(found),
            Step::Measure { .. } => None,
        }
    }
}

/// How far the search from `template` has come with the summaries that `measured` knows; hands each of them to `found`.
pub fn replay(
    search: &Search,
    deployment: &Deployment,
    template: &LoadPoint,
    measured: impl Fn(&LoadPoint) -> Option<Summary>,
    mut found: impl FnMut(&LoadPoint, Summary),
) -> Progress {
    let mut seen: Vec<Evaluated> = Vec::new();
    let from = search.from(template);
    loop {
        let step = next(search, from, &seen);
        let Step::Measure { load, number } = step else {
            return Progress { name: deployment.named(&template.series()), seen, next: step };
        };
        let point = search.point(template, load, number);
        let Some(summary) = measured(&point) else {
            return Progress { name: deployment.named(&template.series()), seen, next: step };
        };
        seen.push(evaluated(search, load, &summary, deployment.gpus));
        found(&point, summary);
    }
}

/// Every search of a plan, as far as these rows go.
pub fn all(plan: &Plan, rows: &[PointResult]) -> Vec<Progress> {
    let Some(search) = &plan.search else { return Vec::new() };
    let of = |(deployment, template): (&Deployment, &LoadPoint)| {
        let row = |point: &LoadPoint| {
            let name = plan.point_name(deployment, point);
            rows.iter().find(|row| row.point == name).map(|row| row.summary.clone())
        };
        replay(search, deployment, template, row, |_, _| {})
    };
    plan.points().map(of).collect()
}

/// A sentence for each search, with its name if there are several.
pub fn lines(plan: &Plan, rows: &[PointResult]) -> Vec<String> {
    let (all, Some(search)) = (all(plan, rows), &plan.search) else { return Vec::new() };
    let several = all.len() > 1;
    let line = |progress: &Progress| {
        let name = if several { format!("{}: ", progress.name) } else { String::new() };
        match progress.found() {
            Some(found) => format!("{name}{}", sentence(search, found, &progress.seen)),
            None => format!("{name}The search is not over: {} loads are measured.", progress.seen.len()),
        }
    };
    all.iter().map(line).collect()
}

/// The searches for programs; `None` for a plan without one.
pub fn json(plan: &Plan, rows: &[PointResult]) -> Option<Value> {
    let search = plan.search.as_ref()?;
    let of = |progress: &Progress| {
        let mut value = as_json(search, progress.found(), &progress.seen);
        value["series"] = json!(progress.name);
        value
    };
    Some(all(plan, rows).iter().map(of).collect())
}
