//! `tokmark sim`: serves the simulated engine until it is stopped.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::printer::Printer;
use crate::run::Signals;
use crate::sim::{Faults, Overrides, ServeEnd, SimConfig, run_until};

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
