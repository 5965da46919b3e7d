//! The command line: names, help and types. What a verb does is in `commands`.

use std::ffi::OsString;

use clap::{CommandFactory, Parser, Subcommand};

use crate::commands::flags::Verbosity;
use crate::commands::printer::Printer;
pub use crate::commands::printer::print_error;
use crate::commands::{
    VERSION, bench, check, compare, completions, doctor, exec, export, foreign, history, init, jobs, keep,
    list, node, prompts, render, report, run, schema, show, sim, submit, verify, zones,
};

const EXIT_CODES: &str = "\
Exit codes: 0 ok · 1 bug · 2 bad usage, recipe or site · 3 Slurm or files ·
4 server failed or never ready · 5 result invalid, not reproduced or worse ·
130 interrupted";

/// Benchmark LLM inference servers from recipes, on Slurm or on this machine
#[derive(Debug, Parser)]
#[command(name = "tokmark", version = VERSION, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub verbosity: Verbosity,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List recipes and workloads
    List(list::ListArgs),
    /// Show a recipe: each value with its origin, knobs, load points
    Show(show::ShowArgs),
    /// Show, count or save the prompts of a load point
    Prompts(Box<prompts::PromptsArgs>),
    /// Check recipes as far as possible without running them
    Check(check::CheckArgs),
    /// Write the sbatch script of a recipe
    Render(render::RenderArgs),
    /// Render recipes and submit them to Slurm
    Submit(Box<submit::SubmitArgs>),
    /// Run a recipe on this machine, or in the Slurm allocation around this shell
    Run(run::RunArgs),
    /// Run the plan of a job script (the script calls it)
    Exec(exec::ExecArgs),
    /// Describe this machine as JSON (called on compute nodes)
    #[command(hide = true)]
    Node(node::NodeArgs),
    /// Start a program that does not outlive this tokmark (called by runs)
    #[command(hide = true)]
    Keep(keep::KeepArgs),
    /// Measure a running OpenAI-compatible endpoint
    Bench(Box<bench::BenchArgs>),
    /// List, follow, wait for or cancel jobs and local runs
    Jobs(jobs::JobsArgs),
    /// Write the report of experiments again, from their records
    Report(report::ReportArgs),
    /// Compare experiments with a baseline: what differs, which figures are better or worse
    Compare(compare::CompareArgs),
    /// Show the load points of all experiments over time, and regressions
    History(history::HistoryArgs),
    /// Compare results with published figures, and with references of this cluster
    Verify(verify::VerifyArgs),
    /// Show how much load a deployment takes: zones, operating points, saturation
    Zones(zones::ZonesArgs),
    /// Write the records of an experiment in other tools' formats
    Export(export::ExportArgs),
    /// Start the simulated engine, an OpenAI-compatible server without a GPU
    Sim(sim::SimArgs),
    /// Write a site file by querying the cluster
    Init(Box<init::InitArgs>),
    /// Check that the site file fits the cluster: partition, GPUs, containers, paths
    Doctor(doctor::DoctorArgs),
    /// Print the JSON Schema of recipes, launchers, sites or summaries
    Schema(schema::SchemaArgs),
    /// Print the completions of a shell: bash, zsh or fish
    Completions(completions::CompletionsArgs),
    /// Print or write the man pages
    Man(completions::ManArgs),
}

/// Shared flags that take a value.
const WITH_VALUE: [&str; 5] = ["--site", "--set", "--experiments", "--gpu", "--scale-load"];

/// The arguments with the shared flags before the verb (`tokmark --site s.toml run …`) moved behind it, because each verb
/// declares the ones that it uses.
fn shared_flags_behind_verb(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    let (mut at, mut shared) = (1, Vec::new());
    while let Some(arg) = args.get(at).and_then(|arg| arg.to_str()).filter(|arg| arg.starts_with('-')) {
        let (name, inline) = arg.split_once('=').map_or((arg, false), |(name, _)| (name, true));
        let taken = match (WITH_VALUE.contains(&name), inline) {
            (true, false) => 2,
            (true, true) => 1,
            (false, _) => usize::from(arg == "--rehearse"),
        };
        if taken == 0 {
            at += 1;
        } else {
            shared.extend(args.drain(at..(at + taken).min(args.len())));
        }
    }
    let behind = (at + 1).min(args.len());
    args.splice(behind..behind, shared);
    args
}

/// Parses the command line. Prints help or an error, and exits, where clap would.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Cli {
    let args = shared_flags_behind_verb(args);
    Cli::try_parse_from(&args).unwrap_or_else(|error| foreign::explained(error, &args, Cli::command()).exit())
}

pub fn dispatch(cli: Cli) -> anyhow::Result<()> {
    let printer = Printer::new(cli.verbosity);
    match cli.command {
        Command::List(args) => list::run(printer, &args),
        Command::Show(args) => show::run(printer, &args),
        Command::Prompts(args) => prompts::run(printer, &args),
        Command::Check(args) => check::run(printer, &args),
        Command::Render(args) => render::run(printer, &args),
        Command::Submit(args) => submit::run(printer, &args),
        Command::Run(args) => run::run(printer, &args),
        Command::Exec(args) => exec::run(printer, &args),
        Command::Node(args) => node::run(printer, &args),
        Command::Keep(args) => keep::run(&args),
        Command::Bench(args) => bench::run(printer, &args),
        Command::Jobs(args) => jobs::run(printer, &args),
        Command::Report(args) => report::run(printer, &args),
        Command::Compare(args) => compare::run(printer, &args),
        Command::History(args) => history::run(printer, &args),
        Command::Verify(args) => verify::run(printer, &args),
        Command::Zones(args) => zones::run(printer, &args),
        Command::Export(args) => export::run(printer, &args),
        Command::Sim(args) => sim::run(printer, args),
        Command::Init(args) => init::run(printer, &args),
        Command::Doctor(args) => doctor::run(printer, &args),
        Command::Schema(args) => schema::run(printer, &args),
        Command::Completions(args) => completions::run(printer, &args, Cli::command()),
        Command::Man(args) => completions::man(printer, &args, Cli::command()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_flags_may_stand_before_the_verb() {
        let moved = |line: &str| {
            let args = shared_flags_behind_verb(line.split(' ').map(OsString::from));
            args.join(" ".as_ref()).into_string().expect("text")
        };
        for (given, expected) in [
            ("t run r --site s", "t run r --site s"),
            ("t --site s -q --set=a=1 run r --gpu x", "t -q run --site s --set=a=1 r --gpu x"),
            ("t --rehearse run r", "t run --rehearse r"),
            ("t -v jobs wait 1", "t -v jobs wait 1"),
            ("t --site", "t --site"),
            ("t --help", "t --help"),
        ] {
            assert_eq!(moved(given), expected, "{given}");
        }
    }
}
