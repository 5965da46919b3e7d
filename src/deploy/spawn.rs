//! Starting one process, as a child here or a step in the allocation, and watching it from that moment.
//!
//! Arrow: `render`, `slurm::srun`, `place`, `log` → here → `deploy`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use regex::Regex;
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::log::{self, Follow};
use super::place::visible_gpus;
use super::{DeployError, Place, Surroundings, secrets};
use crate::experiment::{Event, files};
use crate::launcher::Role;
use crate::plan::Plan;
use crate::plan::topology::Process;
use crate::recipe::secret;
use crate::render::{Scene, Spawn};
use crate::slurm::srun;

/// How often logs are looked at.
const LOG_PERIOD: Duration = Duration::from_millis(200);

/// A process that was started.
#[derive(Debug)]
pub struct Running {
    /// Its name; of the Slurm step too.
    pub name: String,
    /// Its role; processes of one role are stopped together.
    pub role: String,
    /// Process id and group of the child, or of its srun.
    pub pid: u32,
    /// Its log.
    pub log: PathBuf,
    /// Set once it has ended.
    pub ended: watch::Receiver<bool>,
}

/// What watching a process needs.
#[derive(Clone)]
pub struct Watcher {
    fatal: Arc<Vec<(Regex, String)>>,
    death: watch::Sender<Option<Arc<DeployError>>>,
    stopping: Arc<AtomicBool>,
    emit: Arc<dyn Fn(Event) + Send + Sync>,
}

impl Watcher {
    /// A watcher for the launcher's fatal patterns.
    pub fn new(
        plan: &Plan,
        death: watch::Sender<Option<Arc<DeployError>>>,
        stopping: Arc<AtomicBool>,
        emit: Arc<dyn Fn(Event) + Send + Sync>,
    ) -> Result<Self, DeployError> {
        let fatal: Result<Vec<_>, _> = plan
            .launcher
            .fatal
            .iter()
            .map(|fatal| Regex::new(&fatal.pattern).map(|pattern| (pattern, fatal.advice.clone())))
            .collect();
        let fatal = fatal.map_err(|error| std::io::Error::other(error.to_string()))?;
        Ok(Self { fatal: Arc::new(fatal), death, stopping, emit })
    }

    fn report(&self, error: DeployError) {
        if !self.stopping.load(Ordering::SeqCst) {
            self.death.send_if_modified(|slot| {
                let first = slot.is_none();
                if first {
                    *slot = Some(Arc::new(error));
                }
                first
            });
        }
    }

    /// The first line that nothing good can follow.
    fn fatal_line(&self, lines: &[String]) -> Option<(String, String)> {
        lines.iter().find_map(|line| {
            let (_, advice) = self.fatal.iter().find(|(pattern, _)| pattern.is_match(line))?;
            Some((line.clone(), advice.clone()))
        })
    }

    async fn watch(self, mut child: Child, subject: Subject, ended: watch::Sender<bool>) {
        let mut follow = Follow::new(&subject.log);
        follow.rewind(subject.log_start);
        let mut told = false;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status,
                () = tokio::time::sleep(LOG_PERIOD) => told = told || self.look(&mut follow, false, &subject),
            }
        };
        // What a dying process wrote last may reach the file a moment after it is gone.
        tokio::time::sleep(LOG_PERIOD).await;
        let told = told || self.look(&mut follow, true, &subject);
        let text = status.map_or_else(|error| error.to_string(), describe);
        let expected = self.stopping.load(Ordering::SeqCst);
        if !told {
            self.report(DeployError::Died {
                process: subject.name.clone(),
                host: subject.host.clone(),
                status: text.clone(),
                excerpt: log::tail(&subject.log, 20),
                log: subject.log.display().to_string(),
            });
        }
        (self.emit)(Event::ProcessEnded { process: subject.name, status: text, expected });
        ended.send_replace(true);
    }

    /// Reads new lines; reports a fatal one. Returns whether it did.
    fn look(&self, follow: &mut Follow, last: bool, subject: &Subject) -> bool {
        let Some((line, advice)) = self.fatal_line(&follow.lines(last)) else { return false };
        self.report(DeployError::Fatal {
            process: subject.name.clone(),
            host: subject.host.clone(),
            line,
            advice,
            excerpt: log::tail(&subject.log, 20),
            log: subject.log.display().to_string(),
        });
        true
    }
}

/// The process being watched.
struct Subject {
    name: String,
    host: String,
    log: PathBuf,
    log_start: u64,
}

/// `exit 3` or `signal 9`.
fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown status".into(),
    }
}

/// Starts one process.
pub fn start(
    plan: &Plan,
    role: &Role,
    process: &Process,
    spawn: &Spawn,
    scene: &Scene,
    around: &Surroundings<'_>,
    watcher: &Watcher,
) -> Result<Running, DeployError> {
    for (path, text) in &spawn.files {
        files::replace(Path::new(path), text.as_bytes())?;
    }
    let log = around.folders.logs.join(format!("{}{}.log", around.folders.prefix, process.name));
    let file = files::append(&log)?;
    let log_start = file.metadata().map_or(0, |metadata| metadata.len());
    let env = secrets::resolve(&spawn.env).map_err(DeployError::Input)?;
    let argv = argv(plan, role, process, spawn, scene, around.place, &log);
    let line = format!("# {}{}\n{}\n", around.folders.prefix, process.name, shell_line(&argv, &spawn.env));
    files::append(&around.folders.commands)?.write_all(line.as_bytes())?;
    let program = argv.first().cloned().unwrap_or_default();
    let mut command = Command::new(&program);
    command
        .args(argv.iter().skip(1))
        .envs(&env)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .kill_on_drop(true);
    match around.place {
        Place::Local if role.gpus => {
            let inherited = std::env::var("CUDA_VISIBLE_DEVICES").ok();
            command.env("CUDA_VISIBLE_DEVICES", visible_gpus(&process.gpus, inherited.as_deref()));
        }
        Place::Local => {}
        Place::Allocation(_) => {
            for name in srun::CLEARED_ENV {
                command.env_remove(name);
            }
        }
    }
    let child = command.spawn().map_err(|reason| DeployError::Spawn {
        process: process.name.clone(),
        advice: spawn_advice(plan, around.place, &reason),
        program,
        reason,
    })?;
    let pid = child.id().unwrap_or_default();
    let host = scene.seats.get(&process.name).map_or_else(|| "here".to_owned(), |seat| seat.host.clone());
    (around.emit)(Event::ProcessStarted {
        process: process.name.clone(),
        host: host.clone(),
        pid,
        log: log.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
    });
    let (ended, receiver) = watch::channel(false);
    let subject = Subject { name: process.name.clone(), host, log: log.clone(), log_start };
    tokio::spawn(watcher.clone().watch(child, subject, ended));
    Ok(Running { name: process.name.clone(), role: role.name.clone(), pid, log, ended: receiver })
}

fn spawn_advice(plan: &Plan, place: &Place, reason: &std::io::Error) -> String {
    match (reason.kind(), place) {
        (std::io::ErrorKind::NotFound, Place::Local) => format!(
            "install the engine of launcher {:?}, or put its folder on PATH (site file: [env] PATH)",
            plan.launcher.name
        ),
        (std::io::ErrorKind::NotFound, Place::Allocation(_)) => {
            "srun must be on PATH of the compute node".into()
        }
        _ => "see the system's reason above".into(),
    }
}

/// The argv as it is executed: the role's own, wrapped in srun inside an allocation.
pub fn argv(
    plan: &Plan,
    role: &Role,
    process: &Process,
    spawn: &Spawn,
    scene: &Scene,
    place: &Place,
    log: &Path,
) -> Vec<String> {
    if matches!(place, Place::Local) {
        return spawn.argv.clone();
    }
    let nodes: Vec<String> =
        process.nodes.iter().filter_map(|node| scene.nodes.get(*node as usize).cloned()).collect();
    let mut step =
        srun::Step::new(&process.name, &nodes, srun::StepOutput::Shared(log.to_path_buf()), &spawn.argv);
    step.ntasks = process.tasks;
    step.mpi = role.mpi.then(|| plan.job.mpi.clone()).flatten();
    let inherited = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    let all_of_job = inherited.as_ref().is_some_and(|list| list.split(',').count() == process.gpus.len());
    if !process.gpus.is_empty() && (!all_of_job || shares_its_node(plan, process)) {
        step.env.push(("CUDA_VISIBLE_DEVICES".into(), visible_gpus(&process.gpus, inherited.as_deref())));
    }
    if let (Some(container), false) = (&plan.container, role.bare) {
        step.container = Some(srun::Container {
            image: Some(container.image.clone()),
            mounts: mounts(plan, scene, &container.mounts),
            env: spawn.env.keys().cloned().collect(),
            flags: vec!["--no-container-mount-home".into()],
            ..srun::Container::default()
        });
    }
    step.to_argv()
}

/// The site's mounts, and what an engine reads and writes where the site's do not show it anyway: rendered files, logs,
/// and weights given by path.
fn mounts(plan: &Plan, scene: &Scene, of_site: &[String]) -> Vec<String> {
    let shown = |path: &Path| {
        let targets = of_site.iter().filter_map(|mount| mount.split(':').nth(1));
        targets.into_iter().any(|target| path.starts_with(target))
    };
    let mut mounts = of_site.to_vec();
    for path in [&scene.run_dir, &scene.log_dir] {
        if !shown(Path::new(path)) {
            mounts.push(format!("{path}:{path}"));
        }
    }
    let weights = Path::new(&plan.model.path);
    if weights.is_absolute() && !shown(weights) && weights.exists() {
        mounts.push(format!("{0}:{0}:ro", plan.model.path));
    }
    mounts
}

/// Whether a process has GPUs, and another on the same node has others.
fn shares_its_node(plan: &Plan, process: &Process) -> bool {
    let on = |other: &Process| other.nodes.iter().any(|node| process.nodes.contains(node));
    !process.gpus.is_empty()
        && plan
            .deployments
            .iter()
            .filter(|deployment| deployment.processes.contains(process))
            .flat_map(|deployment| &deployment.processes)
            .any(|other| other != process && !other.gpus.is_empty() && on(other))
}

/// What people may paste to repeat a start: environment and argv, quoted, secrets masked.
pub fn shell_line(argv: &[String], env: &BTreeMap<String, String>) -> String {
    use crate::render::quote;
    let mut words: Vec<String> =
        env.iter().map(|(name, value)| format!("{name}={}", quote(secret::shown(name, value)))).collect();
    words.extend(argv.iter().map(|word| quote(word)));
    words.join(" ")
}
