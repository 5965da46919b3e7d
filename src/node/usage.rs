//! What the processes of a run use on one machine, and who listens on its ports.
//!
//! Processes are recognised by two variables in their environment, and their descendants by descent, because some programs write
//! their title over their environment. Sources: proc_pid_stat(5), proc_pid_fd(5), proc_pid_limits(5), proc_vmstat(5).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use nix::unistd::{SysconfVar, sysconf};
use serde::{Deserialize, Serialize};

use super::cgroup::{Cgroups, CpuAccount, MemoryAccount};
use super::figures::{keyed, read};
use super::front::{Front, Fronts};
use super::processes::{self, Listener, Process};

/// Variable that holds the identifier of the run in every process of it.
pub const RUN: &str = "TOKMARK_RUN";
/// Variable that holds the name of the process in the plan.
pub const PROCESS: &str = "TOKMARK_PROCESS";

/// Programs of ours that carry the variables and are no servers.
const OURS: [&str; 2] = ["server-keeper", "srun"];

/// What to watch, passed as one JSON argument.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watched {
    /// The value of [`RUN`].
    pub run: String,
    /// Ports whose listeners are told.
    pub ports: Vec<u16>,
    /// The Slurm job whose processes count as the run's own.
    pub job: Option<String>,
    pub every_ms: u64,
}

/// One look at a machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Its name in Slurm, inside a step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Time since the look before, seconds; absent at the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_s: Option<f64>,
    pub machine: Machine,
    /// By name in the plan.
    pub processes: BTreeMap<String, Usage>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<Holder>,
    /// The kernel's own words about processes of the run that it killed for want of memory, by name in the plan.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kills: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    pub available_mib: Option<u64>,
    pub total_mib: Option<u64>,
    /// Processes that the kernel has killed for want of memory since boot, in any cgroup or none.
    pub oom_kills: Option<u64>,
}

/// What one process of the plan and its descendants use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    pub pids: Vec<u32>,
    /// User and system time so far, seconds, with that of ended children.
    pub cpu_s: f64,
    /// Resident memory, MiB; pages that several of them share count for each.
    pub rss_mib: f64,
    pub threads: u64,
    /// Open descriptors of the one that is nearest to its limit.
    pub open_files: u64,
    pub open_files_limit: Option<u64>,
    pub sockets: u64,
    /// Its cgroup, and those above it that have a limit.
    pub memory: Vec<MemoryAccount>,
    /// The cgroups whose CPU limit has ever stopped it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cpu: Vec<CpuAccount>,
    /// Those of its processes that answer clients.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub front: Vec<Front>,
}

/// Who listens on a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub port: u16,
    pub address: IpAddr,
    /// Whether it is a process of the run or its job.
    pub is_ours: bool,
    pub uid: u32,
    /// `pid 7: python3 …`; absent if it cannot be seen.
    pub process: Option<String>,
}

/// Looks at a machine again and again.
#[derive(Debug, Default)]
pub struct Watch {
    watched: Watched,
    /// Names of processes by id and start.
    known: BTreeMap<(u32, u64), String>,
    /// How often a process was looked at in vain: before it becomes another program it has its parent's environment.
    strangers: BTreeMap<(u32, u64), u8>,
    /// Where the memory of each name is accounted; kept when its processes are gone.
    cgroups: BTreeMap<String, Cgroups>,
    fronts: Fronts,
    looked: Option<Instant>,
    oom_kills: Option<u64>,
    kills: BTreeMap<String, Vec<String>>,
}

/// Looks at a stranger this often.
const LOOKS: u8 = 3;

impl Watch {
    pub fn new(watched: Watched) -> Self {
        let oom_kills = oom_kills();
        Self { watched, oom_kills, ..Self::default() }
    }

    pub fn sample(&mut self) -> Sample {
        let since_s = self.looked.replace(Instant::now()).map(|before| before.elapsed().as_secs_f64());
        let all = Process::all();
        self.recognise(&all);
        self.fronts.look(&self.watched.ports);
        let mut processes: BTreeMap<String, Usage> = BTreeMap::new();
        let mut inodes: BTreeSet<u64> = BTreeSet::new();
        for process in &all {
            let Some(name) = self.known.get(&(process.pid, process.started)) else { continue };
            let sockets = processes::sockets(process.pid);
            let Some(stat) = read(format!("/proc/{}/stat", process.pid)) else { continue };
            if !OURS.contains(&command_name(&stat)) {
                let usage = processes.entry(name.clone()).or_default();
                usage.add(process.pid, &stat, sockets.len() as u64);
                usage.front.extend(self.fronts.of((process.pid, process.started), &sockets, since_s));
                self.cgroups.entry(name.clone()).or_insert_with(|| Cgroups::of(&process.pid.to_string()));
            }
            inodes.extend(sockets);
        }
        for (name, cgroups) in &self.cgroups {
            let usage = processes.entry(name.clone()).or_default();
            (usage.memory, usage.cpu) = (cgroups.accounts(), cgroups.throttled());
        }
        self.look_for_kills();
        let meminfo = read("/proc/meminfo").unwrap_or_default();
        let mib = |key: &str| keyed(&meminfo, key).map(|kib| kib / 1024);
        Sample {
            node: std::env::var("SLURMD_NODENAME").ok(),
            since_s,
            machine: Machine {
                available_mib: mib("MemAvailable"),
                total_mib: mib("MemTotal"),
                oom_kills: self.oom_kills,
            },
            processes,
            listeners: self.holders(&all, &inodes),
            kills: self.kills.clone(),
        }
    }

    fn recognise(&mut self, all: &[Process]) {
        let key = |process: &Process| (process.pid, process.started);
        for process in all {
            let looks = self.strangers.entry(key(process)).or_default();
            if *looks >= LOOKS || self.known.contains_key(&key(process)) {
                continue;
            }
            *looks += 1;
            let Ok(environ) = std::fs::read(format!("/proc/{}/environ", process.pid)) else { continue };
            if let Some(name) = marked(&environ, &self.watched.run) {
                self.known.insert(key(process), name);
            }
        }
        let names: BTreeMap<u32, (u32, u64)> = all.iter().map(|one| (one.pid, key(one))).collect();
        loop {
            let heir = |process: &&Process| !self.known.contains_key(&key(process));
            let inherited: Vec<_> = all
                .iter()
                .filter(heir)
                .filter_map(|one| Some((key(one), self.known.get(names.get(&one.parent)?)?.clone())))
                .collect();
            if inherited.is_empty() {
                break;
            }
            self.known.extend(inherited);
        }
        let living: BTreeSet<(u32, u64)> = all.iter().map(key).collect();
        self.strangers.retain(|key, _| living.contains(key));
    }

    /// Reads the kernel's log when its count of kills has grown.
    fn look_for_kills(&mut self) {
        let now = oom_kills();
        if now > self.oom_kills {
            self.kills.clear();
            for kill in kernel_kills() {
                let name =
                    self.known.iter().find(|((pid, _), _)| *pid == kill.pid).map(|(_, name)| name.clone());
                if let Some(name) = name {
                    self.kills.entry(name).or_default().push(kill.text);
                }
            }
        }
        self.oom_kills = now;
    }

    fn holders(&self, all: &[Process], own: &BTreeSet<u64>) -> Vec<Holder> {
        let mut holders = Vec::new();
        for port in &self.watched.ports {
            for Listener { address, uid, inode } in Listener::on(*port) {
                let found = || all.iter().find(|one| processes::sockets(one.pid).contains(&inode));
                let holder = if own.contains(&inode) { None } else { found() };
                let of_job = || holder.is_some_and(|one| self.is_of_job(one, all));
                let is_ours = own.contains(&inode) || of_job();
                let process = holder.map(|one| format!("pid {}: {}", one.pid, processes::command(one.pid)));
                holders.push(Holder { port: *port, address, is_ours, uid, process });
            }
        }
        holders
    }

    /// Whether a process belongs to the Slurm job, by its cgroup or by the daemon above it, and to no other run in that job.
    fn is_of_job(&self, process: &Process, all: &[Process]) -> bool {
        let Some(job) = &self.watched.job else { return false };
        let cgroup = read(format!("/proc/{}/cgroup", process.pid)).unwrap_or_default();
        let above =
            std::iter::successors(Some(process), |one| all.iter().find(|other| other.pid == one.parent));
        let is_of_another = |one: &Process| {
            let environ = std::fs::read(format!("/proc/{}/environ", one.pid)).unwrap_or_default();
            variable(&environ, RUN).is_some_and(|run| run != self.watched.run)
        };
        if above.clone().take(64).any(is_of_another) {
            return false;
        }
        cgroup.lines().any(|line| line.split('/').any(|part| part == format!("job_{job}")))
            || above
                .take(64)
                .any(|one| processes::command(one.pid).starts_with(&format!("slurmstepd: [{job}.")))
    }
}

impl Usage {
    fn add(&mut self, pid: u32, stat: &str, sockets: u64) {
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(0).max(1) as f64;
        self.pids.push(pid);
        self.cpu_s += processes::cpu_s(stat, 4);
        self.threads += number(17);
        self.rss_mib += number(21) as f64 * page / (1024.0 * 1024.0);
        self.sockets += sockets;
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |files| files.count() as u64);
        let limit = read(format!("/proc/{pid}/limits")).and_then(|text| soft_limit(&text));
        let share = |open: u64, limit: Option<u64>| open as f64 / limit.unwrap_or(u64::MAX) as f64;
        if share(open, limit) >= share(self.open_files, self.open_files_limit) {
            (self.open_files, self.open_files_limit) = (open, limit);
        }
    }
}

/// The name in the plan that an environment gives, if it is of this run.
fn marked(environ: &[u8], run: &str) -> Option<String> {
    variable(environ, PROCESS).filter(|_| variable(environ, RUN) == Some(run)).map(str::to_owned)
}

fn variable<'a>(environ: &'a [u8], name: &str) -> Option<&'a str> {
    let variables = environ.split(|byte| *byte == 0);
    variables
        .filter_map(|one| std::str::from_utf8(one).ok())
        .find_map(|one| one.strip_prefix(name)?.strip_prefix('='))
}

fn command_name(stat: &str) -> &str {
    stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')).map_or("", |(name, _)| name)
}

/// `Max open files            1024                 1048576              files`
fn soft_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Processes that the kernel has killed for want of memory since boot. Since Linux 4.13.
pub fn oom_kills() -> Option<u64> {
    keyed(&read("/proc/vmstat")?, "oom_kill")
}

/// A kill as the kernel's log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kill {
    pub pid: u32,
    pub text: String,
}

/// Kills for want of memory in the kernel's log; none if this user may not read it.
pub fn kernel_kills() -> Vec<Kill> {
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    let Ok(mut log) = options.read(true).custom_flags(nix::libc::O_NONBLOCK).open("/dev/kmsg") else {
        return Vec::new();
    };
    let (mut kills, mut record) = (Vec::new(), [0; 8192]);
    loop {
        match log.read(&mut record) {
            Ok(0) => return kills,
            Ok(length) => {
                kills.extend(Kill::parse(&String::from_utf8_lossy(record.get(..length).unwrap_or_default())));
            }
            // A record was overwritten before it was read.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            Err(_) => return kills,
        }
    }
}

impl Kill {
    /// `4,1234,5678,-;Memory cgroup out of memory: Killed process 6143 (python3) total-vm:…`; a machine without memory says `Out of
    /// memory: Killed process …`.
    fn parse(record: &str) -> Option<Self> {
        let text = record.split_once(';')?.1.lines().next()?;
        let (before, after) = text.split_once("Killed process ")?;
        let pid = after.split_whitespace().next()?.parse().ok()?;
        before.to_lowercase().contains("out of memory").then(|| Self { pid, text: text.to_owned() })
    }
}

#[cfg(test)]
#[path = "usage_tests.rs"]
mod tests;
