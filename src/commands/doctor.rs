//! `tokmark doctor`: checks the site file against the cluster; prints a table or JSON, and sets an exit code.

use clap::Args;

use super::flags::ExperimentFlags;
use super::printer::Printer;
use super::{block_on, planning};
use crate::doctor::examine::{Examination, gpu_types};
use crate::doctor::{Finding, Status, table};
use crate::error::{self, ExitError};
use crate::executor::Slurm;
use crate::plan::Plan;
use crate::site::SiteFile;

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Also check this recipe's job, weights and image (repeatable)
    #[arg(long = "recipe", value_name = "RECIPE")]
    recipes: Vec<String>,
    /// Start no job: skip the checks on compute nodes
    #[arg(long)]
    no_job: bool,
    /// Also start a container of each recipe's image on a node
    #[arg(long, requires = "recipes", conflicts_with = "no_job")]
    start: bool,
    /// Seconds that the short job may wait in the queue
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    wait: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: ExperimentFlags,
}

/// Exits with 2 after a failed check, with 3 if Slurm does not answer.
pub fn run(printer: Printer, args: &DoctorArgs) -> anyhow::Result<()> {
    let printer = printer.with_json(args.json);
    let planning = args.flags.planning(printer)?;
    let site = &planning.site;
    let mut findings = vec![site_file(site)];
    let mut plans: Vec<Plan> = Vec::new();
    for recipe in &args.recipes {
        match planning.plan_named(recipe, planning.choices.clone()) {
            Ok(plan) => plans.push(plan),
            Err(errors) => findings.push(
                Finding::fail("recipe", errors.to_string(), format!("tokmark check {recipe}")).about(recipe),
            ),
        }
    }
    let examination = Examination {
        site: &site.site,
        gpus: gpu_types(&site.site, planning.choices.gpu.as_deref()),
        plans: &plans,
        experiments: planning.experiments.clone(),
        tokmark: planning::this_binary()?,
        wait_s: (!args.no_job).then_some(args.wait),
        start: args.start,
        on_job: &|call| printer.detail(call),
    };
    let code = match block_on(async { Ok(examination.run(&Slurm::default()).await) })? {
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
    printer.result(|| &findings, || table::text(&findings))?;
    let count = |status| findings.iter().filter(|finding| finding.status == status).count();
    let failed = count(Status::Fail);
    if failed > 0 {
        let message = format!("{failed} of {} checks failed", findings.len());
        return Err(ExitError { code, message }.into());
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
