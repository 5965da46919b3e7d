//! Experiments and suites in a folder, and the state of each. Every verb gets the same answer, derived from the run's
//! own files, Slurm's view of its job, and whether its process lives.

pub mod cut_off;
mod entry;
pub mod process;
mod standing;
pub mod suite;
mod watch;

use std::path::Path;

pub use entry::{Entry, Progress, all, at};
pub use process::LeftBehind;
pub use standing::{Found, Standing, standing};
pub use suite::Suite;
pub use watch::{Job, Statuses, statuses, wait_all};

use crate::document::InputError;

/// What a user's name refers to.
#[derive(Debug)]
pub enum Named {
    /// An experiment.
    Experiment(Box<Entry>),
    /// Several experiments that were ordered together.
    Suite(Suite),
}

/// Finds the experiment or suite that a user named.
pub fn find(folder: &Path, name: &str) -> Result<Named, InputError> {
    let experiment = entry::named(folder, name).map(|entry| Named::Experiment(Box::new(entry)));
    experiment.or_else(|| suite::named(folder, name).map(Named::Suite)).ok_or_else(|| {
        InputError::new(name, format!("no such job or experiment in {}", folder.display()))
            .expected("a job id, the name or directory of an experiment or a suite, `last` or `last-suite`")
            .next("`tokmark jobs list` shows them; --experiments DIR looks elsewhere")
    })
}
