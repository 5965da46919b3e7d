//! Cgroup trees as Slurm, Kubernetes and this kind of machine have them, in texts and in a folder.

use super::*;

const V2_MOUNTS: &str = "24 30 0:22 / /proc rw - proc proc rw\n\
    31 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

const HYBRID_MOUNTS: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
    33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
    35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
    41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

const HYBRID: &str = "9:name=systemd:/\n4:memory:/api/cad4\n2:cpu,cpuacct:/api\n0::/\n";

fn paths(own: &str, mounts: &str, controller: &str) -> Vec<String> {
    folders(own, mounts, controller).iter().map(|folder| folder.path.display().to_string()).collect()
}

#[test]
fn a_slurm_step_on_v2_is_limited_by_every_folder_above() {
    let own = "0::/system.slice/slurmstepd.scope/job_7/step_0\n";
    let root = "/sys/fs/cgroup/system.slice/slurmstepd.scope";
    let expected = [
        &format!("{root}/job_7/step_0"),
        &format!("{root}/job_7"),
        root,
        "/sys/fs/cgroup/system.slice",
        "/sys/fs/cgroup/",
    ];
    assert_eq!(paths(own, V2_MOUNTS, "memory"), expected);
    assert!(folders(own, V2_MOUNTS, "cpu").iter().all(|folder| folder.v2));
}

#[test]
fn controllers_on_v1_have_trees_of_their_own() {
    let memory = ["/sys/fs/cgroup/memory/api/cad4", "/sys/fs/cgroup/memory/api", "/sys/fs/cgroup/memory/"];
    assert_eq!(paths(HYBRID, HYBRID_MOUNTS, "memory"), memory);
    assert_eq!(paths(HYBRID, HYBRID_MOUNTS, "cpu")[0], "/sys/fs/cgroup/cpu,cpuacct/api");
    assert_eq!(paths(HYBRID, HYBRID_MOUNTS, ""), ["/sys/fs/cgroup/unified/"]);
    assert!(folders(HYBRID, HYBRID_MOUNTS, "memory").iter().all(|folder| !folder.v2));
}

#[test]
fn a_container_sees_a_part_of_the_tree() {
    // docker without a cgroup namespace: the mount shows the container's folder as its root
    let mounts = "31 24 0:26 /docker/ab12 /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n";
    assert_eq!(paths("0::/docker/ab12\n", mounts, "memory"), ["/sys/fs/cgroup/"]);
    assert_eq!(paths("0::/docker/ab12/inner\n", mounts, "memory")[0], "/sys/fs/cgroup/inner");
    assert_eq!(
        paths("0::/../../slurm\n", V2_MOUNTS, "memory"),
        ["/sys/fs/cgroup/"],
        "outside of the namespace"
    );
    assert_eq!(paths("0::/elsewhere\n", mounts, "memory"), ["/sys/fs/cgroup/"]);
}

#[test]
fn no_cgroups_are_no_error() {
    assert_eq!(folders("", "", "memory"), []);
    assert_eq!(folders("0::/a\n", "", "memory"), []);
    assert_eq!(folders("x\n1:2\n", "a - b\n - \n", "memory"), []);
    let none = Cgroups::default();
    assert_eq!(none.counters(), Counters::default());
    assert_eq!(none.counters().events_since(&Counters::default()), MemoryEvents::default());
}

/// A folder with these files.
fn folder(v2: bool, files: &[(&str, &str)]) -> (tempfile::TempDir, Folder) {
    let place = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        std::fs::write(place.path().join(name), text).expect("a file");
    }
    let folder = Folder { path: place.path().to_owned(), v2 };
    (place, folder)
}

#[test]
fn memory_on_v2() {
    let (_place, folder) = folder(
        true,
        &[
            ("memory.max", "1000\n"),
            ("memory.high", "max\n"),
            ("memory.current", "900\n"),
            ("memory.stat", "anon 500\nfile 400\ninactive_file 300\n"),
            ("memory.events", "low 0\nhigh 2\nmax 40\noom 1\noom_kill 1\n"),
        ],
    );
    assert_eq!((folder.memory_limit(), folder.memory_used()), (Some(1_000), Some(600)));
    let events = MemoryEvents { limit_hits: Some(42), ooms: Some(1), oom_kills: Some(1) };
    assert_eq!(folder.memory_events(), events);
}

#[test]
fn memory_on_v1() {
    let (_place, folder) = folder(
        false,
        &[
            ("memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory.usage_in_bytes", "900\n"),
            ("memory.stat", "inactive_file 1\ntotal_inactive_file 300\n"),
            ("memory.failcnt", "5\n"),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
        ],
    );
    assert_eq!((folder.memory_limit(), folder.memory_used()), (None, Some(600)), "no limit");
    let events = MemoryEvents { limit_hits: Some(5), ooms: None, oom_kills: Some(3) };
    assert_eq!(folder.memory_events(), events);
}

#[test]
fn throttling_in_both_formats() {
    let v2 = "usage_usec 9\nnr_periods 7\nnr_throttled 3\nthrottled_usec 1500\nnr_bursts 0\n";
    let v1 = "nr_periods 7\nnr_throttled 3\nthrottled_time 1500000\n";
    let expected = Some(Throttling { periods: 3, us: 1_500 });
    assert_eq!((Throttling::parse(v2), Throttling::parse(v1)), (expected, expected));
    assert_eq!(Throttling::parse("usage_usec 9\n"), None, "no limit in this cgroup");
}

#[test]
fn counts_are_those_of_the_cgroup_that_grew_most() {
    let events = |ooms, oom_kills| MemoryEvents { limit_hits: None, ooms, oom_kills };
    let throttled = |periods, us| Some(Throttling { periods, us });
    let before = Counters {
        events: vec![events(Some(0), Some(0)), events(Some(4), None)],
        throttling: vec![throttled(1, 10), None, throttled(0, 0)],
        stall_us: Some(100),
    };
    let after = Counters {
        events: vec![events(Some(1), Some(1)), events(Some(6), Some(9))],
        throttling: vec![throttled(2, 40), throttled(9, 900), throttled(5, 700)],
        stall_us: Some(250),
    };
    assert_eq!(after.events_since(&before), events(Some(2), Some(1)));
    assert_eq!(after.throttling_since(&before), throttled(5, 700));
    assert_eq!(after.stall_us_since(&before), Some(150));
}

#[test]
fn the_scarcest_memory_counts() {
    let cgroup = Memory { used: 900, limit: 1_000 };
    let machine = Memory::of_machine("MemTotal: 100 kB\nMemFree: 1 kB\nMemAvailable: 80 kB\n");
    let machine = machine.expect("both lines are there");
    assert_eq!(machine, Memory { used: 20 * 1024, limit: 100 * 1024 });
    assert_eq!((machine.tighter(cgroup), cgroup.tighter(machine)), (cgroup, cgroup));
    assert_eq!(Memory::of_machine("MemTotal: 100 kB\n"), None);
}

/// Files of a cgroup of version 2 as Linux 6.1 writes them.
fn write_v2(path: &Path, limit: &str, current: u64, oom_kills: u64) {
    std::fs::create_dir_all(path).expect("a folder");
    let events = format!("low 0\nhigh 0\nmax 1873\noom 2\noom_kill {oom_kills}\noom_group_kill 0\n");
    let stat = "anon 66060288\nfile 4194304\nkernel 2490368\nkernel_stack 98304\npagetables 393216\nsec_pagetables 0\n\
                percpu 1440\nsock 0\nvmalloc 0\nshmem 0\nzswap 0\nzswapped 0\nfile_mapped 1048576\nfile_dirty 0\n\
                file_writeback 0\nswapcached 0\nanon_thp 0\ninactive_anon 66048000\nactive_anon 12288\n\
                inactive_file 4194304\nactive_file 0\nunevictable 0\nslab_reclaimable 917504\nslab_unreclaimable 524288\n";
    let cpu = "usage_usec 8412931\nuser_usec 7901822\nsystem_usec 511109\nnr_periods 841\nnr_throttled 212\n\
               throttled_usec 9230114\nnr_bursts 0\nburst_usec 0\n";
    for (file, text) in [
        ("memory.max", format!("{limit}\n")),
        ("memory.high", "max\n".into()),
        ("memory.current", format!("{current}\n")),
        ("memory.peak", format!("{}\n", current + 4096)),
        ("memory.events", events),
        ("memory.stat", stat.into()),
        ("cpu.stat", cpu.into()),
    ] {
        std::fs::write(path.join(file), text).expect("a file");
    }
}

#[test]
fn a_job_of_slurm_on_v2_has_its_limit_two_folders_above_the_task() {
    let place = tempfile::tempdir().expect("a folder");
    let job = place.path().join("system.slice/slurmstepd.scope/job_61");
    write_v2(&job, "67108864", 66_000_000, 1);
    write_v2(&job.join("step_batch/user/task_0"), "max", 62_000_000, 1);
    let own = "0::/system.slice/slurmstepd.scope/job_61/step_batch/user/task_0\n";
    let mounts = format!(
        "24 30 0:22 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw\n\
         35 24 0:30 / {} rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n",
        place.path().display()
    );
    let cgroups = Cgroups::within(own, &mounts);
    let accounts = cgroups.accounts();
    let names: Vec<&str> =
        accounts.iter().map(|account| account.cgroup.rsplit('/').next().unwrap_or_default()).collect();
    assert_eq!(names, ["task_0", "job_61"], "folders between them have no limit");
    // 66 000 000 less 4 194 304 of file pages that can be dropped.
    let job = &accounts[1];
    assert_eq!((job.used, job.limit), (Some(61_805_696), Some(67_108_864)));
    assert_eq!((job.peak, job.oom_kills), (Some(66_004_096), Some(1)));
    assert_eq!((accounts[0].limit, accounts[0].oom_kills), (None, Some(1)), "v2 counts kills upwards");
    let throttled = cgroups.throttled();
    assert_eq!((throttled.len(), throttled[0].periods, throttled[0].throttled_s), (2, 212, 9.230_114));
    assert_eq!(job.now().as_ref(), Some(job));
}
