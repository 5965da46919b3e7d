//! Exit codes: a documented contract, decided in one place from the typed errors of the seams.

use crate::deploy::DeployError;
use crate::document::{InputError, InputErrors};
use crate::executor::SlurmError;
use crate::export::ExportError;
use crate::load::{LoadError, TargetError};
use crate::render::RenderError;
use crate::run::RunError;
use crate::run::point::PointError;
use crate::sim::{ConfigError, SimError};

/// All went well.
pub const OK: u8 = 0;
/// A bug in tokmark.
pub const BUG: u8 = 1;
/// Wrong usage, recipe or site; nothing was started.
pub const USAGE: u8 = 2;
/// Slurm or the file system.
pub const INFRASTRUCTURE: u8 = 3;
/// A server failed or never became ready.
pub const SERVER: u8 = 4;
/// A gate failed: an invalid result, an objective, a regression, a figure not reproduced.
pub const GATE: u8 = 5;
/// Interrupted.
pub const INTERRUPTED: u8 = 130;

/// A failure that has an exit code of its own.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ExitError {
    pub code: u8,
    /// What happened; empty if the user knows.
    pub message: String,
}

impl ExitError {
    pub fn gate(message: String) -> Self {
        Self { code: GATE, message }
    }
}

/// How bad an exit code is, mildest first: ok, gate, interrupted, server, infrastructure, usage, bug. An unknown one is worst.
fn severity(code: u8) -> usize {
    let order = [OK, GATE, INTERRUPTED, SERVER, INFRASTRUCTURE, USAGE, BUG];
    order.iter().position(|known| *known == code).unwrap_or(order.len())
}

/// One end for several jobs, of which these did not end well: the worst exit code, and a line or more for each. `all` is how
/// many there were.
pub fn worst(failures: &[(String, anyhow::Error)], all: usize) -> Result<(), ExitError> {
    let codes = failures.iter().map(|(_, failure)| exit_code(failure));
    let Some(code) = codes.max_by_key(|code| severity(*code)) else { return Ok(()) };
    let lines: Vec<String> = failures.iter().map(|(name, failure)| format!("{name}: {failure:#}")).collect();
    let message = format!("{} of {all} jobs did not end well\n{}", failures.len(), lines.join("\n"));
    Err(ExitError { code, message })
}

/// The exit code of an error, by the first typed one in its chain.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(code_of).unwrap_or(BUG)
}

fn code_of(error: &(dyn std::error::Error + 'static)) -> Option<u8> {
    let is_usage = error.is::<InputErrors>()
        || error.is::<RenderError>()
        || error.is::<LoadError>()
        || error.is::<TargetError>()
        || error.is::<ConfigError>()
        || matches!(error.downcast_ref(), Some(ExportError::Input(_)));
    let is_infrastructure = error.is::<SlurmError>()
        || error.is::<SimError>()
        || error.is::<std::io::Error>()
        || matches!(error.downcast_ref(), Some(ExportError::Io(_)));
    let own = error.downcast_ref().map(|ExitError { code, .. }| *code);
    own.or(error.downcast_ref().map(run_code))
        .or(error.downcast_ref().map(point_code))
        .or(error.downcast_ref().map(deploy_code))
        .or(is_usage.then_some(USAGE))
        .or(is_infrastructure.then_some(INFRASTRUCTURE))
}

/// The exit code of a run that ended early.
fn run_code(error: &RunError) -> u8 {
    match error {
        RunError::Deploy(error) => deploy_code(error),
        RunError::Point(error) => point_code(error),
        RunError::Io(_) => INFRASTRUCTURE,
        RunError::Interrupted | RunError::InterruptedWhile { .. } => INTERRUPTED,
        RunError::Incomplete(failures) => {
            let codes = failures.iter().map(|failure| run_code(&failure.error));
            codes.max_by_key(|code| severity(*code)).unwrap_or(OK)
        }
    }
}

fn point_code(error: &PointError) -> u8 {
    match error {
        PointError::Load(_) | PointError::Input(_) => USAGE,
        PointError::Io(_) | PointError::Export(_) | PointError::Unwritten(_) => INFRASTRUCTURE,
    }
}

fn deploy_code(error: &DeployError) -> u8 {
    match error {
        DeployError::Input(_)
        | DeployError::Weights(_)
        | DeployError::Render(_)
        | DeployError::NoApi { own: false, .. } => USAGE,
        DeployError::TooFewNodes { .. }
        | DeployError::Nodes { .. }
        | DeployError::Image { .. }
        | DeployError::Slurm(_)
        | DeployError::Io(_) => INFRASTRUCTURE,
        DeployError::Spawn { .. }
        | DeployError::Died { .. }
        | DeployError::Fatal { .. }
        | DeployError::NotReady { .. }
        | DeployError::NoApi { .. }
        | DeployError::Unlisted { .. }
        | DeployError::Foreign { .. }
        | DeployError::Gone { .. } => SERVER,
    }
}

impl From<InputError> for anyhow::Error {
    fn from(error: InputError) -> Self {
        InputErrors::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_that_concerns_more_jobs_is_worse() {
        let mut codes = [130, 3, 0, 5, 1, 4, 2];
        codes.sort_by_key(|code| severity(*code));
        assert_eq!(codes, [0, 5, 130, 4, 3, 2, 1]);
        assert!(severity(77) > severity(1), "an unknown one is worst");
    }

    #[test]
    fn several_jobs_end_as_the_worst_of_them() {
        let failure = |code| anyhow::Error::from(ExitError { code, message: format!("code {code}") });
        let failures = [("job 1".to_owned(), failure(GATE)), ("job 3".to_owned(), failure(SERVER))];
        let end = worst(&failures, 3).unwrap_err();
        let message = "2 of 3 jobs did not end well\njob 1: code 5\njob 3: code 4";
        assert_eq!((end.code, end.message.as_str()), (SERVER, message));
        assert!(worst(&[], 3).is_ok());
    }
}
