//! `tokmark submit RECIPE`: render, sbatch, and with `--wait` the result.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use serde_json::json;

use super::{jobs, output, planning};
use crate::cli::Global;
use crate::executor::error::Call;
use crate::executor::slurm::Slurm;
use crate::experiment::{Experiment, Manifest, files};
use crate::plan::Plan;
use crate::render;
use crate::slurm::{JobId, sbatch};

/// Arguments of `submit`.
#[derive(Debug, Args)]
pub struct SubmitArgs {
    /// Recipe: file, name or alias
    recipe: String,
    /// Show the script and the sbatch call; submit nothing, write nothing
    #[arg(long)]
    dry_run: bool,
    /// Wait for the end of the job and pass on its exit code
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    /// One more sbatch option, e.g. --slurm-arg=--nodelist=node3 (repeatable)
    #[arg(long = "slurm-arg", value_name = "ARG", allow_hyphen_values = true)]
    slurm_args: Vec<String>,
    /// Do not look for the model's weights, image, tokenizer and prompt files on this machine
    #[arg(long)]
    no_weights_check: bool,
    /// Print the job as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(global: &Global, args: &SubmitArgs) -> anyhow::Result<()> {
    let plan = planning::plan(global, &args.recipe)?.plan;
    if !args.no_weights_check {
        planning::check_weights(global, &plan)?;
        planning::check_image(global, &plan)?;
        planning::check_connection(&plan, false)?;
        planning::check_prompts(&plan)?;
    }
    let script = render::script(&plan, &planning::this_binary()?, &[])?;
    if args.dry_run {
        output::text(&script)?;
        output::note(&format!("would call: {}", Call(sbatch::argv(Path::new("SCRIPT"), &args.slurm_args))));
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (job, experiment) = submit(&plan, &script, &args.slurm_args).await?;
        announce(global, args, &job, &experiment)?;
        if args.wait {
            jobs::wait_for(global, &Slurm::default(), &job, experiment.dir(), args.json).await
        } else {
            Ok(())
        }
    })
}

fn announce(global: &Global, args: &SubmitArgs, job: &JobId, experiment: &Experiment) -> anyhow::Result<()> {
    if args.json && args.wait {
        output::note(&format!("submitted job {job}"));
        return Ok(());
    }
    if args.json {
        return output::json(&json!({"job": job, "experiment": experiment.dir()}));
    }
    output::line(&format!("submitted job {job}"))?;
    if !global.quiet {
        output::line(&format!("results: {}", experiment.dir().display()))?;
        if !args.wait {
            output::line(&format!("next: tokmark jobs wait {job} | tokmark jobs log {job}"))?;
        }
    }
    Ok(())
}

/// Hands the script to sbatch and creates the experiment's skeleton. The job may have done so already.
async fn submit(plan: &Plan, script: &str, more: &[String]) -> anyhow::Result<(JobId, Experiment)> {
    let folder = Path::new(&plan.experiments);
    let path: PathBuf = folder.join(format!(".submit-{}.sbatch", std::process::id()));
    let is_new = !folder.exists();
    fs_err::create_dir_all(folder).context("cannot make the folder of the experiments")?;
    files::replace(&path, script.as_bytes())?;
    let submitted = Slurm::default().submit(&path, more).await;
    fs_err::remove_file(&path)?;
    if submitted.is_err() && is_new {
        // Unless somebody else uses it by now.
        let _in_use = std::fs::remove_dir(folder);
    }
    let job = submitted?;
    let experiment = Experiment::of_job(plan, job.as_str());
    let skeleton = || -> std::io::Result<()> {
        fs_err::create_dir_all(experiment.dir())?;
        experiment.ensure(plan, Some(script))?;
        experiment.link_output(job.as_str());
        Manifest::now(plan, Some(job.as_str()), "submit").create(experiment.dir()).map(drop)
    };
    // The job is in the queue: from here on nothing may look as if it were not.
    if let Err(error) = skeleton() {
        output::note(&format!(
            "warning: job {job} is submitted, its directory will be made by the job itself: {error}"
        ));
    }
    Ok((job, experiment))
}
