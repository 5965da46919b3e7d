//! Telemetry of GPUs in a job: a step per node, with a stand-in for `nvidia-smi` on the nodes.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::engines;
use crate::lab::{Lab, nodes};

/// Four GPUs at 250 W. On the node that `IDLE_NODE` names, GPU 3 idles.
const NVIDIA_SMI: &str = r#"#!/bin/bash
case $1 in --query-gpu=*) ;; *) exit 0 ;; esac
echo "index, uuid, utilization.gpu [%], power.draw [W]"
while :; do
	for gpu in 0 1 2 3; do
		util=90
		[ "$gpu" = 3 ] && [ "${SLURMD_NODENAME:-}" = "$IDLE_NODE" ] && util=0
		echo "$gpu, GPU-${SLURMD_NODENAME:-}-$gpu, $util %, 250.00 W" || exit
	done
	sleep 0.1
done
"#;

#[test]
fn a_gpu_that_idles_on_one_of_two_nodes_is_named() {
    let Some(lab) = Lab::new() else { return };
    let program = lab.write("bin/nvidia-smi", NVIDIA_SMI);
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let names = nodes();
    let text = engines::recipe("launcher = \"vllm\"\ntp = 2\ndp = 4\nep = 8", "")
        .replace("requests_per_concurrency = 3", "duration = \"2s\"")
        + "[telemetry]\ninterval = \"100ms\"\n";
    let recipe = lab.write("gpus.toml", &text);
    let site = engines::site(&lab, "gpus-site.toml", "");
    let bin = lab.path("bin").display().to_string();
    let setup =
        format!("setup = ['export PATH=\"{bin}:$PATH\" IDLE_NODE={} TOKMARK_NVML=/nowhere']", names[1]);
    let site = lab.write(
        "gpus-site.toml",
        &std::fs::read_to_string(&site).unwrap().replace("[slurm]\n", &format!("[slurm]\n{setup}\n")),
    );
    let job = lab.submit(&recipe, &["--site", &site, "--gpu", "h100"]);
    lab.wait(&job).code(0);
    let summary: Value = serde_json::from_str(&job.read("benchmark_logs/summary.json")).unwrap();
    let gpus = &summary["gpus"];
    assert_eq!((&gpus["source"], &gpus["gpus"]), (&Value::from("nvidia-smi"), &Value::from(8)), "{gpus:#}");
    let watts = gpus["power_avg_w"].as_f64().unwrap();
    assert!((watts - 8.0 * 250.0).abs() < 1.0, "{gpus:#}");
    let reasons = summary["verdict"]["reasons"].to_string();
    let idled = format!("GPU 3 of {} of the 8 of the deployment idled through the measured window", names[1]);
    assert!(reasons.contains(&idled), "{reasons}");
    // The second node's clock is measured, and it is that of this machine.
    let second = &gpus["nodes"][1];
    assert_eq!(second["node"], names[1].as_str());
    let (offset, error) =
        (second["clock_offset_ms"].as_f64().unwrap(), second["clock_error_ms"].as_f64().unwrap());
    assert!(offset.abs() <= error, "{second:#}");
    let csv = job.read("telemetry/gpu.csv");
    assert!(names.iter().take(2).all(|node| csv.contains(&format!(",{node},3,GPU-{node}-3,"))), "{csv}");
    job.left_nothing();
}
