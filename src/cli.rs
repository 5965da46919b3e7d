//! The command line: names, help and types. What a verb does is in `commands`.

use clap::{Parser, Subcommand};

use crate::commands::{
    bench, check, doctor, exec, init, jobs, list, no_recipe, node, prompts, render, run, schema, show, sim,
    submit, verify,
};
use crate::flags::{Global, VERSION};

const EXIT_CODES: &str = "\
Exit codes: 0 ok · 1 bug · 2 bad usage, recipe or site · 3 Slurm or files ·
4 server failed or never ready · 5 gate failed (invalid, not reproduced) ·
130 interrupted";

/// Benchmark LLM inference servers from recipes, on Slurm or on this machine
#[derive(Debug, Parser)]
#[command(name = "tokmark", version = VERSION, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    /// What every verb takes
    #[command(flatten)]
    pub global: Global,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Recipes there are, and what can be submitted
    List(list::ListArgs),
    /// One recipe resolved, with the origin of each value, its knobs and its load points
    Show(show::ShowArgs),
    /// What a load point sends, before it is sent
    Prompts(Box<prompts::PromptsArgs>),
    /// Everything that can be known before a job runs
    Check(check::CheckArgs),
    /// The sbatch script of a recipe
    Render(render::RenderArgs),
    /// Render recipes and submit them to Slurm
    Submit(submit::SubmitArgs),
    /// Run a recipe here: on this machine, or in the Slurm allocation that this is
    Run(run::RunArgs),
    /// Run a frozen plan inside an allocation (called by the job script)
    Exec(exec::ExecArgs),
    /// What this machine says of itself, as JSON (called on compute nodes)
    #[command(hide = true)]
    Node(node::NodeArgs),
    /// The load engine alone, against any OpenAI-compatible endpoint
    Bench(Box<bench::BenchArgs>),
    /// Jobs and local runs: history, logs, waiting, cancelling
    Jobs(jobs::JobsArgs),
    /// Hold experiments against the figures that their recipe publishes
    Verify(verify::VerifyArgs),
    /// The simulated engine: an OpenAI-compatible server without a GPU
    Sim(sim::SimArgs),
    /// Write a site file by asking the cluster
    Init(Box<init::InitArgs>),
    /// Whether the site file and the cluster fit: partition, GPUs, containers, paths, clocks
    Doctor(doctor::DoctorArgs),
    /// JSON Schemas of the files users write and tokmark produces
    Schema(schema::SchemaArgs),
}

impl Command {
    /// Whether it plans recipes, so that the options about their load mean something.
    fn plans(&self) -> bool {
        use Command::{Check, Doctor, Prompts, Render, Run, Show, Submit};
        matches!(self, Show(_) | Prompts(_) | Check(_) | Render(_) | Submit(_) | Run(_) | Doctor(_))
    }
}

/// Does what the command line asks for.
pub fn dispatch(cli: Cli) -> anyhow::Result<()> {
    let global = &cli.global;
    if !cli.command.plans() {
        no_recipe(global)?;
    }
    match cli.command {
        Command::List(args) => list::run(global, &args),
        Command::Show(args) => show::run(global, &args),
        Command::Prompts(args) => prompts::run(global, &args),
        Command::Check(args) => check::run(global, &args),
        Command::Render(args) => render::run(global, &args),
        Command::Submit(args) => submit::run(global, &args),
        Command::Run(args) => run::run(global, &args),
        Command::Exec(args) => exec::run(global, &args),
        Command::Node(args) => node::run(&args),
        Command::Bench(args) => bench::run(global, *args),
        Command::Jobs(args) => jobs::run(global, &args),
        Command::Verify(args) => verify::run(global, &args),
        Command::Sim(args) => sim::run(args),
        Command::Init(args) => init::run(global, &args),
        Command::Doctor(args) => doctor::run(global, &args),
        Command::Schema(args) => schema::run(&args),
    }
}
