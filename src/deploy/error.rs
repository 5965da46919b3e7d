//! Why servers failed to start or died, with the log lines that prove it.

use super::death::{self, Cause};
use super::no_api::{self, Tried};
use crate::document::{InputError, InputErrors};
use crate::executor::SlurmError;
use crate::render::RenderError;

/// A deployment that failed.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// Something the user can change before anything starts: a taken port, a missing path, a missing secret.
    #[error("{0}")]
    Input(InputError),
    /// The weights are incomplete: every bad file.
    #[error("{0}")]
    Weights(InputErrors),
    #[error("{process}: cannot start {program:?}: {reason}\n  next: {advice}")]
    Spawn {
        process: String,
        /// `argv[0]`.
        program: String,
        reason: std::io::Error,
        advice: String,
    },
    #[error("{process} {}{}  log: {log}", ended(.status, .host, .cause.as_ref()), quoted(.excerpt))]
    Died {
        process: String,
        host: String,
        /// `exit 3`, `signal 9`.
        status: String,
        /// What its status alone does not say.
        cause: Option<Cause>,
        excerpt: String,
        log: String,
    },
    /// A fatal line in a log.
    #[error("{process} on {host} said: {line}\n{}  next: {advice}\n  log: {log}", quoted(.excerpt))]
    Fatal {
        process: String,
        host: String,
        line: String,
        advice: String,
        /// Other ports may help.
        new_ports: bool,
        /// Another start would fail in the same way.
        permanent: bool,
        excerpt: String,
        log: String,
    },
    /// The deadline passed.
    #[error("{waiting}, and {deadline} has passed{}\n{}  next: raise {deadline} if the logs show progress", since(.sign.as_deref()), logs_text(.logs))]
    NotReady { waiting: String, deadline: &'static str, sign: Option<String>, logs: Vec<(String, String)> },
    /// A server lists other models only, at this address.
    #[error("{url} does not list {model:?} (it lists: {})\n  next: set model.name, or model.served_name, to a name that it lists", .listed.join(", "))]
    Unlisted { url: String, model: String, listed: Vec<String> },
    /// The server answers that it knows none of the paths of an API.
    #[error("{url} serves no OpenAI-compatible API\n{}{}  next: {}", answers(.tried), logs_text(.logs), no_api::NEXT)]
    NoApi { url: String, own: bool, tried: Vec<Tried>, logs: Vec<(String, String)> },
    /// A process that this run did not start listens where its server should.
    #[error("{address} is served by another process ({process}), not by a server of this run\n{}  next: stop that process, or set deploy.port to a free port", logs_text(.logs))]
    Foreign { address: String, process: String, logs: Vec<(String, String)> },
    /// The endpoint stopped listening although its processes live, or tokmark did not start it.
    #[error("nobody listens at {url} any more\n{}  next: see why the server closed its port", logs_text(.logs))]
    Gone { url: String, logs: Vec<(String, String)> },
    #[error("cannot ask the nodes: {problem}\n{}  next: {tokmark} must be readable and run on every node; put tokmark on a shared file system, or name it by [binary] in the site file", quoted(.output))]
    Nodes { problem: String, output: String, tokmark: String },
    #[error("cannot prepare the container image {image}: {problem}\n{}  next: {advice}{}", quoted(.output), log_line(.log))]
    Image {
        image: String,
        problem: String,
        output: String,
        advice: String,
        /// Log of the tool; empty if none ran.
        log: String,
    },
    #[error(
        "the allocation has {have} nodes, the deployment needs {need}: render and submit the recipe again"
    )]
    TooFewNodes { have: usize, need: u32 },
    #[error(transparent)]
    Render(#[from] RenderError),
    #[error(transparent)]
    Slurm(#[from] SlurmError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// What may still help after a deployment has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// The same servers may come up at another start.
    AnotherStart,
    /// They would fail in the same way, or take as long again; other deployments may come up.
    OtherDeployment,
    /// It concerns the whole run: the allocation, the recipe, the site.
    Nothing,
}

/// Statuses of a program that did not understand its arguments, or could not be executed: the convention of shells and of argparse.
const NEVER_RAN: [&str; 3] = ["exit 2", "exit 126", "exit 127"];

impl DeployError {
    /// What may help. `was_ready`: the servers had generated a token before.
    pub fn remedy(&self, was_ready: bool) -> Remedy {
        match self {
            Self::Died { status, .. } if !was_ready && NEVER_RAN.contains(&status.as_str()) => {
                Remedy::OtherDeployment
            }
            // Other ports were tried.
            Self::Fatal { permanent: true, .. }
            | Self::Fatal { new_ports: true, .. }
            | Self::Spawn { .. }
            | Self::NotReady { .. }
            | Self::Unlisted { .. }
            | Self::NoApi { .. }
            | Self::Foreign { .. } => Remedy::OtherDeployment,
            Self::Died { .. } | Self::Fatal { .. } | Self::Gone { .. } => Remedy::AnotherStart,
            Self::Input(_)
            | Self::Weights(_)
            | Self::Nodes { .. }
            | Self::Image { .. }
            | Self::TooFewNodes { .. }
            | Self::Render(_)
            | Self::Slurm(_)
            | Self::Io(_) => Remedy::Nothing,
        }
    }

    /// Whether a retry with other ports may help.
    pub fn wants_new_ports(&self) -> bool {
        matches!(self, Self::Fatal { new_ports: true, .. })
    }
}

fn quoted(excerpt: &str) -> String {
    excerpt.lines().map(|line| format!("  | {line}\n")).collect()
}

fn log_line(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!("\n  log: {log}") }
}

fn since(sign: Option<&str>) -> String {
    sign.map_or_else(String::new, |sign| format!(" (last progress: {sign})"))
}

/// How a process ended, and what to do when memory was the cause.
fn ended(status: &str, host: &str, cause: Option<&Cause>) -> String {
    let how = if death::is_killed(status) && cause.is_some() { "was killed" } else { "ended by itself" };
    let why = cause.map(|cause| format!(": {}", cause.text)).unwrap_or_default();
    let next = match cause {
        Some(Cause { is_memory: true, .. }) => {
            "  next: give it more memory (of the job: slurm.mem), or lower what the engine keeps in the host's\n"
        }
        _ => "",
    };
    format!("{how} ({status}) on {host}{why}\n{next}")
}

fn answers(tried: &[Tried]) -> String {
    tried.iter().map(|tried| format!("  {tried}\n")).collect()
}

fn logs_text(logs: &[(String, String)]) -> String {
    logs.iter().map(|(name, excerpt)| format!("  last lines of {name}:\n{}", quoted(excerpt))).collect()
}
