//! `submit --dry-run`: shows each script, each sbatch call, and what the environment changed in them.

use std::path::Path;

use serde_json::{Value, json};

use super::{Ready, SubmitArgs, parallel};
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
    args: &SubmitArgs,
) -> anyhow::Result<()> {
    let argv = |number: usize| {
        let before = parallel::before(number, args.parallel);
        let dependency = before.map(|before| parallel::dependency(&format!("JOB_{}", before + 1)));
        let options: Vec<String> = options.iter().cloned().chain(dependency).collect();
        sbatch::argv(Path::new("SCRIPT"), &options)
    };
    if printer.is_json() {
        let all: Vec<Value> = ready.iter().enumerate().map(|(at, ready)| as_json(ready, &argv(at))).collect();
        return printer.json_list(&all, args.is_list());
    }
    for (number, task) in (1_usize..).zip(ready) {
        let several = ready.len() > 1;
        if several {
            printer.line(format!("# job {number} of {}: {}", ready.len(), task.job.describe()))?;
        }
        printer.text(&task.script)?;
        let which = if several { format!("job {number}: ") } else { String::new() };
        for (what, from) in from_outside(&task.job.plan) {
            printer.error(format!("{which}{what} from {from}"));
        }
        printer.error(format!("{which}would call: {}", Call(argv(number - 1))));
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
