//! Queries about a cluster: nodes, accounts, MPI types, whether it would accept a job, and the output of a short job.
//! Nothing here prints.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use super::error::{Call, SlurmError};
use super::slurm::{Environment, Result, Slurm, not_run, says, succeeded, text};
use crate::slurm::sacctmgr::Association;
use crate::slurm::sinfo::NodeLine;
use crate::slurm::{features, sacctmgr, sbatch, scontrol, sinfo};

/// The output of a call, line by line, with times.
#[derive(Debug)]
pub struct Answer {
    /// Lines of stdout and when each arrived.
    pub lines: Vec<(SystemTime, String)>,
    pub stderr: String,
    pub status: ExitStatus,
}

impl Slurm {
    /// Whether slurmctld answers. Called first, because every other tool waits long if it does not.
    pub async fn ping(&self) -> Result<()> {
        self.query(&scontrol::ping_argv()).await.map(drop)
    }

    /// Version of Slurm.
    pub async fn version(&self) -> Result<Option<String>> {
        Ok(sinfo::parse_version(&self.query(&sinfo::version_argv()).await?))
    }

    /// The configuration, by name.
    pub async fn config(&self) -> Result<BTreeMap<String, String>> {
        Ok(scontrol::parse_config(&self.query(&scontrol::config_argv()).await?))
    }

    /// Every node in every partition that the user may use, or in all partitions.
    pub async fn nodes(&self, all: bool) -> Result<Vec<NodeLine>> {
        self.parsed(&sinfo::argv(all), sinfo::parse).await
    }

    /// Architecture of each node that has ever been up.
    pub async fn archs(&self) -> Result<BTreeMap<String, String>> {
        Ok(scontrol::parse_archs(&self.query(&scontrol::nodes_argv()).await?))
    }

    /// What a user may charge; `None` if the cluster keeps no accounts.
    pub async fn associations(&self, user: &str) -> Result<Option<Vec<Association>>> {
        Ok(self.accounts(&sacctmgr::argv(user)).await?.map(|text| sacctmgr::parse(&text)))
    }

    /// The account that a user's jobs charge by default.
    pub async fn default_account(&self, user: &str) -> Result<Option<String>> {
        let text = self.accounts(&sacctmgr::default_argv(user)).await?;
        Ok(text.and_then(|text| sacctmgr::parse_default(&text, user)))
    }

    /// MPI types that srun knows.
    pub async fn mpi_types(&self) -> Result<Vec<String>> {
        let argv = features::mpi_argv();
        let output = self.run(&argv, Environment::OutsideAllocation).await?;
        let stdout = succeeded(&argv, &output)?;
        Ok(features::parse_mpi(&format!("{stdout}\n{}", text(&output.stderr))))
    }

    /// srun's help, which includes options of the site's plugins.
    pub async fn srun_help(&self) -> Result<String> {
        let argv = features::help_argv();
        succeeded(&argv, &self.run(&argv, Environment::OutsideAllocation).await?)
    }

    /// Whether srun has `--segment`.
    pub async fn has_segment(&self) -> bool {
        let output = self.run(&features::segment_argv(), Environment::OutsideAllocation).await;
        output.is_ok_and(|output| features::has_segment(&text(&output.stderr)))
    }

    /// Tests with `sbatch --test-only` whether Slurm would accept a script, and returns its message. Submits nothing.
    pub async fn would_take(&self, script: &Path) -> Result<String> {
        let argv = sbatch::test_argv(script);
        let output = self.run(&argv, Environment::ForSubmission).await?;
        succeeded(&argv, &output)?;
        Ok(text(&output.stderr))
    }

    /// Runs a call outside any allocation and records when each line arrives. Fails if it does not end within `limit`.
    pub async fn answer(&self, argv: &[String], limit: Duration) -> Result<Answer> {
        let mut command = self.command(argv, Environment::OutsideAllocation);
        let spawned = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|error| not_run(argv, error))?;
        let (Some(stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(not_run(argv, std::io::Error::other("its output is not piped")));
        };
        let read = async {
            let mut lines = Vec::new();
            let mut reader = BufReader::new(stdout).lines();
            while let Some(line) = reader.next_line().await? {
                lines.push((SystemTime::now(), line));
            }
            Ok::<_, std::io::Error>(lines)
        };
        let mut errors = Vec::new();
        let whole = async { tokio::try_join!(read, stderr.read_to_end(&mut errors), child.wait()) };
        match tokio::time::timeout(limit, whole).await {
            Err(_) => Err(SlurmError::Timeout { call: Call(argv.to_vec()), after: limit }),
            Ok(Err(error)) => Err(not_run(argv, error)),
            Ok(Ok((lines, _, status))) => Ok(Answer { lines, stderr: text(&errors), status }),
        }
    }

    /// The stdout of sacctmgr; `None` without accounting.
    async fn accounts(&self, argv: &[String]) -> Result<Option<String>> {
        let output = match self.run(argv, Environment::ForParsing).await {
            Err(SlurmError::NotFound { .. }) => return Ok(None),
            other => other?,
        };
        if says(&output, sacctmgr::is_disabled) { Ok(None) } else { succeeded(argv, &output).map(Some) }
    }
}
