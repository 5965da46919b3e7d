//! Whether a site file and its cluster fit: findings a person can act on.
//!
//! `cluster` compares the file with what Slurm says, `probe` makes the short job that looks from compute nodes, `seen` judges
//! what it answers, `weights` looks at a recipe's weights and image, `examine` asks for all of it.
//! Nothing here prints.

pub mod cluster;
pub mod examine;
pub mod probe;
pub mod seen;
pub mod weights;

use serde::Serialize;

/// How a check ended, worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Works, but not as well as it could, or cannot be known.
    Warn,
    /// Jobs will fail.
    Fail,
}

impl Status {
    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What: `slurm`, `partition`, `account`, `gres`, `sbatch`, `paths` …
    pub check: &'static str,
    /// The GPU type or recipe it is about; absent when it is about the whole site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// How it ended.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, about: None, status: Status::Ok, found: found.into(), next: None }
    }

    /// It may be well.
    pub fn warn(check: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { check, about: None, status: Status::Warn, found: found.into(), next: Some(next.into()) }
    }

    /// It is not.
    pub fn fail(check: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { check, about: None, status: Status::Fail, found: found.into(), next: Some(next.into()) }
    }

    /// Says which GPU type or recipe it is about.
    #[must_use]
    pub fn about(mut self, about: &str) -> Self {
        self.about = Some(about.to_owned());
        self
    }
}
