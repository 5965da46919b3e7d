//! The sbatch script of a plan, and its `#SBATCH` lines.

use serde_json::json;

use super::{RenderError, render};
use crate::plan::Plan;
use crate::template::Context;

const JOB: &str = include_str!("../../templates/job.sbatch.tera");

/// The sbatch script of a plan. `tokmark` is the absolute path of the binary; `extra` directives come last and so override the
/// plan's.
pub fn script(plan: &Plan, tokmark: &str, extra: &[String]) -> Result<String, RenderError> {
    let output = format!("{}/slurm-%j.out", plan.input.experiments.replace('%', "%%"));
    let mut directives = plan.job.directives.clone();
    directives.push(format!("--output={output}"));
    directives.extend(extra.iter().cloned());
    let directives: Vec<String> = directives.iter().map(|line| directive(line)).collect::<Result<_, _>>()?;
    let frozen = serde_json::to_string_pretty(plan)
        .map_err(|error| RenderError::Template { what: "plan".into(), problem: error.to_string() })?;
    let mut context = Context::new();
    context.insert("version", &plan.input.version);
    context.insert("name", &plan.name);
    context.insert("summary", &plan.summary);
    context.insert("recipe_file", &plan.input.recipe.file);
    context.insert("experiment", &plan.experiment);
    context.insert("experiments", &plan.input.experiments);
    context.insert("directives", &directives);
    context.insert("setup", &plan.job.setup);
    context.insert("modules", &plan.job.modules);
    context.insert("venv", plan.job.venv.as_deref().unwrap_or_default());
    let binaries = plan.job.binary.iter().map(|(arch, path)| json!({"arch": arch, "path": path}));
    context.insert("binaries", &binaries.collect::<Vec<_>>());
    context.insert("tokmark", tokmark);
    context.insert("plan", &frozen);
    render("job.sbatch", JOB, &context, false)
}

/// A directive in sbatch's syntax: quotes values with blanks or quotes, and rejects line breaks, which would end it.
pub fn directive(line: &str) -> Result<String, RenderError> {
    if line.contains(['\n', '\r', '\0']) {
        let problem = format!("found {line:?}, expected one line");
        return Err(RenderError::Template { what: "an #SBATCH directive".into(), problem });
    }
    let plain = |c: char| !c.is_whitespace() && !matches!(c, '"' | '\'' | '\\' | '#');
    if line.chars().all(plain) {
        return Ok(line.to_owned());
    }
    match line.split_once('=') {
        Some((flag, value)) => Ok(format!("{flag}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))),
        None => Ok(line.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_one_line() {
        assert_eq!(directive("--comment=a b\"c").unwrap(), "--comment=\"a b\\\"c\"");
        assert!(directive("--comment=a\n#SBATCH x").is_err());
    }
}
