//! Why servers failed to start or died, with the log lines that prove it.

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
    /// The program could not be started.
    #[error("{process}: cannot start {program:?}: {reason}\n  next: {advice}")]
    Spawn {
        /// Process name.
        process: String,
        /// `argv[0]`.
        program: String,
        /// The system's reason.
        reason: std::io::Error,
        /// What to do.
        advice: String,
    },
    /// A process ended by itself.
    #[error("{process} ended by itself ({status}) on {host}\n{}  log: {log}", quoted(.excerpt))]
    Died {
        /// Process name.
        process: String,
        /// Where it ran.
        host: String,
        /// `exit 3`, `signal 9`.
        status: String,
        /// Last lines of its log.
        excerpt: String,
        /// Path of its log.
        log: String,
    },
    /// A fatal line in a log.
    #[error("{process} on {host} said: {line}\n{}  next: {advice}\n  log: {log}", quoted(.excerpt))]
    Fatal {
        /// Process name.
        process: String,
        /// Where it ran.
        host: String,
        /// The line.
        line: String,
        /// What it means and what to do.
        advice: String,
        /// Other ports may help.
        new_ports: bool,
        /// Lines around it.
        excerpt: String,
        /// Path of its log.
        log: String,
    },
    /// The deadline passed.
    #[error("{waiting}, and {deadline} has passed{}\n{}  next: raise {deadline} if the logs show progress", since(.sign.as_deref()), logs_text(.logs))]
    NotReady {
        /// What was still missing.
        waiting: String,
        /// The key of the deadline that passed.
        deadline: &'static str,
        /// The last sign of progress.
        sign: Option<String>,
        /// Log excerpts by process.
        logs: Vec<(String, String)>,
    },
    /// The endpoint stopped listening although its processes live, or tokmark did not start it.
    #[error("nobody listens at {url} any more\n{}  next: see why the server closed its port", logs_text(.logs))]
    Gone {
        /// The endpoint.
        url: String,
        /// Log excerpts by process.
        logs: Vec<(String, String)>,
    },
    /// The nodes of the allocation did not answer.
    #[error("cannot ask the nodes: {problem}\n{}  next: {tokmark} must be readable and run on every node; put tokmark on a shared file system, or name it by [binary] in the site file", quoted(.output))]
    Nodes {
        /// What happened.
        problem: String,
        /// What srun and the nodes printed.
        output: String,
        /// Path of this binary.
        tokmark: String,
    },
    /// The container image could not be made ready.
    #[error("cannot prepare the container image {image}: {problem}\n{}  next: {advice}", quoted(.output))]
    Image {
        /// The image.
        image: String,
        /// What happened.
        problem: String,
        /// What the tools printed.
        output: String,
        /// What to do.
        advice: String,
    },
    /// The allocation is smaller than the plan.
    #[error(
        "the allocation has {have} nodes, the deployment needs {need}: render and submit the recipe again"
    )]
    TooFewNodes {
        /// Nodes of the allocation.
        have: usize,
        /// Nodes of the deployment.
        need: u32,
    },
    /// A template of the launcher failed.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// Slurm failed.
    #[error(transparent)]
    Slurm(#[from] SlurmError),
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl DeployError {
    /// Whether a retry with other ports may help.
    pub fn wants_new_ports(&self) -> bool {
        matches!(self, Self::Fatal { new_ports: true, .. })
    }
}

fn quoted(excerpt: &str) -> String {
    excerpt.lines().map(|line| format!("  | {line}\n")).collect()
}

fn since(sign: Option<&str>) -> String {
    sign.map_or_else(String::new, |sign| format!(" (last progress: {sign})"))
}

fn logs_text(logs: &[(String, String)]) -> String {
    logs.iter().map(|(name, excerpt)| format!("  last lines of {name}:\n{}", quoted(excerpt))).collect()
}
