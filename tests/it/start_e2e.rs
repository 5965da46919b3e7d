//! How servers come up on this machine, with launchers written for the purpose: ports taken at the wrong moment, starts
//! that take long and show it, roles that wait for others, log lines that end everything, several servers of one load.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::house::{End, House, Running, house_json};
use serde_json::Value;

/// A recipe for launcher `mine`.
fn recipe(deploy: &str) -> String {
    format!(
        "summary = \"a test\"\n[model]\nname = \"org/m\"\n[deploy]\nlauncher = \"mine\"\nstop_grace = \"2s\"\n{deploy}\n\
         [load]\nisl = 8\nosl = 4\nconcurrency = 2\nrequests_per_concurrency = 2\n"
    )
}

/// A launcher whose only role is a shell script that ends in the simulated engine; `more` is put at its top.
fn launcher(more: &str, script: &str) -> String {
    format!(
        r#"
schema = 1
name = "mine"
summary = "a script"
simulated = true
{more}
[endpoint]
role = "server"
port = "http"
health = "/health"
[[role]]
name = "server"
placement = "head"
ports = {{ http = 18750 }}
argv = ["sh", "-c", '''
serve() {{ exec "$1" sim --host "$2" --port "$3" --model "$4" --profile quick --speed 20; }}
marker="$5"
{script}
serve "$@"''', "sh", "{{{{ tokmark }}}}", "{{{{ host }}}}", "{{{{ port.http }}}}", "{{{{ model.served_name }}}}", "{{{{ dirs.run }}}}/marker"]
"#
    )
}

fn house(deploy: &str, launcher: &str) -> House {
    let house = House::new();
    house.recipe(&recipe(deploy));
    house.file("launchers/mine.toml", launcher);
    house
}

fn events(dir: &Path, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(dir.join("events.jsonl")).unwrap();
    let all = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|event| event["event"] == name).collect()
}

fn run(house: &House) -> End {
    house.run(["run", "./r.toml"])
}

#[test]
fn a_port_taken_in_the_meantime_is_chosen_anew_once() {
    let script = r#"
if [ ! -e "$marker" ]; then
  touch "$marker"
  echo "OSError: [Errno 98] error while attempting to bind on address: Address already in use" >&2
  sleep 30
fi"#;
    let house = house("", &launcher("fatal_sets = [\"server\"]", script));
    run(&house).succeeds();
    let dir = house.experiment();
    let taken = events(&dir, "ports_taken");
    assert_eq!(taken.len(), 1, "{taken:?}");
    assert!(taken[0]["problem"].as_str().unwrap().contains("Address already in use"));
    let commands = std::fs::read_to_string(dir.join("commands.sh")).unwrap();
    // The host stands before the port in the script's arguments.
    let ports: BTreeSet<&str> =
        commands.split("127.0.0.1 ").skip(1).map(|rest| rest.split(' ').next().unwrap()).collect();
    assert_eq!(ports.len(), 2, "another port: {commands}");

    let always = "echo 'Address already in use'; sleep 30";
    let house = self::house("", &launcher("fatal_sets = [\"server\"]", always));
    let end = run(&house).fails(4);
    assert!(end.stderr.contains("Address already in use"), "{}", end.stderr);
    assert_eq!(events(&house.experiment(), "ports_taken").len(), 1, "only once");
    assert!(house.processes().is_empty(), "{:?}", house.processes());
}

const LOADS: &str = r#"for part in 1 2 3 4 5 6 7 8; do echo "Loading weights: SIGN%" | sed "s/SIGN/$(( part * STEP ))/"; sleep 0.4; done"#;

#[test]
fn new_progress_in_the_log_extends_the_deadline() {
    let deadlines = "startup_timeout = \"2s\"\nprogress_timeout = \"2s\"";
    let progress = "progress = ['Loading weights: \\d+%']";
    let moving = house(deadlines, &launcher(progress, &LOADS.replace("STEP", "10")));
    run(&moving).succeeds();
    let ready = events(&moving.experiment(), "ready");
    assert!(ready[0]["seconds"].as_f64().unwrap() > 3.0, "{ready:?}");

    let standing = house(deadlines, &launcher(progress, &LOADS.replace("STEP", "0")));
    let end = run(&standing).fails(4);
    assert!(
        end.stderr
            .contains("deploy.progress_timeout has passed (last progress: server-0: Loading weights: 0%)"),
        "{}",
        end.stderr
    );
    let silent = house(deadlines, &launcher("", &LOADS.replace("STEP", "10")));
    let end = run(&silent).fails(4);
    assert!(end.stderr.contains("deploy.startup_timeout has passed"), "{}", end.stderr);
}

#[test]
fn a_fatal_line_ends_the_start_though_the_process_lives() {
    let lines = [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", "raise tp"),
        ("RuntimeError: NCCL error: unhandled system error", "NCCL_DEBUG=INFO"),
        (
            "safetensors_rust.SafetensorError: Error while deserializing header: MetadataIncompleteBuffer",
            "download the model again",
        ),
        ("OSError: [Errno 28] No space left on device", "free space"),
    ];
    for (line, advice) in lines {
        let script = format!("echo \"{line}\"; sleep 60");
        let house =
            house("startup_timeout = \"50s\"", &launcher("fatal_sets = [\"gpu\", \"server\"]", &script));
        let end = run(&house).fails(4);
        assert!(end.stderr.contains(line) && end.stderr.contains(advice), "{}", end.stderr);
        assert!(house.processes().is_empty(), "{:?}", house.processes());
    }
}

/// A first role says in its log that it is up only after it has left its mark; the next one ends when there is none.
#[test]
fn a_role_starts_when_those_it_comes_after_are_ready() {
    let first = r#"
[[role]]
name = "first"
placement = "head"
argv = ["sh", "-c", 'sleep 0.5; touch "$1"; echo "now serving"; exec sleep 100', "sh", "{{ dirs.run }}/marker"]
ready = { log = { pattern = "now serv(ing|ed)" } }
"#;
    let text = launcher("", r#"[ -e "$marker" ] || exit 9"#);
    let (head, server) = text.split_once("[[role]]").unwrap();
    let house = house("", &format!("{head}{first}[[role]]{server}"));
    run(&house).succeeds();
    // Not waiting for it is a choice, and shows.
    let hasty = server.replace("placement = \"head\"", "placement = \"head\"\nafter = []");
    let house = self::house("", &format!("{head}{first}[[role]]{hasty}"));
    let end = run(&house).fails(4);
    assert!(end.stderr.contains("server-0 ended by itself (exit 9)"), "{}", end.stderr);
}

#[test]
fn replicas_share_the_load_and_have_separate_logs_and_metrics() {
    let house = House::new();
    house.recipe(
        &recipe("replicas = 3\n[deploy.engine]\nspeed = 20\nprofile = \"quick\"")
            .replace("mine", "sim")
            .replace("concurrency = 2", "concurrency = 6"),
    );
    run(&house).succeeds();
    let dir = house.experiment();
    let summary = house_json(&dir.join("benchmark_logs/summary.json"));
    assert_eq!(summary["requests"]["completed"], 36, "6 for each of 6");
    let scraped = std::fs::read_to_string(dir.join("telemetry/server_metrics.jsonl")).unwrap();
    let urls: BTreeSet<String> = scraped
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["url"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(urls.len(), 3, "{urls:?}");
    for url in &urls {
        let last = scraped.lines().rfind(|line| line.contains(url)).unwrap();
        let metrics = serde_json::from_str::<Value>(last).unwrap()["metrics"].clone();
        let served =
            metrics.as_object().unwrap().iter().find(|(name, _)| name.contains("finished_reason=\"length\""));
        assert!(served.is_some_and(|(_, count)| count.as_f64().unwrap() >= 12.0), "{url}: {metrics}");
    }
    for replica in 0..3 {
        assert!(dir.join(format!("server_logs/server-{replica}.log")).exists());
    }
}

/// Both look for a port before either listens.
#[test]
fn two_runs_started_in_one_moment_do_not_choose_the_same_port() {
    let script = "sleep 1";
    let houses = [house("", &launcher("", script)), house("", &launcher("", script))];
    let running: Vec<Running> = houses.iter().map(|house| house.start(["run", "./r.toml"])).collect();
    let ends: Vec<End> = running.into_iter().map(Running::finish).collect();
    for end in ends {
        end.succeeds();
    }
    let urls: BTreeSet<String> = houses
        .iter()
        .map(|house| events(&house.experiment(), "ready")[0]["url"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(urls.len(), 2, "{urls:?}");
}
