//! How servers come up on this machine, with launchers written for the purpose: ports taken at the wrong moment, starts
//! that take long and show it, roles that wait for others, log lines that end everything, several servers of one load.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;

use crate::support::eventually;
use crate::support::house::{End, House, Running, house_json, is_heard};
use nix::sys::signal::Signal;
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
    let started = lines.map(|(line, advice)| {
        let script = format!("echo \"{line}\"; sleep 300");
        let house =
            house("startup_timeout = \"200s\"", &launcher("fatal_sets = [\"gpu\", \"server\"]", &script));
        let running = house.start(["run", "./r.toml"]);
        (house, running, line, advice)
    });
    for (house, running, line, advice) in started {
        let end = running.finish().fails(4);
        assert!(end.stderr.contains(line) && end.stderr.contains(advice), "{}", end.stderr);
        assert!(!end.stderr.contains("startup_timeout"), "{}", end.stderr);
        assert!(house.processes().is_empty(), "{:?}", house.processes());
    }
}

/// A plugin that is missing, a warning, and an error after which the engine logs that it goes on for longer than a silent one
/// may live.
#[test]
fn lines_that_look_fatal_do_not_end_an_engine_that_goes_on() {
    let script = r#"
echo "ERROR Failed to load plugin extra"
echo "Traceback (most recent call last):"
echo "ModuleNotFoundError: No module named extra"
echo "WARNING 12-01 01:02:03 [a.py:1] CUDA out of memory, trying less"
echo "ERROR 12-01 01:02:04 [a.py:1] CUDA out of memory"
for step in one two three four; do sleep 4; echo "INFO loading part $step"; done"#;
    let house = house("", &launcher("fatal_sets = [\"gpu\", \"server\"]", script));
    let end = run(&house).succeeds();
    let dir = house.experiment();
    let suspected: Vec<Value> = events(&dir, "suspected");
    let lines: Vec<&str> = suspected.iter().map(|event| event["line"].as_str().unwrap()).collect();
    assert_eq!(
        lines,
        ["ModuleNotFoundError: No module named extra", "ERROR 12-01 01:02:04 [a.py:1] CUDA out of memory"]
    );
    assert!(end.stderr.contains("server-0 may have failed"), "{}", end.stderr);
    assert!(house.read(dir.join("report.html")).contains("No module named extra"));
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

/// A server that ignores SIGTERM, and leaves a daemon in a session of its own.
#[test]
fn no_server_outlives_its_run_however_that_ends() {
    let script = "setsid sleep 300 &\ntrap '' TERM HUP QUIT\n\"$1\" sim --host \"$2\" --port \"$3\" --model \"$4\"; sleep 300";
    let signals = [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGKILL];
    for signal in signals.into_iter().filter(|signal| is_heard(*signal)) {
        let house = house("", &launcher("", script));
        let text = house.read("r.toml").replace("requests_per_concurrency = 2", "duration = \"600s\"");
        house.file("r.toml", &text);
        let running = house.start(["run", "./r.toml"]);
        eventually("the load runs", || {
            house.all().pop().filter(|dir| dir.join("benchmark_logs/records.jsonl").exists())
        });
        running.signal(signal);
        let end = running.finish();
        if signal != Signal::SIGKILL {
            end.fails(130);
        }
        house.assert_empty();
    }
}

/// tokmark and the keeper are killed together, and the program with its keeper; its child lives on.
#[test]
fn what_a_lost_run_left_behind_is_named_and_ended() {
    // A port of this test's own: others that run at the same time take theirs from 18750 on.
    let of_its_own = |script: &str| launcher("", script).replace("18750", "18770");
    let house = house("", &of_its_own("\"$1\" sim --host \"$2\" --port \"$3\" --model \"$4\" & wait"));
    let text = house.read("r.toml").replace("requests_per_concurrency = 2", "duration = \"600s\"");
    house.file("r.toml", &text);
    let running = house.start(["run", "./r.toml"]);
    let dir = eventually("the load runs", || {
        house.all().pop().filter(|dir| dir.join("benchmark_logs/records.jsonl").exists())
    });
    let name = dir.file_name().unwrap().to_str().unwrap().to_owned();
    running.signal(Signal::SIGSTOP);
    for (pid, _) in house.processes().into_iter().filter(|(_, command)| command.contains(" keep -- ")) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
    }
    running.signal(Signal::SIGKILL);
    running.finish();
    let [server] = house.processes().into_keys().collect::<Vec<_>>()[..] else {
        panic!("{:?}", house.processes())
    };
    let show = house.run(["jobs", "show", &name]).succeeds().stdout;
    assert!(show.contains(&format!("left behind server-0 (pid {server})")), "{show}");
    house.file("launchers/mine.toml", &of_its_own(""));
    let next = house.recipe(&recipe(""));
    let end = house.run([OsStr::new("run"), next.as_os_str()]).succeeds();
    let words = format!("port 18770 is held by a server that {name} left behind (pid {server}: ");
    assert!(end.stderr.contains(&words), "{}", end.stderr);
    let end = house.run(["jobs", "cancel", &name]).succeeds();
    assert!(end.stdout.contains(&format!("ended server-0 (pid {server})")), "{}", end.stdout);
    house.assert_empty();
    let end = house.run(["jobs", "cancel", &name]).succeeds();
    assert!(end.stdout.contains("does not run"), "{}", end.stdout);
}

#[test]
fn a_daemon_of_a_server_does_not_outlive_a_run_that_succeeds() {
    let house = house("", &launcher("", "setsid sleep 300 &"));
    run(&house).succeeds();
    house.assert_empty();
}

/// Our server never listens, and another process with the same model takes its port.
#[test]
fn a_foreign_server_on_our_port_is_named_and_not_measured() {
    let house = House::new();
    house.recipe(&recipe("port = 18790\nstartup_timeout = \"60s\""));
    house.file("launchers/mine.toml", &launcher("", "exec sleep 300"));
    let running = house.start(["run", "./r.toml"]);
    let dir = eventually("our server", || {
        house.all().pop().filter(|dir| {
            std::fs::read_to_string(dir.join("events.jsonl"))
                .is_ok_and(|text| text.contains("process_started"))
        })
    });
    let other = house.start(["sim", "--port", "18790", "--model", "org/m", "--speed", "20"]);
    let end = running.finish().fails(4);
    assert!(end.stderr.contains("127.0.0.1:18790 is served by another process"), "{}", end.stderr);
    assert!(end.stderr.contains(&format!("pid {}: ", other.pid())), "{}", end.stderr);
    assert!(!dir.join("benchmark_logs/records.jsonl").exists());
}

#[test]
fn a_server_that_dies_by_a_signal_is_reported_so() {
    let house = house("", &launcher("", "kill -SEGV $$"));
    let end = run(&house).fails(4);
    assert!(end.stderr.contains("server-0 ended by itself (signal 11)"), "{}", end.stderr);
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

/// A recipe of two load points on launcher `mine`.
const TWO_POINTS: &str = "summary = \"a test\"\n[model]\nname = \"org/m\"\n[deploy]\nlauncher = \"mine\"\nstop_grace = \"2s\"\n\
                          [load]\nisl = 8\nosl = 4\nconcurrency = [1, 2]\nrequests = 100\n";

#[test]
fn a_server_that_dies_once_starts_again_and_its_points_are_kept() {
    // It dies under the second point.
    let script = r#"
if [ ! -e "$marker" ]; then
  touch "$marker"
  exec "$1" sim --host "$2" --port "$3" --model "$4" --profile quick --speed 20 --crash-after 130
fi
echo second start"#;
    let house = House::new();
    house.recipe(TWO_POINTS);
    house.file("launchers/mine.toml", &launcher("", script));
    let end = run(&house).succeeds();
    assert!(
        end.stderr.contains("starting the servers once more: server-0 ended by itself"),
        "{}",
        end.stderr
    );
    let dir = house.experiment();
    assert_eq!((events(&dir, "restarting").len(), events(&dir, "given_up").len()), (1, 0));
    let finished: Vec<Value> =
        events(&dir, "point_finished").into_iter().map(|event| event["point"].clone()).collect();
    assert_eq!(finished, ["isl8_osl4_con1", "isl8_osl4_con2"], "each once");
    assert!(events(&dir, "point_kept").is_empty(), "not an earlier attempt of the run");
    let points = dir.join("benchmark_logs");
    assert!(points.join("isl8_osl4_con2.interrupted-1/records.jsonl").is_file());
    assert!(points.join("isl8_osl4_con2/summary.json").is_file());
    let log = std::fs::read_to_string(dir.join("server_logs/server-0.log")).unwrap();
    assert!(log.contains("out of memory (simulated)") && log.contains("second start"), "both starts: {log}");
    let csv = std::fs::read_to_string(dir.join("summary.csv")).unwrap();
    assert_eq!((csv.lines().count(), csv.matches("invalid").count()), (3, 0), "{csv}");
    house.assert_empty();
}

/// A sweep of servers of two load points each.
fn sweep(launcher: &str, axes: &str) -> House {
    let house = House::new();
    let deploy = format!("[deploy]\nlauncher = \"{launcher}\"\nstop_grace = \"2s\"\n");
    house.recipe(&format!(
        "summary = \"a test\"\n[model]\nname = \"org/m\"\n{deploy}\
         [load]\nisl = 8\nosl = 4\nconcurrency = [1, 2]\nrequests = 10\n[sweep.server]\n{axes}\n"
    ));
    house
}

/// Points and verdicts of `summary.csv`.
fn verdicts(house: &House) -> Vec<(String, String)> {
    let csv = std::fs::read_to_string(house.experiment().join("summary.csv")).unwrap();
    let cell = |line: &str, at: usize| line.split(',').nth(at).unwrap().to_owned();
    csv.lines().skip(1).map(|line| (cell(line, 0), cell(line, 10))).collect()
}

#[test]
fn a_sweep_goes_on_after_a_deployment_whose_server_dies_twice() {
    let house = sweep("sim", "\"engine.crash_after\" = [5, 1000]");
    let end = run(&house).fails(4);
    let given_up = "giving up crash_after5 with 2 load point(s): server-0 on 127.0.0.1 said: CUDA error";
    assert!(end.stderr.contains(given_up), "{}", end.stderr);
    let dir = house.experiment();
    assert_eq!((events(&dir, "restarting").len(), events(&dir, "given_up").len()), (1, 1));
    let found = verdicts(&house);
    let found: Vec<(&str, &str)> = found.iter().map(|(name, verdict)| (&**name, &**verdict)).collect();
    let expected = [
        ("crash_after5_isl8_osl4_con1", "invalid"),
        ("crash_after1000_isl8_osl4_con1", "valid"),
        ("crash_after1000_isl8_osl4_con2", "valid"),
        ("crash_after5_isl8_osl4_con2", "failed"),
    ];
    assert_eq!(found, expected);
    assert!(end.stdout.contains("! not measured: crash_after5_isl8_osl4_con2: server-0"), "{}", end.stdout);
    house.assert_empty();
}

#[test]
fn deployments_that_refuse_their_options_are_given_up_without_a_second_start() {
    let refuses = "case \"$marker\" in *mode1*|*mode2*) echo 'error: no such mode' >&2; exit 2;; esac";
    let house = sweep("mine", "\"settings.mode\" = [1, 2, 3]");
    house.file("launchers/mine.toml", &launcher("[settings.mode]\ndefault = 3\nabout = \"s\"", refuses));
    let end = run(&house).fails(4);
    assert!(
        end.stderr.contains("2 failures, after each of which the run went on\nmode1: server-0"),
        "{}",
        end.stderr
    );
    assert!(end.stderr.contains("\nmode2: server-0 ended by itself (exit 2)"), "{}", end.stderr);
    let dir = house.experiment();
    assert_eq!((events(&dir, "restarting").len(), events(&dir, "given_up").len()), (0, 2));
    let failed = verdicts(&house).into_iter().filter(|(_, verdict)| verdict == "failed");
    let failed: Vec<String> = failed.map(|(name, _)| name).collect();
    assert_eq!(
        failed,
        ["mode1_isl8_osl4_con1", "mode1_isl8_osl4_con2", "mode2_isl8_osl4_con1", "mode2_isl8_osl4_con2"]
    );
    let page = std::fs::read_to_string(dir.join("summary.md")).unwrap();
    assert!(page.contains("## Not measured") && page.contains("(exit 2)"), "{page}");
    house.assert_empty();
}

#[test]
fn a_load_point_that_does_not_fit_is_left_out_and_the_others_are_measured() {
    let house = House::new();
    let sim = house.sim(&["--max-model-len", "64"]);
    house.recipe(&format!(
        "summary = \"a test\"\n[model]\nname = \"tokmark/quick\"\n[deploy]\nlauncher = \"attach\"\nurl = \"{}\"\n\
         [load]\nisl = [8, 500, 16]\nosl = 4\nrequests = 10\n",
        sim.url()
    ));
    let end = run(&house).fails(2);
    assert!(end.stderr.contains("isl500_osl4_con1: not measured"), "{}", end.stderr);
    assert!(end.stdout.contains("! not measured: isl500_osl4_con1: "), "{}", end.stdout);
    let csv = house.read(house.experiment().join("summary.csv"));
    assert_eq!((csv.lines().count(), csv.matches(",chat,failed,").count()), (4, 1), "{csv}");
}
