//! Whose fault it was: a killed server, a killed load generator, a refused connection, a reset one; with the evidence.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::eventually;
use crate::support::house::{House, free_port, house_json};

/// A recipe whose load lasts until something ends it.
fn endless(house: &House, deploy: &str) {
    house.recipe(&format!(
        "summary = \"a test\"\n[model]\nname = \"org/m\"\n[deploy]\n{deploy}\nstop_grace = \"2s\"\n\
         [load]\nisl = 8\nosl = 4\nconcurrency = 2\nduration = \"300s\"\n"
    ));
}

const SIM: &str = "launcher = \"sim\"\nengine = { speed = 20, profile = \"quick\" }";

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The experiment's folder once requests are answered.
fn under_load(house: &House) -> PathBuf {
    eventually("a load", || {
        house.all().pop().filter(|dir| {
            lines(&dir.join("telemetry/client.jsonl")).iter().any(|line| line["done"].as_u64() > Some(0))
        })
    })
}

fn kill(pid: u64, signal: Signal) {
    nix::sys::signal::kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

#[test]
fn a_server_killed_under_load_is_named_with_what_its_cgroup_says() {
    let house = House::new();
    endless(&house, SIM);
    let running = house.start(["run", "./r.toml"]);
    let dir = under_load(&house);
    // It is started once more.
    let mut killed = 0;
    for _ in 0..2 {
        let usage = eventually("a sample of the server", || {
            let all = lines(&dir.join("telemetry/server_processes.jsonl"));
            let usage = all.last()?["processes"]["server-0"].clone();
            let is_new = usage["pids"][0].as_u64().is_some_and(|pid| pid != killed);
            let answered = lines(&dir.join("telemetry/client.jsonl")).last()?["done"].as_u64() > Some(0);
            (is_new && answered).then_some(usage)
        });
        assert!(usage["rss_mib"].as_f64() > Some(0.5) && usage["open_files"].as_u64() > Some(2), "{usage}");
        killed = usage["pids"][0].as_u64().unwrap();
        kill(killed, Signal::SIGKILL);
    }
    let end = running.finish().fails(4);
    let said = "server-0 was killed (signal 9) on 127.0.0.1: ";
    assert!(
        end.stderr.contains(said) && end.stderr.contains("another process sent the signal"),
        "{}",
        end.stderr
    );
    let summary = house_json(&dir.join("benchmark_logs/summary.interrupted.json"));
    let reason = summary["verdict"]["reasons"][0].as_str().unwrap();
    assert!(reason.contains(said), "{reason}");
    let failed =
        lines(&dir.join("events.jsonl")).into_iter().find(|event| event["event"] == "failed").unwrap();
    assert!(failed["message"].as_str().unwrap().starts_with(said), "{failed}");
}

#[test]
fn a_summary_has_what_the_servers_processes_used_in_the_measured_window() {
    let house = House::new();
    house.recipe(&format!(
        "summary = \"a test\"\n[model]\nname = \"org/m\"\n[deploy]\n{SIM}\n[telemetry]\ninterval = \"250ms\"\n\
         [load]\nisl = 8\nosl = 4\nconcurrency = 2\nduration = \"2s\"\n"
    ));
    house.run(["run", "./r.toml"]).succeeds();
    let dir = house.all().pop().unwrap();
    let summary = house_json(&dir.join("benchmark_logs/summary.json"));
    let [server] = summary["processes"].as_array().unwrap().as_slice() else { panic!("{summary}") };
    assert_eq!((&server["process"], &server["node"]), (&"server-0".into(), &"127.0.0.1".into()));
    let figure = |path: &str| server.pointer(path).and_then(Value::as_f64).unwrap_or(-1.0);
    for known in
        ["/samples", "/cpu_avg_cores", "/rss_max_mib", "/open_files_max", "/sockets_max", "/memory/limit_mib"]
    {
        assert!(figure(known) > 0.0, "{known}: {server}");
    }
    // It has the connections of the load open, so that it is the one that answers clients.
    assert!((0.0..=1.0).contains(&figure("/front_busy")), "{server}");
    let page = std::fs::read_to_string(dir.join("summary.md")).unwrap();
    let part = page.split("## Server processes").nth(1).expect("a part of its own");
    assert!(part.contains("| server-0 | 127.0.0.1 |"), "{part}");
}

/// A memory cgroup of this test, of either version; `None`, said aloud, where none can be made.
struct MemoryCgroup(PathBuf);

impl MemoryCgroup {
    fn new(name: &str, limit_mib: u64) -> Option<Self> {
        let limit = (limit_mib << 20).to_string();
        for (root, file) in
            [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")]
        {
            let path = Path::new(root).join(format!("tokmark-test-{name}-{}", std::process::id()));
            if std::fs::create_dir(&path).is_err() {
                continue;
            }
            let made = Self(path);
            if std::fs::write(made.0.join(file), &limit).is_ok() {
                // Without swap the limit is one.
                let _absent = std::fs::write(made.0.join("memory.swap.max"), "0");
                return Some(made);
            }
        }
        eprintln!(
            "SKIPPED: no memory cgroup can be made here (root and a writable /sys/fs/cgroup are needed)"
        );
        None
    }

    fn procs(&self) -> String {
        self.0.join("cgroup.procs").display().to_string()
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

const HOG: &str = "x = bytearray(400 << 20)";

#[test]
fn a_server_that_outgrows_its_cgroup_ran_out_of_memory() {
    let Some(cgroup) = MemoryCgroup::new("server", 48) else { return };
    let house = House::new();
    endless(&house, "launcher = \"mine\"");
    house.file(
        "launchers/mine.toml",
        &format!(
            "schema = 1\nname = \"mine\"\nsummary = \"a hog\"\nsimulated = true\n[endpoint]\nrole = \"server\"\nport = \"http\"\n\
             [[role]]\nname = \"server\"\nplacement = \"head\"\nports = {{ http = 18820 }}\n\
             argv = [\"sh\", \"-c\", '''sleep 1.5; echo $$ > {}; exec python3 -c \"{HOG}\"''']\n",
            cgroup.procs()
        ),
    );
    let end = house.run(["run", "./r.toml"]).fails(4);
    assert!(
        end.stderr.contains("server-0 was killed (signal 9) on 127.0.0.1: out of memory: "),
        "{}",
        end.stderr
    );
    assert!(end.stderr.contains("next: give it more memory"), "{}", end.stderr);
}

#[test]
fn a_load_generator_killed_in_mid_run_is_named_by_jobs() {
    let house = House::new();
    let sim = house.sim(&["--model", "org/m"]);
    endless(&house, &format!("launcher = \"attach\"\nurl = \"{}\"", sim.url()));
    let running = house.start(["run", "./r.toml"]);
    let dir = under_load(&house);
    running.signal(Signal::SIGKILL);
    running.finish();
    let name = dir.file_name().unwrap().to_string_lossy().into_owned();
    let shown = house.run(["jobs", "show", &name]).succeeds().stdout;
    let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(shown.contains("the load generator was killed"), "{shown}");
    assert!(shown.contains("no OOM kill is counted") && shown.contains("last sample"), "{shown}");
    let json = house.run(["jobs", "show", &name, "--json"]).succeeds().json();
    assert!(json["failure"].as_str().unwrap().contains("the load generator was killed"), "{json}");
}

#[test]
fn a_load_generator_that_its_cgroup_killed_ran_out_of_memory() {
    let Some(cgroup) = MemoryCgroup::new("client", 200) else { return };
    let house = House::new();
    let sim = house.sim(&["--model", "org/m"]);
    endless(&house, &format!("launcher = \"attach\"\nurl = \"{}\"", sim.url()));
    let running = house.start(["run", "./r.toml"]);
    std::fs::write(cgroup.0.join("cgroup.procs"), running.pid().to_string()).unwrap();
    let dir = under_load(&house);
    eventually("a sample in the cgroup", || {
        let inside = |line: &Value| line["memory"][0]["limit"].as_u64() == Some(200 << 20);
        lines(&dir.join("telemetry/client.jsonl")).iter().any(inside).then_some(())
    });
    // The kernel takes the process with the highest score, whoever asked for the memory.
    std::fs::write(format!("/proc/{}/oom_score_adj", running.pid()), "1000").unwrap();
    let script = format!("echo $$ > {}; exec python3 -c \"{HOG}\"", cgroup.procs());
    let _hog = std::process::Command::new("sh").args(["-c", &script]).status().unwrap();
    running.finish();
    let shown = house.run(["jobs", "show", "last"]).succeeds().stdout;
    let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(shown.contains("the load generator was killed") && shown.contains("out of memory"), "{shown}");
    assert!(shown.contains("limit 200 MiB"), "{shown}");
}

fn attach(url: &str) -> String {
    format!(
        "[model]\nname = \"org/m\"\n[deploy]\nlauncher = \"attach\"\nurl = \"{url}\"\nstartup_timeout = 0\n\
         [load]\nisl = 8\nosl = 4\nrequests = 4\n"
    )
}

/// The summary of the newest experiment, whole or not.
fn summary_of(house: &House) -> PathBuf {
    let mut all = house.all();
    all.sort_by_key(|dir| std::fs::metadata(dir).unwrap().modified().unwrap());
    let logs = all.pop().unwrap().join("benchmark_logs");
    let names = ["summary.json", "summary.interrupted.json"];
    names.iter().map(|name| logs.join(name)).find(|path| path.is_file()).unwrap()
}

#[test]
fn a_refused_connection_is_the_servers_and_a_reset_one_lies_between() {
    let house = House::new();
    let nobody = format!("http://127.0.0.1:{}", free_port());
    house.recipe(&attach(&nobody));
    house.run(["run", "./r.toml"]);
    let summary = house_json(&summary_of(&house));
    assert_eq!(
        (&summary["faults"][0]["party"], &summary["faults"][0]["what"]),
        (&"server".into(), &"refused".into()),
        "{summary}"
    );
    let reasons = summary["verdict"]["reasons"].to_string();
    assert!(reasons.contains("the server refused"), "{reasons}");

    // A server that closes each connection with a RST: SO_LINGER of 0 is what unread bytes do as well.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let _begun = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n");
            // The request stays unread, so that closing resets the connection.
            let _first = stream.read(&mut [0; 1]);
        }
    });
    house.recipe(&attach(&url));
    house.run(["run", "./r.toml"]);
    let summary = house_json(&summary_of(&house));
    assert_eq!(summary["faults"][0]["party"], "network", "{summary}");
    assert!(summary["verdict"]["reasons"].to_string().contains("reset"), "{summary}");
}
