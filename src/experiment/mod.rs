//! One directory with everything: the request, the plan, every log, every request record, the report.
//!
//! Nothing is overwritten: files are created whole or not at all, logs and records only grow, and an interrupted part
//! is moved aside before it runs again. The reports at the top are derived and can be regenerated.

pub mod event;
pub mod event_text;
pub mod files;
mod lock;
pub mod manifest;
mod of_job;

use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::plan::Plan;
pub use event::{Event, EventLog};
pub use lock::Holder;
pub use manifest::Manifest;
pub use of_job::JobIdentity;

/// Creates a unique directory `<folder>/<start><UTC time>`; the second one in the same second ends in `-2`.
pub(crate) fn fresh(folder: &Path, start: &str, now: jiff::Timestamp) -> std::io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let time = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    for attempt in 1.. {
        let suffix = if attempt == 1 { String::new() } else { format!("-{attempt}") };
        let dir = folder.join(format!("{start}{time}{suffix}"));
        match fs::create_dir(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(std::io::Error::other("no free directory name"))
}

/// An experiment directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Experiment {
    dir: PathBuf,
    /// Folder of the load points.
    points: PathBuf,
    is_kept: bool,
}

impl Experiment {
    /// A new directory for a run without its own job: `<experiments>/<stem>_<place>-<UTC time>`; `place` is `local`
    /// or the surrounding job. Creates it at once, so that two runs in one second do not share it.
    pub fn by_time(plan: &Plan, place: &str, now: jiff::Timestamp) -> std::io::Result<Self> {
        fresh(Path::new(&plan.input.experiments), &format!("{}_{place}-", plan.experiment), now)
            .map(Self::whole)
    }

    fn whole(dir: PathBuf) -> Self {
        Self { points: dir.join("benchmark_logs"), dir, is_kept: true }
    }

    /// A directory of `bench`: the files of a single point lie directly in it, several points get a folder each.
    pub fn loose(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), points: dir.to_owned(), is_kept: true }
    }

    /// Whether a folder holds a measurement of a `bench`, directly or in one folder per point. Those of other runs do not count.
    pub fn holds_measurement(dir: &Path) -> bool {
        let is_run = |dir: &Path| dir.join("manifest.json").exists();
        let has_point =
            |dir: &Path| ["records.jsonl", "summary.json"].iter().any(|file| dir.join(file).exists());
        let inner = walkdir::WalkDir::new(dir).min_depth(1).max_depth(1).into_iter().filter_map(Result::ok);
        let mut inner = inner.map(walkdir::DirEntry::into_path);
        is_run(dir) || has_point(dir) || inner.any(|point| has_point(&point) && !is_run(&point))
    }

    /// A new directory of `bench`: `<folder>/<UTC time>`.
    pub fn loose_by_time(folder: &Path, now: jiff::Timestamp) -> std::io::Result<Self> {
        Ok(Self::loose(&fresh(folder, "", now)?))
    }

    /// A temporary directory for a run that keeps nothing.
    pub fn scratch(dir: &Path) -> Self {
        Self { is_kept: false, ..Self::loose(dir) }
    }

    /// An existing directory.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        let whole = Self::whole(dir.into());
        let is_loose = !whole.points.is_dir() && whole.path("plan.json").is_file();
        if is_loose { Self::loose(&whole.dir) } else { whole }
    }

    /// Whether its files are kept; if not, a point needs no files.
    pub fn is_kept(&self) -> bool {
        self.is_kept
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Last part of the path.
    pub fn name(&self) -> String {
        self.dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Path of a file or folder in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// `server_logs`
    pub fn server_logs(&self) -> PathBuf {
        self.path("server_logs")
    }

    /// `benchmark_logs` or a point's folder in it; in a loose directory, the directory itself or a folder in it.
    pub fn point_dir(&self, folder: Option<&str>) -> PathBuf {
        folder.map_or_else(|| self.points.clone(), |folder| self.points.join(folder))
    }

    /// Creates the missing parts of the skeleton: folders, `recipe.toml`, `plan.json`, and the script if there is
    /// one. Submission and job start both call this, and neither waits for the other.
    pub fn ensure(&self, plan: &Plan, script: Option<&str>) -> std::io::Result<()> {
        for folder in [&self.server_logs(), &self.points] {
            fs::create_dir_all(folder)?;
        }
        files::create_once(&self.path("recipe.toml"), plan.input.recipe.text.as_bytes())?;
        let frozen = serde_json::to_string_pretty(plan).map_err(std::io::Error::other)?;
        files::create_once(&self.path("plan.json"), format!("{frozen}\n").as_bytes())?;
        if let Some(script) = script {
            files::create_once(&self.path("job.sbatch"), script.as_bytes())?;
        }
        Ok(())
    }

    /// Links `slurm.out` to the job's output, which Slurm writes beside the directory.
    pub fn link_output(&self, job: &str) {
        let _ = std::os::unix::fs::symlink(format!("../slurm-{job}.out"), self.path("slurm.out"));
    }

    /// Reads `plan.json`.
    pub fn plan(&self) -> std::io::Result<Plan> {
        let text = fs::read_to_string(self.path("plan.json"))?;
        serde_json::from_str(&text).map_err(|error| {
            let file = self.path("plan.json");
            std::io::Error::other(format!(
                "{}: not a plan of this version: {error}; read it with the tokmark that made it",
                file.display()
            ))
        })
    }
}
