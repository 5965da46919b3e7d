//! `tokmark run RECIPE`: runs a recipe without submitting a job: as processes on this machine, or as steps on the nodes of a
//! surrounding Slurm allocation.

pub(super) mod allocation;
mod interruption;
pub(super) mod session;
mod suite;

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::block_on;
use super::export::ExportOption;
use super::flags::{ExperimentFlags, up_to};
use super::printer::Printer;
use super::submit;
use crate::deploy::{Place, ports};
use crate::document::InputError;
use crate::experiment::{Experiment, Manifest};
use crate::plan::Plan;
use crate::plan::choices::{Choices, Flag};
use crate::recipe::search::Goal;
use crate::run::preflight;

#[derive(Debug, Args)]
#[command(after_help = "\
A recipe reads some of its values from environment variables, its knobs:
CONCURRENCY=64 tokmark run RECIPE; `tokmark show RECIPE` lists them.")]
pub struct RunArgs {
    /// Recipe: file, name or alias
    #[arg(required_unless_present = "file")]
    recipe: Option<String>,
    // Set as `help`, because rustdoc takes the brackets for a link.
    #[arg(short, long, help = "Run a suite: every [[job]] table of a file, one after the other", value_name = "FILE", conflicts_with_all = ["recipe", "scale"])]
    file: Option<PathBuf>,
    /// Total number of GPUs: one of the recipe's scales [default: its own]
    #[arg(long, value_name = "N")]
    scale: Option<u32>,
    /// Measure each load point this many times on its servers, in shuffled order
    #[arg(long, value_name = "N", value_parser = up_to(u32::MAX))]
    repeats: Option<u32>,
    /// Look for the largest load that keeps an objective, e.g. "ttft.p99 < 500ms" (repeatable); or for the highest `throughput`
    #[arg(long, value_name = "GOAL")]
    search: Vec<Goal>,
    /// Only warn about faulty model weights
    #[arg(long)]
    no_weights_check: bool,
    /// Run on this machine even inside a Slurm allocation
    #[arg(long)]
    local: bool,
    #[command(flatten)]
    exports: ExportOption,
    /// Print JSON instead of the table: the summaries, or a suite's experiments
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: ExperimentFlags,
}

/// Reports every foreseeable failure before creating the experiment directory.
pub fn run(printer: Printer, args: &RunArgs) -> anyhow::Result<()> {
    let printer = printer.with_json(args.json);
    let planning = args.flags.planning(printer)?;
    let mut choices = Choices { no_weights_check: args.no_weights_check, ..planning.at_scale(args.scale) };
    choices.flags.extend(args.exports.flag());
    choices.flags.extend(args.repeats.map(|repeats| Flag {
        flag: "--repeats".into(),
        key: "load.repeats".into(),
        value: i64::from(repeats).into(),
    }));
    if !args.search.is_empty() {
        let goals: Vec<toml::Value> = args.search.iter().map(|goal| goal.to_string().into()).collect();
        choices.flags.push(Flag { flag: "--search".into(), key: "search.goal".into(), value: goals.into() });
    }
    if let Some(file) = &args.file {
        return suite::run(printer, &planning, file, args.local, &choices);
    }
    let plan = planning.plan_named(args.recipe.as_deref().unwrap_or_default(), choices)?;
    name_outside(printer, [&plan]);
    preflight::check(&plan)?;
    let (place, note) = place(args.local, &plan)?;
    note.iter().for_each(|note| printer.note(note));
    let experiment = make(&plan, &place, jiff::Timestamp::now())?;
    session::conduct(printer, plan, place, experiment)?.show(printer, true)
}

/// Names each value that an environment variable set, once, because a variable left over in the shell changes a run in silence.
fn name_outside<'a>(printer: Printer, plans: impl IntoIterator<Item = &'a Plan>) {
    let mut named = Vec::new();
    for value in plans.into_iter().flat_map(submit::from_outside) {
        if !named.contains(&value) {
            printer.note(format!("{} from {}", value.0, value.1));
            named.push(value);
        }
    }
}

/// Creates the experiment's directory.
fn make(plan: &Plan, place: &Place, now: jiff::Timestamp) -> anyhow::Result<Experiment> {
    let job = place.job().map(ToString::to_string);
    let experiment = Experiment::by_time(plan, job.as_deref().unwrap_or("local"), now)
        .with_context(|| format!("cannot make an experiment directory in {}", plan.input.experiments))?;
    experiment.ensure(plan, None)?;
    Manifest::now(plan, job.as_deref(), "run").create(experiment.dir())?;
    Ok(experiment)
}

/// Where the servers run, and a note about it for the user.
fn place(local: bool, plan: &Plan) -> anyhow::Result<(Place, Option<String>)> {
    let inside = allocation::of_environment().filter(|_| !local);
    let Some((id, list)) = inside else {
        for port in plan.deployments.iter().filter_map(|deployment| deployment.port) {
            ports::must_be_free("127.0.0.1", port)?;
        }
        if let Some(large) = plan.deployments.iter().find(|deployment| deployment.nodes > 1) {
            return Err(InputError::new(
                &plan.input.recipe.file,
                format!("needs {} nodes, and this machine is one", large.nodes),
            )
            .key("deploy")
            .next("use `tokmark submit`, or `tokmark run` inside a Slurm allocation")
            .into());
        }
        let bare = "the site's containers are for Slurm jobs: here the servers run bare";
        return Ok((Place::Local, plan.container.as_ref().map(|_| bare.to_owned())));
    };
    let found = block_on(async {
        let allocation = allocation::of_job(&id, &list).await?;
        let allocated = allocation::allocated(&allocation, plan).await?;
        anyhow::Ok((allocation, allocated))
    });
    let (allocation, allocated) = found.with_context(|| {
        format!("$SLURM_JOB_ID says that this is inside job {id} (--local runs on this machine)")
    })?;
    plan.fits(&allocated)
        .map_err(|error| error.next("ask Slurm for more, or --local to run on this machine"))?;
    let more = if allocation.on_first { "" } else { "; the load is sent from here" };
    let note = format!("inside job {id}: the servers run on {}{more}", allocation.nodes.join(", "));
    Ok((Place::Allocation(Box::new(allocation)), Some(note)))
}
