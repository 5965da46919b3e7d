//! `tokmark sim`: serves the simulated engine until it is stopped.

use std::net::SocketAddr;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::run::Signals;
use crate::sim::{Faults, Overrides, ServeEnd, SimConfig, run_until};

/// Serve a SIMULATED OpenAI-compatible engine: no GPU, no model, real timing from a model of continuous batching.
#[derive(Debug, clap::Args)]
pub struct SimArgs {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    pub host: String,
    /// Port to listen on; 0 picks a free one
    #[arg(long, default_value_t = 8000)]
    pub port: u16,
    /// Profile: quick, a10g, h100, h200, b200, gb200, one of the GPUs with a model (h100/llama-3.3-70b), or a .toml
    /// file with the fields of one profile
    #[arg(long, default_value = "quick", value_name = "NAME|FILE")]
    pub profile: String,
    /// Served model name [default: the profile's]
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Tensor-parallel size: more GPUs compute faster and hold more KV blocks [default: the profile's]
    #[arg(long, value_name = "GPUS")]
    pub tp: Option<u32>,
    /// Seed of output lengths, texts, ids and faults
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Sequences that run at once; the others queue [default: the profile's]
    #[arg(long, value_name = "N")]
    pub max_num_seqs: Option<u32>,
    /// Tokens computed in one step, prefill and decode together [default: the profile's]
    #[arg(long, value_name = "TOKENS")]
    pub max_num_batched_tokens: Option<u32>,
    /// Longest prompt and answer together [default: the profile's]
    #[arg(long, value_name = "TOKENS")]
    pub max_model_len: Option<u32>,
    /// KV blocks; sequences are preempted when they run out [default: the profile's for --tp]
    #[arg(long, value_name = "BLOCKS")]
    pub num_gpu_blocks: Option<u32>,
    /// Tokens per KV block [default: the profile's]
    #[arg(long, value_name = "TOKENS")]
    pub block_size: Option<u32>,
    /// Run this many times faster than the profile
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    pub speed: f64,
    /// Fault: answer this share of the requests (0 to 1, chosen by the seed) with 503
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub fail_rate: f64,
    /// Fault: listen only after this many seconds, like a server that loads a model
    #[arg(long, default_value_t = 0.0, value_name = "SECONDS")]
    pub startup_delay: f64,
    /// Fault: exit with code 1 after this many answered requests
    #[arg(long, value_name = "N")]
    pub crash_after: Option<u64>,
    /// Fault: the answer to the Nth request stops half-way and never ends
    #[arg(long, value_name = "N")]
    pub stall_after: Option<u64>,
}

impl SimArgs {
    fn config(&self) -> anyhow::Result<SimConfig> {
        let overrides = Overrides {
            model: self.model.clone(),
            tp: self.tp,
            max_num_seqs: self.max_num_seqs,
            max_num_batched_tokens: self.max_num_batched_tokens,
            max_model_len: self.max_model_len,
            num_gpu_blocks: self.num_gpu_blocks,
            block_size: self.block_size,
            speed: Some(self.speed),
        };
        let faults = Faults {
            fail_rate: self.fail_rate,
            startup_delay_s: self.startup_delay,
            crash_after: self.crash_after,
            stall_after: self.stall_after,
        };
        let config = SimConfig::new(&self.profile, &overrides)?.with_faults(faults)?;
        Ok(SimConfig { host: self.host.clone(), port: self.port, seed: self.seed, ..config })
    }
}

/// Serves until a signal arrives. With `--crash-after` the process ends here, with exit code 1.
pub fn run(args: SimArgs) -> anyhow::Result<()> {
    let config = args.config()?;
    allow_many_connections();
    let profile = config.profile.clone();
    match run_until(config, |address| announce(address, &profile), signalled())? {
        ServeEnd::Stopped => Ok(()),
        ServeEnd::Crashed => crash(),
    }
}

/// Raises the limit of open files, because each connection needs a descriptor and 1,024 is a common limit. If that fails,
/// accepting waits.
fn allow_many_connections() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

#[expect(clippy::print_stdout, reason = "the line that says where the server listens")]
fn announce(address: SocketAddr, profile: &str) {
    println!("tokmark sim: listening on http://{address} (profile {profile}, SIMULATED)");
}

#[expect(clippy::print_stderr, reason = "the line a fatal log pattern looks for")]
fn crash() -> ! {
    eprintln!("CUDA error: out of memory (simulated)");
    std::process::exit(1);
}

async fn signalled() {
    match Signals::listen() {
        Ok(signals) => drop(signals.first().await),
        // Without a handler the signal itself ends the process, as intended.
        Err(_) => std::future::pending().await,
    }
}
