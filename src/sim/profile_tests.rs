//! The embedded profiles: that they are sound, and that they bend where the documents they are fitted to bend.

use super::*;
use crate::sim::engine::{Engine, FinishReason, SequenceRequest};

/// Output tokens per second of a closed loop in virtual time, between the 3rd and the 13th "generation" of requests.
fn closed_loop_tokens_per_s(config: EngineConfig, concurrency: u64, isl: u32, osl: u32) -> f64 {
    let mut engine = Engine::new(config);
    let mut events = Vec::new();
    let (mut now_us, mut next_id, mut done) = (0, 0, 0);
    let (mut window_start, mut tokens) = (None, 0_u64);
    // ±10% around the mean, from the number of the request, so that the loop does not march in step.
    let mut submit = |engine: &mut Engine, arrival_us: u64| {
        let spread = |mean: u32, salt: u64| {
            (f64::from(mean) * (0.9 + 0.2 * ((next_id * salt % 101) as f64) / 100.0)) as u32
        };
        let (prompt_tokens, output_tokens) = (spread(isl, 37), spread(osl, 61));
        let request = SequenceRequest {
            id: next_id,
            arrival_us,
            prompt_tokens,
            output_tokens,
            finish: FinishReason::Length,
        };
        engine.submit(request).expect("fits");
        next_id += 1;
    };
    (0..concurrency).for_each(|_| submit(&mut engine, 0));
    while done < concurrency * 13 {
        now_us = engine.begin_step(now_us).expect("never idle").end_us;
        engine.finish_step(&mut events);
        if window_start.is_some() {
            tokens += events.len() as u64;
        }
        for _ in events.iter().filter(|event| event.finish.is_some()) {
            done += 1;
            submit(&mut engine, now_us);
        }
        if window_start.is_none() && done >= concurrency * 3 {
            window_start = Some(now_us);
        }
    }
    tokens as f64 / ((now_us - window_start.expect("begun")) as f64 / 1e6)
}

#[test]
fn every_embedded_profile_is_sound() {
    let profiles = Profile::embedded().expect("parses");
    assert_eq!(profiles.keys().collect::<Vec<_>>(), ["a10g", "b200", "gb200", "h100", "quick"]);
    for (name, profile) in profiles {
        let engine = profile.engine(profile.default_tp);
        assert!(
            engine.kv_capacity_tokens() >= u64::from(profile.max_model_len),
            "{name}: one long request fits"
        );
        assert_eq!(profile.check(), Ok(()), "{name}");
    }
}

#[test]
fn more_gpus_are_faster_by_the_stated_efficiency() {
    let profile = Profile::find("h100").expect("embedded");
    assert!((profile.speedup(1) - 1.0).abs() < 1e-12);
    assert!((profile.speedup(2) - 1.7).abs() < 1e-12);
    assert!((profile.speedup(4) - 4.0 * 0.85 * 0.85).abs() < 1e-12);
    let (one, two) = (profile.engine(1), profile.engine(2));
    assert_eq!(one.cost.step_base_us, two.cost.step_base_us, "latency stays");
    assert!((two.cost.step_us_per_seq - 45.0 / 1.7).abs() < 1e-9);
    assert_eq!(two.num_blocks, 560_000);
}

#[test]
fn an_unknown_profile_names_the_known_ones() {
    let message = Profile::find("v100").expect_err("unknown").to_string();
    assert!(message.contains("\"v100\"") && message.contains("a10g, b200, gb200, h100, quick"), "{message}");
}

#[test]
fn a_profile_of_ones_own_is_read_from_a_file_and_checked() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mine.toml");
    let name = path.to_str().expect("UTF-8");
    let quick =
        EMBEDDED.split_once("[quick]").and_then(|(_, rest)| rest.split_once("\n\n")).expect("is first").0;
    fs_err::write(&path, quick).expect("written");
    assert_eq!(Profile::find(name).expect("sound"), Profile::find("quick").expect("embedded"));
    let cases = [
        ("block_size = 16", "block_size = 0", "block_size: found 0, expected 1 or more"),
        ("step_base_us = 4000.0", "step_base_us = nan", "step_base_us: found NaN, expected µs"),
        (
            "tp_efficiency = 1.0",
            "tp_efficiency = 2.0",
            "tp_efficiency: found 2, expected above 0 and up to 1",
        ),
        ("block_size", "step_extra_us_by_seqs = [[2, 1.0], [1, 1.0]]\nblock_size", "sequences ascending"),
        ("block_size", "blocksize", "unknown field `blocksize`"),
    ];
    for (from, to, expected) in cases {
        fs_err::write(&path, quick.replace(from, to)).expect("written");
        let message = Profile::find(name).expect_err(to).to_string();
        assert!(
            message.starts_with(&format!("--profile {name}: ")) && message.contains(expected),
            "{message}"
        );
    }
    assert!(Profile::find("/nowhere.toml").expect_err("missing").to_string().contains("/nowhere.toml"));
}

#[test]
fn a10g_bends_like_the_published_table() {
    let profile = Profile::find("a10g").expect("embedded");
    let published = [(10, 236.62), (20, 554.70), (40, 766.65), (80, 828.76), (120, 1007.91), (200, 771.25)];
    for (concurrency, expected) in published {
        let found = closed_loop_tokens_per_s(profile.engine(1), concurrency, 200, 126);
        println!("a10g concurrency {concurrency}: {found:.1} tok/s, published {expected}");
        assert!(
            (found / expected - 1.0).abs() < 0.05,
            "concurrency {concurrency}: {found:.1} against {expected}"
        );
    }
}

#[test]
fn h100_is_flat_beyond_512_sequences() {
    let profile = Profile::find("h100").expect("embedded");
    let tokens_per_s = |concurrency| closed_loop_tokens_per_s(profile.engine(1), concurrency, 3000, 300);
    let [at_64, at_256, at_512, at_1024] = [64, 256, 512, 1024].map(tokens_per_s);
    println!("h100: {at_64:.0} {at_256:.0} {at_512:.0} {at_1024:.0} tok/s at 64 256 512 1024");
    assert!(
        at_256 > at_64 && at_512 > at_256,
        "rises up to max_num_seqs: {at_64:.0} {at_256:.0} {at_512:.0}"
    );
    assert!((at_1024 / at_512 - 1.0).abs() < 0.03, "flat beyond: {at_512:.0} {at_1024:.0}");
}
