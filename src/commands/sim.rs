//! `tokmark sim`: serves the simulated engine until it is stopped.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use clap::Parser;

use super::printer::Printer;
use crate::document::{InputError, InputErrors};
use crate::launcher::{Arg, Role};
use crate::plan::Plan;
use crate::recipe::Origin;
use crate::render::{Addresses, Placed};
use crate::run::Signals;
use crate::sim::{ConfigError, Faults, Overrides, ServeEnd, SimConfig, run_until};

/// Serve a SIMULATED OpenAI-compatible engine: no GPU, no model, real timing from a model of continuous batching.
#[derive(Debug, clap::Args)]
pub struct SimArgs {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Port to listen on; 0 picks a free one
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// Profile: quick, a10g, h100, h200, b200, gb200, one of the GPUs with a model (h100/llama-3.3-70b), or a .toml
    /// file with the fields of one profile
    #[arg(long, default_value = "quick", value_name = "NAME|FILE")]
    profile: String,
    #[command(flatten)]
    overrides: Overrides,
    #[command(flatten)]
    faults: Faults,
}

/// The mistakes that the simulated engine of a plan would die of: an unknown profile, too few GPUs for it, more context than its
/// cache holds.
pub(super) fn check(plan: &Plan) -> Result<(), InputErrors> {
    #[derive(Debug, clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: SimArgs,
    }
    let is_sim = |role: &Role| role.argv.get(1) == Some(&Arg::One("sim".into()));
    if !plan.launcher().simulated || !plan.launcher().roles.iter().any(is_sim) {
        return Ok(());
    }
    let mut errors = Vec::new();
    for deployment in &plan.deployments {
        let addresses = Addresses::sample(plan, deployment);
        let placed = Placed { plan, deployment, addresses: &addresses };
        let argv = deployment.processes.first().and_then(|process| placed.process(process).ok());
        let argv = argv.map(|rendered| rendered.argv).unwrap_or_default();
        let Ok(Command { args }) = Command::try_parse_from(argv.iter().skip(1)) else { continue };
        let config = SimConfig::new(&args.profile, &args.overrides);
        errors.extend(config.err().map(|error| located(plan, &error)));
    }
    InputErrors::check(errors)
}

/// An error of the simulated engine at the key whose option it names.
fn located(plan: &Plan, error: &ConfigError) -> InputError {
    let (flag, problem, expected) = match error {
        ConfigError::Value { flag, found, expected } => (*flag, format!("found {found}"), Some(expected)),
        ConfigError::Profile { .. } => ("--profile", error.to_string(), None),
    };
    let name = flag.trim_start_matches('-').replace('-', "_");
    let key = if name == "tp" { "deploy.tp".to_owned() } else { format!("deploy.engine.{name}") };
    let error = InputError::new("", problem).key(&key);
    let mut error = plan.locate(expected.map_or(error.clone(), |expected| error.expected(expected)));
    if plan.input.choices.set(&key).is_some() {
        error.origin = Origin::Set.to_string();
    }
    error
}

/// Serves until a signal arrives. With `--crash-after` the process ends here, with exit code 1.
pub fn run(printer: Printer, args: SimArgs) -> anyhow::Result<()> {
    let config = SimConfig::new(&args.profile, &args.overrides)?.with_faults(args.faults)?;
    let config = SimConfig { host: args.host, port: args.port, ..config };
    allow_many_connections();
    let profile = config.profile.clone();
    let announce = |address| {
        // Whoever started the server may have closed the pipe.
        let _ = printer
            .line(format!("tokmark sim: listening on http://{address} (profile {profile}, SIMULATED)"));
    };
    match run_until(config, announce, signalled())? {
        ServeEnd::Stopped => Ok(()),
        ServeEnd::Crashed => {
            // A line that fatal log patterns look for.
            printer.error("CUDA error: out of memory (simulated)");
            std::process::exit(1);
        }
    }
}

/// Raises the limit of open files, because each connection needs a descriptor and 1,024 is a common limit. If that fails,
/// accepting waits.
fn allow_many_connections() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

async fn signalled() {
    match Signals::listen() {
        Ok(signals) => drop(signals.first().await),
        // Without a handler the signal itself ends the process, as intended.
        Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use clap::Args;

    use super::*;

    #[test]
    fn the_table_of_options_is_that_of_the_command_line() {
        let command = SimArgs::augment_args(clap::Command::new("sim"));
        let of_launcher = ["host", "port", "model", "tp"];
        let flags = command.get_arguments().filter_map(|arg| Some(arg.get_long()?.replace('-', "_")));
        let mut flags: Vec<String> = flags.filter(|flag| !of_launcher.contains(&flag.as_str())).collect();
        flags.sort();
        let launcher = crate::launcher::find("sim", None, "").expect("built in").launcher;
        assert_eq!(flags, launcher.options.names());
    }
}
