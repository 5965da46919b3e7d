use super::*;
use crate::node::cgroup::{CpuAccount, MemoryAccount};
use crate::node::front::Front;

const GIB: u64 = 1 << 30;

/// A sample of `server-0` on `n1`, one second after the one before.
fn sample(cpu_s: f64, change: impl FnOnce(&mut Usage)) -> Sample {
    let mut usage = Usage { cpu_s, rss_mib: 100.0, open_files: 10, ..Usage::default() };
    usage.open_files_limit = Some(1024);
    change(&mut usage);
    let machine = Machine { available_mib: Some(3 << 10), total_mib: Some(4 << 10), oom_kills: None };
    let processes = BTreeMap::from([("server-0".to_owned(), usage)]);
    Sample { since_s: Some(1.0), machine, processes, ..Sample::default() }
}

/// Tracks of samples that came a second apart, the first at 0.
fn tracks(samples: Vec<Sample>) -> Tracks {
    let mut tracks = Tracks::default();
    for (second, sample) in (0..).zip(samples) {
        tracks.add(second * 1_000_000, "n1", &sample);
    }
    tracks
}

fn view(tracks: &Tracks, from_s: f64, to_s: f64) -> ProcessView {
    let us = |seconds: f64| (seconds * 1e6) as i64;
    let [view] = tracks.views((us(from_s), us(to_s))).try_into().unwrap();
    view
}

#[test]
fn cores_are_those_of_the_window_alone() {
    // 0.5 cores, then 2, then 1, then 3.
    let found = tracks([0.0, 0.5, 2.5, 3.5, 6.5].map(|cpu_s| sample(cpu_s, |_| {})).into());
    // From 1.5 on half of the second with 2 cores counts: (0.5 · 2 + 1 · 1) / 1.5.
    let cut = view(&found, 1.5, 3.0);
    assert_eq!((cut.samples, cut.cpu_max_cores), (2, Some(2.0)));
    assert!((cut.cpu_avg_cores.unwrap() - 2.0 / 1.5).abs() < 1e-9, "{cut:?}");
    // A window between two samples has those of the interval around it.
    let short = view(&found, 3.2, 3.4);
    assert_eq!((short.samples, short.cpu_max_cores), (1, short.cpu_avg_cores));
    assert!((short.cpu_avg_cores.unwrap() - 3.0).abs() < 1e-9, "{short:?}");
    assert_eq!(found.views((9_000_000, 10_000_000)), [], "no sample");
    // A process that ended takes its time along, and the rest still counts.
    let ended = tracks([5.0, 1.0, 2.0].map(|cpu_s| sample(cpu_s, |_| {})).into());
    assert_eq!(view(&ended, 0.0, 2.0).cpu_avg_cores, Some(1.0));
}

#[test]
fn the_busiest_thread_counts_by_the_time_it_was_seen() {
    let front = |share: f64| {
        move |usage: &mut Usage| usage.front = vec![Front { pid: 1, busiest_thread: Some(share) }]
    };
    let found = tracks(vec![sample(0.0, |_| {}), sample(1.0, front(1.0)), sample(2.0, front(0.8))]);
    let busy = view(&found, 0.5, 2.0).front_busy.unwrap();
    assert!((busy - (0.5 + 0.8) / 1.5).abs() < 1e-9, "{busy}");
    assert_eq!(view(&tracks(vec![sample(0.0, |_| {}); 2]), 0.0, 1.0).front_busy, None);
}

fn account(cgroup: &str, used: u64, limit: Option<u64>, oom_kills: u64) -> MemoryAccount {
    MemoryAccount { cgroup: cgroup.into(), used: Some(used), peak: None, limit, oom_kills: Some(oom_kills) }
}

#[test]
fn memory_is_that_nearest_to_its_limit_in_a_cgroup_or_on_the_machine() {
    let of = |used, kills| {
        move |usage: &mut Usage| {
            usage.memory =
                vec![account("/job/step", used, None, kills), account("/job", used, Some(GIB), kills)];
        }
    };
    let mut found = tracks(vec![
        sample(0.0, of(GIB / 4, 2)),
        sample(0.0, of(GIB / 2, 2)),
        sample(0.0, of(GIB / 4 * 3, 3)),
    ]);
    let whole = view(&found, 0.0, 2.0);
    let expected = MemoryUse { of: "/job".into(), used_mib: 768.0, limit_mib: 1024.0, is_clients: false };
    assert_eq!((whole.memory.as_ref(), whole.oom_kills), (Some(&expected), Some(1)));
    assert_eq!(expected.share(), 0.75);
    let early = view(&found, 0.0, 0.5);
    assert_eq!((early.memory.unwrap().used_mib, early.oom_kills), (512.0, None));
    // 1 of 4 GiB of the machine is in use, which is as near as the cgroup is at first.
    let machine = tracks(vec![sample(0.0, |_| {}); 2]);
    let expected = MemoryUse { of: "machine".into(), used_mib: 1024.0, limit_mib: 4096.0, is_clients: false };
    assert_eq!(view(&machine, 0.0, 1.0).memory, Some(expected));
    found.own = (vec!["/job".into()], Some("n1".into()));
    assert!(view(&found, 0.0, 2.0).memory.unwrap().is_clients, "the load generator is in it");
}

#[test]
fn time_without_a_core_is_that_of_the_cgroup_that_was_stopped_for_longest() {
    let stopped = |accounts: &[(&str, u64, f64)]| {
        let of = |(cgroup, periods, throttled_s): &(&str, u64, f64)| CpuAccount {
            cgroup: (*cgroup).into(),
            periods: *periods,
            throttled_s: *throttled_s,
        };
        let cpu = accounts.iter().map(of).collect();
        sample(0.0, |usage| usage.cpu = cpu)
    };
    let found = tracks(vec![
        stopped(&[("/job", 100, 50.0)]),
        stopped(&[("/job", 101, 50.1)]),
        stopped(&[("/job", 102, 50.2), ("/job/step", 7, 0.75)]),
    ]);
    let whole = view(&found, 0.0, 2.0);
    assert_eq!((whole.throttled_s, whole.throttled_periods), (Some(0.75), Some(7)));
    assert_eq!(view(&tracks(vec![sample(0.0, |_| {}); 2]), 0.0, 1.0).throttled_s, None);
}

#[test]
fn descriptors_are_those_nearest_to_a_limit_and_old_samples_are_dropped() {
    let open = |open, limit| {
        sample(0.0, move |usage: &mut Usage| (usage.open_files, usage.open_files_limit) = (open, Some(limit)))
    };
    let mut found = tracks(vec![open(1, 9), open(500, 1024), open(2000, 1 << 20), open(3, 9)]);
    let seen = view(&found, 0.0, 2.0);
    assert_eq!((seen.open_files_max, seen.open_files_limit), (500, Some(1024)));
    found.forget_before(2_500_000);
    let kept: Vec<i64> =
        found.all.values().flat_map(|track| track.looks.iter().map(|look| look.at)).collect();
    assert_eq!(kept, [2_000_000, 3_000_000], "the last one before it is where the next begins");
}
