//! `tokmark doctor`: checks the site file against the cluster; prints a table or JSON, and sets an exit code.

use clap::Args;

use super::planning;
use super::printer::Printer;
use crate::doctor::examine::{Examination, gpu_types};
use crate::doctor::{Finding, Status};
use crate::error::{self, Ended};
use crate::executor::Slurm;
use crate::flags::{ExperimentFlags, Global};
use crate::plan::Plan;
use crate::site::SiteFile;

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Also check this recipe's job, weights and image (repeatable)
    #[arg(long = "recipe", value_name = "RECIPE")]
    recipes: Vec<String>,
    /// Start no job: skip the checks on compute nodes
    #[arg(long)]
    no_job: bool,
    /// Seconds that the short job may wait in the queue
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    wait: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Shared with other verbs
    #[command(flatten)]
    pub flags: ExperimentFlags,
}

/// Runs the verb. Exits with 2 after a failed check, with 3 if Slurm does not answer.
pub fn run(global: &Global, args: &DoctorArgs) -> anyhow::Result<()> {
    let printer = Printer::new(global, args.json);
    let site = SiteFile::load(global.site.as_deref())?;
    let mut findings = vec![site_file(&site)];
    let mut plans: Vec<Plan> = Vec::new();
    for recipe in &args.recipes {
        match planning::plan(global, recipe, None) {
            Ok(plan) => plans.push(plan),
            Err(errors) => findings.push(
                Finding::fail("recipe", errors.to_string(), format!("tokmark check {recipe}")).about(recipe),
            ),
        }
    }
    let examination = Examination {
        site: &site.site,
        gpus: gpu_types(&site.site, global.gpu.as_deref()),
        plans: &plans,
        experiments: planning::experiments(global, &site)?,
        tokmark: planning::this_binary()?,
        wait_s: (!args.no_job).then_some(args.wait),
        on_job: &|call| printer.detail(call),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let examined = runtime.block_on(examination.run(&Slurm::default()));
    let code = match examined {
        Ok(mut more) => {
            findings.append(&mut more);
            error::USAGE
        }
        Err(error) => {
            findings.push(Finding::fail(
                "slurm",
                error.to_string(),
                "the other checks of the cluster were skipped",
            ));
            findings.extend(examination.files());
            error::INFRASTRUCTURE
        }
    };
    printer.result(|| &findings, || table(&findings))?;
    let count = |status| findings.iter().filter(|finding| finding.status == status).count();
    let failed = count(Status::Fail);
    if failed > 0 {
        let message = format!("{failed} of {} checks failed", findings.len());
        return Err(Ended { code, message }.into());
    }
    if !printer.is_json() {
        let warned = count(Status::Warn);
        printer.note(format!("{} checks, {warned} with a warning, none failed", findings.len()));
    }
    Ok(())
}

fn site_file(site: &SiteFile) -> Finding {
    match &site.document {
        Some(document) => Finding::ok("site", document.file.clone()),
        None => Finding::warn("site", "no site file: all values are defaults", "write one: tokmark init"),
    }
}

/// One line per finding, followed by the advice.
fn table(findings: &[Finding]) -> String {
    let about = |finding: &Finding| finding.about.clone().unwrap_or_default();
    let width = |of: &dyn Fn(&Finding) -> usize| findings.iter().map(of).max().unwrap_or(0);
    let check = width(&|finding| finding.check.chars().count());
    let subject = width(&|finding| about(finding).chars().count());
    let gap = if subject > 0 { "  " } else { "" };
    let indent = " ".repeat("fail".len() + 2 + check + gap.len() + subject + 2);
    let mut text = String::new();
    for finding in findings {
        let found = finding.found.trim().replace('\n', &format!("\n{indent}"));
        text.push_str(&format!(
            "{:4}  {:check$}{gap}{:subject$}  {found}\n",
            finding.status.name(),
            finding.check,
            about(finding)
        ));
        if let Some(next) = &finding.next {
            text.push_str(&format!("{indent}next: {next}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_what_to_do_next() {
        let findings = [
            Finding::ok("slurm", "Slurm 24.11 answers"),
            Finding::fail("gres", "they have 4", "set per_node = 4").about("h100"),
        ];
        let expected = "ok    slurm        Slurm 24.11 answers\n\
                        fail  gres   h100  they have 4\n\
                        \u{20}                  next: set per_node = 4\n";
        assert_eq!(table(&findings), expected);
    }
}
