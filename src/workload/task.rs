//! Plans the jobs of an order. Finds every mistake in every job before the first one is submitted.

use super::order::{Order, Scales};
use super::{MAX_JOBS, Planner, catalogue};
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
    /// Remarks for the user.
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
    let (mut tasks, mut errors) = (Vec::new(), Vec::new());
    for order in orders {
        match of_order(order, recipes, base, plan) {
            Ok(found) => tasks.extend(found),
            Err(InputErrors(problems)) => errors.extend(problems),
        }
    }
    let jobs: u64 = tasks.iter().map(|task| u64::from(task.repeats)).sum();
    if jobs > MAX_JOBS as u64 {
        errors.push(
            InputError::new("the order", format!("{jobs} jobs")).expected(format!("at most {MAX_JOBS}")),
        );
    }
    InputErrors::check(errors)?;
    Ok(tasks)
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
        let candidates = match candidates(order, name, recipes) {
            Ok(candidates) => candidates,
            Err(InputErrors(problems)) => {
                errors.extend(problems);
                continue;
            }
        };
        for chosen in choices(order, base)? {
            let differs = differences(order, &chosen);
            match of_choice(&Choice { order, name, candidates: &candidates, chosen, plan }) {
                Ok(found) => {
                    tasks.extend(found.into_iter().map(|task| Task { differs: differs.clone(), ..task }))
                }
                Err(problems) => errors.extend(problems.into_iter().map(|error| located(order, error))),
            }
        }
    }
    InputErrors::check(errors)?;
    Ok(tasks)
}

/// The recipes that a name matches, and the requested size.
struct Candidates {
    recipes: Vec<RecipeFile>,
    size: Option<String>,
}

fn candidates(order: &Order, name: &str, (all, broken): &Recipes) -> Result<Candidates, InputErrors> {
    if order.recipe.is_some() || name.contains('/') || name.ends_with(".toml") {
        let file = find::named(name).map_err(|InputErrors(problems)| {
            InputErrors(problems.into_iter().map(|error| named_by(order, name, error)).collect())
        })?;
        return Ok(Candidates { recipes: vec![file], size: order.size.clone() });
    }
    let workload = catalogue::find(name, all, &order.place("workload")).map_err(|error| {
        // A file that does not parse may contain the workload.
        InputErrors(std::iter::once(error).chain(broken.iter().cloned()).collect())
    })?;
    match (&order.size, workload.size) {
        (Some(asked), Some(written)) if !same(asked, &written) => Err(order
            .wrong("size", format!("found {asked:?}, and the workload is {name:?}"))
            .expected("one size")
            .into()),
        (asked, written) => {
            let size = asked.clone().or(written);
            let mut recipes = workload.recipes;
            // Skip recipes of another size: planning them could fail for unrelated reasons.
            let may_be = |file: &RecipeFile| match (&size, &file.recipe.model.size) {
                (Some(size), Some(known)) => same(size, known),
                _ => true,
            };
            if recipes.iter().any(may_be) {
                recipes.retain(may_be);
            }
            Ok(Candidates { recipes, size })
        }
    }
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
    let mut multiply = |count: usize, with: &dyn Fn(&Choices, usize) -> Choices| {
        if found.len().saturating_mul(count) > MAX_JOBS {
            return Err(order.wrong("repeats", format!("more than {MAX_JOBS} jobs")).next("split the order"));
        }
        found = found.iter().flat_map(|chosen| (0..count).map(move |at| with(chosen, at))).collect();
        Ok(())
    };
    if !order.gpus.is_empty() {
        multiply(order.gpus.len(), &|chosen, at| Choices {
            gpu: order.gpus.get(at).cloned(),
            ..chosen.clone()
        })?;
    }
    for (name, values) in &order.env {
        multiply(values.len(), &|chosen, at| {
            let mut chosen = chosen.clone();
            chosen.env.extend(values.get(at).map(|value| (name.clone(), value.clone())));
            chosen
        })?;
    }
    for (key, values) in &order.sets {
        multiply(values.len(), &|chosen, at| {
            let mut chosen = chosen.clone();
            chosen.sets.extend(values.get(at).map(|value| format!("{key}={value}")));
            chosen
        })?;
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

/// One workload with all choices but precision and scale.
struct Choice<'a> {
    order: &'a Order,
    name: &'a str,
    candidates: &'a Candidates,
    chosen: Choices,
    plan: Planner<'a>,
}

fn of_choice(choice: &Choice<'_>) -> Result<Vec<Task>, Vec<InputError>> {
    let mut errors = Vec::new();
    let mut planned = Vec::new();
    for file in &choice.candidates.recipes {
        match (choice.plan)(file, choice.chosen.clone()) {
            Ok(plan) => planned.push((file, plan)),
            Err(InputErrors(problems)) => errors.extend(problems),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let sized = match choice.of_size(&planned) {
        Ok(sized) => sized,
        Err(error) => {
            errors.push(error);
            planned
        }
    };
    let mut tasks = Vec::new();
    let dtypes: Vec<Option<&String>> = match choice.order.dtypes.as_slice() {
        [] => vec![None],
        dtypes => dtypes.iter().map(Some).collect(),
    };
    for dtype in dtypes {
        match choice.of_dtype(&sized, dtype) {
            Ok((file, plan, remark)) => match choice.scaled(file, plan, remark) {
                Ok(found) => tasks.extend(found),
                Err(problems) => errors.extend(problems),
            },
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(tasks) } else { Err(errors) }
}

type Planned<'a> = (&'a RecipeFile, Plan);

/// Joins distinct values in order: `a, b`.
fn each_once<'a>(values: impl Iterator<Item = &'a str>) -> String {
    let mut found: Vec<&str> = Vec::new();
    for value in values {
        if !found.contains(&value) {
            found.push(value);
        }
    }
    found.join(", ")
}

impl<'a> Choice<'a> {
    /// ` on <GPU type>`, if the type matters.
    fn on(&self, plan: &Plan) -> String {
        if plan.gpu.kind == "none" { String::new() } else { format!(" on {}", plan.gpu.kind) }
    }

    fn of_size(&self, planned: &[Planned<'a>]) -> Result<Vec<Planned<'a>>, InputError> {
        let Some(size) = &self.candidates.size else { return Ok(planned.to_vec()) };
        let sizes = each_once(planned.iter().filter_map(|(_, plan)| plan.model.size.as_deref()));
        let fits = |plan: &Plan| plan.model.size.as_deref().is_some_and(|known| same(known, size));
        let found: Vec<_> = planned.iter().filter(|(_, plan)| fits(plan)).cloned().collect();
        if found.is_empty() {
            let error = self.order.wrong("size", format!("{:?} does not come in size {size:?}", self.name));
            return Err(if sizes.is_empty() {
                error.next("it says no size: leave it out")
            } else {
                error.expected(sizes)
            });
        }
        Ok(found)
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
        let found: Vec<&(&RecipeFile, Plan)> =
            planned.iter().filter(|(_, plan)| dtype.is_none_or(|dtype| has(plan, dtype))).collect();
        match (found[..].len(), dtype, planned) {
            (1, ..) => Ok((found[0].0, &found[0].1, None)),
            (0, Some(dtype), [(file, plan)]) if self.order.force => {
                let own = plan.model.precision.as_deref().unwrap_or("no precision");
                Ok((
                    file,
                    plan,
                    Some(format!("--force: {} has {own}, not {dtype}, and runs as it is", file.name())),
                ))
            }
            (0, Some(dtype), _) => {
                let known = each_once(planned.iter().filter_map(|(_, plan)| plan.model.precision.as_deref()));
                let on = planned.first().map(|(_, plan)| self.on(plan)).unwrap_or_default();
                let error =
                    self.order.wrong("dtype", format!("{:?} does not come in {dtype:?}{on}", self.name));
                Err(if known.is_empty() {
                    error.next("it says no precision: leave it out")
                } else {
                    error.expected(known)
                })
            }
            _ => {
                let of = |(file, plan): &&(&RecipeFile, Plan)| {
                    let facts = [&plan.model.size, &plan.model.precision];
                    let facts: Vec<&str> = facts.iter().filter_map(|fact| fact.as_deref()).collect();
                    format!("{} ({})", file.name(), facts.join(" "))
                };
                Err(self
                    .order
                    .wrong("workload", format!("{:?} is an alias of several recipes", self.name))
                    .expected(found.iter().map(of).collect::<Vec<_>>().join(", "))
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
    ) -> Result<Vec<Task>, Vec<InputError>> {
        let known = offered(&file.recipe, own.scale());
        let task = |plan: Plan, more: Option<String>| Task {
            plan,
            differs: Vec::new(),
            repeats: self.order.repeats.max(1),
            remarks: remark.iter().cloned().chain(more).collect(),
        };
        let at = |scale: Scale| (self.plan)(file, Choices { scale: Some(scale), ..self.chosen.clone() });
        let mut tasks = Vec::new();
        let mut errors = Vec::new();
        match &self.order.scales {
            Scales::Own => return Ok(vec![task(own.clone(), None)]),
            Scales::These(scales) => {
                for scale in scales {
                    if self.order.force && !known.contains(scale) {
                        let remark = format!(
                            "--force: {} has no scale {scale}, and runs on {}",
                            file.name(),
                            own.scale()
                        );
                        tasks.push(task(own.clone(), Some(remark)));
                        continue;
                    }
                    if !known.contains(scale) {
                        errors.push(self.unknown_scale(own, &known, &scale.to_string()));
                        continue;
                    }
                    match at(Scale::of(*scale)) {
                        Ok(plan) => tasks.push(task(plan, None)),
                        Err(InputErrors(problems)) => errors.extend(problems),
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
                        Ok(plan) => tasks.push(task(plan, None)),
                        // The user did not name this multiple, so its failure is ignored.
                        Err(_) if scale.times > 1 => {}
                        Err(InputErrors(problems)) => errors.extend(problems),
                    }
                }
                if tasks.is_empty() && errors.is_empty() {
                    let asked = match (min, max) {
                        (Some(min), Some(max)) => format!("from {min} to {max}"),
                        (Some(min), None) => format!("of {min} or more"),
                        (None, max) => format!("up to {}", max.unwrap_or_default()),
                    };
                    errors.push(self.unknown_scale(own, &known, &asked));
                }
            }
        }
        if errors.is_empty() { Ok(tasks) } else { Err(errors) }
    }

    fn unknown_scale(&self, own: &Plan, known: &[u32], asked: &str) -> InputError {
        let problem = format!("{:?} has no scale {asked}{}", self.name, self.on(own));
        let error = self.order.wrong("scale", problem);
        if known.is_empty() {
            return error.next("nobody says how many GPUs its endpoint has: leave it out");
        }
        let largest = own.deployments.iter().max_by_key(|deployment| deployment.gpus);
        let known: Vec<String> = known.iter().map(ToString::to_string).collect();
        let comes_to = largest.map(arithmetic).unwrap_or_default();
        error
            .expected(format!("{} (its own: {comes_to})", known.join(", ")))
            .next(format!("choose one of them, or add a [scale.N] section to {}", own.input.recipe.file))
    }
}
