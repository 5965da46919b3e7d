//! `tokmark render RECIPE`: prints the job script, and with `--explain` every process it would start.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::planning;
use super::printer::Printer;
use crate::deploy::{place, spawn};
use crate::experiment::files;
use crate::flags::{ExperimentFlags, Global};
use crate::plan::Plan;
use crate::plan::choices::{Choices, Scale};
use crate::recipe::secret;
use crate::render::{self, Addresses, Placed};

/// Arguments of `render`.
#[derive(Debug, Args)]
pub struct RenderArgs {
    /// Recipe: file, name or alias
    recipe: String,
    /// GPUs in all: one of the scales the recipe offers [default: its own]
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
    /// Shared with other verbs
    #[command(flatten)]
    pub flags: ExperimentFlags,
}

/// Runs the verb. Creates the folder of the job's output, because Slurm does not.
pub fn run(global: &Global, args: &RenderArgs) -> anyhow::Result<()> {
    let printer = Printer::new(global, false);
    let scale = args.scale.map(Scale::of);
    let chosen = Choices { scale, no_weights_check: args.no_weights_check, ..planning::choices(global) };
    let plan = planning::plan_with(global, &args.recipe, chosen)?;
    let script = render::script(&plan, &planning::this_binary()?, &[])?;
    let explained = if args.explain { explain(&plan)? } else { String::new() };
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

/// Every process with sample addresses, as comments, so that the whole output remains a script.
fn explain(plan: &Plan) -> anyhow::Result<String> {
    let mut text = String::from("\n# What this starts, with made-up hosts and the preferred ports:\n");
    for deployment in &plan.deployments {
        let addresses = Addresses::sample(plan, deployment);
        let placed = Placed { plan, deployment, addresses: &addresses };
        if !deployment.id.is_empty() {
            text.push_str(&format!("# deployment {}\n", deployment.id));
        }
        for process in &deployment.processes {
            let spawn = placed.process(process)?;
            let nodes: Vec<&str> = process
                .nodes
                .iter()
                .filter_map(|node| addresses.nodes.get(*node as usize))
                .map(String::as_str)
                .collect();
            let gpus = if process.gpus.is_empty() {
                "none".into()
            } else {
                place::visible_gpus(&process.gpus, None)
            };
            let address = addresses.processes.get(&process.name).map(|address| &address.ports);
            let ports: String =
                address.into_iter().flatten().map(|(name, port)| format!(", {name} {port}")).collect();
            text.push_str(&format!(
                "#   {} on {}, {} task(s), GPUs {gpus}{ports}\n",
                process.name,
                nodes.join(","),
                process.tasks
            ));
            let bare = plan.launcher().role(&process.role).is_some_and(|role| role.bare);
            if let (Some(container), false) = (&plan.container, bare) {
                let mounts: String =
                    container.mounts.iter().map(|mount| format!(", mount {mount}")).collect();
                text.push_str(&comment("     container", &format!("{}{mounts}", container.image)));
            }
            for (name, value) in &spawn.env {
                text.push_str(&comment(
                    "     env",
                    &format!("{name}={}", render::quote(secret::shown(name, value))),
                ));
            }
            text.push_str(&comment("     argv", &spawn::shell_line(&spawn.argv, &Default::default())));
            for (path, content) in &spawn.files {
                text.push_str(&comment(&format!("     file {path}"), &format!("\n{content}")));
            }
        }
        for url in placed.endpoint_urls()? {
            text.push_str(&format!("#   endpoint {url}\n"));
        }
    }
    Ok(text)
}

fn comment(label: &str, value: &str) -> String {
    let mut lines = value.lines();
    let first = lines.next().unwrap_or_default();
    let rest: String = lines.map(|line| format!("#       {line}\n")).collect();
    format!("{}\n{rest}", format!("#{label} {first}").trim_end())
}
