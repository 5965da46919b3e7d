//! Suites: experiments that were ordered together. A suite's directory lies beside theirs, and holds a receipt,
//! written once, in place of a manifest.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Entry, Job};
use crate::experiment::{files, fresh};

/// Version of the receipt's format.
pub const SCHEMA: u32 = 1;

/// `suite.json`: the order and the experiments it became.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// Version of the format: 1.
    pub schema: u32,
    /// Name of the suite.
    pub name: String,
    /// What it is for, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Version of the tokmark that wrote it.
    pub tokmark: String,
    /// `submit` or `run`.
    pub created_by: String,
    /// Time of creation.
    pub created_at: jiff::Timestamp,
    /// Host that created it.
    pub host: String,
    /// Process that runs the experiments one by one; absent for Slurm jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Its experiments are deployments of sweeps, of which at most so many run at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel: Option<u32>,
    /// Its experiments, in the order of the file.
    pub jobs: Vec<Member>,
}

/// An experiment of a suite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Id of its Slurm job; absent for a local run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Name of its directory, beside the suite's; absent if the job was never submitted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub experiment: String,
    /// Recipe name.
    pub recipe: String,
    /// GPU type.
    pub gpu: String,
    /// Model name.
    pub model: String,
    /// How it differs from the others of its `[[job]]`, e.g. `STREAMING=false`, `2/3`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differs: Vec<String>,
}

/// A suite on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Suite {
    dir: PathBuf,
    pub receipt: Receipt,
}

impl Suite {
    /// Creates `<name>_<UTC time>/` in the folder of the experiments, with the suite file, verbatim, and the receipt.
    pub fn create(folder: &Path, receipt: Receipt, file: &str) -> std::io::Result<Self> {
        let dir = fresh(folder, &format!("{}_", receipt.name), receipt.created_at)?;
        files::create_once(&dir.join("suite.toml"), file.as_bytes())?;
        let text = serde_json::to_string_pretty(&receipt).map_err(std::io::Error::other)?;
        files::create_once(&dir.join("suite.json"), format!("{text}\n").as_bytes())?;
        Ok(Self { dir, receipt })
    }

    /// The suite in `dir`, if there is one.
    pub fn at(dir: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(dir.join("suite.json")).ok()?;
        let receipt: Receipt = serde_json::from_str(&text).ok()?;
        Some(Self { dir: std::path::absolute(dir).ok()?, receipt })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Last part of its path; unique in its folder.
    pub fn id(&self) -> String {
        self.dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Whether a member never reached the queue because the submission stopped before it. Members of a `run` need no
    /// job id.
    pub fn is_unsubmitted(&self, member: &Member) -> bool {
        self.receipt.pid.is_none() && member.job.is_none()
    }

    /// The job of a member.
    pub fn job(&self, member: &Member) -> Job {
        let runner = self.receipt.pid.map(|pid| (self.receipt.host.clone(), pid));
        Job {
            dir: self.dir.with_file_name(&member.experiment),
            // A suite that runs inside an allocation does not own that job.
            id: member.job.as_deref().filter(|_| runner.is_none()).and_then(|id| id.parse().ok()),
            runner,
            is_submitted: !self.is_unsubmitted(member),
        }
    }

    /// The jobs of all members, in order.
    pub fn jobs(&self) -> Vec<Job> {
        self.receipt.jobs.iter().map(|member| self.job(member)).collect()
    }

    /// Its existing experiments.
    pub fn entries(&self) -> Vec<Entry> {
        self.jobs().iter().filter_map(Job::entry).collect()
    }

    /// One line per member without an experiment: `good load.isl=9: it left no experiment in …`.
    pub fn missing(&self) -> Vec<String> {
        let line = |member: &Member| {
            let job = self.job(member);
            let reason = if job.entry().is_none() { job.missing() } else { None };
            let differs: String = member.differs.iter().map(|word| format!(" {word}")).collect();
            Some(format!("{}{differs}: {}", member.recipe, reason?))
        };
        self.receipt.jobs.iter().filter_map(line).collect()
    }
}

/// The suite that a user named by directory, last part of its path, or suite name (the newest with that name).
/// `last-suite` means the newest of all.
pub(super) fn named(folder: &Path, name: &str) -> Option<Suite> {
    let exact = Suite::at(Path::new(name)).or_else(|| Suite::at(&folder.join(name)));
    exact.or_else(|| {
        let dirs = walkdir::WalkDir::new(folder).min_depth(1).max_depth(1).into_iter().filter_map(Result::ok);
        let all = dirs.filter_map(|entry| Suite::at(entry.path()));
        let meant = all.filter(|suite| suite.receipt.name == name || name == "last-suite");
        meant.max_by(|a, b| {
            a.receipt
                .created_at
                .cmp(&b.receipt.created_at)
                .then_with(|| a.dir.as_os_str().cmp(b.dir.as_os_str()))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(name: &str, at: &str) -> Receipt {
        let member = |experiment: &str| Member {
            job: Some("7".into()),
            experiment: experiment.into(),
            recipe: "r".into(),
            gpu: "h100".into(),
            model: "m".into(),
            differs: Vec::new(),
        };
        Receipt {
            schema: SCHEMA,
            name: name.into(),
            summary: None,
            tokmark: "0.1.0".into(),
            created_by: "submit".into(),
            created_at: at.parse().unwrap(),
            host: "node".into(),
            pid: None,
            parallel: None,
            jobs: vec![member("r_7")],
        }
    }

    #[test]
    fn a_suite_is_found_by_directory_id_and_name_and_is_no_experiment() {
        let folder = tempfile::tempdir().unwrap();
        let create = |name: &str, at: &str| {
            Suite::create(folder.path(), receipt(name, at), "[[job]]\nrecipe = \"r\"\n").unwrap()
        };
        let first = create("night", "2026-01-02T03:04:05Z");
        let second = create("night", "2026-01-02T03:04:05Z");
        let other = create("day", "2026-01-02T03:04:06Z");
        assert_eq!(
            [first.id(), second.id(), other.id()],
            ["night_20260102T030405Z", "night_20260102T030405Z-2", "day_20260102T030406Z"]
        );
        let found = |name: &str| named(folder.path(), name);
        for suite in [&first, &second, &other] {
            assert_eq!(found(&suite.id()).as_ref(), Some(suite));
            assert_eq!(found(&suite.dir().display().to_string()).as_ref(), Some(suite));
        }
        assert_eq!(found("night").as_ref(), Some(&second), "the newest of the name");
        assert_eq!(found("last-suite").as_ref(), Some(&other));
        assert_eq!((found("nig"), found("last")), (None, None));
        assert_eq!(first.jobs()[0].dir, folder.path().join("r_7"));
        let text = std::fs::read_to_string(first.dir().join("suite.toml")).unwrap();
        assert_eq!(text, "[[job]]\nrecipe = \"r\"\n");
        assert_eq!(crate::history::all(folder.path()).len(), 0);
    }
}
