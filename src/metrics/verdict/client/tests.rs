//! Each reason on the client's side at its thresholds.

use super::*;
use crate::metrics::verdict::Rating;

/// 100 requests in 10 s on two threads, chunks every 20 ms.
fn judged(health: &ClientHealth) -> Vec<Reason> {
    reasons(health, 10.0, 100, || Some(20.0))
}

fn on(machine: MachineHealth) -> Vec<Reason> {
    judged(&ClientHealth { threads: 2, machine, ..ClientHealth::default() })
}

/// One reason, with this rating and these words.
fn expect(found: Vec<Reason>, rating: Rating, words: &str) {
    assert_eq!(found, [Reason { rating, text: words.to_owned() }]);
}

#[test]
fn a_machine_that_tells_nothing_is_no_reason() {
    assert_eq!(on(MachineHealth::default()), []);
    assert_eq!(reasons(&ClientHealth::default(), 0.0, 0, || None), []);
}

#[test]
fn a_sound_machine_is_no_reason() {
    let sound = MachineHealth {
        open_files: Some(90),
        open_files_limit: Some(100),
        memory_used_mib: Some(900.0),
        memory_limit_mib: Some(1_000.0),
        memory_limit_hits: Some(1_000_000),
        memory_stall_s: Some(0.1),
        ooms: Some(0),
        oom_kills: Some(0),
        throttled_periods: Some(1),
        throttled_s: Some(0.1),
        run_queue_wait_s: Some(2.0),
        time_slices: Some(1_000),
        source_ports_used: Some(25_200),
        source_ports: Some(28_000),
        listen_drops: Some(1),
        segments_sent: Some(1_000),
        segments_resent: Some(10),
        clock_step_ms: Some(0.0),
        ..MachineHealth::default()
    };
    assert_eq!(on(sound), []);
}

#[test]
fn a_machine_that_is_too_busy() {
    let waiting = |run_queue_wait_s, time_slices| {
        on(MachineHealth {
            run_queue_wait_s: Some(run_queue_wait_s),
            time_slices: Some(time_slices),
            ..MachineHealth::default()
        })
    };
    let words = "the machine was too busy: the driving threads waited for a core 25 % of the time, 2.50 ms each; \
                 run the client where nothing else runs";
    expect(waiting(5.0, 2_000), Rating::Suspect, words);
    assert_eq!(waiting(5.0, 100_000), [], "50 µs each is the scheduler's grain");
    let short =
        MachineHealth { run_queue_wait_s: Some(0.1), time_slices: Some(9), ..MachineHealth::default() };
    let short = ClientHealth { threads: 2, machine: short, ..ClientHealth::default() };
    assert_eq!(reasons(&short, 0.1, 100, || None), [], "the start of a short window");
}

#[test]
fn an_added_error_is_judged_by_the_gaps_between_chunks() {
    let reads = |read_delay_us: Vec<u32>| ClientHealth { read_delay_us, ..ClientHealth::default() };
    let words = "the client added 3.0 ms (p99) to its time stamps, the median gap between chunks is 20.0 ms: \
                 TTFT and the gaps between chunks (ICL) look wider than they are; give it more cores";
    expect(judged(&reads(vec![3_000; 700])), Rating::Suspect, words);
    assert_eq!(judged(&reads(vec![2_000; 700])), [], "10 % of the gap");
    assert_eq!(reasons(&reads(vec![1_000; 700]), 10.0, 100, || Some(5.0)), [], "1 ms does not show");
    assert_eq!(reasons(&reads(vec![3_000; 700]), 10.0, 100, || None), [], "no gaps without streaming");
    assert_eq!(judged(&reads(vec![50_001; 700]))[0].rating, Rating::Invalid);
    let lag = ClientHealth { loop_lag_us: vec![3_000; 700], ..ClientHealth::default() };
    assert_eq!(judged(&lag), [], "the loop lag is judged by its own thresholds");
}

#[test]
fn nothing_is_concluded_about_the_client_from_a_few_requests() {
    let machine = MachineHealth {
        run_queue_wait_s: Some(9.0),
        time_slices: Some(100),
        listen_drops: Some(2),
        ..MachineHealth::default()
    };
    let late = vec![80_000; 700];
    let loaded = ClientHealth {
        cpu_s: 20.0,
        threads: 2,
        loop_lag_us: late.clone(),
        read_delay_us: late,
        machine,
        ..ClientHealth::default()
    };
    let count = |requests| reasons(&loaded, 10.0, requests, || Some(20.0)).len();
    assert_eq!((count(3), count(9), count(10), count(99), count(100)), (0, 0, 4, 4, 5));
}

#[test]
fn the_start_of_the_client_is_no_saturation() {
    let busy = |cpu_s, threads| ClientHealth { cpu_s, threads, ..ClientHealth::default() };
    assert_eq!(reasons(&busy(0.4, 1), 0.4, 40, || None), []);
    let words = "the client was saturated: 1 driving thread was 100 % busy";
    expect(reasons(&busy(0.5, 1), 0.5, 40, || None), Rating::Suspect, words);
}

#[test]
fn a_few_samples_are_judged_by_a_percentile_that_stands() {
    let lags = |late: usize, all: usize| {
        let loop_lag_us = [vec![60_000; late], vec![100; all - late]].concat();
        judged(&ClientHealth { loop_lag_us, ..ClientHealth::default() })
    };
    assert_eq!(lags(10, 10), [], "no percentile stands");
    assert_eq!(lags(9, 100), [], "nine late timers of a hundred are their p99, which does not stand");
    expect(
        lags(11, 100),
        Rating::Invalid,
        "the client was late: p90 of its timers 60.0 ms; latencies may be too long by as much",
    );
    expect(
        lags(8, 700),
        Rating::Invalid,
        "the client was late: p99 of its timers 60.0 ms; latencies may be too long by as much",
    );
}

#[test]
fn a_cpu_limit() {
    let machine =
        MachineHealth { throttled_periods: Some(12), throttled_s: Some(0.8), ..MachineHealth::default() };
    let waiting = MachineHealth { run_queue_wait_s: Some(5.0), time_slices: Some(2_000), ..machine.clone() };
    assert_eq!(on(waiting), on(machine.clone()), "threads that are stopped wait");
    let words = "the CPU limit of the client's cgroup stopped it in 12 periods, for 0.80 s in all; \
                 raise the limit (Slurm: more --cpus-per-task)";
    expect(on(machine), Rating::Suspect, words);
}

#[test]
fn descriptors_run_out() {
    let near =
        MachineHealth { open_files: Some(91), open_files_limit: Some(100), ..MachineHealth::default() };
    let words = "the client had 91 of 100 descriptors open; raise the limit (ulimit -n)";
    expect(on(near.clone()), Rating::Suspect, words);
    let words =
        "2 of 100 requests failed because the client had no descriptor left; raise the limit (ulimit -n)";
    expect(on(MachineHealth { open_files_refused: 2, ..near.clone() }), Rating::Invalid, words);
    assert_eq!(on(MachineHealth { open_files_refused: 1, ..near })[0].rating, Rating::Suspect);
}

#[test]
fn source_ports_run_out() {
    let near =
        MachineHealth { source_ports_used: Some(91), source_ports: Some(100), ..MachineHealth::default() };
    let advice = "widen net.ipv4.ip_local_port_range or keep connections alive";
    let words = format!("91 of 100 source ports towards the server were in use; {advice}");
    expect(on(near.clone()), Rating::Suspect, &words);
    let words = format!("7 of 100 requests failed because no source port was free; {advice}");
    expect(on(MachineHealth { source_ports_refused: 7, ..near }), Rating::Invalid, &words);
}

#[test]
fn memory_runs_out() {
    let near = MachineHealth {
        memory_used_mib: Some(950.0),
        memory_limit_mib: Some(1_000.0),
        ..MachineHealth::default()
    };
    let words = "memory was nearly full: 950 of 1000 MiB in the client's cgroup or on its machine; \
                 give the job more memory";
    expect(on(near), Rating::Suspect, words);
    let stalled = MachineHealth { memory_stall_s: Some(0.5), ..MachineHealth::default() };
    let words = "processes in the client's cgroup stood still for 0.50 of 10.0 s for want of memory; \
                 give the job more";
    expect(on(stalled), Rating::Suspect, words);
    // 0.4 % of 10 s, and 40 ms of a short point.
    let little = MachineHealth { memory_stall_s: Some(0.04), ..MachineHealth::default() };
    assert_eq!(on(little.clone()), []);
    assert!(memory_stall(&little, 1.0).is_none());
    let out = MachineHealth { ooms: Some(2), oom_kills: Some(0), ..MachineHealth::default() };
    expect(
        on(out.clone()),
        Rating::Suspect,
        "the client's cgroup ran out of memory 2 times; give the job more",
    );
    let words = "the kernel killed 1 processes in the client's cgroup for want of memory; give the job more";
    expect(on(MachineHealth { oom_kills: Some(1), ..out }), Rating::Invalid, words);
}

#[test]
fn the_hosts_tcp_loses() {
    let drops = MachineHealth { listen_drops: Some(2), ..MachineHealth::default() };
    let words = "2 connection requests met a full accept queue on this host, whichever process they were for \
                 (100 requests were sent): each costs 1 s or more of TTFT";
    expect(on(drops), Rating::Suspect, words);
    let resent = |segments_resent, segments_sent| {
        on(MachineHealth {
            segments_resent: Some(segments_resent),
            segments_sent: Some(segments_sent),
            ..MachineHealth::default()
        })
    };
    let words = "20 of 1000 TCP segments had to be sent again by this host, all processes (2.0 %): \
                 packets are lost, or acknowledged late by a machine that is too busy";
    expect(resent(20, 1_000), Rating::Suspect, words);
    assert_eq!(resent(9, 10), [], "too few to say");
}

#[test]
fn a_clock_that_was_set() {
    let set = MachineHealth { clock_step_ms: Some(-1_500.0), ..MachineHealth::default() };
    let words = "the system clock was set by -1500 ms, or the machine slept: latencies stand, \
                 but do not join the records with logs by time";
    expect(on(set), Rating::Suspect, words);
}
