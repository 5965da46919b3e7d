//! The results of a sweep whose deployments ran as jobs of their own: the same files as of one experiment, in the directory of its
//! suite.

use crate::experiment::Experiment;
use crate::history::Suite;
use crate::plan::Plan;
use crate::report::suite::JobResult;
use crate::report::{self, Header, PointResult};
use crate::workload;

/// Writes the report of the whole sweep. Returns whether it could: every experiment belongs to one sweep, and one has figures.
pub(super) fn write(suite: &Suite, jobs: &[JobResult]) -> std::io::Result<bool> {
    let parts: Vec<(Plan, Experiment)> = suite
        .entries()
        .iter()
        .filter_map(|entry| Some((entry.experiment().plan().ok()?, entry.experiment())))
        .collect();
    let Some(whole) = parts.first().and_then(|(plan, _)| workload::whole(plan).ok()) else {
        return Ok(false);
    };
    let is_part =
        |(plan, _): &(Plan, Experiment)| plan.name == whole.name && plan.input.recipe == whole.input.recipe;
    let rows = rows(&whole, &parts);
    if !parts.iter().all(is_part) || rows.is_empty() {
        return Ok(false);
    }
    let mut header = Header::of(&whole);
    header.facts.push(("jobs", format!("{} of this sweep, one for each deployment", jobs.len())));
    for job in jobs {
        let failure = job.failure.as_ref().and_then(|failure| failure.lines().next());
        header
            .facts
            .extend(failure.map(|failure| ("failed", format!("{}: {failure}", job.differs.join(" ")))));
    }
    report::write(suite.dir(), &header, &rows)?;
    Ok(true)
}

/// The finished points in the order of the whole plan; those of repeats one after the other.
fn rows(whole: &Plan, parts: &[(Plan, Experiment)]) -> Vec<PointResult> {
    let mut rows = Vec::new();
    for (deployment, point) in whole.points() {
        let own =
            |(plan, _): &&(Plan, Experiment)| plan.input.choices.deployment.as_ref() == Some(&deployment.id);
        for (plan, experiment) in parts.iter().filter(own) {
            let part = plan.points().find(|(_, own)| own.id == point.id);
            let folder = part.and_then(|(deployment, point)| plan.point_folder(deployment, point));
            let summary = report::summary_in(&experiment.point_dir(folder.as_deref()));
            rows.extend(summary.map(|summary| PointResult::of(whole, deployment, point, summary)));
        }
    }
    rows
}
