//! Checks that a site file fits its cluster, with findings that a person can act on.
//!
//! `cluster` compares the file with Slurm, `probe` builds the short job that runs on compute nodes, `answers` evaluates its output,
//! `container` starts one container, `weights` checks a recipe's weights and image, and `examine` runs all checks. Nothing here prints.

pub mod answers;
pub mod cluster;
mod container;
pub mod examine;
pub mod probe;
pub mod table;
pub mod weights;

use serde::Serialize;

/// How a check ended, worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    /// Works, but could be better, or could not be checked.
    Warn,
    /// Jobs will fail.
    Fail,
}

impl Status {
    /// The word in output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check: `slurm`, `partition`, `account`, `gres`, `sbatch`, `paths` …
    pub check: &'static str,
    /// The GPU type or recipe it concerns; absent for the whole site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// How it ended.
    pub status: Status,
    pub found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl Finding {
    pub fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, about: None, status: Status::Ok, found: found.into(), next: None }
    }

    pub fn warn(check: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { check, about: None, status: Status::Warn, found: found.into(), next: Some(next.into()) }
    }

    pub fn fail(check: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { check, about: None, status: Status::Fail, found: found.into(), next: Some(next.into()) }
    }

    /// Sets the GPU type or recipe that it concerns.
    #[must_use]
    pub fn about(mut self, about: &str) -> Self {
        self.about = Some(about.to_owned());
        self
    }
}
