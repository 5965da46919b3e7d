//! The container image of a job: imported and verified once, unpacked once per node.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use tokio::process::Command;

use super::{DeployError, Place, log, spawn};
use crate::experiment::{Event, EventLog, files};
use crate::plan::{Container, Plan};
use crate::site::ContainerRuntime;
use crate::slurm::srun;
use crate::weights::image::verify;

/// The image in the form that the job's processes use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobImage {
    /// Name of the container unpacked for the job; steps use it instead of the image.
    pub name: Option<String>,
    pub image: Option<String>,
}

impl JobImage {
    /// The imported file, or the image as the site names it.
    pub(super) fn file_or_reference(&self, container: &Container) -> String {
        self.image.clone().unwrap_or_else(|| container.image.clone())
    }
}

/// Makes the image ready on every node of the allocation. A local run needs none, because its servers run bare. Dropping the
/// future ends the tools.
///
/// # Errors
/// A failed import, an incomplete image file, a runtime that cannot start the image; with the tools' output.
pub async fn prepare(
    plan: &Plan,
    place: &Place,
    logs: &Path,
    events: &EventLog,
) -> Result<JobImage, DeployError> {
    let (Some(container), Place::Allocation(allocation)) = (&plan.container, place) else {
        return Ok(JobImage::default());
    };
    let mut ready = JobImage::default();
    if let Some(folder) = container.images.as_ref().filter(|_| !is_file(&container.image)) {
        let file = import(container, Path::new(folder), &logs.join("image.log"), events).await?;
        ready.image = Some(file.display().to_string());
    }
    let image = ready.file_or_reference(container);
    if is_file(&image) {
        verify(Path::new(&image)).map_err(|problem| DeployError::Image {
            image: image.clone(),
            problem,
            output: String::new(),
            advice: "remove the file and import the image again, or correct the path in the site file".into(),
        })?;
    }
    if container.runtime == ContainerRuntime::Pyxis && container.reuse {
        // pyxis reuses any container of that name, but another run in the allocation may want another image, and an interrupted
        // attempt may have left half of this one.
        let name = place.run_id().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        events.emit(Event::ContainerPreparing { image: image.clone(), nodes: allocation.nodes.len() });
        let unpacked = srun::Container {
            image: Some(image.clone()),
            name: Some(name.clone()),
            flags: pyxis_flags(container),
            ..srun::Container::default()
        };
        let log = logs.join("container.log");
        let argv = ["true".to_owned()];
        let step = on_each_node(plan, "tokmark-container", &allocation.nodes, &log, &argv);
        let step = srun::Step { container: Some(unpacked), ..step };
        run(&step.to_argv(), &plan.job.clear_env, &log).await.map_err(|problem| DeployError::Image {
            image,
            problem,
            output: log::tail(&log, 10),
            advice: "check the image's name or path, and the free space of the nodes; container.reuse = false starts every step from the image".into(),
        })?;
        ready.name = Some(name);
    }
    Ok(ready)
}

/// Removes the container from the nodes. Where pyxis keeps containers beyond the job (`container_scope=global`), each would
/// occupy tens of gigabytes; elsewhere a failed removal does no harm.
pub async fn remove(plan: &Plan, place: &Place, image: &JobImage, logs: &Path) {
    let (Some(name), Place::Allocation(allocation)) = (&image.name, place) else { return };
    let argv = ["enroot", "remove", "-f", &format!("pyxis_{name}")].map(str::to_owned);
    let log = logs.join("container.log");
    let argv = on_each_node(plan, "tokmark-remove", &allocation.nodes, &log, &argv).to_argv();
    let removing = run(&argv, &plan.job.clear_env, &log);
    let _ = tokio::time::timeout(Duration::from_secs(30), removing).await;
}

/// Whether an image is a file rather than a registry reference.
fn is_file(image: &str) -> bool {
    image.starts_with('/') || image.starts_with("./")
}

/// Name of the file an image is imported to: its reference, with characters that file names cannot hold replaced.
pub fn file_name(image: &str, runtime: ContainerRuntime) -> String {
    let extension = if runtime == ContainerRuntime::Apptainer { "sif" } else { "sqsh" };
    let plain = image.trim_start_matches("docker://");
    let safe: String = plain
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '+' })
        .collect();
    format!("{safe}.{extension}")
}

/// An unfinished file; removed on drop.
struct PartFile(PathBuf);

impl Drop for PartFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Imports an image once: a second run waits for the first one's lock, then finds the file.
async fn import(
    container: &Container,
    folder: &Path,
    log: &Path,
    events: &EventLog,
) -> Result<PathBuf, DeployError> {
    fs_err::create_dir_all(folder)?;
    let target = folder.join(file_name(&container.image, container.runtime));
    let lock = lock(&target).await?;
    if target.exists() && verify(&target).is_ok() {
        return Ok(target);
    }
    events.emit(Event::ImageImporting { image: container.image.clone(), file: target.display().to_string() });
    let part = PartFile(PathBuf::from(format!("{}.part-{}", target.display(), std::process::id())));
    let _ = std::fs::remove_file(&part.0);
    let imported = run(&import_argv(container, &part.0), &[], log).await;
    imported
        .and_then(|()| verify(&part.0).map_err(|problem| format!("after the import, {problem}")))
        .map_err(|problem| DeployError::Image {
            image: container.image.clone(),
            problem,
            output: log::tail(log, 10),
            advice: "see the log; check the name of the image and the registry's credentials, or import it by hand and name the file in [gpus.TYPE.images] of the site file".into(),
        })?;
    fs_err::rename(&part.0, &target)?;
    drop(lock);
    Ok(target)
}

/// Waits for the lock of an image file.
async fn lock(target: &Path) -> Result<Flock<std::fs::File>, DeployError> {
    let path = format!("{}.lock", target.display());
    loop {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&path)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => {}
            Err((_, error)) => return Err(std::io::Error::from(error).into()),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// The import command: enroot for pyxis, otherwise apptainer.
fn import_argv(container: &Container, file: &Path) -> Vec<String> {
    let file = file.display().to_string();
    let plain = container.image.trim_start_matches("docker://");
    match container.runtime {
        // enroot separates the registry by `#`, apptainer by `/`.
        ContainerRuntime::Apptainer => {
            ["apptainer".into(), "pull".into(), file, format!("docker://{}", plain.replacen('#', "/", 1))]
                .into()
        }
        _ => ["enroot".into(), "import".into(), "-o".into(), file, format!("docker://{plain}")].into(),
    }
}

/// pyxis' options for a container of the site.
pub(super) fn pyxis_flags(container: &Container) -> Vec<String> {
    let own = (!container.mount_home).then(|| "--no-container-mount-home".to_owned());
    own.into_iter().chain(container.options.iter().cloned()).collect()
}

/// A step with one task on each of these nodes.
fn on_each_node(plan: &Plan, name: &str, nodes: &[String], log: &Path, argv: &[String]) -> srun::Step {
    let output = srun::StepOutput::Shared(log.to_path_buf());
    srun::Step { extra: plan.job.srun.clone(), ..srun::Step::new(name, nodes, output, argv) }
}

/// Runs a tool to completion and writes its output to `log`.
async fn run(argv: &[String], clear_env: &[String], log: &Path) -> Result<(), String> {
    let file = files::append(log).map_err(|error| error.to_string())?;
    let errors = file.try_clone().map_err(|error| error.to_string())?;
    let program = argv.first().map_or("", String::as_str);
    let mut command = Command::new(program);
    command.args(argv.iter().skip(1)).stdin(Stdio::null()).stdout(file).stderr(errors).kill_on_drop(true);
    spawn::clear(&mut command, clear_env);
    let mut child = command.spawn().map_err(|error| format!("{program} cannot be started: {error}"))?;
    match child.wait().await {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{program} ended with {status}")),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_become_file_names() {
        let name = |image: &str, runtime| file_name(image, runtime);
        assert_eq!(name("nvcr.io#nvidia/x:1", ContainerRuntime::Pyxis), "nvcr.io+nvidia+x+1.sqsh");
        assert_eq!(name("docker://a/b@sha256:ff", ContainerRuntime::Apptainer), "a+b+sha256+ff.sif");
    }
}
