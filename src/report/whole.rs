//! What one report shows of one experiment or of several.

use super::material::{self, Run};
use super::{Header, Measured, PointResult};

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
