//! Builds the argv of a process: the role's own, wrapped in a container and a step inside an allocation.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::place::visible_gpus;
use super::placement::Placement;
use super::{Place, Setup};
use crate::launcher::Role;
use crate::plan::{Container, Deployment, Plan, Process};
use crate::render::{Addresses, Spawn};
use crate::site::ContainerRuntime;
use crate::slurm::srun;

/// A process about to be started.
pub struct Start<'a> {
    pub placement: &'a Placement<'a>,
    pub role: &'a Role,
    pub process: &'a Process,
    pub spawn: &'a Spawn,
}

impl Start<'_> {
    fn setup(&self) -> &Setup<'_> {
        self.placement.setup
    }

    /// Its own log, or srun's and one per task. Two ranks never share one.
    pub fn logs(&self) -> Vec<PathBuf> {
        log_names(self.process, self.in_steps()).iter().map(|name| self.setup().folders.log(name)).collect()
    }

    fn in_steps(&self) -> bool {
        matches!(self.setup().place, Place::Allocation(_))
    }

    /// The whole argv; `log` is the process's own log.
    pub fn argv(&self, log: &Path) -> Vec<String> {
        if !self.in_steps() {
            return self.spawn.argv.clone();
        }
        let (setup, process, role) = (self.setup(), self.process, self.role);
        let known = &self.placement.addresses.nodes;
        let nodes = process.nodes.iter().filter_map(|node| known.get(*node as usize).cloned());
        let output = match process.tasks {
            0 | 1 => srun::StepOutput::Shared(log.to_path_buf()),
            _ => srun::StepOutput::PerTask(log.to_path_buf()),
        };
        let mpi = setup.plan.job.mpi.as_ref().or(role.mpi_type.as_ref());
        let name = setup.place.step_name(&process.name);
        let mut step = srun::Step {
            ntasks: process.tasks,
            replaces_twice: setup.place.allocation().is_some_and(|allocation| allocation.replaces_twice),
            mpi: mpi.filter(|_| role.mpi).cloned(),
            unset: role.unset.clone(),
            extra: setup.plan.job.srun.clone(),
            env: self.gpus().map(|gpus| ("CUDA_VISIBLE_DEVICES".into(), gpus)).into_iter().collect(),
            ..srun::Step::new(&name, &nodes.collect::<Vec<_>>(), output, &self.spawn.argv)
        };
        if let (Some(container), false) = (&setup.plan.container, role.bare) {
            match container.runtime {
                ContainerRuntime::None => {}
                ContainerRuntime::Pyxis => step.container = Some(self.pyxis(container)),
                ContainerRuntime::Apptainer => {
                    step.argv = self.apptainer(container);
                    // The image restores its own variables inside.
                    step.unset.clear();
                }
            }
        }
        step.to_argv()
    }

    /// `CUDA_VISIBLE_DEVICES`, unless the process has all GPUs of its node.
    fn gpus(&self) -> Option<String> {
        let node = *self.process.nodes.first()?;
        let visible = self.placement.visible.get(node as usize).and_then(Option::as_deref);
        let has_all = visible.is_some_and(|list| list.split(',').count() == self.process.gpus.len());
        let needed = !self.process.gpus.is_empty()
            && (!has_all || shares_its_node(self.setup().deployment, self.process));
        needed.then(|| visible_gpus(&self.process.gpus, visible))
    }

    fn pyxis(&self, container: &Container) -> srun::Container {
        let unpacked = self.setup().image.name.clone();
        srun::Container {
            image: unpacked.is_none().then(|| self.setup().image.file_or_reference(container)),
            // Starts a separate step: joining a running one would not apply its mounts (nor enroot's for MPI).
            name: unpacked.map(|name| format!("{name}:no_exec")),
            mounts: mounts(self.setup().plan, &self.placement.addresses, container),
            // Variables that keep the host's value inside the container.
            env: self.spawn.env.keys().chain(&container.env).cloned().collect(),
            flags: container.flags(),
            ..srun::Container::default()
        }
    }

    /// More variables for srun, so that `env` and the site's variables reach the inside: apptainer prefers the image's values
    /// unless they are set as `APPTAINERENV_NAME`. Never in an argv.
    pub fn wrapped_env(&self, env: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let contained = self.setup().plan.container.as_ref().filter(|container| {
            container.runtime == ContainerRuntime::Apptainer && self.in_steps() && !self.role.bare
        });
        let Some(container) = contained else { return BTreeMap::new() };
        let of_site = container.env.iter().filter_map(|name| Some((name.clone(), std::env::var(name).ok()?)));
        let all = of_site.chain(env.iter().map(|(name, value)| (name.clone(), value.clone())));
        all.map(|(name, value)| (format!("APPTAINERENV_{name}"), value)).collect()
    }

    fn apptainer(&self, container: &Container) -> Vec<String> {
        let mut argv: Vec<String> = ["apptainer", "exec", "--nv"].map(str::to_owned).into();
        for mount in mounts(self.setup().plan, &self.placement.addresses, container) {
            argv.extend(["--bind".into(), mount]);
        }
        argv.extend(container.flags());
        argv.push(self.setup().image.file_or_reference(container));
        if !self.role.unset.is_empty() {
            argv.push("env".into());
            argv.extend(self.role.unset.iter().flat_map(|name| ["-u".to_owned(), name.clone()]));
        }
        argv.extend(self.spawn.argv.iter().cloned());
        argv
    }
}

/// Names of the logs of a process.
pub fn log_names(process: &Process, in_steps: bool) -> Vec<String> {
    let own = format!("{}.log", process.name);
    let tasks = if in_steps && process.tasks > 1 { process.tasks } else { 0 };
    let of_tasks = (0..tasks).map(|task| srun::task_log(&own, &task.to_string()));
    std::iter::once(own.clone()).chain(of_tasks).collect()
}

/// The site's mounts, plus everything an engine reads or writes that they do not cover: rendered files, logs, and weights given
/// by path.
pub(super) fn mounts(plan: &Plan, addresses: &Addresses, container: &Container) -> Vec<String> {
    let weights = Path::new(&plan.model.path);
    let has_weights = weights.is_absolute() && weights.exists();
    let weights = has_weights.then_some((plan.model.path.as_str(), ":ro"));
    let folders = [(addresses.run_dir.as_str(), ""), (addresses.log_dir.as_str(), "")];
    container.mounts_with(&folders.into_iter().chain(weights).collect::<Vec<_>>())
}

/// Whether another process on the same node uses GPUs.
fn shares_its_node(deployment: &Deployment, process: &Process) -> bool {
    let on = |other: &Process| other.nodes.iter().any(|node| process.nodes.contains(node));
    deployment.processes.iter().any(|other| other != process && !other.gpus.is_empty() && on(other))
}
