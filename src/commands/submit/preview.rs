//! `submit --dry-run`: shows each script, each sbatch call, and what the environment changed in them.

use std::path::Path;

use serde_json::{Value, json};

use super::Ready;
use crate::commands::printer::Printer;
use crate::executor::error::Call;
use crate::plan::Plan;
use crate::recipe::Origin;
use crate::slurm::sbatch;

/// Shows everything; with several scripts, each below a line that names its job.
pub(super) fn show(
    printer: Printer,
    ready: &[Ready],
    options: &[String],
    is_list: bool,
) -> anyhow::Result<()> {
    let argv = sbatch::argv(Path::new("SCRIPT"), options);
    if printer.is_json() {
        let all: Vec<Value> = ready.iter().map(|ready| as_json(ready, &argv)).collect();
        return printer.json_list(&all, is_list);
    }
    let call = Call(argv);
    for (number, task) in (1..).zip(ready) {
        let several = ready.len() > 1;
        if several {
            printer.line(format!("# job {number} of {}: {}", ready.len(), task.job.describe()))?;
        }
        printer.text(&task.script)?;
        let which = if several { format!("job {number}: ") } else { String::new() };
        for (what, from) in from_outside(&task.job.plan) {
            printer.error(format!("{which}{what} from {from}"));
        }
        printer.error(format!("{which}would call: {call}"));
    }
    Ok(())
}

/// Values and directives set by environment variables, each with its variable.
pub(crate) fn from_outside(plan: &Plan) -> Vec<(String, String)> {
    let values = plan.overridden().into_iter();
    let values = values.filter(|(_, _, origin)| matches!(origin, Origin::Variable { .. }));
    let values = values.map(|(key, value, origin)| (format!("{key} = {value}"), origin.to_string()));
    let directives = plan.job.from_variables.iter();
    values.chain(directives.map(|(directive, from)| (directive.clone(), from.to_string()))).collect()
}

fn as_json(task: &Ready, argv: &[String]) -> Value {
    let from: Vec<Value> = from_outside(&task.job.plan)
        .into_iter()
        .map(|(what, from)| json!({"what": what, "from": from}))
        .collect();
    task.job.as_json(json!({"argv": argv, "script": task.script, "environment": from}))
}
