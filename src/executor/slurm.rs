//! Calls Slurm's tools: each call has a time limit, no stdin, and an error that names it. Nothing here prints.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;

use super::error::{Call, SlurmError};
use crate::slurm::{
    JobId, JobStatus, StepId, StepInfo, Unparsable, knows_none, sacct, sbatch, scancel, scontrol, squeue,
};

pub(super) type Result<T> = std::result::Result<T, SlurmError>;

/// The cluster of the tools on PATH.
#[derive(Debug, Clone)]
pub struct Slurm {
    /// Limit of each call. Slurm's own is `MessageTimeout` (10 s), but minutes for some failures.
    pub timeout: Duration,
    /// How many consecutive polls may fail, or not find the job, before [`Slurm::wait`] gives up.
    pub patience: u32,
    /// PATH for finding the tools, instead of this process's.
    pub path: Option<OsString>,
    /// Variables added to the tools' environment, e.g. `SLURM_CONF`.
    pub env: Vec<(String, String)>,
}

impl Default for Slurm {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(60), patience: 10, path: None, env: Vec::new() }
    }
}

/// Poll interval: `TOKMARK_SLURM_POLL_MS`, for tests, else 5 s.
pub fn poll_interval() -> Duration {
    poll_interval_from(std::env::var("TOKMARK_SLURM_POLL_MS").ok().as_deref())
}

fn poll_interval_from(override_ms: Option<&str>) -> Duration {
    let ms = override_ms.and_then(|text| text.trim().parse().ok()).filter(|&ms| ms > 0);
    Duration::from_millis(ms.unwrap_or(5000))
}

/// The environment of a tool.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Environment {
    /// The user's, because sbatch passes it to the job, without variables that would override the script.
    ForSubmission,
    /// One that makes output parsable.
    ForParsing,
    /// The user's, without variables of the surrounding allocation, because the call makes its own.
    OutsideAllocation,
}

impl Slurm {
    /// Submits `script` with `args` (`--partition=…`) before it.
    ///
    /// # Errors
    /// [`SlurmError::Refused`] with advice for common refusals; [`SlurmError::Unparsable`] without a job id, although the job may
    /// have been accepted.
    pub async fn submit(&self, script: &Path, args: &[String]) -> Result<JobId> {
        let argv = sbatch::argv(script, args);
        let stdout = succeeded(&argv, &self.run(&argv, Environment::ForSubmission).await?)?;
        Ok(sbatch::parse(&stdout).map_err(unparsable(&argv))?.id)
    }

    /// Polls many jobs: one squeue, one sacct for those that squeue leaves open, and scontrol for ended ones that are not yet in
    /// the accounting.
    ///
    /// A job that none of them shows (not yet, or no longer) is absent. Tasks of an array have their own ids.
    ///
    /// # Errors
    /// squeue failed, or sacct failed and scontrol could not replace it.
    pub async fn poll(&self, ids: &[JobId]) -> Result<BTreeMap<JobId, JobStatus>> {
        let mut found = BTreeMap::new();
        if ids.is_empty() {
            return Ok(found);
        }
        let argv = squeue::argv(ids);
        let queued = squeue::parse(&self.about_jobs(&argv).await?).map_err(unparsable(&argv))?;
        found.extend(queued.into_iter().map(|job| (job.id.clone(), job)));
        let open = unsettled(ids, &found);
        if open.is_empty() {
            return Ok(found);
        }
        let accounting = self.sacct(&open).await;
        for job in accounting.as_ref().into_iter().flatten() {
            merge_accounting(&mut found, job);
        }
        // squeue shows every job that slurmctld knows, so scontrol can add only to those.
        for id in unsettled(&open, &found).into_iter().filter(|id| found.contains_key(id)).collect::<Vec<_>>()
        {
            let argv = scontrol::job_argv(&id);
            let shown = scontrol::parse_jobs(&self.about_jobs(&argv).await?).map_err(unparsable(&argv))?;
            found.extend(shown.into_iter().map(|job| (job.id.clone(), job)));
        }
        match accounting {
            Err(SlurmError::AccountingDisabled { .. }) | Ok(_) => Ok(found),
            Err(_) if unsettled(&open, &found).is_empty() => Ok(found),
            Err(error) => Err(error),
        }
    }

    /// Jobs in the accounting; unknown ones are absent.
    pub async fn sacct(&self, ids: &[JobId]) -> Result<Vec<JobStatus>> {
        let argv = sacct::argv(ids);
        let output = self.run(&argv, Environment::ForParsing).await?;
        if says(&output, sacct::is_disabled) {
            return Err(SlurmError::AccountingDisabled { call: Call(argv) });
        }
        sacct::parse(&succeeded(&argv, &output)?).map_err(unparsable(&argv))
    }

    /// Cancels a job; does nothing if it has ended.
    pub async fn cancel(&self, id: &JobId) -> Result<()> {
        self.scancel(scancel::job_argv(id)).await
    }

    /// Asks a running job to wrap up, as Slurm does before its time limit.
    pub async fn warn(&self, id: &JobId) -> Result<()> {
        self.scancel(scancel::warn_argv(id)).await
    }

    /// Sends `signal` (`TERM`) to a step's tasks; does nothing if the step has ended.
    pub async fn signal_step(&self, id: &StepId, signal: &str) -> Result<()> {
        self.scancel(scancel::step_argv(id, signal)).await
    }

    /// The running steps of a job, including `batch`; none if the job does not run.
    pub async fn steps(&self, id: &JobId) -> Result<Vec<StepInfo>> {
        let argv = scontrol::steps_argv(id);
        let output = self.run(&argv, Environment::ForParsing).await?;
        if !output.status.success() && scontrol::has_no_steps(&text(&output.stdout), &text(&output.stderr)) {
            return Ok(Vec::new());
        }
        Ok(scontrol::parse_steps(&succeeded(&argv, &output)?))
    }

    /// The hosts of a host list (`node[1-3,7]`), in order.
    pub async fn hostnames(&self, host_list: &str) -> Result<Vec<String>> {
        self.parsed(&scontrol::hostnames_argv(host_list), scontrol::parse_hostnames).await
    }

    /// Polls every `interval` until the job has ended. `on_change` gets the first status and each with another state, reason or
    /// nodes. After a failure it waits longer, up to 16 times the interval.
    ///
    /// # Errors
    /// After [`Slurm::patience`] consecutive failures the last one, or [`SlurmError::Unseen`]; permanent errors at once.
    pub async fn wait(
        &self,
        id: &JobId,
        interval: Duration,
        mut on_change: impl FnMut(&JobStatus),
    ) -> Result<JobStatus> {
        let mut last: Option<JobStatus> = None;
        let mut failures = 0_u32;
        loop {
            let polled = self.poll(std::slice::from_ref(id)).await;
            match polled.and_then(|mut jobs| jobs.remove(id).ok_or(SlurmError::Unseen { id: id.clone() })) {
                Ok(status) => {
                    failures = 0;
                    if last.as_ref().is_none_or(|last| differs(last, &status)) {
                        on_change(&status);
                    }
                    if status.state.is_terminal() {
                        return Ok(status);
                    }
                    last = Some(status);
                }
                Err(error) if error.is_transient() && failures < self.patience => failures += 1,
                Err(error) => return Err(error),
            }
            tokio::time::sleep(interval * 2_u32.pow(failures.min(4))).await;
        }
    }

    /// GPUs of a running job per node; `None` if Slurm counts none.
    ///
    /// # Errors
    /// slurmctld does not know the job, or has not started it.
    pub async fn allocated_gpus(&self, id: &JobId) -> Result<Option<u32>> {
        Ok(scontrol::gpus_per_node(&self.query(&scontrol::job_argv(id)).await?))
    }

    async fn scancel(&self, argv: Vec<String>) -> Result<()> {
        let output = self.run(&argv, Environment::ForParsing).await?;
        match succeeded(&argv, &output) {
            Err(SlurmError::Refused { stderr, .. }) if scancel::is_gone(&stderr) => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// The stdout of a query that must succeed.
    pub(super) async fn query(&self, argv: &[String]) -> Result<String> {
        succeeded(argv, &self.run(argv, Environment::ForParsing).await?)
    }

    /// What a query that must succeed answers.
    pub(super) async fn parsed<T>(
        &self,
        argv: &[String],
        parse: impl FnOnce(&str) -> std::result::Result<T, Unparsable>,
    ) -> Result<T> {
        parse(&self.query(argv).await?).map_err(unparsable(argv))
    }

    /// The stdout of a query about jobs; nothing if slurmctld does not know any of them.
    async fn about_jobs(&self, argv: &[String]) -> Result<String> {
        let output = self.run(argv, Environment::ForParsing).await?;
        if !output.status.success() && knows_none(&text(&output.stderr)) {
            return Ok(String::new());
        }
        succeeded(argv, &output)
    }

    /// Runs a tool until it exits, with any status.
    pub(super) async fn run(&self, argv: &[String], environment: Environment) -> Result<Output> {
        let mut command = self.command(argv, environment);
        match tokio::time::timeout(self.timeout, command.output()).await {
            Err(_) => Err(SlurmError::Timeout { call: Call(argv.to_vec()), after: self.timeout }),
            Ok(result) => result.map_err(|error| not_run(argv, error)),
        }
    }

    /// The call of a tool; dropping it kills the tool.
    pub(super) fn command(&self, argv: &[String], environment: Environment) -> Command {
        let mut command = Command::new(argv.first().map_or("", String::as_str));
        command.args(argv.iter().skip(1)).stdin(Stdio::null()).kill_on_drop(true);
        if environment == Environment::ForSubmission {
            hide(&mut command, sbatch::CLEARED_ENV);
        } else {
            hide(&mut command, &["SQUEUE_*", "SACCT_*", "SINFO_*"]);
            if environment == Environment::OutsideAllocation {
                hide(&mut command, &["SLURM_*", "SBATCH_*", "SALLOC_*", "PYXIS_CONTAINER_*"]);
                command.envs(std::env::var_os("SLURM_CONF").map(|conf| ("SLURM_CONF", conf)));
            }
            // Tools that ignore the format print local time, which TZ=UTC makes readable.
            command.env("LC_ALL", "C").env("SLURM_TIME_FORMAT", "%s").env("TZ", "UTC");
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(path) = &self.path {
            command.env("PATH", path);
        }
        command
    }
}

/// Removes variables from the environment of a tool; `PREFIX*` matches every such name.
pub fn hide(command: &mut Command, patterns: &[impl AsRef<str>]) {
    for pattern in patterns.iter().map(AsRef::as_ref) {
        let Some(start) = pattern.strip_suffix('*') else {
            command.env_remove(pattern);
            continue;
        };
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with(start)) {
            command.env_remove(name);
        }
    }
}

/// The error for a tool that could not start, or whose output could not be read.
pub(super) fn not_run(argv: &[String], error: std::io::Error) -> SlurmError {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            SlurmError::NotFound { tool: argv.first().cloned().unwrap_or_default() }
        }
        _ => SlurmError::Io { call: Call(argv.to_vec()), source: error },
    }
}

/// Jobs with unknown facts: those not shown yet, and ended ones without an exit code.
fn unsettled(ids: &[JobId], found: &BTreeMap<JobId, JobStatus>) -> Vec<JobId> {
    let arrays: BTreeSet<&str> =
        found.keys().filter(|id| id.base() != id.as_str()).map(JobId::base).collect();
    let open = |id: &&JobId| match found.get(*id) {
        Some(job) => job.state.is_terminal() && job.exit_code.is_none(),
        None => !arrays.contains(id.as_str()),
    };
    ids.iter().filter(open).cloned().collect()
}

/// slurmctld decides whether a job has ended; the accounting, once it agrees, supplies how.
fn merge_accounting(found: &mut BTreeMap<JobId, JobStatus>, job: &JobStatus) {
    match found.get_mut(&job.id) {
        Some(known) if known.state == job.state => {
            known.exit_code = job.exit_code;
            known.end = job.end.or(known.end);
        }
        Some(_) => {}
        None if job.state.is_terminal() => {
            found.insert(job.id.clone(), job.clone());
        }
        None => {}
    }
}

fn differs(one: &JobStatus, other: &JobStatus) -> bool {
    one.state != other.state || one.reason != other.reason || one.nodes != other.nodes
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether stdout or stderr says something.
pub(super) fn says(output: &Output, something: impl Fn(&str) -> bool) -> bool {
    something(&text(&output.stdout)) || something(&text(&output.stderr))
}

/// The stdout of a call that succeeded.
pub(super) fn succeeded(argv: &[String], output: &Output) -> Result<String> {
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let stderr = text(if output.stderr.trim_ascii().is_empty() { &output.stdout } else { &output.stderr });
    Err(SlurmError::Refused {
        call: Call(argv.to_vec()),
        status: output.status.to_string(),
        advice: sbatch::advice(&stderr),
        stderr,
    })
}

pub(super) fn unparsable(argv: &[String]) -> impl FnOnce(Unparsable) -> SlurmError {
    let call = Call(argv.to_vec());
    move |source| SlurmError::Unparsable { call, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slurm::{ExitCode, JobState};

    fn job(id: &str, state: JobState, exit: Option<&str>) -> JobStatus {
        let exit_code = exit.and_then(ExitCode::parse);
        JobStatus { exit_code, ..JobStatus::new(id.parse().unwrap(), state) }
    }

    fn found(jobs: Vec<JobStatus>) -> BTreeMap<JobId, JobStatus> {
        jobs.into_iter().map(|job| (job.id.clone(), job)).collect()
    }

    #[test]
    fn the_poll_interval_can_be_overridden() {
        assert_eq!(poll_interval_from(None), Duration::from_secs(5));
        assert_eq!(poll_interval_from(Some("20")), Duration::from_millis(20));
        assert_eq!(poll_interval_from(Some("0")), Duration::from_secs(5));
        assert_eq!(poll_interval_from(Some("soon")), Duration::from_secs(5));
    }

    #[test]
    fn jobs_that_are_polled_again() {
        let jobs = found(vec![
            job("1", JobState::Running, None),
            job("2", JobState::Failed, None),
            job("3", JobState::Failed, Some("3:0")),
            job("5_1", JobState::Running, None),
        ]);
        let ids: Vec<JobId> = ["1", "2", "3", "4", "5"].iter().map(|id| id.parse().unwrap()).collect();
        let open: Vec<_> = unsettled(&ids, &jobs).iter().map(ToString::to_string).collect();
        assert_eq!(open, ["2", "4"]);
    }

    #[test]
    fn lagging_accounting_changes_nothing() {
        let mut jobs = found(vec![job("1", JobState::Failed, None)]);
        merge_accounting(&mut jobs, &job("1", JobState::Running, None));
        merge_accounting(&mut jobs, &job("2", JobState::Pending, None));
        assert_eq!(jobs, found(vec![job("1", JobState::Failed, None)]));
        merge_accounting(&mut jobs, &job("1", JobState::Failed, Some("3:0")));
        merge_accounting(&mut jobs, &job("2", JobState::Timeout, Some("0:0")));
        let expected =
            vec![job("1", JobState::Failed, Some("3:0")), job("2", JobState::Timeout, Some("0:0"))];
        assert_eq!(jobs, found(expected));
    }
}
