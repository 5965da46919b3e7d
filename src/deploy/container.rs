//! The container image of a job: imported and verified once, unpacked once per node.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use tokio::process::Command;

use super::place::Allocation;
use super::{DeployError, Place, log, spawn};
use crate::experiment::{Event, EventLog, files};
use crate::plan::{Container, Plan, container};
use crate::site::ContainerRuntime;
use crate::slurm::srun;
use crate::weights::image::verify;
use crate::weights::image_failure;

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
/// future ends the tools; [`remove`] removes what they leave.
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
    if let Some(file) = container.imported_file() {
        import(container, &file, &logs.join("image.log"), events).await?;
        ready.image = Some(file.display().to_string());
    }
    let image = ready.file_or_reference(container);
    if container::names_file(&image) {
        verify(Path::new(&image)).map_err(|problem| DeployError::Image {
            image: image.clone(),
            problem,
            output: String::new(),
            advice: "remove the file and import the image again, or correct the path in the site file".into(),
            log: String::new(),
        })?;
    }
    if container.is_unpacked() {
        events.emit(Event::ContainerPreparing { image: image.clone(), nodes: allocation.nodes.len() });
        // pyxis reuses any container of that name: one that an earlier job with this id left may be of another image, and half
        // of it. Earlier attempts of this job left theirs too.
        remove_named(plan, allocation, &names(allocation), Path::new("/dev/null")).await;
        unpack(plan, allocation, image, &logs.join("container.log")).await?;
        ready.name = Some(name(allocation));
    }
    Ok(ready)
}

/// Unpacks the image into the job's container on each node.
async fn unpack(plan: &Plan, allocation: &Allocation, image: String, log: &Path) -> Result<(), DeployError> {
    let container = srun::Container {
        image: Some(image.clone()),
        name: Some(name(allocation)),
        // Servers need the option too, so a pyxis without it is refused before the image is unpacked.
        env: vec!["SLURM_JOB_ID".to_owned()],
        flags: plan.container.as_ref().map(Container::flags).unwrap_or_default(),
        ..srun::Container::default()
    };
    let step = on_each_node(plan, &unpacking(allocation), &allocation.nodes, log, &["true".to_owned()]);
    let step = srun::Step { container: Some(container), ..step };
    let from = std::fs::metadata(log).map_or(0, |found| found.len());
    run(&step.to_argv(), &plan.job.clear_env, log).await.map_err(|problem| failure(image, problem, log, from))
}

/// Name of the job's container.
fn name(allocation: &Allocation) -> String {
    allocation.run_id().replace(|c: char| !c.is_ascii_alphanumeric(), "-")
}

/// Names of the containers of this job's attempts, this one's last.
fn names(allocation: &Allocation) -> Vec<String> {
    let attempts = 0..=allocation.restarts;
    attempts.map(|restarts| name(&Allocation { restarts, ..allocation.clone() })).collect()
}

/// Name of the step that unpacks.
fn unpacking(allocation: &Allocation) -> String {
    allocation.step_name("tokmark-container")
}

/// Removes the job's container from the nodes, whole or half-unpacked. Where pyxis keeps containers beyond the job
/// (`container_scope=global`), each would occupy tens of gigabytes; elsewhere a failed removal does no harm.
pub async fn remove(plan: &Plan, place: &Place, logs: &Path) {
    let (Some(_), Place::Allocation(allocation)) =
        (plan.container.as_ref().filter(|container| container.is_unpacked()), place)
    else {
        return;
    };
    let unpacking = end_unpacking(allocation);
    let _ = tokio::time::timeout(Duration::from_secs(60), unpacking).await;
    remove_named(plan, allocation, &[name(allocation)], &logs.join("container.log")).await;
}

/// Ends the unpacking that a signal interrupted: it goes on without its srun, and would write what is being removed.
async fn end_unpacking(allocation: &Allocation) {
    let name = unpacking(allocation);
    loop {
        let steps = allocation.slurm.steps(&allocation.job).await.unwrap_or_default();
        let Some(step) = steps.iter().find(|step| step.name == name) else { return };
        let _ = allocation.slurm.signal_step(&step.id, "KILL").await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

async fn remove_named(plan: &Plan, allocation: &Allocation, names: &[String], log: &Path) {
    // enroot stops at the first name that it does not find.
    let script = "for name; do enroot remove -f \"$name\"; done; true";
    let mut here = ["sh", "-c", script, "remove"].map(str::to_owned).to_vec();
    here.extend(names.iter().map(|name| format!("pyxis_{name}")));
    let step = allocation.step_name("tokmark-remove");
    let everywhere = on_each_node(plan, &step, &allocation.nodes, log, &here).to_argv();
    let limit = Duration::from_secs(30);
    let removed = tokio::time::timeout(limit, run(&everywhere, &plan.job.clear_env, log)).await;
    // Of a job that it ends (`scancel`) Slurm starts no step any more.
    if allocation.on_first && !matches!(removed, Ok(Ok(()))) {
        let _ = tokio::time::timeout(limit, run(&here, &plan.job.clear_env, log)).await;
    }
}

/// The failure of a tool that wrote to `log` from byte `from` on.
fn failure(image: String, problem: String, log: &Path, from: u64) -> DeployError {
    let text = log::since(log, from);
    let text: Vec<String> = text.lines().map(log::plain).collect();
    let text = text.join("\n");
    let causes = image_failure::causes(&text).join("\n");
    DeployError::Image {
        image,
        output: if causes.is_empty() { log::tail(log, 10) } else { causes },
        advice: image_failure::advice(&format!("{problem}\n{text}")).to_owned(),
        problem,
        log: log.display().to_string(),
    }
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
    target: &Path,
    log: &Path,
    events: &EventLog,
) -> Result<(), DeployError> {
    if let Some(folder) = target.parent() {
        fs_err::create_dir_all(folder)?;
    }
    let lock = lock(target).await?;
    if target.exists() && verify(target).is_ok() {
        return Ok(());
    }
    events.emit(Event::ImageImporting { image: container.image.clone(), file: target.display().to_string() });
    let part = PartFile(PathBuf::from(format!("{}.part-{}", target.display(), std::process::id())));
    let _ = std::fs::remove_file(&part.0);
    let from = std::fs::metadata(log).map_or(0, |found| found.len());
    let imported = run(&import_argv(container, &part.0), &[], log).await;
    imported
        .and_then(|()| verify(&part.0).map_err(|problem| format!("after the import, {problem}")))
        .map_err(|problem| failure(container.image.clone(), problem, log, from))?;
    fs_err::rename(&part.0, target)?;
    drop(lock);
    Ok(())
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
