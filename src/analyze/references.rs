//! A cluster's own reference values: what a recipe gave here before, for `verify` to hold later runs against.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use super::metric;
use super::published::{Figure, Figures, planned_points, tolerance};
use super::verify::{ComparedFigure, MeasuredRun, Reproduction, Verification, verify};
use crate::document::{Document, InputError, InputErrors};
use crate::metrics::{Rating, Summary};
use crate::plan::Plan;
use crate::recipe::Published;

/// `references.toml`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct References {
    /// Version of the format: 1.
    pub schema: u32,
    /// The values, each of one metric at one load point.
    #[serde(default, rename = "reference")]
    pub references: Vec<Reference>,
}

/// `[[reference]]`
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// Name of the recipe.
    pub recipe: String,
    /// GPU type it was measured on; `none` without one.
    pub gpu: String,
    /// Folder name of its load point.
    pub point: String,
    /// Path in `summary.json`, e.g. `throughput.output_tokens_per_s`.
    pub metric: String,
    /// The measured value.
    pub value: f64,
    /// Unit of the value, for readers.
    pub unit: Option<String>,
    /// Allowed deviation, e.g. `5%`, unless `lower` or `upper` is set.
    #[serde(default = "default_tolerance")]
    pub tolerance: String,
    /// Smallest accepted value.
    pub lower: Option<f64>,
    /// Largest accepted value.
    pub upper: Option<f64>,
    /// Software it was measured with.
    pub software: Option<String>,
    /// Further notes for readers.
    pub note: Option<String>,
    /// The experiment, and when it was accepted.
    pub source: String,
}

fn default_tolerance() -> String {
    "5%".to_owned()
}

/// What `verify --accept` keeps of a load point, with its unit: medians, which scatter least.
const ACCEPTED: [(&str, &str); 4] = [
    ("throughput.output_tokens_per_s", "tok/s"),
    ("ttft_ms.p50", "ms"),
    ("itl_ms.p50", "ms"),
    ("e2e_ms.p50", "ms"),
];

/// Values of an experiment that may become references.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    pub references: Vec<Reference>,
    /// Load points and values that may not, each with its reason.
    pub left_out: Vec<String>,
}

impl Default for References {
    fn default() -> Self {
        Self { schema: 1, references: Vec::new() }
    }
}

impl Reference {
    /// Whether it is the value of the same metric at the same load point.
    fn is_of(&self, other: &Self) -> bool {
        let key = |of: &Self| [&of.recipe, &of.gpu, &of.point, &of.metric].map(String::clone);
        key(self) == key(other)
    }

    fn bounds(&self) -> (f64, f64) {
        (self.lower.unwrap_or(f64::NEG_INFINITY), self.upper.unwrap_or(f64::INFINITY))
    }

    /// The value as `verify` reads it.
    fn figure(&self, number: usize, tolerance: f64) -> Figure {
        let published = Published {
            gpu: self.gpu.clone(),
            point: Some(self.point.clone()),
            metric: self.metric.clone(),
            value: self.value,
            tolerance: self.tolerance.clone(),
            isl: None,
            osl: None,
            concurrency: None,
            streaming: None,
            gpus: None,
            software: self.software.clone(),
            offline: false,
            note: self.note.clone(),
            source: self.source.clone(),
        };
        let bounds = (self.lower.is_some() || self.upper.is_some()).then(|| self.bounds());
        Figure { number, published, tolerance, bounds }
    }
}

impl References {
    /// The references of a file.
    ///
    /// # Errors
    /// The first syntax or type error, else every other problem.
    pub fn parse(document: &Document) -> Result<Self, InputErrors> {
        let found: Self = document.parse()?;
        if found.schema != 1 {
            let error = InputError::new(document.at("schema"), format!("found {}", found.schema));
            return Err(error.key("schema").expected("1").into());
        }
        let known = if found.references.is_empty() { Vec::new() } else { metric::paths() };
        let of = |(number, one): (usize, &Reference)| wrong(document, number, one, &known);
        InputErrors::check((1..).zip(&found.references).filter_map(of).collect())?;
        Ok(found)
    }

    /// Those of the plan's recipe and GPU type; `None` if there are none.
    pub fn of(&self, plan: &Plan, file: &str) -> Result<Option<Figures>, InputErrors> {
        let is_of = |one: &&Reference| one.recipe == plan.name && one.gpu == plan.gpu.kind;
        let figure =
            |(number, one): (usize, &Reference)| Some(one.figure(number, tolerance(&one.tolerance)?));
        let figures: Vec<Figure> =
            (1..).zip(self.references.iter().filter(is_of)).filter_map(figure).collect();
        if figures.is_empty() {
            return Ok(None);
        }
        let own = Figures::in_plan(plan)?.own;
        let figures = Figures {
            recipe: plan.name.clone(),
            file: file.into(),
            source: None,
            figures,
            own,
            words: "reference",
        };
        Ok(Some(figures))
    }

    /// Takes new values. One that replaces another keeps its tolerance and note, and its bounds if they hold it.
    pub fn accept(&mut self, values: Vec<Reference>) {
        for mut value in values {
            let Some(known) = self.references.iter_mut().find(|known| known.is_of(&value)) else {
                self.references.push(value);
                continue;
            };
            let (lower, upper) = known.bounds();
            if (lower..=upper).contains(&value.value) {
                (value.lower, value.upper) = (known.lower, known.upper);
            }
            (value.tolerance, value.note) = (known.tolerance.clone(), known.note.take());
            *known = value;
        }
    }
}

/// What is wrong with a reference.
fn wrong(document: &Document, number: usize, one: &Reference, known: &[String]) -> Option<InputError> {
    let at = |key: &str, problem: String| {
        let key = format!("reference[{number}].{key}");
        InputError::new(document.at(&key), problem).key(key)
    };
    let (lower, upper) = one.bounds();
    if !metric::is_known(&one.metric, known) {
        let error = at("metric", format!("found {:?}, and summary.json has no number there", one.metric))
            .expected("a path such as throughput.output_tokens_per_s or ttft_ms.p50");
        return Some(match metric::meant(&one.metric, known) {
            Some(near) => error.next(format!("did you mean `{near}`?")),
            None => error.next("`tokmark schema summary` shows all of them"),
        });
    }
    if !(one.value > 0.0 && one.value.is_finite()) {
        return Some(at("value", format!("found {}", one.value)).expected("a number above 0"));
    }
    if !(lower..=upper).contains(&one.value) {
        return Some(
            at("value", format!("found {}", one.value)).expected("a number from `lower` to `upper`"),
        );
    }
    tolerance(&one.tolerance).is_none().then(|| {
        at("tolerance", format!("found {:?}", one.tolerance)).expected("a percentage above 0, e.g. \"5%\"")
    })
}

/// The values of a finished experiment that may become references: of valid load points that a later run of the recipe can be compared
/// with. `source` says where they come from.
pub fn propose(
    plan: &Plan,
    summaries: &BTreeMap<String, Summary>,
    source: &str,
) -> Result<Proposal, InputErrors> {
    let (mut found, mut left_out) = (References::default(), Vec::new());
    let own = Figures::in_plan(plan)?;
    let ran = MeasuredRun::of(&own, plan, summaries);
    for planned in planned_points(plan) {
        let name = &planned.name;
        let Some(summary) = summaries.get(name) else {
            left_out.push(format!("{name}: it was not measured"));
            continue;
        };
        if summary.verdict.result != Rating::Valid {
            let reasons = summary.verdict.reasons.join("; ");
            left_out.push(format!("{name}: it is {}: {reasons}", summary.verdict.result));
            continue;
        }
        let gpus = planned.deployment.gpus;
        let value = |(path, unit): (&str, &str)| {
            Some(Reference {
                recipe: plan.name.clone(),
                gpu: plan.gpu.kind.clone(),
                point: name.clone(),
                metric: path.to_owned(),
                value: metric::value(summary, path, gpus).filter(|value| *value > 0.0)?,
                unit: Some(unit.to_owned()),
                tolerance: default_tolerance(),
                lower: None,
                upper: None,
                software: Some(ran.software(summary)),
                note: None,
                source: source.to_owned(),
            })
        };
        found.references.extend(ACCEPTED.into_iter().filter_map(value));
    }
    // A run that cannot be compared with itself cannot be compared with later ones either.
    let Some(figures) = found.of(plan, "")? else { return Ok(Proposal { references: Vec::new(), left_out }) };
    let Verification { figures, .. } = verify(&figures, plan, summaries);
    let mut references = Vec::new();
    for one in found.references {
        let is_of =
            |line: &&ComparedFigure| line.point.as_ref() == Some(&one.point) && line.metric == one.metric;
        match figures.iter().find(is_of) {
            Some(line) if line.outcome == Reproduction::Reproduced => references.push(one),
            line => {
                let why = line.map(|line| line.reasons.join("; ")).unwrap_or_default();
                left_out.push(format!("{}: {why}", one.point));
            }
        }
    }
    left_out.dedup();
    Ok(Proposal { references, left_out })
}

#[cfg(test)]
#[path = "references_tests.rs"]
mod tests;
