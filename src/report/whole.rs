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
    /// Of several experiments the points and series begin with the name of their recipe, numbered where it occurs twice.
    pub(super) fn of(measured: &[Measured]) -> Self {
        let of = |one: &Measured| Self {
            header: Header::of_run(&one.experiment, &one.plan, &one.rows),
            rows: one.rows.clone(),
            runs: material::read(&one.experiment, &one.plan, &one.rows),
        };
        if let [one] = measured {
            return of(one);
        }
        if let Some(header) = of_sweep(measured) {
            let parts: Vec<Self> = measured.iter().map(|one| of(one).within_sweep(&one.plan)).collect();
            let mut whole = Self { header, rows: Vec::new(), runs: Vec::new() };
            for mut part in parts {
                whole.rows.append(&mut part.rows);
                whole.runs.append(&mut part.runs);
            }
            return whole;
        }
        let mut whole = Self { header: together(measured), rows: Vec::new(), runs: Vec::new() };
        for (name, one) in names(measured).into_iter().zip(measured) {
            let mut own = of(one);
            for row in &mut own.rows {
                row.point = format!("{name} {}", row.point);
                row.series = format!("{name} {}", row.series);
            }
            own.runs.iter_mut().for_each(|run| run.point = format!("{name} {}", run.point));
            whole.rows.append(&mut own.rows);
            whole.runs.append(&mut own.runs);
        }
        whole
    }

    /// The part of a sweep whose deployments are jobs of their own, with the names that the points have in it.
    fn within_sweep(mut self, plan: &Plan) -> Self {
        let Some(deployment) = plan.deployments.first().filter(|_| !plan.is_sweep()) else { return self };
        self.rows.iter_mut().for_each(|row| row.point = deployment.named(&row.point));
        self.runs.iter_mut().for_each(|run| run.point = deployment.named(&run.point));
        self
    }
}

/// The head of the report of a sweep whose deployments are jobs of their own; `None` for other experiments.
fn of_sweep(measured: &[Measured]) -> Option<Header> {
    let first = &measured.first()?.plan;
    let is_part = |one: &Measured| {
        one.plan.input.choices.deployment.is_some() && one.plan.input.recipe == first.input.recipe
    };
    let mut header = Header {
        name: first.name.clone(),
        summary: format!("{} ({} jobs of one sweep)", first.summary, measured.len()),
        recipe: Some(first.input.recipe.text.clone()),
        ..together(measured)
    };
    for one in measured {
        header.unmeasured.extend(Header::of_run(&one.experiment, &one.plan, &one.rows).unmeasured);
    }
    measured.iter().all(is_part).then_some(header)
}

fn names(measured: &[Measured]) -> Vec<String> {
    let name = |(number, one): (usize, &Measured)| {
        let own = &one.plan.name;
        let is_alone = measured.iter().filter(|other| other.plan.name == *own).count() == 1;
        if is_alone { own.clone() } else { format!("{own}#{}", number + 1) }
    };
    measured.iter().enumerate().map(name).collect()
}

/// The head of a report of several experiments: theirs one after the other.
fn together(measured: &[Measured]) -> Header {
    let mut header =
        Header { summary: format!("{} experiments together", measured.len()), ..Header::default() };
    let (mut names_seen, mut commands) = (Vec::new(), String::new());
    for (name, one) in names(measured).into_iter().zip(measured) {
        let own = Header::of_run(&one.experiment, &one.plan, &one.rows);
        header.facts.push(("experiment", format!("{name}: {}", one.experiment.name())));
        header.facts.extend(own.facts);
        own.commands.into_iter().for_each(|lines| commands.push_str(&format!("# {name}\n{lines}")));
        header.reproduced = header.reproduced.or(own.reproduced.map(|told| format!("{name}: {told}")));
        names_seen.push(name);
    }
    header.name = names_seen.join(", ");
    header.commands = (!commands.is_empty()).then_some(commands);
    header
}
