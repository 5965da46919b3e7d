//! A search on a deployment: one load after the other, each chosen by those before it.

use super::RunError;
use super::deployments::Deployments;
use crate::analyze::search::Step;
use crate::deploy::Deployed;
use crate::plan::search::Search;
use crate::plan::{Deployment, LoadPoint};
use crate::report::PointResult;
use crate::report::search::replay;

/// The rows of a deployment whose every search is over with the points that are `kept`; `None` if one is not.
pub(super) fn finished(
    search: &Search,
    deployment: &Deployment,
    kept: impl Fn(&LoadPoint) -> Option<PointResult>,
) -> Option<Vec<PointResult>> {
    let mut rows: Vec<PointResult> = Vec::new();
    for template in &deployment.points {
        let summary = |point: &LoadPoint| Some(kept(point)?.summary);
        let push = |point: &LoadPoint, _| rows.extend(kept(point));
        replay(search, deployment, template, summary, push).found()?;
    }
    Some(rows)
}

impl Deployments<'_> {
    /// Measures one load after the other until the search from a point of the plan ends.
    pub(super) async fn search(
        &mut self,
        search: &Search,
        deployment: &Deployment,
        deployed: &Deployed<'_>,
        template: &LoadPoint,
    ) -> Result<(), RunError> {
        let plan = &self.session.plan;
        loop {
            let row = |point: &LoadPoint| {
                let name = plan.point_name(deployment, point);
                self.rows.iter().find(|row| row.point == name).map(|row| row.summary.clone())
            };
            let progress = replay(search, deployment, template, row, |_, _| {});
            let Step::Measure { load, number } = progress.next else { return Ok(()) };
            let point = search.point(template, load, number);
            let place = (progress.seen.len() + 1, search.points as usize);
            self.one(deployment, deployed, &point, place).await?;
            if !self.has_row(&plan.point_name(deployment, &point)) {
                // It cannot be driven, which is recorded.
                return Ok(());
            }
        }
    }
}
