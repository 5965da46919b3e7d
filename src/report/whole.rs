//! What one report shows of one experiment or of several.

use super::material::{self, Run};
use super::{Header, Measured, PointResult};
use crate::plan::Plan;

/// The contents of a report.
pub(super) struct Whole {
    pub header: Header,
    pub rows: Vec<PointResult>,
    pub runs: Vec<Run>,
}

impl Whole {
    /// Of several experiments those of one plan are repeats. The points and series of different ones begin with the name of their
    /// recipe, numbered where it occurs twice.
    pub(super) fn of(measured: &[Measured]) -> Self {
        let groups = of_one_plan(measured);
        let firsts: Vec<&Measured> = groups.iter().filter_map(|group| group.first().copied()).collect();
        if let ([group], [first]) = (groups.as_slice(), firsts.as_slice()) {
            let whole = Self::of_group(group);
            if group.len() == 1 {
                return whole;
            }
            let summary = format!("{} ({} jobs of one plan)", first.plan.summary, group.len());
            let header = Header { name: first.plan.name.clone(), summary, ..together(measured, &groups) };
            return Self { header: Header { recipe: whole.header.recipe, ..header }, ..whole };
        }
        let sweep = of_sweep(measured, &groups);
        let is_sweep = sweep.is_some();
        let header = sweep.unwrap_or_else(|| together(measured, &groups));
        let mut whole = Self { header, rows: Vec::new(), runs: Vec::new() };
        for ((name, group), first) in names(&firsts).into_iter().zip(&groups).zip(&firsts) {
            let of_group = Self::of_group(group);
            let mut own = if is_sweep { of_group.within_sweep(&first.plan) } else { of_group.named(&name) };
            whole.rows.append(&mut own.rows);
            whole.runs.append(&mut own.runs);
        }
        whole
    }

    /// The experiments of one plan: their rows after one another, and the requests of the first.
    fn of_group(group: &[&Measured]) -> Self {
        let mut whole = Self { header: Header::default(), rows: Vec::new(), runs: Vec::new() };
        for (number, one) in (1..).zip(group) {
            if number == 1 {
                whole.header = Header::of_run(&one.experiment, &one.plan, &one.rows);
                whole.runs = material::read(&one.experiment, &one.plan, &one.rows);
            }
            whole.rows.extend(one.rows.iter().cloned().map(|mut row| {
                row.summary.point.job = (group.len() > 1).then_some(number);
                row
            }));
        }
        whole
    }

    /// With a name before those of the points.
    fn named(mut self, name: &str) -> Self {
        for row in &mut self.rows {
            row.point = format!("{name} {}", row.point);
            row.series = format!("{name} {}", row.series);
        }
        self.runs.iter_mut().for_each(|run| run.point = format!("{name} {}", run.point));
        self
    }

    /// The part of a sweep whose deployments are jobs of their own, with the names that the points have in it.
    fn within_sweep(mut self, plan: &Plan) -> Self {
        let Some(deployment) = plan.deployments.first().filter(|_| !plan.is_sweep()) else { return self };
        self.rows.iter_mut().for_each(|row| row.point = deployment.named(&row.point));
        self.runs.iter_mut().for_each(|run| run.point = deployment.named(&run.point));
        self
    }
}

/// The experiments that measured the same: groups of one plan, in the order of their first.
fn of_one_plan(measured: &[Measured]) -> Vec<Vec<&Measured>> {
    let mut groups: Vec<Vec<&Measured>> = Vec::new();
    for one in measured {
        match groups
            .iter_mut()
            .find(|group| group.first().is_some_and(|first| first.plan.measures_like(&one.plan)))
        {
            Some(group) => group.push(one),
            None => groups.push(vec![one]),
        }
    }
    groups
}

/// The head of the report of a sweep whose deployments are jobs of their own; `None` for other experiments.
fn of_sweep(measured: &[Measured], groups: &[Vec<&Measured>]) -> Option<Header> {
    let first = &measured.first()?.plan;
    let is_part = |one: &Measured| {
        one.plan.input.choices.deployment.is_some() && one.plan.input.recipe == first.input.recipe
    };
    let mut header = Header {
        name: first.name.clone(),
        summary: format!("{} ({} jobs of one sweep)", first.summary, measured.len()),
        recipe: Some(first.input.recipe.text.clone()),
        ..together(measured, groups)
    };
    for one in measured {
        header.unmeasured.extend(Header::of_run(&one.experiment, &one.plan, &one.rows).unmeasured);
    }
    measured.iter().all(is_part).then_some(header)
}

/// A name for each group of experiments.
fn names(firsts: &[&Measured]) -> Vec<String> {
    let name = |(number, one): (usize, &&Measured)| {
        let own = &one.plan.name;
        let is_alone = firsts.iter().filter(|other| other.plan.name == *own).count() == 1;
        if is_alone { own.clone() } else { format!("{own}#{}", number + 1) }
    };
    firsts.iter().enumerate().map(name).collect()
}

/// The head of a report of several experiments: theirs one after the other; what those of one plan share, once.
fn together(measured: &[Measured], groups: &[Vec<&Measured>]) -> Header {
    let mut header =
        Header { summary: format!("{} experiments together", measured.len()), ..Header::default() };
    let firsts: Vec<&Measured> = groups.iter().filter_map(|group| group.first().copied()).collect();
    let (mut names_seen, mut commands) = (Vec::new(), String::new());
    for ((name, group), one) in names(&firsts).into_iter().zip(groups).zip(&firsts) {
        let own = Header::of_run(&one.experiment, &one.plan, &one.rows);
        let experiments =
            group.iter().map(|one| ("experiment", format!("{name}: {}", one.experiment.name())));
        header.facts.extend(experiments);
        header.facts.extend(own.facts);
        own.commands.into_iter().for_each(|lines| commands.push_str(&format!("# {name}\n{lines}")));
        header.reproduced = header.reproduced.or(own.reproduced.map(|told| format!("{name}: {told}")));
        names_seen.push(name);
    }
    header.name = names_seen.join(", ");
    header.commands = (!commands.is_empty()).then_some(commands);
    header
}
