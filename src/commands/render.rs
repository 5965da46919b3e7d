//! `tokmark render RECIPE`: prints the job script, and with `--explain` every process it would start.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::flags::ExperimentFlags;
use super::planning;
use super::printer::Printer;
use crate::deploy::explain;
use crate::experiment::files;
use crate::plan::choices::Choices;
use crate::render;

#[derive(Debug, Args)]
pub struct RenderArgs {
    /// Recipe: file, name or alias
    recipe: String,
    /// Total number of GPUs: one of the recipe's scales [default: its own]
    #[arg(long, value_name = "N")]
    scale: Option<u32>,
    /// Write the script to a file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Let the job only warn about faulty model weights
    #[arg(long)]
    no_weights_check: bool,
    /// Also show each process: argv, environment (secrets masked), node and GPUs, with made-up hosts
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    flags: ExperimentFlags,
}

/// Creates the folder of the job's output, because Slurm does not.
pub fn run(printer: Printer, args: &RenderArgs) -> anyhow::Result<()> {
    let planning = args.flags.planning(printer)?;
    let choices = Choices { no_weights_check: args.no_weights_check, ..planning.at_scale(args.scale) };
    let plan = planning.plan_named(&args.recipe, choices)?;
    planning::warn_about_time(printer, &plan);
    let script = render::script(&plan, &planning::this_binary()?, &[])?;
    let explained = if args.explain { explain::comments(&plan)? } else { String::new() };
    fs_err::create_dir_all(&plan.input.experiments).context("cannot make the folder for the job's output")?;
    match &args.output {
        Some(path) => {
            files::replace(path, script.as_bytes())
                .with_context(|| format!("cannot write {}", path.display()))?;
            printer.text(&explained)?;
            printer.note(format!(
                "wrote {}; submit it with: sbatch {}",
                path.display(),
                render::quote(&path.display().to_string())
            ));
        }
        None => printer.text(&format!("{script}{explained}"))?,
    }
    Ok(())
}
