//! The shape of two published studies, out of their recipes on the simulated GPUs: rise, plateau and what lies beyond. The same
//! in virtual time, exactly and in more detail, is in `src/sim/shape_tests.rs`; docs/sim.md has the figures.

use crate::support::house::House;
use serde_json::Value;

fn figure(of: &Value, path: &str) -> f64 {
    of.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path} in {of:#}"))
}

/// Runs a recipe on the simulated engine, so many times as fast, at its own concurrencies.
fn run(recipe: &[&str], speed: u32) -> Vec<Value> {
    let house = House::new();
    let speed = format!("deploy.engine.speed={speed}");
    let sets = ["--set", "deploy.launcher=sim", "--set", &speed, "--json"];
    let end = house.run(["run"].iter().chain(recipe).chain(&sets));
    // Figures that a busy machine makes invalid have the same shape.
    assert!([Some(0), Some(5)].contains(&end.code), "{end:#?}");
    end.json().as_array().unwrap().clone()
}

/// gpt-oss-20b on an A10G: published as 237, 555, 767, 829, 1,008 and 771 tokens per second at 10 to 200 in flight.
#[test]
fn the_a10g_rises_to_a_plateau_and_is_over_saturated_beyond() {
    let points = run(&["gpt-oss-20b-vllm"], 10);
    let of = |path: &str| -> Vec<f64> { points.iter().map(|point| figure(point, path)).collect() };
    let (tokens, latency) = (of("/throughput/output_tokens_per_s"), of("/e2e_ms/avg"));
    println!("tok/s {tokens:.0?}, mean latency ms {latency:.0?}");
    let [at_10, at_20, at_40, at_80, at_120, at_200] = tokens[..] else { panic!("six points") };
    assert!(at_20 > 1.3 * at_10 && at_40 > 1.2 * at_20, "rises: {tokens:?}");
    assert!(at_120 < 1.3 * at_80 && at_200 < 1.2 * at_120, "a plateau from 80 on: {tokens:?}");
    // Two thirds more requests in flight: nothing but waiting.
    assert!(latency[5] > 1.35 * latency[4], "over-saturated: {latency:?}");
}

/// The same in windows of 36 seconds, as the source's tool measured: what is in flight at the end counts for nothing.
#[test]
fn measured_in_windows_the_a10g_falls_at_200() {
    let window = ["--set", "load.duration=3.6s", "--set", "load.at_end=cut"];
    let points =
        run(&[&["gpt-oss-20b-vllm", "--set", "load.concurrency=[80, 200]"], &window[..]].concat(), 10);
    let tokens: Vec<f64> =
        points.iter().map(|point| figure(point, "/throughput/output_tokens_per_s")).collect();
    println!("tok/s at 80 and at 200: {tokens:.0?}");
    assert!(tokens[1] < 0.95 * tokens[0], "{tokens:?}");
}

/// gpt-oss-120b on an H100 under KServe, beyond saturation. That throughput is level there is a matter of the engine's speed, and
/// so of this machine's: virtual time holds it exactly (`h100_is_level_once_the_kv_cache_is_full`).
#[test]
fn the_h100_queue_grows_with_the_users() {
    let points = run(&["gpt-oss-120b-kserve-saturation", "--gpu", "h100", "--scale-load", "0.02"], 25);
    let stages = points[0]["stages"].as_array().unwrap();
    assert_eq!(stages.len(), 4, "{stages:#?}");
    assert_eq!(points[0]["requests"]["failed"], 0);
    // In the last stage a slow machine may begin no request: all users wait for the answers that they have asked for.
    let ttft: Vec<f64> = stages[..3].iter().map(|stage| figure(stage, "/ttft_ms/avg")).collect();
    println!("mean TTFT ms {ttft:.0?}");
    assert!(ttft[1] > 2.0 * ttft[0] && ttft[2] > 2.0 * ttft[0], "the queue grows: {ttft:?}");
}
