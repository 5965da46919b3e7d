//! `tokmark run`, `bench` and `jobs` on this machine, end to end with the simulated engine: what is written, what is
//! said, how it ends, and that nothing is left running.

use std::path::Path;
use std::process::Stdio;

use crate::support::eventually;
use crate::support::house::{House, Running, free_port, house_json, is_heard};
use nix::sys::signal::Signal;
use serde_json::Value;
use tokmark::internals::metrics::{Outcome, Phase, RequestRecord};

const SIMULATED: &str = "SIMULATED";

/// A recipe on a fast simulated engine, on a port of its own.
fn recipe(house: &House, deploy: &str, engine: &str, load: &str) {
    let port = free_port();
    house.recipe(&format!(
        "summary = \"a test\"\n[model]\nname = \"org/m\"\n[deploy]\nlauncher = \"sim\"\nport = {port}\nstop_grace = \"3s\"\n\
         {deploy}\n[deploy.engine]\n{engine}\n[load]\nisl = 8\nosl = 6\n{load}\n"
    ));
}

const FAST: &str = "speed = 20";

/// A run that goes on for a minute unless something ends it.
const LONG: &str = "concurrency = 2\nduration = \"600s\"";

/// Files and folders of a directory, sorted, folders with a `/`.
fn names(dir: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.unwrap();
        let slash = if entry.file_type().unwrap().is_dir() { "/" } else { "" };
        format!("{}{slash}", entry.file_name().to_str().unwrap())
    };
    let mut names: Vec<String> = std::fs::read_dir(dir).unwrap().map(name).collect();
    names.sort();
    names
}

/// Every line of a JSONL file.
#[track_caller]
fn lines(path: &Path) -> Vec<Value> {
    let text = fs_err::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Names of the events of an experiment, in order.
fn events(dir: &Path) -> Vec<String> {
    let name = |event: Value| event["event"].as_str().unwrap().to_owned();
    if !dir.join("events.jsonl").exists() {
        return Vec::new();
    }
    lines(&dir.join("events.jsonl")).into_iter().map(name).collect()
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// A CSV file of plain cells, as rows.
fn csv(path: &Path) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(path).unwrap();
    // A comma within quotes is text: quotes open and close at every other one.
    let cells = |line: &str| {
        let mut cells = vec![String::new()];
        for (index, part) in line.split('"').enumerate() {
            let mut pieces = part.split(|letter| letter == ',' && index % 2 == 0);
            cells.last_mut().unwrap().push_str(pieces.next().unwrap());
            cells.extend(pieces.map(str::to_owned));
        }
        cells
    };
    text.lines().map(cells).collect()
}

/// Files of a point, sorted.
const POINT_FILES: [&str; 7] = [
    "deployment_config.json",
    "inputs.json",
    "profile_export.jsonl",
    "profile_export_aiperf.csv",
    "profile_export_aiperf.json",
    "records.jsonl",
    "summary.json",
];

/// Every file of a point parses, agrees with the others, and says that it is simulated where it says anything.
#[track_caller]
fn check_point(dir: &Path, requests: usize, warmup: usize) -> Value {
    assert_eq!(names(dir), POINT_FILES);
    let summary = house_json(&dir.join("summary.json"));
    let schema = house_json(&Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/summary.schema.json"));
    // Absent from a run without repeats, GPUs, speculation or failures; processes are those of servers that it started.
    const ABSENT: [&str; 7] =
        ["repeat", "repeats", "gpus", "speculation", "faults", "processes", "cut_short"];
    let known = |of: &Value| {
        let keys = keys(of).into_iter().filter(|key| !ABSENT.contains(key));
        keys.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(known(&summary), known(&schema["properties"]));
    for section in ["point", "requests", "throughput", "offered", "client", "verdict"] {
        let of = &schema["properties"][section];
        let name = of["$ref"].as_str().or(of["allOf"][0]["$ref"].as_str()).unwrap();
        let definition = &schema["$defs"][name.rsplit('/').next().unwrap()];
        assert_eq!(keys(&summary[section]), known(&definition["properties"]), "{section}");
    }
    assert_eq!(summary["simulated"], true);
    assert!(
        summary["engine_version"].as_str().is_some_and(|version| version.contains(env!("CARGO_PKG_VERSION"))),
        "{summary:#}"
    );
    let records: Vec<RequestRecord> = lines(&dir.join("records.jsonl"))
        .into_iter()
        .map(|line| serde_json::from_value(line).unwrap())
        .collect();
    let measured: Vec<&RequestRecord> =
        records.iter().filter(|record| record.phase == Phase::Measure).collect();
    assert_eq!((measured.len(), records.len() - measured.len()), (requests, warmup));
    recomputes(&summary, &measured);
    let inputs = house_json(&dir.join("inputs.json"));
    assert_eq!(inputs["data"].as_array().unwrap().len(), requests);
    assert_eq!(lines(&dir.join("profile_export.jsonl")).len(), requests + warmup);
    let aiperf = house_json(&dir.join("profile_export_aiperf.json"));
    assert!(aiperf.to_string().to_lowercase().contains("simulated"), "{aiperf:#}");
    assert_eq!(aiperf["request_count"]["avg"], requests as f64);
    assert!(csv(&dir.join("profile_export_aiperf.csv"))[0].contains(&"avg".to_owned()));
    assert_eq!(house_json(&dir.join("deployment_config.json"))["simulated"], true);
    summary
}

/// The figures, worked out again from the records.
#[track_caller]
fn recomputes(summary: &Value, measured: &[&RequestRecord]) {
    let close = |found: &Value, expected: f64| {
        let found = found.as_f64().unwrap();
        assert!((found - expected).abs() <= expected.abs() * 1e-9, "{found} is not {expected}");
    };
    let ok: Vec<&&RequestRecord> = measured.iter().filter(|record| record.outcome == Outcome::Ok).collect();
    assert_eq!(summary["requests"]["total"], measured.len());
    assert_eq!(summary["requests"]["completed"], ok.len());
    let mean = |of: &dyn Fn(&RequestRecord) -> f64| {
        ok.iter().map(|record| of(record)).sum::<f64>() / ok.len() as f64
    };
    close(&summary["osl"]["avg"], mean(&|record| record.osl as f64));
    let ttft = |record: &RequestRecord| (record.chunks_us[0] - record.sent_us) as f64 / 1e3;
    let e2e = |record: &RequestRecord| (record.chunks_us.last().unwrap() - record.sent_us) as f64 / 1e3;
    close(&summary["e2e_ms"]["avg"], mean(&e2e));
    if summary["point"]["streaming"] == true {
        close(&summary["ttft_ms"]["avg"], mean(&ttft));
        close(
            &summary["itl_ms"]["avg"],
            mean(&|record| (e2e(record) - ttft(record)) / (record.osl - 1) as f64),
        );
    }
    let tokens: u64 = ok.iter().map(|record| record.osl).sum();
    let seconds = summary["duration_s"].as_f64().unwrap();
    assert_eq!(
        summary["servers"]["engine"]["output_tokens"], tokens,
        "the server counts what it sent in the window"
    );
    close(&summary["throughput"]["output_tokens_per_s"], tokens as f64 / seconds);
    close(&summary["throughput"]["requests_per_s"], ok.len() as f64 / seconds);
}

#[test]
fn a_sweep_leaves_the_whole_layout() {
    let house = House::new();
    recipe(&house, "", FAST, "concurrency = [1, 4]\nrequests = 20\nwarmup_requests = 3");
    let end = house.run(["run", "./r.toml"]).succeeds();
    let dir = house.experiment();
    let name = dir.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("m_8_6_auto_1-4_local-"), "{name}");
    assert_eq!(
        names(&dir),
        [
            "analysis.json",
            "benchmark_logs/",
            "capacity-zones.md",
            "commands.sh",
            "events.jsonl",
            "latency-ttft-summary.md",
            "limitations.md",
            "manifest.json",
            "plan.json",
            "plots/",
            "recipe.toml",
            "report.html",
            "run/",
            "server_logs/",
            "summary.csv",
            "summary.md",
            "telemetry/"
        ]
    );
    assert_eq!(
        names(&dir.join("server_logs")),
        ["bench.log", "output_server.log", "output_workers.log", "server-0.log", "workers_start.log"]
    );
    assert_eq!(names(&dir.join("benchmark_logs")), ["isl8_osl6_con1/", "isl8_osl6_con4/"]);
    let pictures = ["e2e", "itl", "pareto", "requests", "throughput", "ttft"];
    let files = pictures.iter().flat_map(|name| [format!("{name}.png"), format!("{name}.svg")]);
    assert_eq!(names(&dir.join("plots")), files.collect::<Vec<_>>());
    for point in ["isl8_osl6_con1", "isl8_osl6_con4"] {
        let summary = check_point(&dir.join("benchmark_logs").join(point), 20, 3);
        assert_eq!(summary["point"]["id"], point);
    }
    assert_eq!(house.read(dir.join("recipe.toml")), house.read("r.toml"));
    let table = csv(&dir.join("summary.csv"));
    assert_eq!(table.len(), 3);
    assert!(table.iter().all(|row| row.len() == table[0].len()), "{table:?}");
    for file in ["summary.md", "latency-ttft-summary.md", "limitations.md", "report.html"] {
        assert!(house.read(dir.join(file)).contains(SIMULATED), "{file}");
    }
    assert!(end.stdout.contains(SIMULATED) && end.stdout.contains(name), "{}", end.stdout);
    let html = house.read(dir.join("report.html"));
    assert!(!html.contains("http://") || !html.contains("<script"), "the page loads nothing from outside");
    assert_eq!(
        events(&dir),
        [
            "started",
            "deploying",
            "process_started",
            "ready",
            "point_started",
            "point_finished",
            "point_started",
            "point_finished",
            "stopping",
            "process_ended",
            "stopped",
            "finished"
        ]
    );
    let left: Vec<String> = names(&dir).into_iter().filter(|name| name.contains(".tmp")).collect();
    assert!(left.is_empty(), "{left:?}");
    house.assert_empty();
}

#[test]
fn one_point_has_its_files_directly_in_benchmark_logs() {
    let house = House::new();
    recipe(&house, "", FAST, "requests = 12");
    house.run(["run", "./r.toml"]).succeeds();
    check_point(&house.experiment().join("benchmark_logs"), 12, 0);
    house.assert_empty();
}

#[test]
fn without_streaming_what_does_not_apply_is_absent() {
    let house = House::new();
    recipe(&house, "", FAST, "requests = 12\nstreaming = false");
    let end = house.run(["run", "./r.toml"]).succeeds();
    let dir = house.experiment();
    let summary = check_point(&dir.join("benchmark_logs"), 12, 0);
    for figure in ["ttft_ms", "itl_ms", "icl_ms"] {
        assert_eq!(summary[figure], Value::Null, "{figure}");
    }
    assert!(summary["e2e_ms"]["p50"].as_f64().unwrap() > 0.0);
    let aiperf = house_json(&dir.join("benchmark_logs/profile_export_aiperf.json"));
    assert_eq!((aiperf.get("time_to_first_token"), aiperf.get("inter_token_latency")), (None, None));
    assert!(end.stdout.contains("N/A"), "{}", end.stdout);
    let table = csv(&dir.join("summary.csv"));
    let column = table[0].iter().position(|name| name == "ttft_p50_ms").unwrap();
    assert_eq!(table[1][column], "");
    assert!(house.read(dir.join("summary.md")).contains("| N/A |"));
    house.assert_empty();
}

#[test]
fn completions_are_driven_too() {
    let house = House::new();
    recipe(&house, "", FAST, "requests = 12\nendpoint = \"completions\"");
    house.run(["run", "./r.toml"]).succeeds();
    let summary = check_point(&house.experiment().join("benchmark_logs"), 12, 0);
    assert_eq!(summary["point"]["endpoint"], "completions");
    house.assert_empty();
}

#[test]
fn server_axes_multiply_deployments() {
    let house = House::new();
    recipe(
        &house,
        "",
        FAST,
        "concurrency = [1, 2]\nrequests = 10\n[sweep.server]\n\"engine.max_num_seqs\" = [1, 8]",
    );
    house.run(["run", "./r.toml"]).succeeds();
    let dir = house.experiment();
    assert!(dir.display().to_string().contains("m_8_6_1-8_1-2_local-"), "{}", dir.display());
    let points = [
        "max_num_seqs1_isl8_osl6_con1",
        "max_num_seqs1_isl8_osl6_con2",
        "max_num_seqs8_isl8_osl6_con1",
        "max_num_seqs8_isl8_osl6_con2",
    ];
    let folders: Vec<String> = points.iter().map(|point| format!("{point}/")).collect();
    assert_eq!(names(&dir.join("benchmark_logs")), folders);
    for point in points {
        check_point(&dir.join("benchmark_logs").join(point), 10, 0);
    }
    let logs = names(&dir.join("server_logs"));
    for log in ["max_num_seqs1.server-0.log", "max_num_seqs8.server-0.log"] {
        assert!(logs.contains(&log.to_owned()), "{logs:?}");
    }
    assert_eq!(events(&dir).iter().filter(|event| *event == "ready").count(), 2);
    assert_eq!(csv(&dir.join("summary.csv")).len(), 5);
    house.assert_empty();
}

#[test]
fn a_server_that_crashes_ends_the_run_and_keeps_the_records() {
    let house = House::new();
    recipe(&house, "", "speed = 20\ncrash_after = 30", LONG);
    let end = house.run(["run", "./r.toml"]).fails(4);
    assert!(end.stderr.contains("server-0"), "{}", end.stderr);
    assert!(end.stderr.contains("  | CUDA error: out of memory (simulated)"), "{}", end.stderr);
    assert!(end.stderr.contains("next: the simulated engine crashed"), "{}", end.stderr);
    assert!(end.stderr.contains("server_logs/server-0.log"), "{}", end.stderr);
    let dir = house.experiment();
    let logs = dir.join("benchmark_logs");
    assert!(!lines(&logs.join("records.jsonl")).is_empty());
    assert!(!logs.join("summary.json").exists());
    let summary = house_json(&logs.join("summary.interrupted.json"));
    assert_eq!(summary["verdict"]["result"], "invalid");
    assert!(summary["verdict"]["reasons"].to_string().contains("server died"), "{summary:#}");
    assert!(house.read(dir.join("summary.md")).contains("server died"));
    let last = lines(&dir.join("events.jsonl")).pop().unwrap();
    assert_eq!((&last["event"], &last["exit_code"]), (&"finished".into(), &4.into()));
    house.assert_empty();
}

#[test]
fn a_server_that_dies_under_the_last_requests_is_noticed() {
    let house = House::new();
    recipe(&house, "", "speed = 20\ncrash_after = 30", "requests = 50");
    let end = house.run(["run", "./r.toml"]).fails(4);
    assert!(end.stderr.contains("CUDA error: out of memory (simulated)"), "{}", end.stderr);
    assert!(!house.experiment().join("benchmark_logs/summary.json").exists());
    house.assert_empty();
}

#[test]
fn a_server_that_never_becomes_ready() {
    let house = House::new();
    recipe(&house, "startup_timeout = \"500ms\"", "startup_delay = 60", "requests = 4");
    let end = house.run(["run", "./r.toml"]).fails(4);
    assert!(end.stderr.contains("deploy.startup_timeout has passed"), "{}", end.stderr);
    assert!(end.stderr.contains("/health"), "{}", end.stderr);
    assert_eq!(names(&house.experiment().join("benchmark_logs")), Vec::<String>::new());
    house.assert_empty();
}

#[test]
fn a_server_that_refuses_its_options() {
    let house = House::new();
    recipe(&house, "", "no_such_option = 3", "requests = 4");
    let end = house.run(["run", "./r.toml"]).fails(4);
    assert!(end.stderr.contains("server-0 ended by itself (exit 2)"), "{}", end.stderr);
    assert!(end.stderr.contains("  | error: unexpected argument '--no-such-option'"), "{}", end.stderr);
    house.assert_empty();
}

/// A launcher of one process.
fn launcher(house: &House, argv: &str, more: &str) {
    house.file(
        "launchers/mine.toml",
        &format!(
            "schema = 1\nname = \"mine\"\nsummary = \"s\"\n[endpoint]\nrole = \"server\"\nport = \"http\"\n[[role]]\n\
             name = \"server\"\nplacement = \"head\"\nargv = {argv}\nports = {{ http = 20000 }}\n{more}"
        ),
    );
    house.recipe(
        "[model]\nname = \"m\"\n[deploy]\nlauncher = \"mine\"\n[load]\nisl = 4\nosl = 2\nrequests = 4\n",
    );
}

#[test]
fn a_program_that_is_not_there() {
    let house = House::new();
    launcher(&house, "[\"no-such-engine\", \"serve\"]", "");
    let end = house.run(["run", "./r.toml"]).fails(4);
    let message = "server-0: cannot start \"no-such-engine\": No such file or directory (os error 2)\n  next: install the \
                   engine of launcher \"mine\"";
    assert!(end.stderr.contains(message), "{}", end.stderr);
    assert_eq!(end.stderr.matches("os error 2").count(), 1, "the reason is said once: {}", end.stderr);
    house.assert_empty();
}

#[test]
fn a_fatal_line_ends_a_start_that_would_hang() {
    let house = House::new();
    let argv =
        "[\"perl\", \"-e\", \"$| = 1; print qq(loading\\n\\\\e[31mNCCL error 7\\\\e[0m\\n); sleep 600\"]";
    launcher(&house, argv, "[[fatal]]\npattern = 'NCCL error \\d'\nadvice = \"look at the cables\"\n");
    let end = house.run(["run", "./r.toml"]).fails(4);
    assert!(end.stderr.contains("server-0 on 127.0.0.1 said: NCCL error 7\n  | loading\n"), "{}", end.stderr);
    assert!(end.stderr.contains("next: look at the cables"), "{}", end.stderr);
    house.assert_empty();
}

#[test]
fn a_server_that_ignores_term_and_leaves_children_is_gone_too() {
    let house = House::new();
    let program = "$SIG{TERM} = q(IGNORE); fork() and sleep 600; fork() and sleep 600; print qq(FATAL now\\n); $| = 1; \
                   print qq(\\n); sleep 600";
    launcher(
        &house,
        &format!("[\"perl\", \"-e\", \"{program}\"]").replace("\\n", "\\\\n"),
        "[[fatal]]\npattern = 'FATAL'\nadvice = \"x\"\n",
    );
    house.run(["run", "./r.toml", "--set", "deploy.stop_grace=200ms"]).fails(4);
    house.assert_empty();
}

/// Starts a long run and waits until records come in.
fn long_run(house: &House) -> (Running, std::path::PathBuf) {
    recipe(house, "", FAST, LONG);
    let running = house.start(["run", "./r.toml"]);
    let dir = eventually("records", || {
        let dir = house.all().pop()?;
        let records = std::fs::metadata(dir.join("benchmark_logs/records.jsonl")).ok()?;
        (records.len() > 0).then_some(dir)
    });
    (running, dir)
}

#[track_caller]
fn was_interrupted(house: &House, dir: &Path) {
    let logs = dir.join("benchmark_logs");
    assert!(!lines(&logs.join("records.jsonl")).is_empty());
    assert!(!logs.join("summary.json").exists());
    let summary = house_json(&logs.join("summary.interrupted.json"));
    assert_ne!(summary["verdict"]["result"], "valid");
    assert_eq!(lines(&dir.join("events.jsonl")).pop().unwrap()["exit_code"], 130);
    assert!(events(dir).contains(&"stopped".to_owned()));
    house.assert_empty();
}

#[test]
fn a_signal_wraps_up_and_keeps_what_was_measured() {
    for signal in
        [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().filter(|signal| is_heard(*signal))
    {
        let house = House::new();
        let (running, dir) = long_run(&house);
        running.signal(signal);
        let end = running.finish().fails(130);
        let told = end.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(told.contains(&format!("interrupted by {signal} while isl")), "{told}");
        assert!(told.contains("was measured; what was measured until then is kept"), "{told}");
        was_interrupted(&house, &dir);
    }
}

#[test]
fn a_signal_while_the_servers_start() {
    let house = House::new();
    recipe(&house, "", "startup_delay = 60", "requests = 4");
    let running = house.start(["run", "./r.toml"]);
    eventually("a server", || {
        let dir = house.all().pop()?;
        events(&dir).contains(&"process_started".to_owned()).then_some(())
    });
    running.signal(Signal::SIGTERM);
    let end = running.finish().fails(130);
    let told = "interrupted by SIGTERM while the servers were starting";
    assert!(end.stderr.contains(told), "{}", end.stderr);
    house.assert_empty();
}

#[test]
fn a_second_run_never_overwrites() {
    let house = House::new();
    recipe(&house, "", FAST, "requests = 10");
    house.run(["run", "./r.toml"]).succeeds();
    let first = house.experiment();
    let records = house.read(first.join("benchmark_logs/records.jsonl"));
    house.run(["run", "./r.toml"]).succeeds();
    assert_eq!(house.all().len(), 2);
    assert_eq!(house.read(first.join("benchmark_logs/records.jsonl")), records);
    house.assert_empty();
}

#[test]
fn json_is_alone_on_stdout() {
    let house = House::new();
    recipe(&house, "", FAST, "concurrency = [1, 2]\nrequests = 10");
    let summaries = house.run(["run", "./r.toml", "--json"]).succeeds().json();
    let ids: Vec<&Value> = summaries.as_array().unwrap().iter().map(|s| &s["point"]["id"]).collect();
    assert_eq!(ids, ["isl8_osl6_con1", "isl8_osl6_con2"]);
}

#[test]
fn quiet_prints_results_and_verbose_prints_events() {
    let house = House::new();
    recipe(&house, "", FAST, "requests = 10");
    let quiet = house.run(["run", "./r.toml", "-q"]).succeeds();
    assert_eq!(quiet.stderr, "");
    assert!(quiet.stdout.contains("verdict"), "{}", quiet.stdout);
    let normal = house.run(["run", "./r.toml"]).succeeds();
    let verbose = house.run(["run", "./r.toml", "-v"]).succeeds();
    assert!(verbose.stderr.contains("started server-0") && !normal.stderr.contains("started server-0"));
    assert!(normal.stderr.contains("ready after"), "{}", normal.stderr);
}

#[test]
fn an_invalid_result_fails_the_gate() {
    let house = House::new();
    // The seed lets some requests through, so that the server becomes ready.
    recipe(&house, "", "speed = 20\nfail_rate = 0.8", "requests = 40");
    let end = house.run(["run", "./r.toml"]).fails(5);
    assert!(end.stderr.contains("the load point is invalid"), "{}", end.stderr);
    assert!(end.stdout.contains("30 of 40 requests failed"), "{}", end.stdout);
    let summary = house_json(&house.experiment().join("benchmark_logs/summary.json"));
    assert_eq!(summary["verdict"]["result"], "invalid");
    assert_eq!(keys(&summary["requests"]["by_outcome"]), ["http_503", "ok"]);
    house.assert_empty();
}

#[test]
fn bench_drives_both_endpoints_streaming_or_not() {
    let house = House::new();
    let sim = house.sim(&[]);
    for endpoint in ["chat", "completions"] {
        for stream in [true, false] {
            let mut args = vec![
                "bench",
                "--url",
                sim.url(),
                "--endpoint",
                endpoint,
                "--isl",
                "8",
                "--osl",
                "4",
                "--json",
            ];
            args.extend(["--requests", "10", "--warmup", "2"]);
            if !stream {
                args.push("--no-stream");
            }
            let summary = house.run(args).succeeds().json();
            assert_eq!(summary["point"]["endpoint"], endpoint);
            assert_eq!(summary["point"]["streaming"], stream);
            assert_eq!(summary["requests"]["completed"], 10);
            assert_eq!(summary["simulated"], true);
            assert_eq!(summary["osl"]["avg"], 4.0);
            assert_eq!(summary["ttft_ms"].is_null(), !stream);
        }
    }
    assert!(!house.experiments().exists(), "a bench is no experiment");
    let results = names(&house.path().join("results"));
    assert_eq!(results.len(), 4, "without --out each has a folder named after the time: {results:?}");
}

#[test]
fn bench_without_results_leaves_nothing() {
    let house = House::new();
    let sim = house.sim(&[]);
    let before = names(house.path());
    let end =
        house.run(["bench", "--url", sim.url(), "--requests", "2", "--osl", "2", "--no-out"]).succeeds();
    assert!(end.stdout.ends_with("results: not kept (--no-out)\n"), "{}", end.stdout);
    assert_eq!(names(house.path()), before);
    house.run(["bench", "--url", sim.url(), "--no-out", "--out", "o"]).fails(2);
}

#[test]
fn bench_with_several_points_writes_a_folder_each() {
    let house = House::new();
    let sim = house.sim(&[]);
    let args = ["bench", "--url", sim.url(), "--isl", "8", "--osl", "4", "--requests-per-concurrency", "5"];
    let end = house.run(args.iter().chain(&["--concurrency", "1,3,1", "--out", "o", "--json"])).succeeds();
    let summaries = end.json();
    let totals: Vec<&Value> =
        summaries.as_array().unwrap().iter().map(|summary| &summary["requests"]["total"]).collect();
    assert_eq!(totals, [5, 15]);
    let out = house.path().join("o");
    const TOP: [&str; 13] = [
        "analysis.json",
        "events.jsonl",
        "latency-ttft-summary.md",
        "limitations.md",
        "manifest.json",
        "plan.json",
        "plots/",
        "recipe.toml",
        "report.html",
        "run/",
        "server_logs/",
        "summary.csv",
        "summary.md",
    ];
    let mut several =
        [&TOP[..], &["capacity-zones.md", "isl8_osl4_con1/", "isl8_osl4_con3/", "telemetry/"]].concat();
    several.sort_unstable();
    assert_eq!(names(&out), several);
    assert_eq!(names(&out.join("isl8_osl4_con3")), POINT_FILES);
    house.run(args.iter().chain(&["--out", "one"])).succeeds();
    let mut one = [&TOP[..], &POINT_FILES, &["telemetry/"]].concat();
    one.sort_unstable();
    assert_eq!(names(&house.path().join("one")), one, "one point: directly in the folder");
    assert!(house.read("o/summary.md").contains(SIMULATED));
}

#[test]
fn bench_by_time_counts_goodput_and_keeps_warm_up_apart() {
    let house = House::new();
    let sim = house.sim(&[]);
    let bench = |slo: &str| {
        let args = ["bench", "--url", sim.url(), "--isl", "8", "--osl", "4", "--duration", "300ms", "--json"];
        house.run(args.iter().chain(&["--warmup", "4", "--slo", slo, "--out", slo])).succeeds().json()
    };
    let good = bench("e2e:10s,ttft:10s,itl:10s");
    assert_eq!(good["throughput"]["goodput_per_s"], good["throughput"]["requests_per_s"]);
    let bad = bench("e2e:1us");
    assert_eq!(bad["throughput"]["goodput_per_s"], 0.0);
    let records = lines(&house.path().join("e2e:1us/records.jsonl"));
    let warm = records.iter().filter(|record| record["phase"] == "warmup").count();
    assert_eq!(warm, 4);
    assert_eq!(bad["requests"]["total"], records.len() - warm);
}

#[test]
fn bench_of_failures_fails_the_gate() {
    let house = House::new();
    let sim = house.sim(&["--fail-rate", "1"]);
    let end = house
        .run(["bench", "--url", sim.url(), "--requests", "10", "--isl", "4", "--osl", "2", "--out", "o"])
        .fails(5);
    assert!(end.stderr.contains("the load point is invalid"), "{}", end.stderr);
    assert!(end.stdout.contains("invalid") && end.stdout.contains("N/A"), "{}", end.stdout);
    // The reason stands first, and the first failure is told at once, once.
    let (message, reason) = ("a request failed: HTTP 503: ", "10 × HTTP 503: ");
    let table = end.stdout.find("conc").expect("the table");
    assert!(end.stdout[..table].contains("10 of 10 requests failed:\n"), "{}", end.stdout);
    assert!(end.stdout[..table].contains(reason), "{}", end.stdout);
    assert_eq!(end.stderr.matches(message).count(), 1, "{}", end.stderr);
    for file in ["summary.md", "summary.csv", "report.html"] {
        assert!(house.read(format!("o/{file}")).contains(reason), "{file}");
    }
    let summary = house_json(&house.path().join("o/summary.json"));
    let errors = &summary["requests"]["errors"][0];
    assert_eq!(
        (&errors["count"], &errors["status"], &errors["outcome"]),
        (&10.into(), &503.into(), &"http_503".into())
    );
    assert!(!summary["verdict"]["reasons"].to_string().contains("saturated"), "{summary}");
}

#[test]
fn failures_stand_in_json_suites_and_jobs_show() {
    let house = House::new();
    recipe(&house, "", "speed = 20\nfail_rate = 0.8", "requests = 40");
    let end = house.run(["run", "./r.toml", "--json"]).fails(5);
    let errors = end.json()[0]["requests"]["errors"].clone();
    assert_eq!((&errors[0]["count"], &errors[0]["outcome"]), (&30.into(), &"http_503".into()));
    let shown = house.run(["jobs", "show", "last"]).succeeds();
    assert!(shown.stdout.contains("30 of 40 requests failed:\n  30 × HTTP 503: "), "{}", shown.stdout);
    house.file("s.toml", "[[job]]\nrecipe = \"r.toml\"\n");
    let suite = house.run(["run", "-f", "s.toml"]).fails(5);
    assert!(suite.stdout.contains("30 of 40 requests failed:\n  30 × HTTP 503: "), "{}", suite.stdout);
}

#[test]
fn bench_interrupted_keeps_its_records() {
    let house = House::new();
    let sim = house.sim(&[]);
    let running =
        house.start(["bench", "--url", sim.url(), "--duration", "600s", "--osl", "4", "--out", "o"]);
    let records = house.path().join("o/records.jsonl");
    eventually("records", || (std::fs::metadata(&records).ok()?.len() > 0).then_some(()));
    running.signal(Signal::SIGINT);
    running.finish().fails(130);
    assert!(!lines(&records).is_empty());
    assert!(house.path().join("o/summary.interrupted.json").exists());
}

#[test]
fn a_running_endpoint_is_attached_to_and_left_running() {
    let house = House::new();
    let sim = house.sim(&["--model", "org/m"]);
    house.recipe(&format!(
        "[model]\nname = \"org/m\"\n[deploy]\nlauncher = \"attach\"\nurl = \"{}\"\n[load]\nisl = 8\nosl = 4\nrequests = 10\n",
        sim.url()
    ));
    house.run(["run", "./r.toml"]).succeeds();
    let dir = house.experiment();
    let summary = house_json(&dir.join("benchmark_logs/summary.json"));
    assert_eq!(summary["simulated"], true, "the endpoint says so of itself");
    assert_eq!(
        summary["throughput"]["output_tokens_per_s_per_gpu"],
        Value::Null,
        "nobody said how many GPUs"
    );
    assert!(house.read(dir.join("summary.md")).contains(SIMULATED));
    house.run(["bench", "--url", sim.url(), "--requests", "2", "--osl", "2"]).succeeds();
}

#[test]
fn attaching_to_a_server_of_another_model_names_what_it_serves() {
    let house = House::new();
    let sim = house.sim(&["--model", "org/other"]);
    house.recipe(&format!(
        "[model]\nname = \"org/m\"\n[deploy]\nlauncher = \"attach\"\nurl = \"{}\"\nstartup_timeout = \"300ms\"\n\
         [load]\nisl = 8\nosl = 4\n",
        sim.url()
    ));
    let end = house.run(["run", "./r.toml"]).fails(4);
    assert!(end.stderr.contains("does not list \"org/m\" (it lists: org/other)"), "{}", end.stderr);
}

#[test]
fn a_model_that_the_server_does_not_list_is_said_at_once() {
    let house = House::new();
    let sim = house.sim(&["--model", "org/other"]);
    let end = house.run(["bench", "--url", sim.url(), "--model", "org/m", "--requests", "2"]).fails(4);
    assert!(end.stderr.contains("does not list \"org/m\" (it lists: org/other)"), "{}", end.stderr);
    assert!(!house.path().join("results").exists(), "before anything is written");
    for timeout in ["0", "\"10m\""] {
        house.recipe(&format!(
            "[model]\nname = \"org/m\"\n[deploy]\nlauncher = \"attach\"\nurl = \"{}\"\nstartup_timeout = {timeout}\n\
             [load]\nisl = 8\nosl = 4\n",
            sim.url()
        ));
        let began = std::time::Instant::now();
        let end = house.run(["run", "./r.toml"]).fails(4);
        assert!(end.stderr.contains("does not list \"org/m\" (it lists: org/other)"), "{}", end.stderr);
        assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
    }
}

#[test]
fn an_attach_recipe_without_url_is_refused_at_once() {
    let house = House::new();
    let text = house.fails(["run", "gpt-oss-120b-kserve-baseline-attach", "--gpu", "h100"]);
    assert!(text.contains("set URL= or deploy.url"), "{text}");
    house.recipe("[model]\nname = \"m\"\n[deploy]\nlauncher = \"attach\"\n[load]\nisl = 8\nosl = 4\n");
    let text = house.fails(["run", "./r.toml"]);
    assert!(text.contains("deploy.url"), "{text}");
}

#[test]
fn bench_waits_for_a_server_that_still_starts() {
    let house = House::new();
    let port = free_port().to_string();
    let url = format!("http://127.0.0.1:{port}");
    let end = house.run(["bench", "--url", &url, "--model", "m", "--requests", "2"]).fails(4);
    assert!(end.stderr.contains("--wait 60s"), "{}", end.stderr);
    let running = house.start([
        "bench",
        "--url",
        &url,
        "--model",
        "m",
        "--requests",
        "2",
        "--osl",
        "2",
        "--wait",
        "60s",
    ]);
    std::thread::sleep(std::time::Duration::from_millis(2500));
    let _sim = house.start(["sim", "--port", &port, "--model", "m", "--speed", "20"]);
    let end = running.finish().succeeds();
    assert!(end.stderr.contains("waiting since 2 s, for 60 s at most"), "{}", end.stderr);
}

#[test]
fn jobs_tells_of_local_runs() {
    let house = House::new();
    assert_eq!(house.run(["jobs"]).succeeds().stdout, "");
    recipe(&house, "", FAST, "requests = 10");
    house.run(["run", "./r.toml"]).succeeds();
    let name = house.experiment().file_name().unwrap().to_str().unwrap().to_owned();
    let list = house.run(["jobs", "list"]).succeeds().stdout;
    let row = list.lines().nth(2).unwrap();
    for cell in ["local", "COMPLETED", "r", "1/1"] {
        assert!(row.split_whitespace().any(|found| found == cell), "{cell} in {row:?}");
    }
    assert_eq!(list.lines().nth(3).unwrap(), format!("    {name}"));
    let json = house.run(["jobs", "list", "--json"]).succeeds().json();
    assert_eq!((&json[0]["state"], &json[0]["points"]), (&"COMPLETED".into(), &1.into()));
    let show = house.run(["jobs", "show", &name]).succeeds().stdout;
    assert!(show.starts_with("local run COMPLETED\n") && show.contains(SIMULATED), "{show}");
    let local = name.split_once("_local").unwrap().1;
    house.run(["jobs", "show", &format!("local{local}")]).succeeds();
    let log = house.run(["jobs", "log", &name]).succeeds().stdout;
    assert!(log.contains("finished with exit code 0"), "{log}");
    let log = house.run(["jobs", "log", &name, "server-0"]).succeeds().stdout;
    assert!(log.contains("listening on"), "{log}");
    let end = house.run(["jobs", "log", &name, "nothing"]).fails(2);
    assert!(
        end.stderr.contains("one of bench, output_server, output_workers, server-0, workers_start"),
        "{}",
        end.stderr
    );
    house.run(["jobs", "wait", &name]).succeeds();
    let end = house.run(["jobs", "cancel", &name]).succeeds();
    assert!(end.stdout.contains("has ended already (COMPLETED)"), "{}", end.stdout);
}

#[test]
fn jobs_cancel_stops_a_local_run() {
    let house = House::new();
    let (running, dir) = long_run(&house);
    let name = dir.file_name().unwrap().to_str().unwrap().to_owned();
    let list = house.run(["jobs"]).succeeds().stdout;
    assert!(list.contains("RUNNING: isl8_osl6_con2 (1/1)"), "{list}");
    let waiting = house.start(["jobs", "wait", &name]);
    house.run(["jobs", "cancel", &name]).succeeds();
    running.finish().fails(130);
    waiting.finish().fails(130);
    was_interrupted(&house, &dir);
    assert!(house.run(["jobs"]).succeeds().stdout.contains("INTERRUPTED"));
}

#[test]
fn jobs_tells_of_a_run_that_was_killed() {
    let house = House::new();
    let (running, dir) = long_run(&house);
    running.signal(Signal::SIGKILL);
    running.finish();
    assert!(house.run(["jobs"]).succeeds().stdout.contains("LOST"));
    assert!(!lines(&dir.join("benchmark_logs/records.jsonl")).is_empty());
    let name = dir.file_name().unwrap().to_str().unwrap().to_owned();
    let end = house.run(["jobs", "cancel", &name]).succeeds();
    assert!(end.stdout.contains("does not run"), "{}", end.stdout);
    house.assert_empty();
}

#[test]
fn a_value_from_the_environment_is_named_before_the_run_and_in_its_report() {
    let house = House::new();
    house.recipe(
        "summary = \"two requests at concurrency 1\"\n[model]\nname = \"m\"\n[deploy]\nlauncher = \"sim\"\n\
         [deploy.engine]\nspeed = 50\n[load]\nisl = 8\nosl = 4\nconcurrency = 1\nrequests = 8\n\
         [knobs]\nCONCURRENCY = \"load.concurrency\"\nOSL = \"load.osl\"\n",
    );
    let env = [("CONCURRENCY", "2,4"), ("OSL", "3")];
    let end = house.run_with(["run", "./r.toml", "--set", "load.isl=6"], &env).succeeds();
    let named = "load.concurrency = [2,4] from $CONCURRENCY\nload.osl = 3 from $OSL\nstarting servers\n";
    assert!(end.stderr.starts_with(named), "{}", end.stderr);
    let overridden = "load.concurrency = [2,4] ($CONCURRENCY), load.isl = 6 (--set), load.osl = 3 ($OSL)";
    for file in ["summary.md", "report.html"] {
        let text = std::fs::read_to_string(house.experiment().join(file)).unwrap();
        assert!(text.contains(overridden), "{file}: {text}");
        assert!(text.contains("ISL 6 OSL 3, chat, streaming on, concurrency 2, 4"), "{file}: {text}");
    }
}

/// Runs `tokmark` with nobody at the other ends of its pipes; gives its exit code.
fn unread(house: &House, args: &[&str]) -> Option<i32> {
    let mut command = house.tokmark(args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    child.wait().unwrap().code()
}

#[test]
fn a_closed_pipe_fails_no_experiment() {
    let house = House::new();
    recipe(&house, "", FAST, "requests = 10");
    house.file("pair.toml", "schema = 1\nname = \"pair\"\n[[job]]\nrecipe = \"./r.toml\"\nrepeats = 2\n");
    assert_eq!(unread(&house, &["run", "./r.toml", "-v"]), Some(0));
    assert_eq!(unread(&house, &["run", "-f", "pair.toml", "-v"]), Some(0));
    let jobs = house.run(["jobs", "list", "--json"]).succeeds().json();
    let states: Vec<_> = jobs.as_array().unwrap().iter().map(|job| job["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["COMPLETED"; 3], "{jobs:#}");
    assert_eq!(unread(&house, &["jobs", "wait", "last", "--json"]), Some(0));
    let sim = house.sim(&[]);
    let bench = ["bench", "--url", sim.url(), "--isl", "8", "--osl", "4", "--out", "o", "--json"];
    assert_eq!(unread(&house, &bench), Some(0));
    assert!(house.path().join("o/summary.json").exists());
    // The exit code is that of the measurement.
    let errors = house.sim(&["--fail-rate", "1"]);
    let bench = ["bench", "--url", errors.url(), "--isl", "8", "--osl", "4", "--no-out"];
    assert_eq!(unread(&house, &bench), house.run(bench).code);
}

#[test]
fn a_rehearsal_marks_its_directory_its_row_and_its_files() {
    let house = House::new();
    house.recipe(
        "summary = \"s\"\n[model]\nname = \"org/m\"\n[deploy]\nlauncher = \"vllm\"\n[load]\nisl = 8\nosl = 4\n\
         concurrency = [2, 40]\nrequests_per_concurrency = 10\n[gpu.h100]\n",
    );
    let args =
        ["run", "./r.toml", "--gpu", "h100", "--rehearse", "--set", "deploy.engine.speed=50", "--json"];
    let end = house.run(args);
    let summaries = end.json();
    let total = |at: usize| summaries[at]["requests"]["total"].as_u64();
    assert_eq!((total(0), total(1)), (Some(10), Some(40)), "every concurrency is reached");
    let dir = house.experiment();
    let name = dir.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("rehearsal_m_8_4_"), "{name}");
    let list = house.run(["jobs"]).succeeds().stdout;
    assert!(list.contains("r (h100, rehearsal)") && list.contains(&format!("\n    {name}\n")), "{list}");
    let listed = house.run(["jobs", "--json"]).succeeds().json();
    assert_eq!(listed[0]["rehearsal"], true);
    for file in ["summary.md", "latency-ttft-summary.md", "report.html", "plots/e2e.svg"] {
        let text = std::fs::read_to_string(dir.join(file)).unwrap();
        assert!(text.contains("r (rehearsal)") && text.contains("SIMULATED"), "{file}: {text}");
    }
    let page = std::fs::read_to_string(dir.join("summary.md")).unwrap();
    assert!(
        page.contains("- rehearsal: not a result: 0.1 to 0.5 of the recipe's load was driven\n"),
        "{page}"
    );
    let csv = std::fs::read_to_string(dir.join("summary.csv")).unwrap();
    assert!(csv.contains("scaled to 0.5 of the recipe's") && csv.contains("scaled to 0.1 of"), "{csv}");
    let export = house_json(&dir.join("benchmark_logs/isl8_osl4_con2/profile_export_aiperf.json"));
    assert!(export.to_string().contains("rehearsal_m_8_4_"), "{export}");
}

#[test]
fn a_start_says_what_it_waits_for() {
    let house = House::new();
    let port = free_port();
    house.recipe(&format!(
        "[model]\nname = \"m\"\n[deploy]\nlauncher = \"attach\"\nurl = \"http://127.0.0.1:{port}\"\n\
         startup_timeout = \"3s\"\n[load]\nisl = 8\nosl = 4\n"
    ));
    let end = house.run(["run", "./r.toml"]).fails(4);
    let line = end.stderr.lines().find(|line| line.starts_with("waiting, 2 s of at most 3 s: ")).unwrap();
    assert!(line.contains(&format!("http://127.0.0.1:{port}")), "{line}");
}
