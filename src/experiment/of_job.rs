//! Finds the directory of a Slurm job. Job numbers come again: on a new controller, and on another cluster with the same file system.

use std::path::{Path, PathBuf};

use fs_err as fs;

use super::event::{self, Event};
use super::{Experiment, Manifest};
use crate::plan::Plan;

/// What tells jobs with the same number apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobIdentity {
    pub id: String,
    pub cluster: Option<String>,
    /// When it was submitted, Unix seconds; a requeue renews it.
    pub submitted: Option<i64>,
    /// How often Slurm requeued it.
    pub restarts: u32,
}

impl JobIdentity {
    /// The directory of this job, created unless it exists: `<stem>_<id>`, or `<stem>_<id>-2` and so on if other jobs with this
    /// number or another plan left their results there.
    pub fn experiment(
        &self,
        plan: &Plan,
        created_by: &str,
        script: Option<&str>,
    ) -> std::io::Result<Experiment> {
        let manifest = Manifest::now(plan, Some(&self.id), created_by);
        let folder = Path::new(&plan.input.experiments);
        let dir = |number: u32| {
            let suffix = if number == 1 { String::new() } else { format!("-{number}") };
            folder.join(format!("{}_{}{suffix}", plan.experiment, self.id))
        };
        let used: Vec<PathBuf> =
            (1..).map(dir).take_while(|dir| dir.join("manifest.json").exists()).collect();
        let mut free = (1..).map(dir).skip(used.len());
        // The newest one first: a restarted job goes on where its last attempt was.
        let mut found = used.into_iter().rev().find(|dir| self.owns(dir, &manifest));
        while found.is_none()
            && let Some(dir) = free.next()
        {
            fs::create_dir_all(&dir)?;
            // Submission and job may create it at the same moment, and so may another cluster.
            let is_own = manifest.create(&dir)? || self.owns(&dir, &manifest);
            found = is_own.then_some(dir);
        }
        let experiment =
            Experiment::whole(found.ok_or_else(|| std::io::Error::other("no free directory name"))?);
        experiment.ensure(plan, script)?;
        experiment.link_output(&self.id);
        Ok(experiment)
    }

    /// Whether a directory is this job's: made for the same plan, and either nothing ran there yet, or an earlier attempt of
    /// this job did.
    fn owns(&self, dir: &Path, own: &Manifest) -> bool {
        let same_plan = Manifest::read(dir).is_ok_and(|found| found.plan.is_some() && found.plan == own.plan);
        let events = event::read(dir);
        let started = events.iter().rev().find_map(|stamped| match &stamped.event {
            Event::Started { cluster, submitted, restarts, .. } => Some((cluster, *submitted, *restarts)),
            _ => None,
        });
        let Some((cluster, submitted, restarts)) = started else { return same_plan };
        let same_cluster = cluster.is_none() || self.cluster.is_none() || *cluster == self.cluster;
        let same_submission = submitted.is_some() && submitted == self.submitted;
        same_plan && same_cluster && (same_submission || restarts < self.restarts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Document;
    use crate::experiment::EventLog;
    use crate::plan::PlanInput;
    use crate::plan::choices::Choices;
    use crate::{launcher, planner};

    /// A plan that keeps its experiments in `folder`.
    fn plan(folder: &Path) -> Plan {
        let text = "schema = 1\nname = \"r\"\n[model]\nname = \"m\"\n[deploy]\nlauncher = \"sim\"\n[load]\nisl = 8\nosl = 4\n";
        planner::plan(&PlanInput {
            recipe: Document { file: "r.toml".into(), text: text.into() },
            folder: "/f".into(),
            site: None,
            site_folder: String::new(),
            launcher: launcher::find("sim", None, "t").unwrap(),
            stand_in: None,
            choices: Choices::default(),
            experiments: folder.display().to_string(),
            version: "1.2.3".into(),
        })
        .unwrap()
    }

    fn job(submitted: i64, restarts: u32, cluster: &str) -> JobIdentity {
        let cluster = Some(cluster.to_owned());
        JobIdentity { id: "1".into(), cluster, submitted: Some(submitted), restarts }
    }

    /// The directory of a job that starts there.
    fn start(job: &JobIdentity, plan: &Plan) -> String {
        let experiment = job.experiment(plan, "exec", None).unwrap();
        let JobIdentity { cluster, submitted, restarts, .. } = job.clone();
        EventLog::open(experiment.dir(), Box::new(|_| {})).unwrap().emit(Event::Started {
            job: Some("1".into()),
            pid: 1,
            host: "n".into(),
            nodes: Vec::new(),
            restarts,
            cluster,
            submitted,
        });
        experiment.name().rsplit_once('_').unwrap().1.to_owned()
    }

    #[test]
    fn a_job_number_that_comes_again_gets_a_new_directory() {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path());
        assert_eq!(start(&job(100, 0, "a"), &plan), "1");
        assert_eq!(start(&job(150, 1, "a"), &plan), "1", "restarted by Slurm");
        assert_eq!(start(&job(200, 0, "a"), &plan), "1-2", "a new controller");
        assert_eq!(start(&job(200, 0, "b"), &plan), "1-3", "another cluster");
        assert_eq!(start(&job(250, 1, "a"), &plan), "1-2", "the restart of the second job");
        let other = Plan { name: "other".into(), ..plan.clone() };
        assert_eq!(start(&job(250, 2, "a"), &other), "1-4", "another plan");
        let unknown = JobIdentity { id: "1".into(), ..JobIdentity::default() };
        assert_eq!(start(&unknown, &plan), "1-5", "Slurm does not say when it was submitted");
    }

    #[test]
    fn submission_and_job_share_a_directory() {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path());
        let submission = JobIdentity { id: "1".into(), ..JobIdentity::default() };
        let made = submission.experiment(&plan, "submit", Some("script")).unwrap();
        assert_eq!(start(&job(100, 0, "a"), &plan), "1");
        // The job was faster than its submission.
        let late = JobIdentity { cluster: None, ..job(100, 0, "a") };
        assert_eq!(late.experiment(&plan, "submit", None).unwrap(), made);
    }
}
