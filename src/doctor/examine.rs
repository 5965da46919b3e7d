//! Runs all checks of `doctor`: cluster, test submissions, nodes. Every call has a time limit.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::NamedTempFile;

use super::probe::{KeyedPath, ProbeSize, directives, paths_of, probe};
use super::{Finding, answers, cluster, container, weights};
use crate::executor::error::Call;
use crate::executor::{Slurm, SlurmError};
use crate::plan::Plan;
use crate::render::{self, RenderError};
use crate::site::Site;
use crate::survey::{Survey, survey};
use crate::weights::{drafts_of_plan, of_plan};

/// What to check.
pub struct Examination<'a> {
    pub site: &'a Site,
    /// GPU types to check; none means jobs without GPUs.
    pub gpus: Vec<String>,
    /// Plans whose jobs are test-submitted too.
    pub plans: &'a [Plan],
    /// Experiments folder, absolute.
    pub experiments: PathBuf,
    /// Path of this binary.
    pub tokmark: String,
    /// Seconds that the job on a node may wait in the queue; `None` for no job.
    pub wait_s: Option<u64>,
    /// Whether to start a container of each plan's image on a node.
    pub start: bool,
    /// Called with each command that starts a job.
    pub on_job: &'a dyn Fn(&str),
}

/// The requested GPU type, or those of the site.
pub fn gpu_types(site: &Site, requested: Option<&str>) -> Vec<String> {
    if let Some(requested) = requested {
        return vec![requested.to_owned()];
    }
    let mut types: Vec<String> = site.gpus.keys().cloned().collect();
    types.extend(site.gpu.iter().filter(|gpu| !site.gpus.contains_key(*gpu)).cloned());
    types
}

impl Examination<'_> {
    /// Runs the checks.
    ///
    /// # Errors
    /// Slurm does not answer.
    pub async fn run(&self, slurm: &Slurm) -> Result<Vec<Finding>, SlurmError> {
        let survey = survey(slurm).await?;
        let mut findings = cluster::site(self.site, &survey);
        if self.gpus.is_empty() {
            findings.extend(self.gpu_type(slurm, None, &survey).await);
        }
        for kind in &self.gpus {
            let of_type = self.gpu_type(slurm, Some(kind), &survey).await;
            findings.extend(of_type.into_iter().map(|finding| finding.about(kind)));
        }
        for plan in self.plans {
            let script = render::script(plan, &self.tokmark, &[]);
            findings.push(self.try_script(slurm, script).await.about(&plan.name));
        }
        findings.extend(self.files());
        if let Some(wait_s) = self.wait_s.filter(|_| self.start) {
            for plan in self.plans {
                findings
                    .extend(self.start(slurm, plan, wait_s).await.map(|finding| finding.about(&plan.name)));
            }
        }
        Ok(findings)
    }

    /// Starts one container.
    async fn start(&self, slurm: &Slurm, plan: &Plan, wait_s: u64) -> Option<Finding> {
        let image = plan.container.as_ref()?;
        let argv = match container::argv(self.site, plan, wait_s) {
            Ok(argv) => argv?,
            Err(error) => return Some(Finding::fail("start", error.to_string(), "correct the site file")),
        };
        (self.on_job)(&Call(argv.clone()).to_string());
        let began = SystemTime::now();
        let limit = Duration::from_secs(wait_s) + container::LIMIT;
        Some(match slurm.answer(&argv, limit).await {
            Ok(answer) => container::judge(image, &answer, began),
            Err(error) => Finding::fail("start", error.to_string(), "run the call by hand"),
        })
    }

    /// Checks without Slurm: weights and images on this machine.
    pub fn files(&self) -> Vec<Finding> {
        self.plans.iter().flat_map(weights::rows).collect()
    }

    async fn gpu_type(&self, slurm: &Slurm, kind: Option<&str>, survey: &Survey) -> Vec<Finding> {
        let (mut findings, free) = cluster::gpu_type(self.site, kind, survey);
        let directives = match directives(self.site, kind) {
            Ok(directives) => directives,
            Err(error) => {
                findings.push(Finding::fail("sbatch", error.to_string(), "correct the site file"));
                return findings;
            }
        };
        findings.push(self.try_script(slurm, bare_script(&directives)).await);
        let refused = findings.iter().any(|finding| {
            finding.status == super::Status::Fail && matches!(finding.check, "partition" | "sbatch" | "gres")
        });
        match self.wait_s {
            None => {}
            Some(_) if refused => findings.push(Finding::warn(
                "node",
                "no job was started on a node, because Slurm would refuse it",
                "correct the failures above and run doctor again",
            )),
            Some(wait_s) => findings.append(&mut self.look_from_nodes(slurm, kind, free, wait_s).await),
        }
        findings
    }

    /// Whether Slurm would accept a script. It is written to a file, because `#SBATCH` lines rank below arguments.
    async fn try_script(&self, slurm: &Slurm, script: Result<String, RenderError>) -> Finding {
        let script = match script {
            Ok(script) => script,
            Err(error) => {
                return Finding::fail("sbatch", error.to_string(), "correct the directive in the site file");
            }
        };
        let file = match temporary(&std::env::temp_dir(), &script) {
            Ok(file) => file,
            Err(error) => {
                return Finding::warn("sbatch", error.to_string(), "set TMPDIR to a writable folder");
            }
        };
        let accepted = slurm.would_take(file.path()).await;
        match accepted {
            Ok(text) => Finding::ok("sbatch", placed(&text)),
            Err(SlurmError::Refused { stderr, advice, .. }) => {
                let next = advice.unwrap_or("read sbatch's message and the site's documentation");
                Finding::fail("sbatch", format!("Slurm would refuse a job: {}", reason(&stderr)), next)
            }
            Err(error) => Finding::fail("sbatch", error.to_string(), "run `scontrol ping`"),
        }
    }

    /// Runs the checks on compute nodes.
    async fn look_from_nodes(
        &self,
        slurm: &Slurm,
        kind: Option<&str>,
        free: usize,
        wait_s: u64,
    ) -> Vec<Finding> {
        let mut findings = Vec::new();
        let shared = match share(&self.experiments) {
            Ok(shared) => Some(shared),
            Err(error) => {
                let next = "use a writable folder: experiments in the site file, or --experiments";
                findings.push(Finding::fail("experiments", error.to_string(), next));
                None
            }
        };
        let named = shared.as_ref().map(|shared| KeyedPath {
            path: shared.path().display().to_string(),
            key: "experiments".into(),
            optional: false,
        });
        let plans = || self.plans.iter().filter(|plan| kind.is_none_or(|kind| plan.gpu.kind == kind));
        let more: Vec<KeyedPath> = named.iter().cloned().chain(plans().flat_map(paths_of)).collect();
        let mut folders = Vec::new();
        for query in plans().flat_map(|plan| of_plan(plan).into_iter().chain(drafts_of_plan(plan))) {
            if !folders.contains(&query) {
                folders.push(query);
            }
        }
        let size = ProbeSize { nodes: if free > 1 { 2 } else { 1 }, wait_s };
        let probe = match probe(self.site, kind, &self.tokmark, size, &more, folders) {
            Ok(probe) => probe,
            Err(error) => {
                findings.push(Finding::fail("node", error.to_string(), "correct the site file"));
                return findings;
            }
        };
        (self.on_job)(&Call(probe.argv.clone()).to_string());
        // srun gives up by itself; this limit is for an srun that hangs.
        let limit = Duration::from_secs(wait_s) + slurm.timeout;
        match slurm.answer(&probe.argv, limit).await {
            Ok(answer) => findings.extend(answers::judge(self.site, kind, &probe, &answer, named.as_ref())),
            Err(error) => findings.push(Finding::fail("node", error.to_string(), "run the call by hand")),
        }
        findings
    }
}

/// A script with these directives that does nothing.
fn bare_script(directives: &[String]) -> Result<String, RenderError> {
    let lines = directives.iter().map(|line| Ok(format!("#SBATCH {}\n", render::directive(line)?)));
    let lines: Vec<String> = lines.collect::<Result<_, RenderError>>()?;
    Ok(format!("#!/bin/bash\n{}true\n", lines.concat()))
}

/// `Job 3 to start at … on nodes n1 in partition gpu`, without number and time, which mean nothing.
fn placed(output: &str) -> String {
    let line = output.lines().find(|line| line.contains("to start at")).unwrap_or_default();
    match line.split_once(" using ") {
        Some((_, place)) => format!("Slurm would accept a job: {}", place.trim()),
        None => "Slurm would accept a job".into(),
    }
}

/// The last line of a refusal, without the tool's name.
fn reason(stderr: &str) -> &str {
    let line = stderr.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("no message");
    let line = line.strip_prefix("allocation failure: ").unwrap_or(line);
    line.strip_prefix("sbatch: error: ").unwrap_or(line)
}

/// A file in the experiments folder, or in its nearest existing ancestor.
fn share(experiments: &Path) -> std::io::Result<NamedTempFile> {
    let folder = experiments.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    temporary(folder, "doctor looks for this file on compute nodes; it may be deleted\n")
}

/// A file that is removed when the value is dropped.
fn temporary(folder: &Path, text: &str) -> std::io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new().prefix(".tokmark-doctor-").tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_sbatch_in_few_words() {
        let output = "sbatch: Job 3 to start at 2026-11-24T20:55:52 using 8 processors on nodes s-3 in partition gpu\n";
        assert_eq!(placed(output), "Slurm would accept a job: 8 processors on nodes s-3 in partition gpu");
        assert_eq!(placed("Welcome\n"), "Slurm would accept a job");
        let refusal = "sbatch: error: invalid partition specified: nope\nallocation failure: Invalid partition name specified\n";
        assert_eq!(reason(refusal), "Invalid partition name specified");
        assert_eq!(reason(""), "no message");
    }

    #[test]
    fn a_script_of_directives_alone() {
        let script = bare_script(&["--nodes=1".into(), "--comment=a b".into()]).unwrap();
        assert_eq!(script, "#!/bin/bash\n#SBATCH --nodes=1\n#SBATCH --comment=\"a b\"\ntrue\n");
        assert!(bare_script(&["--comment=a\nb".into()]).is_err());
    }

    #[test]
    fn the_shared_file_is_created_in_an_existing_folder_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let shared = share(&dir.path().join("not/yet")).unwrap();
        let path = shared.path().to_owned();
        assert!(path.is_file() && path.parent() == Some(dir.path()));
        drop(shared);
        assert!(!path.exists());
    }
}
