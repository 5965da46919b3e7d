//! Plans the jobs of an order. Finds every mistake in every job before the first one is submitted.

use itertools::Itertools;

use super::catalogue::{self, Workload};
use super::order::{Order, Scales};
use super::{MAX_JOBS, Planner};
use crate::document::{InputError, InputErrors};
use crate::plan::Plan;
use crate::plan::choices::{Choices, Scale};
use crate::planner::scale::{arithmetic, offered};
use crate::recipe::find::{self, RecipeFile};

/// A planned job.
#[derive(Debug, Clone)]
pub struct Task {
    pub plan: Plan,
    /// How it differs from the other tasks of its order, e.g. `STREAMING=false`.
    pub differs: Vec<String>,
    /// Number of jobs.
    pub repeats: u32,
    pub remarks: Vec<String>,
}

/// Every recipe found, and the error of every recipe file that does not parse.
pub type Recipes = (Vec<RecipeFile>, Vec<InputError>);

/// Plans the tasks of all orders, or returns all errors. `base` holds the options shared by all verbs.
pub fn tasks(
    orders: &[Order],
    recipes: &Recipes,
    base: &Choices,
    plan: Planner<'_>,
) -> Result<Vec<Task>, InputErrors> {
    let mut errors = Vec::new();
    let planned = orders.iter().map(|order| of_order(order, recipes, base, plan));
    let tasks: Vec<Task> = planned.filter_map(|result| kept(result, &mut errors)).flatten().collect();
    let jobs: u64 = tasks.iter().map(|task| u64::from(task.repeats)).sum();
    if jobs > MAX_JOBS as u64 {
        let error = InputError::new("the order", format!("{jobs} jobs"));
        errors.push(error.expected(format!("at most {MAX_JOBS}")));
    }
    InputErrors::check(errors)?;
    Ok(tasks)
}

/// The value of a result; its errors join the others.
fn kept<T>(result: Result<T, InputErrors>, errors: &mut Vec<InputError>) -> Option<T> {
    result.map_err(|InputErrors(problems)| errors.extend(problems)).ok()
}

fn of_order(
    order: &Order,
    recipes: &Recipes,
    base: &Choices,
    plan: Planner<'_>,
) -> Result<Vec<Task>, InputErrors> {
    InputErrors::check(order.problems())?;
    let mut errors = Vec::new();
    let mut tasks = Vec::new();
    let names = match &order.recipe {
        Some(recipe) => std::slice::from_ref(recipe),
        None => order.workloads.as_slice(),
    };
    for name in names {
        let Some(workload) = kept(workload(order, name, recipes), &mut errors) else { continue };
        for chosen in choices(order, base)? {
            let variant = Variant { order, name, workload: &workload, chosen, plan };
            let planned = variant.tasks().map_err(|InputErrors(problems)| {
                InputErrors(problems.into_iter().map(|error| located(order, error)).collect())
            });
            tasks.extend(kept(planned, &mut errors).into_iter().flatten());
        }
    }
    InputErrors::check(errors)?;
    Ok(tasks)
}

/// The recipes that a name matches, and the requested size.
fn workload(order: &Order, name: &str, (all, broken): &Recipes) -> Result<Workload, InputErrors> {
    if order.recipe.is_some() || name.contains('/') || name.ends_with(".toml") {
        let file = find::named(name).map_err(|InputErrors(problems)| {
            InputErrors(problems.into_iter().map(|error| named_by(order, name, error)).collect())
        })?;
        return Ok(Workload { recipes: vec![file], size: order.size.clone() });
    }
    let mut found = catalogue::find(name, all, &order.place("workload")).map_err(|error| {
        // A file that does not parse may contain the workload.
        InputErrors(std::iter::once(error).chain(broken.iter().cloned()).collect())
    })?;
    if let (Some(wanted), Some(written)) = (&order.size, &found.size)
        && !same(wanted, written)
    {
        let error = order.wrong("size", format!("found {wanted:?}, and the workload is {name:?}"));
        return Err(error.expected("one size").into());
    }
    found.size = order.size.clone().or(found.size);
    // Skip recipes of another size: planning them could fail for unrelated reasons.
    let may_be = |file: &RecipeFile| match (&found.size, &file.recipe.model.size) {
        (Some(size), Some(known)) => same(size, known),
        _ => true,
    };
    if found.recipes.iter().any(may_be) {
        found.recipes.retain(may_be);
    }
    Ok(found)
}

/// Names the job whose recipe or workload cannot be found. Errors inside a recipe keep the recipe's location.
fn named_by(order: &Order, name: &str, mut error: InputError) -> InputError {
    if !order.origin.is_empty() && error.origin == name && error.line.is_none() && error.key.is_none() {
        let key = if order.recipe.is_some() { "recipe" } else { "workload" };
        error.problem = format!("{name:?}: {}", error.problem);
        error.origin.clone_from(&order.origin);
        error.key = Some(key.to_owned());
    }
    error
}

/// Compares sizes or precisions, which people write in either case.
fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

/// The product of GPU types, variables and values.
fn choices(order: &Order, base: &Choices) -> Result<Vec<Choices>, InputErrors> {
    let mut found = vec![base.clone()];
    let mut multiply = |count: usize, choose: &dyn Fn(&mut Choices, usize)| {
        if found.len().saturating_mul(count) > MAX_JOBS {
            return Err(order.wrong("repeats", format!("more than {MAX_JOBS} jobs")).next("split the order"));
        }
        let chosen = found.iter().cartesian_product(0..count).map(|(chosen, at)| {
            let mut chosen = chosen.clone();
            choose(&mut chosen, at);
            chosen
        });
        found = chosen.collect();
        Ok(())
    };
    if !order.gpus.is_empty() {
        multiply(order.gpus.len(), &|chosen, at| chosen.gpu = Some(order.gpus[at].clone()))?;
    }
    for (name, values) in &order.env {
        multiply(values.len(), &|chosen, at| chosen.env.push((name.clone(), values[at].clone())))?;
    }
    for (key, values) in &order.sets {
        multiply(values.len(), &|chosen, at| chosen.sets.push(format!("{key}={}", values[at])))?;
    }
    Ok(found)
}

/// Values of the axes that have more than one.
fn differences(order: &Order, chosen: &Choices) -> Vec<String> {
    let several = |axes: &[(String, Vec<String>)], name: &str| {
        axes.iter().any(|(known, values)| known == name && values.len() > 1)
    };
    let env = chosen.env.iter().filter(|(name, _)| several(&order.env, name));
    let sets =
        chosen.sets.iter().filter(|set| several(&order.sets, set.split('=').next().unwrap_or_default()));
    env.map(|(name, value)| format!("{name}={value}")).chain(sets.cloned()).collect()
}

/// Names the job in the file whose option caused the error.
fn located(order: &Order, mut error: InputError) -> InputError {
    let file = order.origin.split(':').next().unwrap_or_default();
    if !file.is_empty() && !error.origin.starts_with(file) {
        error.origin = format!("{}: {}", order.origin, error.origin);
    }
    error
}

/// One workload in one variant: all choices but precision and scale.
struct Variant<'a> {
    order: &'a Order,
    name: &'a str,
    workload: &'a Workload,
    chosen: Choices,
    plan: Planner<'a>,
}

type Planned<'a> = (&'a RecipeFile, Plan);

impl<'a> Variant<'a> {
    fn tasks(&self) -> Result<Vec<Task>, InputErrors> {
        let mut errors = Vec::new();
        let planned = self
            .workload
            .recipes
            .iter()
            .filter_map(|file| Some((file, kept((self.plan)(file, self.chosen.clone()), &mut errors)?)));
        let planned: Vec<Planned<'_>> = planned.collect();
        InputErrors::check(errors)?;
        let mut errors = Vec::new();
        let planned = match self.of_size(&planned) {
            Ok(sized) => sized,
            Err(error) => {
                errors.push(error);
                planned
            }
        };
        let mut tasks = Vec::new();
        let dtypes: Vec<Option<&String>> = match self.order.dtypes.as_slice() {
            [] => vec![None],
            dtypes => dtypes.iter().map(Some).collect(),
        };
        for dtype in dtypes {
            let scaled = match self.of_dtype(&planned, dtype) {
                Ok((file, plan, remark)) => self.scaled(file, plan, remark),
                Err(error) => Err(error.into()),
            };
            tasks.extend(kept(scaled, &mut errors).into_iter().flatten());
        }
        InputErrors::check(errors)?;
        Ok(tasks)
    }

    /// ` on <GPU type>`, if the type matters.
    fn on(&self, plan: &Plan) -> String {
        if plan.gpu.kind == "none" { String::new() } else { format!(" on {}", plan.gpu.kind) }
    }

    fn of_size(&self, planned: &[Planned<'a>]) -> Result<Vec<Planned<'a>>, InputError> {
        let Some(size) = &self.workload.size else { return Ok(planned.to_vec()) };
        let fits = |plan: &Plan| plan.model.size.as_deref().is_some_and(|known| same(known, size));
        let found: Vec<_> = planned.iter().filter(|(_, plan)| fits(plan)).cloned().collect();
        if !found.is_empty() {
            return Ok(found);
        }
        let error = self.order.wrong("size", format!("{:?} does not come in size {size:?}", self.name));
        let known = planned.iter().filter_map(|(_, plan)| plan.model.size.as_deref());
        Err(one_of(error, "size", known))
    }

    /// The only recipe with this precision. If `force` overrides a mismatch, adds a remark.
    fn of_dtype<'p>(
        &self,
        planned: &'p [Planned<'a>],
        dtype: Option<&String>,
    ) -> Result<(&'a RecipeFile, &'p Plan, Option<String>), InputError> {
        let has = |plan: &Plan, dtype: &str| {
            plan.model.precision.as_deref().is_some_and(|known| same(known, dtype))
        };
        let fits = |plan: &Plan| dtype.is_none_or(|dtype| has(plan, dtype));
        let found: Vec<&Planned<'_>> = planned.iter().filter(|(_, plan)| fits(plan)).collect();
        match (&found[..], dtype, planned) {
            ([(file, plan)], ..) => Ok((file, plan, None)),
            ([], Some(dtype), [(file, plan)]) if self.order.force => {
                let own = plan.model.precision.as_deref().unwrap_or("no precision");
                let remark = format!("--force: {} has {own}, not {dtype}, and runs as it is", file.name());
                Ok((file, plan, Some(remark)))
            }
            ([], Some(dtype), _) => {
                let on = planned.first().map(|(_, plan)| self.on(plan)).unwrap_or_default();
                let problem = format!("{:?} does not come in {dtype:?}{on}", self.name);
                let known = planned.iter().filter_map(|(_, plan)| plan.model.precision.as_deref());
                Err(one_of(self.order.wrong("dtype", problem), "precision", known))
            }
            _ => {
                let described = found.iter().map(|(file, plan)| {
                    let facts = [&plan.model.size, &plan.model.precision].into_iter().flatten().join(" ");
                    format!("{} ({facts})", file.name())
                });
                let problem = format!("{:?} is an alias of several recipes", self.name);
                Err(self
                    .order
                    .wrong("workload", problem)
                    .expected(described.into_iter().join(", "))
                    .next("choose by size or dtype, or name one of them"))
            }
        }
    }

    /// Plans a recipe once per scale.
    fn scaled(
        &self,
        file: &RecipeFile,
        own: &Plan,
        remark: Option<String>,
    ) -> Result<Vec<Task>, InputErrors> {
        let known = offered(&file.recipe, own.scale());
        let differs = differences(self.order, &self.chosen);
        let task = |plan: Plan, more: Option<String>| Task {
            plan,
            differs: differs.clone(),
            repeats: self.order.repeats.max(1),
            remarks: remark.iter().cloned().chain(more).collect(),
        };
        let at = |scale: Scale| (self.plan)(file, Choices { scale: Some(scale), ..self.chosen.clone() });
        let mut tasks = Vec::new();
        let mut errors = Vec::new();
        match &self.order.scales {
            Scales::Own => tasks.push(task(own.clone(), None)),
            Scales::These(scales) => {
                for scale in scales {
                    if known.contains(scale) {
                        tasks.extend(kept(at(Scale::of(*scale)), &mut errors).map(|plan| task(plan, None)));
                    } else if self.order.force {
                        let (name, runs) = (file.name(), own.scale());
                        let remark = format!("--force: {name} has no scale {scale}, and runs on {runs}");
                        tasks.push(task(own.clone(), Some(remark)));
                    } else {
                        errors.push(self.unknown_scale(own, &known, &scale.to_string()));
                    }
                }
            }
            Scales::Within { min, max, exact } => {
                let (least, most) = (min.unwrap_or(1), max.unwrap_or(u32::MAX));
                let mut scales: Vec<Scale> = known.iter().copied().map(Scale::of).collect();
                if let (false, Some(largest), Some(_)) = (exact, known.last(), max) {
                    let doubled = (1..31).map(|power| Scale { gpus: *largest, times: 1 << power });
                    scales.extend(doubled.take_while(|scale| scale.total() <= most));
                }
                scales.reverse();
                for scale in scales.into_iter().filter(|scale| (least..=most).contains(&scale.total())) {
                    match at(scale) {
                        // The user did not name this multiple, so its failure is ignored.
                        Err(_) if scale.times > 1 => {}
                        planned => tasks.extend(kept(planned, &mut errors).map(|plan| task(plan, None))),
                    }
                }
                if tasks.is_empty() && errors.is_empty() {
                    let wanted = match (min, max) {
                        (Some(min), Some(max)) => format!("from {min} to {max}"),
                        (Some(min), None) => format!("of {min} or more"),
                        (None, max) => format!("up to {}", max.unwrap_or_default()),
                    };
                    errors.push(self.unknown_scale(own, &known, &wanted));
                }
            }
        }
        InputErrors::check(errors)?;
        Ok(tasks)
    }

    fn unknown_scale(&self, own: &Plan, known: &[u32], wanted: &str) -> InputError {
        let problem = format!("{:?} has no scale {wanted}{}", self.name, self.on(own));
        let error = self.order.wrong("scale", problem);
        if known.is_empty() {
            return error.next("nobody says how many GPUs its endpoint has: leave it out");
        }
        let largest = own.deployments.iter().max_by_key(|deployment| deployment.gpus);
        let comes_to = largest.map(arithmetic).unwrap_or_default();
        error
            .expected(format!("{} (its own: {comes_to})", known.iter().join(", ")))
            .next(format!("choose one of them, or add a [scale.N] section to {}", own.input.recipe.file))
    }
}

/// Completes the error about a size or a precision with those that the recipes have.
fn one_of<'a>(error: InputError, what: &str, known: impl Iterator<Item = &'a str>) -> InputError {
    match known.unique().join(", ") {
        known if known.is_empty() => error.next(format!("it says no {what}: leave it out")),
        known => error.expected(known),
    }
}
