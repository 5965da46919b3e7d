//! Repeats of load points: one row a point, the mean of its repeats.

use std::cmp::Ordering;

use super::table::number;
use super::{Figure, PointResult, load_of};
use crate::analyze::repeats::{ColdStart, FirstAndLater, cold_starts};
use crate::metrics::Rating;
use crate::metrics::repeats::mean;
use crate::metrics::student::LEVEL;
use crate::plan::{Deployment, LoadPoint, Plan, without_repeat};

impl PointResult {
    /// Its name without the number of the repeat: the same for all measurements of one load.
    pub fn load_name(&self) -> &str {
        self.summary.point.repeat.map_or(&self.point, |number| without_repeat(&self.point, number))
    }
}

/// The rows in the order of the plan, whatever order its points ran in; those of a search by load. Rows of other points come last.
pub fn in_plan_order(plan: &Plan, rows: &[PointResult]) -> Vec<PointResult> {
    let of_plan = |(of, point): (&Deployment, &LoadPoint)| match plan.search {
        Some(_) => of.named(&point.series()),
        None => plan.point_name(of, point),
    };
    let names: Vec<String> = plan.points().map(of_plan).collect();
    let key = |row: &PointResult| {
        let name = if plan.search.is_some() { &row.series } else { &row.point };
        let place = names.iter().position(|known| known == name).unwrap_or(names.len());
        (place, load_of(&row.summary).filter(|_| plan.search.is_some()), row.summary.point.repeat)
    };
    let mut rows = rows.to_vec();
    rows.sort_by(|a, b| {
        let ((place, load, repeat), other) = (key(a), key(b));
        let by_load = load.unwrap_or_default().total_cmp(&other.1.unwrap_or_default());
        let by_repeat = if plan.search.is_some() { repeat.cmp(&other.2) } else { Ordering::Equal };
        place.cmp(&other.0).then(by_load).then(by_repeat)
    });
    rows
}

/// The repeats of each load, in the order of the first one's row. Rows of several jobs with one name are repeats, too.
fn groups(rows: &[PointResult]) -> Vec<Vec<&PointResult>> {
    let mut groups: Vec<Vec<&PointResult>> = Vec::new();
    for row in rows {
        let is_same = |group: &&mut Vec<&PointResult>| {
            group
                .first()
                .is_some_and(|first| (first.load_name(), &first.series) == (row.load_name(), &row.series))
        };
        match groups.iter_mut().find(is_same) {
            Some(group) => group.push(row),
            None => groups.push(vec![row]),
        }
    }
    groups
}

/// Whether some loads were measured several times, or were to be.
pub fn are_in(rows: &[PointResult]) -> bool {
    groups(rows)
        .iter()
        .any(|group| group.len() > 1 || group.iter().any(|row| row.summary.point.repeat.is_some()))
}

/// One row a load: the mean of its repeats, or its only row.
pub fn means(rows: &[PointResult]) -> Vec<PointResult> {
    let of = |group: Vec<&PointResult>| {
        let first = *group.first()?;
        if group.len() == 1 && first.summary.point.repeat.is_none() {
            return Some(first.clone());
        }
        let summary = mean(&group.iter().map(|row| &row.summary).collect::<Vec<_>>())?;
        Some(PointResult { point: first.load_name().to_owned(), summary, ..first.clone() })
    };
    groups(rows).into_iter().filter_map(of).collect()
}

/// What the figures with ± are.
pub fn about(rows: &[PointResult]) -> Option<String> {
    about_means(&means(rows))
}

/// The same of rows that are means.
pub(super) fn about_means(means: &[PointResult]) -> Option<String> {
    let repeats: Vec<_> = means.iter().filter_map(|row| row.summary.repeats.as_ref()).collect();
    let counts = repeats.iter().map(|repeats| repeats.n);
    let (least, most) = (counts.clone().min()?, counts.max()?);
    let n = if least == most { least.to_string() } else { format!("{least} to {most}") };
    let with = repeats.iter().any(|repeats| !repeats.half_width.is_empty());
    let interval = format!("; ± is the {:.0} % interval of the mean (Student)", LEVEL * 100.0);
    Some(format!("mean of {n} repeats a point{}", if with { interval.as_str() } else { "" }))
}

/// The figures that tell whether servers were warm.
const WARMTH: [(&str, Figure); 2] = [
    ("tok/s", |summary| Some(summary.throughput.output_tokens_per_s)),
    ("ms TTFT p50", |summary| Some(summary.ttft_ms?.p50)),
];

/// First repeats that differ from the later ones beyond noise, with the unit of the figure; deployments apart. Each job starts servers of
/// its own, so that those of several jobs are not compared.
pub fn cold(rows: &[PointResult]) -> Vec<(&'static str, ColdStart)> {
    if rows.iter().any(|row| row.summary.point.job.is_some()) {
        return Vec::new();
    }
    let mut deployments: Vec<&str> = rows.iter().map(|row| row.deployment.as_str()).collect();
    deployments.dedup();
    let mut found = Vec::new();
    for deployment in deployments {
        for (unit, figure) in WARMTH {
            let of = |group: Vec<&PointResult>| {
                let is_usable = |row: &&&PointResult| row.summary.verdict.result != Rating::Invalid;
                let value = |row: &&PointResult| figure(&row.summary);
                let (first, later): (Vec<_>, Vec<_>) =
                    group.iter().filter(is_usable).partition(|row| row.summary.point.repeat == Some(1));
                let first = first.first()?;
                let later = later.iter().filter_map(value).collect();
                Some(FirstAndLater {
                    point: first.load_name().to_owned(),
                    first: figure(&first.summary)?,
                    later,
                })
            };
            let own: Vec<PointResult> =
                rows.iter().filter(|row| row.deployment == deployment).cloned().collect();
            let points: Vec<FirstAndLater> = groups(&own).into_iter().filter_map(of).collect();
            found.extend(cold_starts(&points).into_iter().map(|cold| (unit, cold)));
        }
    }
    found
}

/// The same as sentences.
pub fn notes(rows: &[PointResult]) -> Vec<String> {
    let sentence = |(unit, cold): (&str, ColdStart)| {
        let percent = 100.0 * (cold.first / cold.later - 1.0);
        format!(
            "{}: the first repeat has {} {unit}, the {} later ones {} on average ({percent:+.1} %), which is beyond noise: \
             the servers were not warm, so warm up longer",
            cold.point,
            number(cold.first),
            cold.n,
            number(cold.later),
        )
    };
    cold(rows).into_iter().map(sentence).collect()
}
