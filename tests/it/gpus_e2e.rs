//! Telemetry of GPUs, end to end: `tokmark run` on the simulated engine, with stand-ins for NVML, a DCGM exporter, `nvidia-smi` and
//! `amd-smi`. The stand-ins draw constant power, so that every figure follows from the length of the window.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::house::{End, House, house_json};

/// The simulated engine, on two GPUs.
const LAUNCHER: &str = r#"
schema = 1
name = "gpu-sim"
summary = "the simulated engine on stand-in GPUs"
simulated = true
[options]
table = "sim"
[options.set_by]
host = ""
model = "model.served_name"
port = "deploy.port"
tp = "deploy.tp"
[endpoint]
role = "server"
port = "http"
health = "/health"
metrics = "/metrics"
[[role]]
name = "server"
placement = "each_replica"
gpus = true
bare = true
argv = ["{{ tokmark }}", "sim", "--host", "{{ host }}", "--port", "{{ port.http }}", "--model", "{{ model.served_name }}", { options_except = [] }]
ports = { http = 8000 }
"#;

/// A window of about a second and a half, and samples every tenth.
const RECIPE: &str = r#"
[model]
name = "m"
[deploy]
launcher = "gpu-sim"
tp = 2
startup_timeout = "60s"
[deploy.engine]
profile = "quick"
[load]
isl = 32
osl = 16
concurrency = 2
duration = "1500ms"
[telemetry]
interval = "100ms"
"#;

fn house() -> House {
    let house = House::new();
    house.file("launchers/gpu-sim.toml", LAUNCHER);
    house.recipe(RECIPE);
    house
}

/// Runs the recipe; without NVML unless `env` names one, and without an exporter.
fn run(house: &House, env: &[(&str, &str)]) -> End {
    let args = ["run", "./r.toml", "--gpu", "h100", "--experiments", "e"];
    let mut all = vec![("TOKMARK_NVML", "/nowhere/libnvidia-ml.so.1")];
    all.extend(env);
    house.run_with(args, &all)
}

fn experiment(house: &House) -> PathBuf {
    let mut found = std::fs::read_dir(house.path().join("e")).unwrap();
    found.next().unwrap().unwrap().path()
}

fn gpus(house: &House) -> Value {
    house_json(&experiment(house).join("benchmark_logs/summary.json"))["gpus"].clone()
}

/// The stand-in for NVML, or `None` where nothing can compile it, which is said aloud.
fn nvml(house: &House) -> Option<String> {
    let library = house.path().join("libnvidia-ml.so.1");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gpus/nvml.c");
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-w", "-o"]).arg(&library).arg(source).status();
    if !compiled.is_ok_and(|status| status.success()) {
        eprintln!("skipped: there is no cc that compiles the stand-in for NVML");
        return None;
    }
    Some(library.display().to_string())
}

/// Asserts that a figure is within 1 % of what was worked out.
#[track_caller]
fn close(figure: &Value, expected: f64) {
    let figure = figure.as_f64().unwrap_or_else(|| panic!("no figure, expected {expected}"));
    assert!((figure / expected - 1.0).abs() < 0.01, "{figure}, expected {expected}");
}

#[test]
fn nvml_has_energy_and_the_gpu_that_idled() {
    let house = house();
    let Some(library) = nvml(&house) else { return };
    let end = run(&house, &[("TOKMARK_NVML", &library), ("TOKMARK_FAKE_IDLE", "1")]).succeeds();
    let summary = house_json(&experiment(&house).join("benchmark_logs/summary.json"));
    let gpus = &summary["gpus"];
    let (window, throughput) = (summary["duration_s"].as_f64().unwrap(), &summary["throughput"]);
    assert_eq!((&gpus["source"], &gpus["gpus"]), (&Value::from("NVML"), &Value::from(2)), "{gpus:#}");
    // 300 W and 200 W.
    close(&gpus["power_avg_w"], 500.0);
    close(&gpus["power_peak_w"], 500.0);
    close(&gpus["power_idle_w"], 500.0);
    assert_eq!(gpus["idle_before"], "load");
    close(&gpus["energy_j"], 500.0 * window);
    close(&gpus["j_per_output_token"], 500.0 / throughput["output_tokens_per_s"].as_f64().unwrap());
    close(&gpus["j_per_total_token"], 500.0 / throughput["total_tokens_per_s"].as_f64().unwrap());
    close(&gpus["output_tokens_per_s_per_w"], throughput["output_tokens_per_s"].as_f64().unwrap() / 500.0);
    assert_eq!(gpus["each"][0]["energy_counted"], true);
    let reasons = summary["verdict"]["reasons"].to_string();
    assert!(reasons.contains("GPU 1 of the 2 of the deployment idled"), "{reasons}");
    let csv = std::fs::read_to_string(experiment(&house).join("telemetry/gpu.csv")).unwrap();
    let mut lines = csv.lines();
    assert!(lines.next().unwrap().starts_with("at,node,gpu,uuid,name,source,util_pct"), "{csv}");
    let row = lines.next().unwrap();
    let expected = "127.0.0.1,0,GPU-00000000-dead-beef-0000-000000000000,NVIDIA H100 80GB HBM3,NVML,90,61440,81920,66,300,700,";
    assert!(row.split_once(',').unwrap().1.starts_with(expected), "{row}");
    assert!(row.ends_with(",1755,1980,2619,sw_power_cap,0,0,0,,"), "{row}");
    // The GPUs differ, so that each has a row.
    assert!(end.stdout.contains("\nGPU 1 ") && end.stdout.contains("GPUs: 2 GPUs by NVML"), "{}", end.stdout);
    assert!(
        end.stdout.lines().all(|line| line.chars().count() <= 80 || !line.starts_with("GPU ")),
        "{}",
        end.stdout
    );
    let table = std::fs::read_to_string(experiment(&house).join("summary.csv")).unwrap();
    let (head, line) = table.split_once('\n').unwrap();
    assert!(head.ends_with("output_tokens_per_j,gpu_util_avg_pct"), "{head}");
    assert_eq!(head.split(',').count(), line.trim_end().split(',').count() - line.matches(", ").count());
    let page = std::fs::read_to_string(experiment(&house).join("summary.md")).unwrap();
    assert!(page.contains("## GPUs") && page.contains("| GPU 1 |"), "{page}");
}

#[test]
fn errors_and_slowdowns_are_reasons() {
    let house = house();
    let Some(library) = nvml(&house) else { return };
    let env =
        [("TOKMARK_NVML", library.as_str()), ("TOKMARK_FAKE_XID", "79"), ("TOKMARK_FAKE_THROTTLE", "48")];
    run(&house, &env).succeeds();
    let summary = house_json(&experiment(&house).join("benchmark_logs/summary.json"));
    let reasons = summary["verdict"]["reasons"].to_string();
    let slowed = "GPUs 0, 1 slowed down: hw_slowdown in 100 % of the samples, hw_thermal_slowdown in 100 % of the samples";
    assert!(reasons.contains(slowed), "{reasons}");
    assert!(reasons.contains("XID errors in the measured window, the last XID 79"), "{reasons}");
}

#[test]
fn a_lost_gpu_makes_power_invalid_and_the_run_goes_on() {
    let house = house();
    let Some(library) = nvml(&house) else { return };
    // GPU 2 of the stand-in is lost, and there is no GPU 7.
    run(&house, &[("TOKMARK_NVML", &library), ("CUDA_VISIBLE_DEVICES", "2,7")]).succeeds();
    let gpus = gpus(&house);
    assert_eq!(gpus["power_valid"], false);
    assert_eq!(gpus["power_reasons"][0], "GPU 7 of 127.0.0.1 was not found");
    assert!(gpus["power_reasons"].to_string().contains("GPU 2 tells no power"), "{gpus:#}");
    assert_eq!(gpus["energy_j"], Value::Null);
}

/// Serves the page of an exporter with three GPUs, whoever asks.
fn exporter() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/metrics", listener.local_addr().unwrap());
    let gpu = |number: u32, watts: u32| {
        let labels = format!(
            "gpu=\"{number}\",UUID=\"GPU-{number}{number}\",pci_bus_id=\"00000000:1{number}:00.0\",device=\"nvidia{number}\",modelName=\"NVIDIA H100 80GB HBM3\",Hostname=\"n1\""
        );
        format!(
            "DCGM_FI_DEV_POWER_USAGE{{{labels}}} {watts}.000000\nDCGM_FI_DEV_GPU_UTIL{{{labels}}} 88\nDCGM_FI_DEV_XID_ERRORS{{{labels}}} 0\n"
        )
    };
    let body = format!("# TYPE DCGM_FI_DEV_POWER_USAGE gauge\n{}{}{}", gpu(0, 400), gpu(1, 100), gpu(2, 650));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let _request = stream.read(&mut [0; 4096]);
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
        }
    });
    url
}

/// The neighbour's GPU 2 does not count.
#[test]
fn the_page_of_a_dcgm_exporter() {
    let house = house();
    house.recipe(&format!("{RECIPE}dcgm_url = \"{}\"\n", exporter()));
    run(&house, &[]).succeeds();
    let gpus = gpus(&house);
    assert_eq!(
        (&gpus["source"], &gpus["gpus"]),
        (&Value::from("DCGM exporter"), &Value::from(2)),
        "{gpus:#}"
    );
    close(&gpus["power_avg_w"], 500.0);
    assert_eq!(
        (&gpus["each"][1]["util_max_pct"], &gpus["each"][1]["xids"]),
        (&Value::from(88.0), &Value::from(0))
    );
}

/// Puts a program on the PATH of the house, and gives that PATH.
fn program(house: &House, name: &str, text: &str) -> String {
    let path = house.file(&format!("bin/{name}"), text);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:/usr/bin:/bin", house.path().join("bin").display())
}

/// Prints a table every 50 ms; an older driver, which knows `clocks_throttle_reasons` alone. GPU 1 has MIG.
const NVIDIA_SMI: &str = r#"#!/bin/bash
case $1 in
-L)
	echo "GPU 0: NVIDIA A30 (UUID: GPU-aa)"
	echo "GPU 1: NVIDIA A30 (UUID: GPU-bb)"
	echo "  MIG 1g.6gb      Device  0: (UUID: MIG-0f0f)"
	exit ;;
--query-compute-apps=*) echo "GPU-aa, 1, [Not Found]"; exit ;;
esac
case $1 in *clocks_event_reasons.active*) echo 'Field "clocks_event_reasons.active" is not a valid field to query.'; exit 2 ;; esac
fields=${1#--query-gpu=}
row() {
	local line= field
	for field in ${fields//,/ }; do
		case $field in
		index) line+="$1, " ;;
		uuid) line+="$2, " ;;
		name) line+="NVIDIA A30, " ;;
		mig.mode.current) line+="$3, " ;;
		power.draw) line+="$4 W, " ;;
		utilization.gpu) line+="$5, " ;;
		clocks_throttle_reasons.active) line+="0x0000000000000000, " ;;
		ecc.*) line+="[Not Supported], " ;;
		*) line+="[N/A], " ;;
		esac
	done
	echo "${line%, }"
}
head=; for field in ${fields//,/ }; do
	case $field in power.*) field+=" [W]" ;; utilization.*) field+=" [%]" ;; clocks.*) field+=" [MHz]" ;; esac
	head+="$field, "
done
echo "${head%, }"
while row 0 GPU-aa Disabled 120.50 "93 %" && row 1 GPU-bb Enabled 30.25 "[N/A]"; do sleep 0.05; done
"#;

#[test]
fn nvidia_smi_with_an_older_driver_and_mig() {
    let house = house();
    let path = program(&house, "nvidia-smi", NVIDIA_SMI);
    run(&house, &[("PATH", &path), ("CUDA_VISIBLE_DEVICES", "0,MIG-0f0f")]).succeeds();
    let gpus = gpus(&house);
    assert_eq!(gpus["source"], "nvidia-smi", "{gpus:#}");
    close(&gpus["power_avg_w"], 150.75);
    assert_eq!(gpus["power_valid"], false);
    let divided = "GPU MIG-0f0f is divided (MIG): its power is that of all its instances";
    assert!(gpus["power_reasons"].to_string().contains(divided), "{gpus:#}");
    assert_eq!(gpus["each"][0]["util_avg_pct"], 93.0);
    assert_eq!(
        (&gpus["each"][1]["util_avg_pct"], &gpus["each"][1]["ecc_corrected"]),
        (&Value::Null, &Value::Null)
    );
    // Process 1 belongs to nobody here.
    assert!(gpus["each"][0]["others"][0].as_str().unwrap().starts_with("1 "), "{gpus:#}");
}

const AMD_SMI: &str = r#"#!/bin/bash
echo "gpu,gfx_activity,umc_activity,vcn_activity,socket_power,throttle_status,gfx_0_clk,gfx_0_max_clk,mem_0_clk,edge,hotspot,mem,total_vram,used_vram"
echo "0,95,80,\"['N/A', 'N/A']\",750,UNTHROTTLED,2100,2402,2000,N/A,78,60,196592,131072"
echo "1,96,81,\"['N/A', 'N/A']\",250,UNTHROTTLED,2100,2402,2000,N/A,77,60,196592,131072"
"#;

#[test]
fn amd_smi() {
    let house = house();
    let path = program(&house, "amd-smi", AMD_SMI);
    run(&house, &[("PATH", &path)]).succeeds();
    let gpus = gpus(&house);
    assert_eq!(gpus["source"], "amd-smi", "{gpus:#}");
    close(&gpus["power_avg_w"], 1000.0);
    assert_eq!(gpus["each"][0]["temp_max_c"], 78.0);
}

#[test]
fn no_gpu_and_no_wish_leave_no_trace() {
    let house = house();
    let end = run(&house, &[]).succeeds();
    assert!(!format!("{}{}", end.stdout, end.stderr).contains("telemetry"), "{end:#?}");
    let library = nvml(&house);
    let off = House::new();
    off.file("launchers/gpu-sim.toml", LAUNCHER);
    off.recipe(&format!("{RECIPE}gpu = false\n"));
    let env: Vec<(&str, &str)> = library.iter().map(|library| ("TOKMARK_NVML", library.as_str())).collect();
    run(&off, &env).succeeds();
    for house in [&house, &off] {
        assert_eq!(gpus(house), Value::Null);
        assert!(!experiment(house).join("telemetry/gpu.csv").exists());
    }
}

/// A source that is there and breaks is one note.
#[test]
fn a_source_that_ends_is_a_reason() {
    let house = house();
    let once = NVIDIA_SMI.replace("do sleep 0.05; done", "do sleep 0.05; ((ticks++ > 4)) && exit 1; done");
    let path = program(&house, "nvidia-smi", &once);
    run(&house, &[("PATH", &path)]).succeeds();
    let gpus = gpus(&house);
    assert_eq!(gpus["power_valid"], false);
    assert!(gpus["power_reasons"].to_string().contains("nvidia-smi: ended"), "{gpus:#}");
}

/// As ROCm 6 prints it, with a warning before the table and an empty line after it.
const ROCM_SMI: &str = r#"#!/bin/bash
echo "WARNING: AMD GPU device(s) is/are in a low-power state. Check power control/runtime_status"
echo
echo "device,Temperature (Sensor edge) (C),Temperature (Sensor junction) (C),Temperature (Sensor memory) (C),mclk clock speed:,mclk clock level:,sclk clock speed:,sclk clock level:,Current Socket Graphics Package Power (W),GPU use (%),VRAM Total Memory (B),VRAM Total Used Memory (B)"
echo "card0,N/A,71.0,58.0,(1300Mhz),3,(2100Mhz),1,600.0,97,206141652992,103079215104"
echo "card1,N/A,69.0,57.0,(1300Mhz),3,(2098Mhz),1,400.0,96,206141652992,103079215104"
echo
"#;

#[test]
fn rocm_smi() {
    let house = house();
    let path = program(&house, "rocm-smi", ROCM_SMI);
    run(&house, &[("PATH", &path)]).succeeds();
    let gpus = gpus(&house);
    assert_eq!((&gpus["source"], &gpus["gpus"]), (&Value::from("rocm-smi"), &Value::from(2)), "{gpus:#}");
    close(&gpus["power_avg_w"], 1000.0);
    let each = &gpus["each"][0];
    assert_eq!((&each["temp_max_c"], &each["util_avg_pct"]), (&Value::from(71.0), &Value::from(97.0)));
    // 103 079 215 104 bytes are 96 GiB.
    close(&each["mem_max_mib"], 98_304.0);
    close(&each["sm_avg_mhz"], 2100.0);
    let csv = std::fs::read_to_string(experiment(&house).join("telemetry/gpu.csv")).unwrap();
    assert!(csv.lines().skip(1).all(|line| line.contains(",rocm-smi,")), "{csv}");
}

#[test]
fn a_cancelled_run_ends_its_sampler_and_keeps_what_was_sampled() {
    use nix::sys::signal::{Signal, kill};
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let house = house();
        house.recipe(&RECIPE.replace("1500ms", "300s"));
        let path = program(&house, "nvidia-smi", NVIDIA_SMI);
        let mut command = house.tokmark(["run", "./r.toml", "--gpu", "h100", "--experiments", "e"]);
        command.env("TOKMARK_NVML", "/nowhere/libnvidia-ml.so.1").env("PATH", &path);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut running = command.spawn().unwrap();
        let rows = |dir: &Path| {
            let csv = std::fs::read_to_string(dir.join("telemetry/gpu.csv")).unwrap_or_default();
            csv.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
        };
        let sampled = crate::support::eventually("samples under load", || {
            let dir = std::fs::read_dir(house.path().join("e")).ok()?.next()?.ok()?.path();
            let client = std::fs::read_to_string(dir.join("telemetry/client.jsonl")).ok()?;
            let last: Value = serde_json::from_str(client.lines().last()?).ok()?;
            let rows = rows(&dir);
            (last["done"].as_u64() > Some(0) && rows.len() > 4).then_some(rows)
        });
        assert!(house.processes().values().any(|command| command.contains("nvidia-smi")), "it samples");
        kill(nix::unistd::Pid::from_raw(i32::try_from(running.id()).unwrap()), signal).unwrap();
        assert_eq!(running.wait().unwrap().code(), Some(130), "{signal}");
        house.assert_empty();
        let kept = rows(&experiment(&house));
        assert!(kept.len() >= sampled.len() && kept.starts_with(&sampled), "{signal}: {kept:?}");
        let columns = std::fs::read_to_string(experiment(&house).join("telemetry/gpu.csv")).unwrap();
        let columns = columns.lines().next().unwrap().matches(',').count();
        assert!(kept.iter().all(|row| row.matches(',').count() >= columns), "no row is torn: {kept:?}");
        let summary = experiment(&house).join("benchmark_logs/summary.interrupted.json");
        assert_eq!(house_json(&summary)["gpus"]["source"], "nvidia-smi", "{signal}");
    }
}
