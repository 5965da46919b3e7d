//! The container image of a job: imported once, verified, unpacked once on each node.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::{DeployError, Place, log, spawn};
use crate::experiment::{Event, files};
use crate::plan::{Container, Plan};
use crate::site::ContainerRuntime;
use crate::slurm::srun;
use crate::weights::image::verify;

/// The image as the job's processes use it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobImage {
    /// Name of the container that was unpacked for the job; steps use it in place of the image.
    pub name: Option<String>,
    /// The image file it was imported to.
    pub image: Option<String>,
}

/// Makes the image ready on every node of the allocation. On this machine servers run bare, and there is nothing to do.
///
/// # Errors
/// An import that fails, a file that is no whole image, a runtime that cannot start it; with what the tools said.
pub async fn prepare(
    plan: &Plan,
    place: &Place,
    logs: &Path,
    emit: &(dyn Fn(Event) + Send + Sync),
    stop: &CancellationToken,
) -> Result<JobImage, DeployError> {
    let (Some(container), Place::Allocation(allocation)) = (&plan.container, place) else {
        return Ok(JobImage::default());
    };
    let mut prepared = JobImage::default();
    if let Some(folder) = container.images.as_ref().filter(|_| is_reference(&container.image)) {
        let log = logs.join("image.log");
        let file = import(container, Path::new(folder), &log, emit, stop).await?;
        prepared.image = Some(file.display().to_string());
    }
    let image = prepared.image.clone().unwrap_or_else(|| container.image.clone());
    if is_file(&image) {
        verify(Path::new(&image)).map_err(|problem| DeployError::Image {
            image: image.clone(),
            problem,
            said: String::new(),
            advice: "remove the file and import the image again, or correct the path in the site file".into(),
        })?;
    }
    if container.runtime == ContainerRuntime::Pyxis && container.reuse {
        // pyxis takes a container that is there for the right one: another run in the allocation may want another image,
        // and an attempt that was cut may have unpacked half of this one.
        let name = place.run_id().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        unpack(plan, container, &image, &name, &allocation.nodes, logs, emit, stop).await?;
        prepared.name = Some(name);
    }
    Ok(prepared)
}

/// Removes the container from the nodes. Where pyxis keeps containers beyond a job (`container_scope=global`) each would stay
/// there, tens of gigabytes; elsewhere there is nothing left to remove, and that is no failure.
pub async fn remove(plan: &Plan, place: &Place, prepared: &JobImage, logs: &Path) {
    let (Some(name), Place::Allocation(allocation)) = (&prepared.name, place) else { return };
    let argv = ["enroot", "remove", "-f", &format!("pyxis_{name}")].map(str::to_owned);
    let log = logs.join("container.log");
    let output = srun::StepOutput::Shared(log.clone());
    let mut step = srun::Step::new("tokmark-remove", &allocation.nodes, output, &argv);
    step.extra.clone_from(&plan.job.srun);
    let never = CancellationToken::new();
    let argv = step.to_argv();
    let removing = run(&argv, &plan.job.clear_env, &log, &never);
    let _gone_or_not = tokio::time::timeout(Duration::from_secs(30), removing).await;
}

/// Whether an image is named by a registry's reference and not by a file.
fn is_reference(image: &str) -> bool {
    !is_file(image)
}

fn is_file(image: &str) -> bool {
    image.starts_with('/') || image.starts_with("./")
}

/// The file an image is imported to: its reference with every sign that cannot be in a name replaced.
pub fn file_name(image: &str, runtime: ContainerRuntime) -> String {
    let extension = if runtime == ContainerRuntime::Apptainer { "sif" } else { "sqsh" };
    let plain = image.trim_start_matches("docker://");
    let safe: String = plain
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '+' })
        .collect();
    format!("{safe}.{extension}")
}

/// Imports an image once: whoever comes second waits for the first one's lock and finds the file.
async fn import(
    container: &Container,
    folder: &Path,
    log: &Path,
    emit: &(dyn Fn(Event) + Send + Sync),
    stop: &CancellationToken,
) -> Result<PathBuf, DeployError> {
    fs_err::create_dir_all(folder)?;
    let target = folder.join(file_name(&container.image, container.runtime));
    let lock = lock(&target, stop).await?;
    if target.exists() && verify(&target).is_ok() {
        return Ok(target);
    }
    emit(Event::ImageImporting { image: container.image.clone(), file: target.display().to_string() });
    let part = PathBuf::from(format!("{}.part-{}", target.display(), std::process::id()));
    let _left = std::fs::remove_file(&part);
    let argv = import_argv(container, &part);
    let failed = |problem: String| {
        DeployError::Image {
        image: container.image.clone(),
        problem,
        said: log::tail(log, 10),
        advice: "see the log; check the name of the image and the registry's credentials, or import it by hand and name the file in [gpus.TYPE.images] of the site file".into(),
    }
    };
    let outcome = run(&argv, &[], log, stop).await;
    let outcome = match outcome {
        Ok(()) => verify(&part).map_err(|problem| failed(format!("after the import, {problem}"))),
        Err(StepError::Interrupted) => Err(DeployError::Interrupted),
        Err(StepError::Failed(problem)) => Err(failed(problem)),
    };
    if let Err(error) = outcome {
        let _left = std::fs::remove_file(&part);
        return Err(error);
    }
    fs_err::rename(&part, &target)?;
    drop(lock);
    Ok(target)
}

/// The lock of an image file, waited for.
async fn lock(target: &Path, stop: &CancellationToken) -> Result<Flock<std::fs::File>, DeployError> {
    let path = format!("{}.lock", target.display());
    loop {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&path)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => {}
            Err((_, error)) => return Err(std::io::Error::from(error).into()),
        }
        tokio::select! {
            () = stop.cancelled() => return Err(DeployError::Interrupted),
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
        }
    }
}

/// How a runtime imports: enroot for pyxis, apptainer itself.
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

/// Unpacks the image on every node under a name, which later steps use.
#[expect(clippy::too_many_arguments, reason = "each is a different thing, and one caller passes them on")]
async fn unpack(
    plan: &Plan,
    container: &Container,
    image: &str,
    name: &str,
    nodes: &[String],
    logs: &Path,
    emit: &(dyn Fn(Event) + Send + Sync),
    stop: &CancellationToken,
) -> Result<(), DeployError> {
    let log = logs.join("container.log");
    emit(Event::ContainerPreparing { image: image.to_owned(), nodes: nodes.len() });
    let argv = ["true".to_owned()];
    let mut step = srun::Step::new("tokmark-container", nodes, srun::StepOutput::Shared(log.clone()), &argv);
    let mut flags = container.options.clone();
    if !container.mount_home {
        flags.insert(0, "--no-container-mount-home".into());
    }
    step.container = Some(srun::Container {
        image: Some(image.to_owned()),
        name: Some(name.to_owned()),
        flags,
        ..srun::Container::default()
    });
    step.extra.clone_from(&plan.job.srun);
    match run(&step.to_argv(), &plan.job.clear_env, &log, stop).await {
        Ok(()) => Ok(()),
        Err(StepError::Interrupted) => Err(DeployError::Interrupted),
        Err(StepError::Failed(problem)) => Err(DeployError::Image {
            image: image.to_owned(),
            problem,
            said: log::tail(&log, 10),
            advice: "check the image's name or path, and the free space of the nodes; container.reuse = false starts every step from the image".into(),
        }),
    }
}

enum StepError {
    Interrupted,
    Failed(String),
}

/// Runs a tool to its end with its output in `log`.
async fn run(
    argv: &[String],
    clear_env: &[String],
    log: &Path,
    stop: &CancellationToken,
) -> Result<(), StepError> {
    let failed = |problem: String| StepError::Failed(problem);
    let file = files::append(log).map_err(|error| failed(error.to_string()))?;
    let errors = file.try_clone().map_err(|error| failed(error.to_string()))?;
    let program = argv.first().map_or("", String::as_str);
    let mut command = Command::new(program);
    command.args(argv.iter().skip(1)).stdin(Stdio::null()).stdout(file).stderr(errors).kill_on_drop(true);
    spawn::clear(&mut command, clear_env);
    let mut child =
        command.spawn().map_err(|error| failed(format!("{program} cannot be started: {error}")))?;
    tokio::select! {
        () = stop.cancelled() => Err(StepError::Interrupted),
        status = child.wait() => match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(failed(format!("{program} ended with {status}"))),
            Err(error) => Err(failed(error.to_string())),
        },
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
