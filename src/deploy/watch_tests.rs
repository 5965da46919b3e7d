use std::io::Write;
use std::sync::Mutex;

use super::*;
use crate::deploy::suspicion::GRACE;

/// A watcher that keeps its reports, with one fatal pattern.
fn watcher() -> (Watcher, Arc<Mutex<Vec<Notice>>>) {
    let reports = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&reports);
    let text = "pattern = 'NCCL error \\d'\nadvice = \"check the cables\"\nretry_with_new_ports = true";
    let fatal: Fatal = toml::from_str(text).unwrap();
    let watcher = Watcher {
        fatal: Arc::new(vec![(Regex::new(&fatal.pattern).unwrap(), fatal)]),
        signs: Arc::new(vec![Regex::new(r"\d+%").unwrap()]),
        deadline: Arc::new(Deadline::of(Instant::now(), Duration::from_secs(9))),
        life: Arc::default(),
        census: Arc::default(),
        report: Arc::new(move |notice| kept.lock().unwrap().push(notice)),
    };
    (watcher, reports)
}

fn watched(logs: &[&std::path::Path]) -> Watched {
    let logs = logs.iter().map(|path| (path.to_path_buf(), 0)).collect();
    Watched { name: "server-0".into(), host: "node1".into(), keeper: Some(u32::MAX), logs }
}

#[test]
fn the_first_fatal_line_is_suspected_once_and_reported_when_nothing_follows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("server-0.log");
    let watched = watched(&[&path]);
    let (watcher, reports) = watcher();
    let (mut logs, mut suspicion) = (watched.follow(), None);
    std::fs::write(&path, "loading 10%\n").unwrap();
    watcher.read(&mut logs, false, &watched, &mut suspicion);
    assert!(suspicion.is_none());
    assert_eq!(watcher.deadline.state().sign.as_deref(), Some("server-0: 10%"));
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    writeln!(file, "NCCL error 7\nNCCL error 8").unwrap();
    watcher.read(&mut logs, false, &watched, &mut suspicion);
    let now = Instant::now();
    assert!(!watcher.judge(&watched, &mut suspicion, now));
    writeln!(file, "loading 20%").unwrap();
    watcher.read(&mut logs, false, &watched, &mut suspicion);
    assert!(!watcher.judge(&watched, &mut suspicion, now + GRACE), "it goes on");
    assert!(watcher.judge(&watched, &mut suspicion, now + 2 * GRACE));
    let reports = reports.lock().unwrap();
    let [Notice::Suspected { line, .. }, Notice::Fatal(error)] = reports.as_slice() else {
        panic!("{reports:?}")
    };
    assert!(error.wants_new_ports() && line == "NCCL error 7");
    let text = error.to_string();
    assert!(text.starts_with("server-0 on node1 said: NCCL error 7\n  | loading 10%\n"), "{text}");
    assert!(text.contains("next: check the cables\n  log: ") && text.contains("server-0.log"), "{text}");
}

#[tokio::test]
async fn a_process_that_ends_after_a_fatal_line_ended_because_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("server-0.log");
    std::fs::write(&path, "NCCL error 7\n").unwrap();
    let (watcher, reports) = watcher();
    let child = tokio::process::Command::new("false").spawn().unwrap();
    watcher.watch(child, watched(&[&path])).await;
    let reports = reports.lock().unwrap();
    let Some(Notice::Ended { error: Some(error), .. }) = reports.last() else { panic!("{reports:?}") };
    assert!(error.to_string().starts_with("server-0 on node1 said: NCCL error 7"), "{error}");
}

fn died(watched: Watched, status: &str) -> DeployError {
    watched.died(status, None, watched.tail())
}

#[test]
fn a_death_shows_the_log_that_tells_most() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let own = file("worker-0.log", "one\ntwo\n");
    let text = died(watched(&[&own]), "signal 9").to_string();
    assert!(
        text.starts_with("server-0 ended by itself (signal 9) on node1\n  | one\n  | two\n  log: "),
        "{text}"
    );
    // The task that wrote something, with srun's last lines below.
    let srun = file("worker-1.log", "srun: error\n");
    let tasks = [file("worker-1.0.log", ""), file("worker-1.1.log", "Traceback\n")];
    let text = died(watched(&[&srun, &tasks[0], &tasks[1]]), "exit 1").to_string();
    assert!(text.contains("  | Traceback\n  | srun: error\n") && text.ends_with("worker-1.1.log"), "{text}");
    // Nothing was written.
    let silent = folder.path().join("silent.log");
    assert!(died(watched(&[&silent]), "exit 1").to_string().ends_with("silent.log"));
}
