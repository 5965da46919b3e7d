//! Decides whether a published figure was reproduced: within tolerance, and only if the two can be compared.
//!
//! Judges a figure at each load point it applies to. Reasons against a comparison come first; a simulated result
//! rules out every comparison.

use std::collections::BTreeMap;

use serde::Serialize;

use super::conditions::{concurrency, not_reached};
use super::metric::{self, Better};
use super::published::{
    Change, Figure, Figures, PlannedPoint, changes, listed, planned_points, points_called,
};
use crate::metrics::{Rating, Summary};
use crate::plan::Plan;

/// The outcome for a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reproduction {
    /// Within tolerance, or better.
    Reproduced,
    /// Outside the tolerance.
    NotReproduced,
    /// Something rules out the comparison.
    NotComparable,
    /// Nothing to compare.
    NotMeasured,
}

impl Reproduction {
    pub const ALL: [Self; 4] =
        [Self::Reproduced, Self::NotReproduced, Self::NotComparable, Self::NotMeasured];

    /// The outcome in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Reproduced => "reproduced",
            Self::NotReproduced => "not reproduced",
            Self::NotComparable => "not comparable",
            Self::NotMeasured => "not measured",
        }
    }
}

/// An actual or possible difference between the published run and this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// `software`, `lengths`, `GPUs`, `verdict`, or a key of the recipe.
    pub what: String,
    /// In the published run, if known.
    pub published: Option<String>,
    /// In this run.
    pub here: String,
}

/// A published figure compared with one load point.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComparedFigure {
    /// Number of the figure in the recipe, from 1.
    pub number: usize,
    /// GPU type it was published for.
    pub gpu: String,
    /// Path in `summary.json`.
    pub metric: String,
    /// The load point; `null` if no single one applies.
    pub point: Option<String>,
    pub outcome: Reproduction,
    /// The published value.
    pub published: f64,
    /// The measured value; never from a simulated result.
    pub measured: Option<f64>,
    /// Deviation from the published value, percent; only if compared.
    pub difference_percent: Option<f64>,
    /// Tolerance, percent.
    pub tolerance_percent: f64,
    /// Reasons for the outcome, in words.
    pub reasons: Vec<String>,
    /// Differences between the runs; only if compared.
    pub differences: Vec<Difference>,
    /// Software of the published run.
    pub software: Option<String>,
    /// The recipe's note on the figure.
    pub note: Option<String>,
    /// Source of the figure.
    pub source: String,
}

/// The comparison of an experiment with published figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verification {
    /// Recipe of the figures.
    pub recipe: String,
    pub file: String,
    /// Source of the recipe's configuration.
    pub source: Option<String>,
    /// GPU type of the experiment; `none` if none was chosen.
    pub gpu: String,
    /// The results are simulated.
    pub simulated: bool,
    /// What they are: `published figure` or `reference`.
    #[serde(skip)]
    pub words: &'static str,
    /// One entry per figure and load point.
    pub figures: Vec<ComparedFigure>,
    /// Number of entries of every outcome.
    pub counts: BTreeMap<Reproduction, usize>,
}

/// Compares the figures with `summaries`, which are keyed by load point name.
pub fn verify(figures: &Figures, plan: &Plan, summaries: &BTreeMap<String, Summary>) -> Verification {
    let ran = MeasuredRun::of(figures, plan, summaries);
    let lines: Vec<ComparedFigure> = figures.figures.iter().flat_map(|figure| ran.lines(figure)).collect();
    let count = |outcome| lines.iter().filter(|line| line.outcome == outcome).count();
    Verification {
        recipe: figures.recipe.clone(),
        file: figures.file.clone(),
        source: figures.source.clone(),
        gpu: plan.gpu.kind.clone(),
        simulated: ran.simulated,
        words: figures.words,
        counts: Reproduction::ALL.map(|outcome| (outcome, count(outcome))).into(),
        figures: lines,
    }
}

/// A run and the figures to compare it with.
pub(super) struct MeasuredRun<'a> {
    pub(super) figures: &'a Figures,
    pub(super) plan: &'a Plan,
    pub(super) summaries: &'a BTreeMap<String, Summary>,
    pub(super) changes: Vec<Change>,
    pub(super) simulated: bool,
}

impl<'a> MeasuredRun<'a> {
    pub(super) fn of(figures: &'a Figures, plan: &'a Plan, summaries: &'a BTreeMap<String, Summary>) -> Self {
        let changes = figures.own.as_ref().map(|own| changes(own, plan)).unwrap_or_default();
        let simulated = plan.simulated || summaries.values().any(|summary| summary.simulated);
        Self { figures, plan, summaries, changes, simulated }
    }
}

impl MeasuredRun<'_> {
    /// One entry per load point that the figure applies to, or one without a point.
    fn lines(&self, figure: &Figure) -> Vec<ComparedFigure> {
        let published = &figure.published;
        let forbidden = self.forbidden(figure);
        let named = points_called(self.plan, published.point.as_deref());
        if !forbidden.is_empty() {
            // Show the load points that the figure would apply to.
            let shown: Vec<&PlannedPoint<'_>> = match named.as_slice() {
                [only] => vec![only],
                several => several
                    .iter()
                    .filter(|planned| self.differing_conditions(figure, planned).is_empty())
                    .collect(),
            };
            if shown.is_empty() {
                return vec![self.not_comparable(figure, None, forbidden)];
            }
            return shown
                .into_iter()
                .map(|planned| self.not_comparable(figure, Some(planned), forbidden.clone()))
                .collect();
        }
        if let (Some(name), []) = (&published.point, named.as_slice()) {
            let names: Vec<String> = planned_points(self.plan).map(|planned| planned.name).collect();
            let reason = format!("no load point {name} was run, but {}", listed(&names));
            return vec![line(figure, None, Reproduction::NotMeasured, vec![reason])];
        }
        let loads = self.concurrencies(figure);
        let at_load = |planned: &&PlannedPoint<'_>| {
            published.point.is_some()
                || loads.is_empty()
                || loads.contains(&concurrency(planned).unwrap_or(0))
        };
        let at_load: Vec<&PlannedPoint<'_>> = named.iter().filter(at_load).collect();
        if at_load.is_empty() {
            let loads: Vec<String> = loads.iter().map(u64::to_string).collect();
            let reason = format!("no load point with concurrency {} was run", listed(&loads));
            return vec![line(figure, None, Reproduction::NotMeasured, vec![reason])];
        }
        let asked: Vec<_> = at_load
            .into_iter()
            .map(|planned| (planned, self.differing_conditions(figure, planned)))
            .collect();
        let fitting: Vec<_> = asked.iter().filter(|(_, reasons)| reasons.is_empty()).collect();
        match (fitting.as_slice(), asked.as_slice()) {
            ([], [(only, reasons)]) => vec![self.not_comparable(figure, Some(only), reasons.clone())],
            ([], _) => {
                let mut reasons: Vec<String> =
                    asked.iter().flat_map(|(_, reasons)| reasons.clone()).collect();
                reasons.sort();
                reasons.dedup();
                vec![self.not_comparable(figure, None, reasons)]
            }
            (fitting, _) => fitting.iter().map(|(planned, _)| self.judge(figure, planned)).collect(),
        }
    }

    fn judge(&self, figure: &Figure, planned: &PlannedPoint<'_>) -> ComparedFigure {
        let published = &figure.published;
        let point = Some(planned.name.clone());
        let Some(summary) = self.summaries.get(&planned.name) else {
            let reason = "the load point has no readable summary: it was not run to its end".to_owned();
            return line(figure, point, Reproduction::NotMeasured, vec![reason]);
        };
        let mut reasons = not_reached(planned, summary);
        if summary.verdict.result == Rating::Invalid {
            let why = summary.verdict.reasons.first().map(|why| format!(": {why}")).unwrap_or_default();
            reasons.push(format!("the result is invalid{why}"));
        }
        if summary.cut_short.is_some() {
            reasons.push("a search cut the load point short".to_owned());
        }
        if !reasons.is_empty() {
            return self.not_comparable(figure, Some(planned), reasons);
        }
        let Some(measured) = metric::value(summary, &published.metric, planned.deployment.gpus) else {
            let why = match (metric::is_per_gpu(&published.metric), planned.point.streaming) {
                (true, _) if planned.deployment.gpus == 0 => ": nobody says how many GPUs there are",
                (_, false) => ": streaming is off",
                _ => "",
            };
            let reason = format!("the result has no {}{why}", published.metric);
            return line(figure, point, Reproduction::NotMeasured, vec![reason]);
        };
        let percent = (measured / published.value - 1.0) * 100.0;
        let is_better = match metric::better(&published.metric) {
            Better::Higher => percent > 0.0,
            Better::Lower => percent < 0.0,
            Better::Neither => false,
        };
        // Tolerate floating-point error of the division.
        let is_within = match figure.bounds {
            Some((lower, upper)) => (lower..=upper).contains(&measured),
            None => percent.abs() <= figure.tolerance + 1e-9,
        };
        let mut reasons = Vec::new();
        if !is_within {
            let side = if percent > 0.0 { "above" } else { "below" };
            let better = if is_better { ", which is better" } else { "" };
            let allowed = match figure.bounds {
                Some((lower, upper)) => format!("allowed {}", range(lower, upper)),
                None => format!("tolerance {} %", figure.tolerance),
            };
            let (off, words) = (percent.abs(), self.figures.words);
            reasons.push(format!("{off:.1} % {side} the {words}, {allowed}{better}"));
        }
        if summary.verdict.result == Rating::Suspect {
            reasons.push(format!("the result is suspect: {}", summary.verdict.reasons.join("; ")));
        }
        let outcome =
            if is_within || is_better { Reproduction::Reproduced } else { Reproduction::NotReproduced };
        ComparedFigure {
            measured: Some(measured),
            difference_percent: Some(percent),
            differences: self.differences(figure, planned, summary),
            ..line(figure, point, outcome, reasons)
        }
    }

    /// An entry without a comparison; includes the measured value if known and not simulated.
    fn not_comparable(
        &self,
        figure: &Figure,
        planned: Option<&PlannedPoint<'_>>,
        reasons: Vec<String>,
    ) -> ComparedFigure {
        let summary =
            planned.and_then(|planned| self.summaries.get(&planned.name)).filter(|_| !self.simulated);
        let gpus = planned.map_or(0, |planned| planned.deployment.gpus);
        let measured = summary.and_then(|summary| metric::value(summary, &figure.published.metric, gpus));
        let point = planned.map(|planned| planned.name.clone()).or_else(|| figure.published.point.clone());
        ComparedFigure { measured, ..line(figure, point, Reproduction::NotComparable, reasons) }
    }
}

/// `90 to 110`, `90 or more`, `110 or less`
fn range(lower: f64, upper: f64) -> String {
    match (lower.is_finite(), upper.is_finite()) {
        (true, true) => format!("{lower} to {upper}"),
        (true, false) => format!("{lower} or more"),
        (false, _) => format!("{upper} or less"),
    }
}

/// An entry without a measurement.
fn line(
    figure: &Figure,
    point: Option<String>,
    outcome: Reproduction,
    reasons: Vec<String>,
) -> ComparedFigure {
    let published = &figure.published;
    ComparedFigure {
        number: figure.number,
        gpu: published.gpu.clone(),
        metric: published.metric.clone(),
        point: point.or_else(|| published.point.clone()),
        outcome,
        published: published.value,
        measured: None,
        difference_percent: None,
        tolerance_percent: figure.tolerance,
        reasons,
        differences: Vec::new(),
        software: published.software.clone(),
        note: published.note.clone(),
        source: published.source.clone(),
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
