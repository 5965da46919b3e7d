//! A sweep of the simulated H100 has the zones that its queueing model implies.

use serde_json::Value;

use crate::support::house::House;

/// gpt-oss-120b on one H100 that runs 8 requests at a time. A step with n running requests that each make a token takes, in µs:
///
/// ```text
/// 1,500 + 10 n                                     overhead
/// 968,785,920 × 2 B ÷ (3,350 GB/s × 0.75) = 771    dense weights
/// 579,133,440 × 2 B ÷ (3,350 GB/s × 0.75) = 461    output head
/// 128 × (1 − (31/32)^n) × 189.4                    experts that some token uses, 36 layers
/// ```
///
/// | n | experts | step, ms | tok/s |
/// | 2 | 7.9 | 4.24 | 471 |
/// | 4 | 15.3 | 5.66 | 706 |
/// | 8 | 28.7 | 8.25 | 970 |
///
/// Prompts of 8 tokens cost less than a tenth on top. Beyond 8 requests in flight the rest wait: N − 8 of N.
const RECIPE: &str = r#"
[model]
name = "openai/gpt-oss-120b"
[deploy]
launcher = "sim"
[deploy.engine]
profile = "h100"
max_num_seqs = 8
[telemetry]
interval = "200ms"
[load]
isl = 8
osl = 32
concurrency = [2, 4, 8, 16, 32]
requests_per_concurrency = 5
"#;

/// Tokens per second with 8 requests running, which no load exceeds.
const CAPACITY: f64 = 970.0;
/// A request among 8: 32 steps of 8.25 ms.
const SERVICE_MS: f64 = 264.0;

fn at(points: &Value, load: u64) -> &Value {
    points.as_array().unwrap().iter().find(|point| point["concurrency"] == load).unwrap()
}

#[test]
fn the_simulated_h100_saturates_where_its_model_says() {
    let house = House::new();
    house.recipe(RECIPE);
    house.run(["run", "r.toml"]);
    // The bounds are wide, because a busy machine is slower than the model, never faster.
    let wide = ["--threshold", "plateau=0.15", "--threshold", "fall=0.3"];
    let slo = ["--slo", "ttft.p90 < 200ms", "--price", "3.6 USD", "--json"];
    let zones = house.run(["zones", "last"].iter().chain(&wide).chain(&slo)).succeeds().json();
    let points = &zones["points"];

    // Capacity and knee: throughput grows up to the 8 requests that run at once, and no further.
    for point in points.as_array().unwrap() {
        assert!(point["output_tokens_per_s"].as_f64().unwrap() < CAPACITY * 1.02, "{point}");
    }
    assert_eq!(zones["saturation_beyond"], 8, "{zones:#}");
    let zone = |load| at(points, load)["zone"].as_str().unwrap().to_owned();
    assert_eq!([2, 4, 8].map(zone), ["safe"; 3]);
    assert_eq!([16, 32].map(zone), ["saturated"; 2]);

    // Queue growth is the first signal: of 16 requests 8 wait.
    let first = &zones["first_signal"];
    assert_eq!((&first["name"], &first["at"]), (&"queue_growth".into(), &16.into()), "{first}");
    assert!((1.0..=8.0).contains(&first["value"].as_f64().unwrap()), "{first}");

    // At 16 a request waits for the service of one before it, which breaks the objective; at 8 it does not wait.
    let sustained = &zones["slo"];
    assert_eq!(
        (&sustained["outcome"], &sustained["max_load"]),
        (&"bounded".into(), &8.into()),
        "{sustained}"
    );
    assert_eq!(sustained["broken"]["at"], 16);
    assert!(sustained["broken"]["value"].as_f64().unwrap() > SERVICE_MS * 0.9, "{sustained}");
    let interpolated = sustained["interpolated"].as_f64().unwrap();
    assert!(interpolated > 8.0 && interpolated < 16.0, "{sustained}");

    // One GPU at 3.6 an hour makes at most 970 × 3,600 tokens in it.
    let cost = at(points, 8)["cost_per_million_output_tokens"].as_f64().unwrap();
    assert!(cost > 3.6e6 / (CAPACITY * 1.02 * 3600.0), "{cost}");
    assert_eq!(at(points, 8)["currency"], "USD");

    // Who waits in a queue is not on the front of the speed that counts the wait, unless throughput still grew a little.
    let fast = zones["pareto"].as_array().unwrap().iter().find(|point| point["concurrency"] == 2).unwrap();
    assert_eq!((&fast["on_front"], &fast["on_e2e_front"]), (&true.into(), &true.into()), "{zones:#}");

    // The server's own view: never more than 8 running, and of 32 never more than 24 waiting.
    let summary = |load: u64| {
        let dir = house.experiment().join(format!("benchmark_logs/isl8_osl32_con{load}/summary.json"));
        crate::support::house::house_json(&dir)
    };
    let engine = &summary(32)["servers"]["engine"];
    assert!(engine["running"]["max"].as_f64().unwrap() <= 8.0, "{engine:#}");
    let waiting = engine["waiting"]["max"].as_f64().unwrap();
    assert!(waiting > 8.0 && waiting <= 24.0, "{engine:#}");
    assert!(
        summary(32)["ttft_ms"]["p50"].as_f64().unwrap() > 2.0 * SERVICE_MS,
        "three services, but for the first"
    );

    // The pages say the same by range of load.
    let page = std::fs::read_to_string(house.experiment().join("latency-ttft-summary.md")).unwrap();
    assert!(page.contains("## By concurrency\n") && page.contains("| 2 – 8 | safe |"), "{page}");
}

#[test]
fn a_recipe_with_objectives_is_judged_by_its_goodput() {
    let house = House::new();
    house.recipe(
        &RECIPE.replace("[2, 4, 8, 16, 32]", "[2, 16]").replace("[load]", "[load]\nslo.ttft = \"200ms\""),
    );
    house.run(["run", "r.toml"]);
    let text = house.run(["zones", "last"]).succeeds().stdout;
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("Highest concurrency with goodput >= 99%: 2; goodput is"), "{text}");
}

/// The load rises by 32 in 6 s, and answers take up to a second: six slices of a second, with 2.7, 8, 13.3, 18.7, 24 and 29.3 requests in
/// flight on average.
#[test]
fn a_ramp_that_never_holds_its_load_has_zones() {
    let house = House::new();
    let constant = "concurrency = [2, 4, 8, 16, 32]\nrequests_per_concurrency = 5\n";
    let ramp = "stages = [{ name = \"up\", duration = \"6s\", concurrency = 32 }]\nat_end = \"cut\"\n";
    house.recipe(&RECIPE.replace(constant, ramp));
    house.run(["run", "r.toml"]);
    let zones = house.run(["zones", "last", "--threshold", "plateau=0.15", "--json"]).json();
    let points = zones["points"].as_array().unwrap();
    assert!(points.len() >= 3, "{zones:#}");
    for point in points {
        assert!(point["output_tokens_per_s"].as_f64().unwrap() < CAPACITY * 1.05, "{point}");
    }
    let beyond = zones["saturation_beyond"].as_f64().unwrap();
    assert!((8.0..=14.0).contains(&beyond), "{zones:#}");
    // Beyond 8 the others wait.
    let first = &zones["first_signal"];
    let (at, waiting) = (first["at"].as_f64().unwrap(), first["value"].as_f64().unwrap());
    assert_eq!(first["name"], "queue_growth", "{first}");
    assert!(at >= 8.0 && (waiting - (at - 8.0)).abs() < 4.0, "{first}");
    let page = std::fs::read_to_string(house.experiment().join("capacity-zones.md")).unwrap();
    assert!(page.contains("saturated"), "{page}");
}

#[test]
fn a_ramp_that_is_faster_than_its_answers_says_so() {
    let house = House::new();
    let constant = "concurrency = [2, 4, 8, 16, 32]\nrequests_per_concurrency = 5\n";
    let ramp = "stages = [{ duration = \"500ms\", concurrency = 32 }]\n";
    house.recipe(&RECIPE.replace(constant, ramp));
    house.run(["run", "r.toml"]);
    let refused = house.run(["zones", "last"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    let text = refused.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("stages that last longer than two answers"), "{text}");
}
