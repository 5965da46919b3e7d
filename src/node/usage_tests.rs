//! Texts as the kernel writes them, and the processes of this test.

use super::*;

#[test]
fn a_process_is_recognised_by_its_environment() {
    let environ = b"HOME=/root\0TOKMARK_RUN=tokmark-7-0\0TOKMARK_PROCESS=worker-1\0";
    assert_eq!(marked(environ, "tokmark-7-0").as_deref(), Some("worker-1"));
    assert_eq!(marked(environ, "tokmark-7-1"), None, "another run");
    assert_eq!(marked(b"XTOKMARK_PROCESS=a\0TOKMARK_RUN=r\0", "r"), None);
    assert_eq!(marked(b"\xff\0\0", ""), None);
}

#[test]
fn figures_of_a_process_are_read_from_its_stat() {
    // 20 + 30 + 5 + 45 ticks of 1/100 s; 3 threads; 256 pages of 4 KiB.
    let stat = "9 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 20 30 5 45 20 0 3 0 4242 999 256 18446744073709551615";
    let mut usage = Usage::default();
    usage.add(u32::MAX, stat, 2);
    assert_eq!((usage.cpu_s, usage.threads, usage.rss_mib, usage.sockets), (1.0, 3, 1.0, 2));
    assert_eq!(command_name(stat), "a) b");
    let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                  Max cpu time              unlimited            unlimited            seconds   \n\
                  Max open files            1024                 1048576              files     \n";
    assert_eq!((soft_limit(limits), soft_limit("Max open files unlimited")), (Some(1024), None));
}

#[test]
fn the_kernels_words_about_a_kill() {
    let memcg = "6,1290,2122981902,-;Memory cgroup out of memory: Killed process 6143 (python3) total-vm:221368kB, \
                 anon-rss:32512kB, file-rss:6648kB, shmem-rss:0kB, UID:0 pgtables:128kB oom_score_adj:0\n";
    let kill = Kill::parse(memcg).unwrap();
    assert_eq!(kill.pid, 6143);
    assert!(kill.text.starts_with("Memory cgroup out of memory: Killed process 6143 (python3)"));
    assert!(!kill.text.contains('\n'));
    let machine = "3,9,1,-;Out of memory: Killed process 77 (vllm) total-vm:9kB\n SUBSYSTEM=x\n";
    assert_eq!(Kill::parse(machine).unwrap().pid, 77);
    assert_eq!(Kill::parse("6,1,2,-;eth0: link up"), None);
    assert_eq!(Kill::parse("6,1,2,-;systemd: Killed process 7"), None, "for another reason");
}

#[test]
fn children_are_seen_with_their_sockets_and_a_stranger_on_a_port_is_named() {
    let stranger = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = stranger.local_addr().unwrap().port();
    let run = format!("run-of-test-{}", std::process::id());
    let mut child = std::process::Command::new("sh")
        .args(["-c", "sleep 60 & wait"])
        .env(RUN, &run)
        .env(PROCESS, "server-0")
        .spawn()
        .unwrap();
    let mut watch = Watch::new(Watched { run, ports: vec![port], job: None, every_ms: 1 });
    let began = Instant::now();
    let sample = loop {
        let sample = watch.sample();
        let whole = sample.processes.get("server-0").is_some_and(|usage| usage.pids.len() == 2);
        if whole || began.elapsed().as_secs() > 30 {
            break sample;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    let usage = &sample.processes["server-0"];
    assert_eq!(usage.pids.len(), 2, "the shell and its child: {usage:?}");
    assert!(usage.rss_mib > 0.1 && usage.threads == 2 && usage.open_files >= 3, "{usage:?}");
    assert!(usage.open_files_limit.is_some_and(|limit| limit >= usage.open_files));
    let [holder] = &sample.listeners[..] else { panic!("{:?}", sample.listeners) };
    assert!(
        !holder.is_ours
            && holder.process.as_ref().unwrap().starts_with(&format!("pid {}: ", std::process::id()))
    );
    child.kill().unwrap();
    child.wait().unwrap();
    let line = serde_json::to_string(&sample).unwrap();
    assert_eq!(serde_json::from_str::<Sample>(&line).unwrap(), sample);
}
