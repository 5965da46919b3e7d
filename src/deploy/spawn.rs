//! Starts one process: a local child, or a step in the allocation.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::{ChildStdin, Command};
use tokio::task::JoinHandle;

use super::place::visible_gpus;
use super::placement::Placement;
use super::step::Start;
use super::watch::{Watched, Watcher};
use super::{DeployError, Place, secrets};
use crate::executor::slurm::hide;
use crate::experiment::{Event, files};
use crate::launcher::Role;
use crate::node::find_program_in;
use crate::node::{processes, usage};
use crate::plan::{Plan, Process};
use crate::recipe::secret;
use crate::render::quote;
use crate::slurm::srun;

/// A process that was started.
#[derive(Debug)]
pub struct Running {
    /// Its name, also that of its Slurm step.
    pub name: String,
    /// Its role; processes of one role are stopped together.
    pub role: String,
    /// Process id and group of the keeper of the child, or of its srun.
    pub pid: u32,
    /// The pipe to the keeper, which ends everything when this end is closed.
    pub lifeline: Option<ChildStdin>,
    /// Its logs, each with its length when it was started.
    pub logs: Vec<(PathBuf, u64)>,
    /// The watching task, done once the process has ended and its end is reported.
    pub watching: JoinHandle<()>,
}

/// Starts one process.
pub(super) fn start(
    placement: &Placement<'_>,
    role: &Role,
    process: &Process,
    watcher: &Watcher,
) -> Result<Running, DeployError> {
    let setup = placement.setup;
    let spawn = &placement.placed().process(process)?;
    let start = Start { placement, role, process, spawn };
    for (path, text) in &spawn.files {
        files::replace(Path::new(path), text.as_bytes())?;
    }
    let paths = start.logs();
    let log = paths.first().cloned().unwrap_or_default();
    let mut file = files::append(&log)?;
    if file.metadata()?.len() > 0 {
        writeln!(file, "==> started again by tokmark at {} <==", jiff::Timestamp::now())?;
    }
    let length = |path: &PathBuf| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let logs: Vec<(PathBuf, u64)> = paths.into_iter().map(|path| (path.clone(), length(&path))).collect();
    let env = secrets::resolve(&spawn.env).map_err(DeployError::Input)?;
    let argv = start.argv(&log);
    let line = format!("# {}{}\n{}\n", setup.folders.prefix, process.name, shell_line(&argv, &spawn.env));
    files::append(&setup.folders.commands)?.write_all(line.as_bytes())?;
    let program = argv.first().cloned().unwrap_or_default();
    let failed = |reason: std::io::Error| DeployError::Spawn {
        process: process.name.clone(),
        advice: spawn_advice(setup.plan, setup.place, &reason),
        program: program.clone(),
        reason,
    };
    let folders = env.get("PATH").map(OsString::from).or_else(|| std::env::var_os("PATH"));
    if find_program_in(&program, &folders.unwrap_or_default()).is_none() {
        return Err(failed(std::io::Error::from_raw_os_error(nix::libc::ENOENT)));
    }
    let mut command = Command::new(setup.tokmark);
    command
        .args(["keep", "--"])
        .args(&argv)
        .envs(&env)
        .envs(start.wrapped_env(&env))
        .env(usage::RUN, &placement.addresses.run_id)
        .env(usage::PROCESS, &process.name)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(file.try_clone()?)
        .stderr(file)
        .kill_on_drop(true);
    match setup.place {
        Place::Local => {
            if role.gpus {
                let inherited = std::env::var("CUDA_VISIBLE_DEVICES").ok();
                command.env("CUDA_VISIBLE_DEVICES", visible_gpus(&process.gpus, inherited.as_deref()));
            }
            for name in &role.unset {
                command.env_remove(name);
            }
        }
        Place::Allocation(_) => clear(&mut command, &setup.plan.job.clear_env),
    }
    let mut child = command.spawn().map_err(failed)?;
    let (pid, lifeline) = (child.id().unwrap_or_default(), child.stdin.take());
    let address = placement.addresses.processes.get(&process.name);
    let host = address.map_or_else(|| "here".to_owned(), |address| address.host.clone());
    setup.events.emit(Event::ProcessStarted {
        process: process.name.clone(),
        host: host.clone(),
        pid,
        started: processes::Process::of(pid).map(|keeper| keeper.started),
        log: log.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
    });
    let keeper = matches!(setup.place, Place::Local).then_some(pid);
    let watched = Watched { name: process.name.clone(), host, keeper, logs: logs.clone() };
    let watching = tokio::spawn(watcher.clone().watch(child, watched));
    Ok(Running { name: process.name.clone(), role: role.name.clone(), pid, lifeline, logs, watching })
}

/// Removes variables that srun must not see: those that always mislead it, and those the site lists.
pub(super) fn clear(command: &mut Command, of_site: &[String]) {
    hide(command, srun::CLEARED_ENV);
    hide(command, of_site);
}

fn spawn_advice(plan: &Plan, place: &Place, reason: &std::io::Error) -> String {
    match (reason.kind(), place) {
        (std::io::ErrorKind::NotFound, Place::Local) => format!(
            "install the engine of launcher {:?}, or put its folder on PATH (site file: [env] PATH)",
            plan.launcher().name
        ),
        (std::io::ErrorKind::NotFound, Place::Allocation(_)) => {
            "srun must be on PATH of the compute node".into()
        }
        _ => "see the system's reason above".into(),
    }
}

/// A start as a shell line to paste: environment and argv, quoted, secrets masked.
pub fn shell_line(argv: &[String], env: &BTreeMap<String, String>) -> String {
    let mut words: Vec<String> =
        env.iter().map(|(name, value)| format!("{name}={}", quote(secret::shown(name, value)))).collect();
    words.extend(argv.iter().map(|word| quote(word)));
    words.join(" ")
}
