//! Asks for everything that `doctor` reports: the cluster, whether it would take jobs, and its nodes.
//!
//! Every call has a time limit.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::probe::{Named, Wish, directives, paths_of, probe};
use super::{Finding, cluster, seen, weights};
use crate::executor::error::Call;
use crate::executor::{Slurm, SlurmError};
use crate::node::WeightsAsk;
use crate::plan::Plan;
use crate::render::{self, RenderError};
use crate::site::Site;
use crate::survey::{Survey, survey};
use crate::weights::Subject;

/// What to examine, and how far.
pub struct Examination<'a> {
    /// The site.
    pub site: &'a Site,
    /// GPU types to look at; none is a job without GPUs.
    pub gpus: Vec<String>,
    /// Plans whose jobs are tried too.
    pub plans: &'a [Plan],
    /// Folder of the experiments, absolute.
    pub experiments: PathBuf,
    /// Path of this binary.
    pub tokmark: String,
    /// Seconds the job on a node may wait in the queue; `None` to start none.
    pub wait_s: Option<u64>,
    /// Told of each call that starts a job.
    pub on_job: &'a dyn Fn(&str),
}

/// GPU types of a site, or those that Slurm has when the site names none.
pub fn gpu_types(site: &Site, asked: Option<&str>) -> Vec<String> {
    if let Some(asked) = asked {
        return vec![asked.to_owned()];
    }
    let mut types: Vec<String> = site.gpus.keys().cloned().collect();
    types.extend(site.gpu.iter().filter(|gpu| !site.gpus.contains_key(*gpu)).cloned());
    types
}

impl Examination<'_> {
    /// Does it.
    ///
    /// # Errors
    /// Slurm does not answer at all.
    pub async fn run(&self, slurm: &Slurm) -> Result<Vec<Finding>, SlurmError> {
        let survey = survey(slurm).await?;
        let mut findings = cluster::site(self.site, &survey);
        let kinds: Vec<Option<&str>> = if self.gpus.is_empty() {
            vec![None]
        } else {
            self.gpus.iter().map(|gpu| Some(gpu.as_str())).collect()
        };
        for kind in kinds {
            let mut of_type = self.gpu_type(slurm, kind, &survey).await;
            for finding in &mut of_type {
                finding.about = kind.map(str::to_owned);
            }
            findings.append(&mut of_type);
        }
        for plan in self.plans {
            let script = render::script(plan, &self.tokmark, &[]);
            findings.push(self.try_script(slurm, script).await.about(&plan.name));
        }
        findings.extend(self.files());
        Ok(findings)
    }

    /// What needs no Slurm: weights and images as this machine sees them.
    pub fn files(&self) -> Vec<Finding> {
        self.plans.iter().flat_map(weights::rows).collect()
    }

    async fn gpu_type(&self, slurm: &Slurm, kind: Option<&str>, survey: &Survey) -> Vec<Finding> {
        let (mut findings, free) = cluster::gpu_type(self.site, kind, survey);
        let script = bare_script(&directives(self.site, kind));
        findings.push(self.try_script(slurm, script).await);
        let refused = findings.iter().any(|finding| {
            finding.status == super::Status::Fail && matches!(finding.check, "partition" | "sbatch" | "gres")
        });
        match self.wait_s {
            None => {}
            Some(_) if refused => findings.push(Finding::warn(
                "node",
                "no job was tried on a node, since Slurm would not take it",
                "correct what failed above and run doctor again",
            )),
            Some(wait_s) => findings.append(&mut self.look_from_nodes(slurm, kind, free, wait_s).await),
        }
        findings
    }

    /// Whether Slurm would take a script. It is written to a file because `#SBATCH` lines weigh less than arguments do.
    async fn try_script(&self, slurm: &Slurm, script: Result<String, RenderError>) -> Finding {
        let script = match script {
            Ok(script) => script,
            Err(error) => {
                return Finding::fail("sbatch", error.to_string(), "correct the directive in the site file");
            }
        };
        let path = std::env::temp_dir().join(format!("tokmark-doctor-{}.sbatch", std::process::id()));
        if let Err(error) = fs_err::write(&path, script) {
            return Finding::warn("sbatch", error.to_string(), "set TMPDIR to a folder that can be written");
        }
        let tried = slurm.would_take(&path).await;
        let _gone_already = std::fs::remove_file(&path);
        match tried {
            Ok(said) => Finding::ok("sbatch", placed(&said)),
            Err(SlurmError::Refused { stderr, advice, .. }) => {
                let next = advice.unwrap_or("see what sbatch says, and the site's documentation");
                Finding::fail("sbatch", format!("Slurm would not take a job: {}", reason(&stderr)), next)
            }
            Err(error) => Finding::fail("sbatch", error.to_string(), "try `scontrol ping`"),
        }
    }

    /// Looks from compute nodes.
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
                let next =
                    "name a folder that can be written: experiments in the site file, or --experiments";
                findings.push(Finding::fail("experiments", error.to_string(), next));
                None
            }
        };
        let named = shared.as_ref().map(|shared| Named {
            path: shared.0.display().to_string(),
            key: "experiments".into(),
            may_come: false,
        });
        let mut more: Vec<Named> = named.iter().cloned().collect();
        let for_type = |plan: &&Plan| kind.is_none_or(|kind| plan.gpu.kind == kind);
        let plans = || self.plans.iter().filter(for_type);
        more.extend(plans().flat_map(paths_of));
        let folders = plans().filter_map(Subject::of).map(|subject| WeightsAsk::from(&subject)).collect();
        let wish = Wish { nodes: if free > 1 { 2 } else { 1 }, wait_s };
        let probe = probe(self.site, kind, &self.tokmark, wish, &more, folders);
        (self.on_job)(&Call(probe.argv.clone()).to_string());
        // srun gives up by itself; should it hang, so does this.
        let limit = Duration::from_secs(wait_s) + slurm.timeout;
        match slurm.answer(&probe.argv, limit).await {
            Ok(answer) => findings.extend(seen::judge(self.site, kind, &probe, &answer, named.as_ref())),
            Err(error) => findings.push(Finding::fail("node", error.to_string(), "run the call by hand")),
        }
        findings
    }
}

/// A script that does nothing but ask for what directives ask for.
fn bare_script(directives: &[String]) -> Result<String, RenderError> {
    let lines = directives.iter().map(|line| Ok(format!("#SBATCH {}\n", render::directive(line)?)));
    let lines: Vec<String> = lines.collect::<Result<_, RenderError>>()?;
    Ok(format!("#!/bin/bash\n{}true\n", lines.concat()))
}

/// `Job 3 to start at … on nodes n1 in partition gpu`, without the number and the time, which mean nothing.
fn placed(said: &str) -> String {
    let line = said.lines().find(|line| line.contains("to start at")).unwrap_or_default();
    match line.split_once(" using ") {
        Some((_, place)) => format!("Slurm would take a job: {}", place.trim()),
        None => "Slurm would take a job".into(),
    }
}

/// The last line of a refusal, without the tool's name before it.
fn reason(stderr: &str) -> &str {
    let line = stderr.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it said nothing");
    let line = line.strip_prefix("allocation failure: ").unwrap_or(line);
    line.strip_prefix("sbatch: error: ").unwrap_or(line)
}

/// A file in the folder of the experiments, or in the nearest one above that exists; it goes with this value.
struct Shared(PathBuf);

impl Drop for Shared {
    fn drop(&mut self) {
        let _gone_already = std::fs::remove_file(&self.0);
    }
}

fn share(experiments: &Path) -> std::io::Result<Shared> {
    let folder = experiments.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    let path = folder.join(format!(".tokmark-doctor-{}", std::process::id()));
    fs_err::write(&path, "doctor looks for this file from compute nodes; it may be deleted\n")?;
    Ok(Shared(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sbatch_says_in_few_words() {
        let said = "sbatch: Job 3 to start at 2026-11-24T20:55:52 using 8 processors on nodes s-3 in partition gpu\n";
        assert_eq!(placed(said), "Slurm would take a job: 8 processors on nodes s-3 in partition gpu");
        assert_eq!(placed("Welcome\n"), "Slurm would take a job");
        let refusal = "sbatch: error: invalid partition specified: nope\nallocation failure: Invalid partition name specified\n";
        assert_eq!(reason(refusal), "Invalid partition name specified");
        assert_eq!(reason(""), "it said nothing");
    }

    #[test]
    fn a_script_of_directives_alone() {
        let script = bare_script(&["--nodes=1".into(), "--comment=a b".into()]).unwrap();
        assert_eq!(script, "#!/bin/bash\n#SBATCH --nodes=1\n#SBATCH --comment=\"a b\"\ntrue\n");
        assert!(bare_script(&["--comment=a\nb".into()]).is_err());
    }

    #[test]
    fn the_shared_file_lies_in_what_exists_and_goes_away() {
        let dir = tempfile::tempdir().unwrap();
        let shared = share(&dir.path().join("not/yet")).unwrap();
        let path = shared.0.clone();
        assert!(path.is_file() && path.parent() == Some(dir.path()));
        drop(shared);
        assert!(!path.exists());
    }
}
