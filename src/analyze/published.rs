//! The published figures of a recipe, checked, and the conditions that the recipe itself gives for them.

use serde_json::Value;

use super::conditions::is_scaled;
use super::metric;
use crate::document::{InputError, InputErrors, join, nearest};
use crate::plan::choices::Choices;
use crate::plan::{LoadPoint, Plan, without_repeat};
use crate::planner::resolve::resolve;
use crate::recipe::find::RecipeFile;
use crate::recipe::{Origin, Published};
use crate::site::SiteFile;

/// A published figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Its number in the recipe, from 1.
    pub number: usize,
    /// The figure as the recipe states it.
    pub published: Published,
    /// Largest accepted deviation of a measurement, percent.
    pub tolerance: f64,
    /// Smallest and largest accepted value, instead of the tolerance.
    pub bounds: Option<(f64, f64)>,
}

/// The published figures of a recipe, and the recipe without any user's choices.
#[derive(Debug, Clone)]
pub struct Figures {
    pub recipe: String,
    pub file: String,
    /// Source of the recipe's configuration.
    pub source: Option<String>,
    pub figures: Vec<Figure>,
    /// The recipe resolved for the plan's GPU type, without site, options and variables; `None` if it does not
    /// support that type.
    pub own: Option<Value>,
    /// What they are: `published figure` or `reference`.
    pub words: &'static str,
}

impl Figures {
    /// The figures of `file`, for a run of `plan`.
    pub fn of(file: &RecipeFile, plan: &Plan) -> Result<Self, InputErrors> {
        let gpu = (!file.recipe.gpu.is_empty()).then(|| plan.gpu.kind.clone());
        let own = resolve(file, &SiteFile::default(), &Choices { gpu, ..Choices::default() });
        Ok(Self {
            recipe: file.name().to_owned(),
            file: file.document.file.clone(),
            source: file.recipe.source.clone(),
            figures: figures(file)?,
            own: own.ok().and_then(|own| serde_json::to_value(own.recipe).ok()),
            words: "published figure",
        })
    }

    /// The figures of the recipe in the plan.
    pub fn in_plan(plan: &Plan) -> Result<Self, InputErrors> {
        Self::of(&RecipeFile::parse(plan.input.recipe.clone(), None)?, plan)
    }
}

/// Checks each figure, and that the plan has the load points that figures name. A plan that a user changed may lack
/// some; such figures are not measured, and that is no mistake.
pub fn check(file: &RecipeFile, plan: &Plan) -> Result<(), InputErrors> {
    if file.recipe.published.is_empty() {
        return Ok(());
    }
    let figures = Figures::of(file, plan)?;
    if is_scaled(plan) || !figures.own.as_ref().is_some_and(|own| changes(own, plan).is_empty()) {
        return Ok(());
    }
    let for_any = file.recipe.gpu.is_empty();
    let mut errors = Vec::new();
    for figure in figures.figures.iter().filter(|figure| for_any || figure.published.gpu == plan.gpu.kind) {
        let Some(name) = figure.published.point.as_deref() else { continue };
        let names: Vec<String> = planned_points(plan).map(|planned| planned.name).collect();
        if !planned_points(plan).any(|planned| planned.is_called(name, plan)) {
            let near =
                nearest(name, names.iter().map(String::as_str)).map(|near| format!("did you mean `{near}`?"));
            errors.push(InputError {
                next: near.or(Some("`tokmark show` lists the load points".into())),
                ..at(file, figure.number, "point", format!("no load point {name:?}"))
                    .expected(format!("one of {}", listed(&names)))
            });
        }
    }
    InputErrors::check(errors)
}

/// Lists the first names, and how many follow.
pub(super) fn listed(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}

fn at(file: &RecipeFile, number: usize, key: &str, problem: String) -> InputError {
    let key = format!("published[{number}].{key}");
    InputError::new(file.document.at(&key), problem).key(key)
}

/// Checks every figure by itself and reports all mistakes at once.
fn figures(file: &RecipeFile) -> Result<Vec<Figure>, InputErrors> {
    let known = if file.recipe.published.is_empty() { Vec::new() } else { metric::paths() };
    let (mut figures, mut errors) = (Vec::new(), Vec::new());
    for (number, published) in (1..).zip(&file.recipe.published) {
        let wrong = |key: &str, problem: String| at(file, number, key, problem);
        let found = &published.metric;
        if !metric::is_known(found, &known) {
            let error = wrong("metric", format!("found {found:?}, and summary.json has no number there"))
                .expected("a path such as throughput.output_tokens_per_s_per_gpu or ttft_ms.p99");
            errors.push(match metric::meant(found, &known) {
                Some(near) => error.next(format!("did you mean `{near}`?")),
                None => error.next("`tokmark schema summary` shows all of them"),
            });
        }
        if !(published.value >= 0.0 && published.value.is_finite()) {
            errors.push(
                wrong("value", format!("found {}", published.value))
                    .expected("a number above 0, or 0 as long as there is no figure"),
            );
        }
        let types: Vec<&str> = file.recipe.gpu.keys().map(String::as_str).collect();
        if !types.is_empty() && !types.contains(&published.gpu.as_str()) {
            errors.push(
                wrong("gpu", format!("found {:?}, and the recipe is not written for it", published.gpu))
                    .expected(format!("one of {}", types.join(", ")))
                    .next(format!("correct it, or add a [gpu.{}] section", published.gpu)),
            );
        }
        match tolerance(&published.tolerance) {
            Some(tolerance) => {
                figures.push(Figure { number, published: published.clone(), tolerance, bounds: None })
            }
            None => errors.push(
                wrong("tolerance", format!("found {:?}", published.tolerance))
                    .expected("a percentage above 0, e.g. \"10%\""),
            ),
        }
    }
    InputErrors::check(errors)?;
    Ok(figures)
}

/// The percentage of `5%`; `None` if it is none above 0.
pub(super) fn tolerance(text: &str) -> Option<f64> {
    let percent: f64 = text.trim().strip_suffix('%')?.trim_end().parse().ok()?;
    (percent > 0.0 && percent.is_finite()).then_some(percent)
}

/// A load point of a plan.
#[derive(Debug, Clone)]
pub(super) struct PlannedPoint<'a> {
    /// Name of its folder, without the number of a repeat.
    pub(super) name: String,
    pub(super) deployment: &'a crate::plan::Deployment,
    pub(super) point: &'a LoadPoint,
}

impl PlannedPoint<'_> {
    /// Whether a figure's point name means this point: its folder's name, its id after the deployment's, or its id
    /// alone if there is only one deployment.
    fn is_called(&self, name: &str, plan: &Plan) -> bool {
        let id = self.point.load_id();
        name == self.name
            || name == format!("{}_{id}", self.deployment.id)
            || plan.deployments.len() == 1 && name == id
    }
}

/// The load points of a plan; of repeats the first, for all.
pub(super) fn planned_points(plan: &Plan) -> impl Iterator<Item = PlannedPoint<'_>> {
    let is_first = |point: &LoadPoint| point.repeat.as_ref().is_none_or(|repeat| repeat.number == 1);
    plan.points().filter(move |(_, point)| is_first(point)).map(|(deployment, point)| {
        let name = plan.point_name(deployment, point);
        let name =
            point.repeat.as_ref().map_or(&*name, |repeat| without_repeat(&name, repeat.number)).to_owned();
        PlannedPoint { name, deployment, point }
    })
}

/// The load points that a figure's point name means.
pub(super) fn points_called<'a>(plan: &'a Plan, name: Option<&str>) -> Vec<PlannedPoint<'a>> {
    planned_points(plan).filter(|planned| name.is_none_or(|name| planned.is_called(name, plan))).collect()
}

/// A value that differs from the recipe's.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Dotted key.
    pub key: String,
    /// The recipe's value, if it has one.
    pub own: Option<Value>,
    /// The value in this run.
    pub here: Value,
    /// Origin of the value in this run.
    pub from: String,
    /// The run uses one or some values of a list in the recipe.
    pub narrowed: bool,
}

/// Sections that define what is measured.
const MEASURED: [&str; 5] = ["model", "deploy", "load", "sweep", "container"];

/// Keys that do not affect any figure.
const NO_MATTER: [&str; 6] = [
    "deploy.port",
    "deploy.startup_timeout",
    "deploy.progress_timeout",
    "deploy.stop_grace",
    "load.repeats",
    "load.until",
];

/// Lists of a load whose items are separate load points. Any other list is one value: part of a ramp is a different
/// ramp.
const AXES: [&str; 4] = ["load.isl", "load.osl", "load.concurrency", "load.rate"];

/// Values in which a plan differs from the recipe `own`, in plan order.
pub fn changes(own: &Value, plan: &Plan) -> Vec<Change> {
    let flat = |of: &Value| {
        let mut flat = Vec::new();
        for section in MEASURED {
            flatten(&of[section], section, &mut flat);
        }
        flat
    };
    let known = flat(own);
    let known = |key: &str| known.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone());
    let mut changes = Vec::new();
    for (key, here) in flat(&serde_json::to_value(&plan.recipe).unwrap_or_default()) {
        let own = known(&key);
        // A default that comes with another key is not a change by itself.
        let is_added = own.is_none() && plan.origins.get(&key) == Some(&Origin::Default);
        if NO_MATTER.contains(&key.as_str()) || own.as_ref() == Some(&here) || is_added {
            continue;
        }
        let axis = key.split_once('.').and_then(|(section, rest)| {
            let sweep = if section == "deploy" { "server" } else { "load" };
            known(&format!("sweep.{sweep}.{}", join("", rest)))
        });
        let is_axis = AXES.contains(&key.as_str()) || key.starts_with("sweep.");
        let narrowed =
            [own.as_ref().filter(|_| is_axis), axis.as_ref()].iter().any(|list| is_within(&here, *list));
        let from = plan.place_of(&key);
        changes.push(Change { key, own, here, from, narrowed });
    }
    changes
}

/// Whether `list` contains `value`, or all of its items.
fn is_within(value: &Value, list: Option<&Value>) -> bool {
    let Some(Value::Array(list)) = list else { return false };
    match value {
        Value::Array(items) => items.iter().all(|item| list.contains(item)),
        one => list.contains(one),
    }
}

fn flatten(value: &Value, prefix: &str, out: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| flatten(value, &join(prefix, key), out)),
        Value::Null => {}
        other => out.push((prefix.to_owned(), other.clone())),
    }
}
