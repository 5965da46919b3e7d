//! Whether another repeat of a load point is needed, in this attempt or after a resume.

use crate::analyze::metric;
use crate::analyze::repeats::wants_another;
use crate::metrics::Rating;
use crate::metrics::student::{LEVEL, half_width};
use crate::plan::{Deployment, LoadPoint};
use crate::report::PointResult;

/// Why this repeat is not needed: the `rows` of its load are exact enough. `None` if it is.
pub(super) fn enough(rows: &[PointResult], deployment: &Deployment, point: &LoadPoint) -> Option<String> {
    let until = point.repeat.as_ref()?.until.as_ref()?;
    let name = deployment.named(point.load_id());
    let is_usable =
        |row: &&PointResult| row.load_name() == name && row.summary.verdict.result != Rating::Invalid;
    let value = |row: &PointResult| metric::value(&row.summary, &until.figure, deployment.gpus);
    let values: Vec<f64> = rows.iter().filter(is_usable).filter_map(value).collect();
    if wants_another(&values, until) {
        return None;
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let percent = if mean == 0.0 { 0.0 } else { 100.0 * half_width(&values, LEVEL)? / mean.abs() };
    Some(format!("{} repeats are enough: {} is {mean:.3} ± {percent:.2} %", values.len(), until.figure))
}

/// The rows of a deployment whose every point is `kept` or not needed; `None` if one is left to measure.
pub(super) fn finished(
    deployment: &Deployment,
    kept: impl Fn(&LoadPoint) -> Option<PointResult>,
) -> Option<Vec<PointResult>> {
    let mut rows: Vec<PointResult> = Vec::new();
    for point in deployment.in_order() {
        match kept(point) {
            Some(row) => rows.push(row),
            None => {
                enough(&rows, deployment, point)?;
            }
        }
    }
    Some(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::fixtures::{run, sound};
    use crate::metrics::summary::{Context, summarize};
    use crate::metrics::verdict::Verdict;
    use crate::plan::Plan;
    use crate::plan::choices::Choices;
    use crate::planner::testing::planned;

    /// Two loads, four repeats at most, until 5 %.
    fn plan() -> Plan {
        let load = "concurrency = [1, 2]\nrepeats = 4\nuntil = \"ci 5%\"\n";
        planned(load, Choices::default()).unwrap()
    }

    fn row(plan: &Plan, point: &LoadPoint, tokens_per_s: f64, result: Rating) -> PointResult {
        let ran = run(sound());
        let mut summary = summarize(point, &ran, &ran.fold(), &Context::default());
        summary.throughput.output_tokens_per_s = tokens_per_s;
        summary.verdict = Verdict { result, reasons: Vec::new() };
        PointResult::of(plan, &plan.deployments[0], point, summary)
    }

    #[test]
    fn a_repeat_is_needed_until_those_of_its_own_load_are_exact() {
        let plan = plan();
        let deployment = &plan.deployments[0];
        let (one, two) = deployment.points.split_at(4);
        let rows: Vec<PointResult> = one
            .iter()
            .zip([98.0, 100.0, 102.0])
            .map(|(point, speed)| row(&plan, point, speed, Rating::Valid))
            .collect();
        assert_eq!(enough(&rows[..2], deployment, &one[2]), None);
        // Half of the interval is 4.968 of 100.
        let said = enough(&rows, deployment, &one[3]).unwrap();
        assert_eq!(said, "3 repeats are enough: throughput.output_tokens_per_s is 100.000 ± 4.97 %");
        assert_eq!(enough(&rows, deployment, &two[0]), None, "the other load has none");
        let mut spoilt = rows.clone();
        spoilt[1].summary.verdict.result = Rating::Invalid;
        assert_eq!(enough(&spoilt, deployment, &one[3]), None, "an invalid repeat does not count");
    }

    #[test]
    fn a_resumed_deployment_is_finished_when_what_is_missing_is_not_needed() {
        let plan = plan();
        let deployment = &plan.deployments[0];
        let kept = |last: u32, point: &LoadPoint| {
            let number = point.repeat.as_ref().unwrap().number;
            (number <= last).then(|| row(&plan, point, 100.0, Rating::Valid))
        };
        let kept_until = |last: u32| finished(deployment, |point| kept(last, point)).map(|rows| rows.len());
        assert_eq!([1, 2, 3, 4].map(kept_until), [None, None, Some(6), Some(8)]);
    }
}
