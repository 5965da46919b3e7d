//! The cgroups of a process, v2 or v1: memory limits, kills, throttling.
//!
//! Sources: cgroups(7), Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst, scheduler/sched-bwc.rst. A limit
//! anywhere above a process holds for it, so every folder from its own cgroup up to the root is read.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::figures::{keyed, read, stall_us};

/// v1 writes "no limit" as the largest number of whole pages; no machine has an exbibyte.
const NO_LIMIT: u64 = 1 << 60;

/// A cgroup's folder and the format of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Folder {
    path: PathBuf,
    v2: bool,
}

impl Folder {
    fn read(&self, file: &str) -> Option<String> {
        read(self.path.join(file))
    }

    fn number(&self, file: &str) -> Option<u64> {
        self.read(file)?.trim().parse().ok().filter(|number| *number < NO_LIMIT)
    }

    /// The memory limit, bytes; above `memory.high` tasks are slowed down, which is as bad for a measurement.
    fn memory_limit(&self) -> Option<u64> {
        match self.v2 {
            true => ["memory.max", "memory.high"].iter().filter_map(|file| self.number(file)).min(),
            false => self.number("memory.limit_in_bytes"),
        }
    }

    /// Memory in use but for file pages that can be dropped at once, bytes; Kubernetes' *working set*.
    fn memory_used(&self) -> Option<u64> {
        let (usage, droppable) = match self.v2 {
            true => ("memory.current", "inactive_file"),
            false => ("memory.usage_in_bytes", "total_inactive_file"),
        };
        let droppable = self.read("memory.stat").and_then(|stat| keyed(&stat, droppable));
        Some(self.number(usage)?.saturating_sub(droppable.unwrap_or(0)))
    }

    fn memory_events(&self) -> MemoryEvents {
        match self.v2 {
            true => MemoryEvents::parse_v2(&self.read("memory.events").unwrap_or_default()),
            false => MemoryEvents {
                limit_hits: self.number("memory.failcnt"),
                ooms: None,
                oom_kills: self.read("memory.oom_control").and_then(|text| keyed(&text, "oom_kill")),
            },
        }
    }

    /// The most memory that was in use, bytes. In v2 since Linux 5.19.
    fn memory_peak(&self) -> Option<u64> {
        self.number(if self.v2 { "memory.peak" } else { "memory.max_usage_in_bytes" })
    }

    fn account(&self) -> MemoryAccount {
        let events = self.memory_events();
        MemoryAccount {
            cgroup: self.path.display().to_string(),
            used: self.memory_used(),
            peak: self.memory_peak(),
            limit: self.memory_limit(),
            oom_kills: events.oom_kills,
        }
    }

    fn throttling(&self) -> Option<Throttling> {
        Throttling::parse(&self.read("cpu.stat")?)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryEvents {
    pub limit_hits: Option<u64>,
    pub ooms: Option<u64>,
    pub oom_kills: Option<u64>,
}

impl MemoryEvents {
    fn parse_v2(text: &str) -> Self {
        let hits = [keyed(text, "high"), keyed(text, "max")];
        Self {
            limit_hits: hits.iter().any(Option::is_some).then(|| hits.iter().flatten().sum()),
            ooms: keyed(text, "oom"),
            oom_kills: keyed(text, "oom_kill"),
        }
    }
}

/// What a cgroup says about its memory, bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryAccount {
    /// Its folder.
    pub cgroup: String,
    pub used: Option<u64>,
    pub peak: Option<u64>,
    pub limit: Option<u64>,
    /// Processes that the kernel has killed in it for want of memory. In v2 those of the cgroups below count, too.
    pub oom_kills: Option<u64>,
}

impl MemoryAccount {
    /// The same account now; `None` once the cgroup is gone.
    pub fn now(&self) -> Option<Self> {
        let path = PathBuf::from(&self.cgroup);
        let v2 = path.join("memory.current").exists();
        let folder = Folder { path, v2 };
        (v2 || folder.path.join("memory.usage_in_bytes").exists()).then(|| folder.account())
    }

    /// `/job_7/step_1: peak 61 MiB, limit 64 MiB`, as far as it is known.
    pub fn words(&self) -> String {
        let mib = |bytes: u64| format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20));
        let peak = self.peak.map(|bytes| format!("peak {}", mib(bytes)));
        let used = self.used.filter(|_| peak.is_none()).map(|bytes| format!("{} used", mib(bytes)));
        let limit = self.limit.map_or_else(|| "no limit".to_owned(), |bytes| format!("limit {}", mib(bytes)));
        let figures: Vec<String> = peak.into_iter().chain(used).chain([limit]).collect();
        format!("{}: {}", self.cgroup, figures.join(", "))
    }
}

/// A cgroup whose CPU limit has stopped its processes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CpuAccount {
    /// Its folder.
    pub cgroup: String,
    /// In how many periods so far.
    pub periods: u64,
    /// For how long so far, seconds, summed over CPUs.
    pub throttled_s: f64,
}

/// Time that a cgroup's CPU limit took away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Throttling {
    pub periods: u64,
    /// For how long, µs, summed over CPUs.
    pub us: u64,
}

impl Throttling {
    /// `cpu.stat`: v2 gives µs, v1 ns.
    fn parse(text: &str) -> Option<Self> {
        let us = keyed(text, "throttled_usec").or_else(|| Some(keyed(text, "throttled_time")? / 1_000))?;
        Some(Self { periods: keyed(text, "nr_throttled")?, us })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    pub used: u64,
    pub limit: u64,
}

impl Memory {
    pub fn tighter(self, other: Self) -> Self {
        if self.share() >= other.share() { self } else { other }
    }

    fn share(self) -> f64 {
        self.used as f64 / self.limit.max(1) as f64
    }

    fn of_machine(meminfo: &str) -> Option<Self> {
        let limit = keyed(meminfo, "MemTotal")? * 1024;
        Some(Self { used: limit.saturating_sub(keyed(meminfo, "MemAvailable")? * 1024), limit })
    }
}

/// The counters of all cgroups of this process at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    events: Vec<MemoryEvents>,
    throttling: Vec<Option<Throttling>>,
    stall_us: Option<u64>,
}

/// Where the cgroups of this process are; found once, they do not change.
#[derive(Debug, Default)]
pub struct Cgroups {
    /// The process's own first. Of those above only the ones with a limit, so that the rest of the machine is not counted.
    memory: Vec<Folder>,
    cpu: Vec<Folder>,
    pressure: Option<PathBuf>,
}

impl Cgroups {
    pub fn of_this_process() -> Self {
        Self::of("self")
    }

    /// Those of the process with this id, or of `self`.
    pub fn of(pid: &str) -> Self {
        // Paths are those that this process sees, whatever the other one does.
        let (own, mounts) = (read(format!("/proc/{pid}/cgroup")), read("/proc/self/mountinfo"));
        own.zip(mounts).map(|(own, mounts)| Self::within(&own, &mounts)).unwrap_or_default()
    }

    /// Those that `/proc/PID/cgroup` names in the trees of `/proc/self/mountinfo`.
    fn within(own: &str, mounts: &str) -> Self {
        let mut memory = folders(own, mounts, "memory");
        let mut first = true;
        memory.retain(|folder| std::mem::take(&mut first) || folder.memory_limit().is_some());
        let unified = folders(own, mounts, "");
        let pressure = unified.first().map(|folder| folder.path.join("memory.pressure"));
        let pressure = pressure.into_iter().chain([PathBuf::from("/proc/pressure/memory")]);
        let pressure = pressure.into_iter().find(|path| read(path).is_some());
        Self { memory, cpu: folders(own, mounts, "cpu"), pressure }
    }

    /// The scarcest memory: in one of the cgroups, or on the machine.
    pub fn memory(&self) -> Option<Memory> {
        let machine = read("/proc/meminfo").and_then(|text| Memory::of_machine(&text));
        let limited = self
            .memory
            .iter()
            .filter_map(|folder| Some(Memory { used: folder.memory_used()?, limit: folder.memory_limit()? }));
        limited.chain(machine).reduce(Memory::tighter)
    }

    /// The memory of every cgroup that holds for the process, its own first.
    pub fn accounts(&self) -> Vec<MemoryAccount> {
        self.memory.iter().map(Folder::account).collect()
    }

    /// The folders of all of them.
    pub fn paths(&self) -> Vec<String> {
        self.memory.iter().chain(&self.cpu).map(|folder| folder.path.display().to_string()).collect()
    }

    /// The cgroups whose CPU limit has ever stopped the process.
    pub fn throttled(&self) -> Vec<CpuAccount> {
        let account = |folder: &Folder| {
            let Throttling { periods, us } = folder.throttling().filter(|found| found.us > 0)?;
            Some(CpuAccount {
                cgroup: folder.path.display().to_string(),
                periods,
                throttled_s: us as f64 / 1e6,
            })
        };
        self.cpu.iter().filter_map(account).collect()
    }

    pub fn counters(&self) -> Counters {
        Counters {
            events: self.memory.iter().map(Folder::memory_events).collect(),
            throttling: self.cpu.iter().map(Folder::throttling).collect(),
            stall_us: self.pressure.as_ref().and_then(read).and_then(|text| stall_us(&text)),
        }
    }
}

impl Counters {
    /// Growth since `before`; of each kind the cgroup that grew most, because the counters of a cgroup include those of the
    /// cgroups in it.
    pub fn events_since(&self, before: &Self) -> MemoryEvents {
        let most = |count: fn(&MemoryEvents) -> Option<u64>| {
            let pairs = self.events.iter().zip(&before.events);
            pairs.filter_map(|(after, before)| increase(count(after), count(before))).max()
        };
        MemoryEvents {
            limit_hits: most(|events| events.limit_hits),
            ooms: most(|events| events.ooms),
            oom_kills: most(|events| events.oom_kills),
        }
    }

    pub fn throttling_since(&self, before: &Self) -> Option<Throttling> {
        let pairs = self.throttling.iter().zip(&before.throttling);
        let grown = pairs.filter_map(|(after, before)| {
            let (after, before) = ((*after)?, (*before)?);
            Some(Throttling {
                periods: after.periods.saturating_sub(before.periods),
                us: after.us.saturating_sub(before.us),
            })
        });
        grown.max_by_key(|throttling| throttling.us)
    }

    pub fn stall_us_since(&self, before: &Self) -> Option<u64> {
        increase(self.stall_us, before.stall_us)
    }
}

/// Growth of a counter; `None` when it was missing once.
pub fn increase(after: Option<u64>, before: Option<u64>) -> Option<u64> {
    Some(after?.saturating_sub(before?))
}

/// The folders of the cgroup that `controller` has this process in and of those above it, its own first. `own` is
/// `/proc/self/cgroup`, `mounts` is `/proc/self/mountinfo`; the empty controller means v2 whatever it controls.
fn folders(own: &str, mounts: &str, controller: &str) -> Vec<Folder> {
    let line = |wanted: fn(&str, &str) -> bool| {
        own.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            wanted(controllers, controller).then_some(path)
        })
    };
    let of_v1 = line(|listed, wanted| !wanted.is_empty() && listed.split(',').any(|name| name == wanted));
    let (v2, inside) = match (of_v1, line(|listed, _| listed.is_empty())) {
        (Some(path), _) => (false, path),
        (None, Some(path)) => (true, path),
        (None, None) => return Vec::new(),
    };
    let mounted = mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        let wanted = match (kind.next()?, v2) {
            ("cgroup2", true) => true,
            ("cgroup", false) => kind.nth(1)?.split(',').any(|option| option == controller),
            _ => false,
        };
        let mut place = place.split(' ').skip(3);
        wanted.then_some((place.next()?, place.next()?))
    });
    let Some((root, mount)) = mounted else { return Vec::new() };
    // A container may see a part of the tree only, and paths that lead outside of it.
    let inside = Path::new(inside).strip_prefix(root).ok();
    let inside = inside.filter(|path| !path.starts_with("..")).unwrap_or(Path::new(""));
    let above = inside.ancestors().map(|path| Folder { path: Path::new(mount).join(path), v2 });
    above.collect()
}

#[cfg(test)]
mod tests;
