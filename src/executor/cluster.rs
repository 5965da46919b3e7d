//! What a cluster says of itself: its nodes, accounts and MPI types, whether it would take a job, and a short job's answer.
//!
//! Nothing here prints.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use super::error::{Call, SlurmError};
use super::slurm::{Environment, Result, Slurm, not_run, succeeded, text, unparsable};
use crate::slurm::sacctmgr::Association;
use crate::slurm::sinfo::NodeLine;
use crate::slurm::{offers, sacctmgr, sbatch, scontrol, sinfo};

/// What a call said, line by line, and when.
#[derive(Debug)]
pub struct Answer {
    /// Lines of stdout and when each arrived.
    pub lines: Vec<(SystemTime, String)>,
    /// Stderr.
    pub stderr: String,
    /// How it ended.
    pub status: ExitStatus,
}

impl Slurm {
    /// Whether slurmctld answers. It is asked first because every other tool waits long for one that does not.
    ///
    /// # Errors
    /// No Slurm here, or none that answers.
    pub async fn ping(&self) -> Result<()> {
        self.said(&scontrol::ping_argv()).await.map(drop)
    }

    /// Version of Slurm.
    ///
    /// # Errors
    /// sinfo's failure.
    pub async fn version(&self) -> Result<Option<String>> {
        Ok(sinfo::parse_version(&self.said(&sinfo::version_argv()).await?))
    }

    /// The configuration, by name.
    ///
    /// # Errors
    /// scontrol's failure.
    pub async fn config(&self) -> Result<BTreeMap<String, String>> {
        Ok(scontrol::parse_config(&self.said(&scontrol::config_argv()).await?))
    }

    /// Every node in every partition that the user may use, or in all of them.
    ///
    /// # Errors
    /// sinfo's failure, or an answer that cannot be read.
    pub async fn nodes(&self, all: bool) -> Result<Vec<NodeLine>> {
        let argv = sinfo::argv(all);
        sinfo::parse(&self.said(&argv).await?).map_err(unparsable(&argv))
    }

    /// Architecture of each node that has ever been up.
    ///
    /// # Errors
    /// scontrol's failure.
    pub async fn archs(&self) -> Result<BTreeMap<String, String>> {
        Ok(scontrol::parse_archs(&self.said(&scontrol::nodes_argv()).await?))
    }

    /// What a user may charge; `None` where the cluster keeps no accounts.
    ///
    /// # Errors
    /// sacctmgr's failure.
    pub async fn associations(&self, user: &str) -> Result<Option<Vec<Association>>> {
        Ok(self.accounts(&sacctmgr::argv(user)).await?.map(|said| sacctmgr::parse(&said)))
    }

    /// The account that a user's jobs charge when they name none.
    ///
    /// # Errors
    /// sacctmgr's failure.
    pub async fn default_account(&self, user: &str) -> Result<Option<String>> {
        let said = self.accounts(&sacctmgr::default_argv(user)).await?;
        Ok(said.and_then(|said| sacctmgr::parse_default(&said, user)))
    }

    /// MPI types that srun knows.
    ///
    /// # Errors
    /// srun's failure.
    pub async fn mpi_types(&self) -> Result<Vec<String>> {
        let argv = offers::mpi_argv();
        let output = self.run(&argv, Environment::Fresh).await?;
        let stdout = succeeded(&argv, &output)?;
        Ok(offers::parse_mpi(&format!("{stdout}\n{}", text(&output.stderr))))
    }

    /// The help of srun, which has the options of the site's plugins.
    ///
    /// # Errors
    /// srun's failure.
    pub async fn srun_help(&self) -> Result<String> {
        let argv = offers::help_argv();
        let output = self.run(&argv, Environment::Fresh).await?;
        succeeded(&argv, &output)
    }

    /// Whether Slurm would take a script, `sbatch --test-only`: what it says of it. Nothing is submitted.
    ///
    /// # Errors
    /// Its refusal, with advice for the common ones.
    pub async fn would_take(&self, script: &Path) -> Result<String> {
        let argv = sbatch::test_argv(script);
        let output = self.run(&argv, Environment::Kept).await?;
        succeeded(&argv, &output)?;
        Ok(text(&output.stderr))
    }

    /// Runs a call outside of any allocation, and notes when each line arrived.
    ///
    /// # Errors
    /// A call that cannot be started, or that has not ended within `limit`.
    pub async fn answer(&self, argv: &[String], limit: Duration) -> Result<Answer> {
        let mut command = self.command(argv, Environment::Fresh);
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
        let mut said = Vec::new();
        let whole = async { tokio::try_join!(read, stderr.read_to_end(&mut said), child.wait()) };
        match tokio::time::timeout(limit, whole).await {
            Err(_) => Err(SlurmError::Timeout { call: Call(argv.to_vec()), after: limit }),
            Ok(Err(error)) => Err(not_run(argv, error)),
            Ok(Ok((lines, _, status))) => Ok(Answer { lines, stderr: text(&said), status }),
        }
    }

    /// The stdout of a query that must succeed.
    async fn said(&self, argv: &[String]) -> Result<String> {
        let output = self.run(argv, Environment::ForParsing).await?;
        succeeded(argv, &output)
    }

    /// The same of sacctmgr; `None` without accounting.
    async fn accounts(&self, argv: &[String]) -> Result<Option<String>> {
        let output = match self.run(argv, Environment::ForParsing).await {
            Err(SlurmError::NotFound { .. }) => return Ok(None),
            other => other?,
        };
        if sacctmgr::is_disabled(&text(&output.stderr)) || sacctmgr::is_disabled(&text(&output.stdout)) {
            return Ok(None);
        }
        succeeded(argv, &output).map(Some)
    }
}
